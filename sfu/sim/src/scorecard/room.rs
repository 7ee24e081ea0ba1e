//! How the whole of adaptation does, as people have it: cameras with three encodings, retransmission, the real estimate and the
//! real allocation, one subscriber behind a road. [`super::scenarios`] measures congestion control alone, with an encoder that
//! follows the estimate.
//!
//! In: a [`RoomScenario`]. Out: a [`RoomCard`], a row of the table. Layers come in steps, so what is received is compared with
//! what the largest steps would be that fit into [`USABLE`] of the capacity, the cameras taking turns.

use std::fmt::Write as _;
use std::time::Duration;

use sfu_api::TrackId;
use sfu_core::media::Codec;

use super::{bin, bits, float, percentile, seconds_since};
use crate::link::{Chance, LinkConfig, Loss};
use crate::participant::TrackSpec;
use crate::road::{BIN, FlowMeter, RoadConfig};
use crate::scalability::Mode;
use crate::video::VideoConfig;
use crate::world::{ROOM, Who, World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MBIT: u64 = 1_000_000;
const KBIT: u64 = 1_000;
/// Time for joining, negotiation and handshakes, before the road begins.
const JOINING: Duration = Duration::from_secs(2);
/// The beginning of a phase, and of a subscription, in which little is expected yet.
const SETTLING: Duration = Duration::from_secs(10);
/// Of the capacity so much can be used without a queue.
const USABLE: f64 = 0.9;
/// A voice with its headers.
const AUDIO_BPS: f64 = 50_000.0;
/// Payload of the steps of a camera ([`VideoConfig::simulcast`] with three temporal layers) with what headers add, in bits per
/// second: the frame rates of the smallest size, then each further size with half and with all of its frames.
const STEPS: [f64; 7] = [64_000.0, 96_000.0, 160_000.0, 318_000.0, 530_000.0, 1_080_000.0, 1_800_000.0];
/// What is received is averaged over this when the lowest is sought.
const LOWEST_OVER: Duration = Duration::from_secs(5);
/// What is sent is averaged over this when it is compared with the capacity.
const OVERSHOOT_OVER: Duration = Duration::from_millis(500);
/// So much more than the capacity is too much.
const OVERSHOOT: f64 = 1.2;
/// After the capacity has fallen it takes a moment until less is sent.
const REACTION: Duration = Duration::from_millis(1_500);
/// The worst of so many plays with different seeds counts.
pub const PLAYS: u64 = 3;

/// Some cameras, each with three encodings, a voice, and a subscriber to all of them.
#[derive(Clone, Debug)]
pub struct RoomScenario {
    /// Row of the table.
    pub name: &'static str,
    /// How long.
    pub length: Duration,
    /// Rates of the road, each from a time on.
    pub rates: Vec<(Duration, u64)>,
    /// Longest time in the queue; of a policer, the size of its bucket.
    pub queue: Duration,
    /// What is above the rate is dropped, and nothing waits.
    pub is_policed: bool,
    /// On the road.
    pub loss: Loss,
    /// One way, behind the road and back.
    pub delay: Duration,
    /// How many.
    pub cameras: usize,
    /// When they are muted, and when they are not any more.
    pub muted: Option<(Duration, Duration)>,
    /// What has to be reached.
    pub bars: RoomBars,
    /// What is to be reached one day.
    pub goals: RoomBars,
}

/// What has to be reached; None: only reported. Units are those of [`RoomCard`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RoomBars {
    /// In each phase.
    pub received: Option<f64>,
    /// At least.
    pub lowest: Option<f64>,
    /// At most.
    pub queue_p95: Option<f64>,
    /// At most.
    pub dropped: Option<f64>,
    /// At most.
    pub overshoot: Option<f64>,
    /// At most.
    pub up: Option<f64>,
    /// At most.
    pub freeze: Option<f64>,
    /// At most.
    pub freezes: Option<f64>,
    /// At most.
    pub switches: Option<f64>,
    /// At most.
    pub requests: Option<f64>,
    /// At most.
    pub unheard: Option<f64>,
}

