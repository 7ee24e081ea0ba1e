//! Who may use the server: users with a password, and users whose password follows from a shared secret.
//!
//! A time-limited user name is `EXPIRY` or `EXPIRY:NAME`, EXPIRY in seconds since 1970; its password is
//! base64(HMAC-SHA1(secret, user name)), as in draft-uberti-behave-turn-rest-00, which coturn and many services use. Keys of the long-term
//! mechanism are in RFC 8489 section 9.2.2, user hashes in section 14.4.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::limits::REVOKED_USERS;

/// PASSWORD-ALGORITHM (RFC 8489 section 18.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// What a client uses that names none.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha256 => 2,
        }
    }

    /// The algorithm of a number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Md5),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// The long-term key of a user: what integrity is made with.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Key(Vec<u8>);

impl Key {
    /// RFC 8489 section 9.2.2. No preparation of the strings (RFC 8265): what is configured or minted is compared as bytes.
    #[must_use]
    pub fn derive(algorithm: Algorithm, user: &[u8], realm: &str, password: &[u8]) -> Self {
        let parts = [user, b":", realm.as_bytes(), b":", password];
        Self(match algorithm {
            Algorithm::Md5 => parts.iter().fold(Md5::new(), |hash, part| hash.chain_update(part)).finalize().to_vec(),
            Algorithm::Sha256 => parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().to_vec(),
        })
    }

    /// For HMAC.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A secret that user names are signed with.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct SharedSecret(String);

impl SharedSecret {
    /// From its text.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The password of a user name.
    #[must_use]
    pub fn password(&self, user: &[u8]) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(user);
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// User name and password that are good until `expires_at`, in time since 1970.
    #[must_use]
    pub fn issue(&self, name: &str, expires_at: Duration) -> (String, String) {
        let seconds = expires_at.as_secs();
        let user = if name.is_empty() { seconds.to_string() } else { format!("{seconds}:{name}") };
        let password = self.password(user.as_bytes());
        (user, password)
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret")
    }
}

/// Everybody who may use the server.
#[derive(Debug, Default)]
pub struct Credentials {
    realm: String,
    /// Several, so that one can be exchanged while the other is in use.
    secrets: Vec<SharedSecret>,
    users: HashMap<Vec<u8>, String>,
    by_hash: HashMap<[u8; 32], Vec<u8>>,
    revoked: Revoked,
}

/// Why a user is nobody. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// Not configured, and no time-limited name.
    Unknown,
    /// The time in the name is over.
    Expired,
    /// Withdrawn by [`Credentials::revoke`].
    Revoked,
}

impl Credentials {
    /// Users with passwords, and secrets of time-limited ones.
    #[must_use]
    pub fn new(realm: impl Into<String>, users: impl IntoIterator<Item = (String, String)>, secrets: Vec<SharedSecret>) -> Self {
        let realm = realm.into();
        let users: HashMap<Vec<u8>, String> = users.into_iter().map(|(user, password)| (user.into_bytes(), password)).collect();
        let by_hash = users.keys().map(|user| (userhash(user, &realm), user.clone())).collect();
        Self { realm, secrets, users, by_hash, revoked: Revoked::default() }
    }

    /// Domain of the passwords.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// True if clients may hide their user name. A hash says nothing of a time-limited name, so with those there is no hiding.
    #[must_use]
    pub fn has_anonymity(&self) -> bool {
        self.secrets.is_empty() && !self.users.is_empty()
    }

    /// The user behind a USERHASH.
    #[must_use]
    pub fn user_of_hash(&self, hash: &[u8; 32]) -> Option<&[u8]> {
        self.by_hash.get(hash).map(Vec::as_slice)
    }

    /// Keys that a user's messages may be signed with: one, or one for each shared secret.
    ///
    /// # Errors
    /// The user is nobody.
    pub fn keys(&self, user: &[u8], algorithm: Algorithm, unix_now: Duration) -> Result<Vec<Key>, Stranger> {
        if let Some(password) = self.users.get(user) {
            return Ok(vec![Key::derive(algorithm, user, &self.realm, password.as_bytes())]);
        }
        let (expiry, name) = time_limited(user).filter(|_| !self.secrets.is_empty()).ok_or(Stranger::Unknown)?;
        if expiry <= unix_now.as_secs() {
            return Err(Stranger::Expired);
        }
        if self.revoked.contains(name) {
            return Err(Stranger::Revoked);
        }
        let key = |secret: &SharedSecret| {
            let mut password = secret.password(user);
            let key = Key::derive(algorithm, user, &self.realm, password.as_bytes());
            password.zeroize();
            key
        };
        Ok(self.secrets.iter().map(key).collect())
    }

    /// Refuses a NAME of time-limited users from here on, whatever the time in the name. `forget_at`: when its credentials have all
    /// expired by themselves, in time since 1970.
    pub fn revoke(&mut self, name: &str, forget_at: Duration, unix_now: Duration) {
        self.revoked.insert(name.as_bytes(), forget_at, unix_now);
    }
}

