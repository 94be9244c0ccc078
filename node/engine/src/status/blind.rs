//! `status` of a device that stores for somebody and cannot read.

use std::ops::ControlFlow;

use locker_store::Reads;
use locker_store::index::{self, PackState};

use super::own::damaged_rows;
use super::{human, set_back};
use crate::depot::Depot;
use crate::locker::Inner;
use crate::report::{
    Copies, Device, Problem, ROLE_BLIND, ROLE_FULL, ReplicaKind, Scrub, Status, StoreRoom, Transfer,
};
use crate::{Error, vault};

/// What the pack table sums up to.
#[derive(Default)]
struct Packs {
    here: u64,
    bytes: u64,
    lost: u64,
    oldest_verified: Option<u64>,
}

impl Packs {
    fn read<R: Reads>(reads: &R) -> Result<Self, Error> {
        let mut packs = Self::default();
        index::scan_packs(reads, &mut |_, pack| {
            match pack.state {
                PackState::Present { verified_at } => {
                    packs.here += 1;
                    packs.bytes += locker_store::packs::file_len(pack.len);
                    let oldest = packs.oldest_verified.get_or_insert(verified_at);
                    *oldest = verified_at.min(*oldest);
                }
                PackState::Lost => packs.lost += 1,
                PackState::Wanted | PackState::Deleting | PackState::Released | PackState::Away => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(packs)
    }
}

/// Tells what is stored, for whom, and what is still to come.
pub(super) fn status(inner: &Inner, depot: &Depot) -> Result<Status, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let packs = Packs::read(&snapshot)?;
    let wanted = depot.wanted(&snapshot)?;
    let to_come = (wanted.len() as u64).saturating_sub(depot.refused());
    let devices = devices(inner, depot)?;
    let mut problems: Vec<Problem> = set_back(inner, &snapshot, &devices)?;
    problems.extend(damaged_rows(inner));
    if packs.lost > 0 {
        problems.push(Problem {
            code: locker_crypto::Refusal::Hash.code().into(),
            message: format!("{} packs are missing or damaged on this device", packs.lost),
        });
    }
    if depot.refused() > 0 {
        problems.push(Problem {
            code: locker_crypto::Refusal::Quota.code().into(),
            message: format!(
                "the quota of {} is full: {} packs were not taken",
                human(depot.charge().quota),
                depot.refused()
            ),
        });
    }
    let person: String = depot.charge().person.to_string().chars().take(16).collect();
    let mut sentence =
        format!("Stores for {person} and cannot read it: {} packs, {}", packs.here, human(packs.bytes));
    if depot.charge().quota > 0 {
        sentence.push_str(&format!(" of {} at most", human(depot.charge().quota)));
    }
    sentence.push_str(match (to_come, depot.refused()) {
        (0, 0) => "; all that it was given to keep is here.",
        (_, 0) => "; some is still to come.",
        _ => "; there is no room for all of it.",
    });
    let transfer = (to_come > 0).then(|| Transfer {
        what: "packs to store".into(),
        done: packs.here,
        total: packs.here + to_come,
    });
    Ok(Status {
        sentence,
        files: 0,
        folders: 0,
        bytes: 0,
        store_bytes: packs.bytes + store.database_bytes()?,
        devices,
        copies: Copies { wanted: 0, least: 0, proved: 0, oldest_proof: None, files_at_risk: 0, said: 0 },
        transfers: transfer.into_iter().collect(),
        traffic: inner.node().map(|hub| hub.traffic()),
        scrub: Scrub {
            oldest_verified: packs.oldest_verified.map(|s| s.saturating_mul(1_000)),
            bad: packs.lost,
        },
        problems,
        notices: Vec::new(),
        person_id: depot.charge().person.to_string(),
        vault: vault::kind(store.home())?.to_owned(),
        reborn: None,
        state_hash: None,
    })
}

/// This device, and the devices of the person, whose names it cannot read.
pub(super) fn devices(inner: &Inner, depot: &Depot) -> Result<Vec<Device>, Error> {
    let snapshot = inner.store()?.read()?;
    let roster = depot.roster(&snapshot)?;
    let (online, last_seen) = inner.node().map(|hub| hub.presence()).unwrap_or_default();
    let ways = inner.node().map(|hub| hub.ways()).unwrap_or_default();
    let now = inner.env().now_ms();
    let own = Device {
        id: inner.keys().device_id().to_string(),
        name: "this replica".into(),
        role: ROLE_BLIND.into(),
        online: true,
        path: None,
        last_seen: now,
        this: true,
        revoked: false,
        added_by: None,
        added: None,
        replaced_by: Vec::new(),
        proved: None,
        failed: None,
        store: Some(StoreRoom {
            kind: ReplicaKind::Node,
            used: depot.used(),
            quota: depot.charge().quota,
            refused: depot.refused(),
        }),
    };
    let others = roster.active.iter().map(|id| {
        let online = online.contains(id);
        let text = id.to_string();
        Device {
            name: format!("device {}", text.get(..8).unwrap_or(&text)),
            id: text,
            role: ROLE_FULL.into(),
            online,
            path: ways.get(id).copied(),
            last_seen: if online { now } else { last_seen.get(id).copied().unwrap_or(0) },
            this: false,
            revoked: false,
            added_by: None,
            added: None,
            replaced_by: Vec::new(),
            proved: None,
            failed: None,
            store: None,
        }
    });
    Ok([own].into_iter().chain(others).collect())
}
