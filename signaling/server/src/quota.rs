//! How often REST and Twirp may be asked: so many requests a second with one API key, and from one address.
//!
//! In: who asks and the time. Out: whether it is answered. The address counts before its token is verified, so that guessing has
//! a bound too; the key counts after that, so that nobody uses up what is another's: nor do the tokens of a key's moderators, who are
//! bound by address, use up what is its backend's.
//! Bounds: one bucket for each key of the configuration, `tracked_ips` addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use signaling_api::Grants;

use crate::config::{ApiKeys, ServerLimits};
use crate::gate::{Gate, Refusal, TokenBucket};

/// Shared by all requests of a server.
pub(crate) struct Quota {
    keys: BTreeMap<String, Mutex<TokenBucket>>,
    addresses: Gate,
}

impl Quota {
    pub(crate) fn new(keys: &ApiKeys, limits: &ServerLimits) -> Self {
        let now = Instant::now();
        let bucket = |key: &str| (key.to_owned(), Mutex::new(TokenBucket::new(limits.api_per_key, now)));
        Self { keys: keys.names().map(bucket).collect(), addresses: Gate::new(usize::MAX, limits.api_per_ip, limits.tracked_ips) }
    }

    /// One request from an address.
    pub(crate) fn address(&self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        // Not how many at once: nothing is held for them.
        self.addresses.enter(ip, now).map(drop)
    }

    /// One request with a token of a key that is right, or how long it has to wait.
    pub(crate) fn key(&self, grants: &Grants, now: Instant) -> Result<(), Duration> {
        // Browsers hold tokens to join.
        let Some(bucket) = self.keys.get(&grants.api_key).filter(|_| !grants.room_join) else { return Ok(()) };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use signaling_api::Secret;

    use super::*;
    use crate::config::Rate;

    #[test]
    fn each_key_and_each_address_has_its_own_rate() {
        let keys: ApiKeys = ["one", "two"].map(|key| (key.to_owned(), Secret::new("s"))).into_iter().collect();
        let rate = |burst| Rate { per_second: 1.0, burst };
        let quota = Quota::new(&keys, &ServerLimits { api_per_key: rate(2), api_per_ip: rate(3), ..ServerLimits::default() });
        let now = Instant::now();
        let backend = |key: &str| Grants { api_key: key.to_owned(), room_admin: true, ..Grants::default() };
        let moderator = Grants { room_join: true, ..backend("one") };
        assert!((0..9).all(|_| quota.key(&moderator, now).is_ok()));
        assert_eq!([(); 3].map(|()| quota.key(&backend("one"), now).is_ok()), [true, true, false]);
        assert!(quota.key(&backend("two"), now).is_ok());
        let wait = quota.key(&backend("one"), now).unwrap_err();
        assert!(quota.key(&backend("one"), now + wait).is_ok());
        let [here, there] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!([(); 4].map(|()| quota.address(here, now).is_ok()), [true, true, true, false]);
        assert!(quota.address(there, now).is_ok());
    }
}
