//! The wire between this server and the media nodes, whatever it is made of.

use std::fmt;

use sfu_api::{Command, Event};
use tokio::sync::mpsc;

/// Where commands go and events come from.
pub struct MediaLink {
    commands: Box<dyn FnMut(Command) + Send>,
    pub(crate) events: mpsc::Receiver<Event>,
}

impl MediaLink {
    /// `commands` is called from the signaling loop and must not block; what it does when a node is gone is its business.
    pub fn new(commands: impl FnMut(Command) + Send + 'static, events: mpsc::Receiver<Event>) -> Self {
        Self { commands: Box::new(commands), events }
    }

    pub(crate) fn command(&mut self, command: Command) {
        (self.commands)(command);
    }
}

impl fmt::Debug for MediaLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaLink").finish_non_exhaustive()
    }
}
