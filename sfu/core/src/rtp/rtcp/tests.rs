//! Writers and parser against each other, and both against the independent implementation in `rtc-rtcp`.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport as TheirReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport as TheirSenderReport;
use rtc_rtcp::source_description::{SdesType, SourceDescription as TheirDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::*;
use crate::error::Discard;
use crate::limits::MAX_NACKS;
use crate::rtp::ntp::{CompactNtp, NtpTime};

#[test]
fn reports_are_read_by_the_other_implementation_as_they_were_written() {
    let mut rng = SmallRng::seed_from_u64(1);
    for count in [0, 1, 2, 31] {
        let (info, blocks) = (random_info(&mut rng), random_blocks(&mut rng, count));
        let mut out = Vec::new();
        write_sender_report(&mut out, 7, &info, &blocks);
        let theirs = TheirSenderReport::unmarshal(&mut &out[..]).unwrap();
        assert_eq!(theirs, their_sender_report(7, &info, &blocks));

        out.clear();
        write_receiver_report(&mut out, 7, &blocks);
        let theirs = TheirReceiverReport::unmarshal(&mut &out[..]).unwrap();
        assert_eq!((theirs.ssrc, theirs.reports), (7, blocks.iter().map(their_block).collect()));
    }
}

#[test]
fn reports_of_the_other_implementation_are_read_as_they_were_written() {
    let mut rng = SmallRng::seed_from_u64(2);
    for count in [0, 1, 2, 31] {
        let (info, mut blocks) = (random_info(&mut rng), random_blocks(&mut rng, count));
        // Their count of lost packets has no sign.
        blocks.iter_mut().for_each(|block| block.cumulative_lost &= 0x7f_ffff);
        let bytes = their_sender_report(9, &info, &blocks).marshal().unwrap();
        let [RtcpPacket::SenderReport(report)] = parse_all(&bytes)[..] else { panic!("one report") };
        assert_eq!((report.ssrc, report.info), (9, info));
        assert_eq!(report.blocks().collect::<Vec<_>>(), blocks);

        let theirs = TheirReceiverReport { ssrc: 9, reports: blocks.iter().map(their_block).collect(), ..Default::default() };
        let bytes = theirs.marshal().unwrap();
        let [RtcpPacket::ReceiverReport(report)] = parse_all(&bytes)[..] else { panic!("one report") };
        assert_eq!(report.blocks().collect::<Vec<_>>(), blocks);
    }
}

#[test]
fn more_blocks_than_one_report_holds_follow_in_further_ones() {
    let mut rng = SmallRng::seed_from_u64(3);
    let blocks = random_blocks(&mut rng, 70);
    let mut out = Vec::new();
    write_sender_report(&mut out, 7, &random_info(&mut rng), &blocks);
    let [RtcpPacket::SenderReport(first), RtcpPacket::ReceiverReport(second), RtcpPacket::ReceiverReport(third)] = parse_all(&out)[..]
    else {
        panic!("three reports")
    };
    assert_eq!(first.blocks().chain(second.blocks()).chain(third.blocks()).collect::<Vec<_>>(), blocks);
}

#[test]
fn the_count_of_lost_packets_keeps_its_sign_and_is_clamped() {
    for (lost, read) in [(0, 0), (-1, -1), (0x7f_ffff, 0x7f_ffff), (-0x80_0000, -0x80_0000), (i32::MAX, 0x7f_ffff), (i32::MIN, -0x80_0000)]
    {
        let mut out = Vec::new();
        write_receiver_report(&mut out, 7, &[ReportBlock { cumulative_lost: lost, ..ReportBlock::default() }]);
        let [RtcpPacket::ReceiverReport(report)] = parse_all(&out)[..] else { panic!("one report") };
        assert_eq!(report.blocks().next().unwrap().cumulative_lost, read);
    }
}

#[test]
fn a_canonical_name_of_any_length_survives() {
    for len in 0..256 {
        let cname = "c".repeat(len);
        let mut out = Vec::new();
        write_sdes_cname(&mut out, 5, &cname);
        assert_eq!(out.len() % 4, 0);
        let theirs = TheirDescription::unmarshal(&mut &out[..]).unwrap();
        assert_eq!((theirs.chunks[0].source, &theirs.chunks[0].items[0].text[..]), (5, cname.as_bytes()));
        let [RtcpPacket::SourceDescription(sdes)] = parse_all(&out)[..] else { panic!("one description") };
        assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(5, cname.as_bytes())]);
    }
}

