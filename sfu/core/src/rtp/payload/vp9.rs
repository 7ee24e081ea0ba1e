//! VP9 payload descriptor (RFC 9628 section 4.2): the packet's place in its picture and layer, keyframe starts, and the
//! fields that a switch must keep continuous.
//!
//! In: the payload as it came. Out: a small value, offsets instead of slices. What stands in the frame itself is not
//! read: it may be encrypted end to end.

use super::picture::{Cursor, PictureFields};

/// Spatial layers that a scalability structure can describe: `N_S` has three bits.
pub const MAX_SPATIAL_LAYERS: usize = 8;

/// What the descriptor says of one packet. A frame is one spatial layer of a picture; all frames of a picture share the
/// RTP timestamp and the picture id, and the RTP marker ends the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vp9Payload {
    /// B: first packet of a layer frame.
    pub starts_frame: bool,
    /// E: last packet of a layer frame.
    pub ends_frame: bool,
    /// P: the frame refers to earlier pictures. If not, it depends at most on the spatial layers below it in its picture.
    pub is_inter_predicted: bool,
    /// First packet of a picture whose base layer needs no other picture.
    pub starts_keyframe: bool,
    /// TID, 0 without layer indices.
    pub temporal: u8,
    /// SID, 0 without layer indices.
    pub spatial: u8,
    /// U: frames of this and lower spatial layers that follow with a higher TID do not refer to anything before this
    /// frame of its own or a higher TID, so that a subscriber may start with a higher temporal layer from here.
    pub is_switching_up_point: bool,
    /// D: depends on the next lower spatial layer of the same picture.
    pub is_inter_layer_predicted: bool,
    /// Z: no frame of a higher spatial layer depends on this one.
    pub is_not_reference_for_upper_spatial: bool,
    /// F: references are listed as picture id differences.
    pub is_flexible: bool,
    /// How many pictures back each reference is (`P_DIFF`, 7 bits), in flexible mode.
    pub references: References,
    /// V: a scalability structure is present.
    pub structure: Option<Structure>,
    /// Fields to be rewritten.
    pub fields: PictureFields,
    /// Bytes of the descriptor; the VP9 frame follows.
    pub len: u16,
}

/// Differences of picture ids, at most three (RFC 9628 section 4.2: F and P, N).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct References {
    count: u8,
    diffs: [u8; 3],
}

impl References {
    /// The differences in the order of the descriptor.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.diffs.get(..usize::from(self.count)).unwrap_or_default()
    }
}

/// Scalability structure, as far as forwarding needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Structure {
    /// `N_S` + 1: spatial layers in use, 1-8.
    pub spatial_layers: u8,
    /// Y: width and height in pixels of each spatial layer; (0, 0) beyond [`Structure::spatial_layers`].
    pub resolutions: Option<[(u16, u16); MAX_SPATIAL_LAYERS]>,
    /// Pictures of the group (`N_G`), 0 if no group is described.
    pub group_len: u8,
    /// Temporal layers that occur in the group, 0 if no group is described.
    pub temporal_layers: u8,
}

/// Parses the descriptor; None if it is cut short or says something impossible.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Vp9Payload> {
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    let has = |bit: u8| first & bit != 0;
    let (has_picture_id, has_layers, has_structure) = (has(0x80), has(0x20), has(0x02));
    let mut info = Vp9Payload {
        is_inter_predicted: has(0x40),
        is_flexible: has(0x10),
        starts_frame: has(0x08),
        ends_frame: has(0x04),
        is_not_reference_for_upper_spatial: has(0x01),
        ..Vp9Payload::default()
    };
    if has_picture_id {
        info.fields.picture_id = Some(cursor.picture_id()?);
    }
    if has_layers {
        let layers = cursor.byte()?;
        info.temporal = layers >> 5;
        info.is_switching_up_point = layers & 0x10 != 0;
        info.spatial = (layers >> 1) & 0x07;
        info.is_inter_layer_predicted = layers & 0x01 != 0;
        if !info.is_flexible {
            info.fields.tl0_picture_index = Some((cursor.offset()?, cursor.byte()?));
        }
    }
    if info.is_flexible && info.is_inter_predicted {
        info.references = read_references(&mut cursor)?;
    }
    if has_structure {
        info.structure = Some(read_structure(&mut cursor)?);
    }
    // A picture starts with the lowest spatial layer, or without layer indices with its only frame.
    info.starts_keyframe = info.starts_frame && !info.is_inter_predicted && info.spatial == 0;
    info.len = u16::try_from(cursor.at).ok()?;
    // RFC 9628 section 4.2: the descriptor precedes a VP9 payload; a packet without one carries nothing.
    payload.get(cursor.at).map(|_| info)
}

