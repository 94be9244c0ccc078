//! Opened bytes that are wiped when they are dropped.
//!
//! The common way writes one byte at a time, so that no compiler can leave it out; with blocks of a page it was an eighth
//! of an import's time. Here the bytes are filled in one go and then shown to a black box, for which the compiler has to
//! assume that it looks at them. Keys themselves (`locker_crypto::secret`) stay with the common way.

use std::hint::black_box;
use std::ops::Deref;

/// Bytes that are wiped when they are dropped. Has no `Debug`: rows hold names and keys of chunks.
#[derive(Clone, Default)]
pub(crate) struct Wiped(Vec<u8>);

impl Wiped {
    /// Takes over bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Wiped {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // What lies between length and capacity may hold bytes from before a truncation.
        let all = self.0.capacity();
        self.0.clear();
        self.0.resize(all, 0);
        black_box(self.0.as_mut_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_was_given() {
        let wiped = Wiped::new(b"abc".to_vec());
        assert_eq!(wiped.as_slice(), b"abc");
        assert_eq!(wiped.clone().len(), 3);
    }
}
