//! Allocate and Refresh.

use std::time::Duration;

use turn_proto::Admission;
use turn_proto::client::User;
use turn_proto::counters::Allocated;
use turn_proto::credentials::SharedSecret;
use turn_proto::limits::Limits;
use turn_proto::wire::{attribute, method};

use crate::world::*;

#[test]
fn rfc8656_7_2_an_allocation_tells_its_addresses_and_its_lifetime() {
    let mut world = World::new();
    let answer = world.allocate(client(1), &mut anna());
    assert!(answer.is_success);
    assert_eq!(answer.mapped, Some(client(1).remote));
    let port = *world.relays.values().next().unwrap();
    assert_eq!(answer.relayed, [format!("203.0.113.1:{port}").parse().unwrap()]);
    assert_eq!(answer.lifetime, Some(600));
}

#[test]
fn rfc8656_7_2_a_second_allocate_gets_437_and_a_repeated_one_its_answer() {
    let mut world = World::new();
    let mut user = anna();
    let challenge = user.request(method::ALLOCATE, |writer| {
        writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    let challenged = world.send(client(1), &challenge).unwrap();
    assert!(user.learn(&turn_proto::wire::message::Message::parse(&challenged.bytes).unwrap()));
    let request = user.request(method::ALLOCATE, |writer| {
        writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    let first = world.send(client(1), &request).unwrap();
    assert_eq!(world.send(client(1), &request), Some(first));
    assert_eq!(world.relays.len(), 1);
    assert_eq!(world.allocate(client(1), &mut user).code, 437);
}

#[test]
fn rfc8656_7_2_what_makes_no_sense_is_refused() {
    type Case<'a> = (&'a [(u16, Vec<u8>)], u16);
    let cases: &[Case<'_>] = &[
        (&[], 400),
        (&[(attribute::REQUESTED_TRANSPORT, vec![99, 0, 0, 0])], 442),
        // TCP over UDP
        (&[tcp()], 400),
        (&[udp(), family(attribute::REQUESTED_ADDRESS_FAMILY, 3)], 440),
        (&[udp(), family(attribute::REQUESTED_ADDRESS_FAMILY, 2), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)], 400),
        (&[udp(), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 1)], 400),
        (&[udp(), (attribute::EVEN_PORT, vec![0x80]), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)], 400),
        (&[udp(), (attribute::EVEN_PORT, vec![0]), (attribute::RESERVATION_TOKEN, vec![1; 8])], 400),
        (&[udp(), family(attribute::REQUESTED_ADDRESS_FAMILY, 1), (attribute::RESERVATION_TOKEN, vec![1; 8])], 400),
        (&[udp(), (attribute::RESERVATION_TOKEN, vec![1; 8])], 508),
        (&[udp(), (0x7777, vec![])], 420),
    ];
    for (attributes, code) in cases {
        let mut world = World::new();
        assert_eq!(world.ask(client(1), &mut anna(), method::ALLOCATE, attributes).code, *code, "{attributes:?}");
        assert!(world.relays.is_empty() && world.server.allocation_count() == 0);
    }
}

#[test]
fn rfc8656_7_2_both_families_at_once() {
    for attribute in [attribute::ADDITIONAL_ADDRESS_FAMILY, attribute::ADDITIONAL_ADDRESS_FAMILY_OF_DRAFTS] {
        let mut world = World::new();
        let answer = world.ask(client(1), &mut anna(), method::ALLOCATE, &[udp(), family(attribute, 2)]);
        assert_eq!(answer.relayed.len(), 2);
        assert!(answer.relayed[0].is_ipv4() && answer.relayed[1].is_ipv6());
        assert_eq!(world.relays.len(), 2);
    }
}

