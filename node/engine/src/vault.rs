//! How the vault key of this device is closed (`docs/spec/08-at-rest.md`, "Vault").

use std::path::Path;

use locker_crypto::Refusal;
use locker_crypto::secret::VaultKey;
use locker_crypto::vault;
use locker_store::Home;
use zeroize::Zeroizing;

use crate::report::Secret;
use crate::{Env, Error};

/// How a new vault is to be closed.
pub enum Vault {
    /// The key lies in a file that only this user can read.
    File,
    /// The key is wrapped under a passphrase.
    Passphrase(Secret),
}

/// File of the bare key: magic, then 32 bytes.
const KEY_FILE: &str = "key";
const KEY_MAGIC: &[u8; 4] = b"LKK1";
/// File of the key wrapped under a passphrase (`LKV1`).
const WRAP_FILE: &str = "passphrase";

/// Draws a vault key and closes it.
pub(crate) fn create(home: &Home, kind: &Vault, env: &Env) -> Result<VaultKey, Error> {
    let key = VaultKey::random(&mut **env.dice());
    match kind {
        Vault::File => {
            let file = Zeroizing::new([KEY_MAGIC.as_slice(), key.expose()].concat());
            home.write_vault(KEY_FILE, &file)?;
        }
        Vault::Passphrase(passphrase) => {
            let wrap =
                vault::wrap(&key, passphrase.expose(), vault::StretchCost::COMPUTER, &mut **env.dice())
                    .map_err(Error::Refused)?;
            home.write_vault(WRAP_FILE, &wrap)?;
        }
    }
    Ok(key)
}

/// Whether this is the passphrase with which the locker in `home` is closed. It can be asked while another process has the
/// locker open.
///
/// Cost: Argon2id once, if the locker is closed with a passphrase.
pub fn is_passphrase_of(home: &Path, passphrase: &Secret) -> bool {
    let folder = home.join("vault");
    !folder.join(KEY_FILE).exists()
        && std::fs::read(folder.join(WRAP_FILE))
            .is_ok_and(|wrap| vault::unwrap(passphrase.expose(), &wrap).is_ok())
}

/// Opens the vault; `ask` is called for the passphrase if one is needed.
///
/// # Errors
/// [`Error::PassphraseWrong`], what `ask` gives, and [`Error::Integrity`] for a damaged or missing vault.
pub(crate) fn open(home: &Home, ask: &mut dyn FnMut() -> Result<Secret, Error>) -> Result<VaultKey, Error> {
    if let Some(file) = home.read_vault(KEY_FILE)? {
        let file = Zeroizing::new(file);
        return match file.split_first_chunk::<4>() {
            Some((KEY_MAGIC, key)) => VaultKey::from_slice(key).map_err(damaged),
            Some((magic, _)) if magic.starts_with(b"LKK") => {
                Err(Error::NewerFormat { found: String::from_utf8_lossy(magic).into_owned() })
            }
            _ => Err(damaged(Refusal::Canon)),
        };
    }
    let wrap = home.read_vault(WRAP_FILE)?.ok_or_else(|| damaged(Refusal::Canon))?;
    vault::unwrap(ask()?.expose(), &wrap).map_err(|why| match why {
        Refusal::Tag => Error::PassphraseWrong,
        other => damaged(other),
    })
}

/// Says how the vault is closed.
pub(crate) fn kind(home: &Home) -> Result<&'static str, Error> {
    Ok(if home.vault_files()?.iter().any(|name| name == KEY_FILE) { "file" } else { "passphrase" })
}

fn damaged(why: Refusal) -> Error {
    match why {
        Refusal::Version => Error::NewerFormat { found: "of the vault".into() },
        why => Error::damaged("the vault of this device", why),
    }
}
