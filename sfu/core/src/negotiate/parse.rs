//! A client's session description as values: syntax by `rtc-sdp`, meaning of the attributes here.
//!
//! Lenient where a browser may add something new (an attribute that does not parse is as good as absent), strict where an
//! error would bite later: sizes, mids, control characters. Not here: what we accept of it (`codecs`, `extensions`,
//! `publisher`, `subscriber`).

use std::io::Cursor;
use std::str::FromStr;

use rtc_sdp::description::common::Attribute;
use rtc_sdp::{MediaDescription, SessionDescription};
use sfu_api::MediaKind;

use super::NegotiationError;
use super::simulcast::{self, SendRids, SsrcPair};
use crate::limits;
use crate::media::Mid;
use crate::transport::params::{Fingerprint, IceCredentials, RemoteParams};

/// A parsed offer or answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    /// mids of the (first) BUNDLE group.
    pub(super) bundle: Vec<String>,
    /// In order.
    pub(super) sections: Vec<Section>,
}

/// What an m-line carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SectionKind {
    /// RTP of one track.
    Rtp(MediaKind),
    /// SCTP with data channels.
    Data,
    /// Something that we refuse.
    Unknown,
}

/// Direction of an m-line or a header extension, as its writer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// The writer of the description sends.
    pub(super) const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// The writer of the description receives.
    pub(super) const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

impl FromStr for Direction {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "sendrecv" => Ok(Self::SendRecv),
            "sendonly" => Ok(Self::SendOnly),
            "recvonly" => Ok(Self::RecvOnly),
            "inactive" => Ok(Self::Inactive),
            _ => Err(()),
        }
    }
}

/// `a=setup`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setup {
    ActPass,
    Active,
    Other,
}

/// One payload type of an m-line with everything said about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfferedCodec {
    pub(super) payload_type: u8,
    pub(super) name: String,
    pub(super) clock_rate_hz: u32,
    pub(super) channels: u16,
    pub(super) fmtp: String,
    /// Values of `a=rtcp-fb`, for example `nack pli`.
    pub(super) feedback: Vec<String>,
}

/// `a=extmap`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) direction: Option<Direction>,
    pub(super) uri: String,
}

/// One m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    /// `audio`, `video` and so on, as written.
    pub(super) media: String,
    /// `UDP/TLS/RTP/SAVPF` and so on, as written.
    pub(super) protocol: String,
    /// Payload types, or `webrtc-datachannel`, as written.
    pub(super) formats: Vec<String>,
    /// Port 0 without `a=bundle-only` (RFC 8843 section 6).
    pub(super) is_closed: bool,
    pub(super) mid: Option<Mid>,
    pub(super) direction: Direction,
    pub(super) has_rtcp_mux: bool,
    pub(super) has_rtcp_rsize: bool,
    pub(super) allows_mixed_extensions: bool,
    /// In the order of the m-line.
    pub(super) codecs: Vec<OfferedCodec>,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) rids: SendRids,
    pub(super) ssrcs: Vec<SsrcPair>,
    /// Track part of `a=msid`, or of the SSRC's `msid` where the former is missing.
    pub(super) track_id: Option<String>,
    ice: Option<IceCredentials>,
    fingerprint: Option<Fingerprint>,
    setup: Option<Setup>,
}

