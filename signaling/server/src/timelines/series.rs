//! The rows of one track of one participant: an hour of seconds in chunks of a minute.
//!
//! Invariants: chunks are in the order of time; a chunk's rows are one second apart; what is older than [`REACH_S`] is gone.

use std::collections::VecDeque;

use super::row::Row;

/// Seconds that a series reaches back.
pub(crate) const REACH_S: u64 = 3600;
/// Seconds of one chunk: what is forgotten at once when memory is short.
pub(super) const CHUNK_S: u64 = 60;
/// Bytes of a chunk without its rows, its place in the queue of all chunks included.
const CHUNK_FRAME: usize = size_of::<Chunk>() + 40;

#[derive(Clone, Debug)]
struct Chunk {
    /// Since the Unix epoch.
    start_s: u64,
    rows: u64,
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Series {
    chunks: VecDeque<Chunk>,
    newest: Row,
}

/// What a push changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// Bytes that came, and that were let go because they are too old.
    pub(super) added: usize,
    pub(super) freed: usize,
    /// A chunk was begun, which starts at this time: it is younger than those of all other series.
    pub(super) new_chunk: Option<u64>,
}

impl Series {
    /// Adds the row of a second; a second one for the same time takes the next place.
    pub(super) fn push(&mut self, row: Row, unix_s: u64) -> Change {
        let mut change = Change::default();
        let fits = |chunk: &Chunk| {
            let next = chunk.start_s + chunk.rows;
            // The clock of the samples wanders against that of the wall by a second now and then.
            chunk.rows < CHUNK_S && unix_s + 1 >= next && unix_s <= next + 1
        };
        if !self.chunks.back().is_some_and(fits) {
            if let Some(full) = self.chunks.back_mut() {
                full.bytes.shrink_to_fit();
            }
            let start_s = self.chunks.back().map_or(unix_s, |last| unix_s.max(last.start_s + last.rows));
            self.chunks.push_back(Chunk { start_s, rows: 0, bytes: Vec::new() });
            self.newest = Row::default();
            change.new_chunk = Some(start_s);
            change.added += CHUNK_FRAME;
        }
        if let Some(chunk) = self.chunks.back_mut() {
            let before = chunk.bytes.len();
            row.write(&self.newest, &mut chunk.bytes);
            chunk.rows += 1;
            change.added += chunk.bytes.len() - before;
        }
        self.newest = row;
        while self.chunks.front().is_some_and(|chunk| chunk.start_s + chunk.rows + REACH_S < unix_s) {
            change.freed += self.drop_oldest();
        }
        change
    }

    /// Forgets the oldest chunk; returns its bytes. The one that grows stays, so that rows have something to be compared with.
    pub(super) fn drop_oldest(&mut self) -> usize {
        if self.chunks.len() < 2 {
            return 0;
        }
        self.chunks.pop_front().map_or(0, |chunk| chunk.bytes.len() + CHUNK_FRAME)
    }

    /// When the newest chunk starts.
    pub(super) fn newest_start_s(&self) -> Option<u64> {
        self.chunks.back().map(|chunk| chunk.start_s)
    }

    /// When the oldest chunk starts.
    pub(super) fn oldest_start_s(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.start_s)
    }

    /// How many rows there are since a time, about: chunks count as a whole.
    pub(crate) fn count_since(&self, since_s: u64) -> u64 {
        self.chunks_since(since_s).map(|chunk| chunk.rows).sum()
    }

    /// A copy without what is older, but for what shares a chunk with what is not.
    pub(super) fn since(&self, since_s: u64) -> Self {
        Self { chunks: self.chunks_since(since_s).cloned().collect(), newest: self.newest }
    }

    fn chunks_since(&self, since_s: u64) -> impl Iterator<Item = &Chunk> {
        self.chunks.range(self.chunks.partition_point(|chunk| chunk.start_s + chunk.rows < since_s)..)
    }

    /// Bytes of all rows.
    pub(super) fn size(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len() + CHUNK_FRAME).sum()
    }

    /// The rows since a time, with the second that each stands for.
    pub(crate) fn rows(&self, since_s: u64) -> Vec<(u64, Row)> {
        let mut rows = Vec::new();
        for chunk in self.chunks_since(since_s) {
            let (mut bytes, mut before) = (chunk.bytes.as_slice(), Row::default());
            for second in chunk.start_s.. {
                let Some(row) = Row::read(&before, &mut bytes) else { break };
                if second >= since_s {
                    rows.push((second, row));
                }
                before = row;
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(packets: u32) -> Row {
        let mut row = Row::default();
        row.0[0] = packets;
        row
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut series = Series::default();
        let (mut added, mut freed) = (0, 0);
        for second in 0..2 * REACH_S {
            let change = series.push(row(50), 1_000_000 + second);
            (added, freed) = (added + change.added, freed + change.freed);
        }
        let rows = series.rows(0);
        assert!((3600..=3720).contains(&rows.len()), "{}", rows.len());
        assert_eq!(rows.last().map(|(at, _)| *at), Some(1_000_000 + 2 * REACH_S - 1));
        assert_eq!(added - freed, series.size());
    }

    #[test]
    fn a_gap_is_a_gap() {
        let mut series = Series::default();
        for second in [100, 101, 102, 200, 201] {
            series.push(row(u32::try_from(second).unwrap_or(0)), second);
        }
        let found: Vec<_> = series.rows(0).into_iter().map(|(at, row)| (at, row.get(0))).collect();
        assert_eq!(found, [(100, 100), (101, 101), (102, 102), (200, 200), (201, 201)]);
        assert_eq!(series.rows(201).len(), 1);
    }

    #[test]
    fn a_clock_that_jumps_back_keeps_the_order() {
        let mut series = Series::default();
        for second in [1000, 1001, 500, 501] {
            series.push(row(1), second);
        }
        let times: Vec<u64> = series.rows(0).into_iter().map(|(at, _)| at).collect();
        assert!(times.is_sorted_by(|one, other| one < other), "{times:?}");
    }

    /// What the documentation says of the size.
    #[test]
    fn a_second_costs_a_few_bytes() {
        let mut steady = Series::default();
        let mut busy = Series::default();
        for second in 0..600_u32 {
            steady.push(Row([50, 40, 0, 0, 41, 12, 60, 100, 0, 442, 0, 0, 0, 0, 0]), u64::from(second));
            // Everything that is measured changes each second, as on a bad link.
            let wander = |by: u32| second.wrapping_mul(2_654_435_761) >> 16 & ((1 << by) - 1);
            busy.push(
                Row([
                    150 + wander(5),
                    1500 + wander(8),
                    wander(3),
                    wander(2),
                    80 + wander(5),
                    90 + wander(6),
                    120 + wander(5),
                    100 + wander(4),
                    wander(7),
                    8000 + wander(9),
                    4711,
                    40 + wander(4),
                    wander(5),
                    0,
                    25 + wander(3),
                ]),
                u64::from(second),
            );
        }
        assert!(steady.size() / 600 <= 3, "{} bytes", steady.size() / 600);
        assert!(busy.size() / 600 <= 20, "{} bytes", busy.size() / 600);
    }
}
