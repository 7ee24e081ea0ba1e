//! The client's DTLS by `rtc-dtls`, with any offer of SRTP profiles.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use sfu_core::transport::params::Fingerprint;
use sfu_core::transport::srtp::{KeyingMaterial, SrtpProfile};
use sfu_sim::client::{DtlsClient, DtlsClientOutput};

pub(crate) struct RtcDtlsClient {
    endpoint: Endpoint,
    config: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
    outputs: VecDeque<DtlsClientOutput>,
}

impl RtcDtlsClient {
    pub(crate) fn new(offers: &[SrtpProtectionProfile]) -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let certificate = Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto()).unwrap();
        let digest = dimpl::certificate::calculate_fingerprint(&certificate.certificate[0]);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(offers.to_vec())
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(Duration::from_millis(200))
            .with_insecure_skip_verify(true)
            .build(true, Some(SERVER))
            .unwrap();
        Self {
            endpoint: Endpoint::new(CLIENT, TransportProtocol::UDP, None),
            config: Arc::new(config),
            fingerprint: Fingerprint(digest.try_into().unwrap()),
            outputs: VecDeque::new(),
        }
    }

    fn finish(&mut self, result: Result<Vec<EndpointEvent>, rtc_shared::error::Error>) {
        for event in result.unwrap_or_else(|error| {
            self.outputs.push_back(DtlsClientOutput::Failed(error.to_string()));
            Vec::new()
        }) {
            let output = match event {
                EndpointEvent::HandshakeComplete => self.connected(),
                EndpointEvent::ApplicationData(data) => DtlsClientOutput::Data(data.to_vec()),
                EndpointEvent::PeerClosed => DtlsClientOutput::Closed,
                _ => continue,
            };
            self.outputs.push_back(output);
        }
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.outputs.push_back(DtlsClientOutput::Datagram(transmit.message.to_vec()));
        }
    }

    fn connected(&self) -> DtlsClientOutput {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        let Some(profile) = SrtpProfile::from_id(state.srtp_protection_profile() as u16) else {
            return DtlsClientOutput::Failed("no profile".into());
        };
        let keys = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.keying_material_len()).unwrap();
        let keys = KeyingMaterial::from_exported(profile, keys.as_ref()).unwrap();
        DtlsClientOutput::Connected { server: None, profile, keys }
    }
}

impl DtlsClient for RtcDtlsClient {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn start(&mut self, now: Instant) {
        let result = self.endpoint.connect(now, SERVER, self.config.clone(), None);
        self.finish(result.map(|()| Vec::new()));
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let result = self.endpoint.read(now, SERVER, None, BytesMut::from(datagram));
        self.finish(result);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|at| at <= now) {
            let result = self.endpoint.handle_timeout(SERVER, now);
            self.finish(result.map(|()| Vec::new()));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&SERVER)
    }

    fn send(&mut self, now: Instant, data: &[u8]) {
        let result = self.endpoint.write(now, SERVER, data);
        self.finish(result.map(|()| Vec::new()));
    }

    fn close(&mut self, now: Instant) {
        let result = self.endpoint.close(now);
        self.finish(result.map(|()| Vec::new()));
    }

    fn poll(&mut self) -> Option<DtlsClientOutput> {
        self.outputs.pop_front()
    }
}

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);
