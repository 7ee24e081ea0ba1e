use livekit_protocol::{DisconnectReason, data_packet::Value, leave_request::Action, participant_info::State, rpc_response};
use prost::Message as _;
use sfu_api::Delivery;
use signaling_api::{ErrorCode, RoomConfig};

use super::*;
use crate::{AdminError, AdminResponse};

fn set_permission(identity: &str, grants: &Grants) -> AdminRequest {
    AdminRequest::UpdateParticipant(proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: identity.to_owned(),
        permission: Some(crate::permissions::to_proto(grants)),
        ..Default::default()
    })
}

fn named(identity: &str) -> proto::RoomParticipantIdentity {
    proto::RoomParticipantIdentity { room: ROOM.to_owned(), identity: identity.to_owned(), revoke_token_ts: 0 }
}

fn create(name: &str) -> proto::CreateRoomRequest {
    proto::CreateRoomRequest { name: name.to_owned(), ..Default::default() }
}

fn move_to(identity: &str, destination: &str) -> AdminRequest {
    AdminRequest::MoveParticipant(proto::MoveParticipantRequest {
        room: ROOM.to_owned(),
        identity: identity.to_owned(),
        destination_room: destination.to_owned(),
    })
}

fn code(result: Result<AdminResponse, AdminError>) -> ErrorCode {
    result.unwrap_err().code
}

fn room(result: Result<AdminResponse, AdminError>) -> proto::Room {
    match result.unwrap() {
        AdminResponse::Room(room) => *room,
        other => panic!("no room: {other:?}"),
    }
}

fn names(result: Result<AdminResponse, AdminError>) -> Vec<String> {
    match result.unwrap() {
        AdminResponse::Rooms(rooms) => rooms.into_iter().map(|room| room.name).collect(),
        AdminResponse::Participants(all) => all.into_iter().map(|participant| participant.identity).collect(),
        other => panic!("no list: {other:?}"),
    }
}

/// The one data packet that was sent, and to whom.
fn sent(commands: &[Command]) -> (Vec<ParticipantId>, Delivery, proto::DataPacket) {
    match commands {
        [Command::SendData { to, delivery, payload }] => (to.clone(), *delivery, proto::DataPacket::decode(payload.as_slice()).unwrap()),
        other => panic!("not one data packet: {other:?}"),
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
fn a_deleted_room_is_gone_with_everybody_in_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let delete = || AdminRequest::DeleteRoom(proto::DeleteRoomRequest { room: ROOM.to_owned() });
    world.administer(delete()).unwrap();
    assert_eq!(leave(&world.take(alice.conn)).unwrap().reason(), DisconnectReason::RoomDeleted);
    assert_eq!(world.signaling.census(), crate::Census::default());
    assert_eq!(world.signaling.next_timeout(), None);
    assert_eq!(code(world.administer(delete())), ErrorCode::RoomNotFound);
}

#[test]
fn a_room_that_was_created_waits_for_its_first_guest_and_then_for_the_next() {
    let mut world = World::new();
    let request = proto::CreateRoomRequest {
        empty_timeout: 30,
        departure_timeout: 5,
        max_participants: 1,
        metadata: "m".to_owned(),
        sync_streams: true,
        ..create(ROOM)
    };
    let created = room(world.administer(AdminRequest::CreateRoom(Box::new(request))));
    assert_eq!((created.empty_timeout, created.departure_timeout, created.max_participants), (30, 5, 1));
    assert_eq!((created.creation_time, created.creation_time_ms), (1_700_000_000, 1_700_000_000_123));
    assert!(!created.sid.is_empty() && !created.enabled_codecs.is_empty() && created.metadata == "m");
    world.advance(Duration::from_secs(29));
    let alice = world.join("alice");
    let full = world.connect(grants("bob"), JoinParams::default());
    assert_eq!(world.closed[&full], CloseReason::Refused(ErrorCode::RoomFull));
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    world.advance(Duration::from_millis(4_999));
    assert_eq!(names(world.administer(AdminRequest::ListRooms(proto::ListRoomsRequest::default()))), [ROOM]);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.signaling.census().rooms, 0);

    world.administer(AdminRequest::CreateRoom(Box::new(proto::CreateRoomRequest { empty_timeout: 30, ..create(ROOM) }))).unwrap();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.signaling.census().rooms, 0, "nobody came");
}

