//! Plain counts of what happened, for metrics.

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sessions that were asked to start anew.
    pub full_reconnects: u64,
    /// Messages of a kind that this server does not know, ignored.
    pub unknown_messages: u64,
    /// Messages that make no sense or break a limit.
    pub invalid_messages: u64,
    /// Data packets that can't be decoded or break a limit, dropped.
    pub data_malformed: u64,
    /// Data packets that the sender may not send, dropped.
    pub data_refused: u64,
    /// Reliable data packets that came twice, dropped.
    pub data_repeated: u64,
    /// Reliable data packets sent again to clients that resumed.
    pub data_replayed: u64,
    /// Data packets passed on.
    pub data_forwarded: u64,
    /// Events of the media node about something that is gone, ignored.
    pub stale_events: u64,
}
