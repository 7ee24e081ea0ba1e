//! Why a participant's stay ended, or never began: one word for each cause.
//!
//! The same word is in the close frame of the WebSocket (which SDKs log), in REST answers, in the log field `reason` and in metric
//! labels. Refusals have the words of [`ErrorCode`], which SDKs get as the body of the HTTP answer; no word means two things.
//! A word is never renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// Declares [`EndReason`] with its words and sentences, so that they can't drift apart.
macro_rules! end_reasons {
    ($($(#[$doc:meta])* $name:ident => $word:literal, $fault:ident, $message:literal, $remedy:literal;)*) => {
        /// Why a participant that was let in is gone.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum EndReason { $($(#[$doc])* $name,)* }

        impl EndReason {
            /// Every reason, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word used in close frames, REST answers, logs and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// A sentence for people.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }

            /// What to look at, if it is not what was wanted.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// Who wanted it so.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }
        }
    };
}

/// Who is behind an end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Somebody wanted it: the participant, an administrator, an operator.
    Nobody,
    /// A network, a client or this server did not do what it should.
    Failure,
}

end_reasons! {
    /// The client said goodbye.
    ClientLeft => "client-left", Nobody, "the client left", "";
    /// Another client came with the same identity.
    DuplicateIdentity => "duplicate-identity", Nobody,
        "another client joined with the same identity", "give every client a token with an identity of its own";
    /// An administrator removed it.
    Removed => "removed", Nobody, "an administrator removed the participant", "";
    /// An administrator deleted the room.
    RoomDeleted => "room-deleted", Nobody, "an administrator deleted the room", "";
    /// The room closed: everybody that keeps it open is gone.
    RoomClosed => "room-closed", Nobody, "the room closed because everybody else had left", "";
    /// The server goes down, or its drain came to its deadline.
    ServerShutdown => "server-shutdown", Nobody, "the server goes down; the client is asked to join again", "";
    /// It goes on in another room.
    Moved => "moved", Nobody, "the participant was moved and joins the other room anew", "";
    /// A call was declined.
    Declined => "declined", Nobody, "the called person declined", "";
    /// A call found nobody.
    NotAvailable => "not-available", Nobody, "the called person was not available", "";
    /// An agent gave up.
    AgentFailed => "agent-failed", Failure, "an agent reported an error", "see the log of the agent's worker";
    /// Media was not connected within the join timeout, and nothing says why.
    JoinTimeout => "join-timeout", Failure, "media was not connected in time",
        "run `sluice doctor`; a client that never answers the offer is at fault itself";
    /// The client left because media was not connected for long.
    GaveUp => "gave-up", Failure, "the client gave up: media was not connected within 10 s and the node does not know why",
        "run `sluice doctor`, on the server and from the client's network";
    /// No connectivity check of the client arrived.
    IceNoPath => "ice-no-path", Failure, "no packet of the client reached the media ports",
        "open the UDP ports of `media.udp_port` and the TCP port of `media.tcp_port`; check `media.advertise`; offer TURN";
    /// The DTLS handshake failed or timed out.
    DtlsHandshake => "dtls-handshake", Failure, "the DTLS handshake failed or did not end in time",
        "packets of about 1,200 bytes may be lost on the way: check MTU and firewalls";
    /// The client's certificate is another one than its description says.
    DtlsFingerprint => "dtls-fingerprint", Failure, "the client's certificate does not match the fingerprint in its description",
        "something between client and server changes descriptions";
    /// No SRTP profile in common.
    DtlsSrtpProfile => "dtls-srtp-profile", Failure, "client and server have no SRTP profile in common", "update the client";
    /// The SCTP association broke, or the client does not take its reliable data.
    DataChannel => "data-channel", Failure, "the data channel broke, or the client does not read it", "see the client's log";
    /// Media was connected, was lost, and did not come back within the grace period.
    MediaLost => "media-lost", Failure, "media was lost and did not come back within `rooms.resume_grace`",
        "the client's network changed or ended";
    /// The signal connection was lost and did not come back within the grace period.
    SignalLost => "signal-lost", Failure, "the signal connection was lost and did not come back within `rooms.resume_grace`",
        "the client's network ended, its page was closed, or a proxy cuts idle WebSockets";
    /// A description can't be used, or is too large.
    NegotiationFailed => "negotiation-failed", Failure, "a session description could not be used; the client is asked to join again",
        "see the log of this server at `debug`";
    /// Client and server disagree on the session.
    StateMismatch => "state-mismatch", Failure, "client and server disagree on the session; the client is asked to join again", "";
    /// A client tests its own reconnect.
    Simulated => "simulated", Nobody, "the client asked for this failure to test itself", "";
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an attempt to join ended: label `result` of `sfu_joins_total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JoinResult {
    /// Media is connected.
    Ok,
    /// Not let in.
    Refused,
    /// Let in, but media was not connected.
    Failed,
    /// The client or somebody else ended it before media was connected.
    Abandoned,
}

impl JoinResult {
    /// Every result, in declaration order.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Failed, Self::Abandoned];

    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    /// Of a stay that ended before media was connected.
    #[must_use]
    pub const fn before_media(reason: EndReason) -> Self {
        match reason.fault() {
            Fault::Failure => Self::Failed,
            Fault::Nobody => Self::Abandoned,
        }
    }
}

/// All words with their sentences as a page for people; `sluice docs reasons` prints it.
#[must_use]
pub fn page() -> String {
    use std::fmt::Write as _;
    let mut page = String::from(concat!(
        "<!-- Printed by `sluice docs reasons`; do not edit. -->\n\n# Reasons\n\n",
        "One word for each cause, the same in SDK errors, close frames, REST answers, logs (`reason`) and metric labels. Words are never renamed.\n\n",
        "## Why a client is not let in\n\n",
        "The body of the HTTP answer is `word: detail`; in REST answers it is `code` of the problem document.\n\n",
        "| word | HTTP | again later | meaning |\n|---|---|---|---|\n",
    ));
    for code in ErrorCode::ALL {
        let again = if code.is_retryable() { "yes" } else { "no" };
        let _ = writeln!(page, "| `{code}` | {} | {again} | {} |", code.http_status(), code.message());
    }
    page.push_str(concat!(
        "\n## Why a participant is gone\n\n",
        "The text of the WebSocket's close frame, `reason` in `sfu_joins_total` (if media was never connected) and in `sfu_disconnects_total`.\n\n",
        "| word | a failure | meaning | what to look at |\n|---|---|---|---|\n",
    ));
    for reason in EndReason::ALL {
        let failure = if reason.fault() == Fault::Failure { "yes" } else { "no" };
        let _ = writeln!(page, "| `{reason}` | {failure} | {} | {} |", reason.message(), reason.remedy());
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_word_means_two_things_and_json_has_the_same() {
        let refusals = ErrorCode::ALL.iter().map(|code| code.as_str());
        let words: Vec<&str> = EndReason::ALL.iter().map(|reason| reason.as_str()).chain(refusals).collect();
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len(), "{words:?}");
        for reason in EndReason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
            assert!(reason.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(reason.fault() == Fault::Nobody || !reason.message().is_empty());
        }
    }

    #[test]
    fn a_failure_before_media_is_a_failed_join_and_a_goodbye_is_not() {
        assert_eq!(JoinResult::before_media(EndReason::IceNoPath), JoinResult::Failed);
        assert_eq!(JoinResult::before_media(EndReason::ClientLeft), JoinResult::Abandoned);
    }
}
