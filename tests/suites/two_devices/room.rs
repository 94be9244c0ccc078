//! Giving back room where several devices hold the same.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};

use super::replication::pair;

/// More small packs than are left as they are.
const MANY: usize = 66;

/// Goal: what one device puts together anew replaces the old packs on both, and only when both have it; what was let go is
/// not fetched again, and a device that joins later does not wait for it.
#[test]
fn packs_that_were_made_anew_replace_the_old_ones_everywhere() {
    let (meeting, a, b, up_a, up_b) = pair();
    for n in 0..MANY {
        let file = a.beside("files").join(n.to_string());
        write(&file, format!("file number {n}").repeat(100).as_bytes());
        a.ok(["add".as_ref(), file.as_os_str()]);
    }
    b.wait_for_path(&(MANY - 1).to_string());
    b.wait_synced();
    a.wait_equal(&b);
    assert_eq!((a.packs().len(), b.packs().len()), (MANY, MANY));
    // The other device has no part in packs that it did not write.
    let told = b.json(["gc"]);
    assert_eq!((told["written"].as_u64(), told["reclaimed_bytes"].as_u64()), (Some(0), Some(0)), "{told}");
    up_b.stop().ok();
    let told = a.json(["gc"]);
    assert_eq!(told["written"], 1, "{told}");
    // The only copy of the old ones elsewhere is not all that is left.
    assert_eq!(a.packs().len(), MANY + 1, "the other device does not have the new pack yet");
    let up_b = Up::start(&b, &[]);
    for home in [&b, &a] {
        wait_for("old packs to go", Duration::from_secs(30), || {
            home.ok(["gc"]);
            (home.packs().len() == 1).then_some(())
        });
    }
    for home in [&a, &b] {
        home.wait_synced();
        assert_eq!(home.packs().len(), 1);
        assert_eq!(home.json(["verify"])["bad"], 0);
        let status = home.json(["status"]);
        assert_eq!(
            (&status["copies"]["least"], status["problems"].as_array().unwrap().len()),
            (&2.into(), 0),
            "{status}"
        );
    }
    let c = Home::empty();
    a.pair_with(&c, &meeting, "third");
    let up_c = Up::start(&c, &[]);
    c.wait_synced();
    c.wait_for_path(&(MANY - 1).to_string());
    c.wait_synced();
    assert_eq!(c.packs().len(), 1);
    for n in 0..MANY {
        let text = format!("file number {n}").repeat(100);
        assert_eq!(c.ok(["cat", &n.to_string()]).out, text.as_bytes());
    }
    let status = c.json(["status"]);
    assert_eq!(status["transfers"].as_array().unwrap().len(), 0, "{status}");
    for up in [up_a, up_b, up_c] {
        up.stop().ok();
    }
}
