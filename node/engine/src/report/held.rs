//! What `held` tells: what one device took away at once, and what was decided about it.

use serde::{Deserialize, Serialize};

/// What one device took away at once, and others do not show as taken until somebody decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Public key of the device that did it, hexadecimal.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Whether it is this device: then the others hold it, and they decide, or who has the 24 words.
    pub this: bool,
    /// Files that it put into the trash.
    pub removed: u64,
    /// Files of which it replaced the content.
    pub replaced: u64,
    /// How many files there were before.
    pub files: u64,
    /// Since when it is held, in unix milliseconds.
    pub since: u64,
    /// What showed that it is too much at once.
    pub by: HeldBy,
    /// The names of the devices on which it can be decided.
    pub confirm_on: Vec<String>,
    /// All this as a sentence.
    pub sentence: String,
}

/// By which time something was too much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// By the clock of the device that did it.
    Clock,
    /// By the time at which it came, though it could have come before.
    Arrival,
}

/// What became of a hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// Public key of the device that took something away, hexadecimal.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Files that are gone now, or that are back.
    pub files: u64,
}
