//! Opens what the remote side sealed.

use super::cipher::Cipher;
use super::keys::MasterKey;
use super::replay::{InboundStream, ReplayWindow};
use super::{RTCP_E_BIT, RTCP_HEADER_LEN, RTP_HEADER_LEN, SrtpProfile, u32_at};
use crate::error::Discard;
use crate::limits::MAX_SSRCS_PER_TRANSPORT;

/// The receiving direction of a transport.
pub struct SrtpReceiver {
    cipher: Cipher,
    rtcp: RtcpStreams,
}

/// An authenticated RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Rollover counter and sequence number: `ROC << 16 | SEQ`.
    pub index: u64,
    /// Bytes of payload (with RTP padding, if any) behind the header.
    pub payload_len: usize,
}

impl SrtpReceiver {
    /// A receiver with the remote side's master key.
    #[must_use]
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Self {
        Self { cipher: Cipher::new(profile, master), rtcp: RtcpStreams::default() }
    }

    /// Opens a packet in place. `header_len` counts CSRCs and extension; `stream` is the state of the packet's SSRC and
    /// changes only if the packet is authentic. After an error the payload's bytes are undefined.
    pub fn open_rtp(&self, stream: &mut InboundStream, packet: &mut [u8], header_len: usize) -> Result<Opened, Discard> {
        let (header, body) = packet.split_at_mut_checked(header_len).ok_or(Discard::RtpMalformed)?;
        let (ssrc, index) = identify(stream, header)?;
        let payload_len = self.cipher.open_rtp(ssrc, index, header, body)?;
        stream.accept(index);
        Ok(Opened { index, payload_len })
    }

    /// Opens a compound packet in place; returns the plaintext's length. After an error its bytes are undefined.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Discard> {
        let ssrc = u32_at(packet, RTCP_HEADER_LEN - 4).ok_or(Discard::RtcpMalformed)?;
        let word = self.cipher.rtcp_index_word(packet).ok_or(Discard::SrtpAuthentication)?;
        // Without the E bit it is authenticated only, which DTLS-SRTP (RFC 5764 section 4.1.2) does not know.
        let index = if word & RTCP_E_BIT != 0 { word & !RTCP_E_BIT } else { return Err(Discard::SrtpAuthentication) };
        self.rtcp.check(ssrc, index)?;
        let plaintext_len = self.cipher.open_rtcp(ssrc, index, packet)?;
        self.rtcp.accept(ssrc, index);
        Ok(plaintext_len)
    }
}

/// SSRC and packet index, if the packet may still come.
#[inline]
fn identify(stream: &InboundStream, header: &[u8]) -> Result<(u32, u64), Discard> {
    let fixed: &[u8; RTP_HEADER_LEN] = header.first_chunk().ok_or(Discard::RtpMalformed)?;
    let seq = u16::from_be_bytes([fixed[2], fixed[3]]);
    let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    Ok((ssrc, stream.index_of(seq)?))
}

/// Replay windows of the SSRCs that sent authentic RTCP; when there are too many, the one silent for longest is forgotten.
#[derive(Default)]
struct RtcpStreams {
    streams: Vec<RtcpStream>,
    accepted: u64,
}

struct RtcpStream {
    ssrc: u32,
    window: ReplayWindow<RTCP_WINDOW_WORDS>,
    /// Value of [`RtcpStreams::accepted`] at its last packet.
    last_accepted: u64,
}

/// At least 192 packets.
const RTCP_WINDOW_WORDS: usize = 4;

impl RtcpStreams {
    fn check(&self, ssrc: u32, index: u32) -> Result<(), Discard> {
        match self.streams.iter().find(|stream| stream.ssrc == ssrc) {
            Some(stream) => stream.window.check(u64::from(index)),
            None => Ok(()),
        }
    }

    fn accept(&mut self, ssrc: u32, index: u32) {
        self.accepted += 1;
        let at = self.streams.iter().position(|stream| stream.ssrc == ssrc).unwrap_or_else(|| self.insert(ssrc));
        let stream = &mut self.streams[at];
        stream.last_accepted = self.accepted;
        stream.window.accept(u64::from(index));
    }

    fn insert(&mut self, ssrc: u32) -> usize {
        if self.streams.len() >= MAX_SSRCS_PER_TRANSPORT {
            let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.last_accepted).map(|(at, _)| at);
            oldest.map(|at| self.streams.swap_remove(at));
        }
        self.streams.push(RtcpStream { ssrc, window: ReplayWindow::default(), last_accepted: 0 });
        self.streams.len() - 1
    }
}
