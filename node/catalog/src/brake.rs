//! The mass-change brake (`docs/spec/05-tree.md`, "Brake"): how much one device may take away in a short time before other
//! devices hold it back until a person decides.
//!
//! Here are the figures and the judgement. What is counted when, and what a hold changes, is `space/brake.rs`; the tree
//! without what is held is [`crate::tree::Shown`].

use locker_crypto::id::VerifyingKey;

/// The time in which is counted.
pub const WINDOW_MS: u64 = 10 * 60 * 1_000;
/// More files than this are held.
pub const FILES_MAX: u64 = 500;
/// A quarter of the files is held too, of so many at least.
pub const SHARE_FILES_MIN: u64 = 20;

/// What an overwrite counts that keeps what a file begins with.
pub const ALIKE_TENTHS: u64 = 1;
/// What every other file counts.
pub const FILE_TENTHS: u64 = 10;

/// What entries take away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Files put into the trash, those in folders included.
    pub gone: u64,
    /// Files whose content was replaced.
    pub replaced: u64,
}

impl Losses {
    /// Whether nothing was taken away.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// By which time a hold was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// By the clock of the author.
    Clock,
    /// By the arrival of entries that could have come before.
    Arrival,
}

/// What is held of one author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who wrote it.
    pub author: VerifyingKey,
    /// Its first entry.
    pub first_seq: u64,
    /// Its last entry; those between that took nothing away are not held.
    pub last_seq: u64,
    /// How many entries.
    pub entries: u64,
    /// What they take away.
    pub losses: Losses,
    /// When the first of them was held, unix milliseconds.
    pub since_ms: u64,
    /// By which time it was found.
    pub count: Count,
    /// Whether this device wrote it itself, so that others hold it.
    pub is_own: bool,
}

/// Whether so many tenths of files within [`WINDOW_MS`] are held, of so many files that there were before.
pub const fn exceeds(tenths: u64, files_before: u64) -> bool {
    let is_share = tenths.saturating_mul(4) > files_before.saturating_mul(FILE_TENTHS);
    tenths > FILES_MAX * FILE_TENTHS || (is_share && tenths >= SHARE_FILES_MIN * FILE_TENTHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T84, the limits: 500 files are let through, 501 are held; of few files more than a quarter and at least 20.
    #[test]
    fn t84_more_than_500_files_or_a_quarter_and_20() {
        for (files, before, held) in [
            (500, 10_000, false),
            (501, 10_000, true),
            (30, 100, true),
            (25, 100, false),
            (26, 100, true),
            (19, 19, false),
            (20, 20, true),
            (20, 79, true),
            (20, 80, false),
            (0, 0, false),
            (u64::MAX / 10, 1, true),
        ] {
            assert_eq!(exceeds(files * FILE_TENTHS, before), held, "{files} of {before}");
        }
        // 300 of 1,000 files were tagged.
        assert!(!exceeds(300 * ALIKE_TENTHS, 1_000));
    }
}