/// What a quota counts as one user: the NAME of a time-limited user, or the whole name.
#[must_use]
pub fn account(user: &[u8]) -> &[u8] {
    match time_limited(user) {
        Some((_, name)) if !name.is_empty() => name,
        _ => user,
    }
}

/// Expiry in seconds since 1970, and NAME.
fn time_limited(user: &[u8]) -> Option<(u64, &[u8])> {
    let text = std::str::from_utf8(user).ok()?;
    let (seconds, name) = text.split_once(':').unwrap_or((text, ""));
    let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    Some((seconds.parse().ok().filter(|_| is_number)?, name.as_bytes()))
}

/// RFC 8489 section 14.4.
fn userhash(user: &[u8], realm: &str) -> [u8; 32] {
    Sha256::new().chain_update(user).chain_update(b":").chain_update(realm.as_bytes()).finalize().into()
}

/// Names that are refused, until their credentials have expired by themselves.
#[derive(Debug, Default)]
struct Revoked(HashMap<Vec<u8>, u64>);

impl Revoked {
    fn contains(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains_key(name)
    }

    fn insert(&mut self, name: &[u8], forget_at: Duration, unix_now: Duration) {
        if self.0.len() >= REVOKED_USERS {
            self.0.retain(|_, forget_at| *forget_at > unix_now.as_secs());
        }
        if self.0.len() >= REVOKED_USERS
            && let Some(first) = self.0.iter().min_by_key(|(_, forget_at)| **forget_at).map(|(name, _)| name.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(name.to_vec(), forget_at.as_secs());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    #[test]
    fn a_time_limited_user_is_known_until_its_time() {
        let secret = SharedSecret::new("north");
        let (user, password) = secret.issue("anna", NOW + Duration::from_secs(60));
        assert_eq!(user, "1700000060:anna");
        let credentials = Credentials::new("r", [], vec![SharedSecret::new("old"), secret]);
        let keys = credentials.keys(user.as_bytes(), Algorithm::Md5, NOW).unwrap();
        assert!(keys.contains(&Key::derive(Algorithm::Md5, user.as_bytes(), "r", password.as_bytes())));
        let late = NOW + Duration::from_secs(60);
        assert_eq!(credentials.keys(user.as_bytes(), Algorithm::Md5, late), Err(Stranger::Expired));
    }

    #[test]
    fn a_revoked_name_is_nobody_whatever_its_time() {
        let secret = SharedSecret::new("north");
        let (user, _) = secret.issue("anna", NOW + Duration::from_secs(60));
        let mut credentials = Credentials::new("r", [], vec![secret]);
        credentials.revoke("anna", NOW + Duration::from_secs(60), NOW);
        assert_eq!(credentials.keys(user.as_bytes(), Algorithm::Md5, NOW), Err(Stranger::Revoked));
        assert!(credentials.keys(b"1700000060:bert", Algorithm::Md5, NOW).is_ok());
    }

    #[test]
    fn revoked_names_are_bounded() {
        let mut credentials = Credentials::new("r", [], vec![SharedSecret::new("s")]);
        for n in 0..REVOKED_USERS as u64 + 10 {
            credentials.revoke(&n.to_string(), NOW + Duration::from_secs(n + 1), NOW);
        }
        assert_eq!(credentials.revoked.0.len(), REVOKED_USERS);
        assert_eq!(
            credentials.keys(b"1800000000:0", Algorithm::Md5, NOW).map(|keys| keys.len()),
            Ok(1),
            "the first to expire is forgotten"
        );
    }

    #[test]
    fn other_names_are_unknown() {
        let credentials = Credentials::new("r", [("bert".to_owned(), "pw".to_owned())], vec![SharedSecret::new("s")]);
        for unknown in [&b"anna"[..], b"", b":", b"-1:a", b"+1700000060:a", b"99999999999999999999999:a", b"\xff:\xfe"] {
            assert_eq!(credentials.keys(unknown, Algorithm::Md5, NOW), Err(Stranger::Unknown), "{unknown:?}");
        }
        assert!(credentials.keys(b"bert", Algorithm::Sha256, NOW).is_ok());
        let without = Credentials::new("r", [], Vec::new());
        assert_eq!(without.keys(b"1800000000:a", Algorithm::Md5, NOW), Err(Stranger::Unknown));
    }

    #[test]
    fn a_user_is_found_by_the_hash_of_rfc8489() {
        // the realm and user name of RFC 8489 appendix B.1, whose USERHASH is given there
        let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        let credentials = Credentials::new("example.org", [(user.to_owned(), "TheMatrIX".to_owned())], Vec::new());
        let hash = hex::decode("4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704").unwrap();
        assert_eq!(credentials.user_of_hash(hash.as_array().unwrap()), Some(user.as_bytes()));
        assert!(credentials.has_anonymity());
    }
}
