//! Data channels: SCTP (RFC 9260 over RFC 8261) and the channel protocol (RFC 8831, RFC 8832) over DTLS.
//!
//! In: SCTP packets that DTLS decrypted, messages to send. Out: SCTP packets to encrypt, [`DataEvent`]. Three channels
//! mean something, by their label: `_reliable`, `_lossy` and `_data_track`; other ones are accepted and their messages
//! ignored.
//! Invariants: a message is at most [`MAX_DATA_MESSAGE`] long in both directions; what waits to be sent is bounded; reliable
//! messages for a client whose channel is about to open wait for that and go out in order;
//! once an association is established, no packet can replace it (that takes a new DTLS connection).
//!
//! The client always begins (its DTLS role is the client's too), so this side only answers INIT. The association
//! itself is `rtc-sctp`, the channel protocol's messages are `rtc-datachannel`'s; [`guard`] stands in front.
//! Not here: who gets a message.

mod guard;
mod holdings;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use bytes::Bytes;
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen};
use rtc_sctp::{
    Association, AssociationError, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier, ReliabilityType,
    ServerConfig, StreamEvent, StreamId, TimerConfig, TransportConfig,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};
use sfu_api::Delivery;

use self::guard::{Guard, PacketKind};
use crate::error::Discard;
use crate::limits::{MAX_DATA_BUFFER, MAX_DATA_CHANNELS, MAX_DATA_MESSAGE, MAX_LOSSY_BUFFER, MAX_UNOPENED_DATA};

/// What happened on the data channels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DataEvent {
    /// Messages can be sent this way from here on.
    Opened(Delivery),
    /// The client sent a message.
    Message(Delivery, Vec<u8>),
    /// The association broke. Not reported when the client ends it properly.
    Failed,
}

/// Why a message was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No channel of this kind is open.
    #[error("the data channel is not open")]
    NotOpen,
    /// Longer than [`MAX_DATA_MESSAGE`].
    #[error("the message is too long")]
    TooLong,
    /// Too much is waiting already. On the lossy channel the message is simply lost, which is what the channel
    /// promises; on the reliable channel the transport fails, because its promise is broken.
    #[error("too much data is waiting to be sent")]
    Full,
}

/// The data channels of one transport.
pub(crate) struct DataChannels {
    /// One association per INIT while none is established: a client that repeats its INIT may go on with either answer.
    links: Vec<Link>,
    state: State,
    guard: Guard,
    channels: ArrayVec<Channel, MAX_DATA_CHANNELS>,
    /// This side opens the channels (subscriber role).
    has_to_open: bool,
    /// Reliable messages from before their channel is open; None if it is not to be expected to open.
    unopened: Option<Unopened>,
    events: VecDeque<DataEvent>,
}

/// Messages that wait for their channel.
#[derive(Default)]
struct Unopened {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Established,
    Ended,
}

struct Link {
    endpoint: Endpoint,
    association: Association,
}

#[derive(Clone, Copy)]
struct Channel {
    stream: StreamId,
    /// `None` for a label that means nothing to us.
    delivery: Option<Delivery>,
    is_open: bool,
}

impl DataChannels {
    /// Waits for the client's INIT.
    pub(crate) fn new() -> Self {
        Self {
            links: Vec::new(),
            state: State::Waiting,
            guard: Guard::default(),
            channels: ArrayVec::new(),
            has_to_open: false,
            unopened: None,
            events: VecDeque::new(),
        }
    }

    /// Opens the channels from this side when the association is established.
    pub(crate) fn open_when_ready(&mut self) {
        self.has_to_open = true;
        self.expect_channels();
    }

    /// The channels will be opened by one side: reliable messages wait for that.
    pub(crate) fn expect_channels(&mut self) {
        self.unopened = Some(Unopened::default());
    }

    /// Takes a decrypted SCTP packet.
    pub(crate) fn handle(&mut self, now: Instant, packet: &[u8]) -> Result<(), Discard> {
        let mut guard = self.guard;
        let kind = guard.inspect(packet)?;
        if self.state == State::Ended || (self.state == State::Established && kind == PacketKind::Init) {
            return Err(Discard::SctpMalformed);
        }
        self.guard = guard;
        match (self.state, kind) {
            (State::Waiting, PacketKind::Init) => self.begin(now, packet)?,
            (_, PacketKind::Abort) => self.end(),
            (_, PacketKind::Flood) => self.fail(),
            (_, PacketKind::Other | PacketKind::Init) => {
                let packet = Bytes::copy_from_slice(packet);
                let accepted = self.links.iter_mut().find_map(|link| {
                    let (_, event) = link.endpoint.handle(now, PEER, None, packet.clone())?;
                    let DatagramEvent::AssociationEvent(event) = event else { return None };
                    link.association.handle_event(event);
                    Some(())
                });
                accepted.ok_or(Discard::SctpMalformed)?;
            }
        }
        self.progress(now);
        Ok(())
    }

