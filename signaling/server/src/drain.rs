//! Emptying this server before it goes: no new rooms, a deadline, and a way back.
//!
//! In: what an operator asks, how many participants there are, the time. Out: steps for the loop, and a status that everybody can
//! read. Until the deadline rooms that are open go on and may be joined; then everybody is asked to join again, which leads
//! elsewhere. Invariant: until the process stops, every drain can be undone; one at whose end it stops only by whoever can send it
//! signals, for what waits for its end (a service manager) would kill it.

use std::time::{Duration, Instant};

use serde::Serialize;
use signaling_core::Census;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use crate::ws::ToLoop;

/// What an operator asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainRequest {
    /// Empty this server until then.
    Begin {
        /// Time that calls may go on.
        deadline: Duration,
    },
    /// Take new rooms again, unless the process is about to stop.
    Undo,
    /// Empty this server until then, and then the process stops.
    Stop {
        /// Time that calls may go on.
        deadline: Duration,
    },
    /// Take new rooms again and do not stop.
    ServeOn,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainPhase {
    /// There is none.
    #[default]
    None,
    /// Calls go on, new rooms are refused.
    Draining,
    /// Nobody is here any more.
    Drained,
}

/// What can be read of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// How far it is.
    pub phase: DrainPhase,
    /// When it began, in seconds since the Unix epoch.
    pub since: Option<u64>,
    /// When those who are left are asked to join elsewhere.
    pub deadline: Option<u64>,
    /// Participants that are here.
    pub participants: usize,
    /// Open rooms.
    pub rooms: usize,
    /// The process stops when the drain is over.
    pub stopping: bool,
}

impl DrainStatus {
    /// New rooms are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase != DrainPhase::None
    }
}

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainEnd {
    /// Nobody is here any more.
    Drained,
    /// The server takes new rooms again.
    Undone,
    /// There is no server any more.
    Gone,
}

/// To whoever handles signals.
#[derive(Clone, Debug)]
pub struct DrainControl {
    inbox: mpsc::Sender<ToLoop>,
    status: watch::Receiver<DrainStatus>,
}

impl DrainControl {
    pub(crate) const fn new(inbox: mpsc::Sender<ToLoop>, status: watch::Receiver<DrainStatus>) -> Self {
        Self { inbox, status }
    }

    /// Asks for it and returns once that was heard, or the server has stopped.
    pub async fn ask(&self, request: DrainRequest) {
        // not when the status is what was asked for: somebody else may have asked for another by then
        let (heard, is_heard) = oneshot::channel();
        for message in [ToLoop::Drain(request), ToLoop::Barrier(heard)] {
            if self.inbox.send(message).await.is_err() {
                return;
            }
        }
        let _ = is_heard.await;
    }

    /// Completes when a drain is over.
    pub async fn drained(&mut self) -> DrainEnd {
        let is_over = |status: &DrainStatus| status.phase != DrainPhase::Draining;
        match self.status.wait_for(is_over).await.map(|status| status.phase) {
            Ok(DrainPhase::Drained) => DrainEnd::Drained,
            Ok(_) => DrainEnd::Undone,
            Err(_) => DrainEnd::Gone,
        }
    }

    /// Completes when there is no server any more, whatever the reason.
    pub async fn gone(&self) {
        self.inbox.closed().await;
    }

    /// Waits until it is another than was seen. None: the server has stopped.
    pub async fn changed(&mut self) -> Option<DrainStatus> {
        self.status.changed().await.ok()?;
        Some(*self.status.borrow_and_update())
    }

    /// As it is.
    #[must_use]
    pub fn status(&self) -> DrainStatus {
        *self.status.borrow()
    }
}

/// What the loop has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DrainStep {
    Nothing,
    /// Refuse new rooms.
    Close,
    /// Take them again.
    Open,
    /// Ask everybody to join elsewhere.
    Dismiss,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Drain {
    status: watch::Sender<DrainStatus>,
    deadline: Option<Instant>,
    is_closed: bool,
    is_dismissed: bool,
}

