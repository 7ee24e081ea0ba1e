//! What was measured: a line per point as it comes, a JSON file, a table.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::load::{Done, Run};
use crate::server::Kind;

/// One point: way, direction and allocations, with all rounds of all servers.
pub(crate) struct Point {
    key: Value,
    rate: u64,
    rounds: Vec<Round>,
}

struct Round {
    kind: Kind,
    ns_per_packet: f64,
    share: f64,
    lost: u64,
}

impl Point {
    pub(crate) fn new(run: &Run, allocations: usize, coalesce: bool) -> Self {
        let key = json!({
            "way": run.way.label(), "burst": run.burst, "direction": run.direction.label(), "allocations": allocations,
            "bytes": run.bytes, "receivers_coalesce": coalesce,
        });
        Self { key, rate: run.rate, rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: Kind, cpu_ns: u64, done: Done) {
        let ns_per_packet = cpu_ns as f64 / done.received.max(1) as f64;
        self.rounds.push(Round { kind, ns_per_packet, share: cpu_ns as f64 / 1e9 / done.seconds, lost: done.sent - done.received });
    }

    fn of(&self, kind: Kind) -> Vec<&Round> {
        self.rounds.iter().filter(|round| round.kind == kind).collect()
    }

    fn to_json(&self) -> Value {
        let (ours, theirs) = (self.of(Kind::Sluice), self.of(Kind::Coturn));
        let one = |rounds: &[&Round]| {
            let ns: Vec<f64> = rounds.iter().map(|round| round.ns_per_packet).collect();
            (!ns.is_empty()).then(|| {
                json!({
                    "cpu_ns_per_packet": least(&ns).round(),
                    "rounds": ns.iter().map(|ns| ns.round()).collect::<Vec<_>>(),
                    "cpu_share": thousandths(least(&rounds.iter().map(|round| round.share).collect::<Vec<_>>())),
                    "lost": rounds.iter().map(|round| round.lost).sum::<u64>(),
                })
            })
        };
        let of = |rounds: &[&Round]| rounds.iter().map(|round| round.ns_per_packet).collect::<Vec<_>>();
        let is_pair = !ours.is_empty() && !theirs.is_empty();
        let ratio = is_pair.then(|| thousandths(least(&of(&ours)) / least(&of(&theirs))));
        let of_rounds = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.ns_per_packet / theirs.ns_per_packet).collect::<Vec<_>>();
        let median_ratio = is_pair.then(|| thousandths(median(of_rounds)));
        json!({ "point": self.key, "packets_per_second": self.rate, "sluice-turn": one(&ours), "coturn": one(&theirs), "ratio": ratio, "median_ratio": median_ratio })
    }
}

/// All points of a file.
pub(crate) struct Report {
    path: Option<PathBuf>,
    machine: Value,
    points: Vec<Value>,
}

impl Report {
    /// Goes on with what is there.
    pub(crate) fn open(path: Option<PathBuf>, machine: Value) -> anyhow::Result<Self> {
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let before: Value = text.map_or(Ok(Value::Null), |text| serde_json::from_str(&text)).context("--out is not a file of ours")?;
        Ok(Self { path, machine, points: before["points"].as_array().cloned().unwrap_or_default() })
    }

    /// Shows a point and writes the files.
    pub(crate) fn add(&mut self, point: Point) -> anyhow::Result<()> {
        let point = point.to_json();
        let _ = writeln!(std::io::stdout().lock(), "{}", row(&point, "", "  "));
        match self.points.iter_mut().find(|each| each["point"] == point["point"]) {
            Some(each) => *each = point,
            None => self.points.push(point),
        }
        let Some(path) = &self.path else { return Ok(()) };
        let all = json!({ "machine": self.machine, "points": self.points });
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
        fs::write(path.with_extension("md"), self.table())?;
        Ok(())
    }

    fn table(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "# CPU per relayed packet, beside coturn\n\n`benches/turn/run.sh` on {} cores of {}, Linux {}. Written by it from `turn.json`.\n\n",
            machine["cores"],
            machine["processor"].as_str().unwrap_or("an unknown processor"),
            machine["kernel"].as_str().unwrap_or("?"),
        );
        text.push_str(EXPLANATION);
        text.push_str("\n| ");
        text.push_str(&COLUMNS.map(str::trim).join(" | "));
        text.push_str(" |\n|---|---|---|---|---|---|---|---|---|\n");
        for point in &self.points {
            text.push_str(&row(point, "| ", " | "));
            text.push_str(" |\n");
        }
        text
    }
}

const EXPLANATION: &str = "\
User and system time of the server's process by packets that arrived, one relaying thread, both measured in turns in one run. Load and
server share a core, the load first, so what is sent at once waits when the server looks (`benches/turn/src/machine.rs`). Shown is the least of
the rounds, since whatever disturbs only adds; \"median\" is the median of the rounds' ratios. Packets of 1,160 bytes on channels over UDP, 40,000 a second of all allocations together (10,000 where they are spaced), over loopback.

- Unbatched: mixed is 64 packets that wait when the server looks, as on a busy one, each of another allocation than the one before; with one allocation all are of it.
  spaced is each packet by itself, evenly spaced: the server wakes up for each, which costs more than relaying, for both alike.
- Bursts: row is 8 of one allocation in a row, each sent by a call of its own, as the packets of a frame leave a browser; train is 8 of one allocation sent as one
  (UDP_SEGMENT), as they leave a media server. 64 packets wait here too.
- Receivers take trains whole (UDP_GRO) where \"whole\" stands, as Sluice's media ports do. Elsewhere the kernel cuts them in the server's time, as it would for a network card
  that can't; so this is the worse case for a server that sends trains.
- Receivers are not woken by what arrives, so no server pays for that. lost: packets that did not arrive, of all rounds, ours and coturn's.
";

const COLUMNS: [&str; 9] = ["way   ", "receivers", "direction", "allocations", "sluice-turn ns", "coturn ns", "ratio", "median", "lost"];

pub(crate) fn header() {
    let _ = writeln!(std::io::stdout().lock(), "{}", COLUMNS.join("  "));
}

fn row(point: &Value, begin: &str, between: &str) -> String {
    let key = &point["point"];
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
    let ratio = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let cells = [
        key["way"].as_str().unwrap_or_default().to_owned(),
        if key["receivers_coalesce"] == true { "whole" } else { "cut" }.to_owned(),
        key["direction"].as_str().unwrap_or_default().to_owned(),
        number(&key["allocations"]),
        number(&point["sluice-turn"]["cpu_ns_per_packet"]),
        number(&point["coturn"]["cpu_ns_per_packet"]),
        ratio(&point["ratio"]),
        ratio(&point["median_ratio"]),
        format!("{} {}", number(&point["sluice-turn"]["lost"]), number(&point["coturn"]["lost"])),
    ];
    let cells = cells.iter().zip(COLUMNS).map(|(cell, name)| format!("{cell:>width$}", width = name.len()));
    format!("{begin}{}", cells.collect::<Vec<_>>().join(between))
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
