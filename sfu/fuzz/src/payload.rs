//! Payload descriptors of the codecs, and the dependency descriptor.

use sfu_core::rtp::payload::dependency_descriptor::{Composed, Descriptor, MAX_LEN, Patch, Structure, compose, has_structure, patch};
use sfu_core::rtp::payload::picture::PictureOffsets;
use sfu_core::rtp::payload::red::{MAX_REDUNDANT, Red};
use sfu_core::rtp::payload::{av1 as av1_payload, h264 as h264_payload, h265 as h265_payload, vp8 as vp8_payload, vp9 as vp9_payload};

use crate::messages;

pub(crate) fn vp8(data: &[u8]) {
    // A descriptor is at most six bytes long, and the frame tag follows.
    let parsed = vp8_payload::parse(data);
    assert_eq!(parsed, vp8_payload::parse(&data[..data.len().min(8)]));
    let Some(info) = parsed else { return };
    assert!(info.temporal < 4 && (info.starts_frame || !info.starts_keyframe));
    let offsets = PictureOffsets { picture_id: 0x1234, tl0_picture_index: 77, key_index: 5 };
    let mut copy = data.to_vec();
    info.fields.rewrite(&mut copy, offsets);
    let Some(again) = vp8_payload::parse(&copy) else { panic!("a rewritten descriptor is a descriptor") };
    if let (Some(before), Some(after)) = (info.fields.picture_id, again.fields.picture_id) {
        let mask = if before.is_long { 0x7fff } else { 0x7f };
        assert_eq!(after.value, before.value.wrapping_add(offsets.picture_id) & mask);
    }
    assert_eq!(again.fields.key_index, info.fields.key_index.map(|(at, value)| (at, (value + 5) % 32)));
    assert_eq!(vp8_payload::Vp8Payload { fields: info.fields, ..again }, info, "nothing else changes");
    info.fields.rewrite(&mut copy, PictureOffsets::default());
    assert_eq!(copy, data);
}

pub(crate) fn red(data: &[u8]) {
    let Some(red) = Red::parse(data, 111) else { return };
    assert_eq!(red.len(), data.len());
    assert!(red.copies.len() <= MAX_REDUNDANT);
    if let Some(written) = red.write(111) {
        assert_eq!(written.as_slice(), data);
    }
}

pub(crate) fn vp9(data: &[u8]) {
    let Some(info) = vp9_payload::parse(data) else { return };
    assert!(usize::from(info.len) < data.len(), "something follows the descriptor");
    assert!(info.spatial < 8 && info.temporal < 8);
    assert!(!info.starts_keyframe || (info.starts_frame && info.spatial == 0 && !info.is_inter_predicted));
    assert!(info.structure.is_none_or(|structure| (1..=8).contains(&structure.spatial_layers) && structure.temporal_layers <= 8));

    let offsets = PictureOffsets { picture_id: 0x1234, tl0_picture_index: 77, key_index: 0 };
    let mut copy = data.to_vec();
    info.fields.rewrite(&mut copy, offsets);
    let Some(again) = vp9_payload::parse(&copy) else { panic!("a rewritten descriptor is a descriptor") };
    if let (Some(before), Some(after)) = (info.fields.picture_id, again.fields.picture_id) {
        let mask = if before.is_long { 0x7fff } else { 0x7f };
        assert_eq!(after.value, before.value.wrapping_add(offsets.picture_id) & mask);
    }
    let expected = info.fields.tl0_picture_index.map(|(at, value)| (at, value.wrapping_add(77)));
    assert_eq!(again.fields.tl0_picture_index, expected);
    let unchanged = vp9_payload::Vp9Payload { fields: info.fields, ..again };
    assert_eq!(unchanged, info, "nothing else changes");
    info.fields.rewrite(&mut copy, PictureOffsets::default());
    assert_eq!(copy, data);
}

pub(crate) fn h264(data: &[u8]) {
    let is_start = h264_payload::starts_keyframe(data);
    assert!(!is_start || !data.is_empty());
}

pub(crate) fn h265(data: &[u8]) {
    if let Some(info) = h265_payload::parse(data) {
        assert!(info.temporal < 7 && data.len() >= 2);
    }
}

