//! Encodings of a track: rids with `a=simulcast` (RFC 8851, RFC 8853), and what `a=ssrc` lines say.

use arrayvec::ArrayVec;

use crate::limits::MAX_ENCODINGS;
use crate::media::Rid;

/// Lines of one kind that are read of an m-line; browsers write fewer than ten. Keeps the work linear in the input.
const MAX_LINES: usize = 64;

/// Primary SSRC and the SSRC of its RTX stream.
pub(super) type SsrcPair = (u32, Option<u32>);

/// The rids that a client offers to send.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SendRids {
    rids: ArrayVec<Rid, MAX_ENCODINGS>,
    is_simulcast: bool,
}

impl SendRids {
    /// From the values of `a=rid` and `a=simulcast`. Rids beyond [`MAX_ENCODINGS`] are left out.
    pub(super) fn parse<'a>(rid_lines: impl Iterator<Item = &'a str>, simulcast_line: Option<&str>) -> Self {
        let mut declared: Vec<Rid> = Vec::new();
        for line in rid_lines.take(MAX_LINES) {
            let mut words = line.split_ascii_whitespace();
            let (Some(id), Some("send")) = (words.next(), words.next()) else { continue };
            if let Ok(rid) = Rid::from(id)
                && is_rid(id)
                && !declared.contains(&rid)
            {
                declared.push(rid);
            }
        }
        let listed = simulcast_line.map(send_list).unwrap_or_default();
        let is_simulcast = !listed.is_empty();
        let in_list = listed.into_iter().filter(|rid| declared.contains(rid));
        let rids = if is_simulcast { in_list.take(MAX_ENCODINGS).collect() } else { declared.iter().copied().take(1).collect() };
        Self { rids, is_simulcast }
    }

    /// As listed by the client.
    pub(super) fn as_offered(&self) -> &[Rid] {
        &self.rids
    }

    /// The client uses `a=simulcast`; a sole rid may come without.
    pub(super) fn is_simulcast(&self) -> bool {
        self.is_simulcast && !self.rids.is_empty()
    }

    /// Smallest encoding first. `q`, `h`, `f` (quarter, half, full) have a known order and some clients list the largest
    /// first; other names are taken as listed.
    pub(super) fn smallest_first(&self) -> Vec<Rid> {
        let rank = |rid: &Rid| ["q", "h", "f"].iter().position(|name| *name == rid.as_str());
        let mut rids = self.rids.to_vec();
        if rids.iter().all(|rid| rank(rid).is_some()) {
            rids.sort_by_key(rank);
        }
        rids
    }
}

/// RFC 8851 section 10: alphanumerics, `-` and `_`.
fn is_rid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Rids of `send a;b,c;~d recv e`: the first of alternatives; `~` (starts paused) does not matter to a receiver.
fn send_list(value: &str) -> Vec<Rid> {
    let mut words = value.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction == "send" {
            let first_alternatives = list.split(';').take(MAX_LINES).filter_map(|stream| stream.split(',').next());
            return first_alternatives.filter_map(|id| Rid::from(id.trim_start_matches('~')).ok()).collect();
        }
    }
    Vec::new()
}

/// Primary SSRCs in the order of a `SIM` group or of appearance, each with the second of its `FID` group. SSRCs that only
/// repair others (RTX, FEC) are no primaries.
pub(super) fn ssrcs<'a>(ssrc_lines: impl Iterator<Item = &'a str>, group_lines: impl Iterator<Item = &'a str>) -> Vec<SsrcPair> {
    let mut simulcast: Vec<u32> = Vec::new();
    let mut repairs: Vec<(u32, u32)> = Vec::new();
    let mut rtx: Vec<(u32, u32)> = Vec::new();
    for line in group_lines.take(MAX_LINES) {
        let mut words = line.split_ascii_whitespace();
        let semantics = words.next();
        let members: Vec<u32> = words.take(MAX_LINES).filter_map(|w| w.parse().ok()).collect();
        match (semantics, members.as_slice()) {
            (Some("SIM"), all) if simulcast.is_empty() => simulcast = all.to_vec(),
            (Some("FID"), &[primary, repair]) => {
                rtx.push((primary, repair));
                repairs.push((primary, repair));
            }
            (Some("FEC-FR"), &[primary, repair]) => repairs.push((primary, repair)),
            _ => {}
        }
    }
    let declared = ssrc_lines.filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok());
    let mut primaries: Vec<SsrcPair> = Vec::new();
    for ssrc in simulcast.into_iter().chain(declared) {
        let is_repair = repairs.iter().any(|&(_, repair)| repair == ssrc);
        if primaries.len() < MAX_ENCODINGS && !is_repair && primaries.iter().all(|&(p, _)| p != ssrc) {
            primaries.push((ssrc, rtx.iter().find(|&&(p, _)| p == ssrc).map(|&(_, repair)| repair)));
        }
    }
    primaries
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(rids: &[Rid]) -> Vec<&str> {
        rids.iter().map(Rid::as_str).collect()
    }

    #[test]
    fn encodings_listed_largest_first_are_ordered_by_size() {
        let rids = SendRids::parse(["f send", "h send", "q send"].into_iter(), Some("send f;h;q"));
        assert_eq!(names(rids.as_offered()), ["f", "h", "q"]);
        assert_eq!(names(&rids.smallest_first()), ["q", "h", "f"]);
    }

    #[test]
    fn unknown_names_keep_their_order() {
        let rids = SendRids::parse(["lo send", "hi send"].into_iter(), Some("send lo;hi"));
        assert_eq!(names(&rids.smallest_first()), ["lo", "hi"]);
    }

    #[test]
    fn paused_encodings_and_alternatives_are_understood() {
        let rids = SendRids::parse(["a send", "b send pt=96", "c send"].into_iter(), Some("recv x send ~a;b,c"));
        assert_eq!(names(rids.as_offered()), ["a", "b"]);
    }

    #[test]
    fn a_rid_that_is_not_declared_for_sending_is_left_out() {
        let rids = SendRids::parse(["a send", "b recv", "c! send"].into_iter(), Some("send a;b;c!;d"));
        assert_eq!(names(rids.as_offered()), ["a"]);
    }

    #[test]
    fn at_most_three_encodings_are_taken() {
        let rids = SendRids::parse(["a send", "b send", "c send", "d send"].into_iter(), Some("send a;b;c;d"));
        assert_eq!(names(rids.as_offered()), ["a", "b", "c"]);
    }

    #[test]
    fn a_sole_rid_needs_no_simulcast_line() {
        let rids = SendRids::parse(["a send"].into_iter(), None);
        assert_eq!(names(rids.as_offered()), ["a"]);
        assert!(!rids.is_simulcast());
    }

    #[test]
    fn repair_ssrcs_belong_to_their_primaries() {
        let lines = ["1 cname:x", "2 cname:x", "3 cname:x", "4 cname:x", "1 msid:a b"];
        let found = ssrcs(lines.into_iter(), ["FID 1 2", "FEC-FR 1 4"].into_iter());
        assert_eq!(found, [(1, Some(2)), (3, None)]);
    }

    #[test]
    fn a_sim_group_gives_the_order() {
        let found = ssrcs(["1 cname:x", "2 cname:x"].into_iter(), ["SIM 2 1", "FID 1 3"].into_iter());
        assert_eq!(found, [(2, None), (1, Some(3))]);
    }
}
