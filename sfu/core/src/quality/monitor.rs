//! From what a look at a participant finds to its class, without flapping and within five seconds.
//!
//! Classes by rating (see [`rating`]): EXCELLENT from 80, GOOD from 60 (G.107 annex B: "satisfied", "many users
//! dissatisfied" below), POOR below that, LOST after [`FLOW_SILENCE`] or [`SILENCE`]. The rating is the lowest of audio and video, up
//! and down. A class falls at once, by the last [`SPAN`] looks together. It rises after two looks in a row that are good enough each
//! for itself, with [`RISE_MARGIN`] to spare; then what was before is forgotten. Who falls again soon needs a third.
//! In the same class, another direction or cause is told when two looks in a row have found it.
//! So each change is told within four looks, and so many seconds. What a client loses is known by its transport-wide feedback with the
//! next look. Without that it is known by its reports: with video it sends one each second, on audio every 2.5 to 7.5 (libwebrtc). So where
//! there is video, what it loses of audio is judged by that; what it loses of audio alone is told with the next report.

use std::time::Duration;

use sfu_api::{MediaKind, Quality, QualityCause, QualityDirection, TransportRole};

use super::rating::{self, Path};
use super::traffic::Traffic;

/// Looks that are judged together.
const SPAN: usize = 3;
/// Nothing was heard of a client for so long: more than the longest interval of consent checks (RFC 7675 section 5.1: 6 s),
/// for a client with audio only sends reports as rarely.
const SILENCE: Duration = Duration::from_secs(7);
/// The same for a client that sends media or is sent video: then packets, or reports at least every 1.5 s, are the rule (libwebrtc's
/// `rtcp_sender.cc`: 1 s for video, half as much more by chance), and checks every 2.5 s (`p2p_constants.cc`). For one that says what
/// arrives, or answers when it is asked, it is the rule in any case.
const FLOW_SILENCE: Duration = Duration::from_secs(3);
/// Where nothing comes any more, the last words of a client are of about the same time.
const HEARD_SINCE: Duration = Duration::from_millis(500);
const EXCELLENT: f64 = 80.0;
const GOOD: f64 = 60.0;
/// A better class is reached only with so much to spare.
const RISE_MARGIN: f64 = 3.0;
/// And in so many looks in a row.
const RISE_LOOKS: u8 = 2;
/// So many more after a fall within [`RELAPSE_LOOKS`] of a rise: with more of them nobody would know within five seconds.
const RELAPSE_PENALTY: u8 = 1;
/// At most.
const MOST_RISE_LOOKS: u8 = 3;
/// See [`RELAPSE_PENALTY`].
const RELAPSE_LOOKS: u8 = 20;
/// Fewer packets say nothing.
const MIN_PACKETS: u64 = 5;
/// A finding holds for so many looks in which there was nothing new: reports on audio come every 5 s.
const MAX_AGE_LOOKS: u8 = 6;

/// What is looked at separately.
pub const PARTS: usize = 4;

/// A participant's class, and what it follows from.
#[derive(Clone, Copy, Debug)]
pub struct Monitor {
    parts: [Part; PARTS],
    told: Option<(Quality, Ailment)>,
    looks_better: u8,
    /// Good looks in a row that a rise takes.
    patience: u8,
    /// None: it has fallen since, or has never risen.
    looks_since_rise: Option<u8>,
    /// Another ailment than the one told, found by the look before.
    suspected: Option<Ailment>,
    silent_for: Duration,
    /// It was taken for lost by [`FLOW_SILENCE`] and was not: its reports are rare.
    is_taciturn: bool,
}

/// Where the worst is, and what is the matter with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ailment {
    direction: QualityDirection,
    cause: QualityCause,
}

/// Audio or video in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Newest first.
    looks: [Traffic; SPAN],
    age_looks: u8,
    /// What is new comes so rarely that it is old when it comes.
    is_sparse: bool,
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
    ailment: Ailment,
}

