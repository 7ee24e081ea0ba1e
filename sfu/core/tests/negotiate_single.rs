//! What a single peer connection's offers of a real client (the native LiveKit SDK 1.2: three m-lines per kind to receive
//! on, mids 7 to 12) are filled with.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use sfu_api::MediaLabel;
use sfu_core::limits;
use sfu_core::media::{Codec, Extension};
use sfu_core::negotiate::{Count, DownChoice, DownMedia, DownMediaState, PublisherAnswer, PublisherSession};
use sfu_core::transport::params::{Fingerprint, IceCredentials, LocalParams};

const H264_BASELINE: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
const H264_MAIN: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f";

#[test]
fn tracks_go_into_the_lines_of_their_kind_with_the_clients_numbers() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, [audio(1), video(2, Codec::Vp8, ""), video(3, Codec::H264, H264_BASELINE)]);
    let answer = session.answer(&offer(), &local(), &[]).unwrap();
    let places: Vec<_> = answer.downs.iter().map(|down| (down.mid.to_string(), down.key, down.accepted)).collect();
    assert_eq!(places, [("7".to_owned(), 1, true), ("10".to_owned(), 2, true), ("11".to_owned(), 3, true)]);
    assert_eq!((answer.downs[0].formats[0].payload_type, answer.downs[1].formats[0].payload_type), (111, 96));
    assert_eq!((answer.downs[0].formats[0].rtx_payload_type, answer.downs[1].formats[0].rtx_payload_type), (None, Some(97)));
    let h264 = &answer.downs[2];
    assert!(offer_says(h264.formats[0].payload_type, "42e01f"));
    let ids = [Extension::TransportCc, Extension::PlayoutDelay, Extension::VideoOrientation].map(|e| h264.extensions.id(e));
    assert_eq!(ids, [Some(3), Some(5), Some(13)]);
    assert_eq!(answer.downs[0].extensions.id(Extension::AudioLevel), Some(1));
    assert!(section(&answer, "10").contains("sdes:rtp-stream-id"), "or Chromium could not send simulcast on another line any more");

    assert_eq!(
        directions(&answer),
        [
            ("7", "sendonly"),
            ("8", "inactive"),
            ("9", "inactive"),
            ("10", "sendonly"),
            ("11", "sendonly"),
            ("12", "inactive"),
            ("13", "recvonly"),
            ("14", "recvonly"),
        ]
        .map(|(mid, direction)| (mid.to_owned(), direction.to_owned()))
    );
    let line = section(&answer, "11");
    assert!(line.contains("a=msid:PA_x TR_3\r\n") && line.contains("a=ssrc-group:FID 3000 3001\r\n"), "{line}");
    assert!(line.contains("a=ssrc:3000 cname:PA_x\r\n"));
    // The client's own tracks are what they are without any of this.
    assert_eq!(answer.media, PublisherSession::new().answer(&offer(), &local(), &[]).unwrap().media);
}

#[test]
fn nothing_is_asked_for_before_the_first_offer_and_then_only_what_is_missing() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, (1..=5).map(audio));
    assert_eq!(request(&mut session), None, "its m-lines are not known yet");
    let answer = session.answer(&offer(), &local(), &[]).unwrap();
    assert_eq!(answer.downs.len(), 3);
    assert_eq!(request(&mut session), Some((2, 0)));
    assert_eq!(request(&mut session), None, "once is enough");
    wanted(&mut session, [audio(6), video(7, Codec::Vp8, "")]);
    assert_eq!(request(&mut session), Some((1, 0)), "a further one; video has its place");
}

#[test]
fn a_change_that_needs_no_line_is_an_offer_asked_for() {
    let mut session = PublisherSession::both_ways();
    session.answer(&offer(), &local(), &[]).unwrap();
    assert_eq!(request(&mut session), None);
    wanted(&mut session, [audio(1)]);
    assert_eq!(request(&mut session), Some((0, 0)));
    session.answer(&offer(), &local(), &[]).unwrap();
    assert_eq!(request(&mut session), None);
    session.downs().unwrap().remove(1);
    assert_eq!(request(&mut session), Some((0, 0)), "the client shall see it end");
}

#[test]
fn a_line_is_inactive_for_one_answer_between_two_tracks() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, (1..=3).map(audio));
    session.answer(&offer(), &local(), &[]).unwrap();
    session.downs().unwrap().remove(2);
    wanted(&mut session, [audio(4)]);
    let between = session.answer(&offer(), &local(), &[]).unwrap();
    assert_eq!(mids(&between.downs), [("7".to_owned(), 1), ("9".to_owned(), 3)]);
    assert!(section(&between, "8").contains("a=inactive\r\n"));
    assert_eq!(request(&mut session), Some((0, 0)), "the line is free, the track waits");
    let after = session.answer(&offer(), &local(), &[]).unwrap();
    assert_eq!(mids(&after.downs), [("7".to_owned(), 1), ("8".to_owned(), 4), ("9".to_owned(), 3)]);
}

#[test]
fn a_track_keeps_its_line_through_all_offers() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, [audio(1), video(2, Codec::Vp8, "")]);
    let first = session.answer(&offer(), &local(), &[]).unwrap();
    wanted(&mut session, [audio(3)]);
    let second = session.answer(&offer(), &local(), &[]).unwrap();
    assert!(first.downs.iter().all(|down| second.downs.contains(down)));
}

#[test]
fn a_line_on_which_the_client_stops_to_receive_loses_its_track_to_another() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, [audio(1)]);
    session.answer(&offer(), &local(), &[]).unwrap();
    let without = offer().replacen("a=recvonly", "a=inactive", 1);
    let answer = session.answer(&without, &local(), &[]).unwrap();
    assert_eq!(mids(&answer.downs), [("8".to_owned(), 1)]);
}

