//! Spreads what is sent on a narrow way over time, so that a frame does not arrive at the bottleneck as one burst.
//!
//! In: how much is sent ([`super::history`] counts it), fresh packets of video and what is resent. Out: how many of them go at once
//! and, later, those that waited. A way of which no limit is known is not paced, and what is within the budget never waits. What
//! waits are names of packets: numbers are given, and copies made, when they go. Audio does not wait, but it counts.
//! Invariants: the order of a stream stays; a queue that would take longer than [`LONGEST`] goes faster, and debts are no longer than
//! that; no more than [`MAX_WAITING`] packets wait, and what is beyond them leaves a gap that the client asks to be filled.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::rate::bits;
use crate::ids::{DownKey, UpKey};
use crate::subscribe::rewrite::EpochId;

/// So many times the estimate: more than a stream has on average, for its frames differ in size. A bottleneck that carries the
/// estimate lets a burst out no faster, so that waiting here costs no time there.
const FACTOR: f64 = 1.25;
/// What may go at once: packets of this time at the pace, or so many bytes (two packets).
pub const BURST: Duration = Duration::from_millis(5);
const LEAST_BURST_BYTES: f64 = 2_400.0;
/// A train of three packets shows what the bottleneck carries; so often one of four may go at once.
const SHOW_INTERVAL: Duration = Duration::from_millis(300);
const SHOW_BYTES: f64 = 4_900.0;
/// What waits goes at the least at a pace at which it would be gone after this time (four frames). As that falls with what waits, so does
/// the pace: half is gone after two thirds of it, and the pace of the estimate takes over where it is faster.
const LONGEST: Duration = Duration::from_millis(130);
/// A shard at its limit takes so long for a turn.
const LONGEST_TURN: Duration = Duration::from_millis(30);
/// Waiting packets that go at once: a train.
pub const MAX_AT_ONCE: usize = 16;
/// Half a second of 10 Mbit/s.
const MAX_WAITING: usize = 512;
const MAX_RESENDS: usize = 64;
/// Header and tag of a packet, beside what is stored of it.
const HEADERS: usize = 28;

/// A packet of video that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Whose stream.
    pub stream: Stream,
    /// Number in its encoding.
    pub sequence: u64,
    /// Bytes that are stored of it.
    pub len: u16,
}

/// What a waiting packet is part of. It goes only if that still flows when its time comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// For which subscription.
    pub down: DownKey,
    /// Of which track.
    pub up: UpKey,
    /// Of which encoding of it.
    pub encoding: u8,
    /// Since which switch.
    pub epoch: EpochId,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pacer {
    /// Bits per second; None: nothing has to wait.
    pace_bps: Option<f64>,
    /// Bytes that were sent ahead of the pace at `counted_at`, when so many had been sent.
    ahead_bytes: f64,
    sent_bytes: u64,
    counted_at: Option<Instant>,
    shown_at: Option<Instant>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    resends: VecDeque<(DownKey, u16)>,
    /// The owner comes back to it until nothing waits.
    pub is_listed: bool,
}

impl Pacer {
    /// What the way carries, by the estimate; None: no limit is known.
    pub fn set_target(&mut self, target_bps: Option<f64>) {
        if self.pace_bps.is_none() {
            // What was sent before does not count.
            (self.ahead_bytes, self.counted_at) = (0.0, None);
        }
        self.pace_bps = target_bps.map(|bps| bps * FACTOR);
    }

