//! The shape of the source, kept by tests: which module may name which, that no files go in circles, where threads and
//! clocks are, how long a file gets, and that the map in CONTRIBUTING.md is true. CONTRIBUTING.md has the picture.
//!
//! It reads text, so it sees what is written and not what a macro makes of it. Comments, literals and whatever is
//! behind `#[cfg(test)]` do not count.

#[path = "architecture/circles.rs"]
mod circles;

use std::fs;
use std::path::Path;

use circles::public_uses;

/// For each module at the top of `src`, what it may name besides itself: the layers below it.
const LAYERS: [(&str, &[&str]); 18] = [
    (
        "client",
        &["producer", "threads", "engine", "net", "wire", "record", "message", "error", "config", "fate", "deadline"],
    ),
    (
        "producer",
        &[
            "client",
            "threads",
            "engine",
            "queue",
            "net",
            "wire",
            "record",
            "message",
            "error",
            "config",
            "fate",
            "sync",
            "partitioner",
            "deadline",
            "ids",
        ],
    ),
    (
        "threads",
        &[
            "engine",
            "queue",
            "net",
            "wire",
            "record",
            "message",
            "error",
            "config",
            "fate",
            "sync",
            "partitioner",
            "deadline",
            "ids",
        ],
    ),
    ("engine", &["queue", "wire", "record", "message", "error", "config", "fate", "partitioner", "deadline", "ids"]),
    ("queue", &["record", "message", "error", "config", "fate", "partitioner", "deadline", "ids", "sync"]),
    ("net", &["wire", "record", "message", "error", "config", "fate"]),
    ("wire", &["message", "error", "config", "fate"]),
    ("record", &["message", "error", "config", "fate"]),
    // Plain data, used by all. A partitioner is an option, so `config` names its type.
    ("message", &["error", "config", "fate"]),
    ("error", &["message", "config", "fate"]),
    ("config", &["message", "error", "fate", "partitioner", "crypto"]),
    ("partitioner", &["ids"]),
    ("deadline", &[]),
    ("ids", &[]),
    ("fate", &["message", "error", "config", "sync"]),
    // Names for what others made.
    ("sync", &[]),
    ("crypto", &[]),
    // Judges the client, so it shares nothing with it that could be wrong in both.
    ("testing", &["wire", "record", "message", "error", "crypto"]),
];

/// Where the crate that knows Kafka's messages may be named.
const PROTOCOL: [&str; 2] = ["wire", "testing"];

/// Where threads start, wait, and look at the clock. clippy.toml forbids the same by type; this also covers modules
/// that `expect` the lint.
const TIME: [&str; 4] = ["threads", "sync", "net", "testing"];
const TIME_CALLS: [&str; 8] = [
    "Instant::now",
    "SystemTime::now",
    ".elapsed(",
    "thread::spawn",
    "thread::scope",
    "thread::sleep",
    "thread::Builder",
    "park_timeout",
];

/// Lines of code in a file, without tests, comments and empty lines.
const MAX_LINES: usize = 500;

#[test]
fn arrows_between_modules_point_down() {
    assert_none(&arrows_up(&Tree::of_this_crate()));
}

#[test]
fn every_module_has_a_layer() {
    assert_none(&without_layer(&Tree::of_this_crate()));
}

#[test]
fn only_wire_and_testing_name_kafka_protocol() {
    assert_none(&naming_kafka_protocol(&Tree::of_this_crate()));
}

#[test]
fn only_threads_sync_net_and_testing_start_threads_or_read_clocks() {
    assert_none(&using_time(&Tree::of_this_crate()));
}

const WALL_CLOCKS: [&str; 2] = ["SystemTime::now", "clock_gettime"];

