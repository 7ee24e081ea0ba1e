use std::collections::BTreeMap;

use livekit_protocol::{data_blob_key::Key, request_response::Reason, update_data_subscription::Update};

use super::*;
use crate::parse_data_track_sid;

fn publish_request(pub_handle: u32, name: &str) -> Request {
    Request::PublishDataTrackRequest(proto::PublishDataTrackRequest { pub_handle, name: name.to_owned(), ..Default::default() })
}

fn publish_data(world: &mut World, client: &Client, handle: u32, name: &str) -> (TrackId, String) {
    world.send(client.conn, publish_request(handle, name));
    let answered = world.take(client.conn).into_iter().find_map(|message| match message {
        Response::PublishDataTrackResponse(response) => response.info,
        _ => None,
    });
    let info = answered.expect("the data track is accepted");
    assert_eq!((info.pub_handle, info.name.as_str()), (handle, name));
    (parse_data_track_sid(&info.sid).unwrap(), info.sid)
}

fn wish(sid: &str, subscribe: bool) -> Request {
    let update = Update { track_sid: sid.to_owned(), subscribe, options: None };
    Request::UpdateDataSubscription(proto::UpdateDataSubscription { updates: vec![update] })
}

/// Handle, sid of the track, identity of its publisher, as last told.
fn handles(messages: &[Response]) -> Option<BTreeMap<u32, (String, String)>> {
    messages.iter().rev().find_map(|message| match message {
        Response::DataTrackSubscriberHandles(told) => Some(
            told.sub_handles.iter().map(|(handle, track)| (*handle, (track.track_sid.clone(), track.publisher_identity.clone()))).collect(),
        ),
        _ => None,
    })
}

fn data_tracks_of(messages: &[Response], identity: &str) -> Option<Vec<String>> {
    let participant = updates(messages).into_iter().rev().find(|participant| participant.identity == identity)?;
    Some(participant.data_tracks.into_iter().map(|track| track.name).collect())
}

fn data_commands(world: &mut World) -> Vec<Command> {
    let is_data = |command: &Command| {
        matches!(
            command,
            Command::PublishData { .. } | Command::UnpublishData { .. } | Command::SubscribeData { .. } | Command::UnsubscribeData { .. }
        )
    };
    world.take_commands().into_iter().filter(is_data).collect()
}

#[test]
fn a_data_track_is_seen_by_others_and_subscribed_by_hand() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let (track, sid) = publish_data(&mut world, &alice, 7, "position");
    assert!(sid.starts_with("DTR_"));
    assert_eq!(data_commands(&mut world), [Command::PublishData { participant: alice.id, track, handle: 7 }]);
    world.advance(Duration::from_secs(1));
    let messages = world.take(bob.conn);
    assert_eq!(data_tracks_of(&messages, "alice"), Some(vec!["position".to_owned()]));
    assert_eq!(handles(&messages), None);

    world.send(bob.conn, wish(&sid, true));
    assert_eq!(data_commands(&mut world), [Command::SubscribeData { participant: bob.id, track, handle: 1 }]);
    assert_eq!(handles(&world.take(bob.conn)), Some(BTreeMap::from([(1, (sid.clone(), "alice".to_owned()))])));
    world.send(bob.conn, wish(&sid, true));
    assert_eq!(data_commands(&mut world), [], "once");
    assert!(handles(&world.take(bob.conn)).is_some(), "who asks again is answered again");

    world.send(bob.conn, wish(&sid, false));
    assert_eq!(data_commands(&mut world), [Command::UnsubscribeData { participant: bob.id, track }]);
    assert_eq!(handles(&world.take(bob.conn)), Some(BTreeMap::new()));
}

#[test]
fn an_unpublished_data_track_ends_for_everybody() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let (track, sid) = publish_data(&mut world, &alice, 7, "position");
    world.send(bob.conn, wish(&sid, true));
    world.take(bob.conn);
    world.take_commands();
    world.send(alice.conn, Request::UnpublishDataTrackRequest(proto::UnpublishDataTrackRequest { pub_handle: 7 }));
    assert_eq!(data_commands(&mut world), [Command::UnpublishData { participant: alice.id, track }]);
    assert!(world.take(alice.conn).iter().any(|message| matches!(message, Response::UnpublishDataTrackResponse(_))));
    world.advance(Duration::from_secs(1));
    let messages = world.take(bob.conn);
    assert_eq!((handles(&messages), data_tracks_of(&messages, "alice")), (Some(BTreeMap::new()), Some(vec![])));
    world.send(alice.conn, Request::UnpublishDataTrackRequest(proto::UnpublishDataTrackRequest { pub_handle: 7 }));
    assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), Reason::NotFound);
}

#[test]
fn what_a_data_track_may_not_be_is_refused_with_a_reason() {
    let mut world = World::new();
    let alice = world.active("alice");
    publish_data(&mut world, &alice, 7, "position");
    for (request, reason) in [
        (publish_request(0, "a"), Reason::InvalidHandle),
        (publish_request(65_536, "a"), Reason::InvalidHandle),
        (publish_request(8, ""), Reason::InvalidName),
        (publish_request(7, "other"), Reason::DuplicateHandle),
        (publish_request(8, "position"), Reason::DuplicateName),
    ] {
        world.send(alice.conn, request);
        assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), reason);
    }
    let mute = world.join_as(Grants { can_publish_data: false, ..grants("mute") }, JoinParams::default());
    world.take(mute.conn);
    world.send(mute.conn, publish_request(1, "a"));
    assert_eq!(reply(&world.take(mute.conn)).unwrap().reason(), Reason::NotAllowed);
}

