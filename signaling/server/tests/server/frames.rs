//! What comes over the WebSocket, and that one client's nonsense is nobody else's trouble.

use std::time::Duration;

use futures_util::SinkExt as _;
use livekit_protocol::{SignalRequest, UpdateParticipantMetadata, signal_request};
use prost::Message as _;
use signaling_server::Rate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::harness::{TestServer, soon, token};

#[tokio::test]
async fn malformed_messages_are_counted_and_a_client_that_sends_nothing_else_is_closed() {
    let server = TestServer::with(|config| config.limits.malformed_messages = 2).await;
    let (mut bad, _) = server.join("bad", "lobby").await;
    let (mut good, _) = server.join("good", "lobby").await;
    for _ in 0..2 {
        bad.send_binary(vec![0xff; 40]).await;
    }
    bad.ping(7).await;
    bad.socket.send(Message::text("{\"nonsense\":")).await.unwrap();
    assert_eq!(bad.close_code().await, (CloseCode::Invalid, "malformed".to_owned()));
    good.ping(8).await;
    assert_eq!(server.metric(r#"signaling_malformed_messages_total{kind="protobuf"}"#).await, 2);
    assert_eq!(server.metric(r#"signaling_malformed_messages_total{kind="json"}"#).await, 1);
}

#[tokio::test]
async fn messages_of_a_newer_protocol_are_ignored() {
    let server = TestServer::with(|config| config.limits.malformed_messages = 0).await;
    let (mut client, _) = server.join("alice", "lobby").await;
    // field 500, length-delimited, one byte
    client.send_binary(vec![0xa2, 0x1f, 0x01, 0x00]).await;
    client.send_binary(Vec::new()).await;
    client.ping(1).await;
    assert_eq!(server.metric(r#"signaling_malformed_messages_total{kind="unknown"}"#).await, 2);
}

#[tokio::test]
async fn a_frame_of_a_megabyte_closes_its_connection_cleanly_and_no_other() {
    let server = TestServer::start().await;
    let (mut big, _) = server.join("big", "lobby").await;
    let (mut other, _) = server.join("other", "lobby").await;
    big.socket.send(Message::binary(vec![0; 1 << 20])).await.unwrap();
    assert_eq!(big.close_code().await, (CloseCode::Size, "oversized".to_owned()));
    other.ping(1).await;
    assert_eq!(server.metric(r#"signaling_closes_total{reason="oversized"}"#).await, 1);
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_huge_frame_learns_why_it_is_closed() {
    let server = TestServer::start().await;
    let (mut huge, _) = server.join("huge", "lobby").await;
    // more than the kernel's buffers hold: without somebody who reads it, a reset would end the writing
    huge.socket.send(Message::binary(vec![0; 12 << 20])).await.expect("the server must read on");
    assert_eq!(huge.close_code().await.0, CloseCode::Size);
}

#[tokio::test]
async fn a_message_that_grows_too_large_in_fragments_is_refused_too() {
    let server = TestServer::start().await;
    let (mut client, _) = server.join("big", "lobby").await;
    for index in 0..5 {
        let code = if index == 0 { Data::Binary } else { Data::Continue };
        let header = FrameHeader { is_final: false, opcode: OpCode::Data(code), ..FrameHeader::default() };
        let sent = client.socket.send(Message::Frame(Frame::from_payload(header, vec![0; 64 * 1024].into()))).await;
        if sent.is_err() {
            break;
        }
    }
    assert_eq!(client.close_code().await.0, CloseCode::Size);
}

#[tokio::test]
async fn the_largest_allowed_message_passes() {
    let server = TestServer::start().await;
    let (mut client, _) = server.join("alice", "lobby").await;
    // an unknown field of just the right size: tag (2 bytes), length (3 bytes), content
    let size = 256 * 1024 - 5;
    let mut message = vec![0xa2, 0x1f, 0x80 | (size & 0x7f) as u8, 0x80 | ((size >> 7) & 0x7f) as u8, (size >> 14) as u8];
    message.resize(256 * 1024, 0);
    client.send_binary(message).await;
    client.ping(1).await;
}

#[tokio::test]
async fn a_client_that_speaks_json_is_answered_in_json() {
    let server = TestServer::start().await;
    let (mut client, _) = server.join("alice", "lobby").await;
    client.socket.send(Message::text(r#"{"pingReq":{"timestamp":"42","rtt":"1"}}"#)).await.unwrap();
    let text = loop {
        match soon(futures_util::StreamExt::next(&mut client.socket)).await.unwrap().unwrap() {
            Message::Text(text) if text.contains("pongResp") => break text,
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["pongResp"]["lastPingTimestamp"], "42");
    // and in protobuf again as soon as it speaks it
    client.ping(43).await;
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_the_connection_as_rfc6455_8_1_says() {
    let server = TestServer::start().await;
    let (mut client, _) = server.join("alice", "lobby").await;
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    client.socket.send(Message::Frame(Frame::from_payload(header, vec![0xc3, 0x28].into()))).await.unwrap();
    assert_eq!(client.close_code().await.0, CloseCode::Invalid);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_room_goes_on() {
    let server = TestServer::with(|config| {
        config.limits.send_queue_bytes = 512 * 1024;
        config.limits.requests = Rate { per_second: 1e6, burst: 1_000_000 };
    })
    .await;
    let (mut other, _) = server.join("other", "lobby").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let mut deaf = server.open_on(stream, &format!("/rtc?access_token={}", token("deaf", "lobby"))).await.unwrap();

    // each refusal repeats the 60 kB of its request; the kernel's buffers take a few MB of them
    let mut round = 0_i64;
    while server.metric(r#"signaling_closes_total{reason="slow"}"#).await == 0 {
        round += 1;
        assert!(round < 900, "never dropped");
        let metadata = "0".repeat(60_000);
        let update = UpdateParticipantMetadata { metadata, ..UpdateParticipantMetadata::default() };
        let request = SignalRequest { message: Some(signal_request::Message::UpdateMetadata(update)) };
        // once the server has closed, sending fails
        let _ = deaf.socket.send(Message::binary(request.encode_to_vec())).await;
        other.ping(round).await;
    }
    other.ping(-1).await;
}

#[tokio::test]
async fn a_client_that_is_silent_at_every_level_is_dropped() {
    let server = TestServer::with(|config| {
        config.limits.ping_interval = Duration::from_millis(20);
        config.limits.idle_timeout = Duration::from_millis(100);
    })
    .await;
    // nobody polls this client, so it does not answer pings
    let (_client, _) = server.join("ghost", "lobby").await;
    server.until_metric(r#"signaling_closes_total{reason="idle"}"#, 1).await;
    server.until_metric("signaling_ws_connections", 0).await;
}

#[tokio::test]
async fn a_client_above_its_rate_is_slowed_down_and_loses_nothing() {
    let server = TestServer::with(|config| config.limits.requests = Rate { per_second: 200.0, burst: 5 }).await;
    let (mut client, _) = server.join("eager", "lobby").await;
    let started = tokio::time::Instant::now();
    for timestamp in 1..=30 {
        client.ping(timestamp).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(100), "not slowed down: {:?}", started.elapsed());
}

#[tokio::test]
async fn headers_that_never_end_are_not_waited_for() {
    let server = TestServer::with(|config| config.limits.header_timeout = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_places_come_back() {
    let server = TestServer::with(|config| config.limits.max_connections = 1).await;
    let first = server.join("alice", "lobby").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut answer = Vec::new();
    // closed without an answer; a reset is as good as an end
    let _ = soon(second.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
    drop(first);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            let _ = stream.read_to_end(&mut answer).await;
            if answer.starts_with(b"HTTP/1.1 200") {
                return;
            }
        }
    };
    soon(again).await;
}
