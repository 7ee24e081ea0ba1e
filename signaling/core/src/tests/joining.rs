use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};
use signaling_api::{EndReason, ErrorCode, ParticipantKind, RoomConfig};

use super::*;

fn join_response(messages: &[Response]) -> proto::JoinResponse {
    messages
        .iter()
        .find_map(|message| match message {
            Response::Join(join) => Some(join.clone()),
            _ => None,
        })
        .unwrap()
}

#[test]
fn a_newcomer_is_told_the_room_itself_and_the_others_first_of_all() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, track) = world.publish(&alice);
    let bob = world.join("bob");
    let messages = world.take(bob.conn);
    assert!(matches!(messages[0], Response::Join(_)));
    let join = join_response(&messages);
    let room = join.room.unwrap();
    assert_eq!((room.name.as_str(), room.num_participants, room.creation_time_ms), (ROOM, 2, 1_700_000_000_123));
    assert!(room.sid.starts_with("RM_"));
    let codecs: Vec<_> = join.enabled_publish_codecs.iter().map(|codec| codec.mime.as_str()).collect();
    let video = ["video/VP8", "video/H264", "video/VP9", "video/AV1", "video/H265", "video/rtx"];
    assert_eq!(codecs, [["audio/opus"].as_slice(), &video].concat(), "what the media node has");
    assert_eq!(room.enabled_codecs, join.enabled_publish_codecs);
    let own = join.participant.unwrap();
    assert_eq!((own.identity.as_str(), own.name.as_str(), own.joined_at_ms), ("bob", "BOB", 1_700_000_000_123));
    assert_eq!(join.other_participants.len(), 1);
    assert_eq!(join.other_participants[0].tracks[0].sid, track);
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert!(join.subscriber_primary && !join.fast_publish && !join.sif_trailer.is_empty());
    assert_eq!(join.server_info.unwrap().protocol, crate::PROTOCOL_VERSION);
}

#[test]
fn clients_that_ask_for_a_release_of_livekit_find_one_that_has_rpc() {
    let mut world = World::new();
    let alice = world.join("alice");
    let join = join_response(&world.take(alice.conn));
    let info = join.server_info.unwrap();
    assert_eq!((join.server_version.as_str(), info.version.as_str()), (crate::config::LIVEKIT_VERSION, crate::config::LIVEKIT_VERSION));
    let numbers: Vec<u32> = info.version.split('.').map(|number| number.parse().unwrap()).collect();
    assert!(numbers >= vec![1, 8, 0], "below that livekit-client answers every RPC with \"unsupported server\"");
    assert!(info.debug_info.starts_with("sluice "));
}

#[test]
fn the_others_see_a_newcomer_join_and_become_active() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.join("bob");
    let joined = updates(&world.take(alice.conn));
    assert_eq!(joined.iter().map(|info| (info.sid.clone(), info.state())).collect::<Vec<_>>(), [(bob.sid.clone(), State::Joined)]);
    world.transport(&bob, TransportRole::Subscriber, TransportState::Connected);
    let active = updates(&world.take(alice.conn));
    assert_eq!(active[0].state(), State::Active);
    assert!(active[0].version > joined[0].version);
}

/// So many that the room counts as a large one.
fn large_room() -> (World, Vec<Client>) {
    let mut world = World::with(SignalingConfig { small_room: 3, ..SignalingConfig::default() });
    let crowd: Vec<_> = (0..5).map(|number| world.active(&format!("crowd{number}"))).collect();
    world.advance(Duration::from_secs(1));
    crowd.iter().for_each(|client| drop(world.take(client.conn)));
    (world, crowd)
}

