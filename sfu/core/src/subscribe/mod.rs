//! The subscribing side: a down track and the parts that it is made of.

pub mod asking;
pub mod copy;
pub mod filter;
pub mod history;
pub mod nacked;
pub mod playout;
pub mod resent;
pub mod retransmit;
pub mod rewrite;
pub mod selector;
pub mod stream_state;
pub mod window;

use std::time::{Duration, Instant};

use sfu_api::{TrackId, VideoWish};

use crate::allocation::Share;
use crate::audio::forms::Form;
use crate::audio::redundancy::Redundancy;
use crate::ids::{PeerKey, UpKey};
use crate::media::Codec;
use crate::negotiate::DownFormat;
use crate::publish::UpTrack;
use crate::quality::traffic::{DownlinkCounters, DownlinkMeter};
use crate::rtp::extension::{Renumbering, SendStamp};
use crate::rtp::ntp::CompactNtp;
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::telemetry::explain::Decision;
use crate::telemetry::sampler::DownlinkSampler;
use asking::Asking;
use filter::LayerFilter;
use history::History;
use nacked::AskCredit;
use playout::Playout;
use resent::Resent;
use retransmit::ResendBudget;
use rewrite::Rewriter;
use selector::Target;
use stream_state::StreamState;

/// One subscription: what flows from a published track to one subscriber.
///
/// The order is that of memory: what every forwarded packet needs comes first and together, because with many subscribers none
/// of it is in the processor's cache when its turn comes.
#[repr(C)]
pub struct DownTrack {
    /// On which transport.
    pub peer: PeerKey,
    /// SSRC of the media.
    pub ssrc: u32,
    /// Payload type that the subscriber agreed to; None until it has, and while it waits for a codec.
    pub payload_type: Option<u8>,
    /// Payload type of retransmissions, if agreed.
    pub rtx_payload_type: Option<u8>,
    /// Payload type of packets with redundancy, if agreed.
    pub red_payload_type: Option<u8>,
    /// Which header extensions it agreed to.
    pub reads: Reads,
    /// Value of the playout delay extension that the next frame is to carry.
    pub playout_delay: Option<[u8; 3]>,
    /// Header extension ids, where the subscriber's are not ours.
    pub renumbering: Option<Renumbering>,
    /// Which layers of the live encoding flow; None: it has none, or they are not known yet.
    pub filter: Option<Box<LayerFilter>>,
    /// For retransmission.
    pub history: History,
    /// What was sent.
    pub sent: Sent,
    /// Which encoding flows, and which one should.
    pub flow: FlowState,
    /// Numbers of the output.
    pub rewriter: Rewriter,
    /// To what.
    pub track: TrackId,
    /// From where: one of the track's codecs.
    pub up: UpKey,
    /// Canonical name (RFC 3550 section 6.5.1): tracks with the same one are played in step.
    pub cname: Box<str>,
    /// SSRC of retransmissions.
    pub rtx_ssrc: u32,
    /// Codecs of the newest offer, by the payload types of their configurations.
    pub offered: Vec<u8>,
    /// Those that the subscriber's client takes.
    pub formats: Vec<DownFormat>,
    /// Signaling knows that the client takes it.
    pub is_accepted: bool,
    /// Whether plain audio should get redundancy.
    pub redundancy: Redundancy,
    /// Nothing starts before this time: the client does not know the stream yet.
    pub hold_until: Option<Instant>,
    /// What the subscriber wants.
    pub wish: VideoWish,
    /// What it should get by that.
    pub target: Option<Target>,
    /// Extended sequence number of the next retransmission.
    pub next_rtx_sequence: u64,
    /// Bounds retransmission.
    pub resend_budget: ResendBudget,
    /// Bounds what is looked up for that.
    pub ask_credit: AskCredit,
    /// What was resent a moment ago.
    pub resent: Resent,
    /// How long the player should wait for it.
    pub playout: Playout,
    /// Newest sender report: how the subscriber will refer to it, and when it was sent.
    pub sender_reports: [Option<(CompactNtp, Instant)>; 2],
    /// What the subscriber reports.
    pub reported: Reported,
    /// For the judgement of the connection.
    pub meter: DownlinkMeter,
    /// Whether it flows, as the subscriber is told.
    pub stream_state: StreamState,
    /// What it has of the bandwidth.
    pub share: Share,
    /// What limits it.
    pub decision: Decision,
    /// For metrics and timelines.
    pub sampler: DownlinkSampler,
    /// Shares of packets that were lost at first, and for good, by the newest report.
    pub lost_share: f64,
    /// See `lost_share`.
    pub residual_share: f64,
    /// Since when a first frame is awaited that could come; None: it has come, or nobody waits for it.
    pub asked_at: Option<Instant>,
    /// What that took, until it is looked at.
    pub first_frame_after: Option<Duration>,
    /// Output numbers up to this one are not resent: a keyframe comes in their place.
    pub given_up: Option<u64>,
    /// Bounds its requests for keyframes.
    pub asking: Asking,
}

/// Which encoding flows to a subscriber and which one it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowState {
    /// The newest packet sent was the last of its frame.
    pub is_frame_complete: bool,
    /// Encoding that flows.
    pub live: Option<usize>,
    /// Encoding whose keyframe is waited for.
    pub wanted: Option<Waiting>,
}