    /// Something is limited, or waits.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.pace_bps.is_some() || self.has_waiting()
    }

    /// Something waits.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.resends.is_empty()
    }

    /// How many fresh packets of these lengths go at once; the others are to wait. `sent_bytes`: sent so far on the transport.
    pub fn admit(&mut self, lens: impl Iterator<Item = usize>, sent_bytes: u64, now: Instant) -> usize {
        if self.has_waiting() {
            return 0;
        }
        let Some(burst_bytes) = self.burst_bytes() else { return usize::MAX };
        self.count(sent_bytes, now);
        let is_show = self.shown_at.is_none_or(|at| now.saturating_duration_since(at) >= SHOW_INTERVAL);
        let most = if is_show { burst_bytes.max(SHOW_BYTES) } else { burst_bytes };
        let mut ahead_bytes = self.ahead_bytes;
        let fits = |len: usize| {
            let does_fit = ahead_bytes < most;
            ahead_bytes += bytes(len);
            does_fit
        };
        let fitting = lens.map(fits).take_while(|&does_fit| does_fit).count();
        if is_show && fitting > 2 {
            self.shown_at = Some(now);
        }
        fitting
    }

    /// A packet has to wait. What is too much is dropped.
    pub fn wait(&mut self, packet: Waiting) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting_bytes += u64::from(packet.len);
            self.waiting.push_back(packet);
        }
    }

    /// What is to be resent would have to wait, but waits already, or has no place.
    #[must_use]
    pub fn refuses_resend(&self, down: DownKey, sequence: u16) -> bool {
        !self.resends.is_empty() && (self.resends.len() >= MAX_RESENDS || self.resends.contains(&(down, sequence)))
    }

    /// What is to be resent has to wait as well; false if it goes at once. Of more than a few the client asks for again.
    pub fn holds_resend(&mut self, down: DownKey, sequence: u16, sent_bytes: u64, now: Instant) -> bool {
        let Some(burst_bytes) = self.burst_bytes() else { return false };
        self.count(sent_bytes, now);
        if self.resends.is_empty() && self.ahead_bytes < burst_bytes {
            return false;
        }
        if self.resends.len() < MAX_RESENDS && !self.resends.contains(&(down, sequence)) {
            self.resends.push_back((down, sequence));
        }
        true
    }

    /// The next packet to be resent, if its time has come.
    pub fn next_resend(&mut self, sent_bytes: u64, now: Instant) -> Option<(DownKey, u16)> {
        self.may_send(sent_bytes, now).then(|| self.resends.pop_front())?
    }

    /// The next packets of one stream whose time has come, if nothing is to be resent before them.
    pub fn next(&mut self, sent_bytes: u64, now: Instant) -> Option<(Stream, ArrayVec<u64, MAX_AT_ONCE>)> {
        if !self.resends.is_empty() || !self.may_send(sent_bytes, now) {
            return None;
        }
        let stream = self.waiting.front()?.stream;
        let burst_bytes = self.burst_bytes().unwrap_or(f64::MAX);
        let mut ahead_bytes = self.ahead_bytes;
        let goes = |packet: &&Waiting| {
            let does_fit = ahead_bytes < burst_bytes && packet.stream == stream;
            ahead_bytes += bytes(packet.len.into());
            does_fit
        };
        let count = self.waiting.iter().take(MAX_AT_ONCE).take_while(goes).count();
        self.waiting_bytes -= self.waiting.iter().take(count).map(|packet| u64::from(packet.len)).sum::<u64>();
        Some((stream, self.waiting.drain(..count).map(|packet| packet.sequence).collect()))
    }

    /// Takes the first packets of a stream that `belongs` says yes to, however long they have waited.
    pub fn take(&mut self, stream: Stream, mut belongs: impl FnMut(u64) -> bool) -> ArrayVec<u64, MAX_AT_ONCE> {
        let of_stream = self.waiting.iter().filter(|packet| packet.stream == stream).map(|packet| packet.sequence);
        let taken: ArrayVec<u64, MAX_AT_ONCE> = of_stream.take(MAX_AT_ONCE).take_while(|&sequence| belongs(sequence)).collect();
        if !taken.is_empty() {
            self.waiting.retain(|packet| packet.stream != stream || !taken.contains(&packet.sequence));
            self.count_waiting();
        }
        taken
    }

    /// Nothing of a subscription that waits is to be sent.
    pub fn drop_stream(&mut self, down: DownKey) {
        self.waiting.retain(|packet| packet.stream.down != down);
        self.resends.retain(|(of, _)| *of != down);
        self.count_waiting();
    }

    fn count_waiting(&mut self) {
        self.waiting_bytes = self.waiting.iter().map(|packet| u64::from(packet.len)).sum();
    }

    /// What was sent for another purpose than media does not make it wait.
    pub fn forgive(&mut self, sent_bytes: u64, now: Instant) {
        (self.ahead_bytes, self.sent_bytes, self.counted_at) = (0.0, sent_bytes, Some(now));
    }

    fn may_send(&mut self, sent_bytes: u64, now: Instant) -> bool {
        let Some(burst_bytes) = self.burst_bytes() else { return true };
        self.count(sent_bytes, now);
        self.ahead_bytes < burst_bytes
    }

    fn count(&mut self, sent_bytes: u64, now: Instant) {
        let Some(at) = self.counted_at else { return self.forgive(sent_bytes, now) };
        let elapsed = now.saturating_duration_since(at);
        let sent = bits(sent_bytes.saturating_sub(self.sent_bytes)) / 8.0;
        let pace = self.pace_bps().unwrap_or(0.0) / 8.0;
        let left = self.ahead_bytes + sent - pace * elapsed.as_secs_f64();
        // What waited while a turn of the shard took longer than a burst is not late for that; what nobody wanted to send is not saved.
        let late = if self.has_waiting() { elapsed.min(LONGEST_TURN).saturating_sub(BURST) } else { Duration::ZERO };
        let most = (pace * LONGEST.as_secs_f64()).max(2.0 * LEAST_BURST_BYTES);
        let kept = if elapsed.is_zero() { left } else { left.max(-pace * late.as_secs_f64()) };
        (self.ahead_bytes, self.sent_bytes, self.counted_at) = (kept.min(most), sent_bytes, Some(now));
    }

    /// What has waited for some time goes faster.
    fn pace_bps(&self) -> Option<f64> {
        Some(self.pace_bps?.max(bits(self.waiting_bytes) / LONGEST.as_secs_f64()))
    }

    /// None: as much as there is.
    fn burst_bytes(&self) -> Option<f64> {
        Some((self.pace_bps()? / 8.0 * BURST.as_secs_f64()).max(LEAST_BURST_BYTES))
    }
}