/// A row of the table. Where there are several tracks it is the worst of them.
#[derive(Clone, Debug, Default)]
pub struct RoomCard {
    /// Percent of the steps that would fit, in each phase that is long enough, without its beginning.
    pub received: Vec<f64>,
    /// The same in the worst [`LOWEST_OVER`] of all these.
    pub lowest: Option<f64>,
    /// Milliseconds, from [`SETTLING`] on.
    pub queue_p50: f64,
    /// Milliseconds, from [`SETTLING`] on.
    pub queue_p95: f64,
    /// Percent dropped by the queue or the policer, from [`SETTLING`] on.
    pub dropped: f64,
    /// The same before.
    pub dropped_first: f64,
    /// Longest time for which more than [`OVERSHOOT`] of the capacity was sent, in seconds; not in the beginning, nor right after it fell.
    pub overshoot: f64,
    /// Seconds from the worst rise of the capacity, the start or the end of the mute until 80 % of what would fit arrives.
    pub up: Option<f64>,
    /// Longest time without a new picture of a track, in milliseconds, from [`SETTLING`] on and not counting mutes.
    pub freeze: f64,
    /// Freezes (as browsers count them) per minute of all tracks together.
    pub freezes: f64,
    /// Changes of the size on screen per minute and track.
    pub switches: f64,
    /// Keyframe requests that a publisher gets, per minute and layer.
    pub requests: f64,
    /// Percent of the voice that was not heard.
    pub unheard: f64,
}

/// What a run leaves.
struct Log {
    meter: FlowMeter,
    /// Packets and those that were dropped, until [`SETTLING`].
    first: (u64, u64),
    /// Payload bytes of video that have come by the end of each [`BIN`].
    video_bytes: Vec<u64>,
    freezes: Vec<(Duration, Duration)>,
    /// Of each track.
    switches: Vec<usize>,
    requests: u64,
    unheard: f64,
}

/// All of them, in the order of the table.
#[must_use]
pub fn all() -> Vec<RoomScenario> {
    let base = |name, length_s: u32, rates: &[(u32, u64)]| RoomScenario {
        name,
        length: SECOND * length_s,
        rates: rates.iter().map(|&(at_s, bps)| (SECOND * at_s, bps)).collect(),
        queue: MS * 300,
        is_policed: false,
        loss: Loss::None,
        delay: MS * 50,
        cameras: 1,
        muted: None,
        bars: RoomBars::default(),
        goals: RoomBars::default(),
    };
    let variable = [(0, MBIT), (40, 5 * MBIT / 2), (60, 600 * KBIT), (80, MBIT)];
    let steady = RoomBars {
        queue_p95: Some(120.0),
        switches: Some(6.0),
        requests: Some(4.0),
        unheard: Some(1.0),
        freezes: Some(4.0),
        ..RoomBars::default()
    };
    // Row 12 of the table of bars is the room of nine, 5.8 its row 11, 2 % of loss its row 2.
    vec![
        RoomScenario {
            bars: RoomBars { received: Some(85.0), dropped: Some(2.0), up: Some(8.0), freeze: Some(500.0), ..steady },
            ..base("5.1, a camera", 100, &variable)
        },
        RoomScenario {
            loss: Loss::Random(Chance::percent(2.0)),
            bars: RoomBars { received: Some(80.0), lowest: Some(60.0), freezes: None, ..steady },
            goals: RoomBars { freeze: Some(500.0), freezes: Some(4.0), ..RoomBars::default() },
            ..base("5.1, 2 % loss", 100, &variable)
        },
        RoomScenario {
            cameras: 2,
            delay: MS * 25,
            bars: RoomBars { received: Some(80.0), freeze: Some(500.0), ..steady },
            goals: RoomBars { up: Some(8.0), ..RoomBars::default() },
            ..base("4, 1, 4 Mbit/s, two cameras", 90, &[(0, 4 * MBIT), (30, MBIT), (60, 4 * MBIT)])
        },
        RoomScenario {
            cameras: 9,
            bars: RoomBars { received: Some(80.0), freeze: Some(500.0), ..steady },
            ..base("nine cameras, 1.5 Mbit/s", 80, &[(0, 3 * MBIT / 2)])
        },
        RoomScenario {
            cameras: 2,
            muted: Some((SECOND * 40, SECOND * 60)),
            bars: RoomBars { received: Some(80.0), overshoot: Some(1.0), up: Some(3.0), ..steady },
            ..base("5.8, two cameras muted for 20 s", 100, &[(0, 2 * MBIT)])
        },
        RoomScenario {
            queue: MS * 60,
            is_policed: true,
            bars: RoomBars { received: Some(80.0), dropped: Some(3.0), freeze: Some(500.0), freezes: None, ..steady },
            goals: RoomBars { freezes: Some(4.0), ..RoomBars::default() },
            ..base("policed to 1.5 Mbit/s", 80, &[(0, 3 * MBIT / 2)])
        },
    ]
}

