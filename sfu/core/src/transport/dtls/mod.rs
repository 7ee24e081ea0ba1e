//! DTLS 1.3 (RFC 9147) and 1.2 (RFC 6347) in the server role, with the SRTP keys that come out of it (RFC 5764).
//!
//! In: datagrams from a path that ICE has validated. Out: [`DtlsOutput`]: datagrams to send, the connected peer with
//! its certificate and keys, application data (SCTP). Invariants: nothing is sent or kept without bound for a client
//! whose handshake is not finished; SRTP is AEAD_AES_128_GCM whenever the client offers it.
//!
//! The implementation is `dimpl` behind the small trait [`Dtls`]. It was chosen over `rtc-dtls` because it can leave out
//! the HelloVerifyRequest (ICE has already proved the address, so the cookie would only cost every join a round trip),
//! has AES-256-GCM, and speaks DTLS 1.3 with clients that offer it, which saves them a round trip. What it lacks is a way to
//! prefer AES-128-GCM, in 1.2 over AES-256-GCM, in 1.3 over whatever the client lists first (browsers: AES-CM, at five times the
//! cost); [`offer`] supplies it. Both libraries run as clients against it in `sfu/sim/tests/transport`.
//! Not here: whether the peer's certificate is the right one ([`super::Transport`] compares the fingerprint).

mod dimpl_server;
mod offer;
mod own_key;
mod transcript;

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;

use super::params::Fingerprint;
use super::srtp::{KeyingMaterial, SrtpProfile};
pub(crate) use dimpl_server::DimplServer;

/// One DTLS association in the server role. Feed it, then drain [`Self::poll`].
pub(crate) trait Dtls: Send {
    /// Takes a datagram from the network.
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError>;
    /// Retransmits, or gives up.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError>;
    /// When [`Self::handle_timeout`] has something to do.
    fn next_timeout(&self) -> Option<Instant>;
    /// What came of it.
    fn poll(&mut self) -> Option<DtlsOutput>;
    /// Sends application data. Only after [`DtlsOutput::Connected`].
    fn send(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsError>;
    /// Sends close_notify if there is a connection to close.
    fn close(&mut self, now: Instant);
    /// What both sides agreed on, once they have.
    fn version(&self) -> Option<DtlsVersion>;
}

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsVersion {
    /// RFC 6347.
    Dtls12,
    /// RFC 9147.
    Dtls13,
}

impl DtlsVersion {
    /// Every version that is spoken.
    pub const ALL: [Self; 2] = [Self::Dtls12, Self::Dtls13];

    /// The word used as metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dtls12 => "1.2",
            Self::Dtls13 => "1.3",
        }
    }
}

/// The datagram is made of whole records, whatever is in them: DTLSPlaintext, which is also how 1.2 encrypts (RFC 6347
/// section 4.1), and DTLSCiphertext of 1.3 (RFC 9147 section 4).
#[must_use]
pub(crate) fn is_well_formed(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some(tail) = behind_record(rest) else { return false };
        rest = tail;
    }
    !datagram.is_empty()
}

/// What follows the first record; `None` if it is none or not whole.
fn behind_record(records: &[u8]) -> Option<&[u8]> {
    let (length, body) = match records {
        [20..=26, 0xfe, 0xfd | 0xff, _, _, _, _, _, _, _, _, high, low, body @ ..] => ([*high, *low], body),
        // 0b001CSLEE; C: a connection id, which nobody has asked for here.
        [first, rest @ ..] if first >> 4 == 0b0010 => {
            let sequence_len = if first & 0b1000 == 0 { 1 } else { 2 };
            let rest = rest.get(sequence_len..)?;
            if first & 0b100 == 0 {
                // Without a length it is the last one.
                return if rest.is_empty() { None } else { Some(&[]) };
            }
            let (length, body) = rest.split_first_chunk()?;
            (*length, body)
        }
        _ => return None,
    };
    body.get(usize::from(u16::from_be_bytes(length))..)
}

