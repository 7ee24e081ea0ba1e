//! Who speaks in a room, by the levels that publishers send with every audio packet (RFC 6464).
//!
//! In: levels as they arrive, and a tick. Out: everybody who speaks, the dominant speaker first, when that changes. The
//! dominant speaker is identified as by Volfin and Cohen (2012): a challenger has to beat the incumbent on three time
//! scales, so that neither a cough nor an interjection takes over. And whom a listener could not tell from the crowd: in a room
//! with more than [`MAX_HEARD_TRACKS`] microphones only the loudest are forwarded, so that what everybody receives does not grow
//! with the room. Levels are what clients claim, so nobody gets more than [`MAX_HEARD_OF_ONE`] of those places. Not here: what a microphone's scores are (`activity`), forwarding.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::activity::{Activity, Scores};
use crate::limits::MAX_HEARD_TRACKS;
use crate::rtp::extension::AudioLevel;

/// Shortest time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(300);
/// A challenger has to be ahead for this long, which is one tick more than the paper asks for. Otherwise two who speak at once
/// take turns in being dominant every three seconds, whenever a tick hits a pause between syllables.
const TAKEOVER: Duration = Duration::from_millis(100);
/// Longer than anything that is remembered of a microphone.
const IDLE: Duration = Duration::from_secs(2);
/// A level that changed by less is not worth a report.
const LEVEL_STEP: f32 = 0.05;
/// Who was among the loudest is heard for this long, through pauses and while others are louder for a word.
const HELD: Duration = Duration::from_secs(2);

/// Places among the loudest for the tracks of one participant: a microphone and the sound of a shared screen.
const MAX_HEARD_OF_ONE: usize = 2;

/// See the module. Tracks and their owners are known by any numbers that the caller likes.
#[derive(Clone, Debug, Default)]
pub struct Speakers {
    microphones: BTreeMap<u64, Microphone>,
    dominant: Option<u64>,
    /// Beats the dominant speaker, since when.
    challenger: Option<(u64, Instant)>,
    reported: Vec<(u64, f32)>,
    /// What was reported came from somebody else.
    is_unknown: bool,
    heard_at: Option<Instant>,
    last_report: Option<Instant>,
    /// When those who are heard were last among the loudest; empty in a room in which all are heard.
    loudest: BTreeMap<u64, Instant>,
}

#[derive(Clone, Debug)]
struct Microphone {
    owner: u64,
    activity: Activity,
}

impl Speakers {
    /// The level of one packet of an audio track of somebody.
    pub fn level(&mut self, who: u64, owner: u64, level: AudioLevel, now: Instant) {
        let microphone = self.microphones.entry(who).or_insert_with(|| Microphone { owner, activity: Activity::new(now) });
        microphone.activity.hear(level, now);
        self.heard_at = Some(now);
    }

    /// Reports were made elsewhere until now.
    pub fn take_over(&mut self) {
        self.is_unknown = true;
    }

