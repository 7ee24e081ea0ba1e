//! How long a subscriber's player should hold a picture back, so that what was lost is there again when its turn comes.
//!
//! In: once a second, how many packets the subscriber has asked for again, and its round trip time. Out: a value of the playout
//! delay extension for the next frame. A libwebrtc receiver waits for most of a round trip by itself once it had to ask for
//! frames (`jitter_estimator.cc`), but only if it knows that time, and a connection that does nothing but receive does not: it
//! gets no reports on what it sends, and browsers do not agree to receiver reference times (RFC 3611 section 4.4). Then every
//! frame behind a lost packet is late, and of late frames many are left out: with 3 % loss and 200 ms of round trip Chromium
//! showed 12 of 20 a second, and all of them where it was told to wait (`tests/net/test_adaptation.py`).
//!
//! Sound waits for the picture where both are one stream to the browser: rooms with `sync_streams`.
//!
//! Invariants: nobody who loses nothing waits; frames that come with a delay of their publisher or room keep it.

use std::time::Duration;

use crate::rtp::extension::playout_delay_value;

/// Seconds with losses, of the last [`WINDOW`], from which on they are no single spell.
const LOSING_SECONDS: u32 = 3;
/// Bits of the newest sixteen seconds.
const WINDOW: u32 = 0xffff;
/// A lost packet is missed when the next one comes, a frame later at worst; asking and sending take a round trip; and some are
/// asked for twice.
const FOR_NOTICING: Duration = Duration::from_millis(90);
const ROUND_TRIPS: f64 = 1.1;
/// Who talks with each other can't wait longer (ITU-T G.114 puts the end of a conversation at 400 ms).
const MOST: Duration = Duration::from_millis(400);
/// It becomes shorter by this much a second, longer at once.
const STEP_DOWN: Duration = Duration::from_millis(10);
/// Smaller changes are not told.
const TOLERATED: Duration = Duration::from_millis(20);
/// Longest delay that libwebrtc takes by itself (`timing.cc`).
const MOST_OWN_MS: u32 = 10_000;
/// How often it is told that it need not wait any more: the frame that says so may be lost.
const FAREWELLS: u8 = 5;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Playout {
    /// A bit for each second, the newest lowest: something was asked for again.
    losing: u32,
    /// Requests up to the last look.
    asked: u64,
    /// What the player was told; zero: nothing.
    told: Duration,
    farewells: u8,
}

impl Playout {
    /// Once a second: `asked` packets were asked for again so far. What the next frame should say; `None`: nothing.
    pub fn review(&mut self, asked: u64, round_trip: Option<Duration>) -> Option<[u8; 3]> {
        let has_lost = std::mem::replace(&mut self.asked, asked) != asked;
        self.losing = (self.losing << 1) | u32::from(has_lost);
        let is_losing = (self.losing & WINDOW).count_ones() >= LOSING_SECONDS;
        if self.losing == 0 {
            if !std::mem::take(&mut self.told).is_zero() {
                self.farewells = FAREWELLS;
            }
        } else if let Some(round_trip) = round_trip.filter(|_| is_losing || !self.told.is_zero()) {
            let needed = (round_trip.mul_f64(ROUND_TRIPS) + FOR_NOTICING).min(MOST);
            if needed > self.told + TOLERATED {
                self.told = needed;
            } else if needed + TOLERATED < self.told {
                self.told -= STEP_DOWN;
            }
            self.farewells = 0;
        }
        if !self.told.is_zero() {
            let told_ms = u32::try_from(self.told.as_millis()).unwrap_or(u32::MAX);
            return Some(playout_delay_value(told_ms, MOST_OWN_MS));
        }
        self.farewells = self.farewells.checked_sub(1)?;
        Some(playout_delay_value(0, MOST_OWN_MS))
    }

    /// How long the player was told to wait; zero: it goes by itself.
    #[must_use]
    pub fn told(&self) -> Duration {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(200);

    /// Seconds in each of which so many packets are asked for; what the player was told in the end, and how often.
    fn told(playout: &mut Playout, round_trip: Duration, seconds: impl IntoIterator<Item = u64>) -> (Duration, usize) {
        let mut asked = playout.asked;
        let said = seconds.into_iter().filter(|more| {
            asked += more;
            playout.review(asked, Some(round_trip)).is_some()
        });
        let said = said.count();
        (playout.told(), said)
    }

    #[test]
    fn a_way_that_loses_again_and_again_is_waited_for() {
        assert_eq!(told(&mut Playout::default(), RTT, [1, 0, 2, 0, 0, 1, 0, 0]), (Duration::from_millis(310), 3));
    }

    #[test]
    fn a_single_spell_or_a_rare_loss_is_not() {
        assert_eq!(told(&mut Playout::default(), RTT, [50, 90].into_iter().chain([0; 60])), (Duration::ZERO, 0));
        assert_eq!(told(&mut Playout::default(), RTT, (0..100).map(|second| u64::from(second % 8 == 0))), (Duration::ZERO, 0));
    }

    #[test]
    fn it_goes_when_nothing_is_lost_any_more_and_that_is_told_more_than_once() {
        let mut playout = Playout::default();
        told(&mut playout, RTT, [1; 10]);
        assert_eq!(told(&mut playout, RTT, [0; 20]), (Duration::from_millis(310), 20));
        assert_eq!(told(&mut playout, RTT, [0; 60]), (Duration::ZERO, 11 + usize::from(FAREWELLS)));
    }

    #[test]
    fn it_follows_the_round_trip_up_at_once_and_down_slowly() {
        let mut playout = Playout::default();
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(2));
        assert_eq!(told(&mut playout, short, [1; 5]).0, Duration::from_millis(200));
        assert_eq!(told(&mut playout, long, [1]).0, MOST);
        assert_eq!(told(&mut playout, short, [1; 10]).0, MOST - STEP_DOWN * 10);
        assert_eq!(told(&mut playout, short, [1; 60]).0, Duration::from_millis(220));
        assert_eq!(told(&mut playout, Duration::ZERO, [1; 60]).0, Duration::from_millis(110));
    }

    #[test]
    fn without_a_round_trip_time_nothing_is_said() {
        let mut playout = Playout::default();
        assert!((1..20).all(|asked| playout.review(asked, None).is_none()));
    }
}
