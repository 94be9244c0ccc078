//! Blocks: neighbouring rows of a table, sealed together (`docs/spec/08-at-rest.md`, "Blocks").
//!
//! A sealed value costs 40 bytes and its key once more; most rows are hardly longer. So what redb keeps is a block: its
//! key is that of its first row, its value the sealed rows. A block is cut when it passes a page of redb, like the leaf
//! of a tree. Never here: keys, disk.
//!
//! Block = for each row, ascending: shared (how many bytes of the key are those of the row before), length of the rest
//! of the key, length of the value, each as LEB128 in its shortest form; then the rest of the key; then the value.

use locker_crypto::Refusal;

/// Where a block is cut, in bytes before sealing: sealed and with its key it fits a page of 4,096.
pub(crate) const BLOCK_BYTES: usize = 3_900;

/// A row of a block that is being rewritten.
pub(crate) type Row<V> = (Vec<u8>, V);

/// A row as it is read: key and value.
pub(crate) type Read<'k, 'v> = (&'k [u8], &'v [u8]);

/// Reads the rows of an opened block, one after another.
pub(crate) struct Rows<'a> {
    rest: &'a [u8],
    key: Vec<u8>,
    first: bool,
}

impl<'a> Rows<'a> {
    /// Begins with the first row.
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { rest: block, key: Vec::new(), first: true }
    }

    /// Returns the next key and value; `None` after the last.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the block is not in the one form.
    pub(crate) fn next_row(&mut self) -> Result<Option<Read<'_, 'a>>, Refusal> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (shared, suffix, value) = (self.number()?, self.number()?, self.number()?);
        let suffix = self.take(suffix)?;
        let before = self.key.get(shared..).ok_or(Refusal::Canon)?;
        let fits = match (before.first(), suffix.first()) {
            // Greater, and not one byte more in common than said.
            (Some(old), Some(new)) => old < new,
            (None, Some(_)) => true,
            // Only the first row may have an empty key.
            (_, None) => self.first,
        };
        if !fits {
            return Err(Refusal::Canon);
        }
        self.first = false;
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        let value = self.take(value)?;
        Ok(Some((&self.key, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Refusal::Canon)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, Refusal> {
        let mut number = 0_usize;
        // Four groups of seven bits: below 256 MiB, far more than a row may have.
        for group in 0..4 {
            let (byte, rest) = self.rest.split_first().ok_or(Refusal::Canon)?;
            self.rest = rest;
            number |= usize::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return if *byte == 0 && group > 0 { Err(Refusal::Canon) } else { Ok(number) };
            }
        }
        Err(Refusal::Canon)
    }
}

/// Writes rows that are ascending.
pub(crate) fn encode<V: AsRef<[u8]>>(rows: &[Row<V>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.iter().map(|row| size(row)).sum());
    let mut before: &[u8] = &[];
    for (key, value) in rows {
        let value = value.as_ref();
        let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
        for number in [shared, key.len() - shared, value.len()] {
            put_number(&mut out, number);
        }
        out.extend_from_slice(&key[shared..]);
        out.extend_from_slice(value);
        before = key;
    }
    out
}

/// Where rows come from that a block gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// All behind the last: the next ones will be too, so blocks are filled.
    AtTheEnd,
    /// Anywhere: halves keep room for more.
    Within,
}

/// Cuts rows into blocks of at most [`BLOCK_BYTES`], as far as single rows allow. Returns how many rows each gets.
pub(crate) fn cut<V: AsRef<[u8]>>(rows: &[Row<V>], growth: Growth) -> Vec<usize> {
    let total: usize = rows.iter().map(|row| size(row)).sum();
    let goal = match growth {
        Growth::AtTheEnd => BLOCK_BYTES,
        Growth::Within => total.div_ceil(total.div_ceil(BLOCK_BYTES).max(1)),
    };
    let (mut counts, mut count, mut bytes) = (Vec::new(), 0, 0);
    for row in rows {
        if count > 0 && (bytes >= goal || bytes + size(row) > BLOCK_BYTES) {
            counts.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes += size(row);
    }
    if count > 0 {
        counts.push(count);
    }
    counts
}

/// At most what a row takes in a block; neighbours usually share some of it.
fn size<V: AsRef<[u8]>>((key, value): &Row<V>) -> usize {
    key.len() + value.as_ref().len() + 6
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0x7f) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0x7f));
}

#[cfg(test)]
mod tests;