fn bytes(len: usize) -> f64 {
    bits((len + HEADERS) as u64) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn packet(sequence: u64) -> Waiting {
        let stream = Stream { down: DownKey::default(), up: UpKey::default(), encoding: 0, epoch: 0 };
        Waiting { stream, sequence, len: 972 }
    }

    /// A way of 800 kbit/s, on which one packet has been admitted.
    fn narrow(now: Instant) -> Pacer {
        let mut pacer = Pacer::default();
        pacer.set_target(Some(800_000.0));
        assert_eq!(pacer.admit([972].into_iter(), 0, now), 1);
        pacer
    }

    /// Sends what may go, each 5 ms for so long; the milliseconds after which packets went.
    fn run(pacer: &mut Pacer, mut sent_bytes: u64, start: Instant, length_ms: u64) -> Vec<(u64, u64)> {
        let mut went = Vec::new();
        for ms in (5..=length_ms).step_by(5) {
            while let Some((_, sequences)) = pacer.next(sent_bytes, start + Duration::from_millis(ms)) {
                sent_bytes += 1_000 * sequences.len() as u64;
                went.extend(sequences.iter().map(|&sequence| (ms, sequence)));
            }
        }
        went
    }

    #[test]
    fn a_way_without_a_known_limit_is_not_paced() {
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        assert!(!pacer.is_on());
        assert_eq!(pacer.admit([972; 40].into_iter(), 1 << 40, now), usize::MAX);
        assert!(!pacer.holds_resend(DownKey::default(), 1, 1 << 40, now));
    }

    #[test]
    fn a_frame_goes_at_the_pace_and_in_order() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        pacer.shown_at = Some(start);
        let count = pacer.admit([972; 8].into_iter(), 1_000, start);
        assert_eq!(count, 2);
        (count as u64..8).for_each(|number| pacer.wait(packet(number)));
        // 1 Mbit/s is a packet of 1,000 bytes in 8 ms, on the grid of 5 ms.
        let went = run(&mut pacer, 3_000, start, 100);
        assert_eq!(went, [(5, 2), (15, 3), (25, 4), (30, 5), (40, 6), (45, 7)]);
        assert!(!pacer.has_waiting());
    }

    #[test]
    fn a_train_that_shows_what_the_way_carries_goes_now_and_then() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        let counts: Vec<usize> = (1..=12)
            .map(|frame| pacer.admit([972; 8].into_iter(), frame * 1_000, start + 33 * MS * u32::try_from(frame).unwrap_or(0)))
            .collect();
        assert_eq!(counts, [5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5, 3]);
    }

    #[test]
    fn nothing_overtakes_what_waits() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        pacer.wait(packet(0));
        assert_eq!(pacer.admit([10].into_iter(), 0, start + 100 * MS), 0);
        assert_eq!(pacer.admit([10].into_iter(), 0, start + 200 * MS), 0, "until the owner has come back to it");
    }

    #[test]
    fn what_is_resent_goes_before_fresh_video_and_once() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        pacer.wait(packet(0));
        assert!((0..2).all(|_| pacer.holds_resend(DownKey::default(), 7, 10_000, start)));
        let later = start + 100 * MS;
        assert!(pacer.next(10_000, later).is_none());
        assert_eq!(pacer.next_resend(10_000, later), Some((DownKey::default(), 7)));
        assert_eq!(pacer.next_resend(10_000, later), None);
        assert!(pacer.next(10_000, later).is_some());
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        (0..1_000).for_each(|number| pacer.wait(packet(number)));
        let went = run(&mut pacer, 0, start, 2_000);
        assert_eq!(went.len(), MAX_WAITING);
        let last_ms = went.last().map_or(0, |&(ms, _)| ms);
        assert!(last_ms < 900, "half a megabyte took {last_ms} ms on a way of 800 kbit/s");
    }

    /// A video at nine tenths of the estimate, 30 frames a second, on a shard whose turns take so long: the longest wait of a packet.
    fn longest_wait_ms(turn_ms: u64) -> u64 {
        let (start, mut sent_bytes) = (Instant::now(), 0);
        let mut pacer = Pacer::default();
        pacer.set_target(Some(3_000_000.0));
        let (mut came_at, mut longest_ms) = (Vec::new(), 0);
        for ms in (0..3_000).step_by(turn_ms as usize) {
            let now = start + Duration::from_millis(ms);
            while let Some((_, sequences)) = pacer.next(sent_bytes, now) {
                sent_bytes += 1_000 * sequences.len() as u64;
                longest_ms = sequences.iter().map(|&sequence| ms - came_at[sequence as usize]).fold(longest_ms, u64::max);
            }
            let frames = (ms + turn_ms) / 33 - ms / 33;
            for _ in 0..frames * 11 {
                if pacer.admit([972].into_iter(), sent_bytes, now) == 0 {
                    pacer.wait(packet(came_at.len() as u64));
                } else {
                    sent_bytes += 1_000;
                }
                came_at.push(ms);
            }
        }
        longest_ms
    }

    #[test]
    fn a_shard_with_long_turns_keeps_the_pace() {
        for turn_ms in [5, 10, 20, 30] {
            let longest_ms = longest_wait_ms(turn_ms);
            assert!(longest_ms <= 70, "{longest_ms} ms in turns of {turn_ms} ms");
        }
    }

    #[test]
    fn a_debt_does_not_outlive_what_made_it() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        pacer.wait(packet(0));
        // Audio that did not wait, half a megabyte of it.
        assert!(pacer.next(500_000, start + MS).is_none());
        assert!(pacer.next(500_000, start + LONGEST + BURST).is_some());
    }

    #[test]
    fn the_rest_of_a_frame_can_be_had_at_once() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        let other = Stream { encoding: 1, ..packet(0).stream };
        pacer.wait(Waiting { stream: other, ..packet(0) });
        (1..6).for_each(|number| pacer.wait(packet(number)));
        assert_eq!(pacer.take(packet(0).stream, |sequence| sequence < 3)[..], [1, 2]);
        assert!(pacer.take(packet(0).stream, |sequence| sequence < 3).is_empty());
        let left: Vec<u64> = run(&mut pacer, 0, start, 100).into_iter().map(|(_, sequence)| sequence).collect();
        assert_eq!(left, [0, 3, 4, 5]);
    }

    #[test]
    fn what_was_sent_while_there_was_no_limit_does_not_count() {
        let start = Instant::now();
        let mut pacer = narrow(start);
        pacer.set_target(None);
        pacer.set_target(Some(800_000.0));
        assert_eq!(pacer.admit([972; 2].into_iter(), 1 << 40, start), 2);
    }
}
