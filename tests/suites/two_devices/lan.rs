//! Two devices on one local network that nobody told of any other node.

use std::net::UdpSocket;

use locker_tests::files::{nasty_tree, write, write_big};
use locker_tests::{Dice, Home, Tree, Up};
use serde_json::Value;

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

/// Goal: a link that was made while the node ran opens with what stands in it: no meeting point, no beacon (T49: "link with
/// hint works"). Method: the address of this machine's own interface, as loopback is no hint.
#[test]
fn a_link_opens_by_the_addresses_in_it() {
    if !has_lan() {
        eprintln!("SKIPPED: this machine has no interface but loopback, so there is no address for a link");
        return;
    }
    let a = Home::new();
    write(&a.beside("given.txt"), b"given");
    a.ok(["add".as_ref(), a.beside("given.txt").as_os_str()]);
    let open = |shared: &Value| {
        let (stranger, link) = (Home::empty(), a.beside("link.txt"));
        write(&link, shared["link"].as_str().unwrap().as_bytes());
        let out = stranger.beside("out");
        let (link, out) = (link.to_str().unwrap(), out.to_str().unwrap());
        let told = stranger.run_json(["open", "--no-lan", "--link-file", link, "--to", out]);
        (told, std::fs::read(stranger.beside("out").join("given.txt")).ok())
    };
    let made_apart = a.json(["share", "given.txt"]);
    let up = Up::start_as_is(&a, &["--no-lan"]);
    let (told, given) = open(&a.json(["share", "given.txt"]));
    told.ok();
    assert_eq!(given.as_deref(), Some(&b"given"[..]));
    // One that was made while no node ran names nobody: with nothing to ask, that is said at once.
    let (told, _) = open(&made_apart);
    told.refused(6, "E_NETWORK");
    up.stop().ok();
}
