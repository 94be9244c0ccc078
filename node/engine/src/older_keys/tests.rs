//! Goal: a device that was off while the key was changed is found, however long it was off and however often that was;
//! an ended one finds nobody for ever. Method: the rule as a table; then real stores in temporary folders, whose logs,
//! objects and packs are handed over without a network.

use locker_crypto::secret::RendezvousSecret;
use locker_store::remembered::{self, Chain, Mark};

use super::*;
use crate::Locker;
use crate::test_mesh::{World, id, pass};

/// Noon of a day by the clock, and so many days of running.
fn on(day: u64, days: u32) -> Moment {
    Moment { at_s: day * DAY_S + DAY_S / 2, days }
}

/// T95: an older key is heard for 90 days, by the clock and of running, and for whoever is not known to hold a later
/// one.
#[test]
fn t95_an_older_key_is_heard_for_its_time_and_for_who_lags() {
    let since = on(1_000, 10);
    let second_before = Moment { at_s: on(1_090, 0).at_s - 1, days: 5_000 };
    // Generation 3 was followed by 4. What the others hold at least, the moment, whether 3 is heard.
    let cases = [
        (4, since, true),
        (4, on(1_089, 99), true),
        (4, second_before, true),
        (4, on(1_090, 99), true),
        (4, on(1_090, 100), false),
        (5, on(1_090, 100), false),
        // The clock was behind when it was seen, and was set right.
        (4, on(9_000, 10), true),
        // Who lags is waited for without end, whatever it holds.
        (3, on(1_090, 100), true),
        (2, on(9_000, 5_000), true),
        (0, on(9_000, 5_000), true),
        // Who lags does not shorten the time.
        (3, since, true),
        // The clock was ahead when it was seen: days of running alone count.
        (4, on(0, 99), true),
        (4, on(0, 100), false),
        (3, on(0, 100), true),
        // One that is at its end.
        (4, Moment { at_s: u64::MAX, days: 10 }, true),
        (4, Moment { at_s: u64::MAX, days: 100 }, false),
    ];
    for (least, now, is_heard) in cases {
        let older = OlderKeys { newest: 3, heard: Vec::new() }.follow(4, since);
        let left = older.clone().let_go(least, now);
        assert_eq!(left == older, is_heard, "{least}, {now:?}");
        assert_eq!(left.generations().collect::<Vec<_>>(), if is_heard { vec![3] } else { vec![] });
        assert_eq!(left.newest, 4);
    }
    // Seen by a clock that was at its end: the days end it.
    let older = OlderKeys::default().follow(1, Moment { at_s: u64::MAX - 5, days: 7 });
    assert_eq!(older.clone().let_go(1, on(1_000, 96)), older);
    assert_eq!(older.let_go(1, on(1_000, 97)).generations().count(), 0);
}

/// T95: each generation goes by itself, from the oldest that somebody may still hold on.
#[test]
fn t95_each_generation_has_its_own_time() {
    let older = OlderKeys::default().follow(1, on(1_000, 1)).follow(2, on(1_050, 2)).follow(3, on(1_200, 3));
    let left = |least, now| older.clone().let_go(least, now).generations().collect::<Vec<_>>();
    assert_eq!(left(3, on(1_300, 90)), [2, 1, 0]);
    assert_eq!(left(3, on(1_300, 91)), [2, 1]);
    assert_eq!(left(3, on(1_300, 92)), [2]);
    assert_eq!(left(3, on(1_300, 93)), [0_u32; 0]);
    assert_eq!(left(3, on(1_289, 93)), [2]);
    assert_eq!(left(1, on(1_300, 93)), [2, 1]);
}

/// T95: what follows what, also where no change was noted before, two are seen at once, and one took the place of
/// another.
#[test]
fn t95_changes_are_noted_when_they_are_seen() {
    let (first, second) = (on(1_000, 1), on(2_000, 2));
    let generations = |older: &OlderKeys| older.generations().collect::<Vec<_>>();
    let none = OlderKeys::default();
    assert_eq!(none.clone().follow(0, first), none);
    // A home of a former version, or one that joined: every change is seen now.
    let three = none.clone().follow(3, first);
    assert_eq!(generations(&three), [2, 1, 0]);
    assert!(three.heard.iter().all(|older| older.since == first));
    assert_eq!(three.clone().follow(3, second), three, "seen once");
    let five = three.clone().let_go(3, on(1_090, 91)).follow(5, second);
    assert_eq!(generations(&five), [4, 3]);
    assert!(five.heard.iter().all(|older| older.since == second));
    // What was in use as 5, and 4 before it, were started beside another 4, which counts; what follows that is another
    // 5.
    let back = five.clone().follow(4, second);
    assert_eq!((back.newest, generations(&back)), (4, vec![3]));
    assert_eq!(generations(&back.follow(5, second)), [4, 3]);
    // No more than a knock holds.
    for newest in [OLDER_KEYS_MAX, OLDER_KEYS_MAX + 1, u32::MAX] {
        let all = none.clone().follow(newest, first);
        assert_eq!(all, three.clone().follow(newest, first), "{newest}");
        assert_eq!(all.heard.len(), OLDER_KEYS_MAX as usize);
        assert_eq!((all.heard[0].generation, all.newest), (newest - OLDER_KEYS_MAX, newest));
    }
}

