//! What other threads ask of the loop.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::ServerConnection;
use turn_proto::{Admission, Moment};

use super::EventLoop;

/// What other threads send.
pub(crate) enum Order {
    /// A client's connection that was accepted elsewhere.
    Adopt(Box<Adopted>),
    /// Who gets new allocations from here on.
    Admit(Admission),
    /// No new allocations; the loop ends with the last one, or at this time.
    Drain(Instant),
    Stop,
}

/// Credentials of this name are refused from here on, and forgotten at this time since 1970.
pub(crate) struct Revocation {
    pub(crate) name: String,
    pub(crate) forget_at: Duration,
}

/// A connection that was accepted elsewhere.
pub(crate) struct Adopted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) tls: Option<Box<ServerConnection>>,
    pub(crate) begun: Vec<u8>,
}

impl EventLoop {
    /// False: the loop is to stop.
    pub(super) fn take_orders(&mut self, at: Moment) -> bool {
        self.has_orders = false;
        let revocations = std::mem::take(&mut *self.revocations.lock().unwrap_or_else(PoisonError::into_inner));
        for Revocation { name, forget_at } in revocations {
            self.core.revoke(at, &name, forget_at);
        }
        loop {
            match self.orders.try_recv() {
                Ok(Order::Adopt(adopted)) => {
                    let Adopted { stream, tls, begun } = *adopted;
                    self.streams.admit(TcpStream::from_std(stream), tls, begun, at.now, self.poll.registry());
                }
                Ok(Order::Admit(admission)) => self.admit(admission),
                Ok(Order::Drain(until)) => {
                    self.admit(Admission::Nobody);
                    self.drain_until = Some(until);
                }
                Ok(Order::Stop) => return false,
                // whoever held the handle is gone: the server goes on without it
                Err(_) => return true,
            }
        }
    }

    fn admit(&mut self, admission: Admission) {
        self.is_draining = admission != Admission::Everybody;
        self.core.admit(admission);
    }
}
