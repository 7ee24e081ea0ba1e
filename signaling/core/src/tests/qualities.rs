use livekit_protocol::{ConnectionQuality, StreamState};
use sfu_api::{Quality, QualityCause, QualityDirection};

use super::*;
use crate::{Happening, limits::QUALITY_BEAT};

fn judged(world: &mut World, client: &Client, quality: Quality) {
    ails(world, client, quality, QualityDirection::Neither, QualityCause::None);
}

fn ails(world: &mut World, client: &Client, quality: Quality, direction: QualityDirection, cause: QualityCause) {
    world.media(Event::ConnectionQuality { participant: client.id, quality, score: 4.0, direction, cause });
}

/// What was noted of a client since the last call, as words.
fn noted(world: &mut World, client: &Client) -> Vec<(&'static str, &'static str, &'static str)> {
    let notes = std::mem::take(&mut world.notes);
    let words = |note: crate::Note| match note.what {
        Happening::Quality(judgement) if note.participant == client.id => Some(judgement.words()),
        _ => None,
    };
    notes.into_iter().filter_map(words).collect()
}

/// Sid and class, in order.
fn qualities(messages: &[Response]) -> Vec<(String, ConnectionQuality)> {
    let update = |message: &Response| match message {
        Response::ConnectionQuality(update) => Some(update.updates.clone()),
        _ => None,
    };
    messages.iter().filter_map(update).flatten().map(|info| (info.participant_sid.clone(), info.quality())).collect()
}

fn states(messages: &[Response]) -> Vec<(String, StreamState)> {
    let update = |message: &Response| match message {
        Response::StreamStateUpdate(update) => Some(update.stream_states.clone()),
        _ => None,
    };
    messages.iter().filter_map(update).flatten().map(|info| (info.track_sid.clone(), info.state())).collect()
}

/// Alice publishes, bob is subscribed, carol is not.
fn call(world: &mut World) -> (Client, Client, Client, TrackId, String) {
    let alice = world.active("alice");
    let bob = world.active("bob");
    let carol = world.join_as(grants("carol"), JoinParams { auto_subscribe: false, ..JoinParams::default() });
    let (track, sid) = world.publish(&alice);
    world.confirm(&bob, track);
    for client in [&alice, &bob, &carol] {
        world.take(client.conn);
    }
    (alice, bob, carol, track, sid)
}

#[test]
fn a_class_is_told_to_the_participant_and_its_subscribers() {
    let mut world = World::new();
    let (alice, bob, carol, ..) = call(&mut world);
    judged(&mut world, &alice, Quality::Good);
    world.advance(QUALITY_BEAT);
    let expected = [(alice.sid.clone(), ConnectionQuality::Good)];
    assert_eq!(qualities(&world.take(alice.conn)), expected);
    assert_eq!(qualities(&world.take(bob.conn)), expected);
    assert_eq!(qualities(&world.take(carol.conn)), []);
}

/// Each message is a system call and a wake-up, and of a large room's newcomers there may be hundreds a second.
#[test]
fn newcomers_of_a_large_room_are_told_in_few_messages() {
    let mut world = World::with(SignalingConfig { small_room: 2, ..SignalingConfig::default() });
    let (alice, _bob, _carol, track, _) = call(&mut world);
    judged(&mut world, &alice, Quality::Good);
    let speaker = sfu_api::Speaker { participant: alice.id, level: 0.5 };
    let room = world.signaling.rooms.by_name(ROOM).map(|room| room.id).unwrap();
    world.media(Event::Speakers { room, speakers: vec![speaker] });
    world.advance(Duration::from_secs(1));

    let dave = world.join("dave");
    world.take(dave.conn);
    world.confirm(&dave, track);
    world.transport(&dave, TransportRole::Subscriber, TransportState::Connected);
    judged(&mut world, &dave, Quality::Excellent);
    assert_eq!(world.take(dave.conn), [], "not at once");
    world.advance(Duration::from_secs(1));
    let messages = world.take(dave.conn);
    let mut told = qualities(&messages);
    told.sort();
    let mut expected = [(alice.sid.clone(), ConnectionQuality::Good), (dave.sid.clone(), ConnectionQuality::Excellent)];
    expected.sort();
    assert_eq!(told, expected);
    let speakers: Vec<_> = messages.iter().filter(|message| matches!(message, Response::SpeakersChanged(_))).collect();
    assert_eq!(speakers.len(), 1);

    judged(&mut world, &dave, Quality::Poor);
    world.advance(QUALITY_BEAT);
    assert_eq!(qualities(&world.take(dave.conn)), [(dave.sid.clone(), ConnectionQuality::Poor)], "bad news have their own beat");
}

