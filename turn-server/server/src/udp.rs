//! UDP in batches: `recvmmsg` with UDP_GRO in, UDP_SEGMENT out.
//!
//! In: up to [`BATCH`] messages a call, each one datagram or several of equal size from one source, with room in front of it for a
//! header. Out: single datagrams, or trains of equal ones. Nothing here allocates after [`Inbox::new`]. A full socket buffer drops,
//! as UDP would, and counts.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Messages that one receive call takes.
pub(crate) const BATCH: usize = quinn_udp::BATCH_SIZE;
/// Room in front of each message: more than the header of a Data indication.
pub(crate) const HEADROOM: usize = 64;
/// Largest message, coalesced or not, and its padding.
const SLOT_BYTES: usize = HEADROOM + 65_536 + 4;
/// Largest UDP payload over IPv4.
const MAX_TRAIN_BYTES: usize = 65_507;
/// Segments that every kernel since 4.18 takes in one send.
const MAX_TRAIN_SEGMENTS: usize = 64;

/// What happened to datagrams in the kernel. Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// System calls that received something.
    pub receives: u64,
    /// System calls that sent something.
    pub sends: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams dropped because the socket buffer was full.
    pub dropped_full: u64,
    /// Datagrams that the kernel could not send: no route, or larger than the path takes.
    pub dropped_unreachable: u64,
}

/// Room for one batch of received messages.
pub(crate) struct Inbox {
    arena: Box<[u8]>,
    meta: [RecvMeta; BATCH],
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// Address of ours that it was sent to.
    pub(crate) local: SocketAddr,
    /// Bytes of each datagram in it; the last may be shorter.
    pub(crate) stride: usize,
    pub(crate) len: usize,
}

impl Inbox {
    /// About 2 MiB, of which only the pages that messages touch become resident.
    pub(crate) fn new() -> Self {
        Self { arena: vec![0; SLOT_BYTES * BATCH].into_boxed_slice(), meta: [RecvMeta::default(); BATCH] }
    }

    /// A message with the room in front of it.
    pub(crate) fn slot(&mut self, index: usize) -> &mut [u8] {
        &mut self.arena[index * SLOT_BYTES..(index + 1) * SLOT_BYTES]
    }
}

/// One bound, non-blocking UDP socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    uses_segmentation: bool,
}

impl UdpSocket {
    /// Binds (port 0: any). An IPv6 socket takes no IPv4 traffic, so both families can have the same port.
    pub(crate) fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Best effort: the kernel cuts the size to its limit without an error.
        let _ = socket.set_recv_buffer_size(buffer_bytes);
        let _ = socket.set_send_buffer_size(buffer_bytes);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = mio::net::UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let uses_segmentation = state.max_gso_segments() > 1;
        Ok(Self { socket, state, local, uses_segmentation })
    }

    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) const fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Takes up to `most` waiting messages. Fewer than that means that the socket is empty.
    pub(crate) fn receive(&self, inbox: &mut Inbox, most: usize, counters: &mut UdpCounters) -> io::Result<usize> {
        let mut slots = inbox.arena.chunks_exact_mut(SLOT_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let slot = slots.next().expect("the arena has BATCH slots");
            IoSliceMut::new(&mut slot[HEADROOM..HEADROOM + 65_536])
        });
        let received = self.state.recv((&self.socket).into(), &mut slices[..most.min(BATCH)], &mut inbox.meta)?;
        counters.receives += 1;
        Ok(received)
    }

    /// What the last [`Self::receive`] has put into this slot.
    pub(crate) fn received(&self, inbox: &Inbox, index: usize) -> Received {
        let meta = &inbox.meta[index];
        let mut local = self.local;
        if let Some(ip) = meta.dst_ip.filter(|_| local.ip().is_unspecified()) {
            local.set_ip(ip);
        }
        let len = meta.len.min(65_536);
        Received { from: without_flow_label(meta.addr), local, stride: meta.stride.max(1), len }
    }

    /// Sends one datagram, from `source` if the socket has several addresses.
    pub(crate) fn send(&self, source: Option<IpAddr>, to: SocketAddr, bytes: &[u8], counters: &mut UdpCounters) {
        let src_ip = source.filter(|_| self.local.ip().is_unspecified());
        let sent = if src_ip.is_none() {
            self.socket.send_to(bytes, to).map(|_| ())
        } else {
            let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip };
            self.state.try_send((&self.socket).into(), &transmit)
        };
        count(sent, 1, counters);
    }

    /// Sends a train: `bytes` cut into datagrams of `segment`, the last one may be shorter.
    pub(crate) fn send_train(&mut self, source: Option<IpAddr>, to: SocketAddr, segment: usize, bytes: &[u8], counters: &mut UdpCounters) {
        if segment == 0 || bytes.len() <= segment || !self.uses_segmentation {
            for datagram in bytes.chunks(segment.max(1)) {
                self.send(source, to, datagram, counters);
            }
            return;
        }
        let src_ip = source.filter(|_| self.local.ip().is_unspecified());
        let run_len = segment * (MAX_TRAIN_BYTES / segment).clamp(1, MAX_TRAIN_SEGMENTS);
        for run in bytes.chunks(run_len) {
            let transmit = Transmit { destination: to, ecn: None, contents: run, segment_size: Some(segment), src_ip };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if is_refusal_of_segmentation(&error) => {
                    self.uses_segmentation = false;
                    tracing::debug!(local = %self.local, "the kernel refuses segmentation offload; sending datagram by datagram");
                    for datagram in run.chunks(segment) {
                        self.send(source, to, datagram, counters);
                    }
                }
                sent => count(sent, run.len().div_ceil(segment) as u64, counters),
            }
        }
    }
}

fn count(sent: io::Result<()>, datagrams: u64, counters: &mut UdpCounters) {
    match sent {
        Ok(()) => {
            counters.sends += 1;
            counters.sent += datagrams;
        }
        Err(error) if is_full(&error) => counters.dropped_full += datagrams,
        Err(_) => counters.dropped_unreachable += datagrams,
    }
}

fn is_full(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM))
}

/// EIO: the driver can't; EINVAL: a kernel that knows no UDP_SEGMENT. A path that takes no such size says EMSGSIZE.
fn is_refusal_of_segmentation(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE))
}

/// An address is compared as a whole, so the label that a sender is free to vary is taken out.
const fn without_flow_label(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
    }
}
