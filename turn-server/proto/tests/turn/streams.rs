//! TCP connections to and from peers (RFC 6062).

use std::time::Duration;

use turn_proto::client::User;
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::{attribute, method};
use turn_proto::{Client, ConnectionId, Output, RelayId};

use crate::world::*;

fn ready(world: &mut World) -> (Client, User, RelayId) {
    let (client, mut user) = (tcp_client(1), anna());
    assert!(world.ask(client, &mut user, method::ALLOCATE, &[tcp()]).is_success);
    (client, user, RelayId(*world.relays.last_key_value().unwrap().0))
}

/// A Connect that the peer answers, or not.
fn connect(world: &mut World, client: Client, user: &mut User, to: &str, is_answered: bool) -> Answer {
    let request = user.request(method::CONNECT, |writer| {
        writer.xor_address(attribute::XOR_PEER_ADDRESS, to.parse().unwrap());
    });
    world.server.handle_client(world.at(), client, &request);
    world.settle();
    if let Some((connection, _)) = world.connection() {
        world.server.peer_connected(world.now, connection, is_answered);
        world.settle();
    }
    world.others.clear();
    answer(&world.sent.pop().unwrap().1)
}

fn id(number: u32) -> (u16, Vec<u8>) {
    (attribute::CONNECTION_ID, number.to_be_bytes().to_vec())
}

#[test]
fn rfc6062_5_2_a_client_connects_and_binds() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    let connected = connect(&mut world, client, &mut user, PEER, true);
    let connection = connected.connection.unwrap();
    assert!(world.ask(tcp_client(2), &mut user, method::CONNECTION_BIND, &[id(connection)]).is_success);
    assert!(world.others.contains(&Output::Splice { client: tcp_client(2), connection: ConnectionId(connection) }));
    assert_eq!(world.ask(tcp_client(3), &mut user, method::CONNECTION_BIND, &[id(connection)]).code, 400, "once only");
}

#[test]
fn rfc6062_5_2_errors_have_their_codes() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    assert_eq!(connect(&mut world, client, &mut user, PEER, false).code, 447);
    assert!(connect(&mut world, client, &mut user, PEER, true).is_success);
    assert_eq!(connect(&mut world, client, &mut user, PEER, true).code, 446);
    assert_eq!(connect(&mut world, client, &mut user, "127.0.0.1:22", true).code, 403);
    assert_eq!(connect(&mut world, client, &mut user, "[2600::1]:22", true).code, 443);
    assert_eq!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4000), peer(PEER)]).code, 400);
    // of datagrams there are no connections
    let (other, mut user, _) = world.ready();
    assert_eq!(connect(&mut world, other, &mut user, PEER, true).code, 400);
}

#[test]
fn rfc6062_5_3_a_peer_with_permission_may_connect() {
    let mut world = World::new();
    let (client, mut user, relay) = ready(&mut world);
    assert_eq!(world.server.peer_accepted(world.now, relay, PEER.parse().unwrap()), None);
    world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(PEER)]);
    let connection = world.server.peer_accepted(world.now, relay, PEER.parse().unwrap()).unwrap();
    world.settle();
    let (to, bytes) = world.sent.pop().unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((to, message.method, message.class), (client, method::CONNECTION_ATTEMPT, Class::Indication));
    assert_eq!(message.attributes.connection_id, Some(connection.0));
    assert!(world.ask(tcp_client(2), &mut user, method::CONNECTION_BIND, &[id(connection.0)]).is_success);
}

#[test]
fn rfc6062_5_4_a_connection_is_for_its_user_and_for_streams() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    let connection = connect(&mut world, client, &mut user, PEER, true).connection.unwrap();
    let mut other = User::new("bert", "secret");
    assert_eq!(world.ask(tcp_client(2), &mut other, method::CONNECTION_BIND, &[id(connection)]).code, 441);
    assert_eq!(world.ask(crate::world::client(2), &mut user, method::CONNECTION_BIND, &[id(connection)]).code, 400);
    assert_eq!(world.ask(tcp_client(2), &mut user, method::CONNECTION_BIND, &[id(connection ^ 1)]).code, 400);
    assert_eq!(world.ask(tcp_client(2), &mut user, method::CONNECTION_BIND, &[]).code, 400);
    assert!(world.ask(tcp_client(2), &mut user, method::CONNECTION_BIND, &[id(connection)]).is_success);
}

#[test]
fn rfc6062_5_2_a_connection_that_nobody_binds_is_closed() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    let connection = connect(&mut world, client, &mut user, PEER, true).connection.unwrap();
    world.pass(Duration::from_secs(31));
    assert!(world.others.contains(&Output::CloseConnection(ConnectionId(connection))));
    assert_eq!(world.server.census().streams, 0);
    assert!(connect(&mut world, client, &mut user, PEER, true).is_success, "and may be made again");
}

#[test]
fn the_end_of_an_allocation_is_the_end_of_its_connections() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    let connection = connect(&mut world, client, &mut user, PEER, true).connection.unwrap();
    world.server.client_closed(client);
    world.settle();
    assert!(world.others.contains(&Output::CloseConnection(ConnectionId(connection))));
    assert_eq!((world.server.census().streams, world.relays.len()), (0, 0));
}

#[test]
fn connections_of_one_allocation_are_bounded() {
    let mut world = World::new();
    let (client, mut user, _) = ready(&mut world);
    let codes: Vec<u16> =
        (0..20).map(|n| connect(&mut world, client, &mut user, &format!("198.18.0.7:{}", 1_000 + n), true).code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 16);
    assert_eq!(codes[16..], [508; 4]);
}
