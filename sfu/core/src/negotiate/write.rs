//! Our own descriptions: the lines that every one has, in the shape that `rtc-sdp` prints.
//!
//! Candidates stand in the m-line that carries the BUNDLE transport only (RFC 8843 section 7.1.3); credentials, fingerprint
//! and setup are repeated in each, as browsers do.

use std::fmt::Display;
use std::net::SocketAddr;

use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, TimeDescription};
use rtc_sdp::{MediaDescription, SessionDescription};

use super::extensions::ExtensionLine;
use crate::limits;
use crate::net::Protocol;
use crate::transport::params::{Candidate, LocalParams};

/// `o=`: stays the same for a session but for its version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SessionVersion {
    id: u64,
    version: u64,
}

impl SessionVersion {
    /// The next description of the session. The id has to be hard to hit twice (RFC 8866 section 5.2); our first ICE
    /// credentials are.
    #[must_use]
    pub(super) fn next(self, local: &LocalParams) -> Self {
        match self.version {
            0 => Self { id: fnv1a(local.ice.ufrag.bytes().chain(local.ice.pwd.bytes())) >> 2, version: 1 },
            version => Self { id: self.id, version: version.saturating_add(1) },
        }
    }
}

/// A description around these m-lines; the open ones share one transport.
pub(super) fn session(version: SessionVersion, sections: Vec<SectionWriter>) -> String {
    let bundle: Vec<&str> = sections.iter().filter(|s| s.is_open).filter_map(|s| s.mid.as_deref()).collect();
    let mut attributes = vec![flag("ice-lite")];
    if !bundle.is_empty() {
        attributes.push(value("group", format_args!("BUNDLE {}", bundle.join(" "))));
    }
    attributes.push(value("msid-semantic", " WMS *"));
    SessionDescription {
        version: 0,
        origin: Origin {
            username: "-".to_owned(),
            session_id: version.id,
            session_version: version.version,
            network_type: "IN".to_owned(),
            address_type: "IP4".to_owned(),
            unicast_address: "127.0.0.1".to_owned(),
        },
        session_name: "-".to_owned(),
        time_descriptions: vec![TimeDescription::default()],
        attributes,
        media_descriptions: sections.into_iter().map(|s| s.media).collect(),
        ..SessionDescription::default()
    }
    .marshal()
}

/// One m-line in the making.
pub(super) struct SectionWriter {
    media: MediaDescription,
    mid: Option<String>,
    is_open: bool,
}

impl SectionWriter {
    /// An m-line in use. Port 9 is "discard": the candidates say where (RFC 8840 section 4.1.1).
    pub(super) fn open(media: &str, protocol: &str, mid: &str) -> Self {
        Self::new(media, protocol, Some(mid), true)
    }

    /// A refused or closed m-line: port 0, nothing but its mid and one format.
    pub(super) fn closed(media: &str, protocol: &str, format: &str, mid: Option<&str>) -> Self {
        let mut section = Self::new(media, protocol, mid, false);
        section.format(format);
        section.flag("inactive");
        section
    }

    fn new(media: &str, protocol: &str, mid: Option<&str>, is_open: bool) -> Self {
        let media = MediaDescription {
            media_name: MediaName {
                media: media.to_owned(),
                port: RangedPort { value: if is_open { 9 } else { 0 }, range: None },
                protos: protocol.split('/').map(str::to_owned).collect(),
                formats: Vec::new(),
            },
            connection_information: Some(ConnectionInformation {
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                address: Some(Address { address: "0.0.0.0".to_owned(), ttl: None, range: None }),
            }),
            ..MediaDescription::default()
        };
        let mut section = Self { media, mid: mid.map(str::to_owned), is_open };
        if let Some(mid) = mid {
            section.value("mid", mid);
        }
        section
    }

    /// `a=key`.
    pub(super) fn flag(&mut self, key: &str) {
        self.media.attributes.push(flag(key));
    }

    /// `a=key:value`.
    pub(super) fn value(&mut self, key: &str, text: impl Display) {
        self.media.attributes.push(value(key, text));
    }

    /// A format of the m-line.
    pub(super) fn format(&mut self, format: impl Display) {
        self.media.media_name.formats.push(format.to_string());
    }

