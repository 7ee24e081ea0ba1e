//! How many answers go to an address that has not proved anything.
//!
//! A source address can be forged, and an answer that is longer than its request would multiply what a forger can do to a victim.
//! So each address has so many answers a second; an IPv6 /64 counts as one. The table has a fixed size and is found by a keyed
//! hash: addresses that share a slot share its answers, and there is nothing to fill up.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::time::Instant;

use crate::limits::{STRANGER_BURST, STRANGER_PER_SECOND};

const SLOTS: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Slot {
    second: u32,
    left: u16,
}

/// Answers left for each address.
#[derive(Debug)]
pub(crate) struct Throttle {
    slots: Box<[Slot]>,
    hasher: std::hash::RandomState,
    started_at: Instant,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        let slots = vec![Slot { second: 0, left: STRANGER_BURST }; SLOTS].into_boxed_slice();
        Self { slots, hasher: std::hash::RandomState::new(), started_at: now }
    }

    /// True if this address may be answered.
    pub(crate) fn admits(&mut self, address: IpAddr, now: Instant) -> bool {
        let second = u32::try_from(now.saturating_duration_since(self.started_at).as_secs()).unwrap_or(u32::MAX);
        let index = self.hasher.hash_one(one_customer(address)) as usize % SLOTS;
        let slot = &mut self.slots[index];
        let gained = second.saturating_sub(slot.second).saturating_mul(STRANGER_PER_SECOND.into());
        slot.left = u16::try_from(gained.saturating_add(slot.left.into())).unwrap_or(u16::MAX).min(STRANGER_BURST);
        slot.second = second;
        let is_admitted = slot.left > 0;
        slot.left = slot.left.saturating_sub(1);
        is_admitted
    }
}

/// What counts as one source: IPv6 customers have a /64 each, IPv4 customers one address.
#[must_use]
pub fn one_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn an_address_gets_a_burst_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let victim = IpAddr::from([192, 0, 2, 1]);
        let admitted = |throttle: &mut Throttle, at| (0..10_000).filter(|_| throttle.admits(victim, at)).count();
        assert_eq!(admitted(&mut throttle, start), usize::from(STRANGER_BURST));
        assert_eq!(admitted(&mut throttle, start + Duration::from_secs(1)), usize::from(STRANGER_PER_SECOND));
        assert_eq!(admitted(&mut throttle, start + Duration::from_secs(1_000)), usize::from(STRANGER_BURST));
    }
}
