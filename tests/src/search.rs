//! Looking for plaintext where there must be none: each planted text in every form that a program might leave behind.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::files::walk;

/// Bytes by which a pattern is first looked up.
const HEAD: usize = 8;

/// A set of byte strings to look for.
#[derive(Default)]
pub struct Search {
    patterns: Vec<(Vec<u8>, String)>,
    heads: HashMap<u64, Vec<usize>>,
    /// Which heads there may be, by 18 bits of them: most places of a file are dismissed by this alone.
    sieve: Vec<bool>,
}

/// In how many forms [`Search::plant`] looks for a text.
pub const FORMS: usize = 11;

impl Search {
    /// Looks for nothing yet.
    pub fn new() -> Self {
        Self { patterns: Vec::new(), heads: HashMap::new(), sieve: vec![false; 1 << 18] }
    }

    /// Looks for a text raw, hexadecimal in both cases, in base64 of both alphabets at each of the three alignments, and
    /// in UTF-16 of both byte orders. Texts shorter than 12 bytes would be found by chance and are refused.
    pub fn plant(&mut self, what: &str, text: &[u8]) {
        assert!(text.len() >= 12, "{what}: too short to look for");
        for (form, bytes) in forms(text) {
            self.add(bytes, format!("{what}, {form}"));
        }
    }

    /// Looks for bytes, raw and hexadecimal: hashes and keys.
    pub fn plant_hash(&mut self, what: &str, bytes: &[u8]) {
        self.add(bytes.to_vec(), format!("{what}, raw"));
        self.add(hex::encode(bytes).into_bytes(), format!("{what}, hex"));
        self.add(hex::encode_upper(bytes).into_bytes(), format!("{what}, hex"));
    }

    fn add(&mut self, pattern: Vec<u8>, what: String) {
        let head = head(&pattern).unwrap_or_else(|| panic!("{what}: pattern too short"));
        self.sieve[sieve_place(head)] = true;
        self.heads.entry(head).or_default().push(self.patterns.len());
        self.patterns.push((pattern, what));
    }

    /// How many patterns are looked for.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Names each pattern that stands in these bytes.
    pub fn find_in(&self, bytes: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        let mut window = 0_u64;
        for (index, byte) in bytes.iter().enumerate() {
            window = window >> 8 | u64::from(*byte) << 56;
            if index + 1 < HEAD || !self.sieve[sieve_place(window)] {
                continue;
            }
            let Some(candidates) = self.heads.get(&window) else { continue };
            let rest = &bytes[index + 1 - HEAD..];
            let hits = candidates.iter().filter(|c| rest.starts_with(&self.patterns[**c].0));
            found.extend(hits.map(|c| self.patterns[*c].1.as_str()));
        }
        found
    }

    /// Names each pattern that stands in a file below `folder`, or in the name of one, with the file's path. Gives the
    /// number of bytes looked at too.
    pub fn find_below(&self, folder: &Path) -> (Vec<String>, u64) {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for path in walk(folder) {
            let name = path.strip_prefix(folder).unwrap();
            let mut look = |bytes: &[u8]| {
                looked_at += bytes.len() as u64;
                found.extend(self.find_in(bytes).into_iter().map(|hit| format!("{}: {hit}", name.display())));
            };
            look(name.as_os_str().as_encoded_bytes());
            if path.symlink_metadata().unwrap().is_file() {
                look(&std::fs::read(&path).unwrap());
            }
        }
        (found, looked_at)
    }
}

/// A text in each form.
pub fn forms(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("raw", text.to_vec()),
        ("hex", hex::encode(text).into_bytes()),
        ("hex upper case", hex::encode_upper(text).into_bytes()),
        ("UTF-16LE", text.iter().flat_map(|b| [*b, 0]).collect()),
        ("UTF-16BE", text.iter().flat_map(|b| [0, *b]).collect()),
    ];
    for (names, alphabet) in [
        (["base64", "base64 from 1", "base64 from 2"], &STANDARD_NO_PAD),
        (["base64url", "base64url from 1", "base64url from 2"], &URL_SAFE_NO_PAD),
    ] {
        for (alignment, name) in names.into_iter().enumerate() {
            // The text as it looks when it stands `alignment` bytes into something longer: without the characters at
            // both ends that depend on its neighbours.
            let mut padded = vec![0; alignment];
            padded.extend_from_slice(text);
            let whole = padded.len() / 3 * 3;
            let encoded = alphabet.encode(&padded[..whole]);
            forms.push((name, encoded.into_bytes()[if alignment == 0 { 0 } else { 4 }..].to_vec()));
        }
    }
    forms
}

fn head(pattern: &[u8]) -> Option<u64> {
    pattern.first_chunk::<HEAD>().map(|head| u64::from_le_bytes(*head))
}

fn sieve_place(head: u64) -> usize {
    (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 46) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dice;

    #[test]
    fn every_form_is_found_wherever_it_stands() {
        let mut dice = Dice::new("search", 1);
        let mut search = Search::new();
        search.plant("text", b"a planted sentence");
        assert_eq!(search.len(), FORMS);
        for before in 0..7 {
            let hay = [dice.bytes(before), b"a planted sentence".to_vec(), dice.bytes(5)].concat();
            assert_eq!(search.find_in(&hay), ["text, raw"]);
            assert_eq!(search.find_in(STANDARD_NO_PAD.encode(&hay).as_bytes()).len(), 2, "{before}");
            assert!(!search.find_in(hex::encode(&hay).as_bytes()).is_empty());
        }
        assert!(search.find_in(&dice.bytes(1 << 20)).is_empty());
    }
}
