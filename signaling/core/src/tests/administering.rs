//! Participants: their rights, profiles, tracks, and how they are sent away.

use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};
use signaling_api::ErrorCode;

use super::*;
use crate::{AdminError, AdminResponse};

pub(super) fn set_permission(identity: &str, grants: &Grants) -> AdminRequest {
    AdminRequest::UpdateParticipant(proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: identity.to_owned(),
        permission: Some(crate::permissions::to_proto(grants)),
        ..Default::default()
    })
}

pub(super) fn named(identity: &str) -> proto::RoomParticipantIdentity {
    proto::RoomParticipantIdentity { room: ROOM.to_owned(), identity: identity.to_owned(), revoke_token_ts: 0 }
}

pub(super) fn create(name: &str) -> proto::CreateRoomRequest {
    proto::CreateRoomRequest { name: name.to_owned(), ..Default::default() }
}

pub(super) fn move_to(identity: &str, destination: &str) -> AdminRequest {
    AdminRequest::MoveParticipant(proto::MoveParticipantRequest {
        room: ROOM.to_owned(),
        identity: identity.to_owned(),
        destination_room: destination.to_owned(),
    })
}

pub(super) fn code(result: Result<AdminResponse, AdminError>) -> ErrorCode {
    result.unwrap_err().code
}

pub(super) fn room(result: Result<AdminResponse, AdminError>) -> proto::Room {
    match result.unwrap() {
        AdminResponse::Room(room) => *room,
        other => panic!("no room: {other:?}"),
    }
}

pub(super) fn names(result: Result<AdminResponse, AdminError>) -> Vec<String> {
    match result.unwrap() {
        AdminResponse::Rooms(rooms) => rooms.into_iter().map(|room| room.name).collect(),
        AdminResponse::Participants(all) => all.into_iter().map(|participant| participant.identity).collect(),
        other => panic!("no list: {other:?}"),
    }
}

#[test]
fn taking_the_right_to_publish_ends_the_tracks_for_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.take(bob.conn);
    world.take_commands();
    world.administer(set_permission("alice", &Grants { can_publish: false, ..grants("alice") })).unwrap();
    assert!(world.take(alice.conn).contains(&Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid: sid })));
    assert_eq!(world.take_commands(), [Command::Unpublish { track }]);
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen.last().unwrap().tracks, []);
    assert!(!seen.last().unwrap().permission.clone().unwrap().can_publish && !seen.last().unwrap().is_publisher);
    assert_eq!(world.tokens.len(), 1, "the token follows");
}

#[test]
fn the_right_to_subscribe_goes_and_comes_back_with_the_subscriptions() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, _) = world.publish(&alice);
    world.take_commands();
    world.administer(set_permission("bob", &Grants { can_subscribe: false, ..grants("bob") })).unwrap();
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    world.administer(set_permission("bob", &grants("bob"))).unwrap();
    assert!(matches!(world.take_commands().as_slice(), [Command::Subscribe { participant, .. }] if *participant == bob.id));
}

#[test]
fn who_is_hidden_leaves_for_the_others_and_who_is_shown_comes() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, _) = world.publish(&alice);
    world.take(bob.conn);
    world.take_commands();
    world.administer(set_permission("alice", &Grants { hidden: true, ..grants("alice") })).unwrap();
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen.iter().map(|info| info.state()).collect::<Vec<_>>(), [State::Disconnected]);
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    assert_eq!(updates(&world.take(alice.conn)).last().unwrap().state(), State::Active, "to itself it is as it was");
    world.administer(set_permission("alice", &grants("alice"))).unwrap();
    assert_eq!(updates(&world.take(bob.conn))[0].tracks.len(), 1);
    assert!(matches!(world.take_commands().as_slice(), [Command::Subscribe { .. }]));
}

