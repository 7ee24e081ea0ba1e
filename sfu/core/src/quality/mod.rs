//! How well each participant's media gets through: once a second a class, told to signaling when it or what it follows from changes.
//!
//! In: reception statistics of what it sends, what it says of what it gets (transport-wide feedback, else receiver reports), layers that
//! are missing, round trip times, when something was last heard of it. Out: [`Event::ConnectionQuality`], with the direction and the cause of the worst.
//! Invariant: what a publisher loses on its way here changes nobody's class but its own.
//! Which class a look leads to: [`monitor`].

pub mod asking;
pub mod monitor;
pub mod rating;
pub mod traffic;

use std::time::{Duration, Instant};

use sfu_api::{Event, MediaKind, TransportRole};

use self::monitor::part;
pub use self::monitor::{Look, Monitor, Verdict};
use self::traffic::{Traffic, UplinkCounters};
use crate::bandwidth::passage::Passage;
use crate::ids::{ParticipantKey, PeerKey};
use crate::publish::UpTrack;
use crate::shard::Shard;
use crate::subscribe::selector::wanted_rung;

/// Between two looks at a participant.
const LOOK: Duration = Duration::from_secs(1);
/// Packets of a layer that say that it has flowed.
const FLOWED_PACKETS: u64 = 5;

impl Shard {
    /// With every media tick: looks at those participants whose turn it is.
    pub(crate) fn judge_connections(&mut self, tick: u64, now: Instant) {
        for key in self.awake.looks.take(tick, |key| self.participants.contains_key(key)) {
            let Some(look) = self.look_at(key, now) else { continue };
            let Some(participant) = self.participants.get_mut(key) else { continue };
            if let Some(Verdict { quality, score, direction, cause }) = participant.quality.judge(&look) {
                let participant = participant.id;
                tracing::debug!(?participant, ?quality, score, direction = direction.code(), cause = cause.code(), "connection quality");
                self.events.push_back(Event::ConnectionQuality { participant, quality, score, direction, cause });
            }
        }
    }

    /// None before a transport is up.
    fn look_at(&mut self, key: ParticipantKey, now: Instant) -> Option<Look> {
        let participant = self.participants.get(key)?;
        let [publisher, subscriber] =
            [participant.publisher.as_ref().map(|side| side.peer), participant.subscriber.as_ref().map(|side| side.peer)];
        let connected: Vec<_> = [publisher, subscriber]
            .into_iter()
            .flatten()
            .filter_map(|key| self.peers.get(key))
            .filter(|peer| peer.profile.is_some())
            .collect();
        if connected.is_empty() {
            return None;
        }
        let silent_for = connected.iter().filter_map(|peer| peer.heard_at).map(|at| now.saturating_duration_since(at)).min();
        let is_prompt = connected.iter().any(|peer| peer.answers);
        let mut look = Look { silent_for: silent_for.unwrap_or(Duration::MAX), is_prompt, ..Look::default() };
        let passages = [publisher, subscriber].map(|peer| self.look_at_way(peer?, now, &mut look));
        self.look_at_uplink(key, now, &mut look);
        for (peer, passage) in [publisher, subscriber].into_iter().zip(&passages) {
            if let Some(peer) = peer {
                self.look_at_downlink(peer, passage.as_ref(), now, &mut look);
            }
        }
        let is_distance_known = passages.iter().flatten().any(|passage| passage.round_trip.is_some());
        self.ask_if_needed([subscriber, publisher], look.silent_for, is_distance_known, now);
        Some(look)
    }

    /// What became of what was sent on a transport, where the client says so.
    fn look_at_way(&mut self, peer: PeerKey, now: Instant, look: &mut Look) -> Option<Passage> {
        let at = self.egress.send_time(now).at;
        let peer = self.peers.get_mut(peer).filter(|peer| peer.profile.is_some())?;
        let passage = peer.bandwidth.take_passage();
        let owes_for = peer.bandwidth.owes_for(at, now);
        let round_trip = passage.and_then(|passage| passage.round_trip).or(peer.rtt).unwrap_or_default();
        look.round_trip = look.round_trip.max(round_trip);
        look.unheard_for = look.unheard_for.max(owes_for.unwrap_or_default());
        look.is_prompt |= passage.is_some() || owes_for.is_some();
        passage
    }

