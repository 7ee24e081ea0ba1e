//! Damaged descriptions of real clients: no panic, and nothing is applied on an error.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sfu_api::MediaLabel;
use sfu_core::media::Codec;
use sfu_core::negotiate::{DownChoice, DownMedia, PublisherSession, SubscriberSession};
use sfu_core::transport::params::{Fingerprint, IceCredentials, LocalParams};

/// One piece of damage. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Damage {
    DeleteLine(usize),
    RepeatLine(usize),
    SwapLines(usize, usize),
    ReplaceByte(usize, u8),
    Truncate(usize),
    Insert(usize, String),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_offer_is_answered_or_refused_as_a_whole(file in 0_usize..64, damage in prop::collection::vec(damage(), 1..6)) {
        let fixtures = fixtures();
        let offer = &fixtures[file % fixtures.len()];
        let mut session = PublisherSession::new();
        session.answer(offer, &local(), &[]).ok();
        let before = format!("{session:?}");
        if session.answer(&apply(offer, &damage), &local(), &[]).is_err() {
            prop_assert_eq!(format!("{session:?}"), before);
        }
    }

    #[test]
    fn a_damaged_answer_is_taken_or_refused_as_a_whole(damage in prop::collection::vec(damage(), 1..6)) {
        let mut session = SubscriberSession::new();
        session.enable_data();
        for (key, codec) in [(1, Codec::Opus), (2, Codec::Vp8), (3, Codec::H264), (4, Codec::H264)] {
            let label = MediaLabel { stream_id: "s".to_owned(), track_id: "t".to_owned() };
            let codecs = vec![DownChoice { codec, fmtp: String::new(), has_red: true }];
            session.add(DownMedia { key, codecs, ssrc: 1, rtx_ssrc: Some(2), label }).unwrap();
        }
        session.offer(&local()).unwrap();
        let answer = fs::read_to_string(folder().join("chromium-subscribe-answer.sdp")).unwrap();
        let before = format!("{session:?}");
        if session.apply_answer(0, &apply(&answer, &damage)).is_err() {
            prop_assert_eq!(format!("{session:?}"), before);
        }
    }

    #[test]
    fn any_text_is_survived(text in ".{0,400}") {
        prop_assert!(PublisherSession::new().answer(&text, &local(), &[]).is_err());
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let words = prop::sample::select(vec![
        "a=mid:0",
        "a=group:BUNDLE",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "m=audio 0 X/Y",
        "a=simulcast:send ;;~,",
        "a=rid: send",
        "a=extmap:0/x y",
        "a=extmap:255 urn:x",
        "a=ssrc-group:FID",
        "a=fmtp:96",
        "a=rtpmap:96 /",
        "a=setup:",
        "b=:",
        "\u{feff}é",
        " ",
    ]);
    prop_oneof![
        any::<usize>().prop_map(Damage::DeleteLine),
        any::<usize>().prop_map(Damage::RepeatLine),
        any::<(usize, usize)>().prop_map(|(a, b)| Damage::SwapLines(a, b)),
        any::<(usize, u8)>().prop_map(|(at, byte)| Damage::ReplaceByte(at, byte)),
        any::<usize>().prop_map(Damage::Truncate),
        (any::<usize>(), words).prop_map(|(at, word)| Damage::Insert(at, word.to_owned())),
    ]
}

fn apply(sdp: &str, damage: &[Damage]) -> String {
    let mut bytes = sdp.as_bytes().to_vec();
    for one in damage {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines: Vec<&str> = text.split("\r\n").collect();
        let (count, len) = (lines.len(), bytes.len().max(1));
        match one {
            Damage::DeleteLine(at) => drop(lines.remove(at % count)),
            Damage::RepeatLine(at) => lines.insert(at % count, lines[at % count]),
            Damage::SwapLines(a, b) => lines.swap(a % count, b % count),
            Damage::Insert(at, line) => lines.insert(at % count, line),
            Damage::ReplaceByte(at, byte) => {
                if let Some(place) = bytes.get_mut(at % len) {
                    *place = *byte;
                }
                continue;
            }
            Damage::Truncate(at) => {
                bytes.truncate(at % len);
                continue;
            }
        }
        bytes = lines.join("\r\n").into_bytes();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fixtures() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "sdp")).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sdp")
}

fn local() -> LocalParams {
    let ice = IceCredentials { ufrag: "sluice01".to_owned(), pwd: "0123456789abcdefghijklmn".to_owned() };
    LocalParams { ice, fingerprint: Fingerprint([0xab; 32]), candidates: Vec::new() }
}