#[test]
fn one_function_reads_the_wall_clock_and_its_time_goes_into_messages_only() {
    let tree = Tree::of_this_crate();
    let reading = tree.sources.iter().filter(|source| source.layer() != "testing");
    let reading: Vec<&str> = reading
        .filter(|source| WALL_CLOCKS.iter().any(|clock| source.code.contains(clock)))
        .map(|source| &*source.path)
        .collect();
    assert_eq!(reading, ["src/threads/clock.rs"]);
    // Whoever calls it, for a message without a time: nobody could compute a deadline from it.
    let using = tree.sources.iter().filter(|source| source.code.contains("clock::timestamp"));
    for source in using {
        for at in occurrences(&source.code, "clock::timestamp") {
            let before = &source.code[..at];
            let asks = ["Prepared::new(message, self.producer.max_message_bytes, ", "gate.offer(message, "];
            let for_a_message = asks.iter().any(|ask| before.ends_with(ask));
            assert!(for_a_message, "{}: for a message without a time only", source.path);
        }
    }
}

#[test]
fn no_file_is_longer_than_one_idea() {
    assert_none(&too_long(&Tree::of_this_crate()));
}

#[test]
fn names_are_handed_on_one_by_one() {
    assert_none(&handing_on_all(&Tree::of_this_crate()));
}

#[test]
fn every_kind_of_error_is_made_somewhere() {
    assert_none(&never_made(&Tree::of_this_crate()));
}

#[test]
fn the_file_map_of_contributing_names_only_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).expect("CONTRIBUTING.md can be read");
    assert_none(&missing_from_disk(&text, |path| root.join(path).exists()));
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

// The rules: each gives what breaks it, one line each.

fn arrows_up(tree: &Tree) -> Vec<String> {
    let mut up = Vec::new();
    for source in tree.below_root() {
        let from = source.layer();
        let Some((_, lower)) = LAYERS.iter().find(|(name, _)| *name == from) else { continue };
        for path in source.named_paths() {
            let path = tree.without_reexport(path);
            let full = path.join("::");
            let may = path[0] == from
                || lower.iter().any(|low| full == *low || full.strip_prefix(low).is_some_and(|s| s.starts_with("::")));
            if !may {
                up.push(format!("{} names {full}, but {from} may name only {}", source.path, lower.join(", ")));
            }
        }
    }
    up
}

fn without_layer(tree: &Tree) -> Vec<String> {
    let unknown = tree.below_root().filter(|source| LAYERS.iter().all(|(name, _)| *name != source.layer()));
    unknown.map(|source| format!("{} has no layer: give {} one here", source.path, source.layer())).collect()
}

fn naming_kafka_protocol(tree: &Tree) -> Vec<String> {
    let elsewhere = tree.sources.iter().filter(|source| !PROTOCOL.contains(&source.layer()));
    elsewhere
        .filter(|source| source.code.contains("kafka_protocol"))
        .map(|source| format!("{} names kafka_protocol: that is for wire and testing", source.path))
        .collect()
}

fn using_time(tree: &Tree) -> Vec<String> {
    let mut using = Vec::new();
    for source in tree.sources.iter().filter(|source| !TIME.contains(&source.layer())) {
        for call in TIME_CALLS.iter().filter(|call| source.code.contains(**call)) {
            using.push(format!("{} has {call}: take the time as an argument, or move it to threads", source.path));
        }
    }
    using
}

fn too_long(tree: &Tree) -> Vec<String> {
    let lengths = tree.sources.iter().map(|source| (source, source.lines_of_code()));
    lengths
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(source, lines)| format!("{} has {lines} lines of code, above {MAX_LINES}: split it", source.path))
        .collect()
}

/// Or a name would be public because it is there. The other rules, too, look for each name.
fn handing_on_all(tree: &Tree) -> Vec<String> {
    let all = |source: &&Source| public_uses(&source.code).into_iter().any(|at| source.code[at].contains('*'));
    tree.sources
        .iter()
        .filter(all)
        .map(|source| format!("{} hands on `*`: name what it hands on", source.path))
        .collect()
}

