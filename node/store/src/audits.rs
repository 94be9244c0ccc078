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
    /// How many proofs it gave in all, or since it was set back.
    pub proofs: u64,
    /// When it was found to have less than it had, unix seconds; 0 if it never was, or gave a proof since.
    pub set_back_s: u64,
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
    let Audited { proved_s, failed_s, misses, proofs, set_back_s } = audited;
    let mut value = Vec::with_capacity(36);
    value.extend_from_slice(&proved_s.to_le_bytes());
    value.extend_from_slice(&failed_s.to_le_bytes());
    value.extend_from_slice(&misses.to_le_bytes());
    value.extend_from_slice(&proofs.to_le_bytes());
    value.extend_from_slice(&set_back_s.to_le_bytes());
    txn.put(AUDITS, device.as_bytes(), &value);
}

fn decode(value: &[u8]) -> Option<Audited> {
    let (proved, rest) = value.split_first_chunk()?;
    let (failed, rest) = rest.split_first_chunk()?;
    let (misses, rest) = rest.split_first_chunk()?;
    let (proofs, rest) = rest.split_first_chunk()?;
    // The last was added later.
    let set_back_s = if rest.is_empty() { 0 } else { u64::from_le_bytes(rest.try_into().ok()?) };
    Some(Audited {
        proved_s: u64::from_le_bytes(*proved),
        failed_s: u64::from_le_bytes(*failed),
        misses: u32::from_le_bytes(*misses),
        proofs: u64::from_le_bytes(*proofs),
        set_back_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_kit::{Place, begin, reopen};

    #[test]
    fn what_is_known_of_a_device_outlives_the_process() {
        let place = Place::new();
        let store = begin(&place.home);
        let device = VerifyingKey([1; 32]);
        let audited = Audited { proved_s: 1, failed_s: 2, misses: 3, proofs: 4, set_back_s: 5 };
        store
            .write::<_, StoreError>(|txn| {
                put(txn, &device, &audited);
                Ok(())
            })
            .unwrap();
        drop(store);
        let store = reopen(&place.home).unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(of(&snapshot, &device).unwrap(), audited);
        assert_eq!(of(&snapshot, &VerifyingKey([2; 32])).unwrap(), Audited::default());
    }

    #[test]
    fn rows_of_before_are_read_and_cut_ones_are_not() {
        assert_eq!(decode(&[0; 28]), Some(Audited::default()));
        assert_eq!(decode(&[0; 36]), Some(Audited::default()));
        for len in [0, 27, 29, 35, 37] {
            assert_eq!(decode(&vec![0; len]), None, "{len}");
        }
    }
}
