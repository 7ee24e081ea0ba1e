//! When bandwidth is divided anew, for whom, and what follows from it.
//!
//! In: changes of a transport's estimate, of wishes, of what publishers send, and time. Out: a [`Cap`] for every video
//! subscription, which the selector keeps to; the word to its subscriber that it is paused; what the estimator should probe
//! for. A transport is looked at when something has changed, at most every [`INTERVAL`], and once a second. As long as nothing
//! has shown that bandwidth lacks ([`Alarm`]), nothing is limited and nobody waits.

use std::time::{Duration, Instant};

use sfu_api::{Event, MediaKind};

use super::alarm::{Alarm, Verdict};
use super::ladder::Place;
use super::patience::Memory;
use super::start::{START_BPS, Start};
use super::{Budget, Claim, Rank, share};
use crate::bandwidth::{Demand, Estimate, Limit};
use crate::ids::{DownKey, PeerKey, UpKey};
use crate::peer::Peer;
use crate::publish::UpTrack;
use crate::shard::Shard;
use crate::subscribe::DownTrack;
use crate::subscribe::selector::{Cap, wanted_rung};
use crate::subscribe::stream_state::PauseCause;
use crate::timers::MEDIA_TICK;

/// Shortest time between two allocations for one transport.
const INTERVAL: Duration = Duration::from_millis(100);
/// A subscription that never had anything is called paused only after this: the estimate begins low.
const GRACE: Duration = Duration::from_secs(2);
/// A publisher sends a layer on for so long after the last one who got it was given less: it may be back soon.
const KEEP_LAYER: Duration = Duration::from_secs(5);
/// Of what a link carries when it is full so much can be used without a queue.
const USABLE_PERCENT: u64 = 95;
/// While nothing is limited, what everything comes to is looked at this often.
const MEASURE_INTERVAL: Duration = Duration::from_millis(900);
/// A queue that is so long and does not go away is emptied at the cost of whoever has to pause for it: nothing that waits in it is of
/// use to a picture.
const LONG_QUEUE: Duration = Duration::from_millis(150);
/// A queue up to this long may as well be a longer way, and loss the link's own: no picture is stopped for it.
const SHORT_QUEUE: Duration = Duration::from_millis(75);
/// The estimate has to get so much beyond the next step: what is aimed at is not quite met, and steps change their rates.
const AIM_PERCENT: u64 = 5;
/// Until it is known whether a queue was a moment's: by then it is believed or gone.
const FRESH_CUT: Duration = Duration::from_secs(1);
/// Where more begin at once, their first pictures show as much as a probe, which would be too much besides.
const FEW_PICTURES: usize = 3;
/// Not so soon again what was lost while nothing was heard is given back at once.
const FORGIVEN_INTERVAL: Duration = Duration::from_secs(60);
/// Audio of which no rate is known yet: Opus at 32 kbit/s with its headers, 50 packets a second.
const USUAL_AUDIO_BPS: u64 = 48_000;

/// What a subscription was allotted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// How far it may go.
    pub cap: Cap,
    memory: Memory,
    /// It has had something.
    has_flowed: bool,
    /// Since when it has nothing.
    lacking_since: Option<Instant>,
    /// What it had before it lost a size, until when that counts.
    before: Option<(usize, Instant)>,
}

impl Share {
    /// It is to have nothing before it is known how much it may have. Its publisher should send what is wished all the same.
    fn begin(&mut self, wished: Option<usize>, now: Instant) {
        self.cap = Cap::Paused;
        self.before = wished.map(|rung| (rung, now + KEEP_LAYER));
    }

    /// The subscriber wants something else than before.
    pub fn renew(&mut self) {
        self.memory.renew();
    }

    /// What it lost since then says nothing of the way.
    fn forgive(&mut self, since: Instant) {
        if self.memory.lowered_at >= Some(since) {
            self.memory.renew();
        }
    }