impl Description {
    /// Parses what a client sent.
    pub(super) fn parse(sdp: &str) -> Result<Self, NegotiationError> {
        if sdp.len() > limits::MAX_SDP_BYTES {
            return Err(NegotiationError::TooLarge(sdp.len()));
        }
        // Parts of the text come back in our own description. A bare CR is a line end for some parsers and none for others.
        if sdp.replace("\r\n", "\n").contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            return Err(NegotiationError::Syntax("control characters".to_owned()));
        }
        let session = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes())).map_err(|e| syntax_error(&e.to_string()))?;
        match session.media_descriptions.len() {
            0 => return Err(NegotiationError::Empty),
            n if n > limits::MAX_MEDIA_LINES => return Err(NegotiationError::TooManyLines(n)),
            _ => {}
        }
        let session_level = Attributes(&session.attributes);
        let defaults = Defaults::new(session_level);
        let sections = session.media_descriptions.iter().map(|media| Section::new(&defaults, media)).collect();
        Ok(Self { bundle: session_level.bundle(), sections })
    }

    /// The section shares the one transport. Without a group only a sole m-line does.
    pub(super) fn is_bundled(&self, section: &Section) -> bool {
        match section.mid {
            Some(mid) if !self.bundle.is_empty() => self.bundle.iter().any(|m| *m == *mid),
            _ => self.sections.iter().filter(|s| !s.is_closed).count() == 1,
        }
    }

    /// Transport parameters of the m-lines that `is_used` selects by index; they are read from the first of these (RFC 8843
    /// section 7.1.3: equal in all of a group), or from any where none is used.
    pub(super) fn remote_params(&self, has_data: bool, is_used: impl Fn(usize) -> bool) -> Result<RemoteParams, NegotiationError> {
        let used = self.sections.iter().enumerate().filter(|&(index, _)| is_used(index)).map(|(_, section)| section);
        let candidates: Vec<&Section> = used.chain(&self.sections).collect();
        let ice = candidates.iter().find_map(|s| s.ice.clone()).ok_or(NegotiationError::Ice)?;
        let fingerprint = candidates.iter().find_map(|s| s.fingerprint).ok_or(NegotiationError::Fingerprint)?;
        // RFC 4145 section 4: an absent attribute means active.
        match candidates.iter().find_map(|s| s.setup).unwrap_or(Setup::Active) {
            Setup::ActPass | Setup::Active => Ok(RemoteParams { ice, fingerprint, has_data }),
            Setup::Other => Err(NegotiationError::Setup),
        }
    }
}

/// What the session level says for m-lines that do not say it themselves.
struct Defaults {
    direction: Direction,
    allows_mixed_extensions: bool,
    ice: Option<IceCredentials>,
    fingerprint: Option<Fingerprint>,
    setup: Option<Setup>,
}

impl Defaults {
    fn new(session: Attributes<'_>) -> Self {
        Self {
            direction: session.direction().unwrap_or(Direction::SendRecv),
            allows_mixed_extensions: session.has("extmap-allow-mixed"),
            ice: session.ice(),
            fingerprint: session.fingerprint(),
            setup: session.setup(),
        }
    }
}

impl Section {
    fn new(defaults: &Defaults, media: &MediaDescription) -> Self {
        let name = &media.media_name;
        let attributes = Attributes(&media.attributes);
        let protocol = name.protos.join("/");
        let formats = name.formats.clone();
        Self {
            kind: section_kind(&name.media, &protocol, &formats),
            is_closed: name.port.value == 0 && !attributes.has("bundle-only"),
            mid: attributes.value("mid").filter(|mid| is_token(mid)).and_then(|mid| Mid::from(mid).ok()),
            direction: attributes.direction().unwrap_or(defaults.direction),
            has_rtcp_mux: attributes.has("rtcp-mux"),
            has_rtcp_rsize: attributes.has("rtcp-rsize"),
            allows_mixed_extensions: attributes.has("extmap-allow-mixed") || defaults.allows_mixed_extensions,
            codecs: codecs(&formats, attributes),
            extensions: attributes.values("extmap").filter_map(parse_extension).collect(),
            rids: SendRids::parse(attributes.values("rid"), attributes.value("simulcast")),
            ssrcs: simulcast::ssrcs(attributes.values("ssrc"), attributes.values("ssrc-group")),
            track_id: track_id(attributes),
            ice: attributes.ice().or_else(|| defaults.ice.clone()),
            fingerprint: attributes.fingerprint().or(defaults.fingerprint),
            setup: attributes.setup().or(defaults.setup),
            media: name.media.clone(),
            protocol,
            formats,
        }
    }
}

/// Attributes of the session or of one m-line.
#[derive(Clone, Copy)]
struct Attributes<'a>(&'a [Attribute]);

impl<'a> Attributes<'a> {
    fn values(self, key: &'a str) -> impl Iterator<Item = &'a str> + Clone {
        self.0.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref()).map(str::trim)
    }

