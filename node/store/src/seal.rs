//! The keys under which rows are sealed, derived from the vault key (`docs/spec/08-at-rest.md`, "Rows").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use locker_crypto::derive::{Purpose, kdf};
use locker_crypto::id::{ContentHash, SpaceTag};
use locker_crypto::secret::{AeadKey, VaultKey};
use locker_crypto::vault::DedupIndexKey;
use locker_crypto::{Refusal, aead};

use crate::tables::{KEYED_PATHS, KEYED_ROWS, TableName};

/// Seals the values of one table: nonce 24 || XChaCha20-Poly1305(KDF("db", VK, table), AD = table || 00 || key).
pub(crate) struct TableKey {
    key: AeadKey,
    table: String,
}

impl TableKey {
    fn new(vault: &VaultKey, table: String) -> Self {
        Self { key: AeadKey::new(kdf(Purpose::Db, &[vault.expose(), table.as_bytes()])), table }
    }

    fn ad(&self, key: &[u8]) -> Vec<u8> {
        [self.table.as_bytes(), &[0], key].concat()
    }

    /// Seals a value for its place.
    pub(crate) fn seal(&self, nonce: &[u8; 24], key: &[u8], plain: &[u8]) -> Vec<u8> {
        aead::xseal_prefixed(self.key.expose(), nonce, &self.ad(key), plain)
    }

    /// Opens a value read from its place.
    pub(crate) fn open(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Refusal> {
        aead::xopen_prefixed(self.key.expose(), &self.ad(key), stored)
    }
}

/// All keys below the vault key, derived when first used and wiped with the store.
pub(crate) struct Keys {
    vault: VaultKey,
    tables: Mutex<HashMap<TableName, Arc<TableKey>>>,
    rows: AeadKey,
    paths: AeadKey,
    files: DedupIndexKey,
}

impl Keys {
    pub(crate) fn new(vault: &VaultKey) -> Self {
        let keyed = |table: &str| AeadKey::new(kdf(Purpose::Db, &[vault.expose(), table.as_bytes()]));
        Self {
            vault: vault.clone(),
            tables: Mutex::default(),
            rows: keyed(KEYED_ROWS),
            paths: keyed(KEYED_PATHS),
            files: DedupIndexKey::new(vault),
        }
    }

    /// Returns the key of a table.
    pub(crate) fn table(&self, table: TableName) -> Arc<TableKey> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .entry(table)
            .or_insert_with(|| Arc::new(TableKey::new(&self.vault, table.text().into_owned())))
            .clone()
    }

    /// Returns the key of a table that the database itself names.
    pub(crate) fn table_named(&self, name: &str) -> TableKey {
        TableKey::new(&self.vault, name.to_owned())
    }

    /// Hashes what a catalog key must not show, for one space.
    pub(crate) fn keyed_row(&self, space: &SpaceTag, bytes: &[u8]) -> [u8; 16] {
        short(blake3::Hasher::new_keyed(self.rows.expose()).update(space.as_bytes()).update(bytes))
    }

    /// Hashes an absolute path: its folder, then all of it, eight bytes each, so that the files of a folder are
    /// neighbours. Two files of one folder with one key would only be read again each time.
    pub(crate) fn keyed_path(&self, path: &[u8]) -> [u8; 16] {
        let folder = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &path[..end]);
        let hash = |bytes| short(blake3::Hasher::new_keyed(self.paths.expose()).update(bytes));
        let (folder, all) = (hash(folder), hash(path));
        let mut key = all;
        key[..8].copy_from_slice(&folder[..8]);
        key
    }

    /// The dedup index key of a file (`docs/spec/03-content.md`).
    pub(crate) fn keyed_file(&self, content: &ContentHash) -> [u8; 32] {
        self.files.row(content)
    }
}

fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The catalog's table names are put together here, which the key of the foundation does not allow; the bytes are
    /// the same.
    #[test]
    fn values_are_sealed_as_the_vault_seals_them() {
        let vault = VaultKey::new([0x55; 32]);
        let ours = TableKey::new(&vault, "entries".into());
        let theirs = locker_crypto::vault::TableKey::new(&vault, "entries");
        let stored = ours.seal(&[0x13; 24], b"key-1", b"value");
        assert_eq!(stored, theirs.seal(&[0x13; 24], b"key-1", b"value"));
        assert_eq!(ours.open(b"key-1", &stored).as_deref(), Ok(b"value".as_slice()));
        assert_eq!(ours.open(b"key-2", &stored), Err(Refusal::Tag));
    }
}
