//! Dice of a schedule: what happens, when, to whom. Kept apart from what the nodes draw, so that a change in a node does
//! not change what is done to it.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// Dice from a seed.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// Dice for one purpose of a seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let seed = blake3::Hasher::new().update(&seed.to_le_bytes()).update(purpose.as_bytes()).finalize();
        Self(ChaCha20Rng::from_seed(*seed.as_bytes()))
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// A place in a list of `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `from` to `to`, both included.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in `part` of `of` cases.
    pub fn chance(&mut self, part: u64, of: u64) -> bool {
        self.below(of) < part
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// The generator, for a node.
    pub fn into_rng(self) -> ChaCha20Rng {
        self.0
    }
}
