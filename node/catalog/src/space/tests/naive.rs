//! The same space, read all at once from the list of its entries: one page, slow, without rows.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, VerifyingKey};

use super::history::{History, device, person};
use crate::access::{Access, AccessOp, Act, Authors};
use crate::operation::EntryRef;
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{MemoryRows, ReadRows, RowError};
use crate::space::OpenedEntry;
use crate::tree::{self, Counted, TreeEntry, TreeOp};

pub(super) struct Naive {
    pub(super) access: Access,
    pub(super) problems: Vec<(OpOrder, Refusal)>,
    pub(super) state_hash: [u8; 32],
}

struct Nobody;

impl Counted for Nobody {
    fn tree_entry(&self, _: &dyn ReadRows, _: &EntryOrder) -> Result<Option<TreeEntry>, RowError> {
        Ok(None)
    }
}

pub(super) fn naive_state(history: &History) -> Naive {
    let genesis = history.entries[0].author;
    let counting = counting_of(history, genesis);
    let access = access_of(history, genesis, &counting);
    let mut entries: Vec<&OpenedEntry> =
        history.entries.iter().filter(|entry| counting.contains(&entry.id)).collect();
    entries.sort_by_key(|entry| entry.order());
    let mut rows = MemoryRows::new();
    for entry in entries {
        let past = past_of(history, entry, &counting);
        let op = |(index, op)| {
            let at = OpOrder { entry: entry.order(), index };
            TreeOp { index, op: Clone::clone(op), verdict: access.judge(at, &past, op) }
        };
        let ops = (0u16..).zip(&entry.body.ops).map(op).collect();
        let entry = TreeEntry { order: entry.order(), past: past.clone(), scope: None, ops };
        tree::apply(&mut rows, &Nobody, &entry).unwrap();
    }
    Naive { access, problems: tree::problems(&rows).unwrap(), state_hash: tree::state_hash(&rows).unwrap() }
}

fn past_of(history: &History, entry: &OpenedEntry, counting: &BTreeSet<EntryId>) -> Past {
    let mut past = Past::default();
    for id in history.reach[&entry.id].intersection(counting) {
        let EntryRef { author, seq, .. } = history.name(id);
        past.learn(author, seq);
    }
    past
}

fn access_of(history: &History, genesis: VerifyingKey, counting: &BTreeSet<EntryId>) -> Access {
    access_with(history, genesis, counting, counting)
}

/// Rights by the operations of some entries, with what their authors knew among others.
fn access_with(
    history: &History,
    genesis: VerifyingKey,
    entries: &BTreeSet<EntryId>,
    known: &BTreeSet<EntryId>,
) -> Access {
    let persons = (0..history.devices).map(|n| (device(n), person(n))).collect();
    let mut ops = Vec::new();
    let mut sorted: Vec<&OpenedEntry> = history.entries.iter().filter(|e| entries.contains(&e.id)).collect();
    sorted.sort_by_key(|entry| (entry.order(), entry.id));
    for entry in sorted {
        let past = past_of(history, entry, known);
        for (index, op) in (0..).zip(&entry.body.ops) {
            let at = OpOrder { entry: entry.order(), index };
            ops.extend(Act::of(op).map(|act| AccessOp { at, past: past.clone(), act }));
        }
    }
    Access::resolve(Authors { genesis: Some(genesis), persons }, ops)
}

fn fork_points(history: &History) -> BTreeMap<VerifyingKey, u64> {
    let mut points = BTreeMap::new();
    for a in &history.entries {
        for b in &history.entries {
            if a.author == b.author && a.seq == b.seq && a.id != b.id {
                let point = points.entry(a.author).or_insert(a.seq);
                *point = (*point).min(a.seq);
            }
        }
    }
    points
}

fn is_below_fork(forks: &BTreeMap<VerifyingKey, u64>, entry: &OpenedEntry) -> bool {
    forks.get(&entry.author).is_none_or(|first| entry.seq < *first)
}

/// The rules of forks as they are written, for each forked author by itself.
fn counting_of(history: &History, genesis: VerifyingKey) -> BTreeSet<EntryId> {
    let forks = fork_points(history);
    let trunk: BTreeSet<EntryId> =
        history.entries.iter().filter(|e| is_below_fork(&forks, e)).map(|e| e.id).collect();
    let may_vouch = |e: &OpenedEntry| {
        let world: BTreeSet<EntryId> = trunk.union(&history.reach[&e.id]).copied().collect();
        let all: BTreeSet<EntryId> = history.reach.keys().copied().collect();
        let seen = access_with(history, genesis, &world, &all);
        seen.judge_entry(e.order(), &past_of(history, e, &all)).is_ok()
    };
    let mut counting = trunk.clone();
    for (author, first) in &forks {
        let own: Vec<&OpenedEntry> = history.entries.iter().filter(|e| e.author == *author).collect();
        let mut anchors: Vec<&OpenedEntry> = history
            .entries
            .iter()
            .filter(|e| e.author != *author && is_below_fork(&forks, e))
            .filter(|e| own.iter().any(|o| o.seq >= *first && history.reach[&e.id].contains(&o.id)))
            .filter(|e| may_vouch(e))
            .collect();
        anchors.sort_by_key(|e| e.order());
        let known = |id: &EntryId| anchors.iter().any(|e| history.reach[&e.id].contains(id));
        let mut trunk = own.iter().find(|o| o.seq + 1 == *first).map_or(EntryId::ZERO, |o| o.id);
        loop {
            let next: Vec<EntryId> = own.iter().filter(|o| o.prev == trunk).map(|o| o.id).collect();
            let choice = if next.len() == 1 {
                Some(next[0])
            } else {
                anchors.iter().find_map(|e| {
                    let held: Vec<&EntryId> =
                        next.iter().filter(|id| history.reach[&e.id].contains(id)).collect();
                    if held.len() == 1 { Some(*held[0]) } else { None }
                })
            };
            match choice.filter(known) {
                Some(id) => {
                    counting.insert(id);
                    trunk = id;
                }
                None => break,
            }
        }
    }
    counting
}
