//! VP8 payload descriptor (RFC 7741 section 4.2): keyframe starts, and the fields that a switch must keep continuous.

use super::picture::{Cursor, PictureFields};

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
    pub fields: PictureFields,
}

/// Parses the descriptor; None if it is cut short.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Vp8Payload> {
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    let (is_extended, starts_partition, partition) = (first & 0x80 != 0, first & 0x10 != 0, first & 0x07);
    let mut fields = PictureFields::default();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::picture::{PictureId, PictureOffsets};
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
        fields.rewrite(&mut payload, PictureOffsets { picture_id: 0x7fff, tl0_picture_index: 250, key_index: 2 });
        assert_eq!(payload, [0x90, 0xf0, 0x92, 0x33, 3, 0x41, 0x10, 0xaa]);
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let payload = [0x90, 0x80, 0x7f, 0x10];
        let fields = parse(&payload).unwrap().fields;
        let mut copy = payload;
        fields.rewrite(&mut copy, PictureOffsets { picture_id: 1, ..PictureOffsets::default() });
        assert_eq!(copy, [0x90, 0x80, 0x00, 0x10]);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(mut payload in proptest::collection::vec(any::<u8>(), 0..16), offset in any::<u16>()) {
            if let Some(info) = parse(&payload) {
                info.fields.rewrite(&mut payload, PictureOffsets { picture_id: offset, tl0_picture_index: 7, key_index: 3 });
            }
        }
    }
}
