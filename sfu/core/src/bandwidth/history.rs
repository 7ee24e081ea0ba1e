//! What was sent on a transport, by transport-wide sequence number, until the client has reported on it.
//!
//! Sixteen bytes a packet, written once when it is sent; everything else happens when feedback comes.
//! Invariant: a packet is reported as arrived once at most.
//! draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2; RFC 8888 section 3.1 names packets by SSRC and their own
//! sequence number, so these are kept as well.

/// Packets that can be reported on at most: two seconds at 1,000 packets/s. A power of two. What is older when its report comes
/// is ignored.
pub const ENTRIES: usize = 2048;
/// Packets that a history has room for to begin with; it doubles before it would forget one of the last two seconds on which
/// nothing was reported. With a report each 100 ms this is enough for 600 packets/s, and a subscriber to sound keeps 2 kB, not 32.
const FIRST_ENTRIES: usize = 128;
/// See [`ENTRIES`].
const REACH_US: i64 = 2_000_000;

/// When something was sent: microseconds of the shard's own clock, wrapping after 71 minutes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SentAt(pub u32);

impl SentAt {
    /// Microseconds from `earlier` to this, negative if it is later.
    #[must_use]
    pub fn us_since(self, earlier: Self) -> i64 {
        i64::from(self.0.wrapping_sub(earlier.0).cast_signed())
    }
}

#[derive(Clone, Copy, Default)]
struct Entry {
    sent_at: SentAt,
    sequence: u16,
    bytes: u16,
    /// Sequence number of its stream, and the low half of the stream's SSRC.
    rtp_sequence: u16,
    ssrc_low: u16,
    /// Number of the probe that it was part of; 0: none.
    probe: u8,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Unused,
    InFlight,
    /// The client said that it had not come; it may still.
    Missing,
    Arrived,
}

/// A packet that was sent and is reported on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentPacket {
    /// When.
    pub sent_at: SentAt,
    /// UDP payload.
    pub bytes: u16,
    /// Number of the probe that it was part of; 0: none.
    pub probe: u8,
    /// It was reported as missing before.
    pub was_missing: bool,
}

/// See the module. Allocates with the first packet.
pub struct SendHistory {
    entries: Box<[Entry]>,
    next: u16,
    /// What the next packets are part of.
    pub probe: u8,
    /// Bytes sent so far.
    pub sent_bytes: u64,
    /// When the newest packet was sent.
    pub newest: SentAt,
}

impl Default for SendHistory {
    fn default() -> Self {
        Self { entries: Box::default(), next: 1, probe: 0, sent_bytes: 0, newest: SentAt::default() }
    }
}

impl SendHistory {
    /// Remembers a packet (with its RTP header) that goes out; returns its transport-wide sequence number.
    pub fn record(&mut self, sent_at: SentAt, packet: &[u8]) -> u16 {
        if self.is_full(sent_at) {
            self.grow();
        }
        let (sequence, bytes) = (self.next, u16::try_from(packet.len()).unwrap_or(u16::MAX));
        let (rtp_sequence, ssrc_low) = match packet {
            [_, _, high, low, _, _, _, _, _, _, ssrc_high, ssrc_low, ..] => {
                (u16::from_be_bytes([*high, *low]), u16::from_be_bytes([*ssrc_high, *ssrc_low]))
            }
            _ => (0, 0),
        };
        let place = self.place(sequence);
        self.entries[place] = Entry { sent_at, sequence, bytes, rtp_sequence, ssrc_low, probe: self.probe, state: State::InFlight };
        self.next = sequence.wrapping_add(1);
        self.sent_bytes += u64::from(bytes);
        self.newest = sent_at;
        sequence
    }

    /// The client has it.
    pub fn take_arrived(&mut self, sequence: u16) -> Option<SentPacket> {
        let entry = self.entry(sequence)?;
        let was_missing = entry.state == State::Missing;
        entry.state = State::Arrived;
        Some(SentPacket { sent_at: entry.sent_at, bytes: entry.bytes, probe: entry.probe, was_missing })
    }

    /// The client does not have it; None if it said so before, or the opposite.
    pub fn take_missing(&mut self, sequence: u16) -> Option<SentPacket> {
        let entry = self.entry(sequence).filter(|entry| entry.state == State::InFlight)?;
        entry.state = State::Missing;
        Some(SentPacket { sent_at: entry.sent_at, bytes: entry.bytes, probe: entry.probe, was_missing: false })
    }

