//! Header extensions: which of an offer's are answered, and which our own offers name.
//!
//! RFC 8285. Answers use the client's ids; our offers use [`Extension::offered_id`], the same on every transport.

use sfu_api::MediaKind;

use super::parse::{Direction, OfferedExtension, Section};
use crate::media::{Extension, ExtensionMap};

/// One `a=extmap` line of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ExtensionLine {
    pub(super) id: u8,
    pub(super) extension: Extension,
    /// The offer restricted it to sending: our line says `/recvonly`.
    pub(super) is_receive_only: bool,
}

/// The extensions that a publisher may send, with the client's ids and in its order.
pub(super) fn answer(offered: &[OfferedExtension]) -> Vec<ExtensionLine> {
    let mut lines: Vec<ExtensionLine> = Vec::new();
    for offer in offered {
        let Some(extension) = Extension::ALL.into_iter().find(|e| e.uri() == offer.uri) else { continue };
        let is_sent = offer.direction.is_none_or(Direction::sends);
        let is_new = lines.iter().all(|l| l.id != offer.id && l.extension != extension);
        if is_sent && is_new {
            lines.push(ExtensionLine { id: offer.id, extension, is_receive_only: offer.direction == Some(Direction::SendOnly) });
        }
    }
    lines
}

/// Never in what we send, but kept on every video m-line: libwebrtc leaves out of its next offers what one m-line did not agree on,
/// and then refuses its own offer of simulcast on another.
const KEPT_FOR_SIMULCAST: [Extension; 2] = [Extension::Rid, Extension::RepairedRid];

/// The extensions that we may send on an m-line of a client's offer, with the client's ids and in its order.
pub(super) fn answer_down(kind: MediaKind, offered: &[OfferedExtension]) -> Vec<ExtensionLine> {
    let ours = offer(kind);
    let mut lines: Vec<ExtensionLine> = Vec::new();
    for offer in offered {
        let kept = KEPT_FOR_SIMULCAST.into_iter().filter(|_| kind == MediaKind::Video);
        let Some(extension) = ours.iter().map(|line| line.extension).chain(kept).find(|e| e.uri() == offer.uri) else { continue };
        let is_new = lines.iter().all(|l| l.id != offer.id && l.extension != extension);
        // A restricted direction would have to be answered with its mirror image; nobody restricts those that matter.
        if offer.direction.is_none_or(|direction| direction == Direction::SendRecv) && is_new {
            lines.push(ExtensionLine { id: offer.id, extension, is_receive_only: false });
        }
    }
    lines
}

/// The lines as the packet path reads them.
pub(super) fn to_map(lines: &[ExtensionLine]) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for line in lines {
        map.set(line.extension, line.id);
    }
    map
}

/// The extensions that our offers name.
pub(super) fn offer(kind: MediaKind) -> Vec<ExtensionLine> {
    let extensions: &[Extension] = match kind {
        MediaKind::Audio => {
            &[Extension::Mid, Extension::TransportCc, Extension::AbsSendTime, Extension::AudioLevel, Extension::AbsCaptureTime]
        }
        MediaKind::Video => &[
            Extension::Mid,
            Extension::TransportCc,
            Extension::AbsSendTime,
            Extension::VideoOrientation,
            Extension::PlayoutDelay,
            Extension::AbsCaptureTime,
            Extension::DependencyDescriptor,
        ],
    };
    extensions.iter().map(|&extension| ExtensionLine { id: extension.offered_id(), extension, is_receive_only: false }).collect()
}

/// What a client's answer accepts of [`offer`]. An id that we did not offer is ignored (RFC 8285 section 6).
pub(super) fn accepted(kind: MediaKind, answer: &Section) -> ExtensionMap {
    let mut lines = offer(kind);
    lines.retain(|line| {
        let is_same = |a: &OfferedExtension| a.id == line.id && a.uri == line.extension.uri();
        answer.extensions.iter().any(|a| is_same(a) && a.direction.is_none_or(Direction::receives))
    });
    to_map(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(id: u8, direction: Option<Direction>, extension: Extension) -> OfferedExtension {
        OfferedExtension { id, direction, uri: extension.uri().to_owned() }
    }

    #[test]
    fn a_direction_is_answered_from_our_side() {
        let lines = answer(&[
            offered(1, Some(Direction::SendOnly), Extension::Rid),
            offered(2, Some(Direction::RecvOnly), Extension::PlayoutDelay),
            offered(3, Some(Direction::Inactive), Extension::TransportCc),
            offered(4, None, Extension::Mid),
        ]);
        let expected = [(1, Extension::Rid, true), (4, Extension::Mid, false)];
        assert_eq!(lines.iter().map(|l| (l.id, l.extension, l.is_receive_only)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_id_or_uri_is_answered_once() {
        let lines = answer(&[offered(1, None, Extension::Mid), offered(2, None, Extension::Mid), offered(1, None, Extension::TransportCc)]);
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn unknown_extensions_are_not_answered() {
        assert!(answer(&[OfferedExtension { id: 1, direction: None, uri: "urn:ietf:params:rtp-hdrext:toffset".into() }]).is_empty());
    }
}
