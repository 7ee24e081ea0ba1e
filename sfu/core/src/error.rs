//! Why a packet was dropped. A malformed packet is not an error: it is counted by name and forgotten.

/// Declares [`Discard`] with its metric label, so that the two can't drift apart.
macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// Reason for dropping a packet.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        pub enum Discard { $($(#[$doc])* #[error($label)] $name,)* }

        impl Discard {
            /// Every reason, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word used as metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

discards! {
    /// First byte belongs to none of the protocols of RFC 7983.
    UnknownProtocol => "unknown-protocol",
    /// No transport is validated for the source address.
    UnknownSource => "unknown-source",
    /// STUN message that does not parse or is not a Binding request.
    StunMalformed => "stun-malformed",
    /// USERNAME names no transport of ours.
    StunUnknownUser => "stun-unknown-user",
    /// MESSAGE-INTEGRITY or FINGERPRINT is missing or wrong.
    StunIntegrity => "stun-integrity",
    /// A check from an address on which another client was heard a moment ago.
    StunForeignPath => "stun-foreign-path",
    /// Datagram that begins like DTLS but is not made of DTLS records.
    DtlsMalformed => "dtls-malformed",
    /// RTP or RTCP before DTLS has finished.
    SrtpNotReady => "srtp-not-ready",
    /// SRTP authentication failed.
    SrtpAuthentication => "srtp-authentication",
    /// Packet index seen before or too old (RFC 3711 section 3.3.2).
    SrtpReplay => "srtp-replay",
    /// RTP header that does not parse.
    RtpMalformed => "rtp-malformed",
    /// RTCP compound packet that does not parse.
    RtcpMalformed => "rtcp-malformed",
    /// SSRC that belongs to no negotiated encoding.
    UnknownSsrc => "unknown-ssrc",
    /// More SSRCs than a transport may have.
    TooManySsrcs => "too-many-ssrcs",
    /// Payload type that was not negotiated.
    UnknownPayloadType => "unknown-payload-type",
    /// RTX packet too short or for nothing that was asked.
    RtxMalformed => "rtx-malformed",
    /// Redundant audio (RFC 2198) that does not parse or has blocks of another type.
    RedMalformed => "red-malformed",
    /// A packet that is already in the ring.
    Duplicate => "duplicate",
    /// A packet older than the ring reaches.
    TooOld => "too-old",
    /// A packet larger than a ring slot may be.
    TooLarge => "too-large",
    /// SCTP packet that does not parse, or data beyond a bound.
    SctpMalformed => "sctp-malformed",
    /// Packet of a data track without a whole header or with a version that nobody knows.
    DataTrackMalformed => "data-track-malformed",
    /// Packet with a handle that its sender did not announce.
    UnknownDataTrack => "unknown-data-track",
    /// A control command for something that no longer exists.
    UnknownEntity => "unknown-entity",
    /// Frame from another shard that does not parse or names what can't be.
    RelayMalformed => "relay-malformed",
    /// Frame from another shard about something that is gone.
    RelayUnknown => "relay-unknown",
    /// More handshakes wait than there is room for.
    HandshakeQueue => "handshake-queue",
    /// Media that has waited too long for a shard that gets more than it can send.
    Late => "late",
    /// Feedback on packets that were not sent, or on the same ones over and over, and more requests than make sense.
    FeedbackUnfounded => "feedback-unfounded",
}

/// Counts drops by reason.
#[derive(Clone, Debug)]
pub struct DiscardCounters([u64; Discard::ALL.len()]);

impl Default for DiscardCounters {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}

impl DiscardCounters {
    /// Counts one drop.
    pub fn add(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    /// Drops of one kind so far.
    #[must_use]
    pub fn get(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}
