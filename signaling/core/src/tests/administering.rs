use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};
use signaling_api::ErrorCode;

use super::*;
use crate::AdminRequest;

fn administer(world: &mut World, request: AdminRequest) -> Result<(), ErrorCode> {
    let result = world.signaling.administer(request, world.now, world.unix_now, &mut world.rng);
    world.drain_outputs();
    result
}

fn set_permission(identity: &str, grants: &Grants) -> AdminRequest {
    AdminRequest::SetPermission { room: ROOM.to_owned(), identity: identity.to_owned(), permission: crate::permissions::to_proto(grants) }
}

#[test]
fn taking_the_right_to_publish_ends_the_tracks_for_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.take(bob.conn);
    world.take_commands();
    administer(&mut world, set_permission("alice", &Grants { can_publish: false, ..grants("alice") })).unwrap();
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
    administer(&mut world, set_permission("bob", &Grants { can_subscribe: false, ..grants("bob") })).unwrap();
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    administer(&mut world, set_permission("bob", &grants("bob"))).unwrap();
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
    administer(&mut world, set_permission("alice", &Grants { hidden: true, ..grants("alice") })).unwrap();
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen.iter().map(|info| info.state()).collect::<Vec<_>>(), [State::Disconnected]);
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    assert_eq!(updates(&world.take(alice.conn)).last().unwrap().state(), State::Active, "to itself it is as it was");
    administer(&mut world, set_permission("alice", &grants("alice"))).unwrap();
    assert_eq!(updates(&world.take(bob.conn))[0].tracks.len(), 1);
    assert!(matches!(world.take_commands().as_slice(), [Command::Subscribe { .. }]));
}

#[test]
fn a_track_muted_by_the_server_is_told_to_its_owner_even_after_a_resume() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (track, sid) = world.publish(&alice);
    world.take_commands();
    let mute = |muted| AdminRequest::MuteTrack { room: ROOM.to_owned(), identity: "alice".to_owned(), track_sid: sid.clone(), muted };
    administer(&mut world, mute(true)).unwrap();
    assert!(world.take(alice.conn).contains(&Response::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: true })));
    assert_eq!(world.take_commands(), [Command::SetMuted { track, muted: true }]);
    world.close(&alice);
    administer(&mut world, mute(false)).unwrap();
    let back = world.resume(&alice);
    assert!(world.take(back.conn).contains(&Response::Mute(proto::MuteTrackRequest { sid, muted: false })));
}

#[test]
fn a_participant_is_sent_away_and_told_so() {
    let mut world = World::new();
    let alice = world.active("alice");
    administer(&mut world, AdminRequest::RemoveParticipant { room: ROOM.to_owned(), identity: "alice".to_owned() }).unwrap();
    let goodbye = leave(&world.take(alice.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::ParticipantRemoved, Action::Disconnect));
}

#[test]
fn a_deleted_room_is_gone_with_everybody_in_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    administer(&mut world, AdminRequest::DeleteRoom { room: ROOM.to_owned() }).unwrap();
    assert_eq!(leave(&world.take(alice.conn)).unwrap().reason(), DisconnectReason::RoomDeleted);
    assert_eq!(world.signaling.census(), crate::Census::default());
    assert_eq!(world.signaling.next_timeout(), None);
}

#[test]
fn new_metadata_of_a_room_reaches_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    administer(&mut world, AdminRequest::SetRoomMetadata { room: ROOM.to_owned(), metadata: "topic".to_owned() }).unwrap();
    assert!(world.take(alice.conn).iter().any(
        |message| matches!(message, Response::RoomUpdate(update) if update.room.as_ref().is_some_and(|room| room.metadata == "topic"))
    ));
    let long = "x".repeat(100_000);
    let refused = administer(&mut world, AdminRequest::SetRoomMetadata { room: ROOM.to_owned(), metadata: long });
    assert_eq!(refused, Err(ErrorCode::BadRequest));
}

#[test]
fn what_is_not_there_can_not_be_administered() {
    let mut world = World::new();
    let remove = || AdminRequest::RemoveParticipant { room: ROOM.to_owned(), identity: "nobody".to_owned() };
    assert_eq!(administer(&mut world, remove()), Err(ErrorCode::RoomNotFound));
    world.join("alice");
    assert_eq!(administer(&mut world, remove()), Err(ErrorCode::ParticipantNotFound));
    let mute = AdminRequest::MuteTrack { room: ROOM.to_owned(), identity: "alice".to_owned(), track_sid: "TR_x".to_owned(), muted: true };
    assert_eq!(administer(&mut world, mute), Err(ErrorCode::TrackNotFound));
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
}
