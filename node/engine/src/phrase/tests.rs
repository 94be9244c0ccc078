//! Goal: the old words open nothing of what is written after they were changed, and the new ones open everything, whatever else
//! happened at the same time. Method: real stores in temporary folders, handed over without a network.

use locker_catalog::roster::Roster;
use locker_crypto::identity::Root;
use locker_store::objects;

use super::*;
use crate::Locker;
use crate::node::{Asker, Incoming};
use crate::person_keys::open_in_use;
use crate::rebirth::Sign;
use crate::recover::read_phrase;
use crate::report::StateHash;
use crate::test_mesh::{World, id, names, pass};

/// The person's key that a phrase opens on what a locker holds, if it is the one in use.
fn opened(locker: &Locker, root: &Root) -> Option<[u8; 32]> {
    let inner = locker.inner();
    let store = inner.store().unwrap();
    let snapshot = store.read().unwrap();
    let person = inner.keys().person;
    let entries = person_log(&snapshot, &person).unwrap();
    let roster = Roster::read(person, &entries);
    let object = |hash: &_| Ok(objects::get(&snapshot, hash)?);
    open_in_use(&person, (&entries, &roster), &[root.box_keys()], object)
        .unwrap()
        .map(|(_, key)| *key.expose())
}

fn newest(locker: &Locker) -> [u8; 32] {
    *locker.inner().keys().person_keys().unwrap().newest().expose()
}

fn state(locker: &Locker) -> Option<String> {
    locker.status(StateHash::Always).unwrap().state_hash
}

#[test]
fn t27_old_words_open_nothing_written_after() {
    let (world, first) = World::new();
    world.add(&first, "before.txt");
    let second = world.join(&first, "second");
    pass(&first, &second);
    let old = read_phrase(&world.phrase).unwrap();
    assert_eq!(opened(&first, &old), Some(newest(&first)));

    let drafted = first.draft_phrase(&world.phrase).unwrap();
    assert_eq!((drafted.name.as_str(), drafted.device_id), ("first", id(&first)));
    let new = read_phrase(&drafted.phrase).unwrap();
    // Nothing has changed yet; other words change nothing.
    assert_eq!(opened(&first, &old), Some(newest(&first)));
    let before = state(&first);
    let (inner, words) = (first.inner(), &drafted.phrase);
    assert!(matches!(change(&inner, words, words), Err(Error::PhraseRefused(_))));
    assert!(matches!(first.draft_phrase(words), Err(Error::PhraseRefused(_))));
    let slip = Secret::new("abandon ".repeat(24).trim().to_owned());
    assert!(matches!(change(&inner, &world.phrase, &slip), Err(Error::Phrase(_))));
    assert_eq!(state(&first), before);

    change(&inner, &world.phrase, words).unwrap();
    assert!(matches!(change(&inner, &world.phrase, words), Err(Error::PhraseRefused(_))), "once");
    world.add(&first, "after.txt");
    for locker in [&first, &second] {
        pass(&first, locker);
        assert_eq!(opened(locker, &new), Some(newest(&first)));
        assert_eq!(opened(locker, &old), None);
        assert_eq!(names(locker), ["after.txt", "before.txt"]);
    }
    // The other device has the new slots, and both still know the old ones.
    for locker in [&first, &second] {
        let inner = locker.inner();
        let snapshot = inner.store().unwrap().read().unwrap();
        let held = keyring::all::<RendezvousMaster, _>(&snapshot).unwrap();
        let expected = [(0, old.rendezvous_master(0)), (1, new.rendezvous_master(1))];
        assert!(held == expected, "{}", held.len());
    }
    world.add(&second, "by-second.txt");
    pass(&second, &first);
    assert_eq!(state(&first), state(&second));
    // They can be changed again, by the other device.
    let third = second.draft_phrase(words).unwrap().phrase;
    change(&second.inner(), words, &third).unwrap();
    pass(&second, &first);
    assert_eq!(opened(&first, &read_phrase(&third).unwrap()), Some(newest(&second)));
    assert_eq!(opened(&first, &new), None);
}

