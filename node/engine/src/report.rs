//! What the engine answers: plain values that a command line prints and an API sends. Field names are a contract;
//! fields may be added, never renamed.

mod collected;
mod copies;
mod diagnosis;
mod held;
mod notice;
mod recovered;

use serde::{Deserialize, Serialize};

pub use self::collected::{Collected, Fate, PackFate, PackGroup, Why};
pub use self::copies::{Audit, Copies, Freed, Pinned, RuleSet, RuleTold, Unfreed};
pub use self::diagnosis::{Check, CheckState, Diagnosis};
pub use self::held::{Decided, Held, HeldBy};
pub use self::notice::Notice;
pub use self::recovered::{Drilled, DriveTold, Evidence, Recovered, Rehearsal};

/// A new locker. The only time that the phrase is ever told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Created {
    /// The 24 words.
    pub phrase: Secret,
    /// The person, hexadecimal.
    pub person_id: String,
    /// This device, hexadecimal.
    pub device_id: String,
    /// The device's name.
    pub name: String,
}

/// A secret text on its way to the person: wiped when dropped, not shown by `Debug`.
#[derive(Clone, Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes over a secret text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Gives the text, for showing it to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What `add` took in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Added {
    /// Files now in the locker because of this call, unchanged ones included.
    pub files: u64,
    /// Folders seen.
    pub folders: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bytes of packs that were written: what this call cost on the disk.
    pub new_bytes: u64,
    /// Files that were here already with the same content.
    pub unchanged: u64,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// How long it took.
    pub seconds: f64,
}

/// One thing that was left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it lies, outside the locker.
    pub path: String,
    /// Why it was left out.
    pub reason: String,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A node that shows another space.
    Mount,
}

/// How much of a file's content this device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Local {
    /// Nothing.
    None,
    /// Some of it.
    Part,
    /// Everything.
    All,
}

/// One line of a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Path in the locker, without a slash at the start.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Size of the newest version in bytes; 0 for folders.
    pub size: u64,
    /// Modification time of the newest version in unix milliseconds.
    pub mtime: Option<i64>,
    /// BLAKE3 of the content, hexadecimal.
    pub b3: Option<String>,
    /// How much of the content is here.
    pub local: Local,
    /// Live versions; more than one waits for a decision.
    pub versions: u32,
    /// Whether a decision is needed.
    pub conflict: bool,
}

/// What `get` wrote.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Got {
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// One thing that happened to a file or folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, in unix milliseconds by the clock of the device that did it.
    pub time: u64,
    /// What happened.
    pub what: Happening,
    /// The device, hexadecimal.
    pub device: String,
    /// The name it had afterwards, or the place it went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For a new content: its number, from 1, as `restore --version` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// For a new content: its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// For a new content: its BLAKE3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b3: Option<String>,
    /// For a new content: its modification time in unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// For a new content: whether it is not kept any more, since the time for that is over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gone: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// It was made.
    Created,
    /// It was moved or renamed.
    Moved,
    /// It got a new content.
    Written,
    /// It got a content back that was replaced before, and that a device had written on top of what does not count.
    Kept,
    /// It was moved to the trash.
    Trashed,
    /// It came back from the trash.
    Restored,
}

/// What `restore` did.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    /// Files and folders brought back or set back.
    pub entries: u64,
}

/// What `rm` moved to the trash.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Files below, the thing itself included.
    pub files: u64,
}

/// The state of the locker on this device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// One truthful sentence.
    pub sentence: String,
    /// Live files.
    pub files: u64,
    /// Live folders.
    pub folders: u64,
    /// Bytes of the live files.
    pub bytes: u64,
    /// Bytes of packs and database on this disk.
    pub store_bytes: u64,
    /// The devices of this person.
    pub devices: Vec<Device>,
    /// How many copies there are.
    pub copies: Copies,
    /// What is under way.
    pub transfers: Vec<Transfer>,
    /// Bytes moved since the node of this device started; absent while none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How far the check of all packs in the background is.
    pub scrub: Scrub,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is not wrong, and is to be known.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// That this device took a new key, for a week; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reborn: Option<Reborn>,
    /// The person, hexadecimal.
    pub person_id: String,
    /// How the vault of this device is closed.
    pub vault: String,
    /// BLAKE3 of the replayed state: equal on devices that know the same. Absent in a large locker, unless it was asked
    /// for: [`StateHash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// Whether [`Status`] is to tell the hash of the tree, for which the row of every file and folder is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateHash {
    /// Up to 20,000 files and folders.
    IfQuick,
    /// In any case.
    Always,
}

/// How the data between two devices travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Straight from one to the other.
    Direct,
    /// Through a relay, which carries what it cannot read.
    Relayed,
}

/// What a device may do that reads and writes.
pub const ROLE_FULL: &str = "full";
/// The same of one that stores and cannot read.
pub const ROLE_BLIND: &str = "blind";

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaKind {
    /// A node that is reached over the network.
    Node,
    /// A folder without a process.
    Drive,
}

/// What a replica said of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRoom {
    /// What it is.
    pub kind: ReplicaKind,
    /// Bytes that it keeps.
    pub used: u64,
    /// Bytes that it may keep; 0 for as many as fit.
    pub quota: u64,
    /// Packs that it would keep and has no room for.
    pub refused: u64,
}

/// One device in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its public key, hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// Whether it can be reached now.
    pub online: bool,
    /// How, while it is reached. Absent for this device, and for those that are not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Way>,
    /// When it was last heard of, in unix milliseconds.
    pub last_seen: u64,
    /// When it last proved to this device that it holds what it says, in unix milliseconds. Absent if it never did, or came
    /// back since with less than it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<u64>,
    /// When it last failed to, for a week. Its copies do not count meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Whether it is this device.
    pub this: bool,
    /// Whether it was ended: nothing that was written since can be read there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// The device that brought it in, by its key, hexadecimal. Absent if it came by the words, and for replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<String>,
    /// When it came in, in unix milliseconds by the clock of the device that wrote it down. Absent for replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// The devices that took its place: it was restored from a backup, or copied. Absent if it is in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_by: Vec<String>,
    /// Of a replica, how much room it has. Absent for devices that read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRoom>,
}

