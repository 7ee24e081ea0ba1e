#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::super::bits::BitWriter;
use super::*;

/// First packet of a keyframe that Chromium sent with three spatial and three temporal layers, captured.
const CAPTURED_KEYFRAME: &str = "c1017280081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a\
                                 0941b820ac1282503157f974000ca864330e222222eca8655304224230eca877530077004200ef008601df010d";

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text.replace(' ', "")).unwrap()
}

fn captured() -> Structure {
    Structure::parse(&bytes(CAPTURED_KEYFRAME)).unwrap().unwrap()
}

/// A template in the notation of the specification: `S`, `D`, `R` and `-` per decode target.
fn template(spatial: u8, temporal: u8, roles: &str, frame_diffs: &[u16], chain_diffs: &[u8]) -> Template {
    let mut template = Template { layer: Layer { spatial, temporal }, ..Template::default() };
    for (target, role) in roles.chars().enumerate() {
        let indication = match role {
            'S' => Indication::Switch,
            'D' => Indication::Discardable,
            'R' => Indication::Required,
            _ => Indication::NotPresent,
        };
        template.indications = template.indications.with(target, indication);
    }
    frame_diffs.iter().for_each(|&diff| template.frame_diffs.push(diff).unwrap());
    chain_diffs.iter().for_each(|&diff| template.chain_diffs.push(diff).unwrap());
    template
}

fn l1t2() -> Structure {
    let templates = [template(0, 0, "SS", &[], &[0]), template(0, 0, "SS", &[2], &[2]), template(0, 1, "-D", &[1], &[1])];
    Structure::new(0, &templates, &[0, 0], &[Resolution { width: 640, height: 360 }]).unwrap()
}

/// Section A.10.2.1.
fn l1t3() -> Structure {
    let templates = [
        template(0, 0, "SSS", &[], &[0]),
        template(0, 0, "SSS", &[4], &[4]),
        template(0, 1, "SD-", &[2], &[2]),
        template(0, 2, "D--", &[1], &[1]),
        template(0, 2, "D--", &[1], &[3]),
    ];
    Structure::new(1, &templates, &[0, 0, 0], &[]).unwrap()
}

/// Two layers that depend on each other in key pictures only; the decode targets from low to high.
fn l2t2_key() -> Structure {
    let templates = [
        template(0, 0, "SSSS", &[], &[0, 0]),
        template(0, 0, "SS--", &[4], &[4, 3]),
        template(0, 1, "-D--", &[2], &[2, 1]),
        template(1, 0, "--SS", &[1], &[1, 1]),
        template(1, 0, "--SS", &[4], &[1, 4]),
        template(1, 1, "---D", &[2], &[3, 2]),
    ];
    let resolutions = [Resolution { width: 320, height: 180 }, Resolution { width: 640, height: 360 }];
    Structure::new(60, &templates, &[0, 0, 1, 1], &resolutions).unwrap()
}

/// Section A.10.2.2.
fn l3t3() -> Structure {
    let templates = [
        template(0, 0, "SSSSSSSSS", &[], &[0, 0, 0]),
        template(0, 0, "RRRRRRSSS", &[12], &[12, 11, 10]),
        template(0, 1, "RR-RR-SD-", &[6], &[6, 5, 4]),
        template(0, 2, "R--R--D--", &[3], &[3, 2, 1]),
        template(0, 2, "R--R--D--", &[3], &[9, 8, 7]),
        template(1, 0, "SSSSSS---", &[1], &[1, 1, 1]),
        template(1, 0, "RRRSSS---", &[12, 1], &[1, 1, 1]),
        template(1, 1, "RR-SD----", &[6, 1], &[7, 6, 5]),
        template(1, 2, "R--D-----", &[3, 1], &[4, 3, 2]),
        template(1, 2, "R--D-----", &[3, 1], &[10, 9, 8]),
        template(2, 0, "SSS------", &[1], &[2, 1, 1]),
        template(2, 0, "SSS------", &[12, 1], &[2, 1, 1]),
        template(2, 1, "SD-------", &[6, 1], &[8, 7, 6]),
        template(2, 2, "D--------", &[3, 1], &[5, 4, 3]),
        template(2, 2, "D--------", &[3, 1], &[11, 10, 9]),
    ];
    Structure::new(1, &templates, &[2, 2, 2, 1, 1, 1, 0, 0, 0], &[]).unwrap()
}

