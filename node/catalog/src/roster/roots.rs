//! Which root key is current, and which operations of the root it signed in time (`docs/spec/02-identity.md`, section 3.2).

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::id::{PersonId, VerifyingKey};

use super::contest::knows;
use super::{Act, PersonOp};
use crate::order::OpOrder;

/// What the operations of the root come to.
pub(super) struct Roots {
    /// The key that is current at the end.
    pub(super) current: VerifyingKey,
    /// The highest generation that was started.
    pub(super) generation: u64,
    /// Those without effect, and why.
    pub(super) void: BTreeMap<OpOrder, Refusal>,
}

impl Roots {
    /// Walks the operations of the root: each must be signed by the key that is current when its turn comes. `ops` are in total
    /// order, and so are turns; but nothing has its turn before what [`goes_before`] it. Of operations that wait for one another
    /// the first in total order goes on.
    ///
    /// Cost: grows with the square of the number of operations of the root, and with that of changes of it times all others.
    pub(super) fn follow(person: PersonId, ops: &[PersonOp]) -> Self {
        let mut roots = Self { current: VerifyingKey(person.0), generation: 0, void: BTreeMap::new() };
        let is_of_root = |i: &usize| matches!(ops[*i].act, Act::Recover { .. } | Act::SetRoot { .. });
        let all: Vec<usize> = (0..ops.len()).filter(is_of_root).collect();
        let before = |i: usize| all.iter().filter(|other| goes_before(&ops[**other], &ops[i])).count();
        // How many each still waits for.
        let mut waiting: BTreeMap<usize, usize> = all.iter().map(|i| (*i, before(*i))).collect();
        let mut free: BTreeSet<usize> = all.iter().filter(|i| waiting[i] == 0).copied().collect();
        while let Some(turn) = free.pop_first().or_else(|| waiting.keys().next().copied()) {
            waiting.remove(&turn);
            for (i, count) in waiting.iter_mut().filter(|(i, _)| goes_before(&ops[turn], &ops[**i])) {
                *count -= 1;
                if *count == 0 {
                    free.insert(*i);
                }
            }
            roots.take(ops, turn);
        }
        roots
    }

    fn take(&mut self, ops: &[PersonOp], i: usize) {
        let op = &ops[i];
        match &op.act {
            Act::Recover { root: signer, .. } | Act::SetRoot { old: signer, .. }
                if *signer != Some(self.current) =>
            {
                let why = if signer.is_some() { Refusal::Rights } else { Refusal::Sig };
                self.void.insert(op.at, why);
            }
            Act::Recover { generation, .. } => self.generation = self.generation.max(*generation),
            Act::SetRoot { .. } if !self.is_by_a_device(ops, i) => {
                self.void.insert(op.at, Refusal::Rights);
            }
            Act::SetRoot { new, generation, .. } => {
                self.current = *new;
                self.generation = self.generation.max(*generation);
            }
            _ => {}
        }
    }

    /// Whether the author of an operation was brought in, by what he knew of: in the end by genesis or a recovery with effect.
    fn is_by_a_device(&self, ops: &[PersonOp], i: usize) -> bool {
        let (mut seen, mut open) = (BTreeSet::from([i]), vec![i]);
        while let Some(op) = open.pop().map(|i| &ops[i]) {
            let author = Some(op.at.entry.author);
            let brought = |(_, other): &(usize, &PersonOp)| other.brings_in() == author && knows(op, other);
            for (e, entrance) in ops.iter().enumerate().filter(brought) {
                match &entrance.act {
                    Act::Recover { .. } if self.void.contains_key(&entrance.at) => {}
                    Act::Genesis | Act::Recover { .. } => return true,
                    _ if seen.insert(e) => open.push(e),
                    _ => {}
                }
            }
        }
        false
    }
}

/// Whether one operation of the root has its turn before another: what that one knows of, and a change of the root before a
/// recovery beside it by the root that gives way. Who has old words can date what he signs; he cannot know of a change by a
/// device and recover as if there were none.
fn goes_before(one: &PersonOp, other: &PersonOp) -> bool {
    let gives_way = match (&one.act, &other.act) {
        (Act::SetRoot { old: Some(old), .. }, Act::Recover { root: Some(root), .. }) => old == root,
        _ => false,
    };
    knows(other, one) || gives_way && !knows(one, other)
}
