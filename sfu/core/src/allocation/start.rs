//! A way of which nothing is known: how long that counts, and what is sent meanwhile.
//!
//! In: whether its client can be probed, whether it has reported, whether everybody has what they want. Out: whether the
//! beginning goes on. While it does, each picture is sent in its least form at once, the first one whatever it costs and all
//! together up to [`LEAST_BPS`]; more follows as fast as probes show that it arrives: within some round trips.
//! A client that can't be probed (no transport-wide feedback, or no stream of retransmissions) has no such beginning: it gets
//! everything, until its own word (REMB) speaks against that. Neither has one that agreed to report and does not, after [`UNHEARD`].
//! Peers: libwebrtc begins with 300 kbit/s, mediasoup with 600 kbit/s (`initialAvailableOutgoingBitrate`); LiveKit has no limit
//! (`ChannelCapacityInfinity`).

use std::time::{Duration, Instant};

/// What may be sent before anything is known, in bits per second: libwebrtc's default start bitrate.
pub const START_BPS: u64 = 300_000;
/// Most that the least of all pictures may take before anything is known, audio included. For the quarter of a second until it is
/// known better, a queue of the usual length takes twice what a link of [`START_BPS`] carries.
pub const LEAST_BPS: u64 = 600_000;
/// After everybody has had everything for so long, the way carries it.
const PROVEN: Duration = Duration::from_secs(2);
/// Who has not reported after this does not report.
const UNHEARD: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    is_over: bool,
    is_unheard: bool,
    /// Since when something is sent.
    since: Option<Instant>,
    /// Since when everybody has everything.
    content_since: Option<Instant>,
}

impl Start {
    /// Whether little is known of the way. `is_probed`: its client can be probed; `is_heard`: it has reported.
    pub fn goes_on(&mut self, is_probed: bool, is_heard: bool, now: Instant) -> bool {
        self.is_unheard &= !is_heard;
        let lasts = |since: Option<Instant>, time| since.is_some_and(|since: Instant| now.saturating_duration_since(since) >= time);
        if self.is_over || !is_probed {
            return false;
        }
        self.is_unheard = !is_heard && lasts(self.since, UNHEARD);
        self.is_over = self.is_unheard || lasts(self.content_since, PROVEN);
        !self.is_over
    }

    /// What may be sent was divided anew. `has_video`: some of it is wanted; `has_everything`: nobody wants more of it; `is_sending`:
    /// something has been sent, of which the client may report.
    pub fn on_divided(&mut self, has_video: bool, has_everything: bool, is_sending: bool, now: Instant) {
        if has_video && is_sending {
            self.since.get_or_insert(now);
        }
        self.content_since = if has_video && has_everything { self.content_since.or(Some(now)) } else { None };
    }

    /// A limit of the way was seen.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// More than before is to be sent, which the way may not carry. False if its client does not say whether it does.
    pub fn begin_again(&mut self) -> bool {
        if !self.is_unheard {
            (self.is_over, self.content_since) = (false, None);
        }
        !self.is_unheard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn it_ends_when_everybody_has_had_everything_for_a_while() {
        let (mut start, began) = (Start::default(), Instant::now());
        for tenth in 0..50 {
            start.on_divided(true, tenth >= 5, true, began + TENTH * tenth);
            assert_eq!(start.goes_on(true, true, began + TENTH * tenth), tenth < 25, "{tenth}");
        }
        assert!(start.begin_again() && start.goes_on(true, true, began));
        start.end();
        assert!(!start.goes_on(true, true, began));
    }

    #[test]
    fn audio_alone_proves_nothing() {
        let (mut start, began) = (Start::default(), Instant::now());
        assert!((0..100).all(|tenth| {
            start.on_divided(false, true, true, began + TENTH * tenth);
            start.goes_on(true, false, began + TENTH * tenth)
        }));
    }

    #[test]
    fn who_can_not_be_probed_or_is_not_heard_has_none() {
        let (mut start, began) = (Start::default(), Instant::now());
        start.on_divided(true, false, true, began);
        assert!(!start.goes_on(false, true, began));
        assert!(start.goes_on(true, false, began + UNHEARD / 2) && !start.goes_on(true, false, began + UNHEARD));
        assert!(!start.begin_again() && !start.goes_on(true, false, began + UNHEARD));
        // Its reports were late.
        assert!(!start.goes_on(true, true, began + UNHEARD * 2) && start.begin_again() && start.goes_on(true, true, began + UNHEARD * 2));
    }

    #[test]
    fn nobody_has_to_report_on_what_was_not_sent() {
        let (mut start, began) = (Start::default(), Instant::now());
        start.on_divided(true, false, false, began);
        start.on_divided(true, false, true, began + UNHEARD * 2);
        assert!(start.goes_on(true, false, began + UNHEARD * 2) && !start.goes_on(true, false, began + UNHEARD * 3));
    }
}