    /// Which size its publisher should send for it, of those up to the wished one.
    #[must_use]
    pub fn wanted_rung(&self, wished: Option<usize>, now: Instant) -> Option<usize> {
        let capped = match self.cap {
            Cap::None => return wished,
            Cap::UpTo(place) => Some(place.rung),
            Cap::Paused => None,
        };
        let kept = self.before.filter(|&(_, until)| now < until).map(|(rung, _)| rung);
        capped.max(kept).min(wished)
    }

    /// How many of the wished sizes are left out for lack of bandwidth, 0 being the smallest; all of them if it is paused.
    #[must_use]
    pub fn left_out(&self, wished: Option<usize>) -> u8 {
        let Some(wished) = wished else { return 0 };
        let missing = match self.cap {
            Cap::None => 0,
            Cap::UpTo(place) => wished.saturating_sub(place.rung),
            // Nothing at all is worse than small.
            Cap::Paused => wished + 2,
        };
        u8::try_from(missing).unwrap_or(u8::MAX)
    }

    /// `place`: what it gets now; `wished`: what it had while nothing limited it; `is_live`: it has something now.
    fn take(&mut self, memory: Memory, place: Option<Place>, wished: Option<usize>, is_live: bool, now: Instant) -> bool {
        let rung = |place: Option<Place>| place.map(|place| place.rung);
        let had = match self.cap {
            Cap::None => wished,
            Cap::UpTo(place) => Some(place.rung),
            Cap::Paused => None,
        };
        if let Some(before) = had.filter(|&before| rung(place) < Some(before)) {
            self.before = Some((before, now + KEEP_LAYER));
        }
        self.memory = memory;
        self.has_flowed |= place.is_some() || is_live;
        self.lacking_since = if place.is_some() { None } else { self.lacking_since.or(Some(now)) };
        let cap = place.map_or(Cap::Paused, Cap::UpTo);
        std::mem::replace(&mut self.cap, cap) != cap
    }

    /// It has had nothing for longer than a probe takes.
    fn lacks_for_long(&self, now: Instant) -> bool {
        self.lacking_since.is_some_and(|since| now.saturating_duration_since(since) >= GRACE)
    }

    /// What it comes with. `had_everything`: it flowed while nothing was known of the bandwidth, and is not to lose that before
    /// something shows that there is too little.
    fn memory(&self, had_everything: bool) -> Memory {
        let everything = Place { rung: usize::MAX, temporal: u8::MAX };
        if had_everything { Memory::at(Some(everything)) } else { self.memory }
    }

    /// The subscriber should know that it is paused.
    fn is_pause(&self, now: Instant) -> bool {
        self.lacking_since.is_some_and(|since| self.has_flowed || now.saturating_duration_since(since) >= GRACE)
    }
}

/// When a transport's bandwidth was and will be divided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allotment {
    /// Most that may be sent, for tests of clients; bits per second.
    pub limit_bps: Option<u64>,
    ran_at: Option<Instant>,
    again_at: Option<Instant>,
    is_due: bool,
    /// It is in the list of those that wait.
    is_listed: bool,
    /// There was something to divide the last time.
    is_divided: bool,
    /// Somebody else divides it.
    pub is_foreign: bool,
    /// When it was last seen what everything comes to.
    measured_at: Option<Instant>,
    /// Whether there is reason to divide anything.
    alarm: Alarm,
    /// Whether nothing is known yet.
    start: Start,
    /// Nothing was reported yet, so that the first probe may begin with the first packet.
    awaits_first_probe: bool,
    /// Somebody waits for a division, whatever comes of it.
    has_waiting: bool,
    /// When the estimator last lowered its target.
    cut_at: Option<Instant>,
    /// Since when nothing is heard of the client, and when what was lost meanwhile was last given back at once.
    silent_since: Option<Instant>,
    forgiven_at: Option<Instant>,
    /// What was granted the last time, and whether that was all that anybody wanted.
    granted_bps: u64,
    has_everything: bool,
    /// What it would come to with the next step up of those that want one and need not wait; None: nobody does.
    next_bps: Option<u64>,
}