/// Header extensions of a subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// What its copies say of their sending.
    pub stamp: SendStamp,
    /// It agreed to the dependency descriptor, and to blocks that are long enough for one with a structure.
    pub descriptors: bool,
    /// It agreed to the playout delay.
    pub playout_delay: bool,
}

/// A switch to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// To which encoding.
    pub encoding: usize,
    /// Up to which layer of it.
    pub layer: Layer,
    /// Since when.
    pub since: Instant,
    /// The keyframe is here, but a frame of the old encoding is unfinished: wait for its end until then.
    pub finish_by: Option<Instant>,
}

/// Counters of what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// RTP packets, without retransmissions.
    pub packets: u64,
    /// Payload bytes of these (RFC 3550 section 6.4.1: without headers and padding).
    pub octets: u64,
    /// Retransmitted packets.
    pub retransmitted: u64,
    /// Of `packets`, those that were sent after a later one: they came late from the publisher.
    pub late: u64,
}

/// What receiver reports and feedback say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    /// Report blocks so far.
    pub reports: u64,
    /// Numbers that had been given out when the newest report came but not sent, because their packets were missing.
    pub never_sent: u64,
    /// Share of packets lost in the last report interval, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in total.
    pub cumulative_lost: i32,
    /// Interarrival jitter in RTP ticks.
    pub jitter_ticks: u32,
    /// NACKed packets.
    pub nacks: u64,
    /// PLI and FIR.
    pub keyframe_requests: u64,
}

impl DownTrack {
    /// What was sent and reported so far.
    #[must_use]
    pub fn counters(&self) -> DownlinkCounters {
        DownlinkCounters {
            reports: self.reported.reports,
            reported_lost: self.reported.cumulative_lost.into(),
            never_sent: self.reported.never_sent,
            sent: self.sent.packets,
            late: self.sent.late,
            resent: self.sent.retransmitted,
        }
    }

    /// A subscription that nothing flows on yet. SSRCs (of the media, of its RTX) and `first_sequence` are random.
    #[must_use]
    pub fn new(track: TrackId, up: UpKey, peer: PeerKey, codec: Codec, cname: &str, ssrcs: (u32, u32), first_sequence: u16) -> Self {
        let (ssrc, rtx_ssrc) = ssrcs;
        Self {
            track,
            up,
            peer,
            cname: cname.into(),
            ssrc,
            rtx_ssrc,
            offered: Vec::new(),
            formats: Vec::new(),
            is_accepted: false,
            payload_type: None,
            rtx_payload_type: None,
            red_payload_type: None,
            redundancy: Redundancy::default(),
            reads: Reads::default(),
            playout_delay: None,
            target: None,
            filter: None,
            renumbering: None,
            hold_until: None,
            wish: VideoWish::default(),
            flow: FlowState::default(),
            // The upper half of the space is left out, so that an early reordering never goes below zero.
            rewriter: Rewriter::new(codec.clock_rate_hz(), first_sequence & 0x7fff),
            history: History::default(),
            next_rtx_sequence: u64::from(first_sequence & 0x7fff),
            resend_budget: ResendBudget::default(),
            ask_credit: AskCredit::default(),
            resent: Resent::default(),
            playout: Playout::default(),
            sent: Sent::default(),
            sender_reports: [None; 2],
            reported: Reported::default(),
            meter: DownlinkMeter::default(),
            stream_state: StreamState::default(),
            share: Share::default(),
            decision: Decision::default(),
            sampler: DownlinkSampler::default(),
            lost_share: 0.0,
            residual_share: 0.0,
            asked_at: None,
            first_frame_after: None,
            given_up: None,
            asking: Asking::default(),
        }
    }

    /// The client takes the codec that our offers name by this payload type.
    #[must_use]
    pub fn takes(&self, configuration: u8) -> bool {
        self.formats.iter().any(|format| format.configuration == configuration)
    }

    /// What comes next is from another source.
    pub fn leave_source(&mut self) {
        self.rewriter.leave_source();
        self.given_up = None;
        self.history.clear();
        self.filter = None;
    }

    /// In which form this subscriber should get an audio track: as it was sent, if its client takes that and its downlink has room
    /// for it; plain audio with redundancy while its link loses packets.
    #[must_use]
    pub fn form(&self, up: &UpTrack) -> Form {
        let is_worth_it = up.form(0) == Form::Red || self.redundancy.is_on();
        if is_worth_it && self.red_payload_type.is_some() && !self.redundancy.is_unaffordable() { Form::Red } else { Form::Plain }
    }

    /// Payload type of packets in a form; None if the client takes none.
    #[must_use]
    pub fn payload_type_of(&self, form: Form) -> Option<u8> {
        match form {
            Form::Plain => self.payload_type,
            Form::Red => self.red_payload_type,
        }
    }

    /// The encoding that flows and the layer up to which; None: nothing does.
    #[must_use]
    pub fn flowing(&self) -> Option<(usize, Layer)> {
        let everything = Layer { spatial: u8::MAX, temporal: u8::MAX };
        self.flow.live.map(|encoding| (encoding, self.filter.as_ref().map_or(everything, |filter| filter.current())))
    }
}