impl RoomScenario {
    fn road(&self) -> RoadConfig {
        let link = LinkConfig { loss: self.loss, is_policed: self.is_policed, ..LinkConfig::default() };
        RoadConfig { rates: self.rates.clone(), queue: self.queue, link, tcp: Vec::new() }
    }

    /// From when to when, and how much.
    fn phases(&self) -> Vec<(Duration, Duration, u64)> {
        let ends = self.rates.iter().skip(1).map(|&(at, _)| at).chain([self.length]);
        self.rates.iter().zip(ends).map(|(&(at, rate_bps), end)| (at, end, rate_bps)).collect()
    }

    fn rate_bps(&self, at: Duration) -> u64 {
        self.rates.iter().rev().find(|(from, _)| *from <= at).map_or(0, |&(_, bps)| bps)
    }

    fn is_muted(&self, at: Duration) -> bool {
        self.muted.is_some_and(|(from, to)| at >= from && at < to)
    }

    /// Video that fits: each camera in turn goes a step up while there is room.
    fn fits_bps(&self, at: Duration) -> f64 {
        if self.is_muted(at) {
            return 0.0;
        }
        let room_bps = float(self.rate_bps(at)) * USABLE - AUDIO_BPS;
        let mut steps = vec![0_usize; self.cameras];
        let mut used_bps = 0.0;
        for turn in 0..STEPS.len() {
            for step in &mut steps {
                let more_bps = STEPS[turn] - if turn == 0 { 0.0 } else { STEPS[turn - 1] };
                if *step == turn && used_bps + more_bps <= room_bps {
                    (*step, used_bps) = (turn + 1, used_bps + more_bps);
                }
            }
        }
        used_bps
    }
}

/// Plays a scenario.
#[must_use]
pub fn play(scenario: &RoomScenario, seed: u64) -> RoomCard {
    card(scenario, &run(scenario, seed))
}

fn run(scenario: &RoomScenario, seed: u64) -> Log {
    let mut world = World::new(seed);
    world.has_dynacast = true;
    let cameras: Vec<TrackId> = (0..scenario.cameras).map(|_| camera(&mut world)).collect();
    let speaker = world.sender_of(cameras[0]);
    let voice = world.publish(speaker, TrackSpec::Audio { level: 30 });
    let link = LinkConfig::delayed(scenario.delay);
    let who = world.join_over(ROOM, link, link);
    world.run_for(JOINING);
    world.share_road(scenario.road(), &[who]);
    cameras.iter().for_each(|&track| world.subscribe(who, track));
    world.subscribe(who, voice);
    let (start, mut video_bytes) = (world.now(), Vec::new());
    let (mut settled, mut first) = (Vec::new(), (0, 0));
    while world.now() - start < scenario.length {
        let at = world.now() - start;
        for (edge, is_muted) in scenario.muted.into_iter().flat_map(|(from, to)| [(from, true), (to, false)]) {
            if at == edge {
                cameras.iter().for_each(|&track| world.set_muted(track, is_muted));
            }
        }
        if at == SETTLING {
            settled = cameras.iter().map(|&track| asked(&world, track)).collect();
            first = (world.road_meter(who).packets, world.road_meter(who).dropped);
        }
        world.run_for(BIN);
        video_bytes.push(cameras.iter().map(|&track| payload_bytes(&world, who, track)).sum());
    }
    let mut log = Log {
        meter: world.road_meter(who).clone(),
        first,
        video_bytes,
        freezes: Vec::new(),
        switches: Vec::new(),
        requests: 0,
        unheard: 0.0,
    };
    for (&track, before) in cameras.iter().zip(&settled) {
        let report = world.report(who, track);
        let since = |at: std::time::Instant| at.saturating_duration_since(start);
        log.freezes.extend(report.freezes.iter().map(|&(at, length)| (since(at), length)));
        log.switches.push(report.switches.iter().filter(|&&(at, _)| since(at) >= SETTLING).count());
        let more = asked(&world, track).iter().zip(before).map(|(after, before)| after - before).max();
        log.requests = log.requests.max(more.unwrap_or(0));
    }
    let heard = world.heard(who, voice);
    log.unheard = percent(heard.missing, heard.packets + heard.missing);
    log
}

fn camera(world: &mut World) -> TrackId {
    let publisher = world.join(ROOM);
    let TrackSpec::Video(config) = world.simulcast(Codec::Vp8) else { unreachable!("a camera is video") };
    world.publish(publisher, TrackSpec::Video(VideoConfig { mode: Mode::L1T3, ..config }))
}

