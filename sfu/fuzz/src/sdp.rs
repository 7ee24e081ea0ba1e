//! Session descriptions of clients: an offer of a publisher, an answer of a subscriber.

use sfu_api::MediaLabel;
use sfu_core::limits::MAX_MEDIA_LINES;
use sfu_core::media::Codec;
use sfu_core::negotiate::{DownChoice, DownLines, DownMedia, PublisherSession, SubscriberSession};
use sfu_core::transport::params::{Fingerprint, IceCredentials, LocalParams};

pub(crate) fn sdp_offer(data: &[u8]) {
    let Ok(offer) = std::str::from_utf8(data) else { return };
    let mut session = PublisherSession::new();
    let before = format!("{session:?}");
    let answer = match session.answer(offer, &local(), &[]) {
        Ok(answer) => answer,
        Err(_) => return assert_eq!(format!("{session:?}"), before, "what is refused changes nothing"),
    };
    check_text(&answer.sdp);
    let lines = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert!(lines(&answer.sdp) <= MAX_MEDIA_LINES && answer.media.len() <= lines(&answer.sdp));
    for (index, media) in answer.media.iter().enumerate() {
        assert!(answer.media.iter().take(index).all(|other| other.mid != media.mid), "a mid names one line");
        assert!(!media.is_sending || !media.codecs.is_empty());
    }
    // The same offer again is what a client sends that changes nothing.
    let again = session.answer(offer, &local(), &[]);
    assert_eq!(again.map(|answer| answer.media), Ok(answer.media));
}

pub(crate) fn sdp_answer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut session = SubscriberSession::new();
    session.enable_data();
    for media in down_tracks() {
        assert!(session.add(media).is_ok());
    }
    let Some(offer) = session.offer(&local()) else { panic!("an offer is due") };
    check_text(&offer.sdp);
    let before = format!("{session:?}");
    match session.apply_answer(offer.id, text) {
        Ok(answer) => {
            let keys: Vec<u64> = answer.media.iter().map(|media| media.key).collect();
            assert!(keys.iter().all(|key| (1..=3).contains(key)) && keys.len() <= 3);
        }
        Err(_) => assert_eq!(format!("{session:?}"), before, "what is refused changes nothing"),
    }
}

/// An offer on the only peer connection of a client: its answer carries what the client receives, too.
pub(crate) fn sdp_single(data: &[u8]) {
    let Ok(offer) = std::str::from_utf8(data) else { return };
    let mut session = PublisherSession::both_ways();
    let wants = |session: &mut PublisherSession, wants: &dyn Fn(&mut DownLines)| session.downs().map(wants);
    wants(&mut session, &|downs| down_tracks().into_iter().for_each(|media| assert!(downs.add(media).is_ok())));
    let before = format!("{session:?}");
    match session.answer(offer, &local(), &[]) {
        Ok(answer) => check_text(&answer.sdp),
        Err(_) => return assert_eq!(format!("{session:?}"), before, "what is refused changes nothing"),
    }
    // One ends, and the client offers the same again.
    wants(&mut session, &|downs| {
        let asked = downs.request().unwrap_or_default();
        assert!(asked.audio + asked.video <= MAX_MEDIA_LINES);
        downs.remove(2);
    });
    for _ in 0..2 {
        let Ok(answer) = session.answer(offer, &local(), &[]) else { panic!("the same offer is answered again") };
        check_text(&answer.sdp);
    }
}

fn down_tracks() -> Vec<DownMedia> {
    let down = |(key, codecs): (u64, &[Codec])| {
        let label = MediaLabel { stream_id: "stream".to_owned(), track_id: "track".to_owned() };
        let choice = |&codec: &Codec| DownChoice { codec, fmtp: String::new(), has_red: codec == Codec::Opus };
        DownMedia { key, codecs: codecs.iter().map(choice).collect(), ssrc: 1, rtx_ssrc: Some(2), label }
    };
    [(1, &[Codec::Opus][..]), (2, &[Codec::Vp9, Codec::Vp8]), (3, &[Codec::H264])].map(down).into()
}

/// Nothing of the other side's text can end a line of ours.
fn check_text(sdp: &str) {
    assert!(sdp.split_terminator("\r\n").all(|line| !line.contains(|c: char| c.is_control() && c != '\t') && line.get(1..2) == Some("=")));
}

fn local() -> LocalParams {
    LocalParams {
        ice: IceCredentials { ufrag: "serverufrag".to_owned(), pwd: "serverpasswordserverpass".to_owned() },
        fingerprint: Fingerprint([7; 32]),
        candidates: Vec::new(),
    }
}
