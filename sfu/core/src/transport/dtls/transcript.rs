//! Shows the DTLS library's crypto the handshake as the client sent it.
//!
//! The library keeps every handshake message and gives them, in order and from the ClientHello on, to a hash (for Finished, the
//! extended master secret and all keys of DTLS 1.3) and, in DTLS 1.2, to the verifier of the client's CertificateVerify. Where a
//! ClientHello had a profile exchanged ([`super::offer`]), it is exchanged back here.

use std::borrow::Cow;

use dimpl::CryptoError;
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm, SignatureVerifier};

use super::offer::exchange_profiles;

/// aws-lc-rs, with the client's own words in every handshake hash and signature.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider { hash_provider: &TrueHash, signature_verification: &TrueSignature, ..default_provider() }
}

#[derive(Debug)]
struct TrueHash;

impl HashProvider for TrueHash {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(TrueHashContext(default_provider().hash_provider.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct TrueHashContext(Box<dyn HashContext>);

impl HashContext for TrueHashContext {
    fn update(&mut self, data: &[u8]) {
        self.0.update(&as_sent(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct TrueSignature;

impl SignatureVerifier for TrueSignature {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        default_provider().signature_verification.verify_signature(cert_der, &as_sent(data), signature, hash_alg, sig_alg)
    }
}

fn as_sent(transcript: &[u8]) -> Cow<'_, [u8]> {
    let mut copy = transcript.to_vec();
    if exchange_profiles(&mut copy) { Cow::Owned(copy) } else { Cow::Borrowed(transcript) }
}
