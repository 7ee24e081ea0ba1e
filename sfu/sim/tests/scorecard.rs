//! The scorecard of congestion control: every scenario with the real engine, its bars, and a committed table.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sfu_sim::scorecard::{Card, FlowLog, engine, scenarios};

const SEED: u64 = 8867;
const TABLE: &str = "scorecard.md";

/// `SCORECARD_WRITE=1` writes the table anew; `SCORECARD_ONLY=text` plays only scenarios whose names have that in them, and
/// prints their rows, and with several flows what passed of each in every five seconds.
#[test]
fn every_scenario_reaches_its_bars_and_the_table_is_fresh() {
    let only = std::env::var("SCORECARD_ONLY").ok();
    let mut all = scenarios::all();
    all.retain(|scenario| only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str())));
    let (next, cards) = (AtomicUsize::new(0), Mutex::new(vec![(Card::default(), String::new()); all.len()]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(scenario) = all.get(index)
                {
                    let flows: Vec<_> = (0..scenario.plays()).map(|play| engine::run(scenario, SEED + play)).collect();
                    let plays: Vec<Card> = flows.iter().map(|flows| Card::of(scenario, flows)).collect();
                    cards.lock().unwrap()[index] = (Card::of_plays(&plays), rates(&flows[0]));
                }
            });
        }
    });
    let cards = cards.into_inner().unwrap();
    let mut table = String::from(
        "# Scorecard of congestion control towards subscribers\n\n\
         Virtual time, the real engine as the sender; scenarios and bars are in `src/scorecard/scenarios.rs`, what the columns mean in\n\
         `src/scorecard/mod.rs`. Written by `SCORECARD_WRITE=1 cargo test -p sfu-sim --test scorecard`; `make test` compares. One seed, but\n\
         Jain and max/min are means of four.\n\n",
    );
    table.push_str(Card::HEAD);
    let (mut missed, mut open) = (String::new(), String::new());
    for (scenario, (card, rates)) in all.iter().zip(&cards) {
        table.push_str(&card.row(scenario.name));
        if only.is_some() {
            table.push_str(rates);
        }
        for words in card.missed(&scenario.bars) {
            writeln!(missed, "{}: {words}", scenario.name).unwrap();
        }
        for words in card.missed(&scenario.goals) {
            writeln!(open, "- {}: {words}", scenario.name).unwrap();
        }
    }
    if !open.is_empty() {
        write!(table, "\nGoals that are not reached:\n\n{open}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    if std::env::var_os("SCORECARD_WRITE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert!(missed.is_empty(), "bars that are not reached:\n{missed}\n{table}");
    assert!(only.is_none(), "{table}");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == table, "{TABLE} is stale: look at what changed, then write it anew (SCORECARD_WRITE=1)\n{table}");
}

/// What passed of each of several flows, in kbit/s of every five seconds.
fn rates(flows: &[FlowLog]) -> String {
    let mut lines = String::new();
    for (number, flow) in flows.iter().enumerate().filter(|_| flows.len() > 1) {
        // A bin is a tenth of a second.
        let rates: Vec<u64> = flow.meter.passed_bytes.chunks(50).map(|bins| bins.iter().sum::<u64>() * 8 / 5_000).collect();
        writeln!(lines, "flow {number}: {rates:?}").unwrap();
    }
    lines
}