#[test]
fn a_room_that_is_open_keeps_what_a_second_request_does_not_name() {
    let mut world = World::new();
    let first =
        room(world.administer(AdminRequest::CreateRoom(Box::new(proto::CreateRoomRequest { max_participants: 7, ..create(ROOM) }))));
    let alice = world.active("alice");
    let request = proto::CreateRoomRequest { metadata: "topic".to_owned(), ..create(ROOM) };
    let second = room(world.administer(AdminRequest::CreateRoom(Box::new(request))));
    assert_eq!((second.sid, second.max_participants, second.metadata.as_str()), (first.sid, 7, "topic"));
    assert!(world.take(alice.conn).iter().any(
        |message| matches!(message, Response::RoomUpdate(update) if update.room.as_ref().is_some_and(|room| room.metadata == "topic"))
    ));
}

#[test]
fn a_shorter_time_for_an_empty_room_counts_from_when_it_became_empty() {
    let mut world = World::new();
    world.administer(AdminRequest::CreateRoom(Box::new(create(ROOM)))).unwrap();
    world.advance(Duration::from_secs(20));
    world.administer(AdminRequest::CreateRoom(Box::new(proto::CreateRoomRequest { empty_timeout: 25, ..create(ROOM) }))).unwrap();
    world.advance(Duration::from_secs(5));
    assert_eq!(world.signaling.census().rooms, 0);
}

#[test]
fn requests_for_rooms_are_checked() {
    let mut world = World::with(SignalingConfig { max_rooms: 1, ..Default::default() });
    for bad in [
        create(""),
        create(&"r".repeat(257)),
        proto::CreateRoomRequest { metadata: "x".repeat(64_001), ..create("r") },
        proto::CreateRoomRequest { agents: vec![proto::RoomAgentDispatch::default(); 65], ..create("r") },
        proto::CreateRoomRequest { room_preset: "nobody knows it".to_owned(), ..create("r") },
    ] {
        assert_eq!(code(world.administer(AdminRequest::CreateRoom(Box::new(bad)))), ErrorCode::BadRequest);
    }
    let recorded = proto::CreateRoomRequest { egress: Some(proto::RoomEgress::default()), ..create("r") };
    assert_eq!(code(world.administer(AdminRequest::CreateRoom(Box::new(recorded)))), ErrorCode::Unimplemented);
    world.administer(AdminRequest::CreateRoom(Box::new(create("one")))).unwrap();
    assert_eq!(code(world.administer(AdminRequest::CreateRoom(Box::new(create("two"))))), ErrorCode::RoomLimit);
}

#[test]
fn settings_of_a_preset_are_those_of_the_room_where_nothing_else_is_said() {
    let preset = RoomConfig { max_participants: 3, metadata: "preset".to_owned(), ..RoomConfig::default() };
    let mut world =
        World::with(SignalingConfig { presets: [("small".to_owned(), preset)].into(), max_participants: 50, ..Default::default() });
    let request = proto::CreateRoomRequest { room_preset: "small".to_owned(), metadata: "own".to_owned(), ..create("a") };
    let created = room(world.administer(AdminRequest::CreateRoom(Box::new(request))));
    assert_eq!((created.max_participants, created.metadata.as_str()), (3, "own"));
    world.join_as(Grants { room_preset: "small".to_owned(), ..grants("alice") }, JoinParams::default());
    assert_eq!(world.signaling.rooms().iter().find(|room| room.name == ROOM).unwrap().metadata, "preset");
    let unknown = Grants { room: "b".to_owned(), room_preset: "large".to_owned(), ..grants("alice") };
    let conn = world.connect(unknown, JoinParams::default());
    assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::BadRequest));
}

