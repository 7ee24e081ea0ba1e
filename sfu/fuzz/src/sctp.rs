//! Data channels: SCTP packets of a client that has authenticated itself and turns malicious.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sfu_api::Delivery;
use sfu_core::limits::{MAX_DATA_MESSAGE, MAX_DATAGRAM};
use sfu_core::transport::fuzzing::RawDataChannels;

use crate::messages;

/// A client's packets. The first byte of each message says what it is: even, a packet as it is; odd, the chunks of a packet
/// whose header is made right. In front of them stands a byte of flags: 1, an association is established before; 2, the
/// server opens channels.
pub(crate) fn sctp(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let mut now = start();
    let mut world = World { channels: RawDataChannels::new(flags & 2 != 0), tag: 0 };
    if flags & 1 != 0 {
        world.establish(now);
    }
    for message in messages(data).take(64) {
        let Some((kind, bytes)) = message.split_first() else { continue };
        let packet = if kind & 1 == 0 { bytes.to_vec() } else { packet(world.tag, bytes) };
        let _ = world.channels.handle(now, &packet);
        world.drain(now);
        let _ = world.channels.send(now, Delivery::Reliable, b"reliable");
        let _ = world.channels.send(now, Delivery::Lossy, b"");
        world.drain(now);
        now += Duration::from_millis(u64::from(*kind));
        world.channels.handle_timeout(now);
        world.drain(now);
    }
}

struct World {
    channels: RawDataChannels,
    /// The server's verification tag.
    tag: u32,
}

impl World {
    /// INIT and COOKIE ECHO (RFC 9260 section 5.1) of a client whose first transmission sequence number is [`FIRST_TSN`].
    fn establish(&mut self, now: Instant) {
        let init = [
            &CLIENT_TAG.to_be_bytes()[..],
            &[0, 1, 0, 0, 0x04, 0, 0x04, 0],
            &FIRST_TSN.to_be_bytes(),
            &[0xc0, 0, 0, 4, 0x80, 0x08, 0, 6, 130, 192, 0, 0],
        ]
        .concat();
        assert!(self.channels.handle(now, &packet(0, &chunk(1, &init))).is_ok(), "an INIT is taken");
        let answers = self.drain(now);
        let Some((tag, cookie)) = answers.iter().find_map(|answer| read_init_ack(answer)) else { panic!("an INIT is answered") };
        self.tag = tag;
        assert!(self.channels.handle(now, &packet(tag, &chunk(10, &cookie))).is_ok(), "its own cookie is taken");
        self.drain(now);
    }

    /// Packets to be sent and events, within their bounds.
    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let packets = self.channels.packets(now);
        assert!(packets.iter().all(|packet| packet.len() <= MAX_DATAGRAM), "a packet fits a datagram");
        for (_, message) in self.channels.messages() {
            assert!(message.len() <= MAX_DATA_MESSAGE);
        }
        packets
    }
}

/// The server's tag and its cookie.
fn read_init_ack(packet: &[u8]) -> Option<(u32, Vec<u8>)> {
    let chunk = packet.get(12..)?;
    let tag = u32::from_be_bytes(*chunk.get(4..)?.first_chunk()?);
    let mut parameters = chunk.get(20..).filter(|_| chunk.first() == Some(&2))?;
    while let Some((&[k0, k1, l0, l1], _)) = parameters.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [k0, k1] == [0, 7] {
            return Some((tag, parameters.get(4..length)?.to_vec()));
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Chunks behind a common header with the right checksum (RFC 9260 appendix A).
fn packet(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let checksum = crc32c::crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut chunk = [&[kind, 0, length[0], length[1]], value].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

const CLIENT_TAG: u32 = 0x0102_0304;
/// Known to the corpus: its DATA chunks begin here.
const FIRST_TSN: u32 = 1000;

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
