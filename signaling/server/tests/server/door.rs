//! Who gets in, and what the others are told.

use std::time::Duration;

use livekit_protocol::{AddTrackRequest, JoinRequest, TrackType};
use sfu_api::{Command, TransportRole};
use signaling_api::{Secret, VideoGrant};
use signaling_server::auth::{TokenOptions, mint};
use signaling_server::{Rate, unix_now};

use crate::harness::{TestServer, minted, soon, token};
use crate::single;

#[tokio::test]
async fn a_good_token_gets_a_join_response_and_a_place_at_the_node() {
    let mut server = TestServer::start().await;
    let (_client, join) = server.join("alice", "lobby").await;
    assert_eq!(join.participant.unwrap().identity, "alice");
    assert_eq!(join.room.unwrap().name, "lobby");
    assert!(join.ping_interval > 0 && join.ping_timeout > join.ping_interval);
    let Some(Command::Join { participant, can_subscribe: true, .. }) = soon(server.commands.recv()).await else {
        panic!("not at the node")
    };
    assert_eq!(server.metric("sfu_join_attempts_total").await, 1);
    assert_eq!(server.metric(r#"sfu_joins_total{reason="none",result="ok"}"#).await, 0, "media is not connected yet");
    server.media_connected(participant, TransportRole::Publisher).await;
    server.until_metric(r#"sfu_joins_total{reason="none",result="ok"}"#, 1).await;
    assert_eq!(server.metric("signaling_ws_connections").await, 1);
}

#[tokio::test]
async fn each_bad_token_is_refused_by_name_and_validate_says_the_same() {
    let server = TestServer::start().await;
    let join = TokenOptions::join("alice", "lobby");
    let hour_ago = unix_now() - Duration::from_secs(3600);
    let short = TokenOptions { ttl: Duration::from_secs(60), ..join.clone() };
    let no_grant = TokenOptions { grants: VideoGrant { room_list: true, ..VideoGrant::default() }, ..join.clone() };
    let sign = |key: &str, secret: &str, options: &TokenOptions, now| mint(key, &Secret::new(secret), options, now).unwrap();
    let cases = [
        (String::new(), 401, "token-missing: no access token"),
        ("nonsense".to_owned(), 401, "token-invalid: the access token is malformed"),
        (sign("foreign", "secret", &join, unix_now()), 401, "token-invalid: the access token was issued with an API key"),
        (sign("devkey", "wrong", &join, unix_now()), 401, "token-invalid: the signature"),
        (sign("devkey", "secret", &short, hour_ago), 401, "token-expired: the access token expired"),
        (sign("devkey", "secret", &join, unix_now() + Duration::from_secs(3600)), 401, "token-expired: the access token becomes valid"),
        (minted(&no_grant), 403, "token-grant: the access token does not grant roomJoin"),
        (minted(&TokenOptions { room: String::new(), ..join.clone() }), 403, "token-grant: the access token grants roomJoin but names no"),
        (minted(&TokenOptions { identity: String::new(), ..join }), 403, "token-grant: the access token has no identity"),
    ];
    for (token, status, text) in &cases {
        let (refused, body) = server.open(&format!("/rtc?access_token={token}")).await.err().unwrap();
        assert_eq!(refused, *status, "{text}");
        assert!(body.starts_with(text), "{body} is not {text}");
        let validated = server.get(&format!("/rtc/validate?access_token={token}")).await;
        assert_eq!((validated.status, validated.body.as_str()), (*status, body.as_str()));
        assert_eq!(validated.header("access-control-allow-origin"), "*", "a browser could not read it");
    }
    let refused = server.metric(r#"sfu_joins_total{reason="token-invalid",result="refused"}"#).await;
    assert_eq!(refused, 3);
    assert_eq!(server.metric("signaling_ws_connections").await, 0);
}

#[tokio::test]
async fn a_token_for_another_room_than_the_request_is_refused() {
    let server = TestServer::start().await;
    let path = format!("/rtc?access_token={}&room=other", token("alice", "lobby"));
    let (status, body) = server.open(&path).await.err().unwrap();
    assert_eq!((status, body.split(':').next()), (403, Some("token-grant")));
}

#[tokio::test]
async fn validate_accepts_a_good_token_in_the_query_and_in_the_header() {
    let server = TestServer::start().await;
    let token = token("alice", "lobby");
    let by_query = server.get(&format!("/rtc/validate?access_token={token}&sdk=js")).await;
    assert_eq!((by_query.status, by_query.body.as_str()), (200, "success"));
    let bearer = format!("Bearer {token}");
    let by_header = server.http("GET", "/rtc/validate", &[("Authorization", &bearer)], "").await;
    assert_eq!((by_header.status, by_header.body.as_str()), (200, "success"));
    let basic = server.http("GET", "/rtc/validate", &[("Authorization", "Basic YQ==")], "").await;
    assert_eq!(basic.status, 401);
}

#[tokio::test]
async fn a_full_room_is_told_to_the_user_and_not_tried_again() {
    let server = TestServer::with(|config| config.signaling.max_participants = 1).await;
    let (_first, _) = server.join("alice", "lobby").await;
    let (status, body) = server.open(&format!("/rtc?access_token={}", token("bob", "lobby"))).await.err().unwrap();
    assert_eq!((status, body.as_str()), (403, "room-full: the room is full"));
    assert_eq!(server.metric(r#"sfu_joins_total{reason="room-full",result="refused"}"#).await, 1);
}

#[tokio::test]
async fn a_room_that_may_not_be_created_is_named_as_livekit_client_expects() {
    let server = TestServer::with(|config| config.signaling.auto_create_rooms = false).await;
    let (status, body) = server.open(&format!("/rtc?access_token={}", token("bob", "lobby"))).await.err().unwrap();
    assert_eq!(status, 404);
    assert!(body.contains("requested room does not exist"), "{body}");
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_sockets() {
    let server = TestServer::with(|config| config.limits.sockets_per_ip = 2).await;
    let first = server.join("a", "lobby").await;
    let _second = server.join("b", "lobby").await;
    let path = format!("/rtc?access_token={}", token("c", "lobby"));
    assert_eq!(server.open(&path).await.err().unwrap().0, 429);
    drop(first);
    server.until_metric("signaling_ws_connections", 1).await;
    server.join("c", "lobby").await;
}

#[tokio::test]
async fn joins_that_come_too_fast_are_told_when_to_come_back() {
    let server = TestServer::with(|config| config.limits.joins_per_ip = Rate { per_second: 0.001, burst: 1 }).await;
    let (_client, _) = server.join("a", "lobby").await;
    let reply = server.http("GET", &format!("/rtc?access_token={}", token("b", "lobby")), &UPGRADE, "").await;
    assert_eq!(reply.status, 429, "{}", reply.body);
    assert!(reply.body.starts_with("rate-limited: "));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 900);
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_is_what_counts() {
    let server = TestServer::with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.joins_per_ip = Rate { per_second: 0.001, burst: 1 };
    })
    .await;
    let (_here, _) = server.join("a", "lobby").await;
    let join_from = async |client: &str| {
        let path = format!("/rtc?access_token={}", token("b", "lobby"));
        let headers = [UPGRADE.as_slice(), &[("X-Forwarded-For", client)]].concat();
        server.upgrade_status(&path, &headers).await
    };
    assert_eq!(join_from("127.0.0.1").await, 429);
    assert_eq!(join_from("198.51.100.1").await, 101);
    assert_eq!(join_from("198.51.100.1").await, 429);
    assert_eq!(join_from("198.51.100.2").await, 101);
}

#[tokio::test]
async fn a_client_too_slow_for_its_first_answer_is_a_failed_join_once_it_is_given_up() {
    let server = TestServer::with(|config| {
        config.limits.send_queue_messages = 1;
        config.signaling.resume_grace = Duration::from_millis(10);
    })
    .await;
    // two messages at once: the answer to the join, and one to what came with it
    let camera = AddTrackRequest { cid: "cam".to_owned(), r#type: TrackType::Video.into(), ..AddTrackRequest::default() };
    let request = JoinRequest { add_track_requests: vec![camera], ..JoinRequest::default() };
    let _client = server.open(&single::path(&token("alice", "lobby"), &request)).await.unwrap();
    server.until_metric(r#"sfu_joins_total{reason="signal-lost",result="failed"}"#, 1).await;
    assert_eq!(server.metric("sfu_join_attempts_total").await, 1);
    assert_eq!(server.metric(r#"sfu_joins_total{reason="none",result="ok"}"#).await, 0);
}

#[tokio::test]
async fn a_preflight_allows_the_authorization_header() {
    let server = TestServer::start().await;
    let headers =
        [("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "authorization")];
    let reply = server.http("OPTIONS", "/rtc/validate", &headers, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(reply.header("access-control-allow-headers"), "authorization");
}

#[tokio::test]
async fn a_plain_request_to_the_socket_path_is_told_to_upgrade() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/rtc?access_token={}", token("alice", "lobby"))).await;
    assert_eq!((reply.status, reply.header("content-type")), (426, "application/problem+json"));
    assert_eq!(reply.json()["code"], "upgrade-required");
}

#[tokio::test]
async fn a_server_address_with_a_slash_at_its_end_works() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("//rtc/validate?access_token={}", token("alice", "lobby"))).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "success"));
}

pub(crate) const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
