//! What is told of copies on other devices.

use crate::Rule;
use serde::{Deserialize, Serialize};

/// How many copies there are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Copies {
    /// How many are wanted.
    pub wanted: u32,
    /// How many the worst-off file has.
    pub least: u32,
    /// The same, counting only devices that gave a proof within seven days. A proof is a sample: it counts for all that
    /// its device says it holds.
    #[serde(default)]
    pub proved: u32,
    /// When the last proof came of the one whose last proof is oldest, of the devices counted there; unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_proof: Option<u64>,
    /// Files with fewer than wanted.
    pub files_at_risk: u64,
    /// How many replicas say that they hold the pack which the fewest of them say they hold. A word; what they proved is
    /// counted above.
    #[serde(default)]
    pub said: u32,
}

/// What `free` let go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Freed {
    /// Files of which nothing is left here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the disk that were given back.
    pub freed_bytes: u64,
    /// Packs for which other devices were asked: what nothing stood in the way of here.
    #[serde(default)]
    pub asked: u64,
    /// Proofs that other devices gave for it just now.
    pub proofs: u64,
    /// How many devices gave them.
    pub holders: u64,
    /// Files that stay here, or of which something does.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// The first of these, and why.
    pub kept: Vec<Unfreed>,
}

/// A file that `free` left here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unfreed {
    /// Where it is.
    pub path: String,
    /// Why it stays: the end of a sentence.
    pub reason: String,
}

/// What `pin` asked for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Pinned {
    /// Files at and below the path.
    pub files: u64,
    /// Bytes that are fetched for them.
    pub wanted_bytes: u64,
}

/// What this device keeps of the content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleTold {
    /// The rule.
    pub rule: Rule,
    /// What is kept whatever the rule is: paths, empty for everything.
    pub pinned: Vec<String>,
    /// What is here against the rule, and why, as a sentence. Absent if nothing is known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
}

/// What a change of the rule came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleSet {
    /// The rule that holds now.
    #[serde(flatten)]
    pub rule: RuleTold,
    /// What was let go by it, and what was not.
    pub freed: Freed,
}

/// What `audit` found of one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Audit {
    /// The device, hexadecimal.
    pub device: String,
    /// Proofs that it gave.
    pub proved: u64,
    /// Questions that it answered wrongly or refused: one ends the asking.
    pub failed: u64,
    /// Questions that it did not answer.
    pub missed: u64,
}
