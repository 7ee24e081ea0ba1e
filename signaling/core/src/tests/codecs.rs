use livekit_protocol::{BackupCodecPolicy, VideoQuality, request_response::Reason};
use sfu_api::{BackupPolicy, PublishRequest, WantedCodec};

use super::*;

fn codec(codec: &str, cid: &str) -> proto::SimulcastCodec {
    proto::SimulcastCodec { codec: codec.to_owned(), cid: cid.to_owned(), ..Default::default() }
}

/// As livekit-client announces a camera in VP9 with VP8 as backup.
fn two_codecs() -> proto::AddTrackRequest {
    proto::AddTrackRequest { simulcast_codecs: vec![codec("vp9", "cam"), codec("vp8", "")], ..camera("cam") }
}

/// As it adds the backup to the published track.
fn backup(sid: &str) -> proto::AddTrackRequest {
    proto::AddTrackRequest { sid: sid.to_owned(), simulcast_codecs: vec![codec("vp8", "cam-2")], ..camera("cam-2") }
}

fn published(messages: &[Response]) -> Option<proto::TrackPublishedResponse> {
    messages.iter().find_map(|message| match message {
        Response::TrackPublished(published) => Some(published.clone()),
        _ => None,
    })
}

fn requests(world: &mut World) -> Vec<PublishRequest> {
    let request = |command| match command {
        Command::Publish { request, .. } | Command::PublishCodec { request, .. } => Some(request),
        _ => None,
    };
    world.take_commands().into_iter().filter_map(request).collect()
}

/// A track in VP9 whose media is there.
fn vp9(world: &mut World, client: &Client) -> (TrackId, String) {
    let (id, sid) = world.add_track(client, two_codecs());
    let ready = Event::TrackReady { participant: client.id, track: id, mid: "0".into(), mime: "video/VP9".into(), simulcast: false };
    world.input(Input::Media(ready));
    (id, sid)
}

fn want(world: &mut World, client: &Client, track: TrackId, codecs: &[(&str, Option<u8>)]) -> Vec<proto::SubscribedQualityUpdate> {
    let codecs = codecs.iter().map(|(mime, max_spatial)| WantedCodec { mime: (*mime).to_owned(), max_spatial: *max_spatial });
    let event = Event::WantedLayers { participant: client.id, track, codecs: codecs.collect() };
    world.input(Input::Media(event));
    updates_of_quality(&world.take(client.conn))
}

fn updates_of_quality(messages: &[Response]) -> Vec<proto::SubscribedQualityUpdate> {
    let update = |message: &Response| match message {
        Response::SubscribedQualityUpdate(update) => Some(update.clone()),
        _ => None,
    };
    messages.iter().filter_map(update).collect()
}

fn enabled(codec: &proto::SubscribedCodec) -> [bool; 3] {
    [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
        .map(|quality| codec.qualities.iter().any(|told| told.quality() == quality && told.enabled))
}

#[test]
fn the_media_node_learns_of_backups_and_what_to_do_with_them() {
    for (policy, expected) in [
        (BackupCodecPolicy::PreferRegression, BackupPolicy::Regress),
        (BackupCodecPolicy::Regression, BackupPolicy::Regress),
        (BackupCodecPolicy::Simulcast, BackupPolicy::Simulcast),
    ] {
        let mut world = World::new();
        let alice = world.active("alice");
        world.take_commands();
        world.add_track(&alice, proto::AddTrackRequest { backup_codec_policy: policy.into(), ..two_codecs() });
        let request = requests(&mut world).remove(0);
        assert_eq!(request.preferred_codec, "video/vp9");
        assert_eq!((request.backup_codecs, request.backup_policy), (vec!["video/vp8".to_owned()], expected));
    }
}

#[test]
fn a_second_codec_of_a_track_is_published_under_its_sid() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (id, sid) = vp9(&mut world, &alice);
    world.take_commands();
    world.take(alice.conn);
    world.send(alice.conn, Request::AddTrack(backup(&sid)));
    let answer = published(&world.take(alice.conn)).unwrap();
    assert_eq!((answer.cid.as_str(), answer.track.unwrap().sid), ("cam-2", sid.clone()));
    let commands = world.take_commands();
    let Some(Command::PublishCodec { participant, track, request }) = commands.first() else { panic!("{commands:?}") };
    assert_eq!((*participant, *track), (alice.id, id));
    assert_eq!((request.cid.as_str(), request.preferred_codec.as_str()), ("cam-2", "video/vp8"));
    assert_eq!(request.layers.len(), camera("x").layers.len());

    world.take(bob.conn);
    let ready = Event::CodecReady { participant: alice.id, track: id, mid: "3".into(), mime: "video/VP8".into(), simulcast: true };
    world.input(Input::Media(ready));
    world.advance_alive(Duration::from_secs(2), &[&alice, &bob]);
    let track = updates(&world.take(bob.conn)).last().unwrap().tracks[0].clone();
    let codecs: Vec<_> = track.codecs.iter().map(|codec| (codec.mime_type.as_str(), codec.mid.as_str(), codec.cid.as_str())).collect();
    assert_eq!(codecs, [("video/VP9", "0", "cam"), ("video/VP8", "3", "cam-2")]);
    assert_eq!((track.mime_type.as_str(), track.mid.as_str()), ("video/VP9", "0"), "the preferred codec is the track's");
}

#[test]
fn who_joins_before_the_media_of_a_second_codec_is_told_of_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, sid) = vp9(&mut world, &alice);
    world.active("bob");
    world.send(alice.conn, Request::AddTrack(backup(&sid)));
    let carol = world.connect(grants("carol"), JoinParams::default());
    let join =
        world.take(carol).into_iter().find_map(|message| if let Response::Join(join) = message { Some(join) } else { None }).unwrap();
    let told = &join.other_participants.iter().find(|other| other.identity == "alice").unwrap().tracks[0];
    assert_eq!(told.codecs.iter().map(|codec| codec.cid.as_str()).collect::<Vec<_>>(), ["cam", "cam-2"]);
}

