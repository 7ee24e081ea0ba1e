//! Batched UDP: `recvmmsg` with UDP_GRO and kernel timestamps in, trains with UDP_SEGMENT out.
//!
//! In: up to [`BATCH`] messages a call, each one datagram or several of equal size from one source. Out: one `sendmsg` or `sendto`
//! per train; beside segmentation a `sendmmsg` saves next to nothing. Nothing here allocates after [`ReceiveBuffer::new`].
//! A full socket buffer drops, as UDP would, and counts. A train that the kernel refuses is sent datagram by datagram; when that
//! works, segmentation is off for this socket from then on. Not here: which socket a flow belongs to (`worker`).

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSocketState};
use sfu_core::net::{Flow, Protocol};
use socket2::{Domain, MsgHdr, SockRef, Socket, Type};

use super::control::Control;

/// Messages that one receive call takes; `quinn-udp` has room for as many.
pub(crate) const BATCH: usize = quinn_udp::BATCH_SIZE;

/// Largest UDP payload over IPv4 (65,535 less IP and UDP headers), so also the largest train.
const MAX_TRAIN_BYTES: usize = 65_507;
/// Segments that every kernel since 4.18 takes in one send (`UDP_MAX_SEGMENTS`, include/linux/udp.h; 128 since 6.9).
const MAX_TRAIN_SEGMENTS: usize = 64;
/// Asked of the kernel in each direction; what it grants is limited by `net.core.{r,w}mem_max`.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// What happened to datagrams on the way out and to those that were refused on the way in. Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Messages received; one holds several datagrams when the kernel coalesced them.
    pub received_messages: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Their payload bytes.
    pub received_bytes: u64,
    /// Messages that were empty or came from where no answer can go (port 0).
    pub refused_messages: u64,
    /// System calls that sent something.
    pub sends: u64,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Their payload bytes.
    pub sent_bytes: u64,
    /// Datagrams dropped because the socket buffer was full.
    pub dropped_full: u64,
    /// Datagrams that the kernel had no way to send (no route, larger than the interface's MTU, refused by a filter).
    pub dropped_unreachable: u64,
}

/// Room for one batch of received messages.
pub(crate) struct ReceiveBuffer {
    arena: Box<[u8]>,
    meta: [RecvMeta; BATCH],
    filled: usize,
}

/// One received message: datagrams of `stride` bytes each (the last may be shorter) from one source.
pub(crate) struct Message<'a> {
    /// Where it came from and to which of our addresses.
    pub(crate) flow: Flow,
    /// When the kernel got it, since the Unix epoch.
    pub(crate) received_at: Option<Duration>,
    /// Bytes of each datagram.
    pub(crate) stride: usize,
    /// The datagrams.
    pub(crate) bytes: &'a mut [u8],
}

/// One bound, non-blocking UDP socket.
pub(crate) struct UdpEndpoint {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    uses_segmentation: bool,
    buffers: SocketBuffers,
}

/// Socket buffer sizes as granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBuffers {
    /// `SO_RCVBUF` in bytes as the kernel accounts them (twice what it lets a caller ask for).
    pub receive_bytes: usize,
    /// `SO_SNDBUF`, likewise.
    pub send_bytes: usize,
}

