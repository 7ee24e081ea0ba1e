//! DTLS in the client role.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, Output};
use sfu_core::transport::params::Fingerprint;
use sfu_core::transport::srtp::{KeyingMaterial, SrtpProfile};

/// One association in the client role. Feed it, then drain [`Self::poll`].
pub trait DtlsClient: Send {
    /// Of its certificate.
    fn fingerprint(&self) -> Fingerprint;
    /// Sends the first ClientHello.
    fn start(&mut self, now: Instant);
    /// Takes a datagram.
    fn handle(&mut self, now: Instant, datagram: &[u8]);
    /// Retransmits.
    fn handle_timeout(&mut self, now: Instant);
    /// When [`Self::handle_timeout`] has something to do.
    fn next_timeout(&self) -> Option<Instant>;
    /// Sends application data.
    fn send(&mut self, now: Instant, data: &[u8]);
    /// Sends close_notify.
    fn close(&mut self, now: Instant);
    /// What came of it.
    fn poll(&mut self) -> Option<DtlsClientOutput>;
}

/// Output of a [`DtlsClient`].
pub enum DtlsClientOutput {
    /// To be sent.
    Datagram(Vec<u8>),
    /// The handshake is complete.
    Connected {
        /// Of the server's certificate, if the implementation tells.
        server: Option<Fingerprint>,
        /// Agreed profile.
        profile: SrtpProfile,
        /// Exported keys.
        keys: KeyingMaterial,
    },
    /// Application data.
    Data(Vec<u8>),
    /// close_notify.
    Closed,
    /// It is dead.
    Failed(String),
}

/// DTLS by `dimpl`, 1.2 unless [`Self::dtls13`] is asked for. Offers AEAD_AES_256_GCM, AEAD_AES_128_GCM and AES128_CM_SHA1_80.
pub struct DimplClient {
    dtls: Dtls,
    fingerprint: Fingerprint,
    server: Option<Fingerprint>,
    is_started: bool,
    next_timeout: Option<Instant>,
    outputs: VecDeque<DtlsClientOutput>,
}

impl DimplClient {
    /// A client with a certificate of its own. The seed makes its timing repeatable.
    #[must_use]
    pub fn new(now: Instant, seed: u64) -> Self {
        Self::with_mtu(now, seed, 1200)
    }

    /// A client that sends no larger handshake datagrams than this, so that its ClientHello comes in fragments.
    ///
    /// # Panics
    /// If the crypto library can't make a certificate.
    #[must_use]
    pub fn with_mtu(now: Instant, seed: u64, mtu_bytes: usize) -> Self {
        Self::with_library(seed, mtu_bytes, |config, certificate| Dtls::new_12(config, certificate, now))
    }

    /// Like [`Self::with_mtu`], with DTLS 1.3 alone.
    #[must_use]
    pub fn dtls13(now: Instant, seed: u64, mtu_bytes: usize) -> Self {
        Self::with_library(seed, mtu_bytes, |config, certificate| Dtls::new_13(config, certificate, now))
    }

    /// Like [`Self::with_mtu`], with a ClientHello that offers both versions, as browsers do.
    #[must_use]
    pub fn either(now: Instant, seed: u64, mtu_bytes: usize) -> Self {
        Self::with_library(seed, mtu_bytes, |config, certificate| Dtls::new_auto(config, certificate, now))
    }

    fn with_library(seed: u64, mtu_bytes: usize, library: impl FnOnce(Arc<Config>, dimpl::DtlsCertificate) -> Dtls) -> Self {
        let config = Config::builder()
            .mtu(mtu_bytes)
            .max_queue_tx(100)
            .dangerously_set_rng_seed(seed)
            .flight_start_rto(Duration::from_millis(50))
            .flight_retries(12)
            .build()
            .expect("fixed settings");
        let certificate = dimpl::certificate::generate_self_signed_certificate().expect("a certificate can be made");
        let fingerprint = fingerprint_from(&certificate.fingerprint());
        let mut dtls = library(Arc::new(config), certificate);
        dtls.set_active(true);
        Self { dtls, fingerprint, server: None, is_started: false, next_timeout: None, outputs: VecDeque::new() }
    }

    fn finish(&mut self, now: Instant, result: Result<(), dimpl::Error>) {
        if let Err(error) = result {
            self.outputs.push_back(DtlsClientOutput::Failed(error.to_string()));
        }
        let mut buffer = vec![0; 4096];
        loop {
            let output = match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => DtlsClientOutput::Datagram(datagram.to_vec()),
                Output::BufferTooSmall { needed } => {
                    buffer.resize(needed, 0);
                    continue;
                }
                Output::Timeout(at) => {
                    self.next_timeout = (at < now + Duration::from_secs(3600)).then_some(at);
                    return;
                }
                Output::PeerCert(der) => {
                    self.server = Some(fingerprint_from(&dimpl::certificate::calculate_fingerprint(der)));
                    continue;
                }
                Output::KeyingMaterial(keys, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
                        _ => SrtpProfile::Aes128CmHmacSha1_80,
                    };
                    let Some(keys) = KeyingMaterial::from_exported(profile, &keys) else { continue };
                    DtlsClientOutput::Connected { server: self.server, profile, keys }
                }
                Output::ApplicationData(data) => DtlsClientOutput::Data(data.to_vec()),
                Output::CloseNotify => DtlsClientOutput::Closed,
                _ => continue,
            };
            self.outputs.push_back(output);
        }
    }
}

impl DtlsClient for DimplClient {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn start(&mut self, now: Instant) {
        self.is_started = true;
        let result = self.dtls.handle_timeout(now);
        self.finish(now, result);
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        if self.is_started {
            let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(datagram));
            self.finish(now, result);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_started && self.next_timeout.is_some_and(|at| at <= now) {
            let result = self.dtls.handle_timeout(now);
            self.finish(now, result);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    fn send(&mut self, now: Instant, data: &[u8]) {
        let result = self.dtls.send_application_data(data).map(drop);
        self.finish(now, result);
    }

    fn close(&mut self, now: Instant) {
        let result = self.dtls.close();
        self.finish(now, result);
    }

    fn poll(&mut self) -> Option<DtlsClientOutput> {
        self.outputs.pop_front()
    }
}

fn fingerprint_from(bytes: &[u8]) -> Fingerprint {
    Fingerprint(bytes.try_into().expect("SHA-256 has 32 bytes"))
}
