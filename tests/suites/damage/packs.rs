//! Damage in packs.

use locker_tests::files::flip;
use locker_tests::{Dice, Home};

use crate::whole::{Answer, Whole, ask, len, pack_in, pack_len};

/// Goal: every byte of a pack file counts: sealed chunks, padding, outboard. Method: in each pack, one turned bit in each
/// of these regions, at their edges and at random places; every one must be noticed.
#[test]
fn every_turned_bit_in_a_pack_is_noticed() {
    let mut dice = Dice::of("turned bits");
    let whole = Whole::new(&mut dice);
    let packs = whole.home.packs();
    assert!(packs.len() >= 4, "{packs:?}");
    let mut turned = 0;
    for (index, pack) in packs.iter().enumerate() {
        let (file, pack) = (len(pack), pack_len(len(pack)));
        let mut places = vec![0, 31, 32, 33, pack / 2, pack - 1, dice.below(pack), dice.below(pack)];
        if file > pack {
            places.extend([pack, pack + 63, file - 1, dice.within(pack..file)]);
        }
        // The copy is damaged in one place at a time: turned back before the next.
        let copy = whole.home.copied();
        for place in places {
            let path = pack_in(&copy, index);
            flip(&path, place);
            let answer = ask(&whole, &copy, &format!("pack {index} of {file} bytes, byte {place}"), &[]);
            assert_eq!(
                answer,
                Answer::Noticed,
                "pack {index} of {file} bytes ({pack} without outboard), byte {place}"
            );
            flip(&path, place);
            turned += 1;
        }
        // Nothing was changed by looking: healed, it is whole again.
        assert_eq!(ask(&whole, &copy, "turned back", &[]), Answer::Whole);
    }
    eprintln!("{turned} bits turned in {} packs", packs.len());
    assert!(turned >= 40);
}

/// Goal: what is asked for decides. A file whose bytes are whole is read, even if a neighbour in the same pack is damaged;
/// the damaged one is refused with exit code 7 and gives no byte of the damaged segment.
#[test]
fn a_damaged_file_is_refused_and_its_neighbours_are_read() {
    let mut dice = Dice::of("neighbours");
    let home = Home::new();
    let source = home.beside("source");
    let contents: Vec<Vec<u8>> = (0..8).map(|_| dice.bytes(200_000)).collect();
    for (n, content) in contents.iter().enumerate() {
        locker_tests::files::write(&source.join(n.to_string()), content);
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    assert_eq!(home.packs().len(), 1);
    flip(&home.packs()[0], 900_000);
    let mut refused = 0;
    for (n, content) in contents.iter().enumerate() {
        let read = home.run(["cat".to_owned(), format!("source/{n}")]);
        match read.code() {
            Some(0) => assert!(read.out == *content),
            Some(7) => {
                refused += 1;
                assert!(content.starts_with(&read.out) && read.out.len() < content.len());
                assert!(!read.err.is_empty());
            }
            _ => panic!("{read:?}"),
        }
    }
    assert_eq!(refused, 1);
    let verified = home.run_json(["verify"]);
    assert_eq!(verified.code(), Some(7));
    assert_eq!(verified.json()["damaged_files"].as_array().unwrap().len(), 1, "{verified:?}");
    // A new `add` of the good originals heals what is damaged, or says that it did not.
    let again = home.run_json(["add".as_ref(), source.as_os_str()]);
    eprintln!("add over damage: {again:?}");
}

/// Goal: a pack file that is cut, longer, empty, exchanged with another or gone is noticed.
#[test]
fn a_pack_that_is_cut_exchanged_or_gone_is_noticed() {
    let mut dice = Dice::of("cut packs");
    let whole = Whole::new(&mut dice);
    for index in 0..whole.home.packs().len() {
        for how in
            ["one byte less", "half", "empty", "one byte more", "gone", "exchanged", "a folder", "a link"]
        {
            let copy = whole.home.copied();
            let packs = copy.packs();
            let path = &packs[index];
            let file = std::fs::File::options().write(true).open(path).unwrap();
            match how {
                "one byte less" => file.set_len(len(path) - 1).unwrap(),
                "half" => file.set_len(len(path) / 2).unwrap(),
                "empty" => file.set_len(0).unwrap(),
                "one byte more" => file.set_len(len(path) + 1).unwrap(),
                "gone" => std::fs::remove_file(path).unwrap(),
                "exchanged" => {
                    let other = &packs[(index + 1) % packs.len()];
                    let bytes = std::fs::read(other).unwrap();
                    std::fs::write(path, bytes).unwrap();
                }
                "a folder" => {
                    std::fs::remove_file(path).unwrap();
                    std::fs::create_dir(path).unwrap();
                }
                _ => {
                    let moved = copy.beside("moved");
                    std::fs::rename(path, &moved).unwrap();
                    std::os::unix::fs::symlink(&moved, path).unwrap();
                }
            }
            let answer = ask(&whole, &copy, &format!("pack {index} {how}"), &[]);
            assert_eq!(answer, Answer::Noticed, "pack {index} {how}");
        }
    }
}

/// Goal: who still has the originals makes damage good by adding them once more, with no device beside. Method: a byte of each pack
/// is turned and found by `verify`; the unchanged folder is added again, also after the secret under which content is found again
/// has changed with the words.
#[test]
fn adding_the_originals_again_makes_damage_good() {
    let mut dice = Dice::of("added again");
    for has_new_words in [false, true] {
        let home = Home::empty();
        let made = home.json(["init", "--name", "bench"]);
        let source = home.beside("source");
        let contents: Vec<Vec<u8>> = [200_000, 9_000_000].map(|len| dice.bytes(len)).into();
        for (n, content) in contents.iter().enumerate() {
            locker_tests::files::write(&source.join(n.to_string()), content);
        }
        home.ok(["add".as_ref(), source.as_os_str()]);
        if has_new_words {
            let words = home.beside("words");
            locker_tests::files::write(&words, made["phrase"].as_str().unwrap().as_bytes());
            home.ok(["phrase".as_ref(), "change".as_ref(), "--phrase-file".as_ref(), words.as_os_str()]);
        }
        for pack in home.packs() {
            flip(&pack, 100_000);
        }
        assert_eq!(home.run(["verify"]).code(), Some(7));
        home.ok(["add".as_ref(), source.as_os_str()]);
        for (n, content) in contents.iter().enumerate() {
            assert!(home.ok(["cat".to_owned(), format!("source/{n}")]).out == *content, "file {n}");
        }
        if !has_new_words {
            // Else what is damaged is that of a version that was replaced.
            assert_eq!(home.json(["verify"])["bad"], 0);
        }
    }
}
