use livekit_protocol::data_packet::Value;
use prost::Message;
use sfu_api::{Delivery, RoomId, Speaker};

use super::*;

fn text(to: &[&str]) -> Vec<u8> {
    let user = proto::UserPacket { payload: b"hi".to_vec(), ..Default::default() };
    let destination_identities = to.iter().map(|name| (*name).to_owned()).collect();
    proto::DataPacket { value: Some(Value::User(user)), destination_identities, ..Default::default() }.encode_to_vec()
}

fn sent(world: &mut World) -> Vec<(Vec<ParticipantId>, proto::DataPacket)> {
    let send = |command| match command {
        Command::SendData { to, payload, .. } => Some((to, proto::DataPacket::decode(payload.as_slice()).unwrap())),
        _ => None,
    };
    world.take_commands().into_iter().filter_map(send).collect()
}

fn room_id(world: &World) -> RoomId {
    world
        .commands
        .iter()
        .find_map(|command| match command {
            Command::Join { room, .. } => Some(*room),
            _ => None,
        })
        .unwrap()
}

fn speakers(messages: &[Response]) -> Vec<(String, bool)> {
    let changed = |message: &Response| match message {
        Response::SpeakersChanged(changed) => Some(changed.speakers.clone()),
        _ => None,
    };
    messages.iter().filter_map(changed).flatten().map(|info| (info.sid, info.active)).collect()
}

#[test]
fn a_message_goes_to_all_others_or_to_those_it_names() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let spy = world.join_as(Grants { hidden: true, ..grants("spy") }, JoinParams::default());
    world.media(Event::Data { participant: alice.id, delivery: Delivery::Reliable, payload: text(&[]) });
    let mut everyone = vec![bob.id, spy.id];
    everyone.sort();
    let to_all = sent(&mut world);
    assert_eq!(to_all[0].0, everyone);
    assert_eq!(to_all[0].1.participant_identity, "alice");
    world.media(Event::Data { participant: alice.id, delivery: Delivery::Lossy, payload: text(&["bob", "alice", "nobody"]) });
    assert_eq!(sent(&mut world)[0].0, [bob.id]);
    #[expect(deprecated, reason = "older clients address by it")]
    let old = proto::UserPacket { destination_sids: vec![bob.sid.clone(), "PA_nobody".to_owned()], ..Default::default() };
    let twice = vec!["bob".to_owned(), "bob".to_owned()];
    let packet = proto::DataPacket { value: Some(Value::User(old)), destination_identities: twice, ..Default::default() };
    world.media(Event::Data { participant: alice.id, delivery: Delivery::Lossy, payload: packet.encode_to_vec() });
    assert_eq!(sent(&mut world)[0].0, [bob.id], "once, however often it is named");
    world.media(Event::Data { participant: alice.id, delivery: Delivery::Lossy, payload: text(&["nobody"]) });
    assert_eq!(sent(&mut world).len(), 0);
}

#[test]
fn who_may_not_send_data_is_not_heard_and_nonsense_is_counted() {
    let mut world = World::new();
    world.active("bob");
    let mute = world.join_as(Grants { can_publish_data: false, ..grants("mute") }, JoinParams::default());
    world.media(Event::Data { participant: mute.id, delivery: Delivery::Reliable, payload: text(&[]) });
    let alice = world.active("alice");
    world.media(Event::Data { participant: alice.id, delivery: Delivery::Reliable, payload: vec![0xff; 9] });
    assert_eq!(sent(&mut world).len(), 0);
    let counters = world.signaling.counters();
    assert_eq!((counters.data_refused, counters.data_malformed), (1, 1));
}

#[test]
fn everybody_hears_who_begins_and_who_ends_to_speak() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take(alice.conn);
    let room = room_id(&world);
    let speaker = Speaker { participant: bob.id, level: 0.7 };
    world.media(Event::Speakers { room, speakers: vec![speaker] });
    assert_eq!(speakers(&world.take(alice.conn)), [(bob.sid.clone(), true)]);
    assert_eq!(speakers(&world.take(bob.conn)), [(bob.sid.clone(), true)], "the speaker too");
    world.media(Event::Speakers { room, speakers: vec![speaker] });
    assert_eq!(speakers(&world.take(alice.conn)), []);
    let carol = world.join("carol");
    world.transport(&carol, TransportRole::Subscriber, TransportState::Connected);
    assert_eq!(speakers(&world.take(carol.conn)), [(bob.sid.clone(), true)], "a newcomer learns who speaks");
    world.media(Event::Speakers { room, speakers: vec![] });
    assert_eq!(speakers(&world.take(alice.conn)), [(bob.sid, false)]);
}

