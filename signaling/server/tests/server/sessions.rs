//! Sessions over the life of more than one connection.

use std::time::Duration;

use livekit_protocol::{DisconnectReason, leave_request, signal_response};
use prost::Message as _;
use signaling_server::auth::verify;
use signaling_server::{ApiKeys, unix_now};

use crate::harness::{TestServer, soon, token};

#[tokio::test]
async fn a_session_whose_socket_was_cut_is_resumed() {
    let server = TestServer::start().await;
    let (client, join) = server.join("alice", "lobby").await;
    let sid = join.participant.unwrap().sid;
    // no close frame: the TCP connection just ends
    drop(client);
    server.until_metric(r#"signaling_closes_total{reason="lost"}"#, 1).await;

    let path = format!("/rtc?access_token={}&reconnect=1&sid={sid}&reconnect_reason=1", token("alice", "lobby"));
    let mut again = server.open(&path).await.unwrap();
    let first = again.receive().await;
    assert!(matches!(first, Some(signal_response::Message::Reconnect(_))), "{first:?}");
    again.ping(1).await;
    assert_eq!(server.metric("sfu_join_attempts_total").await, 1, "a resume is not a join");
    assert_eq!(server.metric(r#"signaling_resumes_total{reason="none",result="ok"}"#).await, 1);
}

/// A room is told in one message, and a client that reads all it gets is not slow because there is much.
#[tokio::test]
async fn who_joins_or_resumes_in_a_room_of_large_profiles_is_welcome() {
    let server = TestServer::with(|config| config.limits.send_queue_bytes = 160 * 1024).await;
    let mut people = Vec::new();
    for identity in ["a", "b", "c"] {
        people.push(server.join_with_metadata(identity, "lobby", 60_000).await);
    }
    let (newcomer, join) = server.join("newcomer", "lobby").await;
    assert!(join.encoded_len() > 180_000 && join.other_participants.len() == 3);
    drop(newcomer);
    server.until_metric(r#"signaling_closes_total{reason="lost"}"#, 1).await;
    let path = format!("/rtc?access_token={}&reconnect=1&sid={}", token("newcomer", "lobby"), join.participant.unwrap().sid);
    let mut again = server.open(&path).await.unwrap();
    let told = again.until(|message| match message {
        signal_response::Message::Update(update) => Some(update.encoded_len()),
        _ => None,
    });
    assert!(told.await > 180_000);
    again.ping(1).await;
    for client in &mut people {
        client.ping(2).await;
    }
    assert_eq!(server.metric(r#"signaling_closes_total{reason="slow"}"#).await, 0);
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_told_to_start_anew() {
    let server = TestServer::start().await;
    let path = format!("/rtc?access_token={}&protocol=17&reconnect=1&sid=PA_222222222222", token("alice", "lobby"));
    let mut client = server.open(&path).await.unwrap();
    let Some(signal_response::Message::Leave(leave)) = client.receive().await else { panic!("no leave") };
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
    client.close_code().await;
    assert_eq!(server.metric(r#"signaling_resumes_total{reason="participant-not-found",result="refused"}"#).await, 1);
}

#[tokio::test]
async fn a_second_client_of_the_same_identity_replaces_the_first() {
    let server = TestServer::start().await;
    let path = format!("/rtc?protocol=17&access_token={}", token("alice", "lobby"));
    let mut first = server.open(&path).await.unwrap();
    first.ping(1).await;
    let mut second = server.open(&path).await.unwrap();
    second.ping(2).await;
    let reason = first
        .until(|message| match message {
            signal_response::Message::Leave(leave) => Some(leave.reason()),
            _ => None,
        })
        .await;
    assert_eq!(reason, DisconnectReason::DuplicateIdentity);
    assert_eq!(first.close_code().await.1, "duplicate-identity");
    second.ping(3).await;
}

#[tokio::test]
async fn a_shutdown_tells_clients_to_come_back_and_ends() {
    let server = TestServer::start().await;
    let path = format!("/rtc?protocol=17&access_token={}", token("alice", "lobby"));
    let mut client = server.open(&path).await.unwrap();
    client.ping(1).await;
    server.shutdown.send(()).unwrap();
    let leave = client
        .until(|message| match message {
            signal_response::Message::Leave(leave) => Some(leave),
            _ => None,
        })
        .await;
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::ServerShutdown, leave_request::Action::Reconnect));
    client.close_code().await;
    drop(client);
    soon(server.server.stopped()).await;
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "still listening");
}

#[tokio::test]
async fn a_client_gets_fresh_tokens_that_say_the_same() {
    let server = TestServer::with(|config| config.signaling.token_refresh_interval = Duration::from_millis(50)).await;
    let (mut client, _) = server.join("alice", "lobby").await;
    let token = client
        .until(|message| match message {
            signal_response::Message::RefreshToken(token) => Some(token),
            _ => None,
        })
        .await;
    let grants = verify(&ApiKeys::single("devkey", "secret"), &token, unix_now()).unwrap();
    assert_eq!((grants.identity.as_str(), grants.room.as_str(), grants.room_join), ("alice", "lobby", true));
}

/// Without media nothing works, and whatever started this process starts it again.
#[tokio::test]
async fn when_the_node_fails_clients_are_told_to_come_back_and_the_server_ends() {
    let server = TestServer::start().await;
    let mut client = server.open(&format!("/rtc?protocol=17&access_token={}", token("alice", "lobby"))).await.unwrap();
    client.ping(1).await;
    let TestServer { server, events, shutdown: _not_asked_for, commands: _commands, .. } = server;
    drop(events);
    let leave = client
        .until(|message| match message {
            signal_response::Message::Leave(leave) => Some(leave),
            _ => None,
        })
        .await;
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::ServerShutdown, leave_request::Action::Reconnect));
    assert_eq!(client.close_code().await.1, "server-shutdown");
    drop(client);
    soon(server.stopped()).await;
}
