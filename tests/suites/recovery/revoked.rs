//! A device that was lost is ended: it is let in no more, and opens nothing that is written after.

use std::path::PathBuf;
use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use serde_json::Value;

use super::whole::Owner;

/// Three devices of one person that are up and equal, and the meeting point.
struct Three {
    _meeting: Meeting,
    homes: [Home; 3],
    ups: [Up; 3],
    ids: [String; 3],
    words: PathBuf,
}

fn three() -> Three {
    let meeting = Meeting::start();
    let Owner { home, words } = Owner::new();
    let homes = [home, Home::empty(), Home::empty()];
    let first = Up::start(&homes[0], &["--bootstrap", meeting.address()]);
    let ids = [1, 2].map(|n| {
        let joined = homes[0].pair_with(&homes[n], &meeting, ["", "second", "third"][n]);
        joined["device_id"].as_str().unwrap().to_owned()
    });
    let ups = [first, Up::start(&homes[1], &[]), Up::start(&homes[2], &[])];
    homes.iter().for_each(Home::wait_synced);
    let own = homes[0].json(["device", "ls"])["devices"].clone();
    let own = own.as_array().unwrap().iter().find(|one| one["this"] == true).unwrap()["id"].clone();
    let [second, third] = ids;
    let ids = [own.as_str().unwrap().into(), second, third];
    Three { _meeting: meeting, homes, ups, ids, words }
}

fn add(home: &Home, name: &str) {
    write(&home.beside(name), name.repeat(1_000).as_bytes());
    home.ok(["add".as_ref(), home.beside(name).as_os_str()]);
}

fn listed(home: &Home, id: &str) -> Value {
    let devices = home.json(["device", "ls"])["devices"].clone();
    devices.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap_or(&Value::Null).clone()
}

/// T23, T32, T95: the third device is revoked while the second is off. Its sessions end, it is refused, what is written
/// after does not come to it, and the others go on with new keys, also one that was off, and missed another change.
#[test]
fn t23_t32_t95_a_revoked_device_is_let_in_no_more_and_gets_nothing() {
    let Three { _meeting, homes, ups, ids: [_, _, id], words } = three();
    let ([one, two, three], [up_one, up_two, up_three]) = (homes, ups);
    add(&one, "before.txt");
    three.wait_for_path("before.txt");
    two.wait_for_path("before.txt");
    up_two.stop().ok();
    let told = one.json(["device", "revoke", &id[..12], "--yes"]);
    assert_eq!((told["revoked"].clone(), told["name"].clone()), (true.into(), "third".into()));
    wait_for("the session to end", Duration::from_secs(10), || {
        (listed(&one, &id)["online"] == false).then_some(())
    });
    // New words change the key of the person once more: the second one holds neither the present one nor the one before.
    one.json(["phrase", "change", "--phrase-file", words.to_str().unwrap()]);
    add(&one, "after.txt");
    // The one that was off meets the first, and gets new keys and new files.
    let up_two = Up::start(&two, &[]);
    two.wait_for_path("after.txt");
    assert_eq!(listed(&two, &id)["revoked"], true);
    add(&two, "back.txt");
    one.wait_for_path("back.txt");
    one.wait_equal(&two);
    // All this time the third one knocked at both.
    let paths = three.paths();
    assert!(paths.contains(&"before.txt".to_owned()), "{paths:?}");
    assert!(!paths.iter().any(|path| path == "after.txt" || path == "back.txt"), "{paths:?}");
    assert!([&one, &two].iter().all(|home| listed(home, &id)["online"] == false));
    // Whatever it still says reaches nobody.
    add(&three, "from-the-thief.txt");
    add(&one, "later.txt");
    two.wait_for_path("later.txt");
    assert!([&one, &two].iter().all(|home| !home.paths().contains(&"from-the-thief.txt".to_owned())));
    one.run_json(["device", "revoke", &id, "--yes"]).refused(3, "E_NOT_FOUND");
    for up in [up_one, up_two, up_three] {
        up.stop().ok();
    }
}

/// Goal: a new name is told on every device; what is no name, and what is no device, is refused.
#[test]
fn a_device_gets_a_new_name_everywhere() {
    let Three { _meeting, homes: [one, two, _three], ups, ids: [own, second, _], words: _ } = three();
    let told = one.json(["device", "rename", &second[..10], "kitchen"]);
    assert_eq!(told["name"], "kitchen");
    for home in [&one, &two] {
        wait_for("the new name", Duration::from_secs(20), || {
            (listed(home, &second)["name"] == "kitchen").then_some(())
        });
    }
    one.run_json(["device", "rename", &second, "a\nb"]).refused(2, "E_NAME");
    one.run_json(["device", "rename", "zz", "x"]).refused(2, "E_USAGE");
    one.run_json(["device", "revoke", &own, "--yes"]).refused(2, "E_USAGE");
    ups.into_iter().for_each(|up| _ = up.stop().ok());
}

/// T93: the second device makes a folder that only the third hears of, which writes into it, replaces and deletes there. The
/// first ends the second without having heard of that: nothing of the third's work is lost, and what it replaced or deleted
/// is to be had back on both.
#[test]
fn t93_what_was_replaced_or_deleted_on_a_revoked_device_can_be_had_back() {
    let Three { _meeting, homes, ups, ids: [_, id, _], .. } = three();
    let ([one, two, three], [up_one, up_two, up_three]) = (homes, ups);
    up_one.stop().ok();
    two.ok(["mkdir", "journeys"]);
    three.wait_for_path("journeys");
    up_two.stop().ok();
    let put = |name: &str, text: &str| {
        let path = three.beside(name);
        write(&path, text.as_bytes());
        three.ok(["add".as_ref(), path.as_os_str(), "--to".as_ref(), "journeys".as_ref()]);
    };
    put("a.txt", "first");
    put("a.txt", "the second one");
    put("b.txt", "deleted");
    three.ok(["rm", "journeys/b.txt"]);
    up_three.stop().ok();
    one.json(["device", "revoke", &id[..12], "--yes"]);
    let (_up_one, _up_three) = (Up::start(&one, &[]), Up::start(&three, &[]));
    one.wait_for_path("journeys/a.txt");
    three.wait_for_path("journeys/a.txt");
    let texts = |home: &Home, path: &str| -> Vec<(String, u64)> {
        let told = home.json(["history", path])["events"].take();
        let versions = told.as_array().unwrap().iter().filter(|event| event["version"].is_u64());
        versions.map(|e| (e["what"].as_str().unwrap().into(), e["size"].as_u64().unwrap())).collect()
    };
    for home in [&one, &three] {
        assert_eq!(texts(home, "journeys/a.txt"), [("written".into(), 14), ("kept".into(), 5)]);
        assert_eq!(texts(home, "journeys/b.txt"), [("written".into(), 7)]);
    }
    one.wait_synced();
    one.ok(["restore", "journeys/b.txt"]);
    one.ok(["restore", "journeys/a.txt", "--version", "2"]);
    assert_eq!(one.ok(["cat", "journeys/b.txt"]).out, b"deleted");
    assert_eq!(one.ok(["cat", "journeys/a.txt"]).out, b"first");
}