#[test]
fn a_hidden_speaker_is_not_shown() {
    let mut world = World::new();
    let alice = world.active("alice");
    let spy = world.join_as(Grants { hidden: true, ..grants("spy") }, JoinParams::default());
    let room = room_id(&world);
    world.media(Event::Speakers { room, speakers: vec![Speaker { participant: spy.id, level: 1.0 }] });
    assert_eq!(speakers(&world.take(alice.conn)), []);
}

#[test]
fn events_about_what_is_gone_are_counted_and_do_nothing() {
    let mut world = World::new();
    let nobody = ParticipantId(99);
    world.media(Event::Answer { participant: nobody, id: 1, sdp: String::new(), subscribed: Vec::new() });
    world.media(Event::Speakers { room: RoomId(99), speakers: vec![] });
    world.media(Event::Data { participant: nobody, delivery: Delivery::Lossy, payload: text(&[]) });
    assert_eq!(world.signaling.counters().stale_events, 3);
}

/// Numbered packets of a sender, with these numbers.
fn say(world: &mut World, from: &Client, numbers: std::ops::RangeInclusive<u32>, to: &[&str]) {
    for sequence in numbers {
        let packet = proto::DataPacket { sequence, ..proto::DataPacket::decode(text(to).as_slice()).unwrap() };
        world.media(Event::Data { participant: from.id, delivery: Delivery::Reliable, payload: packet.encode_to_vec() });
    }
}

fn heard(publisher: &Client, last_seq: u32) -> Request {
    let state = proto::DataChannelReceiveState { publisher_sid: publisher.sid.clone(), last_seq };
    Request::SyncState(proto::SyncState { datachannel_receive_states: vec![state], ..Default::default() })
}

#[test]
fn a_client_that_comes_back_gets_the_reliable_messages_that_it_missed() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    say(&mut world, &alice, 1..=3, &[]);
    world.close(&bob);
    say(&mut world, &alice, 4..=5, &["bob"]);
    say(&mut world, &alice, 6..=6, &["carol"]);
    world.active("carol");
    let back = world.resume(&bob);
    sent(&mut world);
    world.send(back.conn, heard(&alice, 2));
    let replayed: Vec<_> = sent(&mut world).into_iter().map(|(to, packet)| (to, packet.sequence, packet.participant_identity)).collect();
    assert_eq!(replayed, [3, 4, 5].map(|number| (vec![bob.id], number, "alice".to_owned())));
    assert_eq!(world.signaling.counters().data_replayed, 3);
}

#[test]
fn what_was_missed_is_sent_again_once_for_each_resume() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    say(&mut world, &alice, 1..=3, &[]);
    sent(&mut world);
    world.send(bob.conn, heard(&alice, 1));
    assert_eq!(sent(&mut world), [], "it was not away");
    let mut back = bob;
    for _ in 0..2 {
        back = world.resume(&back);
        sent(&mut world);
        world.send(back.conn, heard(&alice, 1));
        assert_eq!(sent(&mut world).len(), 2);
        world.send(back.conn, heard(&alice, 1));
        assert_eq!(sent(&mut world), []);
    }
}

#[test]
fn who_does_not_say_what_it_heard_or_came_later_gets_nothing_again() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    say(&mut world, &alice, 1..=3, &[]);
    world.advance(Duration::from_secs(1));
    let carol = world.active("carol");
    world.close(&bob);
    let (bob, carol) = (world.resume(&bob), world.resume(&carol));
    sent(&mut world);
    world.send(bob.conn, Request::SyncState(proto::SyncState::default()));
    world.send(carol.conn, heard(&alice, 0));
    assert_eq!(sent(&mut world), []);
}

#[test]
fn a_client_that_comes_back_is_told_what_was_heard_of_it_and_what_it_repeats_is_dropped() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    say(&mut world, &alice, 1..=3, &[]);
    world.close(&alice);
    let back = world.resume(&alice);
    let last = world.take(back.conn).into_iter().find_map(|message| match message {
        Response::Reconnect(reconnect) => Some(reconnect.last_message_seq),
        _ => None,
    });
    assert_eq!(last, Some(3));
    sent(&mut world);
    say(&mut world, &alice, 2..=5, &[]);
    assert_eq!(
        sent(&mut world).into_iter().map(|(to, packet)| (to, packet.sequence)).collect::<Vec<_>>(),
        [(vec![bob.id], 4), (vec![bob.id], 5)]
    );
}

#[test]
fn metrics_go_to_whoever_may_see_them_the_sender_too() {
    let mut world = World::new();
    let observer = world.join_as(Grants { can_subscribe_metrics: true, ..grants("observer") }, JoinParams::default());
    world.active("bob");
    let metrics = proto::DataPacket { value: Some(Value::Metrics(proto::MetricsBatch::default())), ..Default::default() };
    sent(&mut world);
    world.media(Event::Data { participant: observer.id, delivery: Delivery::Reliable, payload: metrics.encode_to_vec() });
    assert_eq!(sent(&mut world)[0].0, [observer.id]);
}
