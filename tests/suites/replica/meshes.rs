//! Devices of a person that are on in turn, and a replica that is on all the time.

use std::time::Duration;

use locker_tests::files::write_big;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};

use super::{content, enrol, put, replica_of, wait_kept};

/// Goal: with five nodes (three devices, one of them joined later, a replica, a meeting point) all content reaches the
/// replica, and devices that are never on together hear of one another's changes through the replica alone. Method: what
/// each device wrote while it was the only one on is read on the others, each alone with the replica.
#[test]
fn devices_that_are_never_on_together_meet_through_the_replica() {
    let meeting = Meeting::start();
    let network = ["--bootstrap", meeting.address()];
    let (a, b, c, v) = (Home::new(), Home::empty(), Home::empty(), Home::empty());
    let mut dice = Dice::of("meshes");
    let (up_a, source) = (Up::start(&a, &network), a.beside("source"));
    for (n, len) in [700, 40_000, 3_000_000, 20_000_000].into_iter().enumerate() {
        write_big(&source.join(format!("{n}.bin")), len, &mut dice);
    }
    a.ok(["add".as_ref(), source.as_os_str()]);
    a.pair_with(&b, &meeting, "second");
    enrol(&a, &v, &meeting, &["--role", "blind", "--quota", "1G"], &[]);
    let up_v = Up::start(&v, &network);
    wait_kept(&a, &v);
    let seen = replica_of(&a);
    assert_eq!(
        (&seen["name"], &seen["online"], &seen["store"]["quota"]),
        (&"shed".into(), &true.into(), &(1_u64 << 30).into())
    );
    // The second device was never on: it hears everything from the replica.
    up_a.stop().ok();
    let up_b = Up::start(&b, &network);
    b.wait_synced();
    b.wait_for_path("source/3.bin");
    b.wait_synced();
    let out = b.beside("out");
    b.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&out));
    put(&b, "of b.txt", b"written by b alone");
    wait_kept(&b, &v);
    up_b.stop().ok();

    let up_a = Up::start(&a, &network);
    a.wait_for_path("of b.txt");
    a.wait_synced();
    assert_eq!(content(&a, "of b.txt"), b"written by b alone");
    a.ok(["mv", "of b.txt", "moved by a.txt"]);
    a.pair_with(&c, &meeting, "third");
    put(&a, "late.txt", b"written after the third device joined");
    wait_kept(&a, &v);
    up_a.stop().ok();
    // The third one has met nobody since it joined.
    let up_c = Up::start(&c, &network);
    c.wait_for_path("late.txt");
    c.wait_synced();
    assert_eq!(content(&c, "moved by a.txt"), b"written by b alone");
    assert_eq!(c.json(["verify"])["bad"], 0);
    up_c.stop().ok();
    let up_b = Up::start(&b, &network);
    b.wait_for_path("moved by a.txt");
    b.wait_synced();
    b.wait_for_path("late.txt");
    let hash = |home: &Home| home.json(["status"])["state_hash"].clone();
    wait_for("the same tree on both", Duration::from_secs(30), || (hash(&b) == hash(&c)).then_some(()));
    up_b.stop().ok();

    let verified = v.json(["verify"]);
    assert_eq!((&verified["bad"], &verified["complete"]), (&0.into(), &true.into()), "{verified}");
    assert!(verified["checked"].as_u64().unwrap() > v.packs().len() as u64);
    up_v.stop().ok();
}

/// Goal: a replica that is killed again and again while content comes in loses nothing and fetches little twice. Method: it
/// is killed at moments spread over the transfer, told by what the owner has handed to the wire.
#[test]
fn a_replica_that_is_killed_during_fetches_loses_nothing() {
    let (meeting, a, up_a, v, up_v) = super::owner_and_replica(&["--role", "blind"], &[]);
    up_v.stop().ok();
    let (mut dice, source) = (Dice::of("kills of a replica"), a.beside("source"));
    for n in 0..4 {
        write_big(&source.join(format!("{n}.bin")), 30 << 20, &mut dice);
    }
    let sent = || a.json(["status"])["traffic"]["pack_bytes_sent"].as_u64().unwrap();
    let before = sent();
    a.ok(["add".as_ref(), source.as_os_str()]);
    let total: u64 = a.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum();
    let (kills, mut in_time) = (4, 0);
    for kill in 1..=kills {
        let up = Up::start(&v, &["--bootstrap", meeting.address()]);
        let moment = before + total * kill / (kills + 1);
        wait_for("some more bytes on the wire", Duration::from_secs(60), || (sent() >= moment).then_some(()));
        up.kill();
        in_time += u64::from(v.packs().len() < a.packs().len());
    }
    assert!(in_time >= kills - 1, "{in_time} of {kills} kills came in time");
    let up_v = Up::start(&v, &["--bootstrap", meeting.address()]);
    wait_kept(&a, &v);
    let twice = (sent() - before).saturating_sub(total);
    let share = twice as f64 * 100.0 / total as f64;
    eprintln!("{kills} kills over {total} bytes: {twice} sent twice, {share:.2} %");
    assert!(twice * 10 <= total, "{twice} of {total} bytes were sent twice ({share:.2} %)");
    let verified = v.json(["verify"]);
    assert_eq!((&verified["bad"], &verified["complete"]), (&0.into(), &true.into()), "{verified}");
    assert_eq!(v.packs().len(), a.packs().len());
    up_a.stop().ok();
    up_v.stop().ok();
}
