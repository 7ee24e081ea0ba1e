//! The fields of VP8 and VP9 descriptors that a switch must keep continuous: picture id, `TL0PICIDX` and `KEYIDX`.
//!
//! Both codecs write them alike (RFC 7741 section 4.2, RFC 9628 section 4.2). In: where they stand, from the descriptors' parsers.
//! Out: their new values in a subscriber's copy.

/// Where the rewritable fields stand in the payload, and their values as received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureFields {
    /// `PictureID`.
    pub picture_id: Option<PictureId>,
    /// Offset and value of `TL0PICIDX`.
    pub tl0_picture_index: Option<(u8, u8)>,
    /// Offset and value (5 bits) of `KEYIDX`, which only VP8 has.
    pub key_index: Option<(u8, u8)>,
}

/// A picture id in the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureId {
    /// Offset in the payload.
    pub offset: u8,
    /// 15 bits on two bytes, or 7 bits on one.
    pub is_long: bool,
    /// Value as received.
    pub value: u16,
}

impl PictureId {
    /// Writes another value in its place and width, in a copy of the payload.
    fn write(self, payload: &mut [u8], value: u16) {
        let at = usize::from(self.offset);
        if self.is_long {
            if let Some(bytes) = payload.get_mut(at..at + 2) {
                bytes.copy_from_slice(&(0x8000 | (value & 0x7fff)).to_be_bytes());
            }
        } else if let Some(byte) = payload.get_mut(at) {
            *byte = value.to_be_bytes()[1] & 0x7f;
        }
    }
}

/// What is added to a source's fields for one subscriber; constant between two switches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureOffsets {
    /// Added to the picture id, modulo its width.
    pub picture_id: u16,
    /// Added to `TL0PICIDX`, modulo 256.
    pub tl0_picture_index: u8,
    /// Added to `KEYIDX`, modulo 32.
    pub key_index: u8,
}

impl PictureFields {
    /// Writes the fields with their offsets added into a copy of the payload.
    pub fn rewrite(&self, payload: &mut [u8], offsets: PictureOffsets) {
        if let Some(id) = self.picture_id {
            id.write(payload, id.value.wrapping_add(offsets.picture_id));
        }
        if let Some((at, value)) = self.tl0_picture_index
            && let Some(byte) = payload.get_mut(usize::from(at))
        {
            *byte = value.wrapping_add(offsets.tl0_picture_index);
        }
        if let Some((at, value)) = self.key_index
            && let Some(byte) = payload.get_mut(usize::from(at))
        {
            *byte = (*byte & 0xe0) | (value.wrapping_add(offsets.key_index) & 0x1f);
        }
    }
}

/// Reads a descriptor from its front; `None` where it is cut short.
pub(super) struct Cursor<'a> {
    payload: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(super) fn offset(&self) -> Option<u8> {
        u8::try_from(self.at).ok()
    }

    pub(super) fn picture_id(&mut self) -> Option<PictureId> {
        let offset = self.offset()?;
        let high = self.byte()?;
        if high & 0x80 == 0 {
            return Some(PictureId { offset, is_long: false, value: u16::from(high) });
        }
        let low = self.byte()?;
        Some(PictureId { offset, is_long: true, value: u16::from_be_bytes([high & 0x7f, low]) })
    }
}
