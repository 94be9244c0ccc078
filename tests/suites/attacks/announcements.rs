//! T42, T45, T46 with real processes and a DHT in the hands of an adversary.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use libp2p::kad::Record;
use locker_crypto::rendezvous::check_record;
use locker_tests::files::{walk, write};
use locker_tests::{Dice, Home, Up, tree};

use super::keeper::{Keeper, Lie};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Every 32 bytes that name something of a locker, as far as its owner's tools tell them.
fn names_of(home: &Home) -> BTreeSet<Vec<u8>> {
    let status = home.json(["status"]);
    let mut names = BTreeSet::new();
    let mut tell = |text: &str| names.extend(hex::decode(text).ok());
    tell(status["person_id"].as_str().unwrap());
    tell(status["state_hash"].as_str().unwrap());
    status["devices"].as_array().unwrap().iter().for_each(|device| tell(device["id"].as_str().unwrap()));
    home.packs().iter().for_each(|pack| tell(pack.file_name().unwrap().to_str().unwrap()));
    assert!(names.len() > 5, "{status}");
    names
}

/// Goal: over a whole life (pairing, replication both ways, edits, restarts) a node announces nothing that it holds: no
/// provider record is made or asked for, and every key that it publishes is a key pair's of the day and signs its
/// record, so that it is no hash of anything. Goal of T46 beside it: a home node keeps nothing for others and is in
/// nobody's table.
#[test]
fn t45_t46_a_whole_life_announces_nothing_that_is_held() {
    let mut dice = Dice::of("t45");
    let keeper = Keeper::start();
    let bootstrap = ["--bootstrap", &keeper.address];
    let (a, b) = (Home::new(), Home::empty());
    let source = a.beside("source");
    for n in 0..30 {
        write(&source.join(format!("{n}.bin")), &dice.bytes(40_000 * (n % 3 + 1)));
    }
    a.ok(["add".as_ref(), source.as_os_str()]);
    let up_a = Up::start(&a, &bootstrap);
    a.pair_by(&b, "second", &["--bootstrap", &keeper.address, "--no-lan"]);
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    write(&b.beside("from-b"), b"later");
    b.ok(["add".as_ref(), b.beside("from-b").as_os_str()]);
    a.wait_for_path("from-b");
    b.ok(["mv", "from-b", "moved"]);
    a.wait_for_path("moved");
    up_a.stop().ok();
    let up_a = Up::start(&a, &[]);
    a.wait_synced();
    keeper.wait("records of three lives", |notes| {
        let publishers: BTreeSet<PeerId> = notes.puts.iter().map(|(peer, _)| *peer).collect();
        (publishers.len() >= 3).then_some(())
    });

    // T46: whoever asks a home node to keep something is not even heard, and it does not offer to.
    let (peer, told) = keeper.look_at(&up_a.listen()[0]);
    let protocols: BTreeSet<&str> = told.protocols.iter().map(AsRef::as_ref).collect();
    assert!(!protocols.iter().any(|name| name.contains("kad")), "{protocols:?}");
    let good = keeper.notes().puts[0].1.clone();
    let foreign = Record::new(b"a file of mine".to_vec(), vec![1; 640]);
    for record in [foreign, good] {
        assert!(!keeper.put(record, peer), "a home node kept a record");
    }

    let mut names = names_of(&a);
    names.extend(names_of(&b));
    for file in walk(&source) {
        if file.is_file() {
            names.insert(tree::hash(&file).as_bytes().to_vec());
        }
    }
    let hashes: Vec<_> = names.iter().map(|name| blake3::hash(name).as_bytes().to_vec()).collect();
    names.extend(hashes);
    let notes = keeper.notes();
    assert_eq!((notes.add_provider, notes.get_providers), (0, 0));
    assert!(notes.puts.len() >= 9 && notes.records_given > 0 && notes.find_node > 0);
    for (_, record) in &notes.puts {
        let key = record.key.to_vec();
        assert_eq!(record.publisher, None);
        assert_eq!(check_record(&key, &record.value, None, now_s()).err(), None);
        assert_eq!((&key[..5], key.len()), (&b"/lk1/"[..], 37));
        assert!(!names.contains(&key[5..]) && !names.contains(blake3::hash(&key).as_bytes().as_slice()));
        // Neither beside the key, nor in the record.
        let all = [&key[..], &record.value].concat();
        assert!(!all.windows(32).any(|window| names.contains(window)));
    }
    drop(notes);
    // Nobody who lives at home is told of to others.
    let homes: BTreeSet<PeerId> = keeper.notes().puts.iter().map(|(peer, _)| *peer).collect();
    assert!(!homes.contains(&keeper.address.rsplit('/').next().unwrap().parse().unwrap()));
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: a poisoned record is not used: a node that gets nothing but forgeries meets nobody, and meets its peer as soon as
/// the truth is told. Method: the only node of the DHT changes each record, in five ways.
#[test]
fn t42_poisoned_records_are_not_used() {
    let lies: [(&str, Lie); 5] = [
        ("a signature", |mut record| {
            record.value[600] ^= 1;
            record
        }),
        ("the ciphertext", |mut record| {
            record.value[100] ^= 1;
            record
        }),
        ("the length, less", |mut record| {
            record.value.pop();
            record
        }),
        ("the length, more", |mut record| {
            record.value.push(0);
            record
        }),
        ("a publisher", |mut record| {
            record.publisher = Some(PeerId::random());
            record
        }),
    ];
    let keeper = Keeper::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", &keeper.address]);
    a.pair_by(&b, "second", &["--bootstrap", &keeper.address, "--no-lan"]);
    let is_met = |home: &Home| {
        let status = home.json(["status"]);
        status["devices"].as_array().unwrap().iter().filter(|device| device["online"] == true).count() > 1
    };
    keeper.wait("the record of the first device", |notes| (notes.puts.len() >= 3).then_some(()));
    for (what, lie) in lies {
        keeper.lie(Some(lie));
        let given = keeper.notes().records_given;
        let up_b = Up::start(&b, &[]);
        // All three keys of the day, twice: it has had its chance.
        keeper.wait("questions for the poisoned records", |notes| {
            (notes.records_given >= given + 6).then_some(())
        });
        assert!(!is_met(&a) && !is_met(&b), "a record was used in which {what} was changed");
        up_b.kill();
    }
    keeper.lie(None);
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    assert!(is_met(&b));
    up_a.stop().ok();
    up_b.stop().ok();
}
