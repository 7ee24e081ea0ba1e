//! What is counted over all participants. Plain integers; a window of a run is the difference of two copies.

use crate::histogram::Histogram;

/// Names the fields once, for the difference and for reports.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since the start.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// What came since an earlier copy.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! {
    /// RTP packets sent by publishers, with retransmissions.
    sent_packets,
    /// Their bytes as UDP payload.
    sent_bytes,
    /// Frames that were sent, audio packets among them.
    sent_frames,
    /// Frames that were not sent because this program was late.
    skipped_frames,
    /// Datagrams that the kernel did not take.
    unsent,
    /// RTP packets that came, with retransmissions and padding.
    received_packets,
    /// Their bytes as UDP payload.
    received_bytes,
    /// Packets that should have come, by their sequence numbers.
    expected,
    /// Of these, those that came, whether at once or by a retransmission.
    arrived,
    /// Packets whose checksum was verified.
    verified,
    /// Retransmissions that came.
    retransmissions,
    /// Packets of padding alone (probes).
    padding,
    /// Packets that did not open: not authentic, or the same a second time.
    unopened,
    /// Packets of an SSRC that nobody announced.
    unannounced,
    /// Payloads that are not what was sent.
    damaged,
    /// Packets of another track than the one before on the same SSRC.
    misrouted,
    /// Sequence numbers that do not follow the numbers of the packets.
    misnumbered,
    /// Changes to another encoding without a keyframe.
    bad_switches,
    /// Packets behind an earlier one of the network's doing.
    reordered,
    /// Packets of a track's first encoding: the smallest one of simulcast, or the only one.
    encoding_0,
    /// Of its second one.
    encoding_1,
    /// Of its third one.
    encoding_2,
    /// Keyframes that began.
    keyframes,
    /// PLIs sent.
    plis_sent,
    /// Packets asked for again.
    nacks_sent,
    /// PLIs and FIRs that came.
    keyframe_requests,
    /// Packets that the server asked for again.
    nacked,
    /// Of these, those that were sent again.
    resent,
    /// Congestion feedback sent.
    feedback_sent,
    /// Congestion feedback that came.
    feedback_received,
    /// RTCP datagrams that came.
    received_rtcp,
    /// Bytes of everything received, STUN and DTLS too.
    received_total_bytes,
}

/// Everything that a window of a run measures.
#[derive(Clone, Default, Debug)]
pub struct Measured {
    /// Counts.
    pub counters: Counters,
    /// One-way latency of media: from sealing at the publisher to the kernel's receive timestamp at the subscriber.
    pub latency: Histogram,
}

impl Counters {
    /// Share of the expected packets that never came.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.expected.saturating_sub(self.arrived) as f64 / self.expected as f64 }
    }

    /// Packets that were wrong in a way that no network explains.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.unopened + self.damaged + self.misrouted + self.misnumbered + self.bad_switches
    }
}
