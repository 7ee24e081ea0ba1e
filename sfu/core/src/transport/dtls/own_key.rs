//! Our private key, parsed once.
//!
//! The library parses the key for every association, and once more for one that falls back to DTLS 1.2; each time aws-lc checks by a
//! multiplication on the curve that both halves belong together. The key is that of the whole process, so it is parsed with the
//! certificate and shared from then on.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey};
use dimpl::{CryptoError, CryptoOperation};

/// For the key of a certificate (PKCS #8, P-256). The library takes providers that live as long as the process, and so does this one:
/// to be called once per certificate.
pub(super) fn provider(der: &[u8]) -> &'static dyn KeyProvider {
    match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der) {
        Ok(pair) => Box::leak(Box::new(OwnKey { der: der.into(), pair: Arc::new(pair) })),
        Err(_) => default_provider().key_provider,
    }
}

/// Knows one key; any other is parsed when it is asked for.
struct OwnKey {
    der: Box<[u8]>,
    pair: Arc<EcdsaKeyPair>,
}

impl KeyProvider for OwnKey {
    fn load_private_key(&self, der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        if *der == *self.der { Ok(Box::new(Signer(Arc::clone(&self.pair)))) } else { default_provider().key_provider.load_private_key(der) }
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnKey").finish_non_exhaustive()
    }
}

/// Signs for one association.
struct Signer(Arc<EcdsaKeyPair>);

impl SigningKey for Signer {
    fn sign(&mut self, data: &[u8], requested: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if requested != HashAlgorithm::SHA256 {
            return Err(CryptoError::SigningKeyHashMismatch { key_hash: HashAlgorithm::SHA256, requested });
        }
        let signature = self.0.sign(&SystemRandom::new(), data).map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_of_a_certificate_is_known_and_others_are_parsed() {
        let [own, other] = [(); 2].map(|()| dimpl::certificate::generate_self_signed_certificate().unwrap());
        let keys = provider(&own.private_key);
        let key = keys.load_private_key(&own.private_key).unwrap();
        assert!(format!("{key:?}").starts_with("Signer"), "the library makes P-256 keys");
        let other = keys.load_private_key(&other.private_key).unwrap();
        assert!(!format!("{other:?}").starts_with("Signer"));
        assert_eq!(key.hash_algorithm(), other.hash_algorithm());
        assert!(keys.load_private_key(b"no key").is_err());
    }
}
