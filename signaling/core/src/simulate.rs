//! Faults on request: clients test their own reconnect with them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use livekit_protocol::{CandidateProtocol, leave_request::Action, signal_response::Message, simulate_scenario::Scenario};
use sfu_api::{Command, ParticipantId};
use signaling_api::EndReason;

use crate::{
    limits,
    room::{Farewell, Room},
    session::SimulatedDrop,
    speakers,
    timers::Timer,
    turn::Turn,
};

/// Identities that asked for TCP, each for a while.
#[derive(Debug, Default)]
pub(crate) struct TcpWishes {
    until: BTreeMap<String, Instant>,
}

impl TcpWishes {
    fn note(&mut self, identity: String, is_preferred: bool, now: Instant) {
        self.until.retain(|_, until| *until > now);
        if !is_preferred {
            self.until.remove(&identity);
        } else if self.until.len() < limits::TCP_WISHES {
            self.until.insert(identity, now + limits::TCP_WISH_LIFE);
        }
    }

    fn holds(&self, identity: &str, now: Instant) -> bool {
        self.until.get(identity).is_some_and(|until| *until > now)
    }
}

impl Room {
    pub(crate) fn simulate(&mut self, id: ParticipantId, simulate: proto::SimulateScenario, turn: &mut Turn<'_>) {
        match simulate.scenario {
            // Everybody is told of it.
            Some(Scenario::SpeakerUpdate(_)) if !self.may_change(id, turn) => turn.counters.invalid_messages += 1,
            Some(Scenario::SpeakerUpdate(seconds)) => {
                let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(limits::SIMULATED_SPEECH);
                turn.timers.set(Timer::SimulatedSpeech(id), turn.now + lasts);
                self.tell_simulated_speech(id, true, turn);
            }
            // As when the server dies: no word, and nobody there to resume with.
            Some(Scenario::NodeFailure(_) | Scenario::Migration(_)) => self.remove(id, EndReason::Simulated, Farewell::Cut, turn),
            Some(Scenario::ServerLeave(_)) => {
                self.remove(id, EndReason::Simulated, Farewell::Leave(Action::Disconnect), turn);
            }
            Some(Scenario::LeaveRequestFullReconnect(_)) => self.start_anew(id, EndReason::ClientLeft, turn),
            Some(Scenario::SwitchCandidateProtocol(protocol)) => {
                let protocol = CandidateProtocol::try_from(protocol).unwrap_or(CandidateProtocol::Udp);
                self.switch_protocol(id, protocol, turn);
            }
            Some(Scenario::DisconnectSignalOnResume(_)) => self.plan_drop(id, false, 1, turn),
            Some(Scenario::DisconnectSignalOnResumeNoMessages(_)) => self.plan_drop(id, true, 3, turn),
            // Zero takes the limit away (LiveKit: `SimulateScenario.subscriber_bandwidth`).
            Some(Scenario::SubscriberBandwidth(bps)) => {
                let limit_bps = u64::try_from(bps).ok().filter(|&bps| bps > 0);
                turn.out.media(Command::LimitDownlink { participant: id, limit_bps });
            }
            None => turn.counters.unknown_messages += 1,
        }
    }

    /// TLS counts as TCP: there is no relay that speaks it. livekit-client joins anew after it asked, so that the wish holds
    /// for the identity, for a while.
    fn switch_protocol(&mut self, id: ParticipantId, protocol: CandidateProtocol, turn: &mut Turn<'_>) {
        let Some(identity) = self.members.get(id).map(|participant| participant.identity().to_owned()) else { return };
        let is_preferred = protocol != CandidateProtocol::Udp;
        self.tcp_wishes.note(identity, is_preferred, turn.now);
        turn.out.media(Command::PreferTcp { participant: id, is_preferred });
        turn.out.media(Command::RestartIce { participant: id });
    }

    /// A participant joined that asked for TCP in its last session.
    pub(crate) fn recall_protocol(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        if self.tcp_wishes.holds(participant.identity(), turn.now) {
            turn.out.media(Command::PreferTcp { participant: id, is_preferred: true });
            // An offer with all addresses may have been made already.
            turn.out.media(Command::RestartIce { participant: id });
        }
    }

    pub(crate) fn end_simulated_speech(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        self.tell_simulated_speech(id, false, turn);
    }

    fn tell_simulated_speech(&self, id: ParticipantId, is_speaking: bool, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let is_hidden = participant.is_hidden();
        let conns = self.members.conns(|other| other.id == id || !is_hidden);
        let speakers = vec![speakers::info(id, is_speaking.then_some(LOUD))];
        turn.out.broadcast(conns, Message::SpeakersChanged(proto::SpeakersChanged { speakers }));
    }

    /// LiveKit drops the connection at one resume if messages were sent, at three if not.
    fn plan_drop(&mut self, id: ParticipantId, before_messages: bool, times_left: u8, turn: &mut Turn<'_>) {
        if let Some(participant) = self.members.get_mut(id) {
            participant.session.simulated_drop =
                Some(SimulatedDrop { until: turn.now + limits::SIMULATION_WINDOW, before_messages, times_left });
        }
    }
}

/// Of 8 steps.
const LOUD: u8 = 7;
