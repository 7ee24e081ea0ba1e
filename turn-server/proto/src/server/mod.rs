//! The hub: owns all allocations and routes between the parts. Holds no protocol of its own.
//!
//! In: packets of clients ([`TurnServer::handle_client`]) and of peers ([`TurnServer::handle_peer`]), the ends of connections, what
//! became of sockets. Out: payloads to forward as return values, everything else through [`TurnServer::poll_output`].
//! Requests: [`allocate`], [`manage`], [`connect`], [`binding`]; who may make them: [`auth`]; data: [`relay`].

mod allocate;
mod auth;
mod binding;
mod connect;
mod manage;
mod relay;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;

use crate::allocation::{Allocation, Family, RelayProtocol};
use crate::bandwidth::Bucket;
use crate::counters::{Census, Counters, Dropped};
use crate::credentials::{Credentials, Key, account};
use crate::limits::{Limits, RESERVATIONS};
use crate::nonce::Nonces;
use crate::policy::{Denied, PeerPolicy};
use crate::ports::Ports;
use crate::quota::Quota;
use crate::streams::{ConnectionId, Streams};
use crate::throttle::Throttle;
use crate::wire::TransactionId;
use crate::wire::channel;
use crate::wire::message::{Class, Integrity, Message};
use crate::wire::method;
use crate::wire::write::Writer;

pub use binding::Discovery;
pub use relay::{Forward, ToClient};

/// How a client is connected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream in TLS.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The 5-tuple of a client. Of a stream it is good for as long as the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    /// How it is connected.
    pub transport: Transport,
    /// Its address as seen here.
    pub remote: SocketAddr,
    /// The address of ours that it uses.
    pub local: SocketAddr,
}

/// A relayed address; a small number, used again after [`Output::CloseRelay`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RelayId(pub u32);

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Never goes back.
    pub now: Instant,
    /// Since 1970; times in user names are of this clock.
    pub unix: Duration,
}

/// What an operator decides.
#[derive(Debug)]
pub struct Config {
    /// Who may use the server.
    pub credentials: Credentials,
    /// To whom it relays.
    pub policy: PeerPolicy,
    /// Bounds.
    pub limits: Limits,
    /// Address of relayed IPv4 addresses as peers know it. `None`: there are none.
    pub relay_v4: Option<IpAddr>,
    /// Of IPv6 ones, likewise.
    pub relay_v6: Option<IpAddr>,
    /// Their ports.
    pub relay_ports: RangeInclusive<u16>,
    /// TCP allocations (RFC 6062) are served.
    pub tcp_relays: bool,
    /// Addresses for RFC 5780. `None`: clients can't find out what kind of NAT they have.
    pub discovery: Option<Discovery>,
}

/// Who gets new allocations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Whoever has credentials.
    #[default]
    Everybody,
    /// Those whose NAME begins so: who has a seat in a call that goes on may need a new relay, and gets it.
    Only(String),
    /// Nobody.
    Nobody,
}

impl Admission {
    pub(crate) fn covers(&self, account: &[u8]) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(beginning) => account.starts_with(beginning.as_bytes()),
            Self::Nobody => false,
        }
    }
}

/// Something to be done outside. In order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a message to a client, from the address that `client.local` names.
    Send {
        /// To whom.
        client: Client,
        /// A whole message.
        bytes: Vec<u8>,
    },
    /// Open a relayed address and say with [`TurnServer::relay_opened`] what became of it.
    OpenRelay {
        /// Its name from here on.
        relay: RelayId,
        /// A socket, or a listener.
        protocol: RelayProtocol,
        /// Family.
        family: Family,
        /// Port.
        port: u16,
        /// Datagrams must not be fragmented.
        dont_fragment: bool,
    },
    /// Close a relayed address.
    CloseRelay(RelayId),
    /// Datagrams from a relayed address must not be fragmented from here on.
    DontFragment(RelayId),
    /// Connect to a peer from a relayed address and say with [`TurnServer::peer_connected`] what became of it.
    Connect {
        /// Its name from here on.
        connection: ConnectionId,
        /// From where.
        relay: RelayId,
        /// To whom.
        peer: SocketAddr,
    },
    /// Whatever comes from this client or from that peer from here on goes to the other, as it is.
    Splice {
        /// A stream.
        client: Client,
        /// The peer.
        connection: ConnectionId,
    },
    /// Close a connection to a peer, and that of the client it is spliced with.
    CloseConnection(ConnectionId),
    /// Close a client's stream: its allocation was withdrawn.
    CloseClient(Client),
    /// For the audit log.
    Denied(Denial),
}

