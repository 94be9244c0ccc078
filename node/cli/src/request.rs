//! The verbs of the command line as values: what one process asks of another over the socket, or of the locker that
//! it opened itself. Of secrets only those of a link and a ticket travel here, and the words when they are changed; a
//! running process is already unlocked.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use locker_engine::report::{
    Added, Audit, Collected, Created, Decided, Device, Diagnosis, DriveTold, Event, Freed, Got, Held, Paired,
    Pinned, Rehearsal, Removed, Restored, RuleSet, RuleTold, Secret, Shared, SharedLink, StateHash, Status,
    TicketShown, Verified,
};
use locker_engine::{JoinAs, ListOptions, Rule};
use serde::{Deserialize, Serialize};

/// One verb with its arguments. Paths outside the locker are absolute: the two processes may stand in different
/// folders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Take files and folders in.
    Add {
        /// What to take in.
        paths: Vec<HostPath>,
        /// Folder of the locker.
        to: String,
    },
    /// List a folder.
    List {
        /// Which folder.
        dir: String,
        /// How.
        options: ListOptions,
    },
    /// Search by name.
    Find {
        /// What to look for.
        query: String,
    },
    /// Bytes of a file.
    Read {
        /// Which file.
        path: String,
        /// From which byte.
        offset: u64,
        /// How many; all if absent.
        length: Option<u64>,
    },
    /// Write a plain copy.
    Get {
        /// What.
        path: String,
        /// Where to.
        to: HostPath,
    },
    /// Write everything as plain files.
    Leave {
        /// Where to.
        to: HostPath,
    },
    /// Make a folder.
    MakeFolder {
        /// Its path.
        path: String,
        /// Whether missing parents are made and an existing folder is fine.
        parents: bool,
    },
    /// Move or rename.
    Move {
        /// What.
        from: String,
        /// Where to.
        to: String,
    },
    /// Move to the trash.
    Remove {
        /// What.
        path: String,
    },
    /// Bring back.
    Restore {
        /// What.
        path: String,
        /// The state of that time, unix milliseconds.
        at: Option<u64>,
        /// That version.
        version: Option<u32>,
    },
    /// What is held until somebody decides.
    Held,
    /// Let be so what is held.
    AllowHeld {
        /// Whose, if several are.
        device: Option<String>,
        /// The 24 words, where it is of the device itself.
        words: Option<Secret>,
    },
    /// Bring back what is held.
    UndoHeld {
        /// Whose, if several are.
        device: Option<String>,
    },
    /// What happened to a file or folder.
    History {
        /// Which.
        path: String,
    },
    /// The state of the locker.
    Status {
        /// Whether the hash of the tree is told.
        hash: StateHash,
    },
    /// Check everything that is stored.
    Verify {
        /// Whether what is damaged is fetched from other devices.
        repair: bool,
        /// Whether a run that was stopped is begun anew.
        all: bool,
    },
    /// Look at every part of this device.
    Doctor {
        /// Meeting points to be tried too.
        bootstrap: Vec<String>,
        /// Whether to look around on the local network, where no node runs.
        lan: bool,
        /// Whether to ask the router to pass a port on, where no node runs.
        port_mapping: bool,
    },
    /// Let the content of something go here.
    Free {
        /// Of what.
        path: String,
        /// How many other devices are to hold it.
        copies: u32,
    },
    /// Get back what was let go here.
    Pin {
        /// Of what.
        path: String,
    },
    /// Keep something no longer whatever the rule is.
    Unpin {
        /// What.
        path: String,
    },
    /// What this device keeps.
    Rule,
    /// Set what this device keeps.
    SetRule {
        /// The rule.
        rule: Rule,
    },
    /// Ask other devices to prove that they hold what they say.
    Audit,
    /// Give room back.
    Gc {
        /// Whether nothing is to be changed.
        dry_run: bool,
    },
    /// Invite a device.
    Pair {
        /// What it is to become.
        wanted: JoinAs,
    },
    /// Make a folder a drive.
    InitDrive {
        /// Which.
        dir: HostPath,
        /// What it is called.
        name: Option<String>,
    },
    /// Bring a drive up to date, or all that are there.
    UpdateDrives {
        /// Which.
        dir: Option<HostPath>,
    },
    /// What a rehearsal of the recovery needs to know of this device.
    Rehearsal,
    /// The devices of the person.
    Devices,
    /// End a device.
    RevokeDevice {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Give a device another name.
    RenameDevice {
        /// Its id, or the beginning of it.
        id: String,
        /// The name.
        name: String,
    },
    /// Make a link.
    Share {
        /// To what.
        path: String,
        /// How long it lasts, in seconds.
        expires_s: u64,
        /// What it is called.
        label: Option<String>,
        /// A passphrase that it takes.
        passphrase: Option<Secret>,
    },
    /// Words that could take the place of these.
    DraftPhrase {
        /// The words so far.
        old: Secret,
    },
    /// Put new words in the place of the old ones.
    ChangePhrase {
        /// The words so far.
        old: Secret,
        /// The new ones.
        new: Secret,
    },
    /// Every link.
    Shares,
    /// End a link.
    RevokeShare {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Wait until everything is here, or is on so many devices.
    Wait {
        /// Whether everything is to be here.
        synced: bool,
        /// On how many devices all content is to be.
        copies: Option<u32>,
        /// How long at most.
        timeout_ms: Option<u64>,
    },
}

/// What a verb answers, beside the entries and bytes that it streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// To `Add`.
    Added(Added),
    /// To `Get` and `Leave`.
    Got(Got),
    /// To `Free`.
    Freed(Freed),
    /// To `Pin`.
    Pinned(Pinned),
    /// To `Rule`.
    Rule(RuleTold),
    /// To `SetRule` and `Unpin`.
    RuleSet(Box<RuleSet>),
    /// To `Audit`.
    Audited(Vec<Audit>),
    /// To `Remove`.
    Removed {
        /// What went.
        removed: Removed,
        /// If it is so much that other devices do not show it until it is decided: on which.
        holders: Vec<String>,
    },
    /// To `Held`.
    Held(Vec<Held>),
    /// To `AllowHeld` and `UndoHeld`.
    Decided(Decided),
    /// To `Restore`.
    Restored(Restored),
    /// To `History`.
    History(Vec<Event>),
    /// To `Status`.
    Status(Box<Status>),
    /// To `Verify`.
    Verified(Verified),
    /// To `Doctor`.
    Diagnosis(Diagnosis),
    /// To `Gc`.
    Collected(Collected),
    /// To `Pair`.
    Paired(Paired),
    /// To `InitDrive` and `UpdateDrives`.
    Drives(Vec<DriveTold>),
    /// To `Rehearsal`.
    Rehearsal(Rehearsal),
    /// To `Devices`, `RevokeDevice` and `RenameDevice`.
    Devices(Vec<Device>),
    /// To `DraftPhrase`.
    Drafted(Created),
    /// To `ChangePhrase`: the replicas that have not heard of it.
    PhraseChanged(Vec<String>),
    /// To `Share`.
    Shared(Box<SharedLink>),
    /// To `Shares` and `RevokeShare`.
    Shares(Vec<Shared>),
    /// To verbs that have nothing more to say.
    Done,
}

/// What a pairing shows the person while it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum PairEvent {
    /// The ticket.
    Ticket(TicketShown),
    /// Nobody came yet.
    Waiting,
    /// Digits to compare; the answer is whether they are the same.
    Confirm {
        /// Six digits.
        digits: String,
        /// Who wants to join.
        name: Option<String>,
    },
}

/// A path outside the locker, whatever its bytes are. In JSON: hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPath(PathBuf);

impl HostPath {
    /// Makes a path absolute, from the folder in which this process stands, without following links.
    ///
    /// # Errors
    /// If the current folder cannot be told, or the path is empty.
    pub(crate) fn absolute(path: &Path) -> std::io::Result<Self> {
        std::path::absolute(path).map(Self)
    }

    /// Gives the path.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Serialize for HostPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let bytes = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .filter(|_| hex.len().is_multiple_of(2))
            .ok_or_else(|| serde::de::Error::custom("not a hexadecimal path"))?;
        Ok(Self(PathBuf::from(OsString::from_vec(bytes))))
    }
}
