//! What a browser and an operator see.

use signaling_server::{DemoConfig, MetricsAccess, Rate};

use crate::harness::{TestServer, token};

#[tokio::test]
async fn the_start_page_is_html_that_is_asked_for_again() {
    let server = TestServer::start().await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.contains("<title>"));
    assert!(["no-cache", "no-store"].contains(&page.header("cache-control")));
    assert_eq!(page.header("access-control-allow-origin"), "", "the page is not an API");
}

#[tokio::test]
async fn no_other_site_may_frame_the_page_or_run_scripts_in_it() {
    let server = TestServer::start().await;
    let page = server.get("/").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
    assert!(["default-src 'self'", "default-src 'none'"].contains(&policy.split(';').next().unwrap_or_default()), "{policy}");
    assert!(!policy.contains("script-src"), "the default holds for scripts: {policy}");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let server = TestServer::start().await;
    for path in ["/nothing", "/assets/nothing.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/assets/..%2f..%2fpackage.json", "/.git/config"]
    {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.header("content-type")), (404, "application/problem+json"), "{path}");
        assert_eq!(reply.json()["code"], "not-found");
    }
    let reply = server.http("DELETE", "/livez", &[], "").await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (405, Some("method-not-allowed")));
}

#[tokio::test]
async fn what_the_framework_refuses_is_a_problem_document_too() {
    let mut server = TestServer::with(|config| config.metrics = MetricsAccess::Own("127.0.0.1:0".parse().unwrap())).await;
    let bearer = format!("Bearer {}", token("alice", "lobby"));
    let long = " ".repeat(70_000);
    for (method, path, body, status, code) in [
        ("GET", "/v1/rooms/%FF/participants/alice/quality", "", 400, "bad-request"),
        ("POST", "/v1/rooms/%FF/participants/alice/stats", "", 400, "bad-request"),
        ("POST", "/v1/rooms/lobby/participants/alice/stats", &long, 413, "too-large"),
        ("GET", "/assets/%FF", "", 404, "not-found"),
        ("POST", "/v1/rooms/lobby/nothing", "", 404, "not-found"),
        ("DELETE", "/v1/nodes/self:halt", "", 404, "not-found"),
        ("DELETE", "/v1/nodes/self", "", 405, "method-not-allowed"),
    ] {
        let reply = server.http(method, path, &[("Authorization", &bearer)], body).await;
        assert_eq!((reply.status, reply.header("content-type")), (status, "application/problem+json"), "{path}: {}", reply.body);
        assert_eq!(reply.json()["code"], code, "{path}");
    }
    let bad_path = server.http("POST", "/twirp/%FF", &[("Content-Type", "application/json")], "{}").await;
    assert_eq!((bad_path.status, bad_path.json()["code"].as_str()), (404, Some("bad_route")));
    server.address = server.server.metrics_addr().unwrap();
    let reply = server.http("POST", "/metrics", &[], "").await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (405, Some("method-not-allowed")));
    server.until_metric(r#"sfu_client_reports_total{result="malformed"}"#, 1).await;
}

#[tokio::test]
async fn who_has_no_good_token_is_told_what_kind_is_wanted() {
    let server = TestServer::start().await;
    let twirp = "/twirp/livekit.RoomService/ListRooms";
    let json = ("Content-Type", "application/json");
    for (method, path) in [("GET", "/rtc/validate"), ("GET", "/v1/nodes/self"), ("GET", "/settings/regions"), ("POST", twirp)] {
        let reply = server.http(method, path, &[json], "").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{path}");
        let reply = server.http(method, path, &[json, ("Authorization", "Bearer nonsense")], "").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, r#"Bearer error="invalid_token""#), "{path}");
    }
    let reply = server.http("GET", "/v1/nodes/self", &[("Authorization", &format!("Bearer {}", token("alice", "lobby")))], "").await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (403, ""));
}

#[tokio::test]
async fn an_operator_sees_life_readiness_and_metrics() {
    let server = TestServer::start().await;
    assert_eq!((server.get("/livez").await.status, server.get("/readyz").await.status), (200, 200));
    let (_client, _) = server.join("alice", "lobby").await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"), "{}", metrics.header("content-type"));
    assert!(metrics.body.contains("signaling_ws_connections 1"));
    server.until_metric("signaling_rooms", 1).await;
    server.until_metric("signaling_participants", 1).await;
    assert!(!metrics.body.contains("alice") && !metrics.body.contains("lobby"), "names in metrics");
}

