//! Agent workers over their WebSocket: registration, a job, and the token that comes with it.

use livekit_protocol as proto;
use livekit_protocol::{server_message, worker_message};
use prost::Message as _;
use serde_json::json;
use signaling_api::VideoGrant;
use signaling_server::auth::TokenOptions;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Client, TestServer, minted, soon, token};

fn worker_token() -> String {
    let grants = VideoGrant { agent: true, ..VideoGrant::default() };
    minted(&TokenOptions { grants, ..TokenOptions::join("", "") })
}

async fn hire(server: &TestServer, agent_name: &str) -> Client {
    let mut worker = server.open(&format!("/agent?access_token={}", worker_token())).await.unwrap();
    let register = proto::RegisterWorkerRequest { agent_name: agent_name.to_owned(), ..Default::default() };
    say(&mut worker, worker_message::Message::Register(register)).await;
    let server_message::Message::Register(response) = hear(&mut worker).await else { panic!("not registered") };
    assert!(response.worker_id.starts_with("AW_") && response.server_info.is_some());
    worker
}

async fn say(worker: &mut Client, message: worker_message::Message) {
    worker.send_binary(proto::WorkerMessage { message: Some(message) }.encode_to_vec()).await;
}

async fn hear(worker: &mut Client) -> server_message::Message {
    use futures_util::StreamExt as _;
    loop {
        match soon(worker.socket.next()).await {
            Some(Ok(Message::Binary(payload))) => return proto::ServerMessage::decode(payload).unwrap().message.unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("the worker's connection ended: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_worker_is_given_a_job_by_dispatch_and_its_agent_joins_with_the_token() {
    let server = TestServer::start().await;
    let mut worker = hire(&server, "echo").await;
    let grants = VideoGrant { room_admin: true, room: "r".to_owned(), ..VideoGrant::default() };
    let authorization = format!("Bearer {}", minted(&TokenOptions { grants, ..TokenOptions::join("", "r") }));
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let body = json!({"room": "r", "agent_name": "echo", "metadata": "m"}).to_string();
    let created = server.http("POST", "/twirp/livekit.AgentDispatchService/CreateDispatch", &headers, &body).await;
    assert_eq!((created.status, &created.json()["agent_name"]), (200, &json!("echo")), "{created:?}");

    let server_message::Message::Availability(request) = hear(&mut worker).await else { panic!("not asked") };
    let job = request.job.unwrap();
    assert_eq!((job.metadata.as_str(), job.room.unwrap().name.as_str()), ("m", "r"));
    let answer = proto::AvailabilityResponse {
        job_id: job.id.clone(),
        available: true,
        participant_identity: "robot".to_owned(),
        ..Default::default()
    };
    say(&mut worker, worker_message::Message::Availability(answer)).await;
    let server_message::Message::Assignment(assignment) = hear(&mut worker).await else { panic!("not assigned") };
    let (_, join) = server.enter(&assignment.token).await;
    let robot = join.participant.unwrap();
    assert_eq!((robot.identity.as_str(), robot.kind()), ("robot", proto::participant_info::Kind::Agent));
    assert_eq!(robot.attributes["lk.agent_name"], "echo");

    server.until_metric("agent_jobs", 1).await;
    assert_eq!(server.metric("agent_workers").await, 1);
    let list = server.http("POST", "/twirp/livekit.AgentDispatchService/ListDispatch", &headers, r#"{"room": "r"}"#).await.json();
    let dispatches = list["agent_dispatches"].as_array().unwrap();
    let called = dispatches.iter().find(|dispatch| dispatch["agent_name"] == "echo").unwrap();
    assert_eq!(called["state"]["jobs"][0]["state"]["status"], "JS_RUNNING");
    assert_eq!(called["state"]["jobs"][0]["id"], json!(job.id));

    let body = json!({"room": "r", "dispatch_id": called["id"]}).to_string();
    let deleted = server.http("POST", "/twirp/livekit.AgentDispatchService/DeleteDispatch", &headers, &body).await;
    assert_eq!(deleted.status, 200);
    assert!(matches!(hear(&mut worker).await, server_message::Message::Termination(termination) if termination.job_id == job.id));
}

#[tokio::test]
async fn only_a_token_for_agents_opens_the_workers_door() {
    let server = TestServer::start().await;
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(server.upgrade_status("/agent", &upgrade).await, 401);
    assert_eq!(server.upgrade_status(&format!("/agent?access_token={}", token("alice", "r")), &upgrade).await, 403);
    let grants = VideoGrant { agent: true, room_join: true, room: "r".to_owned(), ..VideoGrant::default() };
    let agents_own = minted(&TokenOptions { grants, ..TokenOptions::join("robot", "r") });
    assert_eq!(server.upgrade_status(&format!("/agent?access_token={agents_own}"), &upgrade).await, 403, "an agent is no worker");
    assert_eq!(server.upgrade_status(&format!("/agent?access_token={}", worker_token()), &upgrade).await, 101);
    assert_eq!(server.get(&format!("/agent?access_token={}", worker_token())).await.status, 426);
}

#[tokio::test]
async fn a_worker_that_speaks_json_is_answered_in_json_and_nonsense_ends_it() {
    use futures_util::{SinkExt as _, StreamExt as _};
    let server = TestServer::start().await;
    let mut worker = server.open(&format!("/agent?access_token={}", worker_token())).await.unwrap();
    worker.socket.send(Message::text(r#"{"register":{"type":"JT_ROOM","agentName":"echo"}}"#)).await.unwrap();
    let answer = loop {
        match soon(worker.socket.next()).await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("no text: {other:?}"),
        }
    };
    assert!(answer.contains(r#""workerId":"AW_"#), "{answer}");
    worker.socket.send(Message::text("{")).await.unwrap();
    let (code, reason) = worker.close_code().await;
    assert_eq!((u16::from(code), reason.as_str()), (1000, "bad-request"));
}
