//! Parts of a pack out of another node, kept in memory: which groups are asked for, and the bytes that came, each verified
//! against the hash of the pack (`docs/spec/12-sync.md`, "Packs").

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locker_crypto::file_ref::GroupSet as Wanted;
use locker_crypto::id::{PackHash, SpaceTag};
use locker_net::blob::{self, FetchError, GROUP_BYTES, GetPack, GroupRanges, GroupSet, GroupSink};
use locker_net::{Pace, Stream};

/// A node that does not send anything for so long is given up.
const STALL_TIME: Duration = Duration::from_secs(30);

/// Why groups did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The connection broke or stalled.
    Broken,
    /// This node does not give them.
    Denied,
    /// This node gives something else than the hash names.
    Wrong,
}

/// The pack that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// In the context of which space.
    pub(crate) space: SpaceTag,
    /// Which pack.
    pub(crate) pack: PackHash,
    /// Its length in bytes, known from the log.
    pub(crate) len: u32,
}

impl Asked {
    /// Fetches what is `wanted` and has not come yet, with at most `ranges_max` ranges in a request, which `pace`
    /// counts and does not hold back. What came stays when it fails; the stream is of no more use then. Dropping the future is safe
    /// if the stream is dropped too.
    pub(crate) async fn fetch(
        &self,
        stream: &mut Stream,
        wanted: &Wanted,
        ranges_max: usize,
        pace: &Pace,
        into: &mut Groups,
    ) -> Result<(), Failed> {
        let missing = into.missing(wanted);
        for ranges in missing.chunks(ranges_max) {
            let groups: u64 = ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
            pace.charge(groups * u64::from(GROUP_BYTES));
            let ranges = GroupRanges::some(ranges.to_vec()).map_err(|_| Failed::Wrong)?;
            let request = GetPack { space: self.space, pack: self.pack, ranges };
            let mut held = GroupSet::none(self.len);
            let came = Arc::clone(&into.came);
            // What came is looked at first: a reader that was busy elsewhere must not take that for a silence.
            let fetched = tokio::select! {
                biased;
                fetched = blob::fetch(stream, &request, &mut held, into) => fetched,
                () = stalled(&came) => return Err(Failed::Broken),
            };
            fetched.map_err(|error| match error {
                FetchError::Denied => Failed::Denied,
                FetchError::Size | FetchError::Hash => Failed::Wrong,
                _ => Failed::Broken,
            })?;
        }
        Ok(())
    }
}

/// Ends when nothing has come for a while.
async fn stalled(came: &AtomicU64) {
    let mut seen = u64::MAX;
    loop {
        tokio::time::sleep(STALL_TIME).await;
        let now = came.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// Groups of one pack that came.
#[derive(Default)]
pub(crate) struct Groups {
    groups: BTreeMap<u32, Vec<u8>>,
    /// Counts them.
    came: Arc<AtomicU64>,
}

impl Groups {
    /// Which of these groups have not come yet.
    fn missing(&self, wanted: &Wanted) -> Vec<Range<u32>> {
        let mut missing: Vec<Range<u32>> = Vec::new();
        for group in wanted.ranges().flatten() {
            if self.groups.contains_key(&(group * GROUP_BYTES)) {
                continue;
            }
            match missing.last_mut() {
                Some(last) if last.end == group => last.end += 1,
                _ => missing.push(group..group + 1),
            }
        }
        missing
    }

    /// Bytes of the pack, if all of them came.
    pub(crate) fn cut(&self, bytes: Range<u32>) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = bytes.start;
        while at < bytes.end {
            let start = at / GROUP_BYTES * GROUP_BYTES;
            let group = self.groups.get(&start)?;
            let end = bytes.end.min(start + u32::try_from(group.len()).ok()?);
            out.extend_from_slice(group.get((at - start) as usize..(end.checked_sub(start)?) as usize)?);
            if end <= at {
                return None;
            }
            at = end;
        }
        Some(out)
    }
}

impl GroupSink for Groups {
    fn write_node(&mut self, _: u32, _: &[u8; 64]) -> std::io::Result<()> {
        // Nothing of it is kept that would have to be proved again.
        Ok(())
    }

    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> std::io::Result<()> {
        self.groups.insert(offset, bytes.to_vec());
        self.came.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