/// What one look found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Since when nothing was heard of the client.
    pub silent_for: Duration,
    /// Since when it should have said something of what was sent to it.
    pub unheard_for: Duration,
    /// It says what arrives, or answers when it is asked: silence means something.
    pub is_prompt: bool,
    /// It ought to be heard all the time: it sends media that somebody wants, or is sent video.
    pub is_flowing: bool,
    /// Of the client, if known.
    pub round_trip: Duration,
    /// By [`part`].
    pub traffic: [Traffic; PARTS],
    /// Layers of its video that ceased to come though somebody wants them.
    pub missing_up: u8,
    /// Layers of what it gets that are left out for lack of bandwidth.
    pub missing_down: u8,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            parts: [Part::default(); PARTS],
            told: None,
            looks_better: 0,
            patience: RISE_LOOKS,
            looks_since_rise: None,
            suspected: None,
            silent_for: Duration::ZERO,
            is_taciturn: false,
        }
    }
}

impl Monitor {
    /// The class and what it follows from, if one of them is another than before.
    pub fn judge(&mut self, look: &Look) -> Option<Verdict> {
        let was_lost = self.told.is_some_and(|(told, _)| told == Quality::Lost);
        let is_lost = self.is_lost(look, was_lost);
        for (part, new) in self.parts.iter_mut().zip(look.traffic) {
            part.take(new);
            // What did not come while nothing came has been told.
            if was_lost && !is_lost {
                *part = Part::default();
            }
        }
        let (worst, newest) = (self.worst(look, SPAN), self.worst(look, 1));
        let found = if is_lost { Quality::Lost } else { class(worst.rating) };
        self.looks_since_rise = self.looks_since_rise.map(|looks| looks.saturating_add(1));
        match self.told {
            Some((told, ailment)) if found >= told && told != Quality::Lost => {
                let reached = class(newest.rating - RISE_MARGIN);
                self.looks_better = if reached > told { self.looks_better.saturating_add(1) } else { 0 };
                if self.looks_better < self.patience {
                    return self.reconsider(told, ailment, &worst, &newest, look);
                }
                self.looks_since_rise = Some(0);
                self.parts.iter_mut().for_each(Part::forget_older);
                Some(self.tell(reached, &newest, look))
            }
            Some((Quality::Lost, ailment)) if is_lost => {
                let found = ailment_of_lost(look);
                let is_certain = found != ailment && self.suspected == Some(found);
                self.suspected = (found != ailment).then_some(found);
                is_certain.then(|| self.tell(Quality::Lost, &worst, look))
            }
            Some((told, _)) if told != Quality::Lost => {
                self.patience = match self.looks_since_rise.take() {
                    Some(looks) if looks <= RELAPSE_LOOKS => (self.patience + RELAPSE_PENALTY).min(MOST_RISE_LOOKS),
                    Some(_) => RISE_LOOKS,
                    None => self.patience,
                };
                Some(self.tell(found, &worst, look))
            }
            _ => Some(self.tell(found, &worst, look)),
        }
    }

    fn is_lost(&mut self, look: &Look, was_lost: bool) -> bool {
        let silent_before = std::mem::replace(&mut self.silent_for, look.silent_for);
        // Of what was sent meanwhile and did not arrive there are gaps.
        let has_gaps = [UP_AUDIO, UP_VIDEO].iter().any(|&part| look.traffic[part].lost > 0);
        self.is_taciturn |= was_lost && look.silent_for < silent_before && silent_before < SILENCE && !has_gaps && !look.is_prompt;
        let is_missed = (look.is_flowing || was_lost) && !self.is_taciturn || look.is_prompt;
        look.silent_for >= if is_missed { FLOW_SILENCE } else { SILENCE } || is_deaf(look)
    }

    /// The class stays: perhaps what it follows from does not.
    fn reconsider(&mut self, told: Quality, ailment: Ailment, worst: &Worst, newest: &Worst, look: &Look) -> Option<Verdict> {
        if told == Quality::Excellent || class(newest.rating) > told {
            return None;
        }
        let found = newest.ailment;
        let is_certain = found != ailment && self.suspected == Some(found);
        self.suspected = (found != ailment).then_some(found);
        is_certain.then(|| self.tell(told, &Worst { ailment: found, ..*worst }, look))
    }

