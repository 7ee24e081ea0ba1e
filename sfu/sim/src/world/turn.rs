//! One turn of a world: everything that is due now, in the order in which a real server does it.

use std::time::{Duration, Instant};

use sfu_core::egress::Progress;
use sfu_core::net::Flow;

use super::World;
use super::shards::nth;
use crate::participant::{Datagram, reversed};
use crate::road::Road;

/// Grid of time.
const STEP: Duration = Duration::from_millis(1);

/// Time for handshakes in one turn.
const HANDSHAKE_SLICE: Duration = Duration::from_millis(1);

impl World {
    pub(super) fn rounded(&self, at: Instant) -> Instant {
        let origin = self.clock.at(Duration::ZERO);
        let since = at.saturating_duration_since(origin).as_nanos();
        let steps = since.div_ceil(STEP.as_nanos());
        origin + STEP * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    pub(super) fn next_event(&self) -> Instant {
        let mut next = self.clock.now() + Duration::from_secs(3600);
        next = self.signaling.front().map_or(next, |&(at, _)| at.min(next));
        next = self.roads.iter().filter_map(Road::next_event).fold(next, Instant::min);
        for shard in self.engines() {
            next = shard.next_timeout().map_or(next, |at| at.min(next));
        }
        if self.rings.values().any(|ring| !ring.is_empty()) {
            next = next.min(self.clock.now());
        }
        for (participant, &wake) in self.participants.iter().zip(&self.wakes).filter(|(participant, _)| !participant.is_gone) {
            next = next.min(wake);
            for arrival in [participant.up.next_arrival(), participant.down.next_arrival()].into_iter().flatten() {
                next = next.min(arrival);
            }
        }
        next
    }

    /// Everything that is due now.
    pub(super) fn settle(&mut self) {
        let now = self.clock.now();
        for road in &mut self.roads {
            for (_, bytes, (index, datagram)) in road.poll(now) {
                self.participants[index].down.send(now, bytes, datagram);
            }
        }
        self.cross(now);
        self.poll_participants(now);
        while self.signaling.front().is_some_and(|&(at, _)| at <= now) {
            let Some((_, signal)) = self.signaling.pop_front() else { break };
            self.carry(now, signal);
        }
        for shard in std::iter::once(&mut self.shard).chain(&mut self.others) {
            if shard.next_timeout().is_some_and(|at| at <= now) {
                self.meter.time(|| shard.handle_timeout(now));
            }
        }
        self.load_rings(now);
        self.clock.advance_to(now + self.turn_takes);
        let now = self.clock.now();
        for shard in 0..self.shards() {
            self.flush(shard, now);
            self.shake_hands(shard);
        }
        self.load_rings(self.clock.now());
        for shard in 0..self.shards() {
            while let Some(event) = self.engine(shard).poll_event() {
                self.signal(event);
            }
        }
    }

    /// Participants take what has come and do what is due; the engine gets what has reached it.
    fn poll_participants(&mut self, now: Instant) {
        let Self { participants, shard, others, place, nat, tapped, tap_left, wakes, meter, .. } = self;
        for (index, participant) in participants.iter_mut().enumerate() {
            if participant.is_gone {
                continue;
            }
            let has_arrival = participant.down.next_arrival().is_some_and(|at| at <= now);
            if has_arrival {
                participant.receive(now);
            }
            if has_arrival || wakes[index] <= now {
                participant.poll(now);
                wakes[index] = participant.next_timeout();
            }
            while let Some(Datagram { mut flow, mut bytes }) = participant.up.receive(now) {
                flow.local = nat.outside_of(flow.local);
                if *tap_left > 0 {
                    *tap_left -= 1;
                    tapped.push(Datagram { flow: reversed(flow), bytes: bytes.clone() });
                }
                let engine = nth(shard, others, place.shard_at(flow.remote));
                meter.datagrams += 1;
                meter.time(|| engine.handle_datagram(now, reversed(flow), &mut bytes));
            }
        }
    }

    fn flush(&mut self, shard: usize, now: Instant) {
        loop {
            let engine = nth(&mut self.shard, &mut self.others, shard);
            let progress = self.meter.time(|| engine.flush(now));
            self.send(shard, now);
            if progress == Progress::Done {
                break;
            }
        }
    }

    /// Goes on with handshakes for a slice of time, behind everything else.
    fn shake_hands(&mut self, shard: usize) {
        let until = self.clock.now() + HANDSHAKE_SLICE;
        let mut has_stepped = false;
        while self.engine(shard).has_handshakes() {
            self.clock.advance_to(self.clock.now() + self.handshake_takes);
            let now = self.clock.now();
            let engine = nth(&mut self.shard, &mut self.others, shard);
            has_stepped |= self.meter.time(|| engine.step_handshake(now));
            if now >= until {
                break;
            }
        }
        if has_stepped {
            self.flush(shard, self.clock.now());
        }
    }

    /// Puts what the engine sends on the downlinks.
    fn send(&mut self, shard: usize, now: Instant) {
        let engine = nth(&mut self.shard, &mut self.others, shard);
        let outbox = engine.outbox();
        for (flow, bytes) in outbox.datagrams() {
            self.meter.datagrams += 1;
            let inside = self.nat.inside_of(flow.remote);
            match inside.and_then(|inside| Some((inside, *self.by_address.get(&inside)?))) {
                Some((inside, index)) => {
                    let datagram = Datagram { flow: Flow { local: inside, ..reversed(flow) }, bytes: bytes.to_vec() };
                    // IPv4 and UDP.
                    let len = bytes.len() + 28;
                    match self.by_road.get(&index) {
                        Some(&(road, flow)) => self.roads[road].send(now, flow, len, (index, datagram)),
                        None => self.participants[index].down.send(now, len, datagram),
                    }
                }
                None => self.to_strangers += 1,
            }
        }
        outbox.clear();
    }
}
