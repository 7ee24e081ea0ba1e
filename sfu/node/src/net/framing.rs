//! Packets in a byte stream: a 16-bit length before each (RFC 4571 section 2).
//!
//! In: whatever a read returns, cut anywhere. Out: whole packets, in place, so that the engine can decrypt them where they are.
//! A packet longer than `MAX_DATAGRAM` breaks the stream: its sender is not one of ours. Empty packets are skipped.

use std::io::{self, ErrorKind, Read, Write};

use sfu_core::limits::MAX_DATAGRAM;

/// Bytes of the length before a packet.
const HEADER: usize = 2;
/// Bytes that one read may take.
const READ_BYTES: usize = 16 * 1024;
/// Memory that a drained writer keeps.
const KEPT_BYTES: usize = 32 * 1024;

/// Finds packets in what was read.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Box<[u8]>,
    /// Unread bytes are in `start..end`.
    start: usize,
    end: usize,
}

/// What one read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fill {
    /// Bytes came; there may be more.
    Some(usize),
    /// Nothing there for now.
    Empty,
    /// The other end is gone.
    Closed,
}

/// A packet is announced with more than `MAX_DATAGRAM` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameTooLong;

impl FrameReader {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// A reader that has these bytes already. None: they are more than it holds.
    pub(crate) fn begun(bytes: &[u8]) -> Option<Self> {
        let mut reader = Self::new();
        reader.buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
        reader.end = bytes.len();
        Some(reader)
    }

    /// Reads once. Call [`Self::next_frame`] until it is empty before reading again.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> Fill {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        loop {
            return match source.read(&mut self.buffer[self.end..]) {
                Ok(0) => Fill::Closed,
                Ok(count) => {
                    self.end += count;
                    Fill::Some(count)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Fill::Empty,
                Err(_) => Fill::Closed,
            };
        }
    }

    /// Takes the next whole packet.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&mut [u8]>, FrameTooLong> {
        let Some(len) = self.next_len()? else { return Ok(None) };
        let packet = self.start + HEADER..self.start + HEADER + len;
        self.start = packet.end;
        Ok(Some(&mut self.buffer[packet]))
    }

    /// The next whole packet, left where it is.
    pub(crate) fn peek_frame(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        let len = self.next_len()?;
        Ok(len.map(|len| &self.buffer[self.start + HEADER..self.start + HEADER + len]))
    }

    /// Length of the packet at `start` if all of it is there.
    fn next_len(&mut self) -> Result<Option<usize>, FrameTooLong> {
        while let Some([high, low, rest @ ..]) = self.buffer.get(self.start..self.end) {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if len > MAX_DATAGRAM {
                return Err(FrameTooLong);
            }
            if len > 0 {
                return Ok((rest.len() >= len).then_some(len));
            }
            self.start += HEADER;
        }
        Ok(None)
    }
}

/// Puts lengths before packets and holds back what the socket does not take.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    buffer: Vec<u8>,
    sent: usize,
}

impl FrameWriter {
    /// Adds a packet unless more than `limit` bytes would then wait.
    #[must_use]
    pub(crate) fn push(&mut self, packet: &[u8], limit: usize) -> bool {
        let Ok(len) = u16::try_from(packet.len()) else { return false };
        if self.waiting() + HEADER + packet.len() > limit {
            return false;
        }
        self.buffer.extend_from_slice(&len.to_be_bytes());
        self.buffer.extend_from_slice(packet);
        true
    }

    /// Writes as much as the socket takes; an error means that the connection is gone.
    pub(crate) fn flush(&mut self, sink: &mut impl Write) -> io::Result<()> {
        while self.waiting() > 0 {
            match sink.write(&self.buffer[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.buffer.drain(..self.sent);
                    self.sent = 0;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.buffer.clear();
        self.sent = 0;
        self.buffer.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) const fn waiting(&self) -> usize {
        self.buffer.len() - self.sent
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn packets_are_found_wherever_the_stream_is_cut() {
        let packets: [&[u8]; 4] = [b"a", &[7; 300], b"", &[9; MAX_DATAGRAM]];
        let stream = framed(&packets);
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(read_all(&[first, second]).unwrap(), [vec![b'a'], vec![7; 300], vec![9; MAX_DATAGRAM]], "cut at {cut}");
        }
    }

    #[test]
    fn packets_are_found_byte_by_byte() {
        let stream = framed(&[b"ab", b"c"]);
        let pieces: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read_all(&pieces).unwrap(), [b"ab".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn many_packets_pass_through_a_small_buffer() {
        let packets: Vec<Vec<u8>> = (1..200_u8).map(|i| vec![i; 1_000 + usize::from(i)]).collect();
        let refs: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        assert_eq!(read_all(&[&framed(&refs)]).unwrap(), packets);
    }

    #[test]
    fn a_too_long_packet_breaks_the_stream_before_it_is_read() {
        let header = u16::try_from(MAX_DATAGRAM + 1).unwrap().to_be_bytes();
        assert_eq!(read_all(&[&header]), Err(FrameTooLong));
        assert_eq!(read_all(&[b"GET / HTTP/1.1\r\n"]), Err(FrameTooLong));
    }

    #[test]
    fn peeking_leaves_the_packet() {
        let mut reader = FrameReader::new();
        let _ = reader.fill(&mut framed(&[b"", b"first"]).as_slice());
        assert_eq!(reader.peek_frame(), Ok(Some(b"first".as_slice())));
        assert_eq!(reader.next_frame().unwrap().unwrap(), b"first");
        assert_eq!(reader.peek_frame(), Ok(None));
    }

    #[test]
    fn the_writer_resumes_where_the_socket_stopped() {
        let stream = framed(&[b"hello", b"world"]);
        for take in 1..=stream.len() {
            let mut writer = FrameWriter::default();
            assert!(writer.push(b"hello", 100) && writer.push(b"world", 100));
            let mut sink = Choked { written: Vec::new(), take };
            while writer.waiting() > 0 {
                writer.flush(&mut sink).unwrap();
                sink.take = take;
            }
            assert_eq!(sink.written, stream, "{take} bytes at a time");
        }
    }

    #[test]
    fn the_writer_holds_no_more_than_its_limit() {
        let mut writer = FrameWriter::default();
        assert!(writer.push(&[1; 8], 10));
        assert!(!writer.push(b"", 10));
        assert_eq!(writer.waiting(), 10);
    }

    /// Takes `take` bytes, then would block.
    struct Choked {
        written: Vec<u8>,
        take: usize,
    }

    impl Write for Choked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.take == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(self.take);
            self.written.extend_from_slice(&bytes[..count]);
            self.take -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn framed(packets: &[&[u8]]) -> Vec<u8> {
        let mut writer = FrameWriter::default();
        for packet in packets {
            assert!(writer.push(packet, usize::MAX));
        }
        let mut bytes = Vec::new();
        writer.flush(&mut bytes).unwrap();
        bytes
    }

    fn read_all(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameTooLong> {
        let mut reader = FrameReader::new();
        let mut packets = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while let Fill::Some(_) = reader.fill(&mut rest) {
                while let Some(packet) = reader.next_frame()? {
                    packets.push(packet.to_vec());
                }
            }
        }
        Ok(packets)
    }
}
