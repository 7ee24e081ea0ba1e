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
/// What happened to datagrams in the kernel. Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
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

    /// Where a message begins; [`HEADROOM`] bytes in front of it are free.
    pub(crate) const fn place(slot: usize) -> usize {
        slot * SLOT_BYTES + HEADROOM
    }

    /// All messages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.arena
    }

    /// See [`Self::bytes`].
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.arena
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
    /// `tells_local`: of each message it is told to which address it was sent, if the socket has several.
    pub(crate) fn bind(address: SocketAddr, buffer_bytes: usize, tells_local: bool) -> io::Result<Self> {
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
        tell_less(&socket, address.is_ipv4(), tells_local);
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
    pub(crate) fn receive(&self, inbox: &mut Inbox, most: usize) -> io::Result<usize> {
        let mut slots = inbox.arena.chunks_exact_mut(SLOT_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let slot = slots.next().expect("the arena has BATCH slots");
            IoSliceMut::new(&mut slot[HEADROOM..HEADROOM + 65_536])
        });
        self.state.recv((&self.socket).into(), &mut slices[..most.min(BATCH)], &mut inbox.meta)
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

    /// Sends a train: `bytes` cut into datagrams of `segment`, the last one may be shorter. See [`Train`] for its bounds.
    ///
    /// [`Train`]: crate::train::Train
    pub(crate) fn send_train(&mut self, source: Option<IpAddr>, to: SocketAddr, segment: usize, bytes: &[u8], counters: &mut UdpCounters) {
        let segment = segment.max(1);
        if bytes.len() > segment && self.uses_segmentation {
            let src_ip = source.filter(|_| self.local.ip().is_unspecified());
            let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size: Some(segment), src_ip };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if is_refusal_of_segmentation(&error) => self.send_refused_train(source, to, segment, bytes, counters),
                sent => count(sent, bytes.len().div_ceil(segment) as u64, counters),
            }
            return;
        }
        for datagram in bytes.chunks(segment) {
            self.send(source, to, datagram, counters);
        }
    }

    /// Finds out whether the kernel refused a train because it can't cut it, or because its datagrams do not fit the path: these
    /// would be refused one by one as well, and whoever sends such must not take segmentation from everybody else.
    #[cold]
    fn send_refused_train(&mut self, source: Option<IpAddr>, to: SocketAddr, segment: usize, bytes: &[u8], counters: &mut UdpCounters) {
        let before = counters.sent;
        for datagram in bytes.chunks(segment) {
            self.send(source, to, datagram, counters);
        }
        // a last one that is shorter may fit where the others do not
        if counters.sent - before > 1 {
            tracing::debug!(local = %self.local, "the kernel refuses segmentation offload; sending datagram by datagram");
            self.uses_segmentation = false;
        }
    }
}

/// Takes back what `quinn-udp` asks the kernel to tell with each message and nobody reads here: time of arrival, type of service,
/// and the own address where there is but one. Time stamps alone cost every packet of the machine a look at the clock.
fn tell_less(socket: &mio::net::UdpSocket, is_ipv4: bool, tells_local: bool) {
    use nix::sys::socket::{setsockopt, sockopt};
    // best effort: without it everything works, only slower
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    if is_ipv4 {
        let _ = setsockopt(socket, sockopt::IpRecvTos, &false);
        let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &tells_local);
    } else {
        let _ = setsockopt(socket, sockopt::Ipv6RecvTClass, &false);
        let _ = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &tells_local);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_train_whose_datagrams_fit_no_path_takes_segmentation_from_nobody() {
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20, false).unwrap();
        let mut counters = UdpCounters::default();
        // two datagrams above what UDP over IPv4 takes, and one that would fit behind them
        socket.send_train(None, to, 65_520, &vec![0; 2 * 65_520 + 100], &mut counters);
        assert_eq!((counters.sent, counters.dropped_unreachable), (1, 2));
        socket.send_train(None, to, 1_000, &[0; 8_000], &mut counters);
        assert_eq!((counters.sends, counters.sent), (2, 9), "eight datagrams in one call");
    }
}
