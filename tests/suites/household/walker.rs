//! Somebody who believes nobody and counts the copies himself: what each device has by its own listing and its own disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use locker_tests::Home;
use locker_tests::files::walk;
use serde_json::Value;

use super::files;

/// Whether `status` says that everything is safe and that was counted: every file is whole on as many devices as it says.
///
/// What others write comes in meanwhile. So a listing counts if it is of the state that the sentence spoke of; who has another
/// state may hold that content as an older or newer version, and is neither counted nor blamed; nor is a store that lacks any
/// pack, since nobody but a device that reads can tell of which file.
pub(crate) fn is_true(home: &Home, status: &Value, full: &[&Home], blind: &[&Path]) -> bool {
    let sentence = status["sentence"].as_str().unwrap();
    if !sentence.starts_with("Safe") {
        return false;
    }
    let wanted = status["copies"]["wanted"].as_u64().unwrap() as usize;
    assert!(wanted >= 2 && status["copies"]["files_at_risk"] == 0, "{status}");
    let spoken_of = |home: &Home| {
        let files = files(home);
        (home.json(["status"])["state_hash"] == status["state_hash"]).then_some(files)
    };
    let Some(listed) = spoken_of(home) else { return false };
    let whole = |files: Vec<Value>| -> BTreeSet<String> {
        let whole = files.into_iter().filter(|entry| entry["local"] == "all");
        whole.map(|entry| entry["b3"].as_str().unwrap().to_owned()).collect()
    };
    let holders: Vec<BTreeSet<String>> = full.iter().filter_map(|home| spoken_of(home).map(whole)).collect();
    // Of what cannot be read only the packs can be counted: all that one of the others has.
    let own = packs(home.path());
    let stores = blind.iter().filter(|folder| own.is_subset(&packs(folder))).count();
    let apart = full.len() - holders.len() + blind.len() - stores;
    let mut is_counted = true;
    for entry in listed {
        let b3 = entry["b3"].as_str().unwrap();
        let copies = holders.iter().filter(|whole| whole.contains(b3)).count() + stores;
        assert!(copies + apart >= wanted, "{sentence:?}, but {} is on {copies} devices", entry["path"]);
        is_counted &= copies >= wanted;
    }
    is_counted
}

/// The names of the packs that lie in a home.
fn packs(home: &Path) -> BTreeSet<OsString> {
    let is_pack = |path: &Path| {
        path.is_file() && path.parent().is_some_and(|p| !p.ends_with("tmp") && !p.ends_with("partial"))
    };
    let found = walk(&home.join("packs"));
    found.iter().filter(|path| is_pack(path)).map(|path| path.file_name().unwrap().to_owned()).collect()
}
