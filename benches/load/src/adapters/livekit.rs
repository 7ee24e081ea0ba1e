//! LiveKit's signaling: protobuf over a WebSocket at `/rtc`, two transports per participant. Sluice and livekit-server.
//!
//! The publisher transport is negotiated by the client's offer, the subscriber transport by the server's. A livekit-server has to be
//! ICE-lite (`rtc.use_ice_lite`), because the clients here are always controlling.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use livekit_protocol::{
    AddTrackRequest, Ping, SessionDescription, SignalRequest, SignalResponse, SignalTarget, SimulcastCodec, TrackSource, TrackType,
    UpdateTrackSettings, VideoLayer, VideoQuality, signal_request, signal_response,
};
use prost::Message as _;
use sfu_core::media::Codec;
use tokio::net::TcpSocket;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Adapter, Preparation, Session};
use crate::media::link::{MediaLink, Purpose, SendTrack, Transport};
use crate::plan::{Layer, Participant};
use crate::sdp;

/// Where a server is and whose tokens it takes.
#[derive(Clone, Debug)]
pub struct LiveKit {
    /// HTTP address.
    pub address: SocketAddr,
    /// API key.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// How reports name the server.
    pub name: &'static str,
}

impl Adapter for LiveKit {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Rooms are made by their first participant; this waits until the server takes connections.
    fn prepare(self: Arc<Self>, _rooms: Vec<String>) -> Preparation {
        Box::pin(async move {
            tokio::net::TcpStream::connect(self.address).await.with_context(|| format!("no server at {}", self.address))?;
            Ok(())
        })
    }

    fn session(self: Arc<Self>, participant: Arc<Participant>, media: MediaLink) -> Session {
        Box::pin(async move {
            let socket = timeout(PATIENCE, self.connect(&participant)).await.context("the WebSocket took too long")??;
            Client { socket, participant, media, publisher: None, subscriber: None }.run().await
        })
    }
}

