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

/// Makes `new` a replica of `owner`, whose node runs.
fn enrol(owner: &Home, new: &Home, meeting: &Meeting) {
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
