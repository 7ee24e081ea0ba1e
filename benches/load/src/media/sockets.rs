//! The clients' sockets: many transports on one, each with a loopback address of its own, so that one `recvmmsg` serves them all.
//!
//! Nobody waits on these sockets: the media thread looks once a millisecond, and kernel timestamps say when a datagram came. So a
//! server never pays for waking this program up, as it would not in the world, and batches are large. UDP_GRO takes a server's trains
//! as they are. Towards a server that is not on this machine's loopback every transport has a socket of its own.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, SockFilter, Socket, Type};

use super::addresses;

/// Transports on one socket: few enough that a burst to all of them fits its buffer.
const SHARED_BY: usize = 64;
/// Asked of the kernel, beyond its limit if it may be (root).
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// Largest message, coalesced or not.
const MESSAGE_BYTES: usize = 65_536;

/// All sockets.
pub(super) struct Sockets {
    /// Address that clients send from; `None`: each has its own on loopback.
    client_ip: Option<Ipv4Addr>,
    groups: Vec<Group>,
    arena: Box<[u8]>,
    meta: Box<[RecvMeta; BATCH_SIZE]>,
    transports: usize,
}

struct Group {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
    members: usize,
    /// Media ends in its filter.
    is_sink: bool,
    /// The only member, if it is not shared.
    owner: Option<usize>,
}

/// Datagrams of `stride` bytes each (the last may be shorter) from one source to one transport.
pub(super) struct Message<'a> {
    pub(super) transport: usize,
    pub(super) remote: SocketAddr,
    /// Since 1970, by the kernel.
    pub(super) arrived_at_ns: Option<u64>,
    pub(super) stride: usize,
    pub(super) bytes: &'a mut [u8],
}

impl Sockets {
    pub(super) fn new(client_ip: Option<Ipv4Addr>) -> Self {
        let arena = vec![0; MESSAGE_BYTES * BATCH_SIZE].into_boxed_slice();
        Self { client_ip, groups: Vec::new(), arena, meta: Box::new([RecvMeta::default(); BATCH_SIZE]), transports: 0 }
    }

    /// A place for one more transport: its socket and its address.
    pub(super) fn add(&mut self, is_sink: bool) -> io::Result<(usize, SocketAddr)> {
        let transport = self.transports;
        let (ip, owner) = match self.client_ip {
            Some(ip) => (ip, Some(transport)),
            None => (addresses::of_transport(transport), None),
        };
        let is_free = |group: &Group| group.owner.is_none() && group.is_sink == is_sink && group.members < SHARED_BY;
        let place = match self.groups.iter().position(is_free).filter(|_| owner.is_none()) {
            Some(place) => place,
            None => {
                self.groups.push(Group::bind(self.client_ip.unwrap_or(Ipv4Addr::UNSPECIFIED), is_sink, owner)?);
                self.groups.len() - 1
            }
        };
        self.transports += 1;
        let group = &mut self.groups[place];
        group.members += 1;
        Ok((place, SocketAddr::new(ip.into(), group.port)))
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Takes a batch of one socket. False: there may be more.
    pub(super) fn receive(&mut self, group: usize, mut take: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let Group { socket, state, owner, .. } = &self.groups[group];
        let mut slots = self.arena.chunks_exact_mut(MESSAGE_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("the arena has a slot for each message")));
        let received = match state.recv(socket.into(), &mut slices, &mut self.meta[..]) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            // What an ICMP said of an earlier datagram.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(error),
        };
        for (slot, meta) in self.arena.chunks_exact_mut(MESSAGE_BYTES).zip(&self.meta[..received]) {
            let transport = match (owner, meta.dst_ip) {
                (Some(owner), _) => Some(*owner),
                (None, Some(IpAddr::V4(ip))) => addresses::transport_at(ip),
                _ => None,
            };
            let Some(transport) = transport else { continue };
            let arrived_at_ns = meta.timestamp.and_then(|since_1970| u64::try_from(since_1970.as_nanos()).ok());
            let bytes = &mut slot[..meta.len.min(MESSAGE_BYTES)];
            take(Message { transport, remote: meta.addr, arrived_at_ns, stride: meta.stride.max(1), bytes });
        }
        Ok(received < BATCH_SIZE)
    }

    /// Sends one datagram. False if the kernel did not take it.
    pub(super) fn send(&self, group: usize, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) -> bool {
        let Group { socket, state, owner, .. } = &self.groups[group];
        let src_ip = owner.is_none().then(|| local.ip());
        let transmit = Transmit { destination: remote, ecn: None, contents: datagram, segment_size: None, src_ip };
        state.try_send(socket.into(), &transmit).is_ok()
    }
}