#[test]
fn profile_and_rights_of_one_request_are_told_at_once_and_answered() {
    let mut world = World::new();
    let alice = world.active("alice");
    let request = proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: "alice".to_owned(),
        name: "Al".to_owned(),
        metadata: "m".to_owned(),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        permission: Some(crate::permissions::to_proto(&Grants { can_update_own_metadata: true, ..grants("alice") })),
    };
    let Ok(AdminResponse::Participant(info)) = world.administer(AdminRequest::UpdateParticipant(request)) else { panic!("no participant") };
    assert_eq!((info.name.as_str(), info.metadata.as_str(), info.attributes["k"].as_str()), ("Al", "m", "v"));
    assert_eq!(updates(&world.take(alice.conn)), [*info]);
    let long = proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: "alice".to_owned(),
        metadata: "x".repeat(100_000),
        ..Default::default()
    };
    assert_eq!(code(world.administer(AdminRequest::UpdateParticipant(long))), ErrorCode::BadRequest);
}

#[test]
fn a_track_muted_by_the_server_is_told_to_its_owner_even_after_a_resume() {
    let mut world = World::with(SignalingConfig { remote_unmute: true, ..Default::default() });
    let alice = world.active("alice");
    let (track, sid) = world.publish(&alice);
    world.take_commands();
    let mute = |muted| {
        AdminRequest::MutePublishedTrack(proto::MuteRoomTrackRequest {
            room: ROOM.to_owned(),
            identity: "alice".to_owned(),
            track_sid: sid.clone(),
            muted,
        })
    };
    let answer = world.administer(mute(true)).unwrap();
    assert!(matches!(answer, AdminResponse::Track(track) if track.muted && track.sid == sid));
    assert!(world.take(alice.conn).contains(&Response::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: true })));
    assert_eq!(world.take_commands(), [Command::SetMuted { track, muted: true }]);
    world.close(&alice);
    world.administer(mute(false)).unwrap();
    let back = world.resume(&alice);
    assert!(world.take(back.conn).contains(&Response::Mute(proto::MuteTrackRequest { sid, muted: false })));
}

#[test]
fn a_microphone_is_not_opened_from_afar_unless_the_operator_allows_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, sid) = world.publish(&alice);
    world.take(alice.conn);
    let unmute = proto::MuteRoomTrackRequest { room: ROOM.to_owned(), identity: "alice".to_owned(), track_sid: sid, muted: false };
    assert_eq!(code(world.administer(AdminRequest::MutePublishedTrack(unmute))), ErrorCode::PreconditionFailed);
    assert_eq!(world.take(alice.conn), []);
}

#[test]
fn a_participant_is_sent_away_and_its_token_is_not_good_any_more() {
    let mut world = World::new();
    let not_before = |seconds: u64| Grants { not_before: Duration::from_secs(seconds), ..grants("alice") };
    let now = world.unix_now.as_secs();
    let alice = world.join_as(not_before(now - 10), JoinParams::default());
    world.administer(AdminRequest::RemoveParticipant(named("alice"))).unwrap();
    let goodbye = leave(&world.take(alice.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::ParticipantRemoved, Action::Disconnect));

    let again = world.connect(not_before(now - 10), JoinParams::default());
    assert_eq!(world.closed[&again], CloseReason::Refused(ErrorCode::TokenRevoked));
    assert_eq!(leave(&world.take(again)).unwrap().reason(), DisconnectReason::ParticipantRemoved);
    world.join("bob");
    world.join_as(not_before(now + 61), JoinParams::default());
    assert_eq!(world.present(), ["alice", "bob"]);
}

#[test]
fn a_revoked_token_resumes_no_session_of_its_identity() {
    let mut world = World::new();
    let not_before = |seconds: u64| Grants { not_before: Duration::from_secs(seconds), ..grants("alice") };
    let now = world.unix_now.as_secs();
    world.join_as(not_before(now - 10), JoinParams::default());
    world.administer(AdminRequest::RemoveParticipant(named("alice"))).unwrap();
    let successor = world.join_as(not_before(now + 61), JoinParams::default());

    let resume = JoinParams { reconnect: true, participant_sid: None, ..JoinParams::default() };
    let thief = world.connect(not_before(now - 10), resume.clone());
    assert_eq!(world.closed[&thief], CloseReason::Refused(ErrorCode::TokenRevoked));
    assert!(!world.closed.contains_key(&successor.conn));
    let back = world.connect(not_before(now + 61), resume);
    assert!(!world.closed.contains_key(&back));
}

