//! What `gc` answers: what went, what stays, and why.

use serde::{Deserialize, Serialize};

/// What `gc` did, or would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Collected {
    /// Packs looked at.
    pub checked: u64,
    /// Bytes that were freed on this disk: those of packs that went, less those of packs that were written for them. With
    /// `dry_run`, what would be.
    pub reclaimed_bytes: u64,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// Packs that were written, in place of those that were made anew.
    pub written: u64,
    /// Bytes of content that files need.
    pub live_bytes: u64,
    /// Bytes of content that is kept for its time: in the trash, or replaced.
    pub recent_bytes: u64,
    /// Bytes of content that nothing needs any more and that are here still.
    pub garbage_bytes: u64,
    /// Days on which this device has run; the time for which things are kept is counted in these.
    pub run_days: u32,
    /// Whether everything was done: what is left was in use, and goes with the next call.
    pub complete: bool,
    /// What became of the packs, by reason.
    pub groups: Vec<PackGroup>,
    /// What became of each; of very many the first 1,000.
    pub packs: Vec<PackFate>,
}

/// Packs with which the same was done for the same reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackGroup {
    /// What was done.
    pub fate: Fate,
    /// Why.
    pub why: Why,
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of one pack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackFate {
    /// Its name, hexadecimal.
    pub pack: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What was done.
    pub fate: Fate,
    /// Why.
    pub why: Why,
    /// Bytes of it that files need.
    pub live_bytes: u64,
    /// Bytes of it that are kept for their time.
    pub recent_bytes: u64,
    /// Days of running until the last of these bytes may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_left: Option<u32>,
}

/// What is done with a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It stays as it is.
    Kept,
    /// It is asked for again.
    Wanted,
    /// What is needed of it is copied into another pack; then it goes.
    Repacked,
    /// It goes.
    Released,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Files need it.
    InUse,
    /// What is in the trash, or was replaced, is kept for its time.
    Recent,
    /// A link that lasts gives it.
    Linked,
    /// It is being sent or fetched.
    InTransfer,
    /// What some file is made of could not be read, so that anything may be needed.
    Unknown,
    /// It is in another pack too, of which there are not enough copies yet.
    AwaitsCopies,
    /// It was let go here, and another device still holds it.
    OnOthers,
    /// Nobody pins it, for less days of running than the owner set.
    Unpinned,
    /// Nothing needs it any more.
    Unneeded,
    /// All that is needed of it is in other packs too.
    StoredTwice,
    /// Most of it is not needed any more.
    MostlyUnneeded,
    /// It is one of many small ones.
    Small,
}
