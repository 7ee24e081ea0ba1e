//! Whether a subscriber of plain Opus should get it with redundancy: while its link loses packets.
//!
//! In: what its receiver reports say was lost on the way to it. Redundancy costs twice the bitrate of speech, which is nothing beside video
//! but much beside nothing, so it is given where it helps and stays for a while: losses come in spells.

use std::time::{Duration, Instant};

use crate::allocation::Budget;

/// Loss from which on redundancy is worth its bitrate; LiveKit's clients hear a difference from about here on.
const ON_ABOVE: f32 = 0.01;
/// Loss below which the link counts as clean.
const CLEAN_BELOW: f32 = 0.003;
/// How long the link has to be clean until redundancy ends. Browsers report audio every 5 s.
const CLEAN_FOR: Duration = Duration::from_secs(20);
/// A downlink that carries less than this many times what the audio takes with redundancy has none to spare: in quarters, while
/// the link is clean or its queue overflows, so that there is a picture too, and while it loses packets whatever is sent.
const TIGHT_QUARTERS: [u64; 2] = [20, 5];
/// The same where no picture is wanted: redundancy goes if what is said does not fit with it, and stays where loss alone says so.
const TIGHT_ALONE_QUARTERS: [u64; 2] = [4, 0];
/// One that carries so many times what it takes without has enough again, in quarters: with redundancy it takes about twice as much.
const AMPLE_QUARTERS: u64 = 48;
const AMPLE_ALONE_QUARTERS: u64 = 10;

/// What was lost between two reports.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    most: i64,
    sent: u64,
}

