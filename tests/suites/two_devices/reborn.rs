//! T93: a home that is put back from a backup, or copied: the device goes on under a new key, and nothing that was told as saved
//! is lost, whichever of the homes it was told in.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Up};
use serde_json::Value;

use super::apart::put;
use super::links::{Stranger, share};
use super::replication::pair;

/// Everything that some home told as saved: path and content.
#[derive(Default)]
struct Saved(Vec<(String, Vec<u8>)>);

impl Saved {
    /// Takes a file in: a short text lies in the log, a long one in a pack.
    fn add(&mut self, home: &Home, name: &str, len: usize, dice: &mut Dice) {
        let bytes = dice.bytes(len);
        let path = home.beside("files").join(name);
        write(&path, &bytes);
        home.ok(["add".as_ref(), path.as_os_str()]);
        self.0.push((name.into(), bytes));
    }

    /// Every home shows all of it byte-equal, and is whole.
    #[track_caller]
    fn assert_in(&self, homes: &[&Home]) {
        for home in homes {
            for (path, bytes) in &self.0 {
                assert_eq!(home.ok(["cat", path]).out, *bytes, "{path}");
            }
            assert_eq!(home.json(["verify"])["bad"], 0);
        }
    }
}

fn id(home: &Home) -> String {
    let devices = home.json(["device", "ls"])["devices"].clone();
    let own = devices.as_array().unwrap().iter().find(|device| device["this"] == true).cloned();
    own.unwrap()["id"].as_str().unwrap().to_owned()
}