impl UdpEndpoint {
    /// Binds to `address` (port 0: any). An IPv6 socket never takes IPv4 traffic, so both families can have the same port.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Best effort: the kernel cuts the size to its limit without an error.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let buffers = SocketBuffers { receive_bytes: socket.recv_buffer_size()?, send_bytes: socket.send_buffer_size()? };
        let socket = mio::net::UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let uses_segmentation = state.max_gso_segments() > 1;
        Ok(Self { socket, state, local, uses_segmentation, buffers })
    }

    /// The bound address with the port that the kernel chose.
    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// What the kernel granted.
    pub(crate) const fn buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// For registration with a `mio::Poll`.
    pub(crate) const fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// True if packets of a flow with this local address came through this socket.
    pub(crate) fn serves(&self, local: SocketAddr) -> bool {
        local.port() == self.local.port()
            && local.is_ipv4() == self.local.is_ipv4()
            && (self.local.ip().is_unspecified() || self.local.ip() == local.ip())
    }

    /// Takes waiting messages into the buffer, replacing what it held. Less than [`BATCH`] means that the socket is empty.
    pub(crate) fn receive(&self, buffer: &mut ReceiveBuffer) -> io::Result<usize> {
        buffer.filled = 0;
        let mut slots = buffer.arena.chunks_exact_mut(MESSAGE_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("the arena has BATCH slots")));
        buffer.filled = self.state.recv((&self.socket).into(), &mut slices, &mut buffer.meta)?;
        Ok(buffer.filled)
    }

    /// Messages of the last [`Self::receive`] into this buffer.
    pub(crate) fn messages<'a>(&self, buffer: &'a mut ReceiveBuffer) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let bound = self.local;
        let slots = buffer.arena.chunks_exact_mut(MESSAGE_BYTES);
        slots.zip(&buffer.meta[..buffer.filled]).map(move |(slot, meta)| {
            let mut local = bound;
            if let Some(ip) = meta.dst_ip.filter(|_| bound.ip().is_unspecified()) {
                local.set_ip(ip);
            }
            Message {
                flow: Flow { protocol: Protocol::Udp, local, remote: without_flow_label(meta.addr) },
                received_at: meta.timestamp,
                stride: meta.stride.max(1),
                bytes: &mut slot[..meta.len.min(MESSAGE_BYTES)],
            }
        })
    }

    /// Sends a train: `bytes` cut into datagrams of `segment_len`, the last one may be shorter.
    pub(crate) fn send(&mut self, flow: &Flow, segment_len: usize, bytes: &[u8], counters: &mut UdpCounters) {
        if segment_len == 0 || bytes.is_empty() {
            return;
        }
        let run_len = segment_len * (MAX_TRAIN_BYTES / segment_len).clamp(1, MAX_TRAIN_SEGMENTS);
        for run in bytes.chunks(run_len) {
            self.send_run(flow, segment_len, run, counters);
        }
    }

    /// Sends what fits one system call.
    fn send_run(&mut self, flow: &Flow, segment_len: usize, run: &[u8], counters: &mut UdpCounters) {
        if run.len() <= segment_len || !self.uses_segmentation {
            for datagram in run.chunks(segment_len) {
                self.send_once(flow, None, datagram, counters);
            }
        } else if self.send_once(flow, Some(segment_len), run, counters) == Sent::Refused {
            self.send_refused_run(flow, segment_len, run, counters);
        }
    }

    /// Finds out whether the kernel refused a train for its segmentation (a driver without it, a tunnel) or for its destination.
    #[cold]
    fn send_refused_run(&mut self, flow: &Flow, segment_len: usize, run: &[u8], counters: &mut UdpCounters) {
        let mut is_any_sent = false;
        for datagram in run.chunks(segment_len) {
            let sent = self.send_once(flow, None, datagram, counters);
            // A tail that is shorter says nothing: the segments may be above the path's MTU, which a publisher can bring about.
            is_any_sent |= datagram.len() == segment_len && sent == Sent::Yes;
        }
        if is_any_sent {
            tracing::warn!(local = %self.local, "the kernel refuses segmentation offload; sending datagram by datagram");
            self.uses_segmentation = false;
        }
    }

    fn send_once(&self, flow: &Flow, segment_len: Option<usize>, bytes: &[u8], counters: &mut UdpCounters) -> Sent {
        let from = self.local.ip().is_unspecified().then(|| flow.local.ip());
        let datagrams = segment_len.map_or(1, |len| bytes.len().div_ceil(len)) as u64;
        let segment = segment_len.and_then(|len| u16::try_from(len).ok());
        let result = if segment.is_none() && from.is_none() {
            self.socket.send_to(bytes, flow.remote)
        } else {
            let (to, buffers, control) = (flow.remote.into(), [IoSlice::new(bytes)], Control::new(segment, from));
            let message = MsgHdr::new().with_addr(&to).with_buffers(&buffers).with_control(control.bytes());
            SockRef::from(&self.socket).sendmsg(&message, 0)
        };
        let sent = match result {
            Ok(_) => Sent::Yes,
            Err(error) => Sent::from_error(&error, segment_len.is_some()),
        };
        match sent {
            Sent::Yes => {
                counters.sends += 1;
                counters.sent_datagrams += datagrams;
                counters.sent_bytes += bytes.len() as u64;
            }
            Sent::Full => counters.dropped_full += datagrams,
            Sent::Unreachable => counters.dropped_unreachable += datagrams,
            Sent::Refused => {}
        }
        sent
    }
}