#[tokio::test]
async fn metrics_can_be_kept_from_this_address() {
    let server = TestServer::with(|config| config.metrics = MetricsAccess::Off).await;
    assert_eq!(server.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn the_demo_gets_a_token_that_opens_its_room_and_nothing_else() {
    let server = TestServer::with(|config| config.demo = Some(DemoConfig::default())).await;
    let reply = server.http("POST", "/demo/token", &[JSON], r#"{"room":"lobby","name":"Ada"}"#).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
    let body = reply.json();
    let (_client, join) = server.enter(body["token"].as_str().unwrap()).await;
    let participant = join.participant.unwrap();
    assert_eq!((participant.name.as_str(), participant.identity.as_str()), ("Ada", body["identity"].as_str().unwrap()));
    assert_eq!(join.room.unwrap().name, "lobby");
    let grants = signaling_server::auth::verify(
        &signaling_server::ApiKeys::single("devkey", "secret"),
        body["token"].as_str().unwrap(),
        signaling_server::unix_now(),
    )
    .unwrap();
    assert!(!grants.room_admin && !grants.room_create && !grants.room_list && !grants.room_record && !grants.hidden);
}

#[tokio::test]
async fn without_demo_there_is_no_token_endpoint() {
    let server = TestServer::start().await;
    let reply = server.http("POST", "/demo/token", &[JSON], r#"{"room":"lobby"}"#).await;
    assert!([404, 405].contains(&reply.status), "{reply:?}");
}

#[tokio::test]
async fn other_web_pages_get_no_demo_token() {
    let server = TestServer::with(|config| config.demo = Some(DemoConfig::default())).await;
    let foreign = [JSON, ("Origin", "https://evil.example")];
    let reply = server.http("POST", "/demo/token", &foreign, r#"{"room":"lobby"}"#).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (403, Some("token-grant")));
    assert_eq!(reply.header("access-control-allow-origin"), "");
    let as_form = [("Content-Type", "text/plain")];
    let reply = server.http("POST", "/demo/token", &as_form, r#"{"room":"lobby"}"#).await;
    assert_eq!(reply.json()["code"], "bad-request");
}

#[tokio::test]
async fn a_bad_demo_request_says_what_is_wrong() {
    let server = TestServer::with(|config| config.demo = Some(DemoConfig::default())).await;
    for (body, word) in [
        ("{", "JSON"),
        ("{}", "room"),
        (r#"{"room":""}"#, "room"),
        (r#"{"room":"r","name":"a\nb"}"#, "name"),
        (r#"{"room":"r","admin":true}"#, "admin"),
    ] {
        let reply = server.http("POST", "/demo/token", &[JSON], body).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"), "{body}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(word), "{}", reply.body);
    }
}

#[tokio::test]
async fn demo_tokens_are_rate_limited() {
    let demo = DemoConfig { tokens_per_ip: Rate { per_second: 0.001, burst: 2 }, ..DemoConfig::default() };
    let server = TestServer::with(|config| config.demo = Some(demo)).await;
    let ask = || server.http("POST", "/demo/token", &[JSON], r#"{"room":"lobby"}"#);
    assert_eq!((ask().await.status, ask().await.status), (200, 200));
    let refused = ask().await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("rate-limited")));
    assert!(refused.json()["retryAfterMs"].as_u64().unwrap() > 1000);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(server.get(&format!("/rtc/validate?access_token={}", token("a", "b"))).await.status, 200);
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn regions_are_told_to_who_has_a_token() {
    let server = TestServer::start().await;
    let bearer = format!("Bearer {}", token("alice", "lobby"));
    let reply = server.http("GET", "/settings/regions", &[("Authorization", &bearer), ("Origin", "https://app.example.org")], "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "*"));
    let regions = reply.json();
    assert_eq!(regions["regions"][0]["url"], format!("ws://{}", server.address));
    for authorization in ["", "Bearer nonsense", "Basic YQ=="] {
        let headers: &[(&str, &str)] = if authorization.is_empty() { &[] } else { &[("Authorization", authorization)] };
        assert_eq!(server.http("GET", "/settings/regions", headers, "").await.status, 401, "{authorization}");
    }
}

#[tokio::test]
async fn the_operators_regions_are_told_in_order() {
    let region = |name: &str| signaling_server::Region { name: name.to_owned(), url: format!("wss://{name}.example.org") };
    let server = TestServer::with(|config| config.signaling.regions = vec![region("eu"), region("us")]).await;
    let bearer = format!("Bearer {}", token("alice", "lobby"));
    let reply = server.http("GET", "/settings/regions", &[("Authorization", &bearer)], "").await;
    let expected = serde_json::json!({"regions": [
        {"region": "eu", "url": "wss://eu.example.org"}, {"region": "us", "url": "wss://us.example.org"}]});
    assert_eq!(reply.json(), expected);
}
