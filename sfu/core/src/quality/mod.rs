//! How well each participant's media gets through: once a second a class, told to signaling when it changes.
//!
//! In: reception statistics of what it sends, its receiver reports on what it gets, layers that are missing, round trip times,
//! whether anything is heard of it at all. Out: [`Event::ConnectionQuality`], with the direction and the cause of the worst.
//! Classes by rating (see [`rating`]): EXCELLENT from 80, GOOD from 60 (G.107 annex B: "satisfied", "many users
//! dissatisfied" below), POOR below that, LOST after [`SILENCE`]. The rating is the lowest of audio and video, up and down,
//! over the last [`SPAN`] looks. It falls at once; it rises after two looks in a row with [`RISE_MARGIN`] to spare. So a change is
//! told within five seconds.
//! Invariant: what a publisher loses on its way here changes nobody's class but its own.

pub mod rating;
pub mod traffic;

use std::time::{Duration, Instant};

use sfu_api::{Event, MediaKind, Quality, QualityCause, QualityDirection, TransportRole};

use self::rating::Path;
use self::traffic::{DownlinkCounters, Traffic, UplinkCounters};
use crate::ids::{ParticipantKey, PeerKey};
use crate::publish::UpTrack;
use crate::shard::Shard;
use crate::subscribe::selector::wanted_rung;

/// Between two looks at a participant.
const LOOK: Duration = Duration::from_secs(1);
/// Looks that are judged together.
const SPAN: usize = 3;
/// Nothing was heard of a client for so long: more than the longest interval of consent checks (RFC 7675 section 5.1: 6 s),
/// for a client with audio only sends reports as rarely.
const SILENCE: Duration = Duration::from_secs(7);
const EXCELLENT: f64 = 80.0;
const GOOD: f64 = 60.0;
/// A better class is reached only with so much to spare.
const RISE_MARGIN: f64 = 3.0;
/// And in so many looks in a row.
const RISE_LOOKS: u8 = 2;
/// Fewer packets say nothing.
const MIN_PACKETS: u64 = 5;
/// A finding holds for so many looks in which there was nothing new: reports on audio come every 5 s.
const MAX_AGE_LOOKS: u8 = 6;

/// What is looked at separately.
const PARTS: usize = 4;

/// A participant's class, and what it follows from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monitor {
    parts: [Part; PARTS],
    told: Option<Quality>,
    looks_better: u8,
}

/// Audio or video in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Newest first.
    looks: [Traffic; SPAN],
    age_looks: u8,
}

/// A class with what it follows from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// Class.
    pub quality: Quality,
    /// Mean opinion score.
    pub score: f32,
    /// Where the worst is.
    pub direction: QualityDirection,
    /// What is the matter with it.
    pub cause: QualityCause,
}

/// The lowest rating, with what it follows from.
#[derive(Clone, Copy, Debug)]
struct Worst {
    rating: f64,
    direction: QualityDirection,
    cause: QualityCause,
}

/// What one look found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// False: nothing was heard for [`SILENCE`].
    pub is_heard: bool,
    /// Of the client, if known.
    pub round_trip: Duration,
    /// By [`part`].
    pub traffic: [Traffic; PARTS],
    /// Layers of its video that ceased to come though somebody wants them.
    pub missing_up: u8,
    /// Layers of what it gets that are left out for lack of bandwidth.
    pub missing_down: u8,
}

impl Monitor {
    /// The class and what it follows from, if the class is another than before.
    pub fn judge(&mut self, look: &Look) -> Option<Verdict> {
        let Worst { rating, direction, cause } = self.worst(look);
        let class = if look.is_heard { class(rating) } else { Quality::Lost };
        let next = match self.told {
            None | Some(Quality::Lost) => class,
            Some(told) if class <= told => class,
            Some(told) => {
                let reached = self::class(rating - RISE_MARGIN);
                self.looks_better = if reached > told { self.looks_better + 1 } else { 0 };
                if self.looks_better >= RISE_LOOKS { reached } else { told }
            }
        };
        if self.told.is_some_and(|told| class <= told) || self.told != Some(next) {
            self.looks_better = 0;
        }
        if self.told == Some(next) {
            return None;
        }
        self.told = Some(next);
        let score = if next == Quality::Lost { 1.0 } else { rating::opinion_score(rating) };
        #[expect(clippy::cast_possible_truncation, reason = "a score has two digits")]
        let score = score as f32;
        let (direction, cause) = match next {
            Quality::Lost => (QualityDirection::Up, QualityCause::Silence),
            Quality::Excellent => (QualityDirection::Neither, QualityCause::None),
            Quality::Good | Quality::Poor => (direction, cause),
        };
        Some(Verdict { quality: next, score, direction, cause })
    }

