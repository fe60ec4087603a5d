//! The table of failures in tests/README.md names tests that exist, and leaves no failure out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Rows of the catalogue.
const ROWS: u32 = 108;
/// At most so many may wait for a part of ottla that is not there yet.
const LATER: usize = 7;

#[test]
fn every_failure_has_a_row_and_every_test_it_names_is_there() {
    let readme = read("tests/README.md");
    let (rows, mut problems) = rows(&readme);
    for number in 1..=ROWS {
        if !rows.contains_key(&number) {
            problems.push(format!("row {number} is missing"));
        }
    }
    let mut later = 0;
    for (number, shown_by) in &rows {
        if shown_by.starts_with("later: ") {
            later += 1;
            continue;
        }
        let named = tests(shown_by);
        if named.is_empty() {
            problems.push(format!("row {number} names no test: {shown_by}"));
        }
        problems.extend(named.iter().filter_map(|(file, test)| Some(format!("row {number}: {}", lack(file, test)?))));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(later <= LATER, "{later} rows are left for later");
    let told = format!("lists {ROWS} ways to fail with the tests for {} of them", rows.len() - later);
    assert!(read("README.md").replace('\n', " ").contains(&told), "README.md must say: {told}");
}

#[test]
fn the_check_bites() {
    let (rows, problems) = rows("| 7 | a | `x` |\n| 7 | b | `y` |\n| nine | c | d |\n| 12 | e | f | g |\n");
    assert_eq!(rows[&7], "`y`");
    assert_eq!(problems, ["row 7 stands there twice"]);
    assert_eq!(rows[&12], "f");
    let own = tests("[catalogue.rs](catalogue.rs) `the_check_bites`, `tells`; [x.rs](../src/x.rs) `y`");
    assert_eq!(own, [("catalogue.rs", "the_check_bites"), ("catalogue.rs", "tells"), ("../src/x.rs", "y")]);
    assert_eq!(lack("catalogue.rs", "the_check_bites"), None);
    assert_eq!(lack("catalogue.rs", "the_check").as_deref(), Some("tests/catalogue.rs has no test `the_check`"));
    assert_eq!(lack("no.rs", "y").as_deref(), Some("tests/no.rs is not there"));
}

/// The rows that begin with a number: their last column but what follows it.
fn rows(text: &str) -> (BTreeMap<u32, &str>, Vec<String>) {
    let (mut rows, mut problems) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        let mut columns = line.split('|').map(str::trim).skip(1);
        let (Some(number), Some(_), Some(shown_by)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        if rows.insert(number, shown_by).is_some() {
            problems.push(format!("row {number} stands there twice"));
        }
    }
    (rows, problems)
}

/// The tests that a row names, each with the file that was linked before it.
fn tests(shown_by: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for of_file in shown_by.split("](").skip(1) {
        let Some((file, rest)) = of_file.split_once(')') else { continue };
        found.extend(rest.split('`').skip(1).step_by(2).map(|test| (file, test)));
    }
    found
}

/// What is wrong with a named test.
fn lack(file: &str, test: &str) -> Option<String> {
    let path = format!("tests/{file}");
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).is_file() {
        return Some(format!("{path} is not there"));
    }
    let there = read(&path).contains(&format!("fn {test}("));
    (!there).then(|| format!("{path} has no test `{test}`"))
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
