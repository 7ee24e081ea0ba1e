//! The way between two shards that share rooms: a ring of bytes in each direction.
//!
//! Each ring has one writer and one reader, is bounded, and is written and read without a lock: frames of the engine's envelope
//! ([`sfu_core::relay`]) go in whole and come out whole. What finds no room is the engine's matter. A shard that sleeps is woken
//! by a bell; one that is awake looks at its rings in every turn anyway, so that a busy node rings no bells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::Waker;
use rtrb::{Consumer, Producer, RingBuffer};
use sfu_core::relay::LinkId;

/// Bytes of one ring: what comes in a few milliseconds at 1 Gbit/s, about as long as a turn of a busy shard takes.
const RING_BYTES: usize = 1024 * 1024;

/// Wakes a shard that sleeps.
pub(crate) struct Bell {
    is_asleep: AtomicBool,
    waker: Arc<Waker>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { is_asleep: AtomicBool::new(false), waker }
    }

    /// Something was put into a ring.
    fn ring(&self) {
        // Either the sleeper's look at the ring sees what was written before this, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // Fails only when the counter of the eventfd is at its limit, and then the thread is awake already.
            let _ = self.waker.wake();
        }
    }

    /// The shard is about to sleep, unless a look at its rings after this finds something.
    pub(crate) fn fall_asleep(&self) {
        self.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}

/// One end of the way between two shards.
pub(crate) struct Lane {
    /// The other shard.
    pub(crate) link: LinkId,
    to: Producer<u8>,
    from: Consumer<u8>,
    bell: Arc<Bell>,
    /// Joins what lies at the end and at the beginning of the ring.
    joined: Vec<u8>,
}

impl Lane {
    /// Both ends: the one that the first shard gets, and the second.
    pub(crate) fn pair(first: (LinkId, &Arc<Bell>), second: (LinkId, &Arc<Bell>)) -> (Self, Self) {
        let (there, here) = (RingBuffer::new(RING_BYTES), RingBuffer::new(RING_BYTES));
        let end = |(link, bell): (LinkId, &Arc<Bell>), to, from| Self { link, to, from, bell: Arc::clone(bell), joined: Vec::new() };
        (end(second, there.0, here.1), end(first, here.0, there.1))
    }

    /// Nothing has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Bytes that find room.
    pub(crate) fn room(&self) -> usize {
        self.to.slots()
    }

    /// Puts whole frames into the ring; false if there is no room for all of them.
    pub(crate) fn send(&mut self, frames: &[u8]) -> bool {
        let is_sent = self.to.push_entire_slice(frames).is_ok();
        self.bell.ring();
        is_sent
    }

    /// Takes the whole frames that have come.
    pub(crate) fn receive(&mut self, take: impl FnOnce(&[u8])) {
        let Ok(chunk) = self.from.read_chunk(self.from.slots()) else { return };
        let (head, tail) = chunk.as_slices();
        if tail.is_empty() {
            take(head);
        } else {
            self.joined.clear();
            self.joined.extend_from_slice(head);
            self.joined.extend_from_slice(tail);
            take(&self.joined);
        }
        chunk.commit_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bell() -> (mio::Poll, Arc<Bell>) {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        (poll, Arc::new(Bell::new(waker)))
    }

    #[test]
    fn what_is_sent_comes_out_whole_and_in_order_across_the_end_of_the_ring() {
        let ((_a, first), (_b, second)) = (bell(), bell());
        let (mut here, mut there) = Lane::pair((LinkId(0), &first), (LinkId(1), &second));
        assert_eq!((here.link, there.link), (LinkId(1), LinkId(0)));
        for number in 0..5_000_u32 {
            let frames = number.to_be_bytes().repeat(251);
            assert!(here.send(&frames) && !there.is_empty());
            let mut got = Vec::new();
            there.receive(|bytes| got.extend_from_slice(bytes));
            assert!(got == frames && there.is_empty(), "{number}");
        }
    }

    #[test]
    fn what_finds_no_room_is_not_sent_in_part() {
        let ((_a, first), (_b, second)) = (bell(), bell());
        let (mut here, mut there) = Lane::pair((LinkId(0), &first), (LinkId(1), &second));
        assert!(here.send(&vec![1; RING_BYTES - 1]));
        assert_eq!(here.room(), 1);
        assert!(!here.send(&[2, 2]));
        there.receive(|bytes| assert!(bytes.len() == RING_BYTES - 1 && bytes.iter().all(|&byte| byte == 1)));
        assert!(here.send(&[2, 2]));
    }

    #[test]
    fn the_bell_wakes_who_sleeps_and_nobody_else() {
        let ((_a, first), (mut poll, second)) = (bell(), bell());
        let (mut here, _there) = Lane::pair((LinkId(0), &first), (LinkId(1), &second));
        let mut events = mio::Events::with_capacity(1);
        let mut woken = |poll: &mut mio::Poll| {
            poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        here.send(&[1]);
        assert!(!woken(&mut poll));
        second.fall_asleep();
        here.send(&[1]);
        assert!(woken(&mut poll));
        second.wake_up();
        here.send(&[1]);
        assert!(!woken(&mut poll));
    }

    /// Two threads: nothing is lost, and nobody sleeps over it.
    #[test]
    fn a_reader_that_sleeps_when_there_is_nothing_gets_everything() {
        const COUNT: u32 = 200_000;
        let ((_a, first), (mut poll, second)) = (bell(), bell());
        let (mut here, mut there) = Lane::pair((LinkId(0), &first), (LinkId(1), &second));
        let writer = std::thread::spawn(move || {
            for number in 0..COUNT {
                while !here.send(&number.to_be_bytes()) {
                    std::thread::yield_now();
                }
            }
        });
        let mut events = mio::Events::with_capacity(1);
        let mut expected = 0;
        while expected < COUNT {
            second.fall_asleep();
            if there.is_empty() {
                poll.poll(&mut events, Some(std::time::Duration::from_secs(60))).unwrap();
                assert!(!events.is_empty(), "slept over {expected}");
            }
            second.wake_up();
            there.receive(|bytes| {
                for number in bytes.chunks(4) {
                    assert_eq!(number, expected.to_be_bytes());
                    expected += 1;
                }
            });
        }
        writer.join().unwrap();
    }
}
