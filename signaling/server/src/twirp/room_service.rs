//! `livekit.RoomService`: which grant each method needs, and which question it is to the rooms.

use axum::response::Response;
use livekit_protocol as proto;
use signaling_api::Grants;
use signaling_core::{AdminRequest, AdminResponse};

use super::errors::{Code, TwirpError};
use super::{Call, Service};

/// See the module.
pub(super) struct RoomService;

impl Service for RoomService {
    const NAME: &'static str = "livekit.RoomService";

    /// Permissions are LiveKit's (`roomservice.go`, `auth.go`).
    async fn call(method: &str, call: &Call<'_>) -> Option<Result<Response, TwirpError>> {
        Some(match method {
            "CreateRoom" => create_room(call).await,
            "ListRooms" => list_rooms(call).await,
            "DeleteRoom" => delete_room(call).await,
            "ListParticipants" => list_participants(call).await,
            "GetParticipant" => get_participant(call).await,
            "RemoveParticipant" => remove_participant(call).await,
            "MutePublishedTrack" => mute_published_track(call).await,
            "UpdateParticipant" => update_participant(call).await,
            "UpdateSubscriptions" => update_subscriptions(call).await,
            "SendData" => send_data(call).await,
            "UpdateRoomMetadata" => update_room_metadata(call).await,
            "ForwardParticipant" => forward_participant(call).await,
            "MoveParticipant" => move_participant(call).await,
            "PerformRpc" => perform_rpc(call).await,
            _ => return None,
        })
    }
}

async fn create_room(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::CreateRoomRequest>()?;
    allow(call.grants.room_create)?;
    match call.ask(AdminRequest::CreateRoom(Box::new(request))).await? {
        AdminResponse::Room(room) => Ok(call.answer(&*room)),
        other => Err(unexpected(&other)),
    }
}

async fn list_rooms(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::ListRoomsRequest>()?;
    allow(call.grants.room_list)?;
    match call.ask(AdminRequest::ListRooms(request)).await? {
        AdminResponse::Rooms(rooms) => Ok(call.answer(&proto::ListRoomsResponse { rooms })),
        other => Err(unexpected(&other)),
    }
}

async fn delete_room(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::DeleteRoomRequest>()?;
    allow(call.grants.room_create)?;
    call.ask(AdminRequest::DeleteRoom(request)).await?;
    Ok(call.answer(&proto::DeleteRoomResponse {}))
}

async fn list_participants(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::ListParticipantsRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    match call.ask(AdminRequest::ListParticipants(request)).await? {
        AdminResponse::Participants(participants) => Ok(call.answer(&proto::ListParticipantsResponse { participants })),
        other => Err(unexpected(&other)),
    }
}

async fn get_participant(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::RoomParticipantIdentity>()?;
    allow(is_admin(call.grants, &request.room))?;
    participant(call, AdminRequest::GetParticipant(request)).await
}

async fn remove_participant(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::RoomParticipantIdentity>()?;
    allow(is_admin(call.grants, &request.room))?;
    call.ask(AdminRequest::RemoveParticipant(request)).await?;
    Ok(call.answer(&proto::RemoveParticipantResponse {}))
}

async fn mute_published_track(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::MuteRoomTrackRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    match call.ask(AdminRequest::MutePublishedTrack(request)).await? {
        AdminResponse::Track(track) => Ok(call.answer(&proto::MuteRoomTrackResponse { track: Some(*track) })),
        other => Err(unexpected(&other)),
    }
}

async fn update_participant(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::UpdateParticipantRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    participant(call, AdminRequest::UpdateParticipant(request)).await
}

async fn update_subscriptions(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::UpdateSubscriptionsRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    call.ask(AdminRequest::UpdateSubscriptions(request)).await?;
    Ok(call.answer(&proto::UpdateSubscriptionsResponse {}))
}

async fn send_data(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::SendDataRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    call.ask(AdminRequest::SendData(request)).await?;
    Ok(call.answer(&proto::SendDataResponse {}))
}

async fn update_room_metadata(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::UpdateRoomMetadataRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    match call.ask(AdminRequest::UpdateRoomMetadata(request)).await? {
        AdminResponse::Room(room) => Ok(call.answer(&*room)),
        other => Err(unexpected(&other)),
    }
}

async fn forward_participant(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::ForwardParticipantRequest>()?;
    allow(may_go(call.grants, &request.room, &request.destination_room))?;
    call.ask(AdminRequest::ForwardParticipant(request)).await?;
    Ok(call.answer(&proto::ForwardParticipantResponse {}))
}

async fn move_participant(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::MoveParticipantRequest>()?;
    allow(may_go(call.grants, &request.room, &request.destination_room))?;
    call.ask(AdminRequest::MoveParticipant(request)).await?;
    Ok(call.answer(&proto::MoveParticipantResponse {}))
}

async fn perform_rpc(call: &Call<'_>) -> Result<Response, TwirpError> {
    let request = call.decode::<proto::PerformRpcRequest>()?;
    allow(is_admin(call.grants, &request.room))?;
    match call.ask(AdminRequest::PerformRpc(request)).await? {
        AdminResponse::Called(payload) => Ok(call.answer(&proto::PerformRpcResponse { payload })),
        other => Err(unexpected(&other)),
    }
}

async fn participant(call: &Call<'_>, request: AdminRequest) -> Result<Response, TwirpError> {
    match call.ask(request).await? {
        AdminResponse::Participant(participant) => Ok(call.answer(&*participant)),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn allow(is_granted: bool) -> Result<(), TwirpError> {
    if is_granted { Ok(()) } else { Err(TwirpError::denied()) }
}

/// Of this room, and of no other.
pub(super) fn is_admin(grants: &Grants, room: &str) -> bool {
    grants.room_admin && grants.room == room
}

fn may_go(grants: &Grants, from: &str, to: &str) -> bool {
    is_admin(grants, from) && grants.destination_room == to
}

pub(super) fn unexpected(response: &AdminResponse) -> TwirpError {
    tracing::error!(?response, "not the answer to this question");
    TwirpError::new(Code::Internal, "the rooms gave another answer than was asked for")
}
