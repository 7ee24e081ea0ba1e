//! Who may make a request.

use std::time::Duration;

use turn_proto::client::{Style, Told, User};
use turn_proto::credentials::{Algorithm, Credentials, SharedSecret};
use turn_proto::wire::message::{Class, Integrity, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};
use turn_proto::{Client, Config, Output};

use crate::world::*;

#[test]
fn rfc8489_9_2_4_a_stranger_is_challenged() {
    let mut world = World::new();
    let answer = world.send(client(1), &anna().request(method::ALLOCATE, |_| {})).unwrap();
    let message = Message::parse(&answer.bytes).unwrap();
    assert_eq!(answer.code, 401);
    assert_eq!(message.attributes.realm, Some(&b"example.org"[..]));
    assert!(message.attributes.nonce.unwrap().starts_with(b"obMatJos2"));
    assert_eq!(message.attributes.password_algorithms, Some(&[0, 2, 0, 0, 0, 1, 0, 0][..]));
    assert_eq!(message.integrity(), None);
}

#[test]
fn rfc8489_9_2_4_answers_are_signed_as_requests_are() {
    for (style, algorithm) in [(Style::Classic, Algorithm::Md5), (Style::Sha256, Algorithm::Sha256)] {
        let mut world = World::new();
        let mut user = anna();
        user.style = style;
        let answer = world.allocate(client(1), &mut user);
        assert!(answer.is_success);
        let message = Message::parse(&answer.bytes).unwrap();
        assert_eq!(matches!(message.integrity(), Some(Integrity::Sha256(_))), style == Style::Sha256);
        assert!(message.is_authentic(user.key(algorithm).as_bytes()));
    }
}

#[test]
fn a_wrong_password_or_name_or_realm_is_refused_and_leaves_nothing() {
    for mut user in [User::new("anna", "wrong"), User::new("nobody", "secret"), User::new("", "")] {
        let mut world = World::new();
        assert_eq!(world.allocate(client(1), &mut user).code, 401);
        let told = user.told.clone().unwrap();
        user.told = Some(Told { realm: b"elsewhere".to_vec(), ..told });
        let request = user.request(method::ALLOCATE, |_| {});
        assert_eq!(world.send(client(1), &request).unwrap().code, 401);
        assert_eq!((world.server.allocation_count(), world.relays.len()), (0, 0));
    }
}

#[test]
fn a_time_limited_user_gets_in_until_its_time_and_keeps_what_it_has() {
    let mut world = World::new();
    let (name, password) = SharedSecret::new(SECRET).issue("PA_1", UNIX + Duration::from_secs(60));
    let mut user = User::new(name, password);
    assert!(world.allocate(client(1), &mut user).is_success);
    world.pass(Duration::from_secs(61));
    assert!(world.ask(client(1), &mut user, method::REFRESH, &[]).is_success, "a call may be longer than its invitation");
    assert_eq!(world.allocate(client(2), &mut user).code, 401);
}

#[test]
fn who_is_removed_loses_what_it_has_and_gets_nothing_more() {
    let mut world = World::new();
    let (name, password) = SharedSecret::new(SECRET).issue("PA_1", UNIX + Duration::from_secs(3600));
    let mut user = User::new(name, password);
    world.allocate(client(1), &mut user);
    world.allocate(tcp_client(2), &mut user);
    let (name, password) = SharedSecret::new(SECRET).issue("PA_2", UNIX + Duration::from_secs(3600));
    let mut other = User::new(name, password);
    world.allocate(client(3), &mut other);
    world.server.revoke(world.at(), "PA_1", UNIX + Duration::from_secs(3600));
    world.settle();
    assert_eq!(world.server.allocation_count(), 1);
    assert!(world.others.contains(&Output::CloseClient(tcp_client(2))));
    assert_eq!(world.ask(client(1), &mut user, method::REFRESH, &[]).code, 401);
    assert_eq!(world.allocate(client(4), &mut user).code, 401);
    assert!(world.ask(client(3), &mut other, method::REFRESH, &[]).is_success);
}