    /// There will be nothing to report until somebody is heard again.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        let is_silent = self.heard_at.is_none_or(|at| now.saturating_duration_since(at) >= IDLE);
        is_silent && self.reported.is_empty() && !self.is_unknown
    }

    /// Somebody left or sends no audio any more.
    pub fn remove(&mut self, who: u64) {
        self.microphones.remove(&who);
        self.loudest.remove(&who);
        self.dominant.take_if(|dominant| *dominant == who);
    }

    /// Who speaks now, dominant first, then by level, with levels from 0 to 1: if that differs from the last report enough to
    /// tell. To be called every 100 ms or more often.
    pub fn tick(&mut self, now: Instant) -> Option<Vec<(u64, f32)>> {
        self.microphones.values_mut().for_each(|microphone| microphone.activity.settle(now));
        self.choose_dominant(now);
        self.choose_loudest(now);
        if self.last_report.is_some_and(|at| now.saturating_duration_since(at) < REPORT_INTERVAL) {
            return None;
        }
        let mut speaking: Vec<(u64, f32)> = self.speaking().map(|(who, microphone)| (who, microphone.level())).collect();
        speaking.sort_by(|a, b| self.is_dominant(b.0).cmp(&self.is_dominant(a.0)).then(b.1.total_cmp(&a.1)));
        if !std::mem::take(&mut self.is_unknown) && !differs(&speaking, &self.reported) {
            return None;
        }
        self.reported.clone_from(&speaking);
        self.last_report = Some(now);
        Some(speaking)
    }

    /// The dominant speaker: who spoke last with some persistence, if anybody has spoken.
    #[must_use]
    pub fn dominant(&self) -> Option<u64> {
        self.dominant
    }

    /// Somebody's packets are to be forwarded: there are few microphones, or this is one of the loudest.
    #[must_use]
    pub fn hears(&self, who: u64) -> bool {
        self.loudest.is_empty() || self.loudest.contains_key(&who)
    }

    /// Somebody's microphone is known, and its packets are not to be forwarded.
    #[must_use]
    pub fn drowns(&self, who: u64) -> bool {
        self.microphones.contains_key(&who) && !self.hears(who)
    }

    fn choose_loudest(&mut self, now: Instant) {
        if self.microphones.len() <= MAX_HEARD_TRACKS {
            self.loudest.clear();
            return;
        }
        let mut ranked: Vec<(u64, u64, f32)> =
            self.microphones.iter().map(|(&who, microphone)| (who, microphone.owner, microphone.activity.level_at(now))).collect();
        ranked.sort_by(|a, b| b.2.total_cmp(&a.2));
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        ranked.retain(|&(_, owner, _)| {
            let taken = places.entry(owner).or_default();
            *taken += 1;
            *taken <= MAX_HEARD_OF_ONE
        });
        self.loudest.extend(ranked.into_iter().take(MAX_HEARD_TRACKS).map(|(who, ..)| (who, now)));
        self.loudest.retain(|_, at| now.saturating_duration_since(*at) <= HELD);
    }

    fn choose_dominant(&mut self, now: Instant) {
        let incumbent = self.dominant.and_then(|who| self.microphones.get(&who)).map(|microphone| microphone.activity.scores());
        let strongest = self
            .speaking()
            .map(|(who, microphone)| (who, microphone.scores()))
            .filter(|(who, scores)| !self.is_dominant(*who) && incumbent.as_ref().is_none_or(|incumbent| scores.beat(incumbent)))
            .max_by(|(_, a), (_, b)| by_persistence(a, b))
            .map(|(who, _)| who);
        self.challenger = strongest.map(|who| match self.challenger {
            Some((known, since)) if known == who => (who, since),
            _ => (who, now),
        });
        if let Some((who, since)) = self.challenger
            && (incumbent.is_none() || now.saturating_duration_since(since) >= TAKEOVER)
        {
            self.dominant = Some(who);
            self.challenger = None;
        }
    }

    fn speaking(&self) -> impl Iterator<Item = (u64, &Activity)> {
        self.microphones.iter().map(|(&who, microphone)| (who, &microphone.activity)).filter(|(_, activity)| activity.is_speaking())
    }

    fn is_dominant(&self, who: u64) -> bool {
        self.dominant == Some(who)
    }
}

fn by_persistence(a: &Scores, b: &Scores) -> std::cmp::Ordering {
    a.medium.total_cmp(&b.medium).then(a.long.total_cmp(&b.long)).then(a.immediate.total_cmp(&b.immediate))
}

