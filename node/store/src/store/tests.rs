//! Tests of `store`.

mod closing;
mod deleting;
mod disks;

use std::fs::OpenOptions;
use std::path::Path;

use locker_crypto::id::{ContentHash, EntryId, EpochId, PersonId, SpaceTag, VerifyingKey};
use locker_crypto::secret::{BoxSeed, EpochSecret, PersonKey, SigningSeed};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::*;
use crate::files::{self, FileStat};
use crate::index::{Loc, NewPack};
use crate::keyring::{self, SpaceEpoch};
use crate::pins::PinDelta;
use crate::test_kit::{Place, SPACE, begin, bytes, dice, hash, limits, put_pack, reopen, skip, tag, vault};
use crate::{objects, persons};

const OTHER: SpaceTag = SpaceTag([8; 16]);

/// Puts a row of every kind and returns after the commit.
fn fill(store: &Store) {
    put_pack(store, 1, 30_000).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            settings::put(txn, Setting::engine(1), b"a setting");
            keyring::put(txn, &(), &SigningSeed::new([1; 32]));
            keyring::put(txn, &(), &BoxSeed::new([2; 32]));
            keyring::put(txn, &0, &PersonKey::new([3; 32]));
            keyring::put(txn, &7, &PersonKey::new([4; 32]));
            let epoch = SpaceEpoch { space: SPACE, epoch: EpochId([9; 32]) };
            keyring::put(txn, &epoch, &EpochSecret::new([5; 32]));
            objects::put(txn, b"an object");
            // Several blocks of one table.
            for seed in 0..60 {
                objects::put(txn, &bytes(seed, 300));
            }
            persons::put(txn, &PersonId([1; 32]), &EntryId([2; 32]), b"an entry");
            persons::put(txn, &PersonId([1; 32]), &EntryId([3; 32]), b"another");
            let scope = PinScope { space: SPACE, author: VerifyingKey([6; 32]) };
            let adds = [hash(b"one"), hash(b"two")];
            pins::apply(txn, &scope, &PinDelta { seq: 0, bytes: b"delta 0", adds: &adds, drops: &[] });
            pins::apply(txn, &scope, &PinDelta { seq: 1, bytes: b"delta 1", adds: &[], drops: &adds[..1] });
            files::put_file_ref(txn, &ContentHash([1; 32]), b"a reference");
            files::put_stat(txn, b"/home/a", &stat(), &ContentHash([1; 32]));
            Ok(())
        })
        .unwrap();
}

fn stat() -> FileStat {
    FileStat { dev: 1, inode: u64::MAX, size: 3, mtime_ns: -4, ctime_ns: i64::MAX }
}

