//! Values and row keys of the database.

use crate::Refusal;
use crate::aead::{self, TAG_LEN, XNONCE_LEN, XNonce};
use crate::derive::{Purpose, kdf};
use crate::id::ContentHash;
use crate::secret::{AeadKey, VaultKey};

/// What a stored value is longer than its plain text.
pub const VALUE_OVERHEAD: usize = XNONCE_LEN + TAG_LEN;

/// The "table" whose key hashes names; no real table may have this name.
const NAMES: &str = "names";

/// Seals the values of one table: nonce 24, then XChaCha20-Poly1305 under `KDF("db", VK, table)`, AD = table, a zero
/// byte, row key. A value that is moved to another row or table, or comes from another vault, does not open.
#[derive(Clone)]
pub struct TableKey {
    table: &'static str,
    key: AeadKey,
}

impl TableKey {
    /// Derives the key of a table.
    ///
    /// # Panics
    /// If the table is called `names` or its name holds a zero byte: both would let two keys or two rows collide.
    pub fn new(vault: &VaultKey, table: &'static str) -> Self {
        assert!(table != NAMES && !table.contains('\0'), "the table name {table:?} is taken or not allowed");
        Self { table, key: AeadKey::new(kdf(Purpose::Db, &[vault.expose(), table.as_bytes()])) }
    }

    /// Seals the value of row `key`. Draw the nonce at random for every write.
    pub fn seal(&self, nonce: &XNonce, key: &[u8], plain: &[u8]) -> Vec<u8> {
        aead::xseal_prefixed(self.key.expose(), nonce, &self.ad(key), plain)
    }

    /// Opens the value of row `key`.
    ///
    /// # Errors
    /// [`Refusal::Tag`] if it was not sealed for this row under this vault key, or a byte differs.
    pub fn open(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Refusal> {
        aead::xopen_prefixed(self.key.expose(), &self.ad(key), stored)
    }

    fn ad(&self, key: &[u8]) -> Vec<u8> {
        [self.table.as_bytes(), &[0], key].concat()
    }

    #[cfg(test)]
    pub(super) fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }
}

/// Hashes names for row keys: BLAKE3 keyed with `KDF("db", VK, "names")`, the first 16 bytes. Without the vault key
/// nobody can test a guess of a name.
#[derive(Clone)]
pub struct NameHash(AeadKey);

impl NameHash {
    /// Derives the key.
    pub fn new(vault: &VaultKey) -> Self {
        Self(AeadKey::new(kdf(Purpose::Db, &[vault.expose(), NAMES.as_bytes()])))
    }

    /// Hashes the bytes of a name.
    pub fn hash(&self, name: &[u8]) -> [u8; 16] {
        let full = blake3::keyed_hash(self.0.expose(), name);
        std::array::from_fn(|i| full.as_bytes()[i])
    }
}

/// Row keys of the dedup index: BLAKE3 keyed with `KDF("dedup-index", VK)` over the hash of a plain text. Without the
/// vault key nobody can test whether a known file is here.
#[derive(Clone)]
pub struct DedupIndexKey(AeadKey);

impl DedupIndexKey {
    /// Derives the key.
    pub fn new(vault: &VaultKey) -> Self {
        Self(AeadKey::new(kdf(Purpose::DedupIndex, &[vault.expose()])))
    }

    /// Returns the row key of a plain text with this hash.
    pub fn row(&self, plain: &ContentHash) -> [u8; 32] {
        *blake3::keyed_hash(self.0.expose(), plain.as_bytes()).as_bytes()
    }
}
