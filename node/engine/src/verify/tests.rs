//! Goal: `verify` can be stopped and goes on; whatever leads nowhere is named; damage is found, kept away from nobody who
//! can still use the rest, and healed where nobody else is needed. Method: lockers in temporary folders with a clock in
//! hand; rows and files are changed behind their back.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locker_crypto::id::{ContentHash, VerifyingKey};
use locker_store::{WriteTxn, files, pins};

use super::*;
use crate::report::{Silent, StateHash};
use crate::{Clock, Env, InitOptions, Locker, NodeOptions, Secret, Vault, VerifyOptions};

/// A clock that stands where it is put.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn add_days(&self, days: u64) {
        self.0.fetch_add(days * 86_400_000, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }
}

struct Place {
    folder: tempfile::TempDir,
    locker: Locker,
    clock: Hand,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let clock = Hand(Arc::new(AtomicU64::new(1_800_000_000_000)));
        let env = || Env::new(Box::new(clock.clone()), Box::new(crate::env::system_dice()));
        let made = InitOptions { name: Some("one".into()), vault: Vault::File };
        Locker::create(&home, made, env(), |_| Ok::<_, Error>(())).unwrap();
        let locker = Locker::open(&home, env(), &mut || Ok(Secret::new(String::new()))).unwrap();
        Self { folder, locker, clock }
    }

    /// Takes in one file of random-looking bytes, in a pack of its own.
    fn add(&self, name: &str, len: usize) {
        let file = self.folder.path().join(name);
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        self.locker.add(&[&file], "", &Silent).unwrap();
    }

    fn original(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.locker.read(name, 0, None, &mut out).map(|()| out)
    }

    /// The pack files, in the order of their names, which is that of their hashes.
    fn packs(&self) -> Vec<PathBuf> {
        let mut packs = Vec::new();
        for shard in std::fs::read_dir(self.folder.path().join("home/packs")).unwrap() {
            let shard = shard.unwrap().path();
            if !shard.ends_with("tmp") && !shard.ends_with("partial") {
                packs.extend(std::fs::read_dir(shard).unwrap().map(|file| file.unwrap().path()));
            }
        }
        packs.sort();
        packs
    }

    fn verify(&self) -> Verified {
        self.locker.verify(VerifyOptions::default(), &Silent).unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut WriteTxn<'_>)) {
        let inner = self.locker.inner();
        inner
            .store()
            .unwrap()
            .write::<_, Error>(|txn| {
                change(txn);
                Ok(())
            })
            .unwrap();
    }
}

/// Turns one bit; twice the same is as before.
fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Wants it to stop once so many packs were begun.
struct StopAfter(AtomicU64);

