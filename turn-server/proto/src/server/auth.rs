//! Who makes a request: the long-term mechanism of RFC 8489 section 9.2.4.
//!
//! Nothing is remembered of a client that fails here, and over UDP an address gets so many refusals and no more ([`Throttle`]).
//!
//! [`Throttle`]: crate::throttle::Throttle

use crate::counters::{AuthFailure, Dropped};
use crate::credentials::{Algorithm, Key};
use crate::wire::attribute;
use crate::wire::message::{Class, Integrity, Message};
use crate::wire::write::Writer;

use super::{AllocationKey, Answer, Client, Moment, Transport, TurnServer, reason};

/// PASSWORD-ALGORITHMS as this server sends it: SHA-256, then MD5, both without parameters.
const PASSWORD_ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// A client that has proved who it is.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) user: Vec<u8>,
    pub(super) key: Key,
    pub(super) algorithm: Algorithm,
    integrity: Integrity,
    /// What the client has already.
    pub(super) allocation: Option<AllocationKey>,
}

impl Authenticated {
    /// For the answer to this request.
    pub(super) fn answer(&self, client: Client, message: &Message<'_>) -> Answer {
        let seal = Some((self.integrity, self.key.clone()));
        Answer { client, method: message.method, transaction: message.transaction, seal }
    }
}

/// Why a request is refused before anything else is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    code: u16,
    why: AuthFailure,
}

impl TurnServer {
    pub(super) fn authenticate(&self, at: Moment, client: Client, message: &Message<'_>) -> Result<Authenticated, Refusal> {
        let attributes = &message.attributes;
        let integrity = message.integrity().ok_or(Refusal { code: 401, why: AuthFailure::Challenged })?;
        let malformed = Refusal { code: 400, why: AuthFailure::Malformed };
        let unknown = Refusal { code: 401, why: AuthFailure::UnknownUser };
        let (Some(realm), Some(nonce)) = (attributes.realm, attributes.nonce) else { return Err(malformed) };
        if attributes.username.is_none() && attributes.userhash.is_none() {
            return Err(malformed);
        }
        if !self.nonces.is_fresh(nonce, client.remote, at.now) {
            return Err(Refusal { code: 438, why: AuthFailure::StaleNonce });
        }
        // the nonce says that the algorithms were announced: a client that knows of them repeats the list, unchanged
        let algorithm = match (attributes.password_algorithms, attributes.password_algorithm) {
            (None, None) => Algorithm::Md5,
            (Some(PASSWORD_ALGORITHMS_REF), Some(number)) => Algorithm::from_number(number).ok_or(malformed)?,
            _ => return Err(malformed),
        };
        let user = match (attributes.username, attributes.userhash) {
            (Some(user), _) => user,
            (None, Some(hash)) => self.config.credentials.user_of_hash(hash).ok_or(unknown)?,
            (None, None) => return Err(malformed),
        };
        if realm != self.config.credentials.realm().as_bytes() {
            return Err(unknown);
        }
        let key = self.by_client.get(&client).copied();
        // who has an allocation keeps it, though the time in the name may be over meanwhile
        let own = key.and_then(|key| self.allocations.get(key)).filter(|a| *a.user == *user && a.algorithm == algorithm);
        let keys = match own {
            Some(allocation) => vec![allocation.key.clone()],
            None => {
                self.config.credentials.keys(user, algorithm, at.unix).map_err(|stranger| Refusal { code: 401, why: stranger.into() })?
            }
        };
        let Some(right) = keys.into_iter().find(|key| message.is_authentic(key.as_bytes())) else {
            return Err(Refusal { code: 401, why: AuthFailure::WrongPassword });
        };
        Ok(Authenticated { user: user.to_vec(), key: right, algorithm, integrity, allocation: key })
    }

    /// Answers a request that was not authenticated.
    pub(super) fn refuse(&mut self, at: Moment, client: Client, message: &Message<'_>, refusal: Refusal) {
        self.counters.auth_failure(refusal.why);
        if !self.may_answer_stranger(at, client) {
            return;
        }
        let mut writer = Writer::new(message.method, Class::Error, &message.transaction);
        writer.error_code(refusal.code, reason(refusal.code));
        if refusal.code != 400 {
            writer.attribute(attribute::REALM, self.config.credentials.realm().as_bytes());
            writer.attribute(attribute::NONCE, self.nonces.issue(client.remote, at.now).as_bytes());
            writer.attribute(attribute::PASSWORD_ALGORITHMS, &PASSWORD_ALGORITHMS);
        }
        let answer = Answer { client, method: message.method, transaction: message.transaction, seal: None };
        self.reply(&answer, writer);
    }

    /// Over a stream nobody can forge an address, and who has an allocation is no stranger.
    pub(super) fn may_answer_stranger(&mut self, at: Moment, client: Client) -> bool {
        let is_known = client.transport != Transport::Udp || self.by_client.contains_key(&client);
        if is_known || self.throttle.admits(client.remote.ip(), at.now) {
            return true;
        }
        self.counters.drop(Dropped::Throttled);
        false
    }

    /// The allocation of a request that needs one (437), made by the same user (441).
    pub(super) fn own_allocation(&mut self, who: &Authenticated, answer: &Answer) -> Option<AllocationKey> {
        let Some(key) = who.allocation.filter(|key| self.allocations.get(*key).is_some_and(|a| a.pending.is_none())) else {
            self.reply_error(answer, 437);
            return None;
        };
        if *self.allocations[key].user != *who.user {
            self.counters.auth_failure(AuthFailure::OtherUser);
            self.reply_error(answer, 441);
            return None;
        }
        Some(key)
    }
}

/// A pattern.
const PASSWORD_ALGORITHMS_REF: &[u8] = &PASSWORD_ALGORITHMS;