/// Variants of public enums that no other file of `src` names. Their own file has the texts, and makes none.
fn never_made(tree: &Tree) -> Vec<String> {
    let errors = tree.sources.iter().filter(|source| source.layer() == "error" || source.path == REPORTS);
    let mut never = Vec::new();
    for source in errors {
        for variant in source.variants() {
            let mut others = tree.sources.iter().filter(|other| other.path != source.path);
            if !others.any(|other| has_word(&other.code, &variant)) {
                never.push(format!("{} has {variant}, which nothing makes: remove it, or make it", source.path));
            }
        }
    }
    never
}

/// What the producers' calls answer.
const REPORTS: &str = "src/producer/report.rs";

/// Paths in the section "File map" that `exists` denies, and a line if there is no map.
fn missing_from_disk(contributing: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let map = contributing.split("\n## ").find(|section| section.starts_with("File map")).unwrap_or_default();
    // Every second piece is between backticks.
    let paths: Vec<&str> = map.split('`').skip(1).step_by(2).filter(|code| code.contains(['/', '.'])).collect();
    if paths.is_empty() {
        return vec!["CONTRIBUTING.md has no section \"File map\" that names files".into()];
    }
    let missing = paths.into_iter().filter(|path| !exists(path));
    missing.map(|path| format!("CONTRIBUTING.md names {path}, which does not exist")).collect()
}

// Reading sources.

/// All sources of a crate, without its tests.
struct Tree {
    sources: Vec<Source>,
}

struct Source {
    /// From the crate's root, with slashes.
    path: String,
    /// The text with comments, literals and tests blanked; lines are kept.
    code: String,
}

impl Tree {
    fn of_this_crate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        read_folder(&root.join("src"), "src", &mut files);
        assert!(files.len() > 30, "only {} sources found", files.len());
        Self::new(files)
    }

    fn new(files: Vec<(String, String)>) -> Self {
        let mut tests = Vec::new();
        let mut sources = Vec::new();
        for (path, text) in files {
            let (code, test_modules) = without_tests(&blank_comments_and_literals(&text));
            let source = Source { path, code };
            for name in test_modules {
                let mut module = source.module();
                module.push(name);
                tests.push(module);
            }
            sources.push(source);
        }
        sources.retain(|source| !tests.iter().any(|test| source.module().starts_with(test)));
        Self { sources }
    }

    /// All sources but the crate's root, which may name everything.
    fn below_root(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| !source.module().is_empty())
    }

    /// `Topic` of `crate::Topic` is `message::Topic`, because lib.rs says so.
    fn without_reexport(&self, path: Vec<String>) -> Vec<String> {
        if path[0].starts_with(char::is_lowercase) {
            return path;
        }
        let root = self.sources.iter().filter(|source| source.module().is_empty());
        root.flat_map(Source::reexports).find(|export| export.last() == path.first()).unwrap_or(path)
    }
}

