//! Asking other devices to prove that they hold packs, and to promise that they keep them (`docs/spec/12-sync.md`,
//! "Proofs" and "Leases").
//!
//! A proof is an ordinary answer to an ordinary request: whoever answers cannot tell it from a read. What follows from
//! it is said in [`crate::copies`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::file_ref::GroupSet;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_net::Protocol;
use locker_net::blob::{self, HoldPacks, PACKS_PER_HOLD};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::hub::Hub;
use crate::copies::{Challenge, Proof};
use crate::groups::{Asked, Failed, Groups};

/// No answer within this time is a miss.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long other devices are waited for that are not here yet.
const MEET_TIME: Duration = Duration::from_secs(10);

impl Hub {
    /// Asks a device for a part of a pack, over the session with it. A session that ends meanwhile, as every one does some
    /// day, says nothing about the pack: the device is asked once more when it is back. `None` if it is not here.
    pub(crate) async fn prove(&self, device: VerifyingKey, challenge: &Challenge) -> Option<Proof> {
        let asked = Asked { space: self.inner().space_tag(), pack: challenge.pack, len: challenge.len };
        let mut wanted = GroupSet::new();
        challenge.parts.iter().for_each(|part| wanted.add_bytes(part.clone()));
        self.session_with(&device)?;
        for _ in 0..2 {
            if timeout(ANSWER_TIME, self.has_come(&device)).await.is_err() {
                break;
            }
            let _turn = self.away().turn().await;
            let Some(session) = self.session_with(&device) else { continue };
            let mut groups = Groups::default();
            let asking = self.ask(&asked, &wanted, device, session.id, &mut groups);
            match timeout(ANSWER_TIME, asking).await {
                // Each group was compared with the hash of the pack as it came.
                Ok(Ok(())) => return Some(Proof::Given),
                Ok(Err(Failed::Denied | Failed::Wrong)) => return Some(Proof::Failed),
                Ok(Err(Failed::Broken)) => {}
                Err(_) => break,
            }
        }
        Some(Proof::Missed)
    }

    /// Asks every device within reach to prove that it holds these packs and to keep them for so many seconds, until
    /// each has as many `copies`, one of them at a device that reads: replicas keep what such a one pins. Gives who did both;
    /// tells `done` of each pack that is through. One that fails a single time counts for nothing.
    pub(crate) async fn vouch(
        self: &Arc<Self>,
        challenges: &BTreeMap<PackHash, Challenge>,
        copies: usize,
        seconds: u32,
        done: &dyn Fn(u64),
    ) -> BTreeMap<PackHash, BTreeSet<VerifyingKey>> {
        let mut vouched: BTreeMap<PackHash, BTreeSet<VerifyingKey>> = BTreeMap::new();
        let mut through = BTreeSet::new();
        let readers = self.roster();
        for device in self.gather().await {
            if self.blocking(move |inner| inner.has_failed(&device)).await.unwrap_or(true) {
                continue;
            }
            // Devices that read come first.
            let is_reader = readers.contains(&device);
            if !is_reader && !self.is_replica(&device) {
                continue;
            }
            let is_due = |pack: &PackHash| match vouched.get(pack) {
                Some(devices) => devices.len() < copies && (is_reader || !devices.is_disjoint(&readers)),
                None => is_reader,
            };
            let due: Vec<PackHash> = challenges.keys().copied().filter(is_due).collect();
            'device: for group in due.chunks(PACKS_PER_HOLD) {
                let held = self.ask_to_hold(&device, group.iter().copied().collect(), seconds).await;
                let mut proving = JoinSet::new();
                for challenge in held.iter().filter_map(|pack| challenges.get(pack)) {
                    let (hub, challenge) = (Arc::clone(self), challenge.clone());
                    proving.spawn(async move {
                        let proof = hub.until_stop(hub.prove(device, &challenge)).await.flatten();
                        (challenge, proof)
                    });
                }
                while let Some(proved) = proving.join_next().await {
                    let Ok((challenge, Some(proof))) = proved else { continue };
                    let (pack, len) = (challenge.pack, u64::from(challenge.len));
                    match self.note_proof(device, challenge, proof).await {
                        Proof::Given => {
                            let devices = vouched.entry(pack).or_default();
                            devices.insert(device);
                            if devices.len() == copies && through.insert(pack) {
                                done(len);
                            }
                        }
                        // Many questions that one silence leaves without an answer are one silence.
                        Proof::Missed => break 'device,
                        Proof::Failed => {
                            vouched.values_mut().for_each(|devices| _ = devices.remove(&device));
                            break 'device;
                        }
                    }
                }
            }
        }
        // Much may have become known of those who vouched first.
        let readers = self.roster();
        let all: BTreeSet<VerifyingKey> = vouched.values().flatten().copied().collect();
        let mut out = BTreeSet::new();
        for device in all {
            let is_there = readers.contains(&device) || self.is_replica(&device);
            if !is_there || self.blocking(move |inner| inner.has_failed(&device)).await.unwrap_or(true) {
                out.insert(device);
            }
        }
        for devices in vouched.values_mut() {
            devices.retain(|device| !out.contains(device));
            if devices.is_disjoint(&readers) {
                devices.clear();
            }
        }
        vouched
    }

    /// Writes down what came of a question, and gives what that is.
    pub(super) async fn note_proof(&self, device: VerifyingKey, asked: Challenge, proof: Proof) -> Proof {
        let now_s = self.now_s();
        // What cannot be written down now is asked again another time.
        self.blocking(move |inner| inner.note_proof(&device, &asked, proof, now_s)).await.unwrap_or(proof)
    }

    /// The devices that are here, once all are or some time has passed: those that read first.
    pub(super) async fn gather(&self) -> Vec<VerifyingKey> {
        let deadline = Instant::now() + MEET_TIME;
        let mut presence = self.presence_changes();
        loop {
            presence.mark_unchanged();
            let roster = self.roster();
            let here = self.within_reach(&roster);
            let others = roster.len().saturating_sub(1);
            let is_all = here.iter().filter(|(device, _)| roster.contains(device)).count() >= others;
            if is_all || timeout_at(deadline, presence.changed()).await.is_err() {
                return here.into_iter().map(|(device, _)| device).collect();
            }
        }
    }

    /// The packs that a device promises to keep; none if it does not answer.
    async fn ask_to_hold(
        &self,
        device: &VerifyingKey,
        packs: BTreeSet<PackHash>,
        seconds: u32,
    ) -> BTreeSet<PackHash> {
        let request = HoldPacks { space: self.inner().space_tag(), packs, seconds };
        let asking = async {
            let session = self.session_with(device)?;
            let mut stream = self.net().open(session.id, Protocol::Blob).await.ok()?;
            blob::hold(&mut stream, &request).await.ok()
        };
        timeout(ANSWER_TIME, asking).await.ok().flatten().unwrap_or_default()
    }
}
