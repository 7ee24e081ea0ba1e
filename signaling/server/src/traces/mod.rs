//! Stays as traces of OpenTelemetry: one trace for a participant, from its request to its end.
//!
//! In: notes of stays, with the time. Out: spans. `stay` holds all others: `join` until media is connected (`signal` until the
//! participant is in the room, `media` from then on) and one `away` for each loss. Every span has the attribute `participant`
//! (`PA_…`), which the logs have too. A span leaves when it ends, so that of a call in progress all but `stay` are there.
//! Bounds: one entry for a participant that is in a room; the queue of [`export`]. Names of rooms and people are not among it.

pub(crate) mod export;

use std::collections::HashMap;
use std::time::Duration;

use rand::Rng;
use sfu_api::ParticipantId;
use signaling_api::reason::Fault;
use signaling_core::{Happening, Note, participant_sid};

use self::export::Exporter;

/// A span that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) trace: [u8; 16],
    pub(crate) id: [u8; 8],
    /// None: the root.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: &'static str,
    /// Since the Unix epoch.
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    /// `PA_…`.
    pub(crate) participant: String,
    /// Connection by which it joined, as in the logs.
    pub(crate) conn: u64,
    /// Word of a closed list.
    pub(crate) reason: Option<&'static str>,
    pub(crate) is_failure: bool,
}

/// See the module.
pub(crate) struct Traces {
    exporter: Exporter,
    stays: HashMap<ParticipantId, Stay>,
}

/// What is not over yet.
struct Stay {
    trace: [u8; 16],
    root: [u8; 8],
    /// Span of the join; None once it has ended.
    join: Option<[u8; 8]>,
    participant: String,
    conn: u64,
    asked: Duration,
    joined: Duration,
    lost: Option<(Duration, &'static str)>,
}

impl Stay {
    fn span(&self, id: [u8; 8], parent: Option<[u8; 8]>, name: &'static str, began: Duration, ended: Duration) -> Span {
        let (participant, conn) = (self.participant.clone(), self.conn);
        Span { trace: self.trace, id, parent, name, began, ended, participant, conn, reason: None, is_failure: false }
    }
}

impl Traces {
    pub(crate) fn new(exporter: Exporter) -> Self {
        Self { exporter, stays: HashMap::new() }
    }

    /// Something happened at this time. `asked`: when the request came that led to a join.
    pub(crate) fn note(&mut self, note: &Note, asked: Option<Duration>, now: Duration, rng: &mut impl Rng) {
        for span in self.spans(note, asked, now, rng) {
            self.exporter.send(span);
        }
    }

    fn spans(&mut self, note: &Note, asked: Option<Duration>, now: Duration, rng: &mut impl Rng) -> Vec<Span> {
        let id = note.participant;
        let mut new_id = || rng.next_u64().max(1).to_be_bytes();
        if let Happening::Joined { conn, .. } = &note.what {
            let mut trace = [0; 16];
            trace[..8].copy_from_slice(&new_id());
            trace[8..].copy_from_slice(&new_id());
            let join = new_id();
            let asked = asked.unwrap_or(now);
            let stay = Stay {
                trace,
                root: new_id(),
                join: Some(join),
                participant: participant_sid(id),
                conn: conn.0,
                asked,
                joined: now,
                lost: None,
            };
            let signal = stay.span(new_id(), Some(join), "signal", asked, now);
            self.stays.insert(id, stay);
            return vec![signal];
        }
        let Some(stay) = self.stays.get_mut(&id) else { return Vec::new() };
        let mut spans = Vec::new();
        match &note.what {
            Happening::Joined { .. } | Happening::Moved { .. } | Happening::Quality(_) => {}
            Happening::Lost { is_media } => stay.lost = stay.lost.or(Some((now, if *is_media { "media" } else { "signal" }))),
            Happening::Connected { .. } | Happening::Resumed { .. } | Happening::Ended { .. } => {
                let failure = match &note.what {
                    Happening::Ended { reason, .. } => Some(reason),
                    _ => None,
                };
                let is_connected = !matches!(note.what, Happening::Resumed { .. });
                if let Some(join) = stay.join.filter(|_| is_connected) {
                    stay.join = None;
                    spans.push(stay.span(new_id(), Some(join), "media", stay.joined, now));
                    spans.push(stay.span(join, Some(stay.root), "join", stay.asked, now));
                }
                if let Some((lost, what)) = stay.lost.take() {
                    spans.push(Span { reason: Some(what), ..stay.span(new_id(), Some(stay.root), "away", lost, now) });
                }
                if let Some(reason) = failure {
                    spans.push(stay.span(stay.root, None, "stay", stay.asked, now));
                    for span in &mut spans {
                        span.reason = Some(reason.as_str());
                        span.is_failure = reason.fault() == Fault::Failure;
                    }
                    self.stays.remove(&id);
                }
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use signaling_api::EndReason;
    use signaling_core::ConnId;

    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_secs(1_700_000_000) + Duration::from_millis(ms)
    }

    fn told(happened: Vec<(u64, Happening)>) -> Vec<Span> {
        let mut traces = Traces::new(Exporter::none());
        let mut rng = StdRng::seed_from_u64(1);
        let joined = Happening::Joined { conn: ConnId(5), room: "lobby".to_owned(), identity: "alice".to_owned() };
        let notes = [vec![(20, joined)], happened].concat();
        let note = |what| Note { participant: ParticipantId(7), what };
        let spans = notes.into_iter().flat_map(|(ms, what)| traces.spans(&note(what), Some(at(0)), at(ms), &mut rng)).collect();
        assert!(traces.stays.len() <= 1);
        spans
    }

    fn ended(reason: EndReason) -> Happening {
        Happening::Ended { reason, was_connected: true, after: Duration::ZERO }
    }

    #[test]
    fn a_stay_is_one_trace_from_the_request_to_the_end() {
        let connected = Happening::Connected { after: Duration::ZERO };
        let lost = Happening::Lost { is_media: true };
        let resumed = Happening::Resumed { conn: ConnId(6) };
        let spans = told(vec![(300, connected), (5000, lost.clone()), (5100, lost), (7000, resumed), (9000, ended(EndReason::ClientLeft))]);
        let seen: Vec<_> =
            spans.iter().map(|span| (span.name, (span.began - at(0)).as_millis(), (span.ended - at(0)).as_millis())).collect();
        assert_eq!(seen, [("signal", 0, 20), ("media", 20, 300), ("join", 0, 300), ("away", 5000, 7000), ("stay", 0, 9000)]);
        let id = |name: &str| spans.iter().find(|span| span.name == name).map(|span| span.id);
        let parents: Vec<_> = spans.iter().map(|span| span.parent).collect();
        assert_eq!(parents, [id("join"), id("join"), id("stay"), id("stay"), None]);
        assert!(
            spans
                .iter()
                .all(|span| span.trace == spans[0].trace && span.participant == participant_sid(ParticipantId(7)) && span.conn == 5)
        );
        assert_eq!((spans[4].reason, spans[4].is_failure), (Some("client-left"), false));
    }

    #[test]
    fn a_join_that_fails_says_why_in_every_span_that_ends_with_it() {
        let spans = told(vec![(10_000, ended(EndReason::IceNoPath))]);
        let seen: Vec<_> = spans.iter().map(|span| (span.name, span.reason, span.is_failure)).collect();
        let failed = |name| (name, Some("ice-no-path"), true);
        assert_eq!(seen, [("signal", None, false), failed("media"), failed("join"), failed("stay")]);
    }
}