impl ReceiveBuffer {
    /// About 2 MiB, of which only the pages that messages touch become resident.
    pub(crate) fn new() -> Self {
        Self { arena: vec![0; MESSAGE_BYTES * BATCH].into_boxed_slice(), meta: [RecvMeta::default(); BATCH], filled: 0 }
    }
}

/// Outcome of one send call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Yes,
    Full,
    Unreachable,
    /// A train was refused in a way that can mean "no segmentation here".
    Refused,
}

impl Sent {
    fn from_error(error: &io::Error, is_train: bool) -> Self {
        use nix::errno::Errno;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => Self::Full,
            // EIO: the driver can't; EINVAL and EMSGSIZE: a segment above the path's MTU, or a kernel that knows no UDP_SEGMENT.
            Some(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE) if is_train => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// A flow is compared as a whole, so the label that a sender is free to vary is taken out.
const fn without_flow_label(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
    }
}

/// Largest message, coalesced or not.
const MESSAGE_BYTES: usize = 65_536;

/// True for an address that an answer can be sent to. Port 0 is legal to receive from and illegal to send to, and multicast or
/// broadcast destinations are no address of ours to answer from.
pub(crate) fn is_answerable(flow: &Flow) -> bool {
    let is_unicast = match flow.local.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast(),
    };
    flow.remote.port() != 0 && is_unicast
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::SystemTime;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:0";

    #[test]
    fn a_train_arrives_as_the_datagrams_it_was_cut_into() {
        let mut sender = endpoint(LOOPBACK);
        let receiver = plain_socket("127.0.0.1:0");
        let bytes = pattern(9 * 1_000 + 300);
        let counters = send(&mut sender, receiver.local_addr().unwrap(), 1_000, &bytes);
        assert_eq!(received_by(&receiver, 10), cut(&bytes, 1_000));
        assert_eq!((counters.sends, counters.sent_datagrams, counters.sent_bytes), (1, 10, 9_300));
    }

    #[test]
    fn coalesced_datagrams_are_split_where_they_were_joined() {
        let mut sender = endpoint(LOOPBACK);
        let receiver = endpoint(LOOPBACK);
        let bytes = pattern(9 * 1_000 + 300);
        send(&mut sender, receiver.local(), 1_000, &bytes);
        let (messages, datagrams) = drain(&receiver, 10);
        assert_eq!(datagrams, cut(&bytes, 1_000));
        assert_eq!(messages, 1, "loopback hands a train over in one piece");
    }

    #[test]
    fn a_train_beyond_the_kernels_limits_is_split() {
        for (segment_len, segments) in [(10, 150), (1_400, 60), (1, 64), (1, 65), (1_200, 1)] {
            let mut sender = endpoint(LOOPBACK);
            let receiver = endpoint(LOOPBACK);
            let bytes = pattern(segment_len * segments);
            let counters = send(&mut sender, receiver.local(), segment_len, &bytes);
            let (_, datagrams) = drain(&receiver, segments);
            assert_eq!(datagrams, cut(&bytes, segment_len), "{segments} of {segment_len}");
            assert!(sender.uses_segmentation);
            assert_eq!(counters.dropped_full + counters.dropped_unreachable, 0);
        }
    }

    #[test]
    fn segments_above_the_mtu_do_not_end_segmentation_though_a_shorter_tail_goes_out() {
        let mut sender = endpoint(LOOPBACK);
        let receiver = plain_socket(LOOPBACK);
        let flow = flow(&sender, receiver.local_addr().unwrap());
        let mut counters = UdpCounters::default();
        // Longer than any UDP datagram can be.
        sender.send_refused_run(&flow, 65_520, &pattern(65_520 + 100), &mut counters);
        assert_eq!((counters.sent_datagrams, counters.dropped_unreachable), (1, 1));
        assert!(sender.uses_segmentation);
    }

