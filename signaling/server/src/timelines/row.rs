//! One second of one track as small integers, and its compact form.
//!
//! A row is written as the difference to the one before: a bit for each column that changed, then the differences as
//! variable-length integers. A quiet second costs one byte, a busy one about a byte for each column (see the tests).

use std::time::Duration;

use sfu_api::telemetry::{LayerLimit, LayerPlace, LayerState, TrackSample};

/// Columns of a row.
pub(super) const COLUMNS: usize = 15;

/// See the module. Units are in the names of the constants below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Row(pub(super) [u32; COLUMNS]);

/// Places of a row. What may be unknown is one more than its value, 0 if it is not known.
pub(crate) mod column {
    pub(crate) const PACKETS: usize = 0;
    pub(crate) const KILOBITS: usize = 1;
    pub(crate) const LOST: usize = 2;
    pub(crate) const RESIDUAL: usize = 3;
    pub(crate) const ROUND_TRIP_MS_KNOWN: usize = 4;
    pub(crate) const JITTER_100US: usize = 5;
    pub(crate) const DELAY_MS: usize = 6;
    pub(crate) const BURST_PERCENT: usize = 7;
    pub(crate) const RATED_LOSS_PERMYRIAD: usize = 8;
    pub(crate) const SCORE_CENTI_KNOWN: usize = 9;
    pub(crate) const LAYER: usize = 10;
    pub(crate) const BUFFER_MS_KNOWN: usize = 11;
    pub(crate) const CONCEALED_PERMYRIAD_KNOWN: usize = 12;
    pub(crate) const FREEZE_MS: usize = 13;
    pub(crate) const CLIENT_FPS_KNOWN: usize = 14;
}

/// What a client says of a track that it receives or sends, since its report before.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct ClientView {
    /// Time that samples wait in the jitter buffer (`jitterBufferDelay / jitterBufferEmittedCount`).
    pub(crate) jitter_buffer: Option<Duration>,
    /// Share of audio that was made up, silence not counted (`concealedSamples - silentConcealedSamples` of
    /// `totalSamplesReceived`).
    pub(crate) concealed: Option<f64>,
    /// Time for which the picture stood still (`totalFreezesDuration`).
    pub(crate) freeze: Duration,
    /// Frames per second that were shown or sent.
    pub(crate) frames_per_second: Option<f64>,
    /// Round trip that the client measures itself (`currentRoundTripTime` of the candidate pair).
    pub(crate) round_trip: Option<Duration>,
}

impl Row {
    /// A sample, with what the client says of the same track.
    pub(super) fn of(sample: &TrackSample, client: Option<&ClientView>) -> Self {
        let mut row = [0; COLUMNS];
        let seconds = sample.interval.as_secs_f64().max(0.001);
        row[column::PACKETS] = sample.packets;
        row[column::KILOBITS] = whole(f64::from(sample.bytes) * 8.0 / 1000.0 / seconds);
        row[column::LOST] = sample.lost;
        row[column::RESIDUAL] = sample.residual;
        let round_trip = sample.round_trip.or_else(|| client.and_then(|client| client.round_trip));
        row[column::ROUND_TRIP_MS_KNOWN] = known(round_trip.map(millis));
        row[column::JITTER_100US] = whole(sample.jitter.as_secs_f64() * 1e4);
        row[column::DELAY_MS] = whole(millis(sample.delay));
        row[column::BURST_PERCENT] = whole(f64::from(sample.burst_ratio) * 100.0);
        row[column::RATED_LOSS_PERMYRIAD] = whole(f64::from(sample.rated_loss) * 1e4);
        row[column::SCORE_CENTI_KNOWN] = known(sample.opinion_score.or(sample.video_score).map(|score| f64::from(score) * 100.0));
        row[column::LAYER] = sample.layer.map_or(0, pack);
        if let Some(client) = client {
            row[column::BUFFER_MS_KNOWN] = known(client.jitter_buffer.map(millis));
            row[column::CONCEALED_PERMYRIAD_KNOWN] = known(client.concealed.map(|share| share.clamp(0.0, 1.0) * 1e4));
            row[column::FREEZE_MS] = whole(millis(client.freeze));
            row[column::CLIENT_FPS_KNOWN] = known(client.frames_per_second);
        }
        Self(row)
    }

