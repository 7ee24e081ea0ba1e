//! mediasoup behind the small server of `benches/peers/mediasoup`: WebRTC transports, no session descriptions.
//!
//! mediasoup is a library; its users write the signaling. The server there has the calls that every such signaling has: a transport
//! each way, `connect` with a fingerprint, `produce`, `consume`; it tells who produces.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sfu_core::media::Codec;
use sfu_core::transport::params::{Fingerprint, IceCredentials};
use sfu_sim::sdp::extension_ids;

use super::json_socket::JsonSocket;
use super::{Adapter, Preparation, Session};
use crate::media::link::{Format, MediaLink, Purpose, ReceiveTrack, Remote, SendTrack, Transport};
use crate::plan::{Layer, Participant};
use crate::sdp;

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Mediasoup {
    /// Its WebSocket.
    pub address: SocketAddr,
}

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

impl Adapter for Mediasoup {
    fn name(&self) -> &'static str {
        "mediasoup"
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
            let socket = JsonSocket::open(self.address, participant.index, None).await?;
            Client { socket, participant, media, requests: 0, subscriber: None }.run().await
        })
    }
}

struct Client {
    socket: JsonSocket,
    participant: Arc<Participant>,
    media: MediaLink,
    requests: u64,
    subscriber: Option<Subscriber>,
}

struct Subscriber {
    id: Value,
    transport: Transport,
    tracks: Vec<ReceiveTrack>,
}

impl Client {
    async fn run(mut self) -> anyhow::Result<Infallible> {
        self.call("join", json!({ "room": self.participant.room })).await?;
        if self.participant.audio.is_some() || self.participant.video.is_some() {
            let (id, transport) = self.open(Purpose::Send).await?;
            let tracks = sdp::send_tracks(&self.participant, 0, &mut rand::rng());
            for track in &tracks {
                let kind = if track.codec.is_video() { "video" } else { "audio" };
                self.call("produce", json!({ "transport": id, "kind": kind, "rtpParameters": rtp_parameters(track) })).await?;
            }
            transport.send(tracks);
            // Held until the session ends.
            return self.listen(Some(transport)).await;
        }
        self.listen(None).await
    }

    async fn listen(mut self, _publisher: Option<Transport>) -> anyhow::Result<Infallible> {
        if self.participant.subscribes {
            self.call("watch", json!({})).await?;
        }
        loop {
            let message = self.socket.next().await?;
            if let Some(producer) = message.get("producer") {
                self.consume(&producer.clone()).await?;
            }
        }
    }

    /// A transport, connected on both sides.
    async fn open(&mut self, purpose: Purpose) -> anyhow::Result<(Value, Transport)> {
        let transport = self.media.open(purpose, false).await?;
        let remote = self.call("transport", json!({})).await?;
        let id = remote["id"].clone();
        self.call("connect", json!({ "transport": id, "fingerprint": hex(&transport.local().fingerprint) })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("a transport without all parts: {remote}"));
        let ice = IceCredentials { ufrag: text(&remote["ice"]["usernameFragment"])?, pwd: text(&remote["ice"]["password"])? };
        let fingerprint = fingerprint(&text(&remote["fingerprint"])?).context("not a SHA-256 fingerprint")?;
        transport.connect(Remote { ice, fingerprint });
        for candidate in remote["candidates"].as_array().into_iter().flatten() {
            let port = candidate["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("a candidate without port")?;
            transport.add_candidate(SocketAddr::new(text(&candidate["ip"])?.parse()?, port));
        }
        Ok((id, transport))
    }

    async fn consume(&mut self, producer: &Value) -> anyhow::Result<()> {
        if self.subscriber.is_none() {
            let (id, transport) = self.open(Purpose::Receive).await?;
            self.subscriber = Some(Subscriber { id, transport, tracks: Vec::new() });
        }
        let transport = self.subscriber.as_ref().map(|subscriber| subscriber.id.clone());
        let spatial_layer = match self.participant.layer {
            Layer::High => 2,
            Layer::Medium => 1,
            Layer::Low => 0,
        };
        let wish =
            json!({ "transport": transport, "producer": producer, "feedback": !self.participant.is_sink, "spatialLayer": spatial_layer });
        let consumer = self.call("consume", wish).await?;
        let track = receive_track(&consumer).with_context(|| format!("a consumer that can't be read: {consumer}"))?;
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.tracks.push(track);
            subscriber.transport.receive(subscriber.tracks.clone());
        }
        Ok(())
    }

    async fn call(&mut self, method: &str, arguments: Value) -> anyhow::Result<Value> {
        self.requests += 1;
        let id = self.requests;
        let request = json!({ "id": id, "method": method, "arguments": arguments });
        let mut answer = self.socket.request(&request, |value| value["id"] == id).await?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{method} refused: {error}");
        }
        Ok(answer["result"].take())
    }
}