#[test]
fn lists_name_what_was_asked_for() {
    let mut world = World::new();
    world.join("alice");
    world.join_as(Grants { hidden: true, ..grants("spy") }, JoinParams::default());
    world.administer(AdminRequest::CreateRoom(Box::new(create("other")))).unwrap();
    let list =
        |names: &[&str]| AdminRequest::ListRooms(proto::ListRoomsRequest { names: names.iter().map(|name| (*name).to_owned()).collect() });
    assert_eq!(names(world.administer(list(&["other", "missing"]))), ["other"]);
    assert_eq!(names(world.administer(list(&[]))).len(), 2);
    let everybody = |room: &str| AdminRequest::ListParticipants(proto::ListParticipantsRequest { room: room.to_owned() });
    let mut here = names(world.administer(everybody(ROOM)));
    here.sort();
    assert_eq!(here, ["alice", "spy"], "administrators see who is hidden");
    assert_eq!(names(world.administer(everybody("missing"))), [""; 0]);
}

#[test]
fn new_metadata_of_a_room_reaches_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    let set = |metadata: &str| {
        AdminRequest::UpdateRoomMetadata(proto::UpdateRoomMetadataRequest { room: ROOM.to_owned(), metadata: metadata.to_owned() })
    };
    assert_eq!(room(world.administer(set("topic"))).metadata, "topic");
    assert!(world.take(alice.conn).iter().any(
        |message| matches!(message, Response::RoomUpdate(update) if update.room.as_ref().is_some_and(|room| room.metadata == "topic"))
    ));
    assert_eq!(code(world.administer(set(&"x".repeat(100_000)))), ErrorCode::BadRequest);
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

#[test]
fn data_of_an_administrator_goes_from_nobody_to_those_that_it_names_and_once() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take_commands();
    let request = proto::SendDataRequest {
        room: ROOM.to_owned(),
        data: b"hello".to_vec(),
        kind: proto::data_packet::Kind::Lossy.into(),
        topic: Some("t".to_owned()),
        nonce: vec![7; 16],
        ..Default::default()
    };
    world.administer(AdminRequest::SendData(request.clone())).unwrap();
    let (mut to, delivery, packet) = sent(&world.take_commands());
    to.sort();
    let mut all = vec![alice.id, bob.id];
    all.sort();
    assert_eq!((to, delivery, packet.participant_identity.as_str()), (all, Delivery::Lossy, ""));
    let Some(Value::User(user)) = packet.value else { panic!("not a user packet") };
    assert_eq!((user.payload.as_slice(), user.topic.as_deref()), (&b"hello"[..], Some("t")));
    world.administer(AdminRequest::SendData(request)).unwrap();
    assert_eq!(world.take_commands(), [], "a repeated request sends nothing again");

    let to_bob = proto::SendDataRequest { room: ROOM.to_owned(), destination_identities: vec!["bob".to_owned()], ..Default::default() };
    world.administer(AdminRequest::SendData(to_bob)).unwrap();
    let (to, delivery, packet) = sent(&world.take_commands());
    assert_eq!((to, delivery, packet.destination_identities), (vec![bob.id], Delivery::Reliable, vec!["bob".to_owned()]));
    let bad = proto::SendDataRequest { room: ROOM.to_owned(), nonce: vec![7; 15], ..Default::default() };
    assert_eq!(code(world.administer(AdminRequest::SendData(bad))), ErrorCode::BadRequest);
    let large = proto::SendDataRequest { room: ROOM.to_owned(), data: vec![0; 300_000], ..Default::default() };
    assert_eq!(code(world.administer(AdminRequest::SendData(large))), ErrorCode::BadRequest);
}

#[test]
fn data_that_is_refused_does_not_use_up_its_nonce() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let request = |bytes: usize| {
        let (data, nonce) = (vec![0; bytes], vec![7; 16]);
        AdminRequest::SendData(proto::SendDataRequest { room: ROOM.to_owned(), data, nonce, ..Default::default() })
    };
    for _ in 0..2 {
        assert_eq!(code(world.administer(request(300_000))), ErrorCode::BadRequest);
    }
    world.administer(request(3)).unwrap();
    assert_eq!(sent(&world.take_commands()).0, [alice.id]);
}

fn call(identity: &str) -> AdminRequest {
    AdminRequest::PerformRpc(proto::PerformRpcRequest {
        room: ROOM.to_owned(),
        destination_identity: identity.to_owned(),
        method: "greet".to_owned(),
        payload: "hi".to_owned(),
        response_timeout_ms: 9_000,
    })
}

