//! All sockets of one shard: finds the one that a packet has to leave by, and keeps track of what is ready.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::{Interest, Registry, Token};
use sfu_core::net::{Flow, Outbox, Protocol};

use super::tcp::TcpConnections;
use super::udp::{ReceiveBuffer, SocketBuffers, UdpCounters, UdpEndpoint, is_answerable};

/// Trains between two looks at the clock: a look costs a fiftieth of a system call.
const TOLD_EVERY: usize = 16;

/// UDP endpoints and TCP connections of a shard.
pub(crate) struct Sockets {
    endpoints: Vec<Endpoint>,
    first_token: usize,
    buffer: ReceiveBuffer,
    pub(crate) tcp: TcpConnections,
    pub(crate) udp_counters: UdpCounters,
}

struct Endpoint {
    socket: UdpEndpoint,
    /// Readiness is told once, until the socket was found empty.
    is_readable: bool,
    /// The last look found something.
    has_given: bool,
}

impl Sockets {
    /// Uses tokens from `first_token`, one per endpoint.
    pub(crate) fn new(endpoints: Vec<UdpEndpoint>, first_token: usize) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(|socket| Endpoint { socket, is_readable: true, has_given: false }).collect(),
            first_token,
            buffer: ReceiveBuffer::new(),
            tcp: TcpConnections::new(),
            udp_counters: UdpCounters::default(),
        }
    }

    /// Starts to watch the endpoints.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (endpoint, token) in self.endpoints.iter_mut().zip(self.first_token..) {
            registry.register(endpoint.socket.source(), Token(token), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Notes what is ready. False: the event is for somebody else.
    pub(crate) fn handle_event(&mut self, event: &Event, registry: &Registry) -> bool {
        if TcpConnections::owns(event.token()) {
            self.tcp.handle_event(event, registry);
            return true;
        }
        let index = event.token().0.checked_sub(self.first_token);
        let Some(endpoint) = index.and_then(|i| self.endpoints.get_mut(i)) else { return false };
        endpoint.is_readable = true;
        true
    }

    /// True if [`Self::receive`] has something to do.
    pub(crate) fn is_readable(&self) -> bool {
        self.tcp.is_readable() || self.endpoints.iter().any(|e| e.is_readable)
    }

    /// The next [`Self::receive`] looks again where the last one found something, whether or not readiness was told.
    pub(crate) fn look_again(&mut self) {
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.is_readable |= endpoint.has_given);
    }

    /// Reads one batch from everything that is ready and visits each datagram with the kernel's receive time, if it has one.
    pub(crate) fn receive(&mut self, registry: &Registry, mut visit: impl FnMut(Flow, Option<Duration>, &mut [u8])) {
        for endpoint in self.endpoints.iter_mut().filter(|e| e.is_readable) {
            endpoint.is_readable = endpoint.socket.fill(&mut self.buffer);
            endpoint.has_given = false;
            for message in endpoint.socket.messages(&mut self.buffer) {
                self.udp_counters.received_messages += 1;
                endpoint.has_given = true;
                if message.bytes.is_empty() || !is_answerable(&message.flow) {
                    self.udp_counters.refused_messages += 1;
                    continue;
                }
                self.udp_counters.received_bytes += message.bytes.len() as u64;
                for datagram in message.bytes.chunks_mut(message.stride) {
                    self.udp_counters.received_datagrams += 1;
                    visit(message.flow, message.received_at, datagram);
                }
            }
        }
        self.tcp.read(registry, |flow, packet| visit(flow, None, packet));
    }

    /// Sends everything; what can't be sent is dropped and counted. Tells now and then how many datagrams left since it told last.
    pub(crate) fn send(&mut self, outbox: &Outbox, registry: &Registry, mut sent: impl FnMut(u32)) {
        let mut datagrams = 0;
        for (place, train) in outbox.trains().iter().enumerate() {
            let (segment_len, bytes) = (usize::from(train.segment_len), outbox.bytes(train));
            datagrams += u32::try_from(bytes.len().div_ceil(segment_len.max(1))).unwrap_or(u32::MAX);
            match train.flow.protocol {
                Protocol::Tcp => self.tcp.send(&train.flow, segment_len, bytes, registry),
                Protocol::Udp => match self.endpoints.iter_mut().find(|e| e.socket.serves(train.flow.local)) {
                    Some(endpoint) => endpoint.socket.send(&train.flow, segment_len, bytes, &mut self.udp_counters),
                    None => self.udp_counters.dropped_unreachable += bytes.len().div_ceil(segment_len.max(1)) as u64,
                },
            }
            if (place + 1) % TOLD_EVERY == 0 {
                sent(std::mem::take(&mut datagrams));
            }
        }
        if datagrams > 0 {
            sent(datagrams);
        }
    }

    /// Where the endpoints are bound.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|e| e.socket.local()).collect()
    }

    /// Buffers of the first endpoint; the others asked for the same.
    pub(crate) fn buffers(&self) -> SocketBuffers {
        self.endpoints.first().map(|e| e.socket.buffers()).unwrap_or_default()
    }
}

impl UdpEndpoint {
    /// Receives into the buffer. True if there may be more.
    fn fill(&self, buffer: &mut ReceiveBuffer) -> bool {
        match self.receive(buffer) {
            Ok(count) => count == super::udp::BATCH,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                // An asynchronous error; the next packet to arrive makes the socket ready again. Trying on at once could spin.
                tracing::debug!(%error, "UDP receive");
                false
            }
        }
    }
}
