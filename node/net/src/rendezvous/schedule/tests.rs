//! The plan itself, what somebody who sees every record come and go can make of it (T44), and whether who may finds
//! one (T90).

use std::collections::{BTreeMap, HashMap};

use libp2p::kad;
use locker_crypto::certificate::Certificate;
use locker_crypto::id::VerifyingKey;
use locker_crypto::identity::{Root, Slot};
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::{Entropy, RendezvousSecret, SigningSeed};
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::rendezvous::{Publication, dht};

const INTERVAL: Duration = Duration::from_secs(8 * 3_600);
const RETRY: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(200);
/// Noon of some day.
const NOON: u64 = 20_000 * PERIOD_S + PERIOD_S / 2;
const LOCKERS: usize = 5;
const SECRETS: usize = 4;
const DAYS: u64 = 60;

/// Plays a schedule from noon on; every put succeeds at once. Gives (period, unix seconds) of each put.
fn play(schedule: &mut Schedule, dice: &mut ChaCha20Rng, days: u64) -> Vec<(u64, u64)> {
    let start = Instant::now();
    let mut now = Moment { at: start, unix_s: NOON };
    let mut puts = Vec::new();
    loop {
        schedule.renew(now, INTERVAL, dice);
        if let Some(period) = schedule.take_due(now.at, INTERVAL, QUIET) {
            puts.push((period, now.unix_s));
            schedule.ended(true, now.at, RETRY);
        }
        let due = schedule.next_due().unwrap();
        assert!(due > now.at);
        // Whole seconds, as the clock of the system tells them.
        let at_s = (due - start).as_secs() + 1;
        now = Moment { at: start + Duration::from_secs(at_s), unix_s: NOON + at_s };
        if at_s > days * PERIOD_S {
            return puts;
        }
    }
}

#[test]
fn each_record_is_put_in_its_own_day_and_stands_until_the_next_is_put() {
    let puts = play(&mut Schedule::default(), &mut ChaCha20Rng::seed_from_u64(1), 20);
    let mut by_period: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    puts.iter().for_each(|(period, at)| by_period.entry(*period).or_default().push(at % PERIOD_S));
    assert_eq!(by_period.len(), 21);
    for (period, puts) in by_period.iter().skip(1).take(18) {
        let hour = |n: u64| n * 3_600;
        let [first, second, third] = puts[..] else { panic!("{period}: {puts:?}") };
        assert!(first <= hour(4) + 1 && second - first <= hour(8) + 1 && third - second <= hour(8) + 1);
        assert!((hour(16)..=hour(20) + 1).contains(&third));
    }
    // None of another day (T82), and none is out of date (30 h) before the next is there.
    assert!(puts.iter().all(|(period, at)| *period == period_at(*at)));
    assert!(puts.windows(2).all(|two| two[1].1 - two[0].1 <= 12 * 3_600 + 1));
}

#[test]
fn what_fails_is_tried_again_and_what_changed_goes_out_again() {
    let mut dice = ChaCha20Rng::seed_from_u64(2);
    let mut schedule = Schedule::default();
    let start = Moment { at: Instant::now(), unix_s: NOON };
    schedule.renew(start, INTERVAL, &mut dice);
    assert!(!schedule.is_stored());
    let today = period_at(NOON);
    assert_eq!(schedule.take_due(start.at, INTERVAL, QUIET), Some(today));
    // A change while it is under way: again when it is through.
    schedule.anew(start.at);
    assert_eq!(schedule.take_due(start.at, INTERVAL, QUIET), None);
    schedule.ended(true, start.at, RETRY);
    assert!(schedule.is_stored());
    assert_eq!(schedule.take_due(start.at + QUIET, INTERVAL, QUIET), Some(today));
    let mut at = start.at + QUIET;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
        schedule.ended(false, at, RETRY);
        at += pause;
        assert_eq!((schedule.is_stored(), schedule.next_due()), (false, Some(at)));
        assert_eq!(schedule.take_due(at, INTERVAL, QUIET), Some(today));
    }
    schedule.ended(true, at, RETRY);

    // The clock is set to another year: what there was is over.
    let other = Moment { at, unix_s: NOON + 400 * PERIOD_S };
    schedule.renew(other, INTERVAL, &mut dice);
    assert!(!schedule.is_stored());
    assert_eq!(schedule.take_due(at, INTERVAL, QUIET), Some(period_at(other.unix_s)));
}

