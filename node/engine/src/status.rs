//! `status`: one truthful sentence, then the facts.

use std::ops::ControlFlow;

use locker_catalog::tree as catalog;
use locker_crypto::Refusal;
use locker_store::Snapshot;
use locker_store::index::{self, PackState};
use locker_store::pins::{self, PinScope};

use crate::locker::Inner;
use crate::report::{Copies, Device, Problem, Scrub, Status, Transfer};
use crate::tree::Tree;
use crate::{Error, vault};

/// Copies that are wanted of everything, until a policy says otherwise.
const COPIES_WANTED: u32 = 2;
/// How long it is told that a device was set back: as long as its word is proof of a copy.
const SET_BACK_SHOWN_S: u64 = 7 * 86_400;

/// Tells how the locker is.
pub(crate) fn status(inner: &Inner) -> Result<Status, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag());
    let counts = catalog::counts(tree.rows())?;
    let packs = Packs::read(&snapshot, inner)?;
    let devices = devices(inner)?;
    let mut problems = problems(&tree, &packs)?;
    problems.extend(set_back(inner, &snapshot, &devices)?);
    problems.extend(damaged_rows(inner));
    let (files, bytes) = (counts.files, counts.bytes);
    Ok(Status {
        sentence: sentence(files, bytes, &packs),
        files,
        folders: counts.folders,
        bytes,
        store_bytes: packs.bytes + store.database_bytes()?,
        devices,
        copies: Copies {
            wanted: COPIES_WANTED,
            least: if files == 0 { COPIES_WANTED } else { packs.least },
            files_at_risk: if packs.least >= COPIES_WANTED { 0 } else { files },
        },
        transfers: packs.transfer().into_iter().collect(),
        traffic: inner.node().map(|hub| hub.traffic()),
        scrub: Scrub {
            oldest_verified: packs.oldest_verified.map(|s| s.saturating_mul(1_000)),
            bad: packs.lost,
        },
        problems,
        person_id: inner.keys().person.to_string(),
        vault: vault::kind(store.home())?.to_owned(),
        state_hash: hex(&catalog::state_hash(tree.rows())?),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sentence(files: u64, bytes: u64, packs: &Packs) -> String {
    let what = match files {
        0 => return "The locker is empty.".into(),
        1 => format!("1 file, {}", human(bytes)),
        n => format!("{n} files, {}", human(bytes)),
    };
    if packs.lost > 0 && packs.least == 0 {
        format!(
            "Not safe: of {what} some content is missing on this device, and no other device has it. Run `locker verify`."
        )
    } else if packs.lost + packs.wanted > 0 {
        format!("{what}; some of the content is still to come from other devices.")
    } else {
        match packs.least {
            0 | 1 => format!("{what}, all here, and only here: this device has the one copy."),
            // Pins are signed words, not proofs: audits come later.
            2 => format!("{what}, all here; one other device says that it holds everything too."),
            n => format!("{what}, all here; {} other devices say that they hold everything too.", n - 1),
        }
    }
}

fn human(bytes: u64) -> String {
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
    /// On how many devices the pack is that is on the fewest.
    least: u32,
}

impl Packs {
    fn read(snapshot: &Snapshot, inner: &Inner) -> Result<Self, Error> {
        let keys = inner.keys();
        let devices = crate::keys::active(snapshot, &keys.person)?;
        let mut packs = Self { least: u32::MAX, ..Self::default() };
        let mut failure = None;
        index::scan_packs(snapshot, &mut |hash, pack| {
            let is_here = matches!(pack.state, PackState::Present { .. });
            match pack.state {
                PackState::Present { verified_at } => {
                    packs.bytes += locker_store::packs::file_len(pack.len);
                    packs.oldest_verified =
                        Some(packs.oldest_verified.map_or(verified_at, |oldest| oldest.min(verified_at)));
                }
                PackState::Wanted => {
                    packs.wanted += 1;
                    packs.wanted_bytes += u64::from(pack.len);
                }
                _ => packs.lost += 1,
            }
            let mut copies = u32::from(is_here);
            for author in devices.iter().filter(|device| **device != keys.device_id()) {
                let scope = PinScope { space: keys.tag, author: *author };
                match pins::is_pinned(snapshot, &scope, &hash) {
                    Ok(is_pinned) => copies += u32::from(is_pinned),
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            packs.least = packs.least.min(copies);
            ControlFlow::Continue(())
        })?;
        if packs.least == u32::MAX {
            // Nothing but small things: they lie in the log, which every device has that was heard from.
            packs.least = 1;
        }
        failure.map_or(Ok(packs), |error| Err(error.into()))
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

/// The devices of the person. Whether others can be reached now only a running node knows.
pub(crate) fn devices(inner: &Inner) -> Result<Vec<Device>, Error> {
    let snapshot = inner.store()?.read()?;
    let keys = inner.keys();
    let devices = crate::keys::devices(&snapshot, &keys.person, &keys.person_keys)?;
    let (online, last_seen) = inner.node().map(|hub| hub.presence()).unwrap_or_default();
    let now = inner.env().now_ms();
    let told = devices.into_iter().map(|(vk, name)| {
        let this = vk == keys.device_id();
        let online = this || online.contains(&vk);
        let last_seen = if online { now } else { last_seen.get(&vk).copied().unwrap_or(0) };
        Device { id: vk.to_string(), name, role: "full".into(), online, last_seen, this }
    });
    Ok(told.collect())
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
                "the device {:?} came back with less than it had before, as after a restore from a backup; what it \
                 said that it holds is not to be relied on until it is checked there with `locker verify`",
                device.name
            ),
        })
    });
    Ok(told.collect())
}

/// What the last look at the rows of the database found.
fn damaged_rows(inner: &Inner) -> Option<Problem> {
    let count = inner.suspects().row_flaws();
    (count > 0).then(|| Problem {
        code: Refusal::Tag.code().into(),
        message: "rows of the database of this device are damaged; run `locker verify` to see which".into(),
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