/// Output of [`Dtls`].
#[derive(Debug)]
pub(crate) enum DtlsOutput {
    /// To be sent.
    Datagram(Vec<u8>),
    /// The handshake is complete; once.
    Connected(DtlsPeer),
    /// Decrypted application data.
    Data(Vec<u8>),
    /// The peer sent close_notify.
    Closed,
}

/// The other end of a finished handshake.
pub(crate) struct DtlsPeer {
    /// Of the certificate whose private key the peer has proved to hold.
    pub(crate) fingerprint: Fingerprint,
    /// Agreed profile and exported keys (RFC 5764 section 4.2); `None` if no profile is common.
    pub(crate) srtp: Option<(SrtpProfile, KeyingMaterial)>,
}

impl std::fmt::Debug for DtlsPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let profile = self.srtp.as_ref().map(|(profile, _)| profile);
        f.debug_struct("DtlsPeer").field("fingerprint", &self.fingerprint).field("srtp", &profile).finish_non_exhaustive()
    }
}

/// The association is dead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DtlsError {
    /// The client offers no SRTP profile that this side has.
    #[error("no SRTP profile in common")]
    SrtpProfile,
    /// Anything else, as the library puts it.
    #[error("{0}")]
    Library(#[from] dimpl::Error),
}

/// Our certificate with its private key. Clones share it: one per process is enough, and its fingerprint is in every
/// description.
#[derive(Clone)]
pub struct Certificate(Arc<CertificateInner>);

struct CertificateInner {
    pair: dimpl::DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<dimpl::Config>,
}

impl Certificate {
    /// Makes a self-signed ECDSA P-256 certificate (RFC 8827 section 6.5). Takes randomness and the date from the
    /// operating system; call it at start, not in the engine.
    ///
    /// # Errors
    /// If the crypto library can't make one.
    pub fn generate() -> Result<Self, CertificateError> {
        let pair = dimpl::certificate::generate_self_signed_certificate().map_err(|e| CertificateError(e.to_string()))?;
        let config = dimpl_server::config(&pair.private_key).map_err(|e| CertificateError(e.to_string()))?;
        let fingerprint = fingerprint_of(&pair.certificate);
        Ok(Self(Arc::new(CertificateInner { pair, fingerprint, config })))
    }

    /// What goes into our descriptions.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.0.fingerprint).finish_non_exhaustive()
    }
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("can't make a DTLS certificate: {0}")]
pub struct CertificateError(String);

fn fingerprint_of(certificate_der: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate_der).as_ref());
    Fingerprint(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_are_well_formed() {
        let record = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 7, 7];
        let two = [record, record].concat();
        assert!(is_well_formed(&record) && is_well_formed(&two));
        for len in [0, 1, 12, 14, 16, 29] {
            assert!(!is_well_formed(&two[..len]), "{len} bytes");
        }
        for (at, byte) in [(0, 19), (0, 27), (1, 3), (2, 0xfc)] {
            let mut wrong = record;
            wrong[at] = byte;
            assert!(!is_well_formed(&wrong), "byte {at}");
        }
    }

    #[test]
    fn records_of_dtls_1_3_are_well_formed_with_and_without_a_length() {
        let with_length = [0b0010_1110, 0, 1, 0, 3, 7, 7, 7];
        let short_sequence = [0b0010_0110, 1, 0, 2, 7, 7];
        let without_length = [0b0010_1010, 0, 1, 7];
        let all = [&with_length[..], &short_sequence, &without_length].concat();
        for whole in [&with_length[..], &short_sequence, &without_length, &all] {
            assert!(is_well_formed(whole), "{whole:?}");
        }
        for len in [1, 2, 3, 4, 7] {
            assert!(!is_well_formed(&with_length[..len]), "{len} bytes");
        }
        assert!(!is_well_formed(&without_length[..3]), "nothing in it");
        assert!(!is_well_formed(&[0b0011_1110, 0, 1, 0, 3, 7, 7, 7]), "a connection id");
    }
}
