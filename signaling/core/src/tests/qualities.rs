use livekit_protocol::{ConnectionQuality, StreamState};
use sfu_api::{Quality, QualityCause, QualityDirection};

use super::*;
use crate::limits::QUALITY_BEAT;

fn judged(world: &mut World, client: &Client, quality: Quality) {
    world.media(Event::ConnectionQuality {
        participant: client.id,
        quality,
        score: 4.0,
        direction: QualityDirection::Neither,
        cause: QualityCause::None,
    });
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
