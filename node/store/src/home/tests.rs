//! Tests of `home`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;

use super::*;
use crate::Store;
use crate::test_kit::{Place, child, dice, limits, vault};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        }
        found.push(path);
    }
}

/// Whatever the umask, others may read nothing, and nothing is missing for the owner.
#[test]
fn t58_modes_do_not_follow_the_umask() {
    for mask in [0o000, 0o777, 0o022] {
        let place = Place::new();
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let store = crate::test_kit::begin(&place.home);
        crate::test_kit::put_pack(&store, 1, 50_000).unwrap();
        store.home().write_vault("passphrase", b"wrap").unwrap();
        rustix::process::umask(before);
        let mut found = vec![place.home.clone()];
        walk(&place.home, &mut found);
        assert!(found.len() > 8);
        for path in found {
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), wanted, "{} under umask {mask:o}", path.display());
        }
    }
}

#[test]
fn modes_that_are_too_wide_are_tightened_when_opened() {
    let place = Place::new();
    let home = Home::init(&place.home).unwrap();
    home.write_vault("passphrase", b"wrap").unwrap();
    drop(home);
    let loosened = ["", "vault", "packs", "packs/tmp", "packs/partial", "LOCKER", "lock", "vault/passphrase"];
    for name in loosened {
        fs::set_permissions(place.home.join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    Home::open(&place.home).unwrap();
    for name in loosened {
        assert_eq!(mode(&place.home.join(name)) & 0o077, 0, "{name}");
    }
}

#[test]
fn a_home_is_begun_only_where_nothing_else_is() {
    let place = Place::new();
    fs::create_dir(&place.home).unwrap();
    fs::write(place.home.join("diary.txt"), b"mine").unwrap();
    assert!(matches!(Home::init(&place.home), Err(StoreError::NotEmpty { .. })));
    assert!(matches!(Home::open(&place.home), Err(StoreError::NotAHome { .. })));
    assert_eq!(list(&place.home).unwrap().len(), 1);
    fs::remove_file(place.home.join("diary.txt")).unwrap();
    drop(Home::init(&place.home).unwrap());
    // Without a database nothing was ever kept here: an interrupted beginning begins again.
    drop(Home::init(&place.home).unwrap());
    fs::write(place.home.join("locker.redb"), b"x").unwrap();
    assert!(matches!(Home::init(&place.home), Err(StoreError::NotEmpty { .. })));
    fs::remove_file(place.home.join("locker.redb")).unwrap();
    fs::create_dir(place.home.join("packs/ab")).unwrap();
    assert!(matches!(Home::init(&place.home), Err(StoreError::NotEmpty { .. })));
    assert!(matches!(Home::open(&place.home.join("nowhere")), Err(StoreError::NotAHome { .. })));
}

/// Whoever could not be told of a new database gets another one; whoever opens it has it.
#[test]
fn a_database_that_nobody_was_told_of_is_made_anew_until_somebody_opens_it() {
    let place = Place::new();
    let begin = || {
        let home = Home::init(&place.home)?;
        Store::prepare(home, &vault(), dice(1), limits(), |_| Ok::<_, StoreError>(()))
    };
    for _ in 0..2 {
        drop(begin().unwrap());
        assert!(!place.home.join(DATABASE).exists());
    }
    drop(Store::open(Home::open(&place.home).unwrap(), &vault(), dice(2), limits()).unwrap());
    assert!(place.home.join(DATABASE).exists() && !place.home.join(DATABASE_UNTOLD).exists());
    assert!(matches!(begin(), Err(StoreError::NotEmpty { .. })));
}

#[test]
fn a_format_file_of_another_form_is_refused_and_nothing_touched() {
    let place = Place::new();
    drop(Home::init(&place.home).unwrap());
    let mark = place.home.join(MARK);
    assert_eq!(fs::read(&mark).unwrap(), b"locker home 1\n");
    let mut checked = 0;
    for (text, newer) in [
        ("locker home 2\n", true),
        ("locker home 18446744073709551615\n", true),
        ("locker home 0\n", false),
        ("locker home 01\n", false),
        ("locker home 1", false),
        ("locker home 1\n\n", false),
        ("locker home +1\n", false),
        ("locker home 18446744073709551616\n", false),
        ("locker home \n", false),
        ("", false),
        ("replica home 1\n", false),
    ] {
        fs::write(&mark, text).unwrap();
        fs::remove_dir(place.home.join(VAULT)).ok();
        for result in [Home::open(&place.home), Home::init(&place.home)] {
            match result {
                Err(StoreError::NewerFormat { found, known: 1 }) => assert!(newer && found > 1, "{text:?}"),
                Err(StoreError::Corrupt { .. }) => assert!(!newer, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(!place.home.join(VAULT).exists());
        checked += 1;
    }
    assert_eq!(checked, 11);
}

#[test]
fn symbolic_links_are_refused() {
    let place = Place::new();
    let elsewhere = place.home.with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &place.home).unwrap();
    assert!(matches!(Home::init(&place.home), Err(StoreError::Unsafe { .. })));
    assert!(matches!(Home::open(&place.home), Err(StoreError::Unsafe { .. })));
    fs::remove_file(&place.home).unwrap();
    drop(crate::test_kit::begin(&place.home));
    for name in ["LOCKER", "lock", "locker.redb", "vault", "packs", "packs/tmp", "packs/partial"] {
        let (path, moved) = (place.home.join(name), elsewhere.join("moved"));
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        let opened = crate::test_kit::reopen(&place.home).err();
        assert!(matches!(opened, Some(StoreError::Unsafe { .. })), "{name}: {opened:?}");
        fs::remove_file(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
    }
    symlink("/etc/hostname", place.home.join("vault/passphrase")).unwrap();
    assert!(matches!(Home::open(&place.home), Err(StoreError::Unsafe { .. })));
    fs::remove_file(place.home.join("vault/passphrase")).unwrap();
    crate::test_kit::reopen(&place.home).unwrap();
}

#[test]
fn vault_files_are_replaced_whole_and_their_names_are_plain() {
    let place = Place::new();
    let home = Home::init(&place.home).unwrap();
    assert_eq!(home.read_vault("passphrase").unwrap(), None);
    home.write_vault("passphrase", b"one").unwrap();
    home.write_vault("passphrase", b"two").unwrap();
    assert_eq!(home.read_vault("passphrase").unwrap().unwrap(), b"two");
    fs::write(place.home.join("vault/passphrase.new"), b"left by a crash").unwrap();
    assert_eq!(home.vault_files().unwrap(), ["passphrase"]);
    home.write_vault("passphrase", b"three").unwrap();
    assert_eq!(home.read_vault("passphrase").unwrap().unwrap(), b"three");
    home.remove_vault("passphrase").unwrap();
    home.remove_vault("passphrase").unwrap();
    assert!(home.vault_files().unwrap().is_empty());
    for name in ["", ".", "..", "a/b", "../LOCKER", "a.new", "a\0b", "ä", &"a".repeat(65)] {
        assert!(matches!(home.write_vault(name, b""), Err(StoreError::Unsafe { .. })), "{name:?}");
        assert!(matches!(home.read_vault(name), Err(StoreError::Unsafe { .. })), "{name:?}");
    }
    fs::write(place.home.join("vault/long"), vec![0; (1 << 20) + 1]).unwrap();
    assert!(matches!(home.read_vault("long"), Err(StoreError::Corrupt { .. })));
}

/// Not a test by itself: the other process of the next one.
#[test]
fn holds_the_lock_until_its_input_ends() {
    let Ok(path) = std::env::var("LOCKER_STORE_HELD_HOME") else { return };
    let _home = Home::open(Path::new(&path)).unwrap();
    let mut out = io::stdout();
    out.write_all(b"held\n").and_then(|()| out.flush()).unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_second_process_is_told_who_holds_the_home() {
    let place = Place::new();
    let home = Home::init(&place.home).unwrap();
    let Err(StoreError::Locked { pid }) = Home::open(&place.home) else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
    drop(home);
    let path = place.home.to_str().unwrap();
    let mut other =
        child("home::tests::holds_the_lock_until_its_input_ends", &[("LOCKER_STORE_HELD_HOME", path)])
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    let Err(StoreError::Locked { pid }) = Home::open(&place.home) else { panic!("opened twice") };
    assert_eq!(pid, Some(other.id()));
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    Home::open(&place.home).unwrap();
}
