use std::collections::HashMap;

use livekit_protocol::{DisconnectReason, leave_request::Action, request_response::Reason, simulate_scenario::Scenario};

use super::*;
use crate::limits;

fn profile(name: &str, metadata: &str, attributes: &[(&str, &str)], request_id: u32) -> Request {
    Request::UpdateMetadata(proto::UpdateParticipantMetadata {
        name: name.to_owned(),
        metadata: metadata.to_owned(),
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        request_id,
    })
}

fn simulate(scenario: Scenario) -> Request {
    Request::Simulate(proto::SimulateScenario { scenario: Some(scenario) })
}

fn may_rename(identity: &str) -> Grants {
    Grants { can_update_own_metadata: true, ..grants(identity) }
}

#[test]
fn pings_of_both_kinds_are_answered() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, Request::Ping(5));
    world.send(alice.conn, Request::PingReq(proto::Ping { timestamp: 77, rtt: 3 }));
    let pong = proto::Pong { last_ping_timestamp: 77, timestamp: 1_700_000_000_123 };
    assert_eq!(world.take(alice.conn), [Response::Pong(1_700_000_000_123), Response::PongResp(pong)]);
}

#[test]
fn a_changed_profile_reaches_everybody_and_the_one_who_changed_it() {
    let mut world = World::new();
    let bob = world.active("bob");
    let alice = world.join_as(may_rename("alice"), JoinParams::default());
    world.advance(crate::limits::UPDATE_BEAT);
    world.take(alice.conn);
    world.take(bob.conn);
    world.send(alice.conn, profile("Alice", "hello", &[("mood", "good"), ("hand", "up")], 4));
    let messages = world.take(alice.conn);
    let own = updates(&messages);
    assert_eq!((own[0].name.as_str(), own[0].metadata.as_str()), ("Alice", "hello"));
    assert_eq!(own[0].attributes, HashMap::from([("mood".to_owned(), "good".to_owned()), ("hand".to_owned(), "up".to_owned())]));
    let answer = reply(&messages).unwrap();
    assert_eq!((answer.request_id, answer.reason()), (4, Reason::Ok));
    assert_eq!(updates(&world.take(bob.conn)), own);
    world.advance(crate::limits::UPDATE_BEAT);
    world.send(alice.conn, profile("", "", &[("hand", "")], 5));
    let own = updates(&world.take(alice.conn));
    assert_eq!((own[0].name.as_str(), own[0].attributes.len()), ("Alice", 1), "empty means as it was, an empty attribute is removed");
    assert_eq!(world.tokens.len(), 2, "the token follows");
}

#[test]
fn who_changes_its_profile_is_told_before_the_answer_however_soon_after_the_last_change() {
    let mut world = World::new();
    let alice = world.join_as(may_rename("alice"), JoinParams::default());
    for (id, name) in (1..).zip(["a", "b", "c"]) {
        world.take(alice.conn);
        world.send(alice.conn, profile(name, "", &[], id));
        let messages = world.take(alice.conn);
        let told = messages.iter().position(|m| matches!(m, Response::Update(u) if u.participants[0].name == name));
        let answered = messages.iter().position(|m| matches!(m, Response::RequestResponse(_)));
        assert!(told.is_some() && told < answered, "{name}: {messages:?}");
    }
}

#[test]
fn a_profile_that_may_not_be_changed_or_is_too_large_stays_as_it_is() {
    let mut world = World::new();
    let bob = world.active("bob");
    world.send(bob.conn, profile("Bobby", "", &[], 1));
    assert_eq!(reply(&world.take(bob.conn)).unwrap().reason(), Reason::NotAllowed);
    let alice = world.join_as(may_rename("alice"), JoinParams::default());
    let long = "x".repeat(70_000);
    for request in [profile(&long, "", &[], 2), profile("", &long, &[], 2), profile("", "", &[("key", &long)], 2)] {
        world.take(alice.conn);
        world.send(alice.conn, request);
        let messages = world.take(alice.conn);
        assert_eq!(reply(&messages).unwrap().reason(), Reason::LimitExceeded);
        assert_eq!(updates(&messages), []);
    }
}

#[test]
fn older_clients_get_no_answer_when_all_is_well() {
    let mut world = World::new();
    let alice = world.join_as(may_rename("alice"), protocol(14));
    world.send(alice.conn, profile("Alice", "", &[], 4));
    assert_eq!(reply(&world.take(alice.conn)), None);
}

