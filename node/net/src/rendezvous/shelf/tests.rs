//! What is kept, what is refused, and who goes when it is full.

use locker_crypto::certificate::Certificate;
use locker_crypto::rendezvous::{Contact, Period, RECORD_LEN, seal_record};
use locker_crypto::secret::{RendezvousSecret, SigningSeed};
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

const NOW: u64 = 1_800_000_000;

fn clock() -> Clock {
    Clock::new(|| NOW)
}

fn record(n: u64, issued: u64) -> Record {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&n.to_le_bytes());
    let device = Signing::from_seed(&SigningSeed::new([1; 32]));
    let certificate = Certificate::issue(&device, device.verifying_key(), NOW + 60);
    let contact = Contact { certificate, addresses: Vec::new(), relays: Vec::new() };
    let period = Period::new(&RendezvousSecret::new(secret), 1);
    let mut dice = ChaCha20Rng::seed_from_u64(n + issued);
    let value = seal_record(&period, 0, &contact, issued, &mut dice).unwrap();
    Record::new(period.dht_key(0).to_vec(), value.to_vec())
}

fn ip(n: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + n).into())
}

#[test]
fn t42_what_is_no_rendezvous_record_is_not_kept() {
    let mut shelf = RecordShelf::new(PeerId::random(), &Limits::default(), clock());
    let (good, other) = (record(1, NOW), record(2, NOW).key);
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let value = |change: &dyn Fn(&mut Vec<u8>)| with(&|record| change(&mut record.value));
    for (name, record, refusal) in [
        ("639 bytes", value(&|bytes| bytes.truncate(639)), Refusal::Canon),
        ("641 bytes", value(&|bytes| bytes.push(0)), Refusal::Canon),
        ("wrong signature", value(&|bytes| bytes[RECORD_LEN - 1] ^= 1), Refusal::Sig),
        ("changed inside", value(&|bytes| bytes[300] ^= 1), Refusal::Sig),
        ("vk is not the key", with(&|record| record.key = other.clone()), Refusal::Key),
        ("publisher", with(&|record| record.publisher = Some(PeerId::random())), Refusal::Canon),
        ("too old", record(1, NOW - AGE_MAX_S - 3_600), Refusal::Time),
        ("from the future", record(1, NOW + 7_200), Refusal::Time),
        (
            "foreign prefix",
            with(&|record| record.key = RecordKey::from([&b"/lk2/"[..], &record.key.as_ref()[5..]].concat())),
            Refusal::Canon,
        ),
    ] {
        assert_eq!(shelf.take(record, ip(1)), Err(refusal), "{name}");
    }
    assert_eq!(shelf.len(), 0);
    assert_eq!(shelf.take(good.clone(), ip(1)), Ok(()));
    assert_eq!(shelf.get(&good.key).unwrap().into_owned(), good);
    // The ways around the checks are closed.
    assert!(shelf.put(record(3, NOW)).is_err());
    let provider = ProviderRecord::new(good.key.clone(), PeerId::random(), Vec::new());
    assert!(shelf.add_provider(provider).is_err());
    assert!(shelf.providers(&good.key).is_empty());
    assert_eq!(shelf.len(), 1);
}

#[test]
fn the_newest_stays_and_of_equals_the_later_received() {
    let mut shelf = RecordShelf::new(PeerId::random(), &Limits::default(), clock());
    let (old, new) = (record(1, NOW - 7_200), record(1, NOW));
    assert_eq!(shelf.take(old.clone(), ip(1)), Ok(()));
    assert_eq!(shelf.take(new.clone(), ip(2)), Ok(()));
    assert_eq!(shelf.take(old, ip(3)), Err(Refusal::Time));
    assert_eq!(shelf.get(&new.key).unwrap().value, new.value);
    // Of the same hour, sealed anew.
    let again = record(1, NOW - NOW % 3_600 + 1);
    assert_ne!(again.value, new.value);
    assert_eq!(shelf.take(again.clone(), ip(3)), Ok(()));
    assert_eq!(shelf.get(&new.key).unwrap().value, again.value);
}

