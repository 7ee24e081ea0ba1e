//! Sequences of what clients, peers and time can do to a server. The input is a program for them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use turn_proto::client::{Style, User};
use turn_proto::credentials::{Credentials, SharedSecret};
use turn_proto::limits::Limits;
use turn_proto::policy::PeerPolicy;
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};
use turn_proto::{Admission, Client, Config, ConnectionId, Forward, Moment, Output, RelayId, Transport, TurnServer};

const CLIENTS: usize = 3;
const METHODS: [u16; 7] = [
    method::ALLOCATE,
    method::REFRESH,
    method::CREATE_PERMISSION,
    method::CHANNEL_BIND,
    method::CONNECT,
    method::CONNECTION_BIND,
    method::BINDING,
];
const ATTRIBUTES: [(u16, usize); 12] = [
    (attribute::REQUESTED_TRANSPORT, 4),
    (attribute::LIFETIME, 4),
    (attribute::XOR_PEER_ADDRESS, 0),
    (attribute::CHANNEL_NUMBER, 4),
    (attribute::REQUESTED_ADDRESS_FAMILY, 4),
    (attribute::ADDITIONAL_ADDRESS_FAMILY, 4),
    (attribute::EVEN_PORT, 1),
    (attribute::RESERVATION_TOKEN, 8),
    (attribute::DONT_FRAGMENT, 0),
    (attribute::CONNECTION_ID, 4),
    (attribute::CHANGE_REQUEST, 4),
    (0x7FFF, 2),
];
const PEERS: [&str; 8] = [
    "198.18.0.7:1",
    "198.18.0.7:7882",
    "10.0.0.1:7882",
    "127.0.0.1:1",
    "8.8.8.8:0",
    "[2600::1]:7882",
    "[::1]:7882",
    "[::ffff:198.18.0.7]:1",
];

/// The rest of the program.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let byte = usize::from(self.byte()?);
        Some(from[byte % from.len()])
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        (0..count).map(|_| self.byte()).collect()
    }
}

struct World {
    server: TurnServer,
    start: Instant,
    now: Instant,
    open: HashSet<RelayId>,
    connections: Vec<ConnectionId>,
    users: Vec<User>,
    /// The last token and connection that a client was told.
    told: Vec<u8>,
}

/// Runs a program.
pub(crate) fn operations(data: &[u8]) {
    let mut program = Program(data);
    let mut world = World::new();
    while world.step(&mut program).is_some() {
        assert!(world.server.allocation_count() <= 4 && world.open.len() <= 8);
    }
    for _ in 0..2 {
        world.now += Duration::from_secs(3_700);
        world.server.handle_timeout(world.now);
        world.settle(true);
    }
    let census = world.server.census();
    assert!(world.open.is_empty(), "relayed addresses are left open");
    assert_eq!((census.total, census.ports.0, census.permissions, census.channels, census.streams), (0, 0, 0, 0, 0));
}