#[test]
fn only_what_changed_and_stayed_so_is_told() {
    let mut world = World::new();
    let (alice, bob, ..) = call(&mut world);
    judged(&mut world, &alice, Quality::Excellent);
    world.advance(QUALITY_BEAT);
    world.take(bob.conn);
    judged(&mut world, &alice, Quality::Poor);
    judged(&mut world, &alice, Quality::Excellent);
    world.advance(QUALITY_BEAT * 3);
    assert_eq!(qualities(&world.take(bob.conn)), []);
}

#[test]
fn who_lost_its_line_is_lost_for_the_others_until_it_is_back() {
    let mut world = World::new();
    let (alice, bob, ..) = call(&mut world);
    judged(&mut world, &alice, Quality::Excellent);
    world.advance(QUALITY_BEAT);
    world.take(bob.conn);
    world.close(&alice);
    world.advance(QUALITY_BEAT);
    assert_eq!(qualities(&world.take(bob.conn)), [(alice.sid.clone(), ConnectionQuality::Lost)]);
    let back = world.resume(&alice);
    world.advance(QUALITY_BEAT);
    assert_eq!(qualities(&world.take(bob.conn)), [(alice.sid.clone(), ConnectionQuality::Excellent)]);
    assert_eq!(qualities(&world.take(back.conn)).last(), Some(&(alice.sid.clone(), ConnectionQuality::Excellent)));

    world.transport(&back, TransportRole::Publisher, TransportState::Disconnected);
    world.advance(QUALITY_BEAT);
    assert_eq!(qualities(&world.take(bob.conn)), [(alice.sid, ConnectionQuality::Lost)]);
}

#[test]
fn every_change_of_direction_or_cause_is_noted_and_of_class_is_told() {
    use {QualityCause as Cause, QualityDirection as Direction};
    let mut world = World::new();
    let (alice, bob, ..) = call(&mut world);
    for (quality, direction, cause, told) in [
        (Quality::Excellent, Direction::Neither, Cause::None, Some(ConnectionQuality::Excellent)),
        (Quality::Poor, Direction::Up, Cause::Loss, Some(ConnectionQuality::Poor)),
        (Quality::Poor, Direction::Down, Cause::Loss, None),
        (Quality::Poor, Direction::Down, Cause::Bandwidth, None),
        (Quality::Good, Direction::Both, Cause::Delay, Some(ConnectionQuality::Good)),
        (Quality::Good, Direction::Up, Cause::Jitter, None),
        (Quality::Lost, Direction::Up, Cause::Silence, Some(ConnectionQuality::Lost)),
        (Quality::Excellent, Direction::Neither, Cause::None, Some(ConnectionQuality::Excellent)),
    ] {
        ails(&mut world, &alice, quality, direction, cause);
        world.advance(QUALITY_BEAT);
        assert_eq!(noted(&mut world, &alice), [(quality.code(), direction.code(), cause.code())]);
        assert_eq!(world.signaling.quality_census(), [((quality.code(), direction.code(), cause.code()), 1)].into());
        let expected: Vec<_> = told.map(|class| (alice.sid.clone(), class)).into_iter().collect();
        assert_eq!((qualities(&world.take(alice.conn)), qualities(&world.take(bob.conn))), (expected.clone(), expected));
    }
    ails(&mut world, &alice, Quality::Excellent, Direction::Neither, Cause::None);
    world.advance(QUALITY_BEAT * 2);
    assert_eq!(noted(&mut world, &alice), []);
}

#[test]
fn who_loses_its_transport_learns_so_before_it_is_asked_to_resume_and_so_do_others() {
    let mut world = World::new();
    let (alice, bob, ..) = call(&mut world);
    // Before the node has judged anything, too.
    for is_judged in [false, true] {
        if is_judged {
            judged(&mut world, &alice, Quality::Excellent);
            world.advance(QUALITY_BEAT);
        }
        for client in [&alice, &bob] {
            world.take(client.conn);
        }
        world.transport(&alice, TransportRole::Subscriber, TransportState::Disconnected);
        world.advance(QUALITY_BEAT);
        let expected = [(alice.sid.clone(), ConnectionQuality::Lost)];
        assert_eq!((qualities(&world.take(alice.conn)), qualities(&world.take(bob.conn))), (expected.clone().into(), expected.into()));
        assert_eq!(noted(&mut world, &alice).last(), Some(&("lost", "both", "transport")));
        world.transport(&alice, TransportRole::Subscriber, TransportState::Connected);
        world.advance(QUALITY_BEAT);
    }
    assert_eq!(noted(&mut world, &alice), [("excellent", "neither", "none")]);
    world.close(&alice);
    world.advance(QUALITY_BEAT);
    assert_eq!(noted(&mut world, &alice), [("lost", "both", "signal")]);
}