impl Losses {
    /// Share since the last call, 0.0 to 1.0. Only more than ever counts: what is counted here of gaps in what the publisher sent is
    /// a moment ahead of what the client knows of them, or behind it.
    #[expect(clippy::cast_precision_loss, reason = "packets of some seconds")]
    fn take(&mut self, lost: i64, sent: u64) -> f32 {
        let (more, packets) = ((lost - self.most).max(0), sent.saturating_sub(self.sent));
        (self.most, self.sent) = (self.most.max(lost), sent);
        if packets == 0 { 0.0 } else { (more as f32 / packets as f32).min(1.0) }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundancy {
    losses: Losses,
    loss: f32,
    clean_since: Option<Instant>,
    is_on: bool,
    /// The downlink has nothing to spare for it.
    is_unaffordable: bool,
}

impl Redundancy {
    /// A receiver report, with totals: what was lost on the way to the subscriber of what was `sent`. True if that changed
    /// [`Self::is_on`].
    pub fn on_report(&mut self, lost: i64, sent: u64, now: Instant) -> bool {
        let before = self.is_on;
        self.loss = f32::midpoint(self.loss, self.losses.take(lost, sent));
        if self.loss > ON_ABOVE {
            self.is_on = true;
        }
        if self.loss >= CLEAN_BELOW {
            self.clean_since = None;
        } else if now.saturating_duration_since(*self.clean_since.get_or_insert(now)) >= CLEAN_FOR {
            self.is_on = false;
        }
        self.is_on != before
    }

    /// What the downlink carries and what all audio on it takes now, in bits per second; None: nothing limits it. `has_video`: a
    /// picture is wanted besides. True if that changed [`Self::is_unaffordable`].
    pub fn on_budget(&mut self, budget: Option<Budget>, audio_bps: u64, has_video: bool) -> bool {
        let before = self.is_unaffordable;
        // What a queue drops is lost because of what is sent.
        let need = usize::from(self.is_on && budget.is_some_and(|budget| budget.keeps_least));
        let (tight, ample) = if has_video { (TIGHT_QUARTERS, AMPLE_QUARTERS) } else { (TIGHT_ALONE_QUARTERS, AMPLE_ALONE_QUARTERS) };
        self.is_unaffordable = budget.is_some_and(|Budget { bps: budget_bps, is_open, .. }| {
            if before {
                budget_bps.saturating_mul(4) < audio_bps.saturating_mul(ample)
            } else {
                // While it may carry more, nothing is taken away.
                !is_open && budget_bps.saturating_mul(4) < audio_bps.saturating_mul(tight[need])
            }
        });
        self.is_unaffordable != before
    }

    /// Not even a track that comes with redundancy should go out with it.
    #[must_use]
    pub fn is_unaffordable(&self) -> bool {
        self.is_unaffordable
    }

    /// The subscriber should get redundancy.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_narrow_downlink_has_none_to_spare_until_it_is_wide_enough_for_twice_as_much() {
        let closed = |bps| Some(Budget { bps, lasting_bps: bps, is_open: false, keeps_least: false, is_start: false });
        let open = |bps| Some(Budget { bps, lasting_bps: bps, is_open: true, keeps_least: false, is_start: false });
        let mut redundancy = Redundancy::default();
        assert!(!redundancy.on_budget(closed(510_000), 100_000, true) && !redundancy.on_budget(open(490_000), 100_000, true));
        assert!(redundancy.on_budget(closed(490_000), 100_000, true) && redundancy.is_unaffordable());
        // Without, it takes half as much.
        assert!(!redundancy.on_budget(closed(590_000), 50_000, true) && !redundancy.on_budget(open(590_000), 50_000, true));
        assert!(redundancy.on_budget(open(600_000), 50_000, true) && !redundancy.is_unaffordable());
        // On a link that loses packets it is worth more than a picture.
        redundancy.on_report(25, 100, Instant::now());
        let lossy = |bps| Some(Budget { bps, lasting_bps: bps, is_open: false, keeps_least: true, is_start: false });
        assert!(redundancy.is_on() && !redundancy.on_budget(lossy(130_000), 100_000, true));
        assert!(redundancy.on_budget(lossy(120_000), 100_000, true) && !redundancy.on_budget(lossy(500_000), 50_000, true));
        assert!(redundancy.on_budget(None, 50_000, true));
        assert!(redundancy.on_budget(closed(490_000), 100_000, true), "a queue overflows");
    }

    #[test]
    fn without_a_picture_it_goes_only_where_it_does_not_fit_itself() {
        let closed = |bps, keeps_least| Some(Budget { bps, lasting_bps: bps, is_open: false, keeps_least, is_start: false });
        let mut redundancy = Redundancy::default();
        assert!(!redundancy.on_budget(closed(120_000, false), 110_000, false));
        assert!(redundancy.on_budget(closed(90_000, false), 110_000, false) && redundancy.is_unaffordable());
        assert!(!redundancy.on_budget(closed(120_000, false), 55_000, false));
        assert!(redundancy.on_budget(closed(140_000, false), 55_000, false) && !redundancy.is_unaffordable());
        // What no queue drops is lost whatever is sent: then it helps.
        redundancy.on_report(25, 100, Instant::now());
        assert!(!redundancy.on_budget(closed(90_000, true), 110_000, false));
        assert!(redundancy.on_budget(closed(90_000, false), 110_000, false));
    }

    use super::*;

    /// Reports a second apart, each of so many losses of 256 packets; when redundancy was switched, in seconds.
    fn switches(reports: impl IntoIterator<Item = u8>) -> Vec<u64> {
        let (start, mut redundancy) = (Instant::now(), Redundancy::default());
        let at = |second| start + Duration::from_secs(second);
        let totals = reports.into_iter().scan(0, |total, lost| {
            *total += i64::from(lost);
            Some(*total)
        });
        let switched = (0..).zip(totals).filter(|&(second, total)| redundancy.on_report(total, second * 256 + 256, at(second)));
        switched.map(|(second, _)| second).collect()
    }

    #[test]
    fn gaps_that_the_client_learns_of_sooner_or_later_than_we_are_no_loss() {
        let (now, mut redundancy) = (Instant::now(), Redundancy::default());
        let totals = [0, -2, -2, 0, 1, -1, -1, 1, -3, 0, 0, 1];
        assert!((1..).zip(totals).all(|(report, lost)| !redundancy.on_report(lost, report * 250, now)));
    }

    #[test]
    fn loss_above_a_percent_begins_it_and_a_lone_packet_does_not() {
        assert_eq!(switches([0, 0, 26, 26]), [2]);
        assert_eq!(switches([0, 3, 3, 3, 3, 3, 3]), [3]);
        assert_eq!(switches([5, 0, 0, 0, 0, 0, 0, 0, 5, 0]), [0; 0]);
        assert_eq!(switches([2; 60]), [0; 0]);
    }

    #[test]
    fn it_ends_after_a_clean_while_and_not_between_two_spells() {
        let spell = [26, 26];
        let switched = switches(spell.into_iter().chain([0; 60]));
        assert_eq!(switched.len(), 2);
        assert!((20..30).contains(&switched[1]), "{switched:?}");
        let spells = (0..10).flat_map(|_| spell.into_iter().chain([0; 15]));
        assert_eq!(switches(spells), [0]);
    }
}
