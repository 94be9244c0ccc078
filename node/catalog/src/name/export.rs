//! From the tree to a disk that dislikes more than the model does.

use std::borrow::Cow;

use super::{NAME_LEN_MAX, mark_of, with_mark};

/// What names a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Takes every name of the model.
    Plain,
    /// Does not take `: * ? " < > |`.
    Strict,
}

/// Returns the name under which a node shown as `name` is written to such a disk.
///
/// Disliked characters become `_`, and ` ~` with 4 hexadecimal digits of the hash of the name is put before the
/// extension. A numbered name that has grown past [`NAME_LEN_MAX`] is shortened in the same way.
pub fn export(name: &str, disk: Disk) -> Cow<'_, str> {
    let disliked = |c: char| disk == Disk::Strict && matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|');
    if !name.contains(disliked) && name.len() <= NAME_LEN_MAX {
        return Cow::Borrowed(name);
    }
    let replaced: String = name.chars().map(|c| if disliked(c) { '_' } else { c }).collect();
    Cow::Owned(with_mark(&replaced, &mark_of(name.as_bytes())))
}

/// Returns the name with its mark whatever it contains: for the second of two original names that are one to a
/// disk which does not see case.
pub fn tagged(name: &str) -> String {
    with_mark(name, &mark_of(name.as_bytes()))
}
