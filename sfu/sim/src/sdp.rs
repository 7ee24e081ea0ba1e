//! Session descriptions of simulated clients: just enough to negotiate what a test sends and receives.
//!
//! Real browsers' descriptions are tested where they are negotiated (`sfu-core`, `negotiate`) and in the end-to-end tests.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sfu_api::MediaKind;
use sfu_core::media::{Codec, Extension, Rid};
use sfu_core::net::Protocol;
use sfu_core::transport::params::{Candidate, Fingerprint, IceCredentials, LocalParams, RemoteParams};

/// One m-line of a simulated publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedMedia {
    /// Id in signaling and in `msid`.
    pub cid: String,
    /// Codec; it decides the payload type.
    pub codec: Codec,
    /// Simulcast rids, smallest first; empty for a single encoding.
    pub rids: Vec<Rid>,
    /// SSRC and that of its RTX; browsers describe them unless there are rids.
    pub ssrcs: Option<(u32, u32)>,
    /// False: the m-line stays, but nothing is sent.
    pub is_sending: bool,
    /// Redundancy of audio (RFC 2198) is offered.
    pub has_red: bool,
}

/// One m-line of a simulated client's offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientLine {
    /// For a track of its own.
    Send(PublishedMedia),
    /// For what the server may send on the client's only peer connection.
    Receive {
        /// Audio or video.
        kind: MediaKind,
        /// A video codec that the client can't play.
        without: Option<Codec>,
    },
}

/// One m-line of a server's description that carries a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedMedia {
    /// Track part of `msid`.
    pub track_id: String,
    /// First codec of the line.
    pub codec: Codec,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// What each payload type of the line means.
    pub formats: Vec<(u8, Format)>,
    /// Id of the extension for transport-wide congestion control.
    pub transport_cc: Option<u8>,
}

/// What a payload type stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The codec itself.
    Codec(Codec),
    /// Redundancy (RFC 2198) of the payload type.
    Red(u8),
    /// Retransmissions of the payload type.
    Rtx(u8),
}

/// Payload type of redundancy in simulated offers.
pub const RED_PAYLOAD_TYPE: u8 = 63;

/// Payload type of a codec in simulated offers; that of its RTX is the next one.
#[must_use]
pub const fn payload_type(codec: Codec) -> u8 {
    match codec {
        // Firefox's; browsers differ, and so do we from them.
        Codec::Opus => 109,
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::Vp8 => 96,
        Codec::H264 => 102,
        Codec::Vp9 => 98,
        Codec::Av1 => 45,
        Codec::H265 => 49,
    }
}

/// Header extension ids in simulated offers; like Chromium's they differ from what our own offers use.
pub mod extension_ids {
    /// RFC 6464.
    pub const AUDIO_LEVEL: u8 = 1;
    /// Transport-wide congestion control.
    pub const TRANSPORT_CC: u8 = 3;
    /// m-line.
    pub const MID: u8 = 4;
    /// Simulcast encoding.
    pub const RID: u8 = 10;
    /// Simulcast encoding of an RTX packet.
    pub const REPAIRED_RID: u8 = 11;
    /// Absolute send time.
    pub const ABS_SEND_TIME: u8 = 2;
    /// Bounds of the playout delay.
    pub const PLAYOUT_DELAY: u8 = 5;
    /// Absolute capture time.
    pub const ABS_CAPTURE_TIME: u8 = 7;
    /// Dependency descriptor.
    pub const DEPENDENCY_DESCRIPTOR: u8 = 12;
    /// Rotation of the picture.
    pub const VIDEO_ORIENTATION: u8 = 13;
}

