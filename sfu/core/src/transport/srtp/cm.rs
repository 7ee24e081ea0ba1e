//! AES-128 counter mode with HMAC-SHA1-80 (RFC 3711 section 4). The AES key schedules and both HMAC pads are computed once.
//!
//! RTP: header, payload, 10-byte tag over everything and the rollover counter. RTCP: 8-byte header, payload, index word,
//! tag over everything.

use aes::Aes128;
use cipher::{InnerIvInit, KeyInit, StreamCipher};
use ctr::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::keys::{Label, MasterKey};
use super::{RTCP_E_BIT, RTCP_HEADER_LEN, RTCP_INDEX_LEN, u32_at};
use crate::error::Discard;

pub(super) const TAG_LEN: usize = 10;

/// Session keys of one direction.
pub(super) struct Cm {
    rtp: CmKey,
    rtcp: CmKey,
}

impl Cm {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self {
            rtp: CmKey::derive(master, Label::RtpEncryption, Label::RtpAuthentication, Label::RtpSalt),
            rtcp: CmKey::derive(master, Label::RtcpEncryption, Label::RtcpAuthentication, Label::RtcpSalt),
        }
    }

    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, buf: &mut [u8], header_len: usize) {
        let (packet, tag) = buf.split_at_mut(buf.len() - TAG_LEN);
        self.rtp.apply(ssrc, index, &mut packet[header_len..]);
        self.rtp.write_tag(&[packet, &rollover_counter(index)], tag);
    }

    pub(super) fn open_rtp(&self, ssrc: u32, index: u64, header: &[u8], body: &mut [u8]) -> Result<usize, Discard> {
        let (payload, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(Discard::SrtpAuthentication)?;
        self.rtp.verify(&[header, payload, &rollover_counter(index)], tag)?;
        self.rtp.apply(ssrc, index, payload);
        Ok(payload.len())
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, buf: &mut Vec<u8>, start: usize) {
        self.rtcp.apply(ssrc, u64::from(index), &mut buf[start + RTCP_HEADER_LEN..]);
        buf.extend_from_slice(&(RTCP_E_BIT | index).to_be_bytes());
        let mut tag = [0; TAG_LEN];
        self.rtcp.write_tag(&[&buf[start..]], &mut tag);
        buf.extend_from_slice(&tag);
    }

    /// The index word, not yet authenticated.
    pub(super) fn rtcp_index_word(packet: &[u8]) -> Option<u32> {
        u32_at(packet, packet.len().checked_sub(RTCP_INDEX_LEN + TAG_LEN)?)
    }

    /// Returns the plaintext's length.
    pub(super) fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<usize, Discard> {
        let (authenticated, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(Discard::SrtpAuthentication)?;
        self.rtcp.verify(&[authenticated], tag)?;
        let (plaintext, _) = authenticated.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Discard::SrtpAuthentication)?;
        let payload = plaintext.get_mut(RTCP_HEADER_LEN..).ok_or(Discard::RtcpMalformed)?;
        self.rtcp.apply(ssrc, u64::from(index), payload);
        Ok(plaintext.len())
    }
}

/// One pair of keys with their salt.
struct CmKey {
    aes: Aes128,
    hmac: Hmac<Sha1>,
    /// In the high 112 bits, as the counter block has it.
    salt: u128,
}

impl CmKey {
    fn derive(master: &MasterKey, encryption: Label, authentication: Label, salt_label: Label) -> Self {
        let mut key = [0; 16];
        master.derive(encryption, &mut key);
        let mut hmac_key = [0; 20];
        master.derive(authentication, &mut hmac_key);
        let mut salt = [0; 14];
        master.derive(salt_label, &mut salt);
        Self::new(&key, &hmac_key, salt)
    }

    fn new(key: &[u8; 16], hmac_key: &[u8], salt: [u8; 14]) -> Self {
        let mut wide = [0; 16];
        wide[..14].copy_from_slice(&salt);
        Self {
            aes: Aes128::new(key.into()),
            hmac: Hmac::new_from_slice(hmac_key).expect("HMAC takes keys of any length"),
            salt: u128::from_be_bytes(wide),
        }
    }

    /// Encrypts or decrypts. RFC 3711 section 4.1.1: IV = (salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16).
    fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let iv = self.salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        let core = ctr::CtrCore::inner_iv_init(&self.aes, &iv.to_be_bytes().into());
        Ctr128BE::from_core(core).apply_keystream(data);
    }

    fn write_tag(&self, parts: &[&[u8]], out: &mut [u8]) {
        let tag = self.mac(parts).finalize().into_bytes();
        out.copy_from_slice(&tag[..TAG_LEN]);
    }

    fn verify(&self, parts: &[&[u8]], tag: &[u8; TAG_LEN]) -> Result<(), Discard> {
        self.mac(parts).verify_truncated_left(tag).map_err(|_| Discard::SrtpAuthentication)
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha1> {
        let mut mac = self.hmac.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

/// The upper 32 of the index's 48 bits, which the tag covers too.
fn rollover_counter(index: u64) -> [u8; 4] {
    let [_, _, a, b, c, d, _, _] = index.to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rfc3711_b_2_the_keystream_is_the_published_one_at_both_ends() {
        let key = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap();
        let salt = hex::decode("f0f1f2f3f4f5f6f7f8f9fafbfcfd").unwrap();
        let key = CmKey::new(&key.try_into().unwrap(), &[], salt.try_into().unwrap());
        let mut keystream = vec![0; 1_044_512];
        key.apply(0, 0, &mut keystream);
        let published = "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0";
        assert_eq!(hex::encode(&keystream[..48]), published);
        let published = "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44";
        assert_eq!(hex::encode(&keystream[keystream.len() - 48..]), published);
    }

    #[test]
    fn the_rollover_counter_is_what_lies_above_the_sequence_number() {
        assert_eq!(rollover_counter(0x1234_5678_9abc), [0x12, 0x34, 0x56, 0x78]);
        assert_eq!(rollover_counter(0xffff), [0; 4]);
        assert_eq!(rollover_counter(0x1_0000), [0, 0, 0, 1]);
    }
}
