//! The file that keeps the key of the node: 32 bytes as hex and a line end, readable by its owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use locker_crypto::secret::SigningSeed;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Reads the key, or makes it if there is no file yet. A file that is there and wrong is never written over.
///
/// # Errors
/// If the file cannot be read or written, or holds something else.
pub(crate) fn load_or_make(file: &Path, dice: &mut (impl CryptoRng + ?Sized)) -> io::Result<SigningSeed> {
    match File::open(file) {
        Ok(open) => load(open),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(file, dice),
        Err(error) => Err(error),
    }
}

fn load(file: File) -> io::Result<SigningSeed> {
    let mut text = Zeroizing::new(String::new());
    file.take(128).read_to_string(&mut text)?;
    let mut seed = Zeroizing::new([0; SigningSeed::LEN]);
    hex::decode_to_slice(text.trim_end(), &mut seed[..])
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the key file does not hold a key"))?;
    Ok(SigningSeed::new(*seed))
}

fn make(path: &Path, dice: &mut (impl CryptoRng + ?Sized)) -> io::Result<SigningSeed> {
    let seed = SigningSeed::random(dice);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(hex::encode(seed.expose()));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut dice = rand_core::UnwrapErr(getrandom::SysRng);
        let made = load_or_make(&path, &mut dice).unwrap();
        assert!(load_or_make(&path, &mut dice).unwrap() == made);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(load_or_make(&path, &mut dice).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"nonsense");
    }
}
