//! Offers of real clients (`tests/sdp/`, captured from Chromium 156, Firefox ESR, livekit-client 2.23 in both, and the native
//! livekit SDK 1.2 with libwebrtc) and what the publisher side of negotiation makes of them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sfu-core --test negotiate_publisher` rewrites `tests/sdp/golden/`; read the difference.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use sfu_api::MediaKind;
use sfu_core::limits;
use sfu_core::media::{Codec, Extension, Rid};
use sfu_core::negotiate::{AnnouncedTrack, EncodingWish, NegotiationError, PublisherAnswer, PublisherSession, UpMedia};
use sfu_core::net::Protocol;
use sfu_core::transport::params::{Candidate, Fingerprint, IceCredentials, LocalParams};

#[test]
fn a_chromium_publisher_keeps_its_lines_through_every_renegotiation() {
    let mut session = PublisherSession::new();
    for name in [
        "chromium-publish-vp8",
        "chromium-publish-second-video",
        "chromium-publish-removed-track",
        "chromium-publish-stopped",
        "chromium-publish-ice-restart",
        "chromium-publish-recycled",
    ] {
        check_golden(name, &session.answer(&offer(name), &local(), &[]).unwrap());
    }
}

#[test]
fn first_offers_of_all_clients_are_answered() {
    for name in [
        "chromium-publish-h264",
        "chromium-publish-av1-only",
        "chromium-addtrack-max-bundle",
        "chromium-data-only",
        "firefox-publish-simulcast",
        "livekit-client-vp8",
        "livekit-client-firefox",
        "livekit-native-vp8",
        "livekit-native-h264",
    ] {
        check_golden(name, &first_answer(name, &[]));
    }
}

#[test]
fn the_codec_announced_in_signaling_goes_first() {
    // livekit-client asks for H.264 in signaling and leaves VP8 first in its offer.
    let offer = offer("livekit-client-h264");
    let cid = "f61102fe-0240-4353-a9f1-f8af6f137b28";
    let wish = EncodingWish { codec: Some(Codec::H264), ..EncodingWish::default() };
    let track = AnnouncedTrack { cid: cid.to_owned(), kind: MediaKind::Video, wish };
    let answer = PublisherSession::new().answer(&offer, &local(), &[track]).unwrap();
    check_golden("livekit-client-h264", &answer);
    let first = &answer.media[1].codecs[0];
    assert_eq!((first.codec, first.payload_type), (Codec::H264, 108));
}

