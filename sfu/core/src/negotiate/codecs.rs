//! Which codecs are taken from a client's offer, in which order, and what our own offers say of them.
//!
//! Invariants: an answer names the client's payload types; our offers give one payload type to one configuration on every
//! transport, so that a forwarded packet's header is the same for all subscribers.
//! RFC 7587 (Opus), RFC 2198 (redundancy), RFC 3551 section 6 (G.711), RFC 7741 (VP8), RFC 6184 section 8 (H.264), RFC 4588 (RTX);
//! VP9, AV1 and H.265 in `profiles`.

use sfu_api::MediaKind;

use super::parse::OfferedCodec;
use super::profiles::{self, Profile};
use crate::media::{Codec, NegotiatedCodec};

/// How a client wants its track to be encoded, beyond what its offer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EncodingWish {
    /// Preferred codec. Some clients announce it in signaling only and leave their offer in the default order.
    pub codec: Option<Codec>,
    /// Opus in stereo. Not read from the offer: `stereo=1` there says what the client can play, and many say it always.
    pub stereo: bool,
    /// Opus with discontinuous transmission.
    pub dtx: bool,
    /// Opus with redundancy (RFC 2198), if the client offers it.
    pub red: bool,
}

/// A codec of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AnsweredCodec {
    pub(super) negotiated: NegotiatedCodec,
    /// Our `a=fmtp`; empty: none.
    pub(super) fmtp: String,
    /// Our `a=rtcp-fb` values.
    pub(super) feedback: Vec<&'static str>,
}

/// The supported codecs of an offered m-line, the one to send first.
///
/// The offerer sends the first codec of the answer, so the order decides: the wish, then the client's order of codecs, and
/// within H.264 the configuration that most subscribers can decode.
pub(super) fn select(kind: MediaKind, offered: &[OfferedCodec], wish: EncodingWish) -> Vec<AnsweredCodec> {
    let mut families: Vec<Codec> = Vec::new();
    let mut selected: Vec<((bool, usize, usize), AnsweredCodec)> = Vec::new();
    for candidate in offered {
        let Some((codec, rank)) = supported(kind, candidate) else { continue };
        let family = families.iter().position(|&f| f == codec).unwrap_or_else(|| {
            families.push(codec);
            families.len() - 1
        });
        let key = (wish.codec != Some(codec), family, rank);
        selected.push((key, answered(codec, candidate, offered, wish)));
    }
    // One codec and no choice: what a client may send without asking would have to be offered to every subscriber first.
    let best = selected.into_iter().min_by_key(|(key, _)| *key);
    best.into_iter().map(|(_, codec)| codec).collect()
}

/// How a client's offer takes a down track whose publisher wrote this `a=fmtp`, with the client's payload types. `None` if
/// it does not.
pub(super) fn answer_down(codec: Codec, publisher_fmtp: &str, has_red: bool, offered: &[OfferedCodec]) -> Option<AnsweredCodec> {
    let kind = if codec.is_video() { MediaKind::Video } else { MediaKind::Audio };
    let down = DownCodec::new(codec, publisher_fmtp);
    let is_same = |candidate: &&OfferedCodec| {
        let ours = OfferedCodec { fmtp: down.fmtp.clone(), ..(*candidate).clone() };
        supported(kind, candidate).is_some_and(|found| found.0 == codec && supported(kind, &ours) == Some(found))
    };
    let candidate = offered.iter().find(is_same)?;
    // Packets with redundancy name their blocks' type, and are the same for all subscribers.
    let red = has_red && candidate.payload_type == down.payload_type;
    let mut answer = answered(codec, candidate, offered, EncodingWish { red, ..EncodingWish::default() });
    answer.feedback.retain(|feedback| down.feedback.contains(feedback));
    if codec == Codec::Opus {
        // What is sent is the publisher's: players have to hear of its stereo.
        answer.fmtp = down.fmtp;
    }
    Some(answer)
}

