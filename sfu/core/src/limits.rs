//! Every bound of the engine, and what happens when it is reached.

use std::time::Duration;

/// Largest datagram that is handled (bytes); larger ones are dropped as `too-large`.
pub const MAX_DATAGRAM: usize = 1500;
/// Largest UDP payload that every network carries: the smallest MTU of IPv6 (RFC 8200 section 5, 1280 bytes) less IPv6 and UDP
/// headers. Larger datagrams are sent and counted.
pub const MAX_UNFRAGMENTED: usize = 1280 - 40 - 8;
/// Addresses that one transport may have validated at once; the oldest unused one makes room.
pub const MAX_PATHS_PER_TRANSPORT: usize = 8;
/// m-lines in one session description; a longer one is refused.
pub const MAX_MEDIA_LINES: usize = 256;
/// Bytes of one session description; a longer one is refused.
pub const MAX_SDP_BYTES: usize = 512 * 1024;
/// Simulcast encodings of one track; further rids are not negotiated.
pub const MAX_ENCODINGS: usize = 3;
/// SSRCs that one transport may send to us; packets of further ones are dropped as `too-many-ssrcs`.
pub const MAX_SSRCS_PER_TRANSPORT: usize = 256;
/// Tracks that one participant may publish; more are refused in signaling and here.
pub const MAX_TRACKS_PER_PARTICIPANT: usize = 64;
/// Codecs of one track beside the preferred one; further ones are not taken.
pub const MAX_BACKUP_CODECS: usize = 3;
/// Bytes of one data message; a longer one closes the association.
pub const MAX_DATA_MESSAGE: usize = 256 * 1024;
/// Data channels that one association may open; further ones are refused.
pub const MAX_DATA_CHANNELS: usize = 16;
/// Bytes queued for one association's reliable data; further messages are dropped.
pub const MAX_DATA_BUFFER: usize = 4 * 1024 * 1024;
/// Time from a transport's first description to ICE and DTLS being up; then it fails.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without an authenticated check after which consent is gone (RFC 7675 section 5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams of one transport's handshake that wait for their turn; the client repeats further ones. A flight has up to five.
pub const MAX_HANDSHAKE_DATAGRAMS: usize = 8;
/// Transports whose handshakes wait for a turn; clients of further ones repeat what they have sent.
pub const MAX_WAITING_HANDSHAKES: usize = 4096;
/// Packets of one stream that one NACK asks for; further ones wait for the next.
pub const MAX_NACKS: usize = 256;
/// Bytes waiting on a lossy data channel; a message that finds as many is dropped, it would only arrive late.
pub const MAX_LOSSY_BUFFER: usize = 64 * 1024;
/// SCTP packets kept until the client's certificate can be checked; the client repeats further ones.
pub const MAX_EARLY_DATA: usize = 8;
/// Bytes of reliable data kept for a client whose data channel is about to open; further messages are dropped.
pub const MAX_UNOPENED_DATA: usize = 1024 * 1024;
/// Data tracks that one participant may publish; more are refused in signaling and not forwarded here.
pub const MAX_DATA_TRACKS_PER_PARTICIPANT: usize = 64;
/// Microphones of one room that are forwarded; when more send, the loudest are. Those that were among them a moment ago come on top.
pub const MAX_HEARD_TRACKS: usize = 16;
