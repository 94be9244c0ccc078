//! What ended calls leave behind on the stack: a secret that was handed on is wiped where it came to rest, and not where it
//! passed.

use zeroize::Zeroize;

/// Bytes of the stack below the caller that are overwritten.
const DEPTH: usize = 256 * 1_024;

/// Overwrites what ended calls left on the stack of this thread.
#[inline(never)]
pub(crate) fn wipe_stack() {
    let mut below = [0_u8; DEPTH];
    below.zeroize();
    std::hint::black_box(&mut below);
}
