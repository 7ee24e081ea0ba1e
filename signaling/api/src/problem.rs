//! How the REST side says no: RFC 9457 problem details with a stable code.

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// Content type of a [`Problem`].
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// Body of every refusal. `type` is always `about:blank` (RFC 9457 §4.2.1): `code` tells problems apart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's sentence, the same for every occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// What is wrong this time.
    pub detail: String,
    /// Not before so many milliseconds does it make sense to try again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with the status and title that belong to the code.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: code.message().to_owned(),
            status: code.http_status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            retry_after_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_a_code() {
        let json = serde_json::to_value(Problem::new(ErrorCode::RoomFull, "3 of 3")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "about:blank", "title": "the room is full", "status": 409, "code": "room-full", "detail": "3 of 3"
            })
        );
    }

    #[test]
    fn a_retry_time_is_camel_case() {
        let problem = Problem { retry_after_ms: Some(1500), ..Problem::new(ErrorCode::RateLimited, "") };
        assert!(serde_json::to_string(&problem).unwrap().contains("\"retryAfterMs\":1500"));
    }
}