    /// Retransmits.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for link in &mut self.links {
            if link.association.poll_timeout().is_some_and(|at| at <= now) {
                link.association.handle_timeout(now);
            }
        }
        self.progress(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.links.iter().filter_map(|link| link.association.poll_timeout()).min()
    }

    /// Hands out the packets that are to be encrypted and sent.
    pub(crate) fn drain_packets(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        let guard = &mut self.guard;
        for link in &mut self.links {
            while let Some(transmit) = link.association.poll_transmit(now) {
                if let Payload::RawEncode(packets) = transmit.message {
                    for packet in &packets {
                        guard.sent(packet, RECEIVE_WINDOW);
                        send(packet);
                    }
                }
            }
        }
    }

    /// What happened.
    pub(crate) fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// Queues a message.
    pub(crate) fn send(&mut self, now: Instant, delivery: Delivery, payload: &[u8]) -> Result<(), DataError> {
        if payload.len() > MAX_DATA_MESSAGE {
            return Err(DataError::TooLong);
        }
        let Some(channel) = self.channels.iter().find(|c| c.is_open && c.delivery == Some(delivery)) else {
            return self.hold(delivery, payload);
        };
        let association = &mut self.links.first_mut().ok_or(DataError::NotOpen)?.association;
        let mut stream = association.stream(channel.stream).map_err(|_| DataError::NotOpen)?;
        let waiting = stream.buffered_amount().unwrap_or_default();
        let is_full = match delivery {
            Delivery::Lossy | Delivery::DataTrack => waiting >= MAX_LOSSY_BUFFER,
            Delivery::Reliable => waiting.saturating_add(payload.len()) > MAX_DATA_BUFFER,
        };
        if is_full {
            // A receiver that is slower than its senders loses messages, not the call; their own sequence numbers tell it.
            return Err(DataError::Full);
        }
        // RFC 8831 section 6.6: SCTP has no empty messages, a zero byte of another kind stands for one.
        let (payload, kind) = match payload {
            [] => (&[0][..], PayloadProtocolIdentifier::BinaryEmpty),
            payload => (payload, PayloadProtocolIdentifier::Binary),
        };
        stream.write_with_ppi(now, payload, kind).map_err(|_| DataError::NotOpen).map(drop)
    }

    /// Keeps a reliable message for a channel that will open.
    fn hold(&mut self, delivery: Delivery, payload: &[u8]) -> Result<(), DataError> {
        let unopened = self.unopened.as_mut().filter(|_| delivery == Delivery::Reliable).ok_or(DataError::NotOpen)?;
        if unopened.bytes.saturating_add(payload.len()) > MAX_UNOPENED_DATA || unopened.messages.len() >= MAX_UNOPENED_MESSAGES {
            return Err(DataError::Full);
        }
        unopened.bytes += payload.len();
        unopened.messages.push_back(payload.to_vec());
        Ok(())
    }

    /// A channel can be used: what waited for it goes out before anything else.
    fn opened(&mut self, now: Instant, delivery: Delivery) {
        self.events.push_back(DataEvent::Opened(delivery));
        if delivery == Delivery::Reliable
            && let Some(unopened) = self.unopened.take()
        {
            for message in unopened.messages {
                // The bound of what waits here is below that of the channel.
                let _ = self.send(now, delivery, &message);
            }
        }
    }

    /// Starts an association for an INIT.
    fn begin(&mut self, now: Instant, packet: &[u8]) -> Result<(), Discard> {
        let server = ServerConfig::new(
            TransportConfig::default()
                .with_max_receive_buffer_size(RECEIVE_WINDOW)
                .with_max_message_size(u32::try_from(MAX_DATA_MESSAGE).unwrap_or(u32::MAX))
                .with_max_num_inbound_streams(guard::MAX_STREAMS)
                .with_max_num_outbound_streams(guard::MAX_STREAMS)
                // An outage ends with ICE consent; until then data waits.
                .with_timer_config(TimerConfig { max_t3_rtx_retrans: usize::MAX, ..TimerConfig::default() }),
        );
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), Some(Arc::new(server)));
        let Some((_, DatagramEvent::NewAssociation(association))) = endpoint.handle(now, PEER, None, Bytes::copy_from_slice(packet)) else {
            return Err(Discard::SctpMalformed);
        };
        if self.links.len() >= MAX_LINKS {
            self.links.remove(0);
        }
        self.links.push(Link { endpoint, association });
        Ok(())
    }

    fn progress(&mut self, now: Instant) {
        let mut index = 0;
        while index < self.links.len() && self.state != State::Ended {
            while let Some(event) = self.links.get_mut(index).and_then(|link| link.association.poll()) {
                match event {
                    Event::Connected if self.state == State::Waiting => {
                        self.state = State::Established;
                        self.links.swap(0, index);
                        self.links.truncate(1);
                        index = 0;
                    }
                    Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id }) => self.read(now, id),
                    Event::AssociationLost { reason: AssociationError::TransportError, .. } => return self.fail(),
                    Event::AssociationLost { id, .. } => self.channels.retain(|channel| channel.stream != id),
                    _ => {}
                }
            }
            index += 1;
        }
        for link in &mut self.links {
            while link.association.accept_stream().is_some() {}
        }
        if self.state == State::Established && self.links.first().is_none_or(|link| link.association.is_closed()) {
            self.end();
        }
        self.open_if_possible(now);
    }

    fn fail(&mut self) {
        if self.state != State::Ended {
            self.end();
            self.events.push_back(DataEvent::Failed);
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.links.clear();
        self.channels.clear();
        self.unopened = None;
    }

    /// Reads every complete message of a stream.
    fn read(&mut self, now: Instant, id: StreamId) {
        loop {
            let Some(link) = self.links.first_mut() else { return };
            let Ok(Some(chunks)) = link.association.stream(id).and_then(|mut stream| stream.read_sctp()) else { return };
            self.guard.read(chunks.chunks.len());
            let Ok(message) = chunks.to_payload(MAX_DATA_MESSAGE) else { return self.fail() };
            match chunks.ppi {
                PayloadProtocolIdentifier::Dcep => self.handle_control(now, id, message.freeze()),
                PayloadProtocolIdentifier::String | PayloadProtocolIdentifier::Binary => self.deliver(id, message.into()),
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty => self.deliver(id, Vec::new()),
                _ => {}
            }
        }
    }

    fn deliver(&mut self, id: StreamId, message: Vec<u8>) {
        let channel = self.channels.iter().find(|channel| channel.stream == id);
        if let Some(delivery) = channel.and_then(|channel| channel.delivery) {
            self.events.push_back(DataEvent::Message(delivery, message));
        }
    }

    /// RFC 8832 section 5.
    fn handle_control(&mut self, now: Instant, id: StreamId, mut message: Bytes) {
        // The library has messages to itself under other types, and panics if one of these is cut short.
        if !matches!(message.first(), Some(&(DCEP_ACK | DCEP_OPEN))) {
            return;
        }
        match Message::unmarshal(&mut message) {
            Ok(Message::DataChannelOpen(open)) => self.accept(now, id, &open),
            Ok(Message::DataChannelAck(_)) => {
                let channel = self.channels.iter_mut().find(|channel| channel.stream == id && !channel.is_open);
                if let Some(channel) = channel {
                    channel.is_open = true;
                    if let Some(delivery) = channel.delivery {
                        self.opened(now, delivery);
                    }
                }
            }
            _ => {}
        }
    }

    fn accept(&mut self, now: Instant, id: StreamId, open: &DataChannelOpen) {
        if self.channels.is_full() || self.channels.iter().any(|channel| channel.stream == id) {
            return;
        }
        if self.write_control(now, id, open, &Message::DataChannelAck(DataChannelAck)).is_none() {
            return;
        }
        let delivery = DELIVERIES.into_iter().find(|&delivery| open.label == label(delivery).as_bytes());
        self.channels.push(Channel { stream: id, delivery, is_open: true });
        if let Some(delivery) = delivery {
            self.opened(now, delivery);
        }
    }

    fn open_if_possible(&mut self, now: Instant) {
        if self.state != State::Established || !std::mem::take(&mut self.has_to_open) {
            return;
        }
        // RFC 8832 section 6: the DTLS server takes odd streams.
        for (id, delivery) in [1, 3, 5].into_iter().zip(DELIVERIES) {
            let open = DataChannelOpen {
                channel_type: match delivery {
                    Delivery::Reliable => ChannelType::Reliable,
                    Delivery::Lossy | Delivery::DataTrack => ChannelType::PartialReliableRexmitUnordered,
                },
                priority: CHANNEL_PRIORITY_NORMAL,
                reliability_parameter: 0,
                label: label(delivery).into(),
                protocol: Vec::new(),
            };
            let Some(link) = self.links.first_mut() else { return };
            // An error means that the stream exists: the client took one of our numbers and keeps it.
            if link.association.open_stream(id, PayloadProtocolIdentifier::Binary).is_ok()
                && self.write_control(now, id, &open, &Message::DataChannelOpen(open.clone())).is_some()
            {
                let _ = self.channels.try_push(Channel { stream: id, delivery: Some(delivery), is_open: false });
            }
        }
    }

    /// Gives our direction of a stream the properties in `open` and sends a control message on it.
    fn write_control(&mut self, now: Instant, id: StreamId, open: &DataChannelOpen, message: &Message) -> Option<()> {
        let (is_unordered, reliability) = match open.channel_type {
            ChannelType::PartialReliableRexmit => (false, ReliabilityType::Rexmit),
            ChannelType::PartialReliableRexmitUnordered => (true, ReliabilityType::Rexmit),
            ChannelType::PartialReliableTimed => (false, ReliabilityType::Timed),
            ChannelType::PartialReliableTimedUnordered => (true, ReliabilityType::Timed),
            ChannelType::ReliableUnordered => (true, ReliabilityType::Reliable),
            _ => (false, ReliabilityType::Reliable),
        };
        let mut stream = self.links.first_mut()?.association.stream(id).ok()?;
        stream.set_reliability_params(is_unordered, reliability, open.reliability_parameter).ok()?;
        let bytes = message.marshal().ok()?;
        stream.write_with_ppi(now, &bytes, PayloadProtocolIdentifier::Dcep).ok().map(drop)
    }
}

