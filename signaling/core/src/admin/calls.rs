//! Remote procedure calls that an administrator makes on a participant, over the participant's data channel.
//!
//! A call goes out under a caller's name that nobody else has, so its answers come back addressed to that name and are kept
//! from the other participants. Invariant: every call is answered once: by the participant, by its departure, or by time.
//! What clients do: `RpcRequest`, then `RpcAck` within the round trip time, then `RpcResponse` (livekit-client, `rpc.ts`).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use livekit_protocol::{data_packet::Value, rpc_response};
use prost::Message as _;
use rand::Rng;
use sfu_api::{Command, Delivery, ParticipantId};
use signaling_api::ErrorCode;

use super::{AdminError, AdminId, AdminResponse, AdminResult};
use crate::{Output, limits, room::Room, timers::Timer, turn::Turn};

/// Calls of a room that have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: BTreeMap<String, Call>,
}

#[derive(Debug)]
struct Call {
    asked_by: AdminId,
    callee: ParticipantId,
    /// None once the callee has confirmed that it has the call.
    confirm_by: Option<Instant>,
    answer_by: Instant,
}

impl Calls {
    fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|call| call.confirm_by.map_or(call.answer_by, |confirm_by| confirm_by.min(call.answer_by))).min()
    }

    fn is_of(&self, id: &str, callee: ParticipantId) -> bool {
        self.open.get(id).is_some_and(|call| call.callee == callee)
    }

    fn take_if(&mut self, is_over: impl Fn(&Call) -> bool) -> Vec<Call> {
        let over: Vec<_> = self.open.iter().filter(|(_, call)| is_over(call)).map(|(id, _)| id.clone()).collect();
        over.iter().filter_map(|id| self.open.remove(id)).collect()
    }
}

impl Room {
    /// The answer comes later, if this is no error.
    pub(super) fn perform_rpc(&mut self, id: AdminId, request: proto::PerformRpcRequest, turn: &mut Turn<'_>) -> Result<(), AdminError> {
        if request.destination_identity.is_empty() {
            return Err(AdminError::invalid("destination identity is required"));
        }
        let callee = self.members.id_of(&request.destination_identity).ok_or_else(AdminError::no_participant)?;
        if request.payload.len() > limits::RPC_PAYLOAD_BYTES {
            return Err(AdminError::invalid("RpcError 1402: Request payload too large"));
        }
        if request.method.len() > limits::RPC_METHOD_BYTES {
            return Err(AdminError::invalid(format!("the name of a method has at most {} bytes", limits::RPC_METHOD_BYTES)));
        }
        if self.calls.open.len() >= limits::OPEN_CALLS {
            return Err(AdminError::new(ErrorCode::RateLimited, "too many calls are waiting for participants of this room"));
        }
        let timeout = match request.response_timeout_ms {
            0 => limits::RPC_DEFAULT_TIMEOUT,
            millis => Duration::from_millis(millis.into()).min(limits::RPC_MAX_TIMEOUT),
        };
        let call_id = unused_id(turn.rng);
        let packet = proto::DataPacket {
            participant_identity: call_id.clone(),
            value: Some(Value::RpcRequest(proto::RpcRequest {
                id: call_id.clone(),
                method: request.method,
                payload: request.payload,
                response_timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
                version: RPC_VERSION,
                ..Default::default()
            })),
            ..Default::default()
        };
        turn.out.media(Command::SendData { to: vec![callee], delivery: Delivery::Reliable, payload: packet.encode_to_vec() });
        let (confirm_by, answer_by) = (Some(turn.now + limits::RPC_ROUND_TRIP), turn.now + timeout);
        self.calls.open.insert(call_id, Call { asked_by: id, callee, confirm_by, answer_by });
        self.set_call_timer(turn);
        Ok(())
    }

    /// True if the packet was an answer to an administrator's call and is for nobody else.
    pub(crate) fn takes_call_answer(&mut self, from: ParticipantId, packet: &proto::DataPacket, turn: &mut Turn<'_>) -> bool {
        match &packet.value {
            Some(Value::RpcAck(ack)) if self.calls.is_of(&ack.request_id, from) => {
                if let Some(call) = self.calls.open.get_mut(&ack.request_id) {
                    call.confirm_by = None;
                }
                true
            }
            Some(Value::RpcResponse(response)) if self.calls.is_of(&response.request_id, from) => {
                if let Some(call) = self.calls.open.remove(&response.request_id) {
                    let result = answer(response.value.as_ref());
                    turn.out.push(Output::Admin { id: call.asked_by, result: Box::new(result) });
                }
                true
            }
            _ => false,
        }
    }

    /// Who left answers nothing any more.
    pub(crate) fn end_calls_to(&mut self, gone: ParticipantId, turn: &mut Turn<'_>) {
        for call in self.calls.take_if(|call| call.callee == gone) {
            let error = AdminError::new(ErrorCode::Unavailable, "RpcError 1503: Recipient disconnected");
            turn.out.push(Output::Admin { id: call.asked_by, result: Box::new(Err(error)) });
        }
    }

    pub(crate) fn end_late_calls(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        for call in self.calls.take_if(|call| call.answer_by <= now || call.confirm_by.is_some_and(|at| at <= now)) {
            let message = if call.confirm_by.is_some() { "RpcError 1501: Connection timeout" } else { "RpcError 1502: Response timeout" };
            let error = AdminError::new(ErrorCode::Timeout, message);
            turn.out.push(Output::Admin { id: call.asked_by, result: Box::new(Err(error)) });
        }
        self.set_call_timer(turn);
    }

    fn set_call_timer(&self, turn: &mut Turn<'_>) {
        match self.calls.next_deadline() {
            Some(at) => turn.timers.set(Timer::Calls(self.id), at),
            None => turn.timers.clear(Timer::Calls(self.id)),
        }
    }
}

fn answer(value: Option<&rpc_response::Value>) -> AdminResult {
    match value {
        Some(rpc_response::Value::Payload(payload)) => Ok(AdminResponse::Called(payload.clone())),
        Some(rpc_response::Value::Error(error)) => {
            let detail = if error.data.is_empty() { String::new() } else { format!(": {}", error.data) };
            let code = match error.code {
                1400 | 1402 => ErrorCode::BadRequest,
                1401 => ErrorCode::ParticipantNotFound,
                1403 | 1404 => ErrorCode::Unimplemented,
                1501 | 1502 => ErrorCode::Timeout,
                1503 => ErrorCode::Unavailable,
                _ => ErrorCode::Internal,
            };
            Err(AdminError::new(code, format!("RpcError {}: {}{detail}", error.code, error.message)))
        }
        // The request said that it is of a version without compression.
        Some(rpc_response::Value::CompressedPayload(_)) | None => {
            Err(AdminError::new(ErrorCode::Internal, "RpcError 1505: the response can't be read"))
        }
    }
}

/// A caller's name that no participant has.
fn unused_id(rng: &mut dyn Rng) -> String {
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

const RPC_VERSION: u32 = 1;
