//! What all clients together make the server hold, and how whoever wants more is refused.

use livekit_protocol::{UpdateParticipantMetadata, signal_request, signal_response};
use signaling_api::VideoGrant;
use signaling_server::auth::TokenOptions;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Reply, TestServer, minted, soon, token};

#[tokio::test]
async fn who_would_be_told_more_than_there_is_room_for_is_refused_at_the_door() {
    let server = TestServer::with(|config| config.limits.all_large_messages_bytes = 100_000).await;
    let people = [server.join_with_metadata("a", "lobby", 60_000).await, server.join_with_metadata("b", "lobby", 60_000).await];
    let refused = server.open(&format!("/rtc?access_token={}", token("newcomer", "lobby"))).await.err().unwrap();
    assert_eq!(refused, (503, "unavailable: too many join large rooms at once: try again".to_owned()));
    assert_eq!(server.metric(r#"sfu_joins_total{reason="unavailable",result="refused"}"#).await, 1);
    drop(people);
    // of a small room everybody is told
    server.join("newcomer", "other").await;
    server.until_metric(r#"signaling_held_bytes{what="messages"}"#, 0).await;
}

#[tokio::test]
async fn members_are_told_of_large_changes_whatever_is_held() {
    let server = TestServer::with(|config| config.limits.all_large_messages_bytes = 0).await;
    let mut members = [server.join("a", "lobby").await.0, server.join("b", "lobby").await.0];
    let grants = VideoGrant { room_join: true, can_update_own_metadata: Some(true), ..VideoGrant::default() };
    let (mut changing, join) = server.enter(&minted(&TokenOptions { grants, ..TokenOptions::join("c", "lobby") })).await;
    let attributes = [("key".to_owned(), "x".repeat(40_000))].into();
    let update = UpdateParticipantMetadata { metadata: "m".repeat(40_000), attributes, ..UpdateParticipantMetadata::default() };
    changing.send(signal_request::Message::UpdateMetadata(update)).await;
    let sid = join.participant.unwrap().sid;
    for (member, number) in members.iter_mut().chain([&mut changing]).zip(1..) {
        let is_told = |message| match message {
            signal_response::Message::Update(update) => {
                update.participants.iter().any(|it| it.sid == sid && it.metadata.len() == 40_000).then_some(())
            }
            _ => None,
        };
        member.until(is_told).await;
        member.ping(number).await;
    }
    server.until_metric(r#"signaling_held_bytes{what="messages"}"#, 0).await;
}

#[tokio::test]
async fn large_frames_that_find_no_room_close_their_connection_and_small_ones_always_do() {
    let server = TestServer::with(|config| config.limits.all_waiting_frames_bytes = 0).await;
    let ((mut large, _), (mut other, _)) = (server.join("large", "lobby").await, server.join("other", "lobby").await);
    other.ping(1).await;
    large.send_binary(vec![0; 5_000]).await;
    assert_eq!(large.close_code().await, (CloseCode::Again, "overloaded".to_owned()));
    other.ping(2).await;
    assert_eq!(server.metric(r#"signaling_held_refused_total{what="frames"}"#).await, 1);
    server.until_metric(r#"signaling_held_bytes{what="frames"}"#, 0).await;
}

#[tokio::test]
async fn large_bodies_of_one_address_leave_room_for_those_of_others() {
    let server = TestServer::with(|config| config.limits.all_request_bodies_bytes = 1_000_000).await;
    let (head, body) = create_room(300_000);
    let waiting = server.say(&format!("{head}{}", &body[..260_000])).await;
    let is_held = async { while server.metric(r#"signaling_held_bytes{what="bodies"}"#).await < 260_000 {} };
    soon(is_held).await;
    let whole = head + &body;
    let refused = Reply::read(&mut server.say(&whole).await).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("unavailable")), "{refused:?}");
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = elsewhere.connect(server.address).await.unwrap();
    other.write_all(whole.as_bytes()).await.unwrap();
    let read = Reply::read(&mut other).await;
    assert_eq!(read.json()["code"], "invalid_argument", "it is read: {read:?}");
    drop(waiting);
}

#[tokio::test]
async fn large_bodies_beyond_what_all_may_have_are_refused_and_small_ones_are_not() {
    let server = TestServer::with(|config| config.limits.all_request_bodies_bytes = 150_000).await;
    let request = |bytes: usize, sent: usize| {
        let (head, body) = create_room(bytes);
        format!("{head}{}", &body[..sent.min(body.len())])
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

/// Head and body of a request with so many bytes of metadata.
fn create_room(bytes: usize) -> (String, String) {
    let grants = VideoGrant { room_create: true, ..VideoGrant::default() };
    let operator = minted(&TokenOptions { grants, identity: String::new(), ..TokenOptions::join("", "") });
    let body = format!(r#"{{"name": "r", "metadata": "{}"}}"#, "m".repeat(bytes));
    let head = format!("Authorization: Bearer {operator}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    (format!("POST /twirp/livekit.RoomService/CreateRoom HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n"), body)
}
