//! From a disk into the tree: a name of our model for every name a disk may have.

use unicode_normalization::UnicodeNormalization;

use super::{check, device_stem, is_refused, mark_of, starts_with_drive, with_mark};

/// A name taken in from a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The name in the tree; always allowed.
    pub name: String,
    /// The bytes on disk, if they differ: to be kept under the meta key `orig`, and written back by `get` and `leave`.
    pub orig: Option<Vec<u8>>,
}

/// Maps the bytes of a file name to a name of the tree.
///
/// A good name is only brought to NFC. Of others each refused character, and each byte that is not UTF-8, becomes
/// `_`; a device name gets `_` after its stem; and ` ~` with 4 hexadecimal digits of the hash of the bytes is put
/// before the extension.
pub fn import(bytes: &[u8]) -> Imported {
    let name = match std::str::from_utf8(bytes).map(|text| text.nfc().collect::<String>()) {
        Ok(name) if check(&name).is_ok() => name,
        Ok(name) => with_mark(&repair(&name), &mark_of(bytes)),
        Err(_) => with_mark(&repair(&replace_foreign(bytes).nfc().collect::<String>()), &mark_of(bytes)),
    };
    debug_assert!(check(&name).is_ok(), "a mapped name is allowed");
    let orig = (name.as_bytes() != bytes).then(|| bytes.to_vec());
    Imported { name, orig }
}

/// Replaces each byte that is not UTF-8.
fn replace_foreign(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '_'));
        text
    })
}

/// Replaces what the model refuses, so that only the length may still be too great.
fn repair(name: &str) -> String {
    let mut name: String = name.chars().map(|c| if is_refused(c) { '_' } else { c }).collect();
    if let Some(last) = name.pop() {
        name.push(if matches!(last, ' ' | '.') { '_' } else { last });
    }
    if starts_with_drive(&name) {
        name = name.replacen(':', "_", 1);
    }
    if let Some(stem) = device_stem(&name) {
        name.insert(stem, '_');
    }
    if name.is_empty() { "_".to_owned() } else { name }
}
