//! Participants that are moved to another room.

use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};
use signaling_api::ErrorCode;

use super::administering::{code, create, move_to};
use super::*;

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
