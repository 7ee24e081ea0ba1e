//! Checks from this side: proof that the client receives where it now sends from.
//!
//! A lite agent needs none to connect, since the client checks. But a NAT can give a client another address in mid-call
//! without the client noticing; its next own check may be 2.5 s away, while its media, authentic, arrives from there already.
//! Then this side asks with a Binding request, and the client's answer, which every full agent gives (RFC 8445 section 7.3),
//! validates the path as a check of its own would. On a path that is valid the answer says how far away the client is, and that it is
//! there.
//! Invariants: nothing but the request goes to an address before its answer is there; an answer counts once, from where the
//! request went, with the client's password. Bounds: [`MAX_PENDING`] requests, one every [`INTERVAL`].

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rand::Rng;

use super::params::IceCredentials;
use super::stun::{self, BindingSuccess, TransactionId};
use crate::error::Discard;
use crate::net::{Flow, Outbox};

/// Requests without an answer that are remembered.
const MAX_PENDING: usize = 4;
/// Between two requests: a lost one is followed by the next.
const INTERVAL: Duration = Duration::from_millis(100);
/// After this an answer proves too little about the present.
const LIFETIME: Duration = Duration::from_secs(2);

/// Requests of one transport.
#[derive(Debug, Default)]
pub(super) struct Probes {
    pending: ArrayVec<Pending, MAX_PENDING>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    transaction: TransactionId,
    flow: Flow,
    sent_at: Instant,
}

impl Probes {
    /// Asks the client on a path, unless it was asked a moment ago. Returns what ties the answer to the request.
    pub(super) fn send(
        &mut self,
        now: Instant,
        flow: Flow,
        (local, remote): (&IceCredentials, &IceCredentials),
        rng: &mut impl Rng,
        out: &mut Outbox,
    ) -> Option<TransactionId> {
        self.pending.retain(|pending| now.saturating_duration_since(pending.sent_at) < LIFETIME);
        if self.pending.is_full() || self.pending.iter().any(|pending| now.saturating_duration_since(pending.sent_at) < INTERVAL) {
            return None;
        }
        let mut transaction = [0; 12];
        rng.fill_bytes(&mut transaction);
        self.pending.push(Pending { transaction, flow, sent_at: now });
        let start = out.arena().len();
        let username = format!("{}:{}", remote.ufrag, local.ufrag);
        stun::write_request(out.arena(), &transaction, &username, rng.next_u64(), &stun::key(&remote.pwd));
        let length = out.arena().len() - start;
        out.close_train(flow, start, length);
        Some(transaction)
    }

    /// Takes an answer; returns how long it took.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub(super) fn take(&mut self, now: Instant, flow: Flow, datagram: &[u8], remote: &IceCredentials) -> Result<Duration, Discard> {
        let answer = BindingSuccess::parse(datagram)?;
        let is_asked = |pending: &Pending| {
            pending.transaction == answer.transaction && pending.flow == flow && now.saturating_duration_since(pending.sent_at) < LIFETIME
        };
        let index = self.pending.iter().position(is_asked).ok_or(Discard::StunUnknownUser)?;
        if !answer.is_authentic(&stun::key(&remote.pwd)) {
            return Err(Discard::StunIntegrity);
        }
        let pending = self.pending.remove(index);
        Ok(now.saturating_duration_since(pending.sent_at))
    }
}
