//! One run of a scenario: joins, a steady window, perhaps a storm of joins, a report.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::adapters::Adapter;
use crate::histogram::Histogram;
use crate::media::{Look, Media};
use crate::process::Usage;
use crate::report::{Joins, Machine, Report, Storm, Times, Window};
use crate::scenario::{Entry, Scenario};
use crate::server::Server;

/// How long a server may take to start.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last joins may take after they were begun.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks while something is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Beyond it the media thread may not come round any more: what it measures is then its own doing.
const BUSY_CORES: f64 = 0.95;
/// Media is measured so long after the last join of a storm.
const STORM_TAIL: Duration = Duration::from_secs(1);

/// What a run needs beside its scenario.
pub struct Stage {
    /// Signaling.
    pub adapter: Arc<dyn Adapter>,
    /// The server.
    pub server: Server,
    /// How it was started.
    pub server_command: Option<String>,
    /// Where clients are if the server is not on loopback.
    pub client_ip: Option<std::net::Ipv4Addr>,
    /// For the report.
    pub machine: Machine,
}

/// Runs a scenario. `run` makes its rooms' names different from those of others.
///
/// # Errors
/// If nothing can be measured. That some participants did not join, or packets were wrong, is in the report.
pub async fn run(scenario: &Scenario, stage: &mut Stage, run: &str) -> anyhow::Result<Report> {
    let entries = scenario.participants(run)?;
    let mut rooms: Vec<String> = entries.iter().map(|entry| entry.participant.room.clone()).collect();
    rooms.sort();
    rooms.dedup();
    until_ready(stage, &rooms).await?;

    let stage: &Stage = stage;
    let media = Media::start(stage.client_ip)?;
    let mut runner =
        Runner { stage, media, sessions: JoinSet::new(), failures: Arc::default(), shown: Instant::now(), line: String::new() };
    let before = runner.usage();
    let (calm, stormy): (Vec<Entry>, Vec<Entry>) = entries.iter().cloned().partition(|entry| entry.storm.is_none());
    let (publishers, others): (Vec<Entry>, Vec<Entry>) =
        calm.iter().cloned().partition(|entry| entry.participant.audio.is_some() || entry.participant.video.is_some());

    runner.media.set_idle(scenario.holds_media);
    let pace = Duration::from_secs_f64(1.0 / scenario.joins_per_second);
    let series = runner.join("publishers", &publishers, pace).await?;
    let series = if others.is_empty() { series } else { runner.join("subscribers", &others, pace).await? };
    runner.media.set_idle(false);
    runner.pause("settling", scenario.settle).await?;

    let steady = runner.window("measuring", scenario.steady, &calm).await?;
    let ns_per_packet = steady.server_cpu_ns_per_packet;
    let mut joins = series.report(ns_per_packet);
    joins.server_rss_kb = runner.usage().map(|usage| {
        let grown = usage.rss_bytes.saturating_sub(before.as_ref().map_or(0, |before| before.rss_bytes));
        grown as f64 / 1e3 / calm.len().max(1) as f64
    });

    let mut storm = None;
    if let Some(within) = stormy.first().and_then(|entry| entry.storm) {
        let pace = within / u32::try_from(stormy.len()).unwrap_or(u32::MAX);
        let from = runner.mark().await?;
        let series = runner.join("storm", &stormy, pace).await?;
        runner.pause("storm", STORM_TAIL).await?;
        let media = runner.since(from, &calm).await?;
        storm = Some(Storm { joins: series.report(ns_per_packet), media });
    }

    let mut problems = runner.problems(&entries).await?;
    for (name, window) in [Some(("steady", &steady)), storm.as_ref().map(|storm| ("storm", &storm.media))].into_iter().flatten() {
        let counters = &window.counters;
        if counters.faults() > 0 {
            problems.push(format!("{name}: {} packets were wrong", counters.faults()));
        }
        if counters.skipped_frames * 100 > counters.sent_frames || counters.unsent > 0 || window.generator_cpu_cores > BUSY_CORES {
            problems.push(format!(
                "{name}: this program was too slow: {} frames of {} skipped, {} datagrams not sent, {:.2} cores used",
                counters.skipped_frames,
                counters.skipped_frames + counters.sent_frames,
                counters.unsent,
                window.generator_cpu_cores,
            ));
        }
    }
    runner.clear();
    let count = |what: fn(&Entry) -> bool| entries.iter().filter(|entry| what(entry)).count();
    Ok(Report {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        adapter: stage.adapter.name().to_owned(),
        server_command: stage.server_command.clone(),
        machine: stage.machine.clone(),
        publishers: publishers.len(),
        subscribers: count(|entry| entry.participant.subscribes),
        sinks: count(|entry| entry.participant.is_sink),
        joins,
        steady,
        storm,
        problems,
    })
}

