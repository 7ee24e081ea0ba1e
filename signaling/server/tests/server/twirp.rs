//! LiveKit's server API as HTTP: who may, what is understood, how errors look.

use livekit_protocol as proto;
use prost::Message as _;
use serde_json::{Value, json};
use signaling_api::VideoGrant;
use signaling_server::auth::TokenOptions;

use crate::harness::{Reply, TestServer, minted, token};

const ROOM_SERVICE: &str = "/twirp/livekit.RoomService";

/// A token of somebody with these rights and without an identity, as server SDKs mint it.
fn bearer(grants: VideoGrant) -> String {
    let room = grants.room.clone();
    format!("Bearer {}", minted(&TokenOptions { grants, room, identity: String::new(), ..TokenOptions::join("", "") }))
}

fn creator() -> String {
    bearer(VideoGrant { room_create: true, ..VideoGrant::default() })
}

fn lister() -> String {
    bearer(VideoGrant { room_list: true, ..VideoGrant::default() })
}

fn admin(room: &str) -> String {
    bearer(VideoGrant { room_admin: true, room: room.to_owned(), ..VideoGrant::default() })
}

async fn json_call(server: &TestServer, authorization: &str, path: &str, body: &Value) -> Reply {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json;charset=UTF-8")];
    server.http("POST", path, &headers, &body.to_string()).await
}

async fn room_service(server: &TestServer, authorization: &str, method: &str, body: Value) -> Reply {
    json_call(server, authorization, &format!("{ROOM_SERVICE}/{method}"), &body).await
}

fn error_of(reply: &Reply) -> (u16, String) {
    assert_eq!(reply.header("content-type"), "application/json", "{reply:?}");
    assert!(reply.json()["msg"].as_str().is_some_and(|message| !message.is_empty()), "{reply:?}");
    (reply.status, reply.json()["code"].as_str().unwrap().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_room_is_created_listed_and_deleted() {
    let server = TestServer::start().await;
    let created = room_service(&server, &creator(), "CreateRoom", json!({"name": "r", "emptyTimeout": 60, "max_participants": 3})).await;
    assert_eq!(created.status, 200, "{created:?}");
    let room = created.json();
    assert_eq!((&room["name"], &room["empty_timeout"], &room["max_participants"]), (&json!("r"), &json!(60), &json!(3)));
    assert_eq!((&room["num_participants"], &room["active_recording"]), (&json!(0), &json!(false)));

    let listed = room_service(&server, &lister(), "ListRooms", json!({"names": ["r", "other"]})).await.json();
    assert_eq!((listed["rooms"].as_array().unwrap().len(), &listed["rooms"][0]["sid"]), (1, &room["sid"]));
    let deleted = room_service(&server, &creator(), "DeleteRoom", json!({"room": "r"})).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({})));
    assert_eq!(room_service(&server, &lister(), "ListRooms", json!({})).await.json(), json!({"rooms": []}));
    let gone = room_service(&server, &creator(), "DeleteRoom", json!({"room": "r"})).await;
    assert_eq!(error_of(&gone), refused(404, "not_found"));
}

#[tokio::test]
async fn protobuf_is_answered_in_protobuf() {
    let server = TestServer::start().await;
    let request = proto::CreateRoomRequest { name: "r".to_owned(), ..Default::default() }.encode_to_vec();
    let authorization = creator();
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/protobuf")];
    // the name is the only field, so that the body is text
    let body = String::from_utf8(request).unwrap();
    let created = server.http("POST", &format!("{ROOM_SERVICE}/CreateRoom"), &headers, &body).await;
    assert_eq!((created.status, created.header("content-type")), (200, "application/protobuf"));
    assert!(created.body.contains("RM_"));
    let bad = server.http("POST", &format!("{ROOM_SERVICE}/CreateRoom"), &headers, "\u{7f}garbage").await;
    assert_eq!(error_of(&bad), refused(400, "malformed"), "errors are JSON whatever the request");
}

#[tokio::test]
async fn without_the_right_token_nothing_is_done_or_read() {
    let server = TestServer::start().await;
    let expired = TokenOptions {
        grants: VideoGrant { room_create: true, ..VideoGrant::default() },
        ttl: std::time::Duration::ZERO,
        ..TokenOptions::join("", "")
    };
    let old = signaling_server::auth::mint(
        "devkey",
        &signaling_api::Secret::new("secret"),
        &expired,
        signaling_server::unix_now() - std::time::Duration::from_secs(3600),
    );
    let forged = signaling_server::auth::mint("devkey", &signaling_api::Secret::new("guess"), &expired, signaling_server::unix_now());
    for authorization in
        ["", "Basic x", "Bearer ", "Bearer nonsense", &format!("Bearer {}", old.unwrap()), &format!("Bearer {}", forged.unwrap())]
    {
        let reply = json_call(&server, authorization, &format!("{ROOM_SERVICE}/CreateRoom"), &json!("not even an object")).await;
        assert_eq!(error_of(&reply), refused(401, "unauthenticated"), "{authorization}");
    }
    assert_eq!(room_service(&server, &lister(), "ListRooms", json!({})).await.json(), json!({"rooms": []}));
}