    fn value(self, key: &'a str) -> Option<&'a str> {
        self.values(key).next()
    }

    fn has(self, key: &str) -> bool {
        self.0.iter().any(|a| a.key == key)
    }

    fn direction(self) -> Option<Direction> {
        self.0.iter().find_map(|a| a.key.parse().ok())
    }

    fn bundle(self) -> Vec<String> {
        let groups = self.values("group").map(str::split_ascii_whitespace);
        let mut bundles = groups.filter_map(|mut words| {
            (words.next() == Some("BUNDLE")).then(|| words.take(limits::MAX_MEDIA_LINES).map(str::to_owned).collect())
        });
        bundles.next().unwrap_or_default()
    }

    fn ice(self) -> Option<IceCredentials> {
        let (ufrag, pwd) = (self.value("ice-ufrag")?, self.value("ice-pwd")?);
        let is_ice_text = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let is_usable = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len()) && is_ice_text(ufrag) && is_ice_text(pwd);
        is_usable.then(|| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
    }

    fn fingerprint(self) -> Option<Fingerprint> {
        self.values("fingerprint").find_map(parse_fingerprint)
    }

    fn setup(self) -> Option<Setup> {
        self.value("setup").map(|word| match word {
            "actpass" => Setup::ActPass,
            "active" => Setup::Active,
            _ => Setup::Other,
        })
    }
}

/// A token of RFC 8866 section 9, near enough: printable, no spaces.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn section_kind(media: &str, protocol: &str, formats: &[String]) -> SectionKind {
    // RFC 8834 section 4.2 and RFC 8839: all of these mean SAVPF over DTLS, whatever the candidates' protocol.
    let is_rtp = matches!(protocol, "UDP/TLS/RTP/SAVPF" | "TCP/DTLS/RTP/SAVPF" | "RTP/SAVPF");
    let is_sctp = matches!(protocol, "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP");
    match media {
        "audio" if is_rtp => SectionKind::Rtp(MediaKind::Audio),
        "video" if is_rtp => SectionKind::Rtp(MediaKind::Video),
        "application" if is_sctp && formats.iter().any(|f| f == "webrtc-datachannel") => SectionKind::Data,
        _ => SectionKind::Unknown,
    }
}

fn codecs(formats: &[String], attributes: Attributes<'_>) -> Vec<OfferedCodec> {
    let lines = CodecLines::read(attributes);
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    let mut seen = 0_u128;
    for payload_type in formats.iter().filter_map(|f| f.parse::<u8>().ok()) {
        // RFC 5761 section 4: 64-95 can't be told from RTCP on one port.
        let is_usable = payload_type < 64 || (96..128).contains(&payload_type);
        if !is_usable || seen & (1 << payload_type) != 0 {
            continue;
        }
        seen |= 1 << payload_type;
        let (rtpmap, fmtp) = lines.of(payload_type);
        let Some((name, clock_rate_hz, channels)) = rtpmap.or_else(|| static_encoding(payload_type)).and_then(parse_encoding) else {
            continue;
        };
        let fmtp = fmtp.unwrap_or_default().to_owned();
        let feedback = lines.feedback(payload_type).map(str::to_owned).collect();
        codecs.push(OfferedCodec { payload_type, name: name.to_owned(), clock_rate_hz, channels, fmtp, feedback });
    }
    codecs
}

/// What a payload type means without `a=rtpmap` (RFC 3551 table 4), of those that we know.
const fn static_encoding(payload_type: u8) -> Option<&'static str> {
    match payload_type {
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        _ => None,
    }
}

/// What an m-line says of its payload types, read once: looking for each of them in all lines would cost the product of both,
/// and one line for all (`a=rtcp-fb:*`) is kept once.
struct CodecLines<'a> {
    /// `a=rtpmap` and `a=fmtp` by payload type; the first of each counts.
    by_type: Vec<(Option<&'a str>, Option<&'a str>)>,
    /// `a=rtcp-fb`; no payload type means all of them.
    feedback: Vec<(Option<u8>, &'a str)>,
}

/// Lines of `a=rtcp-fb` that are read of an m-line; Chromium writes about a hundred.
const MAX_FEEDBACK_LINES: usize = 512;
/// Of these for one payload type; there are fewer kinds that mean something.
const MAX_FEEDBACK: usize = 16;

