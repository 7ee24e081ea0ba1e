//! Data messages from an administrator: sent by nobody, to everybody or to those that are named.

use std::collections::{BTreeSet, VecDeque};

use livekit_protocol as proto;
use livekit_protocol::data_packet::{Kind, Value};
use prost::Message as _;
use sfu_api::{Command, Delivery};

use super::{AdminError, AdminResponse, AdminResult};
use crate::{data::Audience, limits, room::Room, turn::Turn};

/// Messages that were sent lately, so that a request that is repeated for want of an answer sends nothing twice.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    known: BTreeSet<[u8; NONCE_BYTES]>,
    order: VecDeque<[u8; NONCE_BYTES]>,
}

impl Nonces {
    /// False if it was seen before. The oldest is forgotten at the bound.
    fn note(&mut self, nonce: [u8; NONCE_BYTES]) -> bool {
        if !self.known.insert(nonce) {
            return false;
        }
        self.order.push_back(nonce);
        if self.order.len() > limits::DATA_NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Room {
    #[expect(deprecated, reason = "older callers address by sid, older clients read the addressees inside the packet")]
    pub(super) fn send_data(&mut self, request: proto::SendDataRequest, turn: &mut Turn<'_>) -> AdminResult {
        if request.destination_identities.len() + request.destination_sids.len() > limits::DATA_ADDRESSEES {
            return Err(AdminError::invalid("too many destinations"));
        }
        let nonce = match request.nonce.as_slice() {
            [] => None,
            nonce => Some(
                <[u8; NONCE_BYTES]>::try_from(nonce)
                    .map_err(|_| AdminError::invalid(format!("nonce should be 16-bytes or not present, got: {} bytes", nonce.len())))?,
            ),
        };
        let delivery = if request.kind() == Kind::Lossy { Delivery::Lossy } else { Delivery::Reliable };
        let audience = if request.destination_identities.is_empty() && request.destination_sids.is_empty() {
            Audience::Others
        } else {
            Audience::Named { identities: request.destination_identities.clone(), sids: request.destination_sids.clone() }
        };
        let packet = proto::DataPacket {
            kind: request.kind,
            destination_identities: request.destination_identities.clone(),
            value: Some(Value::User(proto::UserPacket {
                payload: request.data,
                destination_sids: request.destination_sids,
                destination_identities: request.destination_identities,
                topic: request.topic,
                nonce: request.nonce,
                ..Default::default()
            })),
            ..Default::default()
        };
        if packet.encoded_len() > limits::DATA_PACKET_BYTES {
            return Err(AdminError::invalid(format!("data exceeds limits: max {} bytes", limits::DATA_PACKET_BYTES)));
        }
        // Noted behind every check: what was refused was not sent, and is refused again when it is repeated.
        if nonce.is_some_and(|nonce| !self.nonces.note(nonce)) {
            return Ok(AdminResponse::Done);
        }
        let to = audience.among(&self.members).ids(&self.members);
        if !to.is_empty() {
            turn.counters.data_forwarded += 1;
            turn.out.media(Command::SendData { to, delivery, payload: packet.encode_to_vec() });
        }
        Ok(AdminResponse::Done)
    }
}

const NONCE_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_new_once_and_the_oldest_are_forgotten() {
        let mut nonces = Nonces::default();
        let nonce = |number: usize| u128::try_from(number).unwrap_or(0).to_be_bytes();
        assert!(nonces.note(nonce(0)) && !nonces.note(nonce(0)));
        assert!((1..=limits::DATA_NONCES).all(|number| nonces.note(nonce(number))));
        assert!(nonces.note(nonce(0)), "forgotten");
        assert!(!nonces.note(nonce(limits::DATA_NONCES)));
    }
}