    /// ICE and DTLS; candidates too where this m-line carries the transport.
    pub(super) fn transport(&mut self, local: &LocalParams, setup: &str, has_candidates: bool) {
        self.value("ice-ufrag", &local.ice.ufrag);
        self.value("ice-pwd", &local.ice.pwd);
        let digits: Vec<String> = local.fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
        self.value("fingerprint", format_args!("sha-256 {}", digits.join(":")));
        self.value("setup", setup);
        if has_candidates {
            for (index, candidate) in local.candidates.iter().enumerate() {
                self.value("candidate", candidate_value(index, *candidate));
            }
            self.flag("end-of-candidates");
        }
    }

    /// RTP and RTCP on one port, and header extensions.
    pub(super) fn rtp(&mut self, direction: &str, extensions: &[ExtensionLine]) {
        self.flag(direction);
        self.flag("rtcp-mux");
        for line in extensions {
            let suffix = if line.is_receive_only { "/recvonly" } else { "" };
            self.value("extmap", format_args!("{}{suffix} {}", line.id, line.extension.uri()));
        }
    }

    /// A payload type with its RTX.
    pub(super) fn codec(&mut self, payload_type: u8, encoding: &str, fmtp: &str, feedback: &[&str], rtx: Option<u8>) {
        self.format(payload_type);
        self.value("rtpmap", format_args!("{payload_type} {encoding}"));
        for kind in feedback {
            self.value("rtcp-fb", format_args!("{payload_type} {kind}"));
        }
        if !fmtp.is_empty() {
            self.value("fmtp", format_args!("{payload_type} {fmtp}"));
        }
        if let Some(rtx) = rtx {
            self.format(rtx);
            self.value("rtpmap", format_args!("{rtx} rtx/90000"));
            self.value("fmtp", format_args!("{rtx} apt={payload_type}"));
        }
    }

    /// Redundancy of an Opus payload type (RFC 2198 section 5).
    pub(super) fn red(&mut self, payload_type: u8, opus: u8) {
        self.format(payload_type);
        self.value("rtpmap", format_args!("{payload_type} red/48000/2"));
        self.value("fmtp", format_args!("{payload_type} {opus}/{opus}"));
    }

    /// Data channels over SCTP (RFC 8841).
    pub(super) fn sctp(&mut self) {
        self.format("webrtc-datachannel");
        self.value("sctp-port", 5000);
        self.value("max-message-size", limits::MAX_DATA_MESSAGE);
    }
}

fn flag(key: &str) -> Attribute {
    Attribute::new(key.to_owned(), None)
}

fn value(key: &str, text: impl Display) -> Attribute {
    Attribute::new(key.to_owned(), Some(text.to_string()))
}

/// RFC 8839 section 5.1 and RFC 6544 section 4.5. Each address is a base of its own, so each has its own foundation.
fn candidate_value(index: usize, candidate: Candidate) -> String {
    let (ip, port) = match candidate.address {
        SocketAddr::V4(a) => (a.ip().to_string(), a.port()),
        SocketAddr::V6(a) => (a.ip().to_string(), a.port()),
    };
    let foundation = index + 1;
    let place = u32::try_from(index).unwrap_or(u32::MAX).min(0x1000);
    let (protocol, type_preference, local_preference, suffix) = match candidate.protocol {
        Protocol::Udp => ("udp", 126, 0xffff - place, ""),
        // RFC 6544 section 4.2: below UDP; direction preference 4 (passive) in the upper three bits.
        Protocol::Tcp => ("tcp", 90, (4 << 13) | (0x1fff - place), " tcptype passive"),
    };
    let priority: u32 = (type_preference << 24) | (local_preference << 8) | 255;
    format!("{foundation} 1 {protocol} {priority} {ip} {port} typ host{suffix}")
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn udp_candidates_are_preferred_in_their_order_and_tcp_comes_last() {
        let candidate = |protocol, address: &str| Candidate { protocol, address: address.parse().unwrap() };
        let lines = [
            candidate_value(0, candidate(Protocol::Udp, "192.0.2.1:7882")),
            candidate_value(1, candidate(Protocol::Udp, "[2001:db8::1]:7882")),
            candidate_value(2, candidate(Protocol::Tcp, "192.0.2.1:7881")),
        ];
        assert_eq!(lines[0], "1 1 udp 2130706431 192.0.2.1 7882 typ host");
        assert_eq!(lines[1], "2 1 udp 2130706175 2001:db8::1 7882 typ host");
        assert_eq!(lines[2], "3 1 tcp 1520434687 192.0.2.1 7881 typ host tcptype passive");
    }
}
