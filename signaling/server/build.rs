//! Makes Cargo look again when a web demo appears that a release build did not find the last time.
//!
//! Once its files are embedded, the compiler tracks them by itself; a folder that does not exist yet is tracked by nobody.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let index = "../../web-demo/dist/index.html";
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release && !Path::new(index).exists() {
        // a path that does not exist counts as changed until it does
        println!("cargo::rerun-if-changed={index}");
    }
}