fn differs(now: &[(u64, f32)], before: &[(u64, f32)]) -> bool {
    now.len() != before.len() || now.iter().zip(before).any(|(a, b)| a.0 != b.0 || (a.1 - b.1).abs() >= LEVEL_STEP)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn speech_is_reported_within_300_ms_and_its_end_after_a_pause() {
        for (seed, talkers) in [(1, 1), (2, 2), (3, 5)] {
            let mut talk = Talk::new(seed);
            talk.run(2_000, |_| NOISE);
            assert!(talk.reports.is_empty(), "noise is no speech");
            talk.run(1_000, |who| if who < talkers { SPEECH } else { NOISE });
            let begins = talk.reports.first().unwrap();
            assert!(begins.at_ms <= 2_300, "{begins:?}");
            let mut all = talk.reports.last().unwrap().who.clone();
            all.sort_unstable();
            assert_eq!(all, (0..talkers).collect::<Vec<_>>());
            talk.run(2_000, |_| NOISE);
            let ends = talk.reports.last().unwrap();
            assert!(ends.who.is_empty() && (3_400..=4_100).contains(&ends.at_ms), "{ends:?}");
        }
    }

    #[test]
    fn nobody_speaks_in_noise_of_any_loudness_for_long() {
        for minus_dbov in [50, 55, 60, 70, 90, 127] {
            let mut talk = Talk::new(u64::from(minus_dbov));
            talk.run(30_000, |_| Sound { minus_dbov, spread_db: 2, pause: 0.0 });
            assert!(talk.reports.last().is_none_or(|report| report.who.is_empty()), "-{minus_dbov} dBov: {:?}", talk.reports.last());
        }
    }

    #[test]
    fn neither_a_click_nor_a_cough_takes_over() {
        for seed in 0..10 {
            let mut talk = Talk::new(seed);
            talk.run(3_000, |who| if who == 0 { SPEECH } else { NOISE });
            assert_eq!(talk.speakers.dominant(), Some(0));
            for ms in [20, 60, 200, 400] {
                talk.run(ms, |who| match who {
                    0 => SPEECH,
                    1 => LOUD,
                    _ => NOISE,
                });
                assert_eq!(talk.speakers.dominant(), Some(0), "seed {seed}: {ms} ms");
                talk.run(2_000, |who| if who == 0 { SPEECH } else { NOISE });
            }
        }
    }

    #[test]
    fn an_interjection_in_a_pause_does_not_take_over() {
        for seed in 0..10 {
            let mut talk = Talk::new(seed);
            talk.run(3_000, |who| if who == 0 { SPEECH } else { NOISE });
            talk.run(250, |who| if who == 1 { SPEECH } else { NOISE });
            talk.run(3_000, |who| if who == 0 { SPEECH } else { NOISE });
            assert!(talk.reports.iter().all(|report| report.dominant == Some(0)), "seed {seed}: {:?}", talk.reports);
        }
    }

    #[test]
    fn who_goes_on_after_the_other_stopped_becomes_dominant_within_a_second() {
        for seed in 0..10 {
            let mut talk = Talk::new(seed);
            talk.run(3_000, |who| if who == 0 { SPEECH } else { NOISE });
            talk.run(1_000, |who| if who == 1 { SPEECH } else { NOISE });
            assert_eq!(talk.speakers.dominant(), Some(1), "seed {seed}");
            talk.run(1_000, |who| if who == 1 { SPEECH } else { NOISE });
            assert_eq!(talk.reports.last().unwrap().who, [1], "seed {seed}");
        }
    }

    #[test]
    fn two_who_speak_at_once_are_both_reported_the_dominant_one_first() {
        for seed in 0..10 {
            let mut talk = Talk::new(seed);
            talk.run(2_000, |who| if who == 3 { SPEECH } else { NOISE });
            talk.run(5_000, |who| match who {
                3 => SPEECH,
                1 => LOUD,
                _ => NOISE,
            });
            let report = talk.reports.last().unwrap();
            assert_eq!((report.who.len(), report.who.first().copied()), (2, report.dominant), "seed {seed}: {report:?}");
        }
    }

    #[test]
    fn two_who_speak_at_once_do_not_take_turns_in_being_dominant() {
        for seed in 0..10 {
            let mut talk = Talk::new(seed);
            talk.run(60_000, |who| if who < 2 { SPEECH } else { NOISE });
            let changes = talk.dominants.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 6, "seed {seed}: {changes} changes in a minute");
        }
    }

    #[test]
    fn the_dominant_speaker_stays_after_the_last_word() {
        let mut talk = Talk::new(1);
        talk.run(2_000, |who| if who == 2 { SPEECH } else { NOISE });
        talk.run(60_000, |_| NOISE);
        assert_eq!(talk.speakers.dominant(), Some(2));
        assert!(talk.reports.last().unwrap().who.is_empty());
    }

    #[test]
    fn reports_come_at_most_every_300_ms_and_not_without_a_change() {
        let mut talk = Talk::new(1);
        talk.run(20_000, |_| Sound { minus_dbov: 25, spread_db: 25, pause: 0.3 });
        assert!(talk.reports.windows(2).all(|pair| pair[1].at_ms - pair[0].at_ms >= 300));
        talk.reports.clear();
        talk.run(3_000, |_| NOISE);
        talk.reports.clear();
        talk.run(10_000, |_| NOISE);
        assert!(talk.reports.is_empty(), "{:?}", talk.reports);
    }

    #[test]
    fn who_left_is_gone_and_the_next_speaker_is_dominant() {
        let mut talk = Talk::new(1);
        talk.run(2_000, |who| if who < 2 { SPEECH } else { NOISE });
        let first = talk.speakers.dominant().unwrap();
        talk.speakers.remove(first);
        assert_eq!(talk.speakers.dominant(), None);
        talk.now += REPORT_INTERVAL;
        let report = talk.speakers.tick(talk.now).unwrap();
        assert_eq!(report.iter().map(|speaker| speaker.0).collect::<Vec<_>>(), [1 - first]);
        assert_eq!(talk.speakers.dominant(), Some(1 - first));
    }

    #[test]
    fn who_claims_to_be_loud_on_many_tracks_silences_nobody() {
        let mut speakers = Speakers::default();
        let mut now = Instant::now();
        for _ in 0..200 {
            for track in 0..64 {
                speakers.level(track, 1, AudioLevel { voice: true, minus_dbov: 0 }, now);
            }
            for honest in 100..114 {
                speakers.level(honest, honest, AudioLevel { voice: true, minus_dbov: 40 }, now);
            }
            now += Duration::from_millis(20);
            speakers.tick(now);
        }
        assert_eq!((0..64).filter(|&track| speakers.hears(track)).count(), MAX_HEARD_OF_ONE);
        assert!((100..114).all(|honest| speakers.hears(honest)));
    }

    #[derive(Clone, Copy)]
    struct Sound {
        minus_dbov: u8,
        spread_db: u8,
        /// Probability that a syllable of 100 ms is a pause.
        pause: f64,
    }

    const NOISE: Sound = Sound { minus_dbov: 70, spread_db: 4, pause: 0.0 };
    const SPEECH: Sound = Sound { minus_dbov: 30, spread_db: 10, pause: 0.1 };
    const LOUD: Sound = Sound { minus_dbov: 8, spread_db: 4, pause: 0.0 };

    #[derive(Debug)]
    struct Report {
        at_ms: u128,
        who: Vec<u64>,
        dominant: Option<u64>,
    }

    /// Five people who send a packet each 20 ms, and a tick every 100 ms.
    struct Talk {
        speakers: Speakers,
        rng: SmallRng,
        start: Instant,
        now: Instant,
        reports: Vec<Report>,
        /// After every tick.
        dominants: Vec<Option<u64>>,
    }

    impl Talk {
        fn new(seed: u64) -> Self {
            let now = Instant::now();
            Self {
                speakers: Speakers::default(),
                rng: SmallRng::seed_from_u64(seed),
                start: now,
                now,
                reports: Vec::new(),
                dominants: Vec::new(),
            }
        }

        fn run(&mut self, ms: u64, sound: impl Fn(u64) -> Sound) {
            let mut pauses = [false; 5];
            for frame in 0..ms / 20 {
                for (who, is_pause) in (0..).zip(&mut pauses) {
                    let Sound { minus_dbov, spread_db, pause } = sound(who);
                    if frame % 5 == 0 {
                        *is_pause = self.rng.random_bool(pause);
                    }
                    let loudest = minus_dbov.saturating_sub(spread_db);
                    let level = if *is_pause { 72 } else { self.rng.random_range(loudest..=minus_dbov.saturating_add(spread_db).min(127)) };
                    self.speakers.level(who, who, AudioLevel { voice: true, minus_dbov: level }, self.now);
                }
                self.now += Duration::from_millis(20);
                if !(self.now - self.start).as_millis().is_multiple_of(100) {
                    continue;
                }
                if let Some(report) = self.speakers.tick(self.now) {
                    let who = report.iter().map(|speaker| speaker.0).collect();
                    self.reports.push(Report { at_ms: (self.now - self.start).as_millis(), who, dominant: self.speakers.dominant() });
                }
                self.dominants.push(self.speakers.dominant());
            }
        }
    }
}
