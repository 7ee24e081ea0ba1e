//! How long the server waits for clients that take their time, and for how many of them.

use std::time::Duration;

use signaling_api::VideoGrant;
use signaling_server::MetricsAccess;
use signaling_server::auth::TokenOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Reply, TestServer, minted, soon, token};

const STATS: &str = "/v1/rooms/lobby/participants/alice/stats";
const DRAIN: &str = "/v1/nodes/self:drain";

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_its_time() {
    let server = TestServer::with(|config| config.limits.body_timeout = Duration::from_millis(50)).await;
    for (path, token) in [(STATS, token("alice", "lobby")), (DRAIN, operator())] {
        let reply = Reply::read(&mut server.say(&half_a_request(path, &token)).await).await;
        assert_eq!((reply.status, reply.header("content-type")), (408, "application/problem+json"), "{path}");
        assert_eq!(reply.json()["code"], "request-timeout");
    }
}

#[tokio::test]
async fn nobody_without_a_right_makes_the_server_wait_for_a_body() {
    let server = TestServer::with(|config| {
        config.limits.body_timeout = Duration::MAX;
        config.demo = Some(signaling_server::DemoConfig::default());
    })
    .await;
    for (path, token, status) in [
        (STATS, String::new(), 401),
        (STATS, token("alice", "other"), 403),
        (DRAIN, "nonsense".to_owned(), 401),
        (DRAIN, token("alice", "lobby"), 403),
        ("/twirp/livekit.RoomService/ListRooms", String::new(), 401),
    ] {
        let reply = Reply::read(&mut server.say(&half_a_request(path, &token)).await).await;
        assert_eq!(reply.status, status, "{path} {token}");
    }
    let foreign = half_a_request("/demo/token", "").replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    assert_eq!(Reply::read(&mut server.say(&foreign).await).await.status, 403);
}

#[tokio::test]
async fn who_does_not_read_its_answers_is_closed() {
    let server = TestServer::with(|config| config.limits.write_timeout = Duration::from_millis(50)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    // answers fill the sockets of both sides, then requests do
    let closed = async { while client.write_all(requests.as_bytes()).await.is_ok() {} };
    soon(closed).await;
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_connections() {
    let mut server = TestServer::with(|config| {
        config.metrics = MetricsAccess::Own("127.0.0.1:0".parse().unwrap());
        (config.limits.sockets_per_ip, config.limits.plain_connections_per_ip) = (1, 1);
    })
    .await;
    let (socket, _) = server.join("alice", "lobby").await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(soon(refused.read(&mut [0])).await.unwrap_or(0), 0, "closed");
    drop((socket, idle));
    let here = server.address;
    server.address = server.server.metrics_addr().unwrap();
    server.until_metric(r#"signaling_refused_connections_total{reason="address"}"#, 1).await;
    server.until_metric("signaling_ws_connections", 0).await;
    server.address = here;
    let answered = async {
        loop {
            let mut stream = server.say("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
            if stream.read_u8().await.is_ok() {
                return;
            }
        }
    };
    soon(answered).await;
}

/// Head of a request whose body is not sent.
fn half_a_request(path: &str, token: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
}

fn operator() -> String {
    let grants = VideoGrant { room_create: true, room_list: true, ..VideoGrant::default() };
    minted(&TokenOptions { grants, ttl: Duration::from_secs(3600), ..TokenOptions::default() })
}
