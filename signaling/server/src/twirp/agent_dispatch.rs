//! `livekit.AgentDispatchService`: agents are called into rooms and sent away.

use axum::response::Response;
use livekit_protocol as proto;
use signaling_core::{AdminRequest, AdminResponse};

use super::errors::TwirpError;
use super::room_service::{allow, is_admin, unexpected};
use super::{Call, Service};

/// See the module.
pub(super) struct AgentDispatchService;

impl Service for AgentDispatchService {
    const NAME: &'static str = "livekit.AgentDispatchService";

    async fn call(method: &str, call: &Call<'_>) -> Option<Result<Response, TwirpError>> {
        Some(match method {
            "CreateDispatch" => create(call).await,
            "DeleteDispatch" => delete(call).await,
            "ListDispatch" => list(call).await,
            _ => return None,
        })
    }
}

async fn create(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::CreateAgentDispatchRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    dispatch(call, AdminRequest::CreateDispatch(request)).await
}

async fn delete(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::DeleteAgentDispatchRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    dispatch(call, AdminRequest::DeleteDispatch(request)).await
}

async fn list(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::ListAgentDispatchRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    match call.ask(AdminRequest::ListDispatch(request)).await? {
        AdminResponse::Dispatches(agent_dispatches) => Ok(call.answer(&proto::ListAgentDispatchResponse { agent_dispatches })),
        other => Err(unexpected(&other)),
    }
}

async fn dispatch(call: &Call<'_>, request: AdminRequest) -> Result<Response, TwirpError> {
    match call.ask(request).await? {
        AdminResponse::Dispatch(dispatch) => Ok(call.answer(&*dispatch)),
        other => Err(unexpected(&other)),
    }
}
