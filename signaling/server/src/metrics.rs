//! Counters of the signaling server, registered in the process's registry.
//!
//! Labels are fixed words; rooms, identities and addresses never become one. What has a closed list of words is there from the
//! start, at zero, so that rates and documentation know it.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use signaling_api::{EndReason, ErrorCode, JoinResult};
use signaling_core::{CODEC_WORDS, Census, Counters, Happening};

use crate::holdings::KINDS;

/// Steps of a join, in seconds.
const PHASES: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0];
const REQUESTS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Cheap to clone: every part shares the same cells.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Open WebSockets.
    pub(crate) connections: IntGauge,
    refused_connections: IntCounterVec,
    held_bytes: IntGaugeVec,
    held_refused: IntCounterVec,
    messages: IntCounterVec,
    malformed: IntCounterVec,
    closes: IntCounterVec,
    /// Requests to open a session, successful or not; resumes are not among them.
    pub(crate) join_attempts: IntCounter,
    joins: IntCounterVec,
    phase_token: Histogram,
    phase_ws: Histogram,
    connect_seconds: Histogram,
    disconnects: IntCounterVec,
    resumes: IntCounterVec,
    reconnects: IntCounterVec,
    ghosts: IntCounter,
    rooms: IntGauge,
    participants: IntGauge,
    tracks: IntGaugeVec,
    dropped: IntCounterVec,
    data_packets: IntCounter,
    data_replayed: IntCounter,
    requests: HistogramVec,
    api_requests: IntCounterVec,
    agent_workers: IntGauge,
    agent_jobs: IntGauge,
    draining: IntGauge,
    timeline_bytes: IntGauge,
    freeze_seconds: Gauge,
    client_reports: IntCounterVec,
    qualities: IntGaugeVec,
    quality_changes: IntCounterVec,
    /// Spans for OpenTelemetry, by `result`.
    pub(crate) spans: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
            registry.register(Box::new(histograms.clone()))?;
            Ok::<_, prometheus::Error>(histograms)
        };
        // the media node has further phases under the same name
        let phases = histograms(
            "sfu_join_phase_seconds",
            "Steps of a join: token (checked), ws (request until the answer), ice (transport opened until it has a path), dtls (until it has keys), first_rtp (until the client's first packet).",
            &["phase"],
            PHASES,
        )?;
        let connect_seconds = Histogram::with_opts(
            HistogramOpts::new("sfu_connect_seconds", "From the join until media is connected.").buckets(PHASES.to_vec()),
        )?;
        registry.register(Box::new(connect_seconds.clone()))?;
        let tracks = IntGaugeVec::new(Opts::new("sfu_tracks", "Published tracks."), &["kind", "source", "codec"])?;
        registry.register(Box::new(tracks.clone()))?;
        let qualities = IntGaugeVec::new(
            Opts::new(
                "sfu_connection_quality_participants",
                "Participants by how well their media gets through: level, and direction and cause of the worst.",
            ),
            QUALITY_LABELS,
        )?;
        registry.register(Box::new(qualities.clone()))?;
        let held_bytes = IntGaugeVec::new(
            Opts::new(
                "signaling_held_bytes",
                "Bytes that clients make this process hold: messages (large ones that are not written yet; what is told to many counts once), frames (large ones that wait for their place), bodies (large ones of requests that are not answered yet).",
            ),
            &["what"],
        )?;
        registry.register(Box::new(held_bytes.clone()))?;
        let freeze_seconds =
            Gauge::new("sfu_freeze_seconds_total", "Time for which pictures stood still, by what clients report of themselves.")?;
        registry.register(Box::new(AsCounter(freeze_seconds.clone())))?;
        let metrics = Self {
            connections: gauge("signaling_ws_connections", "Open signaling WebSockets.")?,
            refused_connections: counters(
                "signaling_refused_connections_total",
                "TCP connections that were closed as they were accepted: all places were taken, or those of the address.",
                &["reason"],
            )?,
            held_bytes,
            held_refused: counters(
                "signaling_held_refused_total",
                "Clients and requests that were refused because as much is held already as may be; see signaling_held_bytes.",
                &["what"],
            )?,
            messages: counters(
                "signaling_messages_total",
                "Signaling messages, by type and direction (in: from clients).",
                &["type", "direction"],
            )?,
            malformed: counters("signaling_malformed_messages_total", "Messages that could not be used, by kind.", &["kind"])?,
            closes: counters("signaling_closes_total", "Signaling WebSockets that ended, by reason.", &["reason"])?,
            join_attempts: counter(
                "sfu_join_attempts_total",
                "Requests to join a room. On /rtc/v1 a resume that is refused before its request is read is taken for a join.",
            )?,
            joins: counters(
                "sfu_joins_total",
                "Joins by what became of them: ok (media connected), refused (not let in), failed (media not connected), abandoned (ended before, as somebody wanted).",
                &["result", "reason"],
            )?,
            phase_token: phases.with_label_values(&["token"]),
            phase_ws: phases.with_label_values(&["ws"]),
            connect_seconds,
            disconnects: counters(
                "sfu_disconnects_total",
                "Participants that are gone, by reason; media was connected before.",
                &["reason"],
            )?,
            resumes: counters(
                "signaling_resumes_total",
                "Answered requests to resume a session, by result and reason code.",
                &["result", "reason"],
            )?,
            reconnects: counters(
                "sfu_reconnects_total",
                "Lost sessions by what became of them: resumed, anew (asked to join again), gone (did not come back).",
                &["result"],
            )?,
            ghosts: counter("sfu_ghosts_reaped_total", "Participants that were removed because nothing was heard of them any more.")?,
            rooms: gauge("signaling_rooms", "Open rooms, empty ones within their timeout included.")?,
            participants: gauge("signaling_participants", "Participants in rooms, those within their grace period included.")?,
            tracks,
            dropped: counters("signaling_dropped_total", "Messages and events that had no effect, by kind.", &["kind"])?,
            data_packets: counter("signaling_data_packets_total", "Data packets passed on to participants.")?,
            data_replayed: counter("signaling_data_replayed_total", "Reliable data packets sent again to participants that resumed.")?,
            requests: histograms(
                "signaling_request_seconds",
                "Answers to HTTP requests, by route and status.",
                &["route", "code"],
                REQUESTS,
            )?,
            api_requests: counters("api_requests_total", "Requests of server SDKs, by Twirp service and result.", &["service", "code"])?,
            agent_workers: gauge("agent_workers", "Registered agent workers.")?,
            agent_jobs: gauge("agent_jobs", "Jobs that agent workers are asked for or run.")?,
            draining: gauge("sfu_draining", "1 while this node takes no new rooms.")?,
            timeline_bytes: gauge("sfu_timeline_bytes", "Memory for quality timelines.")?,
            freeze_seconds,
            client_reports: counters("sfu_client_reports_total", "Statistics that clients sent of themselves, by result.", &["result"])?,
            qualities,
            quality_changes: counters(
                "sfu_connection_quality_changes_total",
                "Changes of how well a participant's media gets through, by what it changed to.",
                QUALITY_LABELS,
            )?,
            spans: counters("sfu_trace_spans_total", "Spans for OpenTelemetry, by what became of them.", &["result"])?,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    fn begin_at_zero(&self) {
        self.joins.with_label_values(&[JoinResult::Ok.label(), NO_REASON]);
        for code in ErrorCode::ALL {
            self.joins.with_label_values(&[JoinResult::Refused.label(), code.as_str()]);
        }
        for &reason in EndReason::ALL {
            self.joins.with_label_values(&[JoinResult::before_media(reason).label(), reason.as_str()]);
            self.disconnects.with_label_values(&[reason.as_str()]);
        }
        self.resumes.with_label_values(&["ok", NO_REASON]);
        self.resumes.with_label_values(&["refused", ErrorCode::ParticipantNotFound.as_str()]);
        for result in ["resumed", "anew", "gone"] {
            self.reconnects.with_label_values(&[result]);
        }
        for reason in ["all", "address"] {
            self.refused_connections.with_label_values(&[reason]);
        }
        for what in KINDS {
            self.holding(what);
        }
        for kind in ["protobuf", "json", "unknown", "oversized"] {
            self.malformed.with_label_values(&[kind]);
        }
        for (direction, words) in [("in", REQUEST_WORDS), ("out", RESPONSE_WORDS)] {
            for word in words {
                self.messages.with_label_values(&[word, direction]);
            }
        }
        for (kind, source, codec) in [("audio", "microphone", CODEC_WORDS[0]), ("video", "camera", "vp8"), ("video", "screen_share", "vp8")]
        {
            self.tracks.with_label_values(&[kind, source, codec]).set(0);
        }
        for result in ["sent", "failed", "dropped"] {
            self.spans.with_label_values(&[result]);
        }
        for result in REPORT_RESULTS {
            self.client_reports.with_label_values(&[result]);
        }
        for reason in [
            "client",
            "lost",
            "idle",
            "slow",
            "overloaded",
            "oversized",
            "malformed",
            "protocol",
            "shutdown",
            "resumed",
            "resume",
            "silent",
            "flood",
        ] {
            self.closes.with_label_values(&[reason]);
        }
        for (level, direction, cause) in quality_words() {
            self.qualities.with_label_values(&[level, direction, cause]);
            self.quality_changes.with_label_values(&[level, direction, cause]);
        }
        self.api_requests.with_label_values(&["livekit.RoomService", "ok"]);
        self.requests.with_label_values(&["/rtc", "101"]);
        self.count_since(&Counters::default(), &Counters::default());
    }

    /// How much is held of a kind, and how often there was no room.
    pub(crate) fn holding(&self, what: &str) -> (IntGauge, IntCounter) {
        (self.held_bytes.with_label_values(&[what]), self.held_refused.with_label_values(&[what]))
    }

    /// What there is.
    pub(crate) fn census(&self, census: &Census) {
        self.rooms.set(signed(census.rooms));
        self.participants.set(signed(census.participants));
        self.agent_workers.set(signed(census.workers));
        self.agent_jobs.set(signed(census.jobs));
    }

    /// Which tracks there are.
    pub(crate) fn tracks<'a>(&self, census: impl IntoIterator<Item = (&'a (&'static str, &'static str, &'static str), &'a u64)>) {
        self.tracks.reset();
        self.begin_tracks();
        for (&(kind, source, codec), &count) in census {
            self.tracks.with_label_values(&[kind, source, codec]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn begin_tracks(&self) {
        for (kind, source, codec) in [("audio", "microphone", CODEC_WORDS[0]), ("video", "camera", "vp8"), ("video", "screen_share", "vp8")]
        {
            self.tracks.with_label_values(&[kind, source, codec]).set(0);
        }
    }

    /// Whose connections are how good.
    pub(crate) fn qualities(&self, census: &BTreeMap<(&'static str, &'static str, &'static str), u64>) {
        for words in quality_words() {
            let (level, direction, cause) = words;
            let count = census.get(&words).copied().unwrap_or(0);
            self.qualities.with_label_values(&[level, direction, cause]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What the timelines hold.
    pub(crate) fn timelines(&self, bytes: usize, frozen: Duration) {
        self.timeline_bytes.set(signed(bytes));
        self.freeze_seconds.set(frozen.as_secs_f64());
    }

    /// Whether new rooms are refused.
    pub(crate) fn draining(&self, is_draining: bool) {
        self.draining.set(i64::from(is_draining));
    }

    /// A client has sent statistics: one of [`REPORT_RESULTS`].
    pub(crate) fn client_report(&self, result: &'static str) {
        self.client_reports.with_label_values(&[result]).inc();
    }

    /// What the rooms counted between two snapshots.
    pub(crate) fn count_since(&self, before: &Counters, after: &Counters) {
        self.data_packets.inc_by(after.data_forwarded.saturating_sub(before.data_forwarded));
        self.data_replayed.inc_by(after.data_replayed.saturating_sub(before.data_replayed));
        self.reconnects.with_label_values(&["anew"]).inc_by(after.full_reconnects.saturating_sub(before.full_reconnects));
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

    /// Something happened to a stay.
    pub(crate) fn happened(&self, what: &Happening) {
        match what {
            Happening::Connected { after } => {
                self.joins.with_label_values(&[JoinResult::Ok.label(), NO_REASON]).inc();
                self.connect_seconds.observe(after.as_secs_f64());
            }
            Happening::Resumed { .. } => self.reconnects.with_label_values(&["resumed"]).inc(),
            Happening::Ended { reason, was_connected, .. } => {
                if *was_connected {
                    self.disconnects.with_label_values(&[reason.as_str()]).inc();
                } else {
                    self.joins.with_label_values(&[JoinResult::before_media(*reason).label(), reason.as_str()]).inc();
                }
                if matches!(reason, EndReason::MediaLost | EndReason::SignalLost) {
                    self.ghosts.inc();
                    self.reconnects.with_label_values(&["gone"]).inc();
                }
            }
            Happening::Quality(judgement) => {
                let (level, direction, cause) = judgement.words();
                self.quality_changes.with_label_values(&[level, direction, cause]).inc();
            }
            Happening::Joined { .. } | Happening::Lost { .. } | Happening::Moved { .. } => {}
        }
    }

    /// One TCP connection found no place: `all` or `address`.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.refused_connections.with_label_values(&[reason]).inc();
    }

    /// One message that could not be used: `protobuf`, `json`, `unknown` or `oversized`.
    pub(crate) fn malformed(&self, kind: &str) {
        self.malformed.with_label_values(&[kind]).inc();
    }

    /// A decoded message came.
    pub(crate) fn received(&self, request: &SignalRequest) {
        self.messages.with_label_values(&[request_word(request), "in"]).inc();
    }

    /// A message goes out to so many.
    pub(crate) fn sent(&self, response: &SignalResponse, recipients: usize) {
        self.messages.with_label_values(&[response_word(response), "out"]).inc_by(u64::try_from(recipients).unwrap_or(u64::MAX));
    }

    /// One request of a server SDK was answered; both are words of closed lists.
    pub(crate) fn api_request(&self, service: &str, code: &str) {
        self.api_requests.with_label_values(&[service, code]).inc();
    }

    /// One HTTP request was answered; the route is one of the router's.
    pub(crate) fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, &status.to_string()]).observe(took.as_secs_f64());
    }

    /// One WebSocket ended.
    pub(crate) fn closed(&self, reason: &str) {
        self.closes.with_label_values(&[reason]).inc();
    }

    /// A token was checked, with everything that decides whether its owner may come in.
    pub(crate) fn checked(&self, took: Duration) {
        self.phase_token.observe(took.as_secs_f64());
    }

    /// One attempt to join was answered with a welcome. It counts as a join when its media is connected.
    pub(crate) fn welcomed(&self, took: Duration) {
        self.phase_ws.observe(took.as_secs_f64());
    }

    /// One attempt to join was refused before there was a participant, or given up by the client.
    pub(crate) fn refused(&self, reason: &str) {
        let result = if reason == EndReason::ClientLeft.as_str() { JoinResult::Abandoned } else { JoinResult::Refused };
        self.joins.with_label_values(&[result.label(), reason]).inc();
    }

    /// One attempt to resume was answered; `refused` is the reason code, None if it worked.
    pub(crate) fn resumed(&self, refused: Option<&str>) {
        let (result, reason) = refused.map_or(("ok", NO_REASON), |reason| ("refused", reason));
        self.resumes.with_label_values(&[result, reason]).inc();
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A float that only grows: the library has such counters, but none that can be set to a sum that somebody else keeps.
#[derive(Clone)]
struct AsCounter(Gauge);

impl prometheus::core::Collector for AsCounter {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        let mut families = self.0.collect();
        for family in &mut families {
            family.set_field_type(prometheus::proto::MetricType::COUNTER);
            for metric in family.mut_metric() {
                let mut counter = prometheus::proto::Counter::default();
                counter.set_value(self.0.get());
                metric.set_counter(counter);
            }
        }
        families
    }
}

/// Of the metrics of quality.
const QUALITY_LABELS: &[&str] = &["level", "direction", "cause"];

/// Every level with the directions and causes that it can have.
fn quality_words() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    use sfu_api::{Quality, QualityCause as Cause, QualityDirection as Direction};
    let word = |level: Quality, direction: Direction, cause: Cause| (level.code(), direction.code(), cause.code());
    let middling = [Quality::Good, Quality::Poor].into_iter().flat_map(move |level| {
        let of_one_way = [Direction::Up, Direction::Down]
            .into_iter()
            .flat_map(move |direction| [Cause::Loss, Cause::Jitter, Cause::Bandwidth].map(|cause| word(level, direction, cause)));
        of_one_way.chain([word(level, Direction::Both, Cause::Delay)])
    });
    let lost = [
        (Direction::Up, Cause::Silence),
        (Direction::Down, Cause::Silence),
        (Direction::Both, Cause::Transport),
        (Direction::Both, Cause::Signal),
    ];
    let best = word(Quality::Excellent, Direction::Neither, Cause::None);
    std::iter::once(best).chain(middling).chain(lost.map(|(direction, cause)| word(Quality::Lost, direction, cause)))
}

/// Label where there is no reason.
const NO_REASON: &str = "none";
/// What became of a client's statistics.
pub(crate) const REPORT_RESULTS: [&str; 3] = ["taken", "refused", "malformed"];

/// Declares a word for every kind of a message, so that the list and the function can't drift apart.
macro_rules! words {
    ($list:ident, $word:ident, $message:ty, $kind:path, [$($variant:ident => $text:literal,)*]) => {
        /// Every word, `other` for what is newer than this list.
        const $list: &[&str] = &[$($text,)* "other"];

        fn $word(message: &$message) -> &'static str {
            use $kind as Kind;
            #[allow(deprecated, reason = "older clients send them")]
            match &message.message {
                $(Some(Kind::$variant(..)) => $text,)*
                _ => "other",
            }
        }
    };
}

words!(REQUEST_WORDS, request_word, SignalRequest, signal_request::Message, [
    Offer => "offer",
    Answer => "answer",
    Trickle => "trickle",
    AddTrack => "add_track",
    Mute => "mute",
    Subscription => "subscription",
    TrackSetting => "track_setting",
    Leave => "leave",
    SubscriptionPermission => "subscription_permission",
    SyncState => "sync_state",
    Simulate => "simulate",
    Ping => "ping",
    PingReq => "ping_req",
    UpdateMetadata => "update_metadata",
    UpdateAudioTrack => "update_audio_track",
    UpdateVideoTrack => "update_video_track",
]);

words!(RESPONSE_WORDS, response_word, SignalResponse, signal_response::Message, [
    Join => "join",
    Answer => "answer",
    Offer => "offer",
    Update => "update",
    TrackPublished => "track_published",
    TrackUnpublished => "track_unpublished",
    TrackSubscribed => "track_subscribed",
    Leave => "leave",
    Mute => "mute",
    SpeakersChanged => "speakers_changed",
    RoomUpdate => "room_update",
    ConnectionQuality => "connection_quality",
    StreamStateUpdate => "stream_state_update",
    SubscribedQualityUpdate => "subscribed_quality_update",
    SubscriptionPermissionUpdate => "subscription_permission_update",
    RefreshToken => "refresh_token",
    Pong => "pong",
    PongResp => "pong_resp",
    Reconnect => "reconnect",
    RequestResponse => "request_response",
    MediaSectionsRequirement => "media_sections_requirement",
]);
