//! What a TURN server costs: CPU time of its process per relayed packet, at a given rate, number of allocations and burst.
//!
//! In: a server that runs already, with its process id. Out: one line of JSON. Each allocation has a channel to one peer, whose
//! socket nobody reads, as in the measurements of the engine. Packets go up (client to peer) or down; a burst is packets of one
//! allocation that leave here in one system call (UDP_SEGMENT), as those of a video frame do. `benches/turn/run.sh` compares servers.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use quinn_udp::{Transmit, UdpSocketState};
use turn_proto::client::User;
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Direction {
    Up,
    Down,
}

/// Measures a TURN server.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    server: SocketAddr,
    /// Whose CPU time counts.
    #[arg(long)]
    pid: u32,
    #[arg(long, default_value_t = 1)]
    allocations: usize,
    /// Packets a second, of all allocations together.
    #[arg(long, default_value_t = 40_000)]
    rate: u64,
    /// Packets of one allocation in a row.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    #[arg(long, default_value_t = 1_160)]
    bytes: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, value_enum, default_value_t = Direction::Up)]
    direction: Direction,
}

const CHANNEL: u16 = 0x4001;

struct Allocation {
    client: UdpSocket,
    relayed: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let sink = UdpSocket::bind("127.0.0.1:0")?;
    let mut user = User::new("anna", "secret");
    let allocations = (0..args.allocations).map(|_| allocate(&args, &mut user, sink.local_addr()?)).collect::<anyhow::Result<Vec<_>>>()?;
    // once through, so that every path is warm
    run(&args, &allocations, &sink, Duration::from_millis(300))?;
    let received = receive_errors()?;
    let before = cpu_time(args.pid)?;
    let began = Instant::now();
    let sent = run(&args, &allocations, &sink, Duration::from_secs_f64(args.seconds))?;
    let seconds = began.elapsed().as_secs_f64();
    // what is on the way arrives
    std::thread::park_timeout(Duration::from_millis(50));
    let cpu = cpu_time(args.pid)? - before;
    let lost = receive_errors()? - received;
    let line = serde_json::json!({
        "allocations": args.allocations,
        "burst": args.burst,
        "direction": format!("{:?}", args.direction).to_lowercase(),
        "packets_per_second": (sent as f64 / seconds).round(),
        "cpu_ns_per_packet": (cpu as f64 / sent as f64).round(),
        "cpu_share": (cpu as f64 / 1e9 / seconds * 1000.0).round() / 1000.0,
        "socket_drops": lost,
    });
    println(&line.to_string());
    Ok(())
}

fn println(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn allocate(args: &Args, user: &mut User, peer: SocketAddr) -> anyhow::Result<Allocation> {
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    // nobody reads what comes down, and it should cost the server no less for that
    let answer = ask(args, &client, user, method::ALLOCATE, |writer| {
        writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]).attribute(attribute::LIFETIME, &3_600_u32.to_be_bytes());
    })?;
    let relayed = *Message::parse(&answer).context("no message")?.attributes.relayed.first().context("no relayed address")?;
    ask(args, &client, user, method::CHANNEL_BIND, |writer| {
        writer.attribute(attribute::CHANNEL_NUMBER, &[(CHANNEL >> 8) as u8, CHANNEL as u8, 0, 0]);
        writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
    })?;
    Ok(Allocation { client, relayed })
}

fn ask(args: &Args, client: &UdpSocket, user: &mut User, method: u16, write: impl Fn(&mut Writer)) -> anyhow::Result<Vec<u8>> {
    for _ in 0..10 {
        let request = user.request(method, &write);
        client.send_to(&request, args.server)?;
        let mut answer = [0; 2048];
        let Ok(length) = client.recv(&mut answer) else { continue };
        let message = Message::parse(&answer[..length]).context("no message")?;
        if user.learn(&message) {
            continue;
        }
        ensure!(message.class == Class::Success, "error {:?} for method {method}", message.attributes.error_code);
        return Ok(answer[..length].to_vec());
    }
    bail!("no answer to method {method}")
}

/// Sends at the rate for a while; late is caught up. Returns the number of packets.
fn run(args: &Args, allocations: &[Allocation], sink: &UdpSocket, time: Duration) -> anyhow::Result<u64> {
    let payload = vec![0x5A; args.bytes];
    let number = ChannelNumber::new(CHANNEL).context("a channel")?;
    let length = u16::try_from(args.bytes)?;
    let packet = match args.direction {
        Direction::Up => [&header(number, length)[..], &payload].concat(),
        Direction::Down => payload,
    };
    let train = packet.repeat(args.burst);
    let states = allocations.iter().map(|each| UdpSocketState::new((&each.client).into())).collect::<Result<Vec<_>, _>>()?;
    let sink_state = UdpSocketState::new(sink.into())?;
    let (began, mut sent, mut index) = (Instant::now(), 0_u64, 0);
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * args.rate as f64) as u64;
        if sent >= due {
            std::thread::park_timeout(Duration::from_micros(200));
            continue;
        }
        let allocation = &allocations[index % allocations.len()];
        let (socket, state, destination) = match args.direction {
            Direction::Up => (&allocation.client, &states[index % states.len()], args.server),
            Direction::Down => (sink, &sink_state, allocation.relayed),
        };
        let segment_size = (args.burst > 1).then_some(packet.len());
        state.try_send(socket.into(), &Transmit { destination, ecn: None, contents: &train, segment_size, src_ip: None })?;
        index += 1;
        sent += args.burst as u64;
    }
    Ok(sent)
}

/// Nanoseconds that all threads of a process have run.
fn cpu_time(pid: u32) -> anyhow::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
    }
    Ok(total)
}

/// Datagrams that found a full socket buffer, of this machine: those for the sink, and those that the server did not take in time.
fn receive_errors() -> anyhow::Result<u64> {
    let table = fs::read_to_string("/proc/net/snmp")?;
    let mut rows = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (rows.next().context("names")?, rows.next().context("values")?);
    let at = names.split(' ').position(|name| name == "RcvbufErrors").context("RcvbufErrors")?;
    Ok(values.split(' ').nth(at).context("value")?.parse()?)
}
