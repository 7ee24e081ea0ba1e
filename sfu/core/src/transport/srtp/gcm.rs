//! AES-GCM for SRTP and SRTCP (RFC 7714). The keys are expanded once.
//!
//! RTP: header as associated data, payload and 16-byte tag. RTCP: first 8 bytes and the index word as associated data,
//! payload and tag, then the index word in the clear.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::keys::{Label, MasterKey};
use super::{RTCP_E_BIT, RTCP_HEADER_LEN, RTCP_INDEX_LEN, SrtpProfile, u32_at};
use crate::error::Discard;

pub(super) const TAG_LEN: usize = 16;

/// Session keys of one direction.
pub(super) struct Gcm {
    rtp: GcmKey,
    rtcp: GcmKey,
}

impl Gcm {
    pub(super) fn new(profile: SrtpProfile, master: &MasterKey) -> Self {
        Self {
            rtp: GcmKey::derive(profile, master, Label::RtpEncryption, Label::RtpSalt),
            rtcp: GcmKey::derive(profile, master, Label::RtcpEncryption, Label::RtcpSalt),
        }
    }

    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, buf: &mut [u8], header_len: usize) {
        let (header, body) = buf.split_at_mut(header_len);
        let (payload, tag) = body.split_at_mut(body.len() - TAG_LEN);
        self.rtp.seal(ssrc, index, header, payload, tag);
    }

    pub(super) fn open_rtp(&self, ssrc: u32, index: u64, header: &[u8], body: &mut [u8]) -> Result<usize, Discard> {
        let plaintext = self.rtp.aead.open_in_place(self.rtp.nonce(ssrc, index), Aad::from(header), body);
        plaintext.map(|payload| payload.len()).map_err(|_| Discard::SrtpAuthentication)
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, buf: &mut Vec<u8>, start: usize) {
        let word = (RTCP_E_BIT | index).to_be_bytes();
        let end = buf.len();
        buf.extend_from_slice(&[0; TAG_LEN]);
        buf.extend_from_slice(&word);
        let (header, body) = buf[start..].split_at_mut(RTCP_HEADER_LEN);
        let (payload, trailer) = body.split_at_mut(end - start - RTCP_HEADER_LEN);
        self.rtcp.seal(ssrc, u64::from(index), &rtcp_aad(header, word), payload, &mut trailer[..TAG_LEN]);
    }

    /// The index word, not yet authenticated.
    pub(super) fn rtcp_index_word(packet: &[u8]) -> Option<u32> {
        u32_at(packet, packet.len().checked_sub(RTCP_INDEX_LEN)?)
    }

    /// Returns the plaintext's length.
    pub(super) fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<usize, Discard> {
        let (sealed, word) = packet.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Discard::SrtpAuthentication)?;
        let (header, body) = sealed.split_at_mut_checked(RTCP_HEADER_LEN).ok_or(Discard::RtcpMalformed)?;
        let aad = rtcp_aad(header, *word);
        let plaintext = self.rtcp.aead.open_in_place(self.rtcp.nonce(ssrc, u64::from(index)), Aad::from(aad), body);
        plaintext.map(|payload| RTCP_HEADER_LEN + payload.len()).map_err(|_| Discard::SrtpAuthentication)
    }
}

/// One key with its salt.
struct GcmKey {
    aead: LessSafeKey,
    /// In the low 96 bits.
    salt: u128,
}

impl GcmKey {
    fn derive(profile: SrtpProfile, master: &MasterKey, encryption: Label, salt_label: Label) -> Self {
        let mut key = [0; 32];
        let key = &mut key[..profile.key_len()];
        master.derive(encryption, key);
        let mut salt = [0; 12];
        master.derive(salt_label, &mut salt);
        Self::new(key, salt)
    }