    /// One column.
    pub(crate) fn get(&self, column: usize) -> u32 {
        self.0.get(column).copied().unwrap_or(0)
    }

    /// A column that may be unknown.
    pub(crate) fn known(&self, column: usize) -> Option<u32> {
        self.get(column).checked_sub(1)
    }

    /// Appends the difference to the row before.
    pub(super) fn write(&self, before: &Self, out: &mut Vec<u8>) {
        let changed = (0..COLUMNS).filter(|&place| self.0[place] != before.0[place]).fold(0_u32, |bits, place| bits | 1 << place);
        write_number(changed, out);
        for place in (0..COLUMNS).filter(|place| changed & 1 << place != 0) {
            // Wrapping, then the sign into the lowest bit: small changes in both directions are small numbers.
            let difference = self.0[place].wrapping_sub(before.0[place]).cast_signed();
            write_number(((difference << 1) ^ (difference >> 31)).cast_unsigned(), out);
        }
    }

    /// Reads the next row; None at the end.
    pub(super) fn read(before: &Self, bytes: &mut &[u8]) -> Option<Self> {
        let changed = read_number(bytes)?;
        let mut row = before.0;
        for (place, value) in row.iter_mut().enumerate() {
            if changed & 1 << place != 0 {
                let zigzag = read_number(bytes)?;
                let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
                *value = value.wrapping_add_signed(difference);
            }
        }
        Some(Self(row))
    }
}

/// Reads what [`pack`] has written.
pub(super) fn unpack(packed: u32) -> Option<LayerState> {
    let limit = LayerLimit::ALL.into_iter().nth(usize::try_from(packed & 0xf).ok()?.checked_sub(1)?)?;
    let place = |bits: u32| {
        let [size, temporal] = [(bits >> 4 & 0xf) as u8, (bits & 0xf) as u8];
        (bits & 0x100 != 0).then_some(LayerPlace { size, temporal: if temporal == 15 { u8::MAX } else { temporal } })
    };
    Some(LayerState { current: place(packed >> 4), target: place(packed >> 13), limit, wanted: place(packed >> 22) })
}

/// Four bits for the limit, then nine for each place: whether there is one, size, temporal layer.
fn pack(layer: LayerState) -> u32 {
    let place =
        |place: Option<LayerPlace>| place.map_or(0, |place| 0x100 | u32::from(place.size.min(15)) << 4 | u32::from(place.temporal.min(15)));
    (layer.limit as u32 + 1) | place(layer.current) << 4 | place(layer.target) << 13 | place(layer.wanted) << 22
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn known(value: Option<f64>) -> u32 {
    value.map_or(0, |value| whole(value).saturating_add(1))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
fn whole(value: f64) -> u32 {
    value.round() as u32
}

/// Seven bits a byte, lowest first (LEB128).
fn write_number(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(rows in prop::collection::vec(prop::array::uniform15(any::<u32>()), 1..20)) {
            let mut bytes = Vec::new();
            let mut before = Row::default();
            for row in rows.iter().copied().map(Row) {
                row.write(&before, &mut bytes);
                before = row;
            }
            let (mut rest, mut before) = (bytes.as_slice(), Row::default());
            for row in rows.iter().copied().map(Row) {
                before = Row::read(&before, &mut rest).unwrap();
                prop_assert_eq!(before, row);
            }
            prop_assert_eq!(Row::read(&before, &mut rest), None);
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let (mut rest, mut before) = (bytes.as_slice(), Row::default());
            while let Some(row) = Row::read(&before, &mut rest) {
                before = row;
            }
        }
    }

    #[test]
    fn a_layer_comes_back_as_it_was() {
        for limit in LayerLimit::ALL {
            for current in [None, Some(LayerPlace { size: 2, temporal: 1 }), Some(LayerPlace { size: 0, temporal: u8::MAX })] {
                for target in [None, Some(LayerPlace { size: 1, temporal: u8::MAX })] {
                    let layer = LayerState { current, target, limit, wanted: current };
                    assert_eq!(unpack(pack(layer)), Some(layer));
                }
            }
        }
        assert_eq!(unpack(0), None);
    }
}
