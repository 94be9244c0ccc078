//! The replicas of this person, as its devices know them: who they are stands in the home space, and what they said last
//! beside it (`docs/spec/02-identity.md`, "Home space").

use std::collections::{BTreeMap, BTreeSet};

use locker_catalog::operation::{Meta, Op};
use locker_catalog::roster::Roster;
use locker_catalog::tree;
use locker_crypto::Refusal;
use locker_crypto::capability::{Capability, Facts, Registration};
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{NodeId, PackHash, TokenId, VerifyingKey};
use locker_crypto::identity::Slot;
use locker_crypto::person::{self, DEVICE_NAME_LEN_MAX};
use locker_crypto::secret::{RendezvousMaster, RendezvousSecret};
use locker_store::replicas::{self as heard, Heard};
use locker_store::{Reads, keyring};

use crate::keys::{Keys, person_log};
use crate::locker::Inner;
use crate::report::{Device, Problem, ReplicaKind, StoreRoom};
use crate::{Env, Error};

const VERSION: u64 = 1;
/// How long the word of a replica counts, in seconds: as long as it takes until nobody believes it without a proof.
const SAID_LIFE_S: u64 = 7 * 86_400;

/// A replica of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The key that names it.
    pub(crate) id: VerifyingKey,
    /// Whether it is a node or a drive.
    pub(crate) kind: ReplicaKind,
    /// Under which slot it is found; a drive is found under none.
    pub(crate) slot: Option<Slot>,
    /// How it is called.
    pub(crate) name: String,
    /// Bytes that it may keep; 0 for as many as fit.
    pub(crate) quota: u64,
    /// Days of running for which it keeps what nobody pins.
    pub(crate) keep_days: u32,
    /// By which it shows that it is one; a drive has none.
    pub(crate) token: Option<Capability>,
}

/// The key of the `meta` item in which a replica stands.
pub(crate) fn meta_key(device: &VerifyingKey) -> String {
    format!("replica/{device}")
}

impl Replica {
    /// Seals what the person's devices are to know of it, for the item under [`meta_key`].
    ///
    /// # Errors
    /// [`Error::Blind`].
    pub(crate) fn seal(&self, keys: &Keys, env: &Env) -> Result<Vec<u8>, Error> {
        let mut out = Writer::new();
        out.array(7).u64(VERSION).u64(match self.kind {
            ReplicaKind::Node => 0,
            ReplicaKind::Drive => 1,
        });
        match self.slot {
            Some(slot) => out.array(1).u64(slot.index().into()),
            None => out.array(0),
        };
        out.text(&self.name).u64(self.quota).u64(self.keep_days.into());
        out.bytes(&self.token.as_ref().map_or_else(Vec::new, Capability::encode));
        let newest = keys.person_keys()?.newest();
        Ok(person::seal_meta(newest, &meta_key(&self.id), &out.finish(), &mut **env.dice()))
    }

    fn open(keys: &Keys, id: VerifyingKey, sealed: &[u8]) -> Result<Self, Error> {
        let damaged = |why| Error::damaged("what is known of a replica", why);
        let plain = person::open_meta(keys.person_keys()?, &meta_key(&id), sealed).map_err(damaged)?;
        Self::decode(id, &plain).map_err(damaged)
    }

    fn decode(id: VerifyingKey, plain: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(plain);
        let len = from.array()?;
        if from.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        if len != 7 {
            return Err(Refusal::Canon);
        }
        let kind = match from.u64()? {
            0 => ReplicaKind::Node,
            1 => ReplicaKind::Drive,
            _ => return Err(Refusal::Canon),
        };
        let slot = match from.array()? {
            0 => None,
            1 => Some(Slot::new(from.u32()?)?).filter(|slot| slot.is_replica()),
            _ => return Err(Refusal::Canon),
        };
        let name = from.text()?.to_owned();
        if name.len() > DEVICE_NAME_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let (quota, keep_days) = (from.u64()?, from.u32()?);
        let token = match from.bytes()? {
            [] => None,
            bytes => Some(Capability::decode(bytes)?),
        };
        from.finish()?;
        Ok(Self { id, kind, slot, name, quota, keep_days, token })
    }
}

