//! Offers to subscribers, and answers of real clients (`tests/sdp/*-answer*.sdp`) to them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use sfu_api::MediaLabel;
use sfu_core::limits;
use sfu_core::media::{Codec, Extension};
use sfu_core::negotiate::{DownChoice, DownMedia, NegotiationError, SubscriberAnswer, SubscriberSession};
use sfu_core::net::Protocol;
use sfu_core::transport::params::{Candidate, Fingerprint, IceCredentials, LocalParams};

const H264_HIGH: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f";
const H264_BASELINE: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

#[test]
fn the_first_offer_is_as_recorded() {
    let mut session = everything_wanted();
    check_golden("subscribe-offer", &session.offer(&local()).unwrap().sdp);
}

#[test]
fn an_offer_of_layered_codecs_is_as_recorded() {
    let mut session = SubscriberSession::new();
    let fmtps = [
        (Codec::Vp9, ""),
        (Codec::Vp9, "profile-id=2"),
        (Codec::Av1, "level-idx=13;profile=0;tier=0"),
        (Codec::Av1, "level-idx=13;profile=1;tier=0"),
        (Codec::H265, "level-id=93;tx-mode=SRST"),
    ];
    for (key, (codec, fmtp)) in (1..).zip(fmtps) {
        session.add(down(key, codec, fmtp)).unwrap();
    }
    let (sdp, answer) = negotiate(&mut session);
    check_golden("subscribe-offer-layered", &sdp);
    let types: Vec<(u8, Option<u8>)> = answer.media.iter().map(|m| (m.formats[0].payload_type, m.formats[0].rtx_payload_type)).collect();
    assert_eq!(types, [(122, Some(123)), (124, Some(125)), (45, Some(46)), (39, Some(40)), (49, Some(50))]);
    assert!(answer.media.iter().all(|m| m.allows_mixed_extensions && m.extensions.id(Extension::DependencyDescriptor) == Some(10)));
}

#[test]
fn chromium_takes_what_it_can_decode() {
    let mut session = everything_wanted();
    let offer = session.offer(&local()).unwrap();
    let answer = session.apply_answer(offer.id, &recorded("chromium-subscribe-answer")).unwrap();
    assert_eq!(accepted(&answer), [(1, true), (2, true), (3, true), (4, false)]);
    assert!(answer.remote.has_data);
    let vp8 = &answer.media[1];
    assert_eq!((vp8.formats[0].payload_type, vp8.formats[0].rtx_payload_type), (96, Some(97)));
    assert_eq!(vp8.extensions.id(Extension::Mid), Some(Extension::Mid.offered_id()));
}

#[test]
fn firefox_without_h264_refuses_only_that() {
    let mut session = everything_wanted();
    let offer = session.offer(&local()).unwrap();
    let answer = session.apply_answer(offer.id, &recorded("firefox-subscribe-answer")).unwrap();
    assert_eq!(accepted(&answer), [(1, true), (2, true), (3, false), (4, false)]);
    assert_eq!(answer.media[0].extensions.id(Extension::AbsSendTime), None);
}

#[test]
fn a_native_client_answers_the_data_offer() {
    let mut session = SubscriberSession::new();
    session.enable_data();
    let offer = session.offer(&local()).unwrap();
    let answer = session.apply_answer(offer.id, &recorded("livekit-native-answer-data")).unwrap();
    assert!(answer.remote.has_data && answer.media.is_empty());
}

#[test]
fn a_freed_line_is_used_again_for_the_same_kind() {
    let mut session = SubscriberSession::new();
    session.add(video(1)).unwrap();
    session.add(audio(2)).unwrap();
    negotiate(&mut session);
    session.remove(1);
    session.add(audio(3)).unwrap();
    session.add(video(4)).unwrap();
    let (sdp, _) = negotiate(&mut session);
    assert_eq!(lines(&sdp), ["video 9 0 sendonly s4", "audio 9 1 sendonly s2", "audio 9 2 sendonly s3"]);
}

#[test]
fn a_freed_line_that_nobody_needs_becomes_inactive() {
    let mut session = SubscriberSession::new();
    session.add(video(1)).unwrap();
    session.add(audio(2)).unwrap();
    negotiate(&mut session);
    session.remove(1);
    let (sdp, answer) = negotiate(&mut session);
    assert_eq!(lines(&sdp), ["video 9 0 inactive", "audio 9 1 sendonly s2"]);
    assert_eq!(accepted(&answer), [(2, true)]);
}

