//! The allocation itself; see the [module](super).

use std::time::Instant;

use super::ladder::at_or_below;
use super::patience::Memory;
use super::start::LEAST_BPS;
use super::{Allocation, Budget, Claim, Grant};

/// Who speaks is so many steps ahead of the others.
const SPEAKERS_LEAD: usize = 2;
/// A track that is held goes up before its time if that fits into this share of the budget.
const PLENTY_PERCENT: u64 = 66;
/// A probe is asked for up to this multiple of what is sent, or for one step.
const PROBE_FACTOR: u64 = 2;

/// Divides a budget; None: there is no limit. `audio_bps` is what the audio needs. Claims have ladders with at least one step.
#[must_use]
pub fn allocate(budget: Option<Budget>, audio_bps: u64, claims: &[Claim], now: Instant) -> Allocation {
    let budget_bps = budget.map_or(u64::MAX, |budget| budget.bps);
    let before: Vec<Option<usize>> = claims.iter().map(|claim| at_or_below(&claim.steps, claim.memory.place?)).collect();
    let tops: Vec<Option<usize>> = claims.iter().map(|claim| claim.steps.len().checked_sub(1)).collect();
    let mut memories: Vec<Memory> = claims.iter().map(|claim| claim.memory).collect();
    let after = match budget {
        None => tops.clone(),
        Some(budget) => {
            let mut order: Vec<usize> = (0..claims.len()).collect();
            order.sort_by_key(|&index| claims[index].rank);
            let table = Table { claims, order, before: &before, audio_bps, budget };
            let limited = |memories: &[Memory], is_free: &dyn Fn(usize, &Memory) -> bool| -> Vec<Option<usize>> {
                let limit = |(index, memory)| if is_free(index, memory) { tops[index] } else { before[index] };
                memories.iter().enumerate().map(limit).collect()
            };
            let possible = table.divide(&limited(&memories, &|_, memory| memory.is_nearly_free(now)));
            // Who is held goes up all the same where there is plenty, or a way that is wide again would stay unused.
            let is_anybody_held = memories.iter().any(|memory| !memory.is_nearly_free(now) && memory.may_hurry(budget_bps, now));
            let plenty = is_anybody_held.then(|| table.of_less(PLENTY_PERCENT).divide(&tops));
            let mut may_rise = |(index, memory): (usize, &mut Memory)| {
                let is_plenty = memory.may_hurry(budget_bps, now) && plenty.as_ref().is_some_and(|plenty| plenty[index] > before[index]);
                memory.may_rise(is_plenty || possible[index] > before[index], is_plenty, now)
            };
            let may_rise: Vec<bool> = memories.iter_mut().enumerate().map(&mut may_rise).collect();
            table.divide(&limited(&memories, &|index, _| may_rise[index]))
        }
    };
    let mut allocation =
        Allocation { grants: Vec::with_capacity(claims.len()), now_bps: audio_bps, next_bps: None, plenty_bps: None, again_at: None };
    let (mut further_bps, mut least_bps, mut all_bps) = (0_u64, u64::MAX, audio_bps);
    // What there was to be had, if somebody loses something.
    let lasting_bps = budget.map_or(u64::MAX, |budget| budget.lasting_bps);
    let mut held = Vec::new();
    for (index, (claim, mut memory)) in claims.iter().zip(memories).enumerate() {
        let step = after[index];
        memory.settle(before[index], step, step.map(|step| claim.steps[step].place), lasting_bps, now);
        let granted_bps = step.map_or(0, |step| claim.steps[step].bps);
        allocation.now_bps = allocation.now_bps.saturating_add(granted_bps);
        all_bps = all_bps.saturating_add(claim.steps.last().map_or(0, |step| Memory::charge(step.bps)));
        if step < tops[index] {
            let next = step.map_or(0, |step| step + 1);
            let more_bps = Memory::charge(claim.steps[next].bps).saturating_sub(granted_bps);
            held.extend(memory.hurries_with(now).map(|bps| (more_bps, bps)));
            if memory.is_free(now) {
                further_bps = further_bps.saturating_add(more_bps);
                least_bps = least_bps.min(more_bps);
            }
            let again = [memory.hold_until(), memory.next_rise(now)].into_iter().flatten().filter(|&at| at > now).min();
            allocation.again_at = [allocation.again_at, again].into_iter().flatten().min();
        }
        allocation.grants.push(Grant { step, memory });
    }
    if least_bps < u64::MAX {
        let now_bps = allocation.now_bps;
        let most = now_bps.saturating_add(least_bps).max(now_bps.saturating_mul(PROBE_FACTOR));
        let is_start = budget.is_some_and(|budget| budget.is_start);
        allocation.next_bps = Some(if is_start { all_bps } else { now_bps.saturating_add(further_bps).min(most) });
    }
    let now_bps = allocation.now_bps;
    let plenty = held.into_iter().map(|(more_bps, bps)| (now_bps.saturating_add(more_bps) / PLENTY_PERCENT * 100).max(bps));
    allocation.plenty_bps = plenty.min();
    allocation
}