#[test]
fn a_description_of_several_streams_with_other_items_gives_the_canonical_names() {
    let item = |sdes_type, text: &'static str| SourceDescriptionItem { sdes_type, text: Bytes::from_static(text.as_bytes()) };
    let chunks = vec![
        SourceDescriptionChunk { source: 1, items: vec![item(SdesType::SdesTool, "t"), item(SdesType::SdesCname, "one")] },
        SourceDescriptionChunk { source: 2, items: vec![item(SdesType::SdesNote, "nothing")] },
        SourceDescriptionChunk { source: 3, items: vec![item(SdesType::SdesCname, "three")] },
    ];
    let bytes = TheirDescription { chunks }.marshal().unwrap();
    let [RtcpPacket::SourceDescription(sdes)] = parse_all(&bytes)[..] else { panic!("one description") };
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(1, &b"one"[..]), (3, &b"three"[..])]);
}

#[test]
fn nacks_agree_with_the_other_implementation_across_every_wrap() {
    let mut rng = SmallRng::seed_from_u64(4);
    for start in [0_u16, 1, 32_767, 32_768, 65_500, 65_534, 65_535] {
        for _ in 0..50 {
            let mut at = start;
            let sequences: Vec<u16> = (0..rng.random_range(1..60))
                .map(|_| {
                    at = at.wrapping_add(rng.random_range(1..25));
                    at
                })
                .collect();
            let mut out = Vec::new();
            write_nack(&mut out, 1, 2, sequences.iter().copied());
            let theirs = TransportLayerNack::unmarshal(&mut &out[..]).unwrap();
            assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (1, 2));
            assert_eq!(theirs.nacks.iter().flat_map(|pair| pair.packet_list()).collect::<Vec<_>>(), sequences);

            let theirs = TransportLayerNack { sender_ssrc: 3, media_ssrc: 4, nacks: nack_pairs_from_sequence_numbers(&sequences) };
            let bytes = theirs.marshal().unwrap();
            let [RtcpPacket::Nack(nack)] = parse_all(&bytes)[..] else { panic!("one NACK") };
            assert_eq!((nack.sender_ssrc, nack.media_ssrc), (3, 4));
            assert_eq!(nack.sequences().collect::<Vec<_>>(), sequences);
        }
    }
}

#[test]
fn a_nack_for_nothing_is_not_written_and_a_long_one_is_cut() {
    let mut out = Vec::new();
    write_nack(&mut out, 1, 2, []);
    assert!(out.is_empty());
    write_nack(&mut out, 1, 2, (0..2_000).map(|n| n * 20));
    let [RtcpPacket::Nack(nack)] = parse_all(&out)[..] else { panic!("one NACK") };
    assert_eq!(nack.sequences().count(), MAX_NACKS);
}

#[test]
fn keyframe_requests_agree_with_the_other_implementation() {
    let mut out = Vec::new();
    write_pli(&mut out, Pli { sender_ssrc: 1, media_ssrc: 2 });
    assert_eq!(PictureLossIndication::unmarshal(&mut &out[..]).unwrap(), PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 });
    let [RtcpPacket::Pli(pli)] = parse_all(&out)[..] else { panic!("one PLI") };
    assert_eq!(pli, Pli { sender_ssrc: 1, media_ssrc: 2 });

    out.clear();
    let entries = [FirEntry { ssrc: 3, sequence: 255 }, FirEntry { ssrc: 4, sequence: 0 }];
    write_fir(&mut out, 1, &entries);
    let theirs = FullIntraRequest::unmarshal(&mut &out[..]).unwrap();
    assert_eq!(theirs.fir.iter().map(|fir| FirEntry { ssrc: fir.ssrc, sequence: fir.sequence_number }).collect::<Vec<_>>(), entries);
    let [RtcpPacket::Fir(fir)] = parse_all(&out)[..] else { panic!("one FIR") };
    assert_eq!(fir.entries().collect::<Vec<_>>(), entries);
}

#[test]
fn a_bitrate_estimate_of_the_other_implementation_is_read_as_it_was_written() {
    for bitrate in [0_u32, 1, 0x3_ffff, 150_000, 2_500_000, 1_000_000_000] {
        let theirs = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: f64::from(bitrate) as f32, ssrcs: vec![8, 9] };
        let bytes = theirs.marshal().unwrap();
        let [RtcpPacket::Remb(remb)] = parse_all(&bytes)[..] else { panic!("one REMB") };
        assert!(remb.bitrate_bps.abs_diff(u64::from(bitrate)) <= u64::from(bitrate) >> 17, "{bitrate} {}", remb.bitrate_bps);
        assert_eq!(remb.ssrcs.iter().collect::<Vec<_>>(), [8, 9]);
    }
    let huge = [0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 0, 0xff, 0xff, 0xff];
    let [RtcpPacket::Remb(remb)] = parse_all(&huge)[..] else { panic!("one REMB") };
    assert_eq!(remb.bitrate_bps, u64::MAX);
}

