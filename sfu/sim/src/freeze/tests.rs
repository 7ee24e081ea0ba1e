//! What a receiver counts as shown, as lost and as wrong.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Clock;
use crate::link::{Chance, Jitter, Link, LinkConfig, Loss};
use crate::scalability::Mode;
use crate::seed::Seed;
use crate::video::{VideoConfig, VideoPacket, VideoSource};

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_millis(200);

struct World {
    clock: Clock,
    source: VideoSource,
    receiver: VideoReceiver,
}

impl World {
    fn new(codec: Codec) -> Self {
        let (seed, clock) = (Seed::new(5), Clock::new());
        let config = VideoConfig { mode: Mode::L1T2, ..VideoConfig::simulcast(codec, &mut seed.rng("config")) };
        let source = VideoSource::new(config, clock.now(), seed.rng("video"));
        Self { clock, source, receiver: VideoReceiver::new(codec, PATIENCE) }
    }

    /// Packets of one encoding of the next picture.
    fn picture(&mut self, encoding: usize) -> Vec<VideoPacket> {
        self.clock.advance_to(self.source.next_picture());
        let mut packets = self.source.poll(self.clock.now());
        packets.retain(|p| p.encoding == encoding);
        packets
    }

    fn receive(&mut self, packets: &[VideoPacket]) {
        for p in packets {
            self.receiver.receive(self.clock.now(), p.sequence, p.timestamp, p.marker, &p.payload, &p.descriptor);
        }
    }

    fn report(&self) -> Report {
        self.receiver.report(self.clock.now())
    }
}

#[test]
fn a_whole_stream_is_shown_without_faults() {
    for codec in [Codec::Vp8, Codec::H264] {
        let mut world = World::new(codec);
        for _ in 0..90 {
            let packets = world.picture(2);
            world.receive(&packets);
        }
        let report = world.report();
        assert_eq!((report.frames_shown, report.keyframes_shown), (90, 1), "{codec:?}");
        assert_eq!(report.faults(), Vec::<String>::new());
        assert!(report.freezes.is_empty() && !world.receiver.wants_keyframe());
        assert_eq!(report.current.unwrap().width_px, 1280);
    }
}

#[test]
fn a_whole_layered_stream_is_shown_without_faults() {
    for (codec, mode, is_described) in [
        (Codec::Vp9, Mode::L3T3_KEY, false),
        (Codec::Vp9, Mode::L3T3, true),
        (Codec::Av1, Mode::L3T3_KEY, true),
        (Codec::Av1, Mode::L1T3, false),
        (Codec::H265, Mode::L1T1, false),
        (Codec::H264, Mode::L1T3, true),
    ] {
        let (seed, clock) = (Seed::new(5), Clock::new());
        let config = VideoConfig::layered(codec, mode, is_described, &mut seed.rng("config"));
        let source = VideoSource::new(config, clock.now(), seed.rng("video"));
        let mut world = World { clock, source, receiver: VideoReceiver::new(codec, PATIENCE) };
        for number in 0..90 {
            if number == 40 {
                world.source.request_keyframe(0);
            }
            let packets = world.picture(0);
            world.receive(&packets);
        }
        let report = world.report();
        assert_eq!((report.frames_shown, report.keyframes_shown), (90, 2), "{codec:?} {mode:?}");
        assert_eq!(report.faults(), Vec::<String>::new(), "{codec:?} {mode:?} {report:?}");
        assert_eq!(report.current.unwrap().spatial, mode.spatial - 1);
        assert_eq!(report.announced.is_some(), is_described);
    }
}

#[test]
fn what_is_lost_for_good_stops_the_picture_until_a_keyframe() {
    for codec in [Codec::Vp8, Codec::H264] {
        let mut world = World::new(codec);
        for number in 0..60 {
            let mut packets = world.picture(2);
            if number == 20 {
                packets.remove(1);
            }
            if number == 50 {
                assert!(world.receiver.wants_keyframe());
                world.source.request_keyframe(2);
            }
            world.receive(&packets);
        }
        let report = world.report();
        assert_eq!((report.packets_lost, report.frames_incomplete), (1, 1), "{codec:?}");
        assert_eq!(report.keyframes_shown, 2);
        assert_eq!(report.faults(), Vec::<String>::new());
        assert_eq!(report.freezes.len(), 1);
        assert!(report.longest_gap > Duration::from_millis(900), "{report:?}");
    }
}

