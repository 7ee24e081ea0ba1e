//! Connections: those of clients, and in TCP relays those of peers.

use std::io::ErrorKind;
use std::sync::Arc;

use mio::Token;
use mio::net::TcpListener;
use rustls::{ServerConfig, ServerConnection};
use turn_proto::{Forward, Moment, RelayId};

use super::outputs::Relay;
use super::{EventLoop, FIRST_TCP};

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// A listener and what its connections are.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl EventLoop {
    /// Connections of clients.
    pub(super) fn accept(&mut self, index: usize, at: Moment) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.doors.get(index) else { return };
            match door.listener.accept() {
                Ok((stream, _)) => {
                    let tls = match &door.tls {
                        None => None,
                        Some(config) => match ServerConnection::new(Arc::clone(config)) {
                            Ok(tls) => Some(Box::new(tls)),
                            Err(_) => continue,
                        },
                    };
                    self.streams.admit(stream, tls, Vec::new(), at.now, self.poll.registry());
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // out of descriptors: the next connection, or the next second, tries again
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    return;
                }
            }
        }
        self.again.push_back(Token(FIRST_TCP + index));
    }

    pub(super) fn accept_peers(&mut self, id: RelayId, at: Moment) {
        while let Some(Some(Relay::Tcp { listener, .. })) = self.relays.get(id.0 as usize) {
            match listener.accept() {
                Ok((stream, source)) => {
                    if let Some(connection) = self.core.peer_accepted(at.now, id, source)
                        && self.streams.admit_peer(stream, connection, false, at.now, self.poll.registry()).is_none()
                    {
                        self.core.connection_closed(connection);
                    }
                    self.settle(at);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// Media does not wait for a crowd that knocks: of streams in their handshake so many are served in one turn.
    pub(super) fn serve_or_put_off(&mut self, handshakes: &mut usize, token: Token, readable: bool, writable: bool, at: Moment) {
        if self.streams.is_handshaking(token) {
            if *handshakes == 0 {
                return self.streams.put_off(token, readable);
            }
            *handshakes -= 1;
        }
        self.serve_stream(token, readable, writable, at);
    }

    fn serve_stream(&mut self, token: Token, readable: bool, writable: bool, at: Moment) {
        let Self { poll, core, relays, streams, udp_counters, .. } = self;
        streams.ready(token, readable, writable, poll.registry(), |client, message| {
            if let Forward::ToPeer { relay, peer, payload } = core.handle_client(at, client, message)
                && let Some(Some(Relay::Udp(socket))) = relays.get(relay.0 as usize)
            {
                socket.send(None, peer, &message[payload], udp_counters);
            }
        });
        self.settle(at);
    }
}
