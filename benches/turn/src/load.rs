//! Clients with allocations, their peer, and packets between them.
//!
//! One thread sends, evenly paced, and between that empties the sockets of the receivers, which nobody waits at: the server under
//! test does not pay for waking them, as it would not if they were on other machines. What arrives is counted and looked at.
//! The thread sleeps where it has nothing to do; see [`crate::machine`].

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{Transmit, UdpSocketState};
use turn_proto::client::User;
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{TransactionId, attribute, method};

use crate::server::{PASSWORD, USER};
use crate::{Direction, Way};

const CHANNEL: u16 = 0x4001;
/// Asked of the kernel for each receiver.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// How long what is on the way may take after the last packet was sent.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) way: Way,
    pub(crate) direction: Direction,
    /// Packets of one allocation in a row.
    pub(crate) burst: usize,
    /// Bursts at once, each of another allocation.
    pub(crate) bursts: usize,
    /// Packets a second, of all allocations.
    pub(crate) rate: u64,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) seconds: f64,
}

/// Allocations of one server, each with a channel to the same peer.
pub(crate) struct Load {
    server: SocketAddr,
    user: User,
    clients: Vec<Client>,
    peer: Socket,
    scratch: Box<[u8]>,
}

struct Client {
    socket: Socket,
    relayed: SocketAddr,
}

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Load {
    pub(crate) fn open(server: SocketAddr, allocations: usize, coalesce: bool) -> anyhow::Result<Self> {
        let peer = Socket::bind(coalesce)?;
        let mut user = User::new(USER, PASSWORD);
        let peer_address = peer.socket.local_addr()?;
        let clients = (0..allocations).map(|_| {
            // coturn remembers a 5-tuple for a while, and the system may give us its port again
            Client::open(server, &mut user, peer_address, coalesce).or_else(|_| Client::open(server, &mut user, peer_address, coalesce))
        });
        let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { server, user, clients, peer, scratch: vec![0; 65_536].into_boxed_slice() })
    }

    /// Sends at the rate for a while and waits for the last packet.
    pub(crate) fn run(&mut self, run: &Run) -> anyhow::Result<Done> {
        let payload = vec![0x5A; run.bytes];
        let channel = header(ChannelNumber::new(CHANNEL).context("a channel")?, u16::try_from(run.bytes)?);
        let as_channel_data = [&channel[..], &payload].concat();
        let (packet, expected) = match run.direction {
            Direction::Up => (as_channel_data, payload),
            Direction::Down => (payload, as_channel_data),
        };
        let train = packet.repeat(run.burst);
        // often enough that no receiver's buffer fills up
        let sweep_interval = Duration::from_micros(if self.clients.len() <= 10 { 500 } else { 10_000 });
        let clump = run.burst * run.bursts;
        let gap = Duration::from_secs_f64(clump as f64 / run.rate as f64);
        let (mut sent, mut received) = (0, 0);
        let began = Instant::now();
        let (mut next_send, mut next_sweep, mut index) = (began, began, 0);
        loop {
            let now = Instant::now();
            if now >= began + run.time {
                break;
            }
            if now >= next_send {
                for _ in 0..run.bursts {
                    self.send(index, run, &packet, &train)?;
                    index = (index + 1) % self.clients.len();
                }
                sent += clump as u64;
                // a machine that was away does not catch up with a flood
                next_send = (next_send + gap).max(now.checked_sub(gap * 4).unwrap_or(now));
            } else if now >= next_sweep {
                received += self.sweep(run.direction, &expected)?;
                next_sweep = now + sweep_interval;
            } else {
                std::thread::sleep(next_send.min(next_sweep).saturating_duration_since(now));
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let deadline = Instant::now() + PATIENCE;
        while received < sent && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
            received += self.sweep(run.direction, &expected)?;
        }
        ensure!(received <= sent, "{received} packets of {sent} arrived");
        Ok(Done { sent, received, seconds })
    }

    /// Sends a burst of one allocation.
    fn send(&self, index: usize, run: &Run, packet: &[u8], train: &[u8]) -> anyhow::Result<()> {
        let client = &self.clients[index];
        let (from, destination) = match run.direction {
            Direction::Up => (&client.socket, self.server),
            Direction::Down => (&self.peer, client.relayed),
        };
        if run.way == Way::Train {
            let transmit = Transmit { destination, ecn: None, contents: train, segment_size: Some(packet.len()), src_ip: None };
            return from.state.try_send((&from.socket).into(), &transmit).context("a train was not sent");
        }
        for _ in 0..run.burst {
            from.socket.send_to(packet, destination).context("a packet was not sent")?;
        }
        Ok(())
    }

    /// Takes what has arrived.
    fn sweep(&mut self, direction: Direction, expected: &[u8]) -> anyhow::Result<u64> {
        let Self { clients, peer, scratch, .. } = self;
        match direction {
            Direction::Up => peer.drain(expected, scratch),
            Direction::Down => clients.iter().map(|client| client.socket.drain(expected, scratch)).sum(),
        }
    }

    /// Gives all allocations back. What is lost of this expires.
    pub(crate) fn close(mut self) {
        for client in &self.clients {
            let _ = ask(self.server, &client.socket.socket, &mut self.user, method::REFRESH, |writer| {
                writer.attribute(attribute::LIFETIME, &[0; 4]);
            });
        }
    }
}

