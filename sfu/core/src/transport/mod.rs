//! Transports: ICE-lite, DTLS, SRTP and SCTP of one peer connection, wired together.
//!
//! In: STUN and DTLS datagrams with the [`Flow`] that they came by, the client's description, the time. Out: datagrams
//! in an [`Outbox`], [`TransportEvent`], and the [`SrtpSession`] that opens and seals media. Invariants: DTLS is taken
//! only from paths that ICE has validated; nothing is sent to any other address; media keys and application data
//! exist for the caller only after the client's certificate matched the fingerprint in its description.
//!
//! ```text
//!  Connecting ──ICE and DTLS up, fingerprint right──▶ Connected ◀──new nomination──▶ (Disconnected: no consent)
//!      │                                                  │
//!      └── timeout, handshake error, wrong fingerprint ──▶ Failed ◀── reliable data overflows
//! ```
//! This side is always ICE-lite and the DTLS server. Not here: which transport a datagram belongs to, SDP, RTP.

mod dtls;
#[doc(hidden)]
pub mod fuzzing;
mod ice;
pub mod params;
mod probe;
mod sctp;
pub mod srtp;
mod stun;

use std::collections::VecDeque;
use std::time::Instant;

use arrayvec::ArrayVec;
use aws_lc_rs::constant_time;
use rand::Rng;
use sfu_api::{Delivery, FailReason};

use self::dtls::{DimplServer, Dtls, DtlsError, DtlsOutput, DtlsPeer};
use self::ice::IceAgent;
use self::params::{IceCredentials, RemoteParams};
use self::probe::Probes;
use self::sctp::{DataChannels, DataEvent};
use self::srtp::{SrtpProfile, SrtpSession};
use crate::error::Discard;
use crate::limits::{CONNECT_TIMEOUT, MAX_EARLY_DATA};
use crate::net::{Flow, Outbox};

pub use self::dtls::{Certificate, CertificateError, DtlsVersion};
pub use self::ice::StunOutcome;
pub use self::sctp::DataError;
pub use self::stun::{TransactionId, answered_transaction, username_ufrag};

/// What happened to a transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransportEvent {
    /// ICE and DTLS are up: [`Transport::srtp`] and [`Transport::selected`] have something. Once.
    Connected {
        /// What protects the media.
        profile: SrtpProfile,
    },
    /// No consent any more, or the client closed DTLS. Only after the former can there be a [`Self::Recovered`].
    Disconnected,
    /// The client nominated a path again.
    Recovered,
    /// The path's consent ended; nothing is accepted from it any more.
    PathExpired(Flow),
    /// Of no use any more.
    Failed(FailReason),
    /// Messages can be sent this way from here on.
    DataChannelOpen {
        /// Which way.
        delivery: Delivery,
    },
    /// The client sent a message.
    Data {
        /// Which way.
        delivery: Delivery,
        /// Its bytes.
        payload: Vec<u8>,
    },
}

/// The client's description does not fit the transport that it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// RFC 8842 section 5.1: a new certificate needs a new DTLS association, which needs a new transport here.
    #[error("the certificate's fingerprint changed on a connected transport")]
    FingerprintChanged,
}

/// One side of a peer connection. What every sent packet needs comes first, in the order in which it lies in memory.
#[repr(C)]
pub struct Transport {
    state: State,
    srtp: Option<SrtpSession>,
    ice: IceAgent,
    probes: Probes,
    dtls: Box<dyn Dtls>,
    /// Waits for the client's description.
    peer: Option<DtlsPeer>,
    remote: Option<RemoteParams>,
    data: DataChannels,
    early_data: ArrayVec<Vec<u8>, MAX_EARLY_DATA>,
    /// SCTP has something to send that no datagram or timer will flush.
    flush_at: Option<Instant>,
    /// Where the handshake goes while no path is nominated.
    dtls_flow: Option<Flow>,
    /// The client has proved that it holds its keys.
    is_handshake_done: bool,
    /// When connecting takes too long.
    deadline: Option<Instant>,
    events: VecDeque<TransportEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Connecting,
    Connected,
    Disconnected,
    /// Failed or closed.
    Ended,
}

