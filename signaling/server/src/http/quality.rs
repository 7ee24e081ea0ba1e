//! One participant's quality: `GET /v1/rooms/{room}/participants/{id}/quality`, how its connection is, in which direction and why it is
//! no better, since when, and its tracks second by second; and what its client says of itself:
//! `POST /v1/rooms/{room}/participants/{id}/stats`.
//!
//! Who reads needs a token with `roomAdmin` for the room, or `roomList`; who reports needs its own token. `{id}` is an identity
//! or a sid (`PA_…`). Stays that are over are found for an hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sfu_api::MediaKind;
use sfu_api::emodel::MODEL;
use sfu_api::telemetry::{Direction, LayerState, VIDEO_MODEL};
use signaling_api::{ErrorCode, Grants};
use signaling_core::{Judgement, parse_track_sid};

use super::params::Params;
use super::problem::Refused;
use super::{App, MAX_BODY_BYTES, access, body};
use crate::net::TcpPeer;
use crate::timelines::{ClientView, Person, REACH_S, Track, column};
use crate::unix_now;

/// Seconds that are answered if none are asked for.
const DEFAULT_SECONDS: u64 = 300;
/// Seconds of all tracks in one answer, about 6 MB: twenty tracks for an hour, or two hundred for five minutes.
const MAX_ROWS: u64 = 72_000;
/// Tracks in one report of a client.
const MAX_REPORTED: usize = 128;

/// `GET …/quality`.
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    Params((room, who)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answered = async {
        let grants = access::counted(&app, peer, &headers).await?;
        answer(&app, &grants, &room, &who, query.as_deref().unwrap_or_default())
    };
    match answered.await {
        Ok(document) => {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            (StatusCode::OK, headers, document.to_string()).into_response()
        }
        Err(refused) => refused.into_problem(),
    }
}

fn answer(app: &App, grants: &Grants, room: &str, who: &str, query: &str) -> Result<Value, Refused> {
    if !(grants.room_list || (grants.room_admin && grants.room == room)) {
        return Err(Refused::new(ErrorCode::TokenGrant, "the access token grants neither roomList nor roomAdmin for this room"));
    }
    let wanted = Wanted::parse(query)?;
    let now = unix_now();
    // Under the lock, for which the loop of all rooms waits, no more is copied than is answered; it is decoded without the lock.
    let (person, since_s) = {
        let timelines = app.timelines();
        let person = timelines.person(room, who);
        let person = person
            .ok_or_else(|| Refused::new(ErrorCode::ParticipantNotFound, "nobody of that name was in this room within the last hour"))?;
        let since_s = wanted.since_s(person, now);
        let rows = person.count_since(since_s, |track| wanted.wants(track));
        if rows > MAX_ROWS {
            return Err(Refused::new(
                ErrorCode::BadRequest,
                format!("{rows} seconds of tracks are more than {MAX_ROWS}: ask for one `track`, or for fewer `seconds`"),
            ));
        }
        (person.since(since_s, |track| wanted.wants(track)), since_s)
    };
    Ok(document(&person, since_s))
}

/// Of the query.
struct Wanted {
    seconds: u64,
    track: Option<String>,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, Refused> {
        let mut wanted = Self { seconds: DEFAULT_SECONDS, track: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "seconds" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=REACH_S).contains(seconds));
                    wanted.seconds =
                        seconds.ok_or_else(|| Refused::new(ErrorCode::BadRequest, format!("`seconds` is a number from 1 to {REACH_S}")))?;
                }
                "track" => wanted.track = Some(value.into_owned()),
                _ => {
                    return Err(Refused::new(
                        ErrorCode::BadRequest,
                        format!("unknown parameter `{name}`: there are `seconds` and `track`"),
                    ));
                }
            }
        }
        Ok(wanted)
    }

    fn wants(&self, track: &Track) -> bool {
        self.track.as_ref().is_none_or(|sid| *sid == track.label.sid)
    }

    /// Counted back from the end of a stay that is over.
    fn since_s(&self, person: &Person, now: Duration) -> u64 {
        person.ended_s.unwrap_or(now.as_secs()).saturating_sub(self.seconds)
    }
}

fn document(person: &Person, since_s: u64) -> Value {
    let tracks: Vec<Value> = person
        .tracks
        .iter()
        .map(|((direction, _), track)| describe(*direction, track, since_s))
        .filter(|track| track["at"].as_array().is_some_and(|at| !at.is_empty()))
        .collect();
    let events: Vec<Value> = person
        .events
        .iter()
        .map(|event| {
            let mut value = json!({"at": event.at.as_secs_f64(), "event": event.what});
            if !event.reason.is_empty() {
                value["reason"] = event.reason.into();
            }
            value
        })
        .collect();
    let qualities: Vec<Value> = person.qualities.iter().map(|(since, judgement)| connection(*since, judgement)).collect();
    json!({
        "room": person.room,
        "identity": person.identity,
        "sid": person.sid,
        "joinedAt": person.joined_s,
        "endedAt": person.ended_s,
        "models": {"audio": MODEL, "video": VIDEO_MODEL},
        "connection": qualities.last(),
        "connectionChanges": qualities,
        "events": events,
        "tracks": tracks,
    })
}

