//! Rooms: created, changed, listed, deleted, drained.

use livekit_protocol::{DisconnectReason, leave_request::Action};
use signaling_api::{ErrorCode, RoomConfig};

use super::administering::{code, create, names, room};
use super::*;

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
