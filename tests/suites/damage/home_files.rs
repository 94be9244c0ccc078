//! Damage in the other files of a home: the format number, the vault.

use locker_tests::Home;
use locker_tests::files::{flip, walk};

use crate::whole::len;

/// Goal: no turned bit of the mark or the vault leads to a crash, to a success with other keys, or to writing over them.
#[test]
fn turned_bits_in_the_mark_and_the_vault_are_refused() {
    let home = Home::new();
    home.ok(["mkdir", "kept"]);
    let mut files: Vec<_> =
        walk(&home.path().join("vault")).into_iter().filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    files.push(home.path().join("LOCKER"));
    for file in files {
        let name = file.strip_prefix(home.path()).unwrap();
        let size = len(&file);
        for place in (0..size).step_by(usize::try_from(size.div_ceil(24)).unwrap()).chain([size - 1]) {
            let copy = home.copied();
            flip(&copy.path().join(name), place);
            let damaged = std::fs::read(copy.path().join(name)).unwrap();
            let listed = copy.run_json(["ls"]);
            let what = format!("{}, byte {place} of {size}: {listed:?}", name.display());
            assert!(matches!(listed.code(), Some(1 | 3 | 4 | 7)), "{what}");
            assert!(listed.error_name().is_some_and(|name| name != "E_INTERNAL"), "{what}");
            let again = copy.run_json(["init"]);
            assert_ne!(again.code(), Some(0), "{what}: made anew over the old one");
            assert_eq!(std::fs::read(copy.path().join(name)).unwrap(), damaged, "{what}: written over");
        }
        for kept in [0, size / 2, size - 1, size + 1] {
            let copy = home.copied();
            let path = copy.path().join(name);
            std::fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
            let listed = copy.run_json(["ls"]);
            assert!(
                matches!(listed.code(), Some(1 | 3 | 4 | 7)),
                "{}, cut to {kept}: {listed:?}",
                name.display()
            );
        }
        let copy = home.copied();
        std::fs::remove_file(copy.path().join(name)).unwrap();
        let listed = copy.run_json(["ls"]);
        assert!(matches!(listed.code(), Some(1 | 3 | 4 | 7)), "{} is gone: {listed:?}", name.display());
    }
}

/// Goal: a home that a newer program made is refused with a sentence, and not touched.
#[test]
fn a_newer_home_is_refused_and_left_alone() {
    let home = Home::new();
    let mark = home.path().join("LOCKER");
    let old = std::fs::read_to_string(&mark).unwrap();
    assert_eq!(old, "locker home 1\n");
    std::fs::write(&mark, "locker home 2\n").unwrap();
    let state = |home: &Home| std::fs::read(home.path().join("locker.redb")).unwrap();
    let before = state(&home);
    for command in [vec!["ls"], vec!["mkdir", "x"], vec!["verify"], vec!["init"]] {
        let outcome = home.run_json(&command);
        assert_eq!(outcome.code(), Some(1), "{outcome:?}");
        let name = outcome.error_name().unwrap();
        assert!(name == "E_VERSION" || command == ["init"], "{outcome:?}");
    }
    assert!(state(&home) == before);
    std::fs::write(&mark, old).unwrap();
    home.ok(["mkdir", "x"]);
}

/// Goal: a link in the place of one of our files or folders is refused: it could lead anywhere.
#[test]
fn links_in_the_home_are_refused() {
    let home = Home::new();
    for name in ["packs", "packs/tmp", "vault", "locker.redb", "LOCKER"] {
        let copy = home.copied();
        let (place, moved) = (copy.path().join(name), copy.beside("moved"));
        std::fs::rename(&place, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &place).unwrap();
        let outcome = copy.run_json(["mkdir", "x"]);
        assert!(matches!(outcome.code(), Some(1 | 4 | 7)), "{name}: {outcome:?}");
        assert!(outcome.error_name().is_some_and(|name| name != "E_INTERNAL"), "{name}: {outcome:?}");
    }
}