#[tokio::test]
async fn each_method_needs_its_own_grant() {
    let server = TestServer::start().await;
    let (_alice, _) = server.join("alice", "r").await;
    let guest = format!("Bearer {}", token("guest", "r"));
    let here = json!({"room": "r", "identity": "alice"});
    let calls = [
        ("CreateRoom", json!({"name": "x"}), lister()),
        ("ListRooms", json!({}), creator()),
        ("DeleteRoom", json!({"room": "r"}), admin("r")),
        ("ListParticipants", here.clone(), admin("other")),
        ("GetParticipant", here.clone(), creator()),
        ("RemoveParticipant", here.clone(), admin("other")),
        ("MutePublishedTrack", here.clone(), lister()),
        ("UpdateParticipant", here.clone(), admin("other")),
        ("UpdateSubscriptions", here.clone(), creator()),
        ("SendData", here.clone(), admin("")),
        ("UpdateRoomMetadata", here.clone(), admin("other")),
        // an administrator of the room, but not for that destination
        ("ForwardParticipant", json!({"room": "r", "identity": "alice", "destinationRoom": "d"}), admin("r")),
        ("MoveParticipant", json!({"room": "r", "identity": "alice", "destinationRoom": "d"}), admin("r")),
        ("PerformRpc", json!({"room": "r", "destinationIdentity": "alice"}), admin("other")),
    ];
    for (method, body, wrong) in calls {
        for authorization in [&wrong, &guest] {
            let reply = room_service(&server, authorization, method, body.clone()).await;
            assert_eq!(error_of(&reply), refused(401, "unauthenticated"), "{method}");
            assert_eq!(reply.json()["msg"], "permissions denied");
        }
    }
    let everybody = room_service(&server, &admin("r"), "ListParticipants", json!({"room": "r"})).await.json();
    assert_eq!(everybody["participants"][0]["identity"], "alice");
}

#[tokio::test]
async fn what_is_no_method_is_a_bad_route_and_what_is_not_there_yet_says_so() {
    let server = TestServer::start().await;
    let cases = [
        ("POST", "/twirp/livekit.RoomService/Dance", 404, "bad_route"),
        ("POST", "/twirp/livekit.Kitchen/Cook", 404, "bad_route"),
        ("POST", "/twirp/livekit.RoomService", 404, "bad_route"),
        ("GET", "/twirp/livekit.RoomService/ListRooms", 404, "bad_route"),
        ("POST", "/twirp/livekit.Egress/StartRoomCompositeEgress", 501, "unimplemented"),
        ("POST", "/twirp/livekit.Ingress/CreateIngress", 501, "unimplemented"),
        ("POST", "/twirp/livekit.SIP/CreateSIPParticipant", 501, "unimplemented"),
    ];
    let authorization = lister();
    for (method, path, status, code) in cases {
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let reply = server.http(method, path, &headers, "{}").await;
        assert_eq!(error_of(&reply), refused(status, code), "{method} {path}");
    }
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "text/plain")];
    let reply = server.http("POST", &format!("{ROOM_SERVICE}/ListRooms"), &headers, "{}").await;
    assert_eq!(error_of(&reply), refused(404, "bad_route"));
    assert_eq!(reply.json()["meta"]["twirp_invalid_route"], "POST /twirp/livekit.RoomService/ListRooms");
}

