//! CPU time of a forwarded packet with real sockets, next to what no server can do without.
//!
//! `engine`: the loop of a shard (`sfu-node`) around a real engine whose handshakes took place in the simulated world; the
//! publisher's packets come over loopback, subscribers are sockets that nobody reads. `floor`: the same packets opened once,
//! then for each subscriber a copy, a new header, the cipher, an entry for NACKs and the system call, and nothing else.
//! CPU time is that of the one thread, kernel included (`/proc/self/task/*/schedstat`). Latency is to the return of each packet's send:
//! the engine's from the kernel's receive time, the floor's from the return of its receive call, so without its wake-up.

#![allow(clippy::print_stdout)]

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use quinn_udp::{Transmit, UdpSocketState};
use sfu_core::media::Codec;
use sfu_core::net::{Flow, Protocol};
use sfu_core::rtp::header::FixedHeader;
use sfu_core::transport::srtp::{InboundStream, KeyingMaterial, SrtpProfile, SrtpSession};
use sfu_node::bench::Endpoint;
use sfu_node::{Histogram, ShardReport};
use sfu_sim::clock::Clock;
use sfu_sim::participant::{Datagram, TrackSpec};
use sfu_sim::world::{Place, World};
use socket2::SockRef;

/// What to run.
#[derive(Parser)]
struct Args {
    /// Who forwards.
    #[arg(value_enum, default_value_t = Who::Engine)]
    who: Who,
    /// Subscribers of the one video track.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Packets of a frame; the publisher sends them at once.
    #[arg(long, default_value_t = 1)]
    burst: u32,
    /// Packets per second that leave, about.
    #[arg(long, default_value_t = 50_000)]
    rate: u32,
    /// Seconds that are measured; two more go before.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of RTP payload in a packet, about.
    #[arg(long, default_value_t = 1160)]
    payload: u32,
    /// Core of the forwarding thread; the publisher gets another one.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Engine,
    Floor,
}

/// Before the measured seconds.
const WARM_UP: Duration = Duration::from_secs(2);
/// Loopback addresses of the clients begin so.
const CLIENTS: [u8; 2] = [127, 41];
/// Name of the forwarding thread, as `sfu-node` gives it.
const THREAD: &str = "sfu-shard-0";
/// Sends between two looks at the clock.
const SENDS_PER_LOOK: usize = 16;

fn main() -> io::Result<()> {
    let args = Args::parse();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, 8_192, 8_192);
    match args.who {
        Who::Engine => engine(&args),
        Who::Floor => floor(&args),
    }
}

/// Frames per second at which so many packets leave.
fn fps(args: &Args) -> u32 {
    let subscribers = u32::try_from(args.subscribers).unwrap_or(u32::MAX);
    (args.rate / subscribers / args.burst).max(1)
}

fn engine(args: &Args) -> io::Result<()> {
    let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into())?;
    let server = endpoint.address().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut world = World::at(1, Place { clock: Clock::starting(Instant::now()), server, clients: CLIENTS });
    let (track, _) = world.fan_out_to(|world| camera(world, args), args.subscribers);
    world.run_for(Duration::from_secs(1));
    let begin = world.now();
    let frames = world.prebuild(track, WARM_UP + Duration::from_secs(args.seconds + 2));
    let publisher = frames.first().map(|(_, datagram)| datagram.flow.remote).ok_or(io::ErrorKind::InvalidInput)?;
    // Clients have two addresses each, one for each direction.
    let mut sinks = Vec::new();
    for client in 0..=args.subscribers {
        let [.., high, low] = client.to_be_bytes();
        let [a, b] = CLIENTS;
        sinks.push(sink(([a, b, high, low], 5001).into())?);
    }
    let source = UdpSocket::bind(publisher)?;
    source.connect(server)?;
    // From here on time is real: what the simulation was ahead is waited for.
    thread::sleep(begin.saturating_duration_since(Instant::now()));
    let running = endpoint.run(world.shard, Some(args.core))?;
    let packets = frames.len();
    let sender = publish(source, args.core, frames.into_iter().map(|(at, Datagram { bytes, .. })| (at, bytes)).collect());
    thread::sleep(WARM_UP);
    let before = (cpu_time(), Instant::now(), newest(|| running.report()));
    thread::sleep(Duration::from_secs(args.seconds));
    let after = (cpu_time(), Instant::now(), newest(|| running.report()));
    drop(sender.join());
    let last = running.stop();
    let (Some(old), Some(new), Some(last)) = (before.2, after.2, last) else { return Err(io::ErrorKind::TimedOut.into()) };
    // CPU time is taken between two reports, so that both are of the same seconds.
    let forwarded = new.engine.forwarded.packets - old.engine.forwarded.packets;
    let (cpu, wall) = (after.0.saturating_sub(before.0), new.taken_at - old.taken_at);
    print(args, forwarded, cpu.mul_f64(wall.as_secs_f64() / (after.1 - before.1).as_secs_f64()), wall);
    let per = |value: u64| value as f64 / forwarded as f64;
    println!("forwarded_per_send {:.2}", 1.0 / per(new.udp.sends - old.udp.sends));
    println!(
        "received_per_turn {:.2}",
        (new.udp.received_datagrams - old.udp.received_datagrams) as f64 / (new.turns.turns - old.turns.turns) as f64
    );
    println!("turns_per_second {:.0}", (new.turns.turns - old.turns.turns) as f64 / wall.as_secs_f64());
    println!("published {packets} received {}", last.udp.received_datagrams);
    println!("dropped_full {}", new.udp.dropped_full - old.udp.dropped_full);
    print_latency(&last.turns.forward_latency);
    Ok(())
}

