//! The bodies of the fuzz targets over the inputs that are kept: `fuzz/seeds`, which fuzzing starts from, and
//! `fuzz/crashes`, which once broke something and have names that say what.
//!
//! `cargo test --test fuzz_inputs -- --ignored` makes the seeds anew. What a long run found worth keeping has names of
//! libFuzzer's, and stays.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code)] // Names that only the fuzz workspace uses.
mod fuzz;
mod seeds;

/// Payloads are seeds of these as they are.
const OF_PAYLOADS: [&str; 3] = ["envelope", "cache", "worker_message"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

#[test]
fn kept_inputs_pass() {
    let mut failed = Vec::new();
    for (name, body) in fuzz::TARGETS {
        let own = ["seeds", "crashes"].map(|kind| files(&root().join("fuzz").join(kind).join(name))).concat();
        assert!(!own.is_empty() || OF_PAYLOADS.contains(&name), "{name} has no seeds");
        let payloads =
            ["", "edge", "bad"].map(|folder| files(&root().join("tests/corpus").join(folder))).concat();
        let shared = if OF_PAYLOADS.contains(&name) { payloads } else { Vec::new() };
        for path in own.into_iter().chain(shared) {
            let bytes = fs::read(&path).expect("a file");
            if std::panic::catch_unwind(|| body(&bytes)).is_err() {
                failed.push((name, path));
            }
        }
    }
    assert!(failed.is_empty(), "these break their target: {failed:#?}");
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn make_seeds() {
    for (target, name, bytes) in seeds::all() {
        assert!(fuzz::TARGETS.iter().any(|(known, _)| *known == target), "{target} is no target");
        let folder = root().join("fuzz/seeds").join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a file");
    }
}