#[test]
fn a_bitrate_estimate_is_read_by_the_other_implementation_as_it_was_written() {
    for bitrate in [1_u32, 0x3_ffff, 0x4_0000, 150_000, 2_500_000, 1_000_000_000, u32::MAX] {
        let mut out = Vec::new();
        write_remb(&mut out, 1, bitrate.into(), &[8, 9]);
        let theirs = ReceiverEstimatedMaximumBitrate::unmarshal(&mut &out[..]).unwrap();
        assert_eq!((theirs.sender_ssrc, &theirs.ssrcs[..]), (1, &[8, 9][..]));
        let error = f64::from(theirs.bitrate) - f64::from(bitrate);
        assert!(error <= 0.0 && -error <= f64::from(bitrate) / 100_000.0, "{bitrate} {}", theirs.bitrate);
        let [RtcpPacket::Remb(remb)] = parse_all(&out)[..] else { panic!("one REMB") };
        assert!(u64::from(bitrate).checked_sub(remb.bitrate_bps).is_some_and(|less| less <= u64::from(bitrate) >> 17));
    }
    let mut out = Vec::new();
    write_remb(&mut out, 1, u64::MAX, &[0; 100]);
    let [RtcpPacket::Remb(remb)] = parse_all(&out)[..] else { panic!("one REMB") };
    assert_eq!((remb.bitrate_bps >> 46, remb.ssrcs.iter().count()), (0x3_ffff, 31));
}

#[test]
fn transport_feedback_agrees_with_the_other_implementation() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let head = TransportCcHead { sender_ssrc: 1, media_ssrc: 2, base_sequence: rng.random(), feedback_count: rng.random() };
        let arrivals = random_arrivals(&mut rng);
        let mut out = vec![0xaa; 3];
        let covered = write_transport_cc(&mut out, head, arrivals.iter().copied());
        let bytes = &out[3..];
        assert!(bytes.len() <= 1_120 && bytes.len().is_multiple_of(4), "seed {seed}: {} bytes", bytes.len());

        let [RtcpPacket::TransportCc(feedback)] = parse_all(bytes)[..] else { panic!("one feedback") };
        assert_eq!(feedback.head, head);
        let statuses: Vec<PacketStatus> = feedback.statuses().collect();
        assert_eq!(statuses.len(), covered);
        for (offset, (status, arrival)) in (0..).zip(statuses.iter().zip(&arrivals)) {
            assert_eq!(*status, PacketStatus { sequence: head.base_sequence.wrapping_add(offset), arrival: *arrival }, "seed {seed}");
        }

        let theirs = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
        assert_eq!((theirs.base_sequence_number, usize::from(theirs.packet_status_count)), (head.base_sequence, covered));
        assert_eq!(theirs.fb_pkt_count, head.feedback_count);
        let mut time = i64::from(theirs.reference_time) * 64_000;
        let their_times: Vec<i64> = theirs
            .recv_deltas
            .iter()
            .map(|delta| {
                time += delta.delta;
                time
            })
            .collect();
        let our_times: Vec<i64> = arrivals[..covered].iter().flatten().map(|arrival| i64::from(arrival.0) * 250).collect();
        assert_eq!(their_times, our_times, "seed {seed}");
    }
}

#[test]
fn transport_feedback_of_the_other_implementation_is_read_as_it_was_written() {
    let bytes = hex::decode(
        [
            "afcd0008 00000001 00000002 fffe0018 00000305", // base 65534, 24 statuses, reference 192 ms
            "d810",                                         // two bits each: small, large, none, none, small, none, none
            "a000",                                         // one bit each: the first of 14
            "2003",                                         // a run of three
            "04 fffc 08 00 010203 0002",                    // deltas and padding
        ]
        .concat()
        .replace(' ', ""),
    )
    .unwrap();
    let theirs = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
    assert_eq!(theirs.recv_deltas.iter().map(|delta| delta.delta).collect::<Vec<_>>(), [1_000, -1_000, 2_000, 0, 250, 500, 750]);
    let [RtcpPacket::TransportCc(feedback)] = parse_all(&bytes)[..] else { panic!("one feedback") };
    let received: Vec<(u16, u32)> = feedback.statuses().filter_map(|status| Some((status.sequence, status.arrival?.0 - 3 * 256))).collect();
    assert_eq!(received, [(65_534, 4), (65_535, 0), (2, 8), (5, 8), (19, 9), (20, 11), (21, 14)]);
    assert_eq!(feedback.statuses().count(), 24);
}