fn label(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Reliable => "_reliable",
        Delivery::Lossy => "_lossy",
        Delivery::DataTrack => "_data_track",
    }
}

/// Types of the channel protocol's messages (RFC 8832 section 8.2.1).
const DCEP_ACK: u8 = 2;
const DCEP_OPEN: u8 = 3;
const DELIVERIES: [Delivery; 3] = [Delivery::Reliable, Delivery::Lossy, Delivery::DataTrack];
/// Reliable messages that wait for their channel; the bound in bytes says nothing of empty ones.
const MAX_UNOPENED_MESSAGES: usize = 4096;
/// Associations that wait for the client to choose one.
const MAX_LINKS: usize = 4;
/// Bytes that one client may make us hold while messages are incomplete; twice the longest message.
const RECEIVE_WINDOW: u32 = 512 * 1024;
/// SCTP over DTLS has no addresses, the library wants one.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

#[cfg(test)]
mod tests {
    // Some instant has to be the start of virtual time.
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repeated_inits_get_an_answer_each_and_keep_a_bounded_number_of_associations() {
        let mut data = DataChannels::new();
        for _ in 0..MAX_LINKS * 3 {
            data.handle(Instant::now(), &packet(&init(&[]))).unwrap();
            let mut answers = 0;
            data.drain_packets(Instant::now(), |packet| answers += usize::from(packet[12] == 2));
            assert_eq!(answers, 1);
            assert!(data.links.len() <= MAX_LINKS);
        }
    }

