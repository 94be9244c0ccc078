//! Texts that a person reads, held in files: a change of a sentence is seen in review.

use std::path::Path;

/// Compares a text with `tests/snapshots/NAME`, or writes it there when `LOCKER_UPDATE_SNAPSHOTS` is set.
///
/// # Panics
/// If they differ or there is no such file.
#[track_caller]
pub fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var_os("LOCKER_UPDATE_SNAPSHOTS").is_some() {
        crate::files::write(&path, text.as_bytes());
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = kept.lines().zip(text.lines()).position(|(a, b)| a != b);
    let line = differing.unwrap_or(kept.lines().count().min(text.lines().count()));
    assert!(
        kept == text,
        "{name} differs from line {} on.\nkept: {:?}\nnow:  {:?}\nIf the new text is right: LOCKER_UPDATE_SNAPSHOTS=1, and look at \
         the difference before you commit it.",
        line + 1,
        kept.lines().nth(line),
        text.lines().nth(line),
    );
}
