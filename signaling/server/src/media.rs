//! The wire between this server and the media nodes, whatever it is made of.

use std::fmt;
use std::sync::Arc;

use sfu_api::{Command, Event};
use tokio::sync::mpsc;

/// Takes all of these to the node.
type Carry = dyn FnMut(&mut Vec<Command>) + Send;

/// Whether the node turns.
pub(crate) type Pulse = Arc<dyn Fn() -> bool + Send + Sync>;

/// Where commands go and events come from.
pub struct MediaLink {
    commands: Box<Carry>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) pulse: Pulse,
}

impl MediaLink {
    /// `commands` is called from the signaling loop with all commands that belong together, in their order, and takes them out. It
    /// must not block; what it does when a node is gone is its business.
    pub fn new(commands: impl FnMut(&mut Vec<Command>) + Send + 'static, events: mpsc::Receiver<Event>) -> Self {
        Self { commands: Box::new(commands), events, pulse: Arc::new(|| true) }
    }

    /// `pulse` says whether the node turns; `/livez` asks it. It must not block. Without one a node is taken to turn as long as it
    /// has its end of the events.
    #[must_use]
    pub fn with_pulse(self, pulse: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { pulse: Arc::new(pulse), ..self }
    }

    pub(crate) fn command(&mut self, commands: &mut Vec<Command>) {
        if !commands.is_empty() {
            (self.commands)(commands);
            commands.clear();
        }
    }
}

impl fmt::Debug for MediaLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaLink").finish_non_exhaustive()
    }
}