fn say(world: &mut World, client: &Client, value: Value, caller: &str) {
    let packet = proto::DataPacket { value: Some(value), destination_identities: vec![caller.to_owned()], ..Default::default() };
    world.media(Event::Data { participant: client.id, delivery: Delivery::Reliable, payload: packet.encode_to_vec() });
}

/// The id of the call that was sent to a participant.
fn called(world: &mut World) -> String {
    let (_, _, packet) = sent(&world.take_commands());
    let Some(Value::RpcRequest(request)) = packet.value else { panic!("no call") };
    assert_eq!(
        (request.id.as_str(), request.method.as_str(), request.payload.as_str()),
        (packet.participant_identity.as_str(), "greet", "hi")
    );
    request.id
}

fn response(id: &str, value: rpc_response::Value) -> Value {
    Value::RpcResponse(proto::RpcResponse { request_id: id.to_owned(), value: Some(value) })
}

#[test]
fn a_call_is_answered_by_its_participant_and_nobody_else_sees_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take_commands();
    let question = world.ask(call("alice"));
    let id = called(&mut world);
    say(&mut world, &bob, response(&id, rpc_response::Value::Payload("forged".to_owned())), &id);
    assert_eq!(world.answers.get(&question), None, "only the callee may answer");
    say(&mut world, &alice, Value::RpcAck(proto::RpcAck { request_id: id.clone() }), &id);
    world.advance_alive(Duration::from_secs(8), &[&alice, &bob]);
    assert_eq!(world.answers.get(&question), None, "a confirmed call has its whole time");
    world.take_commands();
    say(&mut world, &alice, response(&id, rpc_response::Value::Payload("hello".to_owned())), &id);
    assert_eq!(world.answers[&question], Ok(AdminResponse::Called("hello".to_owned())));
    assert_eq!(world.take_commands(), []);
}

#[test]
fn a_call_that_is_not_answered_ends_with_its_time_or_with_the_participant() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let unconfirmed = world.ask(call("alice"));
    called(&mut world);
    world.advance_alive(Duration::from_millis(6_999), &[&alice]);
    assert_eq!(world.answers.get(&unconfirmed), None);
    world.advance(Duration::from_millis(1));
    assert_eq!(code(world.answers.remove(&unconfirmed).unwrap()), ErrorCode::Timeout);

    let failing = world.ask(call("alice"));
    let id = called(&mut world);
    let error = proto::RpcError { code: 1400, message: "Method not supported at destination".to_owned(), data: String::new() };
    say(&mut world, &alice, response(&id, rpc_response::Value::Error(error)), &id);
    let error = world.answers.remove(&failing).unwrap().unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::BadRequest, "RpcError 1400: Method not supported at destination"));

    let orphan = world.ask(call("alice"));
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(code(world.answers.remove(&orphan).unwrap()), ErrorCode::Unavailable);
    assert_eq!(code(world.administer(call("alice"))), ErrorCode::ParticipantNotFound);
}

#[test]
fn a_participant_that_is_moved_takes_its_tracks_along_and_is_told_who_is_there() {
    let mut world = World::new();
    let there = "elsewhere";
    let alice = world.active("alice");
    let bob = world.active("bob");
    let carol = world.join_as(Grants { room: there.to_owned(), ..grants("carol") }, JoinParams::default());
    let (track, sid) = world.publish(&alice);
    for client in [&alice, &bob, &carol] {
        world.take(client.conn);
    }
    world.take_commands();
    world.tokens.clear();

    world.administer(move_to("alice", there)).unwrap();
    let commands = world.take_commands();
    assert!(matches!(commands[0], Command::Move { participant, .. } if participant == alice.id));
    assert!(matches!(&commands[1], Command::Subscribe { participant, track: id, .. } if *participant == carol.id && *id == track));
    assert_eq!(commands.len(), 2);
    let Some(Response::RoomMoved(moved)) = world.take(alice.conn).into_iter().next() else { panic!("not told first") };
    assert_eq!(moved.room.unwrap().name, there);
    assert_eq!(moved.participant.unwrap().tracks[0].sid, sid);
    assert_eq!(moved.other_participants.iter().map(|other| other.identity.as_str()).collect::<Vec<_>>(), ["carol"]);
    assert_eq!(
        world.tokens.iter().map(|(conn, grants)| (*conn, grants.room.as_str())).collect::<Vec<_>>(),
        [(alice.conn, there), (alice.conn, there)]
    );
    let left = updates(&world.take(bob.conn));
    assert_eq!(
        (left[0].identity.as_str(), left[0].state(), left[0].disconnect_reason()),
        ("alice", State::Disconnected, DisconnectReason::Migration)
    );
    let came = updates(&world.take(carol.conn));
    assert_eq!((came[0].identity.as_str(), came[0].state(), came[0].tracks[0].sid.as_str()), ("alice", State::Active, sid.as_str()));

    // The connection belongs to the new room from here on.
    world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid, muted: true }));
    assert_eq!(world.take_commands(), [Command::SetMuted { track, muted: true }]);
    assert_eq!(world.present(), ["bob"]);
    assert!(code(world.administer(move_to("alice", there))) == ErrorCode::ParticipantNotFound);
}

