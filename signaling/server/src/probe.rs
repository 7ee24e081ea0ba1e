//! A participant that asks what a real client would be told: for `sluice doctor`.
//!
//! In: a connected stream, a token. Out: the server's first offer with the ICE servers that it names. Blocking; the stream's own
//! timeouts bound every wait.

use std::fmt;
use std::io::{Read, Write};

use livekit_protocol::{
    DisconnectReason, LeaveRequest, SessionDescription, SignalRequest, SignalResponse, signal_request, signal_response,
};
use prost::Message as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Error, Message, WebSocket};

/// Messages that may come before the offer.
const PATIENCE: usize = 50;

/// What a client is told when it joins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offered {
    /// The server's offer for what it sends.
    pub sdp: String,
    /// To be echoed.
    pub id: u32,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server as clients are told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IceServer {
    /// `turn:host:port?transport=udp` and so on.
    pub urls: Vec<String>,
    /// Empty for STUN.
    pub username: String,
    /// Empty for STUN.
    pub credential: String,
}

/// Why there is no offer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The server answered with this HTTP status.
    #[error("the server answers {0}")]
    Refused(u16),
    /// The server said goodbye.
    #[error("the server says {0}")]
    Dismissed(&'static str),
    /// It is no WebSocket, it broke, or nothing came in time.
    #[error("the WebSocket broke: {0}")]
    Broken(Box<Error>),
    /// Something else came, again and again.
    #[error("no offer came")]
    NoOffer,
}

impl From<Error> for ProbeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(response) => Self::Refused(response.status().as_u16()),
            error => Self::Broken(Box::new(error)),
        }
    }
}

/// A participant.
pub struct Probe<S>(WebSocket<S>);

impl<S: Read + Write> Probe<S> {
    /// Joins with a token; `authority` is the host and port of the URL.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn join(stream: S, authority: &str, token: &str) -> Result<Self, ProbeError> {
        // protocol 16: two peer connections, the server offers first
        let url = format!("ws://{authority}/rtc?access_token={token}&protocol=16&auto_subscribe=0&sdk=doctor");
        let (socket, _) = tungstenite::client(url.as_str(), stream).map_err(|error| match error {
            HandshakeError::Failure(error) => ProbeError::from(error),
            HandshakeError::Interrupted(_) => ProbeError::NoOffer,
        })?;
        Ok(Self(socket))
    }

    /// Waits for the server's offer.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn offer(&mut self) -> Result<Offered, ProbeError> {
        let mut ice_servers = Vec::new();
        for _ in 0..PATIENCE {
            let Message::Binary(payload) = self.0.read()? else { continue };
            match SignalResponse::decode(payload).ok().and_then(|response| response.message) {
                Some(signal_response::Message::Join(join)) => {
                    let server = |server: livekit_protocol::IceServer| IceServer {
                        urls: server.urls,
                        username: server.username,
                        credential: server.credential,
                    };
                    ice_servers = join.ice_servers.into_iter().map(server).collect();
                }
                Some(signal_response::Message::Offer(offer)) => return Ok(Offered { sdp: offer.sdp, id: offer.id, ice_servers }),
                Some(signal_response::Message::Leave(leave)) => return Err(ProbeError::Dismissed(word(&leave))),
                _ => {}
            }
        }
        Err(ProbeError::NoOffer)
    }

    /// Answers the offer.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn answer(&mut self, id: u32, sdp: String) -> Result<(), ProbeError> {
        let answer = SessionDescription { r#type: "answer".to_owned(), sdp, id, ..SessionDescription::default() };
        self.send(signal_request::Message::Answer(answer))
    }

    /// Says goodbye, so that the room closes.
    pub fn leave(mut self) {
        let leave = LeaveRequest { reason: DisconnectReason::ClientInitiated.into(), ..LeaveRequest::default() };
        // whoever is gone already needs no goodbye
        let _ = self.send(signal_request::Message::Leave(leave));
        let _ = self.0.close(None);
    }

    fn send(&mut self, message: signal_request::Message) -> Result<(), ProbeError> {
        let payload = SignalRequest { message: Some(message) }.encode_to_vec();
        Ok(self.0.send(Message::binary(payload))?)
    }
}

impl<S> fmt::Debug for Probe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

fn word(leave: &LeaveRequest) -> &'static str {
    leave.reason().as_str_name()
}