/// What is sent, in mediasoup's words.
fn rtp_parameters(track: &SendTrack) -> Value {
    let clock_rate = track.codec.clock_rate_hz();
    let mut codec = json!({ "mimeType": track.codec.mime(), "payloadType": track.payload_type, "clockRate": clock_rate });
    let mut codecs = Vec::new();
    if track.codec.is_video() {
        codec["rtcpFeedback"] = json!([
            { "type": "nack" }, { "type": "nack", "parameter": "pli" }, { "type": "ccm", "parameter": "fir" }, { "type": "transport-cc" },
        ]);
    } else {
        codec["channels"] = json!(2);
        codec["rtcpFeedback"] = json!([{ "type": "transport-cc" }]);
    }
    if track.codec == Codec::H264 {
        codec["parameters"] = json!({ "packetization-mode": 1, "profile-level-id": "42e01f", "level-asymmetry-allowed": 1 });
    }
    codecs.push(codec);
    if let Some(rtx) = track.rtx_payload_type {
        let parameters = json!({ "apt": track.payload_type });
        codecs.push(json!({ "mimeType": "video/rtx", "payloadType": rtx, "clockRate": clock_rate, "parameters": parameters }));
    }
    let mut extensions = vec![
        json!({ "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": extension_ids::MID }),
        json!({ "uri": TRANSPORT_CC, "id": extension_ids::TRANSPORT_CC }),
    ];
    if track.codec.is_video() {
        extensions.push(json!({ "uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": extension_ids::RID }));
        extensions.push(json!({ "uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "id": extension_ids::REPAIRED_RID }));
    } else {
        extensions.push(json!({ "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": extension_ids::AUDIO_LEVEL }));
    }
    let encodings: Vec<Value> = track
        .encodings
        .iter()
        .map(|encoding| match &encoding.rid {
            Some(rid) => json!({ "rid": rid.as_str() }),
            None if track.rtx_payload_type.is_some() => json!({ "ssrc": encoding.ssrc, "rtx": { "ssrc": encoding.rtx_ssrc } }),
            None => json!({ "ssrc": encoding.ssrc }),
        })
        .collect();
    let rtcp = json!({ "cname": "load", "reducedSize": true });
    json!({ "mid": track.mid, "codecs": codecs, "headerExtensions": extensions, "encodings": encodings, "rtcp": rtcp })
}

/// A consumer as the server describes it.
fn receive_track(consumer: &Value) -> Option<ReceiveTrack> {
    let parameters = &consumer["rtpParameters"];
    let number = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    let ssrc = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let mut formats = Vec::new();
    for codec in parameters["codecs"].as_array()? {
        let payload_type = number(&codec["payloadType"])?;
        let name = codec["mimeType"].as_str()?.split('/').nth(1)?;
        if name.eq_ignore_ascii_case("rtx") {
            formats.push((payload_type, Format::Rtx(number(&codec["parameters"]["apt"])?)));
        } else {
            formats.push((payload_type, Format::Codec(Codec::by_name(name)?)));
        }
    }
    let codec = formats.iter().find_map(|(_, format)| if let Format::Codec(codec) = format { Some(*codec) } else { None })?;
    let encoding = parameters["encodings"].get(0)?;
    let extensions = parameters["headerExtensions"].as_array()?;
    Some(ReceiveTrack {
        name: consumer["id"].as_str()?.to_owned(),
        codec,
        ssrc: ssrc(&encoding["ssrc"])?,
        rtx_ssrc: ssrc(&encoding["rtx"]["ssrc"]),
        formats,
        transport_cc: extensions.iter().find(|extension| extension["uri"] == TRANSPORT_CC).and_then(|extension| number(&extension["id"])),
    })
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn fingerprint(text: &str) -> anyhow::Result<Fingerprint> {
    let mut bytes = [0; 32];
    let parts: Vec<&str> = text.split(':').collect();
    ensure!(parts.len() == bytes.len(), "{} bytes", parts.len());
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16)?;
    }
    Ok(Fingerprint(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(0_u8..).for_each(|(byte, number)| *byte = number * 8);
        let original = Fingerprint(bytes);
        assert_eq!(fingerprint(&hex(&original)).unwrap(), original);
        assert!(fingerprint("AA:BB").is_err() && fingerprint(&"zz:".repeat(32)).is_err());
    }

    #[test]
    fn a_consumer_says_what_arrives() {
        let consumer = json!({ "id": "c1", "rtpParameters": {
            "codecs": [
                { "mimeType": "video/VP8", "payloadType": 101 },
                { "mimeType": "video/rtx", "payloadType": 102, "parameters": { "apt": 101 } },
            ],
            "headerExtensions": [{ "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1 }, { "uri": TRANSPORT_CC, "id": 5 }],
            "encodings": [{ "ssrc": 7, "rtx": { "ssrc": 8 } }],
        } });
        let track = receive_track(&consumer).unwrap();
        assert_eq!((track.ssrc, track.rtx_ssrc, track.transport_cc, track.codec), (7, Some(8), Some(5), Codec::Vp8));
        assert_eq!(track.formats, [(101, Format::Codec(Codec::Vp8)), (102, Format::Rtx(101))]);
        assert!(receive_track(&json!({})).is_none());
    }
}
