//! Everything out as plain files: a common tool accepts it, and another locker takes it in as what it was.

use std::fs;
use std::process::Command;

use locker_tests::files::nasty_tree;
use locker_tests::{Dice, Home, Tree, media};

/// What a listing says of a thing, whichever locker says it.
fn listing(home: &Home) -> Vec<[serde_json::Value; 4]> {
    let mut all: Vec<_> =
        home.list().iter().map(|e| ["path", "kind", "b3", "mtime"].map(|field| e[field].clone())).collect();
    all.sort_by_key(|entry| entry[0].to_string());
    all
}

/// Goal: leaving is one command, and loses nothing. Method: real media and every kind of name; `b3sum --check` where it
/// is installed, and its hashes against those of the listing in any case; the files against the originals; then a new
/// locker takes the folder in, and lists the same.
#[test]
fn leaving_gives_plain_files_that_another_locker_takes_in_as_they_were() {
    let home = Home::new();
    let (media, nasty) = (media::folder(), home.beside("nasty"));
    nasty_tree(&nasty, &mut Dice::of("leave"));
    // The name of a record, taken by a file of the tree.
    let readme = home.beside("README.txt");
    fs::write(&readme, "mine").unwrap();
    home.ok(["add".as_ref(), media.as_os_str(), nasty.as_os_str(), readme.as_os_str()]);

    let out = home.beside("out");
    let left = home.json(["leave".as_ref(), "--to".as_ref(), out.as_os_str()]);
    let listed = home.list();
    let files: Vec<_> = listed.iter().filter(|entry| entry["kind"] == "file").collect();
    assert_eq!(left["files"], files.len());

    let manifest = fs::read_to_string(out.join("MANIFEST.b3")).unwrap();
    for file in &files {
        let hash = file["b3"].as_str().unwrap();
        let is_named = manifest.lines().any(|line| line.trim_start_matches('\\').starts_with(hash));
        let metadata = fs::read_to_string(out.join("metadata.jsonl")).unwrap();
        assert!(is_named || metadata.contains(hash), "{file}");
    }
    match Command::new("b3sum").args(["--check", "MANIFEST.b3"]).current_dir(&out).output() {
        Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr)),
        Err(error) => eprintln!("b3sum is not installed ({error}): the manifest is not checked by it"),
    }
    assert!(fs::read_to_string(out.join("README (2).txt")).unwrap().contains("b3sum"));

    let again = Home::new();
    let mut add = vec!["add".into()];
    add.extend(fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path().into_os_string()));
    let added = again.json(add);
    assert_eq!(added["files"], files.len(), "{added}");
    assert_eq!(added["skipped"].as_array().unwrap().len(), 3, "only the records are left out: {added}");
    assert_eq!(listing(&again), listing(&home));
    Tree::of(&media).assert_same(&Tree::of(&out.join("files")));
    assert_eq!(fs::read(out.join("README.txt")).unwrap(), b"mine");

    // Nothing is written over, and the locker is as it was.
    let refused = home.run(["leave".as_ref(), "--to".as_ref(), out.as_os_str()]);
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert_eq!(home.json(["verify"])["bad"], 0);
}
