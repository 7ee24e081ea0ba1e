//! What other threads send to a shard: orders in, the same orders in the same order out, in the shard's loop.
//!
//! Invariants: sending never blocks; every kind of order has places and bytes of its own, so that a flood of one leaves room for the
//! others; what ends something is never refused, and there can be no more of that than was begun. Not here: what orders do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use mio::Waker;
use sfu_api::Command;

use crate::control::{CommandError, Share};
use crate::lanes::{Bell, Lane};
use crate::net::accept::Handover;

/// What other threads send to a shard.
pub(crate) enum Order {
    Command(Command),
    /// Boxed: rare, and larger than a command.
    Connection(Box<Handover>),
    /// A way to another shard.
    Lane(Box<Lane>),
    /// A command that puts somebody into a room that other shards have.
    Share(Box<Sharing>),
    Stop,
}

/// What a shard has to know of a room that others have, with the command for which it has to know it.
pub(crate) struct Sharing {
    /// Ways to those of the others to which it had none.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) share: Share,
    pub(crate) command: Command,
}

/// Kinds of orders that share places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Ends what an order of another kind began, so there is a bound without one here.
    Ending,
    /// Costs next to nothing and takes something back: mutes, subscriptions that end.
    Small,
    /// Costs up to a millisecond, and may have a session description of a megabyte.
    Work,
    /// Messages of participants.
    Data,
    /// TCP connections.
    Connection,
}

impl Kind {
    const COUNT: usize = 5;

    /// Orders and bytes that may wait.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Ending => (usize::MAX, usize::MAX),
            Self::Small => (65_536, usize::MAX),
            Self::Work => (16_384, 64 << 20),
            Self::Data => (4_096, 64 << 20),
            Self::Connection => (4_096, usize::MAX),
        }
    }

    fn of(order: &Order) -> (Self, usize) {
        match order {
            Order::Command(command) => Self::of_command(command),
            Order::Share(sharing) => Self::of_command(&sharing.command),
            Order::Connection(_) => (Self::Connection, 0),
            Order::Lane(_) | Order::Stop => (Self::Ending, 0),
        }
    }

    fn of_command(command: &Command) -> (Self, usize) {
        match command {
            Command::Leave { .. } | Command::Unpublish { .. } | Command::UnpublishData { .. } => (Self::Ending, 0),
            Command::SetMuted { .. }
            | Command::Unsubscribe { .. }
            | Command::UnsubscribeData { .. }
            | Command::PreferTcp { .. }
            | Command::SetPlayoutDelay { .. } => (Self::Small, 0),
            Command::Offer { sdp, .. } | Command::Answer { sdp, .. } => (Self::Work, sdp.len()),
            Command::SendData { to, payload, .. } => (Self::Data, payload.len() + size_of_val(to.as_slice())),
            _ => (Self::Work, 0),
        }
    }
}

/// What waits of one kind.
#[derive(Default)]
struct Waiting {
    orders: AtomicUsize,
    bytes: AtomicUsize,
}

type Account = Arc<[Waiting; Kind::COUNT]>;

fn release(account: &Account, kind: Kind, bytes: usize) {
    let waiting = &account[kind as usize];
    waiting.orders.fetch_sub(1, Ordering::Relaxed);
    waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
}

/// Sends orders to a shard and wakes it.
#[derive(Clone)]
pub(crate) struct Mailbox {
    orders: Sender<Order>,
    account: Account,
    waker: Arc<Waker>,
    /// Something was posted for which nobody has woken the shard yet.
    has_posted: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

/// The receiving end.
pub(crate) struct Orders {
    queue: Receiver<Order>,
    account: Account,
    /// The waker was seen since the queue was empty.
    pub(crate) has_more: bool,
    /// Held so that a wake-up outlives the mailbox that it came from: closing the waker would take it back.
    _waker: Arc<Waker>,
}

/// A mailbox that wakes by `waker`, with its receiving end.
pub(crate) fn open(waker: Arc<Waker>, bell: Arc<Bell>) -> (Mailbox, Orders) {
    let (sender, queue) = std::sync::mpsc::channel();
    let account = Account::default();
    let orders = Orders { queue, account: Arc::clone(&account), has_more: false, _waker: Arc::clone(&waker) };
    (Mailbox { orders: sender, account, waker, has_posted: Arc::default(), bell }, orders)
}

impl Mailbox {
    /// Wakes the shard for what came by a lane.
    pub(crate) const fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Never blocks.
    pub(crate) fn send(&self, order: Order) -> Result<(), CommandError> {
        let result = self.post(order);
        self.wake();
        result
    }

