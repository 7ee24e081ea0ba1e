//! A TURN server without sockets (RFC 8656, with RFC 6062 and the server's side of RFC 8489 and RFC 5780).
//!
//! In: packets of clients and peers, the time, and what became of sockets that were asked for. Out: where a payload goes
//! ([`Forward`], [`ToClient`]) and what else is to be done ([`Output`]). Data is not copied here: what comes out are ranges of what
//! came in. Start at [`server`], which routes; each part has its own file.
//!
//! Invariants: nothing is sent to a peer that [`policy`] does not allow; nothing is kept for a client that has not proved to
//! know a password; every table has a bound in [`limits`].

mod allocation;
pub mod bandwidth;
pub mod client;
pub mod counters;
pub mod credentials;
pub mod limits;
mod nonce;
pub mod policy;
mod ports;
mod quota;
pub mod server;
mod streams;
mod throttle;
pub mod wire;

pub use allocation::{Family, RelayProtocol};
pub use server::{Admission, Client, Config, Denial, Forward, Moment, Output, RelayId, ToClient, Transport, TurnServer};
pub use streams::ConnectionId;
pub use throttle::one_customer;