impl LiveKit {
    async fn connect(&self, participant: &Participant) -> anyhow::Result<WebSocketStream<tokio::net::TcpStream>> {
        let token = self.token(participant)?;
        let subscribe = u8::from(participant.subscribes);
        let url = format!("ws://{}/rtc?access_token={token}&auto_subscribe={subscribe}&protocol=15&sdk=go&version=2.0.0", self.address);
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let IpAddr::V4(ip) = self.address.ip()
            && ip.is_loopback()
        {
            // Servers bound what comes from one address; in the world each participant has its own.
            socket.bind(SocketAddr::new(crate::media::addresses::of_participant(participant.index).into(), 0))?;
        }
        let stream = socket.connect(self.address).await.context("TCP")?;
        stream.set_nodelay(true)?;
        match tokio_tungstenite::client_async(url, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                bail!("refused with {}: {body}", response.status())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An access token: a JWT with LiveKit's grants, good for a day.
    fn token(&self, participant: &Participant) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = serde_json::json!({
            "iss": self.key, "sub": participant.identity, "nbf": now - 60, "exp": now + 86_400,
            "video": { "roomJoin": true, "room": participant.room, "canPublish": true, "canSubscribe": true },
        });
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(self.secret.as_bytes())?;
        mac.update(signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
    }
}

/// How long an answer of the server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Servers ask for a ping each 5 s and give up after 15 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);

struct Client {
    socket: WebSocketStream<tokio::net::TcpStream>,
    participant: Arc<Participant>,
    media: MediaLink,
    publisher: Option<Publisher>,
    subscriber: Option<Transport>,
}

struct Publisher {
    transport: Transport,
    tracks: Vec<SendTrack>,
    /// Tracks that the server has not confirmed yet; the offer waits for them.
    unconfirmed: usize,
}

impl Client {
    async fn run(mut self) -> anyhow::Result<Infallible> {
        let join = match timeout(PATIENCE, self.receive()).await.context("no answer to the join")?? {
            signal_response::Message::Join(join) => join,
            other => bail!("not welcome: {}", brief(&other)),
        };
        anyhow::ensure!(join.participant.is_some(), "a join response without the participant");
        if self.participant.audio.is_some() || self.participant.video.is_some() {
            self.publish().await?;
        }
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            tokio::select! {
                message = self.receive() => {
                    let message = message?;
                    self.handle(message).await?;
                }
                _ = ping.tick() => self.send(signal_request::Message::PingReq(Ping { timestamp: 0, rtt: 0 })).await?,
            }
        }
    }

    async fn publish(&mut self) -> anyhow::Result<()> {
        let transport = self.media.open(Purpose::Send, true).await?;
        let tracks = sdp::send_tracks(&self.participant, 1, &mut rand::rng());
        let participant = Arc::clone(&self.participant);
        for track in &tracks {
            let mut request = AddTrackRequest { cid: cid(track), ..AddTrackRequest::default() };
            if let Some(video) = participant.video.as_ref().filter(|_| track.codec.is_video()) {
                let largest = video.encodings.last().context("video without encodings")?;
                request.r#type = TrackType::Video.into();
                request.source = TrackSource::Camera.into();
                request.name = "camera".to_owned();
                (request.width, request.height) = (largest.width_px.into(), largest.height_px.into());
                request.layers = layers(video);
                request.simulcast_codecs =
                    vec![SimulcastCodec { codec: track.codec.name().to_lowercase(), cid: cid(track), ..SimulcastCodec::default() }];
            } else {
                request.r#type = TrackType::Audio.into();
                request.source = TrackSource::Microphone.into();
                request.name = "microphone".to_owned();
                request.disable_red = true;
            }
            self.send(signal_request::Message::AddTrack(request)).await?;
        }
        self.publisher = Some(Publisher { transport, unconfirmed: tracks.len(), tracks });
        Ok(())
    }

    async fn handle(&mut self, message: signal_response::Message) -> anyhow::Result<()> {
        match message {
            signal_response::Message::TrackPublished(_) => {
                let Some(publisher) = &mut self.publisher else { return Ok(()) };
                publisher.unconfirmed = publisher.unconfirmed.saturating_sub(1);
                if publisher.unconfirmed == 0 {
                    // Of the two roles only the client's is left: a server that may choose could choose the client's too.
                    let sdp =
                        sdp::offer(&publisher.tracks, cid, publisher.transport.local(), 1).replace("a=setup:actpass", "a=setup:active");
                    let offer = SessionDescription { r#type: "offer".to_owned(), sdp, id: 1, ..SessionDescription::default() };
                    self.send(signal_request::Message::Offer(offer)).await?;
                }
            }
            signal_response::Message::Answer(answer) => {
                let Some(publisher) = &self.publisher else { return Ok(()) };
                connect(&publisher.transport, &answer.sdp)?;
                publisher.transport.send(publisher.tracks.clone());
            }
            signal_response::Message::Offer(offer) => self.answer(offer).await?,
            signal_response::Message::Trickle(trickle) => {
                let transport = match trickle.target() {
                    SignalTarget::Publisher => self.publisher.as_ref().map(|publisher| &publisher.transport),
                    SignalTarget::Subscriber => self.subscriber.as_ref(),
                };
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
                let address = init["candidate"].as_str().and_then(sdp::candidate);
                if let (Some(transport), Some(address)) = (transport, address) {
                    transport.add_candidate(address);
                }
            }
            signal_response::Message::Leave(leave) => bail!("the server ended the session: {:?}", leave.reason()),
            signal_response::Message::RequestResponse(response) if response.reason != 0 => {
                bail!("refused: {:?} {}", response.reason(), response.message)
            }
            _ => {}
        }
        Ok(())
    }

    async fn answer(&mut self, offer: SessionDescription) -> anyhow::Result<()> {
        if self.subscriber.is_none() {
            let has_data = offer.sdp.contains("m=application");
            self.subscriber = Some(self.media.open(Purpose::Receive, has_data).await?);
        }
        let Some(transport) = &self.subscriber else { return Ok(()) };
        let tracks = sdp::receive_tracks(&offer.sdp);
        let video: Vec<String> = tracks.iter().filter(|track| track.codec.is_video()).map(|track| track.name.clone()).collect();
        transport.receive(tracks);
        connect(transport, &offer.sdp)?;
        let sdp = sdp::answer(&offer.sdp, transport.local(), !self.participant.is_sink);
        let answer = SessionDescription { r#type: "answer".to_owned(), sdp, id: offer.id, ..SessionDescription::default() };
        self.send(signal_request::Message::Answer(answer)).await?;
        let quality = match self.participant.layer {
            Layer::High => return Ok(()),
            Layer::Medium => VideoQuality::Medium,
            Layer::Low => VideoQuality::Low,
        };
        if video.is_empty() {
            return Ok(());
        }
        let settings = UpdateTrackSettings { track_sids: video, quality: quality.into(), ..UpdateTrackSettings::default() };
        self.send(signal_request::Message::TrackSetting(settings)).await
    }

    async fn send(&mut self, message: signal_request::Message) -> anyhow::Result<()> {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        self.socket.send(Message::binary(bytes)).await.context("the WebSocket was lost")
    }

    async fn receive(&mut self) -> anyhow::Result<signal_response::Message> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(message) = SignalResponse::decode(bytes).context("not a signaling message")?.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => bail!("the server closed the WebSocket: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the WebSocket was lost"),
                None => bail!("the WebSocket ended"),
            }
        }
    }
}

fn connect(transport: &Transport, description: &str) -> anyhow::Result<()> {
    let (remote, candidates) = sdp::remote(description).context("a description without transport")?;
    transport.connect(remote);
    candidates.into_iter().for_each(|address| transport.add_candidate(address));
    Ok(())
}

fn cid(track: &SendTrack) -> String {
    if track.codec == Codec::Opus { "microphone".to_owned() } else { "camera".to_owned() }
}

fn layers(video: &crate::plan::VideoPlan) -> Vec<VideoLayer> {
    let last = video.encodings.len() - 1;
    let qualities = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
    let layer = |(index, encoding): (usize, &crate::plan::EncodingPlan)| VideoLayer {
        // A single encoding is the best there is.
        quality: qualities[if last == 0 { 2 } else { index.min(2) }].into(),
        width: encoding.width_px.into(),
        height: encoding.height_px.into(),
        bitrate: encoding.mean_bps(video.fps),
        ..VideoLayer::default()
    };
    video.encodings.iter().enumerate().map(layer).collect()
}

fn brief(message: &signal_response::Message) -> String {
    format!("{message:?}").chars().take(200).collect()
}
