//! Profiles of VP9, AV1 and H.265 that are forwarded, and how descriptions name them.
//!
//! RFC 9628 section 6 (VP9), "RTP Payload Format For AV1" section 7.2, RFC 7798 section 7.1 (H.265). Levels bind nobody here:
//! a decoder that gets more than it can take is the subscriber's own choice of layer, so our offers name one fixed level.

use super::codecs::parameter;
use crate::media::Codec;

/// What a decoder must know in advance of one of these codecs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Profile {
    codec: Codec,
    /// Value of the parameter that names the profile.
    id: &'static str,
    /// In our offers; the RTX is one above.
    pub(super) payload_type: u8,
    /// In our offers.
    pub(super) offered_fmtp: &'static str,
}

/// The payload types below 64 are those that libwebrtc uses: RFC 5761 section 4 leaves 35-63 where 96-127 is full.
pub(super) const PROFILES: [Profile; 6] = [
    Profile { codec: Codec::Vp9, id: "0", payload_type: 122, offered_fmtp: "profile-id=0" },
    Profile { codec: Codec::Vp9, id: "2", payload_type: 124, offered_fmtp: "profile-id=2" },
    Profile { codec: Codec::Av1, id: "0", payload_type: 45, offered_fmtp: "level-idx=5;profile=0;tier=0" },
    Profile { codec: Codec::Av1, id: "1", payload_type: 39, offered_fmtp: "level-idx=5;profile=1;tier=0" },
    Profile { codec: Codec::H265, id: "1", payload_type: 49, offered_fmtp: "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST" },
    Profile { codec: Codec::H265, id: "2", payload_type: 51, offered_fmtp: "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST" },
];

impl Profile {
    /// The profile that an `a=fmtp` names, with its rank: the one that most decoders know is 0. `None` for those that are not
    /// forwarded: high tiers, other profiles, several RTP streams for one H.265 layer structure.
    pub(super) fn find(codec: Codec, fmtp: &str) -> Option<(usize, &'static Self)> {
        let is = |name: &str, default: &str| parameter(fmtp, name).unwrap_or(default).eq_ignore_ascii_case(default);
        let id = match codec {
            Codec::Vp9 => parameter(fmtp, "profile-id").unwrap_or("0"),
            Codec::Av1 if is("tier", "0") => parameter(fmtp, "profile").unwrap_or("0"),
            Codec::H265 if is("tier-flag", "0") && is("tx-mode", "SRST") && is("profile-space", "0") => {
                parameter(fmtp, "profile-id").unwrap_or("1")
            }
            _ => return None,
        };
        PROFILES.iter().filter(|profile| profile.codec == codec).enumerate().find(|(_, profile)| profile.id == id)
    }

    /// The profile of a track, by what its publisher wrote.
    pub(super) fn of(codec: Codec, publisher_fmtp: &str) -> Option<&'static Self> {
        Self::find(codec, publisher_fmtp).map(|(_, profile)| profile).or_else(|| PROFILES.iter().find(|profile| profile.codec == codec))
    }
}

/// Our answer to an offered configuration: its own parameters, without what is not of the format.
pub(super) fn answer(codec: Codec, offered: &str) -> String {
    let names: &[&str] = match codec {
        Codec::Vp9 => &["profile-id"],
        Codec::Av1 => &["level-idx", "profile", "tier"],
        Codec::H265 => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Vp8 | Codec::H264 => &[],
    };
    let is_plain = |value: &&str| value.len() <= 4 && value.bytes().all(|b| b.is_ascii_alphanumeric());
    let kept = names.iter().filter_map(|name| Some(format!("{name}={}", parameter(offered, name).filter(is_plain)?)));
    kept.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_type(codec: Codec, fmtp: &str) -> Option<u8> {
        Profile::find(codec, fmtp).map(|(_, profile)| profile.payload_type)
    }

    #[test]
    fn an_absent_parameter_has_the_default_of_its_format() {
        assert_eq!(payload_type(Codec::Vp9, ""), Some(122));
        assert_eq!(payload_type(Codec::Av1, "level-idx=8"), Some(45));
        assert_eq!(payload_type(Codec::H265, "level-id=93"), Some(49));
    }

    #[test]
    fn profiles_are_told_apart_and_unknown_ones_refused() {
        assert_eq!(payload_type(Codec::Vp9, "profile-id=2"), Some(124));
        assert_eq!(payload_type(Codec::Vp9, "profile-id=1"), None);
        assert_eq!(payload_type(Codec::Av1, "level-idx=5;profile=1;tier=0"), Some(39));
        assert_eq!(payload_type(Codec::Av1, "profile=0;tier=1"), None);
        assert_eq!(payload_type(Codec::H265, "profile-id=2;tx-mode=srst"), Some(51));
        assert_eq!(payload_type(Codec::H265, "profile-id=1;tx-mode=MRST"), None);
        assert_eq!(payload_type(Codec::H265, "profile-id=1;tier-flag=1"), None);
    }

    #[test]
    fn an_answer_repeats_the_parameters_of_the_format_only() {
        assert_eq!(answer(Codec::Av1, "level-idx=5;profile=0;tier=0;x-google-start-bitrate=900"), "level-idx=5;profile=0;tier=0");
        assert_eq!(answer(Codec::H265, "level-id=93;tx-mode=SRST;sprop-vps=QAEMAf"), "level-id=93;tx-mode=SRST");
        assert_eq!(answer(Codec::Vp9, "profile-id=0 x"), "");
    }
}
