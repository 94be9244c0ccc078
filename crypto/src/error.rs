//! The named refusals of the formats (`docs/spec/01-conventions.md`, "Errors").
//!
//! One reason, one name: results, local logs and test vectors speak of the same list. A stranger never sees any of
//! these; towards a peer every refusal has one face.

use std::fmt;

/// Why bytes, an operation or a request were refused.
///
/// The variants are the whole closed list of `docs/spec/01-conventions.md`; [`Refusal::code`] gives the name that
/// logs, vectors and `--json` output carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Layout or encoding is not the one allowed form.
    Canon,
    /// Over a limit.
    Limit,
    /// Known magic, unknown version: made by a newer program.
    Version,
    /// Bytes do not match a BLAKE3 hash.
    Hash,
    /// The key commitment of a chunk does not match its key.
    Commit,
    /// An authentication tag is wrong.
    Tag,
    /// Padding is not as prescribed.
    Pad,
    /// A signature is wrong.
    Sig,
    /// A key is invalid or weak, or differs from the expected one.
    Key,
    /// The links of a chain do not fit.
    Chain,
    /// Outside a time window, or a clock that does not increase.
    Time,
    /// Outside the space or the folder.
    Scope,
    /// A right or role is missing.
    Rights,
    /// Delegated too deep.
    Depth,
    /// Token or audience revoked.
    Revoked,
    /// The token is not in the share register.
    Unregistered,
    /// Epoch unknown, or its secret does not match its id.
    Epoch,
    /// A second entry with one (author, seq).
    Fork,
    /// This same peer offers less than it did before.
    Rollback,
    /// An earlier entry is missing, or the author is not known yet.
    Gap,
    /// Refused name.
    Name,
    /// The move would make a ring.
    Cycle,
    /// The operation names a node or parent that is missing, of another kind, or knowingly in the trash.
    Node,
    /// A trash operation met something that its author did not know.
    Fresh,
    /// Entry of a removed author above its frontier, or outside a cut.
    Frontier,
    /// Over quota.
    Quota,
    /// Another party than the token names.
    Audience,
    /// Proof of possession wrong.
    Pop,
}

impl Refusal {
    /// Returns the stable name, `E_CANON` and so on.
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::Canon => "E_CANON",
            Refusal::Limit => "E_LIMIT",
            Refusal::Version => "E_VERSION",
            Refusal::Hash => "E_HASH",
            Refusal::Commit => "E_COMMIT",
            Refusal::Tag => "E_TAG",
            Refusal::Pad => "E_PAD",
            Refusal::Sig => "E_SIG",
            Refusal::Key => "E_KEY",
            Refusal::Chain => "E_CHAIN",
            Refusal::Time => "E_TIME",
            Refusal::Scope => "E_SCOPE",
            Refusal::Rights => "E_RIGHTS",
            Refusal::Depth => "E_DEPTH",
            Refusal::Revoked => "E_REVOKED",
            Refusal::Unregistered => "E_UNREGISTERED",
            Refusal::Epoch => "E_EPOCH",
            Refusal::Fork => "E_FORK",
            Refusal::Rollback => "E_ROLLBACK",
            Refusal::Gap => "E_GAP",
            Refusal::Name => "E_NAME",
            Refusal::Cycle => "E_CYCLE",
            Refusal::Node => "E_NODE",
            Refusal::Fresh => "E_FRESH",
            Refusal::Frontier => "E_FRONTIER",
            Refusal::Quota => "E_QUOTA",
            Refusal::Audience => "E_AUDIENCE",
            Refusal::Pop => "E_POP",
        }
    }

    /// Returns what the refusal means, as the end of a sentence ("refused: …").
    pub const fn meaning(self) -> &'static str {
        match self {
            Refusal::Canon => "the bytes are not in the one allowed form",
            Refusal::Limit => "it is over a limit",
            Refusal::Version => "it was made by a newer program",
            Refusal::Hash => "the bytes do not match their hash",
            Refusal::Commit => "the key does not belong to these bytes",
            Refusal::Tag => "the bytes were changed or the key is another one",
            Refusal::Pad => "the padding is not as prescribed",
            Refusal::Sig => "the signature is wrong",
            Refusal::Key => "the key is invalid, weak or not the expected one",
            Refusal::Chain => "the links of the chain do not fit together",
            Refusal::Time => "it is outside its time window, or its clock does not increase",
            Refusal::Scope => "it is outside its space or folder",
            Refusal::Rights => "a right is missing",
            Refusal::Depth => "it was delegated too often",
            Refusal::Revoked => "it was revoked",
            Refusal::Unregistered => "it is not in the share register",
            Refusal::Epoch => "the epoch is unknown or its secret does not match",
            Refusal::Fork => "the author wrote two different entries with one number",
            Refusal::Rollback => "this peer offers less than it did before",
            Refusal::Gap => "an earlier entry is missing",
            Refusal::Name => "the name is not allowed",
            Refusal::Cycle => "a folder cannot be moved into itself",
            Refusal::Node => "it names something that is missing, of another kind or in the trash",
            Refusal::Fresh => "it met a change that its author did not know",
            Refusal::Frontier => "its author was removed before it",
            Refusal::Quota => "it is over the quota",
            Refusal::Audience => "it names another party",
            Refusal::Pop => "the proof of possession is wrong",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.meaning(), self.code())
    }
}

impl std::error::Error for Refusal {}
