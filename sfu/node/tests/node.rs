//! A running node: real threads and sockets, the real engine.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sfu_api::{Command, ParticipantId, RoomId};
use sfu_node::{CommandError, Node, NodeConfig, NodeError, Sharing, metrics};
use support::{Session, loopback, start};

#[test]
fn rooms_are_spread_and_each_is_reached_at_its_shards_port() {
    let (node, mut events) = start(2);
    let first = Session::join(&node, &mut events, 1, 1);
    let second = Session::join(&node, &mut events, 2, 2);
    let third = Session::join(&node, &mut events, 1, 3);
    assert_eq!([&first, &second, &third].map(|s| s.ufrag[..2].to_owned()), ["aa", "ab", "aa"]);
    assert_eq!(first.udp, third.udp);
    assert_ne!(first.udp, second.udp);
    // Two peers of one shard can't share an address: media would not tell whose it is.
    let clients = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    assert!([&first, &second, &third].into_iter().zip(&clients).all(|(session, client)| session.check_udp(client)));
    node.shutdown();
}

#[test]
fn a_room_that_outgrows_a_shard_goes_on_on_others() {
    // How busy the machine is does not matter here.
    let config = NodeConfig { sharing: Sharing { participants: 2, busy_percent: u32::MAX }, ..loopback(3) };
    let (node, mut events) = Node::start(&config).unwrap();
    let sessions: Vec<Session> = (1..=7).map(|participant| Session::join(&node, &mut events, 1, participant)).collect();
    let shards: Vec<&str> = sessions.iter().map(|session| &session.ufrag[..2]).collect();
    assert_eq!(shards, ["aa", "aa", "ab", "ab", "ac", "ac", "aa"]);
    let clients: Vec<UdpSocket> = sessions.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    assert!(sessions.iter().zip(&clients).all(|(session, client)| session.check_udp(client)));
    // Data for all of them is carried out by several; a move to a room of another shard by none.
    let to = (1..=7).map(ParticipantId).collect();
    node.send(Command::SendData { to, delivery: sfu_api::Delivery::Lossy, payload: vec![1] }).unwrap();
    node.send(Command::SetPlayoutDelay { room: RoomId(1), delay: None }).unwrap();
    let elsewhere = Session::join(&node, &mut events, 2, 8);
    assert_eq!(&elsewhere.ufrag[..2], "ab");
    let there = Command::Move { participant: ParticipantId(1), room: RoomId(2) };
    assert_eq!(node.send(there), Err(CommandError::OtherShard));
    node.shutdown();
    let reports = node.snapshots();
    assert_eq!(reports.iter().map(|report| report.turns.commands).collect::<Vec<_>>(), [6 + 2 + 3, 4 + 2 + 2 + 3, 4 + 2 + 2]);
    assert_eq!(reports.iter().map(|report| report.engine.rooms + report.engine.participants).sum::<usize>(), 0);
}

#[test]
fn one_tcp_port_leads_to_the_shard_of_every_room() {
    let (node, mut events) = start(2);
    for (number, cut) in [(1, 1_000), (2, 1_000), (3, 1), (4, 7)] {
        let session = Session::join(&node, &mut events, number, number);
        let mut stream = TcpStream::connect(session.tcp).unwrap();
        assert!(session.check_tcp(&mut stream, cut));
        assert!(session.check_tcp(&mut stream, cut), "the connection goes on");
    }
    node.shutdown();
    let opened: Vec<u64> = node.snapshots().iter().map(|report| report.tcp.opened).collect();
    assert_eq!(opened, [2, 2]);
}

#[test]
fn commands_for_nobody_are_refused() {
    let (node, _events) = start(1);
    assert_eq!(node.send(Command::Leave { participant: ParticipantId(1) }), Err(CommandError::UnknownParticipant));
    node.send(Command::Join { room: RoomId(1), participant: ParticipantId(1), can_subscribe: true, mode: sfu_api::PeerMode::Dual })
        .unwrap();
    node.send(Command::Leave { participant: ParticipantId(1) }).unwrap();
    assert_eq!(node.send(Command::Leave { participant: ParticipantId(1) }), Err(CommandError::UnknownParticipant));
    node.shutdown();
    assert_eq!(node.snapshots()[0].turns.commands, 2);
}

#[test]
fn a_shutdown_empties_the_rooms_and_ends_the_events() {
    let (node, mut events) = start(2);
    let _session = Session::join(&node, &mut events, 1, 1);
    assert!(node.is_live(Instant::now()));
    assert!(!node.is_live(Instant::now() + Duration::from_secs(60)), "without reports it would not be live");
    node.shutdown();
    while events.blocking_recv().is_some() {}
    assert!(!node.is_live(Instant::now()));
    assert_eq!(node.snapshots().iter().map(|r| r.engine.participants).sum::<usize>(), 0);
    assert_eq!(
        node.send(Command::Join { room: RoomId(1), participant: ParticipantId(1), can_subscribe: true, mode: sfu_api::PeerMode::Dual }),
        Err(CommandError::Stopped)
    );
}

#[test]
fn a_node_that_nobody_holds_ends_itself() {
    let (node, mut events) = start(2);
    let copy = node.clone();
    drop(node);
    assert!(copy.is_live(Instant::now()));
    drop(copy);
    while events.blocking_recv().is_some() {}
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = sfu_node::NodeConfig { udp_port: taken.local_addr().unwrap().port(), ..loopback(1) };
    let error = Node::start(&config).err().unwrap();
    assert!(matches!(error, NodeError::Bind { .. }));
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
}

#[test]
fn impossible_settings_are_refused() {
    assert!(matches!(Node::start(&loopback(0)).err().unwrap(), NodeError::Shards(0, 0)));
    assert!(matches!(Node::start(&loopback(1_025)).err().unwrap(), NodeError::Shards(1_025, 0)));
    let config = sfu_node::NodeConfig { udp_port: 65_535, ..loopback(2) };
    assert!(matches!(Node::start(&config).err().unwrap(), NodeError::Shards(2, 65_535)));
    let config = sfu_node::NodeConfig { bind: Vec::new(), ..loopback(1) };
    assert!(matches!(Node::start(&config).err().unwrap(), NodeError::NoAddress));
}

#[test]
fn metrics_tell_what_happened() {
    let (node, mut events) = start(1);
    let registry = prometheus::Registry::new();
    metrics::register(&registry, node.clone()).unwrap();
    let session = Session::join(&node, &mut events, 1, 1);
    assert!(session.check_udp(&UdpSocket::bind("127.0.0.1:0").unwrap()));
    node.shutdown();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in ["sfu_packets_total{direction=\"in\",transport=\"udp\"} 1", "sfu_forward_latency_seconds_count 1", "sfu_shards 1"] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}