    /// Bytes of the packets from `from` up to `to` that nothing was reported on: their report was lost.
    pub fn take_unreported(&mut self, from: u16, to: u16) -> u64 {
        // Half of the space is backwards: reports that begin with what was reported before.
        let count = Some(to.wrapping_sub(from)).filter(|count| usize::from(*count) <= ENTRIES).unwrap_or(0);
        let mut bytes = 0;
        for back in 1..=count {
            if let Some(entry) = self.entry(to.wrapping_sub(back)).filter(|entry| entry.state == State::InFlight) {
                entry.state = State::Arrived;
                bytes += u64::from(entry.bytes);
            }
        }
        bytes
    }

    /// When a packet was sent on which nothing was reported; None if it is forgotten.
    #[must_use]
    pub fn sent_at(&self, sequence: u16) -> Option<SentAt> {
        let entry = self.entries.get(self.place(sequence))?;
        (entry.sequence == sequence && entry.state == State::InFlight).then_some(entry.sent_at)
    }

    /// Transport-wide sequence number of a stream's packet (RFC 8888), looked for from behind `after` on, then from the newest
    /// back. Each entry that is looked at takes one of `steps`; without any left nothing is found.
    #[must_use]
    pub fn find(&self, ssrc: u32, rtp_sequence: u16, after: Option<u16>, steps: &mut usize) -> Option<u16> {
        let [.., high, low] = ssrc.to_be_bytes();
        let ssrc_low = u16::from_be_bytes([high, low]);
        let len = u16::try_from(self.entries.len()).unwrap_or(0);
        let ahead = after.map_or(0, |after| self.next.wrapping_sub(after)).min(len);
        let forward = (1..ahead).filter_map(|step| Some(after?.wrapping_add(step)));
        let backward = (1..=len).map(|back| self.next.wrapping_sub(back));
        let afforded = forward.chain(backward).take_while(|_| {
            let is_afforded = *steps > 0;
            *steps = steps.saturating_sub(1);
            is_afforded
        });
        let mut afforded = afforded.map(|sequence| (sequence, self.entries[self.place(sequence)]));
        let found = afforded.find(|&(sequence, entry)| {
            entry.state != State::Unused && (entry.sequence, entry.ssrc_low, entry.rtp_sequence) == (sequence, ssrc_low, rtp_sequence)
        });
        found.map(|(sequence, _)| sequence)
    }

    /// All of these numbers were given out, and some of them not too long ago to be remembered.
    #[must_use]
    pub fn covers(&self, base: u16, count: usize) -> bool {
        let ago = usize::from(self.next.wrapping_sub(base));
        // The upper half of the space is ahead.
        (count..=usize::from(u16::MAX / 2)).contains(&ago) && ago < ENTRIES + count
    }

    /// What the next packet will have.
    #[must_use]
    pub fn next_sequence(&self) -> u16 {
        self.next
    }

    /// Where a packet is; the number of entries is a power of two, or none.
    fn place(&self, sequence: u16) -> usize {
        usize::from(sequence) & self.entries.len().wrapping_sub(1)
    }

    /// The next packet would take the place of one that can still be reported on.
    fn is_full(&self, now: SentAt) -> bool {
        let Some(oldest) = self.entries.get(self.place(self.next)) else { return true };
        let is_awaited = matches!(oldest.state, State::InFlight | State::Missing) && now.us_since(oldest.sent_at) < REACH_US;
        is_awaited && self.entries.len() < ENTRIES
    }

    #[cold]
    fn grow(&mut self) {
        let len = (self.entries.len() * 2).max(FIRST_ENTRIES);
        let before = std::mem::replace(&mut self.entries, vec![Entry::default(); len].into_boxed_slice());
        for entry in before.into_iter().filter(|entry| entry.state != State::Unused) {
            let place = self.place(entry.sequence);
            self.entries[place] = entry;
        }
    }