#[test]
fn asking_twice_for_the_same_codec_is_answered_twice() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, sid) = vp9(&mut world, &alice);
    world.take(alice.conn);
    for _ in 0..2 {
        world.send(alice.conn, Request::AddTrack(backup(&sid)));
        assert_eq!(published(&world.take(alice.conn)).unwrap().track.unwrap().codecs.len(), 2);
    }
}

#[test]
fn a_codec_that_can_not_be_added_is_refused_with_a_reason() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (_, sid) = vp9(&mut world, &alice);
    world.add_track(&alice, camera("other"));
    let (_, audio) = world.add_track(&alice, microphone("mic"));
    let cases = [
        (&alice, backup("TR_nothing"), Reason::NotFound),
        (&bob, backup(&sid), Reason::NotFound),
        (&alice, proto::AddTrackRequest { cid: "other".into(), ..backup(&sid) }, Reason::InvalidRequest),
        (&alice, proto::AddTrackRequest { cid: "cam".into(), ..backup(&sid) }, Reason::InvalidRequest),
        (&alice, proto::AddTrackRequest { simulcast_codecs: vec![], ..backup(&sid) }, Reason::InvalidRequest),
        (&alice, proto::AddTrackRequest { simulcast_codecs: vec![codec("VP9", "cam-2")], ..backup(&sid) }, Reason::InvalidRequest),
        (&alice, backup(&audio), Reason::NotFound),
    ];
    world.take_commands();
    for (client, request, reason) in cases {
        world.take(client.conn);
        world.send(client.conn, Request::AddTrack(request.clone()));
        assert_eq!(reply(&world.take(client.conn)).map(|reply| reply.reason()), Some(reason), "{request:?}");
    }
    assert_eq!(world.take_commands(), []);
}

#[test]
fn codecs_of_a_track_are_bounded() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (_, sid) = vp9(&mut world, &alice);
    let refused = (0..20).filter(|n| {
        let request =
            proto::AddTrackRequest { cid: format!("cam-{n}"), simulcast_codecs: vec![codec(&format!("codec{n}"), "x")], ..backup(&sid) };
        world.send(alice.conn, Request::AddTrack(request));
        reply(&world.take(alice.conn)).is_some_and(|reply| reply.reason() == Reason::LimitExceeded)
    });
    assert_eq!(refused.count(), 20 + 2 - crate::limits::CODECS_PER_TRACK);
}

#[test]
fn a_publisher_hears_which_codecs_and_qualities_are_wanted() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (id, sid) = vp9(&mut world, &alice);
    world.take(alice.conn);
    let told = want(&mut world, &alice, id, &[("video/VP9", Some(2)), ("video/VP8", Some(0))]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].track_sid, sid);
    // Clients compare the names with what they were configured with.
    let names: Vec<&str> = told[0].subscribed_codecs.iter().map(|codec| codec.codec.as_str()).collect();
    assert_eq!(names, ["vp9", "vp8"]);
    assert_eq!(told[0].subscribed_codecs.iter().map(enabled).collect::<Vec<_>>(), [[true; 3], [true, false, false]]);
    let told = want(&mut world, &alice, id, &[("video/VP9", None), ("video/VP8", Some(1))]);
    assert_eq!(told[0].subscribed_codecs.iter().map(enabled).collect::<Vec<_>>(), [[false; 3], [true, true, false]]);
    #[expect(deprecated, reason = "older clients read it")]
    let legacy = &told[0].subscribed_qualities;
    assert!(legacy.len() == 3 && legacy.iter().all(|quality| !quality.enabled), "of the preferred codec: {legacy:?}");
}

#[test]
fn a_client_that_comes_back_hears_again_what_is_wanted() {
    let mut world = World::new();
    let alice = world.active("alice");
    let (id, _) = vp9(&mut world, &alice);
    want(&mut world, &alice, id, &[("video/VP9", Some(0))]);
    let resume = JoinParams { reconnect: true, participant_sid: Some(alice.sid.clone()), ..JoinParams::default() };
    let conn = world.connect(alice.grants.clone(), resume);
    let told = updates_of_quality(&world.take(conn));
    assert_eq!(told.iter().map(|update| enabled(&update.subscribed_codecs[0])).collect::<Vec<_>>(), [[true, false, false]]);
}

#[test]
fn a_codec_that_came_instead_of_the_preferred_one_is_not_listed_twice() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    let (id, _) = world.add_track(&alice, two_codecs());
    world.ready(&alice, id);
    let track = updates(&world.take(bob.conn)).last().unwrap().tracks[0].clone();
    assert_eq!(track.codecs.iter().map(|codec| codec.mime_type.as_str()).collect::<Vec<_>>(), ["video/VP8"]);
}

#[test]
fn redundancy_is_not_for_those_who_disable_it_or_encrypt() {
    let cases = [
        (proto::AddTrackRequest::default(), true),
        (proto::AddTrackRequest { disable_red: true, ..Default::default() }, false),
        (proto::AddTrackRequest { encryption: proto::encryption::Type::Gcm.into(), ..Default::default() }, false),
    ];
    for (given, expected) in cases {
        let mut world = World::new();
        let alice = world.active("alice");
        world.take_commands();
        let request = proto::AddTrackRequest { disable_red: given.disable_red, encryption: given.encryption, ..microphone("mic") };
        let (_, _) = world.add_track(&alice, request);
        assert_eq!(requests(&mut world).remove(0).red, expected, "{given:?}");
    }
}
