//! The one allowed encoding of bodies: a strict subset of CBOR (RFC 8949) with a single form for every value
//! (`docs/spec/01-conventions.md`, "Encrypted bodies").
//!
//! Arrays, unsigned and negative integers, byte strings, text strings and booleans; shortest heads; definite
//! lengths; no maps, floats, tags or null. [`Reader`] refuses everything else as it reads, so that what it accepts
//! re-encodes to the same bytes. It never reserves memory from a length before the bytes are there.

use crate::Refusal;

/// Deepest nesting of arrays.
pub const DEPTH_MAX: usize = 8;
/// Most elements of one array.
pub const ARRAY_LEN_MAX: u64 = 65_536;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// Writes canonical bytes.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Starts with nothing written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an array; the caller then writes exactly `len` elements.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.head(ARRAY, len as u64);
        self
    }

    /// Writes an unsigned integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.head(UNSIGNED, value);
        self
    }

    /// Writes a signed integer.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(positive) => self.head(UNSIGNED, positive),
            Err(_) => self.head(NEGATIVE, !value.cast_unsigned()),
        }
        self
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// Writes a text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.out.push(if value { TRUE } else { FALSE });
        self
    }

    /// Appends an item that is already in canonical form.
    pub fn raw(&mut self, item: &[u8]) -> &mut Self {
        self.out.extend_from_slice(item);
        self
    }

    /// Number of bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns the bytes.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..24 => self.out.push(major | bytes[7]),
            24..0x100 => self.out.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..0x1_0000 => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..0x1_0000_0000 => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&bytes);
            }
        }
    }
}