#[test]
fn a_whole_keyframe_behind_a_hole_is_shown_at_once_and_a_torn_one_is_not() {
    for codec in [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1] {
        let mut world = World::new(codec);
        for number in 0..5 {
            let mut packets = world.picture(2);
            packets.truncate(if number == 2 { 2 } else { usize::MAX });
            if number == 3 {
                let last = packets.pop().unwrap();
                world.source.request_keyframe(2);
                world.receive(&packets);
                world.receive(&[last]);
            } else if number == 4 {
                let torn = packets.remove(1);
                world.receive(&packets);
                assert_eq!(world.report().keyframes_shown, 1, "{codec:?}");
                world.receive(&[torn]);
            } else {
                world.receive(&packets);
            }
        }
        let report = world.report();
        assert_eq!((report.keyframes_shown, report.frames_shown), (2, 3), "{codec:?}: {report:?}");
        assert!(report.packets_lost > 0 && report.faults().is_empty(), "{codec:?}: {report:?}");
    }
}

#[test]
fn a_lost_frame_of_the_higher_layer_is_hardly_noticed() {
    let mut world = World::new(Codec::Vp8);
    for number in 0..60 {
        let packets = world.picture(0);
        if number != 21 {
            world.receive(&packets);
        }
    }
    let report = world.report();
    assert_eq!((report.frames_shown, report.frames_undecodable), (59, 0));
    assert!(!world.receiver.wants_keyframe());
}

#[test]
fn a_network_never_causes_faults() {
    for codec in [Codec::Vp8, Codec::H264] {
        let mut world = World::new(codec);
        let config = LinkConfig {
            jitter: Jitter::Reordering(30 * MS),
            loss: Loss::Random(Chance::percent(2.0)),
            duplication: Chance::percent(2.0),
            ..LinkConfig::delayed(20 * MS)
        };
        let mut link = Link::new(config, Seed::new(6).rng("link"));
        for number in 0..600 {
            if number % 25 == 0 {
                world.source.request_keyframe(1);
            }
            for p in world.picture(1) {
                link.send(world.clock.now(), p.payload.len() + 40, p);
            }
            while let Some(p) = link.receive(world.clock.now()) {
                world.receive(&[p]);
            }
        }
        let report = world.report();
        assert_eq!(report.faults(), Vec::<String>::new(), "{codec:?}");
        assert!(report.packets_lost > 10 && report.frames_shown > 100, "{report:?}");
    }
}

#[test]
fn a_switch_in_the_middle_of_nowhere_is_a_fault() {
    let mut world = World::new(Codec::Vp8);
    for number in 0..20 {
        let packets = world.picture(usize::from(number >= 10));
        let mut packets = packets;
        // Someone renumbers, but does not wait for a keyframe.
        for (place, p) in packets.iter_mut().enumerate() {
            p.sequence = u16::try_from(number * 8 + place).unwrap();
            p.marker |= place == 7;
        }
        while packets.len() < 8 {
            let mut padding = packets.last().unwrap().clone();
            (padding.sequence, padding.payload) = (padding.sequence + 1, Vec::new());
            packets.push(padding);
        }
        world.receive(&packets);
    }
    assert!(world.report().switches_without_keyframe > 0);
}

#[test]
fn a_frame_glued_from_two_is_a_fault() {
    let mut world = World::new(Codec::H264);
    let first = world.picture(2);
    world.receive(&first);
    let second = world.picture(2);
    let mut third = world.picture(2);
    third[0].payload.clone_from(&second[0].payload);
    world.receive(&second);
    world.receive(&third);
    assert_eq!(world.report().frames_corrupted, 1);
}

#[test]
fn numbers_that_go_back_are_faults() {
    let mut world = World::new(Codec::Vp8);
    let first = world.picture(0);
    world.receive(&first);
    for mut p in world.picture(0) {
        p.timestamp = first[0].timestamp;
        p.payload[2..4].copy_from_slice(&first[0].payload[2..4]);
        world.receive(&[p]);
    }
    let report = world.report();
    assert_eq!((report.timestamps_back, report.picture_ids_back, report.pictures_continued), (1, 1, 1));
    assert_eq!(report.faults().len(), 3, "{report:?}");
}

#[test]
fn an_expected_pause_is_no_freeze() {
    let mut world = World::new(Codec::Vp8);
    for number in 0..40 {
        let packets = world.picture(0);
        if !(20..30).contains(&number) {
            world.receive(&packets);
        } else if number == 20 {
            world.receiver.pause();
        }
    }
    world.clock.advance(PATIENCE);
    world.receiver.poll(world.clock.now());
    assert!(world.report().freezes.len() <= 1, "only the time at the end may count");
}
