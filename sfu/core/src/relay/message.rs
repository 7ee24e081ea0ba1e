//! The envelope: what crosses between two shards (or, later, two nodes) that share a room, as bytes.
//!
//! A frame is its length (4 bytes), its kind (1 byte) and its fields in network byte order. Tracks are named by the handle
//! that their publisher's shard gave them; rooms, participants and tracks by the ids of signaling. Packets go as they are in
//! the publisher's ring: decrypted, with the extension block that every subscriber gets.
//! Invariant: what [`Message::parse`] makes of a frame is what [`Message::write`] was given; other bytes are refused.

use arrayvec::ArrayVec;
use sfu_api::{ParticipantId, RoomId, TrackId};

use super::fields::{Reader, Writer};
pub use super::opened::{Opened, OpenedEncoding};
use crate::limits::MAX_BACKUP_CODECS;
use crate::media::Codec;
use crate::rtp::extension::{AudioLevel, DescriptorPlace};
use crate::rtp::ntp::NtpTime;

/// Name of a track on a link: the key that its publisher's shard has for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(pub u64);

/// What subscribers elsewhere want of one codec: the highest spatial layer, if any.
pub type CodecWish = (Codec, Option<u8>);
/// Codecs of one track.
pub type CodecWishes = ArrayVec<CodecWish, { MAX_BACKUP_CODECS + 1 }>;

/// A decrypted packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Track.
    pub handle: Handle,
    /// Encoding of the track.
    pub encoding: u8,
    /// Extended sequence number, of the encoding.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// Where the dependency descriptor stands in the block.
    pub descriptor: DescriptorPlace,
    /// Extension block as subscribers get it.
    pub block: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// What crosses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// The sender has participants of the room and wants to know its tracks. `is_first`: it waits for the same in return.
    Attach {
        /// Which room.
        room: RoomId,
        /// Not an answer.
        is_first: bool,
    },
    /// The sender has nobody in the room (any more).
    Detach {
        /// Which room.
        room: RoomId,
    },
    /// A track is published.
    Open(Box<Opened>),
    /// A track has ended.
    Close {
        /// Which.
        handle: Handle,
    },
    /// Media.
    Packet(Packet<'a>),
    /// A track was muted or unmuted.
    Muted {
        /// Which.
        handle: Handle,
        /// New state.
        is_muted: bool,
    },
    /// An encoding goes on as another stream, whose timestamps begin anywhere.
    StartOver {
        /// Track.
        handle: Handle,
        /// Encoding of the track.
        encoding: u8,
    },
    /// The audio of a track comes in another form from here on.
    Reform {
        /// Track.
        handle: Handle,
        /// With redundancy.
        has_red: bool,
    },
    /// The publisher's clock.
    SenderReport {
        /// Track.
        handle: Handle,
        /// Encoding of the track.
        encoding: u8,
        /// Wall clock.
        ntp: NtpTime,
        /// The same moment in RTP ticks.
        rtp: u32,
        /// Microseconds since it arrived.
        age_us: u32,
    },
    /// Which encodings flow, whether or not they cross: a bit each.
    Activity {
        /// Track.
        handle: Handle,
        /// Bit i: encoding i.
        flowing: u8,
    },
    /// Level of an audio packet: every shard of the room finds out who speaks.
    Level {
        /// Track.
        handle: Handle,
        /// Level.
        level: AudioLevel,
    },
    /// A data track is published.
    DataOpen {
        /// Where.
        room: RoomId,
        /// Whose.
        participant: ParticipantId,
        /// Its id.
        track: TrackId,
        /// Handle in its packets.
        handle: u16,
    },
    /// A data track has ended.
    DataClose {
        /// Which.
        track: TrackId,
    },
    /// A packet of a data track.
    DataPacket {
        /// Which.
        track: TrackId,
        /// As the publisher sent it.
        bytes: &'a [u8],
    },
    /// Back to the publisher's shard: which encodings of a track should cross, a bit each.
    Want {
        /// Track.
        handle: Handle,
        /// Bit i: encoding i.
        encodings: u8,
    },
    /// Back: a subscriber needs a keyframe.
    Keyframe {
        /// Track.
        handle: Handle,
        /// Encoding of the track.
        encoding: u8,
    },
    /// Back: what subscribers want of each codec, so that the publisher sends it and no more.
    Wanted {
        /// Track (its preferred codec).
        handle: Handle,
        /// All of them.
        codecs: CodecWishes,
    },
    /// Back: packets of a data track are wanted, or not any more.
    DataWant {
        /// Which.
        track: TrackId,
        /// New state.
        is_wanted: bool,
    },
}

/// Bytes in front of a frame's fields: length of what follows, kind.
const LENGTH: usize = 4;

