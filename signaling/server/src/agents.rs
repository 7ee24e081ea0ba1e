//! Agent workers' WebSocket, `/agent`: LiveKit's worker protocol, protobuf in binary frames or its JSON form in text frames.
//!
//! In: frames of a worker whose token lets it register (`video.agent`). Out: its messages to the signaling loop, and what the
//! rooms have for it. Invariants: nothing is read while the loop has no room; a worker that does not read is closed; the loop
//! learns of the end exactly once. Which job goes where: `signaling_core::agents`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use livekit_protocol::{ServerMessage, WorkerMessage};
use prost::Message as _;
use signaling_api::ErrorCode;
use signaling_core::{CloseReason, WorkerId, WorkerInput};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::config::ServerLimits;
use crate::gate::{Pass, TokenBucket};
use crate::http::problem::{self, Refused};
use crate::http::{App, access};
use crate::net::TcpPeer;
use crate::ws::ToLoop;
use crate::ws::intake::Door;
use crate::ws::socket::bounded;

/// To a worker's socket task.
pub(crate) enum ToWorker {
    Message(Box<ServerMessage>),
    Close(CloseReason),
}

/// `GET /agent`.
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return problem::upgrade_required() };
    let admitted = api_key(&app, query.as_deref(), &headers).and_then(|key| {
        let pass = app.sockets.enter(app.client_ip(peer, &headers), Instant::now())?;
        Ok((key, pass))
    });
    let (api_key, pass) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_text(),
    };
    let limits = app.config.limits.clone();
    let worker = WorkerId(app.next_connection.fetch_add(1, Ordering::Relaxed));
    let upgrade = bounded(upgrade, &limits);
    let (inbox, door) = (app.inbox.clone(), app.intake.door());
    upgrade.on_upgrade(move |socket| serve(socket, Arrival { worker, api_key, pass }, inbox, door, limits))
}

/// The key that the worker's token is signed with signs the tokens of its agents too.
fn api_key(app: &App, query: Option<&str>, headers: &HeaderMap) -> Result<String, Refused> {
    if *app.is_stopping.borrow() {
        return Err(Refused::new(ErrorCode::Unavailable, "the server is shutting down"));
    }
    let grants = access::genuine(app, headers, access::token_in(query).as_deref())?;
    // The token that an agent is given for its room says `agent` too; that makes it no worker, which gets jobs of all rooms.
    if grants.agent && !grants.room_join {
        Ok(grants.api_key)
    } else {
        Err(Refused::new(ErrorCode::TokenGrant, "the access token does not grant agent, or is one for a room"))
    }
}

/// Who arrived; its token is verified.
struct Arrival {
    worker: WorkerId,
    api_key: String,
    pass: Pass,
}

async fn serve(mut socket: WebSocket, arrival: Arrival, inbox: mpsc::Sender<ToLoop>, door: Door, limits: ServerLimits) {
    let Arrival { worker, api_key, pass } = arrival;
    let (outbox, queue) = mpsc::channel(limits.send_queue_messages.max(1));
    if inbox.send(ToLoop::WorkerConnect { worker, api_key, outbox }).await.is_ok() {
        let connection = Connection { worker, socket: &mut socket, door, queue, limits: &limits, is_json: false };
        let end = connection.run().await;
        debug!(?worker, ?end, "agent worker's connection closed");
        let _ = inbox.send(ToLoop::Worker { worker, input: WorkerInput::Closed, weight: None }).await;
        if let Some(reason) = end {
            let frame = CloseFrame { code: reason.websocket_code(), reason: reason.as_str().into() };
            let _ = timeout(limits.write_timeout, socket.send(Message::Close(Some(frame)))).await;
        }
    }
    drop((socket, pass));
}

struct Connection<'a> {
    worker: WorkerId,
    socket: &'a mut WebSocket,
    door: Door,
    queue: mpsc::Receiver<ToWorker>,
    limits: &'a ServerLimits,
    /// The worker's last message was JSON.
    is_json: bool,
}

impl Connection<'_> {
    /// Returns the reason if the server ends it; none if the worker is gone.
    async fn run(mut self) -> Option<CloseReason> {
        let mut pings = interval(self.limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut bucket = TokenBucket::new(self.limits.requests, heard_at);
        loop {
            tokio::select! {
                outgoing = self.queue.recv() => match outgoing {
                    Some(ToWorker::Message(message)) => self.write(&message).await?,
                    Some(ToWorker::Close(reason)) => return Some(reason),
                    None => return Some(CloseReason::Resume),
                },
                frame = self.socket.recv() => {
                    heard_at = Instant::now();
                    let frame = match frame? {
                        Ok(frame @ (Message::Binary(_) | Message::Text(_))) => frame,
                        Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                        Ok(Message::Close(_)) | Err(_) => return None,
                    };
                    if bucket.take(heard_at).is_err() {
                        return Some(CloseReason::Flood);
                    }
                    self.is_json = matches!(frame, Message::Text(_));
                    let payload = frame.into_data();
                    let place = self.door.place(payload.len()).await?;
                    let message = if self.is_json { serde_json::from_slice(&payload).ok() } else { WorkerMessage::decode(payload).ok() };
                    let Some(message) = message else { return Some(CloseReason::Refused(ErrorCode::BadRequest)) };
                    let input = WorkerInput::Message(Box::new(message));
                    let worker = self.worker;
                    place.send(|weight| ToLoop::Worker { worker, input, weight: Some(weight) });
                }
                _ = pings.tick() => {
                    if heard_at.elapsed() > self.limits.idle_timeout {
                        return Some(CloseReason::Silent);
                    }
                    self.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// None: the worker is gone, or does not read.
    async fn write(&mut self, message: &ServerMessage) -> Option<()> {
        let frame = if self.is_json {
            Message::Text(serde_json::to_string(message).ok()?.into())
        } else {
            Message::Binary(message.encode_to_vec().into())
        };
        self.send(frame).await
    }

    async fn send(&mut self, frame: Message) -> Option<()> {
        timeout(self.limits.write_timeout, self.socket.send(frame)).await.ok()?.ok()
    }
}
