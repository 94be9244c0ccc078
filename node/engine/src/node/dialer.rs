//! Looking for the person's other devices and keeping a session with each (`docs/spec/09-rendezvous.md`, section 4).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Publishers};
use locker_crypto::secret::RendezvousSecret;
use locker_net::{Connection, DialError, Found, Prefer, both_transports};

use super::conversation;
use super::hub::Hub;

/// First pause after a device was not reached; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a place is tried where a device was last.
const KNOWN_TIME: Duration = Duration::from_secs(2);
/// How often it is looked who is missing.
const LOOK: Duration = Duration::from_millis(500);

/// Looks for every device without a session, one task each, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut stopping = hub.stopping();
    let running = Arc::new(std::sync::Mutex::new(BTreeSet::<VerifyingKey>::new()));
    let mut pauses: HashMap<VerifyingKey, (Duration, tokio::time::Instant)> = HashMap::new();
    loop {
        for device in hub.unreached() {
            let now = tokio::time::Instant::now();
            let (pause, next) = pauses.entry(device).or_insert((PAUSE_MIN, now));
            let is_new = running.lock().is_ok_and(|mut set| set.insert(device));
            if !is_new {
                continue;
            }
            if *next > now {
                let _ = running.lock().map(|mut set| set.remove(&device));
                continue;
            }
            *next = now + *pause;
            *pause = (*pause * 2).min(PAUSE_MAX);
            let (search, running) = (Arc::clone(&hub), Arc::clone(&running));
            hub.spawn(async move {
                look_for(&search, device).await;
                let _ = running.lock().map(|mut set| set.remove(&device));
            });
        }
        let (online, _) = hub.presence();
        pauses.retain(|device, _| !online.contains(device));
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // From another place others are reached that were not before.
            () = hub.moved.notified() => pauses.clear(),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Tries where a device was last, then asks the DHT and the local network for it and dials what they say.
async fn look_for(hub: &Arc<Hub>, device: VerifyingKey) {
    let known = hub.blocking(move |inner| inner.known_addresses(&device)).await.unwrap_or_default();
    let known: Vec<Address> = known.into_iter().flat_map(both_transports).collect();
    if !known.is_empty() {
        // A place where nobody is must not keep us from asking.
        let dialed = tokio::time::timeout(KNOWN_TIME, hub.net().dial(&known, Prefer::Quic));
        if let Some(Ok(Ok(connection))) = hub.until_stop(dialed).await
            && conversation::call(hub, connection, BTreeSet::from([device])).await.is_ok()
        {
            return;
        }
    }
    for secret in hub.secrets_of(&device) {
        let Ok(mut find) = hub.net().find(&secret, Publishers::One, Some(device)).await else { return };
        while let Some(Some(found)) = hub.until_stop(find.next()).await {
            let expected = BTreeSet::from([device]);
            let stood = match found {
                Found::Record { contact, .. } => {
                    hold(hub, hub.net().dial_contact(&contact, Prefer::Quic), expected).await
                }
                Found::Beacon(address) => {
                    hold(hub, hub.net().dial(&both_transports(address), Prefer::Tcp), expected).await
                }
            };
            if stood {
                return;
            }
        }
    }
}

/// A beacon of a device was heard.
pub(super) async fn beacon(hub: Arc<Hub>, secret: RendezvousSecret, address: SocketAddr) {
    let device = hub.unreached().into_iter().find(|vk| hub.secrets_of(vk).contains(&secret));
    if let Some(device) = device {
        let addresses = both_transports(address);
        hold(&hub, hub.net().dial(&addresses, Prefer::Tcp), BTreeSet::from([device])).await;
    }
}

/// Dials and holds the session until it ends. Whether one stood.
async fn hold(
    hub: &Arc<Hub>,
    dial: impl Future<Output = Result<Connection, DialError>>,
    expected: BTreeSet<VerifyingKey>,
) -> bool {
    match hub.until_stop(dial).await {
        Some(Ok(connection)) => conversation::call(hub, connection, expected).await.is_ok(),
        Some(Err(_)) | None => false,
    }
}
