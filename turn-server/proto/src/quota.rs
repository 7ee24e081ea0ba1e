//! Counts allocations by user and by address. Bounded by the number of allocations.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::limits::Limits;
use crate::throttle::one_customer;

/// Which bound an allocation would exceed. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exceeded {
    /// Of the user; 486.
    User,
    /// Of the client's address; 486.
    Address,
    /// Of the server; 508.
    Total,
}

/// What is allocated.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    total: usize,
    users: HashMap<Box<[u8]>, usize>,
    addresses: HashMap<IpAddr, usize>,
}

impl Quota {
    /// Counts one more allocation.
    pub(crate) fn take(&mut self, limits: &Limits, account: &[u8], address: IpAddr) -> Result<(), Exceeded> {
        let address = one_customer(address);
        if self.users.get(account).copied().unwrap_or(0) >= limits.allocations_per_user {
            return Err(Exceeded::User);
        }
        if self.addresses.get(&address).copied().unwrap_or(0) >= limits.allocations_per_address {
            return Err(Exceeded::Address);
        }
        if self.total >= limits.allocations {
            return Err(Exceeded::Total);
        }
        self.total += 1;
        *self.users.entry(account.into()).or_default() += 1;
        *self.addresses.entry(address).or_default() += 1;
        Ok(())
    }

    /// One allocation is gone.
    pub(crate) fn give_back(&mut self, account: &[u8], address: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.users.get_mut(account) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(account);
            }
        }
        let address = one_customer(address);
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_holds_by_itself_and_what_is_given_back_is_free_again() {
        let limits = Limits { allocations: 3, allocations_per_user: 1, allocations_per_address: 2, ..Limits::default() };
        let mut quota = Quota::default();
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!(quota.take(&limits, b"a", here), Ok(()));
        assert_eq!(quota.take(&limits, b"a", there), Err(Exceeded::User));
        assert_eq!(quota.take(&limits, b"b", here), Ok(()));
        assert_eq!(quota.take(&limits, b"c", here), Err(Exceeded::Address));
        assert_eq!(quota.take(&limits, b"c", there), Ok(()));
        assert_eq!(quota.take(&limits, b"d", there), Err(Exceeded::Total));
        quota.give_back(b"a", here);
        assert_eq!(quota.take(&limits, b"a", there), Ok(()));
        for (user, address) in [(b"a", there), (b"b", here), (b"c", there)] {
            quota.give_back(user, address);
        }
        assert!(quota.users.is_empty() && quota.addresses.is_empty() && quota.total == 0);
    }
}
