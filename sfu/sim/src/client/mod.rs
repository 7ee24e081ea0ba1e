//! The client's side of a transport, as a browser would behave: the mirror of `sfu_core::transport::Transport`.
//!
//! In: the server's description, the paths to try, datagrams, the time. Out: datagrams in an [`Outbox`], [`ClientEvent`],
//! and the SRTP session for media. Sans-IO: the simulation and the load tools drive it. The protocol parts are other
//! implementations than the server's wherever there are any, so that a shared misunderstanding shows.
//! Not here: SDP, RTP.

mod data;
mod dtls;
mod ice;

use std::collections::VecDeque;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu_api::Delivery;
use sfu_core::net::{Flow, Outbox};
use sfu_core::transport::params::{Fingerprint, IceCredentials, LocalParams, RemoteParams};
use sfu_core::transport::srtp::{SrtpProfile, SrtpSession};

use self::data::ClientData;
pub use self::data::DataClientEvent;
pub use self::dtls::{DimplClient, DtlsClient, DtlsClientOutput};
use self::ice::IceClient;

/// What happened to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// A path answered for the first time.
    PathValid(Flow),
    /// DTLS is up and the server is who its description says.
    Connected {
        /// What protects the media.
        profile: SrtpProfile,
    },
    /// A data channel, opened by either side, can be used.
    DataChannelOpen {
        /// Which.
        delivery: Delivery,
    },
    /// The server sent a message.
    Data {
        /// Which way.
        delivery: Delivery,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// The server closed DTLS.
    Closed,
    /// The server refused a check with this STUN error code.
    CheckRefused(u16),
    /// It can't work; for people.
    Failed(String),
}

/// What a datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// STUN or DTLS, dealt with.
    Control,
    /// RTP or RTCP, for the caller to open.
    Media,
}

/// A client's end of one peer connection: ICE controlling, DTLS client, data channels.
pub struct ClientTransport {
    rng: StdRng,
    ice: IceClient,
    dtls: Box<dyn DtlsClient>,
    is_dtls_started: bool,
    server_fingerprint: Option<Fingerprint>,
    srtp: Option<SrtpSession>,
    data: Option<ClientData>,
    wants_data: bool,
    opens_channels: bool,
    events: VecDeque<ClientEvent>,
}

impl ClientTransport {
    /// A client whose DTLS is `dimpl`. The randomness need not be good.
    pub fn new(now: Instant, rng: &mut impl Rng) -> Self {
        let seed = rng.next_u64();
        Self::with_dtls(Box::new(DimplClient::new(now, seed)), rng)
    }

    /// It answers no checks of the server from here on, as one that is no full agent.
    pub fn ignore_checks(&mut self) {
        self.ice.ignored.get_or_insert(0);
    }

    /// Checks that it has ignored.
    #[must_use]
    pub fn ignored_checks(&self) -> u64 {
        self.ice.ignored.unwrap_or(0)
    }

    /// A client with this DTLS.
    pub fn with_dtls(dtls: Box<dyn DtlsClient>, rng: &mut impl Rng) -> Self {
        let mut rng = StdRng::seed_from_u64(rng.next_u64());
        Self {
            ice: IceClient::new(&mut rng),
            rng,
            dtls,
            is_dtls_started: false,
            server_fingerprint: None,
            srtp: None,
            data: None,
            wants_data: false,
            opens_channels: false,
            events: VecDeque::new(),
        }
    }

    /// The description has `m=application`: SCTP is started when DTLS is up.
    #[must_use]
    pub fn with_data(mut self) -> Self {
        self.wants_data = true;
        self
    }

    /// Like [`Self::with_data`], and this side opens `_reliable` and `_lossy` (publisher role).
    #[must_use]
    pub fn opening_channels(mut self) -> Self {
        self.opens_channels = true;
        self.with_data()
    }

    /// What this client's description says.
    #[must_use]
    pub fn params(&self) -> RemoteParams {
        RemoteParams { ice: self.ice.local().clone(), fingerprint: self.dtls.fingerprint(), has_data: self.wants_data }
    }

    /// Takes the server's description. The paths to its candidates are the caller's to add.
    pub fn set_remote(&mut self, remote: &LocalParams) {
        self.set_remote_ice(remote.ice.clone());
        self.server_fingerprint = Some(remote.fingerprint);
    }

    /// Takes only the server's credentials.
    pub fn set_remote_ice(&mut self, ice: IceCredentials) {
        self.ice.set_remote(ice);
    }

    /// Makes new credentials for an ICE restart. Paths are checked anew once the server's answer is there.
    pub fn restart_ice(&mut self) {
        self.ice.restart(&mut self.rng);
    }

