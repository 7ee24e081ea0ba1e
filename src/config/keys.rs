//! API keys with their secrets, from the environment or from a file.
//!
//! Form: `key: secret`, one a line or separated by commas. Invariant: no message shows a secret.

use std::path::PathBuf;

use signaling_api::Secret;

use super::model::{Auth, DEVELOPMENT_KEY, DEVELOPMENT_SECRET};

/// An API key with its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ApiKey {
    /// Public name; tokens carry it as `iss`.
    pub(crate) name: String,
    /// Signs tokens.
    pub(crate) secret: Secret,
}

impl ApiKey {
    /// The key of `sluice dev`.
    pub(crate) fn development() -> Self {
        Self { name: DEVELOPMENT_KEY.to_owned(), secret: Secret::new(DEVELOPMENT_SECRET) }
    }

    /// Everybody knows its name or its secret.
    pub(crate) fn is_development(&self) -> bool {
        self.name == DEVELOPMENT_KEY || self.secret.expose() == DEVELOPMENT_SECRET
    }
}

/// Why there are no keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The key file can't be read.
    #[error("`auth.keys_file`: {}: {message}", path.display())]
    Unreadable { path: PathBuf, message: String },
    /// Not of the form `key: secret`.
    #[error("{place}: write it as \"key: secret\"")]
    Malformed { place: String },
    /// The same name twice.
    #[error("{place}: key `{name}` stands twice")]
    Duplicate { place: String, name: String },
}

/// The keys that the section names; `auth.keys` wins over `auth.keys_file`. Empty if neither is set.
pub(crate) fn read(auth: &Auth) -> Result<Vec<ApiKey>, KeysError> {
    let text = auth.keys.expose();
    if !text.is_empty() {
        return parse(text, |_| "`auth.keys`".to_owned());
    }
    let path = &auth.keys_file;
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|e| KeysError::Unreadable { path: path.clone(), message: e.to_string() })?;
    parse(&text, |line| format!("{}:{line}", path.display()))
}

fn parse(text: &str, place: impl Fn(usize) -> String) -> Result<Vec<ApiKey>, KeysError> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for entry in line.split(',').map(str::trim).filter(|entry| !entry.is_empty() && !line.trim_start().starts_with('#')) {
            let malformed = || KeysError::Malformed { place: place(index + 1) };
            let (name, secret) = entry.split_once(':').ok_or_else(malformed)?;
            let (name, secret) = (name.trim(), secret.trim());
            if name.is_empty() || secret.is_empty() {
                return Err(malformed());
            }
            if keys.iter().any(|key| key.name == name) {
                return Err(KeysError::Duplicate { place: place(index + 1), name: name.to_owned() });
            }
            keys.push(ApiKey { name: name.to_owned(), secret: Secret::new(secret) });
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_stand_one_a_line_or_between_commas() {
        let keys = parse("# first\n\na: one\n b:two , c : th:ree\n", |_| String::new()).unwrap();
        let shown: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.secret.expose())).collect();
        assert_eq!(shown, [("a", "one"), ("b", "two"), ("c", "th:ree")]);
    }

    #[test]
    fn a_malformed_line_is_named_without_its_secret() {
        for text in ["good: x\nhunter2\n", "good: x\n: hunter2\n", "good: x\nhunter2:\n"] {
            let error = parse(text, |line| format!("keys:{line}")).unwrap_err().to_string();
            assert_eq!(error, "keys:2: write it as \"key: secret\"");
        }
    }

    #[test]
    fn a_key_stands_once() {
        let error = parse("a: x\na: y", |line| format!("keys:{line}")).unwrap_err();
        assert_eq!(error.to_string(), "keys:2: key `a` stands twice");
    }

    #[test]
    fn a_missing_file_names_the_option() {
        let auth = Auth { keys_file: "/nonexistent/keys".into(), ..Auth::default() };
        assert!(read(&auth).unwrap_err().to_string().starts_with("`auth.keys_file`: /nonexistent/keys: "));
    }
}