#[test]
fn who_can_not_be_moved_on_its_connection_is_led_to_the_other_room() {
    let mut world = World::new();
    let alice = world.active("alice");
    let old = world.join_as(grants("old"), protocol(15));
    world.tokens.clear();
    world.administer(move_to("old", "elsewhere")).unwrap();
    assert_eq!(world.tokens[0].1.room, "elsewhere");
    assert_eq!(leave(&world.take(old.conn)).unwrap().action(), Action::Reconnect);

    world.administer(move_to("alice", "elsewhere")).unwrap();
    world.take(alice.conn);
    world.media(Event::MoveRefused { participant: alice.id });
    assert_eq!(leave(&world.take(alice.conn)).unwrap().action(), Action::Reconnect);
    assert!(world.take_commands().contains(&Command::Leave { participant: alice.id }));
    assert_eq!(world.tokens.last().unwrap().1.room, "elsewhere");
}

#[test]
fn a_move_into_a_full_room_or_of_nobody_changes_nothing() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.administer(AdminRequest::CreateRoom(Box::new(proto::CreateRoomRequest { max_participants: 1, ..create("full") }))).unwrap();
    world.join_as(Grants { room: "full".to_owned(), ..grants("carol") }, JoinParams::default());
    world.take_commands();
    assert_eq!(code(world.administer(move_to("alice", "full"))), ErrorCode::RoomFull);
    assert_eq!(code(world.administer(move_to("alice", ROOM))), ErrorCode::BadRequest);
    assert_eq!(code(world.administer(move_to("nobody", "new"))), ErrorCode::ParticipantNotFound);
    let namesake = world.join_as(Grants { room: "other".to_owned(), ..grants("alice") }, JoinParams::default());
    world.take_commands();
    world.close(&alice);
    let rooms = world.signaling.census().rooms;
    assert_eq!(code(world.administer(move_to("alice", "new"))), ErrorCode::Unavailable);
    assert_eq!(code(world.administer(move_to("alice", "other"))), ErrorCode::Unavailable);
    assert_eq!(world.signaling.census().rooms, rooms, "no room was opened");
    assert!(!world.closed.contains_key(&namesake.conn));
    assert_eq!(world.present(), ["alice"]);
    assert_eq!(world.take_commands(), []);
}

#[test]
fn who_is_moved_does_not_take_the_rights_of_an_administrator_along() {
    let mut world = World::new();
    for params in [JoinParams::default(), protocol(15)] {
        world.join_as(Grants { room_admin: true, ..grants("alice") }, params);
        world.administer(move_to("alice", "elsewhere")).unwrap();
        assert!(!world.tokens.is_empty());
        assert!(world.tokens.drain(..).all(|(_, token)| token.room == "elsewhere" && !token.room_admin));
    }
}

#[test]
fn a_server_that_drains_sends_everybody_elsewhere_and_lets_nobody_in() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.signaling.drain(world.now, world.unix_now, &mut world.rng);
    world.drain_outputs();
    let goodbye = leave(&world.take(alice.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::ServerShutdown, Action::Reconnect));
    let conn = world.connect(grants("bob"), JoinParams::default());
    assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::Unavailable));
    assert_eq!(code(world.administer(AdminRequest::CreateRoom(Box::new(create("r"))))), ErrorCode::Unavailable);
}
