//! What operators do: read one participant's quality, read metrics, empty a server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sfu_api::telemetry::{Direction, LayerLimit, LayerPlace, LayerState, TrackSample};
use sfu_api::{
    Command, Event, FailReason, MediaKind, ParticipantId, Quality, QualityCause, QualityDirection, TrackId, TransportRole, TransportState,
};
use signaling_api::VideoGrant;
use signaling_server::auth::TokenOptions;
use signaling_server::{DrainRequest, MetricsAccess};

use crate::harness::{Client, TestServer, minted, soon, token};

#[tokio::test]
async fn a_participants_seconds_are_read_with_an_administrators_token_only() {
    let mut server = TestServer::start().await;
    let (_alice, participant, track, sid) = published(&mut server).await;
    server.events.send(Event::Samples(vec![sample(participant, track)])).await.unwrap();
    let path = "/v1/rooms/lobby/participants/alice/quality";
    let quality = soon(async {
        loop {
            let reply = server.http("GET", path, &[bearer(&admin("lobby")).as_ref()], "").await;
            assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{}", reply.body);
            if reply.json()["tracks"].as_array().is_some_and(|tracks| !tracks.is_empty()) {
                return reply.json();
            }
        }
    })
    .await;
    assert_eq!((quality["identity"].as_str(), quality["events"][0]["event"].as_str()), (Some("alice"), Some("joined")));
    let track = &quality["tracks"][0];
    assert_eq!(
        (track["sid"].as_str(), track["source"].as_str(), track["direction"].as_str()),
        (Some(sid.as_str()), Some("camera"), Some("out"))
    );
    assert_eq!((track["rttMs"][0].as_u64(), track["kbps"][0].as_u64(), track["residualLost"][0].as_u64()), (Some(80), Some(1000), Some(2)));
    assert_eq!((track["layer"][0].as_u64(), track["targetLayer"][0].as_u64()), (Some(0), Some(2)));
    assert_eq!(track["limitedBy"][0], "keyframe");
    assert!(track["explanation"].as_str().unwrap().contains("keyframe"), "{track}");
    let newest = track["at"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    let since = track["limitedSince"].as_u64().unwrap();
    assert_eq!(track["wantedLayer"][0], 2);
    assert!((newest - 6..newest).contains(&since), "{track}");

    for (token, status) in [(admin("other"), 403), (token("alice", "lobby"), 403), ("nonsense".to_owned(), 401)] {
        let reply = server.http("GET", path, &[bearer(&token).as_ref()], "").await;
        assert_eq!((reply.status, reply.header("content-type")), (status, "application/problem+json"), "{token}");
    }
    let lister =
        minted(&TokenOptions { grants: VideoGrant { room_list: true, ..VideoGrant::default() }, ttl: HOUR, ..TokenOptions::default() });
    assert_eq!(server.http("GET", path, &[bearer(&lister).as_ref()], "").await.status, 200);
    let nobody = server.http("GET", "/v1/rooms/lobby/participants/bob/quality", &[bearer(&lister).as_ref()], "").await;
    assert_eq!((nobody.status, nobody.json()["code"].as_str()), (404, Some("participant-not-found")));
    for query in ["seconds=0", "seconds=99999", "seconds=x", "minutes=1"] {
        let reply = server.http("GET", &format!("{path}?{query}"), &[bearer(&lister).as_ref()], "").await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("bad-request")), "{query}");
    }
}

