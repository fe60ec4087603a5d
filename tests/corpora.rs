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

struct Fuzzer {
    /// That of a folder in `fuzz/corpus`, and of a file in `fuzz/fuzz_targets`.
    name: &'static str,
    body: fn(&[u8]),
}

const FUZZERS: [Fuzzer; 7] = [
    Fuzzer { name: "frame_reader", body: bodies::frame_reader },
    Fuzzer { name: "producer_script", body: bodies::producer_script },
    Fuzzer { name: "record_batch_decode", body: bodies::record_batch_decode },
    Fuzzer { name: "record_batch_roundtrip", body: bodies::record_batch_roundtrip },
    Fuzzer { name: "request_decode", body: bodies::request_decode },
    Fuzzer { name: "response_decode", body: bodies::response_decode },
    Fuzzer { name: "sasl_login", body: bodies::sasl_login },
];

#[test]
fn every_input_of_the_corpora_passes() {
    let mut failed = Vec::new();
    for Fuzzer { name, body } in FUZZERS {
        for path in corpus(name) {
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
    for Fuzzer { name, .. } in FUZZERS {
        let files = corpus(name);
        assert!((5..=MOST_FILES).contains(&files.len()), "{name} has {} files", files.len());
        for path in files {
            let bytes = fs::metadata(&path).expect("the corpora can be read").len();
            assert!(bytes <= MOST_BYTES as u64, "{} has {bytes} bytes", path.display());
        }
    }
}

#[test]
fn every_fuzzer_is_replayed_here() {
    let mut known: Vec<_> = FUZZERS.iter().map(|fuzzer| fuzzer.name.to_owned()).collect();
    let mut targets: Vec<_> = files(&fuzz().join("fuzz_targets")).iter().map(|path| stem(path)).collect();
    let mut corpora: Vec<_> = files(&fuzz().join("corpus")).iter().map(|path| stem(path)).collect();
    known.sort();
    targets.sort();
    corpora.sort();
    assert_eq!(targets, known);
    assert_eq!(corpora, known);
}

fn corpus(fuzzer: &str) -> Vec<PathBuf> {
    files(&fuzz().join("corpus").join(fuzzer))
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