#[test]
fn messages_of_unknown_kinds_are_counted_and_change_nothing() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.input(Input::Message { conn: alice.conn, request: Box::new(proto::SignalRequest { message: None }) });
    assert_eq!(world.signaling.counters().unknown_messages, 1);
    assert_eq!(world.take(alice.conn), []);
    world.input(Input::Message { conn: ConnId(999), request: Box::new(proto::SignalRequest { message: None }) });
}

#[test]
fn a_client_that_sends_too_much_loses_its_connection_and_may_resume() {
    let mut world = World::new();
    let alice = world.active("alice");
    for _ in 0..=crate::limits::MESSAGE_BURST {
        world.send(alice.conn, Request::Ping(1));
    }
    assert_eq!(world.closed[&alice.conn], CloseReason::Flood);
    let back = world.resume(&alice);
    assert!(matches!(world.take(back.conn)[0], Response::Reconnect(_)));
}

#[test]
fn a_message_that_names_many_tracks_counts_as_many() {
    let track_sids = vec!["TR_VC222222222222".to_owned(); crate::limits::SIDS_PER_MESSAGE];
    let by_participant = proto::ParticipantTracks { participant_sid: String::new(), track_sids: track_sids.clone() };
    let update = proto::UpdateSubscription { track_sids: track_sids.clone(), ..Default::default() };
    let nested = proto::UpdateSubscription { participant_tracks: vec![by_participant], ..Default::default() };
    let settings = proto::UpdateTrackSettings { track_sids, ..Default::default() };
    for message in [Request::Subscription(update), Request::Subscription(nested), Request::TrackSetting(settings)] {
        let mut world = World::new();
        let alice = world.active("alice");
        for _ in 0..4 {
            world.send(alice.conn, message.clone());
        }
        assert_eq!(world.closed.get(&alice.conn), None);
        world.send(alice.conn, message);
        assert_eq!(world.closed[&alice.conn], CloseReason::Flood);
    }
}

#[test]
fn a_gate_costs_its_tracks_times_the_members_and_nothing_if_it_stays() {
    let mut world = World::new();
    let alice = world.active("alice");
    for number in 0..20 {
        let (track, _) = world.add_track(&alice, camera(&format!("cam{number}")));
        world.ready(&alice, track);
    }
    for number in 0..200 {
        world.join(&format!("p{number}"));
    }
    let gate = |all_participants| Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, ..Default::default() });
    world.take_commands();
    for _ in 0..1000 {
        world.send(alice.conn, gate(true));
    }
    assert_eq!((world.take_commands(), world.closed.get(&alice.conn)), (vec![], None), "no change, no work");
    let changes = (0..1000).take_while(|number| {
        world.send(alice.conn, gate(number % 2 == 1));
        !world.closed.contains_key(&alice.conn)
    });
    assert!((10..60).contains(&changes.count()), "closed in time, and not at once");
}

#[test]
fn a_fresh_token_comes_in_time() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.advance_alive(Duration::from_secs(601), &[&alice]);
    assert_eq!(world.tokens.iter().map(|(conn, grants)| (*conn, grants.identity.as_str())).collect::<Vec<_>>(), [(alice.conn, "alice"); 2]);
}

#[test]
fn a_simulated_bandwidth_limits_the_downlink_until_it_is_zero() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    for (asked, limit_bps) in [(300_000, Some(300_000)), (0, None), (-1, None)] {
        world.send(alice.conn, simulate(Scenario::SubscriberBandwidth(asked)));
        assert_eq!(world.take_commands(), [Command::LimitDownlink { participant: alice.id, limit_bps }]);
    }
}

#[test]
fn a_simulated_node_failure_cuts_the_line_without_a_word() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, simulate(Scenario::NodeFailure(true)));
    assert_eq!(leave(&world.take(alice.conn)), None);
    assert_eq!(world.closed[&alice.conn], CloseReason::Resume);
    let back = world.resume(&alice);
    assert_eq!(leave(&world.take(back.conn)).unwrap().action(), Action::Reconnect, "there is nothing to resume");
}

#[test]
fn simulated_leaves_tell_the_client_what_to_do() {
    for (scenario, action, reason) in [
        (Scenario::ServerLeave(true), Action::Disconnect, DisconnectReason::ServerShutdown),
        (Scenario::LeaveRequestFullReconnect(true), Action::Reconnect, DisconnectReason::ClientInitiated),
    ] {
        let mut world = World::new();
        let alice = world.active("alice");
        world.send(alice.conn, simulate(scenario));
        let goodbye = leave(&world.take(alice.conn)).unwrap();
        assert_eq!((goodbye.action(), goodbye.reason()), (action, reason));
    }
}

