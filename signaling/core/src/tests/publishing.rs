use livekit_protocol::{request_response::Reason, video_layer::Mode};
use sfu_api::MediaKind;
use signaling_api::PublishSource;

use super::*;

fn published(messages: &[Response]) -> Vec<proto::TrackPublishedResponse> {
    let published = |message: &Response| match message {
        Response::TrackPublished(published) => Some(published.clone()),
        _ => None,
    };
    messages.iter().filter_map(published).collect()
}

#[test]
fn an_announced_track_is_answered_and_given_to_the_media_node() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let (id, sid) = world.add_track(&alice, camera("cam"));
    let answer = published(&world.take(alice.conn));
    assert_eq!((answer[0].cid.as_str(), answer[0].track.as_ref().unwrap().source()), ("cam", TrackSource::Camera));
    assert!(sid.starts_with("TR_VC"));
    let commands = world.take_commands();
    let Command::Publish { participant, track, request } = &commands[0] else { panic!("the node is told: {commands:?}") };
    assert_eq!((*participant, *track, request.kind, request.cid.as_str()), (alice.id, id, MediaKind::Video, "cam"));
}

#[test]
fn others_see_a_track_when_its_media_is_negotiated_and_not_before() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take(alice.conn);
    let (id, sid) = world.add_track(&alice, camera("cam"));
    assert_eq!(updates(&world.take(bob.conn)), []);
    world.ready(&alice, id);
    let seen = updates(&world.take(bob.conn));
    let track = &seen[0].tracks[0];
    assert_eq!((track.sid.as_str(), track.mime_type.as_str(), track.mid.as_str()), (sid.as_str(), "video/VP8", "0"));
    assert_eq!(track.codecs[0].video_layer_mode(), Mode::OneSpatialLayerPerStream);
    assert!(seen[0].is_publisher);
    assert_eq!(updates(&world.take(alice.conn)), [], "a publisher is not told of its own track");
}

#[test]
fn a_track_that_asked_for_svc_and_got_vp8_is_shown_as_vp8() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let svc = proto::SimulcastCodec { codec: "vp9".to_owned(), cid: "cam".to_owned(), ..Default::default() };
    let (id, _) = world.add_track(&alice, proto::AddTrackRequest { simulcast_codecs: vec![svc], ..camera("cam") });
    world.ready(&alice, id);
    let seen = updates(&world.take(bob.conn));
    let codec = &seen.last().unwrap().tracks[0].codecs[0];
    assert_eq!((codec.mime_type.as_str(), codec.video_layer_mode()), ("video/VP8", Mode::OneSpatialLayerPerStream));
}

#[test]
fn publishing_needs_the_right_and_for_the_source() {
    let mut world = World::new();
    let listener = world.join_as(Grants { can_publish: false, ..grants("listener") }, JoinParams::default());
    let speaker =
        world.join_as(Grants { can_publish_sources: vec![PublishSource::Microphone], ..grants("speaker") }, JoinParams::default());
    world.send(listener.conn, Request::AddTrack(microphone("mic")));
    assert_eq!(reply(&world.take(listener.conn)).unwrap().reason(), Reason::NotAllowed);
    world.send(speaker.conn, Request::AddTrack(camera("cam")));
    assert_eq!(reply(&world.take(speaker.conn)).unwrap().reason(), Reason::NotAllowed);
    world.add_track(&speaker, microphone("mic"));
    assert_eq!(world.take_commands().iter().filter(|command| matches!(command, Command::Publish { .. })).count(), 1);
}