    /// Wakes the shard if something was posted since it was last woken.
    pub(crate) fn wake(&self) {
        if self.has_posted.swap(false, Ordering::AcqRel) {
            // Fails only when the counter of the eventfd is at its limit, and then the thread is awake already.
            let _ = self.waker.wake();
        }
    }

    /// As [`Self::send`], but the shard may sleep on until [`Self::wake`]. A wake-up is a system call, and a shard that wakes for each
    /// of several orders does for each what it could do once.
    pub(crate) fn post(&self, order: Order) -> Result<(), CommandError> {
        let (kind, bytes) = Kind::of(&order);
        let (most_orders, most_bytes) = kind.bounds();
        let waiting = &self.account[kind as usize];
        // Counted before it can be taken, so that the counts never fall below zero.
        let orders_before = waiting.orders.fetch_add(1, Ordering::Relaxed);
        let bytes_before = waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if orders_before >= most_orders || bytes_before.saturating_add(bytes) > most_bytes {
            Err(CommandError::Overloaded)
        } else {
            self.orders.send(order).map_err(|_| CommandError::Stopped)
        };
        sent.inspect_err(|_| release(&self.account, kind, bytes))?;
        self.has_posted.store(true, Ordering::Release);
        Ok(())
    }

    /// Stops the shard behind everything that was sent before.
    pub(crate) fn stop(&self) {
        // An error means that it has stopped.
        let _ = self.send(Order::Stop);
    }
}

impl Orders {
    /// The next one, if one waits. Fails if there is none and can't be one any more.
    pub(crate) fn take(&mut self) -> Result<Option<Order>, CommandError> {
        match self.queue.try_recv() {
            Ok(order) => {
                let (kind, bytes) = Kind::of(&order);
                release(&self.account, kind, bytes);
                Ok(Some(order))
            }
            Err(TryRecvError::Empty) => {
                self.has_more = false;
                Ok(None)
            }
            Err(TryRecvError::Disconnected) => Err(CommandError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mio::{Poll, Token};
    use sfu_api::ParticipantId;

    use super::*;

    const ALICE: ParticipantId = ParticipantId(1);

    fn mailbox() -> (Mailbox, Orders, Poll) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, orders) = open(Arc::clone(&waker), Arc::new(Bell::new(waker)));
        (mailbox, orders, poll)
    }

    fn offer(len: usize) -> Order {
        Order::Command(Command::Offer { participant: ALICE, id: 1, sdp: "x".repeat(len) })
    }

    fn leave() -> Order {
        Order::Command(Command::Leave { participant: ALICE })
    }

    #[test]
    fn a_flood_of_work_is_refused_and_what_ends_something_is_not() {
        let (mailbox, mut orders, _poll) = mailbox();
        let (most, _) = Kind::Work.bounds();
        for _ in 0..most {
            mailbox.send(offer(10)).unwrap();
        }
        assert_eq!(mailbox.send(offer(10)), Err(CommandError::Overloaded));
        for _ in 0..most {
            mailbox.send(leave()).unwrap();
        }
        assert!(matches!(orders.take(), Ok(Some(Order::Command(Command::Offer { .. })))));
        mailbox.send(offer(10)).unwrap();
        assert_eq!(mailbox.send(offer(10)), Err(CommandError::Overloaded));
        let mut taken = 0;
        while orders.take().unwrap().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 2 * most);
    }

    #[test]
    fn few_large_descriptions_are_a_flood_too() {
        let (mailbox, mut orders, _poll) = mailbox();
        for _ in 0..64 {
            mailbox.send(offer(1 << 20)).unwrap();
        }
        assert_eq!(mailbox.send(offer(1)), Err(CommandError::Overloaded));
        orders.take().unwrap();
        mailbox.send(offer(1 << 20)).unwrap();
    }

    #[test]
    fn without_a_receiver_everything_is_refused() {
        let (mailbox, orders, _poll) = mailbox();
        drop(orders);
        assert_eq!(mailbox.send(leave()), Err(CommandError::Stopped));
    }
}
