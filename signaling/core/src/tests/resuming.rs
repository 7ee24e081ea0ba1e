use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State};

use signaling_api::EndReason;

use super::*;

fn is_reconnect(message: &Response) -> bool {
    matches!(message, Response::Reconnect(_))
}

#[test]
fn a_client_that_comes_back_in_time_is_the_same_participant_and_nobody_notices() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.advance(Duration::from_secs(1));
    world.take(bob.conn);
    world.take_commands();
    world.close(&alice);
    world.advance_alive(Duration::from_secs(14), &[&bob]);
    let back = world.resume(&alice);
    let messages = world.take(back.conn);
    assert!(is_reconnect(&messages[0]), "first of all the answer to the resume");
    assert_eq!(updates(&world.take(bob.conn)), []);
    assert_eq!(world.take_commands(), [Command::RestartIce { participant: alice.id }]);
    assert_eq!(world.present(), ["alice", "bob"]);
    world.advance_alive(Duration::from_secs(60), &[&back, &bob]);
    assert_eq!(world.present(), ["alice", "bob"], "the grace period is over with the resume");
}

#[test]
fn a_client_that_does_not_come_back_is_removed_after_the_grace_period() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.close(&alice);
    world.take(bob.conn);
    world.take_commands();
    world.advance_alive(Duration::from_secs(16), &[&bob]);
    let seen = updates(&world.take(bob.conn));
    assert_eq!((seen[0].sid.as_str(), seen[0].state()), (alice.sid.as_str(), State::Disconnected));
    assert_eq!(seen[0].disconnect_reason(), DisconnectReason::SignalClose);
    assert_eq!(world.take_commands(), [Command::Leave { participant: alice.id }]);
}

#[test]
fn a_resume_that_comes_too_late_or_names_another_session_starts_anew() {
    let mut world = World::new();
    let bob = world.active("bob");
    let alice = world.active("alice");
    world.close(&alice);
    world.advance_alive(Duration::from_secs(16), &[&bob]);
    let late = world.resume(&alice);
    let goodbye = leave(&world.take(late.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::StateMismatch, Action::Reconnect));
    world.active("alice");
    let stale = world.resume(&alice);
    assert_eq!(leave(&world.take(stale.conn)).unwrap().action(), Action::Reconnect);
    assert_eq!(world.present(), ["alice", "bob"], "the newer session of the same identity is not touched");
}

#[test]
fn a_resume_on_a_new_connection_closes_the_old_one() {
    let mut world = World::new();
    let alice = world.active("alice");
    let back = world.resume(&alice);
    assert_eq!(world.closed[&alice.conn], CloseReason::Resumed);
    world.close(&alice);
    world.advance_alive(Duration::from_secs(30), &[&back]);
    assert_eq!(world.present(), ["alice"], "the end of the old connection means nothing");
}

#[test]
fn a_resumed_client_is_told_who_left_and_who_is_here_and_what_it_is_itself() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let carol = world.active("carol");
    world.close(&alice);
    world.send(bob.conn, Request::Leave(proto::LeaveRequest::default()));
    let dave = world.active("dave");
    let back = world.resume(&alice);
    let seen = updates(&world.take(back.conn));
    let find = |sid: &str| seen.iter().find(|info| info.sid == sid).map(|info| info.state());
    assert_eq!(find(&bob.sid), Some(State::Disconnected));
    assert_eq!(find(&carol.sid), Some(State::Active));
    assert_eq!(find(&dave.sid), Some(State::Active));
    assert_eq!(find(&alice.sid), Some(State::Active));
}

#[test]
fn a_departure_whose_message_was_lost_on_the_way_is_told_again() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    // Sent on a connection that nobody reads any more, which the server does not know yet.
    world.send(bob.conn, Request::Leave(proto::LeaveRequest::default()));
    world.advance(Duration::from_secs(3));
    // The other direction still works, so the server hears the client later than the client hears the server.
    world.send(alice.conn, Request::PingReq(proto::Ping::default()));
    world.close(&alice);
    let back = world.resume(&alice);
    assert!(updates(&world.take(back.conn)).iter().any(|info| info.sid == bob.sid && info.state() == State::Disconnected));
}

#[test]
fn a_departure_is_not_told_of_an_identity_that_is_here_again() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.close(&alice);
    world.send(bob.conn, Request::Leave(proto::LeaveRequest::default()));
    let bob = world.active("bob");
    let back = world.resume(&alice);
    let seen: Vec<_> = updates(&world.take(back.conn)).into_iter().filter(|info| info.identity == "bob").collect();
    assert_eq!(seen.iter().map(|info| (info.sid.as_str(), info.state())).collect::<Vec<_>>(), [(bob.sid.as_str(), State::Active)]);
}