#[test]
fn a_right_to_a_source_is_a_right_to_its_kind_of_media_only() {
    use TrackSource::{Camera, Microphone, ScreenShare, ScreenShareAudio, Unknown};
    let cases = [(TrackType::Audio, [Microphone, ScreenShareAudio, Unknown]), (TrackType::Video, [Camera, ScreenShare, Unknown])];
    for (kind, allowed) in cases {
        for source in [Unknown, Camera, Microphone, ScreenShare, ScreenShareAudio] {
            let mut world = World::new();
            let alice = world.active("alice");
            world.send(alice.conn, Request::AddTrack(proto::AddTrackRequest { r#type: kind.into(), source: source.into(), ..camera("x") }));
            let messages = world.take(alice.conn);
            let expected = if allowed.contains(&source) { None } else { Some(Reason::InvalidRequest) };
            assert_eq!(reply(&messages).map(|reply| reply.reason()), expected, "{kind:?} {source:?}");
            assert_eq!(published(&messages).len(), usize::from(expected.is_none()));
        }
    }
}

#[test]
fn tracks_that_are_neither_audio_nor_video_are_refused() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.send(alice.conn, Request::AddTrack(proto::AddTrackRequest { r#type: TrackType::Data.into(), ..camera("x") }));
    let answer = reply(&world.take(alice.conn)).unwrap();
    assert_eq!(answer.reason(), Reason::UnsupportedType);
    assert!(matches!(answer.request, Some(proto::request_response::Request::AddTrack(_))), "the answer says to what");
}

#[test]
fn announcing_the_same_track_again_gives_the_same_answer() {
    let mut world = World::new();
    let alice = world.active("alice");
    let first = world.add_track(&alice, camera("cam"));
    world.take_commands();
    assert_eq!(world.add_track(&alice, camera("cam")), first);
    assert_eq!(world.take_commands(), []);
}

#[test]
fn a_track_published_again_waits_for_the_end_of_the_first() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (first, _) = world.publish(&alice);
    world.send(alice.conn, Request::AddTrack(camera("cam")));
    let messages = world.take(alice.conn);
    assert_eq!(reply(&messages).unwrap().reason(), Reason::Queued);
    assert_eq!(published(&messages), []);
    world.take_commands();
    world.media(Event::TrackEnded { participant: alice.id, track: first });
    let answer = published(&world.take(alice.conn));
    assert_ne!(parse_track_sid(&answer[0].track.as_ref().unwrap().sid), Some(first));
    assert!(matches!(world.take_commands().as_slice(), [Command::Unpublish { .. }, Command::Publish { .. }]));
}

#[test]
fn the_number_of_tracks_is_bounded_and_forgotten_announcements_make_room() {
    let mut world = World::new();
    let alice = world.active("alice");
    for number in 0..crate::limits::PENDING_TRACKS {
        world.add_track(&alice, camera(&format!("cam{number}")));
    }
    world.take(alice.conn);
    world.send(alice.conn, Request::AddTrack(camera("more")));
    assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), Reason::LimitExceeded);
    world.advance_alive(crate::limits::PENDING_TRACK_AGE, &[&alice]);
    world.add_track(&alice, camera("more"));
    assert!(world.take(alice.conn).iter().any(|message| matches!(message, Response::TrackUnpublished(_))));
}

#[test]
fn a_client_that_mutes_its_track_is_heard_by_the_node_and_the_others_only() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (id, sid) = world.publish(&alice);
    world.advance(crate::limits::UPDATE_BEAT);
    world.take(bob.conn);
    world.take_commands();
    world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: true }));
    assert_eq!(world.take_commands(), [Command::SetMuted { track: id, muted: true }]);
    assert!(updates(&world.take(bob.conn))[0].tracks[0].muted);
    assert_eq!(updates(&world.take(alice.conn)), []);
    world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid, muted: true }));
    assert_eq!(updates(&world.take(bob.conn)), [], "no change, no word");
}

#[test]
fn nobody_mutes_the_track_of_another() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (_, sid) = world.publish(&alice);
    world.take(bob.conn);
    world.send(bob.conn, Request::Mute(proto::MuteTrackRequest { sid, muted: true }));
    assert_eq!(reply(&world.take(bob.conn)).unwrap().reason(), Reason::NotFound);
}

#[test]
fn a_track_that_is_muted_before_its_media_comes_is_announced_muted() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (id, sid) = world.add_track(&alice, camera("cam"));
    world.take_commands();
    world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid, muted: true }));
    assert_eq!(world.take_commands(), [Command::SetMuted { track: id, muted: true }]);
    world.ready(&alice, id);
    assert!(updates(&world.take(bob.conn))[0].tracks[0].muted);
}

#[test]
fn a_track_that_ends_disappears_for_others() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (id, _) = world.publish(&alice);
    world.advance(crate::limits::UPDATE_BEAT);
    world.take(bob.conn);
    world.media(Event::TrackEnded { participant: alice.id, track: id });
    assert_eq!(updates(&world.take(bob.conn))[0].tracks, []);
    world.media(Event::TrackEnded { participant: alice.id, track: id });
    assert_eq!(world.signaling.counters().stale_events, 1);
}

#[test]
fn a_track_update_reaches_the_others() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (_, track_sid) = world.publish(&alice);
    world.advance(crate::limits::UPDATE_BEAT);
    world.take(bob.conn);
    world.send(alice.conn, resize(&track_sid, 640));
    assert_eq!(updates(&world.take(bob.conn))[0].tracks[0].width, 640);
    world.send(alice.conn, Request::UpdateAudioTrack(proto::UpdateLocalAudioTrack { track_sid, features: vec![] }));
    assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), Reason::NotFound);
}

fn resize(track_sid: &str, width: u32) -> Request {
    Request::UpdateVideoTrack(proto::UpdateLocalVideoTrack { track_sid: track_sid.to_owned(), width, height: 360 })
}

#[test]
fn a_track_update_that_changes_nothing_that_others_see_is_not_told() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, ready) = world.publish(&alice);
    let (_, pending) = world.add_track(&alice, camera("second"));
    world.send(alice.conn, resize(&ready, 640));
    world.advance(2 * crate::limits::UPDATE_BEAT);
    world.take(bob.conn);
    world.send(alice.conn, resize(&ready, 640));
    world.send(alice.conn, resize(&pending, 640));
    world.ready(&alice, track);
    world.advance(2 * crate::limits::UPDATE_BEAT);
    assert_eq!(updates(&world.take(bob.conn)), []);
}