/// `P_DIFF` in seven bits and N, "another one follows". A fourth is malformed.
fn read_references(cursor: &mut Cursor<'_>) -> Option<References> {
    let mut references = References::default();
    for diff in &mut references.diffs {
        let byte = cursor.byte()?;
        *diff = byte >> 1;
        references.count += 1;
        if byte & 1 == 0 {
            return Some(references);
        }
    }
    None
}

fn read_structure(cursor: &mut Cursor<'_>) -> Option<Structure> {
    let head = cursor.byte()?;
    let mut structure = Structure { spatial_layers: (head >> 5) + 1, ..Structure::default() };
    if head & 0x10 != 0 {
        let mut resolutions = [(0, 0); MAX_SPATIAL_LAYERS];
        for resolution in resolutions.iter_mut().take(usize::from(structure.spatial_layers)) {
            *resolution = (cursor.word()?, cursor.word()?);
        }
        structure.resolutions = Some(resolutions);
    }
    if head & 0x08 != 0 {
        structure.group_len = cursor.byte()?;
        for _ in 0..structure.group_len {
            let picture = cursor.byte()?;
            structure.temporal_layers = structure.temporal_layers.max((picture >> 5) + 1);
            for _ in 0..(picture >> 2) & 0x03 {
                cursor.byte()?;
            }
        }
    }
    Some(structure)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::picture::{PictureId, PictureOffsets};
    use super::*;

    /// I L B V; 15-bit picture id 0x1234; TID 0, SID 0, U; TL0PICIDX 9; three layers with sizes, a group of four pictures
    /// with three temporal layers, as libvpx describes L3T3; two bytes of the frame.
    const L3T3_KEYFRAME: [u8; 30] = [
        0xaa, 0x92, 0x34, 0x10, 9, // I L B V, picture id, layers, TL0PICIDX
        0x58, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208, // N_S=2 Y G, 320x180, 640x360, 1280x720
        4, 0x04, 4, 0x54, 1, 0x34, 2, 0x54, 1, // N_G=4: T0 U=0 -4, T2 U -1, T1 U -2, T2 U -1
        0x82, 0x49, 0x83,
    ];

    #[test]
    fn a_keyframe_with_its_scalability_structure_is_read() {
        let info = parse(&L3T3_KEYFRAME).unwrap();
        assert!(info.starts_keyframe && info.starts_frame && !info.ends_frame && !info.is_flexible);
        assert_eq!((info.temporal, info.spatial, info.is_switching_up_point), (0, 0, true));
        assert_eq!(info.fields.picture_id, Some(PictureId { offset: 1, is_long: true, value: 0x1234 }));
        assert_eq!(info.fields.tl0_picture_index, Some((4, 9)));
        let structure = info.structure.unwrap();
        assert_eq!((structure.spatial_layers, structure.group_len, structure.temporal_layers), (3, 4, 3));
        assert_eq!(structure.resolutions.unwrap()[..4], [(320, 180), (640, 360), (1280, 720), (0, 0)]);
        assert_eq!(info.len, 27);
    }

    #[test]
    fn an_upper_layer_of_a_keyframe_starts_no_keyframe() {
        // I L B E, 7-bit picture id, TID 0 SID 1 D, TL0PICIDX.
        let info = parse(&[0xac, 0x11, 0x03, 9, 0xff]).unwrap();
        assert!(!info.starts_keyframe && info.is_inter_layer_predicted && !info.is_inter_predicted);
        assert_eq!((info.spatial, info.fields.picture_id), (1, Some(PictureId { offset: 1, is_long: false, value: 0x11 })));
    }

    #[test]
    fn a_later_packet_or_an_interframe_starts_no_keyframe() {
        assert!(!parse(&[0xa4, 0x11, 0x00, 9, 0xff]).unwrap().starts_keyframe, "no B");
        assert!(!parse(&[0xec, 0x11, 0x00, 9, 0xff]).unwrap().starts_keyframe, "P");
        assert!(parse(&[0x8c, 0x11, 0xff]).unwrap().starts_keyframe, "no layers");
    }

    #[test]
    fn flexible_mode_lists_references_and_has_no_tl0_index() {
        // I P L F B E Z: picture id 5, TID 2 U SID 1 D, references 1, 2 and 127.
        let info = parse(&[0xfd, 5, 0x53, 0x03, 0x05, 0xfe, 0xff]).unwrap();
        assert_eq!(info.references.as_slice(), [1, 2, 127]);
        assert_eq!((info.temporal, info.spatial, info.fields.tl0_picture_index), (2, 1, None));
        assert!(info.is_not_reference_for_upper_spatial && info.is_flexible && info.is_inter_predicted);
        assert_eq!(parse(&[0xfd, 5, 0x53, 0x03, 0x05, 0xff, 0x02, 0xff]), None, "a fourth reference");
    }

    #[test]
    fn a_descriptor_cut_short_or_without_a_frame_is_refused() {
        for len in 0..28 {
            assert_eq!(parse(&L3T3_KEYFRAME[..len]), None, "{len} bytes");
        }
        assert!(parse(&L3T3_KEYFRAME[..28]).is_some());
    }

    #[test]
    fn rewritten_fields_wrap_at_their_width_and_leave_the_rest_alone() {
        let fields = parse(&L3T3_KEYFRAME).unwrap().fields;
        let mut payload = L3T3_KEYFRAME;
        fields.rewrite(&mut payload, PictureOffsets { picture_id: 0x7fff, tl0_picture_index: 250, key_index: 0 });
        let mut expected = L3T3_KEYFRAME;
        (expected[2], expected[4]) = (0x33, 3);
        assert_eq!(payload, expected);

        let short = [0x8c, 0x7f, 0xff];
        let mut payload = short;
        parse(&short).unwrap().fields.rewrite(&mut payload, PictureOffsets { picture_id: 1, tl0_picture_index: 1, key_index: 0 });
        assert_eq!(payload, [0x8c, 0x00, 0xff]);
    }

    #[test]
    fn picture_ids_wrap_at_every_edge() {
        for start in [0, 1, 32_767_u16] {
            let mut payload = [0x8c, 0x80 | start.to_be_bytes()[0], start.to_be_bytes()[1], 0xff];
            let fields = parse(&payload).unwrap().fields;
            fields.rewrite(&mut payload, PictureOffsets { picture_id: 1, ..PictureOffsets::default() });
            assert_eq!(parse(&payload).unwrap().fields.picture_id.unwrap().value, (start + 1) % 0x8000);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(mut payload in proptest::collection::vec(any::<u8>(), 0..64), offset in any::<u16>()) {
            if let Some(info) = parse(&payload) {
                prop_assert!(usize::from(info.len) < payload.len());
                let offsets = PictureOffsets { picture_id: offset, tl0_picture_index: 7, key_index: 3 };
                info.fields.rewrite(&mut payload, offsets);
                let again = parse(&payload).unwrap();
                prop_assert_eq!((again.spatial, again.temporal, again.len), (info.spatial, info.temporal, info.len));
            }
        }
    }
}
