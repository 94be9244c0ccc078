//! What a holder is asked for as a proof: what somebody asks for who reads up to 64 KiB at a random place, the commitment of a
//! chunk of a pack and the segments that cover these bytes.

use std::ops::Range;

use locker_crypto::chunk::{COMMITMENT_LEN, SegmentRange, plain_len};
use locker_crypto::id::PackHash;
use locker_store::index::Loc;
use rand_core::Rng;

/// Most bytes of plaintext that a question is about. One segment always, and nobody reads so: the holder would know that he is
/// being looked at.
const READ_MAX: u32 = 65_536;

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
        let count = 1 + dice.next_u32() % READ_MAX;
        let mut offset = 0_u32;
        for loc in locs {
            let end = offset.checked_add(loc.sealed_len).filter(|end| *end <= len)?;
            if at < loc.sealed_len {
                let plain = plain_len(loc.sealed_len)?;
                let from = u64::from(at) * u64::from(plain) / u64::from(loc.sealed_len);
                let from = u32::try_from(from).ok()?;
                let to = from.saturating_add(count).min(plain);
                let sealed = SegmentRange::covering(plain, from, to)?.sealed();
                let head = offset..offset + COMMITMENT_LEN as u32;
                return Some(Self { pack, len, parts: [head, offset + sealed.start..offset + sealed.end] });
            }
            at -= loc.sealed_len;
            offset = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use locker_crypto::chunk::sealed_len;
    use locker_crypto::id::ChunkTag;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    /// Sealed bytes of a whole segment.
    const SEGMENT: u32 = 65_536 + 16;

    fn loc(sealed_len: u32) -> Loc {
        Loc { tag: ChunkTag([0; 16]), sealed_len }
    }

    #[test]
    fn every_segment_of_every_chunk_is_asked_for_sometimes_and_nothing_else() {
        let locs = [loc(32 + 17), loc(32 + 3 * SEGMENT), loc(32 + SEGMENT + 16 + 1_000)];
        let total: u32 = locs.iter().map(|loc| loc.sealed_len).sum();
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        let mut seen = BTreeSet::new();
        for _ in 0..400_000 {
            let asked = Challenge::draw(PackHash([1; 32]), total, &locs, &mut dice).unwrap();
            let [head, segments] = asked.parts;
            seen.insert((head.start, head.end, segments.start, segments.end));
        }
        let (first, second) = (32 + 17, 32 + 3 * SEGMENT);
        let mut expected = BTreeSet::from([(0, 32, 32, first)]);
        // One segment, or two that lie side by side.
        for (from, to) in [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)] {
            let at = first + 32;
            expected.insert((first, first + 32, at + from * SEGMENT, at + to * SEGMENT));
        }
        let last = first + second;
        expected.insert((last, last + 32, last + 32, last + 32 + SEGMENT));
        expected.insert((last, last + 32, last + 32 + SEGMENT, total));
        expected.insert((last, last + 32, last + 32, total));
        assert_eq!(seen, expected);
    }

    #[test]
    fn of_a_pack_without_chunks_or_a_wrong_length_nothing_is_asked() {
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        assert_eq!(Challenge::draw(PackHash([1; 32]), 4_096, &[], &mut dice), None);
        assert_eq!(Challenge::draw(PackHash([1; 32]), 48, &[loc(49)], &mut dice), None);
    }

    /// What a holder sees of one request: how many segments, at which of the chunk, whether to its end, where in the pack.
    fn features([head, segments]: &[Range<u32>; 2], locs: &[Loc], total: u32) -> [u32; 4] {
        let number = (segments.start - head.end) / SEGMENT;
        let mut end = 0;
        let chunk = locs.iter().find(|loc| {
            end += loc.sealed_len;
            end > head.start
        });
        let is_end = chunk.is_some_and(|chunk| segments.end == head.start + chunk.sealed_len);
        [
            (segments.end - segments.start).div_ceil(SEGMENT),
            number.min(15),
            is_end.into(),
            segments.start / (total / 8 + 1),
        ]
    }

    /// T55: a holder does not tell questions from reads of 1 byte to 64 KiB at random places of files. Method: as many of each, as
    /// he sees them; half of them teach a table that counts every combination of what can be seen, which judges the other
    /// half: right in at most 52 of 100. One segment always, as it once was, is told in more than 65.
    #[test]
    fn t55_questions_look_like_reads() {
        let mut dice = ChaCha8Rng::seed_from_u64(55);
        let sizes = [900_000, 2_000_000, 70_000, 1_300_000, 600_000, 1_900_000, 1_000_000];
        let locs: Vec<Loc> = sizes.iter().map(|len| loc(sealed_len(*len).unwrap())).collect();
        let total: u32 = locs.iter().map(|loc| loc.sealed_len).sum();
        let plain: u32 = sizes.iter().sum();
        // The chunks are those of one file, in their order: what goes beyond a chunk is read from the next.
        let read = |dice: &mut ChaCha8Rng, seen: &mut Vec<[u32; 4]>| {
            let (mut from, count) = (dice.next_u32() % plain, 1 + dice.next_u32() % READ_MAX);
            let mut to = from.saturating_add(count).min(plain);
            let mut offset = 0;
            for (len, loc) in sizes.iter().zip(&locs) {
                if from < *len && to > 0 {
                    let segments = SegmentRange::covering(*len, from, to.min(*len)).unwrap().sealed();
                    let parts = [offset..offset + 32, offset + segments.start..offset + segments.end];
                    seen.push(features(&parts, &locs, total));
                }
                (from, to) = (from.saturating_sub(*len), to.saturating_sub(*len));
                offset += loc.sealed_len;
                if to == 0 {
                    return;
                }
            }
        };
        let (mut reads, mut questions) = (Vec::new(), Vec::new());
        while reads.len() < 40_000 {
            read(&mut dice, &mut reads);
        }
        while questions.len() < reads.len() {
            let asked = Challenge::draw(PackHash([1; 32]), total, &locs, &mut dice).unwrap();
            questions.push(features(&asked.parts, &locs, total));
        }
        let accuracy = |questions: &[[u32; 4]]| {
            let mut table: BTreeMap<[u32; 4], i64> = BTreeMap::new();
            let half = reads.len() / 2;
            reads[..half].iter().for_each(|seen| *table.entry(*seen).or_default() -= 1);
            questions[..half].iter().for_each(|seen| *table.entry(*seen).or_default() += 1);
            let judged = |seen: &[u32; 4]| table.get(seen).copied().unwrap_or(0) > 0;
            let right = reads[half..].iter().filter(|seen| !judged(seen)).count()
                + questions[half..].iter().filter(|seen| judged(seen)).count();
            right as f64 / (reads.len() - half + questions.len() - half) as f64
        };
        let seen = accuracy(&questions);
        assert!(seen <= 0.52, "{seen}");
        // The control: what asks for one segment always is told.
        let of_one: Vec<[u32; 4]> =
            questions.iter().map(|[_, number, end, place]| [1, *number, *end, *place]).collect();
        let told = accuracy(&of_one);
        assert!(told > 0.65, "{told}");
    }
}
