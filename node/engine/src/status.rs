//! `status`: one truthful sentence, then the facts.

use std::ops::ControlFlow;

use locker_catalog::tree as catalog;
use locker_store::Snapshot;
use locker_store::index::{self, PackState};

use crate::locker::Inner;
use crate::report::{Copies, Device, Problem, Status};
use crate::tree::Tree;
use crate::{Error, vault};

/// Copies that are wanted of everything, until a policy says otherwise.
const COPIES_WANTED: u32 = 2;

/// Tells how the locker is.
pub(crate) fn status(inner: &Inner) -> Result<Status, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag());
    let counts = catalog::counts(tree.rows())?;
    let packs = Packs::read(&snapshot)?;
    let problems = problems(&tree, &packs)?;
    let (files, bytes) = (counts.files, counts.bytes);
    Ok(Status {
        sentence: sentence(files, bytes, &packs),
        files,
        folders: counts.folders,
        bytes,
        store_bytes: packs.bytes + store.database_bytes()?,
        devices: devices(inner, &snapshot)?,
        copies: Copies {
            wanted: COPIES_WANTED,
            least: if files == 0 { COPIES_WANTED } else { u32::from(packs.missing == 0) },
            files_at_risk: files,
        },
        transfers: Vec::new(),
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
    if packs.missing > 0 {
        format!(
            "Not safe: of {what} some content is missing on this device, and no other device has it. Run `locker verify`."
        )
    } else {
        format!("{what}, all here, and only here: this device has the one copy.")
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
    bytes: u64,
    missing: u64,
}

impl Packs {
    fn read(snapshot: &Snapshot) -> Result<Self, Error> {
        let mut packs = Self::default();
        index::scan_packs(snapshot, &mut |_, pack| {
            if matches!(pack.state, PackState::Present { .. }) {
                packs.bytes += locker_store::packs::file_len(pack.len);
            } else {
                packs.missing += 1;
            }
            ControlFlow::Continue(())
        })?;
        Ok(packs)
    }
}

fn devices(inner: &Inner, snapshot: &Snapshot) -> Result<Vec<Device>, Error> {
    let keys = inner.keys();
    let devices = crate::keys::devices(snapshot, &keys.person, &keys.person_keys)?;
    let told = devices.into_iter().map(|(vk, name)| {
        let this = vk == keys.device_id();
        Device {
            id: vk.to_string(),
            name,
            role: "full".into(),
            online: this,
            last_seen: if this { inner.env().now_ms() } else { 0 },
            this,
        }
    });
    Ok(told.collect())
}

fn problems(tree: &Tree<'_>, packs: &Packs) -> Result<Vec<Problem>, Error> {
    let mut problems = Vec::new();
    if packs.missing > 0 {
        problems.push(Problem {
            code: "E_HASH".into(),
            message: format!("{} packs are missing or damaged on this device", packs.missing),
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