impl Transport {
    /// A transport that waits for the client. `rng` makes the ICE credentials and has to be cryptographic; the
    /// fragment starts with `ufrag_prefix`, by which the caller finds the transport again.
    pub fn new(now: Instant, certificate: &Certificate, ufrag_prefix: &str, rng: &mut impl Rng) -> Self {
        Self {
            state: State::Connecting,
            ice: IceAgent::new(ufrag_prefix, rng),
            probes: Probes::default(),
            dtls: Box::new(DimplServer::new(now, certificate)),
            peer: None,
            remote: None,
            srtp: None,
            data: DataChannels::new(),
            early_data: ArrayVec::new(),
            flush_at: None,
            dtls_flow: None,
            is_handshake_done: false,
            deadline: None,
            events: VecDeque::new(),
        }
    }

    /// Our credentials, as they go into our next description.
    #[must_use]
    pub fn local_ice(&self) -> &IceCredentials {
        self.ice.local()
    }

    /// Makes new credentials for our next description. The path in use and the old credentials keep working until the
    /// client nominates a path with the new ones.
    pub fn restart_ice(&mut self, rng: &mut impl Rng) {
        self.ice.restart(rng);
    }

    /// True if this description asks for an ICE restart: then call [`Self::restart_ice`] before answering it.
    #[must_use]
    pub fn is_restart(&self, remote: &RemoteParams) -> bool {
        self.ice.is_restart(&remote.ice.ufrag)
    }

    /// Takes the client's side from its description.
    ///
    /// # Errors
    /// [`RemoteError`], with nothing changed.
    pub fn set_remote(&mut self, now: Instant, remote: &RemoteParams) -> Result<(), RemoteError> {
        let known = self.remote.as_ref().map(|known| known.fingerprint);
        if self.srtp.is_some() && known.is_some_and(|known| known != remote.fingerprint) {
            return Err(RemoteError::FingerprintChanged);
        }
        self.ice.set_remote(&remote.ice.ufrag);
        self.remote = Some(remote.clone());
        self.start_deadline(now);
        self.verify_peer(now);
        self.settle();
        Ok(())
    }

    /// Opens `_reliable` and `_lossy` from this side (subscriber role) when SCTP comes up. To be called before it does.
    pub fn open_data_channels(&mut self) {
        self.data.open_when_ready();
    }

    /// The client will open its channels (single peer connection): reliable messages to it wait for that.
    pub fn expect_data_channels(&mut self) {
        self.data.expect_channels();
    }

    /// Takes a STUN datagram whose user name is ours and answers it.
    ///
    /// # Errors
    /// Why it was dropped, unanswered and without any change.
    pub fn handle_stun(&mut self, now: Instant, flow: Flow, datagram: &[u8], out: &mut Outbox) -> Result<StunOutcome, Discard> {
        if self.state == State::Ended {
            return Err(Discard::UnknownEntity);
        }
        let outcome = self.ice.handle(now, flow, datagram, out)?;
        if outcome.newly_valid {
            self.start_deadline(now);
        }
        self.settle();
        Ok(outcome)
    }

