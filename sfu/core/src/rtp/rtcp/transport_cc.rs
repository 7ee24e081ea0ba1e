//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! A packet tells of consecutive transport-wide sequence numbers whether and when they arrived. Arrival times are multiples
//! of 250 us; the first one refers to the sender of the feedback's own clock, each further one to the one before.

use arrayvec::ArrayVec;

use super::parse::Reader;
use super::write::write_packet;
use super::{PADDING, TRANSPORT_CC, TRANSPORT_FEEDBACK};
use crate::error::Discard;

/// A point in time on the clock of whoever sends the feedback, in units of 250 us. It wraps after 12 days, exactly like the
/// 24-bit reference time of 64 ms units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TransportCcTime(pub u32);

impl TransportCcTime {
    /// Microseconds of one unit.
    pub const UNIT_US: u32 = 250;

    /// Microseconds from `earlier` to this, negative if it is later.
    #[must_use]
    pub fn us_since(self, earlier: Self) -> i64 {
        i64::from(self.units_since(earlier)) * i64::from(Self::UNIT_US)
    }

    fn units_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Received feedback.
#[derive(Clone, Copy, Debug)]
pub struct TransportCc<'a> {
    /// Everything in front of the list.
    pub head: TransportCcHead,
    status_count: u16,
    reference_time: TransportCcTime,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

/// The fixed part of a feedback packet, without what follows from the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransportCcHead {
    /// Who reports.
    pub sender_ssrc: u32,
    /// One of the streams on the transport.
    pub media_ssrc: u32,
    /// First sequence number that is reported.
    pub base_sequence: u16,
    /// Counts feedback packets, wrapping: a gap is a lost one.
    pub feedback_count: u8,
}

/// What became of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketStatus {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// When it arrived; `None`: not until the feedback was sent.
    pub arrival: Option<TransportCcTime>,
}

impl<'a> TransportCc<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        let (sender_ssrc, media_ssrc) = (reader.u32()?, reader.u32()?);
        let (base_sequence, status_count) = (reader.u16()?, reader.u16()?);
        let &[a, b, c, feedback_count] = reader.array()?;
        // 64 ms are 256 units.
        let reference_time = TransportCcTime(u32::from_be_bytes([a, b, c, 0]));

        let list = reader.0;
        let (mut statuses_left, mut chunks_len, mut deltas_len) = (status_count, 0, 0);
        while statuses_left > 0 {
            let (count, chunk_deltas_len) = ChunkSymbols::new(*reader.array()?).measure(statuses_left).ok_or(Discard::RtcpMalformed)?;
            deltas_len += chunk_deltas_len;
            statuses_left -= count;
            chunks_len += 2;
        }
        let deltas = reader.take(deltas_len)?;
        let chunks = list.get(..chunks_len).ok_or(Discard::RtcpMalformed)?.as_chunks().0;
        let head = TransportCcHead { sender_ssrc, media_ssrc, base_sequence, feedback_count };
        Ok(Self { head, status_count, reference_time, chunks, deltas })
    }

    /// How many packets it is about.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty one is of no use to anyone")]
    pub fn len(&self) -> usize {
        usize::from(self.status_count)
    }

    /// What became of the packets, in order of their sequence numbers.
    pub fn statuses(&self) -> impl Iterator<Item = PacketStatus> + use<'a> {
        let (mut sequence, mut time, mut deltas) = (self.head.base_sequence, self.reference_time, Reader(self.deltas));
        let symbols = self.chunks.iter().flat_map(|&chunk| ChunkSymbols::new(chunk)).take(usize::from(self.status_count));
        symbols.map_while(move |symbol| {
            let delta = match symbol {
                Symbol::SmallDelta => Some(i32::from(deltas.u8().ok()?)),
                Symbol::LargeDelta => Some(i32::from(deltas.u16().ok()?.cast_signed())),
                Symbol::NotReceived | Symbol::Reserved => None,
            };
            let arrival = delta.map(|delta| {
                time = TransportCcTime(time.0.wrapping_add_signed(delta));
                time
            });
            let status = PacketStatus { sequence, arrival };
            sequence = sequence.wrapping_add(1);
            Some(status)
        })
    }
}

/// Section 3.1.1: what is told about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Symbol {
    NotReceived = 0,
    SmallDelta = 1,
    LargeDelta = 2,
    Reserved = 3,
}

impl Symbol {
    fn from_bits(bits: u16) -> Self {
        match bits & 3 {
            0 => Self::NotReceived,
            1 => Self::SmallDelta,
            2 => Self::LargeDelta,
            _ => Self::Reserved,
        }
    }

    /// Bytes of its receive delta.
    fn delta_len(self) -> Option<u8> {
        match self {
            Self::NotReceived => Some(0),
            Self::SmallDelta => Some(1),
            Self::LargeDelta => Some(2),
            Self::Reserved => None,
        }
    }
}

/// First bit of a status vector chunk (section 3.1.4); a run length chunk (section 3.1.3) has 0 there.
const VECTOR: u16 = 0x8000;
/// In a vector chunk: symbols have two bits.
const TWO_BIT: u16 = 0x4000;
const ONE_BIT_SYMBOLS: u8 = 14;
const TWO_BIT_SYMBOLS: u8 = 7;
const MAX_RUN: u16 = 0x1fff;

/// The symbols of one chunk.
enum ChunkSymbols {
    Run { symbol: Symbol, left: u16 },
    OneBit { bits: u16, left: u8 },
    TwoBit { bits: u16, left: u8 },
}

