//! A simulated participant: two peer connections or one, what it sends, what it receives, and its network.
//!
//! In: descriptions from signaling, datagrams that come off its downlink, the time. Out: datagrams on its uplink, reports.
//! It behaves as a browser does: NACK, PLI, receiver and sender reports, RTX with repaired rid. Not here: who is in which
//! room and what signaling says ([`crate::world`]).

mod arriving;
mod forging;
mod receiving;
mod remb;
mod sending;
mod side;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng as _};
use sfu_api::{Delivery, MediaKind, ParticipantId, RoomId, TrackId, TransportRole};
use sfu_core::media::Codec;
use sfu_core::net::Flow;
use sfu_core::rtp::ntp::WallClock;

pub use self::receiving::ReceivingTrack;
pub use self::remb::RembStyle;
pub use self::sending::{Feedback, SendingTrack, TrackSpec, VoiceConfig};
pub use self::side::Side;

use self::receiving::Receiving;
use self::remb::RembEstimator;
pub(crate) use self::sending::cid;
use self::sending::{REPORT_INTERVAL, Wire};
use crate::client::ClientTransport;
use crate::link::Link;
use crate::sdp::{self, ClientLine};

/// A datagram on a link; the flow is the client's view.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Path.
    pub flow: Flow,
    /// Content.
    pub bytes: Vec<u8>,
}

/// See the module.
pub struct Participant {
    /// As signaling knows it.
    pub id: ParticipantId,
    /// Where.
    pub room: RoomId,
    /// Client to server.
    pub publisher: Side,
    /// Server to client; of no use with one peer connection.
    pub subscriber: Side,
    /// To the server.
    pub up: Link<Datagram>,
    /// From the server.
    pub down: Link<Datagram>,
    /// What it publishes, by m-line.
    pub sending: Vec<SendingTrack>,
    /// Data messages that came.
    pub messages: Vec<(Delivery, Vec<u8>)>,
    /// Congestion feedback that came: packets reported as arrived, and as lost.
    pub congestion: (u64, u64),
    /// Its wall clock, which differs from everybody else's.
    pub wall_clock: WallClock,
    /// Names of the codecs that it does not take from the server, as in `a=rtpmap`: `red`, `VP9`.
    pub refused_codecs: Vec<String>,
    /// Lines of offers that it does not repeat in its answers: header extensions that it does not know.
    pub refused: Vec<&'static str>,
    /// A video codec that it can't play, with one peer connection.
    pub refuses: Option<Codec>,
    /// It offers to take RTCP of reduced size (RFC 5506).
    pub takes_reduced_rtcp: bool,
    /// RTCP datagrams that came and are no compound: they don't begin with a report, or name no sender (RFC 3550 section 6.1).
    pub reduced_rtcp: u64,
    /// Between two reports; libwebrtc sends one each second where there is video, and each five seconds on audio alone.
    pub report_interval: Duration,
    pub(crate) is_gone: bool,
    /// With one peer connection: its m-lines behind that of data, in order.
    lines: Option<Vec<Line>>,
    pub(crate) offers: Offers,
    receiving: Receiving,
    transport_sequence: u16,
    next_tick: Instant,
    next_report: Instant,
}

/// An m-line of the only peer connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    /// Place in [`Participant::sending`].
    Send(usize),
    Receive(MediaKind),
}

/// The client's own offers: one at a time.
#[derive(Default)]
pub(crate) struct Offers {
    last_id: u32,
    is_outstanding: bool,
    is_due: bool,
}

/// Between two looks at what is missing.
const TICK: Duration = Duration::from_millis(20);

impl Participant {
    /// A participant that has not been told anything yet.
    pub(crate) fn new(
        now: Instant,
        (id, room): (ParticipantId, RoomId),
        addresses: [SocketAddr; 2],
        (up, down): (Link<Datagram>, Link<Datagram>),
        wall_clock: WallClock,
        rng: &mut impl Rng,
    ) -> Self {
        Self {
            id,
            room,
            publisher: Side::new(ClientTransport::new(now, rng).opening_channels(), addresses[0]),
            subscriber: Side::new(ClientTransport::new(now, rng).with_data(), addresses[1]),
            up,
            down,
            sending: Vec::new(),
            messages: Vec::new(),
            congestion: (0, 0),
            wall_clock,
            refused_codecs: Vec::new(),
            refused: Vec::new(),
            refuses: None,
            takes_reduced_rtcp: true,
            reduced_rtcp: 0,
            report_interval: REPORT_INTERVAL,
            is_gone: false,
            lines: None,
            offers: Offers::default(),
            receiving: Receiving::default(),
            transport_sequence: 1,
            next_tick: now,
            next_report: now + REPORT_INTERVAL / 2,
        }
    }

    /// It has one peer connection, with so many m-lines to receive on per kind from the start.
    #[must_use]
    pub(crate) fn with_one_connection(mut self, lines: usize) -> Self {
        self.lines = Some(Vec::new());
        self.add_lines(lines, lines);
        self
    }