#[test]
fn a_gate_costs_its_data_tracks_too() {
    let mut world = World::new();
    let alice = world.active("alice");
    for handle in 1..=20 {
        publish_data(&mut world, &alice, handle, &format!("data{handle}"));
        world.advance_alive(Duration::from_secs(1), &[&alice]);
    }
    for number in 0..200 {
        world.join(&format!("p{number}"));
    }
    let gate = |all_participants| Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, ..Default::default() });
    let changes = (0..1000).take_while(|number| {
        world.send(alice.conn, gate(number % 2 == 1));
        !world.closed.contains_key(&alice.conn)
    });
    assert!((10..60).contains(&changes.count()), "closed in time, and not at once");
}

#[test]
fn a_publishers_gate_holds_for_data_tracks_too() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let (track, sid) = publish_data(&mut world, &alice, 7, "position");
    world.send(bob.conn, wish(&sid, true));
    world.take(bob.conn);
    world.take_commands();
    let gate = |all_participants, track_permissions| {
        Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, track_permissions })
    };
    world.send(alice.conn, gate(false, vec![]));
    assert_eq!(data_commands(&mut world), [Command::UnsubscribeData { participant: bob.id, track }]);
    assert_eq!(handles(&world.take(bob.conn)), Some(BTreeMap::new()));
    let to_bob = proto::TrackPermission { participant_identity: "bob".to_owned(), track_sids: vec![sid.clone()], ..Default::default() };
    world.send(alice.conn, gate(false, vec![to_bob]));
    assert!(matches!(data_commands(&mut world)[..], [Command::SubscribeData { handle: 2, .. }]));
    assert!(handles(&world.take(bob.conn)).unwrap().contains_key(&2));
}

#[test]
fn who_leaves_takes_its_data_tracks_along() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let (_, sid) = publish_data(&mut world, &alice, 7, "position");
    world.send(bob.conn, wish(&sid, true));
    world.take(bob.conn);
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(handles(&world.take(bob.conn)), Some(BTreeMap::new()));
    world.send(bob.conn, wish(&sid, true));
    assert_eq!(data_commands(&mut world).len(), 2, "published and subscribed, no more");
    assert_eq!(world.signaling.counters().invalid_messages, 1);
}

#[test]
fn a_client_that_comes_back_learns_its_handles_and_is_believed_what_it_publishes() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let (_, sid) = publish_data(&mut world, &alice, 7, "position");
    world.send(bob.conn, wish(&sid, true));
    world.close(&bob);
    let back = world.resume(&bob);
    assert!(handles(&world.take(back.conn)).unwrap().contains_key(&1));

    world.close(&alice);
    let back = world.resume(&alice);
    let state = |sid: &str| {
        let info = Some(proto::DataTrackInfo { sid: sid.to_owned(), ..Default::default() });
        Request::SyncState(proto::SyncState { publish_data_tracks: vec![proto::PublishDataTrackResponse { info }], ..Default::default() })
    };
    world.send(back.conn, state(&sid));
    assert_eq!(world.closed.get(&back.conn), None);
    world.send(back.conn, state("DTR_222222222222"));
    assert_eq!(leave(&world.take(back.conn)).unwrap().action(), proto::leave_request::Action::Reconnect);
}

#[test]
fn a_blob_is_stored_for_others_to_fetch() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let key = proto::DataBlobKey { key: Some(Key::Generic("schema".to_owned())) };
    let blob = proto::DataBlob { key: Some(key.clone()), contents: b"message M {}".to_vec() };
    world.take(alice.conn);
    world.send(alice.conn, Request::StoreDataBlobRequest(proto::StoreDataBlobRequest { request_id: 3, blob: Some(blob.clone()) }));
    let stored = world.take(alice.conn);
    assert!(
        matches!(&stored[..], [Response::StoreDataBlobResponse(response)] if response.request_id == 3 && response.key == Some(key.clone()))
    );

    let get = |identity: &str, key: Option<proto::DataBlobKey>| {
        Request::GetDataBlobRequest(proto::GetDataBlobRequest { request_id: 4, participant_identity: identity.to_owned(), key })
    };
    world.take(bob.conn);
    world.send(bob.conn, get("alice", Some(key.clone())));
    let fetched = world.take(bob.conn);
    assert!(matches!(&fetched[..], [Response::GetDataBlobResponse(response)] if response.request_id == 4 && response.blob == Some(blob)));
    for (request, reason) in [
        (get("nobody", Some(key.clone())), Reason::NotFound),
        (get("bob", Some(key)), Reason::NotFound),
        (get("alice", None), Reason::InvalidRequest),
    ] {
        world.send(bob.conn, request);
        let answer = reply(&world.take(bob.conn)).unwrap();
        assert_eq!((answer.reason(), answer.request_id), (reason, 4));
    }
}