fn print_latency(latency: &Histogram) {
    let bound = |share| latency.quantile(share).map_or(0.0, |bound| bound.as_secs_f64() * 1e6);
    println!("latency_us p50 <= {:.0} p99 <= {:.0} p99.9 <= {:.0}", bound(0.5), bound(0.99), bound(0.999));
}

/// A socket that nobody reads. Its buffer is small, so that it is full soon: until then the kernel takes fresh memory for
/// every packet, which is no cost of sending.
fn sink(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(4096)?;
    Ok(socket)
}

/// The next report that is made from now on.
fn newest(report: impl Fn() -> Option<ShardReport>) -> Option<ShardReport> {
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(3) {
        if let Some(report) = report().filter(|report| report.taken_at >= asked) {
            return Some(report);
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Bytes of payload in the mean packet. Frames are up to a quarter larger than their mean, so that one packet is always
/// enough for a frame of one, and few frames of more need one packet more.
fn mean_payload(args: &Args) -> u32 {
    args.payload * if args.burst == 1 { 78 } else { 93 } / 100
}

/// Sends each packet at its time.
fn publish(socket: UdpSocket, core: usize, packets: Vec<(Instant, Vec<u8>)>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        pin(usize::from(core == 0));
        let Some(&(first, _)) = packets.first() else { return };
        let start = Instant::now();
        for (at, bytes) in &packets {
            let wait = (*at - first).saturating_sub(start.elapsed());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            let _ = socket.send(bytes);
        }
    })
}

fn floor(args: &Args) -> io::Result<()> {
    let profile = SrtpProfile::AeadAes128Gcm;
    let keys = |n: u8| KeyingMaterial::from_exported(profile, &vec![n; profile.keying_material_len()]).ok_or(io::ErrorKind::InvalidData);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let server = socket.local_addr()?;
    let (mut sinks, mut subscribers) = (Vec::new(), Vec::new());
    for client in 0..args.subscribers {
        let sink = sink(([127, 0, 0, 1], 0).into())?;
        let flow = Flow { protocol: Protocol::Udp, local: server, remote: sink.local_addr()? };
        subscribers.push((flow, SrtpSession::server(profile, &keys(u8::try_from(client % 251).unwrap_or(0))?), vec![0_u64; 1024]));
        sinks.push(sink);
    }
    let source = UdpSocket::bind("127.0.0.1:0")?;
    source.connect(server)?;
    let publisher = SrtpSession::client(profile, &keys(255)?);
    let (count, interval) = (u64::from(fps(args)) * (args.seconds + 4), Duration::from_secs(1) / fps(args));
    let begin = Instant::now();
    let mut packets = Vec::new();
    for index in 0..count * u64::from(args.burst) {
        let frame = u32::try_from(index / u64::from(args.burst)).unwrap_or(0);
        let marker = (index + 1) % u64::from(args.burst) == 0;
        let [.., s0, s1] = index.to_be_bytes();
        let sequence = u16::from_be_bytes([s0, s1]);
        let header = FixedHeader { marker, has_padding: false, payload_type: 96, sequence, timestamp: frame * 3000, ssrc: 7 };
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x31, 0, 0, 0]);
        packet.resize(20 + mean_payload(args) as usize + profile.rtp_tag_len(), 0x5a);
        publisher.sender.seal_rtp(7, index, &mut packet, 20);
        packets.push((begin + interval * frame, packet));
    }
    let state = UdpSocketState::new((&socket).into())?;
    socket.set_nonblocking(false)?;
    // What loopback drops under load is not waited for.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let receiver = SrtpSession::server(profile, &keys(255)?).receiver;
    let (core, total) = (args.core, packets.len());
    let forwarding = thread::Builder::new().name(THREAD.to_owned()).spawn(move || -> io::Result<Histogram> {
        pin(core);
        let mut stream = InboundStream::default();
        let (mut ring, mut arena) = (vec![0_u8; 2048 * 64], Vec::with_capacity(1 << 16));
        let mut lens = Vec::with_capacity(64);
        let mut index = 0_u64;
        let (mut latency, mut received_at) = (Histogram::default(), Instant::now());
        for _ in 0..total {
            let slot = &mut ring[2048 * lens.len()..][..2048];
            let Ok(len) = socket.recv(slot) else { break };
            if lens.is_empty() {
                received_at = Instant::now();
            }
            let opened = receiver.open_rtp(&mut stream, &mut slot[..len], 20).map_err(|_| io::ErrorKind::InvalidData)?;
            lens.push(20 + opened.payload_len);
            if slot[1] & 0x80 == 0 {
                continue;
            }
            for (number_of_subscriber, (flow, srtp, history)) in subscribers.iter_mut().enumerate() {
                arena.clear();
                let mut segment = 0;
                for (place, &len) in lens.iter().enumerate() {
                    let start = arena.len();
                    arena.extend_from_slice(&ring[2048 * place..][..len]);
                    arena.extend_from_slice(&[0; 16]);
                    let packet = &mut arena[start..];
                    let number = index + place as u64;
                    packet[2..4].copy_from_slice(&number.to_be_bytes()[6..]);
                    packet[8..12].copy_from_slice(&9_u32.to_be_bytes());
                    packet[17..19].copy_from_slice(&number.to_be_bytes()[6..]);
                    segment = srtp.sender.seal_rtp(9, number, packet, 20);
                    history[usize::from(u16::from_be_bytes([packet[2], packet[3]])) % 1024] = number;
                }
                if lens.len() == 1 {
                    socket.send_to(&arena, flow.remote)?;
                } else {
                    let transmit =
                        Transmit { destination: flow.remote, ecn: None, contents: &arena, segment_size: Some(segment), src_ip: None };
                    state.try_send((&socket).into(), &transmit)?;
                }
                // As seldom as the engine looks at the clock.
                if (number_of_subscriber + 1) % SENDS_PER_LOOK == 0 {
                    latency.observe(received_at.elapsed(), 1);
                }
            }
            index += lens.len() as u64;
            lens.clear();
        }
        Ok(latency)
    })?;
    let sender = publish(source, args.core, packets);
    thread::sleep(WARM_UP);
    let before = (cpu_time(), Instant::now());
    thread::sleep(Duration::from_secs(args.seconds));
    let after = (cpu_time(), Instant::now());
    drop(sender.join());
    let latency = forwarding.join().map_err(|_| io::ErrorKind::Other)??;
    let wall = after.1 - before.1;
    let forwarded = f64::from(fps(args)) * f64::from(args.burst) * wall.as_secs_f64() * args.subscribers as f64;
    print(args, forwarded as u64, after.0.saturating_sub(before.0), wall);
    print_latency(&latency);
    Ok(())
}

