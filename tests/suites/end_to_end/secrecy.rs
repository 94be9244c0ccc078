//! What a thief of the disk sees: nothing that was planted, nothing that two lockers share.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use locker_tests::files::{walk, write, write_big};
use locker_tests::search::{FORMS, Search, forms};
use locker_tests::{Dice, Home, tree};

const PLANTED: usize = 1_000;

/// Goal: no name, no content, no hash of a content, no recovery word and no device name can be found in the home, in any
/// usual coding. Method: 1,000 planted files; a search of every byte of the home; and a control folder in which the same
/// search finds every form of every text.
#[test]
fn nothing_planted_can_be_found_in_the_home() {
    let mut dice = Dice::of("secrecy");
    let home = Home::empty();
    let device = format!("device-{}", dice.word(20));
    let made = home.json(["init", "--name", &device]);
    let mut search = Search::new();
    search.plant("device name", device.as_bytes());
    let phrase = made["phrase"].as_str().unwrap();
    search.plant("first half of the phrase", &phrase.as_bytes()[..phrase.len() / 2]);
    search.plant("second half of the phrase", &phrase.as_bytes()[phrase.len() / 2..]);

    let source = home.beside("source");
    let mut planted = vec![device.clone().into_bytes()];
    for n in 0..PLANTED {
        let (folder, name) = (dice.word(16), format!("{}.txt", dice.word(24)));
        // A text with a marked sentence at the start, in the middle and at the end.
        let (head, middle, tail) = (dice.word(32), dice.word(32), dice.word(32));
        let filling = usize::try_from(dice.below(6_000)).unwrap();
        let text = [&head, &dice.word(filling), &middle, &dice.word(filling / 2), &tail]
            .map(String::as_str)
            .concat();
        let path = source.join(if n % 10 == 0 { folder.as_str() } else { "." }).join(&name);
        write(&path, text.as_bytes());
        if n % 10 == 0 {
            search.plant("folder", folder.as_bytes());
        }
        for (what, text) in [("name", &name), ("start", &head), ("middle", &middle), ("end", &tail)] {
            search.plant(&format!("{what} of file {n}"), text.as_bytes());
            planted.push(text.clone().into_bytes());
        }
        search.plant_hash(&format!("BLAKE3 of file {n}"), tree::hash(&path).as_bytes());
    }
    assert!(search.len() > PLANTED * (4 * FORMS + 2));

    home.ok(["add".as_ref(), source.as_os_str()]);
    // What other commands may leave behind is looked at too: trash, history, moved names.
    let listed = home.paths();
    let removed = listed.iter().find(|path| path.ends_with(".txt")).unwrap();
    home.ok(["rm", removed]);
    home.ok(["mkdir", &device]);
    home.ok(["mv", &device, "other"]);
    home.ok(["verify"]);
    let (found, looked_at) = search.find_below(home.path());
    assert!(found.is_empty(), "{} found, first: {:?}", found.len(), &found[..found.len().min(5)]);
    assert!(looked_at > 3_000_000, "only {looked_at} bytes were looked at");

    // The control: the same search finds all of it where it is.
    let control = home.beside("control");
    for (n, text) in planted.iter().enumerate() {
        let everything: Vec<u8> =
            forms(text).into_iter().flat_map(|(_, bytes)| [bytes, dice.bytes(n % 5)].concat()).collect();
        write(&control.join(n.to_string()), &everything);
    }
    let (found, _) = search.find_below(&control);
    let distinct: HashSet<_> = found.iter().collect();
    assert!(distinct.len() >= planted.len() * FORMS, "the search finds only {} of its forms", distinct.len());
    let raw: HashSet<_> = found.iter().filter(|hit| hit.ends_with(", raw")).collect();
    assert_eq!(raw.len(), planted.len());
    let (found, _) = search.find_below(&source);
    assert!(found.len() >= PLANTED * 4, "the search does not find the originals");
}

/// Goal: whoever sees two lockers cannot tell that they hold the same file. Method: the same files in two lockers; no pack
/// has the same name, and no 16 bytes at any place of one's packs stand in the other's.
#[test]
fn two_lockers_with_the_same_files_have_nothing_in_common() {
    let mut dice = Dice::of("two lockers");
    let homes = [Home::new(), Home::new()];
    let source = homes[0].beside("source");
    write_big(&source.join("big.bin"), 6_000_000, &mut dice);
    write(&source.join("zeros"), &vec![0; 1_000_000]);
    for n in 0..20 {
        write(&source.join(format!("small-{n}")), &dice.bytes(3_000));
    }
    let [mut one, mut two] = homes.map(|home| {
        home.ok(["add".as_ref(), source.as_os_str()]);
        let names: HashSet<_> = home.packs().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert!(!names.is_empty());
        let bytes: Vec<Vec<u8>> = home.packs().iter().map(|p| std::fs::read(p).unwrap()).collect();
        (names, bytes, home)
    });
    assert!(one.0.is_disjoint(&two.0), "a pack has the same name in both lockers");
    let known: HashSet<[u8; 16]> =
        one.1.iter().flat_map(|pack| pack.as_chunks::<16>().0.iter().copied()).collect();
    for pack in &two.1 {
        let common = pack.windows(16).filter(|window| known.contains(*window)).count();
        assert_eq!(common, 0, "{common} places of a pack stand in the other locker too");
    }
    (one.1, two.1) = (Vec::new(), Vec::new());
}

/// Goal: other users of the machine cannot look in. Method: every folder is 0700 and every file 0600, whatever the umask.
#[test]
fn only_the_owner_may_look_in() {
    let home = Home::empty();
    let file = home.beside("file");
    write(&file, b"content");
    for arguments in [vec!["init"], vec!["add", file.to_str().unwrap()]] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(home.program().path());
        shell.arg("--home").arg(home.path()).args(arguments);
        locker_tests::Outcome::of(shell).ok();
    }
    let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(home.path()), 0o700);
    for path in walk(home.path()) {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
}