impl ChunkSymbols {
    fn new(chunk: [u8; 2]) -> Self {
        match u16::from_be_bytes(chunk) {
            bits if bits & VECTOR == 0 => Self::Run { symbol: Symbol::from_bits(bits >> 13), left: bits & MAX_RUN },
            bits if bits & TWO_BIT == 0 => Self::OneBit { bits, left: ONE_BIT_SYMBOLS },
            bits => Self::TwoBit { bits, left: TWO_BIT_SYMBOLS },
        }
    }

    /// Of the first `limit` symbols at most: how many there are, and bytes of their deltas. None if one is reserved. A run
    /// takes one step, however long it is: two bytes must not cost eight thousand.
    fn measure(self, limit: u16) -> Option<(u16, usize)> {
        if let Self::Run { symbol, left } = self {
            let count = left.min(limit);
            let delta_len = if count == 0 { 0 } else { symbol.delta_len()? };
            return Some((count, usize::from(count) * usize::from(delta_len)));
        }
        self.take(usize::from(limit)).try_fold((0, 0), |(count, len), symbol| Some((count + 1, len + usize::from(symbol.delta_len()?))))
    }
}

impl Iterator for ChunkSymbols {
    type Item = Symbol;

    fn next(&mut self) -> Option<Symbol> {
        match self {
            Self::Run { symbol, left } => {
                *left = left.checked_sub(1)?;
                Some(*symbol)
            }
            Self::OneBit { bits, left } => {
                *left = left.checked_sub(1)?;
                Some(Symbol::from_bits(*bits >> *left & 1))
            }
            Self::TwoBit { bits, left } => {
                *left = left.checked_sub(1)?;
                Some(Symbol::from_bits(*bits >> (2 * *left)))
            }
        }
    }
}

/// Most statuses in a packet that is written: their chunks take at most 294 bytes.
const MAX_STATUSES: usize = 1024;
/// Most bytes of deltas in a packet that is written, so that it fits a datagram on any path.
const MAX_DELTAS: usize = 800;

/// Appends a feedback packet about as many of `arrivals` as fit and returns how many; the first one belongs to
/// `head.base_sequence`. Nothing is written, and 0 returned, if none of those that fit has arrived.
///
/// The list ends early at its largest size, and at an arrival more than 8 s before or after the one that precedes it.
pub fn write_transport_cc(out: &mut Vec<u8>, head: TransportCcHead, arrivals: impl IntoIterator<Item = Option<TransportCcTime>>) -> usize {
    let mut symbols = ArrayVec::<Symbol, MAX_STATUSES>::new();
    let mut deltas = ArrayVec::<u8, MAX_DELTAS>::new();
    let mut reference_time = None;
    let mut last = TransportCcTime::default();
    for arrival in arrivals {
        if symbols.is_full() || deltas.remaining_capacity() < 2 {
            break;
        }
        let Some(arrival) = arrival else {
            symbols.push(Symbol::NotReceived);
            continue;
        };
        if reference_time.is_none() {
            last = TransportCcTime(arrival.0 & !0xff);
            reference_time = Some(last);
        }
        let delta = arrival.units_since(last);
        if let Ok(small) = u8::try_from(delta) {
            symbols.push(Symbol::SmallDelta);
            deltas.push(small);
        } else if let Ok(large) = i16::try_from(delta) {
            symbols.push(Symbol::LargeDelta);
            deltas.extend(large.to_be_bytes());
        } else {
            break;
        }
        last = arrival;
    }
    let Some(reference_time) = reference_time else { return 0 };
    let status_count = u16::try_from(symbols.len()).expect("at most MAX_STATUSES");
    let start = out.len();
    let padding = write_packet(out, TRANSPORT_FEEDBACK, TRANSPORT_CC, |out| {
        out.extend_from_slice(&head.sender_ssrc.to_be_bytes());
        out.extend_from_slice(&head.media_ssrc.to_be_bytes());
        out.extend_from_slice(&head.base_sequence.to_be_bytes());
        out.extend_from_slice(&status_count.to_be_bytes());
        let [a, b, c, _] = reference_time.0.to_be_bytes();
        out.extend_from_slice(&[a, b, c, head.feedback_count]);
        write_chunks(out, &symbols);
        out.extend_from_slice(&deltas);
    });
    if let (1.., Some(last)) = (padding, out.last_mut()) {
        *last = padding;
        out[start] |= PADDING;
    }
    symbols.len()
}

/// Takes whatever chunk covers most of what is left.
fn write_chunks(out: &mut Vec<u8>, mut symbols: &[Symbol]) {
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take(usize::from(MAX_RUN)).take_while(|&&symbol| symbol == first).count();
        let one_bit = &symbols[..symbols.len().min(usize::from(ONE_BIT_SYMBOLS))];
        let two_bit = &symbols[..symbols.len().min(usize::from(TWO_BIT_SYMBOLS))];
        let (chunk, covered) = if run >= one_bit.len() {
            (run_chunk(first, run), run)
        } else if !one_bit.contains(&Symbol::LargeDelta) {
            (vector_chunk(VECTOR, 1, ONE_BIT_SYMBOLS, one_bit), one_bit.len())
        } else if run >= two_bit.len() {
            (run_chunk(first, run), run)
        } else {
            (vector_chunk(VECTOR | TWO_BIT, 2, TWO_BIT_SYMBOLS, two_bit), two_bit.len())
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        symbols = &symbols[covered..];
    }
}

fn run_chunk(symbol: Symbol, len: usize) -> u16 {
    (symbol as u16) << 13 | u16::try_from(len).expect("at most MAX_RUN")
}

/// Symbols from the high end on; a last chunk is filled up with "not received", which the status count cuts off.
fn vector_chunk(kind: u16, bits_per_symbol: u8, capacity: u8, symbols: &[Symbol]) -> u16 {
    (0..capacity).rev().zip(symbols).fold(kind, |chunk, (place, &symbol)| chunk | (symbol as u16) << (place * bits_per_symbol))
}