/// The replicas that stand in the home space, by their keys. What does not open was sealed under keys that are still to
/// come, and is passed over.
///
/// # Errors
/// What reading gives; [`Error::Blind`].
pub(crate) fn list<R: Reads>(reads: &R, keys: &Keys) -> Result<Vec<Replica>, Error> {
    let mut found = Vec::new();
    for (key, value) in tree::metas(&reads.rows(keys.tag), NodeId::ROOT)? {
        let Some(id) = key.strip_prefix("replica/").and_then(id_of).filter(|_| !value.is_empty()) else {
            continue;
        };
        match Replica::open(keys, id, &value) {
            Ok(replica) => found.push(replica),
            Err(Error::Integrity { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|replica| replica.id);
    Ok(found)
}

fn id_of(text: &str) -> Option<VerifyingKey> {
    let digits = |i: usize| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..VerifyingKey::LEN).map(digits).collect::<Option<_>>()?;
    let id = VerifyingKey::from_slice(&bytes).ok()?;
    (id.to_string() == text).then_some(id)
}

/// The least slot that no replica has.
///
/// # Errors
/// [`Error::Limit`] if all are taken.
pub(crate) fn free_slot(replicas: &[Replica]) -> Result<Slot, Error> {
    let taken: BTreeSet<Slot> = replicas.iter().filter_map(|replica| replica.slot).collect();
    (0..Slot::FIRST_DEVICE)
        .filter_map(|index| Slot::new(index).ok())
        .find(|slot| !taken.contains(slot))
        .ok_or_else(|| {
            Error::Limit("a locker has at most 16 replicas that are reached over the network".into())
        })
}

/// A replica that can be reached over the network.
#[derive(Clone)]
pub(crate) struct Reachable {
    /// Its slot; not known of one that was met by chance.
    pub(crate) slot: Option<Slot>,
    /// The secrets under which it is found, the newest generation first.
    pub(crate) secrets: Vec<RendezvousSecret>,
}

/// What the tokens of replicas are judged by.
#[derive(Clone, Default)]
pub(crate) struct Grounds {
    issuers: BTreeSet<VerifyingKey>,
    removed: BTreeMap<VerifyingKey, BTreeSet<TokenId>>,
    nothing: Nothing,
}

/// What a replica's token is held against in vain: it ends by its place in the home space alone.
#[derive(Clone, Default)]
struct Nothing {
    revoked: BTreeSet<[u8; 32]>,
    register: BTreeSet<TokenId>,
    used: BTreeMap<TokenId, u64>,
}

impl Grounds {
    /// The facts, at a time.
    pub(crate) fn facts(&self, now_s: u64) -> Facts<'_> {
        Facts {
            now: now_s,
            issuers: &self.issuers,
            removed: &self.removed,
            revoked: &self.nothing.revoked,
            heartbeat_age_s: None,
            registration: Registration::Flagged { register: &self.nothing.register },
            used_bytes: &self.nothing.used,
        }
    }
}

/// The replicas that can be reached, and what they are judged by. A token stays good when the device that gave it is
/// removed: a device that is there still lists it.
///
/// # Errors
/// As [`list`].
pub(crate) fn reachable<R: Reads>(
    reads: &R,
    keys: &Keys,
    roster: &Roster,
) -> Result<(BTreeMap<VerifyingKey, Reachable>, Grounds), Error> {
    let masters = keyring::all::<RendezvousMaster, _>(reads)?;
    let issuers = roster.admitted().into_iter().chain([roster.root]).collect();
    let mut grounds = Grounds { issuers, ..Grounds::default() };
    let mut found = BTreeMap::new();
    for replica in list(reads, keys)? {
        let (Some(slot), Some(token)) = (replica.slot, replica.token) else { continue };
        if !grounds.issuers.contains(&token.issuer()) {
            grounds.removed.entry(token.issuer()).or_default().insert(token.root_id());
        }
        let secrets = masters.iter().rev().map(|(_, master)| slot.secret(master)).collect();
        found.insert(replica.id, Reachable { slot: Some(slot), secrets });
    }
    Ok((found, grounds))
}

/// How it stands with a replica, for who looks at the devices.
pub(crate) struct Told {
    /// Who it is.
    pub(crate) replica: Replica,
    /// What it said of its room; nothing if it was never heard.
    pub(crate) room: StoreRoom,
    /// When it was heard last, unix milliseconds; 0 if never.
    pub(crate) heard_ms: u64,
    /// Of which generation its slot is, as far as it was heard; of a drive: up to which its log tells.
    pub(crate) generation: u32,
}

impl Told {
    /// Whether it is found under a slot of an earlier generation only, or opens to earlier words only.
    pub(crate) fn is_behind(&self, generation: u32) -> bool {
        self.generation < generation
    }
}

impl Inner {
    /// The replicas with what they said last.
    pub(crate) fn told_replicas<R: Reads>(&self, reads: &R) -> Result<Vec<Told>, Error> {
        let told = |replica: Replica| -> Result<Told, Error> {
            let said = heard::get(reads, &replica.id)?;
            let Heard { at_s, used, quota, refused, generation } = said.unwrap_or_default();
            let quota = if said.is_some() { quota } else { replica.quota };
            let room = StoreRoom { kind: replica.kind, used, quota, refused };
            Ok(Told { replica, room, heard_ms: at_s.saturating_mul(1_000), generation })
        };
        list(reads, &self.keys())?.into_iter().map(told).collect()
    }

    /// The generation that the words which count, or the last recovery, began.
    pub(crate) fn words_generation<R: Reads>(&self, reads: &R) -> Result<u32, Error> {
        let person = self.keys().person;
        let roster = Roster::read(person, &person_log(reads, &person)?);
        Ok(u32::try_from(roster.generation).unwrap_or(u32::MAX))
    }

    /// Notes what a replica said of its room.
    pub(crate) fn note_room(&self, device: &VerifyingKey, heard: &Heard) -> Result<(), Error> {
        self.store()?.write(|txn| {
            heard::put(txn, device, heard);
            Ok(())
        })
    }

    /// Notes that a replica says it holds packs.
    pub(crate) fn note_said(&self, device: &VerifyingKey, packs: &[PackHash]) -> Result<(), Error> {
        let now_s = self.env().now_ms() / 1_000;
        self.store()?.write(|txn| {
            heard::put_packs(txn, device, packs, now_s);
            Ok(())
        })
    }
}

/// Ends a replica, named by its id or the beginning of it: it is called no more and not let in, and its slot is free. What it
/// keeps it keeps until its owner throws it away. One durable commit.
///
/// # Errors
/// [`Error::NoSuch`]; [`Error::Argument`] if several begin so.
pub(crate) fn remove(inner: &Inner, id: &str) -> Result<Device, Error> {
    let id = id.trim().to_ascii_lowercase();
    let mut fitting = crate::status::devices(inner)?;
    fitting.retain(|device| device.store.is_some() && !id.is_empty() && device.id.starts_with(&id));
    let device = match (fitting.pop(), fitting.pop()) {
        (Some(device), None) => device,
        (None, _) => return Err(Error::NoSuch("there is no replica with this id".into())),
        (Some(_), Some(_)) => {
            return Err(Error::Argument("several replicas have an id that begins so".into()));
        }
    };
    let vk = id_of(&device.id).ok_or_else(|| Error::NoSuch("there is no replica with this id".into()))?;
    inner.commit(|change| {
        change.push(Op::Meta(Meta { node: NodeId::ROOT, key: meta_key(&vk), value: Vec::new() }))
    })?;
    inner.store()?.write(|txn| heard::forget(txn, &vk))?;
    Ok(device)
}

/// Whether the home space lists a replica: an item that was emptied does not.
///
/// # Errors
/// What reading gives.
pub(crate) fn is_listed<R: Reads>(reads: &R, keys: &Keys, id: &VerifyingKey) -> Result<bool, Error> {
    let item = tree::meta(&reads.rows(keys.tag), NodeId::ROOT, &meta_key(id))?;
    Ok(item.is_some_and(|value| !value.is_empty()))
}

/// Whether a replica said lately that it holds a pack.
///
/// # Errors
/// What reading gives.
pub(crate) fn says<R: Reads>(
    reads: &R,
    device: &VerifyingKey,
    pack: &PackHash,
    now_s: u64,
) -> Result<bool, Error> {
    let said = heard::said(reads, device, pack)?;
    Ok(said.is_some_and(|at_s| at_s.saturating_add(SAID_LIFE_S) > now_s))
}

/// Replicas that the present words do not find.
pub(crate) fn unfound(replicas: &[Told], generation: u32) -> impl Iterator<Item = Problem> {
    replicas.iter().filter(move |told| told.is_behind(generation)).map(|Told { replica, .. }| Problem {
        code: "E_SLOT".into(),
        message: format!(
            "{} {:?} was not {} since the 24 words were changed, or since a recovery: until it is, the present words do not \
             {} it",
            if replica.slot.is_some() { "the replica" } else { "the drive" },
            replica.name,
            if replica.slot.is_some() { "reached" } else { "brought up to date" },
            if replica.slot.is_some() { "find" } else { "open" },
        ),
    })
}

/// Replicas that have no room for what they are to keep.
pub(crate) fn problems(replicas: &[Told]) -> impl Iterator<Item = Problem> {
    let full = replicas.iter().filter(|told| told.room.refused > 0);
    full.map(|Told { replica, room, .. }| Problem {
        code: Refusal::Quota.code().into(),
        message: format!(
            "the replica {:?} is full: it keeps {} and has no room for {} more {}",
            replica.name,
            crate::status::human(room.used),
            room.refused,
            if room.refused == 1 { "pack" } else { "packs" }
        ),
    })
}

#[cfg(test)]
mod tests {
    use locker_crypto::identity::DeviceKeys;
    use locker_sync::pairing::{Enrol, Role};

    use super::*;
    use crate::{InitOptions, Locker, Secret, Vault};

    fn replica(n: u8, slot: Option<u32>) -> Replica {
        Replica {
            id: VerifyingKey([n; 32]),
            kind: if slot.is_some() { ReplicaKind::Node } else { ReplicaKind::Drive },
            slot: slot.map(|index| Slot::new(index).unwrap()),
            name: "shed".into(),
            quota: 7,
            keep_days: 30,
            token: None,
        }
    }

    #[test]
    fn the_least_free_slot_is_taken_and_there_are_sixteen() {
        let taken = |slots: &[u32]| slots.iter().map(|slot| replica(1, Some(*slot))).collect::<Vec<_>>();
        let free = |slots: &[u32]| free_slot(&taken(slots)).map(Slot::index).ok();
        assert_eq!((free(&[]), free(&[0, 2]), free(&[1])), (Some(0), Some(1), Some(0)));
        let all: Vec<u32> = (0..16).collect();
        assert_eq!((free(&all[..15]), free(&all)), (Some(15), None));
    }

    #[test]
    fn a_removed_replica_is_none_and_its_slot_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions { name: None, vault: Vault::File };
        Locker::create(folder.path(), options, Env::system(), |_| Ok::<_, Error>(())).unwrap();
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        let locker = Locker::open(folder.path(), Env::system(), none).unwrap();
        let inner = locker.inner();
        let enrol = || {
            let keys = DeviceKeys::random(&mut **inner.env().dice());
            let enrol = Enrol::new(Role::BlindStore, "shed", &inner.keys().person, &keys);
            let grant = inner.enrol_replica(&enrol, 9_000_000).unwrap();
            (keys.verifying_key(), grant.custody.unwrap().slot.index())
        };
        let (first, second) = (enrol(), enrol());
        assert_eq!((first.1, second.1), (0, 1));
        inner.note_said(&first.0, &[PackHash([1; 32])]).unwrap();
        assert_eq!(locker.remove_replica(&first.0.to_string()[..10]).unwrap().id, first.0.to_string());
        let snapshot = inner.store().unwrap().read().unwrap();
        let left: Vec<_> = list(&snapshot, &inner.keys()).unwrap().iter().map(|one| one.id).collect();
        assert_eq!(left, [second.0]);
        assert_eq!(heard::said(&snapshot, &first.0, &PackHash([1; 32])).unwrap(), None);
        assert!(matches!(locker.remove_replica(&first.0.to_string()), Err(Error::NoSuch(_))));
        // A device that is none is not ended so, nor is everything.
        let own = inner.keys().device_id().to_string();
        assert!(matches!(locker.remove_replica(&own), Err(Error::NoSuch(_))));
        assert!(matches!(locker.remove_replica(""), Err(Error::NoSuch(_))));
        assert_eq!(enrol().1, 0);
    }

    #[test]
    fn keys_of_items_have_one_form() {
        let id = VerifyingKey([0xab; 32]);
        let key = meta_key(&id);
        assert_eq!(key.strip_prefix("replica/").and_then(id_of), Some(id));
        assert_eq!(id_of(&"AB".repeat(32)), None);
        assert_eq!(id_of(&"ab".repeat(33)), None);
        assert_eq!(id_of("ab"), None);
    }
}