/// The codec, and its place among configurations of the same codec.
fn supported(kind: MediaKind, offered: &OfferedCodec) -> Option<(Codec, usize)> {
    let is = |codec: Codec, name: &str| {
        codec.is_video() == (kind == MediaKind::Video)
            && offered.name.eq_ignore_ascii_case(name)
            && offered.clock_rate_hz == codec.clock_rate_hz()
    };
    if is(Codec::Opus, "opus") && offered.channels == 2 {
        Some((Codec::Opus, 0))
    } else if is(Codec::Pcmu, "PCMU") {
        Some((Codec::Pcmu, 0))
    } else if is(Codec::Pcma, "PCMA") {
        Some((Codec::Pcma, 0))
    } else if is(Codec::Vp8, "VP8") {
        Some((Codec::Vp8, 0))
    } else if is(Codec::H264, "H264") {
        let config = H264Config::parse(&offered.fmtp)?;
        Some((Codec::H264, config.rank()))
    } else {
        let codec = [Codec::Vp9, Codec::Av1, Codec::H265].into_iter().find(|codec| is(*codec, codec.name()))?;
        let (rank, _) = Profile::find(codec, &offered.fmtp)?;
        Some((codec, rank))
    }
}

fn answered(codec: Codec, offered: &OfferedCodec, all: &[OfferedCodec], wish: EncodingWish) -> AnsweredCodec {
    // Only what was offered may be answered (RFC 4585 section 4.2.3 by way of RFC 3264).
    let feedback: Vec<&'static str> = FEEDBACK.into_iter().filter(|f| offered.feedback.iter().any(|o| o == f)).collect();
    let has = |name: &str| feedback.contains(&name);
    // The answer lets it send stereo; subscribers must hear of that.
    let sends_stereo = codec == Codec::Opus && wish.stereo && parameter(&offered.fmtp, "sprop-stereo").is_none();
    let sent_fmtp = if sends_stereo { format!("{};{SENDS_STEREO}", offered.fmtp) } else { offered.fmtp.clone() };
    let negotiated = NegotiatedCodec {
        codec,
        payload_type: offered.payload_type,
        rtx_payload_type: all.iter().find(|c| is_rtx_of(c, offered.payload_type)).map(|c| c.payload_type),
        red_payload_type: all
            .iter()
            .find(|c| codec == Codec::Opus && wish.red && is_red_of(c, offered.payload_type))
            .map(|c| c.payload_type),
        fmtp: sent_fmtp,
        has_nack: has("nack"),
        has_pli: has("nack pli"),
        has_fir: has("ccm fir"),
        has_transport_cc: has("transport-cc"),
        has_remb: has("goog-remb"),
    };
    let fmtp = match codec {
        Codec::Opus => opus_answer(wish),
        Codec::Vp8 | Codec::Pcmu | Codec::Pcma => String::new(),
        Codec::H264 => h264_answer(&offered.fmtp),
        Codec::Vp9 | Codec::Av1 | Codec::H265 => profiles::answer(codec, &offered.fmtp),
    };
    AnsweredCodec { negotiated, fmtp, feedback }
}

fn is_rtx_of(codec: &OfferedCodec, payload_type: u8) -> bool {
    codec.name.eq_ignore_ascii_case("rtx") && parameter(&codec.fmtp, "apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
}

/// RFC 2198 section 5: the parameters are the types of the blocks; all have to be this one.
fn is_red_of(codec: &OfferedCodec, payload_type: u8) -> bool {
    let has_type = |block: &str| block.trim().parse() == Ok(payload_type);
    codec.name.eq_ignore_ascii_case("red") && codec.clock_rate_hz == 48_000 && codec.fmtp.split('/').all(has_type)
}

fn opus_answer(wish: EncodingWish) -> String {
    let stereo = if wish.stereo { ";stereo=1" } else { "" };
    let dtx = if wish.dtx { ";usedtx=1" } else { "" };
    format!("{OPUS_FMTP}{stereo}{dtx}")
}

/// Only the parameters of RFC 6184; encoder hints and parameter sets of the offer are not ours to repeat.
fn h264_answer(offered: &str) -> String {
    let kept = ["level-asymmetry-allowed", "packetization-mode", "profile-level-id"];
    let kept = kept.into_iter().filter_map(|name| Some(format!("{name}={}", parameter(offered, name).filter(|v| v.len() <= 6)?)));
    kept.collect::<Vec<_>>().join(";")
}

/// How one of our own offers names a codec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DownCodec {
    pub(super) payload_type: u8,
    /// Of its RTX, if the codec has one.
    pub(super) rtx_payload_type: Option<u8>,
    /// Of its packets with redundancy, if the codec can have them.
    pub(super) red_payload_type: Option<u8>,
    /// Empty: none.
    pub(super) fmtp: String,
    pub(super) feedback: &'static [&'static str],
}

