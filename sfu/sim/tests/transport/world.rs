//! Two transports and the network between them.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sfu_api::Delivery;
use sfu_core::error::Discard;
use sfu_core::net::{Flow, Outbox, Protocol};
use sfu_core::transport::params::LocalParams;
use sfu_core::transport::srtp::SrtpProfile;
use sfu_core::transport::{Certificate, Transport, TransportEvent};
use sfu_sim::client::{ClientEvent, ClientTransport, Received};

/// What the network does to every datagram.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    pub(crate) loss: f64,
    pub(crate) min_delay: Duration,
    pub(crate) max_delay: Duration,
}

impl Network {
    pub(crate) const GOOD: Self = Self { loss: 0.0, min_delay: Duration::from_millis(10), max_delay: Duration::from_millis(10) };

    pub(crate) fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::GOOD }
    }

    pub(crate) fn reordering(loss: f64) -> Self {
        Self { loss, min_delay: Duration::from_millis(5), max_delay: Duration::from_millis(45) }
    }
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) rng: StdRng,
    pub(crate) server: Transport,
    pub(crate) client: ClientTransport,
    pub(crate) server_events: Vec<TransportEvent>,
    pub(crate) client_events: Vec<ClientEvent>,
    pub(crate) discards: Vec<Discard>,
    /// Datagrams that reached each side, server first.
    pub(crate) delivered: [usize; 2],
    certificate: Certificate,
    in_flight: Vec<Packet>,
    out: Outbox,
}

struct Packet {
    at: Instant,
    to_server: bool,
    /// As the receiver sees it.
    flow: Flow,
    bytes: Vec<u8>,
}

impl World {
    pub(crate) fn new(seed: u64, network: Network) -> Self {
        Self::with_client(seed, network, ClientTransport::new)
    }

