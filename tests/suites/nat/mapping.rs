//! A router that passes a port on when it is asked by PCP: the way is direct where it would lead through a relay.

use std::time::{Duration, Instant};

use locker_tests::internet::{Router, has_mapping_router};
use locker_tests::wait::wait_for;

use super::{BYTES, MEET_TIME, Pair, can_run};

const ROUTERS: [Router; 2] = [Router::Mapping, Router::Symmetric];

/// Whether the router is there too; says so if not.
fn can_map() -> bool {
    match has_mapping_router() {
        Ok(()) => can_run(),
        Err(why) => {
            eprintln!("SKIPPED: no router that passes ports on: {why}");
            false
        }
    }
}

/// Goal: a device behind a router that gives everybody another port is reached directly by one behind another such router,
/// if its own router passes a port on, and at its end the router is left as it was. Method: `miniupnpd` and nothing of
/// ours; the rules of its packet filter are looked at, and what the doctor says of it. The controls: the next test, and in the
/// matrix the row of two such routers without that service.
#[test]
fn a_mapped_port_to_symmetric_is_direct() {
    if !can_map() {
        return;
    }
    let pair = Pair::join("a_mapped_port_to_symmetric_is_direct", &ROUTERS, BYTES);
    pair.wait_for_path("direct", MEET_TIME);
    pair.wait_moved();
    pair.wait_for_path("direct", MEET_TIME);
    assert_eq!(pair.sites[0].mapped_ports(), 2);
    let told = pair.a.run_json(["doctor"]).json();
    let nat = told["checks"].as_array().unwrap().iter().find(|check| check["name"] == "nat").unwrap();
    let found = nat["found"].as_str().unwrap();
    eprintln!("a mapped port to symmetric: {BYTES} bytes moved, direct. The doctor: {found}");
    assert!(found.starts_with("This device is reached from anywhere, at 128.66.0.10:"), "{nat}");
    assert!(found.contains("Its router passes UDP and TCP at 128.66.0.10:"), "{nat}");
    assert!(found.ends_with("on to it, for 2 hours each time it is asked."), "{nat}");
    let Pair { up_a, up_b, sites, .. } = pair;
    up_b.stop().ok();
    up_a.stop().ok();
    wait_for("the router as it was", MEET_TIME, || (sites[0].mapped_ports() == 0).then_some(()));
}

/// Goal: when the router gets another address, the port is passed on from there, and that is told to others instead of the old
/// one. Method: as when a line was interrupted; what shows it to the device is that its connections break.
#[test]
fn a_port_is_passed_on_from_another_address_too() {
    if !can_map() {
        return;
    }
    let pair = Pair::join("a_port_is_passed_on_from_another_address_too", &ROUTERS, BYTES / 10);
    pair.wait_moved();
    pair.wait_for_path("direct", MEET_TIME);
    let nat = || {
        let told = pair.a.run_json(["doctor"]).json();
        let check = told["checks"].as_array().unwrap().iter().find(|check| check["name"] == "nat").cloned();
        check.unwrap()["found"].as_str().unwrap().to_owned()
    };
    assert!(nat().contains("from anywhere, at 128.66.0.10:"));
    pair.sites[0].move_away();
    let begun = Instant::now();
    let found = wait_for("the other address", Duration::from_secs(150), || {
        let found = nat();
        (found.contains("from anywhere, at 128.66.0.11:") && !found.contains("128.66.0.10:")).then_some(found)
    });
    eprintln!("another address after {} s: {found}", begun.elapsed().as_secs());
    pair.wait_for_path("direct", Duration::from_secs(150));
    pair.stop();
}

/// Goal: a router is not asked where that is switched off.
#[test]
fn a_router_that_is_not_asked_passes_nothing_on() {
    if !can_map() {
        return;
    }
    let name = "a_router_that_is_not_asked_passes_nothing_on";
    let pair = Pair::join_by(name, &ROUTERS, BYTES / 10, &["--no-port-mapping"]);
    pair.wait_moved();
    pair.wait_for_path("relayed", MEET_TIME);
    assert_eq!(pair.sites[0].mapped_ports(), 0);
    pair.stop();
}
