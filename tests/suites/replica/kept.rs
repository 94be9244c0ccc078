//! What lies on the disk of a replica, and how much of it may.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::search::Search;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Up};

use super::{content, enrol, owner_and_replica, put, replica_of, wait_kept};

/// Goal: no name, content, recovery word, device name or key is on the disk of a replica, in any usual coding. Method:
/// planted files and names; a search of every byte of its home after everything has come, been verified and collected; a
/// control in which the same search finds them.
#[test]
fn nothing_that_is_private_lies_on_the_disk_of_a_replica() {
    let mut dice = Dice::of("secrecy of a replica");
    let (meeting, a, v) = (Meeting::start(), Home::empty(), Home::empty());
    let device = format!("device-{}", dice.word(20));
    let made = a.json(["init", "--name", &device]);
    let mut search = Search::new();
    search.plant("device name", device.as_bytes());
    let phrase = made["phrase"].as_str().unwrap();
    search.plant("first half of the phrase", &phrase.as_bytes()[..phrase.len() / 2]);
    search.plant("second half of the phrase", &phrase.as_bytes()[phrase.len() / 2..]);
    // LKK1, then the key under which the owner's database is sealed.
    let vault = std::fs::read(a.path().join("vault/key")).unwrap();
    search.plant_hash("vault key of the owner", &vault[4..]);
    let (source, mut planted) = (a.beside("source"), 0);
    for n in 0..200 {
        let (name, head, tail) = (format!("{}.txt", dice.word(24)), dice.word(32), dice.word(32));
        let filling = usize::try_from(dice.below(6_000)).unwrap();
        let text = [head.as_str(), &dice.word(filling), &tail].concat();
        write(&source.join(&name), text.as_bytes());
        for (what, text) in [("name", &name), ("start", &head), ("end", &tail)] {
            search.plant(&format!("{what} of file {n}"), text.as_bytes());
            planted += 1;
        }
        search.plant_hash(&format!("BLAKE3 of file {n}"), blake3::hash(text.as_bytes()).as_bytes());
    }
    let up = Up::start(&a, &["--bootstrap", meeting.address()]);
    enrol(&a, &v, &meeting, &["--role", "blind"], &[]);
    let kept = Up::start(&v, &["--bootstrap", meeting.address()]);
    a.ok(["add".as_ref(), source.as_os_str()]);
    wait_kept(&a, &v);
    for command in ["status", "verify", "gc"] {
        v.ok([command]);
    }
    kept.stop().ok();
    up.stop().ok();
    let (found, looked_at) = search.find_below(v.path());
    assert!(found.is_empty(), "{} found, first: {:?}", found.len(), &found[..found.len().min(5)]);
    assert!(looked_at > 500_000, "only {looked_at} bytes were looked at");
    let (control, _) = search.find_below(&source);
    assert!(
        control.len() >= planted,
        "the search finds only {} of {planted} in the originals",
        control.len()
    );
}

/// Goal: a quota that is full refuses what is new, evicts nothing, and the owner is told. Method: a quota that the first
/// file fits into and the second does not; a larger replica beside it for comparison is not needed.
#[test]
fn a_full_quota_refuses_what_is_new_and_the_owner_is_told() {
    let (_meeting, a, up, v, kept) =
        owner_and_replica(&["--role", "blind", "--quota", "20M"], &["--quota", "3M", "--role", "blind"]);
    let mut dice = Dice::of("quota of a replica");
    let (first, second) = (dice.bytes(1 << 20), dice.bytes(6 << 20));
    put(&a, "first.bin", &first);
    wait_kept(&a, &v);
    let packs = v.packs();
    put(&a, "second.bin", &second);
    let told = wait_for("the owner to be told", Duration::from_secs(60), || {
        let replica = replica_of(&a);
        (replica["store"]["refused"].as_u64() > Some(0)).then_some(replica)
    });
    // The lesser of what the owner wanted and what the keeper gives.
    assert_eq!(told["store"]["quota"], 3 << 20);
    let status = a.json(["status"]);
    let problem = status["problems"].as_array().unwrap().iter().find(|one| one["code"] == "E_QUOTA").cloned();
    let problem = problem.unwrap_or_default();
    assert!(problem["message"].as_str().unwrap().contains("\"shed\" is full"), "{status}");
    assert_eq!(status["copies"]["said"], 0, "not everything is there");
    let own = v.json(["status"]);
    assert!(own["sentence"].as_str().unwrap().ends_with("; there is no room for all of it."), "{own}");
    for pack in &packs {
        assert!(pack.exists(), "{} was evicted", pack.display());
    }
    let used: u64 = v.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum();
    assert!(used <= 3 << 20);
    // A small one still fits, and what is there is given back.
    put(&a, "small.txt", b"small");
    let count = packs.len();
    wait_for("the small one", Duration::from_secs(90), || (v.packs().len() > count).then_some(()));
    assert_eq!(content(&a, "first.bin"), first);
    kept.stop().ok();
    up.stop().ok();
}