async fn until_ready(stage: &mut Stage, rooms: &[String]) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        stage.server.check()?;
        match Arc::clone(&stage.adapter).prepare(rooms.to_vec()).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.context("the server is not ready")),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

struct Runner<'a> {
    stage: &'a Stage,
    media: Media,
    sessions: JoinSet<()>,
    failures: Arc<Mutex<Vec<String>>>,
    shown: Instant,
    line: String,
}

/// The beginning of a window.
struct Mark {
    at: Instant,
    look: Box<Look>,
    server: Option<Usage>,
    own: Usage,
}

/// Joins that have been done.
struct Series {
    entries: Vec<Entry>,
    seconds: f64,
    look: Box<Look>,
    cpu: Option<Duration>,
    threads: Vec<(String, Duration)>,
    packets: u64,
}

impl Runner<'_> {
    fn usage(&self) -> Option<Usage> {
        self.stage.server.pid.map(Usage::of_tree)
    }

    async fn mark(&self) -> anyhow::Result<Mark> {
        let look = self.media.look(true).await?;
        Ok(Mark { at: Instant::now(), look, server: self.usage(), own: Usage::of_self() })
    }

    /// Begins sessions at a pace and waits until all have what they are to have.
    async fn join(&mut self, what: &str, entries: &[Entry], pace: Duration) -> anyhow::Result<Series> {
        let from = self.mark().await?;
        let began = tokio::time::Instant::now();
        for (number, entry) in entries.iter().enumerate() {
            sleep_until(began + pace * u32::try_from(number).unwrap_or(u32::MAX)).await;
            let link = self.media.begin(&entry.participant);
            let session = Arc::clone(&self.stage.adapter).session(Arc::clone(&entry.participant), link);
            let (failures, name) = (Arc::clone(&self.failures), entry.participant.identity.clone());
            self.sessions.spawn(async move {
                let Err(error) = session.await;
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {error:#}"));
            });
            self.show(&format!("{what}: {}/{} joins begun", number + 1, entries.len()), None).await?;
        }
        let deadline = Instant::now() + JOIN_PATIENCE;
        let look = loop {
            let look = self.media.look(false).await?;
            let ready = entries.iter().filter(|entry| is_complete(entry, &look)).count();
            if ready == entries.len() || Instant::now() > deadline {
                break look;
            }
            self.show(&format!("{what}: {ready}/{} joined", entries.len()), None).await?;
            sleep(LOOK_INTERVAL / 5).await;
        };
        let usages = self.usage().zip(from.server);
        let cpu = usages.as_ref().map(|(now, before)| now.cpu_since(before));
        let threads = usages.map(|(now, before)| now.threads_since(&before)).unwrap_or_default();
        let counters = look.measured.counters.since(&from.look.measured.counters);
        let packets = counters.received_packets;
        Ok(Series { entries: entries.to_vec(), seconds: from.at.elapsed().as_secs_f64(), look, cpu, threads, packets })
    }

    async fn pause(&mut self, what: &str, how_long: Duration) -> anyhow::Result<()> {
        let from = self.mark().await?;
        let deadline = from.at + how_long;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            sleep(left.min(LOOK_INTERVAL)).await;
            let progress = format!("{what}: {:.0}/{:.0} s", from.at.elapsed().as_secs_f64(), how_long.as_secs_f64());
            self.show(&progress, Some(&from)).await?;
        }
        Ok(())
    }

    async fn window(&mut self, what: &str, how_long: Duration, entries: &[Entry]) -> anyhow::Result<Window> {
        let from = self.mark().await?;
        let deadline = from.at + how_long;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            sleep(left.min(LOOK_INTERVAL)).await;
            let progress = format!("{what}: {:.0}/{:.0} s", from.at.elapsed().as_secs_f64(), how_long.as_secs_f64());
            self.show(&progress, Some(&from)).await?;
        }
        self.since(from, entries).await
    }

    async fn since(&self, from: Mark, entries: &[Entry]) -> anyhow::Result<Window> {
        let look = self.media.look(false).await?;
        let (server, own) = (self.usage(), Usage::of_self());
        let seconds = from.at.elapsed().as_secs_f64();
        let counters = look.measured.counters.since(&from.look.measured.counters);
        let per_second = |count: u64| count as f64 / seconds;
        let mbit = |bytes: u64| bytes as f64 * 8.0 / 1e6 / seconds;
        let with_sinks = share_of_all(entries);
        let packets_out = per_second(counters.received_packets) * with_sinks;
        let cpu = server.as_ref().zip(from.server.as_ref()).map(|(now, before)| now.cpu_since(before).as_secs_f64());
        let threads = server.as_ref().zip(from.server.as_ref()).map(|(now, before)| now.threads_since(before)).unwrap_or_default();
        Ok(Window {
            seconds,
            packets_in: per_second(counters.sent_packets),
            packets_out,
            packets_out_read: per_second(counters.received_packets),
            mbit_in: mbit(counters.sent_bytes),
            mbit_out: mbit(counters.received_bytes) * with_sinks,
            loss: counters.loss(),
            latency: Times::of(&look.measured.latency),
            server_cpu_cores: cpu.map(|cpu| cpu / seconds),
            server_cpu_ns_per_packet: cpu.filter(|_| packets_out > 0.0).map(|cpu| cpu * 1e9 / (packets_out * seconds)),
            server_threads: threads.into_iter().take(6).map(|(name, cpu)| (name, cpu.as_secs_f64() / seconds)).collect(),
            server_rss_mb: server.map(|usage| usage.rss_bytes as f64 / 1e6),
            generator_cpu_cores: own.cpu_since(&from.own).as_secs_f64() / seconds,
            counters,
        })
    }

    async fn problems(&self, entries: &[Entry]) -> anyhow::Result<Vec<String>> {
        let look = self.media.look(false).await?;
        let mut problems: Vec<String> = Vec::new();
        let late: Vec<&Entry> = entries.iter().filter(|entry| !is_complete(entry, &look)).collect();
        if let Some(first) = late.first() {
            let progress = look.participants.get(first.participant.index);
            problems.push(format!("{} of {} did not join, first {}: {progress:?}", late.len(), entries.len(), first.participant.identity));
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = failures.first() {
            problems.push(format!("{} sessions failed, first {first}", failures.len()));
        }
        Ok(problems)
    }

    /// The progress line: on a terminal twice a second in place, otherwise a line every ten seconds.
    async fn show(&mut self, text: &str, from: Option<&Mark>) -> anyhow::Result<()> {
        let is_terminal = std::io::stderr().is_terminal();
        if self.shown.elapsed() < if is_terminal { Duration::from_millis(500) } else { Duration::from_secs(10) } {
            return Ok(());
        }
        self.shown = Instant::now();
        let mut line = text.to_owned();
        if let Some(from) = from {
            let look = self.media.look(false).await.context("progress")?;
            let counters = look.measured.counters.since(&from.look.measured.counters);
            let seconds = from.at.elapsed().as_secs_f64();
            line.push_str(&format!(
                ", {:.0} packets/s in, {:.0} out read, loss {:.3} %, p99 {:.2} ms",
                counters.sent_packets as f64 / seconds,
                counters.received_packets as f64 / seconds,
                counters.loss() * 100.0,
                look.measured.latency.quantile(0.99).as_secs_f64() * 1e3,
            ));
        }
        if is_terminal {
            eprint!("\r{line:width$}", width = self.line.len());
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
        self.line = line;
        Ok(())
    }

    fn clear(&mut self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r{:width$}\r", "", width = self.line.len());
        }
    }
}

