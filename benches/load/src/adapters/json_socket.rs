//! Signaling by JSON texts over a WebSocket: what the adapters of Janus and mediasoup have in common.
//!
//! A request is sent and its answer waited for; what else comes meanwhile is kept for [`JsonSocket::next`], in order.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

/// How long an answer of the server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct JsonSocket {
    socket: WebSocketStream<TcpStream>,
    /// Came while something else was waited for.
    kept: VecDeque<Value>,
}

impl JsonSocket {
    /// Connects. On loopback every participant comes from an address of its own.
    pub(super) async fn open(address: SocketAddr, participant: usize, protocol: Option<&str>) -> anyhow::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let IpAddr::V4(ip) = address.ip()
            && ip.is_loopback()
        {
            socket.bind(SocketAddr::new(crate::media::addresses::of_participant(participant).into(), 0))?;
        }
        let opened = async {
            let stream = socket.connect(address).await.context("TCP")?;
            stream.set_nodelay(true)?;
            let mut request = ClientRequestBuilder::new(format!("ws://{address}/").parse()?);
            if let Some(protocol) = protocol {
                request = request.with_sub_protocol(protocol);
            }
            anyhow::Ok(tokio_tungstenite::client_async(request, stream).await.context("WebSocket")?.0)
        };
        let socket = timeout(PATIENCE, opened).await.context("the WebSocket took too long")??;
        Ok(Self { socket, kept: VecDeque::new() })
    }

    /// Sends something to which nobody waits for an answer.
    pub(super) async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        self.socket.send(Message::text(message.to_string())).await.context("the WebSocket was lost")
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn request(&mut self, message: &Value, is_answer: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.send(message).await?;
        let answered = async {
            loop {
                let value = self.receive().await?;
                if is_answer(&value) {
                    return Ok(value);
                }
                self.kept.push_back(value);
            }
        };
        timeout(PATIENCE, answered).await.context("no answer")?
    }

    /// What the server says by itself. Nothing is lost if it is dropped while it waits.
    pub(super) async fn next(&mut self) -> anyhow::Result<Value> {
        match self.kept.pop_front() {
            Some(value) => Ok(value),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).context("not JSON"),
                Some(Ok(Message::Close(frame))) => bail!("the server closed the WebSocket: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the WebSocket was lost"),
                None => bail!("the WebSocket ended"),
            }
        }
    }
}
