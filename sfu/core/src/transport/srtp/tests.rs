//! Sender against receiver, and both against the independent implementation in `rtc-srtp`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::error::Discard;
use crate::limits::MAX_SSRCS_PER_TRANSPORT;

const SSRC: u32 = 0xdead_beef;

#[test]
fn profiles_have_the_lengths_and_ids_of_their_rfcs() {
    let facts = SrtpProfile::ALL.map(|p| (p.id(), p.key_len(), p.salt_len(), p.keying_material_len(), p.rtp_tag_len(), p.rtcp_overhead()));
    assert_eq!(facts, [(7, 16, 12, 56, 16, 20), (8, 32, 12, 88, 16, 20), (1, 16, 14, 60, 10, 14)]);
    assert!(SrtpProfile::ALL.into_iter().all(|profile| SrtpProfile::from_id(profile.id()) == Some(profile)));
    assert_eq!(SrtpProfile::from_id(2), None);
}

#[test]
fn both_sides_of_an_association_understand_each_other() {
    for profile in SrtpProfile::ALL {
        let (client, server) = sessions(profile);
        for (from, to) in [(&client, &server), (&server, &client)] {
            let packet = rtp_packet(7, SSRC, 0, b"payload");
            let mut sealed = seal(from, &packet, 7);
            let opened = to.receiver.open_rtp(&mut InboundStream::default(), &mut sealed, 12).unwrap();
            assert_eq!((opened.index, opened.payload_len), (7, 7));
            assert_eq!(sealed[..packet.len()], packet);
        }
    }
}

#[test]
fn what_we_seal_the_other_implementation_opens() {
    for profile in SrtpProfile::ALL {
        let (client, _) = sessions(profile);
        let mut theirs = reference(profile);
        let mut rng = SmallRng::seed_from_u64(1);
        for index in indices() {
            let (packet, header_len) = random_packet(&mut rng, index);
            let mut buf = packet.clone();
            buf.resize(packet.len() + profile.rtp_tag_len(), 0);
            assert_eq!(client.sender.seal_rtp(SSRC, index, &mut buf, header_len), buf.len());
            assert_eq!(theirs.decrypt_rtp(&buf).unwrap()[..], packet, "{profile:?} index {index}");
        }
    }
}

#[test]
fn what_the_other_implementation_seals_we_open() {
    for profile in SrtpProfile::ALL {
        let (_, server) = sessions(profile);
        let mut theirs = reference(profile);
        let mut rng = SmallRng::seed_from_u64(2);
        let mut stream = InboundStream::default();
        for index in indices() {
            let (packet, header_len) = random_packet(&mut rng, index);
            let mut sealed = theirs.encrypt_rtp(&packet).unwrap();

            let opened = server.receiver.open_rtp(&mut stream, &mut sealed, header_len).unwrap();
            assert_eq!(opened, Opened { index, payload_len: packet.len() - header_len }, "{profile:?}");
            assert_eq!(sealed[..packet.len()], packet);
        }
    }
}

#[test]
fn srtcp_agrees_with_the_other_implementation_in_both_directions() {
    for profile in SrtpProfile::ALL {
        let (mut client, mut server) = sessions(profile);
        let (mut their_client, mut their_receiver) = (reference(profile), reference(profile));
        let mut rng = SmallRng::seed_from_u64(3);
        for words in 0..100_u16 {
            let mut packet = vec![0x80, 201];
            packet.extend_from_slice(&(words + 1).to_be_bytes());
            packet.extend_from_slice(&SSRC.to_be_bytes());
            packet.extend((0..words * 4).map(|_| rng.random::<u8>()));

            let mut ours = packet.clone();
            assert!(client.sender.seal_rtcp(&mut ours, 0));
            assert_eq!(ours.len(), packet.len() + profile.rtcp_overhead());
            assert_eq!(their_receiver.decrypt_rtcp(&ours).unwrap()[..], packet);

            let mut theirs = their_client.encrypt_rtcp(&packet).unwrap();
            assert_eq!(server.receiver.open_rtcp(&mut theirs), Ok(packet.len()));
            assert_eq!(theirs[..packet.len()], packet);
        }
    }
}

