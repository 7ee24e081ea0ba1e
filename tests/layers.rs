//! The layer rules of ARCHITECTURE.md, checked: who may depend on whom, who may name a protocol crate, where unsafe may be.
//!
//! Every table here is the rule itself; a failure says which rule, where, and why it exists.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arrows point down only: a crate and the workspace crates that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    // `sluice doctor` is a client: it has that of the simulations, which shares as little as possible with the server
    ("sluice", &["signaling-server", "signaling-api", "sfu-node", "sfu-api", "turn-server", "sfu-core", "sfu-sim"]),
    ("signaling-server", &["signaling-core", "signaling-api", "sfu-api"]),
    ("signaling-core", &["signaling-api", "sfu-api"]),
    ("signaling-api", &[]),
    ("sfu-node", &["sfu-core", "sfu-api"]),
    ("sfu-core", &["sfu-api"]),
    ("sfu-api", &[]),
    // knows nothing of the rest: it serves by itself too
    ("turn-server", &["turn-proto"]),
    ("turn-proto", &[]),
    ("turn-fuzz", &["turn-proto"]),
    ("bench-turn", &["turn-proto"]),
    // tools around the engine, used by no product crate except in tests
    ("sfu-sim", &["sfu-core", "sfu-api"]),
    // a client of any server: it knows the protocols' library side, not the server
    ("bench-load", &["sfu-core", "sfu-sim"]),
    ("bench-micro", &["sfu-core", "sfu-node", "sfu-api", "sfu-sim"]),
    // feeds the parsers of both sides; it is no part of the product, so it may see both
    ("fuzz-targets", &["sfu-core", "sfu-node", "sfu-api", "signaling-server", "signaling-core", "signaling-api"]),
];

/// What tests may use beside that.
const TESTS_MAY_USE: &[(&str, &[&str])] =
    &[("fuzz-targets", &["turn-fuzz"]), ("sfu-core", &["sfu-sim"]), ("sluice", &["bench-load", "sfu-core", "sfu-sim", "signaling-core"])];

/// Crates without clock, sockets and threads, and the dependencies that would bring them in.
const SANS_IO: &[&str] = &["sfu-core", "sfu-api", "signaling-core", "signaling-api", "turn-proto"];
const IO_CRATES: &[&str] = &["tokio", "mio", "nix", "socket2", "quinn-udp", "libc", "axum", "hyper", "if-addrs", "polling", "rustix"];

/// A protocol or crypto crate, as code names it, and the folders that may.
const PROTOCOL_CRATES: &[(&str, &[&str])] = &[
    ("rtc_stun", &["sfu/core/src/transport/", "sfu/sim/", "turn-server/proto/tests/"]),
    ("rtc_dtls", &["sfu/core/src/transport/", "sfu/sim/"]),
    ("dimpl", &["sfu/core/src/transport/", "sfu/sim/"]),
    ("rtc_sctp", &["sfu/core/src/transport/", "sfu/sim/"]),
    ("rtc_datachannel", &["sfu/core/src/transport/", "sfu/sim/"]),
    ("rtc_srtp", &["sfu/core/src/transport/srtp/", "sfu/core/tests/", "sfu/sim/"]),
    ("rtc_sdp", &["sfu/core/src/negotiate/", "sfu/sim/"]),
    ("rtc_rtcp", &["sfu/core/src/rtp/", TWCC_TESTS, "sfu/sim/"]),
    ("rtc_rtp", &["sfu/core/src/rtp/", "sfu/sim/"]),
    ("rtc_shared", &["sfu/core/src/transport/", "sfu/core/src/negotiate/", "sfu/core/src/rtp/", TWCC_TESTS, "sfu/core/tests/", "sfu/sim/"]),
    (
        "aws_lc_rs",
        &[
            "src/doctor/http.rs",
            "benches/micro/",
            "sfu/core/src/transport/",
            "sfu/node/tests/",
            "sfu/sim/",
            "signaling/server/tests/server/tls.rs",
            "turn-server/server/",
        ],
    ),
    ("livekit_protocol", &["signaling/core/", "signaling/server/", "sfu/fuzz/", "benches/load/"]),
    ("jsonwebtoken", &["signaling/server/"]),
    ("axum", &["signaling/server/"]),
    (
        "rustls",
        &[
            "turn-server/server/",
            "signaling/server/src/shared.rs",
            "signaling/server/tests/server/tls.rs",
            "src/doctor/http.rs",
            "src/certificates.rs",
        ],
    ),
];

/// Its tests read our feedback back with the library's parser.
const TWCC_TESTS: &str = "sfu/core/src/publish/twcc.rs";

/// Files that may hold unsafe code, each small, with a `// SAFETY:` line per block.
const UNSAFE_FILES: &[&str] = &[];

