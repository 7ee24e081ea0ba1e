//! What a check found, for people and as JSON.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Nothing to do.
    Ok,
    /// Does not apply, or can't be known from here.
    Skipped,
    /// Works, but look at it.
    Warning,
    /// Clients will notice.
    Failed,
}

/// Result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at; a word of a closed list.
    pub(crate) check: &'static str,
    pub(crate) status: Status,
    /// A word of a closed list for what is wrong; empty if nothing is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) cause: &'static str,
    /// What was seen.
    pub(crate) detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, cause: "", detail: detail.into(), remedy: String::new() }
    }

    pub(crate) fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self { status: Status::Skipped, ..Self::ok(check, detail) }
    }

    pub(crate) fn warning(check: &'static str, cause: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Warning, cause, detail: detail.into(), remedy: remedy.into() }
    }

    pub(crate) fn failed(check: &'static str, cause: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Failed, ..Self::warning(check, cause, detail, remedy) }
    }

    /// Lines for the terminal.
    pub(crate) fn text(&self) -> String {
        let word = match self.status {
            Status::Ok => "ok  ",
            Status::Skipped => "skip",
            Status::Warning => "WARN",
            Status::Failed => "FAIL",
        };
        let mut text = format!("{word}  {:<12} {}", self.check, self.detail);
        if !self.cause.is_empty() {
            text.push_str(&format!("\n      cause:  {}", self.cause));
        }
        if !self.remedy.is_empty() {
            text.push_str(&format!("\n      remedy: {}", self.remedy));
        }
        text
    }
}
