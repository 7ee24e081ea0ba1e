//! Whether a way carries what is sent on it: nothing is divided before something shows that it does not.
//!
//! In: the estimate, what was granted, and whether everybody has what they want. Out: a [`Verdict`]. A queue or a loss of which
//! nearly everything arrives all the same may be a client or a machine that was busy for a moment; it has to last for
//! [`CONFIRM`] before anybody loses anything. What arrives tells the other case at once.
//! Invariant: on a way that never had a queue or a loss, the verdict is always [`Verdict::Free`], as long as its client reports.

use std::time::{Duration, Instant};

use super::sent::SentMeter;
use crate::bandwidth::{Estimate, Limit};

/// A queue or loss of which most arrives is believed after this.
const CONFIRM: Duration = Duration::from_millis(800);
/// A queue longer than this is there; a shorter one is as good as gone.
const QUEUE: Duration = Duration::from_millis(30);
/// A cut this long ago says nothing of now. Loss alone is noticed less often, so that it goes on as long as it is the limit.
const RECENT: Duration = Duration::from_millis(400);
/// If less than these shares of what is sent pass in a quarter and in a tenth of a second, there is no doubt, once the tenth lies
/// behind the beginning: a way that becomes longer has a gap then.
const CLEAR_PERCENT: [u64; 2] = [85, 70];
const CLEAR_AFTER: Duration = Duration::from_millis(100);
/// After everybody has had everything for so long without a queue or loss, nothing is held against a way.
const FORGIVE: Duration = Duration::from_secs(30);
/// A client that estimates by itself (REMB) says what it makes of what it gets once a second. Its word lags behind that by so much.
const ANSWER: Duration = Duration::from_secs(2);
/// What goes wrong so soon after it was given more goes wrong because of that.
const TRY: Duration = Duration::from_secs(5);
/// So much less than it gets it may say without meaning it: it does not count all headers.
const MEANT_PERCENT: u64 = 90;
/// More is sent than before, if so much more is, in percent.
const MORE_PERCENT: u64 = 125;

/// What may be done with a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing has shown that it does not carry everything.
    Free,
    /// It did not carry everything; the estimate says what is known to fit, and there may be more. Nobody loses anything.
    Open,
    /// The estimate is all there is.
    Full,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm {
    /// It has been shown that not everything fits.
    is_scarce: bool,
    rings: Option<Ringing>,
    /// There is no doubt about what rings.
    is_certain: bool,
    /// Since when everybody has everything, and nothing speaks against it.
    content_since: Option<Instant>,
    word: Word,
    sent: SentMeter,
    sent_bps: Option<u64>,
}

/// Something says that less passes than is sent.
#[derive(Clone, Copy, Debug)]
struct Ringing {
    since: Instant,
    /// When that was last seen.
    seen: Instant,
}

impl Ringing {
    fn lasted(&self) -> Duration {
        self.seen.saturating_duration_since(self.since)
    }
}

/// What a client says that estimates by itself. Its word keeps close to what it gets: while more is sent than before it grows
/// slowly or not at all, and only if it falls, or stays where it is, is there no more to be had.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bps: u64,
    granted_bps: u64,
    /// When it rose last, or more was sent; None: it has fallen since.
    risen_at: Option<Instant>,
    /// When somebody was given more to see whether it fits, and what was sent before.
    tried: Option<(Instant, u64)>,
    /// Until then it says what it made of a try that is over.
    echoes_until: Option<Instant>,
}

impl Word {
    /// It speaks against what is sent.
    fn contradicts(&mut self, bps: u64, granted_bps: u64, now: Instant) -> bool {
        let has_fallen = bps < self.bps / 100 * 97;
        let is_more = granted_bps > self.granted_bps.saturating_mul(MORE_PERCENT) / 100;
        if has_fallen && self.echoes_until.is_none_or(|until| now >= until) {
            self.risen_at = None;
        } else if bps > self.bps || is_more {
            self.risen_at = Some(now);
        }
        (self.bps, self.granted_bps) = (bps, granted_bps);
        bps < granted_bps / 100 * MEANT_PERCENT && self.risen_at.is_none_or(|at| now.saturating_duration_since(at) >= ANSWER)
    }
}

