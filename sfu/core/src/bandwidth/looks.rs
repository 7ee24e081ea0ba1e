//! Bounds what reports make us look at. A few bytes of one can name thousands of packets, over and over.

use super::history::ENTRIES;

/// See the module; each packet that was sent pays for [`LOOKS`].
#[derive(Default)]
pub struct Looks {
    /// Packets that may be looked at.
    pub left: usize,
    /// The packets before it have paid.
    paid: u16,
}

/// A packet is reported on once or twice; by RFC 8888 those of other streams are passed on the way to it.
pub const LOOKS: usize = 16;

impl Looks {
    /// All packets before `next` were sent.
    pub fn pay(&mut self, next: u16) {
        let packets = usize::from(next.wrapping_sub(self.paid));
        self.left = self.left.saturating_add(packets * LOOKS).min(ENTRIES * LOOKS);
        self.paid = next;
    }
}