#[test]
fn a_draining_node_opens_no_room_whoever_asks() {
    let mut world = World::new();
    world.active("alice");
    world.signaling.close_to_new_rooms(true);
    let dispatch = |room: &str| {
        AdminRequest::CreateDispatch(proto::CreateAgentDispatchRequest {
            room: room.to_owned(),
            agent_name: "echo".to_owned(),
            ..Default::default()
        })
    };
    for request in [AdminRequest::CreateRoom(Box::new(create("new"))), move_to("alice", "new"), dispatch("new")] {
        assert_eq!(code(world.administer(request)), ErrorCode::Unavailable);
    }
    let newcomer = Grants { room: "new".to_owned(), ..grants("bob") };
    assert_eq!(world.signaling.check_join(&newcomer, &JoinParams::default()), Err(ErrorCode::Unavailable));
    assert_eq!(names(world.administer(AdminRequest::ListRooms(proto::ListRoomsRequest::default()))), [ROOM]);
    world.administer(dispatch(ROOM)).unwrap();
    world.signaling.close_to_new_rooms(false);
    world.administer(move_to("alice", "new")).unwrap();
}

#[test]
fn a_moderator_who_was_removed_moderates_no_more_with_the_token_of_then() {
    let mut world = World::new();
    let moderator = |seconds: u64| Grants { room_admin: true, not_before: Duration::from_secs(seconds), ..grants("mallory") };
    let (now, bob) = (world.unix_now.as_secs(), world.active("bob"));
    world.join_as(moderator(now - 10), JoinParams::default());
    world.administer(AdminRequest::RemoveParticipant(named("mallory"))).unwrap();

    let refused = world.ask_as(moderator(now - 10), AdminRequest::RemoveParticipant(named("bob")));
    assert_eq!(code(world.answers.remove(&refused).unwrap()), ErrorCode::TokenRevoked);
    assert_eq!(
        (world.present(), world.take(bob.conn).iter().any(|message| matches!(message, Response::Leave(_)))),
        (vec!["bob".to_owned()], false)
    );
    let later = world.ask_as(moderator(now + 61), AdminRequest::RemoveParticipant(named("bob")));
    world.answers.remove(&later).unwrap().unwrap();
}

#[test]
fn the_time_before_which_tokens_are_revoked_can_be_named() {
    let mut world = World::new();
    let not_before = |seconds: u64| Grants { not_before: Duration::from_secs(seconds), ..grants("alice") };
    world.join_as(not_before(500), JoinParams::default());
    world.administer(AdminRequest::RemoveParticipant(proto::RoomParticipantIdentity { revoke_token_ts: 400, ..named("alice") })).unwrap();
    world.join_as(not_before(500), JoinParams::default());
    assert_eq!(world.present(), ["alice"]);
}

#[test]
fn what_is_not_there_can_not_be_administered() {
    let mut world = World::new();
    assert_eq!(code(world.administer(AdminRequest::RemoveParticipant(named("nobody")))), ErrorCode::ParticipantNotFound);
    let data = || AdminRequest::SendData(proto::SendDataRequest { room: ROOM.to_owned(), ..Default::default() });
    assert_eq!(code(world.administer(data())), ErrorCode::RoomNotFound);
    world.join("alice");
    assert_eq!(code(world.administer(AdminRequest::GetParticipant(named("nobody")))), ErrorCode::ParticipantNotFound);
    assert!(world.administer(AdminRequest::GetParticipant(named("alice"))).is_ok());
    let mute =
        proto::MuteRoomTrackRequest { room: ROOM.to_owned(), identity: "alice".to_owned(), track_sid: "TR_x".to_owned(), muted: true };
    assert_eq!(code(world.administer(AdminRequest::MutePublishedTrack(mute))), ErrorCode::TrackNotFound);
    let forward = AdminRequest::ForwardParticipant(proto::ForwardParticipantRequest::default());
    assert_eq!(code(world.administer(forward)), ErrorCode::Unimplemented);
}