fn all_structures() -> [Structure; 5] {
    [l1t2(), l1t3(), l2t2_key(), l3t3(), captured()]
}

/// A descriptor as its template says.
fn plain(structure: &Structure, template_id: u8, frame_number: u16) -> Descriptor {
    let template = structure.template(template_id).unwrap();
    Descriptor {
        mandatory: Mandatory { starts_frame: true, ends_frame: false, template_id, frame_number },
        has_structure: false,
        active_decode_targets: None,
        layer: template.layer,
        indications: template.indications,
        frame_diffs: template.frame_diffs,
        chain_diffs: template.chain_diffs,
        resolution: structure.resolution(template.layer.spatial),
    }
}

fn composed(descriptor: Descriptor, structure: &Structure) -> Vec<u8> {
    let mut out = [0xff; MAX_LEN];
    let len = compose(&Composed { descriptor, structure }, &mut out).unwrap();
    out[..len].to_vec()
}

fn patched(bytes: &[u8], known: Option<&Structure>, change: Patch) -> Vec<u8> {
    let mut out = [0xff; MAX_LEN];
    let len = patch(bytes, known, change, &mut out).unwrap();
    out[..len].to_vec()
}

fn layer(spatial: u8, temporal: u8) -> Layer {
    Layer { spatial, temporal }
}