    fn look_at_uplink(&mut self, key: ParticipantKey, now: Instant, look: &mut Look) {
        let Some(participant) = self.participants.get(key) else { return };
        for &up_key in &participant.ups {
            let Some(up) = self.ups.get_mut(up_key) else { continue };
            let (kind, clock_rate_hz) = (up.kind(), up.codec.codec.clock_rate_hz());
            let is_muted = up.is_muted;
            for encoding in &mut up.encodings {
                let counters = UplinkCounters {
                    expected: encoding.reception.expected().unwrap_or(0),
                    received: encoding.reception.received(),
                    stored: encoding.stored(),
                };
                let jitter = ticks(encoding.reception.jitter_ticks(), clock_rate_hz);
                let traffic = encoding.meter.take(counters, jitter);
                if !is_muted {
                    look.traffic[part(TransportRole::Publisher, kind)] += traffic;
                    look.is_flowing |= kind == MediaKind::Audio && counters.stored >= FLOWED_PACKETS;
                }
            }
            if !is_muted && kind == MediaKind::Video {
                let up = &self.ups[up_key];
                let here = up.downs.iter().filter_map(|&key| self.rung_to_send(self.downs.get(key)?, up, now)).max();
                let elsewhere = up.crossing.wishes().filter(|(codec, _)| *codec == up.codec.codec).filter_map(|(_, most)| most).max();
                let wanted = here.max(elsewhere.map(usize::from));
                look.missing_up = look.missing_up.max(missing_layers(up, wanted, now));
                look.is_flowing |= wanted.is_some() && up.encodings.iter().any(|encoding| encoding.stored() >= FLOWED_PACKETS);
            }
        }
    }

    fn look_at_downlink(&mut self, peer: PeerKey, passage: Option<&Passage>, now: Instant, look: &mut Look) {
        let Some(peer) = self.peers.get(peer) else { return };
        let is_measured = peer.bandwidth.is_measured();
        let in_flight = look.round_trip.as_secs_f64() / LOOK.as_secs_f64();
        for &key in &peer.downs {
            let Some(down) = self.downs.get_mut(key) else { continue };
            let Some(up) = self.ups.get(down.up) else { continue };
            let counters = down.counters();
            let jitter = ticks(down.reported.jitter_ticks, up.codec.codec.clock_rate_hz());
            look.traffic[part(TransportRole::Subscriber, up.kind())] += match passage {
                Some(passage) => down.meter.take_share(counters, passage),
                None if is_measured => Traffic::default(),
                None => down.meter.take(counters, in_flight, jitter),
            };
            look.is_flowing |= down.meter.is_sending(down.sent.packets) && up.kind() == MediaKind::Video;
            if up.kind() == MediaKind::Video && !up.is_muted && down.payload_type.is_some() {
                let left_out = down.share.left_out(wanted_rung(&down.wish, &up.ladder(now)));
                look.missing_down = look.missing_down.max(left_out);
            }
        }
    }
}

/// Sizes above the best that flows which have flowed before, up to the wanted one.
fn missing_layers(up: &UpTrack, wanted: Option<usize>, now: Instant) -> u8 {
    let rungs = up.encodings.iter().flat_map(|encoding| {
        let has_flowed = encoding.stored() >= FLOWED_PACKETS;
        encoding.offered(now).rungs.into_iter().map(move |rung| (rung.is_active, has_flowed))
    });
    let rungs: Vec<(bool, bool)> = rungs.collect();
    let Some(best) = rungs.iter().rposition(|&(is_active, _)| is_active) else { return 0 };
    let missing = rungs.iter().enumerate().skip(best + 1).filter(|&(rung, &(_, has_flowed))| has_flowed && Some(rung) <= wanted).count();
    u8::try_from(missing).unwrap_or(u8::MAX)
}

fn ticks(ticks: u32, clock_rate_hz: u32) -> Duration {
    Duration::from_micros(u64::from(ticks) * 1_000_000 / u64::from(clock_rate_hz.max(1)))
}
