//! The least that forwarding costs on this machine: receive, open once, and for each subscriber copy, rewrite, seal, note, send.
//!
//! No rooms, no layers, no feedback, no timers, one publisher that is known beforehand. Sockets as they cost least here: single
//! packets by `sendmmsg`, bursts as trains with UDP_SEGMENT. What the engine takes beyond this is what it does for its living.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::ensure;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt};

use crate::cpu::Stopwatch;
use crate::{Forwarder, PAYLOAD_BYTES, sinks};

/// Fixed header, extension block with transport-wide number and send time.
const HEADER_BYTES: usize = 12 + 4 + 8;
const TAG_BYTES: usize = 16;
const PACKET_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES + TAG_BYTES;
/// Messages of one `sendmmsg`; more saves nothing, and the arena stays in the cache.
const MESSAGES: usize = 32;
/// Packets that a subscriber can ask for again.
const HISTORY: usize = 1_024;
/// `SO_SNDBUF` and `SO_RCVBUF`, as the engine asks for.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// See the module.
pub struct Floor {
    socket: UdpSocket,
    publisher: UdpSocket,
    publisher_key: LessSafeKey,
    subscribers: Vec<Subscriber>,
    burst: usize,
    sequence: u16,
    /// Sealed by the publisher, made outside the measurement.
    frame: Vec<[u8; PACKET_BYTES]>,
    /// Opened packets of the frame.
    opened: Vec<[u8; PACKET_BYTES]>,
    sender: Sender,
    stopwatch: Stopwatch,
    _sinks: Vec<UdpSocket>,
}

struct Subscriber {
    address: SockaddrIn,
    key: LessSafeKey,
    ssrc: u32,
    first_sequence: u16,
    transport_sequence: u16,
    history: Box<[u64; HISTORY]>,
}

/// Collects messages in an arena and sends them together.
struct Sender {
    arena: Vec<u8>,
    /// Destination and end in the arena.
    messages: Vec<(SockaddrIn, usize)>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Floor {
    /// One publisher of frames of `burst` packets, and so many subscribers.
    ///
    /// # Errors
    /// A socket can't be opened.
    pub fn new(subscribers: usize, burst: usize) -> anyhow::Result<Self> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        // Everybody has an address of its own, as the engine's subscribers have.
        let address = |number: usize| {
            let [.., high, low] = number.to_be_bytes();
            SocketAddr::from(([127, 79, high, low], 0))
        };
        let sinks = sinks::open((0..subscribers).map(address))?;
        let socket = UdpSocket::bind(free)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, SndBuf, &SOCKET_BUFFER_BYTES)?;
        setsockopt(&socket, RcvBuf, &SOCKET_BUFFER_BYTES)?;
        let publisher = UdpSocket::bind(free)?;
        publisher.connect(socket.local_addr()?)?;
        let subscribers = (0_u32..).zip(&sinks).map(|(number, sink)| Subscriber::new(number, sink)).collect::<Result<_, _>>()?;
        Ok(Self {
            socket,
            publisher,
            publisher_key: key(u32::MAX)?,
            subscribers,
            burst,
            sequence: 0,
            frame: vec![[0; PACKET_BYTES]; burst],
            opened: vec![[0; PACKET_BYTES]; burst],
            sender: Sender {
                arena: Vec::with_capacity(MESSAGES * burst * PACKET_BYTES),
                messages: Vec::with_capacity(MESSAGES),
                headers: MultiHeaders::preallocate(MESSAGES, (burst > 1).then(|| nix::cmsg_space!(u16))),
            },
            stopwatch: Stopwatch::calibrated(),
            _sinks: sinks,
        })
    }

    /// Seals the next frame and puts it into the socket.
    fn send_frame(&mut self) -> anyhow::Result<()> {
        for packet in &mut self.frame {
            packet[HEADER_BYTES..].fill(0x5a);
            packet[..HEADER_BYTES]
                .copy_from_slice(&[0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 2, 0x31, 0, 0, 0x22, 0, 0, 0, 0]);
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            seal(&self.publisher_key, 1, self.sequence, packet)?;
            self.sequence = self.sequence.wrapping_add(1);
            self.publisher.send(packet)?;
        }
        Ok(())
    }
}

impl Forwarder for Floor {
    fn turn(&mut self) -> anyhow::Result<(Duration, u64)> {
        self.send_frame()?;
        let Self { socket, publisher_key, subscribers, burst, opened, sender, stopwatch, .. } = self;
        let (took, sent) = stopwatch.time(|| forward(socket, publisher_key, subscribers, opened, sender));
        let sent = sent?;
        ensure!(sent == (subscribers.len() * *burst) as u64, "{sent} packets sent of a frame of {burst}");
        Ok((took, sent))
    }
}

