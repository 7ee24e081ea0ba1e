//! The wire between this server and the media nodes, whatever it is made of.

use std::fmt;

use sfu_api::{Command, Event};
use tokio::sync::mpsc;

/// Takes all of these to the node.
type Carry = dyn FnMut(&mut Vec<Command>) + Send;

/// Where commands go and events come from.
pub struct MediaLink {
    commands: Box<Carry>,
    pub(crate) events: mpsc::Receiver<Event>,
}

impl MediaLink {
    /// `commands` is called from the signaling loop with all commands that belong together, in their order, and takes them out. It
    /// must not block; what it does when a node is gone is its business.
    pub fn new(commands: impl FnMut(&mut Vec<Command>) + Send + 'static, events: mpsc::Receiver<Event>) -> Self {
        Self { commands: Box::new(commands), events }
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
