//! A replica in the home space, and what it is given: a slot, a quota, a token, and no key.

use locker_catalog::operation::{Meta, Op};
use locker_catalog::roster::Roster;
use locker_crypto::capability::{self, Capability, Rights, Scope};
use locker_crypto::id::NodeId;
use locker_crypto::person::Enrolment;
use locker_crypto::secret::RendezvousMaster;
use locker_store::keyring;
use locker_sync::pairing::{Custody, Enrol, Grant, Role};

use crate::Error;
use crate::depot::KEEP_DAYS_DEFAULT;
use crate::keys::not_heard_yet;
use crate::locker::Inner;
use crate::replicas::{self, Replica};
use crate::report::ReplicaKind;

/// How long the token of a replica lasts, in seconds: ten years.
const TOKEN_LIFE_S: u64 = 3_650 * 86_400;

impl Inner {
    /// Notes a replica in the home space, in one durable commit, and returns what it is given.
    ///
    /// # Errors
    /// [`Error::Refused`] if it did not sign for this person, or if this device may not write any more; [`Error::Limit`] if
    /// no slot is free; [`Error::Restored`].
    pub(crate) fn enrol_replica(&self, enrol: &Enrol, quota: u64) -> Result<Grant, Error> {
        self.may_sign()?;
        let keys = self.keys();
        let candidate = enrol.candidate();
        let signed = Enrolment {
            device: candidate.device,
            box_key: candidate.box_key.hash(),
            pop_sig: candidate.pop_sig,
            sealed_name: Vec::new(),
        };
        signed.check(&keys.person).map_err(Error::Refused)?;
        self.commit(|change| {
            let known = replicas::list(change.txn(), &keys)?;
            let (generation, master) =
                keyring::newest::<RendezvousMaster, _>(change.txn())?.ok_or_else(not_heard_yet)?;
            let entries = crate::keys::person_log(change.txn(), &keys.person)?;
            if Roster::read(keys.person, &entries).generation != u64::from(generation) {
                return Err(not_heard_yet());
            }
            let slot = replicas::free_slot(&known)?;
            let token = self.replicate_token(enrol, quota)?;
            let replica = Replica {
                id: enrol.device,
                kind: ReplicaKind::Node,
                slot: Some(slot),
                name: enrol.name.clone(),
                quota,
                keep_days: KEEP_DAYS_DEFAULT,
                token: Some(token.clone()),
            };
            let value = replica.seal(&keys, self.env())?;
            change.push(Op::Meta(Meta {
                node: NodeId::ROOT,
                key: replicas::meta_key(&enrol.device),
                value,
            }))?;
            let (person_log, objects) = self.log_and_objects(change.txn(), entries)?;
            let custody =
                Custody { slot, secret: slot.secret(&master), quota, keep_days: KEEP_DAYS_DEFAULT, token };
            Ok(Grant {
                role: Role::BlindStore,
                person_log,
                person_key: None,
                master: None,
                replicas: Vec::new(),
                objects,
                custody: Some(custody),
            })
        })
    }

    fn replicate_token(&self, enrol: &Enrol, quota: u64) -> Result<Capability, Error> {
        let keys = self.keys();
        let now_s = self.env().now_ms() / 1_000;
        let grant = capability::Grant {
            audience: enrol.device,
            space_tag: keys.tag,
            rights: Rights::REPLICATE,
            scope: Scope::Space,
            not_before: now_s,
            expires: now_s + TOKEN_LIFE_S,
            depth: 0,
            quota: std::num::NonZeroU64::new(quota),
            terms: capability::Terms::default(),
        };
        Capability::issue(keys.device.signing(), grant, &mut **self.env().dice()).map_err(Error::Refused)
    }
}
