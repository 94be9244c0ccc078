//! How large a tree may grow (`docs/spec/10-limits.md`).

/// Limits on nodes: one set for those who write, a wider one for replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes in a space, those in the trash included.
    pub nodes: u64,
    /// Children of a folder. Only a node that is new or comes from another folder needs room.
    pub children: u64,
    /// Levels below ROOT; a child of ROOT is on level 1. What is below a moved folder counts; a node that stays in its
    /// folder is not asked.
    pub depth: u64,
    /// Live versions of a file.
    pub versions: usize,
}

/// What a writer of ours keeps to: checked before signing.
pub const WRITER: Limits = Limits { nodes: 5_000_000, children: 250_000, depth: 256, versions: 64 };

/// What replay keeps to: an operation beyond it has no effect.
pub const REPLAY: Limits = Limits { nodes: 80_000_000, children: 4_000_000, depth: 512, versions: 1_024 };
