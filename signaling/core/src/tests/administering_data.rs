//! Data and calls of administrators.

use livekit_protocol::{data_packet::Value, rpc_response};
use prost::Message as _;
use sfu_api::Delivery;
use signaling_api::ErrorCode;

use super::administering::code;
use super::*;
use crate::AdminResponse;

/// The one data packet that was sent, and to whom.
fn sent(commands: &[Command]) -> (Vec<ParticipantId>, Delivery, proto::DataPacket) {
    match commands {
        [Command::SendData { to, delivery, payload }] => (to.clone(), *delivery, proto::DataPacket::decode(payload.as_slice()).unwrap()),
        other => panic!("not one data packet: {other:?}"),
    }
}

#[test]
fn data_of_an_administrator_goes_from_nobody_to_those_that_it_names_and_once() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take_commands();
    let request = proto::SendDataRequest {
        room: ROOM.to_owned(),
        data: b"hello".to_vec(),
        kind: proto::data_packet::Kind::Lossy.into(),
        topic: Some("t".to_owned()),
        nonce: vec![7; 16],
        ..Default::default()
    };
    world.administer(AdminRequest::SendData(request.clone())).unwrap();
    let (mut to, delivery, packet) = sent(&world.take_commands());
    to.sort();
    let mut all = vec![alice.id, bob.id];
    all.sort();
    assert_eq!((to, delivery, packet.participant_identity.as_str()), (all, Delivery::Lossy, ""));
    let Some(Value::User(user)) = packet.value else { panic!("not a user packet") };
    assert_eq!((user.payload.as_slice(), user.topic.as_deref()), (&b"hello"[..], Some("t")));
    world.administer(AdminRequest::SendData(request)).unwrap();
    assert_eq!(world.take_commands(), [], "a repeated request sends nothing again");

    let to_bob = proto::SendDataRequest { room: ROOM.to_owned(), destination_identities: vec!["bob".to_owned()], ..Default::default() };
    world.administer(AdminRequest::SendData(to_bob)).unwrap();
    let (to, delivery, packet) = sent(&world.take_commands());
    assert_eq!((to, delivery, packet.destination_identities), (vec![bob.id], Delivery::Reliable, vec!["bob".to_owned()]));
    let bad = proto::SendDataRequest { room: ROOM.to_owned(), nonce: vec![7; 15], ..Default::default() };
    assert_eq!(code(world.administer(AdminRequest::SendData(bad))), ErrorCode::BadRequest);
    let large = proto::SendDataRequest { room: ROOM.to_owned(), data: vec![0; 300_000], ..Default::default() };
    assert_eq!(code(world.administer(AdminRequest::SendData(large))), ErrorCode::BadRequest);
}

#[test]
fn data_that_is_refused_does_not_use_up_its_nonce() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let request = |bytes: usize| {
        let (data, nonce) = (vec![0; bytes], vec![7; 16]);
        AdminRequest::SendData(proto::SendDataRequest { room: ROOM.to_owned(), data, nonce, ..Default::default() })
    };
    for _ in 0..2 {
        assert_eq!(code(world.administer(request(300_000))), ErrorCode::BadRequest);
    }
    world.administer(request(3)).unwrap();
    assert_eq!(sent(&world.take_commands()).0, [alice.id]);
}

fn call(identity: &str) -> AdminRequest {
    AdminRequest::PerformRpc(proto::PerformRpcRequest {
        room: ROOM.to_owned(),
        destination_identity: identity.to_owned(),
        method: "greet".to_owned(),
        payload: "hi".to_owned(),
        response_timeout_ms: 9_000,
    })
}

fn say(world: &mut World, client: &Client, value: Value, caller: &str) {
    let packet = proto::DataPacket { value: Some(value), destination_identities: vec![caller.to_owned()], ..Default::default() };
    world.media(Event::Data { participant: client.id, delivery: Delivery::Reliable, payload: packet.encode_to_vec() });
}

/// The id of the call that was sent to a participant.
fn called(world: &mut World) -> String {
    let (_, _, packet) = sent(&world.take_commands());
    let Some(Value::RpcRequest(request)) = packet.value else { panic!("no call") };
    assert_eq!(
        (request.id.as_str(), request.method.as_str(), request.payload.as_str()),
        (packet.participant_identity.as_str(), "greet", "hi")
    );
    request.id
}

fn response(id: &str, value: rpc_response::Value) -> Value {
    Value::RpcResponse(proto::RpcResponse { request_id: id.to_owned(), value: Some(value) })
}

#[test]
fn a_call_is_answered_by_its_participant_and_nobody_else_sees_it() {
    let mut world = World::new();
    let alice = world.active("alice");
    let bob = world.active("bob");
    world.take_commands();
    let question = world.ask(call("alice"));
    let id = called(&mut world);
    say(&mut world, &bob, response(&id, rpc_response::Value::Payload("forged".to_owned())), &id);
    assert_eq!(world.answers.get(&question), None, "only the callee may answer");
    say(&mut world, &alice, Value::RpcAck(proto::RpcAck { request_id: id.clone() }), &id);
    world.advance_alive(Duration::from_secs(8), &[&alice, &bob]);
    assert_eq!(world.answers.get(&question), None, "a confirmed call has its whole time");
    world.take_commands();
    say(&mut world, &alice, response(&id, rpc_response::Value::Payload("hello".to_owned())), &id);
    assert_eq!(world.answers[&question], Ok(AdminResponse::Called("hello".to_owned())));
    assert_eq!(world.take_commands(), []);
}

#[test]
fn a_call_that_is_not_answered_ends_with_its_time_or_with_the_participant() {
    let mut world = World::new();
    let alice = world.active("alice");
    world.take_commands();
    let unconfirmed = world.ask(call("alice"));
    called(&mut world);
    world.advance_alive(Duration::from_millis(6_999), &[&alice]);
    assert_eq!(world.answers.get(&unconfirmed), None);
    world.advance(Duration::from_millis(1));
    assert_eq!(code(world.answers.remove(&unconfirmed).unwrap()), ErrorCode::Timeout);

    let failing = world.ask(call("alice"));
    let id = called(&mut world);
    let error = proto::RpcError { code: 1400, message: "Method not supported at destination".to_owned(), data: String::new() };
    say(&mut world, &alice, response(&id, rpc_response::Value::Error(error)), &id);
    let error = world.answers.remove(&failing).unwrap().unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::BadRequest, "RpcError 1400: Method not supported at destination"));

    let orphan = world.ask(call("alice"));
    world.send(alice.conn, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(code(world.answers.remove(&orphan).unwrap()), ErrorCode::Unavailable);
    assert_eq!(code(world.administer(call("alice"))), ErrorCode::ParticipantNotFound);
}