/// The first frame of `bytes` without its length, and what follows; `None` if it is not whole.
#[must_use]
pub fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

impl<'a> Message<'a> {
    /// Appends the frame. Returns its length.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        let mut writer = Writer(out);
        self.write_fields(&mut writer);
        let length = out.len() - start;
        let body = u32::try_from(length - LENGTH).unwrap_or(u32::MAX);
        out[start..start + LENGTH].copy_from_slice(&body.to_be_bytes());
        length
    }

    fn write_fields(&self, w: &mut Writer<'_>) {
        match self {
            Self::Attach { room, is_first } => w.u8(0).u64(room.0).flag(*is_first),
            Self::Detach { room } => w.u8(1).u64(room.0),
            Self::Open(opened) => opened.write(w.u8(2)),
            Self::Close { handle } => w.u8(3).u64(handle.0),
            Self::Packet(packet) => packet.write(w.u8(4)),
            Self::Muted { handle, is_muted } => w.u8(5).u64(handle.0).flag(*is_muted),
            Self::StartOver { handle, encoding } => w.u8(6).u64(handle.0).u8(*encoding),
            Self::Reform { handle, has_red } => w.u8(7).u64(handle.0).flag(*has_red),
            Self::SenderReport { handle, encoding, ntp, rtp, age_us } => {
                w.u8(8).u64(handle.0).u8(*encoding).u64(ntp.0).u32(*rtp).u32(*age_us)
            }
            Self::Activity { handle, flowing } => w.u8(9).u64(handle.0).u8(*flowing),
            Self::Level { handle, level } => w.u8(10).u64(handle.0).flag(level.voice).u8(level.minus_dbov),
            Self::DataOpen { room, participant, track, handle } => w.u8(11).u64(room.0).u64(participant.0).u64(track.0).u16(*handle),
            Self::DataClose { track } => w.u8(12).u64(track.0),
            Self::DataPacket { track, bytes } => w.u8(13).u64(track.0).rest(bytes),
            Self::Want { handle, encodings } => w.u8(14).u64(handle.0).u8(*encodings),
            Self::Keyframe { handle, encoding } => w.u8(15).u64(handle.0).u8(*encoding),
            Self::Wanted { handle, codecs } => {
                let w = w.u8(16).u64(handle.0).count(codecs.len());
                // A layer has at most 5 bits; all ones say that nobody wants the codec.
                codecs.iter().fold(w, |w, (codec, layer)| w.codec(*codec).u8(layer.unwrap_or(u8::MAX)))
            }
            Self::DataWant { track, is_wanted } => w.u8(17).u64(track.0).flag(*is_wanted),
        };
    }

    /// Reads a frame without its length. `None` if it is none.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(frame);
        let r = &mut reader;
        let message = match r.u8()? {
            0 => Self::Attach { room: RoomId(r.u64()?), is_first: r.flag()? },
            1 => Self::Detach { room: RoomId(r.u64()?) },
            2 => Self::Open(Box::new(Opened::read(r)?)),
            3 => Self::Close { handle: r.handle()? },
            4 => Self::Packet(Packet::read(r)?),
            5 => Self::Muted { handle: r.handle()?, is_muted: r.flag()? },
            6 => Self::StartOver { handle: r.handle()?, encoding: r.u8()? },
            7 => Self::Reform { handle: r.handle()?, has_red: r.flag()? },
            8 => Self::SenderReport { handle: r.handle()?, encoding: r.u8()?, ntp: NtpTime(r.u64()?), rtp: r.u32()?, age_us: r.u32()? },
            9 => Self::Activity { handle: r.handle()?, flowing: r.u8()? },
            10 => Self::Level { handle: r.handle()?, level: AudioLevel { voice: r.flag()?, minus_dbov: r.u8()? & 0x7f } },
            11 => {
                Self::DataOpen { room: RoomId(r.u64()?), participant: ParticipantId(r.u64()?), track: TrackId(r.u64()?), handle: r.u16()? }
            }
            12 => Self::DataClose { track: TrackId(r.u64()?) },
            13 => Self::DataPacket { track: TrackId(r.u64()?), bytes: r.rest() },
            14 => Self::Want { handle: r.handle()?, encodings: r.u8()? },
            15 => Self::Keyframe { handle: r.handle()?, encoding: r.u8()? },
            16 => {
                let handle = r.handle()?;
                let codecs = r.list(|r| Some((r.codec()?, Some(r.u8()?).filter(|&layer| layer != u8::MAX))))?;
                Self::Wanted { handle, codecs }
            }
            17 => Self::DataWant { track: TrackId(r.u64()?), is_wanted: r.flag()? },
            _ => return None,
        };
        reader.0.is_empty().then_some(message)
    }
}