#[test]
fn a_track_that_comes_back_gets_another_line_and_two_lines_are_enough_for_ever() {
    let mut session = SubscriberSession::new();
    session.add(audio(1)).unwrap();
    session.add(video(2)).unwrap();
    negotiate(&mut session);
    let mut mids = Vec::new();
    for key in 3..13 {
        session.remove(key - 1);
        negotiate(&mut session);
        session.add(DownMedia { label: video(2).label, ..video(key) }).unwrap();
        let (sdp, answer) = negotiate(&mut session);
        assert_eq!(accepted(&answer), [(1, true), (key, true)]);
        assert!(lines(&sdp).len() <= 3, "{sdp}");
        mids.push(lines(&sdp).into_iter().find(|line| line.contains("sendonly s2")).unwrap());
    }
    mids.dedup();
    assert_eq!(mids.len(), 10, "{mids:?}");
}

#[test]
fn a_rejected_line_comes_back_under_a_new_mid() {
    let mut session = SubscriberSession::new();
    session.add(audio(1)).unwrap();
    session.add(video(2)).unwrap();
    let offer = session.offer(&local()).unwrap();
    let answer = session.apply_answer(0, &reject_second(&answer_to(&offer.sdp))).unwrap();
    assert_eq!(accepted(&answer), [(1, true), (2, false)]);
    assert!(!session.needs_offer());

    session.request_offer();
    let (sdp, _) = negotiate(&mut session);
    assert_eq!(lines(&sdp), ["audio 9 0 sendonly s1", "video 0 1 inactive"]);
    assert!(sdp.contains("a=group:BUNDLE 0\r\n"));

    session.add(audio(3)).unwrap();
    let (sdp, _) = negotiate(&mut session);
    assert_eq!(lines(&sdp), ["audio 9 0 sendonly s1", "audio 9 2 sendonly s3"]);
}

#[test]
fn a_track_that_the_client_does_not_receive_is_not_accepted() {
    for direction in ["inactive", "sendonly"] {
        let mut session = SubscriberSession::new();
        session.add(audio(1)).unwrap();
        let offer = session.offer(&local()).unwrap();
        let answer = session.apply_answer(0, &answer_to(&offer.sdp).replace("a=recvonly", &format!("a={direction}"))).unwrap();
        assert_eq!(accepted(&answer), [(1, false)]);
    }
}

#[test]
fn changes_wait_for_the_outstanding_answer() {
    let mut session = SubscriberSession::new();
    session.add(audio(1)).unwrap();
    let first = session.offer(&local()).unwrap();
    session.add(video(2)).unwrap();
    session.remove(1);
    assert!(!session.needs_offer());
    assert_eq!(session.offer(&local()), None);

    let answer = session.apply_answer(first.id, &answer_to(&first.sdp)).unwrap();
    assert_eq!(accepted(&answer), [], "what was removed meanwhile is not reported");
    assert!(session.needs_offer());
    let second = session.offer(&local()).unwrap();
    assert_eq!(lines(&second.sdp), ["audio 9 0 inactive", "video 9 1 sendonly s2"]);
    assert_eq!(second.id, first.id + 1);
}

#[test]
fn an_answer_must_be_for_the_outstanding_offer() {
    let mut session = SubscriberSession::new();
    assert_eq!(session.apply_answer(0, "").unwrap_err(), NegotiationError::NothingOutstanding);
    session.add(audio(1)).unwrap();
    let offer = session.offer(&local()).unwrap();
    let good = answer_to(&offer.sdp);
    assert_eq!(session.apply_answer(7, &good).unwrap_err(), NegotiationError::WrongAnswer { got: 7, outstanding: 1 });
    session.apply_answer(1, &good).unwrap();
    assert_eq!(session.apply_answer(1, &good).unwrap_err(), NegotiationError::NothingOutstanding);
}

#[test]
fn a_bad_answer_leaves_the_offer_outstanding() {
    let mut session = SubscriberSession::new();
    session.add(audio(1)).unwrap();
    let offer = session.offer(&local()).unwrap();
    let good = answer_to(&offer.sdp);
    assert_eq!(session.apply_answer(0, &good.replace("a=setup:active", "a=setup:passive")).unwrap_err(), NegotiationError::Setup);
    assert_eq!(session.apply_answer(0, &good.replace("a=mid:0", "a=mid:1")).unwrap_err(), NegotiationError::LinesChanged(0));
    assert_eq!(
        session.apply_answer(0, &format!("{good}m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n")).unwrap_err(),
        NegotiationError::LinesChanged(1)
    );
    session.apply_answer(0, &good).unwrap();
}

