//! A database on a disk that cannot be written: what redb writes to open and close it stays in memory
//! (`docs/spec/08-at-rest.md`, "Errors").

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::limits::OVERLAY_BYTES_MAX;

/// Bytes that are kept together.
const BLOCK: u64 = 4_096;

/// A file that is only read, and what was written over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many bytes of the file still count.
    file_len: u64,
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Over a file, with nothing written.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { file_len: len, len, blocks: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as the file has it; zeros where the file has nothing.
    fn below(&self, state: &State, index: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK as usize];
        let start = index * BLOCK;
        let held = usize::try_from(state.file_len.saturating_sub(start).min(BLOCK)).unwrap_or_default();
        self.file.read_exact_at(&mut block[..held], start)?;
        Ok(block)
    }
}

/// The parts of a range, by block: index, first byte in it, number of bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let first = (at % BLOCK) as usize;
        let taken = left.min(BLOCK as usize - first);
        let part = (at / BLOCK, first, taken);
        at += taken as u64;
        left -= taken;
        (taken > 0).then_some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, first, taken) in parts(offset, out.len()) {
            let (part, rest) = std::mem::take(&mut out).split_at_mut(taken);
            match state.blocks.get(&index) {
                Some(block) => part.copy_from_slice(&block[first..first + taken]),
                None => part.copy_from_slice(&self.below(&state, index)?[first..first + taken]),
            }
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        // What is cut off reads as zeros when the file grows again.
        state.file_len = state.file_len.min(len);
        state.blocks.split_off(&len.div_ceil(BLOCK));
        if let Some(block) = state.blocks.get_mut(&(len / BLOCK)) {
            block[(len % BLOCK) as usize..].fill(0);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (index, first, taken) in parts(offset, data.len()) {
            let (part, rest) = data.split_at(taken);
            if !state.blocks.contains_key(&index) {
                if state.blocks.len() as u64 * BLOCK >= OVERLAY_BYTES_MAX {
                    return Err(io::ErrorKind::ReadOnlyFilesystem.into());
                }
                let block = self.below(&state, index)?;
                state.blocks.insert(index, block);
            }
            if let Some(block) = state.blocks.get_mut(&index) {
                block[first..first + taken].copy_from_slice(part);
            }
            data = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: it behaves as a file, and leaves the one below alone. Method: random work on both, compared throughout.
    #[test]
    fn it_is_like_a_file_that_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        let first: Vec<u8> = (0..30_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        std::fs::write(&below, &first).unwrap();
        let overlay = Overlay::new(File::open(&below).unwrap()).unwrap();
        let mut model = first.clone();
        let mut seed = 1_u64;
        let mut roll = |end: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % end
        };
        for round in 0..2_000_usize {
            let at = roll(model.len() + 1);
            let len = roll((model.len() - at).min(9_000) + 1);
            match roll(4) {
                0 => {
                    let new = 1 + roll(40_000);
                    overlay.set_len(new as u64).unwrap();
                    model.resize(new, 0);
                }
                1 => {
                    let bytes = vec![round.to_le_bytes()[0]; len];
                    overlay.write(at as u64, &bytes).unwrap();
                    model[at..at + len].copy_from_slice(&bytes);
                }
                _ => {
                    let mut found = vec![1; len];
                    overlay.read(at as u64, &mut found).unwrap();
                    assert!(found == model[at..at + len], "round {round}");
                }
            }
            assert_eq!(overlay.len().unwrap(), model.len() as u64);
        }
        assert!(overlay.read(model.len() as u64, &mut [0]).is_err());
        assert_eq!(std::fs::read(below).unwrap(), first);
    }
}
