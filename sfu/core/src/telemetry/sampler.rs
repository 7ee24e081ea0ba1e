//! Differences of counters that only grow, from one sample of a track to the next.
//!
//! Not the meters of [`crate::quality`]: these look every second, for a class that signaling is told.

use std::time::Duration;

use sfu_api::emodel::LossRuns;

use crate::publish::encoding::Encoding;
use crate::quality::traffic::{DownlinkMeter, Traffic, UplinkCounters, UplinkMeter};
use crate::subscribe::DownTrack;

/// What happened on a stream since the sample before.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Happened {
    /// Packets, losses, jitter.
    pub traffic: Traffic,
    /// Payload bytes.
    pub bytes: u64,
    /// Packets that arrived or were sent.
    pub packets: u64,
    /// NACKed packets.
    pub nacks: u64,
    /// Keyframe requests.
    pub keyframe_requests: u64,
}

/// Remembers an encoding's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct UplinkSampler {
    meter: UplinkMeter,
    received: u64,
    bytes: u64,
    nacks: u64,
    keyframe_requests: u64,
    /// Everything up to this number was looked for in the ring.
    scanned: Option<u64>,
    /// Highest number at the sample before: what has not come until now will not come.
    settled: Option<u64>,
    /// Losses that were not repaired.
    pub runs: LossRuns,
}

impl Happened {
    /// Another stream of the same track.
    pub fn add(&mut self, other: &Self) {
        self.traffic += other.traffic;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.nacks += other.nacks;
        self.keyframe_requests += other.keyframe_requests;
    }
}

impl UplinkSampler {
    /// What happened since the last call. With `is_audio` what is missing is looked for in the ring, so that its bursts are known.
    pub fn take(&mut self, encoding: &Encoding, jitter: Duration, is_audio: bool) -> Happened {
        let received = encoding.reception.received();
        let counters = UplinkCounters { expected: encoding.reception.expected().unwrap_or(0), received, stored: encoding.stored() };
        let traffic = self.meter.take(counters, jitter);
        let grown = |now: u64, before: &mut u64| {
            // A smaller one is that of a new stream.
            let grown = now.checked_sub(*before).unwrap_or(now);
            *before = now;
            grown
        };
        let happened = Happened {
            traffic,
            bytes: grown(encoding.payload_bytes(), &mut self.bytes),
            packets: grown(received, &mut self.received),
            nacks: grown(encoding.nack.requested, &mut self.nacks),
            keyframe_requests: grown(encoding.keyframe.requests(), &mut self.keyframe_requests),
        };
        if is_audio {
            self.scan(encoding);
        }
        happened
    }

    fn scan(&mut self, encoding: &Encoding) {
        let highest = encoding.highest();
        if let (Some(settled), Some(highest)) = (self.settled, highest) {
            // What the ring has let go can't be looked for.
            let oldest = highest.saturating_sub(encoding.ring.reach().saturating_sub(1));
            let from = self.scanned.map_or(settled, |scanned| scanned + 1).max(oldest);
            for sequence in from..=settled {
                self.runs.next(!encoding.ring.knows(sequence));
            }
            self.scanned = Some(settled.max(self.scanned.unwrap_or(0)));
        }
        self.settled = highest;
    }
}

/// Remembers a subscription's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct DownlinkSampler {
    meter: DownlinkMeter,
    packets: u64,
    bytes: u64,
    nacks: u64,
    keyframe_requests: u64,
}

impl DownlinkSampler {
    /// What happened since the last call; losses as far as the client has reported them. `in_flight` as for [`DownlinkMeter`].
    pub fn take(&mut self, down: &DownTrack, in_flight: f64, jitter: Duration) -> Happened {
        let happened = Happened {
            traffic: self.meter.take(down.counters(), in_flight, jitter),
            bytes: down.sent.octets.saturating_sub(self.bytes),
            packets: down.sent.packets.saturating_sub(self.packets),
            nacks: down.reported.nacks.saturating_sub(self.nacks),
            keyframe_requests: down.reported.keyframe_requests.saturating_sub(self.keyframe_requests),
        };
        (self.bytes, self.packets) = (down.sent.octets, down.sent.packets);
        (self.nacks, self.keyframe_requests) = (down.reported.nacks, down.reported.keyframe_requests);
        happened
    }
}