/// A peer that a client may not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Who wanted it.
    pub client: Client,
    /// By which name.
    pub user: String,
    /// Whom.
    pub peer: SocketAddr,
    /// By which request.
    pub method: u16,
    /// Why not.
    pub reason: Denied,
}

slotmap::new_key_type! {
    /// Names an allocation.
    pub(crate) struct AllocationKey;
}

/// What an answer to a request needs.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) client: Client,
    pub(crate) method: u16,
    pub(crate) transaction: TransactionId,
    /// `None`: the client has not proved anything, and nothing is proved to it.
    pub(crate) seal: Option<(Integrity, Key)>,
}

/// A port that is kept for whoever has its token (RFC 8656 section 7.2).
#[derive(Debug)]
struct Reservation {
    token: [u8; 8],
    family: Family,
    port: u16,
    expires_at: Instant,
}

/// A TURN server.
#[derive(Debug)]
pub struct TurnServer {
    config: Config,
    nonces: Nonces,
    throttle: Throttle,
    quota: Quota,
    /// By protocol, then by family.
    ports: [[Ports; 2]; 2],
    allocations: slotmap::SlotMap<AllocationKey, Allocation>,
    by_client: FxHashMap<Client, AllocationKey>,
    /// By what quotas count as one user.
    by_account: HashMap<Box<[u8]>, Vec<AllocationKey>>,
    /// By [`RelayId`].
    relays: Vec<Option<AllocationKey>>,
    free_relays: Vec<RelayId>,
    reservations: VecDeque<Reservation>,
    streams: Streams,
    total: Option<Bucket>,
    outputs: VecDeque<Output>,
    counters: Counters,
    next_sweep: Instant,
    admission: Admission,
    rng: StdRng,
    /// The client of the last packet: most come in rows.
    last: Option<(Client, AllocationKey)>,
}

/// How often what has expired is swept away. It counts as absent before.
const SWEEP: Duration = Duration::from_secs(1);

