//! NTP timestamps (RFC 3550 section 4): wall clock as RTCP carries it.
//!
//! The engine has no clock of its own: its sender reports go by the clocks of the publishers. [`WallClock`] is for those who send reports.

use std::time::{Duration, Instant};

/// Seconds since 1900 in 32.32 fixed point. Zero means: no wall clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NtpTime(pub u64);

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: u64 = 2_208_988_800;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl NtpTime {
    /// The time this long after 1970. Wraps in 2036, as the format does.
    #[must_use]
    pub fn from_unix(since_1970: Duration) -> Self {
        Self(UNIX_EPOCH_S << 32).plus(since_1970)
    }

    /// This long after 1900 (or after the wrap of the format).
    #[must_use]
    pub fn duration(self) -> Duration {
        let nanos = (u128::from(self.0 & 0xffff_ffff) * NANOS_PER_SECOND) >> 32;
        Duration::from_secs(self.0 >> 32) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// The middle 32 bits, with which reports refer to a timestamp.
    #[must_use]
    pub fn compact(self) -> CompactNtp {
        let [_, _, a, b, c, d, _, _] = self.0.to_be_bytes();
        CompactNtp(u32::from_be_bytes([a, b, c, d]))
    }

    /// Later by a duration.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.wrapping_add(fixed_point(later)))
    }

    /// Earlier by a duration.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        Self(self.0.wrapping_sub(fixed_point(earlier)))
    }

    /// RTP ticks from `other` to this time, to be added with wrapping; a negative distance wraps. `None` if one of the two is
    /// no time, or if they are so far apart that RTP timestamps cannot tell.
    #[must_use]
    pub fn ticks_since(self, other: Self, clock_rate_hz: u32) -> Option<u32> {
        if self == Self::default() || other == Self::default() {
            return None;
        }
        let distance = i128::from(self.0.wrapping_sub(other.0).cast_signed());
        let half = 1 << 31;
        let ticks = (distance * i128::from(clock_rate_hz) + half) >> 32;
        i32::try_from(ticks).ok().map(i32::cast_unsigned)
    }
}

/// 32.32 fixed point, wrapping.
fn fixed_point(duration: Duration) -> u64 {
    let fraction = (u128::from(duration.subsec_nanos()) << 32) / NANOS_PER_SECOND;
    (duration.as_secs() << 32).wrapping_add(u64::try_from(fraction).unwrap_or(u64::MAX))
}

/// Ticks of a codec's clock in a duration.
#[must_use]
pub fn ticks_in(duration: Duration, clock_rate_hz: u32) -> u64 {
    let rate = u64::from(clock_rate_hz);
    let fraction = u64::from(duration.subsec_micros()) * rate / 1_000_000;
    duration.as_secs().saturating_mul(rate).saturating_add(fraction)
}

/// The middle 32 bits of a timestamp, or a duration of up to 18 hours: 16.16 fixed point seconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CompactNtp(pub u32);

impl CompactNtp {
    /// A duration; what is longer than 18 hours becomes the longest.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        let units = (duration.as_nanos() << 16) / NANOS_PER_SECOND;
        Self(u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_nanos((u64::from(self.0) * 1_000_000_000) >> 16)
    }

    /// From `earlier` to this, wrapping.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.wrapping_sub(earlier.0))
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WallClock {
    /// Monotonic clock.
    pub at: Instant,
    /// Wall clock at that moment.
    pub ntp: NtpTime,
}

impl WallClock {
    /// Wall clock at another moment.
    #[must_use]
    pub fn ntp_at(&self, now: Instant) -> NtpTime {
        match now.checked_duration_since(self.at) {
            Some(later) => self.ntp.plus(later),
            None => self.ntp.minus(self.at.saturating_duration_since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    const SECOND: u64 = 1 << 32;

    #[test]
    fn unix_time_is_moved_to_1900() {
        assert_eq!(NtpTime::from_unix(Duration::ZERO), NtpTime(0x83aa_7e80 << 32));
        assert_eq!(NtpTime::from_unix(Duration::from_millis(500)), NtpTime((0x83aa_7e80 << 32) | 0x8000_0000));
    }

    #[test]
    fn rfc3550_6_4_1_the_example_round_trip() {
        // Figure 2: SR sent at 0xb44d_b705_2000_0000, DLSR 5.25 s, RR received at 0xb710_8000 (middle 32 bits).
        let last_sr = NtpTime(0xb44d_b705_2000_0000).compact();
        assert_eq!(last_sr, CompactNtp(0xb705_2000));
        let delay = CompactNtp::from_duration(Duration::from_millis(5_250));
        assert_eq!(delay, CompactNtp(0x0005_4000));
        let round_trip = CompactNtp(0xb710_8000).since(last_sr).since(delay);
        assert_eq!(round_trip.duration(), Duration::from_millis(6_125));
    }

    #[test]
    fn the_wall_clock_runs_both_ways_from_its_reading() {
        let at = Instant::now() + Duration::from_secs(10);
        let clock = WallClock { at, ntp: NtpTime(100 * SECOND) };
        assert_eq!(clock.ntp_at(at + Duration::from_millis(1_250)), NtpTime(101 * SECOND + SECOND / 4));
        assert_eq!(clock.ntp_at(at - Duration::from_millis(1_250)), NtpTime(98 * SECOND + SECOND / 4 * 3));
    }

    #[test]
    fn durations_survive_the_fixed_point_within_its_precision() {
        for nanos in [0, 1, 15_258, 999_999_999, 1_000_000_000, 3_600_000_000_001] {
            let duration = Duration::from_nanos(nanos);
            let back = CompactNtp::from_duration(duration).duration();
            assert!(duration - back < Duration::from_micros(16), "{duration:?} {back:?}");
            assert!(duration - NtpTime(0).plus(duration).duration() < Duration::from_nanos(2));
        }
        assert_eq!(CompactNtp::from_duration(Duration::from_secs(100_000)), CompactNtp(u32::MAX));
    }

    #[test]
    fn ticks_between_timestamps_are_signed_and_rounded() {
        let base = NtpTime::from_unix(Duration::from_secs(1_700_000_000));
        let ahead = base.plus(Duration::from_millis(20));
        assert_eq!(ahead.ticks_since(base, 48_000), Some(960));
        assert_eq!(base.ticks_since(ahead, 48_000), Some(960_u32.wrapping_neg()));
        assert_eq!(base.ticks_since(base, 90_000), Some(0));
    }

    #[test]
    fn ticks_are_unknown_without_a_clock_or_across_years() {
        let base = NtpTime::from_unix(Duration::from_secs(1_700_000_000));
        assert_eq!(base.ticks_since(NtpTime::default(), 90_000), None);
        assert_eq!(NtpTime::default().ticks_since(base, 90_000), None);
        assert_eq!(base.plus(Duration::from_secs(86_400)).ticks_since(base, 90_000), None);
    }
}