#[test]
fn a_packet_sent_twice_is_opened_once() {
    for profile in SrtpProfile::ALL {
        let (client, server) = sessions(profile);
        for start in [0_u64, 1, 32_767, 32_768, 65_534, 65_535] {
            let mut stream = InboundStream::default();
            for index in start..start + 3 {
                let sealed = seal(&client, &rtp_packet(seq(index), SSRC, 0, b"x"), index);
                assert_eq!(server.receiver.open_rtp(&mut stream, &mut sealed.clone(), 12).unwrap().index, index);
                assert_eq!(server.receiver.open_rtp(&mut stream, &mut sealed.clone(), 12), Err(Discard::SrtpReplay));
            }
            assert_eq!(stream.highest_index(), Some(start + 2));
        }
    }
}

#[test]
fn a_late_packet_from_before_the_rollover_opens_with_the_old_counter() {
    for profile in SrtpProfile::ALL {
        let (client, server) = sessions(profile);
        let mut stream = InboundStream::default();
        for index in [65_530, 65_540, 65_535, 65_536, 65_531, 131_000, 131_080, 131_071] {
            // A jump of more than half the number space has no defined meaning, so one step lies between.
            if index == 131_000 {
                open(&server, &mut stream, &client, 98_304);
            }
            open(&server, &mut stream, &client, index);
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_changes_no_state() {
    for profile in SrtpProfile::ALL {
        let (client, mut server) = sessions(profile);
        let sealed = seal(&client, &rtp_packet(9, SSRC, 0, b"some payload"), 9);
        let mut stream = InboundStream::default();
        for bit in 0..sealed.len() * 8 {
            let mut tampered = sealed.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(server.receiver.open_rtp(&mut stream, &mut tampered, 12), Err(Discard::SrtpAuthentication), "bit {bit}");
            assert_eq!(stream.highest_index(), None);
        }
        assert!(server.receiver.open_rtp(&mut stream, &mut sealed.clone(), 12).is_ok());

        let mut sealed = receiver_report(SSRC);
        let mut client = client;
        assert!(client.sender.seal_rtcp(&mut sealed, 0));
        for bit in 0..sealed.len() * 8 {
            let mut tampered = sealed.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(server.receiver.open_rtcp(&mut tampered), Err(Discard::SrtpAuthentication), "bit {bit}");
        }
        assert!(server.receiver.open_rtcp(&mut sealed).is_ok());
    }
}

#[test]
fn truncated_packets_are_refused() {
    for profile in SrtpProfile::ALL {
        let (mut client, mut server) = sessions(profile);
        let sealed = seal(&client, &rtp_packet(9, SSRC, 0, b"some payload"), 9);
        for len in 0..sealed.len() {
            let expected = if len < 12 { Discard::RtpMalformed } else { Discard::SrtpAuthentication };
            let mut stream = InboundStream::default();
            assert_eq!(server.receiver.open_rtp(&mut stream, &mut sealed[..len].to_vec(), 12), Err(expected));
        }
        let mut sealed = receiver_report(SSRC);
        assert!(client.sender.seal_rtcp(&mut sealed, 0));
        for len in 0..sealed.len() {
            assert!(server.receiver.open_rtcp(&mut sealed[..len].to_vec()).is_err());
        }
    }
}

#[test]
fn srtcp_replay_is_refused_per_ssrc_and_late_packets_pass() {
    for profile in SrtpProfile::ALL {
        let (mut client, mut server) = sessions(profile);
        let sealed: Vec<Vec<u8>> = (0..20_u32)
            .map(|n| {
                let mut packet = receiver_report(n % 2);
                assert!(client.sender.seal_rtcp(&mut packet, 0));
                packet
            })
            .collect();
        for packet in sealed.iter().rev() {
            assert!(server.receiver.open_rtcp(&mut packet.clone()).is_ok());
        }
        for packet in &sealed {
            assert_eq!(server.receiver.open_rtcp(&mut packet.clone()), Err(Discard::SrtpReplay));
        }
    }
}

#[test]
fn srtcp_without_encryption_is_refused() {
    for profile in SrtpProfile::ALL {
        let (mut client, mut server) = sessions(profile);
        let mut sealed = receiver_report(SSRC);
        assert!(client.sender.seal_rtcp(&mut sealed, 0));
        let word = if profile == SrtpProfile::Aes128CmHmacSha1_80 { sealed.len() - 14 } else { sealed.len() - 4 };
        sealed[word] &= 0x7f;
        assert_eq!(server.receiver.open_rtcp(&mut sealed), Err(Discard::SrtpAuthentication));
    }
}

#[test]
fn state_for_srtcp_senders_is_bounded_and_the_latest_one_is_kept() {
    let (mut client, mut server) = sessions(SrtpProfile::AeadAes128Gcm);
    let mut last = Vec::new();
    for ssrc in 0..u32::try_from(MAX_SSRCS_PER_TRANSPORT).unwrap() * 3 {
        last = receiver_report(ssrc);
        assert!(client.sender.seal_rtcp(&mut last, 0));
        assert!(server.receiver.open_rtcp(&mut last.clone()).is_ok());
    }
    assert_eq!(server.receiver.open_rtcp(&mut last), Err(Discard::SrtpReplay));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200), header_len in 0_usize..220) {
        for profile in SrtpProfile::ALL {
            let (_, mut server) = sessions(profile);
            let mut stream = InboundStream::default();
            prop_assert!(server.receiver.open_rtp(&mut stream, &mut bytes.clone(), header_len).is_err());
            prop_assert!(server.receiver.open_rtcp(&mut bytes.clone()).is_err());
            prop_assert_eq!(stream.highest_index(), None);
        }
    }
}

fn exported(profile: SrtpProfile) -> Vec<u8> {
    (0..profile.keying_material_len()).map(|i| u8::try_from(i).unwrap().wrapping_mul(37)).collect()
}

fn sessions(profile: SrtpProfile) -> (SrtpSession, SrtpSession) {
    let keys = KeyingMaterial::from_exported(profile, &exported(profile)).unwrap();
    (SrtpSession::client(profile, &keys), SrtpSession::server(profile, &keys))
}

/// The other implementation with the client's keys.
fn reference(profile: SrtpProfile) -> Context {
    let exported = exported(profile);
    let (keys, salts) = exported.split_at(2 * profile.key_len());
    let theirs = match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    Context::new(&keys[..profile.key_len()], &salts[..profile.salt_len()], theirs, None, None, provider.crypto()).unwrap()
}

/// Steps of many sizes through three rollovers, with every edge of the number space.
fn indices() -> impl Iterator<Item = u64> {
    let steps = [1, 1, 2, 777, 16_000, 1, 15_985, 1, 1];
    let walk = steps.into_iter().cycle().scan(65_000 - 16_000, |at, step| {
        *at += step;
        Some(*at)
    });
    let edges = [65_534, 65_535, 65_536, 65_537, 98_303, 98_304, 98_305, 131_071, 131_072];
    let mut all: Vec<u64> = edges.into_iter().chain(walk.take(60)).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

fn seq(index: u64) -> u16 {
    u16::try_from(index % 65_536).unwrap()
}

fn rtp_packet(seq: u16, ssrc: u32, csrcs: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | csrcs, 96];
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 1, 0]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.resize(12 + 4 * usize::from(csrcs), 0x11);
    packet.extend_from_slice(payload);
    packet
}

