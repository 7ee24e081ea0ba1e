//! What a narrow way carries, by the packets that met another one of ours at the bottleneck.
//!
//! In: arrivals in the order in which they were sent. Out: their rate. A call of 200 kbit/s is a packet every 20 ms and a frame of two or
//! three now and then: over any short time what arrives says more of the call than of the way. But who was sent before the one
//! in front had left the bottleneck follows it at the bottleneck's rate. Pauses don't count, so neither does what was not sent.
//! Jitter makes pauses look like waits; then this is as low as what arrives.

use super::rate::{bits, micros};

/// Waits that are remembered.
const WAITS: usize = 16;
/// Those that count: the newest, until they are so many, of so many bytes and over so long a time, but no older than this.
const ENOUGH: usize = 4;
const ENOUGH_BYTES: u64 = 2_500;
const ENOUGH_US: i64 = 30_000;
const AGE_US: i64 = 400_000;
/// Arrival times are multiples of 250 us.
const MARGIN_US: i64 = 1_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct BusyMeter {
    last_us: Option<i64>,
    /// A ring; `next` is the oldest one.
    waits: [Wait; WAITS],
    next: usize,
}

/// A packet that arrived behind another one.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    at_us: i64,
    /// After the one in front of it.
    gap_us: i64,
    bytes: u64,
}

impl BusyMeter {
    /// A packet arrived after so long a way, of which the shortest takes `least_us`; both have the same unknown constant in them.
    pub fn on_packet(&mut self, at_us: i64, delay_us: i64, least_us: i64, bytes: u64) {
        let Some(last_us) = self.last_us.replace(at_us) else { return };
        let gap_us = at_us - last_us;
        let reached_us = at_us - delay_us + least_us;
        if gap_us > 0 && reached_us + MARGIN_US < last_us {
            self.waits[self.next] = Wait { at_us, gap_us, bytes };
            self.next = (self.next + 1) % WAITS;
        }
    }

    /// Bits per second; None: too few met another one lately.
    #[must_use]
    pub fn bps(&self) -> Option<f64> {
        let last_us = self.last_us?;
        let newest = (1..=WAITS).map(|back| self.waits[(self.next + WAITS - back) % WAITS]);
        let (mut count, mut bytes, mut us) = (0, 0, 0);
        for wait in newest.take_while(|wait| wait.gap_us > 0 && last_us - wait.at_us <= AGE_US) {
            (count, bytes, us) = (count + 1, bytes + wait.bytes, us + wait.gap_us);
            if count >= ENOUGH && bytes >= ENOUGH_BYTES && us >= ENOUGH_US {
                return Some(bits(bytes) * 1e6 / micros(us));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends these (time in ms, bytes) over a bottleneck of this rate with a way of 25 ms behind it; what is found.
    fn run(rate_bps: f64, packets: &[(i64, u64)]) -> Option<f64> {
        let (mut meter, mut free_us) = (BusyMeter::default(), 0_i64);
        for &(sent_ms, bytes) in packets {
            #[expect(clippy::cast_possible_truncation, reason = "some milliseconds")]
            let takes_us = (bits(bytes) * 1e6 / rate_bps) as i64;
            free_us = free_us.max(sent_ms * 1_000) + takes_us;
            let at_us = free_us + 25_000;
            meter.on_packet(at_us, at_us - sent_ms * 1_000, 26_000, bytes);
        }
        meter.bps()
    }

    /// A voice, and a frame of three packets every 130 ms: 160 kbit/s.
    fn call() -> Vec<(i64, u64)> {
        let mut packets: Vec<(i64, u64)> = (0..100).map(|number| (number * 20, 140)).collect();
        packets.extend((0..15).flat_map(|number| [(number * 133 + 5, 900); 2]));
        packets.sort_unstable();
        packets
    }

    #[test]
    fn a_small_call_shows_what_the_way_carries_and_not_what_it_sends() {
        let bps = run(300_000.0, &call()).unwrap_or_default();
        assert!((280_000.0..310_000.0).contains(&bps), "{bps}");
    }

    #[test]
    fn packets_that_never_meet_say_nothing() {
        let voice: Vec<(i64, u64)> = (0..100).map(|number| (number * 20, 140)).collect();
        assert_eq!(run(300_000.0, &voice), None);
        assert_eq!(run(100e6, &call()), None);
    }
}