    #[test]
    fn a_message_that_never_ends_ends_the_association() {
        let (mut data, tag) = established();
        let mut tsn = 1;
        while data.state == State::Established {
            let flags = u8::from(tsn == 1) << 1;
            data.handle(Instant::now(), &packet_to(tag, &data_chunk(flags, tsn, 0, &[7; 1000]))).unwrap();
            data.drain_packets(Instant::now(), |_| {});
            tsn += 1;
            assert!(tsn < 1200, "1.2 MB are taken");
        }
        assert!(tsn > MAX_DATA_MESSAGE as u32 / 1000, "a long message fits");
        assert_eq!(data.poll_event(), Some(DataEvent::Failed));
    }

    #[test]
    fn messages_behind_a_gap_that_stays_are_not_remembered_without_bound() {
        let (mut data, tag) = established();
        let mut taken = 0;
        for tsn in 2..20_000 {
            let packet = packet_to(tag, &data_chunk(UNORDERED_WHOLE, tsn, 0, b"x"));
            taken += u32::from(data.handle(Instant::now(), &packet).is_ok());
            data.drain_packets(Instant::now(), |_| {});
        }
        assert!(data.state == State::Established && taken < 10_000, "{taken} chunks are remembered");
    }

    #[test]
    fn a_gap_that_is_filled_lets_a_client_go_on_for_ever() {
        let (mut data, tag) = established();
        for start in (1..60_000).step_by(3) {
            for tsn in [start + 1, start + 2, start] {
                data.handle(Instant::now(), &packet_to(tag, &data_chunk(WHOLE, tsn, tsn_to_ssn(tsn), &[7; 1000]))).unwrap();
                data.drain_packets(Instant::now(), |_| {});
            }
        }
        assert!(data.state == State::Established);
    }

