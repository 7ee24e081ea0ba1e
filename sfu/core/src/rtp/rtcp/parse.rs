//! Views of received RTCP packets.

use super::{
    APPLICATION, CNAME, CONGESTION_FEEDBACK, CongestionFeedback, FIR, NACK, PADDING, PAYLOAD_FEEDBACK, PLI, RECEIVER_REPORT, ReportBlock,
    SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_CC, TRANSPORT_FEEDBACK, TransportCc,
};
use crate::error::Discard;
use crate::rtp::ntp::NtpTime;

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum RtcpPacket<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport(SenderReport<'a>),
    /// RFC 3550 section 6.4.2.
    ReceiverReport(ReceiverReport<'a>),
    /// RFC 3550 section 6.5.
    SourceDescription(SourceDescription<'a>),
    /// RFC 4585 section 6.2.1.
    Nack(Nack<'a>),
    /// RFC 4585 section 6.3.1.
    Pli(Pli),
    /// RFC 5104 section 4.3.1.
    Fir(Fir<'a>),
    /// draft-alvestrand-rmcat-remb-03.
    Remb(Remb<'a>),
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportCc(TransportCc<'a>),
    /// RFC 8888.
    CongestionFeedback(CongestionFeedback<'a>),
}

/// The packets of a compound, one after the other. Unknown types are left out; the first malformed packet ends it with
/// [`Discard::RtcpMalformed`].
#[must_use]
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<RtcpPacket<'a>, Discard>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Ok((packet, rest)) = split_packet(self.rest) else {
                self.rest = &[];
                return Some(Err(Discard::RtcpMalformed));
            };
            self.rest = rest;
            match packet.and_then(|packet| packet.parse()) {
                Ok(None) => {}
                Ok(Some(packet)) => return Some(Ok(packet)),
                Err(malformed) => return Some(Err(malformed)),
            }
        }
        None
    }
}

/// Header and body of one packet, without padding.
struct RawPacket<'a> {
    count_or_format: u8,
    packet_type: u8,
    body: &'a [u8],
}

/// RFC 3550 section 6.4.1: version, padding, count, type, length in words without the header. The outer error: where the next packet
/// begins is not known.
fn split_packet(compound: &[u8]) -> Result<(Result<RawPacket<'_>, Discard>, &[u8]), Discard> {
    let (&[first, packet_type, len_high, len_low], rest) = compound.split_first_chunk().ok_or(Discard::RtcpMalformed)?;
    if first >> 6 != 2 {
        return Err(Discard::RtcpMalformed);
    }
    let len = 4 * usize::from(u16::from_be_bytes([len_high, len_low]));
    let (body, rest) = rest.split_at_checked(len).ok_or(Discard::RtcpMalformed)?;
    let unpadded = if first & PADDING == 0 { Some(body) } else { without_padding(body) };
    let packet = unpadded.map(|body| RawPacket { count_or_format: first & 0x1f, packet_type, body });
    Ok((packet.ok_or(Discard::RtcpMalformed), rest))
}

/// libwebrtc pads transport feedback inside of compounds, and by less than a word.
fn without_padding(body: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*body.last()?);
    body.len().checked_sub(padding).filter(|_| padding > 0).and_then(|len| body.get(..len))
}

impl<'a> RawPacket<'a> {
    fn parse(&self) -> Result<Option<RtcpPacket<'a>>, Discard> {
        let body = self.body;
        Ok(Some(match (self.packet_type, self.count_or_format) {
            (SENDER_REPORT, count) => RtcpPacket::SenderReport(SenderReport::parse(count, body)?),
            (RECEIVER_REPORT, count) => RtcpPacket::ReceiverReport(ReceiverReport::parse(count, body)?),
            (SOURCE_DESCRIPTION, count) => RtcpPacket::SourceDescription(SourceDescription::parse(count, body)?),
            (TRANSPORT_FEEDBACK, NACK) => RtcpPacket::Nack(Nack::parse(body)?),
            (TRANSPORT_FEEDBACK, TRANSPORT_CC) => RtcpPacket::TransportCc(TransportCc::parse(body)?),
            (TRANSPORT_FEEDBACK, CONGESTION_FEEDBACK) => RtcpPacket::CongestionFeedback(CongestionFeedback::parse(body)?),
            (PAYLOAD_FEEDBACK, PLI) => RtcpPacket::Pli(Pli::parse(body)?),
            (PAYLOAD_FEEDBACK, FIR) => RtcpPacket::Fir(Fir::parse(body)?),
            (PAYLOAD_FEEDBACK, APPLICATION) => return Ok(Remb::parse(body)?.map(RtcpPacket::Remb)),
            _ => return Ok(None),
        }))
    }
}

/// Report of a participant that sends.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The sender's stream.
    pub ssrc: u32,
    /// About that stream.
    pub info: SenderInfo,
    blocks: &'a [[u8; ReportBlock::LEN]],
}

impl<'a> SenderReport<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        Ok(Self {
            ssrc: reader.u32()?,
            info: SenderInfo {
                ntp: NtpTime(reader.u64()?),
                rtp_timestamp: reader.u32()?,
                packet_count: reader.u32()?,
                octet_count: reader.u32()?,
            },
            blocks: reader.items(usize::from(count))?,
        })
    }

    /// About the streams that it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        self.blocks.iter().map(ReportBlock::parse)
    }
}

/// Report of a participant that receives only.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: u32,
    blocks: &'a [[u8; ReportBlock::LEN]],
}

impl<'a> ReceiverReport<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        Ok(Self { ssrc: reader.u32()?, blocks: reader.items(usize::from(count))? })
    }

    /// About the streams that it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        self.blocks.iter().map(ReportBlock::parse)
    }
}

