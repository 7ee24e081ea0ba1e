//! A server under test and the clients that talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::{JoinResponse, Ping, SignalRequest, SignalResponse, UpdateParticipantMetadata, signal_request, signal_response};
use prometheus::Registry;
use prost::Message as _;
use sfu_api::{Command, Event, ParticipantId, TransportRole, TransportState};
use signaling_api::{Secret, VideoGrant};
use signaling_server::auth::{TokenOptions, mint};
use signaling_server::{ApiKeys, MediaLink, Server, ServerConfig, unix_now};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

/// A running server with a fake media node.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) events: mpsc::Sender<sfu_api::Event>,
    /// Whether the node turns.
    pub(crate) pulse: Arc<AtomicBool>,
    pub(crate) shutdown: oneshot::Sender<()>,
}

impl TestServer {
    /// With default limits.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config =
            ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), keys: ApiKeys::single("devkey", "secret"), ..ServerConfig::default() };
        change(&mut config);
        let (commands_in, commands) = mpsc::unbounded_channel();
        let (events, events_out) = mpsc::channel(64);
        let media = MediaLink::new(move |commands| commands.drain(..).for_each(|command| drop(commands_in.send(command))), events_out);
        let pulse = Arc::new(AtomicBool::new(true));
        let felt = Arc::clone(&pulse);
        let media = media.with_pulse(move || felt.load(Ordering::Relaxed));
        let (shutdown, is_shutdown) = oneshot::channel::<()>();
        let server = Server::serve(config, media, Registry::new(), async move { drop(is_shutdown.await) }).await.unwrap();
        Self { address: server.local_addr(), server, commands, events, pulse, shutdown }
    }

    /// Joins a room and expects to be welcome.
    pub(crate) async fn join(&self, identity: &str, room: &str) -> (Client, JoinResponse) {
        self.enter(&token(identity, room)).await
    }

    /// Joins with this token and expects to be welcome.
    pub(crate) async fn enter(&self, token: &str) -> (Client, JoinResponse) {
        let mut client = self.open(&format!("/rtc?access_token={token}")).await.unwrap();
        match client.receive().await {
            Some(signal_response::Message::Join(join)) => (client, join),
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Joins and tells others so many bytes of itself, more than fits into the token of a query.
    pub(crate) async fn join_with_metadata(&self, identity: &str, room: &str, bytes: usize) -> Client {
        let grants = VideoGrant { room_join: true, can_update_own_metadata: Some(true), ..VideoGrant::default() };
        let (mut client, join) = self.enter(&minted(&TokenOptions { grants, ..TokenOptions::join(identity, room) })).await;
        let update = UpdateParticipantMetadata { metadata: "m".repeat(bytes), ..UpdateParticipantMetadata::default() };
        client.send(signal_request::Message::UpdateMetadata(update)).await;
        let own = join.participant.unwrap().sid;
        let is_done = |message| match message {
            signal_response::Message::Update(update) => update.participants.iter().any(|info| info.sid == own).then_some(()),
            _ => None,
        };
        client.until(is_done).await;
        client
    }

    /// The node says that a participant's transport is up.
    pub(crate) async fn media_connected(&self, participant: ParticipantId, role: TransportRole) {
        self.events.send(Event::Transport { participant, role, state: TransportState::Connected }).await.unwrap();
    }

    /// Opens a WebSocket; the refusal is the HTTP status and the body.
    pub(crate) async fn open(&self, path: &str) -> Result<Client, (u16, String)> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.open_on(stream, path).await
    }

    /// The same on a given TCP connection.
    pub(crate) async fn open_on(&self, stream: TcpStream, path: &str) -> Result<Client, (u16, String)> {
        let url = format!("ws://{}{path}", self.address);
        match soon(tokio_tungstenite::client_async(url, stream)).await {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::Error::Http(response)) => {
                let status = response.status().as_u16();
                // tungstenite reads no body: ask again without the upgrade's help
                Err((status, self.get(&path.replacen('?', "/validate?", 1)).await.body))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.http("GET", path, &[], "").await
    }

    /// One HTTP request on a connection of its own.
    pub(crate) async fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = self.request(method, path, &[headers, &[("Connection", "close")]].concat(), body).await;
        Reply::read(&mut stream).await
    }

    /// Status of the answer to a request whose connection may stay open; it is closed after the status line.
    pub(crate) async fn upgrade_status(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut stream = self.request("GET", path, headers, "").await;
        let mut line = [0; 12];
        soon(stream.read_exact(&mut line)).await.unwrap();
        std::str::from_utf8(&line[9..]).unwrap().parse().unwrap()
    }

    /// A connection on which this was said.
    pub(crate) async fn say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Value of a metric as written in `/metrics`; 0 if it is not there.
    pub(crate) async fn metric(&self, name_and_labels: &str) -> u64 {
        let text = self.get("/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or(0)
    }

    /// Returns once a metric has this value; asks again and again.
    pub(crate) async fn until_metric(&self, name_and_labels: &str, value: u64) {
        let reached = async {
            while self.metric(name_and_labels).await != value {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// Everything until the server closes the connection.
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        Self::parse(&String::from_utf8_lossy(&answer))
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let mut reply = Self { status, headers, body: body.to_owned() };
        if reply.header("transfer-encoding") == "chunked" {
            reply.body = unchunk(body);
        }
        reply
    }

    /// Empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// A signaling client that speaks protobuf unless told otherwise.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: signal_request::Message) {
        self.send_binary(SignalRequest { message: Some(message) }.encode_to_vec()).await;
    }

    pub(crate) async fn send_binary(&mut self, payload: Vec<u8>) {
        self.socket.send(Message::binary(payload)).await.unwrap();
    }

    /// The next signaling message; None at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Option<signal_response::Message> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(payload))) => return SignalResponse::decode(payload).unwrap().message,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// Skips messages until one is of interest.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(signal_response::Message) -> Option<T>) -> T {
        loop {
            let message = self.receive().await.expect("the connection ended");
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }

    /// Proves that the connection and the loop behind it work.
    pub(crate) async fn ping(&mut self, timestamp: i64) {
        self.send(signal_request::Message::PingReq(Ping { timestamp, rtt: 0 })).await;
        self.until(|message| match message {
            signal_response::Message::PongResp(pong) if pong.last_ping_timestamp == timestamp => Some(()),
            _ => None,
        })
        .await;
    }

    /// Reads to the end; the server must have said why.
    pub(crate) async fn close_code(&mut self) -> (CloseCode, String) {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code, frame.reason.to_string()),
                Some(Ok(_)) => {}
                end => panic!("the connection ended without a close frame: {end:?}"),
            }
        }
    }
}

/// A token of the development key that joins a room.
pub(crate) fn token(identity: &str, room: &str) -> String {
    minted(&TokenOptions::join(identity, room))
}

/// A token of the development key.
pub(crate) fn minted(options: &TokenOptions) -> String {
    mint("devkey", &Secret::new("secret"), options, unix_now()).unwrap()
}

/// Fails instead of hanging.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.expect("it took too long")
}