impl Drain {
    pub(crate) const fn new(status: watch::Sender<DrainStatus>) -> Self {
        Self { status, deadline: None, is_closed: false, is_dismissed: false }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// A second drain has the deadline that is asked for last.
    pub(crate) fn ask(&mut self, request: DrainRequest, now: Instant, unix_now: Duration) {
        match request {
            DrainRequest::Begin { deadline } | DrainRequest::Stop { deadline } => {
                info!(deadline_s = deadline.as_secs(), "draining: no new rooms");
                self.deadline = now.checked_add(deadline).or(Some(now));
                self.is_dismissed = false;
                self.status.send_modify(|status| {
                    status.phase = DrainPhase::Draining;
                    status.since.get_or_insert(unix_now.as_secs());
                    status.deadline = Some(unix_now.saturating_add(deadline).as_secs());
                    status.stopping |= matches!(request, DrainRequest::Stop { .. });
                });
            }
            DrainRequest::Undo if self.status.borrow().stopping => info!("the drain is not undone: the process is about to stop"),
            DrainRequest::Undo | DrainRequest::ServeOn => {
                info!("the drain is undone: new rooms are welcome");
                self.deadline = None;
                self.status.send_modify(|status| {
                    *status = DrainStatus { participants: status.participants, rooms: status.rooms, ..DrainStatus::default() }
                });
            }
        }
    }

    /// To be called after every request and once a second, until it says `Nothing`.
    pub(crate) fn step(&mut self, now: Instant, census: &Census) -> DrainStep {
        let phase = match self.deadline {
            None => DrainPhase::None,
            Some(_) if census.participants == 0 => DrainPhase::Drained,
            Some(_) => DrainPhase::Draining,
        };
        self.status.send_if_modified(|status| {
            let new = DrainStatus { phase, participants: census.participants, rooms: census.rooms, ..*status };
            std::mem::replace(status, new) != new
        });
        if self.deadline.is_some() != self.is_closed {
            self.is_closed = self.deadline.is_some();
            return if self.is_closed { DrainStep::Close } else { DrainStep::Open };
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) && !self.is_dismissed && census.participants > 0 {
            self.is_dismissed = true;
            return DrainStep::Dismiss;
        }
        DrainStep::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(participants: usize) -> Census {
        Census { participants, rooms: participants, ..Census::default() }
    }

    #[test]
    fn rooms_close_at_once_and_people_are_asked_to_go_at_the_deadline() {
        let (status, read) = watch::channel(DrainStatus::default());
        let (mut drain, start) = (Drain::new(status), Instant::now());
        assert_eq!(drain.step(start, &census(3)), DrainStep::Nothing);
        drain.ask(DrainRequest::Begin { deadline: Duration::from_secs(60) }, start, Duration::from_secs(1000));
        assert_eq!(drain.step(start, &census(3)), DrainStep::Close);
        assert_eq!(drain.step(start + Duration::from_secs(59), &census(2)), DrainStep::Nothing);
        let seen = *read.borrow();
        assert_eq!((seen.phase, seen.since, seen.deadline, seen.participants), (DrainPhase::Draining, Some(1000), Some(1060), 2));
        assert_eq!(drain.step(start + Duration::from_secs(60), &census(2)), DrainStep::Dismiss);
        assert_eq!(drain.step(start + Duration::from_secs(61), &census(0)), DrainStep::Nothing);
        assert_eq!(read.borrow().phase, DrainPhase::Drained);
    }

    #[test]
    fn a_drain_can_be_undone_and_begun_again() {
        let (status, read) = watch::channel(DrainStatus::default());
        let (mut drain, start) = (Drain::new(status), Instant::now());
        drain.ask(DrainRequest::Begin { deadline: Duration::ZERO }, start, Duration::ZERO);
        assert_eq!(drain.step(start, &census(1)), DrainStep::Close);
        assert_eq!(drain.step(start, &census(1)), DrainStep::Dismiss);
        drain.ask(DrainRequest::Undo, start, Duration::ZERO);
        assert_eq!(drain.step(start, &census(1)), DrainStep::Open);
        assert_eq!((read.borrow().phase, read.borrow().since), (DrainPhase::None, None));
        drain.ask(DrainRequest::Begin { deadline: Duration::ZERO }, start, Duration::ZERO);
        assert_eq!(drain.step(start, &census(1)), DrainStep::Close);
        assert_eq!(drain.step(start, &census(1)), DrainStep::Dismiss);
    }

    #[test]
    fn a_drain_at_whose_end_the_process_stops_is_undone_only_by_a_word_of_its_own() {
        let (status, read) = watch::channel(DrainStatus::default());
        let (mut drain, start) = (Drain::new(status), Instant::now());
        let mut ask = |request| {
            drain.ask(request, start, Duration::ZERO);
            drain.step(start, &census(1));
            (read.borrow().phase, read.borrow().stopping)
        };
        let deadline = Duration::from_secs(60);
        assert_eq!(ask(DrainRequest::Begin { deadline }), (DrainPhase::Draining, false));
        assert_eq!(ask(DrainRequest::Stop { deadline }), (DrainPhase::Draining, true));
        assert_eq!(ask(DrainRequest::Undo), (DrainPhase::Draining, true));
        assert_eq!(ask(DrainRequest::Begin { deadline }), (DrainPhase::Draining, true), "another deadline is no other end");
        assert_eq!(ask(DrainRequest::ServeOn), (DrainPhase::None, false));
        assert_eq!(ask(DrainRequest::Begin { deadline }), (DrainPhase::Draining, false));
        assert_eq!(ask(DrainRequest::Undo), (DrainPhase::None, false));
    }

    /// A status that comes and goes before anybody looks was waited for forever, with signals unheard.
    #[tokio::test]
    async fn a_request_that_is_overtaken_by_another_is_answered() {
        let (inbox, mut messages) = mpsc::channel(8);
        let (_status, read) = watch::channel(DrainStatus::default());
        let control = DrainControl::new(inbox, read);
        let rooms = async {
            let mut asked = Vec::new();
            while let Some(message) = messages.recv().await {
                match message {
                    ToLoop::Drain(request) => asked.push(request),
                    ToLoop::Barrier(reply) => {
                        let _ = reply.send(());
                        return asked;
                    }
                    _ => {}
                }
            }
            asked
        };
        let request = DrainRequest::Begin { deadline: Duration::ZERO };
        let both = async { tokio::join!(control.ask(request), rooms).1 };
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), both).await.ok(), Some(vec![request]));
        drop(messages);
        control.ask(request).await;
    }

    /// A server that had failed was taken for one whose drain was undone, so that no signal but SIGKILL ended the process.
    #[tokio::test]
    async fn a_server_that_is_gone_is_no_drain_that_was_undone() {
        let (inbox, messages) = mpsc::channel(1);
        let (status, read) = watch::channel(DrainStatus { phase: DrainPhase::Draining, ..DrainStatus::default() });
        let mut control = DrainControl::new(inbox, read);
        drop((messages, status));
        control.gone().await;
        assert_eq!(control.drained().await, DrainEnd::Gone);
    }

    #[test]
    fn an_absurd_deadline_is_now() {
        let (status, _read) = watch::channel(DrainStatus::default());
        let (mut drain, start) = (Drain::new(status), Instant::now());
        drain.ask(DrainRequest::Begin { deadline: Duration::MAX }, start, Duration::from_secs(1));
        assert_eq!(drain.step(start, &census(1)), DrainStep::Close);
    }
}
