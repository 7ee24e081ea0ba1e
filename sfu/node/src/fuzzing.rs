//! A door for `sfu/fuzz` to the framing of TCP connections. Nothing else goes through it.

use crate::net::framing::{Fill, FrameReader, FrameWriter};

/// The packets in a byte stream that arrives in pieces; None if the stream is broken.
#[must_use]
pub fn read_frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<Vec<u8>>> {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for mut piece in pieces {
        while let Fill::Some(_) = reader.fill(&mut piece) {
            while let Some(frame) = reader.next_frame().ok()? {
                frames.push(frame.to_vec());
            }
        }
    }
    Some(frames)
}

/// The byte stream of these packets; None if one is too long.
#[must_use]
pub fn write_frames(frames: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut writer = FrameWriter::default();
    let mut stream = Vec::new();
    for frame in frames {
        if !writer.push(frame, usize::MAX) {
            return None;
        }
    }
    writer.flush(&mut stream).ok()?;
    Some(stream)
}
