//! The parts of a packet's journey, one by one: which peer, which numbers, SRTP.
//!
//! `cargo bench -p bench-micro --bench parts`

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use bench_micro::PAYLOAD_BYTES;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfu_core::demux::{Demux, Kind};
use sfu_core::ids::PeerKey;
use sfu_core::net::{Flow, Protocol};
use sfu_core::publish::ring::Meta;
use sfu_core::rtp::header::{FixedHeader, RtpHeader};
use sfu_core::rtp::payload::PayloadInfo;
use sfu_core::rtp::payload::picture::{PictureFields, PictureId};
use sfu_core::rtp::sequence::low16;
use sfu_core::subscribe::rewrite::{Junction, Rewriter};
use sfu_core::transport::srtp::{InboundStream, KeyingMaterial, SrtpProfile, SrtpSession};
use slotmap::SlotMap;

/// Extension block with transport-wide number and send time.
const BLOCK: [u8; 12] = [0xbe, 0xde, 0, 2, 0x31, 0, 0, 0x22, 0, 0, 0, 0];
const HEADER_BYTES: usize = 12 + BLOCK.len();

/// First byte and flow lead to the peer.
fn demux(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("demux");
    for peers in [1, 100, 10_000_u16] {
        let (mut keys, mut demux) = (SlotMap::<PeerKey, ()>::with_key(), Demux::default());
        for port in 0..peers {
            demux.add_flow(flow(port), keys.insert(()));
        }
        let datagram = [0x90_u8; 64];
        let mut port = 0;
        group.bench_function(BenchmarkId::from_parameter(peers), |bencher| {
            bencher.iter(|| {
                port = (port + 7) % peers;
                black_box((Kind::of(black_box(&datagram)), demux.by_flow(&flow(port))))
            });
        });
    }
    group.finish();
}

/// A parsed packet gets its place in a subscriber's stream: header parsed, numbers chosen, header and VP8 descriptor written.
fn rewrite(criterion: &mut Criterion) {
    let fields = PictureFields {
        picture_id: Some(PictureId { offset: 2, is_long: true, value: 7 }),
        tl0_picture_index: Some((4, 1)),
        key_index: None,
    };
    let payload = PayloadInfo { starts_keyframe: false, picture: Some(fields), counts_pictures: true };
    let mut meta = Meta { payload, block_len: u16::try_from(BLOCK.len()).unwrap(), ..Meta::plain(100, 3_000, true) };
    let (now, mut rewriter) = (Instant::now(), Rewriter::new(90_000, 1));
    rewriter.switch(0, &meta, Junction::default(), now);
    let mut packet = packet(100, 0);
    criterion.bench_function("header rewrite", |bencher| {
        bencher.iter(|| {
            meta.sequence += 1;
            let parsed = RtpHeader::parse(black_box(&packet)).unwrap();
            let placed = rewriter.place(&meta, 0, now).unwrap();
            let header = FixedHeader {
                marker: parsed.marker,
                has_padding: false,
                payload_type: parsed.payload_type,
                sequence: low16(placed.sequence),
                timestamp: placed.timestamp,
                ssrc: 9,
            };
            packet[..12].copy_from_slice(&header.to_bytes());
            meta.payload.picture.unwrap().rewrite(&mut packet[parsed.len..], placed.picture);
        });
    });
}

/// Sealing and opening a packet in place.
fn srtp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("srtp");
    for profile in SrtpProfile::ALL {
        let exported: Vec<u8> = (0..=255).cycle().take(profile.keying_material_len()).collect();
        let keys = KeyingMaterial::from_exported(profile, &exported).unwrap();
        let (server, client) = (SrtpSession::server(profile, &keys), SrtpSession::client(profile, &keys));
        for payload in [80, PAYLOAD_BYTES] {
            let what = format!("{}, {payload} bytes", profile.label());
            group.throughput(Throughput::Bytes(payload as u64));
            let mut buffer = packet(0, profile.rtp_tag_len());
            buffer.truncate(HEADER_BYTES + payload + profile.rtp_tag_len());
            let mut index = 0_u64;
            group.bench_function(BenchmarkId::new("protect", &what), |bencher| {
                bencher.iter(|| {
                    index += 1;
                    buffer[2..4].copy_from_slice(&low16(index).to_be_bytes());
                    server.sender.seal_rtp(7, index, black_box(&mut buffer), HEADER_BYTES)
                });
            });
            server.sender.seal_rtp(7, index, &mut buffer, HEADER_BYTES);
            // Opening twice is replay, so each time it is the stream's first packet.
            let mut sealed = packet(1, profile.rtp_tag_len());
            sealed.truncate(buffer.len());
            server.sender.seal_rtp(7, 1, &mut sealed, HEADER_BYTES);
            group.bench_function(BenchmarkId::new("open", &what), |bencher| {
                bencher.iter_batched_ref(
                    || (InboundStream::default(), sealed.clone()),
                    |(stream, sealed)| client.receiver.open_rtp(stream, black_box(sealed), HEADER_BYTES).unwrap(),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn packet(sequence: u16, tag_len: usize) -> Vec<u8> {
    let header = FixedHeader { marker: true, has_padding: false, payload_type: 96, sequence, timestamp: 3_000, ssrc: 7 };
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(&BLOCK);
    packet.resize(HEADER_BYTES + PAYLOAD_BYTES + tag_len, 0x5a);
    packet
}

fn flow(port: u16) -> Flow {
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Flow { protocol: Protocol::Udp, local: address(7_882), remote: address(20_000 + port) }
}

criterion_group!(benches, demux, rewrite, srtp);
criterion_main!(benches);
