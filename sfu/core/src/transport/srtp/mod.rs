//! SRTP and SRTCP (RFC 3711, RFC 7714): packets are opened and sealed in place, without allocation and without locks.
//!
//! In: keys that DTLS exported (RFC 5764). A [`SrtpReceiver`] opens what the client sends, a [`SrtpSender`] seals what is
//! sent to it. Invariants: nothing about a packet is remembered before it is authenticated; a packet index is accepted once;
//! an (SSRC, index) pair is sealed once, which the caller guarantees for RTP by never reusing a sequence number.
//! Not here: where per-SSRC receive state lives ([`InboundStream`] belongs to the caller), rekeying (a new session).

mod cipher;
mod cm;
mod gcm;
mod keys;
mod receiver;
mod replay;
mod sender;
#[cfg(test)]
mod tests;

pub use keys::{KeyingMaterial, MasterKey};
pub use receiver::{Opened, SrtpReceiver};
pub use replay::InboundStream;
pub use sender::SrtpSender;

/// Protection profile, agreed in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SrtpProfile {
    /// RFC 7714; a fifth of the cost of the SHA-1 profile.
    AeadAes128Gcm,
    /// RFC 7714.
    AeadAes256Gcm,
    /// RFC 3711 with an 80-bit tag; the one every client has.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// Every profile, the preferred one first.
    pub const ALL: [Self; 3] = [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::Aes128CmHmacSha1_80];

    /// Value in the `use_srtp` extension (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
            Self::Aes128CmHmacSha1_80 => 0x0001,
        }
    }

    /// Profile with this `use_srtp` value.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.id() == id)
    }

    /// The word used as metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "aead-aes-128-gcm",
            Self::AeadAes256Gcm => "aead-aes-256-gcm",
            Self::Aes128CmHmacSha1_80 => "aes-128-cm-hmac-sha1-80",
        }
    }

    /// Bytes of a master key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes to export from DTLS: keys and salts of both sides.
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn rtp_tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::Aes128CmHmacSha1_80 => 10,
        }
    }

    /// Bytes that sealing adds to an RTCP packet: the tag and the index with the E bit.
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_tag_len() + RTCP_INDEX_LEN
    }
}

/// Both directions of one transport. What is needed to send comes first, and lies together.
#[repr(C)]
pub struct SrtpSession {
    profile: SrtpProfile,
    /// Seals what goes to the remote side.
    pub sender: SrtpSender,
    /// Opens what the remote side sealed.
    pub receiver: SrtpReceiver,
}

impl SrtpSession {
    /// The session of the side that was the DTLS server.
    #[must_use]
    pub fn server(profile: SrtpProfile, keys: &KeyingMaterial) -> Self {
        Self { receiver: SrtpReceiver::new(profile, &keys.client), sender: SrtpSender::new(profile, &keys.server), profile }
    }

    /// The session of the side that was the DTLS client.
    #[must_use]
    pub fn client(profile: SrtpProfile, keys: &KeyingMaterial) -> Self {
        Self { receiver: SrtpReceiver::new(profile, &keys.server), sender: SrtpSender::new(profile, &keys.client), profile }
    }

    /// The agreed profile.
    #[must_use]
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }
}

/// Bytes of an RTP header without CSRCs and extension.
const RTP_HEADER_LEN: usize = 12;
/// Bytes of an RTCP packet that stay in the clear: the common header and the sender's SSRC.
const RTCP_HEADER_LEN: usize = 8;
/// Bytes of the E bit with the SRTCP index.
const RTCP_INDEX_LEN: usize = 4;
/// The E bit: the packet is encrypted. DTLS-SRTP knows no other kind.
const RTCP_E_BIT: u32 = 1 << 31;

/// Big-endian number at a place, if the packet reaches that far.
fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}
