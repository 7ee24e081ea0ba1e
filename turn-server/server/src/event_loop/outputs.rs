//! Does what the core wants done: sends, opens relayed addresses, connects to peers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Interest, Token};
use turn_proto::{ConnectionId, Family, Moment, Output, RelayId, RelayProtocol, Transport};

use super::datagrams::serves;
use super::{EventLoop, FIRST_RELAY};
use crate::sockets;
use crate::tcp::FromStream;
use crate::udp::UdpSocket;

/// Kernel buffers of a relayed address: one client's traffic.
const RELAY_BUFFER_BYTES: usize = 1024 * 1024;

/// A relayed address.
pub(super) enum Relay {
    Udp(UdpSocket),
    Tcp { listener: TcpListener, bound: SocketAddr },
}

impl EventLoop {
    /// Does everything that the core and the streams want done.
    pub(super) fn settle(&mut self, at: Moment) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.core.poll_output() {
                is_quiet = false;
                self.carry_out(output, at);
            }
            for event in self.streams.take_events() {
                is_quiet = false;
                match event {
                    FromStream::ClientClosed(client, connection) => {
                        if let Some(connection) = connection {
                            self.core.connection_closed(connection);
                        }
                        self.core.client_closed(client);
                    }
                    FromStream::PeerClosed(connection) => self.core.connection_closed(connection),
                    FromStream::Connected(connection, is_connected) => self.core.peer_connected(at.now, connection, is_connected),
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output, at: Moment) {
        match output {
            Output::Send { client, bytes } if client.transport == Transport::Udp => {
                if let Some(socket) = self.udp.iter().find(|socket| serves(socket.local(), client.local)) {
                    socket.send(Some(client.local.ip()), client.remote, &bytes, &mut self.udp_counters);
                }
            }
            Output::Send { client, bytes } => {
                if self.core.has_allocation(client) {
                    self.streams.trust(client);
                }
                self.streams.send(client, &bytes, self.poll.registry());
            }
            Output::OpenRelay { relay, protocol, family, port, dont_fragment: _ } => {
                let opened = self.open_relay(relay, protocol, family, port);
                if let Err(error) = &opened {
                    tracing::debug!(%error, port, "a relayed address can't be opened");
                }
                self.core.relay_opened(at, relay, opened.is_ok());
            }
            Output::CloseRelay(relay) => {
                if let Some(place) = self.relays.get_mut(relay.0 as usize) {
                    match place.take() {
                        Some(Relay::Udp(mut socket)) => drop(self.poll.registry().deregister(socket.source())),
                        Some(Relay::Tcp { mut listener, .. }) => drop(self.poll.registry().deregister(&mut listener)),
                        None => {}
                    }
                }
            }
            // every datagram leaves with the bit set: see `udp`
            Output::DontFragment(_) => {}
            Output::Connect { connection, relay, peer } => {
                let connected = self.connect(connection, relay, peer, at.now);
                if connected.is_none() {
                    self.core.peer_connected(at.now, connection, false);
                }
            }
            Output::Splice { client, connection } => self.streams.splice(client, connection),
            Output::CloseConnection(connection) => self.streams.close_connection(connection, self.poll.registry()),
            Output::CloseClient(client) => self.streams.close_client(client, self.poll.registry()),
            Output::Denied(denial) => self.audit.record(&denial, at.now),
        }
    }

    fn bind_address(&self, family: Family) -> io::Result<IpAddr> {
        let address = self.relay_addresses.iter().find(|address| Family::of(address.public.to_canonical()) == family);
        address.map(|address| address.bind).ok_or_else(|| ErrorKind::AddrNotAvailable.into())
    }

    fn open_relay(&mut self, id: RelayId, protocol: RelayProtocol, family: Family, port: u16) -> io::Result<()> {
        let address = SocketAddr::new(self.bind_address(family)?, port);
        let token = Token(FIRST_RELAY + id.0 as usize);
        let registry = self.poll.registry();
        let relay = match protocol {
            RelayProtocol::Udp => {
                let mut socket = UdpSocket::bind(address, RELAY_BUFFER_BYTES, false)?;
                registry.register(socket.source(), token, Interest::READABLE)?;
                Relay::Udp(socket)
            }
            RelayProtocol::Tcp => {
                let mut listener = sockets::listen_for_peers(address)?;
                registry.register(&mut listener, token, Interest::READABLE)?;
                Relay::Tcp { listener, bound: address }
            }
        };
        let index = id.0 as usize;
        if self.relays.len() <= index {
            self.relays.resize_with(index + 1, || None);
        }
        self.relays[index] = Some(relay);
        Ok(())
    }

    fn connect(&mut self, connection: ConnectionId, relay: RelayId, peer: SocketAddr, now: Instant) -> Option<Token> {
        let Some(Some(Relay::Tcp { bound, .. })) = self.relays.get(relay.0 as usize) else { return None };
        let stream = sockets::connect_from(*bound, peer).ok()?;
        self.streams.admit_peer(stream, connection, true, now, self.poll.registry())
    }
}