/// Keyframe requests that its publisher got, for each layer.
fn asked(world: &World, track: TrackId) -> [u64; 3] {
    [0, 1, 2].map(|layer| world.sender(track).feedback(layer).keyframe_requests)
}

fn payload_bytes(world: &World, who: Who, track: TrackId) -> u64 {
    world.participant(who).receiving(track).map_or(0, |track| track.video.report(world.now()).payload_bytes)
}

fn card(scenario: &RoomScenario, log: &Log) -> RoomCard {
    let phases = scenario.phases();
    let came = |from: Duration, to: Duration| {
        let total = |at: Duration| bin(at).checked_sub(1).and_then(|last| log.video_bytes.get(last)).copied().unwrap_or(0);
        // With headers, as the steps are.
        float(total(to) - total(from)) * 8.0 * STEPS[6] / 1_700_000.0
    };
    let fits = |from: Duration, to: Duration| {
        (bin(from)..bin(to)).map(|at| scenario.fits_bps(BIN * u32::try_from(at).unwrap_or(0)) * BIN.as_secs_f64()).sum::<f64>()
    };
    let share = |from: Duration, to: Duration| 100.0 * came(from, to) / fits(from, to).max(1.0);
    // A mute ends one phase and begins another.
    let edges = scenario.muted.iter().flat_map(|&(from, to)| [from, to]);
    let mut starts: Vec<Duration> = phases.iter().map(|phase| phase.0).chain(edges).collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([scenario.length]);
    let settled: Vec<(Duration, Duration)> = starts
        .iter()
        .zip(ends)
        .map(|(&from, to)| (from + SETTLING, to))
        .filter(|&(from, to)| from + SETTLING / 2 <= to && fits(from, to) > 0.0)
        .collect();
    let windows = settled.iter().flat_map(|&(from, to)| {
        (0..).map(move |step| from + BIN * step).map(|from| (from, from + LOWEST_OVER)).take_while(move |window| window.1 <= to)
    });
    let minutes = (scenario.length - SETTLING).as_secs_f64() / 60.0;
    let freezes = log
        .freezes
        .iter()
        .filter(|(at, length)| *at >= SETTLING && !(scenario.is_muted(*at + MS * 300) || scenario.is_muted(*at + *length / 2)));
    let freezes: Vec<Duration> = freezes.map(|&(_, length)| length).collect();
    let mut waits: Vec<u32> = log.meter.waits.iter().filter(|(at, _)| *at >= SETTLING).map(|&(_, us)| us).collect();
    waits.sort_unstable();
    let ups = starts.iter().filter(|&&at| is_rise(scenario, at)).map(|&at| {
        let end = starts.iter().copied().find(|&next| next > at).unwrap_or(scenario.length);
        let window = BIN * 10;
        let mut tries = (0..).map(|step| at + BIN * step).take_while(|&from| from + window <= end);
        let found = tries.find(|&from| came(from, from + window) >= 0.8 * fits(from, from + window));
        found.map_or((end - at).as_secs_f64(), |from| seconds_since(Some(bin(from + window) - 1), at, end))
    });
    RoomCard {
        received: settled.iter().map(|&(from, to)| share(from, to)).collect(),
        lowest: windows.map(|(from, to)| share(from, to)).reduce(f64::min),
        queue_p50: percentile(&waits, 50),
        queue_p95: percentile(&waits, 95),
        dropped: percent(log.meter.dropped - log.first.1, log.meter.packets - log.first.0),
        dropped_first: percent(log.first.1, log.first.0),
        overshoot: overshoot(scenario, &log.meter).as_secs_f64(),
        up: ups.reduce(f64::max),
        freeze: freezes.iter().max().map_or(0.0, |longest| longest.as_secs_f64() * 1e3),
        freezes: float(freezes.len() as u64) / minutes,
        switches: float(log.switches.iter().copied().max().unwrap_or(0) as u64) / minutes,
        requests: float(log.requests) / minutes,
        unheard: log.unheard,
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * float(part) / float(whole).max(1.0)
}

/// More can be sent from a time on than before.
fn is_rise(scenario: &RoomScenario, at: Duration) -> bool {
    at.checked_sub(BIN).is_none_or(|before| scenario.fits_bps(at) > scenario.fits_bps(before))
}

/// See [`RoomCard::overshoot`].
fn overshoot(scenario: &RoomScenario, meter: &FlowMeter) -> Duration {
    let (mut longest, mut lasts) = (Duration::ZERO, Duration::ZERO);
    for from in (0..).map(|step| SETTLING + BIN * step).take_while(|&from| from + OVERSHOOT_OVER <= scenario.length) {
        let has_fallen = scenario.rates.iter().any(|&(at, _)| at > Duration::ZERO && from + OVERSHOOT_OVER > at && from < at + REACTION);
        let most = float(scenario.rate_bps(from)) * OVERSHOOT * OVERSHOOT_OVER.as_secs_f64();
        let is_over = !has_fallen && bits(&meter.sent_bytes, from, from + OVERSHOOT_OVER) > most;
        lasts = if is_over { lasts + BIN } else { Duration::ZERO };
        longest = longest.max(lasts);
    }
    longest
}

impl RoomCard {
    /// The worst of several plays.
    #[must_use]
    pub fn worst(plays: &[Self]) -> Self {
        let most = |field: fn(&Self) -> f64| plays.iter().map(field).fold(0.0, f64::max);
        let phases = plays.iter().map(|play| play.received.len()).max().unwrap_or(0);
        let least = |phase: usize| plays.iter().filter_map(|play| play.received.get(phase)).copied().reduce(f64::min).unwrap_or(0.0);
        Self {
            received: (0..phases).map(least).collect(),
            lowest: plays.iter().filter_map(|play| play.lowest).reduce(f64::min),
            queue_p50: most(|play| play.queue_p50),
            queue_p95: most(|play| play.queue_p95),
            dropped: most(|play| play.dropped),
            dropped_first: most(|play| play.dropped_first),
            overshoot: most(|play| play.overshoot),
            up: plays.iter().filter_map(|play| play.up).reduce(f64::max),
            freeze: most(|play| play.freeze),
            freezes: most(|play| play.freezes),
            switches: most(|play| play.switches),
            requests: most(|play| play.requests),
            unheard: most(|play| play.unheard),
        }
    }

    /// Bars that are not reached, in words. What was not measured reaches none.
    #[must_use]
    pub fn missed(&self, bars: &RoomBars) -> Vec<String> {
        let received = self.received.iter().copied().reduce(f64::min);
        let at_least = [("received", received, bars.received), ("lowest", self.lowest, bars.lowest)];
        let at_most = [
            ("queue p95", Some(self.queue_p95), bars.queue_p95),
            ("dropped", Some(self.dropped), bars.dropped),
            ("overshoot", Some(self.overshoot), bars.overshoot),
            ("up", self.up, bars.up),
            ("freeze", Some(self.freeze), bars.freeze),
            ("freezes", Some(self.freezes), bars.freezes),
            ("switches", Some(self.switches), bars.switches),
            ("requests", Some(self.requests), bars.requests),
            ("unheard", Some(self.unheard), bars.unheard),
        ];
        let low = at_least.into_iter().filter_map(|(name, value, bar)| Some((name, value.unwrap_or(f64::MIN), bar?, "below")));
        let high = at_most.into_iter().filter_map(|(name, value, bar)| Some((name, value.unwrap_or(f64::MAX), bar?, "above")));
        let missed = low.filter(|(_, value, bar, _)| value < bar).chain(high.filter(|(_, value, bar, _)| value > bar));
        missed.map(|(name, value, bar, side)| format!("{name} {value:.2} is {side} {bar}")).collect()
    }

    /// Head of the table.
    pub const HEAD: &str = "| scenario | received % | lowest 5 s % | queue p50/p95 ms | dropped (at first) % | over 120 % s | up s | longest freeze ms \
                            | freezes/min | switches/min | requests/min | unheard % |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";

    /// The row.
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let phases: Vec<String> = self.received.iter().map(|percent| format!("{percent:.0}")).collect();
        let option = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let mut row = format!("| {name} | {} | {} |", phases.join(" "), option(self.lowest, 0));
        let _ = write!(row, " {:.0} / {:.0} | {:.1} ({:.1}) |", self.queue_p50, self.queue_p95, self.dropped, self.dropped_first);
        let _ = write!(row, " {:.1} |", self.overshoot);
        let _ = write!(row, " {} | {:.0} | {:.1} |", option(self.up, 1), self.freeze, self.freezes);
        let _ = writeln!(row, " {:.1} | {:.1} | {:.1} |", self.switches, self.requests, self.unheard);
        row
    }
}
