//! Master keys from DTLS (RFC 5764 section 4.2) and the session keys derived from them (RFC 3711 section 4.3).
//!
//! The key derivation rate is zero, so every session key is derived once. A 96-bit salt is padded on the right
//! (RFC 7714 section 11).

use aes::{Aes128, Aes256};
use arrayvec::ArrayVec;
use cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use zeroize::Zeroize;

use super::SrtpProfile;

/// Master key and master salt of one direction; wiped when dropped.
pub struct MasterKey {
    key: ArrayVec<u8, 32>,
    salt: ArrayVec<u8, 14>,
}

impl MasterKey {
    /// A master key; `None` if a length is not the profile's.
    #[must_use]
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return None;
        }
        Some(Self { key: key.try_into().ok()?, salt: salt.try_into().ok()? })
    }

    /// Fills `out` with the session key or salt that the label names.
    pub(super) fn derive(&self, label: Label, out: &mut [u8]) {
        // RFC 3711 section 4.3.1: x = salt XOR (label || 48-bit r with r = 0); section 4.3.3: the counter block is x * 2^16.
        let mut block = [0; 16];
        block[..self.salt.len()].copy_from_slice(&self.salt);
        block[7] ^= label as u8;
        out.fill(0);
        match self.key.len() {
            16 => Ctr128BE::<Aes128>::new_from_slices(&self.key, &block).expect("16-byte key and block").apply_keystream(out),
            _ => Ctr128BE::<Aes256>::new_from_slices(&self.key, &block).expect("32-byte key, 16-byte block").apply_keystream(out),
        }
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.as_mut_slice().zeroize();
        self.salt.as_mut_slice().zeroize();
    }
}

/// What a session key is for (RFC 3711 section 4.3.2).
#[derive(Clone, Copy)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// The master keys of both sides of a DTLS association.
pub struct KeyingMaterial {
    /// Protects what the DTLS client sends.
    pub client: MasterKey,
    /// Protects what the DTLS server sends.
    pub server: MasterKey,
}

impl KeyingMaterial {
    /// Splits exported bytes (label `EXTRACTOR-dtls_srtp`): client key, server key, client salt, server salt.
    /// `None` if there are not exactly [`SrtpProfile::keying_material_len`] of them.
    #[must_use]
    pub fn from_exported(profile: SrtpProfile, exported: &[u8]) -> Option<Self> {
        if exported.len() != profile.keying_material_len() {
            return None;
        }
        let (keys, salts) = exported.split_at_checked(2 * profile.key_len())?;
        let (client_key, server_key) = keys.split_at_checked(profile.key_len())?;
        let (client_salt, server_salt) = salts.split_at_checked(profile.salt_len())?;
        Some(Self { client: MasterKey::new(profile, client_key, client_salt)?, server: MasterKey::new(profile, server_key, server_salt)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn derived(master: &MasterKey, label: Label, len: usize) -> String {
        let mut out = vec![0xff; len];
        master.derive(label, &mut out);
        hex::encode(out)
    }

    #[test]
    fn rfc3711_b_3_key_derivation_gives_the_published_session_keys() {
        let key = hex::decode("e1f97a0d3e018be0d64fa32c06de4139").unwrap();
        let salt = hex::decode("0ec675ad498afeebb6960b3aabe6").unwrap();
        let master = MasterKey::new(SrtpProfile::Aes128CmHmacSha1_80, &key, &salt).unwrap();
        assert_eq!(derived(&master, Label::RtpEncryption, 16), "c61e7a93744f39ee10734afe3ff7a087");
        assert_eq!(derived(&master, Label::RtpSalt, 14), "30cbbc08863d8c85d49db34a9ae1");
        assert_eq!(
            derived(&master, Label::RtpAuthentication, 94),
            "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef722709\
             86371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2"
        );
    }

    #[test]
    fn rfc6188_7_2_key_derivation_with_aes_256_gives_the_published_session_keys() {
        // The RFC's salt has 112 bits, the GCM profile's 96: the vector is checked below MasterKey::new().
        let key = hex::decode("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6").unwrap();
        let salt = hex::decode("3b04803de51ee7c96423ab5b78d2").unwrap();
        let master = MasterKey { key: key.as_slice().try_into().unwrap(), salt: salt.as_slice().try_into().unwrap() };
        assert_eq!(derived(&master, Label::RtpEncryption, 32), "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4");
        assert_eq!(derived(&master, Label::RtpSalt, 14), "fa31791685ca444a9e07c6c64e93");
        assert_eq!(derived(&master, Label::RtpAuthentication, 20), "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05");
    }

    #[test]
    fn exported_material_is_split_in_the_order_of_rfc5764_4_2() {
        for profile in SrtpProfile::ALL {
            let exported: Vec<u8> = (0..profile.keying_material_len()).map(|i| u8::try_from(i).unwrap()).collect();
            let material = KeyingMaterial::from_exported(profile, &exported).unwrap();
            let (key, salt) = (profile.key_len(), profile.salt_len());
            assert_eq!(material.client.key[..], exported[..key]);
            assert_eq!(material.server.key[..], exported[key..2 * key]);
            assert_eq!(material.client.salt[..], exported[2 * key..2 * key + salt]);
            assert_eq!(material.server.salt[..], exported[2 * key + salt..]);
        }
    }

    #[test]
    fn material_of_a_wrong_length_is_refused() {
        for profile in SrtpProfile::ALL {
            let len = profile.keying_material_len();
            assert!(KeyingMaterial::from_exported(profile, &vec![0; len - 1]).is_none());
            assert!(KeyingMaterial::from_exported(profile, &vec![0; len + 1]).is_none());
            assert!(KeyingMaterial::from_exported(profile, &[]).is_none());
        }
    }
}