impl Alarm {
    /// So many bytes were sent so far, retransmissions and probes included; to be called before [`Self::judge`].
    pub fn look(&mut self, sent_bytes: u64, now: Instant) {
        self.sent_bps = self.sent.look(sent_bytes, now);
    }

    /// So much more was sent than passes that nothing has to be confirmed.
    pub fn on_collapse(&mut self) {
        self.is_certain = true;
    }

    /// What an estimate means. `granted_bps`: what is sent if publishers keep to their rates; `has_everything`: nobody wants more.
    pub fn judge(&mut self, estimate: &Estimate, granted_bps: u64, has_everything: bool, now: Instant) -> Verdict {
        let seen = self.evidence(estimate, granted_bps, now);
        let known = self.rings;
        self.rings = seen.map(|seen| known.map_or(Ringing { since: seen, seen }, |known| Ringing { seen: known.seen.max(seen), ..known }));
        let rings = self.rings.is_some();
        self.is_certain &= rings;
        self.content_since = if rings || !has_everything { None } else { self.content_since.or(Some(now)) };
        let rings_for = self.rings.map_or(Duration::ZERO, |rings| rings.lasted());
        let passes_bps = estimate.arrives_bps.unwrap_or([estimate.target_bps; 2]);
        // A screen that rests is granted what it had while it moved, and sends next to nothing.
        let sent_bps = self.sent_bps.filter(|_| matches!(estimate.limit, Limit::Delay | Limit::Loss));
        let most_bps = sent_bps.map_or(granted_bps, |sent_bps| sent_bps.min(granted_bps));
        let is_low = passes_bps.into_iter().zip(CLEAR_PERCENT).all(|(bps, percent)| bps < most_bps / 100 * percent);
        // Of whom nothing is heard, what arrives is not known either.
        let is_clear = is_low && rings_for >= CLEAR_AFTER && estimate.limit != Limit::Silence;
        if rings_for >= CONFIRM || is_clear || self.is_certain {
            // Who says nothing has not shown that anything lacks: heard again, it has what it had before.
            self.is_scarce |= estimate.limit != Limit::Silence;
            return Verdict::Full;
        }
        if self.content_since.is_some_and(|since| now.saturating_duration_since(since) >= FORGIVE) {
            self.is_scarce = false;
        }
        match (self.is_scarce, rings) {
            (false, _) => Verdict::Free,
            (true, true) => Verdict::Open,
            // Of a queue that was there a moment ago it is known what passed.
            (true, false) if matches!(estimate.limit, Limit::Delay | Limit::Loss) && !estimate.is_app_limited => Verdict::Full,
            (true, false) => Verdict::Open,
        }
    }

    /// When it was last seen that less passes than is sent, if that goes on.
    fn evidence(&mut self, estimate: &Estimate, granted_bps: u64, now: Instant) -> Option<Instant> {
        match estimate.limit {
            Limit::Delay | Limit::Loss => {
                let is_recent = estimate.cut_at.is_some_and(|at| now.saturating_duration_since(at) < RECENT);
                if is_recent || estimate.queue >= QUEUE {
                    return Some(now);
                }
                // A policer drops and delays nothing; one loss may be chance, a second one is not.
                estimate.cut_at.filter(|_| estimate.limit == Limit::Loss)
            }
            Limit::Client => self.word.contradicts(estimate.target_bps, granted_bps, now).then_some(now),
            // That was a while ago, or it would not be said.
            Limit::Silence => Some(now),
            Limit::Start | Limit::None => None,
        }
    }

    /// Somebody is given more than `before_bps`, to see whether it fits.
    pub fn on_try(&mut self, before_bps: u64, now: Instant) {
        (self.word.risen_at, self.word.tried) = (Some(now), Some((now, before_bps)));
    }

    /// What was sent before the last try, if that has just gone wrong: a client's word is too low then, for it takes what arrived
    /// in the last second for what can. It gets the time to say so. Once for each try.
    pub fn take_back(&mut self, now: Instant) -> Option<u64> {
        let (_, before_bps) = self.word.tried.filter(|(at, _)| now.saturating_duration_since(*at) < TRY)?;
        self.word.tried = None;
        (self.word.risen_at, self.word.echoes_until, self.rings) = (Some(now), Some(now + ANSWER), None);
        Some(before_bps)
    }

