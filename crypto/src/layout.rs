//! Reading clear structures: a magic of four bytes, then fields of fixed sizes (`docs/spec/01-conventions.md`).

use crate::Refusal;

/// Returns what follows the magic `expected`: three bytes that name a structure and one for its version.
///
/// [`Refusal::Version`] if only the last byte differs: a known structure of another version. [`Refusal::Canon`] for
/// everything else.
pub(crate) fn strip_magic<'a>(bytes: &'a [u8], expected: &[u8; 4]) -> Result<&'a [u8], Refusal> {
    match bytes.split_first_chunk::<4>() {
        Some((found, rest)) if found == expected => Ok(rest),
        Some((found, _)) if found[..3] == expected[..3] => Err(Refusal::Version),
        _ => Err(Refusal::Canon),
    }
}

/// Takes the next field off `rest`; [`Refusal::Canon`] if it is cut short.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (taken, after) = rest.split_first_chunk().ok_or(Refusal::Canon)?;
    *rest = after;
    Ok(*taken)
}