/// Names of streams.
#[derive(Clone, Copy, Debug)]
pub struct SourceDescription<'a> {
    count: u8,
    chunks: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    fn parse(count: u8, chunks: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(chunks);
        for _ in 0..count {
            read_chunk(&mut reader)?;
        }
        Ok(Self { count, chunks })
    }

    /// Streams with their canonical names; those without one are left out.
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut reader = Reader(self.chunks);
        (0..self.count).filter_map(move |_| read_chunk(&mut reader).ok()).filter_map(|(ssrc, cname)| Some((ssrc, cname?)))
    }
}

/// RFC 3550 section 6.5: an SSRC, then items up to an item of type 0, padded to a full word.
fn read_chunk<'a>(reader: &mut Reader<'a>) -> Result<(u32, Option<&'a [u8]>), Discard> {
    let ssrc = reader.u32()?;
    let mut cname = None;
    let mut len = 0_usize;
    loop {
        let item_type = reader.u8()?;
        if item_type == 0 {
            len += 1;
            reader.take(len.next_multiple_of(4) - len)?;
            return Ok((ssrc, cname));
        }
        let item_len = usize::from(reader.u8()?);
        let text = reader.take(item_len)?;
        len += 2 + item_len;
        if item_type == CNAME {
            cname = Some(text);
        }
    }
}

/// A list of streams.
#[derive(Clone, Copy, Debug)]
pub struct Ssrcs<'a>(&'a [[u8; 4]]);

impl<'a> Ssrcs<'a> {
    /// The streams.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.iter().map(|&ssrc| u32::from_be_bytes(ssrc))
    }
}

/// Packets that a receiver misses.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    /// The stream that they belong to.
    pub media_ssrc: u32,
    pairs: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        let (sender_ssrc, media_ssrc) = (reader.u32()?, reader.u32()?);
        Ok(Self { sender_ssrc, media_ssrc, pairs: reader.all_items()? })
    }

    /// Sequence numbers, in the order in which they were asked for.
    pub fn sequences(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.pairs.iter().flat_map(|&[id_high, id_low, mask_high, mask_low]| {
            let id = u16::from_be_bytes([id_high, id_low]);
            let mask = u16::from_be_bytes([mask_high, mask_low]);
            let following = (0..16_u16).filter(move |bit| mask >> bit & 1 != 0).map(move |bit| id.wrapping_add(bit + 1));
            std::iter::once(id).chain(following)
        })
    }
}

/// A keyframe is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pli {
    /// Who asks.
    pub sender_ssrc: u32,
    /// Of which stream.
    pub media_ssrc: u32,
}

impl Pli {
    fn parse(body: &[u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        Ok(Self { sender_ssrc: reader.u32()?, media_ssrc: reader.u32()? })
    }
}

/// Keyframes are wanted, numbered.
#[derive(Clone, Copy, Debug)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [[u8; 8]],
}

/// One request of a FIR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirEntry {
    /// Of which stream.
    pub ssrc: u32,
    /// The same number is the same request, repeated.
    pub sequence: u8,
}

impl<'a> Fir<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Discard> {
        let mut reader = Reader(body);
        let (sender_ssrc, _unused) = (reader.u32()?, reader.u32()?);
        Ok(Self { sender_ssrc, entries: reader.all_items()? })
    }

    /// The requests.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + use<'a> {
        self.entries.iter().map(|&[a, b, c, d, sequence, ..]| FirEntry { ssrc: u32::from_be_bytes([a, b, c, d]), sequence })
    }
}

/// A receiver's estimate of what its downlink carries.
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender_ssrc: u32,
    /// Total of all listed streams.
    pub bitrate_bps: u64,
    /// The streams.
    pub ssrcs: Ssrcs<'a>,
}

impl<'a> Remb<'a> {
    /// `None` if it is another application's feedback.
    fn parse(body: &'a [u8]) -> Result<Option<Self>, Discard> {
        let mut reader = Reader(body);
        let (sender_ssrc, _unused) = (reader.u32()?, reader.u32()?);
        if reader.array() != Ok(b"REMB") {
            return Ok(None);
        }
        let &[count, exponent_and_mantissa, middle, low] = reader.array()?;
        let mantissa = u128::from(u32::from_be_bytes([0, exponent_and_mantissa & 3, middle, low]));
        // 18 bits shifted by up to 63 fit.
        let bitrate_bps = u64::try_from(mantissa << (exponent_and_mantissa >> 2)).unwrap_or(u64::MAX);
        Ok(Some(Self { sender_ssrc, bitrate_bps, ssrcs: Ssrcs(reader.items(usize::from(count))?) }))
    }
}

/// Reads from the front; what is not there is malformed.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Discard> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Discard::RtcpMalformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Discard> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Discard::RtcpMalformed)?;
        self.0 = rest;
        Ok(array)
    }

    /// `count` items of the same size.
    pub(super) fn items<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], Discard> {
        Ok(self.take(count * N)?.as_chunks().0)
    }

    /// Items up to the end, which has to be the end of an item.
    fn all_items<const N: usize>(&mut self) -> Result<&'a [[u8; N]], Discard> {
        let (items, rest) = std::mem::take(&mut self.0).as_chunks();
        if rest.is_empty() { Ok(items) } else { Err(Discard::RtcpMalformed) }
    }

    pub(super) fn u8(&mut self) -> Result<u8, Discard> {
        self.array().map(|&[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Discard> {
        self.array().map(|&bytes| u16::from_be_bytes(bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Discard> {
        self.array().map(|&bytes| u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, Discard> {
        self.array().map(|&bytes| u64::from_be_bytes(bytes))
    }
}