#[test]
fn rfc8656_7_2_of_two_families_one_may_fail() {
    let mut config = config();
    config.relay_v6 = None;
    let mut world = World::with(config);
    let answer = world.ask(client(1), &mut anna(), method::ALLOCATE, &[udp(), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)]);
    assert!(answer.is_success && answer.relayed.len() == 1);
    // ADDRESS-ERROR-CODE: IPv6, 440
    let error = [0x80, 0x01, 0, 4, 2, 0, 4, 40];
    assert!(answer.bytes.windows(error.len()).any(|window| window == error), "{:x?}", answer.bytes);
    assert_eq!(world.ask(client(2), &mut anna(), method::ALLOCATE, &[udp(), family(attribute::REQUESTED_ADDRESS_FAMILY, 2)]).code, 440);
}

#[test]
fn rfc8656_7_2_the_next_port_is_kept_for_whoever_has_its_token() {
    let mut world = World::new();
    let first = world.ask(client(1), &mut anna(), method::ALLOCATE, &[udp(), (attribute::EVEN_PORT, vec![0x80])]);
    assert!(first.relayed[0].port().is_multiple_of(2));
    let token = first.token.unwrap();
    let second = world.ask(client(2), &mut anna(), method::ALLOCATE, &[udp(), (attribute::RESERVATION_TOKEN, token.to_vec())]);
    assert_eq!(second.relayed[0].port(), first.relayed[0].port() + 1);
    let third = world.ask(client(3), &mut anna(), method::ALLOCATE, &[udp(), (attribute::RESERVATION_TOKEN, token.to_vec())]);
    assert_eq!(third.code, 508, "once only");
}

#[test]
fn rfc8656_7_2_a_reserved_port_is_free_again_after_half_a_minute() {
    let mut world = World::new();
    let first = world.ask(client(1), &mut anna(), method::ALLOCATE, &[udp(), (attribute::EVEN_PORT, vec![0x80])]);
    assert_eq!(world.server.census().ports.0, 2);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.server.census().ports.0, 1);
    let token = first.token.unwrap().to_vec();
    assert_eq!(world.ask(client(2), &mut anna(), method::ALLOCATE, &[udp(), (attribute::RESERVATION_TOKEN, token)]).code, 508);
}

#[test]
fn a_port_that_somebody_else_has_is_passed_over() {
    let mut config = config();
    config.relay_ports = 50_000..=50_001;
    let mut world = World::with(config);
    world.taken.insert(50_000);
    for number in 0..20 {
        let answer = world.allocate(client(number), &mut anna());
        if answer.is_success {
            assert_eq!(answer.relayed[0].port(), 50_001);
            assert!(world.ask(client(number), &mut anna(), method::REFRESH, &[lifetime(0)]).is_success);
        }
    }
    world.taken.insert(50_001);
    assert_eq!(world.allocate(client(30), &mut anna()).code, 508);
    assert_eq!(world.server.census().ports.0, 0, "nothing stays taken");
}

#[test]
fn rfc8656_7_2_a_lifetime_is_between_ten_minutes_and_an_hour() {
    for (asked, granted) in [(0, 600), (1, 600), (600, 600), (1_800, 1_800), (3_600, 3_600), (u32::MAX, 3_600)] {
        let mut world = World::new();
        assert_eq!(world.ask(client(1), &mut anna(), method::ALLOCATE, &[udp(), lifetime(asked)]).lifetime, Some(granted));
    }
}

#[test]
fn rfc8656_8_an_allocation_that_is_not_refreshed_ends() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    world.pass(Duration::from_secs(599));
    assert_eq!(world.ask(client(1), &mut user, method::REFRESH, &[]).lifetime, Some(600));
    world.pass(Duration::from_secs(599));
    assert_eq!(world.relays.len(), 1);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.relays.len(), world.server.allocation_count(), world.server.census().ports.0), (0, 0, 0));
    assert_eq!(world.ask(client(1), &mut user, method::REFRESH, &[]).code, 437);
}

#[test]
fn rfc8656_8_2_a_refresh_to_nothing_ends_the_allocation_at_once() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    assert_eq!(world.ask(client(1), &mut user, method::REFRESH, &[lifetime(0)]).lifetime, Some(0));
    assert!(world.relays.is_empty());
    assert!(world.allocate(client(1), &mut user).is_success, "and there is room for another");
}

