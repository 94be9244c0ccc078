//! Groups of 16 KiB, in which packs are verified and sent: ranges of them, and which ones are held.

use std::ops::Range;

use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use locker_crypto::Refusal;

/// Bytes in a group.
pub const GROUP_BYTES: u32 = 16_384;
/// Chunks of 1,024 bytes in a group.
const GROUP_CHUNKS: u64 = 16;
/// Bytes of the largest pack.
pub const PACK_LEN_MAX: u32 = 16_777_216;
/// Groups in it.
const GROUPS_MAX: u32 = PACK_LEN_MAX / GROUP_BYTES;

/// Returns the tree over a pack of `len` bytes.
pub(super) fn tree(len: u32) -> BaoTree {
    BaoTree::new(u64::from(len), BlockSize::from_chunk_log(4))
}

/// Returns the number of groups in a pack of `len` bytes.
fn groups_in(len: u32) -> u32 {
    len.div_ceil(GROUP_BYTES)
}

/// Which groups of a pack are asked for: the whole, or half-open ranges in rising order that neither touch nor
/// overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRanges(Inner);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Inner {
    Whole,
    Some(Vec<Range<u32>>),
}

impl GroupRanges {
    /// The whole pack, whatever its length.
    pub fn whole() -> Self {
        Self(Inner::Whole)
    }

    /// Some groups.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for none, an empty range, or ranges that touch, overlap or fall; [`Refusal::Limit`] beyond
    /// the largest pack.
    pub fn some(ranges: Vec<Range<u32>>) -> Result<Self, Refusal> {
        let rising = ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        if ranges.is_empty() || !rising || ranges.iter().any(|range| range.start >= range.end) {
            return Err(Refusal::Canon);
        }
        if ranges.last().is_some_and(|last| last.end > GROUPS_MAX) {
            return Err(Refusal::Limit);
        }
        Ok(Self(Inner::Some(ranges)))
    }

    /// Returns the groups that cover bytes `[start, end)`.
    ///
    /// # Errors
    /// Those of [`GroupRanges::some`].
    pub fn covering(bytes: Range<u32>) -> Result<Self, Refusal> {
        #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
        Self::some(vec![bytes.start / GROUP_BYTES..bytes.end.div_ceil(GROUP_BYTES)])
    }

    /// Returns how many ranges these are.
    pub fn count(&self) -> usize {
        match &self.0 {
            Inner::Whole => 1,
            Inner::Some(ranges) => ranges.len(),
        }
    }

    /// Returns the groups of a pack of `len` bytes that are asked for, in rising order.
    pub fn groups(&self, len: u32) -> impl Iterator<Item = u32> + use<> {
        let (whole, some) = match &self.0 {
            Inner::Whole => (0..groups_in(len), Vec::new()),
            Inner::Some(ranges) => (0..0, ranges.clone()),
        };
        whole.chain(some.into_iter().flatten())
    }

    /// Returns how many bytes of a pack of `len` bytes are asked for, for the budget of bytes under way.
    pub fn byte_count(&self, len: u32) -> u64 {
        match &self.0 {
            Inner::Whole => u64::from(len),
            Inner::Some(ranges) => ranges
                .iter()
                .map(|range| {
                    let edge = |group: u32| u64::from(group) * u64::from(GROUP_BYTES);
                    edge(range.end).min(u64::from(len)).saturating_sub(edge(range.start))
                })
                .sum(),
        }
    }

    /// Says whether all of these are groups of a pack of `len` bytes.
    pub fn fit(&self, len: u32) -> bool {
        match &self.0 {
            Inner::Whole => len > 0,
            Inner::Some(ranges) => ranges.last().is_some_and(|last| last.end <= groups_in(len)),
        }
    }

    pub(super) fn to_chunks(&self) -> ChunkRanges {
        let edge = |group: u32| ChunkNum(u64::from(group) * GROUP_CHUNKS);
        match &self.0 {
            Inner::Whole => ChunkRanges::all(),
            Inner::Some(ranges) => {
                let mut chunks = ChunkRanges::empty();
                for range in ranges {
                    chunks |= ChunkRanges::from(edge(range.start)..edge(range.end));
                }
                chunks
            }
        }
    }

    /// Reads ranges of chunks, which must be those of whole groups.
    pub(super) fn from_chunks(chunks: &ChunkRanges) -> Result<Self, Refusal> {
        if chunks.is_all() {
            return Ok(Self::whole());
        }
        let group = |chunk: &ChunkNum| {
            let whole = chunk.0.is_multiple_of(GROUP_CHUNKS);
            u32::try_from(chunk.0 / GROUP_CHUNKS).ok().filter(|_| whole).ok_or(Refusal::Canon)
        };
        let (pairs, open) = chunks.boundaries().as_chunks::<2>();
        if !open.is_empty() {
            return Err(Refusal::Canon);
        }
        Self::some(pairs.iter().map(|[a, b]| Ok(group(a)?..group(b)?)).collect::<Result<_, Refusal>>()?)
    }
}

/// Which groups of one pack are here: the resume bitmap. It is never written to disk; after a restart it is made again
/// by verifying the partial file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSet {
    len: u32,
    held: Vec<bool>,
}

impl GroupSet {
    /// None of a pack of `len` bytes.
    pub fn none(len: u32) -> Self {
        Self { len, held: vec![false; groups_in(len) as usize] }
    }

    /// Returns the length of the pack in bytes.
    pub fn byte_len(&self) -> u32 {
        self.len
    }

    /// Notes that a group is here. A group that the pack does not have is not noted.
    pub fn insert(&mut self, group: u32) {
        if let Some(held) = self.held.get_mut(group as usize) {
            *held = true;
        }
    }

    /// Says whether a group is here.
    pub fn contains(&self, group: u32) -> bool {
        self.held.get(group as usize).is_some_and(|held| *held)
    }

    /// Says whether all of the pack is here.
    pub fn is_full(&self) -> bool {
        self.held.iter().all(|held| *held)
    }

    /// Returns what is missing, at most `ranges_max` ranges and `groups_max` groups of it, but at least one, from the
    /// beginning on; `None` if nothing is.
    pub fn missing(&self, ranges_max: usize, groups_max: usize) -> Option<GroupRanges> {
        let groups_max = groups_max.max(1);
        if self.held.iter().all(|held| !held) && self.held.len() <= groups_max {
            return (!self.held.is_empty()).then(GroupRanges::whole);
        }
        let mut ranges: Vec<Range<u32>> = Vec::new();
        let missing = (0u32..).zip(&self.held).filter(|(_, held)| !**held);
        for (group, _) in missing.take(groups_max) {
            let full = ranges.len() == ranges_max;
            match ranges.last_mut() {
                Some(last) if last.end == group => last.end = group + 1,
                _ if full => break,
                _ => ranges.push(group..group + 1),
            }
        }
        GroupRanges::some(ranges).ok()
    }
}