/// Receives one frame and sends it to everybody. Returns the packets sent.
fn forward(
    socket: &UdpSocket,
    publisher_key: &LessSafeKey,
    subscribers: &mut [Subscriber],
    opened: &mut [[u8; PACKET_BYTES]],
    sender: &mut Sender,
) -> anyhow::Result<u64> {
    let mut received = 0;
    while let Some(slot) = opened.get_mut(received) {
        match socket.recv(slot) {
            Ok(PACKET_BYTES) => {}
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        let sequence = u16::from_be_bytes([slot[2], slot[3]]);
        let (header, body) = slot.split_at_mut(HEADER_BYTES);
        publisher_key.open_in_place(nonce(1, sequence), Aad::from(&*header), body).map_err(|_| io::Error::other("not authentic"))?;
        received += 1;
    }
    let mut sent = 0;
    for subscriber in subscribers {
        for packet in &opened[..received] {
            subscriber.copy(packet, &mut sender.arena)?;
            if received == 1 {
                sent += sender.close(socket, subscriber.address, 0)?;
            }
        }
        if received > 1 {
            sent += sender.close(socket, subscriber.address, received)?;
        }
    }
    Ok(sent + sender.flush(socket, if received > 1 { received } else { 0 })?)
}

impl Subscriber {
    fn new(number: u32, sink: &UdpSocket) -> anyhow::Result<Self> {
        let SocketAddr::V4(address) = sink.local_addr()? else { anyhow::bail!("an IPv4 socket has an IPv4 address") };
        let ssrc = 1_000 + number;
        Ok(Self {
            address: SocketAddrV4::into(address),
            key: key(number)?,
            ssrc,
            first_sequence: u16::try_from(number % 60_000)?,
            transport_sequence: 0,
            history: Box::new([0; HISTORY]),
        })
    }

    /// Copies, rewrites, seals and notes.
    fn copy(&mut self, packet: &[u8; PACKET_BYTES], arena: &mut Vec<u8>) -> anyhow::Result<()> {
        let start = arena.len();
        arena.extend_from_slice(packet);
        let out: &mut [u8; PACKET_BYTES] = (&mut arena[start..]).try_into()?;
        let source = u16::from_be_bytes([packet[2], packet[3]]);
        let sequence = source.wrapping_add(self.first_sequence);
        out[2..4].copy_from_slice(&sequence.to_be_bytes());
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]).wrapping_add(self.ssrc);
        out[4..8].copy_from_slice(&timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out[17..19].copy_from_slice(&self.transport_sequence.to_be_bytes());
        out[20..23].copy_from_slice(&timestamp.to_be_bytes()[1..]);
        // VP8 picture id and TL0PICIDX
        out[HEADER_BYTES + 2..HEADER_BYTES + 4].copy_from_slice(&(sequence | 0x8000).to_be_bytes());
        out[HEADER_BYTES + 4] = out[HEADER_BYTES + 4].wrapping_add(1);
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        self.history[usize::from(sequence) % HISTORY] = u64::from(source) << 16 | u64::from(sequence);
        seal(&self.key, self.ssrc, sequence, out)
    }
}

impl Sender {
    /// What was written since the last call is one message, sent with others. Returns the packets that went out.
    fn close(&mut self, socket: &UdpSocket, to: SockaddrIn, packets: usize) -> io::Result<u64> {
        self.messages.push((to, self.arena.len()));
        if self.messages.len() < MESSAGES { Ok(0) } else { self.flush(socket, packets) }
    }

    /// Sends; each message is a train of so many packets, 0: one packet without segmentation.
    fn flush(&mut self, socket: &UdpSocket, packets: usize) -> io::Result<u64> {
        let mut addresses = [None; MESSAGES];
        let mut slices = [[IoSlice::new(&[])]; MESSAGES];
        let mut start = 0;
        for (&(to, end), (address, slice)) in self.messages.iter().zip(addresses.iter_mut().zip(&mut slices)) {
            *address = Some(to);
            *slice = [IoSlice::new(&self.arena[start..end])];
            start = end;
        }
        let count = self.messages.len();
        let segment = u16::try_from(PACKET_BYTES).unwrap_or(u16::MAX);
        let segmented = [ControlMessage::UdpGsoSegments(&segment)];
        let control = if packets > 0 { &segmented[..] } else { &[] };
        let mut done = 0;
        while done < count {
            let slices = &slices[done..count];
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, &addresses[done..count], control, MsgFlags::empty())?;
            done += sent.count();
        }
        self.arena.clear();
        self.messages.clear();
        Ok((count * packets.max(1)) as u64)
    }
}

fn key(number: u32) -> anyhow::Result<LessSafeKey> {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes)?))
}

fn nonce(ssrc: u32, sequence: u16) -> Nonce {
    let mut nonce = [0x51; NONCE_LEN];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[10..12].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn seal(key: &LessSafeKey, ssrc: u32, sequence: u16, packet: &mut [u8; PACKET_BYTES]) -> anyhow::Result<()> {
    let (header, body) = packet.split_at_mut(HEADER_BYTES);
    let (payload, tag) = body.split_at_mut(PAYLOAD_BYTES);
    let sealed = key.seal_in_place_separate_tag(nonce(ssrc, sequence), Aad::from(&*header), payload);
    tag.copy_from_slice(sealed.map_err(|_| io::Error::other("GCM"))?.as_ref());
    Ok(())
}
