//! What negotiation agrees on and the packet path reads: codecs, payload types, header extensions, stream ids.

use arrayvec::ArrayString;

/// Value of `a=mid`.
pub type Mid = ArrayString<16>;
/// RTP stream id of a simulcast encoding (RFC 8851).
pub type Rid = ArrayString<16>;

/// A codec as far as forwarding has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
    /// RFC 9628.
    Vp9,
    /// <https://aomediacodec.github.io/av1-rtp-spec/>
    Av1,
    /// RFC 7798.
    H265,
    /// G.711 mu-law (RFC 3551 section 4.5.14), passed through.
    Pcmu,
    /// G.711 A-law (RFC 3551 section 4.5.14), passed through.
    Pcma,
}

impl Codec {
    /// As in `a=rtpmap` and in the API: `audio/opus`, `video/VP8`, `video/H264`.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Opus => "audio/opus",
            Self::Vp8 => "video/VP8",
            Self::H264 => "video/H264",
            Self::Vp9 => "video/VP9",
            Self::Av1 => "video/AV1",
            Self::H265 => "video/H265",
            Self::Pcmu => "audio/PCMU",
            Self::Pcma => "audio/PCMA",
        }
    }

    /// As in `a=rtpmap`, without clock rate: the part of [`Self::mime`] behind the slash.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.mime().split_once('/').map_or("", |(_, name)| name)
    }

    /// Codec by the name that signaling uses: `video/VP8`, `vp8`, `audio/opus`; case does not matter.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let short = name.rsplit('/').next().unwrap_or(name);
        let all = [Self::Opus, Self::Vp8, Self::H264, Self::Vp9, Self::Av1, Self::H265, Self::Pcmu, Self::Pcma];
        all.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(short))
    }

    /// RTP clock rate in Hz.
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::H264 | Self::Vp9 | Self::Av1 | Self::H265 => 90_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// Video has keyframes, layers and retransmission.
    #[must_use]
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Opus | Self::Pcmu | Self::Pcma)
    }
}

/// A payload type with everything that was agreed for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NegotiatedCodec {
    /// Codec.
    pub codec: Codec,
    /// Payload type on this transport.
    pub payload_type: u8,
    /// Payload type of its RTX (RFC 4588), if agreed.
    pub rtx_payload_type: Option<u8>,
    /// Payload type of its packets with redundancy (RFC 2198), if agreed; then the client sends these as a rule.
    pub red_payload_type: Option<u8>,
    /// `a=fmtp` parameters as the remote side wrote them (without the payload type), for example
    /// `level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f`.
    pub fmtp: String,
    /// `nack` agreed.
    pub has_nack: bool,
    /// `nack pli` agreed.
    pub has_pli: bool,
    /// `ccm fir` agreed.
    pub has_fir: bool,
    /// `transport-cc` agreed.
    pub has_transport_cc: bool,
    /// `goog-remb` agreed.
    pub has_remb: bool,
}

/// Header extensions that the engine reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    TransportCc,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    AbsSendTime,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    AudioLevel,
    /// `urn:3gpp:video-orientation`
    VideoOrientation,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    PlayoutDelay,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    AbsCaptureTime,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`, for any video codec.
    DependencyDescriptor,
}

impl Extension {
    /// Every extension, in declaration order.
    pub const ALL: [Self; 10] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::TransportCc,
        Self::AbsSendTime,
        Self::AudioLevel,
        Self::VideoOrientation,
        Self::PlayoutDelay,
        Self::AbsCaptureTime,
        Self::DependencyDescriptor,
    ];

    /// As in `a=extmap`.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::DependencyDescriptor => "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        }
    }

    /// The id that our own offers give it, the same on every subscriber transport, so that the extension block of a
    /// forwarded packet is built once and not per subscriber. All are one-byte ids (RFC 8285 section 4.2).
    #[must_use]
    pub const fn offered_id(self) -> u8 {
        self as u8 + 1
    }
}

/// Which id (1-14 one-byte, up to 255 two-byte; 0 = not agreed) each extension has on one m-line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtensionMap([u8; Extension::ALL.len()]);

impl ExtensionMap {
    /// Id of an extension, if agreed.
    #[must_use]
    pub fn id(&self, extension: Extension) -> Option<u8> {
        match self.0[extension as usize] {
            0 => None,
            id => Some(id),
        }
    }

    /// Extension with this id.
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL.into_iter().find(|&e| self.0[e as usize] == id && id != 0)
    }

    /// What is agreed, with its ids.
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> + '_ {
        Extension::ALL.into_iter().filter_map(|extension| self.id(extension).map(|id| (extension, id)))
    }

    /// Agrees on an id.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = id;
    }
}
