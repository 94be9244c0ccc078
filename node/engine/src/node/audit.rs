//! Now and then a device that says it holds packs is asked to prove it (`docs/spec/12-sync.md`, "Proofs").

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use locker_catalog::roster::Roster;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::pins::{self, PinScope};
use locker_store::replicas as heard;
use locker_store::{Reads, index};

use super::hub::Hub;
use crate::Error;
use crate::copies::{Challenge, Proof};
use crate::keys::person_log;
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
        for (device, _) in hub.within_reach(&hub.others()) {
            let now_s = hub.now_s();
            let again = hub.blocking(move |inner| inner.unanswered(&device, now_s)).await;
            if let Some(challenge) = again.ok().flatten() {
                if hub.until_stop(examine(&hub, device, challenge)).await.is_none() {
                    return;
                }
                continue;
            }
            let is_due = hub.blocking(move |inner| inner.is_audit_due(&device, now_s)).await;
            if !is_due.unwrap_or(false) {
                // Every device as often as once in so many rounds: a random choice needs no memory.
                let rounds = AUDITS_PER_DAY_CLOSE / AUDITS_PER_DAY;
                if !hub.inner().env().dice().next_u32().is_multiple_of(rounds) {
                    continue;
                }
            }
            if hub.until_stop(audit_once(&hub, device)).await.is_none() {
                return;
            }
        }
    }
}

/// What came of a question.
#[derive(PartialEq, Eq)]
enum Examined {
    Proof(Proof),
    /// The device need not have the pack any more.
    Withdrawn,
    /// It is not here.
    Gone,
}

/// Asks a device about a pack of those that it is to hold, chosen at random, and writes down what came of it.
async fn audit_once(hub: &Hub, device: VerifyingKey) {
    let challenge = hub.blocking(move |inner| inner.challenges(&device, 1)).await;
    if let Some(challenge) = challenge.ok().and_then(|mut drawn| drawn.pop()) {
        examine(hub, device, challenge).await;
    }
}

/// Asks a device one question, and writes down what came of it.
async fn examine(hub: &Hub, device: VerifyingKey, challenge: Challenge) -> Examined {
    let Some(mut proof) = hub.prove(device, &challenge).await else { return Examined::Gone };
    if proof != Proof::Given {
        tokio::time::sleep(SECOND_LOOK).await;
        let pack = challenge.pack;
        let stands = hub.blocking(move |inner| inner.is_pinned_by(&device, &pack)).await;
        if !stands.unwrap_or(false) {
            // What cannot be written down now is found out again another time.
            let _ = hub.blocking(move |inner| inner.forget_unanswered(&device, &pack)).await;
            return Examined::Withdrawn;
        }
    }
    if proof == Proof::Failed {
        // Who is asked a second time and is gone has not answered.
        proof = hub.prove(device, &challenge).await.unwrap_or(Proof::Missed);
    }
    Examined::Proof(hub.note_proof(device, challenge, proof).await)
}

/// Asks every device that is here as many questions as a close look takes in a day, one after another: about every pack
/// before about one a second time.
pub(crate) fn audit(hub: &Arc<Hub>, done: &dyn Fn(u64)) -> Result<Vec<Audit>, Error> {
    let asking = async {
        let mut audits = Vec::new();
        for device in hub.gather().await {
            audits.push(audit_device(hub, device, done).await);
        }
        audits
    };
    hub.wait_for(asking)
}

async fn audit_device(hub: &Hub, device: VerifyingKey, done: &dyn Fn(u64)) -> Audit {
    let mut audit = Audit { device: device.to_string(), ..Audit::default() };
    let mut left = AUDITS_PER_DAY_CLOSE as usize;
    while left > 0 {
        let asked = hub.blocking(move |inner| inner.challenges(&device, left)).await.unwrap_or_default();
        if asked.is_empty() {
            break;
        }
        for challenge in asked {
            left -= 1;
            match examine(hub, device, challenge).await {
                Examined::Proof(Proof::Given) => audit.proved += 1,
                // One is enough; and nobody waits half a minute each for one who is silent, or is not there any more.
                Examined::Proof(Proof::Failed) => audit.failed += 1,
                Examined::Proof(Proof::Missed) | Examined::Gone => audit.missed += 1,
                Examined::Withdrawn => {}
            }
            done(1);
            if audit.failed + audit.missed > 0 {
                return audit;
            }
        }
    }
    audit
}

impl Inner {
    /// Questions about different packs that a device is to hold: so many, chosen at random, each pack as likely as any other.
    /// Fewer if there are fewer that are known here.
    fn challenges(&self, device: &VerifyingKey, count: usize) -> Result<Vec<Challenge>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let scope = PinScope { space: self.space_tag(), author: *device };
        let mut below = |n: u64| self.env().dice().next_u64() % n.max(1);
        let mut packs = pins::sample(&snapshot, &scope, count, &mut below)?;
        if packs.is_empty() {
            // A replica pins nothing: it says what it holds.
            let authors = self.pinning(&snapshot)?;
            packs = heard::sample(&snapshot, device, (&self.space_tag(), &authors), count, &mut below)?;
        }
        let mut challenges = Vec::new();
        for pack in packs {
            if let Some(row) = index::pack(&snapshot, &pack)? {
                let locs = index::locs(&snapshot, &pack)?;
                challenges.extend(Challenge::draw(pack, row.len, &locs, &mut **self.env().dice()));
            }
        }
        Ok(challenges)
    }

    /// Whether a device says that it holds a pack: a replica keeps what somebody pins who was not removed.
    fn is_pinned_by(&self, device: &VerifyingKey, pack: &PackHash) -> Result<bool, Error> {
        let store = self.store()?;
        let (snapshot, space, now_s) = (store.read()?, self.space_tag(), self.env().now_ms() / 1_000);
        if pins::is_pinned(&snapshot, &PinScope { space, author: *device }, pack)? {
            return Ok(true);
        }
        let says = replicas::says(&snapshot, device, pack, now_s)?;
        Ok(says && pins::is_pinned_by(&snapshot, &space, &self.pinning(&snapshot)?, pack)?)
    }

    /// Whose pins a replica goes by.
    fn pinning<R: Reads>(&self, reads: &R) -> Result<BTreeSet<VerifyingKey>, Error> {
        let person = self.keys().person;
        Ok(Roster::read(person, &person_log(reads, &person)?).admitted())
    }
}