    fn worst(&mut self, look: &Look) -> Worst {
        let idle = rating::idle(look.round_trip);
        let mut worst = Worst { rating: idle, direction: QualityDirection::Both, cause: QualityCause::Delay };
        for (index, (part, new)) in self.parts.iter_mut().zip(look.traffic).enumerate() {
            part.take(new);
            let traffic = part.traffic();
            let (direction, missing) = match index {
                UP_AUDIO => (QualityDirection::Up, 0),
                UP_VIDEO => (QualityDirection::Up, look.missing_up),
                DOWN_AUDIO => (QualityDirection::Down, 0),
                _ => (QualityDirection::Down, look.missing_down),
            };
            if traffic.is_none() && missing == 0 {
                continue;
            }
            let path = traffic.unwrap_or_default().path(look.round_trip);
            let rate = |path: &Path, layers| if is_video(index) { rating::video(path, layers) } else { rating::audio(path) };
            let rating = rate(&path, missing);
            if rating < worst.rating {
                let (unlost, unhurried) = (Path { lost: 0.0, residual: 0.0, ..path }, Path::default());
                let by_delay = rate(&unhurried, 0) - rate(&unlost, 0);
                let by_loss = rate(&unlost, 0) - rate(&path, 0);
                let by_layers = rate(&path, 0) - rating;
                let costs = [(by_layers, QualityCause::Bandwidth), (by_loss, QualityCause::Loss), (by_delay, QualityCause::Delay)];
                let cause = costs.into_iter().reduce(|most, other| if other.0 > most.0 { other } else { most });
                worst = Worst { rating, direction, cause: cause.map_or(QualityCause::None, |(_, cause)| cause) };
            }
        }
        worst
    }
}

impl Part {
    fn take(&mut self, new: Traffic) {
        if new.packets >= MIN_PACKETS {
            self.looks.rotate_right(1);
            self.looks[0] = new;
            self.age_looks = 0;
        } else if self.age_looks < MAX_AGE_LOOKS {
            self.age_looks += 1;
        } else {
            *self = Self { age_looks: self.age_looks, ..Self::default() };
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        let mut sum = Traffic::default();
        self.looks.iter().for_each(|&look| sum += look);
        (sum.packets > 0).then_some(sum)
    }
}

fn class(rating: f64) -> Quality {
    match rating {
        rating if rating >= EXCELLENT => Quality::Excellent,
        rating if rating >= GOOD => Quality::Good,
        _ => Quality::Poor,
    }
}

/// Place of a kind and direction in [`Look::traffic`].
#[must_use]
pub const fn part(role: TransportRole, kind: MediaKind) -> usize {
    let direction = match role {
        TransportRole::Publisher => 0,
        TransportRole::Subscriber => 2,
    };
    match kind {
        MediaKind::Audio => direction,
        MediaKind::Video => direction + 1,
    }
}

const UP_AUDIO: usize = part(TransportRole::Publisher, MediaKind::Audio);
const UP_VIDEO: usize = part(TransportRole::Publisher, MediaKind::Video);
const DOWN_AUDIO: usize = part(TransportRole::Subscriber, MediaKind::Audio);

const fn is_video(part: usize) -> bool {
    part % 2 == 1
}

impl Shard {
    /// With every media tick: looks at those participants whose turn it is.
    pub(crate) fn judge_connections(&mut self, tick: u64, now: Instant) {
        for key in self.awake.looks.take(tick, |key| self.participants.contains_key(key)) {
            let Some(look) = self.look_at(key, now) else { continue };
            let Some(participant) = self.participants.get_mut(key) else { continue };
            if let Some(Verdict { quality, score, direction, cause }) = participant.quality.judge(&look) {
                let participant = participant.id;
                tracing::debug!(?participant, ?quality, score, direction = direction.code(), cause = cause.code(), "connection quality");
                self.events.push_back(Event::ConnectionQuality { participant, quality, score, direction, cause });
            }
        }
    }