/// A packet with random CSRCs, header extension and payload; and its header's length.
fn random_packet(rng: &mut SmallRng, index: u64) -> (Vec<u8>, usize) {
    let csrcs = rng.random_range(0..3);
    let mut packet = rtp_packet(seq(index), SSRC, csrcs, &[]);
    if rng.random() {
        packet[0] |= 0x10;
        let words = rng.random_range(0..4_u8);
        packet.extend_from_slice(&[0xbe, 0xde, 0, words]);
        // One-byte extension elements of id 1 with 3 bytes.
        (0..words).for_each(|_| packet.extend_from_slice(&[0x12, rng.random(), rng.random(), rng.random()]));
    }
    let header_len = packet.len();
    let payload_len = if rng.random() { rng.random_range(0..64) } else { rng.random_range(0..1200) };
    packet.extend((0..payload_len).map(|_| rng.random::<u8>()));
    (packet, header_len)
}

fn receiver_report(ssrc: u32) -> Vec<u8> {
    [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

fn seal(session: &SrtpSession, packet: &[u8], index: u64) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + session.profile().rtp_tag_len(), 0);
    let ssrc = u32_at(packet, 8).unwrap();
    session.sender.seal_rtp(ssrc, index, &mut buf, 12);
    buf
}

fn open(to: &SrtpSession, stream: &mut InboundStream, from: &SrtpSession, index: u64) {
    let mut sealed = seal(from, &rtp_packet(seq(index), SSRC, 0, b"x"), index);
    assert_eq!(to.receiver.open_rtp(stream, &mut sealed, 12).map(|opened| opened.index), Ok(index));
}