impl Allotment {
    /// The target was lowered since the last call.
    pub fn is_new_cut(&mut self, cut_at: Option<Instant>) -> bool {
        std::mem::replace(&mut self.cut_at, cut_at) < cut_at
    }

    /// Much of what was sent is lost at once, or will be.
    pub fn on_collapse(&mut self) {
        self.alarm.on_collapse();
    }

    /// Since when it was silent, if that is over and does not happen all the time.
    fn end_of_silence(&mut self, is_silent: bool, now: Instant) -> Option<Instant> {
        if is_silent {
            self.silent_since.get_or_insert(now);
            return None;
        }
        let since = self.silent_since.take()?;
        let is_rare = self.forgiven_at.is_none_or(|at| now.saturating_duration_since(at) >= FORGIVEN_INTERVAL);
        is_rare.then(|| {
            self.forgiven_at = Some(now);
            since
        })
    }

    /// The first probe has begun, or is not needed.
    pub fn end_first_probe(&mut self) {
        self.awaits_first_probe = false;
    }

    /// Bandwidth is divided, here or by somebody else.
    pub fn may_probe(&self) -> bool {
        self.is_divided || self.is_foreign
    }

    /// To a client that can't be probed: what it has, and from time to time a little more.
    fn tried_bps(&self, now: Instant) -> u64 {
        let next_bps = self.next_bps.filter(|_| self.alarm.may_try(now));
        // Publishers don't keep to their rates.
        next_bps.map_or(self.granted_bps, |next_bps| next_bps.saturating_add(next_bps / 10))
    }

    fn may_run(&self, now: Instant) -> bool {
        self.ran_at.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL)
    }

    /// Somebody waits for an answer.
    fn may_hurry(&self, now: Instant) -> bool {
        self.ran_at.is_none_or(|at| now.saturating_duration_since(at) >= MEDIA_TICK)
    }

    fn wants_to_run(&self, now: Instant) -> bool {
        self.is_due || self.again_at.is_some_and(|at| at <= now)
    }

    fn waits(&self) -> bool {
        self.is_due || self.again_at.is_some() || self.awaits_first_probe
    }
}

/// The subscriptions of a transport.
#[derive(Default)]
struct Claims {
    audio_bps: u64,
    /// Video that is wanted, and its claims in the same order.
    keys: Vec<DownKey>,
    claims: Vec<Claim>,
    /// Video of which nothing is to be sent.
    unclaimed: Vec<DownKey>,
}

/// What may be sent on a transport; None: nothing limits it. `is_probed`: its client can be.
fn budget(peer: &mut Peer, is_probed: bool, now: Instant) -> Option<Budget> {
    let allotment = &mut peer.allotment;
    allotment.alarm.look(peer.bandwidth.sent.sent_bytes, now);
    let known = match peer.bandwidth.estimate() {
        Some(estimate) => budget_by(&estimate, allotment, is_probed, now),
        None => allotment.start.goes_on(is_probed, false, now).then_some(START),
    };
    match (known, allotment.limit_bps) {
        (Some(known), Some(limit)) if known.bps <= limit => Some(known),
        (_, Some(bps)) => Some(Budget { bps, lasting_bps: bps, ..Budget::default() }),
        (known, None) => known,
    }
}