#[test]
fn rfc8656_8_2_one_of_two_families_can_end() {
    let mut world = World::new();
    let mut user = anna();
    world.ask(client(1), &mut user, method::ALLOCATE, &[udp(), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)]);
    let ends = [lifetime(0), family(attribute::REQUESTED_ADDRESS_FAMILY, 2)];
    assert!(world.ask(client(1), &mut user, method::REFRESH, &ends).is_success);
    assert_eq!(world.relays.len(), 1);
    assert_eq!(world.ask(client(1), &mut user, method::CREATE_PERMISSION, &[peer("[2600::1]:1")]).code, 443);
    assert_eq!(world.ask(client(1), &mut user, method::REFRESH, &[family(attribute::REQUESTED_ADDRESS_FAMILY, 2)]).code, 443);
    assert!(world.ask(client(1), &mut user, method::CREATE_PERMISSION, &[peer(PEER)]).is_success);
}

#[test]
fn a_user_an_address_and_the_server_have_quotas() {
    let limits = Limits { allocations: 4, allocations_per_user: 1, allocations_per_address: 3, ..Limits::default() };
    let mut world = World::with(turn_proto::Config { limits, ..config() });
    let user = |name: &str| {
        let secret = turn_proto::credentials::SharedSecret::new(SECRET);
        let (name, password) = secret.issue(name, UNIX + Duration::from_secs(600));
        User::new(name, password)
    };
    assert!(world.allocate(client(1), &mut user("a")).is_success);
    assert_eq!(world.allocate(client(2), &mut user("a")).code, 486, "one for each user");
    assert!(world.allocate(client(2), &mut user("b")).is_success);
    assert!(world.allocate(client(3), &mut user("c")).is_success);
    assert_eq!(world.allocate(client(4), &mut user("d")).code, 486, "three for each address");
    let elsewhere = |port: u16| turn_proto::Client { remote: std::net::SocketAddr::new([192, 0, 2, 77].into(), port), ..client(0) };
    assert!(world.allocate(elsewhere(1), &mut user("d")).is_success);
    assert_eq!(world.allocate(elsewhere(2), &mut user("e")).code, 508, "four in all");
    assert_eq!(world.server.counters().quota_rejections, [1, 1, 1]);
    world.ask(client(1), &mut user("a"), method::REFRESH, &[lifetime(0)]);
}

#[test]
fn a_server_that_drains_refuses_new_allocations_and_keeps_old_ones() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    world.server.admit(Admission::Nobody);
    assert_eq!(world.allocate(client(2), &mut anna()).code, 508);
    assert!(world.ask(client(1), &mut user, method::REFRESH, &[]).is_success);
    assert!(world.ask(client(1), &mut user, method::CREATE_PERMISSION, &[peer(PEER)]).is_success);
    assert_eq!(world.server.counters().allocated[Allocated::Draining as usize], 1);
    world.server.admit(Admission::Everybody);
    assert!(world.allocate(client(2), &mut anna()).is_success);
}

#[test]
fn who_has_a_seat_gets_new_allocations_while_the_server_drains() {
    let mut world = World::new();
    world.server.admit(Admission::Only("PA_".to_owned()));
    let user = |name: &str| {
        let (name, password) = SharedSecret::new(SECRET).issue(name, UNIX + Duration::from_secs(600));
        User::new(name, password)
    };
    assert!(world.allocate(client(1), &mut user("PA_1")).is_success);
    for stranger in [user("app"), user("XPA_1"), user(""), anna()] {
        assert_eq!(world.allocate(client(2), &mut stranger.clone()).code, 508, "{stranger:?}");
    }
}

#[test]
fn the_end_of_a_clients_stream_is_the_end_of_its_allocation() {
    let mut world = World::new();
    world.allocate(tcp_client(1), &mut anna());
    world.server.client_closed(tcp_client(1));
    world.settle();
    assert!(world.relays.is_empty());
    assert_eq!(world.server.census().ports.0, 0);
}
