//! How long the steps of a transport's beginning took: ICE, DTLS, the first packet of media.
//!
//! Invariant: each step is measured once for a transport, however often it reconnects.

use std::time::Instant;

use super::totals::Measured;
use crate::transport::TransportEvent;

/// When the steps were reached.
#[derive(Clone, Copy, Debug)]
pub struct Milestones {
    opened: Instant,
    path: Option<Instant>,
    keys: Option<Instant>,
    has_media: bool,
    /// An ICE restart was begun and has not led to a connection yet.
    is_restarting: bool,
}

impl Milestones {
    /// Of a transport that is opened now.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { opened: now, path: None, keys: None, has_media: false, is_restarting: false }
    }

    /// The transport has something to say, or was given something.
    pub fn look(&mut self, has_path: bool, now: Instant, measured: &mut Measured) {
        if has_path && self.path.is_none() {
            self.path = Some(now);
            measured.ice.observe_time(now.saturating_duration_since(self.opened));
        }
    }

    /// The transport says something.
    pub fn on_event(&mut self, event: &TransportEvent, now: Instant, measured: &mut Measured) {
        match event {
            TransportEvent::Connected { .. } if self.keys.is_none() => {
                self.keys = Some(now);
                measured.dtls.observe_time(now.saturating_duration_since(self.path.unwrap_or(now)));
            }
            TransportEvent::Recovered if std::mem::take(&mut self.is_restarting) => measured.ice_restarts[1] += 1,
            _ => {}
        }
    }

    /// The client's first packet of media came at this time; said again and again.
    pub fn on_media(&mut self, at: Instant, measured: &mut Measured) {
        if !std::mem::replace(&mut self.has_media, true)
            && let Some(keys) = self.keys
        {
            measured.first_rtp.observe_time(at.saturating_duration_since(keys));
        }
    }

    /// New ICE credentials.
    pub fn on_restart(&mut self, measured: &mut Measured) {
        self.is_restarting = true;
        measured.ice_restarts[0] += 1;
    }
}