impl Source {
    /// `["engine", "queue"]` for `src/engine/queue.rs`; empty for `src/lib.rs`.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
    }

    /// The module at the top of `src` that it belongs to; `lib` for the root.
    fn layer(&self) -> &str {
        let path = self.path.trim_start_matches("src/");
        path.split(['/', '.']).next().unwrap_or(path)
    }

    /// Every path that it names from the crate's root, by `crate::`, or by `super::` that leads there.
    fn named_paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for at in occurrences(&self.code, "crate::") {
            leaves(&self.code[at + "crate::".len()..], &[], &mut paths);
        }
        for at in occurrences(&self.code, "super::") {
            let mut rest = &self.code[at..];
            let mut module = self.module();
            while let Some(above) = rest.strip_prefix("super::") {
                module.pop();
                rest = above;
            }
            // Inside an inline module it leads less far up than it seems, and then it names no layer.
            let mut named = Vec::new();
            leaves(rest, &module, &mut named);
            paths.extend(named.into_iter().filter(|path| LAYERS.iter().any(|(name, _)| *name == path[0])));
        }
        paths
    }

    /// What `pub use` lines name.
    fn reexports(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for at in occurrences(&self.code, "pub use ") {
            leaves(&self.code[at + "pub use ".len()..], &[], &mut paths);
        }
        paths
    }

    /// `Enum::Variant` for each of its public enums.
    fn variants(&self) -> Vec<String> {
        let mut variants = Vec::new();
        for at in occurrences(&self.code, "pub enum ") {
            let declaration = &self.code[at + "pub enum ".len()..];
            let name = declaration.split_whitespace().next().unwrap_or_default();
            let body = declaration.split("\n}").next().unwrap_or_default();
            // One level deep; fields are deeper.
            let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
            let begins = lines.filter(|line| line.starts_with(char::is_uppercase));
            variants.extend(
                begins.map(|line| format!("{name}::{}", line.split(|c| !is_in_word(c)).next().unwrap_or(line))),
            );
        }
        variants
    }

    fn lines_of_code(&self) -> usize {
        self.code.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

fn read_folder(folder: &Path, name: &str, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(folder).expect("folders of src can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("folders of src can be read").path()).collect();
    paths.sort();
    for path in paths {
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}/{last}");
        if path.is_dir() {
            read_folder(&path, &name, files);
        } else if name.ends_with(".rs") {
            files.push((name, fs::read_to_string(&path).expect("sources are UTF-8")));
        }
    }
}

/// Where `what` begins in `code`, as words of its own and not as the end of a longer path.
fn occurrences(code: &str, what: &str) -> Vec<usize> {
    let begins = |at: &usize| !code[..*at].ends_with(|c: char| is_in_word(c) || c == ':');
    code.match_indices(what).map(|(at, _)| at).filter(begins).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let apart = |at: usize| !code[..at].ends_with(is_in_word) && !code[at + word.len()..].starts_with(is_in_word);
    code.match_indices(word).any(|(at, _)| apart(at))
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All paths of a use tree, or of a path in an expression, each with `prefix` before it. Returns what follows.
fn leaves<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => rest = leaves(rest, prefix, paths).trim_start_matches(|c| !matches!(c, ',' | '}')),
            }
        }
    }
    let end = text.find(|c| !is_in_word(c) && c != '*').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = prefix.to_vec();
    if !matches!(name, "" | "self") {
        path.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c| is_in_word(c) || c == '{' || c == '*') => leaves(more, &path, paths),
        _ => {
            if !path.is_empty() {
                paths.push(path);
            }
            rest
        }
    }
}

/// The same lines, with spaces for comments and quotes for literals.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, with) = match chars[at..] {
            ['/', '/', ..] => (find(&chars, at, &['\n']).unwrap_or(chars.len()), ' '),
            ['/', '*', ..] => (end_of_block_comment(&chars, at), ' '),
            ['r' | '"', ..] if at == 0 || chars[at] == '"' || !is_in_word(chars[at - 1]) || chars[at - 1] == 'b' => {
                (end_of_string(&chars, at), '"')
            }
            ['\'', '\\', _, ..] => (find(&chars, at + 3, &['\'']).map_or(chars.len(), |end| end + 1), '"'),
            ['\'', _, '\'', ..] => (at + 3, '"'),
            _ => (at, ' '),
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { c } else { with }));
            at = end;
        }
    }
    code
}

/// Where the string that begins here ends; `at` itself if none does.
fn end_of_string(chars: &[char], at: usize) -> usize {
    let raw = chars[at] == 'r';
    let hashes = chars[at + usize::from(raw)..].iter().take_while(|&&c| raw && c == '#').count();
    let open = at + usize::from(raw) + hashes;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let mut here = open + 1;
    while here < chars.len() {
        if !raw && chars[here] == '\\' {
            here += 2;
        } else if chars[here..].starts_with(&close) {
            return here + close.len();
        } else {
            here += 1;
        }
    }
    chars.len()
}

