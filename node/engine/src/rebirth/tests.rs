//! Goal: a home that is not the only one with its key signs nothing more, asks for a key of its own, takes it in one commit,
//! and loses nothing. Method: real stores in temporary folders, whose logs are handed over without a network.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_crypto::identity::DeviceKeys;
use locker_store::addresses::Met;
use locker_store::index;
use locker_store::pins::{self, PinScope};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Head, LogKind};
use locker_sync::pairing::{Enrol, Role};
use locker_sync::session::Fate;

use super::*;
use crate::env::system_dice;
use crate::join::Given;
use crate::node::{Asker, Incoming};
use crate::report::{Silent, StateHash};
use crate::test_mesh::{copy_folder, names};
use crate::{Clock, Env, Error, InitOptions, ListOptions, Locker, Secret, Vault};

const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;

/// The clock of the system, so far ahead.
struct Ahead {
    system: Env,
    by_ms: u64,
}

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        self.system.now_ms() + self.by_ms
    }

    fn elapsed(&self) -> Duration {
        self.system.elapsed()
    }
}

/// Two devices of one person, each with a home; the first one made the locker and holds a file in a pack.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { folder: tempfile::tempdir().unwrap() };
        let options = InitOptions { name: Some("one".into()), vault: Vault::File };
        Locker::create(&pair.path("one"), options, Env::system(), |_| Ok::<_, Error>(())).unwrap();
        let one = pair.open("one");
        pair.bring_in_two(&one);
        pair.add(&one, "first.bin", 200_000);
        pass(&one, &pair.open("two"));
        pair
    }

    /// Makes the home of the second device, which has heard of nothing yet.
    fn bring_in_two(&self, one: &Locker) {
        let inner = one.inner();
        let keys = DeviceKeys::random(&mut **inner.env().dice());
        let person = inner.keys().person;
        let grant = inner.enrol(&Enrol::new(Role::Full, "two", &person, &keys)).unwrap();
        let given = Given::check(person, &keys, &grant).unwrap();
        given.keep(&self.path("two"), &keys, &Vault::File, inner.env()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, name: &str) -> Locker {
        self.open_ahead(name, 0)
    }

    fn open_ahead(&self, name: &str, by_ms: u64) -> Locker {
        let clock = Ahead { system: Env::system(), by_ms };
        let env = Env::new(Box::new(clock), Box::new(system_dice()));
        Locker::open(&self.path(name), env, &mut || Err::<Secret, _>(Error::PassphraseNeeded)).unwrap()
    }

    /// Copies the home of a locker that is closed.
    fn copy(&self, from: &str, to: &str) {
        copy_folder(&self.path(from), &self.path(to));
    }

    fn add(&self, locker: &Locker, name: &str, len: usize) {
        let path = self.path(name);
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        locker.add(&[&path], "", &Silent).unwrap();
    }
}

/// Every item of every log, as it travels.
fn items(locker: &Locker) -> Vec<(Log, VerifyingKey, Vec<u8>)> {
    let inner = locker.inner();
    let mut found = Vec::new();
    for (log, heads) in inner.standing().unwrap().heads {
        for head in heads {
            let all = inner.load_items(log, &head.author, 0, head.seq, u64::MAX).unwrap();
            found.extend(all.into_iter().map(|item| (log, head.author, item.bytes)));
        }
    }
    found
}

/// Hands over everything that one locker holds, and says what became of the items of an author.
fn pass(from: &Locker, to: &Locker) -> Vec<(VerifyingKey, Fate)> {
    let items = items(from);
    let authors: Vec<VerifyingKey> = items.iter().map(|(_, author, _)| *author).collect();
    let incoming = (0..)
        .zip(items)
        .map(|(ticket, (log, _, bytes))| Incoming { ticket, log, bytes, from: Asker::Device })
        .collect();
    let taken = to.inner().take_items(incoming).unwrap();
    taken.fates.into_iter().map(|(ticket, fate)| (authors[ticket as usize], fate)).collect()
}

fn doubt(locker: &Locker) -> Option<Sign> {
    let inner = locker.inner();
    let snapshot = inner.store().unwrap().read().unwrap();
    Doubt::read(&snapshot).unwrap().map(|doubt| doubt.sign)
}

