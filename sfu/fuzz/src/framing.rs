//! ICE over TCP: packets in a byte stream (RFC 4571).

use sfu_core::limits::MAX_DATAGRAM;
use sfu_node::fuzzing::{read_frames, write_frames};

/// The first byte says where the stream is cut; the packets do not depend on it.
pub(crate) fn tcp_framing(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = read_frames([stream]);
    let pieces = stream.chunks(usize::from(cut).max(1));
    assert_eq!(read_frames(pieces), whole);
    let Some(frames) = whole else { return };
    assert!(frames.iter().all(|frame| (1..=MAX_DATAGRAM).contains(&frame.len())));
    let Some(written) = write_frames(&frames) else { panic!("what was read can be written") };
    assert!(written.len() <= stream.len());
    assert_eq!(read_frames([written.as_slice()]), Some(frames));
}