/// The keys that took the place of one.
fn successors(home: &Home, of: &str) -> Vec<String> {
    let devices = home.json(["device", "ls"])["devices"].clone();
    let device = devices.as_array().unwrap().iter().find(|device| device["id"] == of).cloned().unwrap();
    let ids = device["replaced_by"].as_array().cloned().unwrap_or_default();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Waits until a home goes on under another key than `old`, and gives it.
fn wait_reborn(home: &Home, old: &str) -> String {
    wait_for("a new key", Duration::from_secs(60), || {
        let now = id(home);
        (now != old).then_some(now)
    })
}

/// Waits until nothing is in the way of anybody, and all show the same.
#[track_caller]
fn settle(homes: &[&Home]) {
    wait_for("one state, with nothing to be written again", Duration::from_secs(120), || {
        let all: Vec<Value> = homes.iter().map(|home| home.json(["status"])).collect();
        let is_fine = |status: &Value| {
            status["problems"].as_array().unwrap().iter().all(|problem| problem["code"] != "E_FORK")
        };
        let is_equal = all.iter().all(|status| status["state_hash"] == all[0]["state_hash"]);
        (is_equal && all.iter().all(is_fine)).then_some(())
    });
    homes.iter().for_each(|home| home.wait_synced());
}

/// Goal: the only other device tells a device that was put back what it is; it takes a new key, both branches are there
/// byte-equal, an edit on each side is kept, and work goes on. Method: the device that made the locker, which wrote after
/// the backup was made, and again after it was put back, before it met anybody.
#[test]
fn t93_a_device_put_back_goes_on_under_a_new_key() {
    let mut dice = Dice::of("a_device_put_back_goes_on_under_a_new_key");
    let (meeting, a, b, up_a, up_b) = pair();
    let mut saved = Saved::default();
    saved.add(&a, "early.bin", 300_000, &mut dice);
    put(&a, "", "both.txt", "at first");
    put(&a, "folder", "inside.txt", "inside");
    let link = share(&a, "early.bin", &[]);
    b.wait_synced();
    up_a.stop().ok();
    let backup = a.copied();
    let old = id(&a);
    put(&a, "", "both.txt", "edited after the backup");
    saved.add(&a, "late.txt", 40, &mut dice);
    saved.add(&a, "late.bin", 400_000, &mut dice);
    a.ok(["mv", "folder", "renamed"]);
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    b.wait_for_path("renamed");
    b.wait_synced();
    up_a.stop().ok();

    put(&backup, "", "both.txt", "edited on the old copy");
    saved.add(&backup, "offline.txt", 40, &mut dice);
    saved.add(&backup, "offline.bin", 500_000, &mut dice);
    let up_a = Up::start(&backup, &["--bootstrap", meeting.address()]);
    let new = wait_reborn(&backup, &old);
    settle(&[&backup, &b]);
    saved.assert_in(&[&backup, &b]);
    for home in [&backup, &b] {
        assert_eq!(successors(home, &old), std::slice::from_ref(&new));
        let both = home.list().into_iter().find(|entry| entry["path"] == "both.txt").unwrap();
        assert_eq!(both["versions"], 2, "{both}");
        assert!(home.paths().contains(&"renamed/inside.txt".to_owned()), "{:?}", home.paths());
        wait_for("two copies under the new name", Duration::from_secs(20), || {
            (home.json(["status"])["copies"]["least"] == 2).then_some(())
        });
    }
    let status = backup.json(["status"]);
    assert_eq!(status["reborn"]["was"], old);
    assert_eq!(status["problems"], Value::Array(Vec::new()), "{status}");
    let told = backup.ok(["status"]).text();
    assert!(told.contains("under a new key") && told.contains("replaced by"), "{told}");

    saved.add(&backup, "onward.bin", 200_000, &mut dice);
    saved.add(&b, "back.bin", 200_000, &mut dice);
    settle(&[&backup, &b]);
    saved.assert_in(&[&backup, &b]);
    // A link that the old key made is served by the new one too, while nobody else is there.
    up_b.stop().ok();
    let stranger = Stranger::new(&meeting);
    let (out, _) = stranger.get(&stranger.take(&link), "out");
    assert_eq!(std::fs::read(out.join("early.bin")).unwrap(), saved.0[0].1);
    up_a.stop().ok();
}

/// Goal: a home and its copy that both run, both write and both meet the other device become two devices, and all three
/// show everything. Method: the device that joined; both start at once.
#[test]
fn t93_a_copied_home_becomes_a_device_of_its_own() {
    let mut dice = Dice::of("a_copied_home_becomes_a_device_of_its_own");
    let (_meeting, a, b, up_a, up_b) = pair();
    b.wait_synced();
    let mut saved = Saved::default();
    saved.add(&b, "before.bin", 300_000, &mut dice);
    a.wait_for_path("before.bin");
    a.wait_synced();
    up_b.stop().ok();
    let copy = b.copied();
    let old = id(&b);
    for (home, name) in [(&b, "one"), (&copy, "other")] {
        saved.add(home, &format!("{name}.txt"), 50, &mut dice);
        saved.add(home, &format!("{name}.bin"), 250_000, &mut dice);
        saved.add(home, &format!("{name} more.txt"), 60, &mut dice);
    }
    let (up_b, up_copy) = (Up::start(&b, &[]), Up::start(&copy, &[]));
    // What is written while they find out is taken or refused, and never lost.
    for (home, name) in [(&b, "b"), (&copy, "copy")] {
        for n in 0..5 {
            let (file, bytes) = (format!("busy {name} {n}.txt"), dice.bytes(70));
            let path = home.beside("busy").join(&file);
            write(&path, &bytes);
            match home.run_json(["add".as_ref(), path.as_os_str()]) {
                added if added.code() == Some(0) => saved.0.push((file, bytes)),
                refused => refused.refused(8, "E_ROLLBACK"),
            }
        }
    }
    let one = wait_reborn(&b, &old);
    // In the middle of writing again what does not count.
    up_b.kill();
    let other = wait_reborn(&copy, &old);
    up_copy.kill();
    assert_ne!(one, other);
    let (up_b, up_copy) = (Up::start(&b, &[]), Up::start(&copy, &[]));
    let homes = [&a, &b, &copy];
    settle(&homes);
    saved.assert_in(&homes);
    let mut both = [one, other];
    both.sort();
    for home in homes {
        let mut named = successors(home, &old);
        named.sort();
        assert_eq!(named, both);
    }
    saved.add(&copy, "onward.txt", 50, &mut dice);
    saved.add(&b, "onward too.txt", 50, &mut dice);
    settle(&homes);
    saved.assert_in(&homes);
    up_a.stop().ok();
    up_b.stop().ok();
    up_copy.stop().ok();
}

/// Goal: a home that was put back once can be put back again, to before and to after it took its new key, and each time goes
/// on under another one.
#[test]
fn a_reborn_home_may_be_put_back_again() {
    let mut dice = Dice::of("a_reborn_home_may_be_put_back_again");
    let (_meeting, a, b, up_a, up_b) = pair();
    b.wait_synced();
    let mut saved = Saved::default();
    saved.add(&b, "zero.bin", 200_000, &mut dice);
    a.wait_for_path("zero.bin");
    a.wait_synced();
    up_b.stop().ok();
    let first = id(&b);
    let backup = b.copied();
    let mut at = b;
    let mut keys = vec![first.clone()];
    for round in 0..3 {
        // The home goes on, its copy is put in its place, and writes before it meets anybody.
        let up = Up::start(&at, &[]);
        saved.add(&at, &format!("gone on {round}.txt"), 60, &mut dice);
        a.wait_for_path(&format!("gone on {round}.txt"));
        a.wait_synced();
        up.stop().ok();
        let old_copy = if round == 1 { at.copied() } else { backup.copied() };
        if round == 1 {
            let up = Up::start(&at, &[]);
            saved.add(&at, "after the second backup.txt", 60, &mut dice);
            a.wait_for_path("after the second backup.txt");
            a.wait_synced();
            up.stop().ok();
        }
        let before = id(&old_copy);
        saved.add(&old_copy, &format!("offline {round}.txt"), 60, &mut dice);
        let up = Up::start(&old_copy, &[]);
        keys.push(wait_reborn(&old_copy, &before));
        settle(&[&a, &old_copy]);
        saved.assert_in(&[&a, &old_copy]);
        up.stop().ok();
        at = old_copy;
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
    assert_eq!(successors(&a, &first).len(), 2, "put back twice to the time of its first key");
    up_a.stop().ok();
}
