//! The load generator against a real server: what it measures can be believed only if every packet is right.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use bench_load::adapters::livekit::LiveKit;
use bench_load::report::{Machine, Report};
use bench_load::run::{Stage, run};
use bench_load::scenario::Scenario;
use bench_load::server::{Server, free_address, sluice_command};

const KEY: (&str, &str) = ("devkey", "secret-of-a-test-0123456789-0123456789");

/// Runs the smoke scenario, changed, against a server of its own.
fn measured(change: impl FnOnce(&mut Scenario)) -> Report {
    let mut scenario = Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scenarios/smoke.toml")).unwrap();
    change(&mut scenario);
    let address = free_address().unwrap();
    let command = sluice_command(env!("CARGO_BIN_EXE_sluice"), address, 1, KEY);
    let mut stage = Stage {
        adapter: Arc::new(LiveKit { address, key: KEY.0.to_owned(), secret: KEY.1.to_owned(), name: "sluice" }),
        server: Server::start(&command, None).unwrap(),
        server_command: None,
        client_ip: None,
        machine: Machine::here(None, None),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&scenario, &mut stage, "test")).unwrap()
}

#[test]
fn every_client_gets_what_was_sent_to_it_and_the_server_is_measured() {
    let report = measured(|_| {});
    assert_eq!((report.joins.count, report.joins.succeeded), (2, 2), "{:?}", report.problems);
    let counters = &report.steady.counters;
    assert_eq!(counters.faults(), 0, "{counters:?}");
    // The thrifty viewer has the smallest encoding, the other one the largest; audio counts as the first.
    assert!(counters.verified > 0 && counters.encoding_0 > 0 && counters.encoding_2 > 0, "{counters:?}");
    assert!(counters.feedback_sent > 0 && counters.feedback_received > 0, "{counters:?}");
    assert!(report.steady.latency.p50_ms > 0.0 && report.steady.packets_out > 0.0);
    assert!(report.steady.server_rss_mb.is_some_and(|rss| rss > 1.0));
}

#[test]
fn sinks_cost_the_server_their_packets_and_a_storm_is_told_apart() {
    let report = measured(|scenario| {
        scenario.groups[0].video.as_mut().unwrap().codec = "h264".to_owned();
        (scenario.groups[1].count, scenario.groups[1].sinks) = (4, 3);
        (scenario.groups[2].count, scenario.groups[2].storm) = (3, Some(std::time::Duration::from_millis(200)));
    });
    assert_eq!((report.subscribers, report.sinks, report.joins.succeeded), (7, 3, 4), "{:?}", report.problems);
    // One of four reads.
    assert!((report.steady.packets_out - 4.0 * report.steady.packets_out_read).abs() < 1e-6);
    let storm = report.storm.unwrap();
    assert_eq!((storm.joins.count, storm.joins.succeeded), (3, 3), "{:?}", report.problems);
    assert_eq!(storm.media.counters.faults() + report.steady.counters.faults(), 0);
    assert!(storm.media.counters.keyframes > 0, "newcomers begin with keyframes: {:?}", storm.media.counters);
}