const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// A publisher's offer. Data channels, if the client has any, are the first m-line; the media's mids follow in order.
#[must_use]
pub fn publisher_offer(media: &[ClientLine], client: &RemoteParams, version: u32) -> String {
    let mut sdp = format!("v=0\r\no=- 42 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let lines = media.len() + usize::from(client.has_data);
    let mids: Vec<String> = (0..lines).map(|mid| mid.to_string()).collect();
    let _ = write!(sdp, "a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n", mids.join(" "));
    if client.has_data {
        let _ = write!(sdp, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
        push_transport(&mut sdp, client, "actpass");
        let _ = write!(sdp, "a=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n");
    }
    for (media, mid) in media.iter().zip(mids.iter().skip(usize::from(client.has_data))) {
        match media {
            ClientLine::Send(media) => push_media(&mut sdp, media, mid, client),
            ClientLine::Receive { kind, without } => push_receiving(&mut sdp, *kind, *without, mid, client),
        }
    }
    sdp
}

/// The answer to one of the server's offers: everything is accepted but codecs of the names `refused_codecs`, with what belongs
/// to them, and the header extensions (or other lines) that contain one of `refused`.
#[must_use]
pub fn subscriber_answer(offer: &str, client: &RemoteParams, refused_codecs: &[String], refused: &[&str]) -> String {
    let mut sdp = String::new();
    for line in without_codecs(offer, refused_codecs).lines() {
        let dropped = ["a=ice-lite", "a=candidate", "a=end-of-candidates", "a=ssrc", "a=msid:", "a=fingerprint", "a=ice-pwd"];
        if dropped.iter().any(|prefix| line.starts_with(prefix)) || refused.iter().any(|part| line.contains(part)) {
            continue;
        }
        if line.starts_with("a=ice-ufrag") {
            push_transport(&mut sdp, client, "active");
        } else if line.starts_with("a=setup") {
            // Written together with the credentials.
        } else {
            sdp.push_str(if line == "a=sendonly" { "a=recvonly" } else { line });
            sdp.push_str("\r\n");
        }
    }
    sdp
}

/// A description without codecs of these names; an m-line without any left is closed.
fn without_codecs(description: &str, refused: &[String]) -> String {
    let sections = description.split_inclusive("\r\n").fold(Vec::<Vec<&str>>::new(), |mut sections, line| {
        if line.starts_with("m=") || sections.is_empty() {
            sections.push(Vec::new());
        }
        sections.last_mut().expect("one was pushed").push(line);
        sections
    });
    sections.iter().map(|lines| section_without(lines, refused)).collect()
}

fn section_without(lines: &[&str], refused: &[String]) -> String {
    let section = lines.concat();
    let types = formats(&section);
    let is_refused = |payload_type: u8| is_of(&section, payload_type, refused);
    let gone: Vec<u8> = types
        .iter()
        .filter(|&&(payload_type, format)| match format {
            Some(Format::Rtx(of) | Format::Red(of)) => is_refused(payload_type) || is_refused(of),
            _ => is_refused(payload_type),
        })
        .map(|&(payload_type, _)| payload_type)
        .collect();
    if gone.is_empty() {
        return section;
    }
    let belongs = |line: &str| {
        let rest = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|prefix| line.strip_prefix(prefix));
        rest.and_then(|rest| rest.split(' ').next()?.parse().ok()).is_some_and(|payload_type: u8| gone.contains(&payload_type))
    };
    let mut kept = String::new();
    for line in lines.iter().filter(|line| !belongs(line)) {
        let Some(words) = line.strip_prefix("m=") else {
            kept.push_str(line);
            continue;
        };
        let words: Vec<&str> = words.split_ascii_whitespace().collect();
        let (head, listed) = words.split_at(3.min(words.len()));
        let left: Vec<&str> = listed.iter().copied().filter(|word| word.parse().is_ok_and(|word: u8| !gone.contains(&word))).collect();
        if left.is_empty() {
            let _ = write!(kept, "m={} 0 {} {}\r\n", head[0], head[2], listed[0]);
        } else {
            let _ = write!(kept, "m={} {}\r\n", head.join(" "), left.join(" "));
        }
    }
    kept
}

/// The encoding name of a payload type is one of these.
fn is_of(section: &str, payload_type: u8, names: &[String]) -> bool {
    let prefix = format!("a=rtpmap:{payload_type} ");
    let name = value(section, &prefix).and_then(|rest| rest.split('/').next());
    name.is_some_and(|name| names.iter().any(|refused| refused.eq_ignore_ascii_case(name)))
}

/// The payload types that a section maps; None for codecs that nothing here knows.
fn formats(section: &str) -> Vec<(u8, Option<Format>)> {
    let maps = section.lines().filter_map(|line| line.strip_prefix("a=rtpmap:"));
    let parsed = maps.filter_map(|map| {
        let (payload_type, encoding) = map.trim().split_once(' ')?;
        let payload_type: u8 = payload_type.parse().ok()?;
        let parameters = value(section, &format!("a=fmtp:{payload_type} ")).unwrap_or_default();
        let format = match encoding.split('/').next()? {
            "rtx" => parameters.strip_prefix("apt=").and_then(|apt| apt.parse().ok()).map(Format::Rtx),
            "red" => parameters.split('/').next().and_then(|of| of.parse().ok()).map(Format::Red),
            name => Codec::by_name(name).map(Format::Codec),
        };
        Some((payload_type, format))
    });
    parsed.collect()
}

/// Which of a client's m-lines the server answered with redundancy, by mid.
#[must_use]
pub fn red_mids(answer: &str) -> Vec<String> {
    let lines = answer.split("\r\nm=").skip(1).filter(|line| line.contains(" red/48000/2"));
    lines.filter_map(|line| value(line, "a=mid:")).map(str::to_owned).collect()
}

/// Reads the transport part of a server's description.
#[must_use]
pub fn local_params(sdp: &str) -> Option<LocalParams> {
    let ice = IceCredentials { ufrag: value(sdp, "a=ice-ufrag:")?.to_owned(), pwd: value(sdp, "a=ice-pwd:")?.to_owned() };
    let mut fingerprint = [0; 32];
    let mut bytes = value(sdp, "a=fingerprint:sha-256 ")?.split(':');
    for byte in &mut fingerprint {
        *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
    }
    let mut candidates = Vec::new();
    for line in sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:")) {
        // foundation component protocol priority address port ...
        let parts: Vec<&str> = line.split(' ').collect();
        if let [_, _, protocol, _, address, port, ..] = parts[..]
            && let (Ok(ip), Ok(port)) = (address.parse(), port.parse())
        {
            let protocol = if protocol.eq_ignore_ascii_case("udp") { Protocol::Udp } else { Protocol::Tcp };
            let candidate = Candidate { protocol, address: SocketAddr::new(ip, port) };
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    Some(LocalParams { ice, fingerprint: Fingerprint(fingerprint), candidates })
}

/// The tracks of a server's offer.
#[must_use]
pub fn offered_media(offer: &str) -> Vec<OfferedMedia> {
    let lines = offer.split("\r\nm=").skip(1);
    lines.filter(|line| line.contains("\na=sendonly")).filter_map(read_media).collect()
}

fn read_media(section: &str) -> Option<OfferedMedia> {
    let codec = value(section, "a=rtpmap:")?.split([' ', '/']).nth(1).and_then(Codec::by_name)?;
    let track_id = value(section, "a=msid:")?.split(' ').nth(1)?.to_owned();
    let number = |text: &str| text.split(' ').next()?.parse::<u32>().ok();
    let ssrc = number(value(section, "a=ssrc:")?)?;
    let rtx_ssrc = value(section, "a=ssrc-group:FID ").and_then(|pair| pair.split(' ').nth(1)).and_then(number);
    let formats = formats(section).into_iter().filter_map(|(payload_type, format)| Some((payload_type, format?))).collect();
    let is_cc = |line: &&str| line.starts_with("a=extmap:") && line.contains("transport-wide-cc");
    let transport_cc = section.lines().find(is_cc).and_then(|line| line["a=extmap:".len()..].split(' ').next()?.parse().ok());
    Some(OfferedMedia { track_id, codec, ssrc, rtx_ssrc, formats, transport_cc })
}

fn value<'a>(sdp: &'a str, prefix: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim)
}

