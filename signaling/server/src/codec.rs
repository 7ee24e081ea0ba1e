//! Signaling messages as WebSocket frames: protobuf in binary frames, protobuf's JSON form in text frames.
//!
//! A connection is answered in the form that it last used, as LiveKit's server does; until it has used one, in binary.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes};
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;
use signaling_core::Welcome;

use crate::holdings::Held;

/// Form of the messages of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    /// Binary frames.
    Protobuf,
    /// Text frames.
    Json,
}

impl Encoding {
    /// The word for metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        }
    }

    /// Decodes a frame's payload. None: it is not a signaling message.
    pub(crate) fn decode(self, payload: &[u8]) -> Option<SignalRequest> {
        match self {
            Self::Protobuf => SignalRequest::decode(payload).ok(),
            Self::Json => serde_json::from_slice(payload).ok(),
        }
    }
}

/// A message to one client or many: encoded at most once in each form, by the first socket task that needs it.
pub(crate) struct Response {
    message: Box<SignalResponse>,
    /// The message is a part of what is encoded.
    is_abridged: bool,
    size: usize,
    protobuf: OnceLock<Bytes>,
    json: OnceLock<Option<Utf8Bytes>>,
    /// Of a large one: as long as it waits or is being written.
    held: Option<Arc<Held>>,
}

impl Response {
    /// Not yet encoded.
    pub(crate) fn new(message: Box<SignalResponse>) -> Self {
        Self { size: message.encoded_len(), message, is_abridged: false, protobuf: OnceLock::new(), json: OnceLock::new(), held: None }
    }

    /// To a newcomer.
    pub(crate) fn welcome(welcome: Welcome) -> Self {
        let (message, encoded) = welcome.into_parts();
        let size = encoded.len();
        Self { message, is_abridged: true, size, protobuf: OnceLock::from(Bytes::from(encoded)), json: OnceLock::new(), held: None }
    }

    /// What is to be encoded; of a welcome the part that says what it is.
    pub(crate) fn message(&self) -> &SignalResponse {
        &self.message
    }

    /// It counts until all to whom it goes have it.
    pub(crate) fn count(&mut self, held: Held) {
        self.held = Some(Arc::new(held));
    }

    /// What counts, if it is large.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.clone()
    }

    /// Bytes in its protobuf form.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// As a frame. None: it has no JSON form.
    pub(crate) fn frame(&self, encoding: Encoding) -> Option<Message> {
        match encoding {
            Encoding::Protobuf => Some(Message::Binary(self.in_protobuf().clone())),
            Encoding::Json => self.json.get_or_init(|| self.in_json().map(Utf8Bytes::from)).clone().map(Message::Text),
        }
    }

    fn in_protobuf(&self) -> &Bytes {
        self.protobuf.get_or_init(|| self.message.encode_to_vec().into())
    }

    fn in_json(&self) -> Option<String> {
        let whole = self.is_abridged.then(|| SignalResponse::decode(self.in_protobuf().as_ref())).transpose().ok()?;
        serde_json::to_string(whole.as_ref().unwrap_or(&self.message)).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use livekit_protocol::{Pong, signal_request, signal_response};

    #[test]
    fn json_has_the_names_of_protobufs_json_form() {
        let request = Encoding::Json.decode(br#"{"pingReq":{"timestamp":"12","rtt":"3"}}"#).unwrap();
        let Some(signal_request::Message::PingReq(ping)) = request.message else { panic!("{request:?}") };
        assert_eq!((ping.timestamp, ping.rtt), (12, 3));

        let pong = signal_response::Message::PongResp(Pong { last_ping_timestamp: 12, timestamp: 13 });
        let response = Response::new(Box::new(SignalResponse { message: Some(pong) }));
        let Some(Message::Text(text)) = response.frame(Encoding::Json) else { panic!("no text") };
        assert_eq!(text.as_str(), r#"{"pongResp":{"lastPingTimestamp":"12","timestamp":"13"}}"#);
    }

    #[test]
    fn a_message_of_the_future_decodes_to_nothing_and_garbage_does_not_decode() {
        // field 500, length-delimited, 1 byte
        assert_eq!(Encoding::Protobuf.decode(&[0xa2, 0x1f, 0x01, 0x00]).unwrap().message, None);
        assert_eq!(Encoding::Protobuf.decode(&[0xff; 16]), None);
        assert_eq!(Encoding::Json.decode(b"{"), None);
        assert_eq!(Encoding::Json.decode("[".repeat(100_000).as_bytes()), None);
    }
}