#[test]
fn an_abandoned_offer_is_made_again() {
    let mut session = SubscriberSession::new();
    session.add(audio(1)).unwrap();
    let first = session.offer(&local()).unwrap();
    session.abandon_offer();
    let second = session.offer(&local()).unwrap();
    assert_eq!(lines(&first.sdp), lines(&second.sdp));
    assert!(session.apply_answer(first.id, &answer_to(&first.sdp)).is_err());
    session.apply_answer(second.id, &answer_to(&second.sdp)).unwrap();
}

#[test]
fn when_lines_run_out_idle_ones_of_the_other_kind_make_room() {
    let mut session = SubscriberSession::new();
    let count = u64::try_from(limits::MAX_MEDIA_LINES).unwrap() - 1;
    session.enable_data();
    (0..count).for_each(|key| session.add(audio(key)).unwrap());
    assert!(matches!(session.add(audio(count)), Err(NegotiationError::TooManyLines(_))));
    negotiate(&mut session);

    session.remove(0);
    session.add(video(1000)).unwrap();
    let (sdp, _) = negotiate(&mut session);
    assert_eq!(lines(&sdp)[1], "audio 0 1 inactive");
    let (sdp, answer) = negotiate(&mut session);
    assert_eq!(lines(&sdp)[1], format!("video 9 {} sendonly s1000", count + 1));
    assert!(answer.media.iter().any(|m| m.key == 1000 && m.accepted));
    assert!(!session.needs_offer());
}

#[test]
fn a_full_offer_and_its_answer_fit_the_size_limit() {
    let mut session = SubscriberSession::new();
    session.enable_data();
    for key in 0..u64::try_from(limits::MAX_MEDIA_LINES).unwrap() - 1 {
        session.add(down(key, Codec::H264, H264_BASELINE)).unwrap();
    }
    let (sdp, _) = negotiate(&mut session);
    assert!(sdp.len() < limits::MAX_SDP_BYTES, "{}", sdp.len());
}

#[test]
fn a_line_offers_every_codec_of_its_track_and_the_answer_says_which_are_taken() {
    let mut session = SubscriberSession::new();
    let choice = |codec, fmtp: &str| DownChoice { codec, fmtp: fmtp.to_owned(), has_red: false };
    session.add(DownMedia { codecs: vec![choice(Codec::H264, H264_HIGH), choice(Codec::Vp8, "")], ..video(1) }).unwrap();
    let (sdp, answer) = negotiate(&mut session);
    assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 106 107 96 97\r\n"), "{sdp}");
    let taken =
        |answer: &SubscriberAnswer| answer.media[0].formats.iter().map(|f| (f.payload_type, f.rtx_payload_type)).collect::<Vec<_>>();
    assert_eq!(taken(&answer), [(106, Some(107)), (96, Some(97))]);

    // The client takes the second only, and the first in a lower profile, which is of no use.
    session.request_offer();
    let offer = session.offer(&local()).unwrap();
    let answer =
        session.apply_answer(offer.id, &answer_to(&offer.sdp).replace("profile-level-id=64001f", "profile-level-id=42e01f")).unwrap();
    assert_eq!(taken(&answer), [(96, Some(97))]);

    session.set_codecs(1, vec![choice(Codec::H264, H264_BASELINE)]);
    let (sdp, answer) = negotiate(&mut session);
    assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 98 99\r\n"), "{sdp}");
    assert_eq!(taken(&answer), [(98, Some(99))]);
}