    fn tell(&mut self, quality: Quality, worst: &Worst, look: &Look) -> Verdict {
        let ailment = match quality {
            Quality::Lost => ailment_of_lost(look),
            Quality::Excellent => Ailment { direction: QualityDirection::Neither, cause: QualityCause::None },
            Quality::Good | Quality::Poor => worst.ailment,
        };
        (self.told, self.looks_better, self.suspected) = (Some((quality, ailment)), 0, None);
        let score = if quality == Quality::Lost { 1.0 } else { rating::opinion_score(worst.rating) };
        #[expect(clippy::cast_possible_truncation, reason = "a score has two digits")]
        let score = score as f32;
        let Ailment { direction, cause } = ailment;
        Verdict { quality, score, direction, cause }
    }

    /// By the newest looks, at most so many.
    fn worst(&self, look: &Look, span: usize) -> Worst {
        let ailment = Ailment { direction: QualityDirection::Both, cause: QualityCause::Delay };
        let mut worst = Worst { rating: rating::idle(look.round_trip), ailment };
        for (index, part) in self.parts.iter().enumerate() {
            let traffic = part.traffic(span).map(|traffic| if index == DOWN_AUDIO { self.heard(part, traffic, span) } else { traffic });
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
                worst = Worst { rating, ailment: ailment_of(&path, missing, direction, rate) };
            }
        }
        worst
    }
}

impl Monitor {
    /// Audio goes the way that video goes: where reports on it are rare, what newer ones say of video is true of it too, but that nobody
    /// repairs it.
    fn heard(&self, audio: &Part, traffic: Traffic, span: usize) -> Traffic {
        let video = &self.parts[DOWN_VIDEO];
        match video.traffic(span).filter(|_| audio.is_sparse && !video.is_sparse && video.age_looks <= audio.age_looks) {
            Some(Traffic { packets, lost, .. }) => Traffic { packets, lost, residual: lost, ..traffic },
            None => traffic,
        }
    }
}

/// It has been heard for some time since it last said what arrives, though more was sent.
fn is_deaf(look: &Look) -> bool {
    look.unheard_for >= FLOW_SILENCE && look.silent_for + HEARD_SINCE <= look.unheard_for
}

fn ailment_of_lost(look: &Look) -> Ailment {
    let direction = if is_deaf(look) { QualityDirection::Down } else { QualityDirection::Up };
    Ailment { direction, cause: QualityCause::Silence }
}

/// What costs a path the most.
fn ailment_of(path: &Path, missing: u8, direction: QualityDirection, rate: impl Fn(&Path, u8) -> f64) -> Ailment {
    let unlost = Path { lost: 0.0, residual: 0.0, ..*path };
    let by_time = rate(&Path::default(), 0) - rate(&unlost, 0);
    let by_loss = rate(&unlost, 0) - rate(path, 0);
    let by_layers = rate(path, 0) - rate(path, missing);
    let [without_jitter, without_distance] =
        [Path { jitter: Duration::ZERO, ..unlost }, Path { round_trip: Duration::ZERO, ..unlost }].map(|path| rate(&path, 0));
    if by_layers >= by_loss.max(by_time) {
        Ailment { direction, cause: QualityCause::Bandwidth }
    } else if by_loss >= by_time {
        Ailment { direction, cause: QualityCause::Loss }
    } else if without_jitter > without_distance {
        Ailment { direction, cause: QualityCause::Jitter }
    } else {
        // A round trip is not known by its halves.
        Ailment { direction: QualityDirection::Both, cause: QualityCause::Delay }
    }
}