    fn entry(&mut self, sequence: u16) -> Option<&mut Entry> {
        let place = self.place(sequence);
        let entry = self.entries.get_mut(place)?;
        let is_it = entry.sequence == sequence && !matches!(entry.state, State::Unused | State::Arrived);
        is_it.then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn numbers_lead_back_to_what_was_sent_across_the_wrap() {
        for start in [0, 1, 32_767, 32_768, 65_534, 65_535] {
            let mut history = SendHistory { next: start, ..SendHistory::default() };
            let numbers: Vec<u16> = (0..4_u32).map(|at| history.record(SentAt(at), &vec![0; 100 + at as usize])).collect();
            let found: Vec<u16> = numbers.iter().filter_map(|&number| history.take_arrived(number)).map(|sent| sent.bytes).collect();
            assert_eq!(found, [100, 101, 102, 103], "from {start}");
        }
    }

    #[test]
    fn a_packet_arrives_once_and_may_do_so_after_it_was_missing() {
        let mut history = SendHistory::default();
        let number = history.record(SentAt(5), &[0; 50]);
        assert!(history.take_missing(number).is_some());
        assert_eq!(history.take_missing(number), None);
        assert_eq!(history.take_arrived(number).map(|sent| sent.was_missing), Some(true));
        assert_eq!(history.take_arrived(number), None);
        assert_eq!(history.take_missing(number), None);
    }

    #[test]
    fn nothing_of_two_seconds_is_forgotten_before_it_is_reported() {
        for (packets_per_second, kept) in [(50, 128), (215, 512), (1_000, ENTRIES), (5_000, ENTRIES)] {
            for next in [1, 65_000] {
                let mut history = SendHistory { next, ..SendHistory::default() };
                let numbers: Vec<u16> =
                    (0..packets_per_second * 2).map(|at| history.record(SentAt(at * (1_000_000 / packets_per_second)), &[0; 50])).collect();
                assert_eq!(history.entries.len(), kept);
                let remembered = numbers.iter().filter(|&&number| history.take_arrived(number).is_some()).count();
                assert_eq!(remembered, numbers.len().min(ENTRIES), "at {packets_per_second} packets/s");
            }
        }
    }

    #[test]
    fn a_history_whose_packets_are_reported_stays_small() {
        let mut history = SendHistory::default();
        for at in 0..10_000 {
            let number = history.record(SentAt(at * 2_000), &[0; 50]);
            history.take_arrived(number.wrapping_sub(50));
        }
        assert_eq!(history.entries.len(), FIRST_ENTRIES);
    }

    #[test]
    fn what_was_forgotten_or_never_sent_is_ignored() {
        let mut history = SendHistory::default();
        assert_eq!(history.take_arrived(1), None);
        let first = history.record(SentAt(0), &[0; 50]);
        (0..ENTRIES).for_each(|_| _ = history.record(SentAt(1), &[0; 50]));
        assert_eq!(history.take_arrived(first), None);
        assert_eq!(history.take_arrived(40_000), None);
    }

    #[test]
    fn a_lost_report_leaves_its_packets_to_the_next() {
        let mut history = SendHistory::default();
        let numbers: Vec<u16> = (0..5).map(|_| history.record(SentAt(0), &[0; 100])).collect();
        history.take_arrived(numbers[0]);
        assert_eq!(history.take_unreported(numbers[0], numbers[3]), 200);
        assert_eq!(history.take_unreported(numbers[0], numbers[3]), 0);
    }

    #[test]
    fn a_stream_and_its_own_number_name_a_packet() {
        let mut history = SendHistory::default();
        let mut packet = [0; 60];
        packet[2..4].copy_from_slice(&7_u16.to_be_bytes());
        packet[8..12].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        let number = history.record(SentAt(0), &packet);
        history.record(SentAt(0), &[0; 60]);
        let mut steps = 100;
        assert_eq!(history.find(0xdead_beef, 7, None, &mut steps), Some(number));
        assert_eq!(steps, 98);
        assert_eq!(history.find(0xdead_beef, 7, Some(number.wrapping_sub(1)), &mut steps), Some(number));
        assert_eq!(steps, 97);
        assert_eq!(history.find(0xdead_beef, 8, Some(number), &mut steps), None);
        assert_eq!(steps, 0, "that took all there were");
        assert_eq!(history.find(0xdead_beef, 7, None, &mut steps), None);
    }

    #[test]
    fn only_what_was_sent_lately_is_covered() {
        for start in [0, 1, 32_767, 32_768, 65_534, 65_535] {
            let mut history = SendHistory { next: start, ..SendHistory::default() };
            (0..10).for_each(|_| _ = history.record(SentAt(0), &[0; 50]));
            assert!(history.covers(start, 10) && history.covers(start.wrapping_add(9), 1), "from {start}");
            assert!(!history.covers(start, 11) && !history.covers(start.wrapping_add(10), 1));
            let long_ago = start.wrapping_add(10).wrapping_sub(3_000);
            assert!(!history.covers(long_ago, 900) && history.covers(long_ago, 1_000));
        }
    }
}
