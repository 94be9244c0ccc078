//! What recovery, its rehearsal and drives answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A drive after it was brought up to date.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DriveTold {
    /// Its id, hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Packs on it.
    pub packs: u64,
    /// Packs that belong on it and are not here either.
    pub missing: u64,
    /// Bytes on it.
    pub bytes: u64,
    /// Bytes that were copied now.
    pub new_bytes: u64,
    /// When, in unix milliseconds.
    pub updated: u64,
}

/// A locker that came back by its phrase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// Files that are here.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// The newest thing that another device signed and that came back; what was done later is on none that was reached.
    pub newest_evidence: Option<Evidence>,
    /// This device, hexadecimal.
    pub device_id: String,
    /// The person, hexadecimal.
    pub person_id: String,
    /// The device's name.
    pub name: String,
}

/// What a rehearsal of the recovery needs to know of the device that is to be done without.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The device, hexadecimal.
    pub device_id: String,
    /// The root key that counts, hexadecimal.
    pub root_id: String,
    /// Where the others were reached last.
    pub places: Vec<String>,
    /// Folders of drives that are here.
    pub folders: Vec<PathBuf>,
}

/// How a rehearsal of the recovery went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drilled {
    /// Files that came back by name.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of which somebody else has every part.
    pub covered: u64,
    /// Files that were drawn by lot, fetched and read.
    pub read: u64,
    /// Of these, large ones of which a part was read.
    pub in_part: u64,
    /// Files that would not come back, by path; the first 1,000.
    pub missing: Vec<String>,
    /// What changes that came rest on and nobody who was asked has: other changes, and secrets of epochs.
    pub awaited: u64,
    /// Who was asked: names of devices, paths of folders.
    pub sources: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The newest thing that another device signed and that came back.
    pub newest_evidence: Option<Evidence>,
    /// What it comes to.
    pub sentence: String,
}

/// Something signed, as a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When, by the clock of who signed, in unix milliseconds.
    pub at: u64,
    /// Who, by its name.
    pub name: String,
    /// Who, hexadecimal.
    pub device_id: String,
}
