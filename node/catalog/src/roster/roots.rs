//! Which root key is current, and which operations of the root have effect (`docs/spec/02-identity.md`, section 3.2).

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

/// On what the author of a change of the root stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    /// On genesis, or on a recovery by an earlier root: he had a device before anybody recovered by the present words.
    Before,
    /// On a recovery by the very root that he changes.
    Recovery,
}

impl Roots {
    /// Follows the changes of the root from the first one on. Of several from one root that counts which stands on the better
    /// ground, then the first in total order. A recovery counts if the root that signed it is current at the end, or if the
    /// change that replaced it knows of the recovery: who has old words can date what he signs, but cannot be known to who
    /// never heard of him.
    ///
    /// Cost: grows with the number of changes times that of all operations.
    pub(super) fn follow(person: PersonId, ops: &[PersonOp]) -> Self {
        let mut roots = Self { current: VerifyingKey(person.0), generation: 0, void: BTreeMap::new() };
        let (mut earlier, mut changes) = (BTreeSet::new(), BTreeSet::new());
        while let Some(change) = roots.change(ops, &earlier).map(|i| &ops[i]) {
            roots.judge_recoveries(ops, |recovery| knows(change, recovery));
            earlier.insert(roots.current);
            changes.insert(change.at);
            if let Act::SetRoot { new, generation, .. } = change.act {
                roots.current = new;
                roots.generation = roots.generation.max(generation);
            }
        }
        roots.judge_recoveries(ops, |_| true);
        for op in ops {
            let signer = match op.act {
                Act::Recover { root, .. } if root.is_none_or(|root| !roots.had(&root, &earlier)) => root,
                Act::SetRoot { old, .. } if !changes.contains(&op.at) => old,
                _ => continue,
            };
            let why = if signer.is_some() { Refusal::Rights } else { Refusal::Sig };
            roots.void.insert(op.at, why);
        }
        roots
    }

    /// Whether a key is or was the root.
    fn had(&self, root: &VerifyingKey, earlier: &BTreeSet<VerifyingKey>) -> bool {
        *root == self.current || earlier.contains(root)
    }

    /// The change that replaces the current root.
    fn change(&self, ops: &[PersonOp], earlier: &BTreeSet<VerifyingKey>) -> Option<usize> {
        let is_next = |op: &PersonOp| match op.act {
            Act::SetRoot { old, new, .. } => {
                // A root that gave way does not come back.
                old == Some(self.current) && !self.had(&new, earlier)
            }
            _ => false,
        };
        let next = ops.iter().enumerate().filter(|(_, op)| is_next(op));
        let grounds = next.filter_map(|(i, _)| Some((self.ground(ops, i, earlier)?, i)));
        grounds.min().map(|(_, i)| i)
    }

    /// On what the author of an operation stands, by what he knew of; `None` if nothing with effect brought him in.
    fn ground(&self, ops: &[PersonOp], i: usize, earlier: &BTreeSet<VerifyingKey>) -> Option<Ground> {
        let (mut seen, mut open, mut best) = (BTreeSet::from([i]), vec![i], None);
        while let Some(op) = open.pop().map(|i| &ops[i]) {
            let author = Some(op.at.entry.author);
            let brought = |(_, other): &(usize, &PersonOp)| other.brings_in() == author && knows(op, other);
            for (e, entrance) in ops.iter().enumerate().filter(brought) {
                match &entrance.act {
                    Act::Genesis => return Some(Ground::Before),
                    Act::Recover { root, .. } => {
                        let is_before = root.is_some_and(|root| earlier.contains(&root));
                        if is_before && !self.void.contains_key(&entrance.at) {
                            return Some(Ground::Before);
                        }
                        if *root == Some(self.current) {
                            best = Some(Ground::Recovery);
                        }
                    }
                    _ if seen.insert(e) => open.push(e),
                    _ => {}
                }
            }
        }
        best
    }

    /// Says of the recoveries by the current root which have effect.
    fn judge_recoveries(&mut self, ops: &[PersonOp], counts: impl Fn(&PersonOp) -> bool) {
        for op in ops {
            if let Act::Recover { root, generation, .. } = &op.act
                && *root == Some(self.current)
            {
                if counts(op) {
                    self.generation = self.generation.max(*generation);
                } else {
                    self.void.insert(op.at, Refusal::Rights);
                }
            }
        }
    }
}