    /// None before a transport is up.
    fn look_at(&mut self, key: ParticipantKey, now: Instant) -> Option<Look> {
        let participant = self.participants.get(key)?;
        let [publisher, subscriber] =
            [participant.publisher.as_ref().map(|side| side.peer), participant.subscriber.as_ref().map(|side| side.peer)];
        let connected: Vec<_> = [publisher, subscriber]
            .into_iter()
            .flatten()
            .filter_map(|key| self.peers.get(key))
            .filter(|peer| peer.profile.is_some())
            .collect();
        if connected.is_empty() {
            return None;
        }
        let is_heard = connected.iter().any(|peer| peer.heard_at.is_some_and(|at| now.saturating_duration_since(at) < SILENCE));
        let round_trip = connected.iter().filter_map(|peer| peer.rtt).max().unwrap_or_default();
        let mut look = Look { is_heard, round_trip, traffic: [Traffic::default(); PARTS], missing_up: 0, missing_down: 0 };
        self.look_at_uplink(key, now, &mut look);
        for peer in [publisher, subscriber].into_iter().flatten() {
            self.look_at_downlink(peer, now, &mut look);
        }
        Some(look)
    }

    fn look_at_uplink(&mut self, key: ParticipantKey, now: Instant, look: &mut Look) {
        let Some(participant) = self.participants.get(key) else { return };
        for &up_key in &participant.ups {
            let Some(up) = self.ups.get_mut(up_key) else { continue };
            let (kind, clock_rate_hz) = (up.kind(), up.codec.codec.clock_rate_hz());
            let is_muted = up.is_muted;
            for encoding in &mut up.encodings {
                let counters = UplinkCounters {
                    expected: encoding.reception.expected().unwrap_or(0),
                    received: encoding.reception.received(),
                    stored: encoding.stored(),
                };
                let jitter = ticks(encoding.reception.jitter_ticks(), clock_rate_hz);
                let traffic = encoding.meter.take(counters, jitter);
                if !is_muted {
                    look.traffic[part(TransportRole::Publisher, kind)] += traffic;
                }
            }
            if !is_muted && kind == MediaKind::Video {
                let up = &self.ups[up_key];
                let here = up.downs.iter().filter_map(|&key| self.rung_to_send(self.downs.get(key)?, up, now)).max();
                let elsewhere = up.crossing.wishes().filter(|(codec, _)| *codec == up.codec.codec).filter_map(|(_, most)| most).max();
                let wanted = here.max(elsewhere.map(usize::from));
                look.missing_up = look.missing_up.max(missing_layers(up, wanted, now));
            }
        }
    }

