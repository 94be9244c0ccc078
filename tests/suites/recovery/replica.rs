//! All devices gone, one blind replica left: the words and the replica give everything.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};

use super::whole::{Owner, content, place};

/// T67, T90: the replica tells alone where it is, with no key of the owner; the words find it by the DHT, or by its address, and
/// everything comes back: names, bytes, versions. It goes on storing for the device that there is then.
#[test]
fn t67_t90_from_a_replica_alone() {
    let owner = Owner::with_files("t67_t90_from_a_replica_alone");
    let meeting = Meeting::start();
    let up = Up::start(&owner.home, &["--bootstrap", meeting.address()]);
    let replica = Home::empty();
    enrol(&owner.home, &replica, &meeting);
    let kept = Up::start(&replica, &["--bootstrap", meeting.address()]);
    wait_for("the replica to have every pack", Duration::from_secs(60), || {
        (replica.packs().len() == owner.home.packs().len()).then_some(())
    });
    let mut before = content(&owner.home, "before");
    up.kill();
    for network in [vec!["--bootstrap", meeting.address()], vec!["--from", &place(&kept)]] {
        let mut arguments = vec!["--no-lan"];
        arguments.extend(network);
        let (back, outcome) = owner.recover(&arguments);
        let told = outcome.ok().json();
        content(&back, "out").assert_same(&before);
        assert_eq!(back.json(["verify"])["bad"], 0);
        assert_eq!(
            told["newest_evidence"]["name"],
            if arguments[1] == "--bootstrap" { "first" } else { "back" }
        );
        // What is written now is stored there too.
        let up = Up::start(&back, &["--bootstrap", meeting.address()]);
        let name = format!("after-{}.txt", arguments[1]);
        write(&back.beside(&name), name.repeat(5_000).as_bytes());
        let held = replica.packs().len();
        back.ok(["add".as_ref(), back.beside(&name).as_os_str()]);
        wait_for("the replica to store for the new device", Duration::from_secs(60), || {
            (replica.packs().len() > held).then_some(())
        });
        // It asks for a pack once the pins came; the entries come right behind them, long before the pack: who comes back
        // next has the file.
        before = content(&back, "after");
        up.stop().ok();
    }
    // Somebody else's words meet the one refusal there too.
    let stranger = Owner::new();
    let (_, outcome) = super::whole::recover_by(&stranger.words, &["--no-lan", "--from", &place(&kept)]);
    outcome.refused(4, "E_DENIED");
    kept.stop().ok();
}

/// Of five nodes, three devices, and two replicas one of which went long before, a blind one is left: everything that any of
/// the three wrote comes back, byte for byte.
#[test]
fn t67_five_nodes_of_which_a_blind_one_is_left() {
    let owner = Owner::with_files("t67_five_nodes_of_which_a_blind_one_is_left");
    let meeting = Meeting::start();
    let network = ["--bootstrap", meeting.address()];
    let (second, third, other, last) = (Home::empty(), Home::empty(), Home::empty(), Home::empty());
    let mut ups = vec![Up::start(&owner.home, &network)];
    for (home, name) in [(&second, "second"), (&third, "third")] {
        owner.home.pair_with(home, &meeting, name);
        ups.push(Up::start(home, &network));
    }
    for home in [&other, &last] {
        enrol(&owner.home, home, &meeting);
    }
    ups.push(Up::start(&other, &network));
    let kept = Up::start(&last, &network);
    for (home, name) in [(&owner.home, "of-first.txt"), (&second, "of-second.txt"), (&third, "of-third.txt")]
    {
        write(&home.beside(name), name.repeat(90_000).as_bytes());
        home.ok(["add".as_ref(), home.beside(name).as_os_str()]);
    }
    owner.home.ok(["mv", "source/big.bin", "moved.bin"]);
    for home in [&second, &third] {
        for path in ["of-first.txt", "of-second.txt", "of-third.txt", "moved.bin"] {
            home.wait_for_path(path);
        }
    }
    third.wait_synced();
    wait_for("the replicas to hold everything", Duration::from_secs(90), || {
        (third.json(["status"])["copies"]["least"].as_u64() == Some(5)).then_some(())
    });
    let before = content(&third, "before");
    ups.into_iter().for_each(|up| drop(up.kill()));
    for home in [&owner.home, &second, &third, &other] {
        std::fs::remove_dir_all(home.path()).unwrap();
    }
    let (back, outcome) = owner.recover(&["--no-lan", "--bootstrap", meeting.address()]);
    let told = outcome.ok().json();
    content(&back, "out").assert_same(&before);
    assert_eq!(back.json(["verify"])["bad"], 0);
    assert_eq!(told["files"], back.json(["status"])["files"]);
    kept.stop().ok();
}

/// Makes `new` a replica of `owner`, whose node runs.
pub(super) fn enrol(owner: &Home, new: &Home, meeting: &Meeting) {
    let mut pairing = owner.start(["--json", "pair", "--assume-yes", "--role", "blind"], "");
    let ticket = pairing.event("ticket");
    let words = new.beside("ticket.txt");
    write(&words, ticket["words"].as_str().unwrap().as_bytes());
    let words = words.to_str().unwrap();
    let network = ["--bootstrap", meeting.address(), "--no-lan"];
    let arguments = ["join", "--ticket-file", words, "--name", "shed", "--assume-yes"];
    new.json(arguments.into_iter().chain(network));
    pairing.event("joined");
    pairing.finish().ok();
}