fn push_transport(sdp: &mut String, client: &RemoteParams, setup: &str) {
    let hex: Vec<String> = client.fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
    let (ufrag, pwd) = (&client.ice.ufrag, &client.ice.pwd);
    let _ = write!(sdp, "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n", hex.join(":"));
}

fn push_media(sdp: &mut String, media: &PublishedMedia, mid: &str, client: &RemoteParams) {
    let (kind, types) = match media.codec {
        Codec::Opus if media.has_red => ("audio", "109 63"),
        Codec::Opus => ("audio", "109"),
        Codec::Pcmu => ("audio", "0"),
        Codec::Pcma => ("audio", "8"),
        Codec::Vp8 => ("video", "96 97"),
        Codec::H264 => ("video", "102 103"),
        Codec::Vp9 => ("video", "98 99"),
        Codec::Av1 => ("video", "45 46"),
        Codec::H265 => ("video", "49 50"),
    };
    let _ = write!(sdp, "m={kind} 9 UDP/TLS/RTP/SAVPF {types}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
    push_transport(sdp, client, "actpass");
    let direction = if media.is_sending { "sendonly" } else { "inactive" };
    let _ = write!(sdp, "a=mid:{mid}\r\n");
    let _ = write!(sdp, "a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid\r\n", extension_ids::MID);
    let _ = write!(sdp, "a=extmap:{} {TRANSPORT_CC_URI}\r\n", extension_ids::TRANSPORT_CC);
    for (id, extension) in
        [(extension_ids::ABS_SEND_TIME, Extension::AbsSendTime), (extension_ids::ABS_CAPTURE_TIME, Extension::AbsCaptureTime)]
    {
        let _ = write!(sdp, "a=extmap:{id} {}\r\n", extension.uri());
    }
    if media.codec.is_video() {
        let _ = write!(sdp, "a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n", extension_ids::RID);
        for (id, extension) in [
            (extension_ids::PLAYOUT_DELAY, Extension::PlayoutDelay),
            (extension_ids::DEPENDENCY_DESCRIPTOR, Extension::DependencyDescriptor),
            (extension_ids::VIDEO_ORIENTATION, Extension::VideoOrientation),
        ] {
            let _ = write!(sdp, "a=extmap:{id} {}\r\n", extension.uri());
        }
        let _ = write!(sdp, "a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n", extension_ids::REPAIRED_RID);
    } else {
        let _ = write!(sdp, "a=extmap:{} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n", extension_ids::AUDIO_LEVEL);
    }
    let _ = write!(sdp, "a={direction}\r\na=msid:- {}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n", media.cid);
    match media.codec {
        Codec::Opus => {
            sdp.push_str("a=rtpmap:109 opus/48000/2\r\na=rtcp-fb:109 transport-cc\r\na=fmtp:109 minptime=10;useinbandfec=1\r\n");
            if media.has_red {
                sdp.push_str("a=rtpmap:63 red/48000/2\r\na=fmtp:63 109/109\r\n");
            }
        }
        // Static payload types need no map.
        Codec::Pcmu | Codec::Pcma => {}
        Codec::Vp8 => push_video(sdp, 96, "VP8", None),
        Codec::H264 => push_video(sdp, 102, "H264", Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")),
        Codec::Vp9 => push_video(sdp, 98, "VP9", Some("profile-id=0")),
        Codec::Av1 => push_video(sdp, 45, "AV1", Some("level-idx=5;profile=0;tier=0")),
        Codec::H265 => push_video(sdp, 49, "H265", Some("level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST")),
    }
    if let Some((ssrc, rtx)) = media.ssrcs.filter(|_| media.is_sending) {
        if media.codec.is_video() {
            let _ = write!(sdp, "a=ssrc-group:FID {ssrc} {rtx}\r\na=ssrc:{rtx} cname:simulated\r\n");
        }
        let _ = write!(sdp, "a=ssrc:{ssrc} cname:simulated\r\n");
    }
    if !media.rids.is_empty() && media.is_sending {
        for rid in &media.rids {
            let _ = write!(sdp, "a=rid:{rid} send\r\n");
        }
        let names: Vec<&str> = media.rids.iter().map(Rid::as_str).collect();
        let _ = write!(sdp, "a=simulcast:send {}\r\n", names.join(";"));
    }
}

/// An m-line on which the client only receives, every codec that it can play.
fn push_receiving(sdp: &mut String, kind: MediaKind, without: Option<Codec>, mid: &str, client: &RemoteParams) {
    let (media, types) = match kind {
        MediaKind::Audio => ("audio", "111"),
        MediaKind::Video => match without {
            Some(Codec::Vp8) => ("video", "102 103"),
            Some(Codec::H264) => ("video", "96 97"),
            _ => ("video", "96 97 102 103"),
        },
    };
    let _ = write!(sdp, "m={media} 9 UDP/TLS/RTP/SAVPF {types}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
    push_transport(sdp, client, "actpass");
    let _ = write!(sdp, "a=mid:{mid}\r\na=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid\r\n", extension_ids::MID);
    let _ = write!(sdp, "a=extmap:{} {TRANSPORT_CC_URI}\r\n", extension_ids::TRANSPORT_CC);
    if kind == MediaKind::Audio {
        let _ = write!(sdp, "a=extmap:{} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n", extension_ids::AUDIO_LEVEL);
    }
    sdp.push_str("a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
    if kind == MediaKind::Audio {
        sdp.push_str("a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n");
    } else {
        push_video(sdp, 96, "VP8", None);
        push_video(sdp, 102, "H264", Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"));
    }
}

fn push_video(sdp: &mut String, payload_type: u8, name: &str, fmtp: Option<&str>) {
    let _ = write!(sdp, "a=rtpmap:{payload_type} {name}/90000\r\n");
    for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
        let _ = write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n");
    }
    if let Some(fmtp) = fmtp {
        let _ = write!(sdp, "a=fmtp:{payload_type} {fmtp}\r\n");
    }
    let rtx = payload_type + 1;
    let _ = write!(sdp, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n");
}
