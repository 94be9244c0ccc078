//! In and out again: real media, every kind of name, nothing at all, and a file larger than any buffer.

use std::fs;

use locker_tests::files::{NASTY_SKIPPED, nasty_tree, walk, write, write_big};
use locker_tests::{Dice, Home, Tree, media, tree};

/// Goal: names, times, content and the executable bit survive, the originals are untouched, nothing is left out for its
/// name. Method: one `add` of everything, one `get` of everything, comparison byte by byte; and of the listing.
#[test]
fn media_and_every_kind_of_name_come_out_as_they_went_in() {
    let mut dice = Dice::of("round trip");
    let home = Home::new();
    let media = media::folder();
    let nasty = home.beside("nasty");
    nasty_tree(&nasty, &mut dice);
    let (media_before, nasty_before) = (Tree::of(&media), Tree::of(&nasty));
    assert!(media_before.files() >= 60, "only {} sample files", media_before.files());

    let added = home.json(["add".as_ref(), media.as_os_str(), nasty.as_os_str()]);
    let files = media_before.files() + nasty_before.files();
    let bytes = media_before.bytes() + nasty_before.bytes();
    assert_eq!(added["files"], files, "{added}");
    assert_eq!(added["bytes"], bytes, "{added}");
    let skipped = added["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), NASTY_SKIPPED, "{added}");
    for odd in skipped {
        assert!(odd["path"].as_str().unwrap().contains("/odd/"), "{odd}");
        assert!(!odd["reason"].as_str().unwrap().is_empty(), "{odd}");
    }

    let listed = home.list();
    let sizes: u64 = listed.iter().map(|entry| entry["size"].as_u64().unwrap()).sum();
    assert_eq!(sizes, bytes);
    assert_eq!(listed.iter().filter(|entry| entry["kind"] == "file").count(), files);
    let out = home.beside("out");
    let got = home.json(["get".as_ref(), "/".as_ref(), "--to".as_ref(), out.as_os_str()]);
    assert_eq!(got["files"], files);
    assert_eq!(got["bytes"], bytes);
    media_before.assert_same(&Tree::of(&out.join("files")));
    nasty_before.assert_same(&Tree::of(&out.join("nasty")));

    // The originals are as they were.
    media_before.assert_same(&Tree::of(&media));
    nasty_before.assert_same(&Tree::of(&nasty));
    assert_eq!(home.json(["verify"])["bad"], 0);
}

/// Goal: the listing tells the truth about each file, and every path that it gives can be used.
/// Method: `b3`, `size` and `mtime` of each entry are compared with the source; each path is read with `cat`.
#[test]
fn every_listed_path_can_be_read_by_that_path() {
    let mut dice = Dice::of("listed paths");
    let home = Home::new();
    let nasty = home.beside("nasty");
    nasty_tree(&nasty, &mut dice);
    home.ok(["add".as_ref(), nasty.join("files").as_os_str(), nasty.join("times").as_os_str()]);

    let mut wanted: Vec<(String, u64, i64)> = Vec::new();
    for part in ["files", "times"] {
        for node in Tree::of(&nasty.join(part)).0.into_values() {
            if let tree::Node::File { len, b3, mtime, .. } = node {
                wanted.push((b3.to_hex().to_string(), len, mtime));
            }
        }
    }
    let mut listed = Vec::new();
    for entry in home.list().iter().filter(|entry| entry["kind"] == "file") {
        let path = entry["path"].as_str().unwrap();
        let b3 = entry["b3"].as_str().unwrap().to_owned();
        assert_eq!(entry["local"], "all", "{entry}");
        assert_eq!(entry["versions"], 1, "{entry}");
        assert_eq!(entry["conflict"], false, "{entry}");
        let read = home.ok(["cat", "--", path]).out;
        assert_eq!(blake3::hash(&read).to_hex().as_str(), b3, "{path:?}");
        listed.push((b3, entry["size"].as_u64().unwrap(), entry["mtime"].as_i64().unwrap()));
    }
    wanted.sort();
    listed.sort();
    assert_eq!(listed, wanted);
}

/// Goal: size is no limit. Method: a file made on the spot goes in, comes out equal, and the memory of no command grows
/// with it; 3 GiB with `LOCKER_BIG=1`.
#[test]
fn a_big_file_comes_out_equal_in_bounded_memory() {
    let len = if std::env::var_os("LOCKER_BIG").is_some() { 3 << 30 } else { 96 << 20 };
    let mut dice = Dice::of("big file");
    let home = Home::new();
    let big = home.beside("big.bin");
    write_big(&big, len, &mut dice);
    let before = tree::hash(&big);

    let (added, memory) = with_memory(&home, &["--json", "add", big.to_str().unwrap()]);
    assert_eq!(added.json()["bytes"], len);
    assert!(memory <= 300_000, "`add` took {memory} KiB");
    fs::remove_file(&big).unwrap();

    let out = home.beside("out.bin");
    let (got, memory) = with_memory(&home, &["--json", "get", "big.bin", "--to", out.to_str().unwrap()]);
    assert_eq!(got.json()["bytes"], len);
    assert!(memory <= 300_000, "`get` took {memory} KiB");
    assert_eq!(tree::hash(&out), before);

    let (verified, memory) = with_memory(&home, &["--json", "verify"]);
    assert_eq!(verified.json()["bad"], 0);
    assert!(memory <= 300_000, "`verify` took {memory} KiB");
}

/// Runs a command and gives the greatest resident size that the system saw, in KiB.
fn with_memory(home: &Home, arguments: &[&str]) -> (locker_tests::Outcome, u64) {
    // GNU time need not be there; python3 is, for the sample media.
    let script = r#"import os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)"#;
    let mut command = std::process::Command::new("python3");
    command.arg("-c").arg(script).arg(home.program().path()).arg("--home").arg(home.path()).args(arguments);
    let outcome = locker_tests::Outcome::of(command).ok();
    let peak = outcome.err.lines().find_map(|line| line.strip_prefix("peak ")?.parse().ok()).unwrap();
    (outcome, peak)
}

/// Goal: DEST appears whole or not at all, and nothing that is there is written over.
#[test]
fn a_copy_out_never_writes_over_anything() {
    let home = Home::new();
    let source = home.beside("source");
    write(&source.join("a/one.txt"), b"one");
    write(&source.join("two.txt"), b"two");
    home.ok(["add".as_ref(), source.as_os_str()]);

    // Into a folder that exists, under its own name.
    let into = home.beside("into");
    fs::create_dir(&into).unwrap();
    home.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), into.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&into.join("source")));
    // Once more: the name is taken.
    let again = home.run_json(["get".as_ref(), "source".as_ref(), "--to".as_ref(), into.as_os_str()]);
    again.refused(1, "E_EXISTS");
    // A file under another name, and where a file stands.
    let file = home.beside("copy.txt");
    home.ok(["get".as_ref(), "source/two.txt".as_ref(), "--to".as_ref(), file.as_os_str()]);
    assert_eq!(fs::read(&file).unwrap(), b"two");
    let over =
        home.run_json(["get".as_ref(), "source/a/one.txt".as_ref(), "--to".as_ref(), file.as_os_str()]);
    over.refused(1, "E_EXISTS");
    assert_eq!(fs::read(&file).unwrap(), b"two");
    // Nothing temporary is left behind.
    let left: Vec<_> = walk(&into).into_iter().filter(|p| !p.starts_with(into.join("source"))).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Goal: several large files at once come out, whatever number of threads there is: each is longer than what is opened in
/// one go. Method: eight files of 40 MiB in one folder, one `get`.
#[test]
fn several_large_files_come_out_side_by_side() {
    let mut dice = Dice::of("large files side by side");
    let home = Home::new();
    let source = home.beside("large");
    for n in 0..8 {
        write_big(&source.join(format!("{n}.bin")), 40 << 20, &mut dice);
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    let out = home.beside("out");
    home.ok(["get".as_ref(), "large".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&out));
}
