//! Replays the committed corpora, of these targets and of the TURN server's: what the fuzzer has found interesting, and every crash that
//! it has ever found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz_targets::Target;

/// Targets with the folder of their corpus.
const PARTS: [(&[Target], &str); 2] = [(fuzz_targets::TARGETS, "corpus"), (turn_fuzz::TARGETS, "../../turn-server/fuzz/corpus")];

#[test]
fn no_input_of_the_corpus_breaks_its_target() {
    let mut failures = Vec::new();
    for (targets, corpus) in PARTS {
        for (name, run) in targets {
            let mut files = files_in(&root().join(corpus).join(name));
            assert!(!files.is_empty(), "{name} has a corpus");
            if name.starts_with("sdp_") {
                files.extend(files_in(&root().join("../core/tests/sdp")));
            }
            for file in files {
                let data = fs::read(&file).expect("a file of the corpus can be read");
                if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                    failures.push(format!("{name}: {}", file.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Inputs that belong to no target in particular: each one gets them all.
#[test]
fn simple_inputs_break_nothing() {
    let inputs: Vec<Vec<u8>> = (0..=16)
        .chain([255, 256, 1200, 1500, 65_535])
        .flat_map(|len| [0x00, 0x7f, 0x80, 0xff, b'0', b'{'].map(|byte| vec![byte; len]))
        .collect();
    for (_, run) in PARTS.iter().flat_map(|(targets, _)| *targets) {
        inputs.iter().for_each(|input| run(input));
    }
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target() {
    for (targets, corpus) in PARTS {
        for folder in fs::read_dir(root().join(corpus)).expect("there is a corpus").flatten().filter(|entry| entry.path().is_dir()) {
            let name = folder.file_name();
            assert!(targets.iter().any(|(own, _)| *own == name), "{} belongs to no target", name.display());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}
