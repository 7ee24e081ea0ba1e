//! [`Dtls`] by the `dimpl` crate: DTLS 1.3 with clients that offer it, 1.2 with the others.
//!
//! An error of the library is the end of its association. Before our first flight is out, that is only the end of an
//! attempt: a broken or forged ClientHello must not cost an honest client its connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::crypto::CryptoProvider;
use dimpl::{Config, Output};

use super::offer::{HelloAssembler, HelloInput};
use super::{Certificate, Dtls, DtlsError, DtlsOutput, DtlsPeer, DtlsVersion, fingerprint_of, own_key, transcript};
use crate::limits::{CONNECT_TIMEOUT, MAX_DATAGRAM};
use crate::transport::params::Fingerprint;
use crate::transport::srtp::{KeyingMaterial, SrtpProfile};

/// One association.
pub(crate) struct DimplServer {
    dtls: dimpl::Dtls,
    certificate: Certificate,
    hello: HelloAssembler,
    attempts_left: u8,
    has_sent: bool,
    peer: Option<Fingerprint>,
    /// Connected, and keys (if any) not yet handed out.
    is_finishing: bool,
    next_timeout: Option<Instant>,
    outputs: VecDeque<DtlsOutput>,
}

impl DimplServer {
    /// Waits for a ClientHello.
    pub(crate) fn new(now: Instant, certificate: &Certificate) -> Self {
        Self {
            dtls: library(now, certificate),
            certificate: certificate.clone(),
            hello: HelloAssembler::default(),
            attempts_left: MAX_ATTEMPTS,
            has_sent: false,
            peer: None,
            is_finishing: false,
            next_timeout: None,
            outputs: VecDeque::new(),
        }
    }

    fn feed(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(datagram));
        self.drain(now);
        self.recover(now, result.map_err(DtlsError::from))
    }

    /// Starts over after an error if the client can't have noticed.
    fn recover(&mut self, now: Instant, result: Result<(), DtlsError>) -> Result<(), DtlsError> {
        let Err(error) = result else { return Ok(()) };
        self.attempts_left = self.attempts_left.saturating_sub(1);
        if self.has_sent || self.attempts_left == 0 {
            self.next_timeout = None;
            return Err(error);
        }
        self.dtls = library(now, &self.certificate);
        self.hello = HelloAssembler::default();
        self.next_timeout = None;
        Ok(())
    }

    fn drain(&mut self, now: Instant) {
        let mut buffer = [0; MAX_DATAGRAM];
        let mut large = Vec::new();
        loop {
            let output = match self.dtls.poll_output(if large.is_empty() { &mut buffer } else { &mut large }) {
                Output::BufferTooSmall { needed } => {
                    large.resize(needed, 0);
                    continue;
                }
                Output::Timeout(at) => {
                    self.next_timeout = (at < now + IDLE).then_some(at);
                    self.finish(None);
                    return;
                }
                Output::KeyingMaterial(keys, profile) => {
                    let srtp = profile_of(profile);
                    self.finish(srtp.and_then(|profile| Some((profile, KeyingMaterial::from_exported(profile, &keys)?))));
                    continue;
                }
                Output::Packet(datagram) => {
                    self.has_sent = true;
                    DtlsOutput::Datagram(datagram.to_vec())
                }
                Output::PeerCert(der) => {
                    self.peer = Some(fingerprint_of(der));
                    continue;
                }
                Output::Connected => {
                    self.is_finishing = true;
                    continue;
                }
                Output::ApplicationData(data) => DtlsOutput::Data(data.to_vec()),
                Output::CloseNotify => DtlsOutput::Closed,
                _ => continue,
            };
            if !matches!(output, DtlsOutput::Datagram(_)) {
                self.finish(None);
            }
            self.outputs.push_back(output);
        }
    }

    /// Reports the connection. The library hands out the keys, if there are any, right behind [`Output::Connected`].
    fn finish(&mut self, srtp: Option<(SrtpProfile, KeyingMaterial)>) {
        if std::mem::take(&mut self.is_finishing)
            && let Some(fingerprint) = self.peer
        {
            self.outputs.push_back(DtlsOutput::Connected(DtlsPeer { fingerprint, srtp }));
        }
    }
}

impl Dtls for DimplServer {
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        match self.hello.handle(datagram) {
            // Before a ClientHello nothing else means anything, and the library counts what it has to keep until then.
            HelloInput::Other if self.version().is_none() => Ok(()),
            HelloInput::Other => self.feed(now, datagram),
            HelloInput::Incomplete => Ok(()),
            HelloInput::Complete(hello) => self.feed(now, &hello),
            HelloInput::NoProfile => self.recover(now, Err(DtlsError::SrtpProfile)),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.next_timeout.is_none_or(|at| now < at) {
            return Ok(());
        }
        let result = self.dtls.handle_timeout(now);
        self.drain(now);
        self.recover(now, result.map_err(DtlsError::from))
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    fn poll(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    fn send(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsError> {
        let result = self.dtls.send_application_data(data);
        self.drain(now);
        result.map(drop).map_err(DtlsError::from)
    }

    fn close(&mut self, now: Instant) {
        // The only errors are of associations that are dead already, which have nothing to close.
        let _ = self.dtls.close();
        self.drain(now);
    }

    fn version(&self) -> Option<DtlsVersion> {
        match self.dtls.protocol_version()? {
            dimpl::ProtocolVersion::DTLS1_3 => Some(DtlsVersion::Dtls13),
            dimpl::ProtocolVersion::DTLS1_2 => Some(DtlsVersion::Dtls12),
            _ => None,
        }
    }
}

/// Settings of every association; made once per certificate because the library tests its crypto when it is made.
pub(super) fn config(private_key: &[u8]) -> Result<Arc<Config>, dimpl::Error> {
    let config = Config::builder()
        .with_crypto_provider(CryptoProvider { key_provider: own_key::provider(private_key), ..transcript::provider() })
        .use_server_cookie(false)
        .require_client_certificate(true)
        .mtu(HANDSHAKE_MTU)
        .flight_start_rto(FIRST_RETRANSMISSION)
        .flight_retries(MAX_RETRANSMISSIONS)
        .handshake_timeout(CONNECT_TIMEOUT)
        .build()?;
    Ok(Arc::new(config))
}

fn library(now: Instant, certificate: &Certificate) -> dimpl::Dtls {
    let mut dtls = dimpl::Dtls::new_auto(certificate.0.config.clone(), certificate.0.pair.clone(), now);
    // The library makes its random in its first timeout. It can't fail while no timer runs.
    let _ = dtls.handle_timeout(now);
    dtls
}

fn profile_of(profile: dimpl::SrtpProfile) -> Option<SrtpProfile> {
    match profile {
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfile::AeadAes256Gcm),
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfile::Aes128CmHmacSha1_80),
        _ => None,
    }
}

/// Fits IPv6's smallest MTU (1280) with IP, UDP and TURN headers.
const HANDSHAKE_MTU: usize = 1200;
/// RFC 6347 section 4.2.4.1 says 1 s but allows less; a lost flight should not cost a join that much. libwebrtc's
/// client starts at 50 ms.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// The library counts answers to the client's own retransmissions too, so the handshake timeout is the real bound.
const MAX_RETRANSMISSIONS: usize = 12;
/// ClientHellos that may fail before the association does.
const MAX_ATTEMPTS: u8 = 4;
/// The library names a far-off time when it has no timer.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