#[test]
fn a_large_room_is_told_of_many_who_come_and_go_in_one_message() {
    let (mut world, crowd) = large_room();
    let joined: Vec<_> = (0..10).map(|number| world.active(&format!("new{number}"))).collect();
    world.send(crowd[1].conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(updates(&world.take(crowd[0].conn)), [], "not at once");
    world.advance(Duration::from_millis(60));
    let messages = world.take(crowd[0].conn);
    let mut told: Vec<_> = updates(&messages).into_iter().map(|info| (info.state(), info.sid)).collect();
    assert_eq!(told.remove(0), (State::Disconnected, crowd[1].sid.clone()));
    let mut newcomers: Vec<_> = joined.iter().map(|client| (State::Active, client.sid.clone())).collect();
    told.sort();
    newcomers.sort();
    assert_eq!(told, newcomers);
    let of_these = messages.iter().filter(|message| matches!(message, Response::Update(_))).count();
    assert_eq!(of_these, 2, "one of who left, one of who came");
}

#[test]
fn a_large_room_knows_who_publishes_or_speaks_before_it_hears() {
    let (mut world, crowd) = large_room();
    let [publisher, sender] = ["publisher", "sender"].map(|name| world.active(name));
    world.publish(&publisher);
    let told = updates(&world.take(crowd[0].conn));
    assert_eq!(told.iter().map(|info| (&info.sid, info.tracks.len())).collect::<Vec<_>>(), [(&publisher.sid, 1)]);
    world.take_commands();
    let value = proto::data_packet::Value::User(proto::UserPacket::default());
    let payload = prost::Message::encode_to_vec(&proto::DataPacket { value: Some(value), ..Default::default() });
    world.media(Event::Data { participant: sender.id, delivery: sfu_api::Delivery::Reliable, payload });
    assert_eq!(updates(&world.take(crowd[0].conn)).iter().map(|info| &info.sid).collect::<Vec<_>>(), [&sender.sid]);
    assert!(matches!(world.take_commands()[..], [Command::SendData { .. }]));
}

#[test]
fn who_comes_back_to_a_large_room_is_not_taken_for_gone() {
    let (mut world, crowd) = large_room();
    world.send(crowd[1].conn, Request::Leave(proto::LeaveRequest::default()));
    let again = world.join("crowd1");
    let late = world.join("late");
    world.advance(Duration::from_secs(2));
    let told: Vec<_> = updates(&world.take(crowd[0].conn)).into_iter().map(|info| (info.sid.clone(), info.state())).collect();
    assert_eq!(told.first(), Some(&(crowd[1].sid.clone(), State::Disconnected)));
    assert!(told.iter().any(|(sid, _)| *sid == again.sid));
    let told = updates(&world.take(late.conn));
    assert!(told.iter().all(|info| info.state() != State::Disconnected), "it never knew the one who left");
}

#[test]
fn the_media_node_learns_how_long_to_delay_the_video_of_a_room() {
    for ((min, max), expected) in
        [((200, 0), Some((200, 40_950))), ((200, 1_000), Some((200, 1_000))), ((300, 100), Some((300, 300))), ((0, 0), None)]
    {
        let mut world = World::new();
        let room_config = Box::new(RoomConfig { min_playout_delay: min, max_playout_delay: max, ..RoomConfig::default() });
        world.join_as(Grants { room_config, ..grants("alice") }, JoinParams::default());
        let told = world.take_commands().into_iter().find_map(|command| match command {
            Command::SetPlayoutDelay { delay, .. } => delay.map(|delay| (delay.min_ms, delay.max_ms)),
            _ => None,
        });
        assert_eq!(told, expected);
    }
}

#[test]
fn the_media_node_learns_of_a_newcomer_before_any_subscription() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (track, _) = world.publish(&alice);
    world.take_commands();
    let bob = world.join("bob");
    let commands = world.take_commands();
    assert!(matches!(commands[0], Command::Join { participant, can_subscribe: true, .. } if participant == bob.id));
    assert!(matches!(commands[1], Command::Subscribe { participant, track: to, .. } if participant == bob.id && to == track));
}

#[test]
fn who_may_not_subscribe_publishes_first() {
    let mut world = World::new();
    let sender = world.join_as(Grants { can_subscribe: false, ..grants("sender") }, JoinParams::default());
    assert!(!join_response(world.inbox(sender.conn)).subscriber_primary);
    world.transport(&sender, TransportRole::Publisher, TransportState::Connected);
    assert_eq!(world.signaling.participants(ROOM).unwrap()[0].state(), State::Active);
}

#[test]
fn a_token_without_the_right_to_join_is_refused_with_a_reason() {
    for bad in [
        Grants { room_join: false, ..grants("a") },
        Grants { room: String::new(), ..grants("a") },
        Grants { identity: String::new(), ..grants("a") },
    ] {
        let mut world = World::new();
        let conn = world.connect(bad, JoinParams::default());
        let leave = leave(world.inbox(conn)).unwrap();
        assert_eq!((leave.reason(), leave.action()), (DisconnectReason::JoinFailure, Action::Disconnect));
        assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::TokenGrant));
        assert_eq!(world.signaling.census().rooms, 0);
    }
}

#[test]
fn names_beyond_the_limits_are_refused() {
    let mut world = World::new();
    let long = "x".repeat(100_000);
    for bad in [
        Grants { identity: long.clone(), ..grants("a") },
        Grants { name: long.clone(), ..grants("a") },
        Grants { metadata: long.clone(), ..grants("a") },
        Grants { attributes: [(long.clone(), String::new())].into(), ..grants("a") },
    ] {
        let conn = world.connect(bad, JoinParams::default());
        assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::BadRequest));
    }
}

