//! `status`: one truthful sentence, then the facts.

mod blind;
mod own;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use locker_catalog::tree as catalog;
use locker_crypto::Refusal;
use locker_crypto::id::{PackHash, SpaceTag, VerifyingKey};
use locker_store::index::{self, Pack, PackState};
use locker_store::pins::{self, PinScope};
use locker_store::{Snapshot, audits};

use crate::copies::Standing;
use crate::limits::{KEEP_DAYS, STATE_HASH_QUICK_NODES};
use crate::locker::Inner;
use crate::needs::Needs;
use crate::replicas::{self, Told};
use crate::report::{Copies, Device, Problem, ROLE_BLIND, ROLE_FULL, Scrub, StateHash, Status, Transfer};
use crate::tree::Tree;
use crate::{Error, vault};

/// Copies that are wanted of everything, until a policy says otherwise.
pub(crate) const COPIES_WANTED: u32 = 2;
/// How long it is told that a device was set back: as long as its word is proof of a copy.
const SET_BACK_SHOWN_S: u64 = 7 * 86_400;

/// Tells how the locker is, in a time that does not grow with the number of files; but for the hash of the tree, if it is
/// asked for, and where packs go that nothing needed at the last look and something was written since ([`Needs`]).
pub(crate) fn status(inner: &Inner, hash: StateHash) -> Result<Status, Error> {
    if let Some(depot) = inner.depot() {
        return blind::status(inner, depot);
    }
    let store = inner.store()?;
    let noted = inner.noted().get();
    let (commits, snapshot) = inner.committed_state(&store)?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let counts = catalog::counts(tree.rows())?;
    let now_ms = inner.env().now_ms();
    let replicas = inner.told_replicas(&snapshot)?;
    let needs = Needs::new(inner, &store, &snapshot, noted == Some(commits));
    let packs = Packs::read(inner, (&snapshot, &needs), &replicas)?;
    let devices = devices(inner)?;
    let replayed = Tree::replayed(&snapshot, inner.space_tag());
    let mut problems = problems(&replayed, &packs)?;
    problems.extend(set_back(inner, &snapshot, &devices)?);
    problems.extend(devices.iter().filter_map(failed));
    let oldest_proof = devices.iter().filter(|one| one.failed.is_none()).filter_map(|one| one.proved).min();
    problems.extend(replicas::problems(&replicas));
    problems.extend(replicas::unfound(&replicas, inner.words_generation(&snapshot)?));
    problems.extend(own::ahead(inner, &snapshot)?);
    problems.extend(own::doubted(inner));
    problems.extend(inner.turns().trouble().map(|why| Problem {
        code: "E_GC".into(),
        message: format!("giving back room ended early, and nothing more was removed: {why}"),
    }));
    problems.extend(own::damaged_rows(inner));
    problems.extend(heirs(inner));
    problems.extend(own::ended(inner, &snapshot)?);
    problems.extend(own::in_doubt(inner, &snapshot)?);
    let (held, decide) = crate::held::problems(inner, &snapshot)?;
    problems.extend(held);
    problems.extend(inner.ruled().excess().map(|message| Problem { code: "E_RULE".into(), message }));
    let notices = crate::newcomers::notices(inner, &snapshot, &devices)?;
    let (files, bytes) = (counts.files, counts.bytes);
    Ok(Status {
        sentence: {
            let safe = sentence(files, bytes, &packs, oldest_proof.map(|at| now_ms.saturating_sub(at)));
            decide.map_or_else(|| safe.clone(), |decide| format!("{decide} {safe}"))
        },
        files,
        folders: counts.folders,
        bytes,
        store_bytes: packs.bytes + store.database_bytes()?,
        devices,
        copies: Copies {
            wanted: COPIES_WANTED,
            least: if files == 0 { COPIES_WANTED } else { packs.least },
            proved: if files == 0 { COPIES_WANTED } else { packs.proved },
            oldest_proof,
            files_at_risk: if packs.least >= COPIES_WANTED { 0 } else { files },
            said: packs.said,
        },
        transfers: packs.transfer().into_iter().collect(),
        traffic: inner.node().map(|hub| hub.traffic()),
        scrub: Scrub {
            oldest_verified: packs.oldest_verified.map(|s| s.saturating_mul(1_000)),
            bad: packs.lost,
        },
        problems,
        notices,
        person_id: inner.keys().person.to_string(),
        vault: vault::kind(store.home())?.to_owned(),
        reborn: own::reborn(inner, &snapshot)?,
        state_hash: match hash {
            StateHash::IfQuick if counts.nodes > STATE_HASH_QUICK_NODES => None,
            _ => Some(state_hash(&replayed)?),
        },
    })
}