#[test]
fn simulated_speech_is_told_no_faster_than_other_changes() {
    let mut world = World::new();
    let (alice, bob) = (world.active("alice"), world.active("bob"));
    let heard = |messages: Vec<Response>| messages.iter().filter(|message| matches!(message, Response::SpeakersChanged(_))).count();
    for _ in 0..1000 {
        world.send(alice.conn, simulate(Scenario::SpeakerUpdate(3)));
    }
    assert_eq!(heard(world.take(bob.conn)), limits::CHANGE_REQUEST_BURST as usize);
    world.advance(Duration::from_secs(3));
    assert_eq!(heard(world.take(bob.conn)), 1, "its end");
}

#[test]
fn a_simulated_loss_on_resume_happens_once_after_the_messages() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, simulate(Scenario::DisconnectSignalOnResume(true)));
    world.close(&alice);
    let first = world.resume(&alice);
    assert!(matches!(world.take(first.conn)[0], Response::Reconnect(_)));
    assert_eq!(world.closed[&first.conn], CloseReason::Resume);
    let second = world.resume(&alice);
    assert_eq!(world.closed.get(&second.conn), None);
}

#[test]
fn a_simulated_loss_on_resume_without_messages_happens_three_times() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, simulate(Scenario::DisconnectSignalOnResumeNoMessages(true)));
    world.close(&alice);
    for _ in 0..3 {
        let lost = world.resume(&alice);
        assert_eq!(world.take(lost.conn), []);
        assert_eq!(world.closed[&lost.conn], CloseReason::Resume);
    }
    let kept = world.resume(&alice);
    assert!(matches!(world.take(kept.conn)[0], Response::Reconnect(_)));
}

#[test]
fn a_simulated_speaker_speaks_for_as_long_as_asked() {
    let mut world = World::new();
    let alice = world.active("alice");
    let levels = |world: &mut World| -> Vec<bool> {
        let active = |message: &Response| match message {
            Response::SpeakersChanged(changed) => Some(changed.speakers[0].active),
            _ => None,
        };
        world.take(alice.conn).iter().filter_map(active).collect()
    };
    world.send(alice.conn, simulate(Scenario::SpeakerUpdate(3)));
    assert_eq!(levels(&mut world), [true]);
    world.advance(Duration::from_secs(4));
    assert_eq!(levels(&mut world), [false]);
}

#[test]
fn a_switch_of_the_candidate_protocol_restarts_ice() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let prefer = |participant, is_preferred| [Command::PreferTcp { participant, is_preferred }, Command::RestartIce { participant }];
    world.send(alice.conn, simulate(Scenario::SwitchCandidateProtocol(1)));
    assert_eq!(world.take_commands(), prefer(alice.id, true));
    // livekit-client joins anew after it asked.
    let again = world.join("alice");
    let commands = world.take_commands();
    assert!(commands.windows(2).any(|pair| pair == prefer(again.id, true)), "{commands:?}");
    world.send(again.conn, simulate(Scenario::SwitchCandidateProtocol(0)));
    assert_eq!(world.take_commands(), prefer(again.id, false));
    world.join("alice");
    assert!(!world.take_commands().iter().any(|command| matches!(command, Command::PreferTcp { .. })));
}

#[test]
fn who_shall_come_back_is_told_where_else_that_is_possible() {
    let region = crate::Region { name: "eu".to_owned(), url: "wss://eu.example.org".to_owned() };
    let mut world = World::with(SignalingConfig { regions: vec![region], ..SignalingConfig::default() });
    let alice = world.active("alice");
    world.send(alice.conn, simulate(Scenario::LeaveRequestFullReconnect(true)));
    let regions = leave(&world.take(alice.conn)).unwrap().regions.unwrap().regions;
    assert_eq!((regions[0].region.as_str(), regions[0].url.as_str()), ("eu", "wss://eu.example.org"));
    let bob = world.active("bob");
    world.send(bob.conn, simulate(Scenario::ServerLeave(true)));
    assert_eq!(leave(&world.take(bob.conn)).unwrap().regions, None, "who shall not come back needs no place for it");
}

#[test]
fn details_of_a_kind_are_shown_to_others() {
    let mut world = World::new();
    let bob = world.active("bob");
    world.join_as(
        Grants { kind_details: vec!["cloud_agent".to_owned(), "FORWARDED".to_owned(), "new".to_owned()], ..grants("agent") },
        JoinParams::default(),
    );
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen[0].kind_details, [0, 1]);
}
