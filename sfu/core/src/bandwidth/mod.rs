//! What the way to a subscriber carries: congestion control of one transport's downlink.
//!
//! In: every packet that is sent ([`history`]), what the client reports of them, and what the allocator would like to send
//! ([`Demand`]). Out: an [`Estimate`].

use std::time::Instant;

/// What a transport's downlink carries, as far as is known. All rates are bits per second of whole datagrams (UDP payload:
/// RTP header, extensions, payload, SRTP tag), of everything that is sent there: audio, video, retransmissions, probes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// So much may be sent. It falls at once and is never above what was shown to arrive, but for a growth of a few percent.
    pub target_bps: u64,
    /// What the bottleneck was last seen to carry when it was full; None: it was not full lately. A step of the allocation
    /// that fits into it, but not into the target, is likely to fit after a probe.
    pub link_capacity_bps: Option<u64>,
    /// Retransmissions and probes of the last seconds: part of the target that media can't have.
    pub overhead_bps: u64,
    /// Less is sent than might be, so the target says what is known to fit, not what would. Only a probe can raise it: see
    /// [`Demand::next_bps`].
    pub is_app_limited: bool,
    /// What holds the target where it is.
    pub limit: Limit,
    /// Since when `limit` and `is_app_limited` are as they are.
    pub since: Instant,
}

impl Estimate {
    /// What is left for media.
    #[must_use]
    pub fn media_bps(&self) -> u64 {
        self.target_bps.saturating_sub(self.overhead_bps)
    }
}

/// What holds an estimate where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Limit {
    /// Nothing has been learned yet.
    #[default]
    Start,
    /// Nothing does: it grows, or it is as high as was asked for.
    None,
    /// A queue builds up, or built up a moment ago.
    Delay,
    /// Packets are lost because there are too many of them.
    Loss,
    /// The client says so (REMB).
    Client,
    /// The client has stopped reporting while something is sent.
    Silence,
}

/// What the allocator would like to send on a transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Rate of what it has granted: what will be sent if publishers send what they did.
    pub now_bps: u64,
    /// The same after its next step up (a larger layer, a paused track); None: everybody has what they want, and nothing is
    /// to be gained by probing. A probe goes a little beyond it.
    pub next_bps: Option<u64>,
}

/// Congestion control of one transport's downlink.
#[derive(Default)]
pub struct Bandwidth {
    estimate: Option<Estimate>,
    told: Option<Estimate>,
    demand: Demand,
}

/// Smaller changes of the target are not told.
const TOLD_CHANGE_PERCENT: u64 = 2;

impl Bandwidth {
    /// What the downlink carries. None: the client has not said anything from which it could be known, as while it connects;
    /// a client that never does gets whatever it wants.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        self.estimate
    }

    /// The estimate, if it is another one than when it was last taken.
    pub fn take_change(&mut self) -> Option<Estimate> {
        let estimate = self.estimate?;
        let is_same = self.told.is_some_and(|told| {
            estimate.target_bps.abs_diff(told.target_bps) * 100 <= told.target_bps * TOLD_CHANGE_PERCENT
                && (estimate.limit, estimate.is_app_limited) == (told.limit, told.is_app_limited)
        });
        if is_same {
            return None;
        }
        self.told = Some(estimate);
        Some(estimate)
    }

    /// What the allocator would like to send; to be told whenever that changes.
    pub fn set_demand(&mut self, demand: Demand) {
        self.demand = demand;
    }

    /// A client without transport-wide feedback says what it thinks that its downlink carries.
    pub fn on_remb(&mut self, bitrate_bps: u64, now: Instant) {
        self.estimate = Some(Estimate {
            target_bps: bitrate_bps,
            link_capacity_bps: None,
            overhead_bps: 0,
            is_app_limited: false,
            limit: Limit::Client,
            since: self.estimate.map_or(now, |known| known.since),
        });
    }
}
