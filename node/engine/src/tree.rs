//! The tree of the locker's space as the verbs see it: paths to nodes and back.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::atomic::{self, AtomicU8};

use locker_catalog::operation::NodeKind;
use locker_catalog::rows::ReadRows;
use locker_catalog::tree::{self as catalog, Shown};
use locker_crypto::id::{NodeId, SpaceTag};
use locker_store::rows::SpaceRows;
use locker_store::{Reads, Snapshot};

use crate::limits::{LIST_ALONE_MAX, LIST_THREADS_MAX};
use crate::report::Kind;
use crate::{Error, path};

pub(crate) use locker_catalog::tree::{Listed, Node, Trashed, Version};

/// Meta key under which the bytes of a name outside the locker are kept, if they differ.
pub(crate) const ORIGINAL_NAME: &str = "orig";
/// Children read in one go.
const PAGE: usize = 1_024;

/// Reads the tree in one state of the database.
pub(crate) struct Tree<'a> {
    rows: Shown<SpaceRows<&'a Snapshot>>,
}

impl<'a> Tree<'a> {
    /// Looks at the tree of `space` in `snapshot` as this device shows it: without what it holds.
    pub(crate) fn new(snapshot: &'a Snapshot, space: SpaceTag) -> Result<Self, Error> {
        Ok(Self { rows: Shown::new(snapshot.rows(space))? })
    }

    /// Looks at the tree that all entries give, the same on every device.
    pub(crate) fn replayed(snapshot: &'a Snapshot, space: SpaceTag) -> Self {
        Self { rows: Shown::choose(snapshot.rows(space), false) }
    }

    /// The rows themselves.
    pub(crate) fn rows(&self) -> &dyn ReadRows {
        &self.rows
    }

    /// Follows a path.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Argument`] for a path of another form.
    pub(crate) fn resolve(&self, typed: &str) -> Result<NodeId, Error> {
        resolve(&self.rows, &path::split(typed)?)
    }

    /// Reads a node that another row names.
    pub(crate) fn node(&self, id: NodeId) -> Result<Node, Error> {
        node(&self.rows, id)
    }

    /// Reads a node as all entries give it, if there is one.
    pub(crate) fn replayed_node(&self, id: NodeId) -> Result<Option<Node>, Error> {
        Ok(catalog::node(self.rows.replayed(), id)?)
    }

    /// A node as a listing shows it.
    pub(crate) fn listed(&self, id: NodeId) -> Result<Listed, Error> {
        let node = self.node(id)?;
        catalog::child(&self.rows, node.parent, &node.displayed)?
            .filter(|listed| listed.id == id)
            .ok_or_else(|| Error::damaged("a row of a folder", locker_crypto::Refusal::Node))
    }

    /// Visits the children of a folder in an order without meaning, with bounded memory.
    pub(crate) fn children(
        &self,
        folder: NodeId,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        Ok(catalog::children(&self.rows, folder, visit)?)
    }

    /// The children of a folder in the order of their shown names.
    pub(crate) fn sorted_children(&self, folder: NodeId) -> Result<impl Iterator<Item = Listed>, Error> {
        let mut all = Vec::new();
        if catalog::count_children(&self.rows, folder)? < LIST_ALONE_MAX {
            self.children(folder, &mut |child| {
                all.push(Some(child));
                ControlFlow::Continue(())
            })?;
        } else {
            all = self.children_of_large(folder)?;
        }
        Ok(Sorted::new(all))
    }

    /// The children of a large folder, read by several threads. Not by the workers: an import keeps those busy, and who
    /// lists a folder waits.
    fn children_of_large(&self, folder: NodeId) -> Result<Vec<Option<Listed>>, Error> {
        let next = AtomicU8::new(0);
        let read = || -> Result<Vec<Option<Listed>>, Error> {
            let mut found = Vec::new();
            loop {
                let part = next.fetch_add(1, atomic::Ordering::Relaxed);
                if part >= catalog::CHILDREN_PARTS {
                    return Ok(found);
                }
                catalog::children_part(&self.rows, folder, part, &mut |child| {
                    found.push(Some(child));
                    ControlFlow::Continue(())
                })?;
            }
        };
        let others = std::thread::available_parallelism().map_or(1, usize::from).min(LIST_THREADS_MAX) - 1;
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..others).map(|_| scope.spawn(read)).collect();
            let mut all = read();
            for other in others {
                let more = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all = all.and_then(|mut all| {
                    all.append(&mut more?);
                    Ok(all)
                });
            }
            all
        })
    }

    /// Files at and below a node, and their bytes.
    pub(crate) fn count_below(&self, id: NodeId) -> Result<(u64, u64), Error> {
        if id == NodeId::ROOT {
            let counts = catalog::counts(&self.rows)?;
            return Ok((counts.files, counts.bytes));
        }
        let start = self.node(id)?;
        if !start.is_folder() {
            return Ok((1, start.newest().map_or(0, |version| version.file.size())));
        }
        let (mut files, mut bytes) = (0, 0);
        catalog::walk(&self.rows, id, &mut |_, listed| {
            if listed.kind == NodeKind::File {
                files += 1;
                bytes += listed.newest.as_ref().map_or(0, |n| n.size);
            }
            ControlFlow::Continue(())
        })?;
        Ok((files, bytes))
    }

    /// The name under which a node is written outside the locker: its original bytes where they were kept.
    pub(crate) fn outside_name(&self, id: NodeId) -> Result<Vec<u8>, Error> {
        let node = self.node(id)?;
        Ok(original_name(&self.rows, id)?.unwrap_or_else(|| node.name.into_bytes()))
    }

    /// The path of a node in the locker; `None` if it lies in the trash.
    pub(crate) fn path(&self, id: NodeId) -> Result<Option<String>, Error> {
        Ok(catalog::path_of(&self.rows, id)?.map(|parts| parts.join("/")))
    }

    /// The thing in the trash that lay at a path; of several the one that was put there last. `None` if there is none.
    pub(crate) fn in_trash(&self, parts: &[&str]) -> Result<Option<Trashed>, Error> {
        let Some((name, above)) = parts.split_last() else { return Ok(None) };
        let key = locker_catalog::name::collision_key(name);
        let above = above.join("/");
        let mut before = None;
        loop {
            let page = catalog::trash_list(&self.rows, before.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(None) };
            before = Some(last.by);
            for found in page {
                if locker_catalog::name::collision_key(&found.node.name) == key
                    && self.path(found.from)?.is_some_and(|path| path == above)
                {
                    return Ok(Some(found));
                }
            }
        }
    }
}

