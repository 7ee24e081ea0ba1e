use livekit_protocol::{ParticipantTracks, SubscriptionError, TrackPermission, VideoQuality};

use super::*;

fn subscription(track_sids: &[&str], subscribe: bool) -> Request {
    Request::Subscription(proto::UpdateSubscription {
        track_sids: track_sids.iter().map(|sid| (*sid).to_owned()).collect(),
        subscribe,
        ..Default::default()
    })
}

fn by_hand() -> JoinParams {
    JoinParams { auto_subscribe: false, ..JoinParams::default() }
}

fn errors(messages: &[Response]) -> Vec<SubscriptionError> {
    let error = |message: &Response| match message {
        Response::SubscriptionResponse(response) => Some(response.err()),
        _ => None,
    };
    messages.iter().filter_map(error).collect()
}

fn gates(messages: &[Response]) -> Vec<(String, bool)> {
    let gate = |message: &Response| match message {
        Response::SubscriptionPermissionUpdate(update) => Some((update.track_sid.clone(), update.allowed)),
        _ => None,
    };
    messages.iter().filter_map(gate).collect()
}

fn subscribes(commands: &[Command]) -> Vec<(ParticipantId, TrackId)> {
    let pair = |command: &Command| match command {
        Command::Subscribe { participant, track, .. } => Some((*participant, *track)),
        _ => None,
    };
    commands.iter().filter_map(pair).collect()
}

#[test]
fn a_new_track_goes_to_everybody_who_wants_everything_after_they_were_told_of_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let carol = world.join_as(grants("carol"), by_hand());
    world.take_commands();
    let (track, sid) = world.publish(&alice);
    let commands = world.take_commands();
    assert_eq!(subscribes(&commands), [(bob.id, track)]);
    let label = commands.iter().find_map(|command| match command {
        Command::Subscribe { label, .. } => Some(label.clone()),
        _ => None,
    });
    let label = label.unwrap();
    assert_eq!((label.stream_id, label.track_id), (format!("{}|{sid}", alice.sid), sid));
    assert_eq!(updates(&world.take(carol.conn))[0].tracks.len(), 1, "who does not subscribe sees it all the same");
}

#[test]
fn tracks_of_one_participant_share_a_stream_if_they_are_to_be_in_sync() {
    let mut world = World::with(SignalingConfig { sync_streams: true, ..Default::default() });
    let alice = world.active("alice");
    world.active("bob");
    world.publish(&alice);
    let (evil, _) = world.add_track(&alice, proto::AddTrackRequest { stream: "x\r\na=evil".to_owned(), ..camera("second") });
    world.ready(&alice, evil);
    let streams: Vec<_> = world
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Subscribe { label, .. } => Some((label.stream_id, label.track_id)),
            _ => None,
        })
        .collect();
    assert_eq!(streams[0].0, format!("{}|camera", alice.sid));
    assert_eq!(streams[1].0, format!("{}|{}", alice.sid, streams[1].1), "a name that is no token never gets into a session description");
}

#[test]
fn tracks_are_subscribed_and_unsubscribed_by_hand() {
    let mut world = World::new();
    let alice = world.active("alice");
    let carol = world.join_as(grants("carol"), by_hand());
    let (track, sid) = world.publish(&alice);
    world.take_commands();
    world.send(carol.conn, subscription(&[&sid, &sid], true));
    assert_eq!(subscribes(&world.take_commands()), [(carol.id, track)]);
    world.send(carol.conn, subscription(&[&sid, &sid], false));
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: carol.id, track }]);
    let by_participant = proto::UpdateSubscription {
        subscribe: true,
        participant_tracks: vec![ParticipantTracks { participant_sid: alice.sid.clone(), track_sids: vec![sid] }],
        ..Default::default()
    };
    world.send(carol.conn, Request::Subscription(by_participant));
    assert_eq!(subscribes(&world.take_commands()), [(carol.id, track)]);
}

#[test]
fn what_can_not_be_subscribed_is_answered() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (_, own) = world.publish(&bob);
    let (_, pending) = world.add_track(&alice, camera("cam"));
    world.take_commands();
    for sid in [own.as_str(), pending.as_str(), "TR_VC222222222222", "nonsense"] {
        world.take(bob.conn);
        world.send(bob.conn, subscription(&[sid], true));
        assert_eq!(errors(&world.take(bob.conn)), [SubscriptionError::SeTrackNotfound], "{sid}");
    }
    assert_eq!(world.take_commands(), []);
}

#[test]
fn a_publisher_is_told_once_that_somebody_subscribed() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let carol = world.active("carol");
    let (track, sid) = world.publish(&alice);
    world.confirm(&bob, track);
    world.confirm(&carol, track);
    let told: Vec<_> = world
        .take(alice.conn)
        .into_iter()
        .filter_map(|message| match message {
            Response::TrackSubscribed(subscribed) => Some(subscribed.track_sid),
            _ => None,
        })
        .collect();
    assert_eq!(told, [sid]);
}

#[test]
fn a_failed_subscription_is_told_with_its_reason_and_may_be_tried_again() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    for (error, told) in [
        (sfu_api::SubscriptionError::CodecUnsupported, SubscriptionError::SeCodecUnsupported),
        (sfu_api::SubscriptionError::TrackUnknown, SubscriptionError::SeTrackNotfound),
        (sfu_api::SubscriptionError::Limit, SubscriptionError::SeUnknown),
    ] {
        world.take(bob.conn);
        world.media(Event::Subscription { participant: bob.id, track, error: Some(error) });
        assert_eq!(errors(&world.take(bob.conn)), [told]);
        world.take_commands();
        world.send(bob.conn, subscription(&[&sid], true));
        assert_eq!(subscribes(&world.take_commands()), [(bob.id, track)]);
    }
}

