//! Bringing back what a device took away: what it takes to make of the tree without a hold the one that was shown with it.
//!
//! The hold ends here first, so that what is written knows of what it undoes; the word that it is decided comes last, so that
//! other devices end theirs when all of it is there.

use std::collections::HashSet;

use locker_catalog::brake::Hold;
use locker_catalog::operation::{Content, Decision, Move, Op, Trash};
use locker_catalog::tree::{self as catalog, Node};
use locker_crypto::id::NodeId;

use crate::Error;
use crate::locker::Inner;
use crate::tree::Tree;
use crate::writer::Change;

/// Nodes that are looked at in one go.
const PAGE: usize = 1_024;

/// Ends a hold and writes again what was before.
pub(super) fn bring_back(inner: &Inner, change: &mut Change<'_, '_>, hold: &Hold) -> Result<(), Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let before = Tree::new(&snapshot, inner.space_tag())?;
    change.end_hold(&hold.author)?;
    let mut back = Back { before: &before, change, seen: HashSet::new() };
    let mut last = None;
    loop {
        let page = catalog::differing(before.rows(), last, PAGE)?;
        page.iter().try_for_each(|node| back.node(*node))?;
        last = page.last().copied();
        if page.len() < PAGE {
            break;
        }
    }
    change.push(Op::Confirm(super::confirm(hold, Decision::Restore)))
}

struct Back<'a, 'c, 's> {
    before: &'a Tree<'a>,
    change: &'a mut Change<'c, 's>,
    /// Folders, and what was looked at already because something lies in it.
    seen: HashSet<NodeId>,
}

impl Back<'_, '_, '_> {
    /// Brings a node back to its place and content, the folder that it was in first.
    fn node(&mut self, id: NodeId) -> Result<(), Error> {
        let mut chain = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT && at != NodeId::TRASH && self.seen.insert(at) {
            let Some(before) = catalog::node(self.before.rows(), at)? else { break };
            at = before.parent;
            chain.push(before);
        }
        chain.iter().rev().try_for_each(|before| self.one(before))
    }

    fn one(&mut self, before: &Node) -> Result<(), Error> {
        let Some(now) = self.change.look(|_, rows| catalog::node(rows, before.id))? else { return Ok(()) };
        if before.trashed.is_some() {
            if now.trashed.is_none() {
                self.change.push(Op::Trash(Trash { node: before.id }))?;
            }
        } else if (now.parent, &now.name) != (before.parent, &before.name) {
            let (node, parent, name) = (before.id, before.parent, before.name.clone());
            self.change.push(Op::Move(Move { node, parent, name, kind: before.kind.code() }))?;
        }
        let ids = |node: &Node| node.versions.iter().map(|version| version.vid).collect::<Vec<_>>();
        if ids(before) != ids(&now) {
            let mut bases = ids(&now);
            bases.sort_unstable();
            // The one that is shown is written last.
            for version in before.versions.iter().rev() {
                self.change.push(Op::Content(Content {
                    node: before.id,
                    bases: std::mem::take(&mut bases),
                    file: version.file.clone(),
                    mtime_ms: version.mtime_ms,
                    exec: version.exec,
                }))?;
            }
        }
        Ok(())
    }
}
