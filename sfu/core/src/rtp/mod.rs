//! RTP as bytes: headers, header extensions, sequence unwrapping and what codecs leave readable in their payloads.

pub mod extension;
pub mod header;
pub mod ntp;
pub mod payload;
pub mod rtcp;
pub mod sequence;
