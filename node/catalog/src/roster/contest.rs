//! The person log as a contest of removals: supports, and who reaches whom.

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;

use super::{Act, Cutoff, PersonOp, first_fate};
use crate::order::OpOrder;
use crate::strike::{Contest, Fate, Reach, Set};

/// One removal of one device.
struct Removal {
    /// Index of its operation.
    op: usize,
    cutoff: Cutoff,
    by_root: bool,
}

/// All operations in total order, with what strikes and supports.
pub(super) struct People<'a> {
    ops: &'a [PersonOp],
    /// Why an operation has no effect whatever the removals come to.
    void: Vec<Option<Refusal>>,
    removals: Vec<Removal>,
    /// For each operation, the operations known to its author that brought the author in.
    entrances: Vec<Vec<usize>>,
}

impl<'a> People<'a> {
    pub(super) fn new(ops: &'a [PersonOp], void: &BTreeMap<OpOrder, Refusal>) -> Self {
        let mut people = Self {
            ops,
            void: ops.iter().map(|op| void.get(&op.at).copied()).collect(),
            removals: removals(ops),
            entrances: Vec::with_capacity(ops.len()),
        };
        people.find_entrances();
        people.refuse_beside_recovery();
        people.refuse_without_support();
        people.refuse_known_cuts();
        people
    }

    pub(super) fn first_fates(&self) -> Vec<Fate> {
        self.removals.iter().map(|r| first_fate(r.by_root, self.void[r.op].is_some())).collect()
    }

    /// Names the operations without effect, given what became of the removals.
    pub(super) fn name_void(&self, fates: &[Fate], void: &mut BTreeMap<OpOrder, Refusal>) {
        let standing: Set = fates.iter().map(|fate| *fate == Fate::Stands).collect();
        let alive = self.alive(&standing, &standing);
        for (i, op) in self.ops.iter().enumerate() {
            let fate = self.removals.iter().position(|r| r.op == i && !r.by_root).map(|r| fates[r]);
            let struck = match fate {
                Some(fate) => fate == Fate::Void,
                None => !alive[i],
            };
            if let Some(why) = self.void[i].or(struck.then_some(Refusal::Frontier)) {
                void.insert(op.at, why);
            }
        }
    }

