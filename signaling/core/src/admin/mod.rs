//! What an administrator may ask of rooms and participants: one set of functions under the Twirp and REST faces.
//!
//! In: an [`AdminRequest`] under an [`AdminId`] that the caller chose. Out: exactly one answer under the same id, most at
//! once, a remote procedure call when its participant has answered or has run out of time.
//! Who may ask is checked by the face, by the token's grants; that the token is still good, here. Not here: HTTP, JSON, Twirp's error words.

mod calls;
mod data;
mod moving;
mod participants;
mod rooms;

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use rand::Rng;
use signaling_api::{ErrorCode, Grants};

use crate::{Output, Signaling, room::Room, turn::Turn};

pub(crate) use calls::Calls;
pub(crate) use data::Nonces;

/// A question of an administrator; chosen by whoever asks, never reused while it is open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AdminId(pub u64);

/// What is asked. Rooms and participants are named as people name them.
#[derive(Clone, PartialEq, Debug)]
pub enum AdminRequest {
    /// Opens a room, or changes the settings of one that is open. Answered by [`AdminResponse::Room`].
    CreateRoom(Box<proto::CreateRoomRequest>),
    /// All rooms, or those of these names. Answered by [`AdminResponse::Rooms`].
    ListRooms(proto::ListRoomsRequest),
    /// Sends everybody away and closes the room.
    DeleteRoom(proto::DeleteRoomRequest),
    /// Everybody in a room, hidden participants included; nobody if there is no such room. Answered by
    /// [`AdminResponse::Participants`].
    ListParticipants(proto::ListParticipantsRequest),
    /// Answered by [`AdminResponse::Participant`].
    GetParticipant(proto::RoomParticipantIdentity),
    /// Sends a participant away and revokes its tokens.
    RemoveParticipant(proto::RoomParticipantIdentity),
    /// Mutes or unmutes a published track. Answered by [`AdminResponse::Track`].
    MutePublishedTrack(proto::MuteRoomTrackRequest),
    /// Changes name, metadata, attributes (empty ones stay as they are, an empty attribute is removed) and rights (all anew);
    /// tracks and subscriptions that are not allowed any more end. Answered by [`AdminResponse::Participant`].
    UpdateParticipant(proto::UpdateParticipantRequest),
    /// Subscribes or unsubscribes a participant.
    UpdateSubscriptions(proto::UpdateSubscriptionsRequest),
    /// Sends a data message from nobody.
    SendData(proto::SendDataRequest),
    /// Changes the metadata of a room. Answered by [`AdminResponse::Room`].
    UpdateRoomMetadata(proto::UpdateRoomMetadataRequest),
    /// Calls a method that a participant has registered. Answered by [`AdminResponse::Called`].
    PerformRpc(proto::PerformRpcRequest),
    /// Takes a participant with its tracks to another room.
    MoveParticipant(proto::MoveParticipantRequest),
    /// Calls an agent into a room, which is opened if it does not exist. Answered by [`AdminResponse::Dispatch`].
    CreateDispatch(proto::CreateAgentDispatchRequest),
    /// Sends the agents of a dispatch away. Answered by [`AdminResponse::Dispatch`].
    DeleteDispatch(proto::DeleteAgentDispatchRequest),
    /// Answered by [`AdminResponse::Dispatches`].
    ListDispatch(proto::ListAgentDispatchRequest),
    /// Shows a participant's tracks in another room too. Always answered by [`ErrorCode::Unimplemented`].
    ForwardParticipant(proto::ForwardParticipantRequest),
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub enum AdminResponse {
    /// It is done.
    Done,
    /// As it is after the request.
    Room(Box<proto::Room>),
    /// In no order.
    Rooms(Vec<proto::Room>),
    /// As it is after the request.
    Participant(Box<proto::ParticipantInfo>),
    /// In no order.
    Participants(Vec<proto::ParticipantInfo>),
    /// As it is after the request.
    Track(Box<proto::TrackInfo>),
    /// What the method returned.
    Called(String),
    /// As it was before it was deleted, else as it is.
    Dispatch(Box<proto::AgentDispatch>),
    /// In the order in which they were made.
    Dispatches(Vec<proto::AgentDispatch>),
}

/// Why it can't be done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AdminError {
    /// For programs.
    pub code: ErrorCode,
    /// For people; LiveKit's words where it has some.
    pub message: String,
}

impl AdminError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// There is no more to say than what the code says.
    pub(crate) fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    pub(crate) fn no_room() -> Self {
        Self::new(ErrorCode::RoomNotFound, "requested room does not exist")
    }

    fn no_participant() -> Self {
        Self::new(ErrorCode::ParticipantNotFound, "participant does not exist")
    }
}

/// What a request came to.
pub type AdminResult = Result<AdminResponse, AdminError>;

