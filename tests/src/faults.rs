//! Orders for a folder whose operations fail when they are told to, and its process (`src/bin/lab`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::lab::Server;

/// What a program does with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Making a file.
    Create,
    /// Opening one that is there.
    Open,
    /// Reading from one.
    Read,
    /// Writing to one.
    Write,
    /// Giving it another length.
    Resize,
    /// Reserving room for it.
    Allocate,
    /// Syncing its content.
    Sync,
    /// Giving it other rights or times.
    Change,
    /// Giving it another name.
    Rename,
    /// Removing a file or folder.
    Unlink,
    /// Making a folder.
    Mkdir,
    /// Listing one.
    List,
    /// Syncing one.
    SyncFolder,
}

impl Kind {
    /// Every kind, with its word in orders and answers.
    pub const ALL: [(Self, &str); 13] = [
        (Self::Create, "create"),
        (Self::Open, "open"),
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Resize, "resize"),
        (Self::Allocate, "allocate"),
        (Self::Sync, "sync"),
        (Self::Change, "change"),
        (Self::Rename, "rename"),
        (Self::Unlink, "unlink"),
        (Self::Mkdir, "mkdir"),
        (Self::List, "list"),
        (Self::SyncFolder, "sync-folder"),
    ];

    /// Whether it changes what is on the disk.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::List)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = Self::ALL.iter().find(|(_, word)| *word == text);
        kind.map(|(kind, _)| *kind).ok_or_else(|| format!("{text} is no kind of operation"))
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With this error of the system.
    Errno(i32),
    /// A write takes half of what it is given.
    Short,
}

/// A fault: the `n`-th operation of a kind, counted from 1 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of what kind.
    pub kind: Kind,
    /// Which one.
    pub n: u64,
    /// Whether all later ones of the kind fail as well.
    pub lasts: bool,
    /// How it fails.
    pub how: How,
}

impl Fault {
    /// Whether it hits the `count`-th operation of its kind.
    pub fn hits(&self, count: u64) -> bool {
        count == self.n || (self.lasts && count > self.n)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, n, lasts, how } = self;
        let lasts = if *lasts { "on" } else { "once" };
        match how {
            How::Errno(number) => write!(f, "{kind} {n} {lasts} {number}"),
            How::Short => write!(f, "{kind} {n} {lasts} short"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [kind, n, lasts, how] = text.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{text} is no fault"));
        };
        Ok(Self {
            kind: kind.parse()?,
            n: n.parse().map_err(|_| format!("{n} is no number"))?,
            lasts: lasts == "on",
            how: match how {
                "short" => How::Short,
                number => How::Errno(number.parse().map_err(|_| format!("{number} is no error"))?),
            },
        })
    }
}

/// What was asked of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often, by kind.
    pub by_kind: BTreeMap<Kind, u64>,
    /// How many of these failed by order.
    pub fired: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fired {}", self.fired)?;
        self.by_kind.iter().try_for_each(|(kind, count)| write!(f, " {kind} {count}"))
    }
}

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let mut counts = Self::default();
        for pair in words.chunks(2) {
            let [word, number] = pair else { return Err(text.to_owned()) };
            let number = number.parse().map_err(|_| text.to_owned())?;
            match *word {
                "fired" => counts.fired = number,
                kind => drop(counts.by_kind.insert(kind.parse()?, number)),
            }
        }
        Ok(counts)
    }
}

/// A folder that fails on order, over another folder.
pub struct FailingFolder(Server);

impl FailingFolder {
    /// Shows `folder` at `mount`. `program` is the binary `locker-lab-disks`.
    ///
    /// # Errors
    /// If the system does not allow it, with what it said.
    pub fn start(program: &Path, folder: &Path, mount: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(mount).unwrap();
        Server::start(program, &["failing".as_ref(), folder.as_os_str()], mount).map(Self)
    }

    /// Sets a fault and begins to count.
    pub fn set(&mut self, fault: &Fault) -> Counts {
        self.order(&fault.to_string())
    }

    /// Takes the fault away and begins to count. Gives what was counted before.
    pub fn heal(&mut self) -> Counts {
        self.order("heal")
    }

    fn order(&mut self, text: &str) -> Counts {
        self.0.ask(text).parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_are_read_as_they_are_written() {
        for (kind, _) in Kind::ALL {
            for how in [How::Errno(28), How::Short] {
                for lasts in [false, true] {
                    let fault = Fault { kind, n: 7, lasts, how };
                    assert_eq!(fault.to_string().parse(), Ok(fault.clone()));
                    assert_eq!([6, 7, 8].map(|count| fault.hits(count)), [false, true, lasts]);
                }
            }
        }
        let counts = Counts { by_kind: BTreeMap::from([(Kind::Sync, 3), (Kind::SyncFolder, 1)]), fired: 1 };
        assert_eq!(counts.to_string().parse(), Ok(counts));
        assert_eq!(Counts::default().to_string().parse(), Ok(Counts::default()));
        assert!("write 1 once".parse::<Fault>().is_err());
        assert!("paint 1 once 5".parse::<Fault>().is_err());
        assert!("fired 1 write".parse::<Counts>().is_err());
    }
}
