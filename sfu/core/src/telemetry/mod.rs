//! What operators see of media: once a second a sample of every track, and sums over all of them.
//!
//! In: counters that the packet path adds to, receiver reports, round trip times. Out: [`Measured`] with the snapshot, and
//! [`TrackSample`]s for timelines. Participants take turns, spread over the media ticks of a second, so that a large shard
//! never looks at all of them at once. Nothing here is on the way of a packet.
//! Not here: classes of connections, which signaling is told ([`crate::quality`]).

pub mod adaptation;
pub mod distribution;
pub mod explain;
pub mod phases;
pub mod sampler;
pub mod totals;

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_api::MediaKind;
use sfu_api::emodel::{self, OPUS_DELAY, Robustness, Speech};
use sfu_api::telemetry::{Direction, TrackSample};

use self::sampler::Happened;
use self::totals::{Measured, WORST, rank};
use crate::ids::{ParticipantKey, PeerKey, UpKey};
use crate::media::{Codec, NegotiatedCodec};
use crate::publish::UpTrack;
use crate::quality::rating::{self, Path};
use crate::shard::Shard;
use crate::subscribe::DownTrack;
use crate::timers::{LOOK_TICKS, TICKS_PER_SECOND};

/// Samples that wait for whoever takes them, about once a second; what comes beyond is counted and dropped.
pub const MAX_SAMPLES: usize = 65_536;
/// Runs of loss are those of about so many packets: 20 s of Opus.
const RUN_MEMORY: u64 = 1_000;

/// See the module.
#[derive(Default)]
pub struct Telemetry {
    /// Sums.
    pub measured: Measured,
    samples: Vec<TrackSample>,
    /// Of the second that runs.
    worst: ArrayVec<f32, WORST>,
}

impl Telemetry {
    /// What has gathered. The room for it stays.
    pub fn take_samples(&mut self) -> Vec<TrackSample> {
        let room = Vec::with_capacity(self.samples.len());
        std::mem::replace(&mut self.samples, room)
    }

    fn push(&mut self, sample: TrackSample) {
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(sample);
        } else {
            self.measured.samples_dropped += 1;
        }
    }
}

/// What a participant's samples of one second come to, by direction and kind.
#[derive(Clone, Copy, Default)]
struct Sums([[(Traffic, bool); 2]; 2]);

#[derive(Clone, Copy, Default)]
struct Traffic {
    packets: u64,
    lost: u64,
    residual: u64,
    jitter: Duration,
}

impl Shard {
    /// With every media tick: samples the tracks of those participants whose turn it is.
    pub(crate) fn sample_tracks(&mut self, tick: u64, now: Instant) {
        // Half a second from when their connections are judged. Whoever is on another shard is sampled there.
        let turns = self.awake.looks.take(tick + LOOK_TICKS / 2, |key| self.participants.contains_key(key));
        for key in turns {
            self.sample_participant(key, now);
        }
        if (tick + 1).is_multiple_of(TICKS_PER_SECOND) {
            let telemetry = &mut self.telemetry;
            telemetry.measured.worst = std::mem::take(&mut telemetry.worst);
        }
    }

    /// What was measured of each track since the last call.
    pub fn take_samples(&mut self) -> Vec<TrackSample> {
        self.telemetry.take_samples()
    }

    /// Between a participant and this node, as far as its client's reports tell.
    fn round_trip(&self, key: ParticipantKey) -> Option<Duration> {
        let participant = self.participants.get(key)?;
        let sides = [participant.publisher.as_ref().map(|side| side.peer), participant.subscriber.as_ref().map(|side| side.peer)];
        sides.into_iter().flatten().filter_map(|peer| self.peers.get(peer)?.rtt).max()
    }

    fn sample_participant(&mut self, key: ParticipantKey, now: Instant) {
        // What comes from another shard is measured there.
        let Some(participant) = self.participants.get_mut(key).filter(|participant| !participant.is_guest) else { return };
        let interval = participant.sampled_at.replace(now).map(|before| now.saturating_duration_since(before));
        let Some(interval) = interval.filter(|interval| !interval.is_zero()) else { return };
        let (ups, downlink) = (participant.ups.clone(), participant.downlink());
        let round_trip = self.round_trip(key);
        let mut sums = Sums::default();
        let mut lowest: Option<f32> = None;
        for up in ups {
            let sample = self.sample_up(key, up, round_trip, interval);
            self.take_sample(sample, &mut sums, &mut lowest);
        }
        let downs = downlink.and_then(|peer| self.peers.get(peer)).map(|peer| peer.downs.len()).unwrap_or_default();
        for place in 0..downs {
            let sample = downlink.and_then(|peer| self.sample_down(key, peer, place, round_trip, interval, now));
            self.take_sample(sample, &mut sums, &mut lowest);
        }
        self.conclude(&sums, round_trip, lowest);
    }

