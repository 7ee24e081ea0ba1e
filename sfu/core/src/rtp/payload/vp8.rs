//! VP8 payload descriptor (RFC 7741 section 4.2): keyframe starts, and the fields that a switch must keep continuous.

/// What the descriptor and the frame tag say of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vp8Payload {
    /// First packet of a key frame.
    pub starts_keyframe: bool,
    /// First packet of any frame.
    pub starts_frame: bool,
    /// TID, 0 if there is none.
    pub temporal: u8,
    /// Y: depends on the base layer only, so that a subscriber may start with this temporal layer here.
    pub is_layer_sync: bool,
    /// Fields to be rewritten.
    pub fields: Vp8Fields,
}

/// Where the rewritable fields stand in the payload, and their values as received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vp8Fields {
    /// `PictureID`.
    pub picture_id: Option<PictureId>,
    /// Offset and value of `TL0PICIDX`.
    pub tl0_picture_index: Option<(u8, u8)>,
    /// Offset and value (5 bits) of `KEYIDX`.
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
    pub fn write(self, payload: &mut [u8], value: u16) {
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
pub struct Vp8Offsets {
    /// Added to the picture id, modulo its width.
    pub picture_id: u16,
    /// Added to `TL0PICIDX`, modulo 256.
    pub tl0_picture_index: u8,
    /// Added to `KEYIDX`, modulo 32.
    pub key_index: u8,
}

/// Parses the descriptor; None if it is cut short.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Vp8Payload> {
    let mut cursor = Cursor { payload, at: 0 };
    let first = cursor.byte()?;
    let (is_extended, starts_partition, partition) = (first & 0x80 != 0, first & 0x10 != 0, first & 0x07);
    let mut fields = Vp8Fields::default();
    let (mut temporal, mut is_layer_sync) = (0, false);
    if is_extended {
        let flags = cursor.byte()?;
        if flags & 0x80 != 0 {
            fields.picture_id = Some(cursor.picture_id()?);
        }
        if flags & 0x40 != 0 {
            fields.tl0_picture_index = Some((cursor.offset()?, cursor.byte()?));
        }
        if flags & 0x30 != 0 {
            let offset = cursor.offset()?;
            let byte = cursor.byte()?;
            if flags & 0x20 != 0 {
                (temporal, is_layer_sync) = (byte >> 6, byte & 0x20 != 0);
            }
            if flags & 0x10 != 0 {
                fields.key_index = Some((offset, byte & 0x1f));
            }
        }
    }
    // The first payload byte of a frame is its frame tag: bit 0 clear means key frame (RFC 6386 section 9.1).
    let frame_tag = cursor.byte()?;
    let starts_frame = starts_partition && partition == 0;
    Some(Vp8Payload { starts_keyframe: starts_frame && frame_tag & 1 == 0, starts_frame, temporal, is_layer_sync, fields })
}

impl Vp8Fields {
    /// Writes the fields with their offsets added into a copy of the payload.
    pub fn rewrite(&self, payload: &mut [u8], offsets: Vp8Offsets) {
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

struct Cursor<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn offset(&self) -> Option<u8> {
        u8::try_from(self.at).ok()
    }

    fn picture_id(&mut self) -> Option<PictureId> {
        let offset = self.offset()?;
        let high = self.byte()?;
        if high & 0x80 == 0 {
            return Some(PictureId { offset, is_long: false, value: u16::from(high) });
        }
        let low = self.byte()?;
        Some(PictureId { offset, is_long: true, value: u16::from_be_bytes([high & 0x7f, low]) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// X, S=1; I L T K; 15-bit picture id 0x1234, TL0PICIDX 9, TID 1 Y 0 KEYIDX 31; key frame tag.
    const FULL: [u8; 8] = [0x90, 0xf0, 0x92, 0x34, 9, 0x5f, 0x10, 0xaa];

    #[test]
    fn every_field_is_found() {
        let info = parse(&FULL).unwrap();
        assert!(info.starts_keyframe);
        assert_eq!((info.temporal, info.is_layer_sync), (1, false));
        let fields = info.fields;
        assert_eq!(fields.picture_id, Some(PictureId { offset: 2, is_long: true, value: 0x1234 }));
        assert_eq!((fields.tl0_picture_index, fields.key_index), (Some((4, 9)), Some((5, 31))));
    }

    #[test]
    fn an_interframe_or_a_later_packet_starts_no_keyframe() {
        let mut inter = FULL;
        inter[6] |= 1;
        assert!(!parse(&inter).unwrap().starts_keyframe);
        let mut later = FULL;
        later[0] &= !0x10;
        assert!(!parse(&later).unwrap().starts_keyframe);
        let mut second_partition = FULL;
        second_partition[0] |= 1;
        assert!(!parse(&second_partition).unwrap().starts_keyframe);
    }

    #[test]
    fn rewritten_fields_wrap_at_their_width_and_leave_the_rest_alone() {
        let fields = parse(&FULL).unwrap().fields;
        let mut payload = FULL;
        fields.rewrite(&mut payload, Vp8Offsets { picture_id: 0x7fff, tl0_picture_index: 250, key_index: 2 });
        assert_eq!(payload, [0x90, 0xf0, 0x92, 0x33, 3, 0x41, 0x10, 0xaa]);
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let payload = [0x90, 0x80, 0x7f, 0x10];
        let fields = parse(&payload).unwrap().fields;
        let mut copy = payload;
        fields.rewrite(&mut copy, Vp8Offsets { picture_id: 1, ..Vp8Offsets::default() });
        assert_eq!(copy, [0x90, 0x80, 0x00, 0x10]);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(mut payload in proptest::collection::vec(any::<u8>(), 0..16), offset in any::<u16>()) {
            if let Some(info) = parse(&payload) {
                info.fields.rewrite(&mut payload, Vp8Offsets { picture_id: offset, tl0_picture_index: 7, key_index: 3 });
            }
        }
    }
}
