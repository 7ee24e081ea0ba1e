//! Why a description can't be used.

use crate::limits;

/// A client's offer or answer can't be used; nothing of it was applied. The text is for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// Longer than [`limits::MAX_SDP_BYTES`].
    #[error("the session description has {0} bytes, at most {max} are accepted", max = limits::MAX_SDP_BYTES)]
    TooLarge(usize),
    /// More m-lines than [`limits::MAX_MEDIA_LINES`].
    #[error("the session description has {0} m-lines, at most {max} are accepted", max = limits::MAX_MEDIA_LINES)]
    TooManyLines(usize),
    /// Not SDP.
    #[error("the session description can't be parsed: {0}")]
    Syntax(String),
    /// No m-lines at all.
    #[error("the session description has no m-lines")]
    Empty,
    /// `a=mid` is missing or no token of up to 16 characters.
    #[error("m-line {0} has no usable a=mid")]
    Mid(usize),
    /// Two m-lines with one `a=mid`.
    #[error("a=mid:{0} occurs twice")]
    DuplicateMid(String),
    /// m-lines are never removed or reordered (RFC 3264 section 8).
    #[error("m-line {0} was removed or changed its kind or mid")]
    LinesChanged(usize),
    /// Everything must use one transport.
    #[error("m-line {0} is not in the BUNDLE group")]
    NotBundled(String),
    /// RTP and RTCP must use one port.
    #[error("m-line {0} lacks a=rtcp-mux")]
    NoRtcpMux(String),
    /// `a=ice-ufrag` or `a=ice-pwd` is missing or of a forbidden length (RFC 8839 section 5.4).
    #[error("a=ice-ufrag or a=ice-pwd is missing or malformed")]
    Ice,
    /// No `a=fingerprint:sha-256`.
    #[error("there is no usable a=fingerprint:sha-256")]
    Fingerprint,
    /// The server is always the DTLS server.
    #[error("a=setup must let the client be the DTLS client")]
    Setup,
    /// An answer without an offer.
    #[error("no offer is outstanding")]
    NothingOutstanding,
    /// An answer to another offer.
    #[error("the answer is for offer {got}, outstanding is offer {outstanding}")]
    WrongAnswer {
        /// Id in the answer.
        got: u32,
        /// Id of our offer.
        outstanding: u32,
    },
}