#[test]
fn tracks_that_wait_for_media_are_answered_again_and_ends_are_told_late() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, pending) = world.add_track(&alice, camera("pending"));
    let (_, doomed) = world.publish(&alice);
    world.close(&alice);
    let muzzle =
        crate::permissions::to_proto(&Grants { can_publish_sources: vec![signaling_api::PublishSource::Microphone], ..grants("alice") });
    let request = proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: "alice".to_owned(),
        permission: Some(muzzle),
        ..Default::default()
    };
    world.administer(crate::AdminRequest::UpdateParticipant(request)).unwrap();
    let back = world.resume(&alice);
    let messages = world.take(back.conn);
    let ended: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Response::TrackUnpublished(ended) => Some(ended.track_sid.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [pending, doomed]);

    let (_, pending) = world.add_track(&back, microphone("mic"));
    world.close(&back);
    let back = world.resume(&back);
    assert!(world.take(back.conn).iter().any(
        |message| matches!(message, Response::TrackPublished(again) if again.track.as_ref().is_some_and(|track| track.sid == pending))
    ));
}

#[test]
fn an_answer_that_came_while_the_client_was_away_waits_for_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, Request::Offer(proto::SessionDescription { sdp: "o".to_owned(), id: 3, ..Default::default() }));
    world.close(&alice);
    world.media(Event::Answer { participant: alice.id, id: 3, sdp: "a".to_owned(), subscribed: Vec::new() });
    world.media(Event::Offer { participant: alice.id, id: 1, sdp: "stale".to_owned() });
    let back = world.resume(&alice);
    let messages = world.take(back.conn);
    assert!(messages.iter().any(|message| matches!(message, Response::Answer(answer) if answer.id == 3 && answer.sdp == "a")));
    assert!(!messages.iter().any(|message| matches!(message, Response::Offer(_))), "the restart brings a newer offer");
}

#[test]
fn the_first_subscriber_is_told_late_to_a_publisher_that_was_away() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world.close(&alice);
    world.confirm(&bob, track);
    let back = world.resume(&alice);
    assert!(world.take(back.conn).contains(&Response::TrackSubscribed(proto::TrackSubscribed { track_sid: sid })));
}

