//! Writers of RTCP packets. Each appends to a buffer; several in a row are a compound.

use super::{
    APPLICATION, CNAME, FIR, FirEntry, MAX_COUNT, NACK, PAYLOAD_FEEDBACK, PLI, Pli, RECEIVER_REPORT, ReportBlock, SENDER_REPORT,
    SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK,
};
use crate::limits::MAX_NACKS;

/// Appends a sender report. Blocks that one packet cannot hold follow in receiver reports.
pub fn write_sender_report(out: &mut Vec<u8>, ssrc: u32, info: &SenderInfo, blocks: &[ReportBlock]) {
    let (blocks, further) = blocks.split_at(blocks.len().min(MAX_COUNT));
    write_packet(out, SENDER_REPORT, count(blocks.len()), |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.extend_from_slice(&info.ntp.0.to_be_bytes());
        out.extend_from_slice(&info.rtp_timestamp.to_be_bytes());
        out.extend_from_slice(&info.packet_count.to_be_bytes());
        out.extend_from_slice(&info.octet_count.to_be_bytes());
        blocks.iter().for_each(|block| write_block(out, block));
    });
    if !further.is_empty() {
        write_receiver_report(out, ssrc, further);
    }
}

/// Appends a receiver report, or as many as the blocks take; one without blocks is what a compound begins with when there is
/// nothing to report (RFC 3550 section 6.1).
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, mut blocks: &[ReportBlock]) {
    loop {
        let (some, further) = blocks.split_at(blocks.len().min(MAX_COUNT));
        write_packet(out, RECEIVER_REPORT, count(some.len()), |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            some.iter().for_each(|block| write_block(out, block));
        });
        if further.is_empty() {
            return;
        }
        blocks = further;
    }
}

fn write_block(out: &mut Vec<u8>, block: &ReportBlock) {
    // 24 bits; RFC 3550 appendix A.3 clamps the count.
    let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
    out.extend_from_slice(&block.ssrc.to_be_bytes());
    out.extend_from_slice(&[block.fraction_lost, lost[1], lost[2], lost[3]]);
    out.extend_from_slice(&block.highest_sequence.to_be_bytes());
    out.extend_from_slice(&block.jitter_ticks.to_be_bytes());
    out.extend_from_slice(&block.last_sr.0.to_be_bytes());
    out.extend_from_slice(&block.delay_since_last_sr.0.to_be_bytes());
}

/// Appends a source description with the canonical name of one stream; of a longer name the first 255 bytes.
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let text = cname.as_bytes();
    let text = &text[..text.len().min(usize::from(u8::MAX))];
    write_packet(out, SOURCE_DESCRIPTION, 1, |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.extend_from_slice(&[CNAME, u8::try_from(text.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(text);
        // The end of the items is at least one zero byte; write_packet() fills the word, but adds nothing to a full one.
        out.push(0);
    });
}

/// Appends a NACK for sequence numbers, ascending in the sense of their wrapping: the first [`MAX_NACKS`] of them, and nothing
/// if there are none.
pub fn write_nack(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, sequences: impl IntoIterator<Item = u16>) {
    let mut sequences = sequences.into_iter().take(MAX_NACKS);
    let Some(mut id) = sequences.next() else { return };
    write_packet(out, TRANSPORT_FEEDBACK, NACK, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        let mut mask = 0_u16;
        for sequence in sequences {
            match sequence.wrapping_sub(id) {
                0 => {}
                distance @ 1..=16 => mask |= 1 << (distance - 1),
                _ => {
                    write_pair(out, id, mask);
                    (id, mask) = (sequence, 0);
                }
            }
        }
        write_pair(out, id, mask);
    });
}

fn write_pair(out: &mut Vec<u8>, id: u16, mask: u16) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&mask.to_be_bytes());
}

/// Appends a picture loss indication.
pub fn write_pli(out: &mut Vec<u8>, pli: Pli) {
    write_packet(out, PAYLOAD_FEEDBACK, PLI, |out| {
        out.extend_from_slice(&pli.sender_ssrc.to_be_bytes());
        out.extend_from_slice(&pli.media_ssrc.to_be_bytes());
    });
}

/// Appends a full intra request for at most 31 streams.
pub fn write_fir(out: &mut Vec<u8>, sender_ssrc: u32, entries: &[FirEntry]) {
    write_packet(out, PAYLOAD_FEEDBACK, FIR, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        // RFC 5104 section 4.3.1.1: the media source SSRC is not used and is 0.
        out.extend_from_slice(&[0; 4]);
        for entry in entries.iter().take(MAX_COUNT) {
            out.extend_from_slice(&entry.ssrc.to_be_bytes());
            out.extend_from_slice(&[entry.sequence, 0, 0, 0]);
        }
    });
}

/// Appends an estimate of what the receiver of these streams can take, at most 31 of them
/// (draft-alvestrand-rmcat-remb-03 section 2.2).
pub fn write_remb(out: &mut Vec<u8>, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) {
    // 18 bits of mantissa; what is cut off makes the estimate smaller.
    let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(18);
    let [.., high, middle, low] = (bitrate_bps >> exponent).to_be_bytes();
    let exponent = u8::try_from(exponent).expect("at most 46");
    let ssrcs = &ssrcs[..ssrcs.len().min(MAX_COUNT)];
    write_packet(out, PAYLOAD_FEEDBACK, APPLICATION, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(b"REMB");
        out.extend_from_slice(&[count(ssrcs.len()), (exponent << 2) | high, middle, low]);
        ssrcs.iter().for_each(|ssrc| out.extend_from_slice(&ssrc.to_be_bytes()));
    });
}

/// Appends a header and what `write_body` appends, filled up with zeros to a full word; returns how many zeros that took.
pub(super) fn write_packet(out: &mut Vec<u8>, packet_type: u8, count_or_format: u8, write_body: impl FnOnce(&mut Vec<u8>)) -> u8 {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count_or_format, packet_type, 0, 0]);
    write_body(out);
    let body_len = out.len() - start - 4;
    let filled_len = body_len.next_multiple_of(4);
    out.resize(start + 4 + filled_len, 0);
    let words = u16::try_from(filled_len / 4).expect("every writer bounds its body");
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    u8::try_from(filled_len - body_len).expect("less than a word")
}

fn count(len: usize) -> u8 {
    u8::try_from(len).expect("at most MAX_COUNT")
}