#[tokio::test]
async fn bodies_that_are_wrong_or_too_large_are_refused() {
    let server = TestServer::start().await;
    let authorization = creator();
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    for body in ["", "{", "[1]", r#"{"name": 7}"#] {
        let reply = server.http("POST", &format!("{ROOM_SERVICE}/CreateRoom"), &headers, body).await;
        assert_eq!(error_of(&reply), refused(400, "malformed"), "{body}");
    }
    assert_eq!(server.metric(r#"api_requests_total{code="malformed",service="livekit.RoomService"}"#).await, 4);
    let nameless = room_service(&server, &authorization, "CreateRoom", json!({})).await;
    assert_eq!(error_of(&nameless), refused(400, "invalid_argument"));
    let metadata = room_service(&server, &authorization, "CreateRoom", json!({"name": "r", "metadata": "x".repeat(100_000)})).await;
    assert_eq!(error_of(&metadata), refused(400, "invalid_argument"), "larger than what other paths take, and read");
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(11 * 1024 * 1024));
    let reply = server.http("POST", &format!("{ROOM_SERVICE}/CreateRoom"), &headers, &huge).await;
    assert_eq!(error_of(&reply), refused(413, "resource_exhausted"));
}

#[tokio::test]
async fn other_web_pages_may_call_with_a_token() {
    let server = TestServer::start().await;
    let headers = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    let preflight = server.http("OPTIONS", &format!("{ROOM_SERVICE}/ListRooms"), &headers, "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (200, "*"));
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
}

#[tokio::test]
async fn a_removed_participant_is_told_and_its_token_opens_nothing_any_more() {
    let server = TestServer::start().await;
    let ticket = token("alice", "r");
    let (mut alice, _) = server.enter(&ticket).await;
    let removed = room_service(&server, &admin("r"), "RemoveParticipant", json!({"room": "r", "identity": "alice"})).await;
    assert_eq!((removed.status, removed.json()), (200, json!({})));
    let leave = alice
        .until(|message| match message {
            proto::signal_response::Message::Leave(leave) => Some(leave),
            _ => None,
        })
        .await;
    assert_eq!(leave.reason(), proto::DisconnectReason::ParticipantRemoved);
    let (status, body) = server.open(&format!("/rtc?access_token={ticket}")).await.err().unwrap();
    assert_eq!(status, 401, "{body}");
    assert!(body.starts_with("token-revoked"), "{body}");
}

#[tokio::test]
async fn a_participant_that_is_moved_gets_a_token_for_the_new_room() {
    let server = TestServer::start().await;
    let mut client = server.open(&format!("/rtc?protocol=16&access_token={}", token("alice", "r"))).await.unwrap();
    client.receive().await;
    let grants = VideoGrant { room_admin: true, room: "r".to_owned(), destination_room: "d".to_owned(), ..VideoGrant::default() };
    let body = json!({"room": "r", "identity": "alice", "destination_room": "d"});
    let moved = room_service(&server, &bearer(grants), "MoveParticipant", body).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let told = client
        .until(|message| match message {
            proto::signal_response::Message::RoomMoved(moved) => Some(moved),
            _ => None,
        })
        .await;
    assert_eq!(told.room.unwrap().name, "d");
    let (_, join) = server.enter(&told.token).await;
    assert_eq!(join.room.unwrap().name, "d");
}

#[tokio::test]
async fn administrators_have_a_rate_by_key_and_by_address_and_learn_when_to_come_back() {
    use signaling_server::Rate;
    const PATHS: [(&str, &str); 3] =
        [("POST", "/twirp/livekit.RoomService/ListRooms"), ("GET", "/v1/nodes/self"), ("GET", "/v1/rooms/r/participants/p/quality")];
    let operator = bearer(VideoGrant { room_create: true, room_list: true, ..VideoGrant::default() });
    let participant = format!("Bearer {}", token("p", "r"));
    let few = Rate { per_second: 0.1, burst: 3 };
    for is_by_key in [true, false] {
        let server = TestServer::with(|config| {
            let limit = if is_by_key { &mut config.limits.api_per_key } else { &mut config.limits.api_per_ip };
            *limit = few;
        })
        .await;
        let ask = async |(method, path): (&str, &str), token: &str| {
            server.http(method, path, &[("Authorization", token), ("Content-Type", "application/json")], "{}").await
        };
        // Who may not ask uses nothing up of the key.
        if is_by_key {
            for path in PATHS {
                assert!([401, 403].contains(&ask(path, &participant).await.status));
            }
        }
        for path in PATHS {
            assert!([200, 404].contains(&ask(path, &operator).await.status));
        }
        for (method, path) in PATHS {
            let reply = ask((method, path), &operator).await;
            assert_eq!(reply.status, 429, "{path}: {reply:?}");
            assert!((1..=11).contains(&reply.header("retry-after").parse().unwrap()), "{path}: {reply:?}");
            if method == "POST" {
                assert_eq!(error_of(&reply), refused(429, "resource_exhausted"));
            } else {
                assert_eq!(
                    (reply.header("content-type"), reply.json()["code"].as_str()),
                    ("application/problem+json", Some("rate-limited"))
                );
            }
        }
        // Guesses of a token count for the address, and calls are not affected.
        assert_eq!(ask(PATHS[1], "Bearer nonsense").await.status, if is_by_key { 401 } else { 429 });
        server.join("p", "r").await;
    }
}
