//! Stable error codes that clients, logs and metric labels share. A code is never renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request or a session can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// No access token was given.
    TokenMissing,
    /// The access token can't be parsed or its signature or issuer is wrong.
    TokenInvalid,
    /// The access token's time is over or has not begun.
    TokenExpired,
    /// The access token is genuine but does not allow this.
    TokenGrant,
    /// The room has as many participants as it may have.
    RoomFull,
    /// No such room, and it is not to be created.
    RoomNotFound,
    /// The server has as many rooms as it may have.
    RoomLimit,
    /// The server has as many participants as it may have.
    ParticipantLimit,
    /// No such participant; for a resume: its grace period is over.
    ParticipantNotFound,
    /// No such track.
    TrackNotFound,
    /// A message can't be understood or breaks a limit.
    BadRequest,
    /// Too many requests in a short time.
    RateLimited,
    /// The server is going down or is being drained.
    Unavailable,
    /// A fault of the server.
    Internal,
    /// The access token was revoked: its participant was removed.
    TokenRevoked,
    /// The server's settings, or the state of what is asked about, do not allow this.
    PreconditionFailed,
    /// An answer that was waited for did not come in time.
    Timeout,
    /// This server has no such function.
    Unimplemented,
    /// No such dispatch of an agent.
    DispatchNotFound,
    /// There is nothing at this path.
    NotFound,
    /// This path does not take this method.
    MethodNotAllowed,
    /// This path takes WebSocket connections only.
    UpgradeRequired,
    /// Not from this address.
    Forbidden,
    /// The body of a request is larger than it may be.
    TooLarge,
    /// A request did not come in time.
    RequestTimeout,
    /// The profiles of a room's participants (metadata, attributes, names, tracks) are as large as they may be together.
    ProfileLimit,
}

impl ErrorCode {
    /// Every code, for documentation and metrics.
    pub const ALL: [Self; 26] = [
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::TokenGrant,
        Self::RoomFull,
        Self::RoomNotFound,
        Self::RoomLimit,
        Self::ParticipantLimit,
        Self::ParticipantNotFound,
        Self::TrackNotFound,
        Self::BadRequest,
        Self::RateLimited,
        Self::Unavailable,
        Self::Internal,
        Self::TokenRevoked,
        Self::PreconditionFailed,
        Self::Timeout,
        Self::Unimplemented,
        Self::DispatchNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UpgradeRequired,
        Self::Forbidden,
        Self::TooLarge,
        Self::RequestTimeout,
        Self::ProfileLimit,
    ];

    /// The word used in SDK errors, problem documents, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenMissing => "token-missing",
            Self::TokenInvalid => "token-invalid",
            Self::TokenExpired => "token-expired",
            Self::TokenGrant => "token-grant",
            Self::RoomFull => "room-full",
            Self::RoomNotFound => "room-not-found",
            Self::RoomLimit => "room-limit",
            Self::ParticipantLimit => "participant-limit",
            Self::ParticipantNotFound => "participant-not-found",
            Self::TrackNotFound => "track-not-found",
            Self::BadRequest => "bad-request",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::TokenRevoked => "token-revoked",
            Self::PreconditionFailed => "precondition-failed",
            Self::Timeout => "timeout",
            Self::Unimplemented => "unimplemented",
            Self::DispatchNotFound => "dispatch-not-found",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UpgradeRequired => "upgrade-required",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too-large",
            Self::RequestTimeout => "request-timeout",
            Self::ProfileLimit => "profile-limit",
        }
    }

    /// HTTP status of a refusal with this code.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::TokenMissing | Self::TokenInvalid | Self::TokenExpired | Self::TokenRevoked => 401,
            Self::TokenGrant | Self::Forbidden => 403,
            Self::RoomNotFound | Self::ParticipantNotFound | Self::TrackNotFound | Self::DispatchNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::TooLarge => 413,
            Self::UpgradeRequired => 426,
            Self::BadRequest => 400,
            Self::RateLimited => 429,
            Self::RoomFull | Self::ProfileLimit => 409,
            Self::RoomLimit | Self::ParticipantLimit | Self::Unavailable => 503,
            Self::Internal => 500,
            Self::PreconditionFailed => 412,
            Self::Timeout => 504,
            Self::Unimplemented => 501,
        }
    }

    /// The same request may succeed later without being changed.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::RoomFull
            | Self::ProfileLimit
            | Self::RoomLimit
            | Self::ParticipantLimit
            | Self::RateLimited
            | Self::Unavailable
            | Self::Internal
            | Self::Timeout
            | Self::RequestTimeout => true,
            Self::TokenMissing
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::TokenGrant
            | Self::RoomNotFound
            | Self::ParticipantNotFound
            | Self::TrackNotFound
            | Self::BadRequest
            | Self::TokenRevoked
            | Self::PreconditionFailed
            | Self::Unimplemented
            | Self::DispatchNotFound
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UpgradeRequired
            | Self::Forbidden
            | Self::TooLarge => false,
        }
    }

    /// A sentence for people.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::TokenMissing => "no access token was given",
            Self::TokenInvalid => "the access token is not valid",
            Self::TokenExpired => "the access token has expired or is not yet valid",
            Self::TokenGrant => "the access token does not allow this",
            Self::RoomFull => "the room is full",
            Self::RoomNotFound => "the room does not exist",
            Self::RoomLimit => "the server has reached its limit of rooms",
            Self::ParticipantLimit => "the server has reached its limit of participants",
            Self::ParticipantNotFound => "the participant does not exist or its session is over",
            Self::TrackNotFound => "the track does not exist",
            Self::BadRequest => "the request is malformed or breaks a limit",
            Self::RateLimited => "too many requests",
            Self::Unavailable => "the server does not take new sessions",
            Self::Internal => "internal error",
            Self::TokenRevoked => "the access token was revoked when its participant was removed",
            Self::PreconditionFailed => "the server does not allow this at present",
            Self::Timeout => "an answer did not come in time",
            Self::Unimplemented => "this server has no such function",
            Self::DispatchNotFound => "the dispatch does not exist",
            Self::NotFound => "there is nothing at this path",
            Self::MethodNotAllowed => "this path does not take this method",
            Self::UpgradeRequired => "this path takes WebSocket connections only",
            Self::Forbidden => "not from this address",
            Self::TooLarge => "the body of the request is too large",
            Self::RequestTimeout => "the request did not come in time",
            Self::ProfileLimit => "the profiles of the room's participants are as large as they may be together",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_json_form_of_every_code_is_its_word() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn no_two_codes_share_a_word() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ErrorCode::ALL.len());
    }
}