fn end_of_block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut here) = (0, at);
    while here < chars.len() {
        match chars[here..] {
            ['/', '*', ..] => (depth, here) = (depth + 1, here + 2),
            ['*', '/', ..] => (depth, here) = (depth - 1, here + 2),
            _ => here += 1,
        }
        if depth == 0 {
            break;
        }
    }
    here
}

fn find(chars: &[char], from: usize, what: &[char]) -> Option<usize> {
    (from..chars.len()).find(|&at| chars[at..].starts_with(what))
}

/// Blanks every item behind `#[cfg(test)]`, or behind that and more, and names those that are modules in a file of
/// their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    const TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test, "];
    let mut kept = String::with_capacity(code.len());
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some(at) = TESTS.iter().filter_map(|test| rest.find(test)).min() {
        let (before, item) = rest.split_at(at);
        let end = end_of_item(item);
        let words: Vec<&str> = item[..end].split_whitespace().collect();
        if let [.., "mod", name] = words[..] {
            modules.extend(name.strip_suffix(';').map(str::to_owned));
        }
        kept.push_str(before);
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    (kept, modules)
}

/// Where an item with its attributes ends: behind a semicolon or a closing brace that is in no other bracket.
fn end_of_item(item: &str) -> usize {
    let mut depth = 0;
    let mut is_use = false;
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        is_use |= depth == 0 && item[at..].starts_with("use ");
        if depth == 0 && (c == ';' || c == '}' && !is_use) {
            return at + 1;
        }
    }
    item.len()
}

