//! The real thing: a shard in the real loop (`sfu-node`) with real handshakes and keys behind it.
//!
//! The participants connect in the simulated world, in virtual time, at addresses of the loopback interface. Then the engine moves
//! into the loop, and the packets that the simulated publisher seals come by a real socket.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sfu_api::TrackId;
use sfu_core::media::Codec;
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::transport::Certificate;
use sfu_node::bench::{Driven, Endpoint};
use sfu_sim::clock::Clock;
use sfu_sim::participant::{Datagram, TrackSpec};
use sfu_sim::world::{Place, World};

use crate::cpu::Stopwatch;
use crate::{Forwarder, PAYLOAD_BYTES, sinks};

/// Frames per second in virtual time.
const FPS: u32 = 30;
/// Virtual time whose frames are sealed at once.
const CHUNK: Duration = Duration::from_secs(10);
/// Bytes of a VP8 descriptor with all that a browser puts in.
const DESCRIPTOR_BYTES: usize = 6;
/// Bytes of the frame tag, which are part of the first payload.
const FRAME_TAG_BYTES: usize = 10;

/// See the module.
pub struct Engine {
    world: World,
    node: Driven,
    track: TrackId,
    publisher: UdpSocket,
    server: SocketAddr,
    /// Sealed frames; the virtual time tells where one ends.
    built: std::vec::IntoIter<(Instant, Datagram)>,
    next: Option<(Instant, Datagram)>,
    built_until: Duration,
    subscribers: u64,
    burst: u64,
    stopwatch: Stopwatch,
    _sinks: Vec<UdpSocket>,
}

impl Engine {
    /// One publisher of frames of `burst` packets, and so many subscribers.
    ///
    /// # Errors
    /// A socket can't be opened.
    ///
    /// # Panics
    /// If the participants do not connect.
    pub fn new(subscribers: usize, burst: usize) -> anyhow::Result<Self> {
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into()).context("the server's socket")?;
        let server = endpoint.address().context("a bound socket has an address")?;
        let mut world = World::at(1, Place { clock: Clock::starting(Instant::now()), server, clients: [127, 78] });
        let (track, who) = world.fan_out_to(|world| camera(world, burst), subscribers);
        world.run_for(Duration::from_secs(2));
        let sinks = who.iter().map(|&who| world.participant(who).subscriber.address());
        let sinks = sinks::open(sinks.collect::<Vec<_>>().into_iter()).context("subscribers' sockets")?;
        let publisher = world.participant(world.sender_of(track)).publisher.address();
        let publisher = UdpSocket::bind(publisher).context("the publisher's socket")?;
        let placeholder =
            ShardConfig { candidates: Vec::new(), certificate: Certificate::generate()?, ufrag_prefix: String::new(), seed: [0; 32] };
        let shard = std::mem::replace(&mut world.shard, Shard::new(placeholder));
        let node = endpoint.drive(shard, world.now());
        Ok(Self {
            world,
            node,
            track,
            publisher,
            server,
            built: Vec::new().into_iter(),
            next: None,
            built_until: Duration::ZERO,
            subscribers: subscribers as u64,
            burst: burst as u64,
            stopwatch: Stopwatch::calibrated(),
            _sinks: sinks,
        })
    }

    /// Puts the next frame into the server's socket.
    fn send_frame(&mut self) -> anyhow::Result<()> {
        let mut frame = None;
        loop {
            let Some((at, datagram)) = self.next.take().or_else(|| self.built.next()) else {
                self.built_until += CHUNK;
                self.built = self.world.prebuild(self.track, self.built_until).into_iter();
                continue;
            };
            if *frame.get_or_insert(at) != at {
                self.next = Some((at, datagram));
                return Ok(());
            }
            self.publisher.send_to(&datagram.bytes, self.server)?;
        }
    }
}

impl Forwarder for Engine {
    fn turn(&mut self) -> anyhow::Result<(Duration, u64)> {
        self.send_frame()?;
        let before = self.node.forwarded_packets();
        let (took, result) = self.stopwatch.time(|| self.node.turn());
        result?;
        let forwarded = self.node.forwarded_packets() - before;
        ensure!(forwarded == self.subscribers * self.burst, "{forwarded} packets forwarded of a frame of {}", self.burst);
        Ok((took, forwarded))
    }
}

/// A camera whose frames all have so many packets of one size.
fn camera(world: &mut World, burst: usize) -> TrackSpec {
    let mut spec = world.single(Codec::Vp8);
    if let TrackSpec::Video(config) = &mut spec {
        config.fps = FPS;
        config.max_payload = PAYLOAD_BYTES;
        config.spread_percent = 0;
        for encoding in &mut config.encodings {
            let frame_bytes = u32::try_from(burst * (PAYLOAD_BYTES - DESCRIPTOR_BYTES) - FRAME_TAG_BYTES).unwrap_or(u32::MAX);
            encoding.bitrate_bps = frame_bytes * 8 * FPS;
        }
    }
    spec
}