#[test]
fn who_is_still_on_its_way_is_not_lost() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.close(&alice);
    world.advance(QUALITY_BEAT * 2);
    assert_eq!(noted(&mut world, &alice), []);
    let back = world.resume(&alice);
    assert_eq!(qualities(&world.take(back.conn)), []);
}

#[test]
fn a_line_that_is_back_at_once_is_no_news() {
    let mut world = World::new();
    let (alice, bob, ..) = call(&mut world);
    judged(&mut world, &alice, Quality::Excellent);
    world.advance(QUALITY_BEAT);
    world.take(bob.conn);
    world.close(&alice);
    world.advance(QUALITY_BEAT / 2);
    world.resume(&alice);
    world.advance(QUALITY_BEAT * 2);
    assert_eq!(qualities(&world.take(bob.conn)), []);
}

#[test]
fn nor_is_it_where_others_are_told_of_meanwhile() {
    let mut world = World::with(SignalingConfig { small_room: 2, ..SignalingConfig::default() });
    let (alice, bob, ..) = call(&mut world);
    judged(&mut world, &alice, Quality::Excellent);
    world.advance(QUALITY_BEAT * 10);
    world.take(bob.conn);
    let dave = world.join("dave");
    world.transport(&dave, TransportRole::Subscriber, TransportState::Connected);
    world.advance(QUALITY_BEAT * 3 / 4);
    world.close(&alice);
    world.advance(QUALITY_BEAT / 2);
    let back = world.resume(&alice);
    world.advance(QUALITY_BEAT * 2);
    assert_eq!(qualities(&world.take(bob.conn)).iter().filter(|(_, class)| *class == ConnectionQuality::Lost).count(), 0);

    world.close(&back);
    world.advance(QUALITY_BEAT);
    assert_eq!(qualities(&world.take(bob.conn)), [(alice.sid, ConnectionQuality::Lost)], "and in time if it stays so");
}

#[test]
fn a_new_subscriber_learns_the_class_once() {
    let mut world = World::new();
    let (alice, _, carol, track, sid) = call(&mut world);
    judged(&mut world, &alice, Quality::Poor);
    world.advance(QUALITY_BEAT);
    world.take(carol.conn);
    world.send(
        carol.conn,
        Request::Subscription(proto::UpdateSubscription { track_sids: vec![sid], subscribe: true, ..Default::default() }),
    );
    world.confirm(&carol, track);
    assert_eq!(qualities(&world.take(carol.conn)), [(alice.sid, ConnectionQuality::Poor)]);
}

#[test]
fn older_clients_get_what_they_understand() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (track, _) = world.publish(&alice);
    let clients = [4, 10, 11].map(|version| world.join_as(grants(&format!("v{version}")), protocol(version)));
    for client in &clients {
        world.confirm(client, track);
    }
    judged(&mut world, &alice, Quality::Excellent);
    judged(&mut world, &alice, Quality::Lost);
    world.advance(QUALITY_BEAT);
    let told = clients.map(|client| qualities(&world.take(client.conn)).into_iter().map(|(_, class)| class).collect::<Vec<_>>());
    assert_eq!(told, [vec![], vec![ConnectionQuality::Poor], vec![ConnectionQuality::Lost]]);
}

#[test]
fn a_paused_stream_is_told_to_its_subscriber_and_again_when_it_comes_back() {
    let mut world = World::new();
    let (_, bob, _, track, sid) = call(&mut world);
    let state = |is_paused| Event::StreamState { participant: bob.id, track, is_paused };
    world.media(state(true));
    assert_eq!(states(&world.take(bob.conn)), [(sid.clone(), StreamState::Paused)]);
    world.close(&bob);
    world.media(state(false));
    let back = world.resume(&bob);
    assert_eq!(states(&world.take(back.conn)), [(sid, StreamState::Active)]);
}

#[test]
fn the_state_of_a_subscription_that_is_over_is_nobodys() {
    let mut world = World::new();
    let (alice, bob, carol, track, _) = call(&mut world);
    world.media(Event::StreamState { participant: carol.id, track, is_paused: true });
    world.media(Event::TrackEnded { participant: alice.id, track });
    world.media(Event::StreamState { participant: bob.id, track, is_paused: true });
    assert_eq!((states(&world.take(bob.conn)), states(&world.take(carol.conn))), (vec![], vec![]));
}
