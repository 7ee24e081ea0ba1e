//! What a server is started with, as values. Text formats are the caller's business.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use turn_proto::credentials::SharedSecret;
use turn_proto::limits::Limits;
use turn_proto::policy::PeerPolicy;

use crate::tls::Certificates;

/// Everything that [`crate::start`] needs to know.
#[derive(Clone, Debug)]
pub struct TurnConfig {
    /// Addresses to listen on. Unspecified ones stand for all of their family.
    pub listen: Vec<IpAddr>,
    /// Port for datagrams. `None`: not served; 0: the system chooses.
    pub udp_port: Option<u16>,
    /// Port for streams, likewise.
    pub tcp_port: Option<u16>,
    /// Port for streams in TLS, likewise. Needs `certificates`.
    pub tls_port: Option<u16>,
    /// Certificate and key.
    pub certificates: Option<Arc<Certificates>>,
    /// Where relayed addresses are: one of each family.
    pub relays: Vec<RelayAddress>,
    /// Their ports.
    pub relay_ports: RangeInclusive<u16>,
    /// Domain of the passwords.
    pub realm: String,
    /// Users with their passwords.
    pub users: Vec<(String, String)>,
    /// Secrets of time-limited users.
    pub secrets: Vec<SharedSecret>,
    /// To whom is relayed.
    pub policy: PeerPolicy,
    /// Bounds.
    pub limits: Limits,
    /// TCP allocations (RFC 6062).
    pub tcp_relays: bool,
    /// A second address and a second port for finding out about NATs (RFC 5780), in addition to the first of `listen` and `udp_port`.
    pub discovery: Option<(IpAddr, u16)>,
    /// Open streams of clients; further ones are refused.
    pub max_streams: usize,
    /// Open streams from one IPv4 address or IPv6 /64, likewise.
    pub max_streams_per_address: usize,
}

/// An address that relayed addresses have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayAddress {
    /// As peers and clients know it.
    pub public: IpAddr,
    /// To which sockets are bound.
    pub bind: IpAddr,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            udp_port: Some(3478),
            tcp_port: Some(3478),
            tls_port: None,
            certificates: None,
            relays: Vec::new(),
            relay_ports: 49_152..=65_535,
            realm: "sluice".to_owned(),
            users: Vec::new(),
            secrets: Vec::new(),
            policy: PeerPolicy::default(),
            limits: Limits::default(),
            tcp_relays: false,
            discovery: None,
            max_streams: 10_000,
            max_streams_per_address: 512,
        }
    }
}
