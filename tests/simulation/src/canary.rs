//! The marked plaintext: every name and every content of a simulation has the mark in it, and no byte of a disk or a wire
//! may show it.

use std::fs;
use std::path::Path;

use memchr::memmem;

/// What stands in every name and content. Long enough never to be met by chance.
pub const MARK: &[u8] = b"cAnArY-7q3Zx";

/// Whether these bytes show it.
pub fn shows(bytes: &[u8]) -> bool {
    memmem::find(bytes, MARK).is_some()
}

/// The file below a folder that shows it in its bytes or its name, if one does.
///
/// # Panics
/// If the folder cannot be read.
pub fn find_in(folder: &Path) -> Option<String> {
    for entry in fs::read_dir(folder).expect("a home can be listed") {
        let path = entry.expect("a home can be listed").path();
        let shown = path.display().to_string();
        if shows(shown.as_bytes()) {
            return Some(shown);
        }
        let found = if path.is_dir() {
            find_in(&path)
        } else {
            // A socket, or a file that went away meanwhile, shows nothing.
            fs::read(&path).is_ok_and(|bytes| shows(&bytes)).then_some(shown)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
