//! Now and then a device that says it holds packs is asked to prove it (`docs/spec/12-sync.md`, "Proofs").

use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_net::ConnectionId;
use locker_store::index;
use locker_store::pins::{self, PinScope};
use locker_store::replicas as heard;

use super::hub::Hub;
use crate::Error;
use crate::copies::{Challenge, Proof};
use crate::limits::{AUDITS_PER_DAY, AUDITS_PER_DAY_CLOSE};
use crate::locker::Inner;
use crate::replicas;
use crate::report::Audit;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// How long it is waited before a refusal counts: the holder may have let the pack go, and that is on its way.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// Asks each device that is here about one pack, then waits, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    loop {
        // The closest look that any device needs sets the pace; the others are asked less often.
        let pause = DAY_MS / u64::from(AUDITS_PER_DAY_CLOSE);
        let jitter = hub.inner().env().dice().next_u64() % pause;
        if hub.until_stop(tokio::time::sleep(Duration::from_millis(pause / 2 + jitter))).await.is_none() {
            return;
        }
        for (device, connection) in hub.within_reach(&hub.others()) {
            let now_s = hub.now_s();
            let is_due = hub.blocking(move |inner| inner.is_audit_due(&device, now_s)).await;
            if !is_due.unwrap_or(false) {
                // Every device as often as once in so many rounds: a random choice needs no memory.
                let rounds = AUDITS_PER_DAY_CLOSE / AUDITS_PER_DAY;
                if !hub.inner().env().dice().next_u32().is_multiple_of(rounds) {
                    continue;
                }
            }
            if hub.until_stop(audit_once(&hub, device, connection)).await.is_none() {
                return;
            }
        }
    }
}

/// Asks a device about a pack of those that it pins, chosen at random, and writes down what came of it; nothing if it
/// pins none.
async fn audit_once(hub: &Hub, device: VerifyingKey, connection: ConnectionId) -> Option<Proof> {
    let challenge = hub.blocking(move |inner| inner.challenge(&device)).await.ok()??;
    let mut proof = hub.prove(device, connection, &challenge).await;
    if proof == Proof::Failed {
        tokio::time::sleep(SECOND_LOOK).await;
        let pack = challenge.pack;
        let stands = hub.blocking(move |inner| inner.is_pinned_by(&device, &pack)).await;
        if !stands.unwrap_or(false) {
            return None;
        }
        let now_at = hub.session_with(&device).map_or(connection, |session| session.id);
        proof = hub.prove(device, now_at, &challenge).await;
    }
    let now_s = hub.now_s();
    // What cannot be written down now is asked again another time.
    let _ = hub.blocking(move |inner| inner.note_proof(&device, proof, now_s)).await;
    Some(proof)
}

/// Asks every device that is here about as many packs as a close look takes in a day, one after another.
pub(crate) fn audit(hub: &Arc<Hub>, done: &dyn Fn(u64)) -> Result<Vec<Audit>, Error> {
    let asking = async {
        let mut audits = Vec::new();
        for (device, connection) in hub.gather().await {
            let mut audit = Audit { device: device.to_string(), ..Audit::default() };
            for _ in 0..AUDITS_PER_DAY_CLOSE {
                let proof = audit_once(hub, device, connection).await;
                match proof {
                    Some(Proof::Given) => audit.proved += 1,
                    Some(Proof::Failed) => audit.failed += 1,
                    Some(Proof::Missed) => audit.missed += 1,
                    None => break,
                }
                done(1);
                if proof == Some(Proof::Failed) {
                    // One is enough.
                    break;
                }
            }
            audits.push(audit);
        }
        audits
    };
    hub.wait_for(asking)
}

impl Inner {
    /// A question about a pack that a device pins, chosen at random; nothing if it pins none that is known here.
    fn challenge(&self, device: &VerifyingKey) -> Result<Option<Challenge>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let scope = PinScope { space: self.space_tag(), author: *device };
        let mut from = [0; 32];
        self.env().dice().fill_bytes(&mut from);
        let pinned = pins::some_from(&snapshot, &scope, &PackHash(from))?;
        // A replica pins nothing: it says what it holds.
        let said = || heard::some_from(&snapshot, device, &PackHash(from));
        let Some(pack) = pinned.map_or_else(said, |pack| Ok(Some(pack)))? else {
            return Ok(None);
        };
        let Some(row) = index::pack(&snapshot, &pack)? else { return Ok(None) };
        let locs = index::locs(&snapshot, &pack)?;
        Ok(Challenge::draw(pack, row.len, &locs, &mut **self.env().dice()))
    }

    /// Whether a device says that it holds a pack: a replica keeps what somebody pins.
    fn is_pinned_by(&self, device: &VerifyingKey, pack: &PackHash) -> Result<bool, Error> {
        let store = self.store()?;
        let (snapshot, space, now_s) = (store.read()?, self.space_tag(), self.env().now_ms() / 1_000);
        if pins::is_pinned(&snapshot, &PinScope { space, author: *device }, pack)? {
            return Ok(true);
        }
        let says = replicas::says(&snapshot, device, pack, now_s)?;
        Ok(says && pins::is_pinned_by_any(&snapshot, &space, pack)?)
    }
}
