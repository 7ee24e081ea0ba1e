//! The session cipher of one direction: one of two transforms, chosen once.

use super::SrtpProfile;
use super::cm::{self, Cm};
use super::gcm::{self, Gcm};
use super::keys::MasterKey;
use crate::error::Discard;

/// The transform of one direction with its expanded keys.
pub(super) enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

impl Cipher {
    pub(super) fn new(profile: SrtpProfile, master: &MasterKey) -> Self {
        match profile {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => Self::Gcm(Box::new(Gcm::new(profile, master))),
            SrtpProfile::Aes128CmHmacSha1_80 => Self::Cm(Box::new(Cm::new(master))),
        }
    }

    #[inline]
    pub(super) fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => gcm::TAG_LEN,
            Self::Cm(_) => cm::TAG_LEN,
        }
    }

    /// Seals `buf`: header, payload, room for the tag.
    #[inline]
    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, buf: &mut [u8], header_len: usize) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtp(ssrc, index, buf, header_len),
            Self::Cm(cm) => cm.seal_rtp(ssrc, index, buf, header_len),
        }
    }

    /// Opens `body` (payload and tag) in place; returns the payload's length.
    #[inline]
    pub(super) fn open_rtp(&self, ssrc: u32, index: u64, header: &[u8], body: &mut [u8]) -> Result<usize, Discard> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtp(ssrc, index, header, body),
            Self::Cm(cm) => cm.open_rtp(ssrc, index, header, body),
        }
    }

    /// Seals the RTCP packet that begins at `start` and appends its trailer.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, buf: &mut Vec<u8>, start: usize) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtcp(ssrc, index, buf, start),
            Self::Cm(cm) => cm.seal_rtcp(ssrc, index, buf, start),
        }
    }

    /// E bit and index of an RTCP packet, not yet authenticated.
    pub(super) fn rtcp_index_word(&self, packet: &[u8]) -> Option<u32> {
        match self {
            Self::Gcm(_) => Gcm::rtcp_index_word(packet),
            Self::Cm(_) => Cm::rtcp_index_word(packet),
        }
    }

    /// Opens an RTCP packet in place; returns the plaintext's length.
    pub(super) fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<usize, Discard> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtcp(ssrc, index, packet),
            Self::Cm(cm) => cm.open_rtcp(ssrc, index, packet),
        }
    }
}
