//! What waits to cross one link, in order, and what gives way when there is no room.
//!
//! In: frames, each with its worth. Out: bytes for the owner, who knows how much room the link has. Invariants: order is kept;
//! what must arrive is kept until there is room for it; media and levels are dropped when there is none, and whose they were
//! is remembered, because a torn encoding needs a keyframe.

use super::message::Message;
use crate::ids::UpKey;

/// Room that media leaves to what must arrive (bytes): some hundred announcements of tracks.
pub const RESERVE: usize = 64 * 1024;
/// Bytes of frames that must arrive and find no room; the link leads to nobody who reads, so further ones are lost and counted.
const MAX_PENDING: usize = 4 * 1024 * 1024;

/// What becomes of a frame that finds no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Worth {
    /// It waits.
    Needed,
    /// It is dropped; nobody can tell.
    Fleeting,
    /// It is dropped, and the encoding is torn.
    Media(UpKey, u8),
}

/// See the module.
#[derive(Debug, Default)]
pub struct RelayOutbox {
    bytes: Vec<u8>,
    frames: Vec<(u32, Worth)>,
    torn: Vec<(UpKey, u8)>,
    dropped: u64,
}

impl RelayOutbox {
    /// Something that must arrive.
    pub(crate) fn push(&mut self, message: &Message<'_>) {
        if self.bytes.len() > MAX_PENDING {
            self.dropped += 1;
            return;
        }
        self.add(message, Worth::Needed);
    }

    /// Something that is worth something only at once.
    pub(crate) fn push_fleeting(&mut self, message: &Message<'_>) {
        self.add(message, Worth::Fleeting);
    }

    /// A packet of an encoding of a track that is published here.
    pub(crate) fn push_media(&mut self, message: &Message<'_>, up: UpKey, encoding: u8) {
        self.add(message, Worth::Media(up, encoding));
    }

    fn add(&mut self, message: &Message<'_>, worth: Worth) {
        let len = message.write(&mut self.bytes);
        self.frames.push((u32::try_from(len).unwrap_or(u32::MAX), worth));
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What to put on the link, which has room for so many bytes. To be followed by [`Self::sent`].
    pub fn prepare(&mut self, room: usize) -> &[u8] {
        let has_room = if self.frames.iter().all(|(_, worth)| *worth == Worth::Needed) { room } else { room.saturating_sub(RESERVE) };
        let len = if self.bytes.len() <= has_room { self.bytes.len() } else { self.give_way(room) };
        &self.bytes[..len]
    }

    /// What was prepared is on the link.
    pub fn sent(&mut self, len: usize) {
        if len == self.bytes.len() {
            self.bytes.clear();
            self.frames.clear();
            return;
        }
        self.bytes.drain(..len);
        let mut left = len;
        let gone = self.frames.iter().take_while(|(frame, _)| {
            let is_gone = left > 0;
            left = left.saturating_sub(*frame as usize);
            is_gone
        });
        let gone = gone.count();
        self.frames.drain(..gone);
    }

    /// Frames that were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// An encoding of which packets were dropped since the last call.
    pub(crate) fn take_torn(&mut self) -> Option<(UpKey, u8)> {
        self.torn.pop()
    }

    /// Drops what may be dropped and does not fit. Returns how many bytes fit; behind them is what waits.
    fn give_way(&mut self, room: usize) -> usize {
        let (mut at, mut end, mut fitting) = (0, 0, 0);
        let mut is_full = false;
        let Self { bytes, frames, torn, dropped } = self;
        frames.retain(|&(len, worth)| {
            let len = len as usize;
            let start = at;
            at += len;
            let limit = if worth == Worth::Needed { room } else { room.saturating_sub(RESERVE) };
            let fits = !is_full && end + len <= limit;
            if !fits && worth != Worth::Needed {
                *dropped += 1;
                if let Worth::Media(up, encoding) = worth
                    && !torn.contains(&(up, encoding))
                {
                    torn.push((up, encoding));
                }
                return false;
            }
            is_full |= !fits;
            bytes.copy_within(start..at, end);
            end += len;
            if fits {
                fitting = end;
            }
            true
        });
        bytes.truncate(end);
        fitting
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sfu_api::{RoomId, TrackId};

    use super::*;
    use crate::relay::message::split_frame;

    fn needed(room: u64) -> Message<'static> {
        Message::Detach { room: RoomId(room) }
    }

    fn media(outbox: &mut RelayOutbox, len: usize) {
        let bytes = vec![0; len];
        outbox.push_media(&Message::DataPacket { track: TrackId(0), bytes: &bytes }, UpKey::default(), 1);
    }

    /// Takes what fits into so many bytes; rooms of the needed ones, and packets.
    fn take(outbox: &mut RelayOutbox, room: usize) -> (Vec<u64>, usize) {
        let bytes = outbox.prepare(room).to_vec();
        outbox.sent(bytes.len());
        let (mut rooms, mut packets, mut rest) = (Vec::new(), 0, &bytes[..]);
        while let Some((frame, tail)) = split_frame(rest) {
            match Message::parse(frame).unwrap() {
                Message::Detach { room } => rooms.push(room.0),
                _ => packets += 1,
            }
            rest = tail;
        }
        assert!(rest.is_empty() && bytes.len() <= room);
        (rooms, packets)
    }

    #[test]
    fn everything_crosses_while_there_is_room() {
        let mut outbox = RelayOutbox::default();
        outbox.push(&needed(1));
        media(&mut outbox, 1000);
        outbox.push(&needed(2));
        assert_eq!(take(&mut outbox, 2 * RESERVE), (vec![1, 2], 1));
        assert!(outbox.is_empty() && outbox.dropped() == 0);
    }

    #[test]
    fn media_gives_way_and_leaves_room_for_what_must_arrive() {
        let mut outbox = RelayOutbox::default();
        for room in 0..10 {
            (0..10).for_each(|_| media(&mut outbox, 1000));
            outbox.push(&needed(room));
        }
        let (rooms, packets) = take(&mut outbox, RESERVE + 20_000);
        assert_eq!(rooms, (0..10).collect::<Vec<_>>());
        assert!((18..20).contains(&packets), "{packets}");
        assert_eq!(outbox.dropped(), 100 - packets as u64);
        assert_eq!((outbox.take_torn(), outbox.take_torn()), (Some((UpKey::default(), 1)), None));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_must_arrive_waits_in_order() {
        let mut outbox = RelayOutbox::default();
        (0..5).for_each(|room| outbox.push(&needed(room)));
        media(&mut outbox, 10);
        let frame = 4 + 1 + 8;
        assert_eq!(take(&mut outbox, 2 * frame + 1), (vec![0, 1], 0));
        outbox.push(&needed(5));
        assert_eq!(take(&mut outbox, 0), (vec![], 0));
        assert_eq!(take(&mut outbox, 3 * frame), (vec![2, 3, 4], 0));
        assert_eq!(take(&mut outbox, usize::MAX), (vec![5], 0));
        assert_eq!(outbox.dropped(), 1);
    }

    #[test]
    fn a_link_that_nobody_reads_costs_a_bounded_amount_of_memory() {
        let mut outbox = RelayOutbox::default();
        (0..1_000_000).for_each(|room| outbox.push(&needed(room)));
        assert!(outbox.bytes.len() < MAX_PENDING + 100 && outbox.dropped() > 0);
    }
}