    #[test]
    fn a_train_that_the_kernel_refuses_goes_datagram_by_datagram_from_then_on() {
        let mut sender = endpoint(LOOPBACK);
        let receiver = endpoint(LOOPBACK);
        // More segments than any kernel takes: what a driver without the offload answers too (EINVAL).
        let bytes = pattern(10 * 200);
        let mut counters = UdpCounters::default();
        sender.send_run(&flow(&sender, receiver.local()), 10, &bytes, &mut counters);
        let (_, datagrams) = drain(&receiver, 200);
        assert_eq!(datagrams, cut(&bytes, 10));
        assert!(!sender.uses_segmentation);

        let counters = send(&mut sender, receiver.local(), 10, &bytes);
        assert_eq!((counters.sends, counters.sent_datagrams), (200, 200));
    }

    #[test]
    fn a_bad_destination_does_not_turn_segmentation_off() {
        let mut sender = endpoint(LOOPBACK);
        let counters = send(&mut sender, "127.0.0.1:0".parse().unwrap(), 10, &pattern(30));
        assert_eq!((counters.sent_datagrams, counters.dropped_unreachable), (0, 3));
        assert!(sender.uses_segmentation);
    }

    #[test]
    fn a_full_socket_buffer_is_told_from_a_refusal() {
        let of = |errno: nix::errno::Errno, is_train| Sent::from_error(&errno.into(), is_train);
        use nix::errno::Errno;
        assert_eq!(of(Errno::EAGAIN, true), Sent::Full);
        assert_eq!(of(Errno::ENOBUFS, false), Sent::Full);
        assert_eq!(of(Errno::EIO, true), Sent::Refused);
        assert_eq!(of(Errno::EINVAL, true), Sent::Refused);
        assert_eq!(of(Errno::EINVAL, false), Sent::Unreachable);
        assert_eq!(of(Errno::ENETUNREACH, true), Sent::Unreachable);
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let mut server = endpoint("0.0.0.0:0");
        let client = plain_socket("127.0.0.1:0");
        let asked: SocketAddr = (IpAddr::from([127, 0, 0, 2]), server.local().port()).into();
        client.send_to(b"hello", asked).unwrap();

        let mut buffer = ReceiveBuffer::new();
        wait_readable(&server);
        assert_eq!(server.receive(&mut buffer).unwrap(), 1);
        let flow = server.messages(&mut buffer).next().unwrap().flow;
        assert_eq!(flow, Flow { protocol: Protocol::Udp, local: asked, remote: client.local_addr().unwrap() });
        assert!(server.serves(flow.local));

        server.send(&flow, 5, b"hello", &mut UdpCounters::default());
        let mut answer = [0; 16];
        assert_eq!(client.recv_from(&mut answer).unwrap(), (5, asked));
    }

