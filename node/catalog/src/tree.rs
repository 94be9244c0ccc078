//! The tree of a space: what the counting entries make of files and folders (`docs/spec/05-tree.md`).
//!
//! Entries are handed in when all they rest on is there, in any order otherwise; the tree is always what replay of
//! all of them in total order gives. Everything stands in rows ([`crate::rows`]), nothing is kept in memory between
//! two calls. Which entries count and what their authors may do is decided elsewhere and asked for through
//! [`Counted`]; no content is ever seen here, only references to it.

mod again;
mod apply;
mod children;
mod content;
mod draft;
mod fold;
mod history;
mod late;
pub mod limits;
pub(crate) mod losses;
#[cfg(test)]
mod model;
mod nodes;
mod row;
pub(crate) mod shown;
mod state;
mod stranded;
#[cfg(test)]
mod tests;
mod view;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;

pub use self::again::{Again, Uncounted, Written, again};
pub use self::children::CHILDREN_PARTS;
pub use self::content::{Standing, VisitVersion, walk_live, walk_recently_past, walk_versions};
pub use self::fold::{Bounds, Fold, fold, has_twins, settle};
pub use self::history::{Event, Happened, history, node_at, version, walk_at};
pub use self::losses::Overwritten;
pub use self::row::{Counts, Newest, Version};
pub use self::shown::{Shown, differing, is_apart};
pub use self::state::state_hash;
pub use self::stranded::{Stranded, Turn, rescue};
pub(crate) use self::view::problems_back;
pub use self::view::{
    Listed, Node, Trashed, alike, child, children, children_part, count_children, counts, counts_of, lookup,
    meta, metas, named, node, path_of, problems, problems_of, trash_list, walk,
};
use crate::operation::Op;
use crate::order::{EntryOrder, Past};
use crate::rows::{ReadRows, RowError, WriteRows};

/// An entry as the tree sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its place in the total order.
    pub order: EntryOrder,
    /// What its author knew: everything that it names directly or through others, the author's own earlier entries
    /// included.
    pub past: Past,
    /// The folder to which the author is restricted.
    pub scope: Option<NodeId>,
    /// Its operations, ascending by index. Those that do not concern the tree may be left out.
    pub ops: Vec<TreeOp>,
}

/// One operation of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOp {
    /// Its index in the entry.
    pub index: u16,
    /// The operation. Only moves, contents, trashes and meta items have an effect here.
    pub op: Op,
    /// Whether the author may do this; an operation that is refused here has no effect.
    pub verdict: Result<(), Refusal>,
}

/// Knows which entries count.
pub trait Counted {
    /// Returns an entry that was handed in before, as it is to be seen now; `None` if it does not count any more.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn tree_entry(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<TreeEntry>, RowError>;

    /// Returns what the author of such an entry knew; `None` if the entry does not count any more.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn past(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<Past>, RowError> {
        Ok(self.tree_entry(rows, order)?.map(|entry| entry.past))
    }
}

/// Adds one entry and returns the operations of it that have no effect, with the reason.
///
/// An entry that the tree already has changes nothing. Cost of an entry at the end of the total order, or of a late
/// one that meets nothing later: that of its operations. Otherwise that of all operations from it on.
///
/// # Errors
/// [`RowError`] as the store gives it; the transaction is then to be given up.
pub fn apply(
    rows: &mut dyn WriteRows,
    counted: &dyn Counted,
    entry: &TreeEntry,
) -> Result<Vec<(u16, Refusal)>, RowError> {
    apply_all(rows, counted, std::slice::from_ref(entry))?;
    problems_of(rows, &entry.order)
}

/// Adds many entries, in whatever order they stand: the same as [`apply`] for each, with at most one replay.
///
/// # Errors
/// As [`apply`].
pub fn apply_all(
    rows: &mut dyn WriteRows,
    counted: &dyn Counted,
    entries: &[TreeEntry],
) -> Result<(), RowError> {
    apply_within(rows, counted, entries, &limits::REPLAY)
}

/// The same under other limits than those of replay: for an entry of our own, which is given up if any of it is refused.
pub(crate) fn apply_within(
    rows: &mut dyn WriteRows,
    counted: &dyn Counted,
    entries: &[TreeEntry],
    limits: &limits::Limits,
) -> Result<(), RowError> {
    let mut sorted: Vec<&TreeEntry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if !late::has(rows, &entry.order)? {
            sorted.push(entry);
        }
    }
    sorted.sort_by_key(|entry| entry.order);
    sorted.dedup_by_key(|entry| entry.order);
    late::add(rows, counted, &sorted, limits)
}

/// Takes back all entries at or after `from`, and replays those that still count: for when rights or branches
/// turned out otherwise.
///
/// # Errors
/// As [`apply`].
pub fn rewind(rows: &mut dyn WriteRows, counted: &dyn Counted, from: EntryOrder) -> Result<(), RowError> {
    late::replay_from(rows, counted, from, &[], &limits::REPLAY)
}