impl Group {
    fn bind(ip: Ipv4Addr, is_sink: bool, owner: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::UDP))?;
        // Best effort: without the right to it the kernel's limit holds.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        }
        let _ = socket.set_send_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        if is_sink {
            socket.attach_filter(&drop_media())?;
        }
        socket.bind(&SocketAddr::new(ip.into(), 0).into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, state, port, members: 0, is_sink, owner })
    }
}

/// A filter that lets STUN, DTLS and RTCP through and drops RTP (RFC 7983, RFC 5761). It sees the UDP header, too.
fn drop_media() -> [SockFilter; 7] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const UDP_HEADER: u32 = 8;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, UDP_HEADER),
        SockFilter::new(JUMP_IF_AT_LEAST, 0, 3, 128),
        SockFilter::new(LOAD_BYTE, 0, 0, UDP_HEADER + 1),
        SockFilter::new(JUMP_IF_AT_LEAST, 0, 2, 192),
        SockFilter::new(JUMP_IF_AT_LEAST, 1, 0, 224),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn receive_all(sockets: &mut Sockets, expected: usize) -> Vec<(usize, Vec<u8>)> {
        let mut found = Vec::new();
        // Loopback has delivered before send_to() returns.
        for group in 0..sockets.groups() {
            while !sockets.receive(group, |message| found.push((message.transport, message.bytes.to_vec()))).unwrap() {}
        }
        assert_eq!(found.len(), expected, "{found:?}");
        found
    }

    #[test]
    fn a_datagram_finds_its_transport_by_the_address_it_was_sent_to() {
        let mut sockets = Sockets::new(None);
        let addresses: Vec<SocketAddr> = (0..SHARED_BY + 2).map(|_| sockets.add(false).unwrap().1).collect();
        assert_eq!(sockets.groups(), 2);
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        for index in [0, 1, SHARED_BY, SHARED_BY + 1] {
            server.send_to(&[u8::try_from(index).unwrap()], addresses[index]).unwrap();
        }
        for (transport, bytes) in receive_all(&mut sockets, 4) {
            assert_eq!([u8::try_from(transport).unwrap()], *bytes);
        }
    }

    #[test]
    fn a_transport_sends_from_its_own_address() {
        let mut sockets = Sockets::new(None);
        sockets.add(false).unwrap();
        let (group, local) = sockets.add(false).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(sockets.send(group, local, server.local_addr().unwrap(), b"hello"));
        let mut buffer = [0; 16];
        assert_eq!(server.recv_from(&mut buffer).unwrap(), (5, local));
    }

    #[test]
    fn with_an_address_given_every_transport_has_its_own_socket() {
        let mut sockets = Sockets::new(Some(Ipv4Addr::LOCALHOST));
        let (first, second) = (sockets.add(false).unwrap(), sockets.add(false).unwrap());
        assert_ne!(first.1.port(), second.1.port());
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.send_to(b"x", second.1).unwrap();
        assert_eq!(receive_all(&mut sockets, 1)[0].0, 1);
    }

    #[test]
    fn a_sink_gets_all_but_media() {
        let mut sockets = Sockets::new(None);
        let address = sockets.add(true).unwrap().1;
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams: [[u8; 2]; 7] = [[0, 1], [22, 254], [0x80, 96], [0x90, 0xe0], [0x80, 200], [0x8f, 206], [0x90, 191]];
        for datagram in datagrams {
            server.send_to(&datagram, address).unwrap();
        }
        let found: Vec<Vec<u8>> = receive_all(&mut sockets, 4).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(found, [[0, 1], [22, 254], [0x80, 200], [0x8f, 206]]);
    }
}
