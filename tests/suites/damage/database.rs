//! Damage in the database.

use locker_tests::Dice;
use locker_tests::files::flip;

use crate::whole::{Answer, Whole, ask, len};

/// Goal: a turned bit in the database is noticed, or lies where nothing is stored; it never changes what comes out, and
/// never goes back to an older state. Method: bits in its head and at random places all over it, each in a fresh copy.
#[test]
fn a_turned_bit_in_the_database_changes_nothing_that_comes_out() {
    let mut dice = Dice::of("database");
    let whole = Whole::new(&mut dice);
    let size = len(&whole.home.path().join("locker.redb"));
    let head = (0..512).step_by(8).map(|place| place + place / 8 % 8);
    let places: Vec<u64> = head.chain((0..100).map(|_| dice.below(size))).collect();
    let count = places.len();
    let mut noticed = 0;
    for place in places {
        let copy = whole.home.copied();
        flip(&copy.path().join("locker.redb"), place);
        let answer = ask(&whole, &copy, &format!("byte {place} of {size} of the database"), &[]);
        noticed += usize::from(answer == Answer::Noticed);
    }
    eprintln!("{noticed} of {count} turned bits were in use and noticed");
    assert!(noticed >= count / 10, "hardly anything is noticed");
}

/// Goal: a page that is gone is noticed. Method: pages all over the file are filled with zeros, with noise, or with the
/// bytes of another page.
#[test]
fn a_page_of_the_database_that_is_not_its_own_is_noticed() {
    use std::os::unix::fs::FileExt;
    const PAGE: u64 = 4_096;
    let mut dice = Dice::of("pages");
    let whole = Whole::new(&mut dice);
    let size = len(&whole.home.path().join("locker.redb"));
    for n in 0..45 {
        let copy = whole.home.copied();
        let path = copy.path().join("locker.redb");
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let place = dice.below(size / PAGE) * PAGE;
        let mut page = vec![0; PAGE as usize];
        match n % 3 {
            0 => {}
            1 => dice.fill(&mut page),
            _ => file.read_exact_at(&mut page, dice.below(size / PAGE) * PAGE).unwrap(),
        }
        file.write_all_at(&page, place).unwrap();
        ask(&whole, &copy, &format!("page at {place} of {size}, kind {}", n % 3), &[]);
    }
}

/// Goal: a database that is cut or gone is reported, and never made anew over what is left.
#[test]
fn a_database_that_is_cut_or_gone_is_not_made_anew() {
    let mut dice = Dice::of("cut database");
    let whole = Whole::new(&mut dice);
    let size = len(&whole.home.path().join("locker.redb"));
    let mut lens = vec![0, 1, 63, 64, 320, 4_095, 4_096, size / 2, size - 4_096, size - 1];
    lens.extend((0..10).map(|_| dice.below(size)));
    for kept in lens {
        let copy = whole.home.copied();
        let path = copy.path().join("locker.redb");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
        let before = std::fs::read(&path).unwrap();
        let answer = ask(&whole, &copy, &format!("database cut to {kept} of {size} bytes"), &[]);
        if answer == Answer::Noticed {
            let after = std::fs::read(&path).unwrap();
            assert!(
                after.len() >= before.len() && after.len() as u64 <= size.max(kept),
                "cut to {kept}: written over"
            );
        }
        copy.run_json(["add", "/dev/null"]).code().map(|code| assert_ne!(code, 101)).unwrap();
        copy.run_json(["init"]).code().map(|code| assert_ne!(code, 0)).unwrap();
    }
    let copy = whole.home.copied();
    std::fs::remove_file(copy.path().join("locker.redb")).unwrap();
    for command in [vec!["ls"], vec!["init"], vec!["mkdir", "x"], vec!["verify"], vec!["status"]] {
        let outcome = copy.run_json(command.iter());
        assert!(![Some(0), None].contains(&outcome.code()), "{outcome:?}");
        assert!(!copy.path().join("locker.redb").exists(), "{command:?} made a new database over the packs");
    }
}
