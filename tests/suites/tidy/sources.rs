//! Rust files: they introduce themselves, are not too long, are included by somebody, and promise nothing without an
//! issue.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{assert_none, files, root, rust_files, text};

/// Lines from which a file must have a reason to be one.
const LINES_MAX: usize = 600;

/// Files that may be longer, with the reason.
const LONG: &[(&str, &str)] = &[];

#[test]
fn every_file_introduces_itself() {
    let silent = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    let complaints: Vec<_> = silent.map(|(path, _)| path.display().to_string()).collect();
    assert_none("files that do not start with `//!`", &complaints);
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        let has_reason = LONG.iter().any(|(long, _)| path == Path::new(long));
        if lines > LINES_MAX && !has_reason {
            complaints.push(format!("{}: {lines} lines", path.display()));
        }
        if lines <= LINES_MAX && has_reason {
            complaints.push(format!("{}: no longer long; take it off the list", path.display()));
        }
    }
    assert_none(&format!("files of more than {LINES_MAX} lines: look for the second noun"), &complaints);
}

/// Goal: a promise in the code has an issue, so that somebody keeps it.
#[test]
fn every_promise_has_an_issue() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut complaints = Vec::new();
    for path in files() {
        let Some(text) = text(&path) else { continue };
        if path.starts_with("docs/spec/vectors") || path.ends_with("Cargo.lock") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let words = || line.split(|c: char| !c.is_ascii_alphanumeric());
            let promises = words().any(|word| marks.iter().any(|mark| word == mark));
            let has_issue =
                line.split('#').skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
            if promises && !has_issue {
                complaints.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert_none("promises without an issue", &complaints);
}

/// Goal: a file with tests that nobody includes would pass for ever. Method: from the root of each target along its `mod`
/// lines; every Rust file must be met.
#[test]
fn every_file_is_included_by_somebody() {
    let mut met = BTreeSet::new();
    for path in files() {
        if path.file_name().is_none_or(|name| name != "Cargo.toml") {
            continue;
        }
        let folder = path.parent().unwrap();
        let table: toml::Table = text(&path).unwrap().parse().unwrap();
        let mut roots: Vec<PathBuf> = ["src/lib.rs", "src/main.rs", "build.rs"].map(PathBuf::from).to_vec();
        for kind in ["bin", "test", "bench", "example"] {
            let targets = table.get(kind).and_then(|v| v.as_array()).into_iter().flatten();
            roots.extend(targets.filter_map(|t| t.get("path")?.as_str().map(PathBuf::from)));
        }
        // What cargo finds by itself.
        let finds = |kind: &str| {
            let key = format!("auto{kind}");
            table.get("package").and_then(|p| p.get(&key)).and_then(toml::Value::as_bool) != Some(false)
        };
        for kind in ["tests", "benches", "examples"].into_iter().filter(|kind| finds(kind)) {
            let inside = root().join(folder).join(kind);
            let entries = std::fs::read_dir(inside).into_iter().flatten();
            let is_rust = |p: &PathBuf| p.extension().is_some_and(|e| e == "rs");
            roots.extend(entries.map(|e| Path::new(kind).join(e.unwrap().file_name())).filter(is_rust));
        }
        for target in roots.iter().map(|target| folder.join(target)).filter(|t| root().join(t).is_file()) {
            follow(&target, target.parent().unwrap(), &mut met);
        }
    }
    let strays: Vec<_> = rust_files().into_iter().filter(|(path, _)| !met.contains(path)).collect();
    let complaints: Vec<_> = strays.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_none("files that nobody includes", &complaints);
}

/// Notes a file and, through its `mod` lines, all below it. `children` is the folder in which its modules lie.
fn follow(path: &Path, children: &Path, met: &mut BTreeSet<PathBuf>) {
    met.insert(path.to_owned());
    let text = text(path).unwrap();
    for line in text.lines() {
        let line = line.trim();
        let declared = line.strip_suffix(';').and_then(|line| {
            let (before, name) = line.rsplit_once("mod ").unwrap_or(("-", line));
            (before.is_empty() || before.starts_with("pub")).then_some(name)
        });
        let Some(name) = declared else { continue };
        for (file, below) in [
            (children.join(format!("{name}.rs")), children.join(name)),
            (children.join(name).join("mod.rs"), children.join(name)),
        ] {
            if root().join(&file).is_file() {
                follow(&file, &below, met);
            }
        }
    }
}
