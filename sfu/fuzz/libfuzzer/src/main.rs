//! One binary for all targets: the variable FUZZ_TARGET names the one that runs.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let run = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        let target = fuzz_targets::target(&name).or_else(|| turn_fuzz::target(&name));
        target.unwrap_or_else(|| panic!("there is no target {name:?}"))
    });
    run(data);
});