#[test]
fn redundancy_is_answered_first_to_those_who_offer_it_if_signaling_allows() {
    for name in ["livekit-client-vp8", "chromium-publish-recycled", "livekit-native-vp8"] {
        for red in [true, false] {
            let cid = first_answer(name, &[]).media.iter().find(|m| m.kind == MediaKind::Audio && m.is_sending).unwrap().track_cid.clone();
            let wish = EncodingWish { red, ..EncodingWish::default() };
            let answer = first_answer(name, &[AnnouncedTrack { cid: cid.unwrap(), kind: MediaKind::Audio, wish }]);
            let audio = answer.media.iter().find(|m| m.kind == MediaKind::Audio && m.is_sending).unwrap();
            assert_eq!(audio.codecs[0].red_payload_type, red.then_some(63), "{name}");
            assert_eq!(answer.sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n"), red, "{name}");
            assert_eq!(answer.sdp.contains("a=fmtp:63 111/111\r\n"), red, "{name}");
        }
    }
}

#[test]
fn simulcast_of_the_native_sdk_is_ordered_by_size() {
    let answer = first_answer("livekit-native-h264", &[]);
    let video = answer.media.iter().find(|m| m.kind == MediaKind::Video && m.is_sending).unwrap();
    assert_eq!(video.rids.iter().map(Rid::as_str).collect::<Vec<_>>(), ["q", "h", "f"]);
    assert!(answer.sdp.contains("a=simulcast:recv f;h;q\r\n"));
}

#[test]
fn placeholders_that_only_receive_are_answered_inactive() {
    let answer = first_answer("livekit-native-vp8", &[]);
    let placeholders: Vec<&UpMedia> = answer.media.iter().filter(|m| !m.is_sending).collect();
    assert_eq!(placeholders.len(), 6);
    assert_eq!(answer.sdp.matches("a=inactive\r\n").count(), 6);
}

#[test]
fn firefox_tracks_are_bound_by_kind_because_their_ids_differ_from_the_announced_ones() {
    let announced = [announce("{cam}", MediaKind::Video), announce("{mic}", MediaKind::Audio), announce("{screen}", MediaKind::Video)];
    let mut session = PublisherSession::new();
    let offer = offer("livekit-client-firefox");
    let cids = |answer: &PublisherAnswer| answer.media.iter().map(|m| m.track_cid.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(cids(&session.answer(&offer, &local(), &announced).unwrap()), ["{mic}", "{cam}"]);
    // A track that is gone from signaling does not hand its m-line to another one.
    assert_eq!(cids(&session.answer(&offer, &local(), &announced[2..]).unwrap()), ["{mic}", "{cam}"]);
}

#[test]
fn a_line_that_stopped_sending_is_free_for_another_track() {
    let mut session = PublisherSession::new();
    let offer = offer("livekit-client-firefox");
    session.answer(&offer, &local(), &[announce("{cam}", MediaKind::Video)]).unwrap();
    session.answer(&offer.replace("a=sendonly", "a=inactive"), &local(), &[]).unwrap();
    let answer = session.answer(&offer, &local(), &[announce("{screen}", MediaKind::Video)]).unwrap();
    assert_eq!(answer.media[1].track_cid.as_deref(), Some("{screen}"));
}

#[test]
fn exact_ids_win_over_the_order_of_announcement() {
    let exact = "e23acb75-2d58-4d81-ace7-1950e5f7b4c9";
    let answer = first_answer("chromium-publish-vp8", &[announce("other", MediaKind::Video), announce(exact, MediaKind::Video)]);
    assert_eq!(answer.media[1].track_cid.as_deref(), Some(exact));
}

#[test]
fn an_ice_restart_shows_in_the_remote_credentials() {
    let before = first_answer("chromium-publish-stopped", &[]);
    let after = first_answer("chromium-publish-ice-restart", &[]);
    assert_ne!(before.remote.ice, after.remote.ice);
    assert_eq!(before.remote.fingerprint, after.remote.fingerprint);
}

#[test]
fn a_line_without_a_supported_codec_is_refused_and_the_rest_works() {
    let offer = offer("chromium-publish-av1-only").replace("AV1/90000", "VP10/90000");
    let answer = PublisherSession::new().answer(&offer, &local(), &[]).unwrap();
    assert!(answer.media[0].codecs.is_empty() && !answer.media[0].is_sending);
    assert!(answer.media[1].is_sending);
    assert!(answer.sdp.contains("m=video 0 ") && answer.sdp.contains("a=group:BUNDLE 1\r\n"));
    assert_eq!(answer.sdp.matches("a=end-of-candidates").count(), 1);
}

#[test]
fn layered_codecs_are_answered_with_their_profiles() {
    let offer = offer("chromium-publish-vp8");
    for (codec, payload_type, rtx, fmtp) in
        [(Codec::Vp9, 98, 99, "a=fmtp:98 profile-id=0\r\n"), (Codec::Av1, 45, 46, "a=fmtp:45 level-idx=5;profile=0;tier=0\r\n")]
    {
        let wish = EncodingWish { codec: Some(codec), ..EncodingWish::default() };
        let cid = "e23acb75-2d58-4d81-ace7-1950e5f7b4c9".to_owned();
        let announced = AnnouncedTrack { cid, kind: MediaKind::Video, wish };
        let answer = PublisherSession::new().answer(&offer, &local(), &[announced]).unwrap();
        let video = &answer.media[1];
        let agreed = &video.codecs[0];
        assert_eq!((agreed.codec, agreed.payload_type, agreed.rtx_payload_type), (codec, payload_type, Some(rtx)));
        assert!(answer.sdp.contains(fmtp), "{}", answer.sdp);
        assert_eq!(video.extensions.id(Extension::DependencyDescriptor), Some(12));
        assert!(answer.sdp.contains("a=extmap-allow-mixed\r\n"));
    }
}

#[test]
fn audio_gets_transport_wide_feedback() {
    let answer = first_answer("chromium-publish-vp8", &[]);
    assert!(answer.media[0].codecs[0].has_transport_cc);
    assert_eq!(answer.media[0].extensions.id(Extension::TransportCc), Some(3));
}

#[test]
fn extensions_that_the_client_only_sends_are_answered_as_received() {
    let answer = first_answer("firefox-publish-simulcast", &[]);
    assert!(answer.sdp.contains("a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"));
    assert_eq!(answer.media[1].extensions.id(Extension::RepairedRid), Some(10));
    assert_eq!(answer.media[1].extensions.id(Extension::PlayoutDelay), None);
}

#[test]
fn lines_may_not_be_removed_or_renamed() {
    let mut session = PublisherSession::new();
    let good = offer("chromium-publish-vp8");
    session.answer(&good, &local(), &[]).unwrap();
    let shorter = good[..good.find("m=application").unwrap()].to_owned();
    assert_eq!(session.answer(&shorter, &local(), &[]).unwrap_err(), NegotiationError::LinesChanged(2));
    assert_eq!(session.answer(&good.replace("a=mid:1", "a=mid:x"), &local(), &[]).unwrap_err(), NegotiationError::LinesChanged(1));
    session.answer(&good, &local(), &[]).unwrap();
}

#[test]
fn offers_that_can_not_work_are_refused_with_a_reason() {
    let good = offer("chromium-publish-vp8");
    let twice = |from: &str, to: &str| PublisherSession::new().answer(&good.replace(from, to), &local(), &[]).unwrap_err();
    assert_eq!(twice("a=ice-pwd", "a=x"), NegotiationError::Ice);
    assert_eq!(twice("sha-256", "sha-1"), NegotiationError::Fingerprint);
    assert_eq!(twice("a=setup:actpass", "a=setup:passive"), NegotiationError::Setup);
    assert_eq!(twice("a=rtcp-mux", "a=x"), NegotiationError::NoRtcpMux("0".to_owned()));
    assert_eq!(twice("a=mid:1", "a=mid:0"), NegotiationError::DuplicateMid("0".to_owned()));
    assert_eq!(twice("a=mid:1", "a=mid:much-longer-than-it-may-be"), NegotiationError::Mid(1));
    assert!(matches!(twice("m=audio", "m=smell"), NegotiationError::Syntax(_)));
}

#[test]
fn lines_outside_the_bundle_are_refused() {
    let answer =
        PublisherSession::new().answer(&offer("chromium-publish-vp8").replace("BUNDLE 0 1 2", "BUNDLE 0 2"), &local(), &[]).unwrap();
    assert!(answer.media[0].is_sending && !answer.media[1].is_sending);
    assert!(answer.sdp.contains("a=group:BUNDLE 0 2\r\n"));
}

#[test]
fn tracks_over_the_limit_are_refused() {
    let good = offer("chromium-addtrack-max-bundle");
    let (session, rest) = good.split_at(good.find("m=audio").unwrap());
    let audio = &rest[..rest.find("m=video").unwrap()];
    let count = limits::MAX_TRACKS_PER_PARTICIPANT + 1;
    let mids: Vec<String> = (0..count).map(|mid| mid.to_string()).collect();
    let mut many = session.replace("BUNDLE 0 1", &format!("BUNDLE {}", mids.join(" ")));
    for mid in mids {
        many += &audio.replace("a=mid:0", &format!("a=mid:{mid}"));
    }
    let answer = PublisherSession::new().answer(&many, &local(), &[]).unwrap();
    assert_eq!(answer.media.iter().filter(|m| m.is_sending).count(), limits::MAX_TRACKS_PER_PARTICIPANT);
    assert_eq!(answer.sdp.matches("m=audio 0 ").count(), 1);
}

fn offer(name: &str) -> String {
    fs::read_to_string(folder().join(format!("{name}.sdp"))).unwrap()
}

fn first_answer(name: &str, announced: &[AnnouncedTrack]) -> PublisherAnswer {
    PublisherSession::new().answer(&offer(name), &local(), announced).unwrap()
}

fn announce(cid: &str, kind: MediaKind) -> AnnouncedTrack {
    AnnouncedTrack { cid: cid.to_owned(), kind, wish: EncodingWish::default() }
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

/// Compares with `golden/<name>.sdp`: our answer, then what the packet path is told.
fn check_golden(name: &str, answer: &PublisherAnswer) {
    let mut text = answer.sdp.replace("\r\n", "\n");
    for media in &answer.media {
        writeln!(text, "# {media:?}").unwrap();
    }
    writeln!(text, "# {:?}", answer.remote).unwrap();
    let path = folder().join("golden").join(format!("{name}.sdp"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name}: the answer differs from {}:\n{text}", path.display());
}