/// What is divided among whom.
struct Table<'a> {
    claims: &'a [Claim],
    /// By rank.
    order: Vec<usize>,
    before: &'a [Option<usize>],
    audio_bps: u64,
    budget: Budget,
}

impl Table<'_> {
    /// The same with a share of the budget.
    fn of_less(&self, percent: u64) -> Self {
        let less = |bps: u64| bps / 100 * percent;
        let budget = Budget { bps: less(self.budget.bps), lasting_bps: self.budget.lasting_bps, ..self.budget };
        Self { order: self.order.clone(), budget, ..*self }
    }

    /// Steps of all claims, none above its limit.
    fn divide(&self, limits: &[Option<usize>]) -> Vec<Option<usize>> {
        let mut granted = vec![None; self.claims.len()];
        let mut spent_bps = self.audio_bps;
        if self.budget.is_open {
            for (index, granted) in granted.iter_mut().enumerate() {
                *granted = self.before[index];
                spent_bps = spent_bps.saturating_add(self.cost(index, *granted));
            }
        }
        for &index in &self.order {
            if granted[index].is_none() {
                self.raise(index, limits, &mut granted, &mut spent_bps);
            }
        }
        for &index in self.order.iter().filter(|&&index| self.claims[index].rank.is_first_of_all()) {
            while granted[index].is_some() && self.raise(index, limits, &mut granted, &mut spent_bps) {}
        }
        let most_steps = self.claims.iter().map(|claim| claim.steps.len()).max().unwrap_or(0);
        for turn in 1..most_steps {
            for &index in &self.order {
                let lead = if self.claims[index].rank.is_silent { 0 } else { SPEAKERS_LEAD };
                while granted[index].is_some_and(|step| step < turn + lead) && self.raise(index, limits, &mut granted, &mut spent_bps) {}
            }
        }
        granted
    }

    /// One step up, if it is within the limit and there is enough: of what lasts for what it has, of what is there now for more.
    fn raise(&self, index: usize, limits: &[Option<usize>], granted: &mut [Option<usize>], spent_bps: &mut u64) -> bool {
        let next = Some(granted[index].map_or(0, |step| step + 1));
        if next > limits[index] {
            return false;
        }
        let more_bps = self.cost(index, next).saturating_sub(self.cost(index, granted[index]));
        let most_bps = match next {
            _ if next <= self.before[index] => self.budget.lasting_bps,
            Some(0) if self.budget.is_start && granted.iter().all(Option::is_none) => u64::MAX,
            Some(0) if self.budget.is_start => self.budget.bps.max(LEAST_BPS),
            _ => self.budget.bps,
        };
        let spent = spent_bps.saturating_add(more_bps);
        // What costs nothing is kept even where audio alone is too much.
        if spent > most_bps && more_bps > 0 {
            return false;
        }
        *spent_bps = spent;
        granted[index] = next;
        true
    }

    /// What a step has to fit with: what it might get with a margin, what it has without. The least that a track can have is kept
    /// for three quarters: an estimate that dips does not stop a picture.
    fn cost(&self, index: usize, step: Option<usize>) -> u64 {
        let Some(number) = step else { return 0 };
        let bps = self.claims[index].steps[number].bps;
        match step {
            // A budget that has no room for the audio that arrives says nothing of a picture.
            Some(0) if self.budget.keeps_least && (step <= self.before[index] || self.budget.bps < self.audio_bps) => 0,
            _ if step > self.before[index] => Memory::charge(bps),
            Some(0) => bps - bps / 4,
            _ => bps,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::allocation::Rank;
    use crate::allocation::ladder::{Place, Step, Steps};

    const CAMERA: [u64; 3] = [150_000, 500_000, 1_700_000];
    const AUDIO: u64 = 100_000;

    fn steps(costs: &[u64]) -> Steps {
        let step = |(rung, &bps): (usize, &u64)| Step { place: Place { rung, temporal: u8::MAX }, bps };
        costs.iter().enumerate().map(step).collect()
    }

    fn rank(place: usize) -> Rank {
        Rank { priority: u32::MAX, is_camera: true, is_silent: true, smallness_px: 0, place }
    }

    fn camera(place: usize) -> Claim {
        Claim { rank: rank(place), steps: steps(&CAMERA), memory: Memory::default() }
    }

    fn closed(bps: u64) -> Option<Budget> {
        Some(Budget { bps, lasting_bps: bps, is_open: false, keeps_least: false, is_start: false })
    }

    /// The steps at a budget for video of so many kbit/s.
    fn at(kbps: u64, claims: &[Claim]) -> Vec<Option<usize>> {
        granted(&allocate(closed(kbps * 1_000 + AUDIO), AUDIO, claims, Instant::now()))
    }

    fn granted(allocation: &Allocation) -> Vec<Option<usize>> {
        allocation.grants.iter().map(|grant| grant.step).collect()
    }

    /// What was granted becomes what is there.
    fn keep(claims: &mut [Claim], allocation: &Allocation) {
        for (claim, grant) in claims.iter_mut().zip(&allocation.grants) {
            claim.memory = grant.memory;
        }
    }

    #[test]
    fn everybody_gets_the_least_before_anybody_gets_more() {
        let claims: Vec<Claim> = (0..9).map(camera).collect();
        assert_eq!(at(9 * 162, &claims), [Some(0); 9]);
        assert_eq!(at(9 * 162 + 380, &claims)[..2], [Some(1), Some(0)]);
        assert_eq!(at(9 * 162 - 1, &claims), [[Some(0); 8].as_slice(), &[None]].concat());
        assert_eq!(at(0, &claims), [None; 9]);
    }

    #[test]
    fn the_first_in_rank_is_paused_last() {
        let mut claims: Vec<Claim> = (0..4).map(camera).collect();
        claims[3].rank.priority = 1;
        claims[2].rank.is_camera = false;
        claims[1].rank.is_silent = false;
        assert_eq!(at(170, &claims), [None, None, None, Some(0)]);
        assert_eq!(at(330, &claims), [None, None, Some(0), Some(0)]);
        assert_eq!(at(490, &claims), [None, Some(0), Some(0), Some(0)]);
        let by_size = [Claim { rank: Rank { smallness_px: 9, ..rank(0) }, ..camera(0) }, camera(1)];
        assert_eq!(at(170, &by_size), [None, Some(0)]);
    }

    #[test]
    fn a_screen_gets_all_it_wants_before_cameras_get_more_than_the_least() {
        let mut claims: Vec<Claim> = (0..3).map(camera).collect();
        claims[1].rank.is_camera = false;
        assert_eq!(at(900, &claims), [Some(0), Some(1), Some(0)]);
        assert_eq!(at(2_200, &claims), [Some(0), Some(2), Some(0)]);
        assert_eq!(at(2_600, &claims), [Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn who_speaks_is_two_steps_ahead() {
        let mut claims: Vec<Claim> = (0..3).map(camera).collect();
        claims[2].rank.is_silent = false;
        assert_eq!(at(2_200, &claims), [Some(0), Some(0), Some(2)]);
        assert_eq!(at(2_600, &claims), [Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn what_is_too_large_for_the_rest_does_not_keep_it_from_others() {
        let big = Claim { rank: Rank { is_camera: false, ..rank(0) }, steps: steps(&[1_000_000]), memory: Memory::default() };
        let claims = [big, camera(1), camera(2)];
        assert_eq!(at(400, &claims), [None, Some(0), Some(0)]);
    }

    #[test]
    fn without_a_limit_everybody_gets_everything() {
        let claims: Vec<Claim> = (0..3).map(camera).collect();
        let allocation = allocate(None, AUDIO, &claims, Instant::now());
        assert_eq!((granted(&allocation), allocation.next_bps), (vec![Some(2); 3], None));
    }

    #[test]
    fn less_is_taken_at_once_and_more_is_given_after_a_while() {
        let (now, mut claims) = (Instant::now(), [camera(0)]);
        let mut step = |kbps: u64, ms| {
            let allocation = allocate(closed(kbps * 1_000), 0, &claims, now + Duration::from_millis(ms));
            keep(&mut claims, &allocation);
            allocation.grants[0].step
        };
        assert_eq!(step(5_000, 0), Some(2));
        assert_eq!(step(1_700, 100), Some(2), "what it has fits without a margin");
        assert_eq!(step(1_699, 200), Some(1));
        assert_eq!(step(100, 300), None);
        assert_eq!(step(5_000, 400), None);
        assert_eq!(step(5_000, 2_800), None);
        assert_eq!(step(5_000, 3_310), Some(2));
    }

    #[test]
    fn one_that_waits_does_not_keep_what_it_does_not_get_from_the_others() {
        let (now, mut claims) = (Instant::now(), [camera(0), camera(1)]);
        claims[0].memory.settle(Some(2), Some(0), Some(claims[0].steps[0].place), 1_000_000, now);
        assert_eq!(granted(&allocate(closed(2_100_000), 0, &claims, now)), [Some(0), Some(2)]);
    }

    #[test]
    fn nobody_loses_anything_while_there_may_be_more() {
        let (now, mut claims) = (Instant::now(), vec![camera(0), camera(1)]);
        let open = |bps| Some(Budget { bps, lasting_bps: bps, is_open: true, keeps_least: false, is_start: false });
        let allocation = allocate(closed(1_100_000), 0, &claims, now);
        keep(&mut claims, &allocation);
        assert_eq!(granted(&allocate(open(300_000), 0, &claims, now)), [Some(1), Some(1)]);
        let screen = Claim { rank: Rank { is_camera: false, ..rank(2) }, ..camera(2) };
        claims.push(screen);
        let allocation = allocate(open(1_100_000), 0, &claims, now);
        assert_eq!(granted(&allocation), [Some(1), Some(1), None]);
        assert!(allocation.next_bps.is_some_and(|bps| bps >= 1_162_000), "{allocation:?}");
        assert_eq!(granted(&allocate(closed(1_100_000), 0, &claims, now)), [Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn nobody_loses_for_a_moment_what_fits_for_good() {
        let (now, mut claims) = (Instant::now(), [camera(0), camera(1)]);
        let allocation = allocate(closed(1_300_000), 0, &claims, now);
        keep(&mut claims, &allocation);
        let draining = |lasting_bps| Some(Budget { bps: 600_000, lasting_bps, is_open: false, keeps_least: false, is_start: false });
        assert_eq!(granted(&allocate(draining(1_200_000), 0, &claims, now)), [Some(1), Some(1)]);
        assert_eq!(granted(&allocate(draining(900_000), 0, &claims, now)), [Some(1), Some(0)]);
        assert_eq!(granted(&allocate(draining(4_000_000), 0, &claims, now)), [Some(1), Some(1)], "more has to fit now");
    }

    #[test]
    fn loss_alone_pauses_nobody() {
        let (now, mut claims) = (Instant::now(), [camera(0), camera(1)]);
        let allocation = allocate(closed(5_000_000), 0, &claims, now);
        keep(&mut claims, &allocation);
        let lossy = Some(Budget { bps: 100_000, lasting_bps: 100_000, is_open: false, keeps_least: true, is_start: false });
        assert_eq!(granted(&allocate(lossy, 0, &claims, now)), [Some(0), Some(0)]);
        claims[1].memory = Memory::default();
        assert_eq!(granted(&allocate(lossy, 0, &claims, now)), [Some(0), None]);
        assert_eq!(granted(&allocate(lossy, 110_000, &claims, now)), [Some(0), Some(0)], "nothing is known of what fits");
    }

    #[test]
    fn a_probe_is_asked_for_what_would_help_and_not_while_nobody_may_rise() {
        let (now, mut claims) = (Instant::now(), [camera(0), camera(1)]);
        let allocation = allocate(closed(400_000), 0, &claims, now);
        // Two steps of 390,000 more, but not more than twice what is sent, or one step.
        assert_eq!((allocation.now_bps, allocation.next_bps), (300_000, Some(690_000)));
        keep(&mut claims, &allocation);
        let allocation = allocate(closed(220_000), 0, &claims, now);
        keep(&mut claims, &allocation);
        assert_eq!(granted(&allocation), [Some(0), None]);
        assert_eq!(allocation.next_bps, Some(540_000), "the paused one waits, the other one does not");
        assert!(allocation.again_at.is_some());
    }

    #[test]
    fn a_noisy_estimate_does_not_make_a_track_flap() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let count = rng.random_range(1..10);
            let mut claims: Vec<Claim> = (0..count).map(camera).collect();
            let (mean, noise) = (rng.random_range(200_000.0..5_000_000.0), rng.random_range(0.05..0.3));
            let (start, period) = (Instant::now(), rng.random_range(20.0..200.0_f64));
            let mut changes: Vec<VecDeque<u32>> = vec![VecDeque::new(); count];
            for tenth in 0..3_000_u32 {
                // Slow waves and quick noise on top of each other.
                let wave = (f64::from(tenth) / period * std::f64::consts::TAU).sin();
                let share = 1.0 + noise * (wave + rng.random_range(-1.0..1.0)) / 2.0;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bitrate")]
                let budget = closed((mean * share) as u64);
                let allocation = allocate(budget, AUDIO, &claims, start + Duration::from_millis(100) * tenth);
                for (index, grant) in allocation.grants.iter().enumerate() {
                    let is_first = claims[index].memory == Memory::default();
                    if grant.memory.place != claims[index].memory.place && !is_first {
                        changes[index].push_back(tenth);
                        changes[index].retain(|&at| at + 600 > tenth);
                        assert!(changes[index].len() <= 6, "seed {seed}: track {index} of {count} changes at {:?}", changes[index]);
                    }
                }
                keep(&mut claims, &allocation);
            }
        }
    }

    prop_compose! {
        fn any_claim()(
            mut costs in proptest::collection::btree_set(1_000_u64..3_000_000, 1..8),
            priority in prop_oneof![3 => Just(u32::MAX), 1 => 1_u32..4],
            (is_camera, is_silent) in any::<(bool, bool)>(),
            smallness_px in 0_u64..4,
            held in proptest::option::of(0_usize..9),
            lowered in proptest::option::of(any::<bool>()),
        ) -> Claim {
            let costs: Vec<u64> = std::mem::take(&mut costs).into_iter().collect();
            let place = held.map(|rung| Place { rung, temporal: u8::MAX });
            let mut memory = Memory::at(place);
            if lowered.is_some() {
                memory.settle(Some(1), Some(0), place, 1_000_000, Instant::now());
            }
            Claim { rank: Rank { priority, is_camera, is_silent, smallness_px, place: 0 }, steps: steps(&costs), memory }
        }
    }

    fn any_claims() -> impl Strategy<Value = Vec<Claim>> {
        proptest::collection::vec(any_claim(), 0..12).prop_map(|mut claims| {
            claims.iter_mut().enumerate().for_each(|(place, claim)| claim.rank.place = place);
            claims
        })
    }

    proptest! {
        #[test]
        fn video_never_costs_more_than_the_budget_leaves(claims in any_claims(), bps in 0_u64..12_000_000, audio in 0_u64..500_000, later in 0_u64..90) {
            let now = Instant::now() + Duration::from_secs(later);
            let allocation = allocate(closed(bps), audio, &claims, now);
            let video: u64 = allocation.grants.iter().zip(&claims).filter_map(|(grant, claim)| Some(claim.steps[grant.step?].bps)).sum();
            let kept: u64 = allocation.grants.iter().zip(&claims).filter_map(|(grant, claim)| {
                Some(claim.steps[0].bps / 4).filter(|_| grant.step == Some(0) && claim.memory.place.is_some())
            }).sum();
            prop_assert!(video - kept <= bps.saturating_sub(audio));
            prop_assert_eq!(allocation.now_bps, audio + video);
            prop_assert!(allocation.next_bps.is_none_or(|next| next > allocation.now_bps));
        }

        #[test]
        fn who_is_not_paused_by_less_is_not_paused_by_more_unless_for_who_comes_first(
            claims in any_claims(), bps in 0_u64..12_000_000, more in 0_u64..4_000_000,
        ) {
            let now = Instant::now();
            let claims: Vec<Claim> = claims.into_iter().map(|claim| {
                Claim { memory: Memory::at(claim.memory.place), ..claim }
            }).collect();
            let (poor, rich) = (allocate(closed(bps), 0, &claims, now), allocate(closed(bps + more), 0, &claims, now));
            let mut order: Vec<usize> = (0..claims.len()).collect();
            order.sort_by_key(|&index| claims[index].rank);
            let first = order.into_iter().find(|&index| poor.grants[index].step.is_some() != rich.grants[index].step.is_some());
            prop_assert!(first.is_none_or(|index| rich.grants[index].step.is_some()));
        }

        #[test]
        fn nobody_has_a_second_step_while_somebody_is_paused_who_could_have_the_first(claims in any_claims(), bps in 0_u64..12_000_000) {
            let claims: Vec<Claim> = claims.into_iter().map(|claim| Claim { memory: Memory::default(), ..claim }).collect();
            let allocation = allocate(closed(bps), 0, &claims, Instant::now());
            let above: u64 = allocation.grants.iter().zip(&claims).filter_map(|(grant, claim)| {
                let step = grant.step?;
                Some(Memory::charge(claim.steps[step].bps) - Memory::charge(claim.steps[0].bps))
            }).sum();
            let spent: u64 = allocation.grants.iter().zip(&claims).filter_map(|(grant, claim)| Some(Memory::charge(claim.steps[grant.step?].bps))).sum();
            for (grant, claim) in allocation.grants.iter().zip(&claims) {
                let is_starved = grant.step.is_none() && Memory::charge(claim.steps[0].bps) <= bps.saturating_sub(spent) + above;
                prop_assert!(!is_starved);
            }
        }

        #[test]
        fn more_is_never_less_in_total_for_equal_tracks(count in 1_usize..12, bps in 0_u64..20_000_000, more in 0_u64..4_000_000) {
            let claims: Vec<Claim> = (0..count).map(camera).collect();
            let (poor, rich) = (at(bps / 1_000, &claims), at((bps + more) / 1_000, &claims));
            for (poor, rich) in poor.iter().zip(&rich) {
                prop_assert!(poor <= rich);
            }
        }
    }
}