#[test]
fn changes_in_a_row_are_told_at_once_and_the_last_one_counts() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (_, sid) = world.publish(&alice);
    world.advance(crate::limits::UPDATE_BEAT);
    world.take(bob.conn);
    for muted in [true, false].repeat(100).into_iter().chain([true]) {
        world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted }));
    }
    assert_eq!(updates(world.inbox(bob.conn)).len(), 1, "the first is told without delay");
    world.advance(crate::limits::UPDATE_BEAT);
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen.len(), 2);
    assert!(seen[1].tracks[0].muted);
}

#[test]
fn one_that_changes_all_the_time_leaves_the_others_their_lines() {
    let mut world = World::new();
    let alice = world.join_as(Grants { can_update_own_metadata: true, ..grants("alice") }, JoinParams::default());
    world.transport(&alice, TransportRole::Subscriber, TransportState::Connected);
    let bob = world.active("bob");
    let (_, sid) = world.publish(&alice);
    let metadata = "x".repeat(crate::limits::METADATA_BYTES);
    world.send(alice.conn, Request::UpdateMetadata(proto::UpdateParticipantMetadata { metadata, ..Default::default() }));
    world.take(bob.conn);
    let mut is_muted = false;
    for _ in 0..600 {
        is_muted = !is_muted;
        world.send(alice.conn, Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: is_muted }));
        world.advance_alive(Duration::from_millis(100), &[&bob]);
    }
    world.advance_alive(Duration::from_secs(5), &[&alice, &bob]);
    let seen = updates(&world.take(bob.conn));
    assert!((30..60).contains(&seen.len()), "{} updates of 64 kB in a minute", seen.len());
    assert_eq!(seen.last().unwrap().tracks[0].muted, is_muted, "in the end they know");
}

#[test]
fn tracks_published_and_ended_without_end_are_paid_from_the_same_budget() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take(bob.conn);
    for number in 0..2 * crate::limits::UPDATE_BURST {
        let (track, _) = world.add_track(&alice, camera(&format!("cam{number}")));
        world.ready(&alice, track);
        world.media(Event::TrackEnded { participant: alice.id, track });
    }
    let (_, last) = world.publish(&alice);
    let told = updates(&world.take(bob.conn)).len();
    assert!(told <= crate::limits::UPDATE_BURST as usize, "{told}");
    world.advance_alive(Duration::from_secs(5), &[&alice, &bob]);
    let seen = updates(&world.take(bob.conn));
    assert_eq!(seen.last().unwrap().tracks.iter().map(|track| &track.sid).collect::<Vec<_>>(), [&last], "in the end they know");
}

#[test]
fn too_many_changes_of_tracks_and_profile_are_refused_by_name() {
    let mut world = World::new();
    let alice = world.join_as(Grants { can_update_own_metadata: true, ..grants("alice") }, JoinParams::default());
    let (_, sid) = world.publish(&alice);
    for width in 0..crate::limits::CHANGE_REQUEST_BURST {
        world.send(alice.conn, resize(&sid, width));
    }
    assert_eq!(reply(&world.take(alice.conn)), None);
    let rename = Request::UpdateMetadata(proto::UpdateParticipantMetadata { name: "A".to_owned(), ..Default::default() });
    for request in [resize(&sid, 1), rename.clone()] {
        world.send(alice.conn, request);
        assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), Reason::LimitExceeded);
    }
    world.advance(Duration::from_secs(1));
    world.send(alice.conn, rename);
    assert_eq!(reply(&world.take(alice.conn)).unwrap().reason(), Reason::Ok);
}

#[test]
fn offers_answers_and_candidates_go_where_they_belong() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let description = |id| proto::SessionDescription { sdp: "v=0".to_owned(), id, ..Default::default() };
    world.send(alice.conn, Request::Offer(description(7)));
    world.send(alice.conn, Request::Answer(description(8)));
    world.send(alice.conn, Request::Trickle(proto::TrickleRequest { candidate_init: "{}".to_owned(), ..Default::default() }));
    let sdp = "v=0".to_owned();
    assert_eq!(
        world.take_commands(),
        [
            Command::Offer { participant: alice.id, id: 7, sdp: sdp.clone() },
            Command::Answer { participant: alice.id, id: 8, sdp: sdp.clone() },
        ]
    );
    world.media(Event::Answer { participant: alice.id, id: 7, sdp: sdp.clone(), subscribed: Vec::new() });
    world.media(Event::Offer { participant: alice.id, id: 9, sdp });
    let messages = world.take(alice.conn);
    assert!(matches!(&messages[0], Response::Answer(answer) if answer.id == 7 && answer.r#type == "answer"));
    assert!(matches!(&messages[1], Response::Offer(offer) if offer.id == 9 && offer.r#type == "offer"));
}

#[test]
fn a_track_whose_media_is_negotiated_anew_is_not_forced_on_who_declined_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (track, sid) = world.publish(&alice);
    world
        .send(bob.conn, Request::Subscription(proto::UpdateSubscription { track_sids: vec![sid], subscribe: false, ..Default::default() }));
    world.take_commands();
    world.ready(&alice, track);
    assert_eq!(world.take_commands(), []);
}