    pub(crate) fn with_client(seed: u64, network: Network, client: impl FnOnce(Instant, &mut StdRng) -> ClientTransport) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let certificate = Certificate::generate().unwrap();
        let server = Transport::new(now, &certificate, "s0", &mut rng);
        let client = client(now, &mut rng);
        Self {
            start: now,
            now,
            network,
            rng,
            server,
            client,
            server_events: Vec::new(),
            client_events: Vec::new(),
            discards: Vec::new(),
            delivered: [0, 0],
            certificate,
            in_flight: Vec::new(),
            out: Outbox::default(),
        }
    }

    /// Both descriptions arrive, and the client starts on path 1.
    pub(crate) fn signal(mut self) -> Self {
        self.tell_client();
        self.tell_server();
        self.client.add_path(self.now, path(1));
        self
    }

    /// Descriptions, path 1, and time until both sides are connected.
    pub(crate) fn connected(self) -> Self {
        let mut world = self.signal();
        world.run_until(Duration::from_secs(25), |w| w.client_is_connected() && w.server_is_connected());
        assert!(world.client_is_connected() && world.server_is_connected(), "{:?} {:?}", world.client_events, world.server_events);
        world
    }

    pub(crate) fn tell_client(&mut self) {
        self.client.set_remote(&LocalParams {
            ice: self.server.local_ice().clone(),
            fingerprint: self.certificate.fingerprint(),
            candidates: Vec::new(),
        });
    }

    pub(crate) fn tell_server(&mut self) {
        self.server.set_remote(self.now, &self.client.params()).unwrap();
    }

    pub(crate) fn server_is_connected(&self) -> bool {
        self.server_events.iter().any(|event| matches!(event, TransportEvent::Connected { .. }))
    }

    pub(crate) fn client_is_connected(&self) -> bool {
        self.client_events.iter().any(|event| matches!(event, ClientEvent::Connected { .. }))
    }

    pub(crate) fn profile(&self) -> Option<SrtpProfile> {
        self.server.srtp_profile()
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until something is true, at most for a time.
    pub(crate) fn run_until(&mut self, time: Duration, is_done: impl Fn(&Self) -> bool) {
        let end = self.now + time;
        for _ in 0..1_000_000 {
            self.collect();
            if is_done(self) {
                return;
            }
            let next = self.in_flight.iter().map(|packet| packet.at).min();
            let next = [next, self.server.next_timeout(), self.client.next_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.deliver();
            self.act(|w, out| w.client.handle_timeout(w.now, out));
            self.act_as_server(|w, out| w.server.handle_timeout(w.now, out));
        }
        panic!("time stands still");
    }

    /// Lets the client do something.
    pub(crate) fn act<T>(&mut self, action: impl FnOnce(&mut Self, &mut Outbox) -> T) -> T {
        self.step(true, action)
    }

    /// Lets the server do something.
    pub(crate) fn act_as_server<T>(&mut self, action: impl FnOnce(&mut Self, &mut Outbox) -> T) -> T {
        self.step(false, action)
    }

    pub(crate) fn client_sends(&mut self, delivery: Delivery, payload: &[u8]) {
        assert!(self.act(|w, out| w.client.send_data(w.now, delivery, payload, out)));
    }

    pub(crate) fn server_sends(&mut self, delivery: Delivery, payload: &[u8]) {
        self.act_as_server(|w, out| w.server.send_data(w.now, delivery, payload, out)).unwrap();
    }

    /// A datagram from anywhere reaches the server now.
    pub(crate) fn inject(&mut self, flow: Flow, bytes: &[u8]) -> Result<(), Discard> {
        self.act_as_server(|w, out| match bytes.first() {
            Some(0..=3) => w.server.handle_stun(w.now, flow, bytes, out).map(drop),
            _ => w.server.handle_dtls(w.now, flow, bytes, out),
        })
    }

    /// Messages that the server received.
    pub(crate) fn server_data(&self) -> Vec<(Delivery, &[u8])> {
        let data = |event| match event {
            &TransportEvent::Data { delivery, ref payload } => Some((delivery, &payload[..])),
            _ => None,
        };
        self.server_events.iter().filter_map(data).collect()
    }

    /// Messages that the client received.
    pub(crate) fn client_data(&self) -> Vec<(Delivery, &[u8])> {
        let data = |event| match event {
            &ClientEvent::Data { delivery, ref payload } => Some((delivery, &payload[..])),
            _ => None,
        };
        self.client_events.iter().filter_map(data).collect()
    }

    fn step<T>(&mut self, to_server: bool, action: impl FnOnce(&mut Self, &mut Outbox) -> T) -> T {
        let mut out = std::mem::take(&mut self.out);
        let result = action(self, &mut out);
        for (flow, bytes) in out.datagrams() {
            if !self.rng.random_bool(self.network.loss) {
                let delay = self.rng.random_range(self.network.min_delay..=self.network.max_delay);
                let flow = Flow { protocol: flow.protocol, local: flow.remote, remote: flow.local };
                self.in_flight.push(Packet { at: self.now + delay, to_server, flow, bytes: bytes.to_vec() });
            }
        }
        out.clear();
        self.out = out;
        self.collect();
        result
    }

    fn deliver(&mut self) {
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.in_flight).into_iter().partition(|p| p.at <= self.now);
        self.in_flight = later;
        due.sort_by_key(|packet| packet.at);
        for packet in due {
            self.delivered[usize::from(!packet.to_server)] += 1;
            if packet.to_server {
                if let Err(reason) = self.inject(packet.flow, &packet.bytes) {
                    self.discards.push(reason);
                }
            } else {
                let received = self.act(|w, out| w.client.handle(w.now, packet.flow, &packet.bytes, out));
                assert_eq!(received, Received::Control);
            }
        }
    }

    fn collect(&mut self) {
        self.server_events.extend(std::iter::from_fn(|| self.server.poll_event()));
        self.client_events.extend(std::iter::from_fn(|| self.client.poll_event()));
    }
}

/// Path number `n`, as the client sees it.
pub(crate) fn path(n: u8) -> Flow {
    Flow { protocol: Protocol::Udp, local: ([10, 0, 0, n], 5000).into(), remote: ([192, 0, 2, 1], 7882).into() }
}

/// The same path as the server sees it.
pub(crate) fn server_path(n: u8) -> Flow {
    let flow = path(n);
    Flow { protocol: flow.protocol, local: flow.remote, remote: flow.local }
}
