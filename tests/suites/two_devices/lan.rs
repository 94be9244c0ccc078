//! Two devices on one local network that nobody told of any other node.

use std::net::UdpSocket;

use locker_tests::files::{nasty_tree, write_big};
use locker_tests::{Dice, Home, Tree, Up};

/// Whether this machine has an interface over which a group on the local network is reached. Sends nothing.
fn has_lan() -> bool {
    let to_group = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("239.255.76.75:24765")?;
        socket.local_addr()
    });
    to_group.is_ok_and(|address| !address.ip().is_loopback())
}

/// Goal: with no meeting point and nothing configured, a device joins with the ticket alone, gets everything byte-equal,
/// and both find one another again after both were off. Method: the default network of the machine; what others send
/// there under other secrets is none of their business.
#[test]
fn devices_of_one_network_join_and_replicate_without_a_meeting_point() {
    if !has_lan() {
        eprintln!("SKIPPED: this machine has no interface but loopback, so there is no local network to try");
        return;
    }
    let mut dice = Dice::of("devices_of_one_network_join_and_replicate_without_a_meeting_point");
    let (a, b) = (Home::new(), Home::empty());
    let source = a.beside("source");
    nasty_tree(&source.join("nasty"), &mut dice);
    write_big(&source.join("big.bin"), 20_000_000, &mut dice);
    a.ok(["add".as_ref(), source.as_os_str()]);
    let up_a = Up::start_as_is(&a, &[]);
    a.pair_by(&b, "second", &[]);
    let up_b = Up::start_as_is(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    let (from_a, from_b) = (a.beside("out"), b.beside("out"));
    a.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), from_a.as_os_str()]);
    b.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), from_b.as_os_str()]);
    Tree::of(&from_a).assert_same(&Tree::of(&from_b));
    assert_eq!(b.json(["verify"])["bad"], 0);
    up_a.stop().ok();
    up_b.stop().ok();
    // Later, on other ports: whoever comes second is heard by the first.
    let up_b = Up::start_as_is(&b, &[]);
    b.ok(["mkdir", "made apart"]);
    let up_a = Up::start_as_is(&a, &[]);
    a.wait_for_path("made apart");
    up_a.stop().ok();
    up_b.stop().ok();
}