/// Goal: yesterday's record stands over midnight if nothing of it was left to do; else today's comes at once. Method: a node that
/// starts in the evening, after the last moment of any plan; what is done to it before or at midnight, and after the clocks
/// went on without it.
#[test]
fn at_midnight_yesterdays_record_stands_unless_it_is_wrong_or_missing() {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Case {
        Stands,
        Failed,
        ChangedBefore,
        ChangedAfter,
        Asleep,
    }
    for case in [Case::Stands, Case::Failed, Case::ChangedBefore, Case::ChangedAfter, Case::Asleep] {
        let mut dice = ChaCha20Rng::seed_from_u64(3);
        let mut schedule = Schedule::default();
        let early = if case == Case::Asleep { PERIOD_S / 2 } else { 60 };
        let start = Moment { at: Instant::now(), unix_s: NOON + PERIOD_S / 2 - early };
        schedule.renew(start, INTERVAL, &mut dice);
        let yesterday = period_at(NOON);
        assert_eq!(schedule.take_due(start.at, INTERVAL, QUIET), Some(yesterday));
        schedule.ended(case != Case::Failed, start.at, RETRY);
        // Before midnight there is nothing of tomorrow's.
        schedule.renew(start, INTERVAL, &mut dice);
        assert_eq!(schedule.take_due(start.at, INTERVAL, QUIET), None);
        let midnight = Moment { at: start.at + Duration::from_secs(early), unix_s: start.unix_s + early };
        if case == Case::ChangedBefore {
            schedule.anew(midnight.at);
        }
        schedule.renew(midnight, INTERVAL, &mut dice);
        if case == Case::ChangedAfter {
            schedule.anew(midnight.at);
        }
        let due = schedule.take_due(midnight.at, INTERVAL, QUIET);
        assert_eq!(due, (case != Case::Stands).then_some(yesterday + 1), "{case:?}");
        // Set back by an hour, it is yesterday again.
        let back = Moment { unix_s: midnight.unix_s - 3_600, ..midnight };
        schedule.renew(back, INTERVAL, &mut dice);
        assert!(schedule.next_due().unwrap() <= back.at);
    }
}