#[test]
fn how_a_track_is_shown_becomes_a_wish() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.take_commands();
    let mut wish = |settings: proto::UpdateTrackSettings| {
        world.send(bob.conn, Request::TrackSetting(proto::UpdateTrackSettings { track_sids: vec![sid.clone()], ..settings }));
        match world.take_commands().as_slice() {
            [Command::SetWish { participant, track: of, wish }] if (*participant, *of) == (bob.id, track) => *wish,
            other => panic!("one wish, not {other:?}"),
        }
    };
    assert!(!wish(proto::UpdateTrackSettings { disabled: true, ..Default::default() }).enabled);
    assert!(!wish(proto::UpdateTrackSettings { quality: VideoQuality::Off.into(), ..Default::default() }).enabled);
    assert_eq!(wish(proto::UpdateTrackSettings { quality: VideoQuality::Medium.into(), ..Default::default() }).max_spatial, 1);
    let sized = wish(proto::UpdateTrackSettings { width: 320, height: 180, fps: 15, ..Default::default() });
    assert_eq!((sized.width_px, sized.height_px, sized.max_fps, sized.enabled), (320, 180, 15, true));
}

#[test]
fn settings_that_come_before_the_subscription_hold_for_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let carol = world.join_as(grants("carol"), by_hand());
    let (track, sid) = world.publish(&alice);
    world.take_commands();
    world.send(
        carol.conn,
        Request::TrackSetting(proto::UpdateTrackSettings { track_sids: vec![sid.clone()], disabled: true, ..Default::default() }),
    );
    assert_eq!(world.take_commands(), []);
    world.send(carol.conn, subscription(&[&sid], true));
    assert!(
        matches!(world.take_commands().as_slice(), [Command::Subscribe { .. }, Command::SetWish { wish, track: of, .. }] if !wish.enabled && *of == track)
    );
}

#[test]
fn a_client_with_adaptive_stream_starts_with_the_smallest_picture() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.join_as(grants("bob"), JoinParams { adaptive_stream: true, ..JoinParams::default() });
    world.take_commands();
    world.publish(&alice);
    assert!(
        world
            .take_commands()
            .iter()
            .any(|command| matches!(command, Command::SetWish { wish, .. } if wish.max_spatial == 0 && wish.enabled))
    );
}

#[test]
fn a_publisher_says_who_may_subscribe_and_changes_its_mind() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.take(bob.conn);
    world.take_commands();
    let only = |identity: &str| {
        Request::SubscriptionPermission(proto::SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![TrackPermission { participant_identity: identity.to_owned(), all_tracks: true, ..Default::default() }],
        })
    };
    world.send(alice.conn, only("carol"));
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    assert_eq!(gates(&world.take(bob.conn)), [(sid.clone(), false)]);

    let carol = world.join("carol");
    assert_eq!(subscribes(&world.take_commands()), [(carol.id, track)]);
    let dave = world.join("dave");
    assert_eq!(subscribes(&world.take_commands()), []);
    assert_eq!(gates(&world.take(dave.conn)), [(sid.clone(), false)]);

    world.send(alice.conn, Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants: true, ..Default::default() }));
    let mut expected = [(bob.id, track), (dave.id, track)];
    expected.sort();
    assert_eq!(subscribes(&world.take_commands()), expected);
    assert_eq!(gates(&world.take(bob.conn)), [(sid, true)]);
    assert_eq!(gates(&world.take(carol.conn)), []);
}

#[test]
fn who_asks_for_a_forbidden_track_is_answered_each_time() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let deaf = world.join_as(Grants { can_subscribe: false, ..grants("deaf") }, JoinParams::default());
    let (track, sid) = world.publish(&alice);
    world.send(alice.conn, Request::SubscriptionPermission(proto::SubscriptionPermission::default()));
    for client in [&bob, &deaf] {
        for _ in 0..2 {
            world.take(client.conn);
            world.send(client.conn, subscription(&[&sid], false));
            world.send(client.conn, subscription(&[&sid], true));
            assert_eq!(gates(&world.take(client.conn)), [(sid.clone(), false)], "{}", client.grants.identity);
        }
    }
    world.take_commands();
    world.send(alice.conn, Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants: true, ..Default::default() }));
    assert_eq!(subscribes(&world.take_commands()), [(bob.id, track)]);
    assert_eq!(gates(&world.take(bob.conn)), [(sid.clone(), true)]);
    world.close(&deaf);
    let back = world.resume(&deaf);
    assert_eq!(gates(&world.take(back.conn)), [(sid, false)], "a right that is missing is missing after a resume too");
}

#[test]
fn a_track_that_ends_leaves_no_subscription() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.media(Event::TrackEnded { participant: alice.id, track });
    world.take_commands();
    world.send(bob.conn, subscription(&[&sid], false));
    world.confirm(&bob, track);
    assert_eq!(world.take_commands(), []);
    assert_eq!(world.signaling.counters().stale_events, 1);
}

#[test]
fn tracks_of_hidden_participants_are_nobodys() {
    let mut world = World::new();
    let bob = world.active("bob");
    let spy = world.join_as(Grants { hidden: true, ..grants("spy") }, JoinParams::default());
    world.take_commands();
    let (_, sid) = world.publish(&spy);
    world.send(bob.conn, subscription(&[&sid], true));
    assert_eq!(subscribes(&world.take_commands()), []);
    assert_eq!(updates(&world.take(bob.conn)), []);
}