#[test]
fn a_full_shelf_keeps_the_nearest_and_a_source_has_its_share() {
    let local = PeerId::random();
    let limits = Limits { records: 50, records_per_source: 20, records_per_network: 30, ..Limits::default() };
    let mut shelf = RecordShelf::new(local, &limits, clock());
    for n in 0..20 {
        assert_eq!(shelf.take(record(n, NOW), ip(1)), Ok(()), "{n}");
    }
    assert_eq!(shelf.take(record(20, NOW), ip(1)), Err(Refusal::Quota), "21st of a source");
    assert_eq!(shelf.take(record(5, NOW), ip(1)), Ok(()), "one that it has may be replaced");
    for n in 20..30 {
        assert_eq!(shelf.take(record(n, NOW), ip(2)), Ok(()), "{n}");
    }
    assert_eq!(shelf.take(record(30, NOW), ip(3)), Err(Refusal::Quota), "31st of a network");

    // From here on everybody has a network of his own.
    let distance = |record: &Record| KBucketKey::from(local).distance(&KBucketKey::from(record.key.clone()));
    for n in 30..300 {
        let record = record(u64::from(n), NOW);
        let farthest = shelf.kept.values().map(|one| one.distance).max().unwrap();
        let full = shelf.len() == 50;
        let wanted = !full || distance(&record) < farthest;
        assert_eq!(shelf.take(record, ip(n * 256)).is_ok(), wanted, "{n}");
    }
    assert_eq!(shelf.len(), 50);
    let mut all: Vec<_> = (0..300).map(|n| distance(&record(n, NOW))).collect();
    all.sort_unstable();
    let mut kept: Vec<_> = shelf.kept.values().map(|one| one.distance).collect();
    kept.sort_unstable();
    // Those refused for their source's share aside, the nearest of all are kept.
    assert!(kept[49] <= all[60]);
}

#[test]
fn records_end_with_their_time() {
    let time = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(NOW));
    let clock = {
        let time = std::sync::Arc::clone(&time);
        Clock::new(move || time.load(std::sync::atomic::Ordering::Relaxed))
    };
    let mut shelf = RecordShelf::new(PeerId::random(), &Limits::default(), clock);
    let first = record(1, NOW);
    assert_eq!(shelf.take(first.clone(), ip(1)), Ok(()));
    time.store(NOW + AGE_MAX_S + 3_600, std::sync::atomic::Ordering::Relaxed);
    assert!(shelf.get(&first.key).is_none());
    assert_eq!(shelf.take(record(2, NOW + AGE_MAX_S), ip(1)), Ok(()));
    assert_eq!(shelf.len(), 1);
}

/// Goal: junk does not blind a node. Method: somebody with a few networks floods it with records that are valid in themselves,
/// and of which the node would keep all; what came from elsewhere before, and comes after, is kept.
#[test]
fn t49_a_flood_of_junk_leaves_the_records_of_others() {
    let limits =
        Limits { records: 400, records_per_source: 20, records_per_network: 30, ..Limits::default() };
    let mut shelf = RecordShelf::new(PeerId::random(), &limits, clock());
    let honest: Vec<Record> = (0..300).map(|n| record(n, NOW)).collect();
    for (n, record) in (0..).zip(&honest[..200]) {
        assert_eq!(shelf.take(record.clone(), ip(n * 256)), Ok(()));
    }
    let mut kept = 0;
    for n in 0..2_000 {
        // Three networks of 256 addresses each.
        let from = ip((1_000 + n % 3) * 256 + n % 256);
        kept += usize::from(shelf.take(record(10_000 + u64::from(n), NOW), from).is_ok());
    }
    assert_eq!(kept, 3 * limits.records_per_network);
    for (n, record) in (200..).zip(&honest[200..]) {
        assert_eq!(shelf.take(record.clone(), ip(n * 256)), Ok(()));
    }
    assert!(honest.iter().all(|record| shelf.get(&record.key).is_some()));
    // The counts follow what goes.
    for record in &honest {
        shelf.remove(&record.key);
    }
    assert_eq!((shelf.len(), shelf.by_distance.len(), shelf.by_age.len()), (kept, kept, kept));
    assert_eq!(
        (shelf.per_network.values().sum::<usize>(), shelf.per_source.values().sum::<usize>()),
        (kept, kept)
    );
    assert_eq!(shelf.per_network.len(), 3);
}
