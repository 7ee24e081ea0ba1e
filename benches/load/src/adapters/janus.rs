//! Janus with its VideoRoom plugin, over its WebSocket transport.
//!
//! A participant has a handle for its own media, where it also learns who publishes, and another one on which everything arrives
//! that it receives. Janus has to be ICE-lite (`nat.ice_lite`), because the clients here are always controlling.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at};

use super::json_socket::JsonSocket;
use super::{Adapter, Preparation, Session};
use crate::media::link::{MediaLink, Purpose, SendTrack, Transport};
use crate::plan::{Layer, Participant};
use crate::sdp;

/// Where a Janus is.
#[derive(Clone, Debug)]
pub struct Janus {
    /// Its WebSocket transport.
    pub address: SocketAddr,
}

/// Janus ends a session after 60 s of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// `JANUS_VIDEOROOM_ERROR_ROOM_EXISTS`
const ROOM_EXISTS: u64 = 427;

impl Adapter for Janus {
    fn name(&self) -> &'static str {
        "janus"
    }

    fn prepare(self: Arc<Self>, rooms: Vec<String>) -> Preparation {
        Box::pin(async move {
            let mut janus = Gateway::open(self.address, 0).await?;
            let handle = janus.attach().await?;
            for room in rooms {
                let body = json!({
                    "request": "create", "room": room_number(&room), "publishers": 10_000, "permanent": false,
                    "videocodec": "vp8,h264", "audiocodec": "opus", "bitrate": 0, "notify_joining": false,
                });
                let answer = janus.ask(handle, body).await?;
                let error = answer["error_code"].as_u64().filter(|&code| code != ROOM_EXISTS);
                anyhow::ensure!(error.is_none(), "no room: {answer}");
            }
            Ok(())
        })
    }

    fn session(self: Arc<Self>, participant: Arc<Participant>, media: MediaLink) -> Session {
        Box::pin(async move {
            let janus = Gateway::open(self.address, participant.index).await?;
            Client { janus, participant, media, own: 0, private_id: Value::Null, publisher: None, subscriber: None }.run().await
        })
    }
}

/// Rooms have numbers; any that do not collide among the few of a run will do (FNV-1a).
fn room_number(name: &str) -> u64 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash >> 1)
}

/// A session of the gateway.
struct Gateway {
    socket: JsonSocket,
    session: u64,
    transactions: u64,
}

impl Gateway {
    async fn open(address: SocketAddr, participant: usize) -> anyhow::Result<Self> {
        let socket = JsonSocket::open(address, participant, Some("janus-protocol")).await?;
        let mut gateway = Self { socket, session: 0, transactions: 0 };
        let answer = gateway.call(json!({ "janus": "create" })).await?;
        gateway.session = answer["data"]["id"].as_u64().context("no session")?;
        Ok(gateway)
    }

    /// A handle of the plugin.
    async fn attach(&mut self) -> anyhow::Result<u64> {
        let answer = self.call(json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" })).await?;
        answer["data"]["id"].as_u64().with_context(|| format!("no handle: {answer}"))
    }

    /// A request that the gateway itself answers.
    async fn call(&mut self, mut message: Value) -> anyhow::Result<Value> {
        let transaction = self.stamp(&mut message);
        let answer = self.socket.request(&message, |value| value["transaction"] == transaction.as_str()).await?;
        anyhow::ensure!(answer["janus"] != "error", "refused: {answer}");
        Ok(answer)
    }

    /// A request that the plugin answers at once; its answer.
    async fn ask(&mut self, handle: u64, body: Value) -> anyhow::Result<Value> {
        let answer = self.call(json!({ "janus": "message", "handle_id": handle, "body": body })).await?;
        Ok(answer["plugindata"]["data"].clone())
    }

    /// A request that the plugin answers later, by an event.
    async fn tell(&mut self, handle: u64, body: Value, jsep: Option<(&str, String)>) -> anyhow::Result<()> {
        let mut message = json!({ "janus": "message", "handle_id": handle, "body": body });
        if let Some((kind, sdp)) = jsep {
            message["jsep"] = json!({ "type": kind, "sdp": sdp });
        }
        self.stamp(&mut message);
        self.socket.send(&message).await
    }

    fn stamp(&mut self, message: &mut Value) -> String {
        self.transactions += 1;
        let transaction = self.transactions.to_string();
        message["transaction"] = json!(transaction);
        if self.session != 0 {
            message["session_id"] = json!(self.session);
        }
        transaction
    }
}

struct Client {
    janus: Gateway,
    participant: Arc<Participant>,
    media: MediaLink,
    /// Handle for its own media.
    own: u64,
    /// Ties the two handles together.
    private_id: Value,
    publisher: Option<(Transport, Vec<SendTrack>)>,
    subscriber: Option<Subscriber>,
}

struct Subscriber {
    handle: u64,
    transport: Transport,
}

impl Client {
    async fn run(mut self) -> anyhow::Result<Infallible> {
        self.own = self.janus.attach().await?;
        let room = room_number(&self.participant.room);
        let join = json!({ "request": "join", "ptype": "publisher", "room": room, "display": self.participant.identity });
        self.janus.tell(self.own, join, None).await?;
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            tokio::select! {
                message = self.janus.socket.next() => {
                    let message = message?;
                    self.handle(&message).await?;
                }
                _ = keep_alive.tick() => {
                    let mut message = json!({ "janus": "keepalive" });
                    self.janus.stamp(&mut message);
                    self.janus.socket.send(&message).await?;
                }
            }
        }
    }