/// The rules on made-up sources: what they must find, and what they must leave alone.
mod tests {
    use super::*;

    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::new(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn arrows(path: &str, text: &str) -> Vec<String> {
        let root =
            ("src/lib.rs", "pub use {error::{ConfigError, Other}, partitioner::Partitioner};\nuse producer::Producer;");
        arrows_up(&tree(&[root, (path, text)]))
    }

    #[test]
    fn an_arrow_up_is_found_in_every_spelling() {
        for text in [
            "use crate::net::Net;",
            "use crate::net;",
            "use crate::{wire, threads::gate::Gate};",
            "use crate::{\n    error::A,\n    wire::{B, self},\n    threads::{clock},\n};",
            "use crate::threads::{self};",
            "pub(crate) use crate::producer::Producer as P;",
            "fn f() { let x = crate::net::Net::new(); }",
            "fn f(gate: &crate::threads::producer::gate::Gate) {}",
            "use super::super::net::Net;",
            "use super::super::{record, net::Net};",
            "impl X for Vec<crate::net::Net> {}",
            "macro_rules! m { () => { $crate::net::Net } }",
            "#[cfg(test)]\nuse crate::wire::{A, B};\nuse crate::net::Net;",
            "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::net::Net;",
            "#[cfg(not(test))]\nuse crate::net::Net;",
            "#[cfg(not(all(test, shuttle)))]\nuse crate::net::Net;",
        ] {
            let found = arrows("src/engine/queue.rs", text);
            assert_eq!(found.len(), 1, "{text}\n{found:?}");
        }
    }

    #[test]
    fn what_points_down_or_is_no_arrow_is_left_alone() {
        for text in [
            "use crate::queue::chunk::Chunk;\nuse crate::wire::Api;\nuse crate::record::{batch, tail};",
            "use super::producer::ProducerEngine;\nuse super::net::Net;",
            "// use crate::net::Net;\n/* crate::net /* */ crate::net */\n//! [`crate::threads::producer::gate`]",
            "const A: &str = \"\\\"use crate::net::Net;\"; const B: &str = r#\"\"crate::net\"#;",
            "fn f<'a>(x: &'a str) -> char { '\"' }\n#[cfg(test)]\nmod tests {\n    use crate::net::Net;\n}",
            "#[cfg(test)]\n#[expect(dead_code, reason = \"}\")]\npub(crate) fn f() -> [u8; 2] { crate::net::f() }",
            "#[cfg(test)]\nuse crate::net::{Net, Event};",
            "#[cfg(all(test, shuttle))]\nuse crate::net::Net;",
            "use other_crate::net::Net;\npub(in crate::engine) fn f() {}",
            "use crate::ConfigError;\nuse crate::Partitioner;",
        ] {
            assert_eq!(arrows("src/engine/queue.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_layer_has_its_own_arrows() {
        for (path, text, violations) in [
            ("src/client.rs", "use crate::producer::Producer;", 0),
            ("src/producer/mod.rs", "use crate::threads::producer::gate::Gate; use crate::client::Client;", 0),
            ("src/threads/driver.rs", "use crate::queue; use crate::net::Net;", 0),
            ("src/threads/mod.rs", "use crate::producer::Producer;", 1),
            ("src/threads/mod.rs", "use crate::client::Client; use super::testing::Cluster;", 2),
            ("src/net/mod.rs", "use crate::deadline::Deadline; use crate::threads::clock;", 2),
            ("src/net/mod.rs", "use crate::wire::Frame; use crate::config::BrokerAddress;", 0),
            ("src/wire/mod.rs", "use crate::engine::cluster::link::Link;", 1),
            ("src/wire/mod.rs", "use crate::record::batch; use crate::error::ApiRange;", 1),
            ("src/record/mod.rs", "use crate::wire::Api;", 1),
            ("src/message.rs", "use crate::error::InvalidTopic; use crate::record::tail;", 1),
            ("src/config.rs", "partitioner: crate::partitioner::Partitioner,", 0),
            ("src/config.rs", "partitioner: crate::Partitioner,", 0),
            ("src/config.rs", "use crate::partitioner_table; use crate::engine;", 2),
            ("src/testing/mod.rs", "use crate::wire::Api; use crate::record::tail; use crate::message::Message;", 0),
            ("src/testing/mod.rs", "use crate::engine::backoff; use crate::net; use crate::threads::clock;", 3),
            ("src/testing/mod.rs", "use crate::{client::Client, producer::Producer, Partitioner};", 3),
        ] {
            let found = arrows(path, text);
            assert_eq!(found.len(), violations, "{path}: {text}\n{found:?}");
        }
    }

    #[test]
    fn a_name_that_the_root_does_not_export_is_found() {
        assert_eq!(
            arrows("src/record/mod.rs", "use crate::Unknown;"),
            ["src/record/mod.rs names Unknown, but record may name only message, error, config, fate"]
        );
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        let tree = tree(&[("src/lib.rs", ""), ("src/net/mod.rs", ""), ("src/helpers.rs", ""), ("src/net/a.rs", "")]);
        assert_eq!(without_layer(&tree), ["src/helpers.rs has no layer: give helpers one here"]);
    }

    #[test]
    fn kafka_protocol_is_found_outside_wire_and_testing() {
        let name = "use kafka_protocol::messages::ApiKey;";
        let tree = tree(&[
            ("src/wire/mod.rs", name),
            ("src/testing/api.rs", name),
            ("src/record/mod.rs", "// kafka_protocol\n#[cfg(test)]\nmod tests { use kafka_protocol::records; }"),
            ("src/engine/mod.rs", "fn f() { kafka_protocol::f() }"),
            ("src/lib.rs", name),
        ]);
        let found = naming_kafka_protocol(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("src/engine/mod.rs ") && found[1].starts_with("src/lib.rs "), "{found:?}");
    }

    #[test]
    fn clocks_and_threads_are_found_outside_their_places() {
        for call in ["Instant::now()", "std::time::SystemTime::now()", "thread::sleep(x)", "std::thread::spawn(f)"] {
            let text = format!("fn f() {{ {call}; }}");
            let tree = tree(&[
                ("src/threads/clock.rs", &text),
                ("src/net/mod.rs", &text),
                ("src/testing/server.rs", &text),
                ("src/engine/mod.rs", &format!("/// {call}\n#[cfg(test)]\npub(crate) fn test_clock() {{ {call} }}")),
                ("src/producer/mod.rs", &text),
            ]);
            let found = using_time(&tree);
            assert_eq!(found.len(), 1, "{call}: {found:?}");
            assert!(found[0].starts_with("src/producer/mod.rs has "), "{found:?}");
        }
    }

    #[test]
    fn only_code_counts_as_length() {
        let longest = "fn f() {}\n".repeat(MAX_LINES);
        let with_rest = format!("//! a\n\n{longest}/// b\n/*\nc\n*/\n#[cfg(test)]\nmod tests {{\n{longest}}}\n");
        assert_eq!(too_long(&tree(&[("src/a.rs", &with_rest)])), [""; 0]);
        let found = too_long(&tree(&[("src/a.rs", &format!("{longest}fn g() {{}}"))]));
        assert_eq!(found, ["src/a.rs has 501 lines of code, above 500: split it"]);
        let lines = "const A: &str = \"\n".to_owned() + &"a\n".repeat(MAX_LINES) + "\";";
        assert_eq!(too_long(&tree(&[("src/a.rs", &lines)])).len(), 1);
    }

    #[test]
    fn a_test_module_in_files_of_its_own_does_not_count() {
        let up = "use crate::producer::Producer; use kafka_protocol::A;";
        let tree = tree(&[
            (
                "src/net/mod.rs",
                "#[cfg(test)]\npub(crate) mod tests;\n#[cfg(all(test, shuttle))]\nmod model;\nmod inbox;",
            ),
            ("src/net/tests.rs", up),
            ("src/net/model.rs", up),
            ("src/net/tests/more.rs", up),
            ("src/net/receive_buffer.rs", up),
            ("src/wire.rs", "#[cfg(test)] mod oracle;"),
            ("src/wire/oracle.rs", up),
        ]);
        let left: Vec<&str> = tree.sources.iter().map(|source| source.path.as_str()).collect();
        assert_eq!(left, ["src/net/mod.rs", "src/net/receive_buffer.rs", "src/wire.rs"]);
        assert_eq!((arrows_up(&tree).len(), naming_kafka_protocol(&tree).len()), (1, 1));
    }

    #[test]
    fn a_module_that_hands_on_all_of_another_is_found() {
        let tree = tree(&[
            ("src/lib.rs", "pub use error::{A, B};\n// pub use error::*;\nuse net::*;\npub fn f() -> i32 { 2 * 3 }"),
            ("src/error/mod.rs", "pub(crate) use check::*;"),
        ]);
        assert_eq!(handing_on_all(&tree), ["src/error/mod.rs hands on `*`: name what it hands on"]);
    }

    #[test]
    fn a_kind_of_error_that_nothing_makes_is_found() {
        let tree = tree(&[
            (
                "src/error/mod.rs",
                "pub enum Kind {\n    /// One.\n    Made,\n    Seldom {\n        Why: i32,\n    },\n    Never(i32),\n    Longer,\n}\n\
                 impl Kind { fn f() { Kind::Never(1) } }",
            ),
            (
                "src/net/mod.rs",
                "fn f() { g(Kind::Made); error::Kind::Seldom { Why: 1 }; Kind::LongerOne; /* Kind::Never */ }",
            ),
        ]);
        let [never, longer] = never_made(&tree).try_into().unwrap_or_else(|found| panic!("{found:?}"));
        assert_eq!(never, "src/error/mod.rs has Kind::Never, which nothing makes: remove it, or make it");
        assert!(longer.contains("Kind::Longer,"), "{longer}");
    }

    #[test]
    fn a_file_that_is_gone_is_found_in_the_map() {
        let text =
            "# Title\n`not/here.rs`\n## File map\n| `src/a.rs` | `Word` |\n| `src/b.rs` | b |\n## End\n`c/d.rs`\n";
        let found = missing_from_disk(text, |path| path == "src/a.rs");
        assert_eq!(found, ["CONTRIBUTING.md names src/b.rs, which does not exist"]);
        assert_eq!(missing_from_disk("# Title\n", |_| true).len(), 1);
    }
}