/// Reads canonical bytes and refuses every other form.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the head of an array and returns its length.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the next item is not an array; [`Refusal::Limit`] above [`ARRAY_LEN_MAX`].
    pub fn array(&mut self) -> Result<usize, Refusal> {
        let len = self.expect(ARRAY)?;
        if len > ARRAY_LEN_MAX {
            return Err(Refusal::Limit);
        }
        usize::try_from(len).map_err(|_| Refusal::Limit)
    }

    /// Reads the head of an array that must have exactly `len` elements.
    ///
    /// # Errors
    /// [`Refusal::Canon`] otherwise.
    pub fn array_of(&mut self, len: usize) -> Result<(), Refusal> {
        if self.array()? == len { Ok(()) } else { Err(Refusal::Canon) }
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the next item is something else or not in shortest form.
    pub fn u64(&mut self) -> Result<u64, Refusal> {
        self.expect(UNSIGNED)
    }

    /// Reads an unsigned integer that fits 32 bits.
    ///
    /// # Errors
    /// [`Refusal::Canon`] otherwise.
    pub fn u32(&mut self) -> Result<u32, Refusal> {
        self.u64()?.try_into().map_err(|_| Refusal::Canon)
    }

    /// Reads an unsigned integer that fits 8 bits.
    ///
    /// # Errors
    /// [`Refusal::Canon`] otherwise.
    pub fn u8(&mut self) -> Result<u8, Refusal> {
        self.u64()?.try_into().map_err(|_| Refusal::Canon)
    }

    /// Reads a signed integer.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if it is something else or does not fit 64 bits.
    pub fn i64(&mut self) -> Result<i64, Refusal> {
        let (major, value) = self.head()?;
        let value = i64::try_from(value).map_err(|_| Refusal::Canon)?;
        match major {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(!value),
            _ => Err(Refusal::Canon),
        }
    }

    /// Reads a byte string.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the next item is something else or cut short.
    pub fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let len = self.expect(BYTES)?;
        self.take(len)
    }

    /// Reads a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// [`Refusal::Canon`] otherwise.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        self.bytes()?.try_into().map_err(|_| Refusal::Canon)
    }

    /// Reads a text string.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the next item is something else, cut short or not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Refusal> {
        let len = self.expect(TEXT)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Refusal::Canon)
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// [`Refusal::Canon`] otherwise.
    pub fn bool(&mut self) -> Result<bool, Refusal> {
        match self.take(1)?[0] {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(Refusal::Canon),
        }
    }

    /// Reads one item of any kind and returns its bytes, checking its whole inside.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if it is not canonical; [`Refusal::Limit`] if it nests deeper than [`DEPTH_MAX`] or an
    /// array is too long.
    pub fn item(&mut self) -> Result<&'a [u8], Refusal> {
        let start = self.rest;
        self.skip(0)?;
        Ok(&start[..start.len() - self.rest.len()])
    }

    /// Whether the next item is an array, without reading it.
    pub fn at_array(&self) -> bool {
        self.rest.first().is_some_and(|b| b >> 5 == ARRAY)
    }

    /// Whether all bytes are read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if bytes are left over.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.rest.is_empty() { Ok(()) } else { Err(Refusal::Canon) }
    }

    fn skip(&mut self, depth: usize) -> Result<(), Refusal> {
        if matches!(self.rest.first(), Some(&(FALSE | TRUE))) {
            self.rest = &self.rest[1..];
            return Ok(());
        }
        let (major, value) = self.head()?;
        match major {
            UNSIGNED | NEGATIVE => Ok(()),
            BYTES => self.take(value).map(|_| ()),
            TEXT => std::str::from_utf8(self.take(value)?).map(|_| ()).map_err(|_| Refusal::Canon),
            ARRAY if depth >= DEPTH_MAX || value > ARRAY_LEN_MAX => Err(Refusal::Limit),
            ARRAY => (0..value).try_for_each(|_| self.skip(depth + 1)),
            _ => Err(Refusal::Canon),
        }
    }

    fn expect(&mut self, major: u8) -> Result<u64, Refusal> {
        let (found, value) = self.head()?;
        if found == major { Ok(value) } else { Err(Refusal::Canon) }
    }

    /// Reads a head and checks that it is the shortest form.
    fn head(&mut self) -> Result<(u8, u64), Refusal> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let (value, least) = match info {
            0..24 => (u64::from(info), 0),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.array_bytes()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(self.array_bytes()?)), 0x1_0000),
            27 => (u64::from_be_bytes(self.array_bytes()?), 0x1_0000_0000),
            _ => return Err(Refusal::Canon),
        };
        if value < least { Err(Refusal::Canon) } else { Ok((major, value)) }
    }

    fn array_bytes<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        self.take(N as u64)?.try_into().map_err(|_| Refusal::Canon)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Refusal> {
        let len = usize::try_from(len).map_err(|_| Refusal::Canon)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Refusal::Canon)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Forms that other CBOR decoders accept and we refuse.
    #[test]
    fn other_forms_are_refused() {
        let cases: &[(&str, Refusal)] = &[
            ("1800", Refusal::Canon),                 // 0 in two bytes
            ("190017", Refusal::Canon),               // 23 in three bytes
            ("1a0000ffff", Refusal::Canon),           // fits 16 bits
            ("1b00000000ffffffff", Refusal::Canon),   // fits 32 bits
            ("9f01ff", Refusal::Canon),               // indefinite array
            ("5f4101ff", Refusal::Canon),             // indefinite bytes
            ("a0", Refusal::Canon),                   // map
            ("c000", Refusal::Canon),                 // tag
            ("f6", Refusal::Canon),                   // null
            ("f93c00", Refusal::Canon),               // float
            ("61ff", Refusal::Canon),                 // text that is not UTF-8
            ("5bffffffffffffffff", Refusal::Canon),   // length beyond everything
            ("9a00010001", Refusal::Limit),           // array too long
            ("8181818181818181", Refusal::Canon),     // eight deep, and the innermost is missing
            ("81818181818181818100", Refusal::Limit), // nine deep
        ];
        for (text, expected) in cases {
            let bytes = hex::decode(text).unwrap();
            assert_eq!(Reader::new(&bytes).item().unwrap_err(), *expected, "{text}");
        }
        let eight = hex::decode("818181818181818100").unwrap();
        assert_eq!(Reader::new(&eight).item().unwrap(), &eight[..]);
    }

    proptest! {
        #[test]
        fn integers_round_trip(value in any::<u64>(), signed in any::<i64>()) {
            let mut w = Writer::new();
            w.u64(value).i64(signed);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.u64().unwrap(), value);
            prop_assert_eq!(r.i64().unwrap(), signed);
            r.finish().unwrap();
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut r = Reader::new(&bytes);
            while r.item().is_ok() && !r.is_empty() {}
        }
    }
}
