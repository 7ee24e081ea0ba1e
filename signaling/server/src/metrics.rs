//! Counters of the signaling server, registered in the process's registry.
//!
//! Labels are fixed words; rooms, identities and addresses never become one.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use signaling_core::{Census, Counters};

/// Cheap to clone: every part shares the same cells.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Open WebSockets.
    pub(crate) connections: IntGauge,
    /// Decoded messages, by direction.
    pub(crate) messages_in: IntCounter,
    /// See `messages_in`.
    pub(crate) messages_out: IntCounter,
    malformed: IntCounterVec,
    closes: IntCounterVec,
    /// Requests to open a session, successful or not; resumes are not among them.
    pub(crate) join_attempts: IntCounter,
    joins: IntCounterVec,
    resumes: IntCounterVec,
    rooms: IntGauge,
    participants: IntGauge,
    dropped: IntCounterVec,
    data_packets: IntCounter,
    api_requests: IntCounterVec,
    agent_workers: IntGauge,
    agent_jobs: IntGauge,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let messages = IntCounterVec::new(
            Opts::new("sluice_signaling_messages_total", "Signaling messages, by direction (in: from clients)."),
            &["direction"],
        )?;
        let metrics = Self {
            connections: IntGauge::new("sluice_signaling_connections", "Open signaling WebSockets.")?,
            messages_in: messages.with_label_values(&["in"]),
            messages_out: messages.with_label_values(&["out"]),
            malformed: IntCounterVec::new(
                Opts::new("sluice_signaling_malformed_messages_total", "Messages that could not be used, by kind."),
                &["kind"],
            )?,
            closes: IntCounterVec::new(
                Opts::new("sluice_signaling_closes_total", "Signaling WebSockets that ended, by reason."),
                &["reason"],
            )?,
            join_attempts: IntCounter::new("sfu_join_attempts_total", "Requests to join a room.")?,
            joins: IntCounterVec::new(
                Opts::new("sfu_joins_total", "Answered requests to join a room, by result and reason code."),
                &["result", "reason"],
            )?,
            resumes: IntCounterVec::new(
                Opts::new("sluice_signaling_resumes_total", "Answered requests to resume a session, by result and reason code."),
                &["result", "reason"],
            )?,
            rooms: IntGauge::new("sluice_signaling_rooms", "Open rooms, empty ones within their timeout included.")?,
            participants: IntGauge::new(
                "sluice_signaling_participants",
                "Participants in rooms, those within their grace period included.",
            )?,
            dropped: IntCounterVec::new(
                Opts::new("sluice_signaling_dropped_total", "Messages and events that had no effect, by kind."),
                &["kind"],
            )?,
            data_packets: IntCounter::new("sluice_signaling_data_packets_total", "Data packets passed on to participants.")?,
            api_requests: IntCounterVec::new(
                Opts::new("sluice_api_requests_total", "Requests of server SDKs, by Twirp service and result."),
                &["service", "code"],
            )?,
            agent_workers: IntGauge::new("sluice_agent_workers", "Registered agent workers.")?,
            agent_jobs: IntGauge::new("sluice_agent_jobs", "Jobs that agent workers are asked for or run.")?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(messages))?;
        registry.register(Box::new(metrics.malformed.clone()))?;
        registry.register(Box::new(metrics.closes.clone()))?;
        registry.register(Box::new(metrics.join_attempts.clone()))?;
        registry.register(Box::new(metrics.joins.clone()))?;
        registry.register(Box::new(metrics.resumes.clone()))?;
        registry.register(Box::new(metrics.rooms.clone()))?;
        registry.register(Box::new(metrics.participants.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.data_packets.clone()))?;
        registry.register(Box::new(metrics.api_requests.clone()))?;
        registry.register(Box::new(metrics.agent_workers.clone()))?;
        registry.register(Box::new(metrics.agent_jobs.clone()))?;
        Ok(metrics)
    }

    /// What there is.
    pub(crate) fn census(&self, census: &Census) {
        self.rooms.set(i64::try_from(census.rooms).unwrap_or(i64::MAX));
        self.participants.set(i64::try_from(census.participants).unwrap_or(i64::MAX));
        self.agent_workers.set(i64::try_from(census.workers).unwrap_or(i64::MAX));
        self.agent_jobs.set(i64::try_from(census.jobs).unwrap_or(i64::MAX));
    }

    /// What the rooms counted between two snapshots.
    pub(crate) fn count_since(&self, before: &Counters, after: &Counters) {
        self.data_packets.inc_by(after.data_forwarded.saturating_sub(before.data_forwarded));
        for (kind, before, after) in [
            ("unknown-message", before.unknown_messages, after.unknown_messages),
            ("invalid-message", before.invalid_messages, after.invalid_messages),
            ("data-malformed", before.data_malformed, after.data_malformed),
            ("data-refused", before.data_refused, after.data_refused),
            ("data-repeated", before.data_repeated, after.data_repeated),
            ("stale-event", before.stale_events, after.stale_events),
        ] {
            self.dropped.with_label_values(&[kind]).inc_by(after.saturating_sub(before));
        }
    }

    /// One message that could not be used: `protobuf`, `json`, `unknown` or `oversized`.
    pub(crate) fn malformed(&self, kind: &str) {
        self.malformed.with_label_values(&[kind]).inc();
    }

    /// One request of a server SDK was answered; both are words of closed lists.
    pub(crate) fn api_request(&self, service: &str, code: &str) {
        self.api_requests.with_label_values(&[service, code]).inc();
    }

    /// One WebSocket ended.
    pub(crate) fn closed(&self, reason: &str) {
        self.closes.with_label_values(&[reason]).inc();
    }

    /// One attempt to join or resume was answered; `refused` is the reason code, None if it worked.
    pub(crate) fn attempt(&self, is_resume: bool, refused: Option<&str>) {
        let (result, reason) = refused.map_or(("ok", "none"), |reason| ("refused", reason));
        let counter = if is_resume { &self.resumes } else { &self.joins };
        counter.with_label_values(&[result, reason]).inc();
    }
}
