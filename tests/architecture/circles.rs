//! No circles between files: none names another that names it back, directly or over others. What is in a circle can
//! only be read, tested and moved as a whole.
//!
//! A `mod.rs` names its children by what it does with them: to declare them and to hand their names on (`pub use`) does
//! not count, and who takes such a name from the `mod.rs` names the child. A child that names an item of its `mod.rs`
//! names the `mod.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::tests::tree;
use super::{Source, Tree, assert_none, is_in_word, leaves, occurrences};

#[test]
fn no_file_names_one_that_names_it_back() {
    assert_none(&in_circles(&Tree::of_this_crate()));
}

/// The circles between files, in words.
fn in_circles(tree: &Tree) -> Vec<String> {
    let names = Names::of(tree);
    let arrows: Arrows = names.sources.iter().map(|(file, source)| (file.clone(), names.named_by(source))).collect();
    // Each once, from the first of its files.
    let circles: BTreeMap<BTreeSet<&str>, Vec<&str>> = arrows
        .keys()
        .rev()
        .filter_map(|file| shortest_circle(file, &arrows))
        .map(|circle| (circle.iter().copied().collect(), circle))
        .collect();
    circles.values().map(|circle| in_words(circle, &arrows)).collect()
}

fn in_words(circle: &[&str], arrows: &Arrows) -> String {
    let next = circle.iter().cycle().skip(1);
    let steps = circle.iter().zip(next).map(|(from, to)| format!("{from} names {}", arrows[*from][*to]));
    format!("a circle: {}", steps.collect::<Vec<_>>().join(", "))
}

/// The fewest files that lead from this one back to it.
fn shortest_circle<'a>(file: &'a str, arrows: &'a Arrows) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([file]);
    while let Some(here) = queue.pop_front() {
        for next in arrows[here].keys().map(String::as_str) {
            if next == file {
                let back = std::iter::successors(Some(here), |here| came_from.get(here).copied());
                let mut circle: Vec<_> = back.collect();
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, here);
                queue.push_back(next);
            }
        }
    }
    None
}

/// For each file, the files that it names, each with the path by which it does. A file is its module: `queue::chunk`.
type Arrows = BTreeMap<String, BTreeMap<String, String>>;

/// The files, and what they hand on.
struct Names<'a> {
    sources: BTreeMap<String, &'a Source>,
    /// By the module and the name in it, as one path: where it comes from.
    handed_on: BTreeMap<String, Vec<String>>,
}

impl<'a> Names<'a> {
    fn of(tree: &'a Tree) -> Self {
        let sources = tree.sources.iter().map(|source| (source.module().join("::"), source)).collect();
        let mut names = Self { sources, handed_on: BTreeMap::new() };
        for source in &tree.sources {
            let module = source.module();
            for text in public_uses(&source.code).into_iter().map(|at| &source.code[at]) {
                for path in names.paths_in(text, &module) {
                    if let Some(last) = path.last() {
                        let name = [&module[..], std::slice::from_ref(last)].concat().join("::");
                        names.handed_on.insert(name, path);
                    }
                }
            }
        }
        // The root hands names on, and nobody names it for its own sake.
        names.sources.remove("");
        names
    }

    /// The other files that this one names.
    fn named_by(&self, source: &Source) -> BTreeMap<String, String> {
        let module = source.module();
        let this = module.join("::");
        let mut code = source.code.clone();
        for at in public_uses(&source.code) {
            code.replace_range(at.clone(), &" ".repeat(at.len()));
        }
        let mut named = BTreeMap::new();
        for begin in self.children(&module).into_iter().chain(["crate", "super", "self"].map(str::to_owned)) {
            for at in occurrences(&code, &format!("{begin}::")) {
                // `pub(in crate::wire)` says who may name it.
                if code[..at].ends_with("(in ") {
                    continue;
                }
                for path in self.paths_in(&code[at..], &module) {
                    let file = self.file_of(path.clone());
                    if file != this && self.sources.contains_key(&file) {
                        named.entry(file).or_insert(path.join("::"));
                    }
                }
            }
        }
        named
    }

    fn children(&self, module: &[String]) -> Vec<String> {
        let depth = module.len() + 1;
        let all = self.sources.keys().map(|file| file.split("::").collect::<Vec<_>>());
        let children = all.filter(|file| file.len() == depth && module.iter().zip(file).all(|(a, b)| a == b));
        children.filter_map(|file| file.last().map(|name| (*name).to_owned())).collect()
    }

    /// The paths that begin here, from the crate's root; none if they lead to another crate.
    fn paths_in(&self, text: &str, module: &[String]) -> Vec<Vec<String>> {
        let mut from = module.to_vec();
        let mut rest = text;
        if let Some(after) = rest.strip_prefix("crate::") {
            (from, rest) = (Vec::new(), after);
        } else if let Some(after) = rest.strip_prefix("self::") {
            rest = after;
        } else if rest.starts_with("super::") {
            while let Some(above) = rest.strip_prefix("super::") {
                from.pop();
                rest = above;
            }
        } else {
            let end = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
            let first = [&from[..], &[rest[..end].to_owned()]].concat().join("::");
            if !self.sources.contains_key(&first) {
                return Vec::new();
            }
        }
        let mut paths = Vec::new();
        leaves(rest, &from, &mut paths);
        paths
    }

