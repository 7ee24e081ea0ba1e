//! What signaling does: carries messages between clients and the engine, with some delay.

use std::time::{Duration, Instant};

use sfu_api::{Command, Event, TrackId};

use super::{Who, World};

/// One way, between a client and signaling.
const SIGNALING_DELAY: Duration = Duration::from_millis(5);

/// A message on its way between a client and the engine.
pub(super) enum Signal {
    ToEngine(Command),
    ToClient(usize, ToClient),
}

pub(super) enum ToClient {
    Answer(String),
    Offer(u32, String),
    MediaSections(usize, usize),
    /// Up to which layer of its first codec a track is wanted.
    Wanted(TrackId, Option<u8>),
}

impl World {
    /// Gives the engine a command, as signaling would.
    pub fn command(&mut self, command: Command) {
        self.signaling.push_back((self.clock.now() + SIGNALING_DELAY, Signal::ToEngine(command)));
    }

    pub(super) fn carry(&mut self, now: Instant, signal: Signal) {
        match signal {
            Signal::ToEngine(command) => self.place(now, command),
            Signal::ToClient(index, _) if self.participants[index].is_gone => {}
            Signal::ToClient(index, ToClient::Answer(sdp)) => {
                self.participants[index].take_answer(now, &sdp);
                self.wakes[index] = now;
                self.send_offer(index);
            }
            Signal::ToClient(index, ToClient::MediaSections(audio, video)) => {
                self.participants[index].add_lines(audio, video);
                self.wakes[index] = now;
                self.send_offer(index);
            }
            Signal::ToClient(index, ToClient::Wanted(track, highest)) => {
                if let Some(sending) = self.participants[index].sending_mut(track) {
                    sending.send_up_to(highest);
                }
            }
            Signal::ToClient(index, ToClient::Offer(id, sdp)) => {
                let participant = &mut self.participants[index];
                let answer = Command::Answer { participant: participant.id, id, sdp: participant.take_offer(now, &sdp) };
                self.wakes[index] = now;
                self.command(answer);
            }
        }
    }

    /// What signaling does with an event.
    pub(super) fn signal(&mut self, event: Event) {
        let at = self.clock.now() + SIGNALING_DELAY;
        match &event {
            Event::Answer { participant, sdp, .. } => {
                if let Some(&index) = self.by_id.get(participant) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Answer(sdp.clone()))));
                }
            }
            Event::Offer { participant, id, sdp } => {
                if let Some(&index) = self.by_id.get(participant) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Offer(*id, sdp.clone()))));
                }
            }
            Event::MediaSections { participant, audio, video } => {
                if let Some(&index) = self.by_id.get(participant) {
                    let ask = ToClient::MediaSections(*audio as usize, *video as usize);
                    self.signaling.push_back((at, Signal::ToClient(index, ask)));
                }
            }
            Event::WantedLayers { participant, track, codecs } if self.has_dynacast => {
                if let (Some(&index), Some(codec)) = (self.by_id.get(participant), codecs.first()) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Wanted(*track, codec.max_spatial))));
                }
            }
            Event::TrackReady { track, .. } => {
                let track = *track;
                self.ready.push(track);
                let (now_possible, still_wanted) = std::mem::take(&mut self.wanted).into_iter().partition(|&(_, wanted)| wanted == track);
                self.wanted = still_wanted;
                let now_possible: Vec<(usize, TrackId)> = now_possible;
                for (index, track) in now_possible {
                    self.subscribe(Who(index), track);
                }
            }
            Event::Data { participant, delivery, payload } => {
                if let Some(&sender) = self.by_id.get(participant) {
                    let room = self.participants[sender].room;
                    let others = self.participants.iter().filter(|other| other.room == room && other.id != *participant && !other.is_gone);
                    let to = others.map(|other| other.id).collect();
                    self.command(Command::SendData { to, delivery: *delivery, payload: payload.clone() });
                }
            }
            _ => {}
        }
        self.log.push(event);
    }

    pub(super) fn send_offer(&mut self, index: usize) {
        let participant = &mut self.participants[index];
        let id = participant.id;
        if let Some((offer, sdp)) = participant.offer() {
            self.command(Command::Offer { participant: id, id: offer, sdp });
        }
    }
}
