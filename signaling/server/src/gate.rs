//! Decides who may open one more WebSocket: so many open per address, so many joins a second per address.
//!
//! In: an address and the time. Out: a [`Pass`] that counts until it is dropped, or a [`Refusal`].
//! Invariants: the table never holds more than `tracked_ips` addresses; an address with open sockets is never forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Rate;
use crate::proxy::limit_key;

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The address has all the sockets that it may have.
    TooMany,
    /// The address comes too often; it may try again after this time.
    TooFast(Duration),
    /// The table of addresses is full of busy ones.
    TableFull,
}

/// Shared by all requests of a server.
#[derive(Clone)]
pub(crate) struct Gate {
    table: Arc<Mutex<HashMap<IpAddr, Entry>>>,
    max_open: usize,
    rate: Rate,
    max_entries: usize,
}

struct Entry {
    open: usize,
    bucket: TokenBucket,
}

impl Gate {
    /// A gate that lets `max_open` through at once per address, at most at `rate`.
    pub(crate) fn new(max_open: usize, rate: Rate, max_entries: usize) -> Self {
        Self { table: Arc::default(), max_open, rate, max_entries }
    }

    /// Takes a place for `ip`.
    pub(crate) fn enter(&self, ip: IpAddr, now: Instant) -> Result<Pass, Refusal> {
        let key = limit_key(ip);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(&key) && table.len() >= self.max_entries {
            table.retain(|_, entry| entry.open > 0 || !entry.bucket.is_full(now));
            if table.len() >= self.max_entries {
                return Err(Refusal::TableFull);
            }
        }
        let entry = table.entry(key).or_insert_with(|| Entry { open: 0, bucket: TokenBucket::new(self.rate, now) });
        if entry.open >= self.max_open {
            return Err(Refusal::TooMany);
        }
        entry.bucket.take(now).map_err(Refusal::TooFast)?;
        entry.open += 1;
        Ok(Pass { gate: self.clone(), key })
    }
}

/// A place; given back on drop.
pub(crate) struct Pass {
    gate: Gate,
    key: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut table = self.gate.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.get_mut(&self.key) {
            entry.open = entry.open.saturating_sub(1);
        }
    }
}

/// Allows `burst` at once and `per_second` in the long run.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: f64::from(rate.burst), filled_at: now }
    }

    /// Takes one, or says when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.tokens = self.level(now);
        self.filled_at = self.filled_at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.tokens) / self.rate.per_second.max(LEAST_RATE);
        // one millisecond more, so that rounding can't make the caller come back a moment too early
        Err(Duration::from_secs_f64(wait) + Duration::from_millis(1))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.level(now) >= f64::from(self.rate.burst)
    }

    fn level(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * self.rate.per_second;
        (self.tokens + gained).min(f64::from(self.rate.burst))
    }
}

/// A rate of zero must not become an endless wait: an hour is as good.
const LEAST_RATE: f64 = 1.0 / 3600.0;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_holds_no_more_than_its_places_and_gets_them_back() {
        let now = Instant::now();
        let gate = Gate::new(2, FAST, 10);
        let first = gate.enter(ip(1), now).unwrap();
        let _second = gate.enter(ip(1), now).unwrap();
        assert_eq!(gate.enter(ip(1), now).err(), Some(Refusal::TooMany));
        assert!(gate.enter(ip(2), now).is_ok());
        drop(first);
        assert!(gate.enter(ip(1), now).is_ok());
    }

    #[test]
    fn joins_faster_than_the_rate_are_told_when_to_come_back() {
        let start = Instant::now();
        let gate = Gate::new(100, Rate { per_second: 2.0, burst: 3 }, 10);
        for _ in 0..3 {
            assert!(gate.enter(ip(1), start).is_ok());
        }
        let Err(Refusal::TooFast(wait)) = gate.enter(ip(1), start) else { panic!("let through") };
        assert!(gate.enter(ip(1), start + wait).is_ok());
        assert!(gate.enter(ip(1), start + wait).is_err());
    }

    #[test]
    fn a_full_table_forgets_the_idle_and_never_the_busy() {
        let start = Instant::now();
        let gate = Gate::new(10, Rate { per_second: 1.0, burst: 1 }, 2);
        let busy = gate.enter(ip(1), start).unwrap();
        drop(gate.enter(ip(2), start).unwrap());
        assert_eq!(gate.enter(ip(3), start).err(), Some(Refusal::TableFull));
        let later = start + Duration::from_secs(10);
        let other = gate.enter(ip(3), later).unwrap();
        assert_eq!(gate.enter(ip(4), later).err(), Some(Refusal::TableFull));
        drop((busy, other));
    }

    #[test]
    fn a_rate_of_zero_refuses_without_overflow() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Rate { per_second: 0.0, burst: 0 }, now);
        assert!(bucket.take(now).unwrap_err() > Duration::from_secs(3000));
    }

    #[test]
    fn time_that_goes_back_gives_nothing_away() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(Rate { per_second: 1.0, burst: 1 }, now);
        bucket.take(now).unwrap();
        assert!(bucket.take(now - Duration::from_secs(5)).is_err());
        assert!(bucket.take(now + Duration::from_millis(500)).is_err());
    }

    const FAST: Rate = Rate { per_second: 1000.0, burst: 1000 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }
}
