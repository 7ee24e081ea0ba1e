//! What goes into the state machine and what comes out: plain values.

use std::net::IpAddr;

use livekit_protocol as proto;
use sfu_api::PeerMode;
use signaling_api::{EndReason, ErrorCode, Grants};

use crate::{AdminId, AdminRequest, AdminResult, ConnId, Note, PROTOCOL_VERSION, Welcome, WorkerId, WorkerInput};

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client opened a signal connection with a verified token. Answered by a `JoinResponse` or `ReconnectResponse`, or
    /// by a `LeaveRequest` and [`Output::Close`].
    Connect {
        /// New.
        conn: ConnId,
        /// From the token.
        grants: Box<Grants>,
        /// From the URL.
        request: Box<JoinParams>,
        /// Where the client is.
        remote_ip: IpAddr,
    },
    /// A message from a client.
    Message {
        /// On which connection.
        conn: ConnId,
        /// What.
        request: Box<proto::SignalRequest>,
    },
    /// A connection is gone. Not needed after [`Output::Close`], but harmless.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// From the media node.
    Media(sfu_api::Event),
    /// An administrator asks for something that its token allows. Answered by one [`Output::Admin`] of the same id.
    Admin {
        /// New.
        id: AdminId,
        /// Of the token.
        grants: Box<Grants>,
        /// What.
        request: Box<AdminRequest>,
    },
    /// Something happened to an agent worker's connection.
    Worker {
        /// Which.
        worker: WorkerId,
        /// What.
        input: WorkerInput,
    },
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send a message to a client.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        response: Box<proto::SignalResponse>,
    },
    /// Send the same message to many clients, so that it is encoded once.
    Broadcast {
        /// On which connections, no connection twice.
        conns: Vec<ConnId>,
        /// What.
        response: Box<proto::SignalResponse>,
    },
    /// Send a newcomer its join response.
    Welcome {
        /// On which connection.
        conn: ConnId,
        /// What.
        welcome: Box<Welcome>,
    },
    /// Close a connection after what was sent before on it.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Mint a token with these grants and send it as `refresh_token`.
    RefreshToken {
        /// On which connection.
        conn: ConnId,
        /// What it shall say; `expires_at` is that of the old token.
        grants: Box<Grants>,
    },
    /// Mint a token with these grants, put it into the message, and send it.
    RoomMoved {
        /// On which connection.
        conn: ConnId,
        /// What the token shall say; `expires_at` is that of the old token.
        grants: Box<Grants>,
        /// What the client is told; `token` is empty.
        moved: Box<proto::RoomMovedResponse>,
    },
    /// To the media node.
    Media(sfu_api::Command),
    /// Answer an administrator.
    Admin {
        /// Which question.
        id: AdminId,
        /// What it came to.
        result: Box<AdminResult>,
    },
    /// Send a message to an agent worker.
    ToWorker {
        /// Which.
        worker: WorkerId,
        /// What.
        message: Box<proto::ServerMessage>,
    },
    /// Mint a token with these grants, put it into the assignment, and send it.
    AssignJob {
        /// To whom.
        worker: WorkerId,
        /// What; `token` is empty.
        assignment: Box<proto::JobAssignment>,
        /// What the token shall say.
        grants: Box<Grants>,
    },
    /// Something happened to a participant's stay: for logs, metrics and timelines.
    Note(Note),
    /// Close an agent worker's connection.
    CloseWorker {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why the server closes a signal connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The participant left or was removed; it was told so.
    Ended(EndReason),
    /// The same participant resumed on a newer connection.
    Resumed,
    /// The participant can't join; it was told so.
    Refused(ErrorCode),
    /// The client shall resume on a new connection.
    Resume,
    /// The client was silent for too long.
    Silent,
    /// The client sends too much.
    Flood,
}

impl CloseReason {
    /// Status code of the WebSocket close frame. Clients take 1000 as final, anything else as a loss that they try to
    /// resume from (livekit-client, `SignalClient.ts`).
    #[must_use]
    pub const fn websocket_code(self) -> u16 {
        match self {
            Self::Ended(_) | Self::Resumed | Self::Refused(_) => 1000,
            Self::Resume => 1012,
            Self::Silent => 1001,
            Self::Flood => 1008,
        }
    }

    /// The word used in close frames, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended(reason) => reason.as_str(),
            Self::Resumed => "resumed",
            Self::Refused(code) => code.as_str(),
            Self::Resume => "resume",
            Self::Silent => "silent",
            Self::Flood => "flood",
        }
    }
}

/// What a client asks for when it connects.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinParams {
    /// Subscribe to every track of the room (`auto_subscribe`).
    pub auto_subscribe: bool,
    /// The client shows tracks in elements whose size it reports (`adaptive_stream`).
    pub adaptive_stream: bool,
    /// Resume an earlier session (`reconnect=1`).
    pub reconnect: bool,
    /// Which one (`sid`).
    pub participant_sid: Option<String>,
    /// Why (`reconnect_reason`).
    pub reconnect_reason: proto::ReconnectReason,
    /// SDK, version, protocol, browser and so on.
    pub client: proto::ClientInfo,
    /// One peer connection or two. A resume goes on with what its session has.
    pub mode: PeerMode,
    /// What came together with the request, to be done as if it were sent on the connection as soon as the answer is there.
    pub messages: Vec<proto::signal_request::Message>,
}

impl Default for JoinParams {
    fn default() -> Self {
        Self {
            auto_subscribe: true,
            adaptive_stream: false,
            reconnect: false,
            participant_sid: None,
            reconnect_reason: proto::ReconnectReason::RrUnknown,
            client: proto::ClientInfo { protocol: PROTOCOL_VERSION, ..Default::default() },
            mode: PeerMode::Dual,
            messages: Vec::new(),
        }
    }
}

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Rooms, empty ones included.
    pub rooms: usize,
    /// Participants, those in their grace period included.
    pub participants: usize,
    /// Signal connections of participants.
    pub connections: usize,
    /// Agent workers that have registered.
    pub workers: usize,
    /// Jobs that are not over.
    pub jobs: usize,
}