#[test]
fn what_is_noted_is_read_as_it_was_written_and_in_no_other_form() {
    let older = OlderKeys::default().follow(2, on(1_000, 1)).follow(4, on(2_000, u32::MAX));
    let bytes = older.encode();
    assert!(older.heard.len() == 4 && decode(&bytes).unwrap() == older);
    assert_eq!(decode(&OlderKeys::default().encode()).unwrap(), OlderKeys::default());
    assert_eq!(decode(&bytes[..bytes.len() - 1]).unwrap_err(), Refusal::Canon);
    assert_eq!(decode(&[&bytes[..], &[0]].concat()).unwrap_err(), Refusal::Canon);
    assert_eq!(decode(&[0x83, 2, 0, 0x80]).unwrap_err(), Refusal::Version);
    // Not before the newest, and not ascending.
    assert_eq!(decode(&[0x83, 1, 3, 0x81, 0x83, 3, 0, 0]).unwrap_err(), Refusal::Canon);
    assert_eq!(decode(&[0x83, 1, 3, 0x82, 0x83, 1, 0, 0, 0x83, 1, 0, 0]).unwrap_err(), Refusal::Canon);
}

/// The secrets under which a device looks for another one, or hears whoever looks for it.
fn doors(at: &Locker, of: &Locker) -> Vec<RendezvousSecret> {
    at.inner().keys().doors_of(&of.inner().keys().device_id())
}

/// Whether one that looks for another one is heard by it.
fn finds(from: &Locker, to: &Locker) -> bool {
    let heard = doors(to, to);
    doors(from, to).iter().any(|secret| heard.contains(secret))
}

fn tend(locker: &Locker, now: Moment) {
    locker.inner().tend_older_keys_at(now).unwrap();
}

/// T95: the key before is heard until the device that stays has followed, which what it writes shows, and not longer
/// than that if the time is over; what an ended device has or does not have keeps it alive no longer.
#[test]
fn t95_the_key_before_is_heard_until_everybody_who_stays_has_followed() {
    let (world, first) = World::new();
    let (second, thief) = (world.join(&first, "second"), world.join(&first, "thief"));
    pass(&first, &second);
    tend(&first, on(1_000, 1));
    assert_eq!(doors(&first, &first).len(), 1);
    first.revoke_device(&id(&thief)).unwrap();
    // From the change on, before it was noted.
    assert_eq!(doors(&first, &first).len(), 2);
    tend(&first, on(1_000, 1));
    // The second one was off for years.
    tend(&first, on(9_000, 900));
    assert!(finds(&second, &first) && finds(&first, &second));
    assert!(finds(&thief, &first), "it is refused behind the door");

    pass(&first, &second);
    assert!(doors(&second, &first)[0] == doors(&first, &first)[0]);
    // What it took shows nothing to who was not told of it; what it writes does.
    tend(&first, on(9_000, 900));
    assert_eq!(doors(&first, &first).len(), 2);
    world.add(&second, "by-second.txt");
    pass(&second, &first);
    for too_early in [on(1_089, 91), on(1_090, 90)] {
        tend(&first, too_early);
        assert_eq!(doors(&first, &first).len(), 2);
    }
    tend(&first, on(1_090, 91));
    assert_eq!(doors(&first, &first).len(), 1);
    assert!(finds(&second, &first) && !finds(&thief, &first) && !finds(&first, &thief));
    // After a start too, and on the other device by its own clock.
    drop(first);
    let first = world.open("first");
    assert_eq!(doors(&first, &first).len(), 1);
    tend(&second, on(5_000, 1));
    assert_eq!(doors(&second, &second).len(), 2);
    tend(&second, on(5_090, 91));
    assert_eq!(doors(&second, &second).len(), 1);
}

/// T95: a device that missed several changes is found under the key that it has, and who joined meanwhile finds it too.
/// What it said that it has shows as much as what it writes.
#[test]
fn t95_who_missed_several_changes_comes_back() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    let thieves = ["one", "two"].map(|name| world.join(&first, name));
    pass(&first, &second);
    for (thief, day) in thieves.iter().zip([1_000, 2_000]) {
        first.revoke_device(&id(thief)).unwrap();
        tend(&first, on(day, 1));
    }
    tend(&first, on(9_000, 900));
    let third = world.join(&first, "third");
    assert_eq!((doors(&first, &first).len(), doors(&second, &second).len()), (3, 1));
    assert!(finds(&second, &first) && finds(&first, &second) && finds(&third, &second));

    // It took all and writes nothing. What it says in a session is remembered.
    pass(&first, &second);
    let inner = first.inner();
    let own = inner.keys().device_id();
    let heads = inner.standing().unwrap().heads;
    let of_entries = heads.iter().find(|(log, _)| *log == inner.entry_log()).unwrap();
    let last = of_entries.1.iter().find(|head| head.author == own).unwrap().seq;
    let say = |locker: &Locker, count| {
        let device = locker.inner().keys().device_id();
        let chain = Chain { device, kind: 0, tag: inner.space_tag(), author: own };
        let said = inner.store().unwrap().write(|txn| {
            remembered::put(txn, &chain, &Mark { count, went_back_at: 0 });
            Ok::<_, Error>(())
        });
        said.unwrap();
        tend(&first, on(9_000, 900));
    };
    say(&third, last + 1);
    assert_eq!(doors(&first, &first).len(), 3);
    say(&second, 1);
    assert_eq!(doors(&first, &first).len(), 3, "it has what was before the changes");
    say(&second, last + 1);
    assert_eq!(doors(&first, &first).len(), 1);
    assert!(thieves.iter().all(|thief| !finds(thief, &first)));
}
