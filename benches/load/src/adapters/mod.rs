//! Servers under test: how a participant gets into a room of each kind of server.
//!
//! An [`Adapter`] speaks a server's signaling and nothing else: transports, media, feedback and measurement are the same for
//! all servers, behind [`MediaLink`]. What an adapter does for a participant:
//!
//! 1. open a transport ([`MediaLink::open`]): it has ICE credentials and a certificate's fingerprint;
//! 2. negotiate (with session descriptions: [`crate::sdp`]) and hand over what the server says:
//!    [`Transport::connect`](crate::media::link::Transport::connect), `add_candidate`;
//! 3. say what is sent and received: `send`, `receive`; both take the whole list each time, so that a renegotiation just repeats it;
//! 4. stay with the session (keep-alives, renegotiations) until the future is dropped.
//!
//! Clients are ICE controlling and DTLS clients always; every server here is or can be ICE-lite and DTLS server for that.

pub mod janus;
mod json_socket;
pub mod livekit;
pub mod mediasoup;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use crate::media::link::MediaLink;
use crate::plan::Participant;

/// A session's future: it ends with an error only, when the session could not be had or was lost. It is dropped at the end.
pub type Session = Pin<Box<dyn Future<Output = anyhow::Result<Infallible>> + Send>>;

/// What is done before the first participant joins.
pub type Preparation = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Signaling of one kind of server. One value serves all participants, so it may hold what they share.
pub trait Adapter: Send + Sync + 'static {
    /// The word for reports and for `--adapter`.
    fn name(&self) -> &'static str;

    /// Makes rooms of these names, where a server does not make them by itself. It is called until it succeeds while a server starts.
    fn prepare(self: Arc<Self>, rooms: Vec<String>) -> Preparation;

    /// Runs a participant's session.
    fn session(self: Arc<Self>, participant: Arc<Participant>, media: MediaLink) -> Session;
}
