//! A door for `sfu/fuzz` to the data channels, which have DTLS around them otherwise. Nothing else goes through it.

use std::time::Instant;

use sfu_api::Delivery;

use super::sctp::{DataChannels, DataError, DataEvent};
use crate::error::Discard;

/// The data channels of a transport, without their encryption.
pub struct RawDataChannels(DataChannels);

impl RawDataChannels {
    /// Waits for the client's INIT; `opens_channels` as a subscriber's transport does.
    #[must_use]
    pub fn new(opens_channels: bool) -> Self {
        let mut channels = DataChannels::new();
        if opens_channels {
            channels.open_when_ready();
        }
        Self(channels)
    }

    /// Takes an SCTP packet.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn handle(&mut self, now: Instant, packet: &[u8]) -> Result<(), Discard> {
        self.0.handle(now, packet)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    /// What is to be sent.
    pub fn packets(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.0.drain_packets(now, |packet| packets.push(packet.to_vec()));
        packets
    }

    /// What the client sent on channels that mean something.
    pub fn messages(&mut self) -> Vec<(Delivery, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Some(event) = self.0.poll_event() {
            if let DataEvent::Message(delivery, message) = event {
                messages.push((delivery, message));
            }
        }
        messages
    }

    /// Queues a message.
    ///
    /// # Errors
    /// Why not.
    pub fn send(&mut self, now: Instant, delivery: Delivery, payload: &[u8]) -> Result<(), DataError> {
        self.0.send(now, delivery, payload)
    }
}
