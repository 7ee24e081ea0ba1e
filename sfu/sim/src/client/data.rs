//! Data channels in the client role: begins the SCTP association, opens channels and accepts the server's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier,
    ReliabilityType, StreamEvent, StreamId,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};
use sfu_api::Delivery;

/// What happened on a client's data channels.
pub enum DataClientEvent {
    /// A channel can be used.
    Open(Delivery),
    /// A message came.
    Message(Delivery, Vec<u8>),
    /// The association ended.
    Lost,
}

pub(super) struct ClientData {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    opens_channels: bool,
    is_connected: bool,
    is_lost: bool,
    /// Common header of the latest packet sent.
    header: Option<[u8; 8]>,
    /// Stream, what it is for, usable.
    channels: Vec<(StreamId, Option<Delivery>, bool)>,
    events: VecDeque<DataClientEvent>,
}

impl ClientData {
    pub(super) fn connect(now: Instant, opens_channels: bool) -> Option<Self> {
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let (handle, association) = endpoint.connect(now, ClientConfig::default(), PEER).ok()?;
        Some(Self {
            endpoint,
            handle,
            association,
            opens_channels,
            is_connected: false,
            is_lost: false,
            header: None,
            channels: Vec::new(),
            events: VecDeque::new(),
        })
    }

    pub(super) fn handle(&mut self, now: Instant, packet: &[u8]) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, PEER, None, Bytes::copy_from_slice(packet))
            && handle == self.handle
        {
            self.association.handle_event(event);
        }
        self.progress(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.progress(now);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    pub(super) fn drain_packets(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                for packet in packets {
                    self.header = packet.first_chunk().copied();
                    send(&packet);
                }
            }
        }
    }

    /// A packet with these chunks in it that the server will take for this association's.
    pub(super) fn forge(&self, chunks: &[u8]) -> Option<Vec<u8>> {
        let mut packet = [&self.header?[..], &[0; 4], chunks].concat();
        let checksum = crc32c::crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&checksum);
        Some(packet)
    }

    pub(super) fn poll_event(&mut self) -> Option<DataClientEvent> {
        self.events.pop_front()
    }

    pub(super) fn send(&mut self, now: Instant, delivery: Delivery, payload: &[u8]) -> bool {
        let channel = self.channels.iter().find(|channel| channel.1 == Some(delivery) && channel.2);
        let Some(&(id, ..)) = channel else { return false };
        let Ok(mut stream) = self.association.stream(id) else { return false };
        match payload {
            [] => stream.write_with_ppi(now, &[0], PayloadProtocolIdentifier::BinaryEmpty).is_ok(),
            payload => stream.write_with_ppi(now, payload, PayloadProtocolIdentifier::Binary).is_ok(),
        }
    }

    pub(super) fn open(&mut self, now: Instant, label: &str, delivery: Delivery) -> bool {
        let id = (0..).step_by(2).find(|id| self.channels.iter().all(|channel| channel.0 != *id)).unwrap_or_default();
        let open = DataChannelOpen {
            channel_type: match delivery {
                Delivery::Reliable => ChannelType::Reliable,
                Delivery::Lossy | Delivery::DataTrack => ChannelType::PartialReliableRexmitUnordered,
            },
            priority: 256,
            reliability_parameter: 0,
            label: label.into(),
            protocol: Vec::new(),
        };
        self.channels.push((id, delivery_of(label.as_bytes()), false));
        self.association.open_stream(id, PayloadProtocolIdentifier::Binary).is_ok()
            && self.control(now, id, delivery != Delivery::Reliable, &Message::DataChannelOpen(open)).is_some()
    }

    fn progress(&mut self, now: Instant) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => {
                    self.is_connected = true;
                    if self.opens_channels {
                        self.open(now, "_reliable", Delivery::Reliable);
                        self.open(now, "_lossy", Delivery::Lossy);
                        self.open(now, "_data_track", Delivery::DataTrack);
                    }
                    for id in self.association.stream_ids() {
                        self.read(now, id);
                    }
                }
                // The server's first data may overtake its COOKIE-ACK; what is written before that would be lost.
                Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id }) if self.is_connected => self.read(now, id),
                _ => {}
            }
        }
        while self.association.accept_stream().is_some() {}
        if self.association.is_closed() && !std::mem::replace(&mut self.is_lost, true) {
            self.events.push_back(DataClientEvent::Lost);
        }
    }

    fn read(&mut self, now: Instant, id: StreamId) {
        while let Ok(Some(chunks)) = self.association.stream(id).and_then(|mut stream| stream.read_sctp()) {
            let Ok(mut message) = chunks.to_payload(usize::MAX) else { continue };
            let index = self.channels.iter().position(|channel| channel.0 == id);
            match (chunks.ppi, index) {
                (PayloadProtocolIdentifier::Dcep, index) => match (Message::unmarshal(&mut message), index) {
                    (Ok(Message::DataChannelOpen(open)), None) => {
                        let is_unordered = open.channel_type == ChannelType::PartialReliableRexmitUnordered;
                        let _ = self.control(now, id, is_unordered, &Message::DataChannelAck(DataChannelAck));
                        let delivery = delivery_of(&open.label);
                        self.channels.push((id, delivery, true));
                        self.events.extend(delivery.map(DataClientEvent::Open));
                    }
                    (Ok(Message::DataChannelAck(_)), Some(index)) => {
                        self.channels[index].2 = true;
                        self.events.extend(self.channels[index].1.map(DataClientEvent::Open));
                    }
                    _ => {}
                },
                (kind, Some(index)) => {
                    let is_empty = matches!(kind, PayloadProtocolIdentifier::BinaryEmpty | PayloadProtocolIdentifier::StringEmpty);
                    let payload = if is_empty { Vec::new() } else { message.to_vec() };
                    self.events.extend(self.channels[index].1.map(|delivery| DataClientEvent::Message(delivery, payload)));
                }
                _ => {}
            }
        }
    }

    fn control(&mut self, now: Instant, id: StreamId, is_lossy: bool, message: &Message) -> Option<()> {
        let mut stream = self.association.stream(id).ok()?;
        let kind = if is_lossy { ReliabilityType::Rexmit } else { ReliabilityType::Reliable };
        stream.set_reliability_params(is_lossy, kind, 0).ok()?;
        stream.write_with_ppi(now, &message.marshal().ok()?, PayloadProtocolIdentifier::Dcep).ok().map(drop)
    }
}

fn delivery_of(label: &[u8]) -> Option<Delivery> {
    match label {
        b"_reliable" => Some(Delivery::Reliable),
        b"_lossy" => Some(Delivery::Lossy),
        b"_data_track" => Some(Delivery::DataTrack),
        _ => None,
    }
}

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);
