//! Divides what a subscriber's downlink carries among its tracks, once something has shown that it does not carry all of them
//! ([`alarm`]): a pure function.
//!
//! In: a [`Budget`] and for each video track a [`Claim`]: who comes first, what the steps of its ladder cost, what it has. Out:
//! for each a [`Grant`] with what limits it, and what to probe for. The order of decisions:
//!
//! 1. Audio is not asked: its rate is taken off the budget first, always.
//! 2. Everybody in order of [`Rank`] gets the lowest step of its ladder. Whom the rest does not suffice for is paused: the last in
//!    order first.
//! 3. What is left goes up the ladders, a step each in turns; who was given a priority or shares a screen goes all the way
//!    before the others begin, who speaks is two steps ahead of them.
//!
//! Steps of a ladder ([`ladder`]) go through the temporal layers of a size before the next size. [`patience`] keeps the result
//! from flapping: down at once, up after a while that grows with every failure.
//! Invariants (property tests in [`share`]): video never costs more than the budget leaves, but for a quarter of the least of those
//! who have that; of two budgets, the larger one never
//! decides against whom the smaller one decided for, at the first decision in which they differ; under noise a track changes at
//! most six times a minute.

pub mod alarm;
pub mod ladder;
pub mod patience;
mod run;
pub mod sent;
pub mod share;
pub mod stage;
pub mod start;

use std::time::Instant;

use ladder::Steps;
use patience::Memory;

pub use run::{Allotment, Share};
pub use share::allocate;

/// What there is to be divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    /// Bits per second of datagrams, audio included.
    pub bps: u64,
    /// What the way carries for good, at least `bps`: that is less for a moment while a queue empties. What somebody has is lost only
    /// if it does not fit into this.
    pub lasting_bps: u64,
    /// There may be more: the figure says what is known to fit. Nobody loses anything for the lack of it, and newcomers wait for a
    /// probe.
    pub is_open: bool,
    /// No queue says that packets wait: the least of a track is kept whatever the budget.
    pub keeps_least: bool,
    /// Nothing is known of the way ([`start`]): the least of each track is given all the same, and what everybody wants is to be
    /// probed for at once.
    pub is_start: bool,
}

/// Who comes first; the smaller one does. Fields in order of their weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    /// As the subscriber said, 1 is the first; [`u32::MAX`]: it said nothing.
    pub priority: u32,
    /// False for a shared screen.
    pub is_camera: bool,
    /// False for who speaks.
    pub is_silent: bool,
    /// Shown size in pixels, as what is left to the largest one.
    pub smallness_px: u64,
    /// Who subscribed first.
    pub place: usize,
}

impl Rank {
    /// It is what the subscriber looks at: it is served before the others get more than the least.
    #[must_use]
    pub const fn is_first_of_all(&self) -> bool {
        self.priority != u32::MAX || !self.is_camera
    }
}

/// A video track that its subscriber wants.
#[derive(Clone, PartialEq, Debug)]
pub struct Claim {
    /// Who comes first.
    pub rank: Rank,
    /// What can be had, up to what is wished.
    pub steps: Steps,
    /// What it has, and how it came to it.
    pub memory: Memory,
}

/// What a track gets.
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    /// Step of its ladder; None: it is paused.
    pub step: Option<usize>,
    /// To be given back with the next claim.
    pub memory: Memory,
}

/// The outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct Allocation {
    /// One for each claim, in their order.
    pub grants: Vec<Grant>,
    /// What all of this costs, audio included, in bits per second.
    pub now_bps: u64,
    /// What it would cost with the next step up of those that want one and are not held; None: nobody does.
    pub next_bps: Option<u64>,
    /// What there has to be for somebody who is held to go up before its time; None: everybody has what they want.
    pub plenty_bps: Option<u64>,
    /// When time alone may change the outcome.
    pub again_at: Option<Instant>,
}
