//! Bounds the numbers that a client's requests for lost packets make us look up: a datagram has room for thousands, of a few bytes each.
//!
//! In: packets sent to a subscription, numbers that are asked for. Out: whether one is looked up. Each packet that was sent pays for
//! [`ASKS`], and a client may save up as many as there are packets to be asked for. Who asks for more is not heard.

use super::history::ENTRIES;

/// A client asks for one packet up to ten times (libwebrtc: `nack_requester.cc`), and for more only if more than are sent are lost.
const ASKS: u64 = 10;
/// What may be saved up: all that could be resent.
const MOST: u64 = ENTRIES as u64;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct AskCredit {
    left: u64,
    /// Packets that have paid.
    paid: u64,
}

impl Default for AskCredit {
    fn default() -> Self {
        Self { left: MOST, paid: 0 }
    }
}

impl AskCredit {
    /// A number may be looked up, after so many packets were sent.
    pub fn take(&mut self, sent_packets: u64) -> bool {
        let earned = sent_packets.saturating_sub(self.paid).saturating_mul(ASKS);
        self.left = self.left.saturating_add(earned).min(MOST);
        self.paid = sent_packets;
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_numbers_is_heard_until_the_credit_is_used_up_and_again_as_more_is_sent() {
        let mut credit = AskCredit::default();
        assert_eq!((0..100_000).filter(|_| credit.take(0)).count(), ENTRIES);
        assert_eq!((0..100_000).filter(|_| credit.take(3)).count(), 30);
        assert_eq!((0..100_000).filter(|_| credit.take(1 << 40)).count(), ENTRIES, "no more than that is saved up");
    }

    #[test]
    fn a_client_that_loses_half_of_what_it_gets_is_heard_every_time() {
        let mut credit = AskCredit::default();
        for sent in (0..100_000_u64).step_by(2) {
            assert!((0..20).all(|_| credit.take(sent + 2)), "{sent}");
        }
    }
}