    fn new(key: &[u8], salt: [u8; 12]) -> Self {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).expect("the key has the algorithm's length");
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&salt);
        Self { aead: LessSafeKey::new(key), salt: u128::from_be_bytes(wide) }
    }

    /// RFC 7714 section 8.1: salt XOR (16 zero bits, SSRC, 48-bit index); with a 31-bit index this is section 9.1 too.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let nonce = (self.salt ^ u128::from(ssrc) << 48 ^ u128::from(index)).to_be_bytes();
        Nonce::assume_unique_for_key(*nonce.last_chunk().expect("12 of 16 bytes"))
    }

    fn seal(&self, ssrc: u32, index: u64, aad: &[u8], payload: &mut [u8], tag_out: &mut [u8]) {
        let tag = self.aead.seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), payload);
        let tag = tag.expect("a datagram is far below the limit of GCM");
        // As arrays: a length that the compiler does not know costs a call.
        let tag: &[u8; TAG_LEN] = tag.as_ref().first_chunk().expect("tags of both algorithms have this length");
        *tag_out.first_chunk_mut().expect("the caller left room for the tag") = *tag;
    }
}

fn rtcp_aad(header: &[u8], word: [u8; RTCP_INDEX_LEN]) -> [u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word);
    aad
}

#[cfg(test)]
mod tests {
    //! RFC 7714 sections 16 and 17. They give session keys, so they go in below the key derivation.
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const SALT: &[u8; 12] = b"Quid pro quo";
    const RTP: &str = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e697320646976697361\
                       20696e207061727465732074726573";
    const RTCP: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbe\
                        efdeadbeefdeadbeefdeadbeefdeadbeef";
    const SSRC: u32 = 0x5501_a0b2;
    const RTCP_SSRC: u32 = 0x4d61_7273;
    const RTCP_INDEX: u32 = 0x05d4;

    fn keys(key_len: usize) -> Gcm {
        let key = hex::decode(KEY).unwrap();
        Gcm { rtp: GcmKey::new(&key[..key_len], *SALT), rtcp: GcmKey::new(&key[..key_len], *SALT) }
    }

    fn assert_rtp(key_len: usize, sealed: &str) {
        let (gcm, plaintext) = (keys(key_len), hex::decode(RTP).unwrap());
        let mut packet = plaintext.clone();
        packet.resize(plaintext.len() + TAG_LEN, 0);
        gcm.seal_rtp(SSRC, 0xf17b, &mut packet, 12);
        assert_eq!(hex::encode(&packet), sealed);

        let (header, body) = packet.split_at_mut(12);
        let len = gcm.open_rtp(SSRC, 0xf17b, header, body).unwrap();
        assert_eq!(body[..len], plaintext[12..]);
    }

    fn assert_rtcp(key_len: usize, sealed: &str) {
        let (gcm, plaintext) = (keys(key_len), hex::decode(RTCP).unwrap());
        let mut packet = plaintext.clone();
        gcm.seal_rtcp(RTCP_SSRC, RTCP_INDEX, &mut packet, 0);
        assert_eq!(hex::encode(&packet), sealed);
        assert_eq!(Gcm::rtcp_index_word(&packet), Some(RTCP_E_BIT | RTCP_INDEX));
        assert_eq!(gcm.open_rtcp(RTCP_SSRC, RTCP_INDEX, &mut packet), Ok(plaintext.len()));
        assert_eq!(packet[..plaintext.len()], plaintext);
    }

    #[test]
    fn rfc7714_16_1_srtp_with_aead_aes_128_gcm() {
        assert_rtp(
            16,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf\
             8833899d7f27beb16a9152cf765ee4390cce",
        );
    }

    #[test]
    fn rfc7714_16_2_srtp_with_aead_aes_256_gcm() {
        assert_rtp(
            32,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799\
             b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        );
    }

    #[test]
    fn rfc7714_17_1_srtcp_with_aead_aes_128_gcm() {
        assert_rtcp(
            16,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded\
             0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        );
    }

    #[test]
    fn rfc7714_17_2_srtcp_with_aead_aes_256_gcm() {
        assert_rtcp(
            32,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de047\
             6f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        );
    }
}