fn own(locker: &Locker) -> VerifyingKey {
    locker.inner().keys().device_id()
}

fn head_of(locker: &Locker, log: Log, author: &VerifyingKey) -> Head {
    let heads = locker.inner().standing().unwrap().heads;
    let (_, heads) = heads.into_iter().find(|(other, _)| *other == log).unwrap();
    heads.into_iter().find(|head| head.author == *author).unwrap()
}

#[test]
fn what_others_show_of_this_device_is_doubt_if_it_is_not_here() {
    let pair = Pair::new();
    pair.copy("one", "copy");
    let one = pair.open("one");
    let key = own(&one);
    pair.add(&one, "later.bin", 200_000);
    for kind in [LogKind::Entries, LogKind::Pins] {
        let log = match kind {
            LogKind::Entries => one.inner().entry_log(),
            _ => one.inner().pin_log(),
        };
        pair.copy("copy", "fresh");
        let fresh = pair.open("fresh");
        let newest = head_of(&fresh, log, &key);
        fresh.inner().check_own(log, &newest).unwrap();
        assert_eq!(doubt(&fresh), None, "{kind:?}: what is here");
        let more = head_of(&one, log, &key);
        assert!(more.seq > newest.seq);
        fresh.inner().check_own(log, &more).unwrap();
        assert_eq!(doubt(&fresh), Some(Sign::Behind), "{kind:?}");
        drop(fresh);
        std::fs::remove_dir_all(pair.path("fresh")).unwrap();
    }
    let copy = pair.open("copy");
    pair.add(&copy, "else.bin", 200_000);
    pair.add(&copy, "else again.bin", 200_000);
    let (log, seq) = (copy.inner().entry_log(), head_of(&one, one.inner().entry_log(), &key).seq);
    copy.inner().check_own(log, &Head { seq, ..head_of(&one, log, &key) }).unwrap();
    assert_eq!(doubt(&copy), Some(Sign::Differs), "another item with a number that was used here too");
    // What was found first stays.
    copy.inner().check_own(log, &Head { seq: 1_000, ..head_of(&one, log, &key) }).unwrap();
    assert_eq!(doubt(&copy), Some(Sign::Differs));
}

#[test]
fn an_own_item_from_outside_is_not_taken_but_noted() {
    let pair = Pair::new();
    pair.copy("one", "copy");
    let one = pair.open("one");
    pair.add(&one, "later.bin", 200_000);
    let copy = pair.open("copy");
    let fates = pass(&one, &copy);
    assert_eq!(doubt(&copy), Some(Sign::Behind));
    assert!(fates.contains(&(own(&one), Fate::Waiting)) && fates.contains(&(own(&one), Fate::Durable)));
    assert!(
        copy.list("", ListOptions { recursive: true, ..ListOptions::default() }, &mut |entry| {
            assert_eq!(entry.path, "first.bin");
            std::ops::ControlFlow::Continue(())
        })
        .is_ok()
    );
}

#[test]
fn nothing_is_signed_while_there_is_doubt() {
    let pair = Pair::new();
    let one = pair.open("one");
    let inner = one.inner();
    inner.note_doubt(Sign::Behind).unwrap();
    let before = items(&one);
    assert!(matches!(one.make_folder("folder", false), Err(Error::Restored)));
    let path = pair.path("first.bin");
    assert!(matches!(one.add(&[&path], "elsewhere", &Silent), Err(Error::Restored)));
    let keys = DeviceKeys::random(&mut **inner.env().dice());
    let enrol = Enrol::new(Role::Full, "three", &inner.keys().person, &keys);
    assert!(matches!(inner.enrol(&enrol), Err(Error::Restored)));
    // A pack that comes is held, and pinned by the next key.
    let pack = inner.held_packs(&inner.space_tag(), &packs(&one)).unwrap()[0];
    inner.commit(|change| change.hold_pack(&pack)).unwrap();
    drop(inner);
    assert_eq!(items(&one), before);
    drop(one);
    // It holds after a restart, and everything can be read.
    let one = pair.open("one");
    assert!(matches!(one.remove("first.bin"), Err(Error::Restored)));
    let mut out = Vec::new();
    one.read("first.bin", 0, None, &mut out).unwrap();
    assert_eq!(out.len(), 200_000);
    let problems = one.status(StateHash::Always).unwrap().problems;
    assert_eq!(problems.iter().map(|problem| problem.code.as_str()).collect::<Vec<_>>(), ["E_ROLLBACK"]);
}