/// Reads everything that [`fill`] put.
fn check(store: &Store) -> Result<(), StoreError> {
    let read = store.read()?;
    let expect = |right: bool| if right { Ok(()) } else { Err(StoreError::corrupt("a wrong row")) };
    let name = hash(&bytes(1, 30_000));
    let pack = index::pack(&read, &name)?.ok_or_else(|| StoreError::corrupt("a missing row"))?;
    expect(pack.len == 30_000 && pack.spaces == [SPACE])?;
    expect(pack.state == PackState::Present { verified_at: 5 })?;
    let place = index::places(&read, &SPACE, &tag(3))?;
    expect(place == [index::Place { pack: name, offset: 15_000, sealed_len: 15_000 }])?;
    expect(index::places(&read, &OTHER, &tag(3))?.is_empty())?;
    expect(settings::get(&read, Setting::engine(1))?.as_deref() == Some(b"a setting"))?;
    expect(keyring::get::<SigningSeed, _>(&read, &())?.is_some_and(|key| key.expose() == &[1; 32]))?;
    expect(keyring::get::<BoxSeed, _>(&read, &())?.is_some_and(|key| key.expose() == &[2; 32]))?;
    let persons: Vec<(u32, PersonKey)> = keyring::all(&read)?;
    expect(persons.iter().map(|(id, key)| (*id, key.expose()[0])).eq([(0, 3), (7, 4)]))?;
    let epochs: Vec<(SpaceEpoch, EpochSecret)> = keyring::all(&read)?;
    expect(epochs.len() == 1 && epochs[0].0.epoch == EpochId([9; 32]))?;
    let object = locker_crypto::id::ObjectHash(*blake3::hash(b"an object").as_bytes());
    expect(objects::get(&read, &object)?.as_deref() == Some(b"an object"))?;
    for seed in 0..60 {
        let object = bytes(seed, 300);
        let name = locker_crypto::id::ObjectHash(*blake3::hash(&object).as_bytes());
        expect(objects::get(&read, &name)? == Some(object))?;
    }
    let entries = persons::all(&read, &PersonId([1; 32]))?;
    expect(entries == [b"an entry".to_vec(), b"another".to_vec()])?;
    let scope = PinScope { space: SPACE, author: VerifyingKey([6; 32]) };
    expect(pins::newest(&read, &scope)? == Some((1, b"delta 1".to_vec())))?;
    expect(pins::delta(&read, &scope, 0)?.as_deref() == Some(b"delta 0"))?;
    expect(!pins::is_pinned(&read, &scope, &hash(b"one"))?)?;
    expect(pins::is_pinned_by_any(&read, &SPACE, &hash(b"two"))?)?;
    expect(!pins::is_pinned_by_any(&read, &SPACE, &hash(b"one"))?)?;
    expect(!pins::is_pinned_by_any(&read, &OTHER, &hash(b"two"))?)?;
    let other = VerifyingKey([7; 32]);
    expect(pins::is_pinned_by(&read, &SPACE, [&other, &scope.author], &hash(b"two"))?)?;
    expect(!pins::is_pinned_by(&read, &SPACE, [&other], &hash(b"two"))?)?;
    expect(files::file_ref(&read, &ContentHash([1; 32]))?.as_deref() == Some(b"a reference"))?;
    expect(files::unchanged(&read, b"/home/a", &stat())? == Some(ContentHash([1; 32])))?;
    let changed = FileStat { ctime_ns: 0, ..stat() };
    expect(files::unchanged(&read, b"/home/a", &changed)?.is_none())?;
    let mut rows = 0;
    index::scan_packs(&read, &mut |_, _| {
        rows += 1;
        ControlFlow::Continue(())
    })?;
    expect(rows == 1 && index::pack_count(&read)? == 1)?;
    expect(index::places(&read, &SPACE, &tag(2))?.len() == 1 && index::locs(&read, &name)?.len() == 2)?;
    let mut packs = Vec::new();
    index::scan_space(&read, &SPACE, &mut |hash| {
        packs.push(hash);
        ControlFlow::Continue(())
    })?;
    expect(packs == [name] && index::recent(&read)?.len() <= 1)
}

#[test]
fn every_kind_of_row_is_read_back_after_reopening() {
    let place = Place::new();
    let store = begin(&place.home);
    fill(&store);
    check(&store).unwrap();
    drop(store);
    let mut store = reopen(&place.home).unwrap();
    check(&store).unwrap();
    let recovery = store.recover().unwrap();
    assert_eq!(recovery, Recovery { was_clean: true, ..Recovery::default() });
    assert!(!store.check_integrity().unwrap());
    store.compact().unwrap();
    check(&store).unwrap();
    drop(store.close().unwrap());
    check(&reopen(&place.home).unwrap()).unwrap();
}