impl Client {
    fn open(server: SocketAddr, user: &mut User, peer: SocketAddr, coalesce: bool) -> anyhow::Result<Self> {
        let socket = Socket::bind(coalesce)?;
        let answer = ask(server, &socket.socket, user, method::ALLOCATE, |writer| {
            writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        })?;
        let relayed = *Message::parse(&answer).context("no message")?.attributes.relayed.first().context("no relayed address")?;
        ask(server, &socket.socket, user, method::CHANNEL_BIND, |writer| {
            writer.attribute(attribute::CHANNEL_NUMBER, &[(CHANNEL >> 8) as u8, CHANNEL as u8, 0, 0]);
            writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
        })?;
        Ok(Self { socket, relayed })
    }
}

impl Socket {
    fn bind(coalesce: bool) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let state = UdpSocketState::new((&socket).into())?;
        setsockopt(&socket, sockopt::UdpGroSegment, &coalesce)?;
        // once any socket asks for them the kernel stamps all packets, the servers' too
        setsockopt(&socket, sockopt::ReceiveTimestampns, &false)?;
        // beyond what everybody may ask for, if that is allowed
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self { socket, state })
    }

    fn drain(&self, expected: &[u8], scratch: &mut [u8]) -> anyhow::Result<u64> {
        let mut packets = 0;
        loop {
            match self.socket.recv(scratch) {
                Ok(len) => {
                    // several that came in one train stand behind each other
                    ensure!(
                        scratch[..len].chunks(expected.len()).all(|packet| packet == expected),
                        "a packet arrived that was not sent so"
                    );
                    packets += (len / expected.len()) as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(packets),
                // an ICMP error of an earlier datagram
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A request and its answer; asked again, as it is, if there is none.
fn ask(server: SocketAddr, socket: &UdpSocket, user: &mut User, method: u16, write: impl Fn(&mut Writer)) -> anyhow::Result<Vec<u8>> {
    for _ in 0..4 {
        let request = user.request(method, &write);
        let answer = (0..5).find_map(|_| {
            socket.send_to(&request, server).ok()?;
            answer(socket, &Message::parse(&request)?.transaction)
        });
        let answer = answer.with_context(|| format!("no answer to method {method}"))?;
        let message = Message::parse(&answer).context("no message")?;
        if user.learn(&message) {
            continue;
        }
        ensure!(message.class == Class::Success, "error {:?} for method {method}", message.attributes.error_code);
        return Ok(answer);
    }
    bail!("challenged again and again")
}

fn answer(socket: &UdpSocket, transaction: &TransactionId) -> Option<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        match socket.recv(&mut buffer) {
            Ok(length) if Message::parse(&buffer[..length]).is_some_and(|message| message.transaction == *transaction) => {
                return Some(buffer[..length].to_vec());
            }
            Ok(_) => {}
            Err(_) => std::thread::park_timeout(Duration::from_micros(50)),
        }
    }
    None
}