/// On how many devices the content is that is on the fewest, as [`Status::copies`] counts; `None` if there is none.
pub(crate) fn least_copies(inner: &Inner) -> Result<Option<u32>, Error> {
    // A replica knows of no copies beside its own.
    inner.keys().person_keys()?;
    let store = inner.store()?;
    let noted = inner.noted().get();
    let (commits, snapshot) = inner.committed_state(&store)?;
    let needs = Needs::new(inner, &store, &snapshot, noted == Some(commits));
    let packs = Packs::read(inner, (&snapshot, &needs), &inner.told_replicas(&snapshot)?)?;
    Ok(packs.is_any.then_some(packs.least))
}

/// The hash of the whole tree, in hexadecimal. Reads the row of every file and folder.
fn state_hash(tree: &Tree<'_>) -> Result<String, Error> {
    let hash = catalog::state_hash(tree.rows())?;
    Ok(hash.iter().map(|b| format!("{b:02x}")).collect())
}

fn sentence(files: u64, bytes: u64, packs: &Packs, proof_age_ms: Option<u64>) -> String {
    let what = match files {
        0 => return "The locker is empty.".into(),
        1 => format!("1 file, {}", human(bytes)),
        n => format!("{n} files, {}", human(bytes)),
    };
    let here = match packs.away_bytes {
        0 => "all here".into(),
        away => format!("{} of it only on other devices", human(away)),
    };
    if packs.lost > 0 && packs.least == 0 {
        return format!(
            "Not safe: of {what} some content is missing on this device, and no other device has it. Run `locker verify`."
        );
    }
    if packs.lost + packs.wanted > 0 {
        return format!("{what}; some of the content is still to come from other devices.");
    }
    if packs.proved >= COPIES_WANTED
        && let Some(age_ms) = proof_age_ms
    {
        return format!(
            "Safe: {what}, {here}. Everything is on {} devices at least, and they proved it; the oldest proof is {} old.",
            packs.proved,
            span(age_ms)
        );
    }
    // Pins are signed words, not proofs.
    match packs.least {
        0 | 1 if packs.away_bytes == 0 => {
            format!("{what}, all here, and only here: this device has the one copy.")
        }
        0 => format!("Not safe: of {what} some content is not here, and no device says that it has it."),
        1 => format!("{what}, {here}; of some of it there is one copy."),
        2 if packs.away_bytes == 0 => {
            format!("{what}, all here; one other device says that it holds everything too.")
        }
        n => format!(
            "{what}, {here}; {n} devices say that they hold everything, this one counted where it does."
        ),
    }
}

