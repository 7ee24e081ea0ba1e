//! What an adapter has of the media thread: transports of a participant, and what is sent and received on them.
//!
//! Orders go through a channel that the media thread empties once a millisecond; nothing here blocks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::Context as _;
use sfu_core::media::{Codec, Rid};
use sfu_core::transport::params::{Fingerprint, IceCredentials, RemoteParams};
pub use sfu_sim::sdp::Format;
use tokio::sync::oneshot;

use super::Look;
use crate::plan::Participant;

/// A transport's place in the media thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransportId(pub usize);

/// What a transport is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Media to the server (and from it, if there is one transport for both).
    Send,
    /// Media from the server alone: what a sink drops.
    Receive,
}

/// A track that is sent. SSRCs, payload types and ids of header extensions are those of [`crate::sdp`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendTrack {
    /// Value of the mid extension; empty: none is sent.
    pub mid: String,
    /// Opus, VP8 or H.264: which of the participant's sources it carries.
    pub codec: Codec,
    /// Payload type.
    pub payload_type: u8,
    /// Payload type of retransmissions; they are not sent without one.
    pub rtx_payload_type: Option<u8>,
    /// One for each encoding of the plan, in its order.
    pub encodings: Vec<SendEncoding>,
}

/// An encoding that is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendEncoding {
    /// Value of the rid extension.
    pub rid: Option<Rid>,
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: u32,
}

/// A track that is received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveTrack {
    /// Tells the tracks of a transport apart; a track that keeps its name keeps its statistics.
    pub name: String,
    /// Audio or video.
    pub codec: Codec,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// What payload types mean.
    pub formats: Vec<(u8, Format)>,
    /// Id of the extension for transport-wide congestion control; without it none is fed back.
    pub transport_cc: Option<u8>,
}

/// What a server says of its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    /// ICE credentials.
    pub ice: IceCredentials,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
}

/// An order to the media thread.
pub(crate) enum Order {
    Open {
        participant: usize,
        purpose: Purpose,
        has_data: bool,
        reply: oneshot::Sender<(TransportId, RemoteParams)>,
    },
    Connect {
        transport: TransportId,
        remote: Remote,
    },
    Candidate {
        transport: TransportId,
        address: SocketAddr,
    },
    WhenConnected {
        transport: TransportId,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Send {
        transport: TransportId,
        tracks: Vec<SendTrack>,
    },
    Receive {
        transport: TransportId,
        tracks: Vec<ReceiveTrack>,
    },
    /// A participant's session begins.
    Begin {
        participant: Arc<Participant>,
    },
    /// Sources send only a little, or all again.
    Idle(bool),
    /// What was measured; with `is_mark` latencies are counted anew from then on.
    Look {
        is_mark: bool,
        reply: oneshot::Sender<Box<Look>>,
    },
    Stop,
}

/// A participant's way to the media thread.
#[derive(Clone)]
pub struct MediaLink {
    participant: usize,
    orders: Sender<Order>,
}

/// One of a participant's transports.
pub struct Transport {
    id: TransportId,
    local: RemoteParams,
    orders: Sender<Order>,
}

impl MediaLink {
    pub(crate) fn new(participant: usize, orders: Sender<Order>) -> Self {
        Self { participant, orders }
    }

    /// Makes a transport with credentials and a certificate of its own. With `has_data` it begins an SCTP association once DTLS is up.
    ///
    /// # Errors
    /// If the media thread has ended.
    pub async fn open(&self, purpose: Purpose, has_data: bool) -> anyhow::Result<Transport> {
        let (reply, opened) = oneshot::channel();
        self.orders.send(Order::Open { participant: self.participant, purpose, has_data, reply }).context("the media thread has ended")?;
        let (id, local) = opened.await.context("the media thread has ended")?;
        Ok(Transport { id, local, orders: self.orders.clone() })
    }
}

impl Transport {
    /// What this side's description says.
    #[must_use]
    pub fn local(&self) -> &RemoteParams {
        &self.local
    }

    /// Takes the server's credentials. Checks begin with the first candidate. Saying the same again does nothing.
    pub fn connect(&self, remote: Remote) {
        self.order(Order::Connect { transport: self.id, remote });
    }

    /// Takes a UDP candidate of the server; one that is known already is ignored.
    pub fn add_candidate(&self, address: SocketAddr) {
        self.order(Order::Candidate { transport: self.id, address });
    }

    /// Returns when DTLS is up.
    ///
    /// # Errors
    /// If it can't be, or the media thread has ended.
    pub async fn connected(&self) -> anyhow::Result<()> {
        let (reply, connected) = oneshot::channel();
        self.order(Order::WhenConnected { transport: self.id, reply });
        connected.await.context("the media thread has ended")?.map_err(anyhow::Error::msg)
    }

    /// All that is sent on it. Sending begins when DTLS is up.
    pub fn send(&self, tracks: Vec<SendTrack>) {
        self.order(Order::Send { transport: self.id, tracks });
    }

    /// All that is received on it.
    pub fn receive(&self, tracks: Vec<ReceiveTrack>) {
        self.order(Order::Receive { transport: self.id, tracks });
    }

    fn order(&self, order: Order) {
        // Fails only at the end of the run, when nobody waits for what it does.
        let _ = self.orders.send(order);
    }
}
