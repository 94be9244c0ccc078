//! `ls`, `tree` and `find`.

use std::ops::ControlFlow;

use locker_catalog::name::collision_key;
use locker_crypto::id::NodeId;
use locker_store::Snapshot;
use locker_store::index::{self, PackState};
use serde::{Deserialize, Serialize};

use crate::locker::Inner;
use crate::report::{Entry, Kind, Local};
use crate::tree::{Kinded, Listed, Newest, Tree};
use crate::{Error, path};

/// What takes the lines of a listing; `Break` ends it.
pub(crate) type Visit<'v> = dyn FnMut(Entry) -> ControlFlow<()> + 'v;

/// How a folder is listed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ListOptions {
    /// Whether all below it is listed too.
    pub recursive: bool,
    /// Whether the tree is listed as all entries give it, and not as this device shows it while it holds something.
    pub replayed: bool,
}

/// Lists a folder in the order of names, or one file.
///
/// # Errors
/// [`Error::NotFound`]; what reading gives.
pub(crate) fn list(
    inner: &Inner,
    dir: &str,
    options: ListOptions,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let ListOptions { recursive, replayed } = options;
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = match replayed {
        true => Tree::replayed(&snapshot, inner.space_tag()),
        false => Tree::new(&snapshot, inner.space_tag())?,
    };
    let lister = Lister::new(inner, &snapshot, tree)?;
    let node = lister.tree.resolve(dir)?;
    let shown = path::split(dir)?.join("/");
    if node != NodeId::ROOT {
        let found = lister.tree.listed(node)?;
        if !found.is_folder() {
            let entry = lister.entry(shown, &found)?;
            let _ = visit(entry);
            return Ok(());
        }
    }
    lister.folder(node, &shown, recursive, visit).map(|_| ())
}

/// Lists everything whose name has all words of `query`, or matches its pattern.
///
/// # Errors
/// [`Error::Argument`] for an empty query; what reading gives.
pub(crate) fn find(inner: &Inner, query: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
    let query = Query::new(query)?;
    let store = inner.store()?;
    let snapshot = store.read()?;
    let lister = Lister::new(inner, &snapshot, Tree::new(&snapshot, inner.space_tag())?)?;
    lister
        .folder(NodeId::ROOT, "", true, &mut |entry| {
            let name = entry.path.rsplit('/').next().unwrap_or("");
            if query.matches(name) { visit(entry) } else { ControlFlow::Continue(()) }
        })
        .map(|_| ())
}

struct Lister<'a> {
    tree: Tree<'a>,
    snapshot: &'a Snapshot,
    inner: &'a Inner,
    /// Some pack is not here, so that every file must be looked at.
    has_gaps: bool,
}

impl<'a> Lister<'a> {
    fn new(inner: &'a Inner, snapshot: &'a Snapshot, tree: Tree<'a>) -> Result<Self, Error> {
        let has_gaps = has_gaps(snapshot)?;
        Ok(Self { tree, snapshot, inner, has_gaps })
    }

    fn folder(
        &self,
        node: NodeId,
        shown: &str,
        recursive: bool,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        for child in self.tree.sorted_children(node)? {
            let child_path = path::join(shown, &child.displayed);
            let below = (recursive && child.is_folder()).then(|| child_path.clone());
            if visit(self.entry(child_path, &child)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(below) = below
                && self.folder(child.id, &below, recursive, visit)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn entry(&self, path: String, child: &Listed) -> Result<Entry, Error> {
        let newest = child.newest.as_ref();
        Ok(Entry {
            path,
            kind: child.kind(),
            size: newest.map_or(0, |n| n.size),
            mtime: newest.map(|n| n.mtime_ms),
            b3: newest.map(|n| n.hash.to_string()),
            local: if self.has_gaps && child.kind() == Kind::File { self.local(child)? } else { Local::All },
            versions: u32::try_from(child.versions).unwrap_or(u32::MAX),
            conflict: child.versions > 1,
        })
    }

    /// How much of the newest version is here.
    fn local(&self, child: &Listed) -> Result<Local, Error> {
        let node = self.tree.node(child.id)?;
        let Some(version) = node.newest() else { return Ok(Local::All) };
        let records = version.file.records();
        let mut here = 0;
        for record in records {
            here += usize::from(index::is_here(self.snapshot, &self.inner.space_tag(), &record.tag())?);
        }
        Ok(match here {
            n if n == records.len() => Local::All,
            0 => Local::None,
            _ => Local::Part,
        })
    }
}

/// Whether any pack that is named here is not here.
fn has_gaps(snapshot: &Snapshot) -> Result<bool, Error> {
    let mut gap = false;
    index::scan_packs(snapshot, &mut |_, pack| {
        if matches!(pack.state, PackState::Present { .. }) {
            ControlFlow::Continue(())
        } else {
            gap = true;
            ControlFlow::Break(())
        }
    })?;
    Ok(gap)
}

/// What a person types to find things: words, or a pattern with `*` and `?`.
struct Query {
    words: Vec<String>,
}

impl Query {
    fn new(text: &str) -> Result<Self, Error> {
        let words: Vec<String> = text.split_whitespace().map(collision_key).collect();
        if words.is_empty() {
            return Err(Error::Argument("the query is empty".into()));
        }
        Ok(Self { words })
    }

    fn matches(&self, name: &str) -> bool {
        let name = collision_key(name);
        self.words.iter().all(|word| {
            if word.contains(['*', '?']) {
                matches_pattern(word, &name)
            } else {
                name.contains(word.as_str())
            }
        })
    }
}

/// Shell-like matching of the whole name; linear in memory, at worst the product of the lengths in time.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    p = *at + 1;
                    n = *from;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_patterns() {
        let found = |query: &str, name: &str| Query::new(query).unwrap().matches(name);
        assert!(found("holi day", "My HOLIDAY.jpg"));
        assert!(!found("holi night", "My holiday.jpg"));
        assert!(found("STRASSE", "Straße.txt"));
        assert!(found("*.flac", "a.b.FLAC"));
        assert!(!found("*.flac", "a.flac.txt"));
        assert!(found("?.*", "a.txt"));
        assert!(found("*a*b*", "xxaxxbxx"));
        assert!(!found("*a*b", "xxaxxbxx"));
        assert!(matches!(Query::new("  "), Err(Error::Argument(_))));
    }
}