impl Observer for StopAfter {
    fn is_stopped(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let place = Place::new();
    (0..80).for_each(|n| place.add(&format!("{n}.bin"), 3_000));
    let packs = place.packs();
    assert_eq!(packs.len(), 80);
    let whole = place.verify();
    assert!(whole.complete && whole.bad == 0 && whole.earlier == 0, "{whole:?}");
    // The looks at rows ask now and then too; what is left of the count decides how far the packs come.
    let stopped = place.locker.verify(VerifyOptions::default(), &StopAfter(AtomicU64::new(60))).unwrap();
    assert!(!stopped.complete && stopped.bad == 0 && stopped.checked < whole.checked, "{stopped:?}");
    // What was checked is not read again, whatever has become of it; what was not, is.
    flip(&packs[0], 100);
    flip(&packs[79], 100);
    let run = Run::load(&place.locker.inner().store().unwrap().read().unwrap(), 1_800_000_000).unwrap();
    let run = run.expect("a run is kept");
    assert!((1..80).contains(&run.packs), "{run:?}");
    let rest = place.verify();
    assert_eq!(
        (rest.complete, rest.earlier, rest.bad - rest.damaged_files.len() as u64),
        (true, run.packs, 1)
    );
    // A run that is over is over.
    let anew = place.verify();
    assert_eq!((anew.complete, anew.earlier, anew.damaged_files.len()), (true, 0, 2), "{anew:?}");
    flip(&packs[0], 100);
    flip(&packs[79], 100);
    assert_eq!(place.verify().bad, 0);
}

#[test]
fn a_stopped_run_is_begun_anew_when_told_so_or_too_old_and_looks_again_at_what_is_lost() {
    let place = Place::new();
    (0..70).for_each(|n| place.add(&format!("{n}.bin"), 3_000));
    let packs = place.packs();
    flip(&packs[0], 100);
    assert_eq!(place.verify().damaged_files.len(), 1);
    let stop = || {
        let stopped = place.locker.verify(VerifyOptions::default(), &StopAfter(AtomicU64::new(60))).unwrap();
        assert!(!stopped.complete, "{stopped:?}");
    };
    stop();
    assert_eq!(place.verify().damaged_files.len(), 1, "it was lost before the run, and is still");
    stop();
    flip(&packs[0], 100);
    let rest = place.verify();
    assert!(rest.earlier > 0 && rest.bad == 0 && rest.complete, "{rest:?}");
    stop();
    let anew =
        place.locker.verify(VerifyOptions { anew: true, ..VerifyOptions::default() }, &Silent).unwrap();
    assert!(anew.earlier == 0 && anew.complete);
    stop();
    place.clock.add_days(8);
    assert_eq!(place.verify().earlier, 0);
    stop();
    place.clock.0.fetch_sub(30 * 86_400_000, Ordering::SeqCst);
    assert_eq!(place.verify().earlier, 0);
}

#[test]
fn a_read_that_meets_damage_has_the_pack_marked_and_the_rest_of_it_stays_readable() {
    let place = Place::new();
    let folder = place.folder.path().join("many");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..8_u8 {
        std::fs::write(folder.join(n.to_string()), vec![n; 100_000]).unwrap();
    }
    place.locker.add(&[&folder], "", &Silent).unwrap();
    let packs = place.packs();
    assert_eq!(packs.len(), 1);
    assert_eq!(place.locker.status(StateHash::Always).unwrap().scrub.bad, 0);
    flip(&packs[0], 350_000);
    let read = |place: &Place| (0..8).map(|n| place.read(&format!("many/{n}"))).collect::<Vec<_>>();
    for _ in 0..2 {
        let all = read(&place);
        let good =
            all.iter().enumerate().filter(|(n, read)| matches!(read, Ok(b) if *b == vec![*n as u8; 100_000]));
        assert_eq!(good.count(), 7);
        assert_eq!(all.iter().filter(|read| matches!(read, Err(Error::Integrity { .. }))).count(), 1);
        // By the first read that met it.
        assert_eq!(place.locker.status(StateHash::Always).unwrap().scrub.bad, 1);
    }
    let verified = place.verify();
    assert_eq!((verified.bad, verified.damaged_files.len(), verified.complete), (2, 1, true), "{verified:?}");
    flip(&packs[0], 350_000);
    assert_eq!(place.verify().bad, 0);
    assert_eq!(place.locker.status(StateHash::Always).unwrap().scrub.bad, 0);
    assert!(read(&place).iter().all(Result::is_ok));
}

#[test]
fn what_needs_nobody_else_is_healed_and_the_rest_is_named() {
    let place = Place::new();
    (0..3).for_each(|n| place.add(&format!("{n}.bin"), 40_000));
    let packs = place.packs();
    let good = std::fs::read(&packs[1]).unwrap();
    // Outboards: a turned bit, one that is cut.
    flip(&packs[0], good.len() as u64 - 3);
    std::fs::File::options().write(true).open(&packs[1]).unwrap().set_len(good.len() as u64 - 70).unwrap();
    let plain = place.verify();
    // Two packs, and two files that cannot be proven right without them.
    assert_eq!((plain.bad, plain.repaired, plain.is_damaged()), (4, 0, true), "{plain:?}");
    let repair = || {
        let options = NodeOptions { listen: vec!["127.0.0.1:0".parse().unwrap()], ..NodeOptions::default() };
        let options = VerifyOptions { repair: Some(options), ..VerifyOptions::default() };
        place.locker.verify(options, &Silent).unwrap()
    };
    let healed = repair();
    assert_eq!((healed.bad, healed.repaired, healed.is_damaged()), (2, 2, false), "{healed:?}");
    assert_eq!(std::fs::read(&packs[1]).unwrap(), good);
    assert_eq!(place.verify().bad, 0);
    // Content, of a person with one device.
    flip(&packs[2], 20_000);
    let left = repair();
    assert_eq!((left.repaired, left.damaged_files.len(), left.is_damaged()), (0, 1, true), "{left:?}");
    assert!(
        left.problems.iter().any(|p| p.message.contains("no other device that could have it")),
        "{left:?}"
    );
    // The original, taken in again under another name, brings its content back.
    let name = &left.damaged_files[0];
    let copy = place.folder.path().join("again.bin");
    std::fs::write(&copy, place.original(name)).unwrap();
    place.locker.add(&[&copy], "", &Silent).unwrap();
    assert_eq!(place.read(name).unwrap(), place.original(name));
}

#[test]
fn rows_that_lead_nowhere_are_named() {
    let place = Place::new();
    place.add("a.bin", 5_000);
    let inner = place.locker.inner();
    let own = pins::PinScope { space: inner.space_tag(), author: inner.keys().device_id() };
    assert_eq!(place.verify().bad, 0);
    let says = |expected: &str| {
        let verified = place.verify();
        let found = verified.problems.iter().any(|problem| problem.message.contains(expected));
        assert!(found && verified.is_damaged() && verified.complete, "{expected}: {verified:?}");
    };
    // A content that is remembered under the key of another, in another form, with chunks that are nowhere.
    let stored = |content: [u8; 32]| {
        let store = inner.store().unwrap();
        files::file_ref(&store.read().unwrap(), &ContentHash(content)).unwrap()
    };
    let content = *blake3::hash(&place.original("a.bin")).as_bytes();
    let known = stored(content).expect("it is remembered");
    place.write(|txn| files::put_file_ref(txn, &ContentHash([1; 32]), &known));
    says("stands in the place of another");
    place.write(|txn| files::put_file_ref(txn, &ContentHash([1; 32]), b"no reference"));
    says("unknown form");
    place.write(|txn| files::delete_file_ref(txn, &ContentHash([1; 32])));
    let mut elsewhere = known.clone();
    let at = elsewhere.len() - 10;
    elsewhere[at] ^= 1;
    place.write(|txn| files::put_file_ref(txn, &ContentHash(content), &elsewhere));
    says("chunks that lie nowhere");
    place.write(|txn| files::put_file_ref(txn, &ContentHash(content), &known));
    assert_eq!(place.verify().bad, 0);
    // A pin that nobody signed, on a pack that nobody knows. What others pin may be heard of later.
    let other = pins::PinScope { author: VerifyingKey([9; 32]), ..own };
    let nothing = pins::PinDelta { seq: 0, bytes: b"", adds: &[PackHash([7; 32])], drops: &[] };
    place.write(|txn| pins::apply(txn, &other, &nothing));
    assert_eq!(place.verify().bad, 0);
    let (seq, bytes) = pins::newest(&inner.store().unwrap().read().unwrap(), &own).unwrap().unwrap();
    let more = pins::PinDelta { seq, bytes: &bytes, adds: &[PackHash([7; 32])], drops: &[] };
    place.write(|txn| pins::apply(txn, &own, &more));
    says("holds on to pack");
    let less = pins::PinDelta { seq: seq + 2, bytes: &bytes, adds: &[], drops: &[PackHash([7; 32])] };
    place.write(|txn| pins::apply(txn, &own, &less));
    says("are missing");
}

#[test]
fn rows_that_are_damaged_are_told_by_the_status_once_they_were_looked_at() {
    let place = Place::new();
    place.add("a.bin", 5_000);
    let inner = place.locker.inner();
    let problems = || place.locker.status(StateHash::Always).unwrap().problems;
    inner.look_at_rows();
    assert!(problems().is_empty());
    let own = pins::PinScope { space: inner.space_tag(), author: inner.keys().device_id() };
    let stray = pins::PinDelta { seq: 9, bytes: b"", adds: &[], drops: &[] };
    place.write(|txn| pins::apply(txn, &own, &stray));
    inner.look_at_rows();
    assert!(problems().is_empty(), "that row is whole; what it says is for `verify`");
    assert!(place.verify().is_damaged());
    inner.suspects().note_row_flaws(3);
    assert!(problems().iter().any(|problem| problem.message.contains("locker verify")));
    inner.look_at_rows();
    assert!(problems().is_empty());
}

#[test]
fn files_that_are_not_ours_are_noted_and_no_damage() {
    let place = Place::new();
    place.add("a.bin", 5_000);
    let packs = place.folder.path().join("home/packs");
    let shard = place.packs()[0].parent().unwrap().to_owned();
    let first = shard.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::write(packs.join("readme"), b"mine").unwrap();
    std::fs::write(shard.join(format!("{first}{}", "0".repeat(62))), b"no pack").unwrap();
    let verified = place.verify();
    assert_eq!((verified.bad, verified.notes.len(), verified.complete), (0, 2, true), "{verified:?}");
    assert!(verified.notes.iter().any(|note| note.contains("readme")), "{verified:?}");
    assert!(verified.notes.iter().any(|note| note.contains("named by nothing")), "{verified:?}");
}

#[test]
fn who_works_in_the_store_does_not_hold_a_check_up() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let made = InitOptions { name: Some("one".into()), vault: Vault::File };
    Locker::create(&home, made, Env::system(), |_| Ok::<_, Error>(())).unwrap();
    let locker = Locker::open(&home, Env::system(), &mut || Ok(Secret::new(String::new()))).unwrap();
    let inner = locker.inner();
    let at_work = inner.store().unwrap();
    let verified = std::thread::scope(|scope| {
        scope.spawn(|| locker.verify(VerifyOptions::default(), &Silent).unwrap()).join().unwrap()
    });
    drop(at_work);
    assert!(verified.complete && verified.bad == 0, "{verified:?}");
    assert!(verified.notes.iter().any(|note| note.contains("others were at work")), "{verified:?}");
    let alone = locker.verify(VerifyOptions::default(), &Silent).unwrap();
    assert!(alone.notes.is_empty() && alone.complete, "{alone:?}");
}
