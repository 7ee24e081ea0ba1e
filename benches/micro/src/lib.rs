//! What the engine costs beside what it must cost: the real loop of a shard, and the least that any forwarder has to do.
//!
//! Both take the same kind of packets from a socket on loopback and send them to sockets that nobody reads, on the caller's
//! thread; what is counted is the CPU time of that thread, so neighbours on the machine disturb little.

pub mod cpu;
pub mod engine;
pub mod floor;
pub mod sinks;

use std::time::Duration;

/// Bytes of VP8 in a packet, so that a packet on the wire has about 1,200 bytes.
pub const PAYLOAD_BYTES: usize = 1_148;

/// Something that forwards from one publisher to many.
pub trait Forwarder {
    /// One frame of `burst` packets comes in and goes out to every subscriber. Returns CPU time and packets sent.
    ///
    /// # Errors
    /// A socket fails, or the packets did not go out.
    fn turn(&mut self) -> anyhow::Result<(Duration, u64)>;
}

/// CPU time per packet sent, over so many frames.
///
/// # Errors
/// Those of the forwarder.
pub fn ns_per_packet(forwarder: &mut impl Forwarder, frames: u64) -> anyhow::Result<f64> {
    let (mut time, mut packets) = (Duration::ZERO, 0);
    for _ in 0..frames {
        let (took, sent) = forwarder.turn()?;
        time += took;
        packets += sent;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(time.as_secs_f64() * 1e9 / packets.max(1) as f64)
}
