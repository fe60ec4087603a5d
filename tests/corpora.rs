//! The committed corpora of the fuzzers through their bodies: what was found once stays repaired, on stable Rust and
//! without a fuzzer. `fuzz/README.md` tells how the corpora grow.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// So that a clone stays small, and this test short.
const MOST_FILES: usize = 100;
const MOST_BYTES: usize = 2048;

/// Every fuzzer; a folder of the same name is in `fuzz/corpus`, and a file in `fuzz/fuzz_targets`.
const TARGETS: [(&str, fn(&[u8])); 6] = [
    ("frame_reader", bodies::frame_reader),
    ("producer_script", bodies::producer_script),
    ("record_batch_decode", bodies::record_batch_decode),
    ("record_batch_roundtrip", bodies::record_batch_roundtrip),
    ("request_decode", bodies::request_decode),
    ("response_decode", bodies::response_decode),
];

#[test]
fn every_input_of_the_corpora_passes() {
    let mut failed = Vec::new();
    for (target, body) in TARGETS {
        for path in corpus(target) {
            let input = fs::read(&path).expect("the corpora can be read");
            if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}: a fuzzer says more, see fuzz/README.md");
}

#[test]
fn every_fuzzer_has_a_small_corpus() {
    for (target, _) in TARGETS {
        let files = corpus(target);
        assert!((5..=MOST_FILES).contains(&files.len()), "{target} has {} files", files.len());
        for path in files {
            let bytes = fs::metadata(&path).expect("the corpora can be read").len();
            assert!(bytes <= MOST_BYTES as u64, "{} has {bytes} bytes", path.display());
        }
    }
}

#[test]
fn every_fuzzer_is_replayed_here() {
    let mut known: Vec<_> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    let mut targets: Vec<_> = files(&fuzz().join("fuzz_targets")).iter().map(|path| stem(path)).collect();
    let mut corpora: Vec<_> = files(&fuzz().join("corpus")).iter().map(|path| stem(path)).collect();
    known.sort();
    targets.sort();
    corpora.sort();
    assert_eq!(targets, known);
    assert_eq!(corpora, known);
}

fn corpus(target: &str) -> Vec<PathBuf> {
    files(&fuzz().join("corpus").join(target))
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("folders of fuzz can be read").path()).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