#[test]
fn redundancy_is_offered_behind_opus_and_may_be_refused_alone() {
    let mut session = SubscriberSession::new();
    let choice = DownChoice { codec: Codec::Opus, fmtp: String::new(), has_red: true };
    session.add(DownMedia { codecs: vec![choice], ..audio(1) }).unwrap();
    let (sdp, answer) = negotiate(&mut session);
    assert!(sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n"), "{sdp}");
    assert!(sdp.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"), "{sdp}");
    assert_eq!(answer.media[0].formats[0].red_payload_type, Some(63));
    session.request_offer();
    let offer = session.offer(&local()).unwrap();
    let without = answer_to(&offer.sdp).replace("111 63", "111").replace("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n", "");
    let answer = session.apply_answer(offer.id, &without).unwrap();
    assert_eq!((answer.media[0].accepted, answer.media[0].formats[0].red_payload_type), (true, None));
}

#[test]
fn names_from_outside_can_not_add_lines() {
    let mut session = SubscriberSession::new();
    let label = MediaLabel { stream_id: "a\r\na=x b".to_owned(), track_id: String::new() };
    session.add(DownMedia { label, ..audio(1) }).unwrap();
    let sdp = session.offer(&local()).unwrap().sdp;
    assert!(sdp.contains("a=msid:a__a=x_b -\r\n"));
}

fn everything_wanted() -> SubscriberSession {
    let mut session = SubscriberSession::new();
    session.enable_data();
    session.add(audio(1)).unwrap();
    session.add(video(2)).unwrap();
    session.add(down(3, Codec::H264, H264_BASELINE)).unwrap();
    session.add(down(4, Codec::H264, H264_HIGH)).unwrap();
    session
}

fn audio(key: u64) -> DownMedia {
    DownMedia { rtx_ssrc: None, ..down(key, Codec::Opus, "minptime=10;useinbandfec=1") }
}

fn video(key: u64) -> DownMedia {
    down(key, Codec::Vp8, "")
}

fn down(key: u64, codec: Codec, fmtp: &str) -> DownMedia {
    let ssrc = 1000 + u32::try_from(key).unwrap();
    let label = MediaLabel { stream_id: format!("s{key}"), track_id: format!("t{key}") };
    let choice = DownChoice { codec, fmtp: fmtp.to_owned(), has_red: false };
    DownMedia { key, codecs: vec![choice], ssrc, rtx_ssrc: Some(ssrc + 100_000), label }
}

/// Offer and full acceptance.
fn negotiate(session: &mut SubscriberSession) -> (String, SubscriberAnswer) {
    let offer = session.offer(&local()).unwrap();
    let answer = session.apply_answer(offer.id, &answer_to(&offer.sdp)).unwrap();
    (offer.sdp, answer)
}

/// What a client that accepts everything answers.
fn answer_to(offer: &str) -> String {
    let own = ["a=ssrc", "a=msid:", "a=candidate", "a=end-of-candidates", "a=ice-lite"];
    let kept = offer.lines().filter(|line| !own.iter().any(|prefix| line.starts_with(prefix)));
    let answer: String = kept.map(|line| format!("{line}\r\n")).collect();
    answer.replace("a=sendonly", "a=recvonly").replace("a=setup:actpass", "a=setup:active")
}

/// The same answer with its second m-line rejected.
fn reject_second(answer: &str) -> String {
    let mut parts: Vec<String> = answer.split("m=").map(str::to_owned).collect();
    let mid = parts[2].lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap().to_owned();
    parts[2] = parts[2].replacen(" 9 ", " 0 ", 1);
    parts[0] = parts[0].replace(&format!("BUNDLE 0 {mid}"), "BUNDLE 0");
    parts.join("m=")
}

/// Each m-line as `kind port mid direction stream`.
fn lines(sdp: &str) -> Vec<String> {
    let section = |section: &str| {
        let mut words = section.split_whitespace();
        let head = [words.next().unwrap(), words.next().unwrap()].join(" ");
        let value = |prefix: &str| section.lines().find_map(|l| l.strip_prefix(prefix)).map(str::to_owned);
        let direction = ["sendonly", "inactive"].into_iter().find(|d| section.contains(&format!("a={d}"))).unwrap_or("");
        let stream = value("a=msid:").map(|m| format!(" {}", m.split(' ').next().unwrap())).unwrap_or_default();
        format!("{head} {} {direction}{stream}", value("a=mid:").unwrap())
    };
    sdp.split("m=").skip(1).map(section).collect()
}

fn accepted(answer: &SubscriberAnswer) -> Vec<(u64, bool)> {
    answer.media.iter().map(|m| (m.key, m.accepted)).collect()
}

fn local() -> LocalParams {
    let candidate = |protocol, address: &str| Candidate { protocol, address: address.parse().unwrap() };
    LocalParams {
        ice: IceCredentials { ufrag: "sluice01".to_owned(), pwd: "0123456789abcdefghijklmn".to_owned() },
        fingerprint: Fingerprint([0xab; 32]),
        candidates: vec![candidate(Protocol::Udp, "198.51.100.7:7882"), candidate(Protocol::Tcp, "198.51.100.7:7881")],
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sdp")
}

fn recorded(name: &str) -> String {
    fs::read_to_string(folder().join(format!("{name}.sdp"))).unwrap()
}

fn check_golden(name: &str, sdp: &str) {
    let text = sdp.replace("\r\n", "\n");
    let path = folder().join("golden").join(format!("{name}.sdp"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name}: the offer differs from {}:\n{text}", path.display());
}
