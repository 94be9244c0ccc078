//! What checks of other devices' copies gave (`docs/spec/08-at-rest.md`, "Tables").

use locker_crypto::id::VerifyingKey;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::AUDITS;
use crate::transaction::WriteTxn;

/// What is known of a device that says it holds packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// When it last proved that it holds what it was asked for, unix seconds; 0 if never.
    pub proved_s: u64,
    /// When it last failed to, unix seconds; 0 if never.
    pub failed_s: u64,
    /// How often in a row it did not answer.
    pub misses: u32,
    /// How many proofs it gave in all.
    pub proofs: u64,
}

/// What is known of a device; nothing, if it was never asked.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn of<R: Reads>(reads: &R, device: &VerifyingKey) -> Result<Audited, StoreError> {
    let Some(value) = reads.view().get(AUDITS, device.as_bytes())? else { return Ok(Audited::default()) };
    decode(&value).ok_or_else(|| StoreError::corrupt("what checks of a device gave"))
}

/// Writes what is known of a device.
pub fn put(txn: &mut WriteTxn<'_>, device: &VerifyingKey, audited: &Audited) {
    let Audited { proved_s, failed_s, misses, proofs } = audited;
    let mut value = Vec::with_capacity(28);
    value.extend_from_slice(&proved_s.to_le_bytes());
    value.extend_from_slice(&failed_s.to_le_bytes());
    value.extend_from_slice(&misses.to_le_bytes());
    value.extend_from_slice(&proofs.to_le_bytes());
    txn.put(AUDITS, device.as_bytes(), &value);
}

fn decode(value: &[u8]) -> Option<Audited> {
    let (proved, rest) = value.split_first_chunk()?;
    let (failed, rest) = rest.split_first_chunk()?;
    let (misses, rest) = rest.split_first_chunk()?;
    Some(Audited {
        proved_s: u64::from_le_bytes(*proved),
        failed_s: u64::from_le_bytes(*failed),
        misses: u32::from_le_bytes(*misses),
        proofs: u64::from_le_bytes(rest.try_into().ok()?),
    })
}
