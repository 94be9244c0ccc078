//! Goal: nobody brings in a device unnoticed (T28). Method: real stores in temporary folders, whose logs are handed over
//! without a network.

use super::*;
use crate::Locker;
use crate::rebirth::Sign;
use crate::report::StateHash;
use crate::test_mesh::{World, id, pass};

fn notices(locker: &Locker) -> Vec<Notice> {
    locker.status(StateHash::IfQuick).unwrap().notices
}

fn told(locker: &Locker) -> Vec<String> {
    notices(locker).into_iter().map(|notice| notice.device).collect()
}

/// T28: whoever has an unlocked device for a minute can add one; every other device tells it, also that on which he did it.
#[test]
fn t28_a_device_that_was_added_is_told_on_all_others_until_it_is_ended() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    let third = world.join(&first, "third");
    assert_eq!(told(&first), [id(&second), id(&third)]);
    assert!(told(&second).is_empty(), "it has not heard of the third");
    assert!(told(&third).is_empty(), "it is itself the last one, and the others were there before");

    let before_ms = second.inner().env().now_ms();
    pass(&first, &second);
    let notices = notices(&second);
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.code.as_str(), &notice.device), ("device_added", &id(&third)));
    assert!(notice.at >= before_ms, "it counts from when it was heard of, whatever the entry says");
    let Notice { message, .. } = notice;
    assert!(message.starts_with("The device \"third\" was added on \"first\" on "), "{message}");
    assert!(message.ends_with(&format!(": locker device revoke {}", &id(&third)[..8])), "{message}");
    // What comes once more is no news.
    pass(&third, &second);
    pass(&first, &second);
    assert_eq!(told(&second), [id(&third)]);

    first.revoke_device(&id(&third)).unwrap();
    assert_eq!(told(&first), [id(&second)]);
    pass(&first, &second);
    assert!(told(&second).is_empty());
}

#[test]
fn it_is_told_for_fourteen_days_and_forgotten_when_the_next_comes() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    let inner = first.inner();
    let age = |by_ms: u64| {
        let store = inner.store().unwrap();
        store
            .write::<_, Error>(|txn| {
                let mut noted = read(txn)?;
                for one in &mut noted {
                    one.heard_ms -= by_ms;
                }
                settings::put(txn, SETTING, &encode(&noted));
                Ok(())
            })
            .unwrap();
    };
    age(TOLD_MS - 3_600_000);
    assert_eq!(told(&first), [id(&second)]);
    age(3_600_000);
    assert!(told(&first).is_empty());
    let third = world.join(&first, "third");
    assert_eq!(told(&first), [id(&third)]);
    let snapshot = inner.store().unwrap().read().unwrap();
    let noted = read(&snapshot).unwrap();
    assert_eq!(noted.iter().map(|one| one.device.to_string()).collect::<Vec<_>>(), [id(&third)]);
}

/// Whoever has the words can bring in a device as well.
#[test]
fn a_device_that_came_by_the_words_is_told_and_tells_nothing_of_those_before_it() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    drop(first);
    let back = world.recover("first", &world.phrase, "back");
    assert!(told(&back).is_empty());
    pass(&back, &second);
    let notices = notices(&second);
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.code.as_str(), &notice.device), ("device_recovered", &id(&back)));
}

/// Whoever copies the home of a device gets a key of his own where the copy is found out.
#[test]
fn a_new_key_of_a_device_is_told_on_the_others_and_not_on_itself() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    let old = first.inner().keys().device_id();
    first.inner().note_doubt(Sign::Differs).unwrap();
    let asked = first.inner().ask_to_succeed().unwrap().unwrap();
    second.inner().succeed(&old, &asked).unwrap();
    pass(&second, &first);
    assert!(first.inner().be_reborn().unwrap());
    assert_eq!(told(&first), [id(&second)]);
    let notices = notices(&second);
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.code.as_str(), &notice.device), ("device_replaced", &id(&first)));
}

/// Nobody hides one newcomer behind many, nor by ending it with what does not count.
#[test]
fn a_newcomer_is_not_hidden_by_others_or_by_an_end_that_does_not_count() {
    let (_world, first) = World::new();
    let inner = first.inner();
    let key = |n: u8| VerifyingKey([n; 32]);
    let before = Roster::read(inner.keys().person, &Vec::<Entry>::new());
    let with = |keys: std::ops::Range<u8>, ended: &[u8]| {
        let mut roster = before.clone();
        roster.brought_in = keys.map(key).collect();
        roster.removed = ended.iter().map(|n| (key(*n), 0)).collect();
        roster
    };
    let note_all = |before: &Roster, after: &Roster, now_ms: u64| {
        let store = inner.store().unwrap();
        store.write::<_, Error>(|txn| note(txn, &key(0), (before, after), now_ms)).unwrap();
        let snapshot = store.read().unwrap();
        read(&snapshot).unwrap()
    };
    let is_noted =
        |noted: &[Newcomer], n: u8, ms: u64| noted.contains(&Newcomer { device: key(n), heard_ms: ms });
    let noted = note_all(&before, &with(0..200, &[]), 5);
    assert_eq!(noted.len(), 199, "all but itself");
    assert!(is_noted(&noted, 199, 5));
    // Ended, and in again, as the end counts for nothing: it is as new as it was.
    let (here, ended) = (with(0..200, &[]), with(0..200, &[9]));
    assert!(is_noted(&note_all(&here, &ended, 6), 9, 5));
    assert!(is_noted(&note_all(&ended, &here, 7), 9, 5));
    // Long after, that it is in again is news.
    assert!(note_all(&here, &ended, TOLD_MS + 8).is_empty());
    assert_eq!(note_all(&ended, &here, TOLD_MS + 9), [Newcomer { device: key(9), heard_ms: TOLD_MS + 9 }]);
}

#[test]
fn what_is_noted_is_read_as_it_was_written_and_in_no_other_form() {
    let one = |n: u8| Newcomer { device: VerifyingKey([n; 32]), heard_ms: u64::from(n) << 40 };
    let all = vec![one(1), one(2)];
    let bytes = encode(&all);
    assert_eq!(decode(&bytes).unwrap(), all);
    assert_eq!(decode(&encode(&[])).unwrap(), []);
    assert_eq!(decode(&bytes[..bytes.len() - 1]).unwrap_err(), Refusal::Canon);
    assert_eq!(decode(&[&bytes[..], &[0]].concat()).unwrap_err(), Refusal::Canon);
    assert_eq!(decode(&[0x82, 2, 0x80]).unwrap_err(), Refusal::Version);
}