    /// Where each device named by a standing removal ends: the largest frontier counts.
    pub(super) fn cutoffs(&self, fates: &[Fate]) -> BTreeMap<VerifyingKey, u64> {
        let mut ends = BTreeMap::new();
        for (removal, _) in self.removals.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Stands) {
            let end: &mut u64 = ends.entry(removal.cutoff.device).or_default();
            *end = (*end).max(removal.cutoff.count);
        }
        ends
    }

    fn find_entrances(&mut self) {
        let mut by_device: BTreeMap<VerifyingKey, Vec<usize>> = BTreeMap::new();
        for (i, op) in self.ops.iter().enumerate() {
            if let Some(device) = op.brings_in() {
                by_device.entry(device).or_default().push(i);
            }
        }
        for op in self.ops {
            let known = by_device.get(&op.at.entry.author).into_iter().flatten();
            self.entrances.push(known.filter(|i| knows(op, &self.ops[**i])).copied().collect());
        }
    }

    /// A device operation concurrent with a recovery is void.
    fn refuse_beside_recovery(&mut self) {
        for (r, root) in self.ops.iter().enumerate() {
            if !matches!(root.act, Act::Recover { .. }) || self.void[r].is_some() {
                continue;
            }
            for (i, op) in self.ops.iter().enumerate() {
                let beside = op.at.entry != root.at.entry && !knows(op, root) && !knows(root, op);
                if beside && !is_root(&op.act) {
                    self.void[i].get_or_insert(Refusal::Rights);
                }
            }
        }
    }

    /// What nobody with support supports is void. Supports lie earlier in the total order, so one pass decides.
    fn refuse_without_support(&mut self) {
        for i in 0..self.ops.len() {
            let supported =
                is_root(&self.ops[i].act) || self.entrances[i].iter().any(|e| self.void[*e].is_none());
            if !supported {
                self.void[i].get_or_insert(Refusal::Rights);
            }
        }
    }

    /// A removal is void if its frontier lies below what its own past holds of the target, or if it names its author.
    fn refuse_known_cuts(&mut self) {
        for removal in self.removals.iter().filter(|removal| !removal.by_root) {
            let op = &self.ops[removal.op];
            let known = op.past.0.get(&removal.cutoff.device).copied().unwrap_or(0);
            if removal.cutoff.count < known {
                self.void[removal.op].get_or_insert(Refusal::Frontier);
            } else if removal.cutoff.device == op.at.entry.author {
                self.void[removal.op].get_or_insert(Refusal::Rights);
            }
        }
    }

    /// For each operation, whether it has support when `strikers` strike and `shields` shield.
    fn alive(&self, strikers: &Set, shields: &Set) -> Vec<bool> {
        let mut alive: Vec<bool> = Vec::with_capacity(self.ops.len());
        for (i, op) in self.ops.iter().enumerate() {
            let lives = self.void[i].is_none()
                && (is_root(&op.act)
                    || (!(0..self.removals.len()).any(|r| strikers[r] && self.hits(r, op, shields))
                        && self.entrances[i].iter().any(|e| *e < i && alive[*e])));
            alive.push(lives);
        }
        alive
    }

    /// Whether removal `r` strikes the author of `op` there, past `shields`; or the key that `op` replaces, of which the
    /// remover did not know: nobody escapes a removal by taking another name elsewhere.
    fn hits(&self, r: usize, op: &PersonOp, shields: &Set) -> bool {
        self.hits_author(r, op, shields) || self.hits_replaced(r, op, shields)
    }

    fn hits_replaced(&self, r: usize, op: &PersonOp, shields: &Set) -> bool {
        let device = self.removals[r].cutoff.device;
        let is_known = |q: usize| knows(&self.ops[self.removals[q].op], op);
        let shielded =
            |q: usize| q != r && shields[q] && self.removals[q].cutoff.device == device && is_known(q);
        matches!(op.act, Act::Replace { old, .. } if old == device)
            && !is_known(r)
            && !(0..self.removals.len()).any(shielded)
    }

    fn hits_author(&self, r: usize, op: &PersonOp, shields: &Set) -> bool {
        let Cutoff { device, count } = self.removals[r].cutoff;
        let entry = op.at.entry;
        let shielded = |q: usize| {
            let other = self.removals[q].cutoff;
            q != r && shields[q] && other.device == device && other.count > entry.seq
        };
        device == entry.author && entry.seq >= count && !(0..self.removals.len()).any(shielded)
    }
}

impl Contest for People<'_> {
    fn supported(&self, strikers: &Set, shields: &Set, _: &[Fate]) -> Vec<bool> {
        let alive = self.alive(strikers, shields);
        self.removals.iter().map(|removal| alive[removal.op]).collect()
    }

    fn reach(&self, striker: usize, shields: &Set) -> Vec<Reach> {
        let mut reach: Vec<Reach> = Vec::with_capacity(self.ops.len());
        for (i, op) in self.ops.iter().enumerate() {
            let through = |e: &usize| *e < i && self.void[*e].is_none() && reach[*e] != Reach::Not;
            reach.push(if is_root(&op.act) {
                Reach::Not
            } else if self.hits(striker, op, shields) {
                Reach::Direct
            } else if self.entrances[i].iter().any(through) {
                Reach::Indirect
            } else {
                Reach::Not
            });
        }
        self.removals.iter().map(|removal| reach[removal.op]).collect()
    }
}

fn removals(ops: &[PersonOp]) -> Vec<Removal> {
    let mut removals = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        match &op.act {
            Act::Remove(cutoff) => removals.push(Removal { op: i, cutoff: *cutoff, by_root: false }),
            Act::Recover { removals: cutoffs, .. } => {
                removals.extend(cutoffs.iter().map(|cutoff| Removal {
                    op: i,
                    cutoff: *cutoff,
                    by_root: true,
                }));
            }
            _ => {}
        }
    }
    removals
}

const fn is_root(act: &Act) -> bool {
    matches!(act, Act::Genesis | Act::Recover { .. } | Act::SetRoot { .. })
}

/// Whether `op` reaches `other`.
pub(super) fn knows(op: &PersonOp, other: &PersonOp) -> bool {
    let (a, b) = (op.at, other.at);
    (a.entry == b.entry && a.index > b.index) || op.past.knows(&b.entry.author, b.entry.seq)
}