impl DownCodec {
    /// For a track of this codec, whose publisher wrote this `a=fmtp`.
    pub(super) fn new(codec: Codec, publisher_fmtp: &str) -> Self {
        match codec {
            Codec::Opus => {
                // Players ask for stereo in their answer only if they are told that it comes.
                let is_stereo = parameter(publisher_fmtp, "sprop-stereo") == Some("1");
                let fmtp = if is_stereo { format!("{OPUS_FMTP};{SENDS_STEREO}") } else { OPUS_FMTP.to_owned() };
                // Mono and stereo have one payload type, as in browsers, since blocks of redundancy name it.
                Self { red_payload_type: Some(RED_PAYLOAD_TYPE), ..Self::audio(OPUS_PAYLOAD_TYPE, fmtp) }
            }
            Codec::Pcmu => Self::audio(PCMU_PAYLOAD_TYPE, String::new()),
            Codec::Pcma => Self::audio(PCMA_PAYLOAD_TYPE, String::new()),
            Codec::Vp8 => Self::video(VP8_PAYLOAD_TYPE, String::new()),
            Codec::H264 => {
                let config = H264Config::parse(publisher_fmtp).unwrap_or(H264Config::ALL[0]);
                Self::video(config.payload_type(), config.offered_fmtp())
            }
            Codec::Vp9 | Codec::Av1 | Codec::H265 => {
                let profile = Profile::of(codec, publisher_fmtp).unwrap_or(&profiles::PROFILES[0]);
                Self::video(profile.payload_type, profile.offered_fmtp.to_owned())
            }
        }
    }

    fn audio(payload_type: u8, fmtp: String) -> Self {
        Self { payload_type, rtx_payload_type: None, red_payload_type: None, fmtp, feedback: &["transport-cc"] }
    }

    /// RTX is the payload type above.
    fn video(payload_type: u8, fmtp: String) -> Self {
        Self { payload_type, rtx_payload_type: Some(payload_type + 1), red_payload_type: None, fmtp, feedback: &FEEDBACK }
    }

    /// The client answers this payload type in a way that lets it decode what we send. H.264 is the codec whose answer may
    /// name less than was offered: a lower profile or another packetization mode (RFC 6184 section 8.2.2). Levels don't
    /// matter, since every offer allows asymmetry and publishers don't say which one they send.
    pub(super) fn is_taken_by(&self, codec: Codec, answered: &[OfferedCodec]) -> bool {
        let Some(answer) = answered.iter().find(|c| c.payload_type == self.payload_type) else { return false };
        if codec != Codec::H264 {
            return true;
        }
        let stream = H264Config::parse(&self.fmtp);
        // Some answers leave the parameters out; then the offered ones hold.
        let decoder = if parameter(&answer.fmtp, "profile-level-id").is_some() { H264Config::parse(&answer.fmtp) } else { stream };
        decoder.zip(stream).is_some_and(|(decoder, stream)| decoder.decodes(stream))
    }
}

/// The `a=fmtp` that a publisher will have for a codec that it does not send yet: that of the configuration which we prefer.
#[must_use]
pub const fn assumed_fmtp(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        _ => "",
    }
}

/// Value of a parameter in `a=fmtp`; names are case-insensitive.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').filter_map(|p| p.split_once('=')).find(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What an H.264 decoder must know in advance; level is left out because every offer allows asymmetry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct H264Config {
    profile: H264Profile,
    /// Packetization mode 1 (RFC 6184 section 6.3: FU-A and STAP-A), else 0 (single NAL units).
    is_non_interleaved: bool,
}

/// Profiles in the order of RFC 6184 table 5 that browsers use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
}

impl H264Config {
    /// Most widely decodable first. The position gives the payload type, so entries are only ever appended.
    const ALL: [Self; 10] = {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        const fn config(profile: H264Profile, is_non_interleaved: bool) -> H264Config {
            H264Config { profile, is_non_interleaved }
        }
        [
            config(ConstrainedBaseline, true),
            config(Baseline, true),
            config(Main, true),
            config(ConstrainedHigh, true),
            config(High, true),
            config(ConstrainedBaseline, false),
            config(Baseline, false),
            config(Main, false),
            config(ConstrainedHigh, false),
            config(High, false),
        ]
    };

