//! What checks of other devices' copies gave (`docs/spec/08-at-rest.md`, "Tables").

use locker_crypto::id::{PackHash, VerifyingKey};

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
    /// The question that it did not answer, until it does or need not.
    pub silence: Option<Silence>,
}

/// A question about a pack that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The pack.
    pub pack: PackHash,
    /// Its length in bytes.
    pub len: u32,
    /// The bytes that were asked for: the first, and the one behind the last.
    pub parts: [[u32; 2]; 2],
    /// How often there was no answer to it, far enough apart.
    pub misses: u32,
    /// When that was last, unix seconds.
    pub last_s: u64,
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
    let Audited { proved_s, failed_s, misses, proofs, set_back_s, silence } = audited;
    let mut value = Vec::with_capacity(100);
    value.extend_from_slice(&proved_s.to_le_bytes());
    value.extend_from_slice(&failed_s.to_le_bytes());
    value.extend_from_slice(&misses.to_le_bytes());
    value.extend_from_slice(&proofs.to_le_bytes());
    value.extend_from_slice(&set_back_s.to_le_bytes());
    if let Some(Silence { pack, len, parts, misses, last_s }) = silence {
        value.extend_from_slice(&pack.0);
        for number in [len, &parts[0][0], &parts[0][1], &parts[1][0], &parts[1][1], misses] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        value.extend_from_slice(&last_s.to_le_bytes());
    }
    txn.put(AUDITS, device.as_bytes(), &value);
}

fn decode(value: &[u8]) -> Option<Audited> {
    let (proved, rest) = value.split_first_chunk()?;
    let (failed, rest) = rest.split_first_chunk()?;
    let (misses, rest) = rest.split_first_chunk()?;
    let (proofs, rest) = rest.split_first_chunk()?;
    // These two were added later.
    let (set_back_s, rest) = match rest.split_first_chunk() {
        Some((set_back, rest)) => (u64::from_le_bytes(*set_back), rest),
        None => (0, rest),
    };
    let silence = if rest.is_empty() { None } else { Some(decode_silence(rest)?) };
    Some(Audited {
        proved_s: u64::from_le_bytes(*proved),
        failed_s: u64::from_le_bytes(*failed),
        misses: u32::from_le_bytes(*misses),
        proofs: u64::from_le_bytes(*proofs),
        set_back_s,
        silence,
    })
}

fn decode_silence(value: &[u8]) -> Option<Silence> {
    let (pack, mut rest) = value.split_first_chunk()?;
    let mut numbers = [0; 6];
    for number in &mut numbers {
        let (next, behind) = rest.split_first_chunk()?;
        (*number, rest) = (u32::from_le_bytes(*next), behind);
    }
    let [len, first, first_end, second, second_end, misses] = numbers;
    let parts = [[first, first_end], [second, second_end]];
    let last_s = u64::from_le_bytes(rest.try_into().ok()?);
    let is_in_pack = parts.iter().all(|[from, to]| from <= to && *to <= len);
    is_in_pack.then_some(Silence { pack: PackHash(*pack), len, parts, misses, last_s })
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
        let silence =
            Silence { pack: PackHash([6; 32]), len: 90, parts: [[7, 8], [9, 90]], misses: 10, last_s: 11 };
        let audited =
            Audited { proved_s: 1, failed_s: 2, misses: 3, proofs: 4, set_back_s: 5, silence: Some(silence) };
        let heard = Audited { silence: None, ..audited };
        let other = VerifyingKey([2; 32]);
        store
            .write::<_, StoreError>(|txn| {
                put(txn, &device, &audited);
                put(txn, &other, &audited);
                put(txn, &other, &heard);
                Ok(())
            })
            .unwrap();
        drop(store);
        let store = reopen(&place.home).unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(of(&snapshot, &device).unwrap(), audited);
        assert_eq!(of(&snapshot, &other).unwrap(), heard);
        assert_eq!(of(&snapshot, &VerifyingKey([3; 32])).unwrap(), Audited::default());
    }

    #[test]
    fn rows_of_before_are_read_and_cut_ones_are_not() {
        assert_eq!(decode(&[0; 28]), Some(Audited::default()));
        assert_eq!(decode(&[0; 36]), Some(Audited::default()));
        for len in [0, 27, 29, 35, 37, 99, 101] {
            assert_eq!(decode(&vec![0; len]), None, "{len}");
        }
        assert!(decode(&[0; 100]).unwrap().silence.is_some());
        // Bytes that are asked for lie in the pack, and end behind where they begin.
        let mut value = [0; 100];
        value[72] = 1;
        assert_eq!(decode(&value), None);
        value[76] = 1;
        assert_eq!(decode(&value), None);
        value[68] = 1;
        assert!(decode(&value).unwrap().silence.is_some());
    }
}