fn budget_by(estimate: &Estimate, allotment: &mut Allotment, is_probed: bool, now: Instant) -> Option<Budget> {
    let verdict = allotment.alarm.judge(estimate, allotment.granted_bps, allotment.has_everything, now);
    let is_open = match verdict {
        Verdict::Free => {
            let is_start = estimate.limit != Limit::Client && allotment.start.goes_on(is_probed, true, now);
            return is_start.then(|| start_budget(estimate, now));
        }
        Verdict::Open => true,
        Verdict::Full => false,
    };
    allotment.start.end();
    // What such a client says only follows what it gets: to try is the only way to know.
    let known_bps = match (estimate.limit, is_open) {
        (Limit::Client, true) => allotment.tried_bps(now),
        (Limit::Client, false) => allotment.alarm.take_back(now).unwrap_or(0),
        _ => 0,
    };
    let bps = estimate.media_bps().max(known_bps);
    // What is sent again comes of a queue that overflowed, and goes with it. A probe is over already: nobody loses a layer for it.
    let capacity_bps = estimate.link_capacity_bps.unwrap_or(0);
    let usable_bps = (capacity_bps / 100 * USABLE_PERCENT).saturating_sub(estimate.resent_bps.min(capacity_bps / 8));
    let is_long = estimate.queue >= LONG_QUEUE && allotment.alarm.has_lasted();
    let lasting_bps = if is_long || estimate.limit == Limit::Silence { bps } else { bps.max(usable_bps) };
    let keeps_least = estimate.queue < SHORT_QUEUE && estimate.limit != Limit::Client;
    Some(Budget { bps, lasting_bps, is_open, keeps_least, is_start: false })
}

/// What may be sent at first.
const START: Budget = Budget { bps: START_BPS, lasting_bps: START_BPS, is_open: true, keeps_least: true, is_start: true };

/// The same once something is heard of it. What probes took is over, and nobody waits for it.
fn start_budget(estimate: &Estimate, now: Instant) -> Budget {
    let shown_bps = estimate.target_bps.saturating_sub(estimate.resent_bps);
    // A queue that was seen may be a moment's; until that is known nothing is added.
    let is_start = estimate.cut_at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH_CUT);
    let bps = if is_start { shown_bps.max(START_BPS) } else { shown_bps };
    Budget { bps, lasting_bps: bps, is_start, ..START }
}

impl Shard {
    /// Something has changed that matters to how a transport's bandwidth is divided.
    pub(crate) fn allocation_due(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.allotment.is_due = true;
        if peer.allotment.may_run(now) {
            self.allocate(key, now);
        } else {
            self.list_allocation(key);
        }
    }

    /// A subscriber wants something else, or something new begins for it.
    pub(crate) fn hurry_allocation(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.allotment.is_due = true;
        if peer.allotment.may_hurry(now) {
            self.allocate(key, now);
        } else {
            self.list_allocation(key);
        }
    }

