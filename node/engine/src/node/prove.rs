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
use locker_net::blob::{self, HoldPacks, PACKS_PER_HOLD};
use locker_net::{ConnectionId, Protocol};
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
    /// Asks a device for a part of a pack.
    pub(crate) async fn prove(
        &self,
        device: VerifyingKey,
        connection: ConnectionId,
        challenge: &Challenge,
    ) -> Proof {
        let asked = Asked { space: self.inner().space_tag(), pack: challenge.pack, len: challenge.len };
        let mut wanted = GroupSet::new();
        challenge.parts.iter().for_each(|part| wanted.add_bytes(part.clone()));
        let _turn = self.away().turn().await;
        let mut groups = Groups::default();
        let asking = self.ask(&asked, &wanted, device, connection, &mut groups);
        match timeout(ANSWER_TIME, asking).await {
            // Each group was compared with the hash of the pack as it came.
            Ok(Ok(())) => Proof::Given,
            Ok(Err(Failed::Denied | Failed::Wrong)) => Proof::Failed,
            Ok(Err(Failed::Broken)) | Err(_) => Proof::Missed,
        }
    }

    /// Asks every device within reach to prove that it holds these packs and to keep them for so many seconds, until
    /// each has as many `copies`. Gives who did both; tells `done` of each pack that is through.
    pub(crate) async fn vouch(
        self: &Arc<Self>,
        challenges: &BTreeMap<PackHash, Challenge>,
        copies: usize,
        seconds: u32,
        done: &dyn Fn(u64),
    ) -> BTreeMap<PackHash, BTreeSet<VerifyingKey>> {
        let mut vouched: BTreeMap<PackHash, BTreeSet<VerifyingKey>> = BTreeMap::new();
        for (device, connection) in self.gather().await {
            let is_due = |pack: &PackHash| {
                vouched.get(pack).is_none_or(|devices: &BTreeSet<_>| devices.len() < copies)
            };
            let due: Vec<PackHash> = challenges.keys().copied().filter(is_due).collect();
            for group in due.chunks(PACKS_PER_HOLD) {
                let held = self.ask_to_hold(connection, group.iter().copied().collect(), seconds).await;
                let mut proving = JoinSet::new();
                for challenge in held.iter().filter_map(|pack| challenges.get(pack)) {
                    let (hub, challenge) = (Arc::clone(self), challenge.clone());
                    proving.spawn(async move {
                        let proof = hub.until_stop(hub.prove(device, connection, &challenge)).await;
                        (challenge.pack, u64::from(challenge.len), proof)
                    });
                }
                while let Some(proved) = proving.join_next().await {
                    let Ok((pack, len, Some(proof))) = proved else { continue };
                    if proof == Proof::Given {
                        let devices = vouched.entry(pack).or_default();
                        devices.insert(device);
                        if devices.len() == copies {
                            done(len);
                        }
                    }
                    let (now_s, answer) = (self.now_s(), proof);
                    // What cannot be written down now is asked again another time.
                    let _ = self.blocking(move |inner| inner.note_proof(&device, answer, now_s)).await;
                }
            }
        }
        vouched
    }

    /// The devices that are here, once all are or some time has passed.
    pub(super) async fn gather(&self) -> Vec<(VerifyingKey, ConnectionId)> {
        let deadline = Instant::now() + MEET_TIME;
        let mut presence = self.presence_changes();
        loop {
            presence.mark_unchanged();
            let here = self.within_reach(&BTreeSet::new());
            let roster = self.roster();
            let others = roster.len().saturating_sub(1);
            let is_all = here.iter().filter(|(device, _)| roster.contains(device)).count() >= others;
            if is_all || timeout_at(deadline, presence.changed()).await.is_err() {
                return here;
            }
        }
    }

    /// The packs that a device promises to keep; none if it does not answer.
    async fn ask_to_hold(
        &self,
        connection: ConnectionId,
        packs: BTreeSet<PackHash>,
        seconds: u32,
    ) -> BTreeSet<PackHash> {
        let request = HoldPacks { space: self.inner().space_tag(), packs, seconds };
        let asking = async {
            let mut stream = self.net().open(connection, Protocol::Blob).await.ok()?;
            blob::hold(&mut stream, &request).await.ok()
        };
        timeout(ANSWER_TIME, asking).await.ok().flatten().unwrap_or_default()
    }
}