#[test]
fn workspace_crates_depend_downwards_only() {
    let mut violations = Vec::new();
    for package in packages() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            violations.push(format!("{} is in no layer: add it to MAY_USE in tests/layers.rs and to ARCHITECTURE.md", package.name));
            continue;
        };
        let tests_allowed = TESTS_MAY_USE.iter().find(|(name, _)| *name == package.name).map_or(&[][..], |(_, crates)| crates);
        for (dependency, is_for_tests) in package.workspace_dependencies {
            let is_allowed = allowed.contains(&dependency.as_str()) || (is_for_tests && tests_allowed.contains(&dependency.as_str()));
            if !is_allowed {
                violations.push(format!("{} uses {dependency}: arrows point down only (ARCHITECTURE.md, layers)", package.name));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn sans_io_crates_have_no_io_dependency() {
    let mut violations = Vec::new();
    for package in packages().into_iter().filter(|package| SANS_IO.contains(&package.name.as_str())) {
        for dependency in package.dependencies.iter().filter(|name| IO_CRATES.contains(&name.as_str())) {
            violations.push(format!("{} depends on {dependency}: it takes bytes and `now` and returns values", package.name));
        }
    }
    assert_none(&violations);
}

#[test]
fn protocol_crates_are_named_in_their_folders_only() {
    let mut violations = Vec::new();
    for (path, text) in sources() {
        for (number, line) in code_lines(&text) {
            for (name, folders) in PROTOCOL_CRATES {
                if names(&line, name) && !folders.iter().any(|folder| path.starts_with(folder)) {
                    violations.push(format!(
                        "{path}:{number}: names {name}, which belongs to {}: one place knows one protocol",
                        folders.join(", ")
                    ));
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let mut violations = Vec::new();
    for package in packages() {
        let manifest = fs::read_to_string(&package.manifest).unwrap();
        let table: toml::Table = manifest.parse().unwrap();
        let inherits = table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true);
        if !inherits {
            violations.push(format!("{}: without `[lints] workspace = true` unsafe code is not forbidden", package.name));
        }
    }
    assert_none(&violations);
}

#[test]
fn unsafe_code_is_in_the_listed_files_only() {
    let mut violations = Vec::new();
    for (path, text) in sources() {
        let has_unsafe = code_lines(&text).any(|(_, line)| names(&line, "unsafe"));
        match (has_unsafe, UNSAFE_FILES.contains(&path.as_str())) {
            (true, false) => violations.push(format!("{path}: unsafe code; use a safe library or list the file in tests/layers.rs")),
            (false, true) => violations.push(format!("{path}: is listed as unsafe and is not; take it off the list")),
            _ => {}
        }
    }
    assert_none(&violations);
}

#[test]
fn the_search_reads_code_and_not_comments_or_texts() {
    let names_in = |text: &str| code_lines(text).filter(|(_, line)| names(line, "dimpl")).map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(names_in("use dimpl::Dtls;\nlet x = ::dimpl::new();\ndimpl"), [1, 2, 3]);
    assert_eq!(names_in("// dimpl\n//! dimpl\nlet a = 1; // dimpl\nlet s = \"dimpl\";\nmod dimpl_server;\nundimpl()"), [0; 0]);
}

/// A workspace crate as Cargo knows it.
struct Package {
    name: String,
    manifest: PathBuf,
    /// Name, and whether only tests use it.
    workspace_dependencies: BTreeSet<(String, bool)>,
    /// All that are not only for tests.
    dependencies: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies: BTreeSet<(String, bool)> = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dependency| (dependency["name"].as_str().unwrap().to_owned(), dependency["kind"] == "dev"))
                .collect();
            Package {
                name: package["name"].as_str().unwrap().to_owned(),
                manifest: package["manifest_path"].as_str().unwrap().into(),
                workspace_dependencies: dependencies.iter().filter(|(name, _)| names.contains(name.as_str())).cloned().collect(),
                dependencies: dependencies.iter().filter(|(_, is_for_tests)| !is_for_tests).map(|(name, _)| name.clone()).collect(),
            }
        })
        .collect()
}

/// Every Rust file of the workspace: path from the root with `/`, and text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["src", "sfu", "signaling", "turn-server", "benches", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 10, "the search for sources is broken");
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let is_foreign = path.file_name().is_some_and(|name| name == "node_modules" || name == "target");
            if !is_foreign {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests/layers.rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push((relative, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Numbered lines without comments and without what stands in quotes.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let without_quotes = |line: &str| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let without_comment = |line: String| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().enumerate().map(move |(index, line)| (index + 1, without_comment(without_quotes(line))))
}

/// Does this line of code hold `name` as a word of its own?
fn names(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