    fn take_sample(&mut self, sample: Option<TrackSample>, sums: &mut Sums, lowest: &mut Option<f32>) {
        let Some(sample) = sample else { return };
        let (sum, has_any) = &mut sums.0[sample.direction as usize][sample.kind as usize];
        *has_any |= sample.packets > 0;
        sum.packets += u64::from(sample.packets);
        sum.lost += u64::from(sample.lost);
        sum.residual += u64::from(sample.residual);
        sum.jitter = sum.jitter.max(sample.jitter);
        let measured = &mut self.telemetry.measured;
        if let Some(score) = sample.opinion_score {
            measured.opinion[sample.direction as usize].observe(score.into());
            *lowest = Some(lowest.map_or(score, |lowest| lowest.min(score)));
        }
        if let Some(score) = sample.video_score {
            measured.video_score[sample.direction as usize].observe(score.into());
        }
        if let Some(layer) = sample.layer {
            measured.limited_seconds[layer.limit as usize] += sample.interval.as_secs().max(1);
        }
        self.telemetry.push(sample);
    }

    /// One observation per participant, direction and kind, however many tracks it has.
    fn conclude(&mut self, sums: &Sums, round_trip: Option<Duration>, lowest: Option<f32>) {
        let measured = &mut self.telemetry.measured;
        if let Some(round_trip) = round_trip {
            measured.round_trip.observe_time(round_trip);
        }
        for direction in Direction::ALL {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let (sum, has_any) = sums.0[direction as usize][kind as usize];
                if has_any {
                    let totals = measured.media_mut(direction, kind);
                    totals.jitter.observe_time(sum.jitter);
                    totals.loss.observe(share(sum.lost, sum.packets));
                    totals.residual_loss.observe(share(sum.residual, sum.packets));
                }
            }
        }
        if let Some(lowest) = lowest {
            rank(&mut self.telemetry.worst, lowest);
        }
    }

    fn sample_up(&mut self, owner: ParticipantKey, key: UpKey, round_trip: Option<Duration>, interval: Duration) -> Option<TrackSample> {
        let participant = self.participants.get(owner)?.id;
        let up = self.ups.get_mut(key)?;
        let (kind, clock_rate_hz) = (up.kind(), up.codec.codec.clock_rate_hz());
        let is_audio = kind == MediaKind::Audio;
        let mut happened = Happened::default();
        let mut burst_ratio = 1.0;
        // Without an SSRC it is the form of audio that is made here.
        for encoding in up.encodings.iter_mut().filter(|encoding| encoding.ssrc.is_some()) {
            let jitter = ticks(encoding.reception.jitter_ticks(), clock_rate_hz);
            let mut sampler = encoding.sampler;
            let one = sampler.take(encoding, jitter, is_audio);
            encoding.sampler = sampler;
            happened.add(&one);
            if is_audio {
                burst_ratio = encoding.sampler.runs.burst_ratio();
                if encoding.sampler.runs.packets > RUN_MEMORY {
                    encoding.sampler.runs.fade();
                }
            }
        }
        let traffic = happened.traffic;
        if let Some(at) = up.encodings.iter().filter_map(|encoding| encoding.reception.first_at()).min()
            && let Some(peer) = self.peers.get_mut(up.peer)
        {
            peer.milestones.on_media(at, &mut self.telemetry.measured);
        }
        up.residual_share = share(traffic.residual, traffic.packets);
        let delay = one_way(round_trip, traffic.jitter) + if is_audio { OPUS_DELAY } else { Duration::ZERO };
        let is_alive = traffic.packets > 0 && !up.is_muted;
        let robustness = robustness(&up.codec);
        let opinion_score = (is_audio && is_alive).then(|| speech(robustness, up.residual_share, burst_ratio, delay));
        let rated_loss = single(up.residual_share);
        let path = traffic.path(round_trip.unwrap_or_default());
        let video_score = (!is_audio && is_alive).then(|| video(&path));
        let track = up.id;
        count(self.telemetry.measured.media_mut(Direction::Up, kind), &happened);
        Some(TrackSample {
            participant,
            track,
            direction: Direction::Up,
            kind,
            interval,
            packets: narrow(traffic.packets),
            bytes: narrow(happened.bytes),
            lost: narrow(traffic.lost),
            residual: narrow(traffic.residual),
            round_trip,
            jitter: traffic.jitter,
            delay,
            burst_ratio: single(burst_ratio),
            rated_loss,
            robustness: if is_audio { single(robustness.loss) } else { 0.0 },
            opinion_score,
            video_score,
            layer: None,
            limited_for: Duration::ZERO,
        })
    }

    fn sample_down(
        &mut self,
        owner: ParticipantKey,
        peer: PeerKey,
        place: usize,
        round_trip: Option<Duration>,
        interval: Duration,
        now: Instant,
    ) -> Option<TrackSample> {
        let participant = self.participants.get(owner)?.id;
        let key = *self.peers.get(peer)?.downs.get(place)?;
        let source = self.downs.get(key)?.up;
        let publisher = self.ups.get(source)?.participant;
        let publishers_round_trip = self.round_trip(publisher).unwrap_or_default();
        let (down, up) = (self.downs.get_mut(key)?, self.ups.get(source)?);
        let kind = up.kind();
        let in_flight = round_trip.unwrap_or_default().as_secs_f64() / interval.as_secs_f64();
        let jitter = ticks(down.reported.jitter_ticks, up.codec.codec.clock_rate_hz());
        let mut sampler = down.sampler;
        let happened = sampler.take(down, in_flight, jitter);
        down.sampler = sampler;
        let traffic = happened.traffic;
        // What comes between two reports is judged by the last one.
        if traffic.packets > 0 {
            let path = traffic.path(round_trip.unwrap_or_default());
            (down.lost_share, down.residual_share) = (path.lost, path.residual);
        }
        let is_audio = kind == MediaKind::Audio;
        let first_frame_after = down.first_frame_after.take().filter(|_| !is_audio);
        let is_alive = happened.packets > 0;
        let mouth_to_ear = one_way(round_trip, jitter) + publishers_round_trip / 2 + OPUS_DELAY;
        let delay = if is_audio { mouth_to_ear } else { one_way(round_trip, jitter) };
        let burst_ratio = up.encodings.first().map_or(1.0, |encoding| encoding.sampler.runs.burst_ratio());
        // What the publisher lost is missing here too.
        let missing = 1.0 - (1.0 - down.residual_share) * (1.0 - up.residual_share);
        let robustness = robustness(&up.codec);
        let opinion_score = (is_audio && is_alive).then(|| speech(robustness, missing, burst_ratio, delay));
        let rated_loss = single(if is_audio { missing } else { down.residual_share });
        let path = Path { round_trip: round_trip.unwrap_or_default(), jitter, lost: down.lost_share, residual: down.residual_share };
        let video_score = (!is_audio && is_alive).then(|| video(&path));
        let track = down.track;
        if let Some(time) = first_frame_after {
            self.telemetry.measured.first_frame.observe_time(time);
        }
        count(self.telemetry.measured.media_mut(Direction::Down, kind), &happened);
        let explained = if is_audio { None } else { self.explain(key, now) };
        Some(TrackSample {
            participant,
            track,
            direction: Direction::Down,
            kind,
            interval,
            packets: narrow(happened.packets),
            bytes: narrow(happened.bytes),
            lost: narrow(traffic.lost),
            residual: narrow(traffic.residual),
            round_trip,
            jitter,
            delay,
            burst_ratio: single(if is_audio { burst_ratio } else { 1.0 }),
            rated_loss,
            robustness: if is_audio { single(robustness.loss) } else { 0.0 },
            opinion_score,
            video_score,
            layer: explained.map(|(state, _)| state),
            limited_for: explained.map_or(Duration::ZERO, |(_, time)| time),
        })
    }

    /// The last of a subscription before it is gone.
    pub(crate) fn sample_last_down(&mut self, down: &DownTrack) {
        let Some(up) = self.ups.get(down.up) else { return };
        let happened = { down.sampler }.take(down, 0.0, Duration::ZERO);
        count(self.telemetry.measured.media_mut(Direction::Down, up.kind()), &happened);
    }

    /// The last of a published track before it is gone.
    pub(crate) fn sample_last_up(&mut self, up: &UpTrack) {
        if up.crossing.is_mirror() {
            return;
        }
        let (kind, clock_rate_hz) = (up.kind(), up.codec.codec.clock_rate_hz());
        for encoding in up.encodings.iter().filter(|encoding| encoding.ssrc.is_some()) {
            let jitter = ticks(encoding.reception.jitter_ticks(), clock_rate_hz);
            let happened = { encoding.sampler }.take(encoding, jitter, false);
            count(self.telemetry.measured.media_mut(Direction::Up, kind), &happened);
        }
    }
}

