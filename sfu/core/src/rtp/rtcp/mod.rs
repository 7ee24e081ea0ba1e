//! RTCP (RFC 3550, 4585, 5104, transport-wide congestion control): views of what arrives, writers for what is sent.
//!
//! In: a decrypted datagram, see [`packets`]; views borrow from it and nothing is allocated. Out: packets appended to a buffer,
//! of which one datagram may take several. Invariant: what a view hands out was checked when the view was made.
//! Not here: what follows from a report, and when one is due.

mod congestion;
mod parse;
#[cfg(test)]
mod tests;
mod transport_cc;
mod write;

pub use congestion::{CongestionFeedback, StreamPacketStatus};
pub use parse::{Fir, FirEntry, Nack, Packets, Pli, ReceiverReport, Remb, RtcpPacket, SenderReport, SourceDescription, Ssrcs, packets};
pub use transport_cc::{PacketStatus, TransportCc, TransportCcHead, TransportCcTime, write_transport_cc};
pub use write::{write_fir, write_nack, write_pli, write_receiver_report, write_remb, write_sdes_cname, write_sender_report};

use crate::rtp::ntp::{CompactNtp, NtpTime};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// Formats of transport feedback.
const NACK: u8 = 1;
const CONGESTION_FEEDBACK: u8 = 11;
const TRANSPORT_CC: u8 = 15;
/// Formats of payload feedback.
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;

/// In the first byte: the last byte counts how many belong to no field.
const PADDING: u8 = 0x20;
/// Item type of a canonical name in a source description.
const CNAME: u8 = 1;
/// Most report blocks or SSRCs that one packet's count can tell.
const MAX_COUNT: usize = 31;

/// What a sender says about its stream (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderInfo {
    /// Wall clock of the sender.
    pub ntp: NtpTime,
    /// The same moment in RTP ticks.
    pub rtp_timestamp: u32,
    /// RTP packets sent, wrapping.
    pub packet_count: u32,
    /// Bytes of payload sent, wrapping.
    pub octet_count: u32,
}

/// What a receiver says about a stream (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning: 24 bits, negative if there were more duplicates.
    pub cumulative_lost: i32,
    /// Highest sequence number with the count of its rollovers in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP ticks.
    pub jitter_ticks: u32,
    /// Middle bits of the last sender report's wall clock; 0 if there was none.
    pub last_sr: CompactNtp,
    /// From its arrival to this report.
    pub delay_since_last_sr: CompactNtp,
}

impl ReportBlock {
    /// Bytes on the wire.
    const LEN: usize = 24;

    fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            ssrc: word(0),
            fraction_lost: bytes[4],
            // Shifted up and down again, which extends the sign.
            cumulative_lost: (word(4) << 8).cast_signed() >> 8,
            highest_sequence: word(8),
            jitter_ticks: word(12),
            last_sr: CompactNtp(word(16)),
            delay_since_last_sr: CompactNtp(word(20)),
        }
    }
}
