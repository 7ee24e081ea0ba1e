//! One participant's line to its client: the signal connection, the watch on its silence, and what it has not been told.
//!
//! Invariant: what happens while the line is down and is not part of a snapshot (an answer, the end of an own track) is
//! kept here and told at the resume. Bounded by `limits`.

use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use sfu_api::TransportRole;

use crate::{ConnId, SignalingConfig, budget::Budget, limits};

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    link: Link,
    last_heard: Instant,
    budget: Budget,
    pub(crate) client: proto::ClientInfo,
    pub(crate) media: MediaHealth,
    pub(crate) simulated_drop: Option<SimulatedDrop>,
    untold: Untold,
    /// The client has resumed and was not sent again yet what it missed.
    may_replay: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Up(ConnId),
    Down,
}

/// What a resume has to tell beyond the snapshot.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Untold {
    /// The newest answer to an offer of the client.
    pub(crate) answer: Option<proto::SessionDescription>,
    /// Ids of own tracks that the server ended.
    pub(crate) track_ends: Vec<String>,
}

/// Which transports are up, and which of them are in trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MediaHealth {
    publisher: TransportHealth,
    subscriber: TransportHealth,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum TransportHealth {
    #[default]
    New,
    Up,
    Trouble,
}

/// Asked for by a client that tests its own reconnect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SimulatedDrop {
    pub(crate) until: Instant,
    /// True: before the first message of the resume, false: after the last.
    pub(crate) before_messages: bool,
    pub(crate) times_left: u8,
}

impl Session {
    pub(crate) fn new(conn: ConnId, client: proto::ClientInfo, now: Instant) -> Self {
        Self {
            link: Link::Up(conn),
            last_heard: now,
            budget: message_budget(now),
            client,
            media: MediaHealth::default(),
            simulated_drop: None,
            untold: Untold::default(),
            may_replay: false,
        }
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::Up(conn) => Some(conn),
            Link::Down => None,
        }
    }

    pub(crate) fn protocol(&self) -> i32 {
        self.client.protocol
    }

    /// The client moves to a new connection; returns the one that it had until now.
    pub(crate) fn attach(&mut self, conn: ConnId, client: proto::ClientInfo, now: Instant) -> Option<ConnId> {
        let before = self.conn();
        self.link = Link::Up(conn);
        self.last_heard = now;
        self.budget = message_budget(now);
        self.client = client;
        self.may_replay = true;
        before
    }

    pub(crate) fn detach(&mut self) -> Option<ConnId> {
        let before = self.conn();
        self.link = Link::Down;
        before
    }

    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Notes a message that is as much work as `work` plain ones; false if the client sends too much.
    pub(crate) fn hear(&mut self, work: u32, now: Instant) -> bool {
        self.last_heard = now;
        self.budget.take(work, now)
    }

    /// Notes that a message turned out to be more work; false if that is too much.
    pub(crate) fn spend(&mut self, work: u32, now: Instant) -> bool {
        self.budget.take(work, now)
    }

    /// Keeps an answer that can't be sent now. A newer one replaces it: the client waits for no other.
    pub(crate) fn keep_answer(&mut self, answer: proto::SessionDescription) {
        self.untold.answer = Some(answer);
    }

    pub(crate) fn keep_track_end(&mut self, sid: String) {
        if self.untold.track_ends.len() < limits::UNTOLD_TRACK_ENDS {
            self.untold.track_ends.push(sid);
        }
    }

    pub(crate) fn take_untold(&mut self) -> Untold {
        std::mem::take(&mut self.untold)
    }

    /// True once for each resume. A replay may be the whole log of a room, for a message of a few bytes.
    pub(crate) fn takes_replay(&mut self) -> bool {
        std::mem::take(&mut self.may_replay)
    }

    /// True if a connection that just resumed is to be dropped at this moment of the resume.
    pub(crate) fn takes_simulated_drop(&mut self, before_messages: bool, now: Instant) -> bool {
        let Some(drop) = self.simulated_drop.as_mut().filter(|drop| drop.before_messages == before_messages) else {
            return false;
        };
        let is_due = now < drop.until;
        drop.times_left = drop.times_left.saturating_sub(1);
        if !is_due || drop.times_left == 0 {
            self.simulated_drop = None;
        }
        is_due
    }
}

impl MediaHealth {
    pub(crate) fn connected(&mut self, role: TransportRole) {
        *self.of(role) = TransportHealth::Up;
    }

    pub(crate) fn lost(&mut self, role: TransportRole) {
        *self.of(role) = TransportHealth::Trouble;
    }

    pub(crate) fn in_trouble(self) -> bool {
        self.publisher == TransportHealth::Trouble || self.subscriber == TransportHealth::Trouble
    }

    fn of(&mut self, role: TransportRole) -> &mut TransportHealth {
        match role {
            TransportRole::Publisher => &mut self.publisher,
            TransportRole::Subscriber => &mut self.subscriber,
        }
    }
}

/// How a client of this protocol version is asked to leave; none if it has no word for it.
pub(crate) fn leave_request(protocol: i32, reason: proto::DisconnectReason, action: Action) -> Option<proto::LeaveRequest> {
    if protocol > PROTOCOL_BEFORE_ACTION {
        return Some(proto::LeaveRequest { reason: reason.into(), action: action.into(), ..Default::default() });
    }
    (action != Action::Resume).then(|| proto::LeaveRequest {
        can_reconnect: action == Action::Reconnect,
        reason: reason.into(),
        ..Default::default()
    })
}

/// Tells a client that shall come back where that is possible.
pub(crate) fn with_regions(leave: proto::LeaveRequest, config: &SignalingConfig) -> proto::LeaveRequest {
    let is_return = leave.action() != Action::Disconnect;
    let regions = (is_return && !config.regions.is_empty()).then(|| proto::RegionSettings { regions: config.region_infos() });
    proto::LeaveRequest { regions, ..leave }
}

/// `LeaveRequest.action` is read by clients of protocol 13 and above.
const PROTOCOL_BEFORE_ACTION: i32 = 12;

fn message_budget(now: Instant) -> Budget {
    Budget::new(limits::MESSAGE_BURST, limits::MESSAGES_PER_SECOND, now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn old_clients_are_asked_to_reconnect_by_a_flag_and_never_to_resume() {
        let reason = proto::DisconnectReason::StateMismatch;
        assert!(leave_request(12, reason, Action::Reconnect).unwrap().can_reconnect);
        assert_eq!(leave_request(12, reason, Action::Resume), None);
        assert_eq!(leave_request(13, reason, Action::Resume).unwrap().action(), Action::Resume);
    }
}
