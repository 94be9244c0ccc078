//! The sample media: real photographs, films, music and books, brought by `tests/media/fetch`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the sample media; fetches them if they are not in the cache.
///
/// # Panics
/// If they cannot be fetched, with what `tests/media/fetch` said.
pub fn folder() -> PathBuf {
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/fetch");
    let told = Command::new(&fetch).arg("--quiet").output();
    let told = told.unwrap_or_else(|e| panic!("cannot run {}: {e}; it needs python3", fetch.display()));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    PathBuf::from(String::from_utf8(told.stdout).unwrap().trim_end())
}