#[test]
fn what_the_client_wants_is_taken_over_from_its_state() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    let (_, own) = world.publish(&bob);
    world.close(&bob);
    let bob = world.resume(&bob);
    world.take_commands();
    let state = proto::SyncState {
        subscription: Some(proto::UpdateSubscription {
            track_sids: vec![sid, "TR_gone".to_owned()],
            subscribe: false,
            ..Default::default()
        }),
        publish_tracks: vec![proto::TrackPublishedResponse {
            track: Some(proto::TrackInfo { sid: own, ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    world.send(bob.conn, Request::SyncState(state));
    assert_eq!(world.take_commands(), [Command::Unsubscribe { participant: bob.id, track }]);
    assert_eq!(leave(&world.take(bob.conn)), None);
}

#[test]
fn a_client_that_believes_in_a_track_that_is_not_there_starts_anew() {
    let mut world = World::new();
    let alice = world.active("alice");
    let publish_tracks = vec![proto::TrackPublishedResponse {
        track: Some(proto::TrackInfo { sid: "TR_VC222222222222".to_owned(), ..Default::default() }),
        ..Default::default()
    }];
    world.send(alice.conn, Request::SyncState(proto::SyncState { publish_tracks, ..Default::default() }));
    assert_eq!(leave(&world.take(alice.conn)).unwrap().action(), Action::Reconnect);
    assert_eq!(world.present(), Vec::<String>::new());
}

#[test]
fn the_last_data_number_and_the_speakers_are_told_at_a_resume() {
    use prost::Message;
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let packet = proto::DataPacket {
        sequence: 41,
        value: Some(proto::data_packet::Value::User(proto::UserPacket::default())),
        ..Default::default()
    };
    world.media(Event::Data { participant: alice.id, delivery: sfu_api::Delivery::Reliable, payload: packet.encode_to_vec() });
    let room = world.commands.iter().find_map(|command| match command {
        Command::Join { room, .. } => Some(*room),
        _ => None,
    });
    world.media(Event::Speakers { room: room.unwrap(), speakers: vec![sfu_api::Speaker { participant: bob.id, level: 0.5 }] });
    world.close(&alice);
    world.media(Event::Speakers { room: room.unwrap(), speakers: vec![] });
    let back = world.resume(&alice);
    let messages = world.take(back.conn);
    assert!(matches!(&messages[0], Response::Reconnect(reconnect) if reconnect.last_message_seq == 41));
    assert!(messages.iter().any(|message| matches!(message, Response::SpeakersChanged(changed)
        if changed.speakers.iter().any(|speaker| speaker.sid == bob.sid && !speaker.active))));
}

#[test]
fn a_silent_connection_is_closed_and_may_be_resumed() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.advance(Duration::from_secs(19));
    assert_eq!(world.closed.get(&alice.conn), None);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.closed[&alice.conn], CloseReason::Silent);
    let back = world.resume(&alice);
    assert!(is_reconnect(&world.take(back.conn)[0]));
}

#[test]
fn lost_media_makes_the_client_resume_and_the_participant_stays_if_it_helps() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.transport(&alice, TransportRole::Subscriber, TransportState::Disconnected);
    world.advance(crate::limits::MEDIA_LOSS_PATIENCE);
    let goodbye = leave(&world.take(alice.conn)).unwrap();
    assert_eq!((goodbye.action(), goodbye.reason()), (Action::Resume, DisconnectReason::ConnectionTimeout));
    assert_eq!(world.closed[&alice.conn], CloseReason::Resume);
    assert_ne!(CloseReason::Resume.websocket_code(), 1000, "clients take 1000 as final");
    let back = world.resume(&alice);
    world.transport(&back, TransportRole::Subscriber, TransportState::Connected);
    world.advance_alive(Duration::from_secs(40), &[&back]);
    assert_eq!(world.present(), ["alice"]);
}

#[test]
fn a_client_whose_media_ends_just_before_it_says_that_it_leaves_has_left() {
    let mut world = World::new();
    let bob = world.active("bob");
    let alice = world.active("alice");
    world.take(bob.conn);
    world.transport(&alice, TransportRole::Publisher, TransportState::Disconnected);
    world.transport(&alice, TransportRole::Subscriber, TransportState::Disconnected);
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(updates(&world.take(bob.conn))[0].disconnect_reason(), DisconnectReason::ClientInitiated);
    assert_eq!(world.closed[&alice.conn], CloseReason::Ended(EndReason::ClientLeft));
}

#[test]
fn media_that_comes_back_at_once_needs_no_resume() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.transport(&alice, TransportRole::Subscriber, TransportState::Disconnected);
    world.transport(&alice, TransportRole::Subscriber, TransportState::Connected);
    world.advance_alive(Duration::from_secs(40), &[&alice]);
    assert_eq!(world.closed.get(&alice.conn), None);
}

#[test]
fn lost_media_that_does_not_come_back_ends_the_session_with_a_reason() {
    let mut world = World::new();
    let bob = world.active("bob");
    let alice = world.active("alice");
    world.transport(&alice, TransportRole::Publisher, TransportState::Failed(sfu_api::FailReason::IceNoPath));
    let back = world.resume(&alice);
    world.take(bob.conn);
    world.advance_alive(Duration::from_secs(16), &[&back, &bob]);
    assert_eq!(leave(&world.take(back.conn)).unwrap().reason(), DisconnectReason::ConnectionTimeout);
    assert_eq!(updates(&world.take(bob.conn))[0].disconnect_reason(), DisconnectReason::ConnectionTimeout);
    assert_eq!(world.present(), ["bob"]);
}

#[test]
fn two_ends_that_can_not_agree_on_keys_part() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.transport(&alice, TransportRole::Subscriber, TransportState::Failed(sfu_api::FailReason::DtlsFingerprint));
    let goodbye = leave(&world.take(alice.conn)).unwrap();
    assert_eq!((goodbye.reason(), goodbye.action()), (DisconnectReason::MediaFailure, Action::Disconnect));
}

#[test]
fn a_negotiation_that_fails_starts_anew() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.media(Event::NegotiationFailed { participant: alice.id, role: TransportRole::Publisher, message: "no".to_owned() });
    assert_eq!(leave(&world.take(alice.conn)).unwrap().action(), Action::Reconnect);
    assert_eq!(world.closed[&alice.conn], CloseReason::Ended(EndReason::NegotiationFailed));
}

#[test]
fn a_room_with_more_departures_than_it_can_remember_makes_clients_start_anew() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.close(&alice);
    for _ in 0..=crate::limits::DEPARTURES {
        let guest = world.join("guest");
        world.send(guest.conn, Request::Leave(proto::LeaveRequest::default()));
    }
    let back = world.resume(&alice);
    assert_eq!(leave(&world.take(back.conn)).unwrap().action(), Action::Reconnect);
}
