//! T49 with real processes: everything that the DHT says is a lie, or it is gone.

use locker_tests::files::write;
use locker_tests::{Home, Up};

use super::keeper::Keeper;

/// Goal: devices that met before meet again at the places that they know, and a link without a hint fails closed. Method: the
/// only node of the DHT changes each record that it gives; then it is gone.
#[test]
fn t49_a_hostile_dht_parts_nobody_who_has_met() {
    let keeper = Keeper::start();
    let (a, b) = (Home::new(), Home::empty());
    let bootstrap = ["--bootstrap", &keeper.address];
    write(&a.beside("shared.txt"), b"shared");
    a.ok(["add".as_ref(), a.beside("shared.txt").as_os_str()]);
    let up_a = Up::start(&a, &bootstrap);
    a.pair_by(&b, "second", &["--bootstrap", &keeper.address, "--no-lan"]);
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    up_b.stop().ok();

    keeper.lie(Some(|mut record| {
        record.value[200] ^= 1;
        record
    }));
    // The one that was off comes back on another port: it knows where the other is, and nobody tells the truth.
    let up_b = Up::start(&b, &[]);
    a.ok(["mkdir", "in spite of lies"]);
    b.wait_for_path("in spite of lies");
    // Loopback is no hint that anybody dials, so that this link has none.
    let shared = a.json(["share", "shared.txt"]);
    let (link, stranger) = (a.beside("link.txt"), Home::empty());
    write(&link, shared["link"].as_str().unwrap().as_bytes());
    let open = ["open", "--list", "--no-lan", "--link-file", link.to_str().unwrap()];
    let opened = stranger.run_json(open.iter().chain(&bootstrap));
    opened.refused(6, "E_NETWORK");

    // Now the first one comes back, on another port, with no DHT at all: the second one is where it was.
    drop(keeper);
    up_a.stop().ok();
    let up_a = Up::start(&a, &[]);
    b.ok(["mkdir", "without anybody"]);
    a.wait_for_path("without anybody");
    up_a.stop().ok();
    up_b.stop().ok();
}