#[test]
fn a_full_room_lets_in_nobody_but_agents_and_who_is_in_already() {
    let mut world = World::with(SignalingConfig { max_participants: 2, ..Default::default() });
    world.join("alice");
    world.join("bob");
    let conn = world.connect(grants("carol"), JoinParams::default());
    assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::RoomFull));
    assert_eq!(world.signaling.check_join(&grants("carol"), &JoinParams::default()), Err(ErrorCode::RoomFull));
    world.join_as(Grants { kind: ParticipantKind::Agent, ..grants("helper") }, JoinParams::default());
    world.join("alice");
    assert_eq!(world.present(), ["alice", "bob", "helper"]);
}

#[test]
fn a_token_may_ask_for_a_smaller_room_but_not_for_a_larger_one() {
    let config = |asked| RoomConfig { max_participants: asked, ..Default::default() };
    let server = SignalingConfig { max_participants: 5, ..Default::default() };
    for (asked, expected) in [(0, 5), (3, 3), (9, 5)] {
        assert_eq!(crate::settings::RoomSettings::new(&server, &config(asked)).max_participants, expected);
    }
}

#[test]
fn a_server_that_opens_no_rooms_by_itself_needs_the_right_to_create_one() {
    let mut world = World::with(SignalingConfig { auto_create_rooms: false, ..Default::default() });
    let conn = world.connect(grants("alice"), JoinParams::default());
    assert_eq!(world.closed[&conn], CloseReason::Refused(ErrorCode::RoomNotFound));
    world.join_as(Grants { room_create: true, ..grants("host") }, JoinParams::default());
    world.join("alice");
    assert_eq!(world.present(), ["alice", "host"]);
}

#[test]
fn a_server_at_its_limits_opens_no_room_and_lets_nobody_in() {
    let mut world = World::with(SignalingConfig { max_rooms: 1, max_total_participants: 2, ..Default::default() });
    world.join("alice");
    let elsewhere = world.connect(Grants { room: "other".to_owned(), ..grants("bob") }, JoinParams::default());
    assert_eq!(world.closed[&elsewhere], CloseReason::Refused(ErrorCode::RoomLimit));
    world.join("bob");
    let third = world.connect(grants("carol"), JoinParams::default());
    assert_eq!(world.closed[&third], CloseReason::Refused(ErrorCode::ParticipantLimit));
}

#[test]
fn the_same_identity_again_replaces_the_earlier_session() {
    let mut world = World::new();
    let watcher = world.active("watcher");
    let old_watcher = world.join_as(grants("old"), protocol(11));
    let first = world.active("alice");
    world.take(watcher.conn);
    world.take(old_watcher.conn);
    let second = world.join("alice");

    let goodbye = leave(&world.take(first.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::DuplicateIdentity, Action::Disconnect));
    assert_eq!(world.closed[&first.conn], CloseReason::Ended(EndReason::DuplicateIdentity));
    assert_ne!(first.sid, second.sid);
    assert_eq!(world.present(), ["alice", "old", "watcher"]);
    // A newer client takes the new sid as the replacement; an older one is told of the departure too.
    let seen = updates(&world.take(watcher.conn));
    assert_eq!(seen.iter().map(|info| (&info.sid, info.state())).collect::<Vec<_>>(), [(&second.sid, State::Joined)]);
    let seen = updates(&world.take(old_watcher.conn));
    assert_eq!(
        seen.iter().map(|info| (&info.sid, info.state())).collect::<Vec<_>>(),
        [(&first.sid, State::Disconnected), (&second.sid, State::Joined)]
    );
}

#[test]
fn a_client_that_leaves_is_gone_at_once_for_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take(alice.conn);
    world.take_commands();
    world.send(bob.conn, Request::Leave(proto::LeaveRequest::default()));
    let seen = updates(&world.take(alice.conn));
    assert_eq!(
        (seen[0].sid.as_str(), seen[0].state(), seen[0].disconnect_reason()),
        (bob.sid.as_str(), State::Disconnected, DisconnectReason::ClientInitiated)
    );
    assert!(world.take_commands().contains(&Command::Leave { participant: bob.id }));
    assert_eq!(world.closed[&bob.conn], CloseReason::Ended(EndReason::ClientLeft));
    assert_eq!(world.present(), ["alice"]);
}

