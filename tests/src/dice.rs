//! Seeded randomness for tests: the same seed gives the same run. It is printed, so that a failure can be played again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A stream of random bytes from BLAKE3 in output mode.
pub struct Dice(blake3::OutputReader);

impl Dice {
    /// Dice for the test `name`, under the seed of this run: `LOCKER_SEED` (a number, or `random`), else 1.
    ///
    /// The seed is told on standard error, which the test runner shows when the test fails.
    pub fn of(name: &str) -> Self {
        let seed = match std::env::var("LOCKER_SEED").as_deref() {
            Ok("random") => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::from(since.subsec_nanos()) ^ since.as_secs().rotate_left(32)
            }
            Ok(number) => number.parse().expect("LOCKER_SEED is a number or `random`"),
            Err(_) => 1,
        };
        eprintln!("{name}: LOCKER_SEED={seed}");
        Self::new(name, seed)
    }

    /// Dice for a given name and seed.
    pub fn new(name: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("locker tests dice");
        hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// Fills a slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }

    /// A number below `end`, which must not be 0. The bias is below 2^-32 for all that tests ask.
    pub fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }

    /// A number of `range`.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// `len` random lower-case letters and digits.
    pub fn word(&mut self, len: usize) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        self.bytes(len).iter().map(|b| char::from(LETTERS[usize::from(b & 31)])).collect()
    }
}
