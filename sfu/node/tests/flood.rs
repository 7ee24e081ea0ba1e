//! Garbage from the network. Alone in its process, because it measures memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;

use sfu_core::error::Discard;
use support::{Session, start};

#[test]
fn a_flood_of_garbage_is_counted_and_costs_no_memory() {
    let (node, mut events) = start(1);
    let session = Session::join(&node, &mut events, 1, 1);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = || {
        for round in 0..200_u32 {
            for n in 0..100_u32 {
                let len = 1 + (round * 100 + n) as usize % 1_400;
                let mut packet = vec![(round + n) as u8; len];
                packet[0] = (n * 37) as u8;
                client.send_to(&packet, session.udp).unwrap();
            }
            assert!(session.check_udp(&client), "the call goes on");
        }
    };
    flood();
    let before = resident_bytes();
    flood();
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < 4 * 1024 * 1024, "{growth} bytes more");

    node.shutdown();
    let report = node.snapshots().remove(0);
    let discards = |reason| report.engine.discards.get(reason);
    assert!(discards(Discard::UnknownProtocol) > 1_000 && discards(Discard::StunMalformed) > 100, "{:?}", report.engine.discards);
    // The flood's DTLS and SRTP bytes come from a validated address and so get further.
    let dropped: u64 = report.engine.discards.iter().map(|(_, count)| count).sum();
    assert!(dropped > 30_000 && dropped <= 40_000, "{dropped} of 40,000, less what the kernel dropped");
    assert_eq!(report.engine.received.packets, report.udp.received_datagrams);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
