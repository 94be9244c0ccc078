//! A locker with something of every kind in it, and the question that every kind of damage is asked.

use std::path::{Path, PathBuf};

use locker_tests::files::write;
use locker_tests::{Dice, Home, Tree};

/// A good locker and what it holds.
pub(crate) struct Whole {
    pub(crate) home: Home,
    pub(crate) tree: Tree,
}

impl Whole {
    /// Makes one: a file of several packs, one of one pack, small ones that share a pack, an empty one, one that went to
    /// the trash.
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let home = Home::new();
        let source = home.beside("source");
        write(&source.join("long.bin"), &dice.bytes(18_000_000));
        write(&source.join("solid.bin"), &dice.bytes(4_400_000));
        for n in 0..12 {
            let len = usize::try_from(dice.below(40_000)).unwrap();
            write(&source.join(format!("folder {n}/small {n}.txt")), &dice.bytes(len));
        }
        write(&source.join("empty"), b"");
        home.ok(["add".as_ref(), source.as_os_str()]);
        // A second generation of rows, and rows that are gone.
        write(&source.join("solid.bin"), &dice.bytes(300_000));
        home.ok(["add".as_ref(), source.as_os_str()]);
        home.ok(["mkdir", "made"]);
        home.ok(["rm", "made"]);
        let tree = Tree::of(&source);
        Self { home, tree }
    }
}

/// What a damaged locker answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It noticed.
    Noticed,
    /// Everything came out equal.
    Whole,
}

/// Asks a damaged locker to check itself and to give everything out.
///
/// Whatever the damage is: no wrong byte comes out, no panic, no crash, nothing but exit code 7 (or one of
/// `also_fine`), and what `verify` calls whole comes out whole.
#[track_caller]
pub(crate) fn ask(whole: &Whole, home: &Home, what: &str, also_fine: &[i32]) -> Answer {
    let verified = home.run_json(["verify"]);
    let out: PathBuf = home.beside("out");
    let _ = std::fs::remove_dir_all(&out);
    let got = home.run_json(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    for outcome in [&verified, &got] {
        let code = outcome.code();
        let is_fine = code == Some(0) || code == Some(7) || code.is_some_and(|c| also_fine.contains(&c));
        assert!(is_fine, "{what}: {outcome:?}");
        assert_ne!(outcome.error_name().as_deref(), Some("E_INTERNAL"), "{what}: {outcome:?}");
    }
    if got.code() == Some(0) {
        let differences = whole.tree.differences(&Tree::of(&out));
        assert!(
            differences.is_empty(),
            "{what}: wrong bytes came out: {differences:?}; verify said {verified:?}"
        );
    } else {
        assert!(!out.exists(), "{what}: a copy that failed is there");
        assert_ne!(verified.code(), Some(0), "{what}: `verify` is content, and yet: {got:?}");
    }
    if verified.code() == Some(0) { Answer::Whole } else { Answer::Noticed }
}

/// The pack files of a home that is a copy, by the same order in every copy.
pub(crate) fn pack_in(copy: &Home, index: usize) -> PathBuf {
    copy.packs()[index].clone()
}

/// Bytes of the pack itself in a pack file of this length; the outboard follows.
pub(crate) fn pack_len(file_len: u64) -> u64 {
    // len + 64 * (ceil(len / 16384) - 1), solved for len: 16,448 bytes for each full group.
    let groups = (file_len + 64).div_ceil(16_448);
    file_len + 64 - 64 * groups
}

/// Length of a file.
pub(crate) fn len(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[test]
fn the_pack_is_told_from_its_outboard() {
    for len in [4_096, 16_384, 16_385, 32_768, 32_769, 1_000_000, 16_777_216_u64] {
        let file = len + 64 * (len.div_ceil(16_384) - 1);
        assert_eq!(pack_len(file), len);
    }
}
