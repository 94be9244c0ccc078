//! The kinds of routers against one another: 10 MiB move in every pair, and the way is the one that physics allows.

use std::time::{Duration, Instant};

use locker_tests::Up;
use locker_tests::internet::Router;

use super::{BYTES, MEET_TIME, Pair, can_run};

fn moves(name: &str, routers: &[Router], path: &str) {
    if !can_run() {
        return;
    }
    let pair = Pair::join(name, routers, BYTES);
    pair.wait_moved();
    pair.wait_for_path(path, MEET_TIME);
    eprintln!("{name}: {BYTES} bytes moved, {path}");
    pair.stop();
}

/// Goal: on one local network nobody else is needed, and the way is direct. Method: a site whose meeting point does not
/// run; devices find one another by beacons.
#[test]
fn on_one_local_network() {
    moves("on_one_local_network", &[Router::Cone], "direct");
}

/// Goal: two homes with ordinary routers are connected directly within five seconds, by themselves. Method: they meet
/// through the relay of the meeting point, punch, and move their session; then once more with nothing but what they
/// remember, timed from the start of the second.
#[test]
fn cone_to_cone_is_direct_within_five_seconds() {
    if !can_run() {
        return;
    }
    let mut pair =
        Pair::join("cone_to_cone_is_direct_within_five_seconds", &[Router::Cone, Router::Cone], BYTES);
    pair.wait_moved();
    pair.wait_for_path("direct", MEET_TIME);
    pair.up_b.stop().ok();
    let network: Vec<&str> = pair.network.iter().map(String::as_str).collect();
    pair.up_b = Up::start_as_is(&pair.b, &network);
    let begun = Instant::now();
    pair.wait_for_path("direct", MEET_TIME);
    let took = begun.elapsed();
    eprintln!("cone to cone: direct {} ms after the start", took.as_millis());
    assert!(took < Duration::from_secs(5), "{took:?}");
    pair.stop();
}

/// Goal: where one router gives everybody another port, no direct way can be punched, and a relay carries everything.
#[test]
fn cone_to_symmetric_goes_through_a_relay() {
    moves("cone_to_symmetric_goes_through_a_relay", &[Router::Cone, Router::Symmetric], "relayed");
}

/// Goal: the same with two such routers.
#[test]
fn symmetric_to_symmetric_goes_through_a_relay() {
    moves("symmetric_to_symmetric_goes_through_a_relay", &[Router::Symmetric, Router::Symmetric], "relayed");
}

/// Goal: a device whose network lets out nothing but TCP to port 443 is reached all the same. Method: it was told the
/// meeting point's ordinary port, as everybody is.
#[test]
fn only_tcp_443_goes_through_a_relay() {
    moves("only_tcp_443_goes_through_a_relay", &[Router::Cone, Router::Only443], "relayed");
}

/// Goal: a device that everybody reaches is dialed directly by one whom nobody reaches, from either side.
#[test]
fn public_to_symmetric_is_direct() {
    moves("public_to_symmetric_is_direct", &[Router::Open, Router::Symmetric], "direct");
}
