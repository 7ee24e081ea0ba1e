//! What a run found: plain values for JSON, and a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::media::counters::Counters;

/// Of one run of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// What it is.
    pub about: String,
    /// Kind of server.
    pub adapter: String,
    /// How it was started, if it was.
    pub server_command: Option<String>,
    /// Where.
    pub machine: Machine,
    /// Participants that publish.
    pub publishers: usize,
    /// Participants that subscribe.
    pub subscribers: usize,
    /// Of these, those whose media ends in a filter: their packets are counted as those of the others.
    pub sinks: usize,
    /// Joins before the measurement.
    pub joins: Joins,
    /// Media while nobody joins.
    pub steady: Window,
    /// Joins while media is measured.
    pub storm: Option<Storm>,
    /// What went wrong, for people. Empty: everybody joined and every packet was right.
    pub problems: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Model name of the processor.
    pub processor: String,
    /// Processors.
    pub cores: usize,
    /// Where the server ran, if on one.
    pub server_core: Option<usize>,
    /// Where this program ran, if on one.
    pub client_core: Option<usize>,
}

/// A series of joins.
#[derive(Clone, Debug, Serialize)]
pub struct Joins {
    /// How many were begun.
    pub count: usize,
    /// How many succeeded.
    pub succeeded: usize,
    /// From the first to the last media, in s.
    pub seconds: f64,
    /// From the TCP connection until DTLS was up.
    pub connected: Times,
    /// From the TCP connection until the first media packet, where some was to come.
    pub first_media: Times,
    /// CPU time of the server per join, without that of media, in ms.
    pub server_cpu_ms: Option<f64>,
    /// CPU time of the server's threads in the series, in ms, the busiest first: media's included.
    pub server_threads_ms: Vec<(String, f64)>,
    /// Resident memory of the server per participant, in kB: growth since it was started.
    pub server_rss_kb: Option<f64>,
}

/// A storm of joins, and the media meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// The joins.
    pub joins: Joins,
    /// The media.
    pub media: Window,
}

/// Durations in ms.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Times {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

/// Media in a window of time.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// Its length in s.
    pub seconds: f64,
    /// RTP packets per second from publishers.
    pub packets_in: f64,
    /// RTP packets per second to subscribers, with those that sinks dropped.
    pub packets_out: f64,
    /// Of these, those that were read and verified.
    pub packets_out_read: f64,
    /// UDP payload of media from publishers.
    pub mbit_in: f64,
    /// UDP payload of media to subscribers, with sinks.
    pub mbit_out: f64,
    /// Share of packets that never came (0 to 1).
    pub loss: f64,
    /// One-way latency: from sealing at the publisher to the kernel's receive timestamp at the subscriber.
    pub latency: Times,
    /// CPU of the server in cores.
    pub server_cpu_cores: Option<f64>,
    /// CPU time of the server per packet to a subscriber, in ns: user and system.
    pub server_cpu_ns_per_packet: Option<f64>,
    /// CPU of the server's threads in cores, the busiest first.
    pub server_threads: Vec<(String, f64)>,
    /// Resident memory of the server at the end, in MB.
    pub server_rss_mb: Option<f64>,
    /// CPU of this program in cores.
    pub generator_cpu_cores: f64,
    /// Everything that was counted.
    pub counters: Counters,
}

impl Times {
    /// Of a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        let ms = |share| millis(histogram.quantile(share));
        Self { p50_ms: ms(0.5), p95_ms: ms(0.95), p99_ms: ms(0.99), max_ms: millis(histogram.max()) }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here(server_core: Option<usize>, client_core: Option<usize>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let processor =
            cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name.to_owned());
        Self {
            kernel: read("/proc/sys/kernel/osrelease")
                .split(|c: char| c != '.' && !c.is_ascii_digit())
                .next()
                .unwrap_or_default()
                .to_owned(),
            processor: processor.unwrap_or_default(),
            cores: cpu_info.lines().filter(|line| line.starts_with("processor")).count(),
            server_core,
            client_core,
        }
    }
}