/// A device that goes on under a new key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reborn {
    /// Since when, in unix milliseconds.
    pub at: u64,
    /// The public key before, hexadecimal.
    pub was: String,
    /// Why, as a sentence.
    pub sentence: String,
}

/// One running transfer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// What is moved.
    pub what: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Bytes moved between devices since the node started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Handed to the wire for packs, the requests for them included.
    pub pack_bytes_sent: u64,
    /// Received of packs, likewise.
    pub pack_bytes_received: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The named reason, `E_…`.
    pub code: String,
    /// What is wrong, as a sentence.
    pub message: String,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Packs, log entries, rows of the database and file versions checked.
    pub checked: u64,
    /// Bytes read and hashed.
    pub checked_bytes: u64,
    /// How many of them were found damaged or missing.
    pub bad: u64,
    /// How many of those are whole again.
    pub repaired: u64,
    /// Each finding that stands.
    pub problems: Vec<Problem>,
    /// Files whose content cannot be read whole any more.
    pub damaged_files: Vec<String>,
    /// Whether it came to its end. If not, the next one goes on where it was stopped.
    pub complete: bool,
    /// Packs that an earlier, stopped run had checked and that were not read again.
    pub earlier: u64,
    /// What is worth knowing and is no damage.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Verified {
    /// Whether something is damaged and was not healed.
    pub fn is_damaged(&self) -> bool {
        self.bad > self.repaired
    }
}

/// How far the background check of all packs is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Scrub {
    /// When the pack that was checked longest ago was checked, unix milliseconds; absent while there is none.
    pub oldest_verified: Option<u64>,
    /// Packs that are damaged or gone.
    pub bad: u64,
}

/// A ticket, to be shown to whoever has the new device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TicketShown {
    /// The ticket, hexadecimal.
    pub ticket: Secret,
    /// The same as eight words.
    pub words: Secret,
    /// Until when it is valid, unix milliseconds.
    pub expires: u64,
}

/// A device that joined, as the inviting one sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paired {
    /// Its public key, hexadecimal.
    pub device_id: String,
    /// Its name.
    pub name: String,
    /// What it may do: [`ROLE_FULL`] or [`ROLE_BLIND`].
    pub role: String,
}

/// What this device became by joining.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// This device, hexadecimal.
    pub device_id: String,
    /// The person, hexadecimal.
    pub person_id: String,
    /// The name of this device.
    pub name: String,
    /// What it may do: [`ROLE_FULL`] or [`ROLE_BLIND`].
    pub role: String,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// To read files as they stood when the link was made.
    Snapshot,
    /// To read a folder as it goes on.
    Read,
    /// To read and write it.
    Write,
    /// To hand something in.
    Deposit,
}

/// A link that was just made: the only time that its text is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SharedLink {
    /// By which it is named when it is to end.
    pub id: String,
    /// Its text. Whoever has it can use it.
    pub link: Secret,
    /// What it is for.
    pub kind: ShareKind,
    /// When it ends, unix milliseconds.
    pub expires: u64,
    /// What was shared.
    pub path: String,
    /// What it is called.
    pub label: String,
    /// Files that it gives.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// One link in the list of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shared {
    /// By which it is named.
    pub id: String,
    /// Where what was shared lies now, or lay.
    pub path: String,
    /// What it is for.
    pub kind: ShareKind,
    /// What it is called.
    pub label: String,
    /// When it ends, unix milliseconds.
    pub expires: u64,
    /// When it was made, unix milliseconds.
    pub created: u64,
    /// How often it was opened at this device.
    pub uses: u64,
    /// Whether it was ended before its time.
    pub revoked: bool,
}

/// What came of opening a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Files that it gives.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What its giver calls it.
    pub label: String,
    /// When it ends, unix milliseconds.
    pub expires: u64,
    /// What it gives, in its order.
    pub entries: Vec<Entry>,
}

/// The person in front of a pairing. A failure of any method gives the pairing up.
pub trait Guide: Sync {
    /// Shows the ticket.
    ///
    /// # Errors
    /// If it cannot be shown.
    fn ticket(&self, ticket: &TicketShown) -> std::io::Result<()> {
        let _ = ticket;
        Ok(())
    }

    /// Nobody came yet; called every half second.
    ///
    /// # Errors
    /// If nobody waits any more.
    fn waiting(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Shows six digits, and who wants to join; says whether the other device shows the same. May take two minutes.
    ///
    /// # Errors
    /// If nobody can be asked.
    fn confirm(&self, digits: &str, name: Option<&str>) -> std::io::Result<bool>;
}

/// How far a long operation is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Files finished.
    pub files: u64,
    /// Files in all, once they are counted.
    pub files_total: Option<u64>,
    /// Bytes finished.
    pub bytes: u64,
    /// Bytes in all, once they are counted.
    pub bytes_total: Option<u64>,
}

/// Hears how far a long operation is. Called from worker threads, many times a second; returns at once.
pub trait Observer: Sync {
    /// The operation went on.
    fn progress(&self, progress: Progress) {
        let _ = progress;
    }

    /// A file is durable: from now on nothing loses it.
    fn saved(&self, path: &str) {
        let _ = path;
    }

    /// Whether nobody wants the operation to go on. One that can be stopped looks now and then, and ends in order.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Hears nothing.
pub struct Silent;

impl Observer for Silent {}