#[tokio::test]
async fn the_quality_of_a_connection_has_one_level_direction_and_cause_everywhere() {
    use livekit_protocol::{ConnectionQuality, signal_response};
    let mut server = TestServer::start().await;
    let mut alice = server.open(&format!("/rtc?protocol=17&access_token={}", token("alice", "lobby"))).await.unwrap();
    let Some(Command::Join { participant, .. }) = soon(server.commands.recv()).await else { panic!("not at the node") };
    let path = "/v1/rooms/lobby/participants/alice/quality";
    let ask = async || server.http("GET", path, &[bearer(&admin("lobby")).as_ref()], "").await.json();
    assert!(ask().await["connection"].is_null(), "nothing is known yet");
    for (quality, direction, cause, told) in [
        (Quality::Poor, QualityDirection::Up, QualityCause::Loss, ConnectionQuality::Poor),
        (Quality::Excellent, QualityDirection::Neither, QualityCause::None, ConnectionQuality::Excellent),
    ] {
        server.events.send(Event::ConnectionQuality { participant, quality, score: 2.514, direction, cause }).await.unwrap();
        let update = alice.until(|message| match message {
            signal_response::Message::ConnectionQuality(update) => Some(update.updates),
            _ => None,
        });
        assert_eq!(update.await[0].quality(), told);
        let labels = format!(r#"{{cause="{}",direction="{}",level="{}"}}"#, cause.code(), direction.code(), quality.code());
        server.until_metric(&format!("sfu_connection_quality_participants{labels}"), 1).await;
        server.until_metric(&format!("sfu_connection_quality_changes_total{labels}"), 1).await;
        let found = ask().await["connection"].clone();
        assert_eq!(
            (&found["level"], &found["direction"], &found["cause"]),
            (&quality.code().into(), &direction.code().into(), &cause.code().into())
        );
        assert_eq!((found["score"].as_f64(), found["explanation"].as_str()), (Some(2.51), Some(cause.explanation())));
        assert!(found["since"].as_f64() > Some(1.6e9), "{found}");
    }
    let all = ask().await;
    let levels: Vec<_> = all["connectionChanges"].as_array().unwrap().iter().map(|change| change["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["poor", "excellent"]);
    server.until_metric(r#"sfu_connection_quality_participants{cause="loss",direction="up",level="poor"}"#, 0).await;
}

#[tokio::test]
async fn an_answer_has_a_bound_and_says_how_to_ask_for_less() {
    let mut server = TestServer::start().await;
    let (_alice, participant, track, sid) = published(&mut server).await;
    for _ in 0..73 {
        server.events.send(Event::Samples(vec![sample(participant, track); 1_000])).await.unwrap();
    }
    let ask = async |query: &str| {
        let path = format!("/v1/rooms/lobby/participants/alice/quality?{query}");
        server.http("GET", &path, &[bearer(&admin("lobby")).as_ref()], "").await
    };
    let refused = soon(async {
        loop {
            let reply = ask("seconds=3600").await;
            if reply.status != 200 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("bad-request")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("`track`"), "{}", refused.body);
    assert_eq!(ask(&format!("seconds=3600&track={sid}x")).await.status, 200, "of other tracks");
}

#[tokio::test]
async fn nothing_that_a_client_says_becomes_a_label() {
    use livekit_protocol::{AddTrackRequest, SimulcastCodec, TrackType, signal_request};
    let mut server = TestServer::with(|config| config.limits.sockets_per_ip = 10_000).await;
    let mut before = None;
    for round in 0..5 {
        let evil = format!("evil{round}");
        let (mut client, _) = server.enter(&token(&evil, &evil)).await;
        let codec = SimulcastCodec { codec: format!("video/{evil}"), cid: evil.clone(), ..SimulcastCodec::default() };
        let add = AddTrackRequest {
            cid: evil.clone(),
            name: evil.clone(),
            r#type: TrackType::Video.into(),
            source: 100 + round,
            simulcast_codecs: vec![codec],
            ..AddTrackRequest::default()
        };
        client.send(signal_request::Message::AddTrack(add)).await;
        let (participant, track) = loop {
            if let Some(Command::Publish { participant, track, .. }) = soon(server.commands.recv()).await {
                break (participant, track);
            }
        };
        let mime = format!("video/{evil}");
        server.events.send(Event::TrackReady { participant, track, mid: evil.clone(), mime, simulcast: false }).await.unwrap();
        server.events.send(Event::Samples(vec![sample(participant, track)])).await.unwrap();
        for (method, path) in [
            ("GET", format!("/{evil}")),
            ("GET", format!("/v1/{evil}")),
            (evil.as_str(), "/rtc".to_owned()),
            ("GET", format!("/v1/rooms/{evil}/participants/{evil}/quality")),
            ("POST", format!("/v1/rooms/{evil}/participants/{evil}/stats")),
            ("POST", format!("/twirp/{evil}.{evil}/{evil}")),
            ("POST", format!("/twirp/livekit.RoomService/{evil}")),
            ("GET", format!("/rtc/validate?access_token={evil}&sdk={evil}")),
        ] {
            let headers = [("User-Agent", evil.as_str()), ("X-Forwarded-For", &evil), ("Authorization", &evil)];
            server.http(method, &path, &headers, &evil).await;
        }
        // the rooms are counted once a second, and what is to be seen is their labels, not how many there are
        server.until_metric("signaling_participants", u64::try_from(round).unwrap() + 1).await;
        let text = server.get("/metrics").await.body;
        let series: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
        assert!(!text.contains("evil"), "{text}");
        // scraping is a route too, and the first round finds it for the first time
        if round > 1 {
            assert_eq!(before.as_ref(), Some(&series), "no series is new");
        }
        before = Some(series);
        drop(client);
        server.until_metric("signaling_ws_connections", 0).await;
    }
}

#[tokio::test]
async fn a_stay_is_traced_under_the_id_that_the_client_has() {
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let mut server = TestServer::with(|config| config.traces = Some(url.parse().unwrap())).await;
    let (_alice, join) = server.join("alice", "lobby").await;
    let Some(Command::Join { participant, .. }) = soon(server.commands.recv()).await else { panic!("not at the node") };
    for role in [TransportRole::Publisher, TransportRole::Subscriber] {
        server.media_connected(participant, role).await;
    }
    server.until_metric(r#"sfu_joins_total{reason="none",result="ok"}"#, 1).await;
    let heard = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut heard = String::new();
        while !heard.contains(r#""name":"join""#) {
            let (mut stream, _) = collector.accept().unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"}]}]}") {
                let mut chunk = [0; 4096];
                let length = stream.read(&mut chunk).unwrap();
                assert!(length > 0, "the request is not whole: {}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&chunk[..length]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            heard.push_str(&String::from_utf8(bytes).unwrap());
        }
        heard
    });
    let heard = soon(heard).await.unwrap();
    let sid = join.participant.unwrap().sid;
    for name in ["signal", "media", "join"] {
        assert!(heard.contains(&format!(r#""name":"{name}""#)), "{heard}");
    }
    assert_eq!(heard.matches(&format!(r#"{{"key":"participant","value":{{"stringValue":"{sid}"}}}}"#)).count(), 3, "{heard}");
    server.until_metric(r#"sfu_trace_spans_total{result="sent"}"#, 3).await;
    assert!(!heard.contains("alice") && !heard.contains("lobby"), "names are nobody's business");
}

#[tokio::test]
async fn a_client_reports_on_itself_once_a_second_and_on_nobody_else() {
    let mut server = TestServer::start().await;
    let (_alice, participant, track, sid) = published(&mut server).await;
    let (_bob, _) = server.join("bob", "lobby").await;
    server.events.send(Event::Samples(vec![sample(participant, track)])).await.unwrap();
    server.events.send(Event::Samples(Vec::new())).await.unwrap();
    let entry = format!(r#"{{"sid":"{sid}","direction":"out","freezeDuration":0.4,"framesPerSecond":12}}"#);
    let report = format!(r#"{{"tracks":[{entry}]}}"#);
    let path = "/v1/rooms/lobby/participants/alice/stats";
    let post = async |token: &str, body: &str| server.http("POST", path, &[bearer(token).as_ref()], body).await;
    assert_eq!(post(&token("bob", "lobby"), &report).await.status, 403);
    assert_eq!(post(&token("alice", "other"), &report).await.status, 403);
    assert_eq!(post("", &report).await.status, 401);
    assert_eq!(post(&token("alice", "lobby"), &report).await.status, 204);
    let too_soon = post(&token("alice", "lobby"), &report).await;
    assert_eq!((too_soon.status, too_soon.json()["code"].as_str()), (429, Some("rate-limited")));
    assert_eq!(server.metric(r#"sfu_client_reports_total{result="taken"}"#).await, 1);
    assert_eq!(server.metric(r#"sfu_client_reports_total{result="refused"}"#).await, 4);
    let twice = format!(r#"{{"tracks":[{entry},{entry}]}}"#);
    let reply = server.http("POST", "/v1/rooms/lobby/participants/bob/stats", &[bearer(&token("bob", "lobby")).as_ref()], &twice).await;
    assert_eq!((reply.status, reply.json()["detail"].as_str()), (400, Some(format!("`{sid}` stands twice").as_str())));
}

#[tokio::test]
async fn a_failed_join_has_one_word_everywhere() {
    let mut server = TestServer::with(|config| config.signaling.resume_grace = Duration::from_millis(1)).await;
    let (mut alice, _) = server.join("alice", "lobby").await;
    let Some(Command::Join { participant, .. }) = soon(server.commands.recv()).await else { panic!("not at the node") };
    let state = TransportState::Failed(FailReason::DtlsFingerprint);
    server.events.send(Event::Transport { participant, role: TransportRole::Subscriber, state }).await.unwrap();
    assert_eq!(alice.close_code().await.1, "dtls-fingerprint", "what the SDK logs");
    server.until_metric(r#"sfu_joins_total{reason="dtls-fingerprint",result="failed"}"#, 1).await;
    let reply = server.http("GET", "/v1/rooms/lobby/participants/alice/quality", &[bearer(&admin("lobby")).as_ref()], "").await;
    let last = reply.json()["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["event"].as_str(), last["reason"].as_str()), (Some("ended"), Some("dtls-fingerprint")));
    assert_eq!(server.metric(r#"sfu_joins_total{reason="none",result="ok"}"#).await, 0);
}

#[tokio::test]
async fn metrics_are_for_those_who_may_read_them() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/metrics").await.status, 200, "this machine");
    for header in [("X-Forwarded-For", "127.0.0.1"), ("Via", "1.1 proxy"), ("Forwarded", "for=127.0.0.1")] {
        let reply = server.http("GET", "/metrics", &[header], "").await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (403, Some("forbidden")), "{header:?}: somebody behind a proxy");
    }
    let server = TestServer::with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    assert_eq!(server.http("GET", "/metrics", &[("X-Forwarded-For", "198.51.100.7")], "").await.status, 403);
    for header in [("X-Real-IP", "198.51.100.7"), ("Via", "1.1 proxy"), ("X-Forwarded-For", "unknown"), ("X-Forwarded-For", "127.0.0.1")] {
        let status = server.http("GET", "/metrics", &[header], "").await.status;
        assert_eq!(status, 403, "{header:?}: a trusted proxy that does not say whose request it is");
    }
    let server = TestServer::with(|config| config.metrics = MetricsAccess::Shared(vec!["10.0.0.0/8".parse().unwrap()])).await;
    assert_eq!(server.get("/metrics").await.status, 403);
}

#[tokio::test]
async fn metrics_can_have_an_address_of_their_own() {
    let mut server = TestServer::with(|config| config.metrics = MetricsAccess::Own("127.0.0.1:0".parse().unwrap())).await;
    assert_eq!(server.get("/metrics").await.status, 404);
    server.address = server.server.metrics_addr().unwrap();
    assert_eq!(server.get("/rtc").await.status, 404);
    for path in ["/metrics", "/livez", "/readyz", "/startupz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_node_that_hangs_is_seen_from_outside() {
    let server = TestServer::start().await;
    assert_eq!((server.get("/livez").await.status, server.get("/readyz").await.status), (200, 200));
    server.pulse.store(false, Ordering::Relaxed);
    let answer = server.get("/livez").await;
    assert_eq!((answer.status, server.get("/readyz").await.status), (503, 503));
    assert!(answer.body.contains("a shard of the media node has not turned"), "{}", answer.body);
    server.pulse.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_drain_refuses_new_rooms_and_can_be_undone() {
    let server = TestServer::start().await;
    let (mut alice, _) = server.join("alice", "lobby").await;
    let grants = VideoGrant { room_create: true, room_list: true, ..VideoGrant::default() };
    let operator = minted(&TokenOptions { grants, ttl: HOUR, ..TokenOptions::default() });
    let ask = async |path: &str, body: &str| server.http("POST", path, &[bearer(&operator).as_ref()], body).await;
    assert_eq!(server.http("POST", "/v1/nodes/self:drain", &[bearer(&admin("lobby")).as_ref()], "").await.status, 403);
    assert_eq!(ask("/v1/nodes/self:drain", r#"{"deadline":1}"#).await.status, 400);

    let status = ask("/v1/nodes/self:drain", r#"{"deadlineS":3600}"#).await.json();
    assert_eq!((status["ready"].as_bool(), status["drain"]["phase"].as_str()), (Some(false), Some("draining")));
    assert_eq!((server.get("/readyz").await.status, server.get("/livez").await.status), (503, 200), "calls go on");
    server.until_metric("sfu_draining", 1).await;
    let (_bob, _) = server.join("bob", "lobby").await;
    let refused = server.open(&format!("/rtc?access_token={}", token("carol", "new"))).await.err().unwrap();
    assert!(refused.0 == 503 && refused.1.starts_with("unavailable"), "{refused:?}");

    let status = ask("/v1/nodes/self:undrain", "").await.json();
    assert_eq!((status["ready"].as_bool(), status["drain"]["phase"].as_str()), (Some(true), Some("none")));
    assert_eq!(server.get("/readyz").await.status, 200);
    let (_carol, _) = server.join("carol", "new").await;

    ask("/v1/nodes/self:drain", r#"{"deadlineS":0}"#).await;
    let goodbye = alice.until(|message| match message {
        livekit_protocol::signal_response::Message::Leave(leave) => Some(leave),
        _ => None,
    });
    assert!(goodbye.await.can_reconnect, "the deadline is over");
    assert_eq!(alice.close_code().await.1, "server-shutdown");
}

#[tokio::test]
async fn over_rest_nobody_keeps_a_process_from_stopping() {
    let server = TestServer::start().await;
    let (_alice, _) = server.join("alice", "lobby").await;
    let grants = VideoGrant { room_create: true, room_list: true, ..VideoGrant::default() };
    let operator = minted(&TokenOptions { grants, ttl: HOUR, ..TokenOptions::default() });
    let undrain = async || server.http("POST", "/v1/nodes/self:undrain", &[bearer(&operator).as_ref()], "").await;
    // what SIGTERM does, and SIGUSR2
    let signals = server.server.drain();
    soon(signals.ask(DrainRequest::Stop { deadline: HOUR })).await;
    let refused = undrain().await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (412, Some("precondition-failed")));
    let status = server.http("GET", "/v1/nodes/self", &[bearer(&operator).as_ref()], "").await.json();
    assert_eq!((status["drain"]["phase"].as_str(), status["drain"]["stopping"].as_bool()), (Some("draining"), Some(true)));
    soon(signals.ask(DrainRequest::ServeOn)).await;
    assert_eq!(undrain().await.json()["drain"]["stopping"], false);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_drain_and_its_end_asked_for_at_once_are_both_answered() {
    let server = TestServer::start().await;
    let grants = VideoGrant { room_create: true, room_list: true, ..VideoGrant::default() };
    let operator = minted(&TokenOptions { grants, ttl: HOUR, ..TokenOptions::default() });
    let ask = async |path: &str| server.http("POST", path, &[bearer(&operator).as_ref()], "").await.status;
    for _ in 0..20 {
        let answers = soon(async { tokio::join!(ask("/v1/nodes/self:drain"), ask("/v1/nodes/self:undrain")) }).await;
        assert_eq!(answers, (200, 200));
    }
}

#[tokio::test]
async fn the_token_of_a_moderator_who_was_removed_opens_nothing_any_more() {
    let server = TestServer::start().await;
    let grants = VideoGrant { room_join: true, room_admin: true, ..VideoGrant::default() };
    let mallory = minted(&TokenOptions { grants, ..TokenOptions::join("mallory", "lobby") });
    let (_mallory, _) = server.enter(&mallory).await;
    let (_alice, _) = server.join("alice", "lobby").await;
    let remove = async |token: &str, who: &str| {
        let headers = [bearer(token), Bearer("application/json".to_owned())];
        let headers = [headers[0].as_ref(), ("Content-Type", headers[1].0.as_str())];
        let body = format!(r#"{{"room":"lobby","identity":"{who}"}}"#);
        server.http("POST", "/twirp/livekit.RoomService/RemoveParticipant", &headers, &body).await
    };
    let quality = "/v1/rooms/lobby/participants/alice/quality";
    assert_eq!(server.http("GET", quality, &[bearer(&mallory).as_ref()], "").await.status, 200);
    assert_eq!(remove(&admin("lobby"), "mallory").await.status, 200);

    let refused = remove(&mallory, "alice").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (401, Some("unauthenticated")), "{}", refused.body);
    let stats = "/v1/rooms/lobby/participants/mallory/stats";
    for (method, path) in [("GET", quality), ("POST", stats), ("GET", "/settings/regions")] {
        let refused = server.http(method, path, &[bearer(&mallory).as_ref()], "").await;
        assert!(refused.status == 401 && refused.body.contains("token-revoked"), "{path}: {}", refused.body);
    }
    assert_eq!(server.http("GET", quality, &[bearer(&admin("lobby")).as_ref()], "").await.status, 200);
}

const HOUR: Duration = Duration::from_secs(3600);

fn admin(room: &str) -> String {
    let grants = VideoGrant { room_admin: true, ..VideoGrant::default() };
    minted(&TokenOptions { grants, room: room.to_owned(), ttl: HOUR, ..TokenOptions::default() })
}

struct Bearer(String);

impl Bearer {
    fn as_ref(&self) -> (&str, &str) {
        ("Authorization", &self.0)
    }
}

fn bearer(token: &str) -> Bearer {
    Bearer(format!("Bearer {token}"))
}

/// Alice with a camera that the node has found.
async fn published(server: &mut TestServer) -> (Client, ParticipantId, TrackId, String) {
    use livekit_protocol::{AddTrackRequest, TrackSource, TrackType, signal_request, signal_response};
    let (mut alice, _) = server.join("alice", "lobby").await;
    let add = AddTrackRequest {
        cid: "cam".to_owned(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        ..AddTrackRequest::default()
    };
    alice.send(signal_request::Message::AddTrack(add)).await;
    let sid = alice
        .until(|message| match message {
            signal_response::Message::TrackPublished(published) => Some(published.track.unwrap().sid),
            _ => None,
        })
        .await;
    loop {
        if let Some(Command::Publish { participant, track, .. }) = soon(server.commands.recv()).await {
            return (alice, participant, track, sid);
        }
    }
}

fn sample(participant: ParticipantId, track: TrackId) -> TrackSample {
    TrackSample {
        participant,
        track,
        direction: Direction::Down,
        kind: MediaKind::Video,
        interval: Duration::from_secs(1),
        packets: 120,
        bytes: 125_000,
        lost: 5,
        residual: 2,
        round_trip: Some(Duration::from_millis(80)),
        jitter: Duration::from_millis(3),
        delay: Duration::from_millis(46),
        burst_ratio: 1.0,
        rated_loss: 0.016,
        robustness: 0.0,
        opinion_score: None,
        video_score: Some(80.0),
        layer: Some(LayerState {
            current: Some(LayerPlace { size: 0, temporal: u8::MAX }),
            target: Some(LayerPlace { size: 2, temporal: u8::MAX }),
            limit: LayerLimit::Keyframe,
            wanted: Some(LayerPlace { size: 2, temporal: u8::MAX }),
        }),
        limited_for: Duration::from_secs(5),
    }
}