impl<'a> CodecLines<'a> {
    fn read(attributes: Attributes<'a>) -> Self {
        let mut by_type = vec![(None, None); 128];
        for (payload_type, rest) in attributes.values("rtpmap").filter_map(split_payload_type) {
            if let Some((rtpmap @ None, _)) = by_type.get_mut(usize::from(payload_type)) {
                *rtpmap = Some(rest);
            }
        }
        for (payload_type, rest) in attributes.values("fmtp").filter_map(split_payload_type) {
            if let Some((_, fmtp @ None)) = by_type.get_mut(usize::from(payload_type)) {
                *fmtp = Some(rest);
            }
        }
        let feedback = attributes.values("rtcp-fb").take(MAX_FEEDBACK_LINES).filter_map(|line| match line.strip_prefix("* ") {
            Some(rest) => Some((None, rest)),
            None => split_payload_type(line).map(|(payload_type, rest)| (Some(payload_type), rest)),
        });
        Self { by_type, feedback: feedback.collect() }
    }

    /// Values of `a=rtpmap` and `a=fmtp`.
    fn of(&self, payload_type: u8) -> (Option<&'a str>, Option<&'a str>) {
        self.by_type.get(usize::from(payload_type)).copied().unwrap_or_default()
    }

    fn feedback(&self, payload_type: u8) -> impl Iterator<Item = &'a str> {
        let is_meant = move |(of, _): &&(Option<u8>, &'a str)| of.is_none_or(|of| of == payload_type);
        self.feedback.iter().filter(is_meant).map(|&(_, value)| value).take(MAX_FEEDBACK)
    }
}

/// `<payload type> <rest>`.
fn split_payload_type(value: &str) -> Option<(u8, &str)> {
    let (number, rest) = value.split_once(' ')?;
    Some((number.parse().ok()?, rest.trim()))
}

/// `opus/48000/2`.
fn parse_encoding(value: &str) -> Option<(&str, u32, u16)> {
    let mut parts = value.split('/');
    let (name, clock_rate_hz) = (parts.next()?, parts.next()?.parse().ok()?);
    let channels = parts.next().map_or(Some(1), |c| c.parse().ok())?;
    Some((name, clock_rate_hz, channels))
}

/// `3 uri`, `3/recvonly uri attributes`.
fn parse_extension(value: &str) -> Option<OfferedExtension> {
    let mut words = value.split_ascii_whitespace();
    let (id, uri) = (words.next()?, words.next()?);
    let (id, direction) = match id.split_once('/') {
        Some((id, direction)) => (id, Some(direction.parse().ok()?)),
        None => (id, None),
    };
    // RFC 8285 section 4.2: 15 is reserved in the one-byte form, and 0 is padding.
    let id = id.parse().ok().filter(|&id| id != 0 && id != 15)?;
    Some(OfferedExtension { id, direction, uri: uri.to_owned() })
}

/// `sha-256 AB:CD:...`; other hashes are not ours.
fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let is_byte = |digits: &str| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let bytes = digits.trim().split(':').map(|d| u8::from_str_radix(d, 16).ok().filter(|_| is_byte(d)));
    Some(Fingerprint(bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()?))
}

/// RFC 8830 section 2; before it, the same stood behind `a=ssrc`.
fn track_id(attributes: Attributes<'_>) -> Option<String> {
    let of_media = attributes.values("msid");
    let of_ssrcs = attributes.values("ssrc").filter_map(|v| v.split_once(' ')?.1.strip_prefix("msid:"));
    of_media.chain(of_ssrcs).find_map(|msid| msid.split_ascii_whitespace().nth(1)).map(str::to_owned)
}