    /// It has one peer connection.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.lines.is_some()
    }

    /// M-lines to receive on.
    #[must_use]
    pub fn receiving_lines(&self) -> usize {
        self.lines.iter().flatten().filter(|line| matches!(line, Line::Receive(_))).count()
    }

    /// The server asks for an offer with so many more m-lines to receive on.
    pub(crate) fn add_lines(&mut self, audio: usize, video: usize) {
        if let Some(lines) = &mut self.lines {
            lines.extend(std::iter::repeat_n(Line::Receive(MediaKind::Audio), audio));
            lines.extend(std::iter::repeat_n(Line::Receive(MediaKind::Video), video));
            self.offers.is_due = true;
        }
    }

    /// Transport-wide sequence numbers of what came, in order.
    #[must_use]
    pub fn transport_sequences(&self) -> &[u16] {
        &self.receiving.transport_sequences
    }

    /// One of the two peer connections.
    pub fn side(&mut self, role: TransportRole) -> &mut Side {
        match role {
            TransportRole::Publisher => &mut self.publisher,
            TransportRole::Subscriber => &mut self.subscriber,
        }
    }

    /// It knows no transport-wide feedback and estimates its downlink by itself; to be called before it subscribes.
    pub fn estimate_by_itself(&mut self, style: RembStyle) {
        self.refused.extend(["transport-wide-cc", "transport-cc"]);
        self.receiving.remb = Some(RembEstimator::new(style));
    }

    /// It takes transport-wide numbers and never reports on them.
    pub fn report_nothing_of_packets(&mut self) {
        self.receiving.is_reticent = true;
    }

    /// A published track.
    #[must_use]
    pub fn sending(&self, track: TrackId) -> Option<&SendingTrack> {
        self.sending.iter().find(|sending| sending.track == track)
    }

    /// A published track.
    pub fn sending_mut(&mut self, track: TrackId) -> Option<&mut SendingTrack> {
        self.sending.iter_mut().find(|sending| sending.track == track)
    }

    /// A subscribed track, once an offer has announced it.
    #[must_use]
    pub fn receiving(&self, track: TrackId) -> Option<&ReceivingTrack> {
        self.receiving.track(track)
    }

    /// A subscribed track, once an offer has announced it.
    pub fn receiving_mut(&mut self, track: TrackId) -> Option<&mut ReceivingTrack> {
        self.receiving.track_mut(track)
    }

    /// Packets that nobody should have sent: those that don't open or were sent twice, those of unannounced streams.
    #[must_use]
    pub fn strays(&self) -> (u64, u64) {
        (self.receiving.unopened, self.receiving.unannounced)
    }

    /// Adds a track, on a free m-line of its kind if there is one.
    pub(crate) fn publish(&mut self, track: TrackId, spec: TrackSpec, rng: StdRng) -> &SendingTrack {
        let is_video = spec.codec().is_video();
        let free = self.sending.iter().position(|old| !old.media.is_sending && old.media.codec.is_video() == is_video);
        let place = free.unwrap_or(self.sending.len());
        // m-line 0 is for data.
        let mid = match &mut self.lines {
            None => place + 1,
            Some(lines) => {
                let known = lines.iter().position(|line| *line == Line::Send(place));
                known.unwrap_or_else(|| {
                    lines.push(Line::Send(place));
                    lines.len() - 1
                }) + 1
            }
        };
        let sending = SendingTrack::new(track, spec, mid.to_string(), rng);
        if place == self.sending.len() {
            self.sending.push(sending);
        } else {
            self.sending[place] = sending;
        }
        self.offers.is_due = true;
        &self.sending[place]
    }

    /// Stops sending a track; its m-line stays.
    pub(crate) fn stop(&mut self, track: TrackId) {
        if let Some(sending) = self.sending_mut(track) {
            sending.stop();
            self.offers.is_due = true;
        }
    }

    /// Sends a stopped track again, with the same streams under another name.
    pub(crate) fn resume(&mut self, old: TrackId, new: TrackId) {
        if let Some(sending) = self.sending_mut(old) {
            sending.resume(new);
            self.offers.is_due = true;
        }
    }

    /// Restarts ICE of the publisher side with the next offer.
    pub(crate) fn restart_publisher(&mut self) {
        self.publisher.transport.restart_ice();
        self.offers.is_due = true;
    }

    /// Makes an offer even if there is nothing new, for data channels alone.
    pub(crate) fn want_offer(&mut self) {
        self.offers.is_due = true;
    }

    /// Mutes or unmutes a track at its source.
    pub(crate) fn pause(&mut self, track: TrackId, is_paused: bool) {
        if let Some(sending) = self.sending_mut(track) {
            sending.set_paused(is_paused);
        }
    }

    /// The client's next offer, if one is due and none is unanswered.
    pub(crate) fn offer(&mut self) -> Option<(u32, String)> {
        if self.is_gone || !self.offers.is_due || self.offers.is_outstanding {
            return None;
        }
        self.offers.last_id += 1;
        (self.offers.is_due, self.offers.is_outstanding) = (false, true);
        let sending = self.sending.iter().map(|sending| ClientLine::Send(sending.media.clone()));
        let media: Vec<ClientLine> = match &self.lines {
            None => sending.collect(),
            Some(lines) => {
                let line = |line: &Line| match *line {
                    Line::Send(place) => ClientLine::Send(self.sending[place].media.clone()),
                    Line::Receive(kind) => ClientLine::Receive { kind, without: self.refuses },
                };
                lines.iter().map(line).collect()
            }
        };
        let mut offer = sdp::publisher_offer(&media, &self.publisher.transport.params(), self.offers.last_id);
        if !self.takes_reduced_rtcp {
            offer = offer.replace("a=rtcp-rsize\r\n", "");
        }
        Some((self.offers.last_id, offer))
    }

    /// The server's answer to that.
    pub(crate) fn take_answer(&mut self, now: Instant, answer: &str) {
        self.offers.is_outstanding = false;
        self.publisher.set_remote(now, answer);
        let with_red = sdp::red_mids(answer);
        self.sending.iter_mut().for_each(|sending| sending.sends_red = with_red.contains(&sending.mid));
        if self.is_single() {
            self.receiving.announce(&sdp::offered_media(answer));
        }
    }

    /// The server's offer; returns the answer.
    pub(crate) fn take_offer(&mut self, now: Instant, offer: &str) -> String {
        if self.subscriber.set_remote(now, offer) {
            self.subscriber.transport.restart_ice();
        }
        self.receiving.announce(&sdp::offered_media(offer));
        sdp::subscriber_answer(offer, &self.subscriber.transport.params(), &self.refused_codecs, &self.refused)
    }

    /// Sends a message on the publisher side, as LiveKit clients do. False if the channel is not open.
    pub(crate) fn send_data(&mut self, now: Instant, delivery: Delivery, payload: &[u8]) -> bool {
        let Side { transport, out, .. } = &mut self.publisher;
        transport.send_data(now, delivery, payload, out)
    }

    /// Does what is due and puts what is to be sent on the uplink.
    pub(crate) fn poll(&mut self, now: Instant) {
        self.publisher.poll(now);
        self.subscriber.poll(now);
        let mut wire = wire(&mut self.publisher, &mut self.transport_sequence);
        self.sending.iter_mut().for_each(|sending| sending.poll(now, wire.as_mut()));
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
        }
        self.publisher.collect(&mut self.messages);
        self.subscriber.collect(&mut self.messages);
        for side in [&mut self.publisher, &mut self.subscriber] {
            for (flow, bytes) in side.out.datagrams() {
                // IPv4 and UDP.
                self.up.send(now, bytes.len() + 28, Datagram { flow, bytes: bytes.to_vec() });
            }
            side.out.clear();
        }
    }

    fn tick(&mut self, now: Instant) {
        let with_reports = now >= self.next_report;
        if with_reports {
            self.next_report = now + self.report_interval;
            let mut compound = Vec::new();
            self.sending.iter().for_each(|sending| sending.report(now, &self.wall_clock, &mut compound));
            send_rtcp(&mut self.publisher, compound);
        }
        let mut compound = Vec::new();
        self.receiving.feedback(now, with_reports, &mut compound);
        let role = self.receiving_role();
        send_rtcp(self.side(role), compound);
    }

    /// When [`Self::poll`] has something to do.
    pub(crate) fn next_timeout(&self) -> Instant {
        let transports = [self.publisher.transport.next_timeout(), self.subscriber.transport.next_timeout()];
        let transports = transports.into_iter().flatten().min();
        let sources = self.sending.iter().filter_map(SendingTrack::next_timeout).min();
        [transports, sources].into_iter().flatten().fold(self.next_tick, Instant::min)
    }
}

fn wire<'a>(side: &'a mut Side, transport_sequence: &'a mut u16) -> Option<Wire<'a>> {
    let flow = side.transport.selected()?;
    let Side { transport, out, .. } = side;
    Some(Wire { srtp: transport.srtp()?, flow, transport_sequence, out })
}

fn send_rtcp(side: &mut Side, mut compound: Vec<u8>) {
    let Some(flow) = side.transport.selected().filter(|_| !compound.is_empty()) else { return };
    if let Some(srtp) = side.transport.srtp()
        && srtp.sender.seal_rtcp(&mut compound, 0)
    {
        side.out.push(flow, &compound);
    }
}

/// The same path from its other end.
pub(crate) fn reversed(flow: Flow) -> Flow {
    Flow { protocol: flow.protocol, local: flow.remote, remote: flow.local }
}

/// Randomness of its own, derived from another one.
pub(crate) fn split(rng: &mut impl Rng) -> StdRng {
    StdRng::seed_from_u64(rng.next_u64())
}
