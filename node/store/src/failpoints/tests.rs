//! Goal: what was acknowledged survives a stop at any step, and nothing half-done is ever seen. Method: a process of its
//! own runs a script, says each acknowledgement on its output, and is stopped (or fails) at the n-th time it comes to a
//! point; then this process opens the home, twice, and compares.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use locker_crypto::id::PackHash;

use super::*;
use crate::index::{self, PackState};
use crate::settings::{self, Setting};
use crate::test_kit::{Place, begin, child, dice, fetch_pack, limits, put_pack, reopen, vault};
use crate::{Home, Store, StoreError};

const HOME: &str = "LOCKER_STORE_CRASH_HOME";
const POINT: &str = "LOCKER_STORE_CRASH_POINT";
const ACTION: &str = "LOCKER_STORE_CRASH_ACTION";
/// Steps of the script.
const STEPS: u64 = 6;

/// Not a test by itself: the process that is stopped.
#[test]
fn runs_the_script_until_it_is_stopped() {
    let Ok(path) = std::env::var(HOME) else { return };
    fail::cfg(std::env::var(POINT).unwrap(), &std::env::var(ACTION).unwrap()).unwrap();
    if let Err(error) = script(Path::new(&path)) {
        say(&format!("failed {error:?}"));
    }
    say("end");
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\n:{text}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Writes and fetches packs and a counter, deletes every second pack, closes.
fn script(path: &Path) -> Result<(), StoreError> {
    let reached = |point| reach(point).map_err(|error| StoreError::io("acknowledging", path, error));
    let mut store = match Home::open(path) {
        Ok(home) => Store::open(home, &vault(), dice(3), limits())?,
        Err(StoreError::NotAHome { .. }) => {
            let home = Home::init(path)?;
            home.write_vault("passphrase", b"wrap")?;
            Store::create(home, &vault(), dice(3), limits(), |_| Ok::<_, StoreError>(()))?
        }
        Err(error) => return Err(error),
    };
    store.recover()?;
    for step in 0..STEPS {
        // Written here, or fetched.
        let name = match step % 3 {
            2 => fetch_pack(&store, step, 40_000)?,
            _ => put_pack(&store, step, 20_000)?,
        };
        store.write::<_, StoreError>(|txn| {
            settings::put(txn, Setting::engine(1), &step.to_le_bytes());
            Ok(())
        })?;
        reached(ACK_BEFORE)?;
        say(&format!("put {step} {name}"));
        reached(ACK_AFTER)?;
        if step % 2 == 1 {
            say(&format!("deleting {name}"));
            store.delete_packs(&[name])?;
            say(&format!("deleted {name}"));
        }
    }
    drop(store.close()?);
    Ok(())
}

/// What the other process said.
#[derive(Debug, Default)]
struct Said {
    last: Option<u64>,
    put: BTreeSet<PackHash>,
    deleting: BTreeSet<PackHash>,
    deleted: BTreeSet<PackHash>,
    failed: bool,
    ended: bool,
}

fn listen(output: &[u8]) -> Said {
    let mut said = Said::default();
    let pack = |text: &str| {
        let byte = |at: usize| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap();
        PackHash(std::array::from_fn(byte))
    };
    for line in String::from_utf8(output.to_vec()).unwrap().lines() {
        let words: Vec<&str> = line.strip_prefix(':').unwrap_or_default().split(' ').collect();
        match words.as_slice() {
            ["put", step, name] => {
                said.last = Some(step.parse().unwrap());
                said.put.insert(pack(name));
            }
            ["deleting", name] => drop(said.deleting.insert(pack(name))),
            ["deleted", name] => drop(said.deleted.insert(pack(name))),
            ["failed", ..] => said.failed = true,
            ["end"] => said.ended = true,
            _ => {}
        }
    }
    said
}

/// Opens the home as after a power-up and compares it with what was said.
fn judge(home: &Path, said: &Said, what: &str) {
    for round in ["first", "second"] {
        let mut store = match reopen(home) {
            Ok(store) => store,
            // Stopped before there was a database: begun again, and nothing had been acknowledged.
            Err(StoreError::NotAHome { .. } | StoreError::Corrupt { .. }) if said.put.is_empty() => {
                assert!(!home.join("locker.redb").exists(), "{what}");
                begin(home)
            }
            Err(error) => panic!("{what}, {round}: {error:?}"),
        };
        let recovery = store.recover().unwrap();
        assert_eq!(recovery.lost, [], "{what}");
        let read = store.read().unwrap();
        let last = settings::get(&read, Setting::engine(1))
            .unwrap()
            .map(|v| u64::from_le_bytes(v.try_into().unwrap()));
        let next = said.last.map_or(0, |last| last + 1);
        assert!(last == said.last || last == Some(next), "{what}: {last:?} after {said:?}");
        let mut present = BTreeSet::new();
        index::scan_packs(&read, &mut |hash, pack| {
            // A pack that was being fetched may be wanted still; then nothing but a partial file is there.
            if pack.state != PackState::Wanted {
                assert!(matches!(pack.state, PackState::Present { .. }), "{what}");
                store.packs().verify(&hash, pack.len).unwrap();
                present.insert(hash);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        for pack in said.put.difference(&said.deleting) {
            assert!(present.contains(pack), "{what}: an acknowledged pack is gone");
        }
        assert!(said.deleted.is_disjoint(&present), "{what}: a deleted pack came back");
        let files: usize = home
            .join("packs")
            .read_dir()
            .unwrap()
            .map(|shard| shard.unwrap().path())
            .filter(|shard| !shard.ends_with("partial"))
            .map(|shard| shard.read_dir().unwrap().count())
            .sum();
        assert_eq!(files, present.len(), "{what}: files and rows differ");
    }
}

#[test]
fn a_stop_or_a_failure_at_any_step_loses_nothing_acknowledged() {
    let test = "failpoints::tests::runs_the_script_until_it_is_stopped";
    let mut stopped = 0;
    for point in ALL {
        for how in ["abort", "eio", "enospc"] {
            let mut reached = 0;
            for skip in [0, 1, 2, 4, 7] {
                let place = Place::quick();
                let action = match skip {
                    0 => format!("return({how})"),
                    _ => format!("{skip}*off->return({how})"),
                };
                let environment =
                    [(HOME, place.home.to_str().unwrap()), (POINT, point), (ACTION, action.as_str())];
                let output = child(test, &environment).output().unwrap();
                let said = listen(&output.stdout);
                let what = format!("{point} {action}");
                if said.ended && !said.failed {
                    assert_eq!(said.last, Some(STEPS - 1), "{what}");
                    // Comes here less often than that.
                    break;
                }
                assert_eq!(said.failed, how != "abort", "{what}: {output:?}");
                judge(&place.home, &said, &what);
                // What was begun can be gone on with.
                fail::cfg(*point, "off").unwrap();
                drop(reopen(&place.home).unwrap().close().unwrap());
                (stopped, reached) = (stopped + 1, reached + 1);
            }
            assert!(reached > 0, "the script never comes to {point}");
        }
    }
    assert!(stopped > 100, "{stopped}");
}