    /// `None` for profiles and packetization modes that are not supported.
    fn parse(fmtp: &str) -> Option<Self> {
        // RFC 6184 section 8.1: an absent mode is 0. An absent profile is Baseline; libwebrtc means Constrained Baseline.
        let profile = match parameter(fmtp, "profile-level-id") {
            Some(id) => H264Profile::parse(id)?,
            None => H264Profile::ConstrainedBaseline,
        };
        let is_non_interleaved = match parameter(fmtp, "packetization-mode") {
            Some("1") => true,
            Some("0") | None => false,
            Some(_) => return None,
        };
        Some(Self { profile, is_non_interleaved })
    }

    /// A decoder of this configuration plays streams of that one (H.264 annex A.2: which profile contains which).
    fn decodes(self, stream: Self) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let has_profile = self.profile == stream.profile
            || match stream.profile {
                ConstrainedBaseline => true,
                Main | ConstrainedHigh => self.profile == High,
                Baseline | High => false,
            };
        has_profile && (self.is_non_interleaved || !stream.is_non_interleaved)
    }

    fn rank(self) -> usize {
        Self::ALL.iter().position(|&c| c == self).unwrap_or(Self::ALL.len())
    }

    fn payload_type(self) -> u8 {
        H264_PAYLOAD_TYPES.get(self.rank()).copied().unwrap_or(H264_PAYLOAD_TYPES[0])
    }

    /// Level 3.1, the one that every browser names; with asymmetry allowed it binds nobody.
    fn offered_fmtp(self) -> String {
        let profile = match self.profile {
            H264Profile::ConstrainedBaseline => "42e0",
            H264Profile::Baseline => "4200",
            H264Profile::Main => "4d00",
            H264Profile::ConstrainedHigh => "640c",
            H264Profile::High => "6400",
        };
        format!("level-asymmetry-allowed=1;packetization-mode={};profile-level-id={profile}1f", u8::from(self.is_non_interleaved))
    }
}

impl H264Profile {
    /// From `profile-level-id`: profile_idc, constraint flags, level (RFC 6184 section 8.1, table 5).
    fn parse(id: &str) -> Option<Self> {
        if id.len() != 6 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let [_, profile_idc, constraints, _level] = u32::from_str_radix(id, 16).ok()?.to_be_bytes();
        let is_set = |flag: u8| constraints & (0x80 >> flag) != 0;
        match profile_idc {
            0x42 if is_set(1) => Some(Self::ConstrainedBaseline),
            0x42 => Some(Self::Baseline),
            // Main and Extended with constraint_set0 (and 1) are streams that a Constrained Baseline decoder plays.
            0x4d if is_set(0) => Some(Self::ConstrainedBaseline),
            0x58 if is_set(0) && is_set(1) => Some(Self::ConstrainedBaseline),
            0x4d => Some(Self::Main),
            0x64 if is_set(4) && is_set(5) => Some(Self::ConstrainedHigh),
            0x64 => Some(Self::High),
            _ => None,
        }
    }
}

