//! What a replica counts for when somebody lets go of content.

use std::time::Duration;

use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};

use super::{content, owner_and_replica, put, wait_kept};

/// Goal: a replica is a copy on the strength of which a device lets go, but only beside a device that reads: it keeps what
/// such a one pins, and whoever lets go pins no more. Method: the same `free` with the replica alone, and with a second
/// device too; what went is read again, and the replica goes on keeping it.
#[test]
fn content_is_let_go_on_the_word_of_a_replica_and_a_device_together() {
    let (meeting, owner, up, replica, kept) = owner_and_replica(&["--role", "blind"], &[]);
    let film = "film ".repeat(600_000);
    put(&owner, "film.bin", film.as_bytes());
    wait_kept(&owner, &replica);
    for copies in ["1", "2"] {
        let refused = owner.run_json(["free", "--copies", copies, "film.bin"]);
        assert_eq!(refused.code(), Some(6), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.out).contains("device that reads"), "{refused:?}");
    }
    let second = Home::empty();
    owner.pair_with(&second, &meeting, "second");
    let up_second = Up::start(&second, &[]);
    second.wait_for_path("film.bin");
    second.wait_synced();
    wait_for("everybody to be known to hold it", Duration::from_secs(30), || {
        (owner.json(["status"])["copies"]["least"] == 3).then_some(())
    });
    assert_eq!(owner.run_json(["free", "--copies", "3", "film.bin"]).code(), Some(4));
    let freed = owner.json(["free", "film.bin"]);
    assert_eq!((&freed["files"], &freed["holders"]), (&1.into(), &2.into()), "{freed}");
    assert_eq!(content(&owner, "film.bin"), film.as_bytes());
    // Both promised to keep it.
    assert_eq!(second.run_json(["free", "--copies", "1", "film.bin"]).code(), Some(4));
    up_second.stop().ok();
    // The replica alone gives it, for the other device still pins it.
    assert_eq!(content(&owner, "film.bin"), film.as_bytes());
    // That one is stolen: nobody is left who pins it, so it comes back here before the replica lets it go.
    let devices = owner.json(["device", "ls"])["devices"].clone();
    let stolen = devices.as_array().unwrap().iter().find(|one| one["name"] == "second").unwrap();
    owner.ok(["device", "revoke", stolen["id"].as_str().unwrap(), "--yes"]);
    owner.ok(["gc"]);
    wait_for("the film to be here again", Duration::from_secs(30), || {
        let listed = owner.list();
        listed.iter().any(|one| one["path"] == "film.bin" && one["local"] == "all").then_some(())
    });
    up.stop().ok();
    kept.stop().ok();
}
