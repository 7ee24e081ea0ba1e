//! The scorecard of adaptation as a whole: every scenario with the real engine, its bars, and a committed table.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sfu_sim::scorecard::room::{PLAYS, RoomCard, all, play};

const SEED: u64 = 8868;
const TABLE: &str = "adaptation.md";

/// `SCORECARD_WRITE=1` writes the table anew; `SCORECARD_ONLY=text` plays only scenarios whose names have that in them, and
/// prints the rows of all plays.
#[test]
fn every_room_reaches_its_bars_and_the_table_is_fresh() {
    let only = std::env::var("SCORECARD_ONLY").ok();
    let mut rooms = all();
    rooms.retain(|room| only.as_ref().is_none_or(|only| room.name.contains(only.as_str())));
    let plays = usize::try_from(PLAYS).unwrap();
    let (next, cards) = (AtomicUsize::new(0), Mutex::new(vec![vec![RoomCard::default(); plays]; rooms.len()]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(room) = rooms.get(number / plays)
                {
                    let card = play(room, SEED + (number % plays) as u64);
                    cards.lock().unwrap()[number / plays][number % plays] = card;
                }
            });
        }
    });
    let cards = cards.into_inner().unwrap();
    let mut table = String::from(
        "# Scorecard of adaptation\n\n\
         Virtual time, the real engine with its own estimate and allocation; cameras in three encodings with three temporal layers and\n\
         retransmission, a voice, one subscriber. Scenarios, bars and what the columns mean are in `src/scorecard/room.rs`. Written by\n\
         `SCORECARD_WRITE=1 cargo test -p sfu-sim --test adaptation`; `make test` compares. Each figure is the worst of three plays with\n\
         different seeds.\n\n",
    );
    table.push_str(RoomCard::HEAD);
    let (mut missed, mut open) = (String::new(), String::new());
    for (room, plays) in rooms.iter().zip(&cards) {
        let card = RoomCard::worst(plays);
        table.push_str(&card.row(room.name));
        if only.is_some() {
            plays.iter().for_each(|play| table.push_str(&play.row("")));
        }
        for words in card.missed(&room.bars) {
            writeln!(missed, "{}: {words}", room.name).unwrap();
        }
        for words in card.missed(&room.goals) {
            writeln!(open, "- {}: {words}", room.name).unwrap();
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
