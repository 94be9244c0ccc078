//! What a holder is asked for as a proof: the commitment of a random chunk of a pack and one random segment of it, as a
//! reader asks for them.

use std::ops::Range;

use locker_crypto::chunk::COMMITMENT_LEN;
use locker_crypto::id::PackHash;
use locker_store::index::Loc;
use rand_core::Rng;

/// Sealed bytes of a whole segment.
const SEGMENT: u32 = 65_536 + 16;

/// A question about one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The pack.
    pub(crate) pack: PackHash,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// The bytes that are asked for.
    pub(crate) parts: [Range<u32>; 2],
}

impl Challenge {
    /// Draws a question; nothing for a pack whose chunks are not known.
    pub(crate) fn draw(pack: PackHash, len: u32, locs: &[Loc], dice: &mut dyn Rng) -> Option<Self> {
        let sizes: u64 = locs.iter().map(|loc| u64::from(loc.sealed_len)).sum();
        // By bytes and not by chunks: every byte of the pack is as likely to be asked for.
        let mut at = u32::try_from(dice.next_u64() % sizes.max(1)).ok()?;
        let mut offset = 0_u32;
        for loc in locs {
            if at < loc.sealed_len {
                let head = COMMITMENT_LEN as u32;
                let end = offset.checked_add(loc.sealed_len).filter(|end| *end <= len)?;
                let number = at.saturating_sub(head) / SEGMENT;
                let start = offset + head + number * SEGMENT;
                let parts = [offset..offset + head, start..end.min(start + SEGMENT)];
                return (start < end).then_some(Self { pack, len, parts });
            }
            at -= loc.sealed_len;
            offset = offset.checked_add(loc.sealed_len)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use locker_crypto::id::ChunkTag;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn loc(sealed_len: u32) -> Loc {
        Loc { tag: ChunkTag([0; 16]), sealed_len }
    }

    #[test]
    fn every_segment_of_every_chunk_is_asked_for_sometimes_and_nothing_else() {
        let locs = [loc(32 + 17), loc(32 + 3 * SEGMENT), loc(32 + SEGMENT + 16 + 1)];
        let total: u32 = locs.iter().map(|loc| loc.sealed_len).sum();
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        let mut seen = BTreeSet::new();
        for _ in 0..400_000 {
            let asked = Challenge::draw(PackHash([1; 32]), total, &locs, &mut dice).unwrap();
            let [head, segment] = asked.parts;
            seen.insert((head.start, head.end, segment.start, segment.end));
        }
        let (first, second) = (32 + 17, 32 + 3 * SEGMENT);
        let mut expected = BTreeSet::from([(0, 32, 32, first)]);
        for number in 0..3 {
            let start = first + 32 + number * SEGMENT;
            expected.insert((first, first + 32, start, start + SEGMENT));
        }
        let last = first + second;
        expected.insert((last, last + 32, last + 32, last + 32 + SEGMENT));
        expected.insert((last, last + 32, last + 32 + SEGMENT, total));
        assert_eq!(seen, expected);
    }

    #[test]
    fn of_a_pack_without_chunks_or_a_wrong_length_nothing_is_asked() {
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        assert_eq!(Challenge::draw(PackHash([1; 32]), 4_096, &[], &mut dice), None);
        assert_eq!(Challenge::draw(PackHash([1; 32]), 48, &[loc(49)], &mut dice), None);
    }
}
