//! What a shard has measured since its start, by direction and kind: integers and fixed buckets, handed out as a copy.

use arrayvec::ArrayVec;
use sfu_api::MediaKind;
use sfu_api::telemetry::{Direction, LayerLimit};

use super::adaptation::Downlinks;
use super::distribution::Distribution;

/// Participants that are named by rank in metrics.
pub const WORST: usize = 10;

const SECONDS: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0];
const JITTER: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5];
const RATIO: &[f64] = &[0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5];
const MOS: &[f64] = &[1.0, 2.0, 2.5, 3.0, 3.25, 3.5, 3.75, 4.0, 4.25, 4.5];
const SCORE: &[f64] = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];
const PHASE: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0];

/// Of one kind of media in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// RTP packets that arrived or were sent, without retransmissions.
    pub packets: u64,
    /// Their payloads.
    pub bytes: u64,
    /// Lost at first.
    pub lost: u64,
    /// Lost and never repaired.
    pub residual: u64,
    /// NACKed packets: asked for by clients (down), by us (up).
    pub nacks: u64,
    /// Keyframe requests (PLI and FIR): of clients (down), of us (up).
    pub keyframe_requests: u64,
    /// Per participant and second.
    pub jitter: Distribution,
    /// Per participant and second.
    pub loss: Distribution,
    /// Per participant and second.
    pub residual_loss: Distribution,
}

impl Totals {
    const EMPTY: Self = Self {
        packets: 0,
        bytes: 0,
        lost: 0,
        residual: 0,
        nacks: 0,
        keyframe_requests: 0,
        jitter: Distribution::new(JITTER),
        loss: Distribution::new(RATIO),
        residual_loss: Distribution::new(RATIO),
    };

    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.residual += other.residual;
        self.nacks += other.nacks;
        self.keyframe_requests += other.keyframe_requests;
        self.jitter.add(&other.jitter);
        self.loss.add(&other.loss);
        self.residual_loss.add(&other.residual_loss);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Measured {
    /// By direction, then audio and video.
    media: [[Totals; 2]; 2],
    /// Round trip times, per participant and second.
    pub round_trip: Distribution,
    /// Mean opinion scores of audio by direction, per participant and second.
    pub opinion: [Distribution; 2],
    /// Scores of video by direction, per participant and second.
    pub video_score: [Distribution; 2],
    /// From the opening of a transport to its first path.
    pub ice: Distribution,
    /// From the first path to the keys.
    pub dtls: Distribution,
    /// From the keys to the first RTP packet of the client.
    pub first_rtp: Distribution,
    /// From the subscription to the first frame that was sent.
    pub first_frame: Distribution,
    /// ICE restarts that were begun, and those that led to a connection again.
    pub ice_restarts: [u64; 2],
    /// Seconds of video subscriptions by what limited them, in the order of [`LayerLimit::ALL`].
    pub limited_seconds: [u64; LayerLimit::ALL.len()],
    /// Lowest scores of the last second, worst first.
    pub worst: ArrayVec<f32, WORST>,
    /// Samples that nobody took in time.
    pub samples_dropped: u64,
    /// Congestion control.
    pub downlinks: Downlinks,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            media: [[Totals::EMPTY; 2]; 2],
            round_trip: Distribution::new(SECONDS),
            opinion: [Distribution::new(MOS); 2],
            video_score: [Distribution::new(SCORE); 2],
            ice: Distribution::new(PHASE),
            dtls: Distribution::new(PHASE),
            first_rtp: Distribution::new(PHASE),
            first_frame: Distribution::new(PHASE),
            ice_restarts: [0; 2],
            limited_seconds: [0; LayerLimit::ALL.len()],
            worst: ArrayVec::new(),
            samples_dropped: 0,
            downlinks: Downlinks::default(),
        }
    }
}

impl Measured {
    /// Of one kind of media in one direction.
    #[must_use]
    pub fn media(&self, direction: Direction, kind: MediaKind) -> &Totals {
        &self.media[direction as usize][kind as usize]
    }

    /// The same, to be added to.
    pub fn media_mut(&mut self, direction: Direction, kind: MediaKind) -> &mut Totals {
        &mut self.media[direction as usize][kind as usize]
    }

    /// Adds what another shard has.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.media.as_flattened_mut().iter_mut().zip(other.media.as_flattened()) {
            own.add(more);
        }
        let own = [&mut self.round_trip, &mut self.ice, &mut self.dtls, &mut self.first_rtp, &mut self.first_frame];
        let more = [&other.round_trip, &other.ice, &other.dtls, &other.first_rtp, &other.first_frame];
        let own = own.into_iter().chain(&mut self.opinion).chain(&mut self.video_score);
        for (own, more) in own.zip(more.into_iter().chain(&other.opinion).chain(&other.video_score)) {
            own.add(more);
        }
        for (own, more) in self.ice_restarts.iter_mut().zip(other.ice_restarts) {
            *own += more;
        }
        for (own, more) in self.limited_seconds.iter_mut().zip(other.limited_seconds) {
            *own += more;
        }
        for &score in &other.worst {
            rank(&mut self.worst, score);
        }
        self.samples_dropped += other.samples_dropped;
        self.downlinks.add(&other.downlinks);
    }
}

/// Puts a score among the lowest, worst first.
pub fn rank(worst: &mut ArrayVec<f32, WORST>, score: f32) {
    let place = worst.partition_point(|&known| known <= score);
    if place < WORST {
        if worst.is_full() {
            worst.pop();
        }
        worst.insert(place, score);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_kept_in_order() {
        let mut worst = ArrayVec::new();
        for score in 0..40_u16 {
            rank(&mut worst, f32::from(score * 7 % 40));
        }
        assert_eq!(worst.as_slice(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn shards_are_added() {
        let (mut one, mut other) = (Measured::default(), Measured::default());
        one.media_mut(Direction::Up, MediaKind::Audio).packets = 3;
        other.media_mut(Direction::Up, MediaKind::Audio).packets = 4;
        other.media_mut(Direction::Down, MediaKind::Video).lost = 5;
        other.opinion[1].observe(4.2);
        other.first_frame.observe(0.2);
        other.worst.push(1.5);
        one.add(&other);
        assert_eq!(one.media(Direction::Up, MediaKind::Audio).packets, 7);
        assert_eq!(one.media(Direction::Down, MediaKind::Video).lost, 5);
        assert_eq!((one.opinion[0].count(), one.opinion[1].count(), one.first_frame.count()), (0, 1, 1));
        assert_eq!(one.worst.as_slice(), [1.5]);
    }
}