impl TurnServer {
    /// A server without clients. `seed` is random and nobody else's: nonces, ports and tokens follow from it.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let ports = || [(); 2].map(|()| Ports::new(config.relay_ports.clone()));
        Self {
            nonces: Nonces::new(rng.random(), now, config.credentials.has_anonymity()),
            throttle: Throttle::new(now),
            quota: Quota::default(),
            ports: [ports(), ports()],
            allocations: slotmap::SlotMap::with_key(),
            by_client: FxHashMap::default(),
            by_account: HashMap::new(),
            relays: Vec::new(),
            free_relays: Vec::new(),
            reservations: VecDeque::new(),
            streams: Streams::default(),
            total: config.limits.total_rate.map(|rate| Bucket::new(rate, now)),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            next_sweep: now + SWEEP,
            admission: Admission::Everybody,
            rng,
            last: None,
            config,
        }
    }

    /// A message of a client: a datagram, or one that [`crate::wire::stream`] has cut out.
    pub fn handle_client(&mut self, at: Moment, client: Client, packet: &[u8]) -> Forward {
        let Some(&first) = packet.first() else { return Forward::Nothing };
        if channel::is_channel_data(first) {
            return self.channel_data(at.now, client, packet);
        }
        let Some(message) = Message::parse(packet) else {
            self.counters.drop(Dropped::Malformed);
            return Forward::Nothing;
        };
        match (message.class, message.method) {
            (Class::Indication, method::SEND) => return self.send_indication(at.now, client, &message),
            (Class::Request, _) => self.request(at, client, &message),
            // a Binding indication keeps a NAT's mapping (RFC 8489 section 2); anything else is not for a server
            (Class::Indication, method::BINDING) => {}
            _ => self.counters.drop(Dropped::Malformed),
        }
        Forward::Nothing
    }

    fn request(&mut self, at: Moment, client: Client, message: &Message<'_>) {
        if message.method == method::BINDING {
            return self.binding(at, client, message);
        }
        let authenticated = match self.authenticate(at, client, message) {
            Ok(authenticated) => authenticated,
            Err(refusal) => return self.refuse(at, client, message, refusal),
        };
        let answer = authenticated.answer(client, message);
        if !message.attributes.unknown.is_empty() {
            let list: Vec<u8> = message.attributes.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
            return self.reply_error_with(&answer, 420, |writer| {
                writer.attribute(crate::wire::attribute::UNKNOWN_ATTRIBUTES, &list);
            });
        }
        match message.method {
            method::ALLOCATE => self.allocate(at, &authenticated, answer, message),
            method::REFRESH => self.refresh(at.now, &authenticated, &answer, message),
            method::CREATE_PERMISSION => self.create_permission(at.now, &authenticated, &answer, message),
            method::CHANNEL_BIND => self.channel_bind(at.now, &authenticated, &answer, message),
            method::CONNECT => self.connect(at.now, &authenticated, answer, message),
            method::CONNECTION_BIND => self.connection_bind(&authenticated, &answer, message),
            _ => self.reply_error(&answer, 400),
        }
    }

    /// A client's stream has ended.
    pub fn client_closed(&mut self, client: Client) {
        if let Some(&key) = self.by_client.get(&client) {
            self.remove(key);
        }
    }

    /// Something to be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (!self.allocations.is_empty() || !self.reservations.is_empty()).then_some(self.next_sweep)
    }

    /// Ends what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        let ended: Vec<AllocationKey> =
            self.allocations.iter().filter(|(_, a)| a.pending.is_none() && a.expires_at <= now).map(|(key, _)| key).collect();
        for key in ended {
            self.remove(key);
        }
        for allocation in self.allocations.values_mut() {
            allocation.sweep(now);
        }
        while self.reservations.front().is_some_and(|reservation| reservation.expires_at <= now) {
            self.drop_oldest_reservation();
        }
        self.expire_streams(now);
    }

    /// Refuses a user that credentials were issued to by this name, and ends its allocations. `forget_at`: when the credentials
    /// will have expired, in time since 1970.
    pub fn revoke(&mut self, at: Moment, name: &str, forget_at: Duration) {
        self.config.credentials.revoke(name, forget_at, at.unix);
        for key in self.by_account.get(name.as_bytes()).cloned().unwrap_or_default() {
            let client = self.allocations[key].client;
            self.remove(key);
            if client.transport != Transport::Udp {
                self.outputs.push_back(Output::CloseClient(client));
            }
        }
    }

    /// Says who gets new allocations from here on; those there are can be refreshed whatever it says.
    pub fn admit(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// True if the client has something here.
    #[must_use]
    pub fn has_allocation(&self, client: Client) -> bool {
        self.by_client.contains_key(&client)
    }

    /// Allocations there are.
    #[must_use]
    pub fn allocation_count(&self) -> usize {
        self.allocations.len()
    }

    /// Counters since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What there is. Walks all allocations.
    #[must_use]
    pub fn census(&self) -> Census {
        let (total, most) = (self.allocations.len(), self.config.limits.allocations);
        let mut census = Census { total, most, streams: self.streams.len(), ..Census::default() };
        for allocation in self.allocations.values() {
            for relay in &allocation.relays {
                census.allocations[allocation.client.transport as usize][relay.family as usize] += 1;
            }
            let (permissions, channels) = allocation.counts();
            census.permissions += permissions;
            census.channels += channels;
        }
        let usage = self.ports.iter().flatten().map(Ports::usage);
        census.ports = usage.max_by_key(|(used, _)| *used).unwrap_or_default();
        census
    }

    fn relay_ip(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.config.relay_v4,
            Family::V6 => self.config.relay_v6,
        }
    }

    /// Ends an allocation and all that it has.
    fn remove(&mut self, key: AllocationKey) {
        let Some(allocation) = self.allocations.remove(key) else { return };
        self.by_client.remove(&allocation.client);
        if let Some(keys) = self.by_account.get_mut(account(&allocation.user)) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_account.remove(account(&allocation.user));
            }
        }
        self.last = None;
        self.quota.give_back(account(&allocation.user), allocation.client.remote.ip());
        for id in self.streams.of(key) {
            self.streams.remove(id);
            self.outputs.push_back(Output::CloseConnection(id));
        }
        for relay in &allocation.relays {
            self.close_relay(relay.id, allocation.protocol, relay.family, relay.address.port());
            self.outputs.push_back(Output::CloseRelay(relay.id));
        }
        for opening in allocation.pending.iter().flat_map(|pending| &pending.opening) {
            // its socket may be there by now
            self.close_relay(opening.id, allocation.protocol, opening.family, opening.port);
            self.outputs.push_back(Output::CloseRelay(opening.id));
        }
    }

    fn close_relay(&mut self, id: RelayId, protocol: RelayProtocol, family: Family, port: u16) {
        self.ports[protocol as usize][family as usize].give_back(port);
        if let Some(place @ Some(_)) = self.relays.get_mut(id.0 as usize) {
            *place = None;
            self.free_relays.push(id);
        }
    }

    fn drop_oldest_reservation(&mut self) {
        if let Some(reservation) = self.reservations.pop_front() {
            self.ports[RelayProtocol::Udp as usize][reservation.family as usize].give_back(reservation.port);
        }
    }

    fn reserve(&mut self, family: Family, port: u16, expires_at: Instant) -> [u8; 8] {
        if self.reservations.len() >= RESERVATIONS {
            self.drop_oldest_reservation();
        }
        let token = self.rng.random();
        self.reservations.push_back(Reservation { token, family, port, expires_at });
        token
    }

    fn reply_success(&mut self, answer: &Answer, write: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new(answer.method, Class::Success, &answer.transaction);
        write(&mut writer);
        self.reply(answer, writer);
    }

    fn reply_error(&mut self, answer: &Answer, code: u16) {
        self.reply_error_with(answer, code, |_| {});
    }

    fn reply_error_with(&mut self, answer: &Answer, code: u16, write: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new(answer.method, Class::Error, &answer.transaction);
        writer.error_code(code, reason(code));
        write(&mut writer);
        self.reply(answer, writer);
    }

    fn reply(&mut self, answer: &Answer, writer: Writer) {
        let bytes = match &answer.seal {
            Some((integrity, key)) => writer.signed(*integrity, key.as_bytes()),
            None => writer.unsigned(),
        };
        self.outputs.push_back(Output::Send { client: answer.client, bytes });
    }

    fn deny(&mut self, client: Client, user: &[u8], peer: SocketAddr, method: u16, reason: Denied) {
        self.counters.denied(reason);
        let user = String::from_utf8_lossy(user).into_owned();
        self.outputs.push_back(Output::Denied(Denial { client, user, peer, method, reason }));
    }
}

/// Reason phrases (RFC 8489 section 18.4, RFC 8656 section 19, RFC 6062 section 6.3).
const fn reason(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthenticated",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        438 => "Stale Nonce",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport Protocol",
        443 => "Peer Address Family Mismatch",
        446 => "Connection Already Exists",
        447 => "Connection Timeout or Failure",
        486 => "Allocation Quota Reached",
        508 => "Insufficient Capacity",
        _ => "Server Error",
    }
}
