//! One peer connection of a participant: its transport, its path, and what is to be sent there.

use std::net::SocketAddr;
use std::time::Instant;

use sfu_api::Delivery;
use sfu_core::net::{Flow, Outbox, Protocol};

use super::reversed;
use crate::client::{ClientEvent, ClientTransport};
use crate::sdp;

/// One peer connection.
pub struct Side {
    /// ICE, DTLS, SRTP, data.
    pub transport: ClientTransport,
    /// Connected at least once.
    pub is_connected: bool,
    /// Everything that happened.
    pub events: Vec<ClientEvent>,
    pub(super) address: SocketAddr,
    path: Option<Flow>,
    remote_ufrag: Option<String>,
    pub(super) out: Outbox,
}

impl Side {
    pub(super) fn new(transport: ClientTransport, address: SocketAddr) -> Self {
        let (events, out) = (Vec::new(), Outbox::default());
        Self { transport, is_connected: false, events, address, path: None, remote_ufrag: None, out }
    }

    /// Address of the client on the path in use.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The path as the server sees it.
    #[must_use]
    pub fn server_flow(&self) -> Option<Flow> {
        self.path.map(reversed)
    }

    /// Credentials of the server, as last told.
    #[must_use]
    pub fn remote_ufrag(&self) -> Option<&str> {
        self.remote_ufrag.as_deref()
    }

    /// Takes the server's description; true if it has other ICE credentials than before.
    pub(super) fn set_remote(&mut self, now: Instant, description: &str) -> bool {
        let remote = sdp::local_params(description).expect("the server's description has a transport");
        let is_restart = self.remote_ufrag.as_ref().is_some_and(|known| *known != remote.ice.ufrag);
        self.remote_ufrag = Some(remote.ice.ufrag.clone());
        self.transport.set_remote(&remote);
        if self.path.is_none()
            && let Some(candidate) = remote.candidates.iter().find(|candidate| candidate.protocol == Protocol::Udp)
        {
            let flow = Flow { protocol: Protocol::Udp, local: self.address, remote: candidate.address };
            self.path = Some(flow);
            self.transport.add_path(now, flow);
        }
        is_restart
    }

    /// Goes on from another address, as after a change of network.
    pub(crate) fn move_to(&mut self, now: Instant, address: SocketAddr) {
        self.address = address;
        if let Some(old) = self.path {
            self.transport.remove_path(old);
            let flow = Flow { local: address, ..old };
            self.path = Some(flow);
            self.transport.add_path(now, flow);
        }
    }

    pub(super) fn poll(&mut self, now: Instant) {
        if self.transport.next_timeout().is_some_and(|at| at <= now) {
            self.transport.handle_timeout(now, &mut self.out);
        }
    }

    /// Moves the transport's events into the log; returns data messages.
    pub(super) fn collect(&mut self, messages: &mut Vec<(Delivery, Vec<u8>)>) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                ClientEvent::Data { delivery, payload } => messages.push((delivery, payload)),
                event => {
                    self.is_connected |= matches!(event, ClientEvent::Connected { .. });
                    self.events.push(event);
                }
            }
        }
    }
}
