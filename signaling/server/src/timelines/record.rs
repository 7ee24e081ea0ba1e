//! A second of a track becomes a row: what the node has sampled, with what the client says of its own side.
//!
//! In: samples, reports of clients. Out: rows of the tracks of stays that go on. Invariant: what a client says of a span of time counts
//! once, and for no longer than has passed.

use std::time::Duration;

use sfu_api::emodel::{OPUS_DELAY, Robustness, Speech, rate};
use sfu_api::telemetry::{Direction, TrackSample};
use sfu_api::{MediaKind, ParticipantId, TrackId};
use signaling_core::TrackLabel;

use super::row::{ClientView, Row};
use super::series::Series;
use super::{Key, StayId, Timelines, Track};

/// Tracks of one stay, over time.
const MAX_SERIES: usize = 512;
/// A client's word holds for so long: SDKs' statistics are usually taken every few seconds.
const CLIENT_VIEW_S: u64 = 10;
/// A client's reports are at least so far apart; SDKs poll their statistics at most once a second.
const REPORT_INTERVAL: Duration = Duration::from_millis(900);

impl Timelines {
    /// Adds a second to every track that was sampled. `label` names a track that is new.
    pub(crate) fn record(
        &mut self,
        samples: &[TrackSample],
        unix_now: Duration,
        label: impl Fn(ParticipantId, TrackId) -> Option<TrackLabel>,
    ) {
        if self.max_bytes == 0 {
            return;
        }
        let now_s = unix_now.as_secs();
        for sample in samples {
            let Some(&stay) = self.by_participant.get(&sample.participant).and_then(|stays| stays.last()) else { continue };
            let Some(person) = self.people.get_mut(&stay).filter(|person| person.ended_s.is_none()) else { continue };
            let key = (sample.direction, sample.track);
            if !person.tracks.contains_key(&key) {
                let Some(label) = label(sample.participant, sample.track).filter(|_| person.tracks.len() < MAX_SERIES) else { continue };
                let (series, robustness) = (Series::default(), sample.robustness);
                let track = Track { label, kind: sample.kind, series, robustness, limited_since_s: now_s, client: None };
                self.bytes += track.frame();
                person.tracks.insert(key, track);
            }
            let Some(track) = person.tracks.get_mut(&key) else { continue };
            track.robustness = sample.robustness;
            track.limited_since_s = unix_now.saturating_sub(sample.limited_for).as_secs();
            let client = track.client.take().filter(|(said_s, _)| said_s + CLIENT_VIEW_S > now_s);
            let row = Row::of(&merged(sample, client.as_ref().map(|(_, view)| view)), client.as_ref().map(|(_, view)| view));
            // What it says of a time span counts once, what it says of a state holds on.
            track.client = client.map(|(said_s, view)| (said_s, ClientView { freeze: Duration::ZERO, ..view }));
            let change = track.series.push(row, now_s);
            self.bytes = (self.bytes + change.added).saturating_sub(change.freed);
            if let Some(start_s) = change.new_chunk {
                self.chunks.push_back((start_s, stay, key));
            }
        }
        self.forget_old(now_s);
        self.stay_within();
    }

    /// Counts a report of a participant and says how long it is since the one before, or says how long the next one has to wait.
    pub(crate) fn may_hear(&mut self, stay: StayId, unix_now: Duration) -> Result<Duration, Duration> {
        let Some(person) = self.people.get_mut(&stay) else { return Ok(Duration::ZERO) };
        let next = person.heard_at.map_or(Duration::ZERO, |at| at + REPORT_INTERVAL);
        // A clock that was set back must not silence anybody for long.
        if unix_now < next && next - unix_now <= REPORT_INTERVAL {
            return Err(next - unix_now);
        }
        let before = person.heard_at.replace(unix_now).unwrap_or(Duration::from_secs(person.joined_s));
        Ok(unix_now.saturating_sub(before))
    }

    /// A participant says how its side of a track has been for so long. False: it has no such track.
    pub(crate) fn hear(&mut self, stay: StayId, key: Key, view: ClientView, lasted: Duration, unix_now: Duration) -> bool {
        let Some(track) = self.people.get_mut(&stay).and_then(|person| person.tracks.get_mut(&key)) else { return false };
        // No picture stands still for longer than time has passed, and none that it does not see.
        let is_seen = track.kind == MediaKind::Video && key.0 == Direction::Down;
        let freeze = if is_seen { view.freeze.min(lasted) } else { Duration::ZERO };
        self.frozen = self.frozen.saturating_add(freeze);
        track.client = Some((unix_now.as_secs(), ClientView { freeze, ..view }));
        true
    }
}

/// What the client measures at its own ears is better than what the node infers.
fn merged(sample: &TrackSample, client: Option<&ClientView>) -> TrackSample {
    let mut merged = *sample;
    let Some(client) = client.filter(|_| sample.kind == MediaKind::Audio && sample.direction == Direction::Down) else { return merged };
    if let Some(buffer) = client.jitter_buffer {
        merged.delay = sample.delay.saturating_sub(sample.jitter * 2).max(OPUS_DELAY) + buffer;
    }
    if let Some(concealed) = client.concealed {
        merged.rated_loss = single(concealed.clamp(0.0, 1.0));
    }
    if sample.opinion_score.is_some() {
        let robustness = Robustness { impairment: 0.0, loss: sample.robustness.into() };
        let (residual_loss, burst_ratio) = (merged.rated_loss.into(), merged.burst_ratio.into());
        merged.opinion_score = Some(single(rate(&Speech { delay: merged.delay, residual_loss, burst_ratio, robustness }).opinion_score));
    }
    merged
}

#[expect(clippy::cast_possible_truncation, reason = "scores and shares have a few digits")]
fn single(value: f64) -> f32 {
    value as f32
}
