//! Clients with one peer connection.

use super::*;
use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};
use sfu_api::PeerMode;

fn single(messages: Vec<Request>) -> JoinParams {
    JoinParams { mode: PeerMode::Single, messages, ..JoinParams::default() }
}

fn offer(id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".to_owned(), sdp: format!("offer {id}"), id, ..Default::default() }
}

#[test]
fn the_media_node_is_told_and_no_second_transport_is_waited_for() {
    let mut world = World::new();
    let alice = world.join_as(grants("alice"), single(Vec::new()));
    assert!(matches!(world.take_commands()[0], Command::Join { mode: PeerMode::Single, .. }));
    let messages = world.take(alice.conn);
    let Some(Response::Join(join)) = messages.first() else { panic!("not welcome") };
    assert!(!join.subscriber_primary && join.fast_publish);
    world.transport(&alice, TransportRole::Publisher, TransportState::Connected);
    let info = world.signaling.participants(ROOM).unwrap().remove(0);
    assert_eq!((info.state(), info.is_publisher), (State::Active, false), "it has not published anything");
    let (track, _) = world.add_track(&alice, camera("cam"));
    world.ready(&alice, track);
    assert!(world.signaling.participants(ROOM).unwrap()[0].is_publisher);
}

#[test]
fn who_may_not_publish_has_nothing_to_publish_fast() {
    let mut world = World::new();
    let viewer = world.join_as(Grants { can_publish: false, ..grants("viewer") }, single(Vec::new()));
    assert!(matches!(world.inbox(viewer.conn).first(), Some(Response::Join(join)) if !join.fast_publish));
}

#[test]
fn tracks_and_offer_that_come_with_the_join_are_handled_behind_the_subscriptions() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (track, _) = world.publish(&alice);
    world.take_commands();
    let bob = world.join_as(grants("bob"), single(vec![Request::AddTrack(camera("cam")), Request::Offer(offer(1))]));
    let commands = world.take_commands();
    assert!(matches!(&commands[0], Command::Join { participant, .. } if *participant == bob.id));
    assert!(matches!(&commands[1], Command::Subscribe { participant, track: to, .. } if *participant == bob.id && *to == track));
    assert!(matches!(&commands[2], Command::Publish { participant, request, .. } if *participant == bob.id && request.cid == "cam"));
    assert_eq!(commands[3], Command::Offer { participant: bob.id, id: 1, sdp: "offer 1".to_owned() });
    let messages = world.take(bob.conn);
    assert!(matches!(messages[..], [Response::Join(_), Response::TrackPublished(_)]), "{messages:?}");
}

#[test]
fn an_answer_names_the_track_on_each_m_line() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (track, sid) = world.publish(&alice);
    let bob = world.join_as(grants("bob"), single(Vec::new()));
    let answer = Event::Answer { participant: bob.id, id: 4, sdp: "a".to_owned(), subscribed: vec![("7".to_owned(), track)] };
    world.take(bob.conn);
    world.media(answer.clone());
    let expected = |message: &Response| matches!(message, Response::Answer(answer) if answer.id == 4 && answer.mid_to_track_id == HashMap::from([("7".to_owned(), sid.clone())]));
    assert!(world.take(bob.conn).iter().any(expected));
    world.close(&bob);
    world.media(answer);
    let back = world.resume(&bob);
    assert!(world.take(back.conn).iter().any(expected), "the same if it waited for the client");
}

#[test]
fn the_client_is_asked_for_m_lines() {
    let mut world = World::new();
    let alice = world.join_as(grants("alice"), single(Vec::new()));
    world.take(alice.conn);
    world.media(Event::MediaSections { participant: alice.id, audio: 2, video: 1 });
    let asked = proto::MediaSectionsRequirement { num_audios: 2, num_videos: 1 };
    assert_eq!(world.take(alice.conn), [Response::MediaSectionsRequirement(asked)]);
    world.close(&alice);
    world.media(Event::MediaSections { participant: alice.id, audio: 0, video: 0 });
}

#[test]
fn a_resume_keeps_the_one_connection_whatever_it_says() {
    let mut world = World::new();
    let alice = world.join_as(grants("alice"), single(Vec::new()));
    world.transport(&alice, TransportRole::Publisher, TransportState::Connected);
    world.close(&alice);
    let back = world.resume(&alice);
    assert!(world.take(back.conn).iter().any(|message| matches!(message, Response::Reconnect(_))));
    world.transport(&alice, TransportRole::Publisher, TransportState::Disconnected);
    world.advance_alive(Duration::from_secs(2), &[&back]);
    let asked = leave(&world.take(back.conn)).unwrap();
    assert_eq!((asked.action(), asked.reason()), (Action::Resume, DisconnectReason::ConnectionTimeout));
}

#[test]
fn what_comes_with_a_resume_is_done_behind_the_snapshot() {
    let mut world = World::new();
    let alice = world.join_as(grants("alice"), single(Vec::new()));
    world.close(&alice);
    world.take_commands();
    let request = JoinParams {
        reconnect: true,
        participant_sid: Some(alice.sid.clone()),
        ..single(vec![Request::SyncState(proto::SyncState::default()), Request::Offer(offer(9))])
    };
    let conn = world.connect(alice.grants.clone(), request);
    assert!(matches!(world.inbox(conn).first(), Some(Response::Reconnect(_))));
    assert_eq!(world.take_commands().last(), Some(&Command::Offer { participant: alice.id, id: 9, sdp: "offer 9".to_owned() }));
}

#[test]
fn a_join_with_more_than_its_share_is_a_flood() {
    let mut world = World::new();
    let many = vec![Request::PingReq(proto::Ping::default()); 6000];
    let conn = world.connect(grants("alice"), single(many));
    assert_eq!(world.closed.get(&conn), Some(&CloseReason::Flood));
}