    async fn handle(&mut self, message: &Value) -> anyhow::Result<()> {
        match message["janus"].as_str() {
            Some("event") => {}
            Some("error" | "timeout" | "hangup") => bail!("Janus: {message}"),
            _ => return Ok(()),
        }
        let data = &message["plugindata"]["data"];
        if let Some(error) = data["error"].as_str() {
            bail!("VideoRoom: {error}");
        }
        if data["videoroom"] == "joined" {
            self.private_id = data["private_id"].clone();
            if self.participant.audio.is_some() || self.participant.video.is_some() {
                self.publish().await?;
            }
        }
        if let Some(sdp) = message["jsep"]["sdp"].as_str() {
            if message["sender"] == self.own {
                let (transport, tracks) = self.publisher.as_ref().context("an answer to nothing")?;
                connect(transport, sdp)?;
                transport.send(tracks.clone());
            } else {
                self.answer(sdp, &data["streams"]).await?;
            }
        }
        if self.participant.subscribes
            && let Some(publishers) = data["publishers"].as_array().filter(|publishers| !publishers.is_empty())
        {
            self.subscribe(publishers).await?;
        }
        Ok(())
    }

    async fn publish(&mut self) -> anyhow::Result<()> {
        let transport = self.media.open(Purpose::Send, false).await?;
        let tracks = sdp::send_tracks(&self.participant, 0, &mut rand::rng());
        let name = |track: &SendTrack| if track.codec.is_video() { "camera".to_owned() } else { "microphone".to_owned() };
        // Of the two roles only the client's is left: a server that may choose could choose the client's too.
        let offer = sdp::offer(&tracks, name, transport.local(), 1).replace("a=setup:actpass", "a=setup:active");
        self.janus.tell(self.own, json!({ "request": "publish" }), Some(("offer", offer))).await?;
        self.publisher = Some((transport, tracks));
        Ok(())
    }

    async fn subscribe(&mut self, publishers: &[Value]) -> anyhow::Result<()> {
        let streams: Vec<Value> = publishers.iter().map(|publisher| json!({ "feed": publisher["id"] })).collect();
        let (handle, body) = match &self.subscriber {
            Some(subscriber) => (subscriber.handle, json!({ "request": "subscribe", "streams": streams })),
            None => {
                let handle = self.janus.attach().await?;
                let transport = self.media.open(Purpose::Receive, false).await?;
                self.subscriber = Some(Subscriber { handle, transport });
                let room = room_number(&self.participant.room);
                let private_id = &self.private_id;
                let body = json!({ "request": "join", "ptype": "subscriber", "room": room, "private_id": private_id, "streams": streams });
                (handle, body)
            }
        };
        self.janus.tell(handle, body, None).await
    }

    /// Everything that the offer has is received; `streams` says which of its m-lines are video.
    async fn answer(&mut self, offer: &str, streams: &Value) -> anyhow::Result<()> {
        let Subscriber { handle, transport } = self.subscriber.as_ref().context("an offer of nothing")?;
        transport.receive(sdp::receive_tracks(offer));
        connect(transport, offer)?;
        let answer = sdp::answer(offer, transport.local(), !self.participant.is_sink);
        let handle = *handle;
        self.janus.tell(handle, json!({ "request": "start" }), Some(("answer", answer))).await?;
        let substream = match self.participant.layer {
            Layer::High => return Ok(()),
            Layer::Medium => 1,
            Layer::Low => 0,
        };
        let video = streams.as_array().into_iter().flatten().filter(|stream| stream["type"] == "video");
        let wanted: Vec<Value> = video.map(|stream| json!({ "mid": stream["mid"], "substream": substream })).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        self.janus.tell(handle, json!({ "request": "configure", "streams": wanted }), None).await
    }
}

fn connect(transport: &Transport, description: &str) -> anyhow::Result<()> {
    let (remote, candidates) = sdp::remote(description).context("a description without transport")?;
    transport.connect(remote);
    candidates.into_iter().for_each(|address| transport.add_candidate(address));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_a_run_have_different_numbers() {
        let numbers: std::collections::BTreeSet<u64> = (0..100).map(|n| room_number(&format!("1f2e-{n}"))).collect();
        assert!(numbers.len() == 100 && numbers.iter().all(|&number| number > 0));
    }
}
