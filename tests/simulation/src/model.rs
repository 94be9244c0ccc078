//! What must be there at the end: everything that was acknowledged, unless somebody undid it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use locker_engine::report::{Entry, Kind};
use locker_engine::simulation::Content;
use locker_engine::{Error, ListOptions, Locker};

/// Moves in a circle give paths without end.
const ALIASES_MAX: usize = 256;

/// What somebody did.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who.
    pub device: u16,
    /// What.
    pub what: What,
    /// Whether it was told as done.
    pub is_acknowledged: bool,
    /// Whether what it wrote may be written again under another key. A removal that is written again spares a folder in
    /// which others made something meanwhile.
    pub may_spare: bool,
}

/// What was done, with paths as they were then.
#[derive(Clone)]
pub enum What {
    /// A file was taken in.
    Wrote(String, [u8; 32]),
    /// A folder was made.
    Made(String),
    /// Something was moved.
    Moved(String, String),
    /// Something was moved to the trash.
    Removed(String),
    /// Something was brought back.
    Restored(String),
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrote(at, b3) => write!(f, "wrote {at:?} {}", &blake3::Hash::from_bytes(*b3).to_hex()[..8]),
            Self::Made(at) => write!(f, "made {at:?}"),
            Self::Moved(from, to) => write!(f, "moved {from:?} to {to:?}"),
            Self::Removed(at) => write!(f, "removed {at:?}"),
            Self::Restored(at) => write!(f, "restored {at:?}"),
        }
    }
}

impl What {
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Wrote(at, _) | Self::Made(at) | Self::Removed(at) | Self::Restored(at) => vec![at],
            Self::Moved(from, to) => vec![from, to],
        }
    }

    /// Whether this put something into a folder.
    fn fills(&self, folder: &str) -> bool {
        match self {
            Self::Wrote(at, _) | Self::Made(at) => is_below(at, folder),
            Self::Moved(..) | Self::Removed(_) | Self::Restored(_) => false,
        }
    }

    /// Whether this may change what is at a path.
    fn touches(&self, path: &str) -> bool {
        self.paths().into_iter().any(|own| {
            own == path
                || is_below(path, own) && !matches!(self, Self::Made(_) | Self::Wrote(..))
                || is_below(own, path) && matches!(self, Self::Moved(..) | Self::Restored(_))
        })
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Everything that was done.
#[derive(Default)]
pub struct Model {
    /// In the order in which it was done.
    pub deeds: Vec<Deed>,
}

/// A locker as a device shows it.
pub struct Shown {
    /// Live files and folders.
    pub entries: BTreeMap<String, Entry>,
    /// Every content, the trash and older versions too.
    pub contents: Vec<Content>,
}

impl Shown {
    /// Looks at a device.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn look(locker: &Locker) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        locker.list("", ListOptions { recursive: true, replayed: true }, &mut |entry| {
            entries.insert(entry.path.clone(), entry);
            ControlFlow::Continue(())
        })?;
        Ok(Self { entries, contents: locker_engine::simulation::contents(locker)? })
    }
}

impl Model {
    /// What is missing.
    pub fn missing(&self, shown: &Shown) -> Vec<String> {
        let kept: BTreeSet<[u8; 32]> =
            shown.contents.iter().filter(|one| !one.is_gone).map(|one| one.b3).collect();
        let mut missing = Vec::new();
        for (n, deed) in self.deeds.iter().enumerate().filter(|(_, deed)| deed.is_acknowledged) {
            let others = || self.deeds.iter().enumerate().filter(|(m, _)| *m != n);
            let is_touched = |path: &str| {
                self.aliases(path).iter().any(|path| others().any(|(_, other)| other.what.touches(path)))
            };
            let entry = |path: &str| shown.entries.get(path);
            let holds = match &deed.what {
                What::Wrote(_, b3) if !kept.contains(b3) => false,
                What::Wrote(path, b3) => {
                    let hex = blake3::Hash::from_bytes(*b3).to_hex().to_string();
                    is_touched(path) || entry(path).is_some_and(|one| one.b3.as_deref() == Some(&hex))
                }
                What::Made(path) => {
                    is_touched(path) || entry(path).is_some_and(|one| one.kind == Kind::Folder)
                }
                What::Moved(from, to) => {
                    is_touched(from) || is_touched(to) || entry(from).is_none() && entry(to).is_some()
                }
                What::Removed(path) => {
                    let is_filled = || {
                        let lives = |at: &str| shown.entries.keys().any(|path| is_below(path, at));
                        let aliases = self.aliases(path);
                        let mut made = others().filter(|(_, other)| other.device != deed.device);
                        lives(path) && made.any(|(_, other)| aliases.iter().any(|at| other.what.fills(at)))
                    };
                    is_touched(path) || entry(path).is_none() || deed.may_spare && is_filled()
                }
                What::Restored(path) => is_touched(path) || entry(path).is_some(),
            };
            if !holds {
                let why = match &deed.what {
                    What::Wrote(_, b3) if !kept.contains(b3) => "content is nowhere".into(),
                    What::Wrote(_, b3) => {
                        let at = shown.contents.iter().find(|one| one.b3 == *b3);
                        format!("not as it was left: it is at {:?}", at.and_then(|one| one.path.as_ref()))
                    }
                    _ => String::from("not as it was left"),
                };
                missing.push(format!("deed {n} of device {}: {:?}: {why}", deed.device, deed.what));
            }
        }
        missing
    }

    /// A path, and what it may be for somebody who has not heard of a move.
    fn aliases(&self, path: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::from([path.to_owned()]);
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            for deed in &self.deeds {
                let (from, to) = match &deed.what {
                    What::Moved(from, to) => (from.as_str(), to.as_str()),
                    // What lives in a folder that was removed is shown beside it.
                    What::Removed(folder) => {
                        (folder.as_str(), folder.rsplit_once('/').map_or("", |(up, _)| up))
                    }
                    _ => continue,
                };
                let rest = match path.strip_prefix(to) {
                    Some(rest) if to.is_empty() => format!("/{rest}"),
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.to_owned(),
                    _ => continue,
                };
                let alias = format!("{from}{rest}");
                if all.len() < ALIASES_MAX && all.insert(alias.clone()) {
                    open.push(alias);
                }
            }
        }
        all
    }

    /// Whether somebody wrote a content, acknowledged or not.
    pub fn knows(&self, b3: &[u8; 32]) -> bool {
        self.deeds.iter().any(|deed| matches!(&deed.what, What::Wrote(_, known) if known == b3))
    }
}

/// Folders, the root first, and files, as they are shown.
///
/// # Errors
/// Those of the engine.
pub fn entries(locker: &Locker) -> Result<(Vec<String>, Vec<String>), Error> {
    let (mut folders, mut files) = (vec![String::new()], Vec::new());
    locker.list("", ListOptions { recursive: true, replayed: false }, &mut |entry| {
        match entry.kind {
            Kind::File => files.push(entry.path),
            _ => folders.push(entry.path),
        }
        ControlFlow::Continue(())
    })?;
    Ok((folders, files))
}
