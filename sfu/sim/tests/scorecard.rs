//! The scorecard of congestion control: every scenario with the real engine, its bars, and a committed table.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sfu_sim::scorecard::{Card, FlowLog, Scenario, engine, scenarios};

const SEED: u64 = 8867;
const TABLE: &str = "scorecard.md";

/// Seeds that no setting was chosen by.
const HELD_OUT: u64 = 1_000_003;
const HELD_OUT_PLAYS: u64 = 12;
const HELD_OUT_TABLE: &str = "scorecard-held-out.md";

/// `SCORECARD_WRITE=1` writes the table anew; `SCORECARD_ONLY=text` plays only scenarios whose names have that in them, and
/// prints their rows, and with several flows what passed of each in every five seconds.
#[test]
fn every_scenario_reaches_its_bars_and_the_table_is_fresh() {
    let (all, is_part) = chosen();
    let played = play(&all, |scenario| SEED..SEED + scenario.plays());
    let mut table = String::from(
        "# Scorecard of congestion control towards subscribers\n\n\
         Virtual time, the real engine as the sender of what an encoder makes that follows the estimate at once; `adaptation.md` has cameras in three\n\
         encodings and the allocation. Scenarios and bars are in `src/scorecard/scenarios.rs`, what the columns mean in\n\
         `src/scorecard/mod.rs`. Written by `SCORECARD_WRITE=1 cargo test -p sfu-sim --test scorecard`; `make test` compares. One seed, but\n\
         Jain and max/min are means of eight. What the same settings do on seeds that they were not chosen by is in `scorecard-held-out.md`.\n\n",
    );
    table.push_str(Card::HEAD);
    let (mut missed, mut open) = (String::new(), String::new());
    for (scenario, plays) in all.iter().zip(&played) {
        let card = Card::of_plays(&cards(scenario, plays));
        table.push_str(&card.row(scenario.name));
        if is_part {
            table.push_str(&rates(&plays[0]));
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
    keep(TABLE, &table, &missed, is_part);
}

/// The same on other seeds, several of each scenario.
#[test]
fn bars_hold_on_seeds_that_nothing_was_chosen_by() {
    let (all, is_part) = chosen();
    let played = play(&all, |_| HELD_OUT..HELD_OUT + HELD_OUT_PLAYS);
    let mut table = format!(
        "# The scorecard on held-out seeds\n\n\
         The scenarios of `scorecard.md` on {HELD_OUT_PLAYS} seeds that no setting was chosen by: the mean of each figure, and the worst. Written by\n\
         `SCORECARD_WRITE=1 cargo test -p sfu-sim --test scorecard`, which asks of the means what the bars there say; `make test` compares.\n\n{}",
        Card::HEAD
    );
    let (mut missed, mut open) = (String::new(), String::new());
    for (scenario, plays) in all.iter().zip(&played) {
        let cards = cards(scenario, plays);
        let mean = Card::mean(&cards);
        table.push_str(&mean.row(scenario.name));
        table.push_str(&Card::worst(&cards).row("worst"));
        for words in mean.missed(&scenario.bars) {
            writeln!(missed, "{}: {words}", scenario.name).unwrap();
        }
        for words in mean.missed(&scenario.goals) {
            writeln!(open, "- {}: {words}", scenario.name).unwrap();
        }
    }
    if !open.is_empty() {
        write!(table, "\nGoals that are not reached on average:\n\n{open}").unwrap();
    }
    keep(HELD_OUT_TABLE, &table, &missed, is_part);
}

/// Compares a table with the committed one, or writes that.
fn keep(name: &str, table: &str, missed: &str, is_part: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("SCORECARD_WRITE").is_some() && !is_part {
        std::fs::write(&path, table).unwrap();
    }
    assert!(missed.is_empty(), "bars that are not reached:\n{missed}\n{table}");
    assert!(!is_part, "{table}");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == table, "{name} is stale: look at what changed, then write it anew (SCORECARD_WRITE=1)\n{table}");
}

/// The scenarios to play, and whether these are not all.
fn chosen() -> (Vec<Scenario>, bool) {
    let only = std::env::var("SCORECARD_ONLY").ok();
    let mut all = scenarios::all();
    all.retain(|scenario| only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str())));
    (all, only.is_some())
}

/// Plays scenarios with these seeds, on all processors.
fn play(all: &[Scenario], seeds: impl Fn(&Scenario) -> Range<u64> + Sync) -> Vec<Vec<Vec<FlowLog>>> {
    let (next, played) = (AtomicUsize::new(0), Mutex::new(vec![Vec::new(); all.len()]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(scenario) = all.get(index)
                {
                    let plays = seeds(scenario).map(|seed| engine::run(scenario, seed)).collect();
                    played.lock().unwrap()[index] = plays;
                }
            });
        }
    });
    played.into_inner().unwrap()
}

fn cards(scenario: &Scenario, plays: &[Vec<FlowLog>]) -> Vec<Card> {
    plays.iter().map(|flows| Card::of(scenario, flows)).collect()
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