/// How well a participant's media gets through, and why not better.
fn connection(since: Duration, judgement: &Judgement) -> Value {
    let (level, direction, cause) = judgement.words();
    json!({
        "level": level,
        "score": (f64::from(judgement.score) * 100.0).round() / 100.0,
        "direction": direction,
        "cause": cause,
        "explanation": judgement.cause.explanation(),
        "since": since.as_secs_f64(),
    })
}

/// Columns are arrays of the same length; null is "not known".
fn describe(direction: Direction, track: &Track, since_s: u64) -> Value {
    let rows = track.series.rows(since_s);
    let plain = |place: usize, scale: f64| -> Vec<Value> { rows.iter().map(|(_, row)| scaled(row.get(place), scale)).collect() };
    let known = |place: usize, scale: f64| -> Vec<Value> {
        rows.iter().map(|(_, row)| row.known(place).map_or(Value::Null, |v| scaled(v, scale))).collect()
    };
    let is_audio = track.kind == MediaKind::Audio;
    let mut document = json!({
        "sid": track.label.sid,
        "name": track.label.name,
        "source": track.label.source,
        "publisher": track.label.publisher,
        "direction": direction.label(),
        "kind": if is_audio { "audio" } else { "video" },
        "at": rows.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        "packets": plain(column::PACKETS, 1.0),
        "kbps": plain(column::KILOBITS, 1.0),
        "lost": plain(column::LOST, 1.0),
        "residualLost": plain(column::RESIDUAL, 1.0),
        "rttMs": known(column::ROUND_TRIP_MS_KNOWN, 1.0),
        "jitterMs": plain(column::JITTER_100US, 0.1),
        "delayMs": plain(column::DELAY_MS, 1.0),
        "ratedLoss": plain(column::RATED_LOSS_PERMYRIAD, 1e-4),
        if is_audio { "mos" } else { "videoScore" }: known(column::SCORE_CENTI_KNOWN, 0.01),
    });
    if is_audio {
        document["burstRatio"] = plain(column::BURST_PERCENT, 0.01).into();
        document["bpl"] = f64::from(track.robustness).into();
    }
    for (name, place, scale) in [
        ("clientJitterBufferMs", column::BUFFER_MS_KNOWN, 1.0),
        ("clientConcealed", column::CONCEALED_PERMYRIAD_KNOWN, 1e-4),
        ("clientFps", column::CLIENT_FPS_KNOWN, 1.0),
    ] {
        if rows.iter().any(|(_, row)| row.known(place).is_some()) {
            document[name] = known(place, scale).into();
        }
    }
    if rows.iter().any(|(_, row)| row.get(column::FREEZE_MS) > 0) {
        document["clientFreezeMs"] = plain(column::FREEZE_MS, 1.0).into();
    }
    if !is_audio && direction == Direction::Down {
        let layers: Vec<Option<LayerState>> = rows.iter().map(|(_, row)| Track::layer(row)).collect();
        let size = |place: fn(&LayerState) -> Option<u8>| layers.iter().map(|layer| layer.as_ref().and_then(place)).collect::<Vec<_>>();
        document["layer"] = size(|layer| layer.current.map(|place| place.size)).into();
        document["targetLayer"] = size(|layer| layer.target.map(|place| place.size)).into();
        document["wantedLayer"] = size(|layer| layer.wanted.map(|place| place.size)).into();
        document["limitedBy"] = layers.iter().map(|layer| layer.map(|layer| layer.limit.label())).collect::<Vec<_>>().into();
        if let Some(layer) = layers.last().copied().flatten() {
            document["explanation"] = layer.limit.explanation().into();
            document["limitedSince"] = track.limited_since_s.into();
        }
    }
    document
}

fn scaled(value: u32, scale: f64) -> Value {
    if scale >= 1.0 {
        return value.into();
    }
    // digits that the compact form does not have are not invented
    let digits = 1.0 / scale;
    ((f64::from(value) / digits * digits).round() / digits).into()
}

