//! Ids and their written form (`PA_…`, `TR_VC…`, `RM_…`): a bijection, so that no table has to be kept in step.
//!
//! 41 letters to the power of 12 is just above 2^64: every id has exactly one 12-letter form and none is lost.

use rand::Rng;
use sfu_api::{ParticipantId, RoomId, TrackId};

/// A signal connection; handed out by whoever owns the sockets, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// `PA_` and 12 letters.
#[must_use]
pub fn participant_sid(id: ParticipantId) -> String {
    format!("{PARTICIPANT_PREFIX}{}", letters(id.0))
}

/// `RM_` and 12 letters.
#[must_use]
pub fn room_sid(id: RoomId) -> String {
    format!("{ROOM_PREFIX}{}", letters(id.0))
}

/// `TR_`, the two-letter hint of kind and source, and 12 letters.
#[must_use]
pub fn track_sid(id: TrackId, hint: &str) -> String {
    format!("{TRACK_PREFIX}{hint}{}", letters(id.0))
}

/// `DTR_` and 12 letters.
#[must_use]
pub fn data_track_sid(id: TrackId) -> String {
    format!("{DATA_TRACK_PREFIX}{}", letters(id.0))
}

/// The data track that a client names; none if it is not our form.
#[must_use]
pub fn parse_data_track_sid(sid: &str) -> Option<TrackId> {
    number(sid.strip_prefix(DATA_TRACK_PREFIX)?).map(TrackId)
}

/// The participant that a client names; none if it is not one of our forms.
#[must_use]
pub fn parse_participant_sid(sid: &str) -> Option<ParticipantId> {
    number(sid.strip_prefix(PARTICIPANT_PREFIX)?).map(ParticipantId)
}

/// The track that a client names; none if it is not one of our forms. The hint is not looked at.
#[must_use]
pub fn parse_track_sid(sid: &str) -> Option<TrackId> {
    let rest = sid.strip_prefix(TRACK_PREFIX)?;
    let hint_len = rest.len().checked_sub(LETTERS)?;
    if hint_len > 2 {
        return None;
    }
    number(rest.get(hint_len..)?).map(TrackId)
}

/// `AJ_` and 12 letters.
pub(crate) fn job_sid(id: u64) -> String {
    format!("{JOB_PREFIX}{}", letters(id))
}

/// The job that a worker names; none if it is not one of our forms.
pub(crate) fn parse_job_sid(sid: &str) -> Option<u64> {
    number(sid.strip_prefix(JOB_PREFIX)?)
}

/// `AW_` and 12 letters.
pub(crate) fn worker_sid(id: u64) -> String {
    format!("AW_{}", letters(id))
}

/// `AD_` and 12 letters.
pub(crate) fn dispatch_sid(id: u64) -> String {
    format!("AD_{}", letters(id))
}

pub(crate) fn random_id(rng: &mut dyn Rng) -> u64 {
    rng.next_u64()
}

fn letters(mut number: u64) -> String {
    let mut text = [0_u8; LETTERS];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(number % BASE).unwrap_or(0);
        *place = ALPHABET.get(digit).copied().unwrap_or(b'2');
        number /= BASE;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn number(text: &str) -> Option<u64> {
    if text.len() != LETTERS {
        return None;
    }
    text.bytes().try_fold(0_u64, |sum, letter| {
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        sum.checked_mul(BASE)?.checked_add(u64::try_from(digit).ok()?)
    })
}

/// What the ids of participants begin with.
pub const PARTICIPANT_PREFIX: &str = "PA_";
const ROOM_PREFIX: &str = "RM_";
const TRACK_PREFIX: &str = "TR_";
const DATA_TRACK_PREFIX: &str = "DTR_";
const JOB_PREFIX: &str = "AJ_";
const LETTERS: usize = 12;
const BASE: u64 = 41;
/// No letter that people mistake for another.
const ALPHABET: &[u8; 41] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghi";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_survives_its_written_form(id: u64) {
            prop_assert_eq!(parse_participant_sid(&participant_sid(ParticipantId(id))), Some(ParticipantId(id)));
            prop_assert_eq!(parse_data_track_sid(&data_track_sid(TrackId(id))), Some(TrackId(id)));
            prop_assert_eq!(parse_track_sid(&data_track_sid(TrackId(id))), None);
            for hint in ["", "VC", "AM", "V", "Vs"] {
                prop_assert_eq!(parse_track_sid(&track_sid(TrackId(id), hint)), Some(TrackId(id)));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = parse_participant_sid(&text);
            let _ = parse_track_sid(&text);
            let _ = parse_data_track_sid(&text);
            let _ = parse_track_sid(&format!("TR_{text}"));
        }
    }

    #[test]
    fn a_form_beyond_64_bits_names_nobody() {
        assert_eq!(parse_participant_sid("PA_iiiiiiiiiiii"), None);
    }
}