#[test]
fn feedback_about_nothing_that_arrived_is_not_written() {
    let mut out = Vec::new();
    assert_eq!(write_transport_cc(&mut out, TransportCcHead::default(), [None, None]), 0);
    assert_eq!(write_transport_cc(&mut out, TransportCcHead::default(), []), 0);
    assert!(out.is_empty());
}

#[test]
fn feedback_ends_at_a_gap_in_time_that_no_delta_can_tell() {
    let far = |units: u32| Some(TransportCcTime(100_000 + units));
    let mut out = Vec::new();
    assert_eq!(write_transport_cc(&mut out, TransportCcHead::default(), [far(0), None, far(32_767), far(65_535)]), 3);
    let [RtcpPacket::TransportCc(feedback)] = parse_all(&out)[..] else { panic!("one feedback") };
    assert_eq!(feedback.statuses().map(|status| status.arrival).collect::<Vec<_>>(), [far(0), None, far(32_767)]);
}

#[test]
fn arrival_times_survive_the_wrap_of_their_clock() {
    let arrivals = [u32::MAX - 300, u32::MAX, 0, 5].map(|units| Some(TransportCcTime(units)));
    let mut out = Vec::new();
    assert_eq!(write_transport_cc(&mut out, TransportCcHead::default(), arrivals), 4);
    let [RtcpPacket::TransportCc(feedback)] = parse_all(&out)[..] else { panic!("one feedback") };
    assert_eq!(feedback.statuses().map(|status| status.arrival).collect::<Vec<_>>(), arrivals);
    assert_eq!(TransportCcTime(3).us_since(TransportCcTime(u32::MAX)), 1_000);
    assert_eq!(TransportCcTime(u32::MAX).us_since(TransportCcTime(3)), -1_000);
}

#[test]
fn a_compound_is_read_in_order_and_unknown_packets_are_left_out() {
    let mut out = Vec::new();
    write_receiver_report(&mut out, 1, &[]);
    write_sdes_cname(&mut out, 1, "name");
    out.extend_from_slice(&[0x80, 204, 0, 2, 0, 0, 0, 1, b'a', b'p', b'p', b'!']); // APP
    out.extend_from_slice(&[0x8c, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]); // feedback of an unknown format
    out.extend_from_slice(&[0x8f, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, b'M', b'I', b'N', b'E']); // another application's feedback
    write_pli(&mut out, Pli { sender_ssrc: 1, media_ssrc: 2 });
    let all = parse_all(&out);
    assert!(matches!(all[..], [RtcpPacket::ReceiverReport(_), RtcpPacket::SourceDescription(_), RtcpPacket::Pli(_)]), "{all:?}");
}

#[test]
fn a_malformed_packet_costs_nothing_else_of_its_compound_if_its_end_is_known() {
    let mut good = Vec::new();
    write_pli(&mut good, Pli { sender_ssrc: 1, media_ssrc: 2 });
    let malformed: [(bool, &[u8]); 11] = [
        (false, &[0x80]),
        (false, &[0x40, 201, 0, 1, 0, 0, 0, 1]),                                    // version 1
        (false, &[0x80, 201, 0, 7, 0, 0, 0, 1]),                                    // longer than the datagram
        (true, &[0x81, 201, 0, 1, 0, 0, 0, 1]),                                     // a block that is not there
        (true, &[0x80, 200, 0, 1, 0, 0, 0, 1]),                                     // no sender info
        (true, &[0xa0, 201, 0, 1, 0, 0, 0, 0]),                                     // padding of 0
        (true, &[0xa0, 201, 0, 1, 0, 0, 0, 5]),                                     // more padding than packet
        (true, &[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, b'a', 0]),                      // text longer than the chunk
        (true, &[0x81, 205, 0, 1, 0, 0, 0, 1]),                                     // NACK without a media SSRC
        (true, &[0x84, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]),             // half a FIR entry
        (true, &[0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]), // feedback without chunks
    ];
    for (goes_on, bytes) in malformed {
        let compound = [&good, bytes, &good].concat();
        let results: Vec<_> = packets(&compound).collect();
        let (begin, rest) = results.split_at(2);
        assert!(matches!(begin, [Ok(RtcpPacket::Pli(_)), Err(Discard::RtcpMalformed)]), "{bytes:?}: {results:?}");
        assert_eq!(matches!(rest, [Ok(RtcpPacket::Pli(_))]), goes_on, "{bytes:?}: {results:?}");
        assert_eq!(rest.is_empty(), !goes_on, "{bytes:?}: {results:?}");
    }
}

