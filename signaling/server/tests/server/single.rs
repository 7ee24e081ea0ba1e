//! `/rtc/v1`: one peer connection, and everything in one parameter.

use std::io::Write as _;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use livekit_protocol::{
    AddTrackRequest, ConnectionSettings, JoinRequest, SessionDescription, TrackSource, TrackType, WrappedJoinRequest, signal_response,
};
use prost::Message as _;
use sfu_api::{Command, PeerMode, TransportRole};
use signaling_api::VideoGrant;
use signaling_server::Rate;
use signaling_server::auth::TokenOptions;

use crate::door::UPGRADE;
use crate::harness::{TestServer, minted, soon, token};

/// As livekit-client writes it: always compressed.
fn parameter(request: &JoinRequest) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&request.encode_to_vec()).unwrap();
    let wrapped = WrappedJoinRequest { compression: 1, join_request: encoder.finish().unwrap() };
    base64::engine::general_purpose::URL_SAFE.encode(wrapped.encode_to_vec())
}

pub(crate) fn path(token: &str, request: &JoinRequest) -> String {
    format!("/rtc/v1?access_token={token}&join_request={}", parameter(request))
}

#[tokio::test]
async fn a_join_brings_its_first_track_and_offer_along() {
    let mut server = TestServer::start().await;
    let camera = AddTrackRequest {
        cid: "cam".to_owned(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        ..AddTrackRequest::default()
    };
    let request = JoinRequest {
        connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..ConnectionSettings::default() }),
        add_track_requests: vec![camera],
        publisher_offer: Some(SessionDescription { r#type: "offer".to_owned(), sdp: "v=0".to_owned(), id: 1, ..Default::default() }),
        ..JoinRequest::default()
    };
    let mut client = server.open(&path(&token("alice", "lobby"), &request)).await.unwrap();
    let Some(signal_response::Message::Join(join)) = client.receive().await else { panic!("not welcome") };
    assert!(!join.subscriber_primary && join.fast_publish);
    let Some(signal_response::Message::TrackPublished(published)) = client.receive().await else { panic!("not published") };
    assert_eq!(published.cid, "cam");
    let Some(Command::Join { participant, mode: PeerMode::Single, .. }) = soon(server.commands.recv()).await else {
        panic!("not at the node")
    };
    assert!(matches!(soon(server.commands.recv()).await, Some(Command::Publish { request, .. }) if request.cid == "cam"));
    assert!(matches!(soon(server.commands.recv()).await, Some(Command::Offer { id: 1, sdp, .. }) if sdp == "v=0"));
    assert_eq!(server.metric("sfu_join_attempts_total").await, 1);
    server.media_connected(participant, TransportRole::Publisher).await;
    server.until_metric(r#"sfu_joins_total{reason="none",result="ok"}"#, 1).await;
}

#[tokio::test]
async fn a_session_is_resumed_by_the_same_path() {
    let server = TestServer::start().await;
    let mut client = server.open(&path(&token("alice", "lobby"), &JoinRequest::default())).await.unwrap();
    let Some(signal_response::Message::Join(join)) = client.receive().await else { panic!("not welcome") };
    drop(client);
    let request = JoinRequest { reconnect: true, participant_sid: join.participant.unwrap().sid, ..JoinRequest::default() };
    let mut again = server.open(&path(&token("alice", "lobby"), &request)).await.unwrap();
    let first = again.receive().await;
    assert!(matches!(first, Some(signal_response::Message::Reconnect(_))), "{first:?}");
    assert_eq!(server.metric("sfu_join_attempts_total").await, 1, "a resume is not a join");
    assert_eq!(server.metric(r#"signaling_resumes_total{reason="none",result="ok"}"#).await, 1);
}

#[tokio::test]
async fn what_is_no_join_request_is_a_bad_request_with_a_reason() {
    let server = TestServer::start().await;
    let token = token("alice", "lobby");
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 32 << 20]).unwrap();
        let wrapped = WrappedJoinRequest { compression: 1, join_request: encoder.finish().unwrap() };
        base64::engine::general_purpose::URL_SAFE.encode(wrapped.encode_to_vec())
    };
    let cases = [
        ("".to_owned(), "join_request is missing"),
        ("&join_request=%25".to_owned(), "join_request is not base64url"),
        ("&join_request=AAAA".to_owned(), "join_request is not a join request"),
        (format!("&join_request={bomb}"), "join_request is too long"),
    ];
    for (parameter, detail) in &cases {
        let path = format!("/rtc/v1?access_token={token}{parameter}");
        let (status, body) = server.open(&path).await.err().unwrap();
        assert_eq!(status, 400, "{detail}");
        let reply = server.get(&path.replacen('?', "/validate?", 1)).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"));
        assert_eq!((reply.json()["detail"].as_str(), reply.json()["code"].as_str()), (Some(*detail), Some("bad-request")), "{body}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "a browser could not read it");
    }
    let refused = server.metric(r#"sfu_joins_total{reason="bad-request",result="refused"}"#).await;
    assert_eq!(refused, 4);
}

#[tokio::test]
async fn a_bad_token_is_named_before_the_request_is_read() {
    let server = TestServer::start().await;
    for path in ["/rtc/v1?access_token=nonsense&join_request=%25", "/rtc/v1?access_token=nonsense"] {
        let (status, body) = server.open(path).await.err().unwrap();
        assert_eq!(status, 401, "{body}");
        assert!(body.starts_with("token-invalid: "), "{body}");
    }
}

#[tokio::test]
async fn requests_that_come_too_fast_are_not_read() {
    for path in ["/rtc/v1", "/rtc/v1/validate"] {
        let server = TestServer::with(|config| config.limits.joins_per_ip = Rate { per_second: 0.001, burst: 1 }).await;
        let path = format!("{path}?access_token={}&join_request=%25", token("alice", "lobby"));
        assert_eq!(server.upgrade_status(&path, &UPGRADE).await, 400);
        assert_eq!(server.upgrade_status(&path, &UPGRADE).await, 429);
    }
}

#[tokio::test]
async fn validate_accepts_what_can_join() {
    let server = TestServer::start().await;
    let path = path(&token("alice", "lobby"), &JoinRequest::default()).replacen('?', "/validate?", 1);
    let reply = server.get(&path).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "success"));
}

#[tokio::test]
async fn a_client_describes_itself_only_with_leave() {
    let server = TestServer::start().await;
    let request = JoinRequest {
        metadata: "mine".to_owned(),
        participant_attributes: [("a".to_owned(), "1".to_owned())].into(),
        ..JoinRequest::default()
    };
    let (status, body) = server.open(&path(&token("alice", "lobby"), &request)).await.err().unwrap();
    assert_eq!((status, body.split(':').next()), (403, Some("token-grant")));
    let join = TokenOptions::join("alice", "lobby");
    let grants = VideoGrant { can_update_own_metadata: Some(true), ..join.grants.clone() };
    let token = minted(&TokenOptions { grants, ..join });
    let mut client = server.open(&path(&token, &request)).await.unwrap();
    let Some(signal_response::Message::Join(join)) = client.receive().await else { panic!("not welcome") };
    let participant = join.participant.unwrap();
    assert_eq!((participant.metadata.as_str(), participant.attributes["a"].as_str()), ("mine", "1"));
}

#[tokio::test]
async fn a_room_that_may_not_be_created_is_named_as_livekit_client_expects_here_too() {
    let server = TestServer::with(|config| config.signaling.auto_create_rooms = false).await;
    let (status, body) = server.open(&path(&token("bob", "lobby"), &JoinRequest::default())).await.err().unwrap();
    assert_eq!(status, 404);
    assert!(body.contains("requested room does not exist"), "livekit-client would try /rtc: {body}");
}