#[test]
fn rfc8656_5_an_allocation_belongs_to_one_user() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    let mut other = User::new("bert", "secret");
    other.told = user.told.clone();
    assert_eq!(world.ask(client(1), &mut other, method::REFRESH, &[lifetime(0)]).code, 441);
    assert_eq!(world.relays.len(), 1);
}

#[test]
fn rfc8489_9_2_4_an_old_nonce_is_replaced() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    let old = user.told.clone().unwrap().nonce;
    for _ in 0..3 {
        world.pass(Duration::from_secs(500));
        assert!(world.ask(client(1), &mut user, method::REFRESH, &[]).is_success);
    }
    assert_ne!(user.told.unwrap().nonce, old);
    let stale = turn_proto::counters::AuthFailure::StaleNonce as usize;
    assert_eq!(world.server.counters().auth_failures[stale], 1);
}

#[test]
fn a_request_that_was_overheard_is_of_no_use_elsewhere() {
    let mut world = World::new();
    let mut user = anna();
    world.allocate(client(1), &mut user);
    let overheard = user.request(method::ALLOCATE, |writer| {
        writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    // from another port of the same address, as behind the same NAT, and from another address
    for elsewhere in [client(2), Client { remote: "192.0.2.2:10001".parse().unwrap(), ..client(1) }] {
        assert_eq!(world.send(elsewhere, &overheard).unwrap().code, 438);
    }
    assert_eq!(world.server.allocation_count(), 1);
}

#[test]
fn rfc8489_9_2_4_nobody_in_the_middle_can_take_the_algorithms_away() {
    let mut world = World::new();
    let mut user = anna();
    user.style = Style::Sha256;
    world.allocate(client(1), &mut user);
    let told = user.told.clone().unwrap();
    // MD5 only, as if the list had been changed on the way
    user.told = Some(Told { algorithms: Some(vec![0, 1, 0, 0]), ..told.clone() });
    let request = user.request(method::REFRESH, |_| {});
    assert_eq!(world.send(client(1), &request).unwrap().code, 400);
    // a list without a choice
    let mut writer = Writer::new(method::REFRESH, Class::Request, b"transactionn");
    writer.attribute(attribute::USERNAME, b"anna").attribute(attribute::REALM, &told.realm).attribute(attribute::NONCE, &told.nonce);
    writer.attribute(attribute::PASSWORD_ALGORITHMS, &told.algorithms.unwrap());
    let request = writer.signed(Integrity::Sha1, user.key(Algorithm::Md5).as_bytes());
    assert_eq!(world.send(client(1), &request).unwrap().code, 400);
    // a nonce with other features is none of ours
    let mut nonce = told.nonce;
    nonce[9..13].copy_from_slice(b"AAAA");
    user.told = Some(Told { nonce, realm: told.realm, algorithms: None });
    let request = user.request(method::REFRESH, |_| {});
    assert_eq!(world.send(client(1), &request).unwrap().code, 438);
}

#[test]
fn rfc8489_9_2_4_a_user_may_hide_its_name_where_all_are_known() {
    let credentials = Credentials::new("example.org", [("anna".to_owned(), "secret".to_owned())], Vec::new());
    let mut world = World::with(Config { credentials, ..config() });
    let mut user = anna();
    let challenged = world.send(client(1), &user.request(method::ALLOCATE, |_| {})).unwrap();
    user.learn(&Message::parse(&challenged.bytes).unwrap());
    let told = user.told.clone().unwrap();
    assert!(told.nonce.starts_with(b"obMatJos2wAAA"), "both features are announced");
    // SHA-256 of "anna:example.org"
    let hash = hex::decode("a6b7228f6e4f13c840d33490e6ca109ffe44068c4ffdda1bfd213647fb522231").unwrap();
    let mut writer = Writer::new(method::ALLOCATE, Class::Request, b"transactionn");
    writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]).attribute(attribute::USERHASH, &hash);
    writer.attribute(attribute::REALM, &told.realm).attribute(attribute::NONCE, &told.nonce);
    let request = writer.signed(Integrity::Sha1, user.key(Algorithm::Md5).as_bytes());
    assert!(world.send(client(1), &request).unwrap().is_success);
}