pub(crate) fn av1(data: &[u8]) {
    let Some(info) = av1_payload::parse(data) else { return };
    assert!(!(info.starts_keyframe && info.continues_unit));
    assert!(info.layer.is_none_or(|layer| layer.spatial < 4 && layer.temporal < 8));
    if let Some((width, height)) = info.max_frame_size {
        assert!((1..=65_536).contains(&width) && (1..=65_536).contains(&height));
    }
}

/// Packets of one stream: structures are kept as a subscription keeps them.
pub(crate) fn dependency_descriptor(data: &[u8]) {
    let mut known: Option<Structure> = None;
    for packet in messages(data).take(64) {
        match Structure::parse(packet) {
            Ok(Some(structure)) => {
                assert!(has_structure(packet));
                known = Some(structure);
            }
            Ok(None) => assert!(!has_structure(packet)),
            Err(_) => {}
        }
        let parsed = Descriptor::parse(packet, known.as_ref());
        let mut out = [0; MAX_LEN];
        let change = Patch { active_decode_targets: Some(0x5555_5555), frame_number: 40_000, template_id: 17 };
        let patched = patch(packet, known.as_ref(), change, &mut out);
        let (Ok(descriptor), Some(structure)) = (parsed, known.as_ref()) else {
            assert!(patched.is_err(), "what can't be read can't be changed");
            continue;
        };
        check_structure(structure);
        check_descriptor(&descriptor, structure);
        // The mask can make it longer than an extension may be.
        if let Ok(len) = patched {
            check_patched(&out[..len], &descriptor, structure, change);
        }
        check_composed(&descriptor, structure);
    }
}

fn check_structure(structure: &Structure) {
    let targets = structure.decode_targets();
    assert!((1..=32).contains(&targets) && structure.chains() <= targets && structure.id_offset() < 64);
    assert!(structure.max_spatial() < 4 && structure.max_temporal() < 8);
    let mut protected = 0;
    for chain in 0..structure.chains() {
        assert_eq!(protected & structure.protected_by(chain), 0, "a target has one chain");
        protected |= structure.protected_by(chain);
    }
    assert_eq!(protected, if structure.chains() > 0 { structure.all_decode_targets() } else { 0 });
    for target in 0..targets {
        let layer = structure.layer_of(target).unwrap_or_default();
        assert_ne!(structure.decode_targets_up_to(layer) & (1 << target), 0);
        assert!(structure.decode_target_for(layer).is_some());
    }
    assert_eq!(structure.layer_of(targets), None);
}

fn check_descriptor(descriptor: &Descriptor, structure: &Structure) {
    let all = structure.all_decode_targets();
    assert_eq!(descriptor.indications.present() & !all, 0);
    assert_eq!(descriptor.active_decode_targets.unwrap_or(0) & !all, 0);
    assert_eq!(descriptor.chain_diffs.as_slice().len(), structure.chains());
    assert!(descriptor.frame_diffs.as_slice().iter().all(|&diff| (1..=4096).contains(&diff)));
    assert!(descriptor.layer.spatial <= structure.max_spatial() && descriptor.layer.temporal <= structure.max_temporal());
    for chain in 0..=structure.chains() {
        let is_in = descriptor.is_in_chain(structure, chain, all);
        assert!(!is_in || structure.protected_by(chain) & !descriptor.indications.present() == 0);
    }
}

fn check_patched(bytes: &[u8], before: &Descriptor, structure: &Structure, change: Patch) {
    let shifted = structure.shifted(change.template_id);
    let Ok(after) = Descriptor::parse(bytes, Some(&shifted)) else { panic!("a changed descriptor is a descriptor") };
    let mut expected = *before;
    expected.mandatory.frame_number = expected.mandatory.frame_number.wrapping_add(change.frame_number);
    expected.mandatory.template_id = (expected.mandatory.template_id + change.template_id) % 64;
    expected.active_decode_targets = change.active_decode_targets.map(|mask| mask & structure.all_decode_targets());
    assert_eq!(after, expected);
    if before.has_structure {
        assert_eq!(Structure::parse(bytes), Ok(Some(shifted)));
    }
}

fn check_composed(descriptor: &Descriptor, structure: &Structure) {
    let mut out = [0; MAX_LEN];
    // A structure that was padded into a full extension may leave no room for what is written more explicitly.
    if let Ok(len) = compose(&Composed { descriptor: *descriptor, structure }, &mut out) {
        assert_eq!(Descriptor::parse(&out[..len], Some(structure)).as_ref(), Ok(descriptor));
    }
}