#[test]
fn a_database_is_never_made_over_another_and_never_opened_by_another_key() {
    let place = Place::new();
    drop(begin(&place.home));
    let home = Home::open(&place.home).unwrap();
    let made = Store::create(home, &vault(), dice(1), limits(), |_| Ok::<_, StoreError>(()));
    assert!(matches!(made.err(), Some(StoreError::NotEmpty { .. })));
    let wrong = VaultKey::new([0x56; 32]);
    let opened = Store::open(Home::open(&place.home).unwrap(), &wrong, dice(1), limits());
    assert!(matches!(opened.err(), Some(StoreError::Corrupt { .. })));
    let path = place.home.join("locker.redb");
    let good = fs::read(&path).unwrap();
    fs::write(&path, b"").unwrap();
    assert!(matches!(reopen(&place.home).err(), Some(StoreError::Corrupt { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::remove_file(&path).unwrap();
    assert!(matches!(reopen(&place.home).err(), Some(StoreError::Corrupt { .. })));
    assert!(!path.exists());
    fs::write(&path, &good).unwrap();
    reopen(&place.home).unwrap();
}

#[test]
fn a_newer_database_is_refused() {
    let place = Place::new();
    let store = begin(&place.home);
    store
        .write::<_, StoreError>(|txn| {
            settings::put_number(txn, Setting::FORMAT, 2);
            Ok(())
        })
        .unwrap();
    drop(store);
    let opened = reopen(&place.home).err();
    assert!(matches!(opened, Some(StoreError::NewerFormat { found: 2, known: 1 })));
}

/// Changes stored values with redb itself, behind the back of the store.
fn meddle(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

fn rows(path: &Path) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let database = Database::open(path).unwrap();
    let txn = database.begin_read().unwrap();
    let mut found = Vec::new();
    for table in txn.list_tables().unwrap() {
        let name = redb::TableHandle::name(&table).to_owned();
        let table = txn.open_table(database::definition(&name)).unwrap();
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            found.push((name.clone(), key.value().to_vec(), value.value().to_vec()));
        }
    }
    found
}

fn put_raw(path: &Path, (table, key): (&str, &[u8]), value: &[u8]) {
    meddle(path, |txn| {
        txn.open_table(database::definition(table)).unwrap().insert(key, value).unwrap();
    });
}

#[test]
fn t57_values_moved_between_keys_or_tables_do_not_open() {
    let place = Place::quick();
    let store = begin(&place.home);
    fill(&store);
    drop(store);
    let path = place.home.join("locker.redb");
    let rows = rows(&path);
    assert!(rows.len() >= 18);
    let mut tried = 0;
    for (at, (table, key, value)) in rows.iter().enumerate() {
        // The value of the next row, a bit of the own one, one byte less, one more, none.
        let other = &rows[(at + 1) % rows.len()].2;
        let mut flipped = value.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut longer = value.clone();
        longer.push(0);
        for wrong in [other.as_slice(), &flipped, &value[1..], &value[..value.len() - 1], &longer, &[]] {
            put_raw(&path, (table, key), wrong);
            match reopen(&place.home) {
                Err(StoreError::Corrupt { .. }) => {}
                Err(other) => panic!("{table}: {other:?}"),
                Ok(mut store) => {
                    // Either the row is read and refused, or nothing that was read depends on it.
                    let checked = check(&store);
                    let recovered = store.recover();
                    let unread = ["pack-recent", "scopes"].contains(&table.as_str())
                        || key == &[0, 1]
                        || key == &[0, 3];
                    match (checked, recovered) {
                        (Err(StoreError::Corrupt { .. }), _) | (_, Err(StoreError::Corrupt { .. })) => {}
                        (Ok(()), Ok(_)) if unread => {}
                        other => panic!("{table} {key:?}: {other:?}"),
                    }
                }
            }
            put_raw(&path, (table, key), value);
            tried += 1;
        }
    }
    assert!(tried >= 108);
    check(&reopen(&place.home).unwrap()).unwrap();
    assert!(place.home.join("packs").read_dir().unwrap().count() > 2, "no pack was swept meanwhile");
}

#[test]
fn t57_a_removed_row_of_packs_stops_the_sweep() {
    let place = Place::new();
    let store = begin(&place.home);
    let name = put_pack(&store, 1, 30_000).unwrap();
    drop(store);
    meddle(&place.home.join("locker.redb"), |txn| {
        txn.open_table(database::definition("packs")).unwrap().remove(name.as_bytes().as_slice()).unwrap();
    });
    let mut store = reopen(&place.home).unwrap();
    assert!(matches!(store.recover(), Err(StoreError::Corrupt { .. })));
    store.packs().verify(&name, 30_000).unwrap();
}

#[test]
fn t57_flipped_bits_and_cut_databases_end_in_a_clean_error() {
    let place = Place::quick();
    let store = begin(&place.home);
    fill(&store);
    for round in 0..3 {
        store
            .write::<_, StoreError>(|txn| {
                settings::put(txn, Setting::engine(2), &[round]);
                Ok(())
            })
            .unwrap();
    }
    drop(store);
    let path = place.home.join("locker.redb");
    let good = fs::read(&path).unwrap();
    let mut rolls = ChaCha20Rng::seed_from_u64(4);
    let (mut refused, mut unharmed) = (0, 0);
    let mut judge = |what: &str, verified: bool| {
        // Too large to be verified on opening: then pages are met as they are.
        let limits = if verified { limits() } else { Limits { checked_on_open_bytes: 0, ..limits() } };
        let opened = Home::open(&place.home).and_then(|home| Store::open(home, &vault(), dice(2), limits));
        let result = opened.and_then(|mut store| {
            check(&store)?;
            let last = settings::get(&store.read()?, Setting::engine(2))?;
            assert_eq!(last.as_deref(), Some(&[2_u8][..]), "{what}: an older state stands in for the last");
            store.recover()?;
            check(&store)
        });
        match result {
            Ok(()) => unharmed += 1,
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("{what}: {other:?}"),
        }
        let packs = fs::read_dir(place.home.join("packs")).unwrap().count();
        assert_eq!(packs, 3, "{what}: a damaged database swept a pack");
    };
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for round in 0..300 {
        let mut bad = good.clone();
        let at = if round < 160 { round * 2 } else { used[rolls.next_u32() as usize % used.len()] };
        bad[at] ^= 1 << (rolls.next_u32() % 8);
        for verified in [true, false] {
            fs::write(&path, &bad).unwrap();
            judge(&format!("byte {at}"), verified);
        }
    }
    for round in 0..40_usize {
        let cut = if round < 20 { round * 64 } else { rolls.next_u32() as usize % good.len() };
        for verified in [true, false] {
            fs::write(&path, &good[..cut]).unwrap();
            judge(&format!("cut at {cut}"), verified);
        }
    }
    // A part that was replaced by zeros, as a lost write leaves it.
    for page in 0..good.len().div_ceil(4096).min(60) {
        let mut bad = good.clone();
        let end = bad.len().min((page + 1) * 4096);
        bad[page * 4096..end].fill(0);
        for verified in [true, false] {
            fs::write(&path, &bad).unwrap();
            judge(&format!("page {page}"), verified);
        }
    }
    assert!(refused > 100, "{refused} refused, {unharmed} unharmed");
    fs::write(&path, &good).unwrap();
    check(&reopen(&place.home).unwrap()).unwrap();
}

#[test]
fn packs_of_several_spaces_share_one_file_and_go_together() {
    let place = Place::new();
    let mut store = begin(&place.home);
    store.recover().unwrap();
    let name = put_pack(&store, 1, 30_000).unwrap();
    let twin = put_pack(&store, 2, 30_000).unwrap();
    let again = NewPack { len: 30_000, state: PackState::Wanted, locs: &[] };
    store.write(|txn| index::add_pack(txn, &OTHER, &name, &again)).unwrap();
    let read = store.read().unwrap();
    assert_eq!(index::places(&read, &OTHER, &tag(2)).unwrap().len(), 1);
    assert!(index::has_chunk(&read, &SPACE, &tag(2)).unwrap());
    let known = index::pack(&read, &name).unwrap().unwrap();
    assert_eq!((known.spaces.len(), known.state), (2, PackState::Present { verified_at: 5 }));
    // The same chunk in a second pack: both places are known, the older first.
    let third = NewPack {
        len: 4_096,
        state: PackState::Wanted,
        locs: &[Loc { tag: tag(2), sealed_len: 100 }, Loc { tag: tag(99), sealed_len: 200 }],
    };
    store.write(|txn| index::add_pack(txn, &SPACE, &hash(b"third"), &third)).unwrap();
    let read = store.read().unwrap();
    let places = index::places(&read, &SPACE, &tag(2)).unwrap();
    assert_eq!(places.iter().map(|place| place.pack).collect::<Vec<_>>(), [name, hash(b"third")]);
    assert_eq!(index::places(&read, &SPACE, &tag(99)).unwrap()[0].offset, 100);
    drop(read);
    let wrong = NewPack { len: 30_001, ..again };
    let refused = store.write(|txn| index::add_pack(txn, &SPACE, &name, &wrong));
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    store.delete_packs(&[name]).unwrap();
    assert!(matches!(store.packs().open(&name, 30_000), Err(StoreError::Absent { .. })));
    let read = store.read().unwrap();
    assert_eq!(index::pack(&read, &name).unwrap(), None);
    assert!(index::locs(&read, &name).unwrap().is_empty());
    assert_eq!(index::places(&read, &SPACE, &tag(2)).unwrap().len(), 1);
    assert!(index::places(&read, &OTHER, &tag(2)).unwrap().is_empty());
    assert!(!index::has_chunk(&read, &SPACE, &tag(3)).unwrap());
    assert_eq!(index::pack_count(&read).unwrap(), 2);
    let mut left = Vec::new();
    index::scan_space(&read, &SPACE, &mut |hash| {
        left.push(hash);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(left.len(), 2);
    store.packs().verify(&twin, 30_000).unwrap();
    // Deleting what is not known does nothing.
    store.delete_packs(&[name]).unwrap();
}

/// What is let go because others hold it stays known, with its chunks, also where nobody's pin of it came here yet.
#[test]
fn what_is_let_go_stays_known_without_any_pin() {
    let place = Place::new();
    let mut store = begin(&place.home);
    store.recover().unwrap();
    let name = put_pack(&store, 1, 30_000).unwrap();
    let chunks = index::locs(&store.read().unwrap(), &name).unwrap();
    let own = PinScope { space: SPACE, author: VerifyingKey([7; 32]) };
    assert_eq!(store.let_packs_go(&own, &[name, hash(b"unknown")]).unwrap(), [name]);
    assert!(matches!(store.packs().open(&name, 30_000), Err(StoreError::Absent { .. })));
    let read = store.read().unwrap();
    assert!(!chunks.is_empty() && !pins::is_pinned_by_any(&read, &SPACE, &name).unwrap());
    assert_eq!(index::pack(&read, &name).unwrap().unwrap().state, PackState::Away);
    assert_eq!(index::locs(&read, &name).unwrap(), chunks);
    assert_eq!(index::places(&read, &SPACE, &chunks[0].tag).unwrap().len(), 1);
}

#[test]
fn start_up_removes_what_nothing_names_and_finishes_deletions() {
    let place = Place::new();
    let store = begin(&place.home);
    let kept = put_pack(&store, 1, 30_000).unwrap();
    let going = put_pack(&store, 2, 30_000).unwrap();
    let gone = put_pack(&store, 3, 30_000).unwrap();
    let harmed = put_pack(&store, 4, 30_000).unwrap();
    let lost = put_pack(&store, 5, 30_000).unwrap();
    let unnamed = bytes(6, 30_000);
    store.packs().write_all(&[(hash(&unnamed), &unnamed)]).unwrap();
    store
        .write(|txn| index::mark_deleting(txn, &going).and_then(|()| index::mark_deleting(txn, &gone)))
        .unwrap();
    store.packs().remove(&[gone]).unwrap();
    let away = put_pack(&store, 7, 30_000).unwrap();
    store.write(|txn| index::mark_away(txn, &away)).unwrap();
    // Without the mark of a clean closing, what was written lately is verified.
    store
        .write::<_, StoreError>(|txn| {
            settings::put_number(txn, Setting::CLEAN, 0);
            Ok(())
        })
        .unwrap();
    drop(store);
    let packs = place.home.join("packs");
    let file = |name: &PackHash| packs.join(format!("{:02x}", name.0[0])).join(name.to_string());
    let mut bad = fs::read(file(&harmed)).unwrap();
    bad[12_345] ^= 1;
    fs::write(file(&harmed), bad).unwrap();
    fs::remove_file(file(&lost)).unwrap();
    fs::write(packs.join("tmp/17"), b"half").unwrap();
    fs::write(packs.join("readme.txt"), b"not ours").unwrap();
    fs::write(file(&kept).with_file_name("note"), b"not ours").unwrap();
    let mut store = reopen(&place.home).unwrap();
    let mut recovery = store.recover().unwrap();
    recovery.lost.sort();
    let mut expected = vec![harmed, lost];
    expected.sort();
    assert_eq!(recovery.lost, expected);
    assert_eq!((recovery.temporary_removed, recovery.unreferenced_removed), (1, 2));
    assert!(!file(&away).exists());
    assert_eq!(index::pack(&store.read().unwrap(), &away).unwrap().unwrap().state, PackState::Away);
    assert_eq!((recovery.deletions_finished, recovery.strangers), (2, 2));
    assert!(!recovery.was_clean);
    store.packs().verify(&kept, 30_000).unwrap();
    for name in [going, gone, hash(&unnamed)] {
        assert!(!file(&name).exists());
        assert_eq!(index::pack(&store.read().unwrap(), &name).unwrap(), None);
    }
    for name in expected {
        let known = index::pack(&store.read().unwrap(), &name).unwrap().unwrap();
        assert_eq!(known.state, PackState::Lost);
    }
    assert!(packs.join("readme.txt").exists());
    let again = store.recover().unwrap();
    assert_eq!(again, Recovery { strangers: 2, ..Recovery::default() });
}

#[test]
fn an_error_in_a_change_or_a_dropped_transaction_leaves_no_trace() {
    let place = Place::new();
    let store = begin(&place.home);
    let given_up: Result<(), StoreError> = store.write(|txn| {
        objects::put(txn, b"never");
        Err(StoreError::Busy)
    });
    assert!(matches!(given_up, Err(StoreError::Busy)));
    let mut txn = store.begin_write().unwrap();
    let name = objects::put(&mut txn, b"never");
    assert!(txn.pending_bytes() > 0);
    assert!(objects::get(&txn, &name).unwrap().is_some());
    assert!(objects::get(&store.read().unwrap(), &name).unwrap().is_none());
    drop(txn);
    assert!(objects::get(&store.read().unwrap(), &name).unwrap().is_none());
    let before = store.read().unwrap();
    store.write::<_, StoreError>(|txn| Ok(objects::put(txn, b"now"))).unwrap();
    let name = locker_crypto::id::ObjectHash(*blake3::hash(b"now").as_bytes());
    assert!(objects::get(&before, &name).unwrap().is_none(), "a snapshot does not move");
    assert!(objects::get(&store.read().unwrap(), &name).unwrap().is_some());
}