fn print(args: &Args, forwarded: u64, cpu: Duration, wall: Duration) {
    let name = if args.who == Who::Engine { "engine" } else { "floor" };
    println!("who {name} subscribers {} burst {}", args.subscribers, args.burst);
    println!("packets_per_second {:.0}", forwarded as f64 / wall.as_secs_f64());
    println!("cpu_percent {:.1}", 100.0 * cpu.as_secs_f64() / wall.as_secs_f64());
    println!("ns_per_forwarded_packet {:.0}", cpu.as_secs_f64() * 1e9 / forwarded as f64);
}

/// CPU time of the forwarding thread so far.
fn cpu_time() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let is_it = |path: &std::path::Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == THREAD);
    let path = tasks.flatten().map(|task| task.path()).find(|path| is_it(path));
    let text = path.and_then(|path| fs::read_to_string(path.join("schedstat")).ok()).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

/// A camera whose frames are so many packets.
fn camera(world: &mut World, args: &Args) -> TrackSpec {
    let mut spec = world.single(Codec::Vp8);
    if let TrackSpec::Video(config) = &mut spec {
        config.fps = fps(args);
        config.max_payload = usize::try_from(args.payload).unwrap_or(config.max_payload);
        for encoding in &mut config.encodings {
            encoding.bitrate_bps = args.burst * mean_payload(args) * 8 * config.fps;
        }
    }
    spec
}