    /// Starts to check a path; `flow.local` is the client's address.
    pub fn add_path(&mut self, now: Instant, flow: Flow) {
        self.ice.add_path(now, flow);
    }

    /// The network of a path is gone.
    pub fn remove_path(&mut self, flow: Flow) {
        self.ice.remove_path(flow);
    }

    /// Prefers a path: its next checks nominate it. By default the first one that answers is nominated.
    pub fn nominate(&mut self, now: Instant, flow: Flow) {
        self.ice.nominate(now, flow);
    }

    /// The nominated path, once it has answered.
    #[must_use]
    pub fn selected(&self) -> Option<Flow> {
        self.ice.selected()
    }

    /// Opens and seals media, once DTLS is up.
    pub fn srtp(&mut self) -> Option<&mut SrtpSession> {
        self.srtp.as_mut()
    }

    /// Takes a datagram.
    pub fn handle(&mut self, now: Instant, flow: Flow, datagram: &[u8], out: &mut Outbox) -> Received {
        // RFC 7983 section 7
        match datagram.first() {
            Some(0..=3) => self.events.extend(self.ice.handle(now, flow, datagram, out)),
            Some(20..=63) => self.dtls.handle(now, datagram),
            _ => return Received::Media,
        }
        self.proceed(now, out);
        Received::Control
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.ice.handle_timeout(now, &mut self.rng, out);
        self.dtls.handle_timeout(now);
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
        self.proceed(now, out);
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let data = self.data.as_ref().and_then(ClientData::next_timeout);
        let dtls = if self.is_dtls_started { self.dtls.next_timeout() } else { None };
        [self.ice.next_timeout(), dtls, data].into_iter().flatten().min()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Sends a message. False if the channel is not open.
    pub fn send_data(&mut self, now: Instant, delivery: Delivery, payload: &[u8], out: &mut Outbox) -> bool {
        let is_sent = self.data.as_mut().is_some_and(|data| data.send(now, delivery, payload));
        self.proceed(now, out);
        is_sent
    }

    /// Opens a data channel with any label.
    pub fn open_channel(&mut self, now: Instant, label: &str, delivery: Delivery, out: &mut Outbox) -> bool {
        let is_open = self.data.as_mut().is_some_and(|data| data.open(now, label, delivery));
        self.proceed(now, out);
        is_open
    }

    /// Sends an SCTP packet as it is but for its ports, verification tag and checksum, which are made right: what a
    /// malicious client could do.
    pub fn send_raw_data(&mut self, now: Instant, chunks: &[u8], out: &mut Outbox) {
        if let Some(packet) = self.data.as_ref().and_then(|data| data.forge(chunks)) {
            self.dtls.send(now, &packet);
        }
        self.proceed(now, out);
    }

    /// Sends close_notify.
    pub fn close(&mut self, now: Instant, out: &mut Outbox) {
        self.dtls.close(now);
        self.proceed(now, out);
    }

    fn proceed(&mut self, now: Instant, out: &mut Outbox) {
        if !self.is_dtls_started && self.ice.selected().is_some() {
            self.is_dtls_started = true;
            self.dtls.start(now);
        }
        self.drain_dtls(now, out);
        let Some(data) = &mut self.data else { return };
        let dtls = &mut self.dtls;
        data.drain_packets(now, |packet| dtls.send(now, packet));
        while let Some(event) = data.poll_event() {
            self.events.push_back(match event {
                DataClientEvent::Open(delivery) => ClientEvent::DataChannelOpen { delivery },
                DataClientEvent::Message(delivery, payload) => ClientEvent::Data { delivery, payload },
                DataClientEvent::Lost => ClientEvent::Failed("the SCTP association was lost".into()),
            });
        }
        self.drain_dtls(now, out);
    }

    fn drain_dtls(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(output) = self.dtls.poll() {
            match output {
                DtlsClientOutput::Datagram(datagram) => {
                    if let Some(flow) = self.ice.selected() {
                        out.push(flow, &datagram);
                    }
                }
                DtlsClientOutput::Connected { server, profile, keys } => {
                    if server.is_some() && server != self.server_fingerprint {
                        self.events.push_back(ClientEvent::Failed("the server's certificate is another one".into()));
                        continue;
                    }
                    self.srtp = Some(SrtpSession::client(profile, &keys));
                    self.events.push_back(ClientEvent::Connected { profile });
                    if self.wants_data {
                        self.data = ClientData::connect(now, self.opens_channels);
                    }
                }
                DtlsClientOutput::Data(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle(now, &packet);
                    }
                }
                DtlsClientOutput::Closed => self.events.push_back(ClientEvent::Closed),
                DtlsClientOutput::Failed(reason) => self.events.push_back(ClientEvent::Failed(reason)),
            }
        }
    }
}
