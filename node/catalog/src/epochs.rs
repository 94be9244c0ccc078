//! Epochs of a space: which is the head, and for whom one must be minted (`docs/spec/04-spaces.md`, "Epochs").

use std::collections::BTreeMap;

use locker_crypto::encode::Writer;
use locker_crypto::id::EpochId;

use crate::operation::{Epoch, MemberKey, Role};

/// Hashes a member set: BLAKE3 of the canonical encoding of `[[member key, role]...]`, sorted by key, without members
/// of no role.
pub fn member_set_hash(members: &BTreeMap<MemberKey, Role>) -> [u8; 32] {
    let present = || members.iter().filter(|(_, role)| **role != Role::None);
    let mut w = Writer::new();
    w.array(present().count());
    for (member, role) in present() {
        w.array(2).bytes(&member.0).u64(role.code());
    }
    *blake3::hash(&w.finish()).as_bytes()
}

/// The epochs whose operations have effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    epochs: BTreeMap<EpochId, Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    depth: u64,
    op: Epoch,
}

impl Epochs {
    /// Takes epoch operations in total order. One with a parent that none of the others made, and one that repeats an
    /// id, has no effect; so has one without parents beside the first, for only the genesis entry has none.
    pub fn new(ops: impl IntoIterator<Item = Epoch>) -> Self {
        let mut epochs: BTreeMap<EpochId, Node> = BTreeMap::new();
        for op in ops {
            let parents: Option<Vec<u64>> =
                op.parents.iter().map(|parent| epochs.get(parent).map(|node| node.depth)).collect();
            let depth = match parents.as_deref() {
                Some([]) if epochs.is_empty() => 0,
                Some([]) | None => continue,
                Some(depths) => depths.iter().max().map_or(0, |depth| depth + 1),
            };
            epochs.entry(op.id).or_insert(Node { depth, op });
        }
        Self { epochs }
    }

    /// The epoch to write under: the greatest depth, of equals the smallest id. `None` before the genesis entry.
    pub fn head(&self) -> Option<&Epoch> {
        self.epochs
            .values()
            .max_by(|a, b| a.depth.cmp(&b.depth).then(b.op.id.cmp(&a.op.id)))
            .map(|node| &node.op)
    }

    /// Returns the operation that began an epoch.
    pub fn get(&self, id: &EpochId) -> Option<&Epoch> {
        self.epochs.get(id).map(|node| &node.op)
    }

    /// The epochs that a new one follows: all that no other follows, ascending.
    pub fn leaves(&self) -> Vec<EpochId> {
        let followed = |id: &EpochId| self.epochs.values().any(|node| node.op.parents.contains(id));
        self.epochs.keys().filter(|id| !followed(id)).copied().collect()
    }

    /// Whether a new epoch must be minted before anything else is written: the head was made for another member set.
    pub fn is_due(&self, members: &BTreeMap<MemberKey, Role>) -> bool {
        self.head().is_none_or(|head| head.member_set_hash != member_set_hash(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(id: u8, parents: &[u8]) -> Epoch {
        Epoch {
            id: EpochId([id; 32]),
            parents: parents.iter().map(|p| EpochId([*p; 32])).collect(),
            member_set_hash: [id; 32],
            backs: vec![None; parents.len()],
        }
    }

    #[test]
    fn head_is_deepest_then_smallest() {
        let epochs = Epochs::new([epoch(1, &[]), epoch(9, &[1]), epoch(5, &[1]), epoch(7, &[5])]);
        assert_eq!(epochs.head().unwrap().id, EpochId([7; 32]));
        assert_eq!(epochs.leaves(), [EpochId([7; 32]), EpochId([9; 32])]);
        let equal = Epochs::new([epoch(1, &[]), epoch(9, &[1]), epoch(5, &[1])]);
        assert_eq!(equal.head().unwrap().id, EpochId([5; 32]));
        let merged = Epochs::new([epoch(1, &[]), epoch(9, &[1]), epoch(5, &[1]), epoch(8, &[5, 9])]);
        assert_eq!(merged.head().unwrap().id, EpochId([8; 32]));
        assert_eq!(merged.leaves(), [EpochId([8; 32])]);
    }

    #[test]
    fn strays_have_no_effect() {
        let epochs = Epochs::new([epoch(1, &[]), epoch(2, &[]), epoch(3, &[4]), epoch(1, &[1])]);
        assert_eq!(epochs.leaves(), [EpochId([1; 32])]);
        assert!(epochs.get(&EpochId([3; 32])).is_none());
        assert!(Epochs::default().head().is_none());
    }

    #[test]
    fn member_sets_hash_in_one_form() {
        let owner = BTreeMap::from([(MemberKey([1; 32]), Role::Manage)]);
        let mut w = Writer::new();
        w.array(1).array(2).bytes(&[1; 32]).u64(4);
        assert_eq!(member_set_hash(&owner), *blake3::hash(&w.finish()).as_bytes());
        let mut with_removed = owner.clone();
        with_removed.insert(MemberKey([2; 32]), Role::None);
        assert_eq!(member_set_hash(&owner), member_set_hash(&with_removed));
        with_removed.insert(MemberKey([2; 32]), Role::Read);
        assert_ne!(member_set_hash(&owner), member_set_hash(&with_removed));

        let mut first = epoch(1, &[]);
        first.member_set_hash = member_set_hash(&owner);
        let epochs = Epochs::new([first]);
        assert!(!epochs.is_due(&owner));
        assert!(epochs.is_due(&with_removed));
    }
}
