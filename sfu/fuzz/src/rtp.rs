//! RTP headers with their extensions, RTCP, and SRTP around both.

use sfu_core::media::{Extension, ExtensionMap};
use sfu_core::rtp::extension::{Extensions, with_descriptor};
use sfu_core::rtp::header::{FIXED_LEN, FixedHeader, RtpHeader};
use sfu_core::rtp::rtcp::{RtcpPacket, packets, write_fir, write_nack, write_pli, write_receiver_report};
use sfu_core::transport::srtp::{InboundStream, KeyingMaterial, SrtpProfile, SrtpSession};

pub(crate) fn rtp(data: &[u8]) {
    let Ok(header) = RtpHeader::parse(data) else { return };
    assert!(header.len >= FIXED_LEN && header.len <= data.len());
    assert!(header.extension.start <= header.extension.end && header.extension.end <= header.len);
    if let Ok(payload) = header.payload(data) {
        assert!(payload.len() <= data.len() - header.len);
    }
    let fixed = FixedHeader {
        marker: header.marker,
        has_padding: header.has_padding,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    assert_eq!(fixed.to_bytes()[1..], data[1..FIXED_LEN]);

    let mut map = ExtensionMap::default();
    for (extension, id) in Extension::ALL.into_iter().zip(1..) {
        map.set(extension, id);
    }
    let found = Extensions::parse(&header, data, &map);
    for name in [found.mid, found.rid, found.repaired_rid].into_iter().flatten() {
        assert!(name.len() <= 255, "an element is at most 255 bytes long");
    }
    assert!(found.audio_level.is_none_or(|level| level.minus_dbov < 128));
    let without = Extensions::parse(&header, data, &ExtensionMap::default());
    assert!(without.mid.is_none() && without.transport_cc.is_none(), "what was not agreed is not read");
    check_forwarded(&found);
}

/// What subscribers get reads back with the ids of our offers, with another descriptor and without any.
fn check_forwarded(found: &Extensions<'_>) {
    let (block, place) = found.forwarded_block(None);
    check_block(&block, found, found.dependency_descriptor);
    let descriptor = found.dependency_descriptor.unwrap_or_default();
    let start = usize::from(place.at);
    assert_eq!(block.get(start..start + usize::from(place.len)), Some(descriptor));
    for other in [&[][..], &[7; 16], &[7; 17], &[7; 255]] {
        check_block(&with_descriptor(&block, place, other), found, Some(other).filter(|other| !other.is_empty()));
    }
}

fn check_block(block: &[u8], found: &Extensions<'_>, descriptor: Option<&[u8]>) {
    assert!(block.len().is_multiple_of(4));
    let mut offered = ExtensionMap::default();
    Extension::ALL.into_iter().for_each(|extension| offered.set(extension, extension.offered_id()));
    let packet = [&[0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9], block].concat();
    let Ok(header) = RtpHeader::parse(&packet) else { panic!("a forwarded packet has a header") };
    assert_eq!(header.len, packet.len());
    let read = Extensions::parse(&header, &packet, &offered);
    assert_eq!((read.audio_level, read.dependency_descriptor), (found.audio_level, descriptor));
    assert_eq!(read.transport_cc, Some(0), "there is room for a number of its own");
}

pub(crate) fn rtcp(data: &[u8]) {
    let mut count = 0;
    for packet in packets(data) {
        count += 1;
        let Ok(packet) = packet else { break };
        check_rtcp(packet, data.len());
    }
    assert!(count <= data.len() / 4 + 1, "a packet has at least four bytes");
}

fn check_rtcp(packet: RtcpPacket<'_>, compound_len: usize) {
    let mut out = Vec::new();
    match packet {
        RtcpPacket::SenderReport(report) => assert!(report.blocks().count() <= 31),
        RtcpPacket::ReceiverReport(report) => {
            let blocks: Vec<_> = report.blocks().collect();
            write_receiver_report(&mut out, report.ssrc, &blocks);
            let Some(Ok(RtcpPacket::ReceiverReport(again))) = packets(&out).next() else { panic!("a report reads back") };
            assert!(again.ssrc == report.ssrc && again.blocks().eq(blocks));
        }
        RtcpPacket::SourceDescription(names) => assert!(names.cnames().all(|(_, name)| name.len() <= 255)),
        RtcpPacket::Nack(nack) => {
            let sequences: Vec<u16> = nack.sequences().collect();
            assert!(sequences.len() <= 17 * (compound_len / 4));
            let first: Vec<u16> = sequences.iter().copied().take(17).collect();
            write_nack(&mut out, nack.sender_ssrc, nack.media_ssrc, first.iter().copied());
            let again = packets(&out).next();
            let Some(Ok(RtcpPacket::Nack(again))) = again else {
                assert!(first.is_empty(), "a request reads back");
                return;
            };
            let read: Vec<u16> = again.sequences().collect();
            assert!(first.iter().all(|sequence| read.contains(sequence)));
        }
        RtcpPacket::Pli(pli) => {
            write_pli(&mut out, pli);
            assert!(matches!(packets(&out).next(), Some(Ok(RtcpPacket::Pli(again))) if again == pli));
        }
        RtcpPacket::Fir(fir) => {
            let entries: Vec<_> = fir.entries().take(31).collect();
            write_fir(&mut out, fir.sender_ssrc, &entries);
            assert!(matches!(packets(&out).next(), Some(Ok(RtcpPacket::Fir(again))) if again.entries().eq(entries)));
        }
        RtcpPacket::CongestionFeedback(feedback) => assert!(feedback.statuses().count() <= compound_len),
        RtcpPacket::Remb(remb) => assert!(remb.ssrcs.iter().count() <= 255),
        RtcpPacket::TransportCc(feedback) => {
            let statuses: Vec<_> = feedback.statuses().collect();
            assert_eq!(statuses.len(), feedback.len());
            let is_in_order = statuses.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1));
            assert!(is_in_order);
        }
    }
}

/// Nobody without the keys gets a packet accepted, and what was sealed opens.
pub(crate) fn srtp(data: &[u8]) {
    for profile in SrtpProfile::ALL {
        let session = |side: fn(SrtpProfile, &KeyingMaterial) -> SrtpSession| {
            let exported: Vec<u8> = (0..=255).cycle().take(profile.keying_material_len()).collect();
            KeyingMaterial::from_exported(profile, &exported).map(|keys| side(profile, &keys))
        };
        let (Some(mut server), Some(client)) = (session(SrtpSession::server), session(SrtpSession::client)) else {
            panic!("the material has the right length");
        };
        let mut stream = InboundStream::default();
        if let Ok(header) = RtpHeader::parse(data) {
            let mut forged = data.to_vec();
            assert!(server.receiver.open_rtp(&mut stream, &mut forged, header.len).is_err());

            let index = u64::from(header.sequence);
            let mut sealed = data.to_vec();
            sealed.resize(data.len() + profile.rtp_tag_len(), 0);
            client.sender.seal_rtp(header.ssrc, index, &mut sealed, header.len);
            let opened = server.receiver.open_rtp(&mut stream, &mut sealed, header.len);
            assert!(opened.is_ok_and(|opened| opened.index == index && opened.payload_len == data.len() - header.len));
            assert_eq!(sealed[..data.len()], *data);
        }
        let mut forged = data.to_vec();
        assert!(server.receiver.open_rtcp(&mut forged).is_err());
    }
}
