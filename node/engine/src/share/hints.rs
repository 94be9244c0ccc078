//! The addresses that a link carries (`docs/spec/07-links.md`, "Hints"): with them it opens where no DHT is asked and no
//! beacon heard.

use std::net::SocketAddr;

use locker_crypto::link::{HINTS_MAX, Hint};
use locker_crypto::rendezvous::Address;

use crate::Error;
use crate::locker::Inner;

/// Where the devices that serve a link can be reached now: this one, as it tells others, then others where they were reached
/// last. Empty while no node runs: what a device had yesterday is worth less than what it publishes today.
pub(super) fn hints(inner: &Inner) -> Result<Vec<Hint>, Error> {
    let Some(hub) = inner.node() else { return Ok(Vec::new()) };
    let own = hub.own_addresses();
    let mut others = Vec::new();
    for device in hub.presence().0 {
        others.extend(inner.known_addresses(&device)?.first());
    }
    Ok(choose(&own, &others))
}

/// Takes those that a reader would dial, each place once, until a link is full.
fn choose(own: &[Address], others: &[SocketAddr]) -> Vec<Hint> {
    let own = own.iter().map(|address| SocketAddr::new(address.ip, address.port));
    let mut chosen: Vec<Hint> = Vec::new();
    for at in own.chain(others.iter().copied()) {
        let hint = Hint { ip: at.ip().to_canonical(), port: at.port() };
        if hint.may_be_dialed() && !chosen.contains(&hint) && chosen.len() < HINTS_MAX {
            chosen.push(hint);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use locker_net::both_transports;

    use super::*;

    #[test]
    fn a_link_names_places_that_a_reader_dials() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let own = ["127.0.0.1:4001", "203.0.113.7:4001", "192.168.1.2:4001", "[fe80::1]:4001"];
        let own: Vec<Address> = own.into_iter().flat_map(|text| both_transports(at(text))).collect();
        let hint = |text: &str| Hint { ip: at(text).ip(), port: at(text).port() };
        let others =
            [at("192.168.1.2:4001"), at("192.168.1.9:80"), at("192.168.1.3:4002"), at("192.0.2.4:4003")];
        let expected = ["203.0.113.7:4001", "192.168.1.2:4001", "192.168.1.3:4002"].map(hint);
        assert_eq!(choose(&own, &others), expected);
        assert_eq!(choose(&own[..2], &[]), []);
    }
}
