//! Goal: who was ended opens nothing of what is written after, whatever bytes come into his hands. Method: real stores in
//! temporary folders, whose logs, objects and packs are handed over without a network, to the ended device too.

use std::collections::BTreeSet;

use locker_crypto::epoch::Bundle;
use locker_crypto::id::{ChunkTag, PackHash};
use locker_crypto::identity::DeviceKeys;
use locker_crypto::person;
use locker_store::{index, objects};
use locker_sync::message::v1::Ask;
use locker_sync::pairing::{Enrol, Role};
use locker_sync::session::{Fate, Item};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::keys::person_log;
use crate::limits::BUNDLES_PER_EPOCH_MAX;
use crate::node::{Asker, Incoming};
use crate::person_keys::usable_boxes;
use crate::rebirth::{Due, Left, Sign, Wrote};
use crate::report::{Happening, Silent, StateHash};
use crate::test_mesh::{World, id, names, pass};
use crate::{Error, Locker};

/// T23: every byte of the others in the hands of an ended device opens nothing that was written after; the one that stays gets
/// new keys and reads on, and so does one that joins later.
#[test]
fn t23_an_ended_device_opens_nothing_written_after() {
    let (world, first) = World::new();
    world.add(&first, "before.txt");
    let (second, thief) = (world.join(&first, "second"), world.join(&first, "thief"));
    pass(&first, &second);
    pass(&first, &thief);
    let generation = |locker: &Locker| locker.inner().keys().person_keys().unwrap().generation();
    assert_eq!((generation(&first), generation(&thief)), (0, 0));

    let told = first.revoke_device(&id(&thief)[..16]).unwrap();
    assert!(told.revoked && told.name == "thief");
    world.add(&first, "after.txt");
    let fates = pass(&first, &thief);
    assert!(fates.iter().any(|(_, fate)| *fate == Fate::Waiting), "what is sealed anew waits for a key");
    assert_eq!(names(&thief), ["before.txt"]);
    assert_eq!(generation(&thief), 0);
    // Not one box of the new epoch is for it, by any key that it has.
    let stolen = thief.inner();
    for epoch in stolen.unknown_epochs() {
        let tag = stolen.space_tag();
        for bundle in first.inner().look_up(&Ask::Boxes(tag, epoch), Asker::Device).unwrap() {
            let bundle = Bundle::decode(&bundle).unwrap();
            for key in stolen.keys().person_keys().unwrap().newest_first() {
                assert!(bundle.open(&stolen.keys().space, &key.box_keys()).unwrap().is_none());
            }
        }
        let kept = objects::bundles(&stolen.store().unwrap().read().unwrap(), &tag, &epoch).unwrap();
        assert!(kept.len() <= BUNDLES_PER_EPOCH_MAX, "what does not open is kept without bound");
    }

    pass(&first, &second);
    assert_eq!((generation(&second), names(&second)), (1, names(&first)));
    world.add(&second, "by-second.txt");
    pass(&second, &first);
    let state = |locker: &Locker| locker.status(StateHash::Always).unwrap().state_hash;
    assert_eq!(state(&first), state(&second));
    let third = world.join(&second, "third");
    assert_eq!((generation(&third), names(&third)), (1, names(&first)));
    // The dedup secret is another one too: equal content is not recognised by the old.
    let dedup = |locker: &Locker| *locker.inner().keys().dedup().unwrap().expose();
    assert!(dedup(&first) == dedup(&second) && dedup(&first) != dedup(&thief));
}