impl<'a> Packet<'a> {
    fn write<'w, 'o>(&self, w: &'w mut Writer<'o>) -> &'w mut Writer<'o> {
        w.u64(self.handle.0).u8(self.encoding).u64(self.sequence).u32(self.timestamp).flag(self.marker);
        w.u8(self.descriptor.at).u8(self.descriptor.len);
        w.u16(u16::try_from(self.block.len()).unwrap_or(0)).rest(self.block).rest(self.payload)
    }

    fn read(r: &mut Reader<'a>) -> Option<Self> {
        let (handle, encoding, sequence, timestamp, marker) = (r.handle()?, r.u8()?, r.u64()?, r.u32()?, r.flag()?);
        let descriptor = DescriptorPlace { at: r.u8()?, len: r.u8()? };
        let block_len = usize::from(r.u16()?);
        let block = r.take(block_len)?;
        if usize::from(descriptor.at) + usize::from(descriptor.len) > block.len() {
            return None;
        }
        Some(Self { handle, encoding, sequence, timestamp, marker, descriptor, block, payload: r.rest() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use sfu_api::BackupPolicy;

    use super::*;
    use crate::media::Rid;

    fn opened() -> Opened {
        let encoding = |rid: &str, size| OpenedEncoding {
            rid: Some(rid).filter(|rid| !rid.is_empty()).map(|rid| Rid::from(rid).unwrap()),
            size,
            layers: ArrayVec::from_iter([(1, 2), (3, 4)]),
        };
        Opened {
            handle: Handle(7),
            room: RoomId(1),
            participant: ParticipantId(2),
            track: TrackId(3),
            primary: Some(Handle(6)),
            codec: Codec::Av1,
            fmtp: "profile=0".into(),
            has_red: true,
            stereo: true,
            dtx: false,
            red: true,
            is_muted: true,
            is_screen: true,
            encodings: ArrayVec::from_iter([encoding("q", (320, 180)), encoding("", (0, 0))]),
            announced_backups: ArrayVec::from_iter([Codec::Vp8]),
            backup_policy: BackupPolicy::Simulcast,
        }
    }

    fn all() -> Vec<Message<'static>> {
        let (handle, room, participant, track) = (Handle(u64::MAX), RoomId(1), ParticipantId(2), TrackId(3));
        let packet = Packet {
            handle,
            encoding: 2,
            sequence: u64::MAX,
            timestamp: u32::MAX,
            marker: true,
            descriptor: DescriptorPlace { at: 1, len: 3 },
            block: b"bloc",
            payload: b"payload",
        };
        vec![
            Message::Attach { room, is_first: true },
            Message::Detach { room },
            Message::Open(Box::new(opened())),
            Message::Close { handle },
            Message::Packet(packet),
            Message::Muted { handle, is_muted: true },
            Message::StartOver { handle, encoding: 1 },
            Message::Reform { handle, has_red: false },
            Message::SenderReport { handle, encoding: 1, ntp: NtpTime(u64::MAX), rtp: 5, age_us: 6 },
            Message::Activity { handle, flowing: 5 },
            Message::Level { handle, level: AudioLevel { voice: true, minus_dbov: 127 } },
            Message::DataOpen { room, participant, track, handle: 9 },
            Message::DataClose { track },
            Message::DataPacket { track, bytes: b"data" },
            Message::Want { handle, encodings: 7 },
            Message::Keyframe { handle, encoding: 2 },
            Message::Wanted { handle, codecs: CodecWishes::from_iter([(Codec::Vp8, None), (Codec::Pcma, Some(2))]) },
            Message::DataWant { track, is_wanted: false },
        ]
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut bytes = Vec::new();
        for message in all() {
            message.write(&mut bytes);
        }
        let mut rest = &bytes[..];
        for message in all() {
            let (frame, tail) = split_frame(rest).unwrap();
            assert_eq!(Message::parse(frame), Some(message));
            rest = tail;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_frame_that_is_cut_or_goes_on_is_refused() {
        for message in all() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert!(split_frame(&bytes[..bytes.len() - 1]).is_none());
            let frame = &bytes[LENGTH..];
            if !matches!(message, Message::Packet(_) | Message::DataPacket { .. }) {
                assert_eq!(Message::parse(&frame[..frame.len() - 1]), None, "{message:?}");
                assert_eq!(Message::parse(&[frame, &[0]].concat()), None, "{message:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::parse(&bytes) {
                let mut written = Vec::new();
                message.write(&mut written);
                prop_assert_eq!(Message::parse(&written[LENGTH..]), Some(message));
            }
        }
    }
}
