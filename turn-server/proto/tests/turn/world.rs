//! A server with clients and peers in virtual time. Sockets open at once, unless a port is said to be taken.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_proto::client::User;
use turn_proto::credentials::{Credentials, SharedSecret};
use turn_proto::limits::Limits;
use turn_proto::policy::PeerPolicy;
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::{attribute, method};
use turn_proto::{Client, Config, ConnectionId, Forward, Moment, Output, RelayId, ToClient, Transport, TurnServer};

pub(crate) const UNIX: Duration = Duration::from_secs(1_700_000_000);
pub(crate) const PEER: &str = "198.18.0.7:7882";
pub(crate) const SECRET: &str = "north";

pub(crate) struct World {
    pub(crate) server: TurnServer,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    /// Open relayed addresses by id.
    pub(crate) relays: BTreeMap<u32, u16>,
    pub(crate) taken: HashSet<u16>,
    /// Messages to clients that nobody has looked at.
    pub(crate) sent: Vec<(Client, Vec<u8>)>,
    pub(crate) others: Vec<Output>,
    /// Everything that left for a peer.
    pub(crate) to_peers: Vec<(RelayId, SocketAddr, Vec<u8>)>,
}

/// An answer, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) is_success: bool,
    pub(crate) code: u16,
    pub(crate) relayed: Vec<SocketAddr>,
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) lifetime: Option<u32>,
    pub(crate) token: Option<[u8; 8]>,
    pub(crate) connection: Option<u32>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn config() -> Config {
    Config {
        credentials: Credentials::new(
            "example.org",
            [("anna".to_owned(), "secret".to_owned()), ("bert".to_owned(), "secret".to_owned())],
            vec![SharedSecret::new(SECRET)],
        ),
        policy: PeerPolicy { allow: vec!["198.18.0.0/15".parse().unwrap(), "2600::/16".parse().unwrap()], ..PeerPolicy::default() },
        limits: Limits::default(),
        relay_v4: Some("203.0.113.1".parse().unwrap()),
        relay_v6: Some("2001:db8::1".parse().unwrap()),
        relay_ports: 50_000..=50_099,
        tcp_relays: true,
        discovery: None,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    #[allow(clippy::disallowed_methods)]
    pub(crate) fn with(config: Config) -> Self {
        let start = Instant::now();
        Self {
            server: TurnServer::new(config, [7; 32], start),
            start,
            now: start,
            relays: BTreeMap::new(),
            taken: HashSet::new(),
            sent: Vec::new(),
            others: Vec::new(),
            to_peers: Vec::new(),
        }
    }

    pub(crate) fn at(&self) -> Moment {
        Moment { now: self.now, unix: UNIX + (self.now - self.start) }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { client, bytes } => self.sent.push((client, bytes)),
                Output::OpenRelay { relay, port, .. } => {
                    let is_open = !self.taken.contains(&port);
                    if is_open {
                        assert!(self.relays.insert(relay.0, port).is_none(), "relay {} is opened twice", relay.0);
                    }
                    self.server.relay_opened(self.at(), relay, is_open);
                }
                Output::CloseRelay(relay) => assert!(self.relays.remove(&relay.0).is_some(), "relay {} is not open", relay.0),
                other => self.others.push(other),
            }
        }
    }

    /// A packet of a client; what it is answered with.
    pub(crate) fn send(&mut self, client: Client, packet: &[u8]) -> Option<Answer> {
        if let Forward::ToPeer { relay, peer, payload } = self.server.handle_client(self.at(), client, packet) {
            self.to_peers.push((relay, peer, packet[payload].to_vec()));
        }
        self.settle();
        let (to, bytes) = self.sent.pop()?;
        assert_eq!(to.remote.ip(), client.remote.ip());
        Some(answer(&bytes))
    }

    /// A request, made again after a challenge.
    pub(crate) fn ask(&mut self, client: Client, user: &mut User, method: u16, attributes: &[(u16, Vec<u8>)]) -> Answer {
        for _ in 0..3 {
            let request = user.request(method, |writer| {
                for (kind, value) in attributes {
                    if *kind == attribute::XOR_PEER_ADDRESS {
                        writer.xor_address(*kind, std::str::from_utf8(value).unwrap().parse().unwrap());
                    } else {
                        writer.attribute(*kind, value);
                    }
                }
            });
            let answer = self.send(client, &request).expect("requests are answered");
            if !user.learn(&Message::parse(&answer.bytes).unwrap()) {
                return answer;
            }
        }
        panic!("challenged again and again");
    }

    pub(crate) fn allocate(&mut self, client: Client, user: &mut User) -> Answer {
        self.ask(client, user, method::ALLOCATE, &[udp()])
    }

    /// A client with an allocation and a permission for [`PEER`].
    pub(crate) fn ready(&mut self) -> (Client, User, RelayId) {
        let (client, mut user) = (client(1), anna());
        assert!(self.allocate(client, &mut user).is_success);
        assert!(self.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(PEER)]).is_success);
        let relay = RelayId(*self.relays.last_key_value().unwrap().0);
        (client, user, relay)
    }

    pub(crate) fn hears(&mut self, relay: RelayId, source: &str) -> Option<ToClient> {
        self.server.handle_peer(self.now, relay, source.parse().unwrap(), 1, 3)
    }

    pub(crate) fn connection(&self) -> Option<(ConnectionId, SocketAddr)> {
        self.others.iter().rev().find_map(|output| match output {
            Output::Connect { connection, peer, .. } => Some((*connection, *peer)),
            _ => None,
        })
    }
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let message = Message::parse(bytes).unwrap();
    let attributes = &message.attributes;
    Answer {
        is_success: message.class == Class::Success,
        code: attributes.error_code.unwrap_or(0),
        relayed: attributes.relayed.to_vec(),
        mapped: attributes.mapped,
        lifetime: attributes.lifetime_seconds,
        token: attributes.reservation_token,
        connection: attributes.connection_id,
        bytes: bytes.to_vec(),
    }
}

pub(crate) fn client(number: u16) -> Client {
    let remote = SocketAddr::new([192, 0, 2, 1].into(), 10_000 + number);
    Client { transport: Transport::Udp, remote, local: "203.0.113.1:3478".parse().unwrap() }
}

pub(crate) fn tcp_client(number: u16) -> Client {
    Client { transport: Transport::Tcp, ..client(number) }
}

pub(crate) fn anna() -> User {
    User::new("anna", "secret")
}

pub(crate) fn udp() -> (u16, Vec<u8>) {
    (attribute::REQUESTED_TRANSPORT, vec![17, 0, 0, 0])
}

pub(crate) fn tcp() -> (u16, Vec<u8>) {
    (attribute::REQUESTED_TRANSPORT, vec![6, 0, 0, 0])
}

pub(crate) fn peer(address: &str) -> (u16, Vec<u8>) {
    (attribute::XOR_PEER_ADDRESS, address.as_bytes().to_vec())
}

pub(crate) fn channel(number: u16) -> (u16, Vec<u8>) {
    let [a, b] = number.to_be_bytes();
    (attribute::CHANNEL_NUMBER, vec![a, b, 0, 0])
}

pub(crate) fn lifetime(seconds: u32) -> (u16, Vec<u8>) {
    (attribute::LIFETIME, seconds.to_be_bytes().to_vec())
}

pub(crate) fn family(kind: u16, number: u8) -> (u16, Vec<u8>) {
    (kind, vec![number, 0, 0, 0])
}