/// Children in the order of their shown names. The first ones are there before the others are sorted: who lists a large
/// folder sees them at once.
struct Sorted {
    all: Vec<Option<Listed>>,
    /// The places of the first [`PAGE`], sorted, then those of the others, sorted when they are asked for. Places move, and
    /// are compared by the beginning of the name first: the children themselves are large.
    places: Vec<(u128, usize)>,
    next: usize,
}

impl Sorted {
    fn new(all: Vec<Option<Listed>>) -> Self {
        let beginning = |at| (beginning(displayed(&all, at)), at);
        let mut places: Vec<(u128, usize)> = (0..all.len()).map(beginning).collect();
        if places.len() > PAGE {
            places.select_nth_unstable_by(PAGE, |a, b| by_name(&all, a, b));
        }
        let first = places.len().min(PAGE);
        places[..first].sort_unstable_by(|a, b| by_name(&all, a, b));
        Self { all, places, next: 0 }
    }
}

impl Iterator for Sorted {
    type Item = Listed;

    fn next(&mut self) -> Option<Listed> {
        if self.next == PAGE {
            let Self { all, places, .. } = self;
            places[PAGE..].sort_unstable_by(|a, b| by_name(all, a, b));
        }
        let (_, at) = *self.places.get(self.next)?;
        self.next += 1;
        self.all[at].take()
    }
}

fn displayed(all: &[Option<Listed>], at: usize) -> &str {
    all[at].as_ref().map_or("", |child| &child.displayed)
}

fn by_name(all: &[Option<Listed>], a: &(u128, usize), b: &(u128, usize)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| displayed(all, a.1).cmp(displayed(all, b.1)))
}

/// The first bytes of a name as a number with the order of the bytes; zeros behind a shorter name, which has none
/// inside.
fn beginning(name: &str) -> u128 {
    let mut first = [0; 16];
    let len = name.len().min(first.len());
    first[..len].copy_from_slice(&name.as_bytes()[..len]);
    u128::from_be_bytes(first)
}

/// Follows a path in any state of the rows.
///
/// # Errors
/// [`Error::NotFound`].
pub(crate) fn resolve(rows: &dyn ReadRows, parts: &[&str]) -> Result<NodeId, Error> {
    catalog::lookup(rows, parts)?.ok_or_else(|| Error::NotFound(parts.join("/")))
}

/// Reads a node that another row names, in any state of the rows.
///
/// # Errors
/// [`Error::Integrity`] if there is none.
pub(crate) fn node(rows: &dyn ReadRows, id: NodeId) -> Result<Node, Error> {
    catalog::node(rows, id)?.ok_or_else(|| Error::damaged("a row of the tree", locker_crypto::Refusal::Node))
}

/// The bytes of a name as they were outside the locker, if they differ from the name.
pub(crate) fn original_name(rows: &dyn ReadRows, id: NodeId) -> Result<Option<Vec<u8>>, Error> {
    Ok(catalog::meta(rows, id, ORIGINAL_NAME)?)
}

/// What all kinds of rows of nodes can tell.
pub(crate) trait Kinded {
    /// File, folder or mount.
    fn kind(&self) -> Kind;

    /// Whether it has children.
    fn is_folder(&self) -> bool {
        self.kind() == Kind::Folder
    }
}

fn kind_of(kind: NodeKind) -> Kind {
    match kind {
        NodeKind::File => Kind::File,
        NodeKind::Folder => Kind::Folder,
        NodeKind::Mount => Kind::Mount,
    }
}

impl Kinded for Node {
    fn kind(&self) -> Kind {
        kind_of(self.kind)
    }
}

impl Kinded for Listed {
    fn kind(&self) -> Kind {
        kind_of(self.kind)
    }
}

/// The version that is shown.
pub(crate) trait Newest {
    /// The newest version, if there is any.
    fn newest(&self) -> Option<&Version>;
}

impl Newest for Node {
    fn newest(&self) -> Option<&Version> {
        self.versions.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_and_all_behind_it_are_in_order() {
        for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let name = |n: usize| format!("a name with one beginning {:05}", n * 7_919 % count);
            let all = (0..count).map(|n| {
                let id = NodeId([0; 16]);
                Some(Listed { id, displayed: name(n), kind: NodeKind::Folder, newest: None, versions: 0 })
            });
            let mut expected: Vec<String> = (0..count).map(name).collect();
            expected.sort_unstable();
            let found: Vec<String> = Sorted::new(all.collect()).map(|child| child.displayed).collect();
            assert_eq!(found, expected);
        }
    }
}