    #[test]
    fn a_train_leaves_from_the_address_that_was_asked() {
        let mut server = endpoint("0.0.0.0:0");
        let client = plain_socket("127.0.0.1:0");
        let asked: SocketAddr = (IpAddr::from([127, 0, 0, 2]), server.local().port()).into();
        let flow = Flow { protocol: Protocol::Udp, local: asked, remote: client.local_addr().unwrap() };
        let (bytes, mut counters) = (pattern(2_500), UdpCounters::default());
        server.send(&flow, 1_000, &bytes, &mut counters);
        assert_eq!((counters.sends, counters.sent_datagrams), (1, 3));
        let mut buffer = [0; 2_000];
        for datagram in cut(&bytes, 1_000) {
            let (len, source) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], source), (&datagram[..], asked));
        }
    }

    #[test]
    fn ipv6_works_beside_ipv4_on_the_same_port() {
        let v4 = endpoint("0.0.0.0:0");
        let Ok(mut v6) = UdpEndpoint::bind(format!("[::]:{}", v4.local().port()).parse().unwrap()) else {
            return; // no IPv6 on this machine
        };
        let client = plain_socket("[::1]:0");
        client.send_to(b"six", ("::1", v6.local().port())).unwrap();
        let mut buffer = ReceiveBuffer::new();
        wait_readable(&v6);
        v6.receive(&mut buffer).unwrap();
        let flow = v6.messages(&mut buffer).next().unwrap().flow;
        assert!(v6.serves(flow.local) && !v4.serves(flow.local));
        v6.send(&flow, 3, b"six", &mut UdpCounters::default());
        assert_eq!(received_by(&client, 1), [b"six".to_vec()]);
    }

    #[test]
    fn messages_carry_the_kernels_receive_time() {
        let before = since_epoch();
        let receiver = endpoint(LOOPBACK);
        plain_socket("127.0.0.1:0").send_to(b"x", receiver.local()).unwrap();
        let mut buffer = ReceiveBuffer::new();
        wait_readable(&receiver);
        receiver.receive(&mut buffer).unwrap();
        let received_at = receiver.messages(&mut buffer).next().unwrap().received_at.unwrap();
        assert!((before..=since_epoch()).contains(&received_at));
    }

    #[test]
    fn an_empty_socket_would_block() {
        let error = endpoint(LOOPBACK).receive(&mut ReceiveBuffer::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn unanswerable_sources_are_told() {
        let flow =
            |local: &str, remote: &str| Flow { protocol: Protocol::Udp, local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        assert!(is_answerable(&flow("10.0.0.1:7882", "192.0.2.1:5000")));
        assert!(!is_answerable(&flow("10.0.0.1:7882", "192.0.2.1:0")));
        assert!(!is_answerable(&flow("255.255.255.255:7882", "192.0.2.1:5000")));
        assert!(!is_answerable(&flow("[ff02::1]:7882", "[2001:db8::1]:5000")));
    }

    #[test]
    fn receiving_and_sending_do_not_allocate() {
        let mut sender = endpoint(LOOPBACK);
        let receiver = endpoint(LOOPBACK);
        let mut buffer = ReceiveBuffer::new();
        let bytes = pattern(8 * 1_200);
        let mut counters = UdpCounters::default();
        let flow = flow(&sender, receiver.local());
        let allocations = allocation_counter::measure(|| {
            for _ in 0..20 {
                sender.send(&flow, 1_200, &bytes, &mut counters);
                sender.send(&flow, 1_200, &bytes[..1_200], &mut counters);
            }
            let mut datagrams = 0;
            while datagrams < 180 {
                wait_readable(&receiver);
                receiver.receive(&mut buffer).unwrap();
                datagrams += receiver.messages(&mut buffer).map(|m| m.bytes.len().div_ceil(m.stride)).sum::<usize>();
            }
        });
        assert_eq!(allocations.count_total, 0);
    }

    fn endpoint(address: &str) -> UdpEndpoint {
        UdpEndpoint::bind(address.parse().unwrap()).unwrap()
    }

    fn plain_socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn flow(from: &UdpEndpoint, to: SocketAddr) -> Flow {
        Flow { protocol: Protocol::Udp, local: from.local(), remote: to }
    }

    fn send(from: &mut UdpEndpoint, to: SocketAddr, segment_len: usize, bytes: &[u8]) -> UdpCounters {
        let mut counters = UdpCounters::default();
        from.send(&flow(from, to), segment_len, bytes, &mut counters);
        counters
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn cut(bytes: &[u8], len: usize) -> Vec<Vec<u8>> {
        bytes.chunks(len).map(<[u8]>::to_vec).collect()
    }

    fn received_by(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2_000];
        (0..count).map(|_| socket.recv(&mut buffer).map(|len| buffer[..len].to_vec()).unwrap()).collect()
    }

    fn drain(endpoint: &UdpEndpoint, count: usize) -> (usize, Vec<Vec<u8>>) {
        let mut buffer = ReceiveBuffer::new();
        let (mut messages, mut datagrams) = (0, Vec::new());
        while datagrams.len() < count {
            wait_readable(endpoint);
            messages += endpoint.receive(&mut buffer).unwrap();
            for message in endpoint.messages(&mut buffer) {
                datagrams.extend(message.bytes.chunks(message.stride).map(<[u8]>::to_vec));
            }
        }
        (messages, datagrams)
    }

    fn wait_readable(endpoint: &UdpEndpoint) {
        let mut fds = [PollFd::new(endpoint.socket.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5_000u16)).unwrap(), 1, "nothing arrived");
    }

    fn since_epoch() -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
    }
}