    #[test]
    fn short_control_messages_of_any_type_are_survived() {
        let (mut data, tag) = established();
        for kind in 0..=255_u8 {
            for len in 1..14 {
                let number = u32::from(kind) * 13 + len;
                let mut control = data_chunk(WHOLE, number, tsn_to_ssn(number), &vec![kind; len as usize]);
                control[15] = 50;
                data.handle(Instant::now(), &packet_to(tag, &control)).unwrap();
                data.drain_packets(Instant::now(), |_| {});
            }
        }
        assert!(data.state == State::Established);
    }

    #[test]
    fn an_init_after_the_handshake_changes_nothing() {
        let (mut data, tag) = established();
        let stray = [&[1, 0, 0, 20][..], &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0x40, 0, 0, 0]].concat();
        assert_eq!(data.handle(Instant::now(), &packet(&stray)), Err(Discard::SctpMalformed));
        assert_eq!(data.handle(Instant::now(), &packet_to(tag, &data_chunk(WHOLE, 1, 0, b"x"))), Ok(()));
    }

    proptest! {
        #[test]
        fn arbitrary_inits_never_panic(
            parameters in prop::collection::vec((any::<u16>(), prop::sample::select(vec![0_u16, 1, 7, 13, 16, 0x8000, 0x8002, 0x8003, 0x8004, 0x8008, 0xC000]), 0..40_u16, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
            cut in 0..80_usize,
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (other, kind, length, value) in parameters {
                bytes.extend(if other % 8 == 0 { other } else { kind }.to_be_bytes());
                bytes.extend(if other % 4 == 0 { length } else { u16::try_from(value.len() + 4).unwrap() }.to_be_bytes());
                bytes.extend(value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes.truncate(bytes.len().saturating_sub(if cut < 8 { cut } else { 0 }));
            let mut data = DataChannels::new();
            let _ = data.handle(Instant::now(), &packet(&init(&bytes)));
            data.drain_packets(Instant::now(), |_| {});
        }

        #[test]
        fn arbitrary_packets_before_the_association_never_panic(chunks in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut data = DataChannels::new();
            data.handle(Instant::now(), &packet(&init(&[]))).unwrap();
            let _ = data.handle(Instant::now(), &packet(&chunks));
            data.handle_timeout(Instant::now());
        }
    }

    fn init(parameters: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + parameters.len()).unwrap().to_be_bytes();
        [&[1, 0], &length[..], &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1], parameters].concat()
    }

    /// An association with a client whose first number is 1, and the tag for its packets.
    fn established() -> (DataChannels, u32) {
        let mut data = DataChannels::new();
        data.handle(Instant::now(), &packet(&init(&[0xc0, 0, 0, 4, 0x80, 0x08, 0, 6, 130, 192, 0, 0]))).unwrap();
        let mut answer = Vec::new();
        data.drain_packets(Instant::now(), |packet| answer = packet.to_vec());
        let tag = u32::from_be_bytes(*answer[16..].first_chunk().unwrap());
        let mut parameters = &answer[32..];
        let cookie = loop {
            let length = usize::from(u16::from_be_bytes([parameters[2], parameters[3]]));
            if parameters[..2] == [0, 7] {
                break &parameters[4..length];
            }
            parameters = &parameters[length.next_multiple_of(4)..];
        };
        let length = u16::try_from(4 + cookie.len()).unwrap().to_be_bytes();
        data.handle(Instant::now(), &packet_to(tag, &[&[10, 0], &length[..], cookie].concat())).unwrap();
        data.drain_packets(Instant::now(), |_| {});
        assert!(data.state == State::Established);
        (data, tag)
    }

    const WHOLE: u8 = 3;
    const UNORDERED_WHOLE: u8 = 7;

    fn data_chunk(flags: u8, tsn: u32, ssn: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(16 + payload.len()).unwrap().to_be_bytes();
        let mut chunk =
            [&[0, flags], &length[..], &tsn.to_be_bytes(), &[0, 0], &ssn.to_be_bytes(), &53_u32.to_be_bytes(), payload].concat();
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    /// Of a client whose messages have a chunk each, from number 1 on.
    fn tsn_to_ssn(tsn: u32) -> u16 {
        crate::rtp::sequence::low16(u64::from(tsn - 1))
    }

    fn packet(chunks: &[u8]) -> Vec<u8> {
        packet_to(0, chunks)
    }

    fn packet_to(tag: u32, chunks: &[u8]) -> Vec<u8> {
        let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
        let checksum = crc32c::crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&checksum);
        packet
    }
}