impl AdminRequest {
    /// The room that it is about; the participant's for one that moves.
    fn room(&self) -> &str {
        match self {
            Self::CreateRoom(request) => &request.name,
            Self::ListRooms(_) => "",
            Self::DeleteRoom(request) => &request.room,
            Self::ListParticipants(request) => &request.room,
            Self::GetParticipant(request) | Self::RemoveParticipant(request) => &request.room,
            Self::MutePublishedTrack(request) => &request.room,
            Self::UpdateParticipant(request) => &request.room,
            Self::UpdateSubscriptions(request) => &request.room,
            Self::SendData(request) => &request.room,
            Self::UpdateRoomMetadata(request) => &request.room,
            Self::PerformRpc(request) => &request.room,
            Self::MoveParticipant(request) => &request.room,
            Self::ForwardParticipant(request) => &request.room,
            Self::CreateDispatch(request) => &request.room,
            Self::DeleteDispatch(request) => &request.room,
            Self::ListDispatch(request) => &request.room,
        }
    }

    /// The answer where there is no such room.
    fn without_room(&self) -> AdminResult {
        match self {
            Self::ListParticipants(_) => Ok(AdminResponse::Participants(Vec::new())),
            Self::GetParticipant(_) | Self::RemoveParticipant(_) | Self::UpdateParticipant(_) => Err(AdminError::no_participant()),
            _ => Err(AdminError::no_room()),
        }
    }
}

impl Signaling {
    /// Answers an administrator.
    pub(crate) fn admin(
        &mut self,
        id: AdminId,
        grants: &Grants,
        request: AdminRequest,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) {
        if let Err(code) = self.check_token(grants) {
            return self.out.push(Output::Admin { id, result: Box::new(Err(AdminError::plain(code))) });
        }
        let answer = match request {
            AdminRequest::CreateRoom(request) => Some(self.create_room(*request, now, unix_now, rng)),
            AdminRequest::ListRooms(request) => Some(Ok(AdminResponse::Rooms(self.list_rooms(&request.names)))),
            AdminRequest::DeleteRoom(request) => Some(self.delete_room(&request.room, now, unix_now, rng)),
            AdminRequest::MoveParticipant(request) => Some(self.move_participant(&request, now, unix_now, rng)),
            AdminRequest::CreateDispatch(request) => Some(self.create_dispatch(request, now, unix_now, rng)),
            AdminRequest::DeleteDispatch(request) => Some(self.delete_dispatch(&request, now, unix_now, rng)),
            AdminRequest::ListDispatch(request) => Some(self.list_dispatches(&request)),
            AdminRequest::ForwardParticipant(_) => Some(Err(AdminError::new(
                ErrorCode::Unimplemented,
                "forwarding participants is not available: move them, or let them join a second time",
            ))),
            request => match self.rooms.by_name(request.room()).map(|room| room.id) {
                Some(room) => self
                    .with_room(room, now, unix_now, rng, |room, turn| room.administer(id, request, turn))
                    .unwrap_or(Some(Err(AdminError::no_room()))),
                None => Some(request.without_room()),
            },
        };
        if let Some(result) = answer {
            self.out.push(Output::Admin { id, result: Box::new(result) });
        }
    }
}

impl Room {
    /// None: the answer comes later.
    fn administer(&mut self, id: AdminId, request: AdminRequest, turn: &mut Turn<'_>) -> Option<AdminResult> {
        Some(match request {
            AdminRequest::ListParticipants(_) => Ok(AdminResponse::Participants(self.everybody(turn.config))),
            AdminRequest::GetParticipant(request) => self.get_participant(&request.identity, turn),
            AdminRequest::RemoveParticipant(request) => self.remove_participant(&request, turn),
            AdminRequest::MutePublishedTrack(request) => self.mute_published_track(&request, turn),
            AdminRequest::UpdateParticipant(request) => self.update_participant(request, turn),
            AdminRequest::UpdateSubscriptions(request) => self.update_subscriptions(request, turn),
            AdminRequest::SendData(request) => self.send_data(request, turn),
            AdminRequest::UpdateRoomMetadata(request) => self.update_metadata(request.metadata, turn),
            AdminRequest::PerformRpc(request) => return self.perform_rpc(id, request, turn).err().map(Err),
            AdminRequest::CreateRoom(_)
            | AdminRequest::ListRooms(_)
            | AdminRequest::DeleteRoom(_)
            | AdminRequest::MoveParticipant(_)
            | AdminRequest::ForwardParticipant(_)
            | AdminRequest::CreateDispatch(_)
            | AdminRequest::DeleteDispatch(_)
            | AdminRequest::ListDispatch(_) => Err(AdminError::new(ErrorCode::Internal, "not a request to one room")),
        })
    }
}