#[test]
fn hidden_participants_are_seen_by_nobody_and_see_everybody() {
    let mut world = World::new();
    let alice = world.active("alice");
    let spy = world.join_as(Grants { hidden: true, ..grants("spy") }, JoinParams::default());
    assert_eq!(join_response(world.inbox(spy.conn)).other_participants.len(), 1);
    world.transport(&spy, TransportRole::Subscriber, TransportState::Connected);
    world.advance(Duration::from_secs(1));
    world.send(spy.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(updates(&world.take(alice.conn)), []);
    let bob = world.join("bob");
    assert_eq!(join_response(world.inbox(bob.conn)).other_participants.len(), 1);
    assert_eq!(join_response(world.inbox(bob.conn)).room.unwrap().num_participants, 2);
}

#[test]
fn a_newcomer_is_told_of_everybody_as_they_are_now() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let seen = |world: &mut World, name: &str| {
        let newcomer = world.join(name);
        let join = join_response(world.inbox(newcomer.conn));
        let mut others: Vec<_> = join.other_participants.iter().map(|info| (info.identity.clone(), info.tracks.len())).collect();
        others.sort();
        let room = join.room.unwrap();
        world.send(newcomer.conn, Request::Leave(proto::LeaveRequest::default()));
        (others, room.num_participants, room.num_publishers)
    };
    let people = |tracks: [usize; 2]| vec![("alice".to_owned(), tracks[0]), ("bob".to_owned(), tracks[1])];
    assert_eq!(seen(&mut world, "one"), (people([0, 0]), 3, 0));
    let (_, sid) = world.publish(&bob);
    assert_eq!(seen(&mut world, "two"), (people([0, 1]), 3, 1));
    world.publish(&alice);
    world
        .administer(AdminRequest::UpdateParticipant(proto::UpdateParticipantRequest {
            room: ROOM.to_owned(),
            identity: "bob".to_owned(),
            permission: Some(proto::ParticipantPermission { can_subscribe: true, ..Default::default() }),
            ..Default::default()
        }))
        .unwrap();
    assert_eq!(seen(&mut world, "three"), (people([1, 0]), 3, 1), "the track {sid} has ended, and bob publishes no more");
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(seen(&mut world, "four"), (vec![("bob".to_owned(), 0)], 2, 0));
}

#[test]
fn who_never_connects_its_transport_is_removed_and_told_why() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.advance_alive(Duration::from_secs(59), &[&alice]);
    assert_eq!(world.present(), ["alice"]);
    world.advance_alive(Duration::from_secs(2), &[&alice]);
    assert_eq!(leave(world.inbox(alice.conn)).unwrap().reason(), DisconnectReason::JoinFailure);
    assert_eq!(world.signaling.participants(ROOM).map(|all| all.len()), Some(0));
}

#[test]
fn a_room_stays_for_the_departure_time_and_then_closes() {
    let mut world = World::new();
    let alice = world.active("alice");
    let sid = world.signaling.rooms()[0].sid.clone();
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    world.advance(Duration::from_secs(19));
    assert_eq!(world.signaling.rooms()[0].sid, sid);
    let alice = world.active("alice");
    assert_eq!(world.signaling.rooms()[0].sid, sid, "a room that is joined again in time is the same room");
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    world.advance(Duration::from_secs(21));
    assert_eq!(world.signaling.census(), crate::Census::default());
    assert_eq!(world.signaling.next_timeout(), None, "nothing is left behind");
}

#[test]
fn agents_do_not_keep_a_room_open() {
    let mut world = World::new();
    let agent = world.join_as(Grants { kind: ParticipantKind::Agent, ..grants("helper") }, JoinParams::default());
    world.transport(&agent, TransportRole::Subscriber, TransportState::Connected);
    let alice = world.active("alice");
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    world.advance_alive(Duration::from_secs(21), &[&agent]);
    assert_eq!(leave(world.inbox(agent.conn)).unwrap().reason(), DisconnectReason::RoomClosed);
    assert_eq!(world.signaling.census().rooms, 0);
}

#[test]
fn everybody_learns_the_new_number_of_participants_once() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.advance(Duration::from_secs(1));
    world.take(alice.conn);
    for name in ["b", "c", "d"] {
        world.active(name);
    }
    world.advance(Duration::from_secs(1));
    let rooms: Vec<_> = world
        .take(alice.conn)
        .into_iter()
        .filter_map(|message| match message {
            Response::RoomUpdate(update) => update.room.map(|room| room.num_participants),
            _ => None,
        })
        .collect();
    assert_eq!(rooms, [4]);
}

#[test]
fn every_change_of_a_room_has_a_higher_number() {
    let mut world = World::new();
    let alice = world.active("alice");
    let mut last = world.signaling.room_sequence(ROOM).unwrap();
    let mut expect_growth = |world: &World| {
        let number = world.signaling.room_sequence(ROOM).unwrap();
        assert!(number > last);
        last = number;
    };
    let (_, sid) = world.publish(&alice);
    expect_growth(&world);
    world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid, muted: true }));
    expect_growth(&world);
    let bob = world.active("bob");
    expect_growth(&world);
    world.send(bob.conn, Request::Leave(proto::LeaveRequest::default()));
    expect_growth(&world);
}
