//! Whether each other device of the person is reached, and what stands in the way.

use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Transport;
use locker_net::Connection;
use tokio::time::timeout;

use crate::Error;
use crate::locker::Inner;
use crate::node::{Hub, Miss, Trail, Whence};
use crate::report::{Check, Device, ReplicaKind};

const NAME: &str = "device";
/// How long devices that are missing are looked for.
const SEARCH_TIME: Duration = Duration::from_secs(10);

/// Another device.
pub(super) struct Other {
    key: VerifyingKey,
    told: Device,
}

/// The other devices that are in use.
pub(super) fn others(inner: &Inner) -> Result<Vec<Other>, Error> {
    // A device that stores is looked for, and looks for nobody.
    if inner.depot().is_some() {
        return Ok(Vec::new());
    }
    let listed = crate::status::devices(inner)?.into_iter();
    let is_drive = |device: &Device| device.store.is_some_and(|store| store.kind == ReplicaKind::Drive);
    let others = listed.filter(|device| !device.this && device.replaced_by.is_empty() && !is_drive(device));
    let with_key = |told: Device| {
        let key = VerifyingKey::from_slice(&hex(&told.id)?).ok()?;
        Some(Other { key, told })
    };
    Ok(others.filter_map(with_key).collect())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect()
}

/// Looks for every device that has no session now, and says how each of them is.
pub(super) async fn look(hub: &Hub, others: &[Other]) -> Vec<Check> {
    let begun = hub.searches();
    hub.seek_at_once(others.iter().map(|other| other.key));
    let mut changes = hub.presence_changes();
    let is_settled = |other: &Other| {
        let is_new = |trail: Trail| trail.number > begun && trail.is_over;
        hub.session_with(&other.key).is_some() || hub.trail(&other.key).is_some_and(is_new)
    };
    let settled = async {
        while !others.iter().all(is_settled) {
            // The sender lives in the hub.
            let _ = changes.changed().await;
        }
    };
    // Whoever is not there by then is told as not reached.
    let _ = timeout(SEARCH_TIME, settled).await;
    let is_in_dht = hub.net().figures().dht_nodes > 0;
    let sources = Sources { is_in_dht, has_lan: hub.has_lan() };
    let one = |other: &Other| {
        let (session, trail) = (hub.session_with(&other.key), hub.trail(&other.key));
        judge(&other.told.name, session.as_ref(), trail.as_ref(), sources).of(&other.told.id)
    };
    others.iter().map(one).collect()
}

/// Who was asked for devices.
#[derive(Clone, Copy)]
struct Sources {
    is_in_dht: bool,
    has_lan: bool,
}

fn judge(name: &str, session: Option<&Connection>, trail: Option<&Trail>, sources: Sources) -> Check {
    if let Some(connection) = session {
        let transport = match connection.transport {
            Transport::Quic => "UDP (QUIC)",
            Transport::Tcp => "TCP",
        };
        let through = if connection.is_relayed() { "through the relay" } else { "at" };
        return Check::ok(
            NAME,
            format!("{name:?} is connected over {transport} {through} {}.", connection.remote),
        );
    }
    let tried = trail.map(|trail| &trail.tried[..]).unwrap_or_default();
    let found = format!("{name:?} is not reached.");
    if let Some(refused) = tried.iter().find(|tried| tried.miss == Miss::Refused) {
        let cause = format!(
            "It answers at {} and does not let this device in: one of the two was removed.",
            refused.at
        );
        return Check::failed(NAME, found, cause, "See `locker device ls` on both.");
    }
    if tried.iter().any(|tried| tried.miss == Miss::Limit) {
        let cause = "This node has as many connections as it may have.";
        return Check::failed(NAME, found, cause, "Wait a minute; if it stays so, start the program again.");
    }
    let at = |source: Whence, miss: Miss| {
        let places = tried.iter().filter(|tried| tried.source == source && tried.miss == miss);
        places.map(|tried| tried.at.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut causes = Vec::new();
    for (source, said) in [
        (Whence::Known, "where it was last"),
        (Whence::Record, "where its record says that it is"),
        (Whence::Beacon, "where it was heard on the local network"),
    ] {
        let (nobody, stranger) = (at(source, Miss::Nobody), at(source, Miss::Stranger));
        if !nobody.is_empty() {
            causes.push(format!("nobody answers at {nobody}, {said}"));
        }
        if !stranger.is_empty() {
            causes.push(format!("somebody else answers at {stranger}, {said}"));
        }
    }
    let has = |source| tried.iter().any(|tried| tried.source == source);
    let (is_recorded, is_heard) = (has(Whence::Record), has(Whence::Beacon));
    match sources {
        Sources { is_in_dht: true, .. } if !is_recorded => causes.push("the DHT has no record of it".into()),
        Sources { is_in_dht: false, .. } => causes.push("there is no DHT to ask".into()),
        _ => {}
    }
    if sources.has_lan && !is_heard {
        causes.push("it is not heard on the local network".into());
    }
    // A record says where it was within the last day, a beacon where it is.
    let likely =
        if is_heard { "It is there, and a firewall keeps others out" } else { "Most likely it is off" };
    let cause = format!("{likely}: {}.", causes.join("; "));
    let cure = match (is_heard, is_recorded || sources.is_in_dht) {
        (true, _) => "Let UDP and TCP through to it.",
        (false, true) => "Run `locker up` on it; if it runs, see what `locker doctor` says there.",
        (false, false) => {
            "Run `locker up` on it; if it is in another network, give both a common meeting point with `--bootstrap ADDR`."
        }
    };
    Check::warning(NAME, found, cause, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Tried;
    use crate::report::CheckState;

    #[test]
    fn what_was_tried_is_told() {
        let at = "192.0.2.1:4001".parse().unwrap();
        let tell = |tried: &[(Whence, Miss)], is_in_dht: bool| {
            let tried =
                tried.iter().map(|(source, miss)| Tried { source: *source, at, miss: *miss }).collect();
            let trail = Trail { number: 1, tried, is_over: true };
            judge("phone", None, Some(&trail), Sources { is_in_dht, has_lan: true })
        };
        let off = tell(&[(Whence::Known, Miss::Nobody)], true);
        assert_eq!(off.state, CheckState::Warning);
        assert_eq!(
            off.cause.unwrap(),
            "Most likely it is off: nobody answers at 192.0.2.1:4001, where it was last; the DHT has no record of it; it is \
             not heard on the local network."
        );
        let blocked = tell(&[(Whence::Beacon, Miss::Nobody)], true);
        assert!(
            blocked.cause.unwrap().starts_with(
                "It is there, and a firewall keeps others out: nobody answers at 192.0.2.1:4001"
            )
        );
        assert!(blocked.cure.unwrap().contains("Let UDP and TCP through"));
        let moved = tell(&[(Whence::Known, Miss::Stranger)], false);
        assert!(moved.cause.unwrap().contains("somebody else answers at 192.0.2.1:4001"));
        assert!(moved.cure.unwrap().contains("--bootstrap"));
        for miss in [Miss::Refused, Miss::Limit] {
            assert_eq!(tell(&[(Whence::Known, miss)], true).state, CheckState::Failed);
        }
        assert_eq!(
            judge("phone", None, None, Sources { is_in_dht: false, has_lan: false }).state,
            CheckState::Warning
        );
    }
}