/// A span of time as people read it.
fn span(ms: u64) -> String {
    let (number, unit) = match ms / 60_000 {
        0 => return "less than a minute".into(),
        minutes @ 1..120 => (minutes, "minute"),
        minutes @ 120..2_880 => (minutes / 60, "hour"),
        minutes => (minutes / 1_440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// A device that could not prove that it holds what it says.
fn failed(device: &Device) -> Option<Problem> {
    device.failed.map(|_| Problem {
        code: "E_PROOF".into(),
        message: format!(
            "the device {:?} was asked to prove that it holds what it says, and could not: its copies are not counted. Run \
             `locker verify --repair` there, then `locker audit` here",
            device.name
        ),
    })
}

/// A size as people read it.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

/// How a device says that it holds a pack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// By a signed pin.
    Pin,
    /// When it is asked, as a replica does.
    Said,
}

/// A device or replica beside this one.
struct Other {
    device: VerifyingKey,
    standing: Standing,
    word: Word,
}

impl Other {
    fn says(
        &self,
        snapshot: &Snapshot,
        space: &SpaceTag,
        hash: &PackHash,
        now_s: u64,
    ) -> Result<bool, Error> {
        match self.word {
            Word::Pin => {
                Ok(pins::is_pinned(snapshot, &PinScope { space: *space, author: self.device }, hash)?)
            }
            Word::Said => replicas::says(snapshot, &self.device, hash, now_s),
        }
    }
}

/// What the pack table sums up to.
#[derive(Default)]
struct Packs {
    /// Bytes of those that are here.
    bytes: u64,
    /// Bytes of those that are to come.
    wanted_bytes: u64,
    wanted: u64,
    lost: u64,
    /// When the one was checked that was checked longest ago, unix seconds.
    oldest_verified: Option<u64>,
    /// Bytes of those that were let go here and are read from other devices.
    away_bytes: u64,
    /// Whether there is one that counts.
    is_any: bool,
    /// On how many devices the pack is that is on the fewest, and how many of them proved it.
    least: u32,
    proved: u32,
    /// How many replicas say that they hold the pack of which the fewest say so.
    said: u32,
}

impl Packs {
    fn read(
        inner: &Inner,
        (snapshot, needs): (&Snapshot, &Needs<'_>),
        replicas: &[Told],
    ) -> Result<Self, Error> {
        let keys = inner.keys();
        let mut others = Vec::new();
        for device in crate::keys::active(snapshot, &keys.person)? {
            if device != keys.device_id() {
                others.push(Other {
                    device,
                    standing: inner.standing_of(snapshot, &device)?,
                    word: Word::Pin,
                });
            }
        }
        for Told { replica, .. } in replicas {
            let standing = inner.standing_of(snapshot, &replica.id)?;
            others.push(Other { device: replica.id, standing, word: Word::Said });
        }
        let mut packs = Self { least: u32::MAX, proved: u32::MAX, said: u32::MAX, ..Self::default() };
        let now_s = inner.env().now_ms() / 1_000;
        let mut failure = Ok(());
        index::scan_packs(snapshot, &mut |hash, pack| {
            if let PackState::Present { verified_at } = pack.state {
                packs.oldest_verified =
                    Some(packs.oldest_verified.map_or(verified_at, |oldest: u64| oldest.min(verified_at)));
            }
            let step = packs.add((snapshot, needs), (&keys.tag, now_s), &others, (&hash, &pack));
            if let Err(error) = step {
                failure = Err(error);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        failure?;
        packs.is_any = packs.least < u32::MAX;
        if !packs.is_any {
            // Nothing but small things: they lie in the log, which every device has that was heard from.
            (packs.least, packs.proved) = (1, 1);
        }
        if packs.said == u32::MAX {
            packs.said = 0;
        }
        Ok(packs)
    }

    /// Adds a pack; `others` are the devices and replicas beside this one.
    fn add(
        &mut self,
        (snapshot, needs): (&Snapshot, &Needs<'_>),
        (space, now_s): (&SpaceTag, u64),
        others: &[Other],
        (hash, pack): (&PackHash, &Pack),
    ) -> Result<(), Error> {
        let is_here = matches!(pack.state, PackState::Present { .. });
        let (mut copies, mut proved) = (u32::from(is_here), u32::from(is_here));
        let mut said = 0;
        for other in others.iter().filter(|other| other.standing.counts()) {
            if other.says(snapshot, space, hash, now_s)? {
                copies += 1;
                proved += u32::from(other.standing == Standing::Proved);
                said += u32::from(other.word == Word::Said);
            }
        }
        match pack.state {
            PackState::Present { .. } => self.bytes += locker_store::packs::file_len(pack.len),
            // What every device has let go is not waited for. What only one has that failed, or was removed, is, and what
            // nobody has told yet that he has it: it is missing here, and no copy of it counts.
            PackState::Wanted if copies == 0 && is_let_go((snapshot, needs), space, hash, now_s)? => {
                return Ok(());
            }
            PackState::Wanted => {
                self.wanted += 1;
                self.wanted_bytes += u64::from(pack.len);
            }
            PackState::Lost => self.lost += 1,
            PackState::Away => self.away_bytes += u64::from(pack.len),
            // What was let go on purpose is not missing.
            PackState::Released | PackState::Deleting => return Ok(()),
        }
        // What nothing needs any more is on its way out, here or there first.
        if copies < COPIES_WANTED && copies < self.least && needs.is_unneeded(hash)? {
            return Ok(());
        }
        self.least = self.least.min(copies);
        self.proved = self.proved.min(proved);
        self.said = self.said.min(said);
        Ok(())
    }

    /// What is still to come.
    fn transfer(&self) -> Option<Transfer> {
        let total = self.bytes + self.wanted_bytes;
        (self.wanted > 0).then(|| Transfer {
            what: "content from other devices".into(),
            done: self.bytes,
            total,
        })
    }
}

/// Whether a pack that is not here is one that every device has let go, and not one of which the pins are still to come: nothing
/// needs it, or nobody pins it and it was named before the days for which everything is kept, or was made anew.
fn is_let_go(
    (snapshot, needs): (&Snapshot, &Needs<'_>),
    space: &SpaceTag,
    hash: &PackHash,
    now_s: u64,
) -> Result<bool, Error> {
    if needs.is_unneeded(hash)? {
        return Ok(true);
    }
    if pins::is_pinned_by_any(snapshot, space, hash)? {
        return Ok(false);
    }
    let named_s = index::naming(snapshot, space, hash)?.map_or(0, |naming| (naming.hlc >> 16) / 1_000);
    if named_s.saturating_add(u64::from(KEEP_DAYS) * 86_400) <= now_s {
        return Ok(true);
    }
    for loc in index::locs(snapshot, hash)? {
        let mut is_elsewhere = false;
        for place in index::places(snapshot, space, &loc.tag)?.iter().filter(|place| place.pack != *hash) {
            is_elsewhere |= match index::pack(snapshot, &place.pack)?.map(|pack| pack.state) {
                Some(PackState::Present { .. } | PackState::Away | PackState::Lost) => true,
                Some(PackState::Wanted) => pins::is_pinned_by_any(snapshot, space, &place.pack)?,
                Some(PackState::Released | PackState::Deleting) | None => false,
            };
        }
        if !is_elsewhere {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The devices of the person. Whether others can be reached now only a running node knows.
pub(crate) fn devices(inner: &Inner) -> Result<Vec<Device>, Error> {
    if let Some(depot) = inner.depot() {
        return blind::devices(inner, depot);
    }
    let snapshot = inner.store()?.read()?;
    let keys = inner.keys();
    let devices = crate::keys::devices(&snapshot, &keys.person, keys.person_keys()?, keys.tag)?;
    let (online, last_seen) = inner.node().map(|hub| hub.presence()).unwrap_or_default();
    let ways = inner.node().map(|hub| hub.ways()).unwrap_or_default();
    let now = inner.env().now_ms();
    let mut told = Vec::new();
    for listed in devices {
        let vk = listed.id;
        let (proved, failed) = audited(&snapshot, &vk, now)?;
        let this = vk == keys.device_id();
        let online = this || online.contains(&vk);
        let last_seen = if online { now } else { last_seen.get(&vk).copied().unwrap_or(0) };
        let replaced_by = listed.successors.iter().map(ToString::to_string).collect();
        let added_by = listed.came.map(|came| came.author).filter(|by| *by != vk);
        told.push(Device {
            id: vk.to_string(),
            name: listed.name,
            role: ROLE_FULL.into(),
            online,
            path: ways.get(&vk).copied(),
            last_seen,
            proved,
            failed,
            this,
            revoked: listed.is_revoked,
            added_by: added_by.map(|by| by.to_string()),
            added: listed.came.map(|came| came.hlc >> 16),
            replaced_by,
            store: None,
        });
    }
    for Told { replica, room, heard_ms, .. } in inner.told_replicas(&snapshot)? {
        let id = replica.id;
        let online = online.contains(&id);
        let (proved, failed) = audited(&snapshot, &id, now)?;
        told.push(Device {
            id: id.to_string(),
            name: replica.name,
            role: ROLE_BLIND.into(),
            online,
            path: ways.get(&id).copied(),
            last_seen: if online { now } else { heard_ms.max(last_seen.get(&id).copied().unwrap_or(0)) },
            proved,
            failed,
            this: false,
            revoked: false,
            added_by: None,
            added: None,
            replaced_by: Vec::new(),
            store: Some(room),
        });
    }
    Ok(told)
}

/// When a device last proved what it says, and when it failed to, if that counts still: unix milliseconds.
fn audited(
    snapshot: &Snapshot,
    device: &VerifyingKey,
    now_ms: u64,
) -> Result<(Option<u64>, Option<u64>), Error> {
    let audited = audits::of(snapshot, device)?;
    let has_failed = Standing::of(&audited, now_ms / 1_000) == Standing::Failed;
    let proved = (audited.proved_s > 0).then_some(audited.proved_s.saturating_mul(1_000));
    Ok((proved, has_failed.then_some(audited.failed_s.saturating_mul(1_000))))
}

/// Devices that had less than before when they were met.
fn set_back(inner: &Inner, snapshot: &Snapshot, devices: &[Device]) -> Result<Vec<Problem>, Error> {
    let since = (inner.env().now_ms() / 1_000).saturating_sub(SET_BACK_SHOWN_S);
    let ids = inner.set_back_since(snapshot, since)?;
    let told = ids.into_iter().filter_map(|id| {
        let id = id.to_string();
        let device = devices.iter().find(|device| device.id == id)?;
        Some(Problem {
            code: Refusal::Rollback.code().into(),
            message: format!(
                "the device {:?} came back with less than it had before, as after a restore from a backup; its copies count \
                 again when it has proved them, which `locker audit` asks for",
                device.name
            ),
        })
    });
    Ok(told.collect())
}

/// Whether somebody reads with the phrase.
fn heirs(inner: &Inner) -> Option<Problem> {
    let is_read = inner.node().is_some_and(|hub| hub.heirs() > 0);
    is_read.then(|| Problem {
        code: "E_PHRASE".into(),
        message: "somebody who has the 24 words of this locker reads it now, as `locker recover` and `locker drill` do. If \
                  that is not you, the words are in other hands"
            .into(),
    })
}

fn problems(tree: &Tree<'_>, packs: &Packs) -> Result<Vec<Problem>, Error> {
    let mut problems = Vec::new();
    if packs.lost > 0 {
        problems.push(Problem {
            code: "E_HASH".into(),
            message: format!("{} packs are missing or damaged on this device", packs.lost),
        });
    }
    for (op, why) in catalog::problems(tree.rows())? {
        problems.push(Problem {
            code: why.code().into(),
            message: format!(
                "operation {} of entry {} of device {} had no effect: {}",
                op.index,
                op.entry.seq,
                op.entry.author,
                why.meaning()
            ),
        });
    }
    Ok(problems)
}
