//! A peer connection of a participant, as the packet path sees it.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sfu_api::TransportRole;

use crate::allocation::Allotment;
use crate::bandwidth::Bandwidth;
use crate::ids::{DownKey, ParticipantKey, UpKey};
use crate::limits::MAX_SSRCS_PER_TRANSPORT;
use crate::media::{ExtensionMap, Mid};
use crate::publish::remb::UplinkLimit;
use crate::publish::twcc::TwccReceiver;
use crate::telemetry::phases::Milestones;
use crate::transport::Transport;
use crate::transport::srtp::{InboundStream, SrtpProfile};

/// A transport with what belongs to it. What every sent packet needs comes first, in the order in which it lies in memory.
#[repr(C)]
pub struct Peer {
    /// ICE, DTLS, SRTP, SCTP.
    pub transport: Transport,
    /// What was sent there, and what the way carries.
    pub bandwidth: Bandwidth,
    /// Whose.
    pub participant: ParticipantKey,
    /// Publisher or subscriber side.
    pub role: TransportRole,
    /// What arrives from the client: streams by SSRC.
    pub inbound: Inbound,
    /// Down tracks that are sent here.
    pub downs: Vec<DownKey>,
    /// The same by SSRC: reports and requests name it.
    pub down_by_ssrc: FxHashMap<u32, DownKey>,
    /// SSRC for the next down track; an SSRC is used once in a peer's life, so that no cipher nonce repeats.
    next_ssrc: u32,
    /// SSRC under which we send feedback.
    pub feedback_ssrc: u32,
    /// What protects the media, once it is agreed.
    pub profile: Option<SrtpProfile>,
    /// Round trip time by the client's receiver reports, and by checks where it sends none.
    pub rtt: Option<Duration>,
    /// When that was found.
    pub rtt_at: Option<Instant>,
    /// It has answered a check.
    pub answers: bool,
    /// When anything authentic last came from the client.
    pub heard_at: Option<Instant>,
    /// Deadline that is in the timer queue.
    pub scheduled: Option<Instant>,
    /// When what its way carries was divided.
    pub allotment: Allotment,
    /// How its beginning went.
    pub milestones: Milestones,
}

/// The streams that a client sends on one transport.
#[derive(Default)]
pub struct Inbound {
    /// By SSRC; bounded by `MAX_SSRCS_PER_TRANSPORT`, and only authenticated packets get in.
    pub streams: FxHashMap<u32, Stream>,
    /// Tracks by m-line.
    pub tracks: Vec<(Mid, UpKey)>,
    /// Header extension ids; one map, since bundled m-lines share them.
    pub extensions: ExtensionMap,
    /// The client agreed to feedback without a report in front of it (RFC 5506).
    pub takes_reduced_rtcp: bool,
    /// Arrival times for congestion feedback.
    pub twcc: TwccReceiver,
    /// What the client is told if it does not take that.
    pub uplink: UplinkLimit,
    /// Something of it has not been reported yet.
    pub owes_feedback: bool,
}

/// State of one received SSRC.
#[derive(Default)]
pub struct Stream {
    /// Rollover counter and replay window.
    pub srtp: InboundStream,
    /// What it carries, once its header extensions or payload type have told.
    pub carries: Option<Carries>,
}

/// What an SSRC carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carries {
    /// Track.
    pub up: UpKey,
    /// Encoding of the track.
    pub encoding: usize,
    /// Retransmissions of the encoding, not its media.
    pub is_rtx: bool,
}

impl Inbound {
    /// The client's description says what an SSRC will carry. False if there is no room for it.
    pub fn announce(&mut self, ssrc: u32, carries: Carries) -> bool {
        let has_room = self.streams.contains_key(&ssrc) || self.make_room();
        if has_room {
            self.streams.entry(ssrc).or_default().carries = Some(carries);
        }
        has_room
    }

    /// Makes room for one more stream, at the cost of one that carries nothing any more. False if all carry something.
    pub fn make_room(&mut self) -> bool {
        if self.streams.len() < MAX_SSRCS_PER_TRANSPORT {
            return true;
        }
        let unused = self.streams.iter().find(|(_, stream)| stream.carries.is_none()).map(|(&ssrc, _)| ssrc);
        unused.is_some_and(|ssrc| self.streams.remove(&ssrc).is_some())
    }
}

impl Peer {
    /// A peer without tracks. `seed` is random, `now` when it is opened.
    #[must_use]
    pub fn new(participant: ParticipantKey, role: TransportRole, transport: Transport, seed: u32, now: Instant) -> Self {
        Self {
            participant,
            role,
            transport,
            inbound: Inbound::default(),
            downs: Vec::new(),
            down_by_ssrc: FxHashMap::default(),
            bandwidth: Bandwidth::default(),
            next_ssrc: seed,
            feedback_ssrc: seed | 1,
            profile: None,
            rtt: None,
            rtt_at: None,
            answers: false,
            heard_at: None,
            scheduled: None,
            allotment: Allotment::default(),
            milestones: Milestones::new(now),
        }
    }

    /// An SSRC that was never used on this transport, by us or, as far as known, by the client.
    pub fn allocate_ssrc(&mut self) -> u32 {
        loop {
            // An odd step visits all 2^32 values before one returns.
            self.next_ssrc = self.next_ssrc.wrapping_add(0x9e37_79b1);
            let is_taken = self.inbound.streams.contains_key(&self.next_ssrc);
            if !is_taken && self.next_ssrc != self.feedback_ssrc && self.next_ssrc != 0 {
                return self.next_ssrc;
            }
        }
    }
}
