//! The client's clock, unwrapped: it wraps in one unit for transport-wide feedback and in another for RFC 8888.

use crate::rtp::ntp::CompactNtp;
use crate::rtp::rtcp::TransportCcTime;

/// After a longer pause everything is measured anew.
const MAX_JUMP_US: i64 = 30_000_000;

/// See the module.
#[derive(Default)]
pub struct ArrivalClock {
    last: Option<(u32, i64)>,
    has_jumped: bool,
}

impl ArrivalClock {
    /// Times were said that have nothing to do with each other: none of them means anything.
    #[must_use]
    pub fn has_jumped(&self) -> bool {
        self.has_jumped
    }

    fn units(&mut self, units: u32, most: i64) -> i64 {
        let step = self.last.map_or(0, |(last, _)| i64::from(units.wrapping_sub(last).cast_signed()));
        self.has_jumped |= step.abs() > most;
        let step = if self.has_jumped { 0 } else { step };
        let unwrapped = self.last.map_or(0, |(_, total)| total + step);
        self.last = Some((units, unwrapped));
        unwrapped
    }

    /// Microseconds of an arrival by transport-wide feedback.
    pub fn transport_cc_us(&mut self, time: TransportCcTime) -> i64 {
        let unit_us = i64::from(TransportCcTime::UNIT_US);
        self.units(time.0, MAX_JUMP_US / unit_us) * unit_us
    }

    /// The same by RFC 8888.
    pub fn compact_ntp_us(&mut self, time: CompactNtp) -> i64 {
        // 15625 / 1024 us are 1/65536 s.
        self.units(time.0, MAX_JUMP_US * 1_024 / 15_625) * 15_625 / 1_024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_on_where_they_wrap() {
        let mut clock = ArrivalClock::default();
        let times: Vec<i64> = [u32::MAX - 9, 0, 10].into_iter().map(|units| clock.compact_ntp_us(CompactNtp(units))).collect();
        assert_eq!((times, clock.has_jumped()), (vec![0, 152, 305], false));
    }

    #[test]
    fn times_that_are_made_up_are_told_and_add_up_to_nothing() {
        let mut clock = ArrivalClock::default();
        for report in 0..1_000_000_u32 {
            clock.compact_ntp_us(CompactNtp(report.wrapping_mul(0x7fff_ffff)));
        }
        assert!(clock.has_jumped());
        assert_eq!(clock.compact_ntp_us(CompactNtp(0)), 0);
    }
}