/// All that a crawler sees of one key of the DHT: when records came, and the bytes of the last one.
struct Sighting {
    locker: usize,
    puts: Vec<u64>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Sighting {
    fn first(&self) -> u64 {
        self.puts[0]
    }

    fn last(&self) -> u64 {
        self.puts[self.puts.len() - 1]
    }

    fn issued(&self) -> u64 {
        u64::from_le_bytes(self.value[32..40].try_into().unwrap())
    }
}

/// What there is to compare two keys by; each feature is a small number.
fn features(a: &Sighting, b: &Sighting) -> [(usize, u64); 10] {
    let (a, b) = if a.first() <= b.first() { (a, b) } else { (b, a) };
    let alike = |one: &[u8], two: &[u8]| one.iter().zip(two).filter(|(x, y)| x == y).count() as u64;
    // Minutes in bins of a quarter of an hour, both ways within three days.
    let gap = |from: u64, to: u64| (to + 3 * PERIOD_S).saturating_sub(from) / 900;
    let turn = |from: u64, to: u64, round: u64| {
        let apart = to.abs_diff(from) % round;
        apart.min(round - apart) / 300
    };
    [
        gap(a.last(), b.first()),
        gap(a.first(), b.first()),
        gap(a.last(), b.last()),
        turn(a.first(), b.first(), PERIOD_S),
        turn(a.first(), b.first(), 8 * 3_600),
        turn(a.last(), b.last(), PERIOD_S),
        gap(a.issued(), b.issued()),
        (a.puts.len() * 8 + b.puts.len()) as u64,
        alike(&a.key[5..], &b.key[5..]),
        alike(&a.value[40..], &b.value[40..]),
    ]
    .map({
        let mut number = 0;
        move |value| {
            number += 1;
            (number, value)
        }
    })
}

/// Trains on the first half of the days whether two keys are of one locker, each feature by itself and all together, and
/// returns how often the best of them is right on the second half, of pairs `apart` days apart, with both answers equally likely.
fn best_classifier(sightings: &BTreeMap<u64, Vec<Sighting>>, apart: u64) -> f64 {
    let days: Vec<u64> = sightings.keys().copied().collect();
    let half = days[days.len() / 2];
    let mut counts: HashMap<(usize, u64), [f64; 2]> = HashMap::new();
    let mut totals = [0.0_f64; 2];
    let pairs = |day: u64| {
        let (here, there) = (&sightings[&day], sightings.get(&(day + apart)));
        here.iter().enumerate().flat_map(move |(n, a)| {
            let skip = if apart == 0 { n + 1 } else { 0 };
            there.into_iter().flat_map(move |there| there.iter().skip(skip).map(move |b| (a, b)))
        })
    };
    for day in days.iter().copied().filter(|day| day + apart < half) {
        for (a, b) in pairs(day) {
            let class = usize::from(a.locker == b.locker);
            totals[class] += 1.0;
            for feature in features(a, b) {
                counts.entry(feature).or_default()[class] += 1.0;
            }
        }
    }
    let weigh = |feature: &(usize, u64)| {
        let [other, same] = counts.get(feature).copied().unwrap_or_default();
        (((same + 2.0) / totals[1]) / ((other + 2.0 * totals[0] / totals[1]) / totals[0])).ln()
    };
    let mut right = [[0.0_f64; 2]; 11];
    let mut all = [0.0_f64; 2];
    for day in days.iter().copied().filter(|day| *day >= half) {
        for (a, b) in pairs(day) {
            let class = usize::from(a.locker == b.locker);
            all[class] += 1.0;
            let weights = features(a, b).map(|feature| weigh(&feature));
            let said = weights.iter().copied().chain([weights.iter().sum()]);
            for (right, weight) in right.iter_mut().zip(said) {
                right[class] += f64::from(u8::from((weight > 0.0) == (class == 1)));
            }
        }
    }
    assert!(all[1] > 5_000.0, "{all:?}");
    right.iter().map(|right| (right[0] / all[0] + right[1] / all[1]) / 2.0).fold(0.0, f64::max)
}

/// What a crawler sees of five lockers that find one another under four secrets each. `play` says when which period's record
/// of a secret's r is put.
fn crawl(
    mut play: impl FnMut(usize, u8, &mut ChaCha20Rng) -> Vec<(u64, u64)>,
) -> BTreeMap<u64, Vec<Sighting>> {
    let mut dice = ChaCha20Rng::seed_from_u64(44);
    let device = |n: usize| Signing::from_seed(&SigningSeed::new([u8::try_from(n).unwrap() + 1; 32]));
    let mut seen: BTreeMap<u64, Vec<Sighting>> = BTreeMap::new();
    for number in 0..LOCKERS * SECRETS {
        let locker = number / SECRETS;
        let secret = RendezvousSecret::new([u8::try_from(number).unwrap(); 32]);
        let life = NOON + 2 * DAYS * PERIOD_S;
        let certificate = Certificate::issue(&device(locker), device(99).verifying_key(), life);
        let publication = Publication { secret, r: 0..3, certificate };
        for r in publication.r.clone() {
            let mut of_period: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            play(number, r, &mut dice)
                .into_iter()
                .for_each(|(p, at)| of_period.entry(p).or_default().push(at));
            // What was begun by hand, at the start, is seen to belong together; the row speaks of the days after it.
            for (period, puts) in of_period.into_iter().skip(1) {
                let at = puts[puts.len() - 1];
                let record: kad::Record =
                    dht::make_record(&publication, r, period, (vec![], vec![]), at, &mut dice).unwrap();
                assert_eq!(record.publisher, None);
                let (key, value) = (record.key.to_vec(), record.value);
                seen.entry(period).or_default().push(Sighting { locker, puts, key, value });
            }
        }
    }
    seen
}

/// T44: 60 days, five lockers, no restart. The best classifier over all fields of the records, and over when they come and go,
/// links what is one locker's no better than chance and 2 %; it does see what a plan that goes on from day to day gives away.
#[test]
fn t44_nothing_links_the_records_of_one_locker() {
    let seen = crawl(|_, _, dice| play(&mut Schedule::default(), dice, DAYS));
    for apart in [0, 1, 2, 7] {
        let share = best_classifier(&seen, apart);
        assert!(share <= 0.52, "{apart} days apart: {share}");
    }

    // The control: each secret's day begins at an hour of its own, and what is put goes on from there.
    let mut plans: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
    let seen = crawl(|number, _, dice| {
        let plan = plans.entry(number).or_insert_with(|| {
            let offset = u64::from(dice.next_u32()) % PERIOD_S;
            let mut at = NOON;
            let mut plan = Vec::new();
            while at < NOON + DAYS * PERIOD_S {
                plan.push(((at - offset) / PERIOD_S, at));
                at += 4 * 3_600 + u64::from(dice.next_u32()) % (4 * 3_600);
            }
            plan
        });
        plan.clone()
    });
    for apart in [0, 1] {
        let share = best_classifier(&seen, apart);
        assert!(share > 0.55, "{apart} days apart: {share}");
    }
}

/// T90: all devices of the owner are off for 60 days, and the replica alone puts its records: with the secret of its
/// slot and a key of its own, and nothing else. Whoever has the words derives the same secret, and finds three records
/// of it at every hour of every day. Method: a node of the DHT that keeps the last record of each key; one question an
/// hour.
#[test]
fn t90_a_replica_alone_is_found_by_the_words_at_every_hour_of_sixty_days() {
    let secret = || {
        let root = Root::from_entropy(&Entropy::new([90; 32]));
        Slot::new(3).unwrap().secret(&root.rendezvous_master(0))
    };
    let replica = Signing::from_seed(&SigningSeed::new([3; 32]));
    // All that the replica has of its owner: what it was given once.
    let given = secret();
    let mut dice = ChaCha20Rng::seed_from_u64(90);
    let mut puts: Vec<(u64, u64, u8)> = Publishers::One
        .write(0)
        .flat_map(|r| {
            let played = play(&mut Schedule::default(), &mut dice, DAYS);
            played.into_iter().map(move |(period, at)| (at, period, r))
        })
        .collect();
    puts.sort_unstable();
    let (mut kept, mut next): (HashMap<Vec<u8>, kad::Record>, _) = (HashMap::new(), puts.iter().peekable());
    let sought = secret();
    for hour in 1..DAYS * 24 {
        let now = NOON + hour * 3_600;
        while let Some((at, period, r)) = next.next_if(|(at, ..)| *at <= now) {
            // A certificate lasts ten days, and is made anew by whoever runs longer.
            let certificate = Certificate::issue(&replica, key(99), at + 10 * PERIOD_S);
            let publication = Publication { secret: given.clone(), r: 0..3, certificate };
            let record =
                dht::make_record(&publication, *r, *period, (vec![], vec![]), *at, &mut dice).unwrap();
            kept.insert(record.key.to_vec(), record);
        }
        let found = dht::keys_to_read(&sought, Publishers::One, now).into_iter().filter(|(period, key)| {
            let record = kept.get(key.as_slice());
            // Who has nothing but the words knows no device to expect.
            let read = record.map(|record| dht::read_record(period, key, record, None, now));
            let contact = read.and_then(Result::ok).map(|(contact, _)| contact);
            contact.is_some_and(|contact| contact.certificate.device() == replica.verifying_key())
        });
        let found = found.count();
        assert!(found >= 3, "day {} hour {}: {found} records", hour / 24, hour % 24);
    }
    // The control: who has other words finds nothing at any of these keys.
    let root = Root::from_entropy(&Entropy::new([91; 32]));
    let other = Slot::new(3).unwrap().secret(&root.rendezvous_master(0));
    let keys = dht::keys_to_read(&other, Publishers::One, NOON + (DAYS * 24 - 1) * 3_600);
    assert!(keys.iter().all(|(_, key)| !kept.contains_key(key.as_slice())));
}

fn key(n: u8) -> VerifyingKey {
    Signing::from_seed(&SigningSeed::new([n; 32])).verifying_key()
}