/// A column of the table: heading, decimals, value.
type Column = (&'static str, usize, fn(&Report) -> Option<f64>);

const COLUMNS: &[Column] = &[
    ("pubs", 0, |r| Some(r.publishers as f64)),
    ("subs", 0, |r| Some(r.subscribers as f64)),
    ("sinks", 0, |r| Some(r.sinks as f64)),
    ("pps in", 0, |r| Some(r.steady.packets_in)),
    ("pps out", 0, |r| Some(r.steady.packets_out)),
    ("Mbit/s", 1, |r| Some(r.steady.mbit_out)),
    ("loss %", 3, |r| Some(r.steady.loss * 100.0)),
    ("p50 ms", 3, |r| Some(r.steady.latency.p50_ms)),
    ("p99 ms", 3, |r| Some(r.steady.latency.p99_ms)),
    ("srv cpu", 2, |r| r.steady.server_cpu_cores),
    ("ns/pkt", 0, |r| r.steady.server_cpu_ns_per_packet),
    ("gen cpu", 2, |r| Some(r.steady.generator_cpu_cores)),
    ("RSS MB", 1, |r| r.steady.server_rss_mb),
    ("kB/part", 0, |r| r.joins.server_rss_kb),
    ("join p50", 1, |r| Some(r.joins.connected.p50_ms)),
    ("p95", 1, |r| Some(r.joins.connected.p95_ms)),
    ("max ms", 1, |r| Some(r.joins.connected.max_ms)),
    ("cpu/join", 2, |r| r.joins.server_cpu_ms),
    ("faults", 0, |r| Some(r.steady.counters.faults() as f64)),
];

const STORM_COLUMNS: &[Column] = &[
    ("joins", 0, |r| r.storm.as_ref().map(|s| s.joins.succeeded as f64)),
    ("seconds", 2, |r| r.storm.as_ref().map(|s| s.joins.seconds)),
    ("join p50", 1, |r| r.storm.as_ref().map(|s| s.joins.connected.p50_ms)),
    ("p95", 1, |r| r.storm.as_ref().map(|s| s.joins.connected.p95_ms)),
    ("max ms", 1, |r| r.storm.as_ref().map(|s| s.joins.connected.max_ms)),
    ("cpu/join", 2, |r| r.storm.as_ref().and_then(|s| s.joins.server_cpu_ms)),
    ("media p50 ms", 3, |r| r.storm.as_ref().map(|s| s.media.latency.p50_ms)),
    ("p99", 3, |r| r.storm.as_ref().map(|s| s.media.latency.p99_ms)),
    ("max ms", 3, |r| r.storm.as_ref().map(|s| s.media.latency.max_ms)),
    ("loss %", 3, |r| r.storm.as_ref().map(|s| s.media.loss * 100.0)),
    ("srv cpu", 2, |r| r.storm.as_ref().and_then(|s| s.media.server_cpu_cores)),
];

/// A line for each report and, of several runs of a scenario with the same kind of server, their medians.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut text = part(reports, COLUMNS);
    if reports.iter().any(|report| report.storm.is_some()) {
        text.push_str("\nstorms of joins, and the media meanwhile\n");
        let storms: Vec<Report> = reports.iter().filter(|report| report.storm.is_some()).cloned().collect();
        text.push_str(&part(&storms, STORM_COLUMNS));
    }
    text
}

fn part(reports: &[Report], columns: &[Column]) -> String {
    let name = |report: &Report| format!("{} {}", report.scenario, report.adapter);
    let mut lines = vec![("scenario".to_owned(), columns.iter().map(|(heading, ..)| (*heading).to_owned()).collect::<Vec<_>>())];
    let cell = |value: Option<f64>, decimals: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"));
    let mut done: Vec<String> = Vec::new();
    for report in reports {
        let name_of_this = name(report);
        if done.contains(&name_of_this) {
            continue;
        }
        let runs: Vec<&Report> = reports.iter().filter(|other| name(other) == name_of_this).collect();
        for run in &runs {
            lines.push((name_of_this.clone(), columns.iter().map(|(_, decimals, value)| cell(value(run), *decimals)).collect()));
        }
        if runs.len() > 1 {
            let medians = columns.iter().map(|(_, decimals, value)| cell(median(runs.iter().filter_map(|run| value(run))), *decimals));
            lines.push((format!("{name_of_this} median of {}", runs.len()), medians.collect()));
        }
        done.push(name_of_this);
    }
    let first = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns.len()).map(|column| lines.iter().map(|(_, cells)| cells[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (name, cells) in lines {
        let _ = write!(text, "{name:first$}");
        cells.iter().zip(&widths).for_each(|(cell, width)| {
            let _ = write!(text, "  {cell:>width$}");
        });
        text.push('\n');
    }
    text
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    pub(crate) fn report(scenario: &str, ns_per_packet: f64) -> Report {
        let times = Times { p50_ms: 0.1, p95_ms: 0.2, p99_ms: 0.3, max_ms: 0.4 };
        let steady = Window {
            seconds: 10.0,
            packets_in: 100.0,
            packets_out: 1_000.0,
            packets_out_read: 1_000.0,
            mbit_in: 1.0,
            mbit_out: 10.0,
            loss: 0.0,
            latency: times.clone(),
            server_cpu_cores: Some(0.5),
            server_cpu_ns_per_packet: Some(ns_per_packet),
            server_threads: Vec::new(),
            server_rss_mb: None,
            generator_cpu_cores: 0.1,
            counters: Counters::default(),
        };
        let joins = Joins {
            count: 1,
            succeeded: 1,
            seconds: 1.0,
            connected: times.clone(),
            first_media: times,
            server_cpu_ms: None,
            server_threads_ms: Vec::new(),
            server_rss_kb: None,
        };
        Report {
            scenario: scenario.to_owned(),
            about: String::new(),
            adapter: "sluice".to_owned(),
            server_command: None,
            machine: Machine::here(None, None),
            publishers: 1,
            subscribers: 10,
            sinks: 0,
            joins,
            steady,
            storm: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn several_runs_end_in_their_median() {
        let text = table(&[report("a", 900.0), report("b", 5.0), report("a", 1_100.0), report("a", 1_000.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[4].starts_with("a sluice median of 3") && lines[4].contains("1000"), "{text}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }

    #[test]
    fn what_is_unknown_is_a_dash() {
        assert!(table(&[report("a", 1.0)]).lines().nth(1).unwrap().contains(" - "));
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
