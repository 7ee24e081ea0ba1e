//! The web demo's way to a token. Exists on a development server only.

use serde::{Deserialize, Serialize};

/// Body of `POST /demo/token`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoTokenRequest {
    /// Room to join.
    pub room: String,
    /// Identity; absent: the server makes one up from the name, different each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Shown name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoTokenResponse {
    /// The access token.
    pub token: String,
    /// Room that it opens.
    pub room: String,
    /// Identity that it carries.
    pub identity: String,
    /// Shown name.
    pub name: String,
    /// Unix time in seconds at which it ends.
    pub expires_at: u64,
}
