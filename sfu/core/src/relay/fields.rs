//! Fields of a frame as bytes, in network byte order.

use arrayvec::ArrayVec;

use super::message::Handle;
use crate::media::Codec;

/// Longest string in a frame (bytes); `fmtp` lines are much shorter.
const MAX_STRING: usize = 1024;

/// Codecs by number; a number is never given to another one.
const CODECS: [Codec; 8] = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1, Codec::H265, Codec::Pcmu, Codec::Pcma];

/// Appends fields.
pub(super) struct Writer<'o>(pub(super) &'o mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.rest(&value.to_be_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.rest(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.rest(&value.to_be_bytes())
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Of a list; all lists have bounds below 256.
    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.u8(u8::try_from(count).unwrap_or(u8::MAX))
    }

    pub(super) fn codec(&mut self, codec: Codec) -> &mut Self {
        let number = CODECS.iter().position(|&known| known == codec).and_then(|number| u8::try_from(number).ok());
        self.u8(number.unwrap_or(u8::MAX))
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        let bytes = text.as_bytes();
        let bytes = if bytes.len() > MAX_STRING { &[] } else { bytes };
        self.u16(u16::try_from(bytes.len()).unwrap_or(0)).rest(bytes)
    }

    pub(super) fn rest(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Takes fields from the front; `None` if they are not there or say something else.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[value]| value)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn handle(&mut self) -> Option<Handle> {
        self.u64().map(Handle)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn codec(&mut self) -> Option<Codec> {
        CODECS.get(usize::from(self.u8()?)).copied()
    }

    pub(super) fn string(&mut self) -> Option<&'a str> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.take(len)?).ok()
    }

    /// `None` if there are more items than have room.
    pub(super) fn list<T, const N: usize>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<ArrayVec<T, N>> {
        let mut list = ArrayVec::new();
        for _ in 0..self.u8()? {
            list.try_push(item(self)?).ok()?;
        }
        Some(list)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