/// `a=rtcp-fb` values that we know, in the order in which we write them.
const FEEDBACK: [&str; 5] = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];
const OPUS_FMTP: &str = "minptime=10;useinbandfec=1";
const SENDS_STEREO: &str = "sprop-stereo=1";
const OPUS_PAYLOAD_TYPE: u8 = 111;
/// As in Chromium. RFC 5761 section 4 leaves 0-63 to RTP too.
const RED_PAYLOAD_TYPE: u8 = 63;
/// Static types (RFC 3551 table 4).
const PCMU_PAYLOAD_TYPE: u8 = 0;
const PCMA_PAYLOAD_TYPE: u8 = 8;
const VP8_PAYLOAD_TYPE: u8 = 96;
/// One per [`H264Config::ALL`]; the RTX of each is one above.
const H264_PAYLOAD_TYPES: [u8; 10] = [98, 100, 102, 104, 106, 112, 114, 116, 118, 120];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn offered(payload_type: u8, name: &str, fmtp: &str) -> OfferedCodec {
        let (clock_rate_hz, channels) = if name == "opus" { (48_000, 2) } else { (90_000, 1) };
        OfferedCodec {
            payload_type,
            name: name.into(),
            clock_rate_hz,
            channels,
            fmtp: fmtp.into(),
            feedback: vec!["nack".into(), "x".into()],
        }
    }

    fn order(offer: &[OfferedCodec], wish: Option<Codec>) -> Vec<u8> {
        let wish = EncodingWish { codec: wish, ..EncodingWish::default() };
        select(MediaKind::Video, offer, wish).iter().map(|c| c.negotiated.payload_type).collect()
    }

    #[test]
    fn profiles_are_told_apart_by_their_constraint_flags() {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let expected = [
            ("42e01f", ConstrainedBaseline),
            ("42c01f", ConstrainedBaseline),
            ("42E034", ConstrainedBaseline),
            ("4d8015", ConstrainedBaseline),
            ("42001f", Baseline),
            ("4d001f", Main),
            ("4d401f", Main),
            ("640c1f", ConstrainedHigh),
            ("64001f", High),
        ];
        for (id, profile) in expected {
            assert_eq!(H264Profile::parse(id), Some(profile), "{id}");
        }
        for id in ["f4001f", "42e0", "42e01f00", "zzzzzz", "+2e01f", ""] {
            assert_eq!(H264Profile::parse(id), None, "{id}");
        }
    }

    #[test]
    fn the_most_decodable_h264_configuration_is_answered() {
        let offer = [
            offered(102, "H264", "packetization-mode=1;profile-level-id=42001f"),
            offered(104, "H264", "packetization-mode=0;profile-level-id=42e01f"),
            offered(108, "H264", "packetization-mode=1;profile-level-id=42e01f"),
            offered(110, "H264", "packetization-mode=2;profile-level-id=42e01f"),
        ];
        assert_eq!(order(&offer, None), [108]);
        assert_eq!(order(&offer[..2], None), [102]);
        assert_eq!(order(&offer[1..2], None), [104]);
    }

    #[test]
    fn the_clients_order_of_codecs_decides_unless_signaling_names_one() {
        let offer = [offered(96, "VP8", ""), offered(98, "VP9", ""), offered(102, "h264", "profile-level-id=42e01f")];
        assert_eq!(order(&offer, None), [96]);
        assert_eq!(order(&offer, Some(Codec::H264)), [102]);
        assert_eq!(order(&offer[..1], Some(Codec::H264)), [96]);
    }

    #[test]
    fn an_answer_repeats_no_encoder_hints() {
        let hinted = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f;x-google-start-bitrate=999";
        let selected = select(MediaKind::Video, &[offered(102, "H264", hinted)], EncodingWish::default());
        assert_eq!(selected[0].fmtp, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
        assert_eq!(selected[0].negotiated.fmtp, hinted);
    }

    #[test]
    fn stereo_and_dtx_follow_the_wish_and_not_the_offer() {
        let offer = [offered(111, "opus", "minptime=10;stereo=1;usedtx=1")];
        let fmtp = |wish| select(MediaKind::Audio, &offer, wish)[0].fmtp.clone();
        assert_eq!(fmtp(EncodingWish::default()), "minptime=10;useinbandfec=1");
        let wish = EncodingWish { stereo: true, dtx: true, ..EncodingWish::default() };
        assert_eq!(fmtp(wish), "minptime=10;useinbandfec=1;stereo=1;usedtx=1");
    }

    #[test]
    fn redundancy_is_answered_if_it_is_wished_and_for_the_chosen_opus() {
        let red = |payload_type, fmtp| OfferedCodec { channels: 2, clock_rate_hz: 48_000, ..offered(payload_type, "red", fmtp) };
        let offer = [offered(111, "opus", ""), red(60, "111/109"), red(63, "111/111"), offered(118, "red", "")];
        let answer = |wish, offer: &[OfferedCodec]| select(MediaKind::Audio, offer, wish)[0].negotiated.red_payload_type;
        let wish = EncodingWish { red: true, ..EncodingWish::default() };
        assert_eq!(answer(wish, &offer), Some(63));
        assert_eq!(answer(EncodingWish::default(), &offer), None);
        assert_eq!(answer(wish, &offer[..2]), None);
        assert_eq!(
            answer(wish, &[offered(0, "PCMU", ""), red(63, "0/0")].map(|c| OfferedCodec { clock_rate_hz: 8_000, channels: 1, ..c })),
            None
        );
    }

    #[test]
    fn g711_is_taken_if_it_is_wished_or_nothing_better_is_offered() {
        let g711 = |payload_type, name| OfferedCodec { clock_rate_hz: 8_000, channels: 1, ..offered(payload_type, name, "") };
        let offer = [offered(111, "opus", ""), g711(0, "PCMU"), g711(8, "PCMA")];
        let chosen = |offer: &[OfferedCodec], codec| {
            select(MediaKind::Audio, offer, EncodingWish { codec, ..EncodingWish::default() })[0].negotiated.codec
        };
        assert_eq!(chosen(&offer, None), Codec::Opus);
        assert_eq!(chosen(&offer, Some(Codec::Pcma)), Codec::Pcma);
        assert_eq!(chosen(&offer[1..], None), Codec::Pcmu);
        assert_eq!((DownCodec::new(Codec::Pcmu, "").payload_type, DownCodec::new(Codec::Pcma, "").payload_type), (0, 8));
    }

    #[test]
    fn an_answer_has_to_name_a_decoder_of_what_is_sent() {
        let fmtp = |id: &str, mode: u8| format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={id}");
        let cases = [
            (("42e01f", 1), ("42e01f", 1), true),
            (("42e01f", 1), ("42e033", 1), true),
            (("42e01f", 1), ("64001f", 1), true),
            (("42e01f", 1), ("42e01f", 0), false),
            (("42e01f", 0), ("42e01f", 1), true),
            (("64001f", 1), ("42e01f", 1), false),
            (("64001f", 1), ("640c1f", 1), false),
            (("640c1f", 1), ("64001f", 1), true),
            (("4d001f", 1), ("42e01f", 1), false),
            (("42001f", 1), ("42e01f", 1), false),
        ];
        for ((sent, mode), (answered, answered_mode), expected) in cases {
            let down = DownCodec::new(Codec::H264, &fmtp(sent, mode));
            let answer = offered(down.payload_type, "H264", &fmtp(answered, answered_mode));
            assert_eq!(down.is_taken_by(Codec::H264, &[answer]), expected, "{sent} mode {mode} to {answered} mode {answered_mode}");
        }
        let down = DownCodec::new(Codec::H264, &fmtp("64001f", 1));
        assert!(down.is_taken_by(Codec::H264, &[offered(down.payload_type, "H264", "")]), "silence is consent");
        assert!(!down.is_taken_by(Codec::H264, &[]));
    }

    #[test]
    fn subscribers_of_a_stereo_publisher_are_told_so() {
        let wish = EncodingWish { stereo: true, ..EncodingWish::default() };
        let up = select(MediaKind::Audio, &[offered(111, "opus", "minptime=10")], wish).remove(0).negotiated;
        let (stereo, mono) = (DownCodec::new(Codec::Opus, &up.fmtp), DownCodec::new(Codec::Opus, "stereo=1"));
        assert_eq!((stereo.payload_type, stereo.fmtp.as_str()), (111, "minptime=10;useinbandfec=1;sprop-stereo=1"));
        assert_eq!((mono.payload_type, mono.fmtp.as_str()), (111, "minptime=10;useinbandfec=1"));
    }

    #[test]
    fn only_feedback_that_was_offered_is_answered() {
        let selected = select(MediaKind::Video, &[offered(96, "VP8", "")], EncodingWish::default());
        assert_eq!(selected[0].feedback, ["nack"]);
        assert!(selected[0].negotiated.has_nack && !selected[0].negotiated.has_pli);
    }

    #[test]
    fn rtx_is_found_by_the_payload_type_that_it_repairs() {
        let offer = [offered(96, "VP8", ""), offered(97, "rtx", "apt=96;rtx-time=3000"), offered(99, "rtx", "apt=98")];
        assert_eq!(select(MediaKind::Video, &offer, EncodingWish::default())[0].negotiated.rtx_payload_type, Some(97));
    }

    #[test]
    fn offered_payload_types_are_distinct_and_dynamic() {
        let mut all: Vec<u8> = vec![OPUS_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, VP8_PAYLOAD_TYPE, VP8_PAYLOAD_TYPE + 1];
        all.extend(H264_PAYLOAD_TYPES.iter().flat_map(|&pt| [pt, pt + 1]));
        all.extend(profiles::PROFILES.iter().flat_map(|profile| [profile.payload_type, profile.payload_type + 1]));
        assert!(all.iter().all(|pt| (35..64).contains(pt) || (96..128).contains(pt)));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_down_track_keeps_the_publishers_profile_and_mode_at_a_fixed_level() {
        let down = DownCodec::new(Codec::H264, "packetization-mode=0;profile-level-id=4d0034;x=1");
        assert_eq!(down.fmtp, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f");
        assert_eq!((down.payload_type, down.rtx_payload_type), (116, Some(117)));
    }
}