/// The names that a locker knows of pieces of content, and the packs that it has.
fn pieces(locker: &Locker) -> (BTreeSet<ChunkTag>, BTreeSet<PackHash>) {
    let (inner, mut tags) = (locker.inner(), BTreeSet::new());
    let snapshot = inner.store().unwrap().read().unwrap();
    index::scan_tags(&snapshot, &inner.space_tag(), &mut |tag| {
        tags.insert(tag);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    (tags, inner.packs_here().unwrap().into_iter().collect())
}

/// T23: who was ended and has the very content of what is written after finds nothing of it by that: with all that it
/// knows it gives other names to the pieces and makes other packs of them. As long as it is a device it finds both,
/// the control.
#[test]
fn t23_the_content_itself_leads_an_ended_device_to_nothing() {
    let (world, first) = World::new();
    let thief = world.join(&first, "thief");
    for locker in [&first, &thief] {
        world.add(locker, "shared.txt");
    }
    let (tags, packs) = pieces(&first);
    assert!(!tags.is_empty() && pieces(&thief) == (tags.clone(), packs.clone()));
    first.revoke_device(&id(&thief)).unwrap();
    for locker in [&first, &thief] {
        world.add(locker, "after.txt");
    }
    let ((of_first, made), (of_thief, guessed)) = (pieces(&first), pieces(&thief));
    assert!(of_first.len() > tags.len() && of_thief.len() > tags.len());
    assert!(of_first.is_disjoint(&of_thief.difference(&tags).copied().collect()), "a name was guessed");
    assert!(made.is_disjoint(&guessed.difference(&packs).copied().collect()), "a pack was guessed");
}

/// T91: after a removal the dedup secret of before, which the ended device has, is used for nothing more: no piece of what is new
/// is recognised by it (where other secrets cut, and that keys differ, `crypto` shows). What is here already is not sealed again.
#[test]
fn t91_the_dedup_secret_of_the_ended_is_used_no_more() {
    let (world, first) = World::new();
    let thief = world.join(&first, "thief");
    let mut body = vec![0; 12 << 20];
    ChaCha20Rng::seed_from_u64(91).fill_bytes(&mut body);
    let add =
        |name: &str, end: &[u8]| world.add_bytes(&first, name, &[&body, end].concat()).new_bytes as usize;
    assert!(add("one.bin", b"1") > body.len());
    assert!(add("two.bin", b"2") < body.len() / 2, "the last piece only");
    let small = |name: &str| world.add_bytes(&first, name, &body[..200_000]).new_bytes;
    assert!(small("small.bin") > 200_000);

    first.revoke_device(&id(&thief)[..16]).unwrap();
    assert_eq!(add("one.bin", b"1"), 0, "written anew, what is here is not sealed again");
    assert_eq!(small("small.bin"), 0);
    assert_eq!(small("small, elsewhere.bin"), 0);
    assert!(add("three.bin", b"3") > body.len(), "all of it anew");
    assert!(add("four.bin", b"4") < body.len() / 2, "under one other secret");
}

/// The key of a device that stays comes after the entry that brings it in, or never: nothing is damaged, the others are ended
/// all the same, words are changed, and it gets a key when its own has come.
#[test]
fn a_key_that_has_not_come_yet_is_no_damage() {
    let (world, first) = World::new();
    let (second, thief) = (world.join(&first, "second"), world.join(&first, "thief"));
    let inner = first.inner();
    let key = second.inner().keys().device.box_keys().public().hash();
    let lost = inner.store().unwrap().write::<_, Error>(|txn| {
        objects::delete(txn, &key);
        Ok(())
    });
    lost.unwrap();
    assert!(first.revoke_device(&id(&thief)).unwrap().revoked);
    let words = first.draft_phrase(&world.phrase).unwrap().phrase;
    crate::phrase::change(&inner, &world.phrase, &words).unwrap();
    assert!(crate::rotate::is_due(&inner).unwrap(), "one device is without the key");
    let early = crate::rotate::renew(&inner);
    assert!(matches!(early, Err(Error::Network(_))), "{early:?}");
    pass(&second, &first);
    assert!(crate::rotate::renew(&inner).unwrap());
    assert!(!crate::rotate::is_due(&inner).unwrap());
    pass(&first, &second);
    let held = second.inner().keys().person_keys().unwrap().newest().box_keys().public().hash();
    assert_eq!(held, inner.keys().person_keys().unwrap().newest().box_keys().public().hash());
}

/// Goal: who has heard that another key of the person is in use, and does not hold it yet, hands no older one on: it would count
/// as given, and whoever has it would never get the other. Method: a device gets the entry of a removal without its boxes, and is
/// asked for a new device and for a new key of one that is there.
#[test]
fn a_key_that_is_still_to_come_is_not_handed_on() {
    let (world, first) = World::new();
    let [second, third, thief] = ["second", "third", "thief"].map(|name| world.join(&first, name));
    pass(&first, &second);
    third.inner().note_doubt(Sign::Differs).unwrap();
    let asked = third.inner().ask_to_succeed().unwrap().unwrap();
    first.revoke_device(&id(&thief)).unwrap();

    let (source, target) = (first.inner(), second.inner());
    let log = source.person_log();
    let items = source.load_items(log, &source.keys().device_id(), 0, u64::MAX, u64::MAX).unwrap();
    let incoming = |item: Item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device };
    target.take_items(items.into_iter().map(incoming).collect()).unwrap();
    let entries =
        || person_log(&target.store().unwrap().read().unwrap(), &target.keys().person).unwrap().len();
    let keys = DeviceKeys::random(&mut **target.env().dice());
    let enrol = Enrol::new(Role::Full, "fourth", &target.keys().person, &keys);
    let third = third.inner().keys().device_id();
    let known = entries();
    assert!(matches!(target.enrol(&enrol), Err(Error::Network(_))));
    assert!(matches!(target.succeed(&third, &asked), Err(Error::Network(_))));
    assert_eq!(entries(), known);

    pass(&first, &second);
    target.enrol(&enrol).unwrap();
    target.succeed(&third, &asked).unwrap();
    assert_eq!(entries(), known + 2);
    assert!(!crate::rotate::is_due(&target).unwrap(), "all were given the key in use");
}

/// A key that is none keeps nobody from sealing to the others: whoever brings in such a device could not be ended else.
#[test]
fn what_is_no_key_is_passed_over() {
    let (world, first) = World::new();
    let ids = [&first, &world.join(&first, "second")].map(|one| one.inner().keys().device_id());
    let inner = first.inner();
    let store = inner.store().unwrap();
    let name = store.write::<_, Error>(|txn| Ok(objects::put(txn, b"no key"))).unwrap();
    let snapshot = store.read().unwrap();
    let mut entries = person_log(&snapshot, &inner.keys().person).unwrap();
    let usable = |entries: &[_]| usable_boxes(&snapshot, entries, ids).unwrap().len();
    assert_eq!(usable(&entries), 2);
    for op in entries.iter_mut().flat_map(|entry| &mut entry.body.ops) {
        if let person::Op::AddDevice { device, .. } = op {
            device.box_key = name;
        }
    }
    assert_eq!(usable(&entries), 1);
}

/// T32, T25: what an ended device writes, and whom it brings in, has no effect where its end is known, whatever it knew.
#[test]
fn t25_t32_what_an_ended_device_does_reaches_nobody() {
    let (world, first) = World::new();
    world.add(&first, "before.txt");
    let thief = world.join(&first, "thief");
    let second = world.join(&first, "second");
    pass(&first, &thief);
    first.revoke_device(&id(&thief)).unwrap();
    pass(&first, &second);
    // It has not heard of it, goes on, and brings in a device of its own.
    world.add(&thief, "by-thief.txt");
    let ghost = world.join(&thief, "ghost");
    world.add(&ghost, "by-ghost.txt");
    pass(&ghost, &thief);
    for locker in [&first, &second] {
        pass(&thief, locker);
        let paths = names(locker);
        assert!(paths.iter().all(|path| !path.contains("by-")), "{paths:?}");
        let active: Vec<String> =
            locker.devices().unwrap().into_iter().filter(|one| !one.revoked).map(|one| one.id).collect();
        assert!(
            active.contains(&id(&first)) && active.contains(&id(&second)) && active.len() == 2,
            "{active:?}"
        );
    }
    assert_eq!(
        first.revoke_device(&id(&thief)).unwrap_err().to_string(),
        "the device \"thief\" was revoked already"
    );
    assert!(matches!(first.revoke_device(&id(&first)), Err(Error::Argument(_))));
    assert!(matches!(first.revoke_device("00000000"), Err(Error::NoSuch(_))));
    // Heard of it at last, it is told.
    pass(&first, &thief);
    let status = thief.status(StateHash::IfQuick).unwrap();
    assert!(status.problems.iter().any(|problem| problem.code == "E_REVOKED"), "{:?}", status.problems);
}

/// T23: two devices that do not hear of one another end one device each. The key that comes into use was given to one of
/// the ended ones; it is changed, everything written in between is read by all who stay, and by nobody else.
#[test]
fn t23_removals_at_the_same_time_leave_no_key_with_the_ended() {
    for swap in [false, true] {
        let (world, first) = World::new();
        world.add(&first, "before.txt");
        let [second, third, thief, lost] =
            ["second", "third", "thief", "lost"].map(|name| world.join(&first, name));
        for locker in [&second, &third, &thief, &lost] {
            pass(&first, locker);
        }
        let (mut one, mut other) = ((&first, &thief), (&second, &lost));
        if swap {
            std::mem::swap(&mut one, &mut other);
        }
        one.0.revoke_device(&id(one.1)).unwrap();
        world.add(one.0, "by-one.txt");
        other.0.revoke_device(&id(other.1)).unwrap();
        world.add(other.0, "by-other.txt");
        // A device joins where only one of both is known.
        let fourth = world.join(one.0, "fourth");
        let stay = [&first, &second, &third, &fourth];
        let all_pass = || {
            for _ in 0..3 {
                for from in stay {
                    for to in stay.iter().filter(|to| id(to) != id(from)) {
                        pass(from, to);
                    }
                }
            }
        };
        all_pass();
        let everything = ["before.txt", "by-one.txt", "by-other.txt"];
        for locker in [&first, &second, &third] {
            assert_eq!(names(locker), everything, "{swap}");
        }
        // Two of them find it at once, and one more that has heard of that has nothing to do.
        assert!(crate::rotate::renew(&first.inner()).unwrap());
        assert!(crate::rotate::renew(&third.inner()).unwrap());
        all_pass();
        for locker in stay {
            assert_eq!(names(locker), everything, "{swap}");
            assert!(!crate::rotate::renew(&locker.inner()).unwrap());
        }
        let newest = |locker: &Locker| *locker.inner().keys().person_keys().unwrap().newest().expose();
        let dedup = |locker: &Locker| *locker.inner().keys().dedup().unwrap().expose();
        world.add(&fourth, "after.txt");
        all_pass();
        for locker in stay {
            assert!(newest(locker) == newest(&first) && dedup(locker) == dedup(&first));
            assert!(names(locker).contains(&"after.txt".into()));
        }
        // All that anybody has, in the hands of the ended ones.
        for ended in [&thief, &lost] {
            for from in stay {
                pass(from, ended);
                pass(from, ended);
            }
            assert!(!names(ended).contains(&"after.txt".into()), "{swap}");
            assert!(newest(ended) != newest(&first) && dedup(ended) != dedup(&first));
        }
    }
}

/// Three devices, the third of which alone has heard of a folder that the second made.
fn with_a_folder_of_the_second() -> (World, [Locker; 3]) {
    let (world, first) = World::new();
    let (second, third) = (world.join(&first, "second"), world.join(&first, "third"));
    pass(&first, &second);
    pass(&first, &third);
    second.make_folder("journeys", false).unwrap();
    pass(&second, &third);
    (world, [first, second, third])
}

/// T93: who ended a device had not heard of the folder that it made, and somebody else put a file into it: the one that
/// wrote it gives it its place again, and nobody does so twice.
#[test]
fn t93_what_stands_on_an_ended_device_is_written_again() {
    let (world, [first, second, third]) = with_a_folder_of_the_second();
    let path = world.path("a.txt");
    std::fs::write(&path, b"a").unwrap();
    third.add(&[&path], "journeys", &Silent).unwrap();
    assert!(first.revoke_device(&id(&second)[..16]).unwrap().revoked);
    pass(&third, &first);
    pass(&first, &third);
    assert_eq!(
        (names(&first), names(&third)),
        (vec![], vec![]),
        "the control: what it stood on does not count"
    );

    let due = |locker: &Locker| locker.inner().look_for_uncounted(&Left::default()).unwrap();
    assert_eq!((due(&first), due(&third)), (Some(Due::Others), Some(Due::Own)));
    let mut left = Left::default();
    let write = |left: &mut Left| third.inner().write_again(Due::Own, left).unwrap();
    assert_eq!((write(&mut left), write(&mut left)), (Wrote::Entry, Wrote::Nothing));
    pass(&third, &first);
    for locker in [&first, &third] {
        assert_eq!(names(locker), ["journeys", "journeys/a.txt"]);
        assert_eq!(due(locker), None);
    }
}

/// T93: what the writer replaced or deleted there himself is in the history of the file and in the trash, with its bytes,
/// and nothing lets go of it meanwhile.
#[test]
fn t93_what_was_replaced_or_deleted_on_an_ended_device_goes_to_its_history() {
    let (world, [first, second, third]) = with_a_folder_of_the_second();
    let add = |name: &str, bytes: &[u8]| {
        let path = world.path(name);
        std::fs::write(&path, bytes).unwrap();
        third.add(&[&path], "journeys", &Silent).unwrap();
    };
    add("a.txt", b"first");
    add("a.txt", b"the second one");
    add("b.txt", b"deleted");
    third.remove("journeys/b.txt").unwrap();
    assert!(first.revoke_device(&id(&second)[..16]).unwrap().revoked);
    pass(&first, &third);

    let due = || third.inner().look_for_uncounted(&Left::default()).unwrap();
    let mut left = Left::default();
    let mut write = || third.inner().write_again(Due::Own, &mut left).unwrap();
    assert_eq!(third.gc(false, &Silent).unwrap().reclaimed_bytes, 0);
    assert_eq!((write(), write(), due()), (Wrote::Entry, Wrote::Nothing, None));
    third.gc(false, &Silent).unwrap();
    pass(&third, &first);
    for locker in [&first, &third] {
        assert_eq!(names(locker), ["journeys", "journeys/a.txt"]);
        let told = locker.history("journeys/a.txt").unwrap();
        let versions: Vec<_> = told.iter().filter_map(|event| Some((event.what, event.size?))).collect();
        assert_eq!(versions, [(Happening::Written, 14), (Happening::Kept, 5)]);
        let told = locker.history("journeys/b.txt").unwrap();
        let told: Vec<_> = told.iter().map(|event| event.what).collect();
        assert_eq!(told, [Happening::Created, Happening::Written, Happening::Trashed]);
    }
    let read = |path: &str| {
        let to = world.path("out");
        third.get(path, &to, &Silent).unwrap();
        let bytes = std::fs::read(&to).unwrap();
        std::fs::remove_file(to).unwrap();
        bytes
    };
    third.restore("journeys/b.txt", None, None).unwrap();
    assert_eq!(read("journeys/b.txt"), b"deleted");
    third.restore("journeys/a.txt", None, Some(2)).unwrap();
    assert_eq!(read("journeys/a.txt"), b"first");
    assert_eq!(due(), None);
}
