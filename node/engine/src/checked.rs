//! Entries of person logs that were read and checked already. A log is read at every commit and every session, and its
//! signatures would cost more than all else; an entry is known by the hash of its bytes, so that none is taken for another,
//! and what was found good once stays so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use locker_crypto::Refusal;
use locker_crypto::id::PersonId;
use locker_crypto::person::Entry;

use crate::limits::{CHECKED_ENTRIES, CHECKED_ENTRY_BYTES};

type Known = HashMap<(PersonId, [u8; 32]), Entry>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Reads an entry of a person's log; the second time without checking its signatures again.
///
/// # Errors
/// As [`Entry::read`].
pub(crate) fn read(person: &PersonId, bytes: &[u8]) -> Result<Entry, Refusal> {
    if bytes.len() > CHECKED_ENTRY_BYTES {
        return Entry::read(person, bytes);
    }
    let name = (*person, *blake3::hash(bytes).as_bytes());
    let with = |f: &mut dyn FnMut(&mut Known)| {
        f(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default());
    };
    let mut found = None;
    with(&mut |known| found = known.get(&name).cloned());
    if let Some(entry) = found {
        return Ok(entry);
    }
    let entry = Entry::read(person, bytes)?;
    with(&mut |known| {
        // Rare: a person has few devices. All are checked once more then.
        if known.len() >= CHECKED_ENTRIES {
            known.clear();
        }
        known.insert(name, entry.clone());
    });
    Ok(entry)
}
