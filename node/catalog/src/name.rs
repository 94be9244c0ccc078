//! Names of nodes: which are allowed, which collide, how twins are shown (`docs/spec/05-tree.md`, "Names").
//!
//! Here names are judged and computed, never looked up: which names a folder holds is known by [`crate::tree`].
//! How names come in from a disk and go out to one is in [`import`](mod@import) and [`export`](mod@export).

mod export;
mod import;
#[cfg(test)]
pub(crate) mod tests;

use icu_casemap::CaseMapper;
use locker_crypto::Refusal;
use unicode_normalization::{UnicodeNormalization, is_nfc};

pub use self::export::{Disk, export, tagged};
pub use self::import::{Imported, import};

/// Longest name, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 255;

/// Checks that `name` may stand in the tree.
///
/// # Errors
/// [`Refusal::Name`] if it is empty, longer than [`NAME_LEN_MAX`], not in NFC, or of a form that some system would
/// misread as a path, a device or another text than it shows.
pub fn check(name: &str) -> Result<(), Refusal> {
    let fine = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name != "."
        && name != ".."
        && !name.chars().any(is_refused)
        && !name.ends_with([' ', '.'])
        && !starts_with_drive(name)
        && device_stem(name).is_none()
        && is_nfc(name);
    if fine { Ok(()) } else { Err(Refusal::Name) }
}

/// Whether no name may contain this character.
fn is_refused(c: char) -> bool {
    matches!(
        c,
        '/' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether the name begins like a drive, `C:`.
///
/// Drives have ASCII letters; and what replay refuses must not depend on the Unicode version of a program.
fn starts_with_drive(name: &str) -> bool {
    matches!(name.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', ..])
}

/// Returns the length of the part before the first dot if that is the name of a device.
fn device_stem(name: &str) -> Option<usize> {
    let before_dot = name.split_once('.').map_or(name, |(stem, _)| stem);
    let stem = before_dot.trim_end_matches(' ').to_ascii_uppercase();
    let is_device = match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")).is_some_and(|port| {
            let mut port = port.chars();
            matches!(port.next(), Some('1'..='9' | '¹' | '²' | '³')) && port.next().is_none()
        }),
    };
    is_device.then_some(before_dot.len())
}

/// Brings a typed name to the form of the model, NFC. Whether it is allowed is [`check`]'s to say.
pub fn normalize(name: &str) -> String {
    name.nfc().collect()
}

/// Returns what two names of one folder must not share: NFC of the full case folding of NFC.
///
/// Depends on the Unicode version of the program. It is no part of the state, only of how twins are shown.
pub fn collision_key(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let composed: String = name.nfc().collect();
    CaseMapper::new().fold_string(&composed).nfc().collect()
}

/// Splits a name into stem and extension; the extension starts at the last dot that is not the first character.
pub fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Returns the name with ` (number)` before its extension; with 0 the name itself.
pub fn numbered(name: &str, number: u32) -> String {
    if number == 0 {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    format!("{stem} ({number}){extension}")
}

/// Undoes [`numbered`]: returns the name and the number, from 2, that make `name`; `None` if nothing does.
///
/// No other name and number make it.
pub fn unnumbered(name: &str) -> Option<(String, u32)> {
    let (stem, extension) = split(name);
    let (stem, number) = stem.strip_suffix(')')?.rsplit_once(" (")?;
    let canonical = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|n| canonical && *n >= 2)?;
    let original = format!("{stem}{extension}");
    (numbered(&original, number) == name).then_some((original, number))
}

/// Puts `mark` before the extension, and shortens the stem (or, if there is too little of it, the whole) so that
/// the result fits [`NAME_LEN_MAX`].
fn with_mark(name: &str, mark: &str) -> String {
    let (stem, extension) = split(name);
    let (stem, extension) =
        if mark.len() + extension.len() < NAME_LEN_MAX { (stem, extension) } else { (name, "") };
    let room = NAME_LEN_MAX - mark.len() - extension.len();
    let stem = &stem[..stem.floor_char_boundary(room)];
    format!("{stem}{mark}{extension}")
}

/// Returns ` ~` and the first 4 hexadecimal digits of the hash of `original`: tells apart what a mapping made equal.
fn mark_of(original: &[u8]) -> String {
    let hash = blake3::hash(original);
    let [a, b, ..] = hash.as_bytes();
    format!(" ~{a:02x}{b:02x}")
}