    /// DTLS datagrams may cost public-key cryptography, until the handshake is done.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.state != State::Ended && !self.is_handshake_done
    }

    /// Whether a DTLS datagram would be taken.
    ///
    /// # Errors
    /// Why it would be dropped.
    pub fn check_dtls(&self, flow: Flow, datagram: &[u8]) -> Result<(), Discard> {
        if !self.accepts_from(flow) {
            return Err(Discard::UnknownSource);
        }
        if dtls::is_well_formed(datagram) { Ok(()) } else { Err(Discard::DtlsMalformed) }
    }

    /// Takes a DTLS datagram.
    ///
    /// # Errors
    /// Why it was dropped. Its sender is not told.
    pub fn handle_dtls(&mut self, now: Instant, flow: Flow, datagram: &[u8], out: &mut Outbox) -> Result<(), Discard> {
        self.check_dtls(flow, datagram)?;
        self.dtls_flow = Some(flow);
        let result = self.dtls.handle(now, datagram);
        self.drain_dtls(now, out);
        self.fail_on_error(result);
        self.flush_data(now, out);
        self.settle();
        Ok(())
    }

    /// Asks the client to prove that it receives on a flow from which something authentic came. Returns what ties its answer to
    /// the request; `None` if it was asked a moment ago, or can't be.
    pub fn probe(&mut self, now: Instant, flow: Flow, rng: &mut impl Rng, out: &mut Outbox) -> Option<TransactionId> {
        let remote = self.remote.as_ref().filter(|_| self.state != State::Ended)?;
        self.probes.send(now, flow, (self.ice.local(), &remote.ice), rng, out)
    }

    /// Takes the answer to [`Self::probe`]: the flow is a valid path from here on, and media goes there.
    ///
    /// # Errors
    /// Why it was dropped without any change.
    pub fn handle_answer(&mut self, now: Instant, flow: Flow, datagram: &[u8]) -> Result<StunOutcome, Discard> {
        let remote = self.remote.as_ref().filter(|_| self.state != State::Ended).ok_or(Discard::UnknownEntity)?;
        let round_trip = self.probes.take(now, flow, datagram, &remote.ice)?;
        let outcome = self.ice.prove(now, flow);
        self.settle();
        Ok(StunOutcome { round_trip: Some(round_trip), ..outcome })
    }

    /// The connection under a path (ICE-TCP) has ended. Media goes on by the path on which the client was heard last, if there
    /// is one; otherwise the transport is [`TransportEvent::Disconnected`] until the client nominates a path again. False: the
    /// path was none of this transport's.
    pub fn close_path(&mut self, flow: Flow) -> bool {
        let is_closed = self.state != State::Ended && self.ice.close(flow);
        self.settle();
        is_closed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.state == State::Ended {
            return;
        }
        while let Some(flow) = self.ice.expire(now) {
            self.events.push_back(TransportEvent::PathExpired(flow));
        }
        let result = self.dtls.handle_timeout(now);
        self.drain_dtls(now, out);
        self.fail_on_error(result);
        self.data.handle_timeout(now);
        self.flush_data(now, out);
        if self.deadline.is_some_and(|at| at <= now) {
            self.fail(if self.ice.selected().is_none() { FailReason::IceNoPath } else { FailReason::DtlsHandshake });
        }
        self.settle();
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let parts = [self.ice.next_timeout(), self.dtls.next_timeout(), self.data.next_timeout()];
        parts.into_iter().chain([self.deadline, self.flush_at]).flatten().min()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// Anything but STUN is to be dropped unless it comes from such a flow.
    #[must_use]
    pub fn accepts_from(&self, flow: Flow) -> bool {
        self.state != State::Ended && self.ice.accepts_from(flow)
    }

    /// The client was heard on this path within the last seconds.
    #[must_use]
    pub fn is_heard_on(&self, flow: Flow, now: Instant) -> bool {
        self.state != State::Ended && self.ice.is_heard_on(flow, now)
    }

    /// Where media goes.
    #[must_use]
    pub fn selected(&self) -> Option<Flow> {
        if self.state == State::Ended { None } else { self.ice.selected() }
    }

    /// Opens and seals media, once the client is who its description says.
    pub fn srtp(&mut self) -> Option<&mut SrtpSession> {
        self.srtp.as_mut()
    }

    /// What protects the media, once it does.
    #[must_use]
    pub fn srtp_profile(&self) -> Option<SrtpProfile> {
        self.srtp.as_ref().map(SrtpSession::profile)
    }

    /// Which DTLS was agreed on, once the handshake has got so far.
    #[must_use]
    pub fn dtls_version(&self) -> Option<DtlsVersion> {
        self.dtls.version()
    }

    /// Sends a data message.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn send_data(&mut self, now: Instant, delivery: Delivery, payload: &[u8], out: &mut Outbox) -> Result<(), DataError> {
        let result = self.data.send(now, delivery, payload);
        self.flush_data(now, out);
        self.settle();
        result
    }

    /// Ends the transport; tells the client if it can hear it.
    pub fn close(&mut self, now: Instant, out: &mut Outbox) {
        if self.state != State::Ended {
            self.dtls.close(now);
            self.drain_dtls(now, out);
            self.state = State::Ended;
            self.srtp = None;
        }
    }

    fn start_deadline(&mut self, now: Instant) {
        if self.state == State::Connecting && self.deadline.is_none() {
            self.deadline = Some(now + CONNECT_TIMEOUT);
        }
    }

    fn drain_dtls(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(output) = self.dtls.poll() {
            match output {
                DtlsOutput::Datagram(datagram) => {
                    if let Some(flow) = self.dtls_target() {
                        out.push(flow, &datagram);
                    }
                }
                DtlsOutput::Connected(peer) => {
                    self.is_handshake_done = true;
                    self.peer = Some(peer);
                    self.verify_peer(now);
                }
                DtlsOutput::Data(packet) => self.take_data(now, packet),
                DtlsOutput::Closed => self.disconnect_for_good(),
            }
        }
    }

    /// Path for what DTLS sends: the nominated one, else the one by which the client last spoke DTLS.
    fn dtls_target(&self) -> Option<Flow> {
        self.ice.selected().or(self.dtls_flow.filter(|&flow| self.ice.accepts_from(flow)))
    }

    /// Compares the certificate with the description as soon as both are there.
    fn verify_peer(&mut self, now: Instant) {
        let Some(remote) = &self.remote else { return };
        let Some(peer) = self.peer.take() else { return };
        if constant_time::verify_slices_are_equal(&peer.fingerprint.0, &remote.fingerprint.0).is_err() {
            return self.fail(FailReason::DtlsFingerprint);
        }
        let Some((profile, keys)) = peer.srtp else {
            return self.fail(FailReason::DtlsSrtpProfile);
        };
        self.srtp = Some(SrtpSession::server(profile, &keys));
        for packet in std::mem::take(&mut self.early_data) {
            self.take_data(now, packet);
            self.flush_at = Some(now);
        }
    }

    /// SCTP that is not from a verified client waits for its description, a little of it.
    fn take_data(&mut self, now: Instant, packet: Vec<u8>) {
        if self.srtp.is_some() {
            // A packet that SCTP refuses is lost like any other.
            let _ = self.data.handle(now, &packet);
        } else if self.remote.is_none() {
            let _ = self.early_data.try_push(packet);
        }
    }

    /// Encrypts what SCTP wants to send and reports what it received.
    fn flush_data(&mut self, now: Instant, out: &mut Outbox) {
        self.flush_at = None;
        if self.srtp.is_some() && self.state != State::Ended {
            let dtls = &mut self.dtls;
            let mut result = Ok(());
            self.data.drain_packets(now, |packet| {
                if result.is_ok() {
                    result = dtls.send(now, packet);
                }
            });
            self.drain_dtls(now, out);
            self.fail_on_error(result);
        }
        while let Some(event) = self.data.poll_event() {
            match event {
                DataEvent::Opened(delivery) => self.events.push_back(TransportEvent::DataChannelOpen { delivery }),
                DataEvent::Message(delivery, payload) => self.events.push_back(TransportEvent::Data { delivery, payload }),
                DataEvent::Failed => self.fail(FailReason::DataChannel),
            }
        }
    }

    fn fail_on_error(&mut self, result: Result<(), DtlsError>) {
        if let Err(error) = result {
            tracing::debug!(%error, "DTLS association ended");
            match error {
                DtlsError::SrtpProfile => self.fail(FailReason::DtlsSrtpProfile),
                DtlsError::Library(_) if self.srtp.is_some() => self.disconnect_for_good(),
                DtlsError::Library(_) => self.fail(FailReason::DtlsHandshake),
            }
        }
    }

    /// Derives the state from ICE and DTLS after anything that may have changed either.
    fn settle(&mut self) {
        let Some(profile) = self.srtp_profile() else { return };
        let next = match (self.state, self.ice.selected()) {
            (State::Connecting, Some(_)) => (State::Connected, TransportEvent::Connected { profile }),
            (State::Connected, None) => (State::Disconnected, TransportEvent::Disconnected),
            (State::Disconnected, Some(_)) => (State::Connected, TransportEvent::Recovered),
            _ => return,
        };
        self.deadline = None;
        self.state = next.0;
        self.events.push_back(next.1);
    }

    /// DTLS has ended, so this transport can't come back.
    fn disconnect_for_good(&mut self) {
        match self.state {
            State::Connecting => self.fail(FailReason::DtlsHandshake),
            State::Connected => {
                self.events.push_back(TransportEvent::Disconnected);
                self.end();
            }
            State::Disconnected | State::Ended => self.end(),
        }
    }

    fn fail(&mut self, reason: FailReason) {
        if self.state != State::Ended {
            self.events.push_back(TransportEvent::Failed(reason));
            self.end();
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.srtp = None;
        self.deadline = None;
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("state", &self.state).field("selected", &self.ice.selected()).finish_non_exhaustive()
    }
}
