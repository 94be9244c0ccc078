//! Which devices this home ended, by its own record (`docs/spec/08-at-rest.md`, 7.2): nobody else who has its key can add
//! to that.

use std::collections::BTreeSet;

use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EntryId, VerifyingKey};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, WriteTxn};

use crate::Error;
use crate::limits::REMOVALS_NOTED_MAX;

/// Setting: the devices that this home ended.
const SETTING: Setting = Setting::engine(12);
const VERSION: u64 = 1;

/// A removal as this home made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Under which key.
    pub(crate) by: VerifyingKey,
    /// The entry of the person log that says so.
    pub(crate) entry: EntryId,
    /// Whom it ended.
    pub(crate) device: VerifyingKey,
}

/// Notes a removal in the commit that makes it. The oldest go when there are too many.
///
/// # Errors
/// [`Error::Integrity`] if the setting is damaged; what reading gives.
pub(super) fn note(txn: &mut WriteTxn<'_>, made: Made) -> Result<(), Error> {
    let mut all = read(txn)?;
    all.push(made);
    let surplus = all.len().saturating_sub(REMOVALS_NOTED_MAX);
    settings::put(txn, SETTING, &encode(&all[surplus..]));
    Ok(())
}

/// The removals that this home made under keys that it had `before`, and that do not count: the device is in use all the same,
/// or what took its place is. Names that one, with the entry that was to end it.
///
/// # Errors
/// As [`note`].
pub(crate) fn void<R: Reads>(
    reads: &R,
    before: &BTreeSet<VerifyingKey>,
    roster: &Roster,
) -> Result<Vec<(EntryId, VerifyingKey)>, Error> {
    let (admitted, mut found) = (roster.admitted(), Vec::new());
    for made in read(reads)?.into_iter().filter(|made| before.contains(&made.by)) {
        let mut ended = vec![made.device];
        let mut at = 0;
        while let Some(key) = ended.get(at) {
            let successors = roster.replaced.get(key).into_iter().flatten();
            let new: Vec<_> = successors.filter(|key| !ended.contains(key)).copied().collect();
            ended.extend(new);
            at += 1;
        }
        // The last one first: the log tells of what took a place only while that key is not removed.
        let in_use = ended.into_iter().rev().filter(|key| admitted.contains(key));
        found.extend(in_use.map(|key| (made.entry, key)));
    }
    Ok(found)
}

fn read<R: Reads>(reads: &R) -> Result<Vec<Made>, Error> {
    let Some(bytes) = settings::get(reads, SETTING)? else { return Ok(Vec::new()) };
    decode(&bytes).map_err(|why| Error::damaged("what is known of ended devices", why))
}

fn encode(all: &[Made]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(2).u64(VERSION).array(all.len());
    for Made { by, entry, device } in all {
        w.array(3).bytes(by.as_ref()).bytes(entry.as_ref()).bytes(device.as_ref());
    }
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<Made>, Refusal> {
    let mut r = Reader::new(bytes);
    r.array_of(2)?;
    if r.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let count = r.array()?;
    if count > REMOVALS_NOTED_MAX {
        return Err(Refusal::Limit);
    }
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        r.array_of(3)?;
        let (by, entry) = (VerifyingKey(r.fixed()?), EntryId(r.fixed()?));
        all.push(Made { by, entry, device: VerifyingKey(r.fixed()?) });
    }
    r.finish()?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(n: u8) -> Made {
        Made { by: VerifyingKey([n; 32]), entry: EntryId([n; 32]), device: VerifyingKey([n ^ 0xff; 32]) }
    }

    #[test]
    fn the_record_comes_back_and_is_bounded() {
        let all: Vec<Made> = (0..64).map(made).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        let too_many: Vec<Made> = (0..65).map(made).collect();
        assert!(decode(&encode(&too_many)).is_err());
        let good = encode(&all[..2]);
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "{len}");
        }
        assert!(decode(&[good.as_slice(), &[0]].concat()).is_err());
        let mut other = good.clone();
        other[1] = 2;
        assert_eq!(decode(&other).err(), Some(Refusal::Version));
    }
}