#[test]
fn a_codec_that_the_client_does_not_name_is_refused() {
    let mut session = PublisherSession::both_ways();
    let no_h264 = offer().replace("H264/90000", "H269/90000");
    wanted(&mut session, [video(1, Codec::H264, H264_MAIN), video(2, Codec::Vp8, "")]);
    let answer = session.answer(&no_h264, &local(), &[]).unwrap();
    let outcome: Vec<_> = answer.downs.iter().map(|down| (down.key, down.accepted)).collect();
    assert_eq!(outcome, [(2, true), (1, false)]);
    assert_eq!(request(&mut session), None, "it is forgotten");
}

#[test]
fn an_offer_that_can_not_be_used_changes_nothing() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, [audio(1)]);
    let before = session.answer(&offer(), &local(), &[]).unwrap();
    session.downs().unwrap().remove(1);
    session.answer(&offer().replace("a=ice-pwd", "a=x"), &local(), &[]).unwrap_err();
    wanted(&mut session, [audio(1)]);
    assert_eq!(session.answer(&offer(), &local(), &[]).unwrap().downs, before.downs);
}

#[test]
fn what_the_client_sends_on_is_left_alone() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, (1..=8).map(audio));
    let both = offer().replace("a=sendonly", "a=sendrecv");
    let answer = session.answer(&both, &local(), &[]).unwrap();
    assert_eq!(mids(&answer.downs), [("7".to_owned(), 1), ("8".to_owned(), 2), ("9".to_owned(), 3)]);
    assert!(section(&answer, "14").contains("a=recvonly\r\n"));
}

#[test]
fn a_line_that_begins_to_send_goes_on_receiving() {
    let mut session = PublisherSession::both_ways();
    wanted(&mut session, [audio(1)]);
    session.answer(&offer(), &local(), &[]).unwrap();
    let answer = session.answer(&offer().replacen("a=recvonly", "a=sendrecv\r\na=msid:- mic", 1), &local(), &[]).unwrap();
    assert_eq!(mids(&answer.downs), [("7".to_owned(), 1)]);
    let line = section(&answer, "7");
    assert!(line.contains("a=sendrecv\r\n") && line.contains("a=msid:PA_x TR_1\r\n"), "{line}");
    assert_eq!(line.matches("a=rtpmap:111 ").count(), 1);
}

#[test]
fn no_more_lines_are_asked_for_than_an_offer_may_have() {
    let mut session = PublisherSession::both_ways();
    session.answer(&offer(), &local(), &[]).unwrap();
    let count = u64::try_from(limits::MAX_MEDIA_LINES).unwrap() - 2;
    wanted(&mut session, (1..=count).map(audio));
    let lines = offer().matches("\r\nm=").count();
    assert_eq!(request(&mut session), Some((limits::MAX_MEDIA_LINES - lines, 0)));
    assert!(session.downs().unwrap().add(audio(count + 1)).is_ok());
    session.downs().unwrap().add(audio(count + 2)).unwrap_err();
}

fn wanted(session: &mut PublisherSession, media: impl IntoIterator<Item = DownMedia>) {
    for media in media {
        session.downs().unwrap().add(media).unwrap();
    }
}

fn request(session: &mut PublisherSession) -> Option<(usize, usize)> {
    session.downs().unwrap().request().map(|Count { audio, video }| (audio, video))
}

fn mids(downs: &[DownMediaState]) -> Vec<(String, u64)> {
    downs.iter().filter(|down| down.accepted).map(|down| (down.mid.to_string(), down.key)).collect()
}

fn audio(key: u64) -> DownMedia {
    media(key, Codec::Opus, "minptime=10;useinbandfec=1", None)
}

fn video(key: u64, codec: Codec, fmtp: &str) -> DownMedia {
    media(key, codec, fmtp, Some(u32::try_from(key).unwrap() * 1000 + 1))
}

fn media(key: u64, codec: Codec, fmtp: &str, rtx_ssrc: Option<u32>) -> DownMedia {
    let label = MediaLabel { stream_id: "PA_x".to_owned(), track_id: format!("TR_{key}") };
    let codecs = vec![DownChoice { codec, fmtp: fmtp.to_owned(), has_red: false }];
    DownMedia { key, codecs, ssrc: u32::try_from(key).unwrap() * 1000, rtx_ssrc, label }
}

/// RTP m-lines: mid and direction.
fn directions(answer: &PublisherAnswer) -> Vec<(String, String)> {
    let sections = answer.sdp.split("\r\nm=").skip(1).filter(|section| !section.starts_with("application"));
    let known = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let direction = |section: &str| known.into_iter().find(|word| section.contains(&format!("\r\na={word}\r\n"))).unwrap().to_owned();
    sections.map(|section| (mid(section), direction(section))).collect()
}

fn section(answer: &PublisherAnswer, wanted: &str) -> String {
    answer.sdp.split("\r\nm=").skip(1).find(|section| mid(section) == wanted).unwrap().to_owned() + "\r\n"
}

fn mid(section: &str) -> String {
    section.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap().to_owned()
}

fn offer_says(payload_type: u8, profile: &str) -> bool {
    let offer = offer();
    offer
        .lines()
        .any(|line| line.starts_with(&format!("a=fmtp:{payload_type} ")) && line.contains(profile) && line.contains("packetization-mode=1"))
}

fn offer() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sdp/livekit-native-vp8.sdp")).unwrap()
}

fn local() -> LocalParams {
    LocalParams {
        ice: IceCredentials { ufrag: "sluice01".to_owned(), pwd: "0123456789abcdefghijklmn".to_owned() },
        fingerprint: Fingerprint([0xab; 32]),
        candidates: Vec::new(),
    }
}