/// The parser quotes the line that it failed on; that may be as long as the description.
fn syntax_error(message: &str) -> NegotiationError {
    NegotiationError::Syntax(message.chars().take(120).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn one_line(attributes: &str) -> Section {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\n{attributes}");
        Description::parse(&sdp).unwrap().sections.remove(0)
    }

    #[test]
    fn media_level_attributes_win_over_session_level_ones() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=recvonly\r\na=setup:passive\r\n\
                   m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=sendonly\r\na=setup:active\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
        let description = Description::parse(sdp).unwrap();
        assert_eq!(description.sections[0].direction, Direction::SendOnly);
        assert_eq!(description.sections[0].setup, Some(Setup::Active));
        assert_eq!(description.sections[1].direction, Direction::RecvOnly);
        assert_eq!(description.sections[1].setup, Some(Setup::Other));
    }

    #[test]
    fn feedback_for_every_payload_type_and_for_foreign_ones_is_told_apart() {
        let section = one_line("a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:* nack\r\na=rtcp-fb:111 transport-cc\r\na=rtcp-fb:96 ccm fir\r\n");
        assert_eq!(section.codecs.len(), 1);
        assert_eq!(section.codecs[0].feedback, ["nack", "transport-cc"]);
    }

    #[test]
    fn one_line_for_every_payload_type_is_not_multiplied_without_bound() {
        let types: Vec<String> = (96..128).map(|payload_type| payload_type.to_string()).collect();
        let maps: String = types.iter().map(|payload_type| format!("a=rtpmap:{payload_type} VP8/90000\r\n")).collect();
        let head = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF {}\r\n", types.join(" "));
        let sdp = format!("{head}{maps}{}", "a=rtcp-fb:* nack\r\n".repeat(20_000));
        let codecs = Description::parse(&sdp).unwrap().sections.remove(0).codecs;
        assert_eq!(codecs.len(), 32);
        assert!(codecs.iter().all(|codec| codec.feedback.len() == MAX_FEEDBACK));
    }

    #[test]
    fn the_first_line_for_a_payload_type_counts() {
        let section =
            one_line("a=rtpmap:111 opus/48000/2\r\na=rtpmap:111 VP8/90000\r\na=fmtp:111 a=1\r\na=fmtp:111 a=2\r\na=rtpmap:300 x/1\r\n");
        assert_eq!((section.codecs[0].name.as_str(), section.codecs[0].fmtp.as_str()), ("opus", "a=1"));
    }

    #[test]
    fn payload_types_that_collide_with_rtcp_are_not_used() {
        let sdp =
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 72 200 999\r\na=rtpmap:72 opus/48000/2\r\n";
        assert!(Description::parse(sdp).unwrap().sections[0].codecs.is_empty());
    }

    #[test]
    fn a_fingerprint_of_another_hash_or_length_is_ignored() {
        let good = vec!["AB"; 32].join(":");
        assert_eq!(
            one_line(&format!("a=fingerprint:sha-1 AA\r\na=fingerprint:SHA-256 {good}\r\n")).fingerprint,
            Some(Fingerprint([0xab; 32]))
        );
        assert_eq!(one_line(&format!("a=fingerprint:sha-256 {good}:AB\r\n")).fingerprint, None);
        assert_eq!(one_line(&format!("a=fingerprint:sha-256 +A{}\r\n", &good[2..])).fingerprint, None);
    }

    #[test]
    fn ice_credentials_of_forbidden_length_are_ignored() {
        let (short, long) = ("x".repeat(21), "x".repeat(257));
        assert_eq!(one_line(&format!("a=ice-ufrag:abcd\r\na=ice-pwd:{short}\r\n")).ice, None);
        assert_eq!(one_line(&format!("a=ice-ufrag:{long}\r\na=ice-pwd:{short}x\r\n")).ice, None);
        assert!(one_line(&format!("a=ice-ufrag:abcd\r\na=ice-pwd:{short}x\r\n")).ice.is_some());
    }

    #[test]
    fn the_track_id_is_read_in_every_form_that_clients_write() {
        assert_eq!(one_line("a=msid:stream track\r\n").track_id.as_deref(), Some("track"));
        assert_eq!(one_line("a=msid:- track\r\n").track_id.as_deref(), Some("track"));
        assert_eq!(one_line("a=msid:{s} {t}\r\n").track_id.as_deref(), Some("{t}"));
        assert_eq!(one_line("a=ssrc:1 cname:x\r\na=ssrc:1 msid:stream track\r\n").track_id.as_deref(), Some("track"));
        assert_eq!(one_line("a=msid:stream\r\n").track_id, None);
    }

    #[test]
    fn control_characters_are_refused() {
        for bad in ["v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\nm=audio 9 X 0\r\na=mid:0\ra=x\r\n", "v=0\0"] {
            assert!(matches!(Description::parse(bad), Err(NegotiationError::Syntax(_))));
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let long = "a".repeat(limits::MAX_SDP_BYTES + 1);
        assert_eq!(Description::parse(&long), Err(NegotiationError::TooLarge(long.len())));
        let line = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
        let many = format!("v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\n{}", line.repeat(limits::MAX_MEDIA_LINES + 1));
        assert_eq!(Description::parse(&many), Err(NegotiationError::TooManyLines(limits::MAX_MEDIA_LINES + 1)));
    }
}
