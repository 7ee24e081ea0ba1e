//! The client's clock, unwrapped: it wraps in one unit for transport-wide feedback and in another for RFC 8888.

use crate::rtp::ntp::CompactNtp;
use crate::rtp::rtcp::TransportCcTime;

/// See the module.
#[derive(Default)]
pub struct ArrivalClock {
    last: Option<(u32, i64)>,
}

impl ArrivalClock {
    fn units(&mut self, units: u32) -> i64 {
        let unwrapped = self.last.map_or(0, |(last, total)| total + i64::from(units.wrapping_sub(last).cast_signed()));
        self.last = Some((units, unwrapped));
        unwrapped
    }

    /// Microseconds of an arrival by transport-wide feedback.
    pub fn transport_cc_us(&mut self, time: TransportCcTime) -> i64 {
        self.units(time.0) * i64::from(TransportCcTime::UNIT_US)
    }

    /// The same by RFC 8888.
    pub fn compact_ntp_us(&mut self, time: CompactNtp) -> i64 {
        // 15625 / 1024 us are 1/65536 s.
        self.units(time.0) * 15_625 / 1_024
    }
}
