//! Nonces that need no memory: a time and a signature of it and of the client's address and port.
//!
//! `obMatJos2` and four characters of security features (RFC 8489 section 9.2), then base64 of 4 bytes time and 12 bytes HMAC.
//! Invariant: a nonce is good for the address and port that it was given to, so that nobody behind the same NAT can use a request
//! again that it has overheard; for [`NONCE_LIFETIME`], and only with the features that were
//! announced with it, so that nobody in the middle can take them away.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::limits::NONCE_LIFETIME;

/// RFC 8489 section 9.2: what a nonce begins with that carries security features.
const COOKIE: &str = "obMatJos2";
/// Bit 0: PASSWORD-ALGORITHMS is there; bit 1: USERHASH may be used (RFC 8489 section 18.1; the first bit is the highest).
const PASSWORD_ALGORITHMS: u8 = 0x80;
const USERNAME_ANONYMITY: u8 = 0x40;
const SIGNATURE_BYTES: usize = 12;

/// Makes and checks nonces of one server.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: [u8; 32],
    started_at: Instant,
    features: String,
}

impl Nonces {
    /// `key` is random and nobody else's.
    pub(crate) fn new(key: [u8; 32], started_at: Instant, has_anonymity: bool) -> Self {
        let bits = PASSWORD_ALGORITHMS | if has_anonymity { USERNAME_ANONYMITY } else { 0 };
        Self { key, started_at, features: format!("{COOKIE}{}", STANDARD.encode([bits, 0, 0])) }
    }

    /// A nonce for a client.
    pub(crate) fn issue(&self, client: SocketAddr, now: Instant) -> String {
        let seconds = self.seconds(now);
        let mut bytes = [0; 4 + SIGNATURE_BYTES];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&self.signature(client, seconds));
        format!("{}{}", self.features, STANDARD_NO_PAD.encode(bytes))
    }

    /// False: the client is to use a new one.
    pub(crate) fn is_fresh(&self, nonce: &[u8], client: SocketAddr, now: Instant) -> bool {
        let Some(encoded) = nonce.strip_prefix(self.features.as_bytes()) else { return false };
        let mut bytes = [0; 4 + SIGNATURE_BYTES];
        if STANDARD_NO_PAD.decode_slice(encoded, &mut bytes) != Ok(bytes.len()) {
            return false;
        }
        let [t0, t1, t2, t3, signature @ ..] = bytes;
        let seconds = u32::from_be_bytes([t0, t1, t2, t3]);
        let age = self.seconds(now).checked_sub(seconds);
        age.is_some_and(|age| Duration::from_secs(age.into()) < NONCE_LIFETIME)
            && bool::from(signature.ct_eq(&self.signature(client, seconds)))
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.started_at).as_secs()).unwrap_or(u32::MAX)
    }

    fn signature(&self, client: SocketAddr, seconds: u32) -> [u8; SIGNATURE_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&seconds.to_be_bytes());
        mac.update(&client.port().to_be_bytes());
        match client.ip().to_canonical() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&mac.finalize().into_bytes()[..SIGNATURE_BYTES]);
        signature
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

    #[test]
    fn a_nonce_is_fresh_for_its_client_and_its_time() {
        let start = start();
        let nonces = Nonces::new([7; 32], start, true);
        let nonce = nonces.issue(CLIENT, start + Duration::from_secs(5));
        assert!(nonce.starts_with("obMatJos2wAAA"));
        let last = start + Duration::from_secs(4) + NONCE_LIFETIME;
        assert!(nonces.is_fresh(nonce.as_bytes(), CLIENT, last));
        assert!(!nonces.is_fresh(nonce.as_bytes(), CLIENT, last + Duration::from_secs(1)));
        assert!(!nonces.is_fresh(nonce.as_bytes(), CLIENT, start), "from the future");
        assert!(!nonces.is_fresh(nonce.as_bytes(), SocketAddr::from(([192, 0, 2, 2], 50_000)), last));
        assert!(!nonces.is_fresh(nonce.as_bytes(), SocketAddr::new(CLIENT.ip(), 50_001), last));
        assert!(!Nonces::new([8; 32], start, true).is_fresh(nonce.as_bytes(), CLIENT, last));
    }

    #[test]
    fn a_nonce_with_other_features_or_any_other_change_is_not_fresh() {
        let start = start();
        let nonces = Nonces::new([7; 32], start, false);
        let nonce = nonces.issue(CLIENT, start);
        assert!(nonces.is_fresh(nonce.as_bytes(), CLIENT, start));
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.is_fresh(&changed, CLIENT, start), "byte {at}");
        }
        for cut in 0..nonce.len() {
            assert!(!nonces.is_fresh(&nonce.as_bytes()[..cut], CLIENT, start));
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }
}