/// Body of `POST …/stats`: per track what changed since the report before, named as in WebRTC's statistics.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Report {
    tracks: Vec<ReportedTrack>,
    /// Of the candidate pair in use.
    #[serde(default)]
    current_round_trip_time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReportedTrack {
    /// `TR_…`.
    sid: String,
    /// `in`: it sends the track; `out`: it receives it. As the node sees it.
    direction: Direction2,
    /// Seconds that samples waited on average (`jitterBufferDelay / jitterBufferEmittedCount`).
    #[serde(default)]
    jitter_buffer_delay: Option<f64>,
    #[serde(default)]
    concealed_ratio: Option<f64>,
    /// Seconds.
    #[serde(default)]
    freeze_duration: f64,
    #[serde(default)]
    frames_per_second: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction2 {
    In,
    Out,
}

/// `POST …/stats`.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    Params((room, who)): Params<(String, String)>,
    request: Request,
) -> Response {
    let taken = async {
        let grants = access::good(&app, peer, request.headers()).await?;
        if !(grants.room_join && grants.room == room) {
            return Err(not_its_own());
        }
        take(&app, &room, &who, &grants, &body::read(request, &app, MAX_BODY_BYTES).await?)
    };
    match taken.await {
        Ok(()) => {
            app.metrics.client_report("taken");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refused) => {
            let is_malformed = matches!(refused.code, ErrorCode::BadRequest | ErrorCode::TooLarge | ErrorCode::RequestTimeout);
            app.metrics.client_report(if is_malformed { "malformed" } else { "refused" });
            refused.into_problem()
        }
    }
}

/// Whether somebody else exists is not for everybody.
fn not_its_own() -> Refused {
    Refused::new(ErrorCode::TokenGrant, "a participant reports on itself, with its own access token, while it is in the room")
}

fn take(app: &App, room: &str, who: &str, grants: &Grants, body: &[u8]) -> Result<(), Refused> {
    let now = unix_now();
    let (stay, lasted) = {
        let mut timelines = app.timelines();
        let stay = timelines.present(room, who, &grants.identity).ok_or_else(not_its_own)?;
        let lasted = timelines.may_hear(stay, now);
        (stay, lasted.map_err(|wait| Refused::new(ErrorCode::RateLimited, "one report a second is enough").retry_after(wait))?)
    };
    // read without the lock, for which the loop of all rooms waits
    let report: Report =
        serde_json::from_slice(body).map_err(|error| Refused::new(ErrorCode::BadRequest, format!("not a report: {error}")))?;
    if report.tracks.len() > MAX_REPORTED {
        return Err(Refused::new(ErrorCode::BadRequest, format!("more than {MAX_REPORTED} tracks")));
    }
    let mut views = BTreeMap::new();
    for track in &report.tracks {
        let bad_sid = || Refused::new(ErrorCode::BadRequest, format!("`{}` is no track sid", track.sid.escape_debug()));
        let key = (track.direction.into(), parse_track_sid(&track.sid).ok_or_else(bad_sid)?);
        if views.insert(key, track.view(report.current_round_trip_time)).is_some() {
            return Err(Refused::new(ErrorCode::BadRequest, format!("`{}` stands twice", track.sid.escape_debug())));
        }
    }
    let mut timelines = app.timelines();
    for (key, view) in views {
        // a track that ended meanwhile, or was not sampled yet
        let _ = timelines.hear(stay, key, view, lasted, now);
    }
    Ok(())
}

impl From<Direction2> for Direction {
    fn from(direction: Direction2) -> Self {
        match direction {
            Direction2::In => Self::Up,
            Direction2::Out => Self::Down,
        }
    }
}

impl ReportedTrack {
    fn view(&self, round_trip_s: Option<f64>) -> ClientView {
        ClientView {
            jitter_buffer: self.jitter_buffer_delay.and_then(seconds),
            concealed: self.concealed_ratio.filter(|ratio| (0.0..=1.0).contains(ratio)),
            freeze: seconds(self.freeze_duration).unwrap_or_default().min(MAX_SPAN),
            frames_per_second: self.frames_per_second.filter(|fps| (0.0..=1000.0).contains(fps)),
            round_trip: round_trip_s.and_then(seconds),
        }
    }
}

/// What a client says is no more than its word: beyond a minute it is nonsense.
const MAX_SPAN: Duration = Duration::from_secs(60);

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok().filter(|time| *time <= MAX_SPAN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scaled_column_has_the_digits_of_its_unit() {
        assert_eq!(json!([scaled(437, 0.01), scaled(12, 0.1), scaled(7, 1.0), scaled(33, 1e-4)]).to_string(), "[4.37,1.2,7,0.0033]");
    }

    #[test]
    fn nonsense_of_a_client_is_not_known() {
        let track: ReportedTrack = serde_json::from_str(
            r#"{"sid":"TR_x","direction":"out","jitterBufferDelay":-1,"concealedRatio":7,"freezeDuration":1e300,"framesPerSecond":1e9}"#,
        )
        .unwrap();
        assert_eq!(track.view(Some(f64::MAX)), ClientView::default());
    }
}