impl Series {
    fn report(&self, ns_per_packet: Option<f64>) -> Joins {
        let (mut connected, mut first_media) = (Histogram::default(), Histogram::default());
        let mut succeeded = 0;
        for entry in &self.entries {
            let Some(Some(progress)) = self.look.participants.get(entry.participant.index) else { continue };
            progress.connected_after.into_iter().for_each(|after| connected.record(after));
            progress.media_after.into_iter().for_each(|after| first_media.record(after));
            succeeded += usize::from(is_complete(entry, &self.look));
        }
        let of_media = ns_per_packet.unwrap_or(0.0) * self.packets as f64 / 1e6;
        let per_join = |cpu: Duration| (cpu.as_secs_f64() * 1e3 - of_media).max(0.0) / self.entries.len().max(1) as f64;
        Joins {
            count: self.entries.len(),
            succeeded,
            seconds: self.seconds,
            connected: Times::of(&connected),
            first_media: Times::of(&first_media),
            server_cpu_ms: self.cpu.map(per_join),
            server_threads_ms: self.threads.iter().take(6).map(|(name, cpu)| (name.clone(), cpu.as_secs_f64() * 1e3)).collect(),
            server_rss_kb: None,
        }
    }
}

/// It has joined, and everything that it is to receive has begun. What reaches a sink nobody sees.
fn is_complete(entry: &Entry, look: &Look) -> bool {
    let Some(Some(progress)) = look.participants.get(entry.participant.index) else { return false };
    let participant = &entry.participant;
    progress.connected_after.is_some() && (participant.is_sink || progress.live_tracks >= participant.expected_tracks)
}

/// Tracks of all subscribers per track of those that read.
fn share_of_all(entries: &[Entry]) -> f64 {
    let tracks = |is_counted: fn(&Entry) -> bool| {
        entries.iter().filter(|entry| is_counted(entry)).map(|entry| entry.participant.expected_tracks).sum::<usize>()
    };
    let (all, read) = (tracks(|_| true), tracks(|entry| !entry.participant.is_sink));
    if read == 0 { 1.0 } else { all as f64 / read as f64 }
}