impl World {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let config = Config {
            credentials: Credentials::new("r", [("anna".to_owned(), "pw".to_owned())], vec![SharedSecret::new("s")]),
            policy: PeerPolicy {
                allow: ["198.18.0.0/16", "2600::/32"].iter().filter_map(|rule| rule.parse().ok()).collect(),
                ..PeerPolicy::default()
            },
            limits: Limits { allocations: 4, allocations_per_user: 3, ..Limits::default() },
            relay_v4: Some(IpAddr::from([203, 0, 113, 1])),
            relay_v6: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
            relay_ports: 50_000..=50_015,
            tcp_relays: true,
            discovery: None,
        };
        let start = Instant::now();
        Self {
            server: TurnServer::new(config, [1; 32], start),
            start,
            now: start,
            open: HashSet::new(),
            connections: Vec::new(),
            users: (0..CLIENTS).map(|_| User::new("anna", "pw")).collect(),
            told: vec![0; 8],
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, unix: Duration::from_secs(1_700_000_000) + (self.now - self.start) }
    }

    fn client(number: u8) -> (usize, Client) {
        let index = usize::from(number) % CLIENTS;
        let remote = SocketAddr::from(([192, 0, 2, 1], 1_000 + u16::from(number) % CLIENTS as u16));
        let transport = if index == 0 { Transport::Udp } else { Transport::Tcp };
        (index, Client { transport, remote, local: SocketAddr::from(([203, 0, 113, 1], 3478)) })
    }

    fn step(&mut self, program: &mut Program<'_>) -> Option<()> {
        match program.byte()? % 12 {
            0..=4 => self.request(program)?,
            5 => {
                let (_, client) = Self::client(program.byte()?);
                let peer: SocketAddr = program.choose(&PEERS)?.parse().ok()?;
                let mut writer = Writer::new(method::SEND, Class::Indication, &[3; 12]);
                writer.xor_address(attribute::XOR_PEER_ADDRESS, peer).attribute(attribute::DATA, b"data");
                self.send(client, &writer.unsigned());
            }
            6 => {
                let (_, client) = Self::client(program.byte()?);
                let number = 0x4000 + u16::from(program.byte()? % 4);
                self.send(client, &[&header(ChannelNumber::new(number)?, 4)[..], b"data"].concat());
            }
            7 => {
                let relay = RelayId(u32::from(program.byte()? % 8));
                let source: SocketAddr = program.choose(&PEERS)?.parse().ok()?;
                if self.server.handle_peer(self.now, relay, source, 1, 4).is_some() {
                    assert!(is_allowed(source) && self.open.contains(&relay));
                }
            }
            8 => {
                let relay = RelayId(u32::from(program.byte()? % 8));
                let source: SocketAddr = program.choose(&PEERS)?.parse().ok()?;
                self.connections.extend(self.server.peer_accepted(self.now, relay, source));
            }
            9 => {
                self.now += Duration::from_secs(u64::from(program.byte()?) * 4);
                self.server.handle_timeout(self.now);
            }
            10 => {
                let (_, client) = Self::client(program.byte()?);
                let length = usize::from(program.byte()? % 64);
                let garbage = program.bytes(length)?;
                self.send(client, &garbage);
            }
            _ => match program.byte()? % 3 {
                0 => self.server.client_closed(Self::client(program.byte()?).1),
                1 => {
                    if let Some(connection) = self.connections.pop() {
                        self.server.connection_closed(connection);
                    }
                }
                _ => self.server.admit(match program.byte()? % 4 {
                    0 => Admission::Nobody,
                    1 => Admission::Only("PA_".to_owned()),
                    _ => Admission::Everybody,
                }),
            },
        }
        let is_open = program.byte().is_none_or(|byte| byte % 8 != 0);
        self.settle(is_open);
        Some(())
    }

    fn request(&mut self, program: &mut Program<'_>) -> Option<()> {
        let (index, client) = Self::client(program.byte()?);
        let method = program.choose(&METHODS)?;
        let count = program.byte()? % 5;
        let mut attributes = Vec::new();
        for _ in 0..count {
            let (kind, length) = program.choose(&ATTRIBUTES)?;
            let value = match kind {
                attribute::XOR_PEER_ADDRESS => program.choose(&PEERS)?.as_bytes().to_vec(),
                attribute::RESERVATION_TOKEN => self.told.clone(),
                attribute::CONNECTION_ID => self.told.get(..4)?.to_vec(),
                attribute::CHANNEL_NUMBER => vec![0x40, program.byte()? % 4, 0, 0],
                attribute::REQUESTED_TRANSPORT => vec![program.choose(&[17, 17, 6, 1])?, 0, 0, 0],
                _ => program.bytes(length)?,
            };
            attributes.push((kind, value));
        }
        let style = if program.byte()? % 4 == 0 { Style::Sha256 } else { Style::Classic };
        self.users[index].style = style;
        for _ in 0..2 {
            let request = self.users[index].request(method, |writer| {
                for (kind, value) in &attributes {
                    match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                        Some(peer) if *kind == attribute::XOR_PEER_ADDRESS => writer.xor_address(*kind, peer),
                        _ => writer.attribute(*kind, value),
                    };
                }
            });
            self.send(client, &request);
            self.settle(true);
        }
        Some(())
    }

    fn send(&mut self, client: Client, packet: &[u8]) {
        if let Forward::ToPeer { relay, peer, payload } = self.server.handle_client(self.at(), client, packet) {
            assert!(is_allowed(peer) && self.open.contains(&relay) && packet.get(payload).is_some());
        }
    }

    fn settle(&mut self, is_possible: bool) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { client, bytes } => {
                    let message = Message::parse(&bytes).expect("answers are well formed");
                    let index = usize::from(client.remote.port().saturating_sub(1_000)) % CLIENTS;
                    self.users[index].learn(&message);
                    if let Some(token) = message.attributes.reservation_token {
                        self.told = token.to_vec();
                    }
                    if let Some(id) = message.attributes.connection_id {
                        self.told[..4].copy_from_slice(&id.to_be_bytes());
                    }
                }
                Output::OpenRelay { relay, .. } => {
                    assert!(!self.open.contains(&relay), "opened twice");
                    if is_possible {
                        self.open.insert(relay);
                    }
                    self.server.relay_opened(self.at(), relay, is_possible);
                }
                Output::CloseRelay(relay) => assert!(self.open.remove(&relay), "closed without being open"),
                Output::Connect { connection, relay, peer } => {
                    assert!(is_allowed(peer) && self.open.contains(&relay));
                    self.connections.push(connection);
                    self.server.peer_connected(self.now, connection, is_possible);
                }
                Output::DontFragment(_)
                | Output::Splice { .. }
                | Output::CloseConnection(_)
                | Output::CloseClient(_)
                | Output::Denied(_) => {}
            }
        }
    }
}

fn is_allowed(peer: SocketAddr) -> bool {
    let text = peer.ip().to_string();
    peer.port() != 0 && (text.starts_with("198.18.") || text.starts_with("2600:"))
}