    /// A client that estimates by itself has had the time to say what it makes of the last try, and says nothing against it.
    #[must_use]
    pub fn may_try(&self, now: Instant) -> bool {
        self.rings.is_none() && self.word.tried.is_none_or(|(at, _)| now.saturating_duration_since(at) >= ANSWER)
    }

    /// When time alone changes the verdict.
    #[must_use]
    pub fn again_at(&self, now: Instant) -> Option<Instant> {
        let since = self.rings?.since;
        [since + CLEAR_AFTER, since + CONFIRM].into_iter().find(|&at| at > now)
    }

    /// It has not gone away for a while.
    #[must_use]
    pub fn has_lasted(&self) -> bool {
        self.rings.is_some_and(|rings| rings.lasted() >= CONFIRM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTED: u64 = 1_800_000;
    const STEP: Duration = Duration::from_millis(100);

    fn estimate(limit: Limit, queue_ms: u64, arrives_bps: u64, now: Instant) -> Estimate {
        Estimate {
            target_bps: arrives_bps,
            link_capacity_bps: Some(arrives_bps),
            overhead_bps: 0,
            resent_bps: 0,
            is_app_limited: false,
            limit,
            since: now,
            queue: Duration::from_millis(queue_ms),
            cut_at: None,
            arrives_bps: Some([arrives_bps; 2]),
        }
    }

    #[test]
    fn a_low_estimate_alone_divides_nothing() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        for step in 0..100 {
            let now = now + STEP * step;
            for limit in [Limit::Start, Limit::None] {
                assert_eq!(alarm.judge(&estimate(limit, 0, 40_000, now), GRANTED, true, now), Verdict::Free);
            }
        }
    }

    #[test]
    fn much_less_arriving_is_believed_soon_and_a_gap_is_not_less() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now), Verdict::Free);
        let later = now + CLEAR_AFTER;
        let after_gap = Estimate { arrives_bps: Some([900_000, GRANTED]), ..estimate(Limit::Delay, 400, GRANTED, later) };
        assert_eq!(alarm.judge(&after_gap, GRANTED, true, later), Verdict::Free);
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, 900_000, later), GRANTED, true, later), Verdict::Full);
    }

    #[test]
    fn a_collapse_is_believed_at_once_and_forgotten_with_its_queue() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        alarm.on_collapse();
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now), Verdict::Full);
        assert_eq!(alarm.judge(&estimate(Limit::None, 5, GRANTED, now), GRANTED, true, now), Verdict::Open);
        alarm.is_scarce = false;
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now), Verdict::Free);
    }

    #[test]
    fn little_arriving_of_little_that_is_sent_is_no_lack() {
        for (sent_bps, expected) in [(250_000, Verdict::Free), (GRANTED, Verdict::Full)] {
            let (mut alarm, start) = (Alarm::default(), Instant::now());
            let mut verdict = Verdict::Free;
            for step in 0..6 {
                let now = start + STEP * step;
                alarm.look(sent_bps / 80 * u64::from(step), now);
                // A burst has left a queue behind it.
                let limit = if step < 4 { Limit::None } else { Limit::Delay };
                verdict = alarm.judge(&estimate(limit, 60, 240_000, now), GRANTED, true, now);
            }
            assert_eq!(verdict, expected, "{sent_bps} bit/s are sent");
        }
    }

    #[test]
    fn a_queue_that_passes_is_nobodys_loss_and_one_that_stays_is() {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        for _ in 0..7 {
            assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now), Verdict::Free);
            now += STEP;
        }
        assert!(alarm.again_at(now).is_some());
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 5, GRANTED, now), GRANTED, true, now), Verdict::Free);
        assert_eq!(alarm.again_at(now), None);
        for _ in 0..9 {
            now += STEP;
            alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now);
        }
        assert!(alarm.is_scarce && alarm.has_lasted());
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 5, GRANTED, now), GRANTED, false, now), Verdict::Full, "it is known what passed");
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::None, 5, GRANTED, now), GRANTED, false, now), Verdict::Open);
    }

    #[test]
    fn who_has_had_everything_for_a_while_is_trusted_again() {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now);
        now += CLEAR_AFTER;
        alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now);
        for _ in 0..100 {
            now += FORGIVE;
            assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, false, now), Verdict::Open, "somebody wants more");
        }
        assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, true, now), Verdict::Open);
        now += FORGIVE;
        assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, true, now), Verdict::Free);
    }

    #[test]
    fn a_client_that_goes_on_to_name_less_than_it_gets_is_believed() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let mut at = |ms: u64, bps| {
            let now = start + Duration::from_millis(ms);
            alarm.judge(&estimate(Limit::Client, 0, bps, now), GRANTED, true, now)
        };
        assert_eq!(at(0, GRANTED), Verdict::Free);
        assert_eq!(at(10_000, GRANTED * 95 / 100), Verdict::Free, "it does not count headers");
        assert_eq!(at(11_000, GRANTED * 80 / 100), Verdict::Free);
        assert_eq!(at(11_900, GRANTED * 80 / 100), Verdict::Full);
    }

    #[test]
    fn a_word_that_rises_or_has_had_no_time_to_contradicts_nothing_and_one_that_stays_does() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        for second in 0..30 {
            let (now, bps) = (start + Duration::from_secs(second), 85_000 + 7_000 * second);
            assert_eq!(alarm.judge(&estimate(Limit::Client, 0, bps, now), GRANTED, true, now), Verdict::Free, "{second}");
        }
        let mut now = start + Duration::from_secs(29) + ANSWER;
        alarm.judge(&estimate(Limit::Client, 0, 288_000, now), GRANTED, true, now);
        now += CLEAR_AFTER;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, 288_000, now), GRANTED, true, now), Verdict::Full);
        // Less is sent, which is no more than it says; then more is tried.
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, 288_000, now), 280_000, false, now), Verdict::Open);
        assert!(alarm.may_try(now));
        alarm.on_try(280_000, now);
        assert!(!alarm.may_try(now + ANSWER / 2));
        now += ANSWER * 3 / 4;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, 288_000, now), 340_000, false, now), Verdict::Open);
        now += ANSWER / 2;
        alarm.judge(&estimate(Limit::Client, 0, 200_000, now), 340_000, false, now);
        now += CLEAR_AFTER;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, 200_000, now), 340_000, false, now), Verdict::Full, "it fell");
        assert_eq!((alarm.take_back(now), alarm.take_back(now)), (Some(280_000), None));
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, 200_000, now), 280_000, false, now), Verdict::Open, "it gets time");
    }

    /// Verdicts at the time of each cut and half a second later.
    fn cuts(gaps_ms: &[u64]) -> Vec<Verdict> {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        let mut verdicts = Vec::new();
        for &gap_ms in gaps_ms {
            now += Duration::from_millis(gap_ms);
            for later_ms in [0, 300, 500] {
                let estimate = Estimate { cut_at: Some(now), ..estimate(Limit::Loss, 0, GRANTED * 95 / 100, now) };
                verdicts.push(alarm.judge(&estimate, GRANTED, true, now + Duration::from_millis(later_ms)));
            }
        }
        verdicts
    }

    #[test]
    fn loss_without_a_queue_is_believed_if_it_makes_for_a_second_cut() {
        use Verdict::{Free, Full};
        assert_eq!(cuts(&[0]), [Free; 3]);
        assert_eq!(cuts(&[0, 1_100]), [Free, Free, Free, Full, Full, Full]);
        assert_eq!(cuts(&[0, 2_900])[3], Full);
    }

    #[test]
    fn of_whom_nothing_is_heard_for_a_while_gets_less() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        assert_eq!(alarm.judge(&estimate(Limit::Silence, 0, 40_000, now), GRANTED, true, now), Verdict::Free);
        assert_eq!(alarm.again_at(now + CLEAR_AFTER), Some(now + CONFIRM));
        let later = now + CONFIRM;
        assert_eq!(alarm.judge(&estimate(Limit::Silence, 0, 40_000, later), GRANTED, true, later), Verdict::Full);
        let back = later + STEP;
        assert_eq!(alarm.judge(&estimate(Limit::None, 0, 40_000, back), GRANTED, true, back), Verdict::Free, "it is heard again");
    }
}