#[test]
fn a_reserved_symbol_or_missing_delta_makes_feedback_malformed() {
    let head = [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0];
    for list in [[0x60, 4, 0, 0], [0x20, 4, 1, 1], [0x40, 4, 1, 1], [0, 1, 0, 2]] {
        let results: Vec<_> = packets(&[&head[..], &list].concat()).map(|packet| packet.map(drop)).collect();
        assert_eq!(results, [Err(Discard::RtcpMalformed)], "{list:?}");
    }
    let nothing_received: Vec<_> = packets(&[&head[..], &[0, 4, 0, 0]].concat()).map(|packet| packet.map(drop)).collect();
    assert_eq!(nothing_received, [Ok(())]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        exhaust(&bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic(first in 0x80_u8..0xc0, packet_type in 199_u8..209, body in proptest::collection::vec(any::<[u8; 4]>(), 0..40)) {
        let body = body.concat();
        let words = u16::try_from(body.len() / 4).unwrap().to_be_bytes();
        exhaust(&[&[first, packet_type, words[0], words[1]], &body[..]].concat());
    }
}

/// Walks every list of every packet.
fn exhaust(compound: &[u8]) {
    for packet in packets(compound).map_while(Result::ok) {
        match packet {
            RtcpPacket::SenderReport(report) => assert!(report.blocks().count() <= MAX_COUNT),
            RtcpPacket::ReceiverReport(report) => assert!(report.blocks().count() <= MAX_COUNT),
            RtcpPacket::SourceDescription(sdes) => assert!(sdes.cnames().count() <= MAX_COUNT),
            RtcpPacket::Nack(nack) => drop(nack.sequences().count()),
            RtcpPacket::Pli(_) => {}
            RtcpPacket::Fir(fir) => drop(fir.entries().count()),
            RtcpPacket::Remb(remb) => assert!(remb.ssrcs.iter().count() <= 255),
            RtcpPacket::TransportCc(feedback) => assert_eq!(feedback.statuses().count(), feedback.len()),
            RtcpPacket::CongestionFeedback(feedback) => drop(feedback.statuses().count()),
        }
    }
}

fn parse_all(compound: &[u8]) -> Vec<RtcpPacket<'_>> {
    packets(compound).collect::<Result<_, _>>().unwrap()
}

fn random_info(rng: &mut SmallRng) -> SenderInfo {
    SenderInfo { ntp: NtpTime(rng.random()), rtp_timestamp: rng.random(), packet_count: rng.random(), octet_count: rng.random() }
}

fn random_blocks(rng: &mut SmallRng, count: usize) -> Vec<ReportBlock> {
    let block = |_| ReportBlock {
        ssrc: rng.random(),
        fraction_lost: rng.random(),
        cumulative_lost: rng.random_range(0..0x80_0000),
        highest_sequence: rng.random(),
        jitter_ticks: rng.random(),
        last_sr: CompactNtp(rng.random()),
        delay_since_last_sr: CompactNtp(rng.random()),
    };
    (0..count).map(block).collect()
}

fn their_block(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        total_lost: u32::try_from(block.cumulative_lost).unwrap(),
        last_sequence_number: block.highest_sequence,
        jitter: block.jitter_ticks,
        last_sender_report: block.last_sr.0,
        delay: block.delay_since_last_sr.0,
    }
}

fn their_sender_report(ssrc: u32, info: &SenderInfo, blocks: &[ReportBlock]) -> TheirSenderReport {
    TheirSenderReport {
        ssrc,
        ntp_time: info.ntp.0,
        rtp_time: info.rtp_timestamp,
        packet_count: info.packet_count,
        octet_count: info.octet_count,
        reports: blocks.iter().map(their_block).collect(),
        profile_extensions: Bytes::new(),
    }
}

/// Arrivals with bursts of loss, reordering in time and long pauses; the first one arrived.
fn random_arrivals(rng: &mut SmallRng) -> Vec<Option<TransportCcTime>> {
    let loss = [0.0, 0.02, 0.3, 0.9][rng.random_range(0..4)];
    let pause = [0.0, 0.01, 0.3][rng.random_range(0..3)];
    let mut time = rng.random_range(1_000_000..1_000_000_000_u32);
    let count = rng.random_range(1..3_000);
    (0..count)
        .map(|n| {
            time += rng.random_range(0..12);
            if rng.random_bool(pause) {
                time += rng.random_range(0..4_000);
            }
            let early = if rng.random_bool(pause) { rng.random_range(0..600) } else { 0 };
            (n == 0 || !rng.random_bool(loss)).then_some(TransportCcTime(time - early))
        })
        .collect()
}