    fn list_allocation(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.allotment.waits()) else { return };
        if !std::mem::replace(&mut peer.allotment.is_listed, true) {
            self.awake.allocations.push(key);
        }
    }

    /// With every media tick: those that wait for the end of an interval, or for a track that may rise by now.
    pub(crate) fn review_waiting_allocations(&mut self, now: Instant) {
        for place in 0..self.awake.allocations.len() {
            let key = self.awake.allocations[place];
            self.review_allocation(key, false, now);
            if self.peers.get(key).is_some_and(|peer| peer.allotment.awaits_first_probe) {
                self.consider_first_probe(key, now);
            }
        }
        let Self { awake, peers, .. } = self;
        awake.allocations.retain(|&key| {
            let Some(peer) = peers.get_mut(key) else { return false };
            peer.allotment.is_listed = peer.allotment.waits();
            peer.allotment.is_listed
        });
    }

    /// The same for everybody who gets a track.
    pub(crate) fn allocation_due_for_track(&mut self, up: UpKey, now: Instant) {
        let Some(up) = self.ups.get(up) else { return };
        let peers: Vec<PeerKey> = up.downs.iter().filter_map(|&down| Some(self.downs.get(down)?.peer)).collect();
        for peer in peers {
            self.allocation_due(peer, now);
        }
    }

    /// Divides what a transport's way carries if that is due; `is_turn`: it is once a second.
    pub(crate) fn review_allocation(&mut self, key: PeerKey, is_turn: bool, now: Instant) {
        let Some(peer) = self.peers.get(key).filter(|peer| !peer.downs.is_empty()) else { return };
        if (is_turn || peer.allotment.wants_to_run(now)) && peer.allotment.may_run(now) {
            self.allocate(key, now);
        }
    }

    /// Divides what the way to a client carries.
    fn allocate(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        (peer.allotment.ran_at, peer.allotment.again_at, peer.allotment.is_due) = (Some(now), None, false);
        if peer.allotment.is_foreign {
            return;
        }
        let is_silent = peer.bandwidth.estimate().is_some_and(|estimate| estimate.limit == Limit::Silence);
        if let Some(since) = peer.allotment.end_of_silence(is_silent, now) {
            for key in &peer.downs {
                if let Some(down) = self.downs.get_mut(*key) {
                    down.share.forgive(since);
                }
            }
        }
        let is_probed = peer.downs.iter().filter_map(|&down| self.downs.get(down)).any(DownTrack::can_be_probed);
        let budget = budget(peer, is_probed, now);
        let was_divided = std::mem::replace(&mut peer.allotment.is_divided, budget.is_some());
        let has_waiting = std::mem::take(&mut peer.allotment.has_waiting);
        peer.allotment.awaits_first_probe &= budget.is_some();
        match budget {
            None => self.grant_everything(key, was_divided || has_waiting, now),
            Some(budget) => self.divide(key, budget, !was_divided, now),
        }
        if let Some(allotment) = self.peers.get_mut(key).map(|peer| &mut peer.allotment) {
            allotment.again_at = [allotment.again_at, allotment.alarm.again_at(now)].into_iter().flatten().min();
        }
        self.list_allocation(key);
    }

    /// Nothing limits a transport. The estimator is told what that comes to, once a second.
    fn grant_everything(&mut self, key: PeerKey, was_divided: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let is_measured = peer.allotment.measured_at.is_some_and(|at| now.saturating_duration_since(at) < MEASURE_INTERVAL);
        if is_measured && !was_divided {
            return;
        }
        peer.allotment.measured_at = Some(now);
        let downs = peer.downs.clone();
        if was_divided {
            self.spare_redundancy(&downs, None, 0, false, now);
            downs.iter().for_each(|&down| self.uncap(down, now));
        }
        let Claims { audio_bps, claims, .. } = self.claims(&downs, false, now);
        let granted_bps = share::allocate(None, audio_bps, &claims, now).now_bps;
        if let Some(peer) = self.peers.get_mut(key) {
            (peer.allotment.granted_bps, peer.allotment.has_everything, peer.allotment.next_bps) = (granted_bps, true, None);
            peer.bandwidth.set_demand(Demand { now_bps: granted_bps, next_bps: None }, now);
        }
    }

    /// `is_first`: nothing limited the transport until now.
    fn divide(&mut self, key: PeerKey, budget: Budget, is_first: bool, now: Instant) {
        let downs = self.peers.get(key).map(|peer| peer.downs.clone()).unwrap_or_default();
        let Claims { audio_bps, keys, claims, unclaimed } = self.claims(&downs, is_first, now);
        for down in unclaimed {
            self.uncap(down, now);
        }
        self.spare_redundancy(&downs, Some(budget), audio_bps, !claims.is_empty(), now);
        // Who has waited long enough for a probe to find room gets it from those who come after it. A client that can't be probed
        // is given more to try.
        let known = self.peers.get(key).and_then(|peer| peer.bandwidth.estimate());
        let is_probed = known.is_none_or(|known| known.limit != Limit::Client);
        let is_long = |key: &DownKey| self.downs.get(*key).is_some_and(|down| down.share.lacks_for_long(now));
        let budget = Budget { is_open: budget.is_open && !(is_probed && keys.iter().any(is_long)), ..budget };
        let allocation = share::allocate(Some(budget), audio_bps, &claims, now);
        tracing::trace!(?budget, audio_bps, ?claims, grants = ?allocation.grants, next_bps = allocation.next_bps, "divided");
        if let Some(peer) = self.peers.get_mut(key) {
            if claims.iter().zip(&allocation.grants).any(|(claim, grant)| grant.memory.place > claim.memory.place) {
                peer.allotment.alarm.on_try(peer.allotment.granted_bps, now);
            }
            peer.allotment.again_at = allocation.again_at;
            (peer.allotment.granted_bps, peer.allotment.next_bps) = (allocation.now_bps, allocation.next_bps);
            let has_everything = allocation.grants.iter().zip(&claims).all(|(grant, claim)| grant.step >= claim.steps.len().checked_sub(1));
            peer.allotment.has_everything = has_everything;
            let is_sending = peer.bandwidth.sent.sent_bytes > 0;
            peer.allotment.start.on_divided(!claims.is_empty(), has_everything, is_sending, now);
            peer.allotment.awaits_first_probe =
                budget.is_start && known.is_none() && allocation.next_bps.is_some() && claims.len() <= FEW_PICTURES;
            let overhead_bps = known.map_or(0, |known| known.overhead_bps);
            let next_bps = allocation
                .next_bps
                .or(allocation.plenty_bps)
                .map(|bps| bps.saturating_add(bps / 100 * AIM_PERCENT).saturating_add(overhead_bps));
            peer.bandwidth.set_demand(Demand { now_bps: allocation.now_bps, next_bps }, now);
        }
        self.consider_probe(key, now);
        // A client that is heard again has what it had: it lost that to silence, not to the lack of anything.
        let is_silent = known.is_some_and(|known| known.limit == Limit::Silence);
        for ((down_key, claim), grant) in keys.into_iter().zip(&claims).zip(allocation.grants) {
            let Some(down) = self.downs.get_mut(down_key) else { continue };
            let wished = self.ups.get(down.up).and_then(|up| wanted_rung(&down.wish, &up.ladder(now)));
            let memory = if is_silent { claim.memory } else { grant.memory };
            let has_changed = down.share.take(memory, grant.memory.place, wished, down.flow.live.is_some(), now);
            let is_pause = down.share.is_pause(now);
            self.set_pause(down_key, PauseCause::Bandwidth, is_pause);
            if has_changed {
                self.retarget(down_key, now);
            }
        }
    }

    /// What the subscriptions of a transport ask for.
    fn claims(&self, downs: &[DownKey], is_first: bool, now: Instant) -> Claims {
        let mut all = Claims::default();
        for (place, &key) in downs.iter().enumerate() {
            let Some(down) = self.downs.get(key) else { continue };
            let Some(up) = self.ups.get(down.up) else { continue };
            if up.kind() == MediaKind::Audio {
                if !self.is_drowned(up) {
                    all.audio_bps = all.audio_bps.saturating_add(audio_rate(down, up));
                }
            } else if let Some(claim) = self.claim(place, down, up, is_first, now) {
                all.keys.push(key);
                all.claims.push(claim);
            } else {
                all.unclaimed.push(key);
            }
        }
        all
    }

    /// A microphone that is not forwarded, because many others are louder.
    fn is_drowned(&self, up: &UpTrack) -> bool {
        let room = self.participants.get(up.participant).and_then(|owner| self.rooms.get(owner.room));
        room.is_some_and(|room| room.speakers.drowns(up.id.0))
    }

    /// Audio goes out without redundancy where that takes too much of what a picture needs, or more than there is.
    fn spare_redundancy(&mut self, downs: &[DownKey], budget: Option<Budget>, audio_bps: u64, has_video: bool, now: Instant) {
        for &key in downs {
            let Some(down) = self.downs.get_mut(key) else { continue };
            let has_changed = down.red_payload_type.is_some() && down.redundancy.on_budget(budget, audio_bps, has_video);
            if has_changed {
                self.retarget(key, now);
            }
        }
    }

    /// Nothing of this kind limits a subscription.
    fn uncap(&mut self, key: DownKey, now: Instant) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let before = std::mem::take(&mut down.share);
        if before.cap != Cap::None {
            self.set_pause(key, PauseCause::Bandwidth, false);
            self.retarget(key, now);
        }
    }

    /// None: nothing is to be sent, whatever the bandwidth.
    fn claim(&self, place: usize, down: &DownTrack, up: &UpTrack, is_first: bool, now: Instant) -> Option<Claim> {
        if !down.wish.enabled || down.payload_type.is_none() || up.is_muted {
            return None;
        }
        let steps = up.steps(&down.wish, now);
        let owner = self.participants.get(up.participant)?;
        let speaker = self.rooms.get(owner.room).and_then(|room| room.stage.speaker());
        let size = u64::from(down.wish.width_px) * u64::from(down.wish.height_px);
        let rank = Rank {
            priority: if down.wish.priority == 0 { u32::MAX } else { down.wish.priority },
            is_camera: !up.is_screen,
            is_silent: speaker != Some(up.participant),
            // No size means no limit.
            smallness_px: if size == 0 { 0 } else { u64::MAX - size },
            place,
        };
        (!steps.is_empty()).then_some(Claim { rank, steps, memory: down.share.memory(is_first && down.flow.live.is_some()) })
    }

    /// A cause for which nothing flows came or went; the subscriber is told if that makes a difference.
    pub(crate) fn set_pause(&mut self, key: DownKey, cause: PauseCause, holds: bool) {
        let Some(down) = self.downs.get_mut(key) else { return };
        down.stream_state.set(cause, holds);
        let track = down.track;
        let owner = self.peers.get(down.peer).and_then(|peer| self.participants.get(peer.participant));
        if let Some(participant) = owner.map(|participant| participant.id)
            && let Some(is_paused) = down.stream_state.take_change()
        {
            self.events.push_back(Event::StreamState { participant, track, is_paused });
        }
    }

    /// A subscription is about to begin: where bandwidth is divided, or nothing is known of it, it waits for its share. True if it
    /// has none yet.
    pub(crate) fn waits_for_share(&mut self, key: DownKey, now: Instant) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        let Some(peer) = self.peers.get_mut(down.peer) else { return false };
        // Whoever names an estimate of its own is not probed, whatever it agreed to.
        let is_probed = down.can_be_probed() && peer.bandwidth.estimate().is_none_or(|estimate| estimate.limit != Limit::Client);
        let allotment = &mut peer.allotment;
        if down.share.cap != Cap::None || !down.wish.enabled || allotment.is_foreign {
            return false;
        }
        let is_new = down.sent.packets == 0 && down.flow.wanted.is_none() && is_probed;
        let waits = allotment.is_divided || (is_new && allotment.start.begin_again());
        if !waits {
            return false;
        }
        let wished = self.ups.get(down.up).and_then(|up| wanted_rung(&down.wish, &up.ladder(now)));
        down.share.begin(wished, now);
        allotment.has_waiting = true;
        let peer = down.peer;
        self.hurry_allocation(peer, now);
        self.downs.get(key).is_some_and(|down| down.share.cap == Cap::Paused)
    }

    /// Which size a publisher should send for a subscription.
    pub(crate) fn rung_to_send(&self, down: &DownTrack, up: &UpTrack, now: Instant) -> Option<usize> {
        down.share.wanted_rung(wanted_rung(&down.wish, &up.ladder(now)), now)
    }
}

fn audio_rate(down: &DownTrack, up: &UpTrack) -> u64 {
    let live = down.flow.live.and_then(|index| up.encodings.get(index));
    live.map_or(0, |encoding| encoding.rates.of(u32::MAX).unwrap_or(USUAL_AUDIO_BPS))
}
