//! What all clients together make the server hold, and how whoever wants more is refused.

use signaling_api::VideoGrant;
use signaling_server::auth::TokenOptions;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Reply, TestServer, minted, soon, token};

#[tokio::test]
async fn who_would_be_told_more_than_there_is_room_for_is_asked_to_come_again() {
    let server = TestServer::with(|config| config.limits.all_large_messages_bytes = 100_000).await;
    let people = [server.join_with_metadata("a", "lobby", 60_000).await, server.join_with_metadata("b", "lobby", 60_000).await];
    let mut newcomer = server.open(&format!("/rtc?access_token={}", token("newcomer", "lobby"))).await.unwrap();
    assert_eq!(newcomer.close_code().await, (CloseCode::Again, "overloaded".to_owned()));
    assert_eq!(server.metric(r#"signaling_held_refused_total{what="messages"}"#).await, 1);
    server.until_metric(r#"signaling_closes_total{reason="overloaded"}"#, 1).await;
    drop(people);
    // of a small room everybody is told
    server.join("newcomer", "other").await;
    server.until_metric(r#"signaling_held_bytes{what="messages"}"#, 0).await;
}

#[tokio::test]
async fn frames_that_find_no_room_close_their_connection_and_no_other() {
    let server = TestServer::with(|config| config.limits.all_waiting_frames_bytes = 1_000).await;
    let ((mut large, _), (mut other, _)) = (server.join("large", "lobby").await, server.join("other", "lobby").await);
    large.send_binary(vec![0; 2_000]).await;
    assert_eq!(large.close_code().await, (CloseCode::Again, "overloaded".to_owned()));
    other.ping(1).await;
    assert_eq!(server.metric(r#"signaling_held_refused_total{what="frames"}"#).await, 1);
    server.until_metric(r#"signaling_held_bytes{what="frames"}"#, 0).await;
}

#[tokio::test]
async fn large_bodies_beyond_what_all_may_have_are_refused_and_small_ones_are_not() {
    let server = TestServer::with(|config| config.limits.all_request_bodies_bytes = 150_000).await;
    let grants = VideoGrant { room_create: true, ..VideoGrant::default() };
    let operator = minted(&TokenOptions { grants, identity: String::new(), ..TokenOptions::join("", "") });
    let request = |bytes: usize, sent: usize| {
        let body = format!(r#"{{"name": "r", "metadata": "{}"}}"#, "m".repeat(bytes));
        let head = format!("Authorization: Bearer {operator}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        format!(
            "POST /twirp/livekit.RoomService/CreateRoom HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n{}",
            &body[..sent.min(body.len())]
        )
    };
    // most of it is there, and the server waits for the rest
    let waiting = server.say(&request(100_000, 99_000)).await;
    let is_held = async { while server.metric(r#"signaling_held_bytes{what="bodies"}"#).await < 90_000 {} };
    soon(is_held).await;
    let refused = Reply::read(&mut server.say(&request(100_000, usize::MAX)).await).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("unavailable")), "{refused:?}");
    let small = Reply::read(&mut server.say(&request(1_000, usize::MAX)).await).await;
    assert_eq!(small.status, 200, "{small:?}");
    drop(waiting);
    server.until_metric(r#"signaling_held_bytes{what="bodies"}"#, 0).await;
    let again = Reply::read(&mut server.say(&request(100_000, usize::MAX)).await).await;
    assert_eq!(again.json()["code"], "invalid_argument", "it is read: {again:?}");
}