    /// The file that has what a path leads to.
    fn file_of(&self, mut path: Vec<String>) -> String {
        // Names are not handed on by more than some modules.
        for _ in 0..10 {
            let module =
                (0..=path.len()).rev().map(|end| path[..end].join("::")).find(|it| self.sources.contains_key(it));
            let module = module.unwrap_or_default();
            let depth = if module.is_empty() { 0 } else { module.split("::").count() };
            if path.len() == depth {
                return module;
            }
            match self.handed_on.get(&path[..=depth].join("::")) {
                Some(target) if *target != path[..=depth] => path = [target, &path[depth + 1..]].concat(),
                _ => return module,
            }
        }
        path.join("::")
    }
}

/// Where the use trees of `pub use`, `pub(crate) use` and the like are.
pub fn public_uses(code: &str) -> Vec<Range<usize>> {
    let uses = occurrences(code, "use ").into_iter().filter(|at| {
        let before = code[..*at].trim_end();
        let visibility = before.rfind("pub").map_or("", |at| &before[at..]);
        visibility == "pub" || visibility.starts_with("pub(") && visibility.find(')') == Some(visibility.len() - 1)
    });
    let tree = |at: usize| at + "use ".len()..code[at..].find(';').map_or(code.len(), |end| at + end);
    uses.map(tree).collect()
}

/// The rule on made-up sources: what it must find, and what it must leave alone.
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let root = ("src/lib.rs", "mod a; mod b; mod room; pub use room::Room; pub use b::B;");
        in_circles(&tree(&[&[root], files].concat()))
    }

    #[test]
    fn a_circle_of_two_files_is_found_in_every_spelling() {
        for text in [
            "use crate::b::B;",
            "use crate::b;",
            "use super::b::{self, C};",
            "use crate::{c, b::B};",
            "fn f(b: &crate::b::B) {}",
            "fn f() { super::b::f() }",
            "pub(in crate::a) use crate::c::C; use crate::b::B;",
            "use crate::B;",
        ] {
            let found = circles(&[("src/a.rs", text), ("src/b.rs", "pub struct B; use crate::a::A;")]);
            assert_eq!(found.len(), 1, "{text}\n{found:?}");
            assert!(found[0].starts_with("a circle: a names "), "{found:?}");
            assert!(found[0].ends_with(", b names a::A"), "{found:?}");
        }
    }

    #[test]
    fn a_circle_over_others_is_found_once() {
        let found = circles(&[
            ("src/a.rs", "use crate::b::B;"),
            ("src/b.rs", "use crate::c::C;"),
            ("src/c.rs", "use crate::a::A; use crate::d::D;"),
            ("src/d.rs", ""),
        ]);
        assert_eq!(found, ["a circle: a names b::B, b names c::C, c names a::A"]);
    }

    #[test]
    fn a_child_that_names_an_item_of_its_mod_which_names_the_child_is_found() {
        for (parent, child) in [
            ("mod child; use child::Child;", "use super::Item;"),
            ("mod child; use self::child::Child;", "use crate::room::Item;"),
            ("mod child; fn f() { child::f() }", "fn g(item: super::Item) {}"),
        ] {
            let found = circles(&[("src/room/mod.rs", parent), ("src/room/child.rs", child)]);
            assert_eq!(found.len(), 1, "{parent} {child}\n{found:?}");
            assert!(found[0].starts_with("a circle: room names room::child::"), "{found:?}");
        }
    }

    #[test]
    fn who_takes_a_name_from_a_mod_that_hands_it_on_names_the_child_that_has_it() {
        let parent = ("src/room/mod.rs", "mod x;\nmod y;\npub use x::X;\npub(crate) use y::{Y, Z};");
        let found = circles(&[parent, ("src/room/x.rs", "use super::Y;"), ("src/room/y.rs", "use crate::room::X;")]);
        assert_eq!(found, ["a circle: room::x names room::Y, room::y names room::X"]);
        let found = circles(&[parent, ("src/room/x.rs", "use super::{Y, Z};"), ("src/room/y.rs", "")]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn what_is_no_circle_is_left_alone() {
        for (path, text) in [
            ("src/a.rs", "use crate::c::C; use other::b::B;"),
            ("src/a.rs", "// use crate::b::B;\n//! [`crate::b::B`]\nconst T: &str = \"crate::b::B\";"),
            ("src/a.rs", "#[cfg(test)]\nmod tests { use crate::b::B; }"),
            ("src/a.rs", "pub(in crate::b) fn f() {}"),
            ("src/room/mod.rs", "mod child; pub use child::Child; pub(super) use child::f; pub struct Item;"),
        ] {
            let found = circles(&[
                (path, text),
                ("src/b.rs", "pub struct B; use crate::a::A;"),
                ("src/room/child.rs", "use super::Item;"),
                ("src/c.rs", ""),
            ]);
            assert_eq!(found, [""; 0], "{path}: {text}");
        }
    }
}