/// Who came back by words that were changed elsewhere is no device, and is told so once it hears of the change.
#[test]
fn t27_who_came_back_by_old_words_is_told() {
    let (world, first) = World::new();
    world.add(&first, "before.txt");
    let second = world.join(&first, "second");
    pass(&first, &second);
    let words = first.draft_phrase(&world.phrase).unwrap().phrase;
    change(&first.inner(), &world.phrase, &words).unwrap();
    drop(second);
    // Nobody has heard of the change there.
    let back = world.recover("second", &world.phrase, "back");
    let ended = |locker: &Locker| {
        let problems = locker.status(StateHash::IfQuick).unwrap().problems;
        problems.into_iter().find(|problem| problem.code == "E_REVOKED").map(|problem| problem.message)
    };
    assert_eq!(ended(&back), None);
    assert_eq!(names(&back), ["before.txt"]);
    pass(&first, &back);
    let told = ended(&back).unwrap();
    assert!(told.contains("came back by words that had been changed"), "{told}");
    let notices = back.status(StateHash::IfQuick).unwrap().notices;
    assert!(notices.is_empty(), "what is no device warns of those that are: {notices:?}");
    assert_eq!(ended(&first), None);
    assert_eq!(ended(&world.open("second")), None);
}

/// A key that is begun at the same time, where nobody has heard of the new words, is sealed to the old ones: it is changed.
#[test]
fn t27_a_key_that_the_old_words_open_is_changed() {
    for swap in [false, true] {
        let (world, first) = World::new();
        let (second, thief) = (world.join(&first, "second"), world.join(&first, "thief"));
        pass(&first, &second);
        let new = first.draft_phrase(&world.phrase).unwrap().phrase;
        let (by_words, by_end) = if swap { (&second, &first) } else { (&first, &second) };
        change(&by_words.inner(), &world.phrase, &new).unwrap();
        by_end.revoke_device(&id(&thief)).unwrap();
        let old = read_phrase(&world.phrase).unwrap();
        let new = read_phrase(&new).unwrap();
        let both_pass = || {
            for _ in 0..3 {
                pass(&first, &second);
                pass(&second, &first);
            }
        };
        both_pass();
        if opened(&first, &old).is_some() {
            assert!(crate::rotate::renew(&first.inner()).unwrap(), "{swap}");
            both_pass();
        }
        for locker in [&first, &second] {
            assert!(!crate::rotate::renew(&locker.inner()).unwrap(), "{swap}");
            assert_eq!(opened(locker, &old), None, "{swap}");
            assert_eq!(opened(locker, &new), Some(newest(&first)), "{swap}");
        }
        assert_eq!(newest(&first), newest(&second));
    }
}

/// Hands over the log of the person without what it names.
fn tell_log(from: &Locker, to: &Locker) {
    let (source, target) = (from.inner(), to.inner());
    for (log, heads) in source.standing().unwrap().heads {
        for head in heads.into_iter().filter(|_| log == source.person_log()) {
            let items = source.load_items(log, &head.author, 0, head.seq, u64::MAX).unwrap();
            let incoming = items
                .into_iter()
                .map(|item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device })
                .collect();
            target.take_items(incoming).unwrap();
        }
    }
}

/// Goal: what stands in the way of new words is said, with its cause, before any are told; nothing is changed by it.
#[test]
fn what_stands_in_the_way_is_said_before_words_are_told() {
    let (world, first) = World::new();
    let (second, thief) = (world.join(&first, "second"), world.join(&first, "thief"));
    pass(&first, &second);
    let words = second.draft_phrase(&world.phrase).unwrap().phrase;
    // The log names a key that has not come.
    first.revoke_device(&id(&thief)).unwrap();
    tell_log(&first, &second);
    let inner = second.inner();
    let drafted = second.draft_phrase(&world.phrase);
    assert!(matches!(drafted, Err(Error::Network(_))), "{:?}", drafted.err());
    assert!(matches!(change(&inner, &world.phrase, &words), Err(Error::Network(_))));
    pass(&first, &second);
    second.draft_phrase(&world.phrase).unwrap();
    // Its home may be another's copy. Other words are told all the same.
    let noted = inner.store().unwrap().write::<_, Error>(|txn| Doubt::note(txn, Sign::Behind, 1));
    noted.unwrap();
    let drafted = second.draft_phrase(&world.phrase);
    assert!(matches!(drafted, Err(Error::Restored)), "{:?}", drafted.err());
    assert!(matches!(change(&inner, &world.phrase, &words), Err(Error::Restored)));
    assert!(matches!(second.draft_phrase(&words), Err(Error::PhraseRefused(_))));
    let old = read_phrase(&world.phrase).unwrap();
    assert_eq!(opened(&second, &old), Some(newest(&first)));
}