    fn look_at_downlink(&mut self, peer: PeerKey, now: Instant, look: &mut Look) {
        let Some(peer) = self.peers.get(peer) else { return };
        let in_flight = look.round_trip.as_secs_f64() / LOOK.as_secs_f64();
        for &key in &peer.downs {
            let Some(down) = self.downs.get_mut(key) else { continue };
            let Some(up) = self.ups.get(down.up) else { continue };
            let counters = DownlinkCounters {
                reports: down.reported.reports,
                reported_lost: down.reported.cumulative_lost.into(),
                never_sent: down.reported.never_sent,
                sent: down.sent.packets,
                late: down.sent.late,
                resent: down.sent.retransmitted,
            };
            let jitter = ticks(down.reported.jitter_ticks, up.codec.codec.clock_rate_hz());
            look.traffic[part(TransportRole::Subscriber, up.kind())] += down.meter.take(counters, in_flight, jitter);
            if up.kind() == MediaKind::Video && !up.is_muted && down.payload_type.is_some() {
                let left_out = down.share.left_out(wanted_rung(&down.wish, &up.ladder(now)));
                look.missing_down = look.missing_down.max(left_out);
            }
        }
    }
}

/// Sizes above the best that flows which have flowed before, up to the wanted one.
fn missing_layers(up: &UpTrack, wanted: Option<usize>, now: Instant) -> u8 {
    let rungs = up.encodings.iter().flat_map(|encoding| {
        let has_flowed = encoding.stored() >= MIN_PACKETS;
        encoding.offered(now).rungs.into_iter().map(move |rung| (rung.is_active, has_flowed))
    });
    let rungs: Vec<(bool, bool)> = rungs.collect();
    let Some(best) = rungs.iter().rposition(|&(is_active, _)| is_active) else { return 0 };
    let missing = rungs.iter().enumerate().skip(best + 1).filter(|&(rung, &(_, has_flowed))| has_flowed && Some(rung) <= wanted).count();
    u8::try_from(missing).unwrap_or(u8::MAX)
}

fn ticks(ticks: u32, clock_rate_hz: u32) -> Duration {
    Duration::from_micros(u64::from(ticks) * 1_000_000 / u64::from(clock_rate_hz.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(lost: u64) -> Look {
        let mut look = Look {
            is_heard: true,
            round_trip: Duration::from_millis(40),
            traffic: [Traffic::default(); PARTS],
            missing_up: 0,
            missing_down: 0,
        };
        look.traffic[part(TransportRole::Subscriber, MediaKind::Audio)] =
            Traffic { packets: 100, lost, residual: lost, jitter: Duration::ZERO };
        look
    }

    fn judge(monitor: &mut Monitor, look: &Look) -> Option<Quality> {
        monitor.judge(look).map(|verdict| verdict.quality)
    }

    #[test]
    fn the_first_look_is_told_and_the_same_class_is_not_told_again() {
        let mut monitor = Monitor::default();
        assert_eq!(judge(&mut monitor, &look(0)), Some(Quality::Excellent));
        assert_eq!(judge(&mut monitor, &look(0)), None);
    }

    #[test]
    fn a_class_falls_at_once_and_rises_after_two_good_looks() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        assert_eq!(judge(&mut monitor, &look(10)), Some(Quality::Good), "5 % over two looks");
        assert_eq!(judge(&mut monitor, &look(10)), Some(Quality::Poor));
        // What was bad is still in what is judged; then two good ones.
        assert_eq!(judge(&mut monitor, &look(0)), None);
        assert_eq!(judge(&mut monitor, &look(0)), None);
        assert_eq!(judge(&mut monitor, &look(0)), Some(Quality::Excellent));
    }

    #[test]
    fn a_rating_at_the_border_does_not_flap() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        // 2 %: rating 77, GOOD; 1.5 %: 80.8, EXCELLENT without the margin.
        assert_eq!(judge(&mut monitor, &look(2)), None, "1 % over two looks");
        assert_eq!(judge(&mut monitor, &look(2)), None, "1.3 % over three looks");
        assert_eq!(judge(&mut monitor, &look(2)), Some(Quality::Good));
        for lost in [1, 2, 1, 2, 1, 2] {
            assert_eq!(judge(&mut monitor, &look(lost)), None);
        }
    }

    #[test]
    fn silence_is_lost_at_once_and_over_with_the_first_sound() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        assert_eq!(judge(&mut monitor, &Look { is_heard: false, ..look(0) }), Some(Quality::Lost));
        assert_eq!(judge(&mut monitor, &look(0)), Some(Quality::Excellent));
    }

    #[test]
    fn the_worst_has_a_direction_and_a_cause() {
        use {QualityCause as Cause, QualityDirection as Direction};
        let found = |look: &Look| {
            let verdict = Monitor::default().judge(look).expect("the first look is told");
            (verdict.quality, verdict.direction, verdict.cause)
        };
        assert_eq!(found(&look(0)), (Quality::Excellent, Direction::Neither, Cause::None));
        assert_eq!(found(&look(20)), (Quality::Poor, Direction::Down, Cause::Loss));
        assert_eq!(found(&Look { missing_down: 1, ..look(0) }), (Quality::Good, Direction::Down, Cause::Bandwidth));
        assert_eq!(found(&Look { missing_up: 2, missing_down: 1, ..look(0) }), (Quality::Poor, Direction::Up, Cause::Bandwidth));
        assert_eq!(found(&Look { missing_down: 1, ..look(20) }), (Quality::Poor, Direction::Down, Cause::Loss));
        let far = Look { round_trip: Duration::from_secs(3), traffic: [Traffic::default(); PARTS], ..look(0) };
        assert_eq!(found(&far), (Quality::Poor, Direction::Both, Cause::Delay));
        assert_eq!(found(&Look { is_heard: false, ..look(0) }), (Quality::Lost, Direction::Up, Cause::Silence));
    }

    #[test]
    fn a_finding_holds_while_there_is_nothing_new() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(20));
        let nothing = Look { traffic: [Traffic::default(); PARTS], ..look(0) };
        for _ in 0..MAX_AGE_LOOKS {
            assert_eq!(judge(&mut monitor, &nothing), None);
        }
        assert_eq!(judge(&mut monitor, &nothing), None);
        assert_eq!(judge(&mut monitor, &nothing), Some(Quality::Excellent), "who gets nothing has nothing to complain of");
    }
}