impl Part {
    fn take(&mut self, new: Traffic) {
        if new.packets >= MIN_PACKETS {
            // What is new is of all the time since the one before: a report on audio may be of five seconds, and stands for itself.
            let covered = usize::from(self.age_looks) + 1;
            self.is_sparse = covered >= SPAN;
            self.looks.rotate_right(1);
            self.looks[0] = new;
            self.looks[1..].iter_mut().rev().take(covered - 1).for_each(|look| *look = Traffic::default());
            self.age_looks = 0;
        } else if self.age_looks < MAX_AGE_LOOKS {
            self.age_looks += 1;
        } else {
            *self = Self { age_looks: self.age_looks, ..Self::default() };
        }
    }

    fn traffic(&self, span: usize) -> Option<Traffic> {
        let mut sum = Traffic::default();
        self.looks.iter().take(span).for_each(|&look| sum += look);
        (sum.packets > 0).then_some(sum)
    }

    /// The newest looks have said that it is better.
    fn forget_older(&mut self) {
        self.looks[1..].fill(Traffic::default());
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
const DOWN_VIDEO: usize = part(TransportRole::Subscriber, MediaKind::Video);

const fn is_video(part: usize) -> bool {
    part % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(lost: u64) -> Look {
        let mut look = Look {
            silent_for: Duration::ZERO,
            unheard_for: Duration::ZERO,
            is_prompt: false,
            is_flowing: true,
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
        assert_eq!(judge(&mut monitor, &look(0)), None);
        assert_eq!(judge(&mut monitor, &look(0)), Some(Quality::Excellent));
        assert_eq!(judge(&mut monitor, &look(0)), None, "what was bad before is forgotten");
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
    fn who_falls_again_soon_waits_longer_for_the_next_rise() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        let looks_to_rise = |monitor: &mut Monitor| {
            judge(monitor, &look(10));
            judge(monitor, &look(10));
            (1..=30).find(|_| judge(monitor, &look(0)) == Some(Quality::Excellent))
        };
        assert_eq!([(); 6].map(|()| looks_to_rise(&mut monitor)), [2, 3, 3, 3, 3, 3].map(Some));
        for _ in 0..=RELAPSE_LOOKS {
            judge(&mut monitor, &look(0));
        }
        assert_eq!(looks_to_rise(&mut monitor), Some(2), "a link that was good for long is a new one");
    }

    #[test]
    fn a_report_of_five_seconds_stands_for_itself() {
        let mut monitor = Monitor::default();
        let nothing = Look { traffic: [Traffic::default(); PARTS], ..look(0) };
        let mut told = Vec::new();
        for lost in [0, 0, 20, 0] {
            told.extend(judge(&mut monitor, &look(lost)));
            told.extend((0..4).filter_map(|_| judge(&mut monitor, &nothing)));
        }
        assert_eq!(told, [Quality::Excellent, Quality::Poor, Quality::Excellent]);
    }

    #[test]
    fn with_video_the_loss_of_audio_is_known_before_its_reports_come() {
        let mut monitor = Monitor::default();
        let mut told = Vec::new();
        for second in 0..40 {
            let lost = if (10..20).contains(&second) { 20 } else { 0 };
            let mut now = Look { traffic: [Traffic::default(); PARTS], ..look(0) };
            now.traffic[DOWN_VIDEO] = Traffic { packets: 100, lost, residual: 0, jitter: Duration::ZERO };
            if second % 5 == 2 {
                let lost = if (12..22).contains(&second) { 100 } else { 0 };
                now.traffic[DOWN_AUDIO] = Traffic { packets: 500, lost, residual: lost, jitter: Duration::ZERO };
            }
            told.extend(judge(&mut monitor, &now).map(|quality| (second, quality)));
        }
        assert_eq!(told, [(0, Quality::Excellent), (10, Quality::Poor), (21, Quality::Excellent)]);
    }

    #[test]
    fn another_cause_in_the_same_class_is_told_after_two_looks() {
        use {QualityCause as Cause, QualityDirection as Direction};
        let mut monitor = Monitor::default();
        let up = Look {
            traffic: [
                Traffic { packets: 100, lost: 20, residual: 20, jitter: Duration::ZERO },
                Traffic::default(),
                Traffic { packets: 100, ..Traffic::default() },
                Traffic::default(),
            ],
            ..look(0)
        };
        let found =
            |monitor: &mut Monitor, look: &Look| monitor.judge(look).map(|verdict| (verdict.quality, verdict.direction, verdict.cause));
        assert_eq!(found(&mut monitor, &up), Some((Quality::Poor, Direction::Up, Cause::Loss)));
        let mut down = look(20);
        down.traffic[UP_AUDIO].packets = 100;
        assert_eq!(found(&mut monitor, &down), None, "once is chance");
        assert_eq!(found(&mut monitor, &down), Some((Quality::Poor, Direction::Down, Cause::Loss)));
        assert_eq!(found(&mut monitor, &down), None);
        let mut jittery = down;
        jittery.traffic[DOWN_AUDIO] = Traffic { packets: 100, jitter: Duration::from_millis(400), ..Traffic::default() };
        assert_eq!(found(&mut monitor, &jittery), None);
        assert_eq!(found(&mut monitor, &jittery), Some((Quality::Poor, Direction::Down, Cause::Jitter)));
    }

    #[test]
    fn who_sends_is_missed_sooner_unless_it_has_shown_that_it_speaks_rarely() {
        let silent = |seconds| Look { silent_for: Duration::from_secs(seconds), ..look(0) };
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        assert_eq!([1, 2, 3].map(|seconds| judge(&mut monitor, &silent(seconds))), [None, None, Some(Quality::Lost)]);
        assert_eq!([4, 5, 0].map(|seconds| judge(&mut monitor, &silent(seconds))), [None, None, Some(Quality::Excellent)]);
        assert_eq!([3, 4, 5, 6, 7].map(|seconds| judge(&mut monitor, &silent(seconds))), [None, None, None, None, Some(Quality::Lost)]);
        let mut listener = Monitor::default();
        judge(&mut listener, &look(0));
        let quiet = |seconds| Look { is_flowing: false, ..silent(seconds) };
        assert_eq!([3, 6, 7].map(|seconds| judge(&mut listener, &quiet(seconds))), [None, None, Some(Quality::Lost)]);
    }

    #[test]
    fn who_answers_when_asked_is_missed_soon_and_every_time() {
        let silent = |seconds| Look { silent_for: Duration::from_secs(seconds), is_flowing: false, is_prompt: true, ..look(0) };
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        for _ in 0..3 {
            let told = [1, 2, 3, 4, 0].map(|seconds| judge(&mut monitor, &silent(seconds)));
            assert_eq!(told, [None, None, Some(Quality::Lost), None, Some(Quality::Excellent)]);
        }
    }

    #[test]
    fn who_is_heard_but_says_nothing_of_what_is_sent_to_it_does_not_get_it() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        let deaf = |seconds: u64| Look { unheard_for: Duration::from_secs(seconds), is_prompt: true, ..look(0) };
        assert_eq!([1, 2].map(|seconds| judge(&mut monitor, &deaf(seconds))), [None, None]);
        let verdict = monitor.judge(&deaf(3)).expect("it is told");
        assert_eq!((verdict.quality, verdict.direction, verdict.cause), (Quality::Lost, QualityDirection::Down, QualityCause::Silence));
        let silent = |look: Look| Look { silent_for: look.unheard_for, ..look };
        assert_eq!(
            [4, 5].map(|seconds| monitor.judge(&silent(deaf(seconds))).map(|verdict| verdict.direction)),
            [None, Some(QualityDirection::Up)]
        );
        assert_eq!(judge(&mut monitor, &deaf(0)), Some(Quality::Excellent));
    }

    #[test]
    fn silence_is_lost_at_once_and_over_with_the_first_sound() {
        let mut monitor = Monitor::default();
        judge(&mut monitor, &look(0));
        assert_eq!(judge(&mut monitor, &Look { silent_for: SILENCE, ..look(0) }), Some(Quality::Lost));
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
        assert_eq!(found(&Look { silent_for: SILENCE, ..look(0) }), (Quality::Lost, Direction::Up, Cause::Silence));
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