fn packs(locker: &Locker) -> Vec<locker_crypto::id::PackHash> {
    let mut found = Vec::new();
    let inner = locker.inner();
    let snapshot = inner.store().unwrap().read().unwrap();
    index::scan_packs(&snapshot, &mut |hash, _| {
        found.push(hash);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn a_new_key_is_asked_for_brought_in_and_taken() {
    let pair = Pair::new();
    pair.copy("two", "spare");
    let (one, two) = (pair.open("one"), pair.open("two"));
    let old = own(&one);
    assert_eq!(one.inner().ask_to_succeed().unwrap(), None, "without doubt nothing is asked");
    one.inner().note_doubt(Sign::Differs).unwrap();
    let asked = one.inner().ask_to_succeed().unwrap().unwrap();
    drop(one);
    let one = pair.open("one");
    assert_eq!(
        one.inner().ask_to_succeed().unwrap().unwrap(),
        asked,
        "the same key is asked for after a restart"
    );
    assert!(!one.inner().be_reborn().unwrap(), "nobody has brought it in");

    let new = asked.succession.candidate.device;
    let refused = two.inner().succeed(&own(&two), &asked);
    assert!(matches!(refused, Err(Error::Refused(locker_crypto::Refusal::Audience))), "asked by another one");
    two.inner().note_doubt(Sign::Behind).unwrap();
    assert!(matches!(two.inner().succeed(&old, &asked), Err(Error::Restored)));
    drop(two);
    let two = pair.open("spare");
    let log = two.inner().person_log();
    let place = "192.0.2.1:4001".parse().unwrap();
    two.inner().note_address(&old, place, Met::Dialed).unwrap();
    assert_eq!(two.inner().places_of(&new).unwrap(), []);
    two.inner().succeed(&old, &asked).unwrap();
    assert_eq!(
        two.inner().places_of(&new).unwrap(),
        [place],
        "it is looked for where it was under the old key"
    );
    let once = head_of(&two, log, &own(&two));
    two.inner().succeed(&old, &asked).unwrap();
    assert_eq!(head_of(&two, log, &own(&two)), once, "asked for twice, it is brought in once");

    pass(&two, &one);
    assert_eq!(one.inner().standing().unwrap().rebirth, Rebirth::Granted);
    assert!(one.inner().be_reborn().unwrap());
    assert!(!one.inner().be_reborn().unwrap());
    assert_eq!((own(&one), doubt(&one)), (new, None));
    let check = |one: &Locker| {
        let inner = one.inner();
        let snapshot = inner.store().unwrap().read().unwrap();
        for author in [old, new] {
            let scope = PinScope { space: inner.space_tag(), author };
            assert!(packs(one).iter().all(|pack| pins::is_pinned(&snapshot, &scope, pack).unwrap()));
        }
        let rebirths = rebirths(&snapshot).unwrap();
        assert_eq!((rebirths.len(), rebirths[0].old, rebirths[0].sign), (1, old, Sign::Differs));
        assert_eq!(own(one), new);
    };
    check(&one);
    drop(one);
    let one = pair.open("one");
    check(&one);
    pair.add(&one, "onward.bin", 200_000);
    pass(&one, &two);
    assert_eq!(
        one.status(StateHash::Always).unwrap().state_hash,
        two.status(StateHash::Always).unwrap().state_hash
    );
    let devices = two.devices().unwrap();
    let replaced = devices.iter().find(|device| device.id == old.to_string()).unwrap();
    assert_eq!(replaced.replaced_by, [new.to_string()]);
    assert_eq!(devices.len(), 3);
    assert!(
        one.status(StateHash::Always).unwrap().reborn.is_some()
            && two.status(StateHash::Always).unwrap().reborn.is_none()
    );
}

/// Brings in a device without a home; gives its key.
fn join(locker: &Locker, name: &str) -> VerifyingKey {
    let inner = locker.inner();
    let keys = DeviceKeys::random(&mut **inner.env().dice());
    inner.enrol(&Enrol::new(Role::Full, name, &inner.keys().person, &keys)).unwrap();
    keys.verifying_key()
}

/// The codes of what is wrong.
fn problems(locker: &Locker) -> Vec<String> {
    locker.status(StateHash::Always).unwrap().problems.into_iter().map(|problem| problem.code).collect()
}

/// T94: whoever wrote ten years ahead shows all of it itself, nobody else does. Once the clock is right, and two others
/// agree with it, it goes on under a new key, under which all is written again and shown by the other device.
#[test]
fn t94_what_was_written_ahead_of_time_is_written_again_under_a_new_key() {
    let pair = Pair::new();
    let one = pair.open_ahead("one", TEN_YEARS_MS);
    let old = own(&one);
    pair.add(&one, "ahead.bin", 200_000);
    one.make_folder("folder", false).unwrap();
    one.remove("first.bin").unwrap();
    drop(one);
    let (one, two) = (pair.open("one"), pair.open("two"));
    let shown = |locker: &Locker| names(locker).into_iter().collect::<BTreeSet<_>>();
    let expected = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(shown(&one), expected(&["ahead.bin", "folder"]));
    assert_eq!(problems(&one), ["E_TIME"]);
    pass(&one, &two);
    assert_eq!(shown(&two), expected(&["first.bin"]));

    let inner = one.inner();
    for others in [&[0_i64; 0][..], &[0], &[0, 400_000], &[400_000, 500_000], &[-400_000, -500_000]] {
        inner.look_for_ahead(others).unwrap();
        assert_eq!(doubt(&one), None, "{others:?}");
    }
    two.inner().look_for_ahead(&[0, 0]).unwrap();
    assert_eq!(doubt(&two), None, "who wrote nothing ahead of time needs no other key");
    inner.look_for_ahead(&[0, 1_000]).unwrap();
    assert_eq!(doubt(&one), Some(Sign::Ahead));
    // It goes on until it has a new key.
    pair.add(&one, "meanwhile.bin", 200_000);
    assert_eq!(problems(&one), ["E_TIME"]);
    let asked = inner.ask_to_succeed().unwrap().unwrap();
    two.inner().succeed(&old, &asked).unwrap();
    pass(&two, &one);
    assert_eq!(doubt(&one), Some(Sign::Ahead));
    assert!(inner.be_reborn().unwrap());
    assert_eq!((own(&one), doubt(&one)), (asked.succession.candidate.device, None));

    assert_eq!(inner.look_for_uncounted(&Left::default()).unwrap(), Some(Due::Own));
    let mut left = Left::default();
    while inner.write_again(Due::Own, &mut left).unwrap() == Wrote::Entry {}
    assert!(left == Left::default() && inner.look_for_uncounted(&Left::default()).unwrap().is_none());
    let again = expected(&["ahead.bin", "folder", "meanwhile.bin"]);
    assert_eq!(shown(&one), again);
    assert!(problems(&one).iter().all(|code| code != "E_TIME" && code != "E_FORK"));
    one.make_folder("onward", false).unwrap();
    pass(&one, &two);
    assert_eq!(shown(&two), shown(&one));
    assert!(shown(&two).is_superset(&again));
    let hash = |locker: &Locker| locker.status(StateHash::Always).unwrap().state_hash;
    assert_eq!(hash(&one), hash(&two));
    inner.look_for_ahead(&[0, 1_000]).unwrap();
    assert_eq!(doubt(&one), None);
    drop((inner, one, two));

    // When the time comes that was written, nothing changes.
    let [one, two] = ["one", "two"].map(|name| pair.open_ahead(name, TEN_YEARS_MS + 60_000));
    let before = [hash(&one), hash(&two)];
    for locker in [&one, &two] {
        locker.inner().release_deferred().unwrap();
    }
    assert_eq!([hash(&one), hash(&two)], before);
}

/// Entries whose time has come are taken in with a change of the person log: what they name is wanted then.
#[test]
fn packs_of_what_comes_in_beside_are_wanted() {
    const AHEAD_MS: u64 = 3_600_000;
    let pair = Pair::new();
    let (one, two) = (pair.open_ahead("one", AHEAD_MS), pair.open("two"));
    pair.add(&one, "late.bin", 200_000);
    pass(&one, &two);
    let before = two.inner().wanted_packs().unwrap().len();
    assert_eq!(names(&two), ["first.bin"]);
    drop(two);
    let two = pair.open_ahead("two", AHEAD_MS);
    let inner = two.inner();
    let keys = DeviceKeys::random(&mut **inner.env().dice());
    inner.enrol(&Enrol::new(Role::Full, "three", &inner.keys().person, &keys)).unwrap();
    assert_eq!(names(&two), ["first.bin", "late.bin"]);
    assert_eq!(inner.wanted_packs().unwrap().len(), before + 1);
}

/// T93: a branch of the person log of which only the end is here is known to lack what it stands on, and hinders nobody.
#[test]
fn t93_a_branch_of_the_person_log_is_asked_for_back_to_the_fork() {
    let pair = Pair::new();
    pair.copy("one", "backup");
    let (one, two) = (pair.open("one"), pair.open("two"));
    join(&one, "later");
    pass(&one, &two);
    drop(one);
    let back = pair.open("backup");
    join(&back, "branch");
    join(&back, "end of it");
    let (log, author) = (back.inner().person_log(), own(&back));
    let head = head_of(&back, log, &author);
    let branch = back.inner().load_items(log, &author, head.seq - 1, head.seq, u64::MAX).unwrap();
    let take = |bytes: &[u8]| {
        let incoming = Incoming { ticket: 0, log, from: Asker::Device, bytes: bytes.to_vec() };
        two.inner().take_items(vec![incoming]).unwrap().fates[0].1
    };
    assert_eq!(take(&branch[1].bytes), Fate::Durable);
    let standing = two.inner().standing().unwrap();
    assert_eq!(standing.missing[&log], [(author, head.seq - 1)]);
    assert!(standing.forked.is_empty());
    // What this device writes meanwhile counts: it does not name what counts for nothing yet.
    let meanwhile = join(&two, "meanwhile");
    assert!(two.inner().standing().unwrap().active.contains(&meanwhile));
    assert_eq!(take(&branch[0].bytes), Fate::Durable);
    let standing = two.inner().standing().unwrap();
    assert_eq!(standing.missing[&log], []);
    assert_eq!(standing.forked, [((log, author), head.seq - 1)].into());
    assert!(standing.active.contains(&meanwhile));
}

/// Goal: a device that was told to be ended is ended, though the home that did it had just been put back from a backup and
/// what it wrote does not count. Method: another device was brought in after the backup, and the others know of it.
#[test]
fn what_a_home_ended_before_it_heard_that_it_is_an_older_copy_is_ended_again() {
    let pair = Pair::new();
    let one = pair.open("one");
    let stolen = join(&one, "stolen");
    let two = pair.open("two");
    pass(&one, &two);
    drop(one);
    pair.copy("one", "backup");
    let one = pair.open("one");
    join(&one, "later");
    pass(&one, &two);
    join(&two, "last");
    drop(one);

    let back = pair.open("backup");
    let old = own(&back);
    assert!(back.revoke_device(&stolen.to_string()).unwrap().revoked);
    pass(&back, &two);
    pass(&two, &back);
    assert!(doubt(&back).is_some());
    let is_revoked = |locker: &Locker| {
        let devices = locker.devices().unwrap();
        devices.iter().find(|device| device.id == stolen.to_string()).unwrap().revoked
    };
    assert!(!is_revoked(&two) && !is_revoked(&back), "what ended it does not count");
    let inner = back.inner();
    assert_eq!(
        inner.look_for_uncounted(&Left::default()).unwrap(),
        None,
        "nothing is signed while there is doubt"
    );
    let asked = inner.ask_to_succeed().unwrap().unwrap();
    two.inner().succeed(&old, &asked).unwrap();
    pass(&two, &back);
    assert!(inner.be_reborn().unwrap());

    assert_eq!(inner.look_for_uncounted(&Left::default()).unwrap(), Some(Due::Own));
    let mut left = Left::default();
    while inner.write_again(Due::Own, &mut left).unwrap() == Wrote::Entry {}
    assert!(left == Left::default() && inner.look_for_uncounted(&Left::default()).unwrap().is_none());
    pass(&back, &two);
    assert!(is_revoked(&two) && is_revoked(&back));
    assert_eq!(back.devices().unwrap().iter().filter(|device| device.revoked).count(), 1);
}

/// T94: a device whose clock is behind all that it is given knows nothing to write with; once its clock is right it does, without
/// anything new having come.
#[test]
fn t94_a_device_that_joined_with_its_clock_behind_writes_once_that_is_right() {
    let pair = Pair { folder: tempfile::tempdir().unwrap() };
    let ahead = || {
        let clock = Ahead { system: Env::system(), by_ms: TEN_YEARS_MS };
        Env::new(Box::new(clock), Box::new(system_dice()))
    };
    let options = InitOptions { name: Some("one".into()), vault: Vault::File };
    Locker::create(&pair.path("one"), options, ahead(), |_| Ok::<_, Error>(())).unwrap();
    let one = pair.open_ahead("one", TEN_YEARS_MS);
    pair.bring_in_two(&one);
    let two = pair.open("two");
    pass(&one, &two);
    let file = pair.path("written.bin");
    std::fs::write(&file, b"text").unwrap();
    assert!(matches!(two.add(&[&file], "", &Silent), Err(Error::Network(_))));
    drop(two);
    let two = pair.open_ahead("two", TEN_YEARS_MS + 60_000);
    two.inner().release_deferred().unwrap();
    pair.add(&two, "written.bin", 1_000);
    pass(&two, &one);
    assert_eq!(names(&one), ["written.bin"]);
}

/// T94: no new key is needed any more if the time has come before there is one. What another home wrote weighs more.
#[test]
fn t94_what_was_found_of_the_clock_ends_with_it_and_gives_way() {
    let pair = Pair::new();
    let one = pair.open_ahead("one", TEN_YEARS_MS);
    one.make_folder("folder", false).unwrap();
    drop(one);
    let one = pair.open("one");
    one.inner().look_for_ahead(&[0, 0]).unwrap();
    assert_eq!(doubt(&one), Some(Sign::Ahead));
    drop(one);
    let one = pair.open_ahead("one", TEN_YEARS_MS);
    one.inner().look_for_ahead(&[0]).unwrap();
    assert_eq!(doubt(&one), Some(Sign::Ahead), "nobody says that this clock is right");
    one.inner().look_for_ahead(&[0, 0]).unwrap();
    assert_eq!(doubt(&one), None);
    for (sign, noted) in [
        (Sign::Ahead, Sign::Ahead),
        (Sign::Differs, Sign::Differs),
        (Sign::Ahead, Sign::Differs),
        (Sign::Behind, Sign::Differs),
    ] {
        one.inner().note_doubt(sign).unwrap();
        assert_eq!(doubt(&one), Some(noted), "{sign:?}");
        let may_sign = one.inner().may_sign().is_ok();
        assert_eq!(may_sign, noted == Sign::Ahead);
    }
}

/// T94: that there is another home weighs more than the clock, however it shows; the key that this home asked for shows
/// none.
#[test]
fn t94_another_home_is_noted_of_a_device_that_wrote_ahead_of_time() {
    let pair = Pair::new();
    pair.copy("one", "copy");
    let (one, copy) = (pair.open("one"), pair.open("copy"));
    for locker in [&one, &copy] {
        locker.inner().note_doubt(Sign::Ahead).unwrap();
    }
    assert!(copy.inner().note_own_fork().unwrap());
    assert_eq!(doubt(&copy), Some(Sign::Differs));
    assert!(!copy.inner().note_own_fork().unwrap(), "it is noted once");

    let inner = one.inner();
    let next = inner.ask_to_succeed().unwrap().unwrap().succession.candidate.device;
    let other = VerifyingKey([7; 32]);
    for (by, noted) in [(vec![next], Sign::Ahead), (vec![next, other], Sign::Replaced)] {
        let by = BTreeSet::from_iter(by);
        inner.store().unwrap().write(|txn| Doubt::note_replaced(txn, &by, 1)).unwrap();
        assert_eq!(doubt(&one), Some(noted));
    }
    assert!(inner.may_sign().is_err());
}