fn count(totals: &mut totals::Totals, happened: &Happened) {
    totals.packets += happened.packets;
    totals.bytes += happened.bytes;
    totals.lost += happened.traffic.lost;
    totals.residual += happened.traffic.residual;
    totals.nacks += happened.nacks;
    totals.keyframe_requests += happened.keyframe_requests;
}

/// Half a round trip, and a jitter buffer of twice the jitter.
fn one_way(round_trip: Option<Duration>, jitter: Duration) -> Duration {
    round_trip.unwrap_or_default() / 2 + jitter * 2
}

fn robustness(codec: &NegotiatedCodec) -> Robustness {
    match codec.codec {
        Codec::Pcmu | Codec::Pcma => Robustness::G711,
        _ => Robustness::opus(codec.fmtp.contains("useinbandfec=1"), codec.red_payload_type.is_some()),
    }
}

fn speech(robustness: Robustness, residual_loss: f64, burst_ratio: f64, delay: Duration) -> f32 {
    single(emodel::rate(&Speech { delay, residual_loss, burst_ratio, robustness }).opinion_score)
}

fn video(path: &Path) -> f32 {
    single(rating::video(path, 0))
}

fn share(part: u64, of: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of packets of a second")]
    let share = part as f64 / of.max(1) as f64;
    share.min(1.0)
}

fn ticks(ticks: u32, clock_rate_hz: u32) -> Duration {
    Duration::from_micros(u64::from(ticks) * 1_000_000 / u64::from(clock_rate_hz.max(1)))
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "scores and ratios have a few digits")]
fn single(value: f64) -> f32 {
    value as f32
}