#[test]
fn a_captured_structure_is_understood() {
    let structure = captured();
    assert_eq!((structure.decode_targets(), structure.chains(), structure.max_spatial(), structure.max_temporal()), (9, 3, 2, 2));
    let layers: Vec<Layer> = (0..9).map(|target| structure.layer_of(target).unwrap()).collect();
    let expected: Vec<Layer> = (0..3).flat_map(|spatial| (0..3).map(move |temporal| layer(spatial, temporal))).collect();
    assert_eq!(layers, expected);
    let chains: Vec<usize> = (0..9).map(|target| structure.chain_of(target).unwrap()).collect();
    assert_eq!(chains, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    let sizes: Vec<(u32, u32)> = (0..3).map(|s| structure.resolution(s).map(|r| (r.width, r.height)).unwrap()).collect();
    assert_eq!(sizes, [(120, 67), (240, 135), (480, 270)]);

    let descriptor = Descriptor::parse(&bytes(CAPTURED_KEYFRAME), None).unwrap();
    assert!(descriptor.starts_keyframe() && descriptor.mandatory.ends_frame);
    assert_eq!((descriptor.mandatory.frame_number, descriptor.layer), (0x0172, layer(0, 0)));
    assert_eq!(descriptor.active_decode_targets, Some(0x1ff));
    assert_eq!(descriptor.indications.switches(), 0x1ff);
}

/// The packets that followed the captured keyframe: the second half of them announces which decode targets remain.
#[test]
fn captured_packets_without_a_structure_are_understood() {
    let structure = captured();
    let parse = |text: &str| Descriptor::parse(&bytes(text), Some(&structure)).unwrap();
    let first = parse("860173");
    assert!(first.mandatory.starts_frame && !first.mandatory.ends_frame && !first.has_structure && !first.starts_keyframe());
    assert_eq!((first.mandatory.frame_number, first.layer), (0x0173, layer(1, 0)));
    assert_eq!((first.frame_diffs.as_slice(), first.active_decode_targets), (&[1][..], None));
    assert_eq!(first.chain_diffs.as_slice(), [1, 1, 1]);
    let last = parse("460173");
    assert!(!last.mandatory.starts_frame && last.mandatory.ends_frame);
    assert_eq!(parse("8b0174").layer, layer(2, 0));
    assert_eq!(parse("c30175").layer.spatial, 0);
    assert_eq!(parse("86017340fc").active_decode_targets, Some(0b0_0011_1111));
    assert_eq!(Descriptor { active_decode_targets: None, ..parse("86017340fc") }, first);
}

#[test]
fn every_known_structure_reads_back_as_written() {
    for structure in all_structures() {
        let first = structure.id_offset();
        let descriptor = Descriptor {
            has_structure: true,
            active_decode_targets: Some(structure.all_decode_targets()),
            ..plain(&structure, first, 65_535)
        };
        let written = composed(descriptor, &structure);
        assert_eq!(Structure::parse(&written).unwrap().unwrap(), structure);
        assert_eq!(Descriptor::parse(&written, None), Ok(descriptor));
        for index in 0..structure.templates().len() {
            let id = (first + u8::try_from(index).unwrap()) % 64;
            let descriptor = plain(&structure, id, 7);
            let written = composed(descriptor, &structure);
            assert_eq!(written.len(), 3);
            assert_eq!(Descriptor::parse(&written, Some(&structure)), Ok(descriptor));
        }
    }
}

/// The bytes of L1T2 by hand, bit by bit from A.8.2.
#[test]
fn a_structure_is_written_as_the_specification_says() {
    let structure = l1t2();
    let descriptor = Descriptor { has_structure: true, active_decode_targets: Some(3), ..plain(&structure, 0, 0x1234) };
    let by_hand = [
        "1 0 000000 0001001000110100", // start, end, template, frame number
        "10000 000000 00001",          // structure only; offset 0; two targets
        "00 01 11",                    // layers: same, next temporal, end
        "1010 1010 0001",              // SS SS -D
        "0 100010 100000",             // fdiffs: none; 2; 1
        "10 0000 0010 0001",           // one chain: ns(3) of 1 is 10; protected_by takes no bits; 0, 2, 1
        "1 0000001001111111 0000000101100111 0",
    ]
    .concat()
    .replace(' ', "");
    let mut expected = [0; 32];
    let mut bits = BitWriter::new(&mut expected);
    by_hand.chars().for_each(|bit| bits.write(1, u32::from(bit == '1')));
    let len = bits.finish().unwrap();
    assert_eq!(composed(descriptor, &structure), expected[..len]);
}

#[test]
fn decode_targets_have_the_layers_of_the_specification() {
    let layers = |structure: &Structure| (0..structure.decode_targets()).map(|t| structure.layer_of(t).unwrap()).collect::<Vec<_>>();
    assert_eq!(layers(&l1t3()), [layer(0, 2), layer(0, 1), layer(0, 0)]);
    assert_eq!(layers(&l2t2_key()), [layer(0, 0), layer(0, 1), layer(1, 0), layer(1, 1)]);
    let hd_first: Vec<Layer> = [2, 1, 0].into_iter().flat_map(|s| [2, 1, 0].map(|t| layer(s, t))).collect();
    assert_eq!(layers(&l3t3()), hd_first);
}

#[test]
fn the_decode_target_of_a_wish_is_the_best_within_it() {
    assert_eq!(l3t3().decode_target_for(layer(1, 1)), Some(4));
    assert_eq!(l3t3().decode_target_for(layer(7, 7)), Some(0));
    assert_eq!(captured().decode_target_for(layer(0, 7)), Some(2));
    assert_eq!(l1t2().decode_target_for(layer(2, 0)), Some(0));
}

#[test]
fn a_limit_leaves_the_decode_targets_below_it() {
    assert_eq!(captured().decode_targets_up_to(layer(1, 2)), 0b0_0011_1111);
    assert_eq!(captured().decode_targets_up_to(layer(1, 0)), 0b0_0000_1001);
    assert_eq!(l3t3().decode_targets_up_to(layer(0, 1)), 0b1_1000_0000);
}

#[test]
fn frames_of_the_lowest_temporal_layer_are_in_their_chain() {
    let structure = l3t3();
    let is_in = |id: u8, chain: usize| plain(&structure, id, 0).is_in_chain(&structure, chain, structure.all_decode_targets());
    assert_eq!([is_in(2, 0), is_in(2, 1), is_in(2, 2)], [true; 3], "base layer");
    assert_eq!([is_in(3, 0), is_in(3, 1), is_in(3, 2)], [false; 3], "upper temporal layer");
    assert_eq!([is_in(7, 0), is_in(7, 1), is_in(7, 2)], [false, true, true], "middle spatial layer");
    assert_eq!([is_in(12, 0), is_in(12, 1), is_in(12, 2)], [false, false, true], "upper spatial layer");
    assert!(!plain(&structure, 2, 0).is_in_chain(&structure, 2, 0b1_1111_1000), "no active target");
    assert!(!plain(&structure, 2, 0).is_in_chain(&structure, 9, u32::MAX), "no such chain");
}

#[test]
fn template_ids_wrap_at_64() {
    let structure = l2t2_key();
    assert_eq!(structure.id_offset(), 60);
    assert_eq!(structure.template(63).unwrap().layer, layer(1, 0));
    assert_eq!(structure.template(1).unwrap().layer, layer(1, 1));
    assert_eq!(structure.template(2), None);
    assert_eq!(structure.template(59), None);
    assert_eq!(Descriptor::parse(&[0xc0 | 2, 0, 0], Some(&structure)), Err(Malformed::UnknownTemplate));
}

#[test]
fn without_a_structure_only_the_mandatory_fields_are_readable() {
    assert_eq!(Descriptor::parse(&[0xc5, 0xff, 0xfe], None), Err(Malformed::NoStructure));
    let mandatory = Mandatory::parse(&[0xc5, 0xff, 0xfe]).unwrap();
    assert_eq!(mandatory, Mandatory { starts_frame: true, ends_frame: true, template_id: 5, frame_number: 65_534 });
    assert_eq!(Mandatory::parse(&[0xc5, 0xff]), Err(Malformed::CutShort));
}

#[test]
fn every_truncation_of_a_structure_is_refused() {
    let whole = bytes(CAPTURED_KEYFRAME);
    for len in 0..whole.len() {
        let expected = if len == 3 { Malformed::NoStructure } else { Malformed::CutShort };
        assert_eq!(Descriptor::parse(&whole[..len], None), Err(expected), "{len} bytes");
    }
}

#[test]
fn custom_fields_replace_those_of_the_template() {
    let structure = l1t2();
    // Template 1; flags: custom DTIs, fdiffs and chains; DTIs 1 and 3; fdiffs 4096, 17, 1; chain 200.
    let bits = "11 000001 0000000000000101 00111 01 11 11 111111111111 10 00010000 01 0000 00 11001000".replace(' ', "");
    let mut out = [0; 16];
    let mut to = BitWriter::new(&mut out);
    bits.chars().for_each(|bit| to.write(1, u32::from(bit == '1')));
    let len = to.finish().unwrap();
    let descriptor = Descriptor::parse(&out[..len], Some(&structure)).unwrap();
    assert_eq!([descriptor.indications.get(0), descriptor.indications.get(1)], [Indication::Discardable, Indication::Required]);
    assert_eq!(descriptor.indications.present(), 3);
    assert_eq!(descriptor.frame_diffs.as_slice(), [4096, 17, 1]);
    assert_eq!(descriptor.chain_diffs.as_slice(), [200]);
    assert_eq!(descriptor.layer, layer(0, 0));
    assert_eq!(composed(descriptor, &structure), out[..len]);
    for shorter in 4..len {
        assert_eq!(Descriptor::parse(&out[..shorter], Some(&structure)), Err(Malformed::CutShort), "{shorter} bytes");
    }
}

#[test]
fn what_no_codec_has_is_refused() {
    let refused = |text: &str| {
        let mut out = [0; 64];
        let mut bits = BitWriter::new(&mut out);
        bits.write(24, 0);
        bits.write(5, 0b10000);
        bits.write(11, 0);
        text.chars().for_each(|bit| bits.write(1, u32::from(bit == '1')));
        Structure::parse(&out)
    };
    assert_eq!(refused(&"10".repeat(4)), Err(Malformed::BeyondBound), "five spatial layers");
    assert_eq!(refused(&"01".repeat(8)), Err(Malformed::BeyondBound), "nine temporal layers");
    assert_eq!(refused(&"00".repeat(64)), Err(Malformed::BeyondBound), "65 templates");
    assert_eq!(refused(&format!("11 00 {}", "10000".repeat(9)).replace(' ', "")), Err(Malformed::BeyondBound), "nine references");
    assert!(refused(&format!("11 00 {}", "10000".repeat(8)).replace(' ', "")).is_ok(), "eight references");
}

#[test]
fn parts_that_cannot_be_written_make_no_structure() {
    let first = template(0, 0, "S", &[], &[0]);
    let resolution = Resolution { width: 65_536, height: 1 };
    assert!(Structure::new(0, &[first], &[0], &[resolution]).is_ok());
    for (templates, protected_by, resolutions, why) in [
        (vec![], vec![0], vec![], "no template"),
        (vec![first], vec![], vec![], "no decode target"),
        (vec![first], vec![0; 33], vec![], "33 decode targets"),
        (vec![first; 65], vec![0], vec![], "65 templates"),
        (vec![first], vec![1], vec![], "a chain that is not there"),
        (vec![template(0, 1, "S", &[], &[0])], vec![0], vec![], "begins with an upper layer"),
        (vec![first, template(2, 0, "S", &[], &[0])], vec![0], vec![], "skips a layer"),
        (vec![first, template(0, 0, "S", &[17], &[0])], vec![0], vec![], "a reference too far back"),
        (vec![first, template(0, 0, "S", &[0], &[0])], vec![0], vec![], "a reference to itself"),
        (vec![first, template(0, 0, "S", &[1], &[16])], vec![0], vec![], "a chain too far back"),
        (vec![first, template(0, 0, "S", &[1], &[])], vec![0], vec![], "a chain missing"),
        (vec![first], vec![0], vec![resolution; 2], "two sizes of one layer"),
        (vec![first], vec![0], vec![Resolution { width: 0, height: 1 }], "no width"),
    ] {
        assert!(Structure::new(0, &templates, &protected_by, &resolutions).is_err(), "{why}");
    }
    assert!(Structure::new(64, &[first], &[0], &[]).is_err(), "an id of seven bits");
}

/// What Chromium itself writes for the same packet and mask.
#[test]
fn a_mask_is_added_as_a_captured_sender_does() {
    let structure = captured();
    let change = Patch { active_decode_targets: Some(0b0_0011_1111), ..Patch::default() };
    assert_eq!(patched(&bytes("860173"), Some(&structure), change), bytes("86017340fc"));
    assert_eq!(patched(&bytes("c30175"), Some(&structure), change), bytes("c3017540fc"));
    assert_eq!(patched(&bytes("86017347ff"), Some(&structure), change), bytes("86017340fc"), "a mask that is there is replaced");
}

#[test]
fn a_patched_keyframe_keeps_its_structure() {
    let before = bytes(CAPTURED_KEYFRAME);
    assert_eq!(patched(&before, None, Patch::default()), before);
    let change = Patch { active_decode_targets: Some(0b111), frame_number: 0xffff, template_id: 63 };
    let after = patched(&before, None, change);
    let descriptor = Descriptor::parse(&after, None).unwrap();
    assert_eq!((descriptor.mandatory.frame_number, descriptor.mandatory.template_id), (0x0171, 0));
    assert_eq!(descriptor.active_decode_targets, Some(0b111));
    assert_eq!(Structure::parse(&after).unwrap().unwrap(), captured().shifted(63));
}

#[test]
fn a_result_that_does_not_fit_is_refused() {
    let change = Patch { active_decode_targets: Some(1), ..Patch::default() };
    let structure = captured();
    assert_eq!(patch(&bytes("860173"), Some(&structure), change, &mut [0; 4]), Err(Malformed::TooLong));
    assert_eq!(patch(&bytes("860173"), Some(&structure), change, &mut [0; 5]), Ok(5));
    assert_eq!(patch(&bytes("860173"), Some(&structure), Patch::default(), &mut []), Err(Malformed::TooLong));
    let mut padded = bytes(CAPTURED_KEYFRAME);
    padded.resize(256, 0);
    assert_eq!(Descriptor::parse(&padded, None), Err(Malformed::TooLong));
}

fn any_indications(decode_targets: usize) -> impl Strategy<Value = Indications> {
    any::<u64>().prop_map(move |bits| Indications(if decode_targets >= 32 { bits } else { bits & ((1 << (2 * decode_targets)) - 1) }))
}

fn any_frame_diffs() -> impl Strategy<Value = FrameDiffs> {
    proptest::collection::vec(1_u16..=4096, 0..=MAX_REFERENCES).prop_map(|diffs| {
        let mut list = FrameDiffs::default();
        diffs.into_iter().for_each(|diff| list.push(diff).unwrap());
        list
    })
}

fn any_change() -> impl Strategy<Value = Patch> {
    (any::<Option<u32>>(), any::<u16>(), any::<u8>()).prop_map(|(active_decode_targets, frame_number, template_id)| Patch {
        active_decode_targets,
        frame_number,
        template_id,
    })
}

/// Any structure with one of its packets, which may carry it and custom fields.
fn any_packet() -> impl Strategy<Value = (Structure, Descriptor)> {
    (0..5_usize, any::<[u8; 8]>()).prop_flat_map(|(which, random)| {
        let structure = all_structures()[which].shifted(random[0]);
        let index = random[1] % u8::try_from(structure.templates().len()).unwrap();
        let mut descriptor = plain(&structure, (structure.id_offset() + index) % 64, u16::from_be_bytes([random[2], random[3]]));
        descriptor.has_structure = random[4] & 1 != 0;
        descriptor.mandatory.ends_frame = random[4] & 2 != 0;
        let targets = structure.decode_targets();
        let all = structure.all_decode_targets();
        let custom = (any_indications(targets), any_frame_diffs(), proptest::collection::vec(any::<u8>(), structure.chains()));
        (custom, any::<Option<u32>>(), Just((structure, descriptor, random[5]))).prop_map(
            move |((indications, frame_diffs, chains), mask, (structure, mut descriptor, which))| {
                if which & 1 != 0 {
                    descriptor.indications = indications;
                }
                if which & 2 != 0 {
                    descriptor.frame_diffs = frame_diffs;
                }
                if which & 4 != 0 {
                    descriptor.chain_diffs = ChainDiffs::default();
                    chains.iter().for_each(|&diff| descriptor.chain_diffs.push(diff).unwrap());
                }
                descriptor.active_decode_targets = mask.map(|mask| mask & all).or(descriptor.has_structure.then_some(all));
                (structure, descriptor)
            },
        )
    })
}

proptest! {
    #[test]
    fn what_is_composed_is_parsed((structure, descriptor) in any_packet()) {
        let written = composed(descriptor, &structure);
        prop_assert_eq!(Descriptor::parse(&written, Some(&structure)), Ok(descriptor));
        prop_assert_eq!(has_structure(&written), descriptor.has_structure);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else((structure, descriptor) in any_packet(), change in any_change()) {
        let before = composed(descriptor, &structure);
        let after = patched(&before, Some(&structure), change);
        let shifted = structure.shifted(change.template_id);
        let mut expected = descriptor;
        expected.mandatory.frame_number = expected.mandatory.frame_number.wrapping_add(change.frame_number);
        expected.mandatory.template_id = expected.mandatory.template_id.wrapping_add(change.template_id) % 64;
        if let Some(mask) = change.active_decode_targets {
            expected.active_decode_targets = Some(mask & structure.all_decode_targets());
        }
        prop_assert_eq!(Descriptor::parse(&after, Some(&shifted)), Ok(expected));
        if descriptor.has_structure {
            prop_assert_eq!(Structure::parse(&after), Ok(Some(shifted)));
        }
        prop_assert_eq!(patched(&before, Some(&structure), Patch::default()), before);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6),
        change in any_change(),
    ) {
        let mut known = None;
        for mut packet in packets {
            if known.is_none() && packet.len() > 3 {
                packet[3] |= 0x80;
            }
            if let Ok(Some(structure)) = Structure::parse(&packet) {
                known = Some(structure);
            }
            let parsed = Descriptor::parse(&packet, known.as_ref());
            let mut out = [0; MAX_LEN];
            let written = patch(&packet, known.as_ref(), change, &mut out);
            prop_assert_eq!(parsed.err(), written.err());
        }
    }
}
