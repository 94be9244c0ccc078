//! Which chunks files refer to, in bounded memory: of very many chunks one range of tags after another.

use locker_crypto::id::ChunkTag;

/// How a chunk is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// By a file outside the trash.
    Live,
    /// By a version that was replaced, or put into the trash, not long ago by its clock.
    Recent,
}

/// Gathers references from `start` on; with more of them than fit, those with the greatest tags are left for the next
/// range.
///
/// Of a tag eight bytes are kept. Two chunks that share these count as one: then one of them is kept too long, which
/// with 2^63 such names hardly happens, and never too short.
pub(super) struct Gatherer {
    start: u64,
    end: Option<u64>,
    most: usize,
    found: Vec<u64>,
}

/// The references of one range of tags.
pub(super) struct Referenced {
    end: Option<u64>,
    /// Ascending; the lowest bit says whether it is [`Reference::Live`].
    found: Vec<u64>,
}

const LIVE: u64 = 1;

/// The place of a tag among all, in the order of tags.
fn place(tag: &ChunkTag) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = tag.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) & !LIVE
}

impl Gatherer {
    /// Starts a range; `most` references, at least 8, are held at a time.
    pub(super) fn new(start: &ChunkTag, most: usize) -> Self {
        Self { start: place(start), end: None, most: most.max(8), found: Vec::new() }
    }

    /// Notes a reference.
    pub(super) fn add(&mut self, tag: &ChunkTag, reference: Reference) {
        let at = place(tag);
        if at < self.start || self.end.is_some_and(|end| at >= end) {
            return;
        }
        self.found.push(at | u64::from(reference == Reference::Live));
        if self.found.len() >= self.most {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.found.sort_unstable();
        self.found.dedup();
        if self.found.len() > self.most / 2 {
            let end = self.found[self.found.len() / 2] & !LIVE;
            self.end = Some(end);
            self.found.retain(|at| *at < end);
        }
    }

    /// Ends the range.
    pub(super) fn finish(mut self) -> Referenced {
        self.found.sort_unstable();
        self.found.dedup();
        Referenced { end: self.end, found: self.found }
    }
}

impl Referenced {
    /// Whether a tag at or after the start lies in the range.
    pub(super) fn covers(&self, tag: &ChunkTag) -> bool {
        self.end.is_none_or(|end| place(tag) < end)
    }

    /// Where the next range begins; `None` after the last.
    pub(super) fn next_start(&self) -> Option<ChunkTag> {
        let mut tag = ChunkTag([0; ChunkTag::LEN]);
        tag.0[..8].copy_from_slice(&self.end?.to_be_bytes());
        Some(tag)
    }

    /// How a chunk of the range is referred to.
    pub(super) fn get(&self, tag: &ChunkTag) -> Option<Reference> {
        let at = place(tag);
        if self.found.binary_search(&(at | LIVE)).is_ok() {
            Some(Reference::Live)
        } else {
            self.found.binary_search(&at).is_ok().then_some(Reference::Recent)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tag(n: u64) -> ChunkTag {
        let mut tag = ChunkTag([0; ChunkTag::LEN]);
        tag.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..ChunkTag::LEN]);
        tag
    }

    /// Goal: whatever fits into memory, each reference is found in exactly one range, and live wins. Method: many widths
    /// of memory, against a map.
    #[test]
    fn ranges_together_give_every_reference_once() {
        let added: Vec<(ChunkTag, Reference)> = (0..3_000)
            .map(|n| (tag(n % 900), if n % 3 == 0 { Reference::Live } else { Reference::Recent }))
            .collect();
        let mut naive: BTreeMap<ChunkTag, Reference> = BTreeMap::new();
        for (tag, reference) in &added {
            let known = naive.entry(*tag).or_insert(*reference);
            if *reference == Reference::Live {
                *known = Reference::Live;
            }
        }
        for most in [0, 8, 9, 64, 1_000, 5_000] {
            let mut start = Some(ChunkTag([0; ChunkTag::LEN]));
            let (mut seen, mut ranges) = (BTreeMap::new(), 0);
            while let Some(from) = start {
                let mut gatherer = Gatherer::new(&from, most);
                added.iter().for_each(|(tag, reference)| gatherer.add(tag, *reference));
                let range = gatherer.finish();
                assert!(range.found.len() <= most.max(8));
                for (tag, _) in naive.range(from..).take_while(|(tag, _)| range.covers(tag)) {
                    assert_eq!(seen.insert(*tag, range.get(tag).unwrap()), None);
                }
                assert_eq!(range.get(&tag(1_000_000)), None);
                start = range.next_start();
                assert!(start.is_none_or(|next| next > from));
                ranges += 1;
            }
            assert_eq!(seen, naive);
            assert_eq!(ranges == 1, most == 5_000, "{ranges} ranges of {most}");
        }
    }
}
