//! The client's side of the messages: for tests, load generators and self-tests. Holds no state but what authentication needs.

use crate::credentials::{Algorithm, Key};
use crate::wire::message::{Class, Integrity, Message};
use crate::wire::write::Writer;
use crate::wire::{TransactionId, attribute};

/// A user of a server, and what the server has told it.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    password: String,
    /// How it signs from here on.
    pub style: Style,
    /// What answers have told. `None`: nothing is signed.
    pub told: Option<Told>,
    requests: u64,
}

/// Realm and nonce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Domain of the password.
    pub realm: Vec<u8>,
    /// Good for a while.
    pub nonce: Vec<u8>,
    /// PASSWORD-ALGORITHMS as they came.
    pub algorithms: Option<Vec<u8>>,
}

/// Ways to prove who one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// MD5 and SHA-1, as every client of RFC 5389.
    #[default]
    Classic,
    /// SHA-256 for both, as RFC 8489 has it.
    Sha256,
}

impl User {
    /// Somebody who has asked nothing yet.
    #[must_use]
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into(), style: Style::Classic, told: None, requests: 0 }
    }

    /// A request, signed as far as that is possible. Each has a transaction of its own.
    pub fn request(&mut self, method: u16, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        self.requests += 1;
        let mut transaction: TransactionId = *b"userXXXXXXXX";
        transaction[4..].copy_from_slice(&self.requests.to_be_bytes());
        let mut writer = Writer::new(method, Class::Request, &transaction);
        write(&mut writer);
        self.sign(writer)
    }

    fn sign(&self, mut writer: Writer) -> Vec<u8> {
        let Some(told) = &self.told else { return writer.unsigned() };
        writer.attribute(attribute::USERNAME, self.name.as_bytes());
        writer.attribute(attribute::REALM, &told.realm).attribute(attribute::NONCE, &told.nonce);
        let (algorithm, integrity) = match (self.style, &told.algorithms) {
            (Style::Sha256, Some(algorithms)) => {
                writer.attribute(attribute::PASSWORD_ALGORITHMS, algorithms);
                writer.attribute(attribute::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
                (Algorithm::Sha256, Integrity::Sha256(32))
            }
            _ => (Algorithm::Md5, Integrity::Sha1),
        };
        writer.signed(integrity, self.key(algorithm).as_bytes())
    }

    /// What its messages and their answers are signed with.
    #[must_use]
    pub fn key(&self, algorithm: Algorithm) -> Key {
        let realm = self.told.as_ref().map_or("", |told| std::str::from_utf8(&told.realm).unwrap_or_default());
        Key::derive(algorithm, self.name.as_bytes(), realm, self.password.as_bytes())
    }

    /// Reads an answer. True: it was a challenge or said that the nonce is old, and the request is to be made again.
    pub fn learn(&mut self, answer: &Message<'_>) -> bool {
        let attributes = &answer.attributes;
        let (Some(401 | 438), Some(realm), Some(nonce)) = (attributes.error_code, attributes.realm, attributes.nonce) else {
            return false;
        };
        let is_first = self.told.is_none() || attributes.error_code == Some(438);
        self.told =
            Some(Told { realm: realm.to_vec(), nonce: nonce.to_vec(), algorithms: attributes.password_algorithms.map(<[u8]>::to_vec) });
        is_first
    }
}
