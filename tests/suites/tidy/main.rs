//! Holds the house to its own rules, by reading its files: arrows between floors, walls around foreign crates, files that
//! introduce themselves, tests that somebody runs, citations that lead somewhere (`ARCHITECTURE.md`).

#![allow(clippy::unwrap_used, reason = "test code: a file that cannot be read ends the test")]

mod arrows;
mod sources;
mod texts;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file that is kept in the repository, by path from its root.
///
/// Git tells them, so that what somebody is just writing beside is not judged yet; in a copy without git, everything
/// counts that is not built or fetched.
fn files() -> Vec<PathBuf> {
    let root = root();
    let told = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let mut found = match told {
        Ok(told) if told.status.success() && !told.stdout.is_empty() => {
            let names = told.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            names.map(|name| PathBuf::from(String::from_utf8(name.to_vec()).unwrap())).collect()
        }
        _ => walk(&root),
    };
    found.retain(|path| root.join(path).is_file());
    found.sort();
    assert!(found.len() > 100, "only {} files: is this the repository?", found.len());
    found
}

/// Everything below the root that is not built or fetched.
fn walk(root: &Path) -> Vec<PathBuf> {
    let is_made = |path: &Path| {
        let name = path.file_name().unwrap();
        ["target", ".git", ".cache", "node_modules"].iter().any(|made| name == *made)
    };
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !is_made(&path) {
                folders.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found
}

/// The text of a file; `None` if it is not text.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).unwrap()).ok()
}

/// Every Rust file with its text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs");
    files().into_iter().filter(is_rust).map(|path| (path.clone(), text(&path).unwrap())).collect()
}

/// Asserts that a list of complaints is empty.
#[track_caller]
fn assert_none(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}
