//! For whom a depot keeps, how much and how long (`docs/spec/08-at-rest.md`, "Depot").

use locker_crypto::Refusal;
use locker_crypto::capability::{Capability, Rights};
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::entry::space_tag;
use locker_crypto::id::{PersonId, SpaceId, SpaceTag, VerifyingKey};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, WriteTxn};

use crate::Error;
use crate::keys::{HOME_SPACE, PERSON};

const SETTING: Setting = Setting::engine(5);
const VERSION: u64 = 1;

/// Days of running for which a pack stays that nobody pins: fewest, what is taken if nothing is said, most.
pub(crate) const KEEP_DAYS_MIN: u32 = 7;
pub(crate) const KEEP_DAYS_DEFAULT: u32 = 30;
pub(crate) const KEEP_DAYS_MAX: u32 = 365;

/// What the owner gave with the enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// The person.
    pub(crate) person: PersonId,
    /// The person's home space.
    pub(crate) space: SpaceId,
    /// Its short name.
    pub(crate) tag: SpaceTag,
    /// Bytes that may be kept; 0 for as many as fit on the disk.
    pub(crate) quota: u64,
    /// Days of running for which a pack stays that nobody pins.
    pub(crate) keep_days: u32,
    /// The token that says so, for this device; a drive has none.
    pub(crate) token: Option<Capability>,
}

impl Charge {
    /// What is kept for a person, held against the rules.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for days outside 7 to 365; [`Refusal::Audience`] for another device's token, [`Refusal::Scope`]
    /// for one of another space, [`Refusal::Rights`] for one without REPLICATE.
    pub(crate) fn new(
        person: PersonId,
        space: SpaceId,
        terms: Terms,
        device: &VerifyingKey,
    ) -> Result<Self, Refusal> {
        let Terms { quota, keep_days, token } = terms;
        let tag = space_tag(&space);
        if !(KEEP_DAYS_MIN..=KEEP_DAYS_MAX).contains(&keep_days) {
            return Err(Refusal::Limit);
        }
        if let Some(token) = &token {
            if token.audience() != *device {
                return Err(Refusal::Audience);
            }
            if token.space_tag() != tag {
                return Err(Refusal::Scope);
            }
            if !token.rights().contains(Rights::REPLICATE) {
                return Err(Refusal::Rights);
            }
        }
        Ok(Self { person, space, tag, quota, keep_days, token })
    }

    /// Reads it; `None` on a device that reads.
    pub(crate) fn read<R: Reads>(reads: &R) -> Result<Option<Self>, Error> {
        let damaged = |why| Error::damaged("for whom this device keeps", why);
        let Some(value) = settings::get(reads, SETTING)? else { return Ok(None) };
        let id = |setting| -> Result<Vec<u8>, Error> {
            settings::get(reads, setting)?.ok_or_else(|| damaged(Refusal::Canon))
        };
        let person = PersonId::from_slice(&id(PERSON)?).map_err(damaged)?;
        let space = SpaceId::from_slice(&id(HOME_SPACE)?).map_err(damaged)?;
        let Terms { quota, keep_days, token } = Terms::decode(&value).map_err(damaged)?;
        Ok(Some(Self { person, space, tag: space_tag(&space), quota, keep_days, token }))
    }

    /// Writes it; the store is a depot from then on.
    pub(crate) fn write(&self, txn: &mut WriteTxn<'_>) {
        settings::put(txn, PERSON, self.person.as_bytes());
        settings::put(txn, HOME_SPACE, self.space.as_bytes());
        let terms = Terms { quota: self.quota, keep_days: self.keep_days, token: self.token.clone() };
        settings::put(txn, SETTING, &terms.encode());
    }
}

/// How much is kept and how long.
pub(crate) struct Terms {
    /// As in [`Charge`].
    pub(crate) quota: u64,
    /// As in [`Charge`].
    pub(crate) keep_days: u32,
    /// As in [`Charge`].
    pub(crate) token: Option<Capability>,
}

impl Terms {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(4).u64(VERSION).u64(self.quota).u64(self.keep_days.into());
        out.bytes(&self.token.as_ref().map_or_else(Vec::new, Capability::encode));
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(bytes);
        let len = from.array()?;
        if from.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        if len != 4 {
            return Err(Refusal::Canon);
        }
        let (quota, keep_days) = (from.u64()?, from.u32()?);
        let token = match from.bytes()? {
            [] => None,
            bytes => Some(Capability::decode(bytes)?),
        };
        from.finish()?;
        Ok(Self { quota, keep_days, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_they_were_written_and_in_no_other_form() {
        let terms = Terms { quota: 1 << 40, keep_days: 30, token: None };
        let bytes = terms.encode();
        let read = Terms::decode(&bytes).unwrap();
        assert_eq!((read.quota, read.keep_days, read.token), (1 << 40, 30, None));
        let mut newer = bytes.clone();
        newer[1] = 2;
        assert_eq!(Terms::decode(&newer).map(|_| ()), Err(Refusal::Version));
        for cut in 0..bytes.len() {
            assert!(Terms::decode(&bytes[..cut]).is_err());
        }
        assert!(Terms::decode(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_charge_keeps_to_its_days() {
        let charge = |keep_days| {
            let terms = Terms { quota: 0, keep_days, token: None };
            Charge::new(PersonId([1; 32]), SpaceId([2; 32]), terms, &VerifyingKey([3; 32])).map(|_| ())
        };
        for (days, expected) in
            [(6, Err(Refusal::Limit)), (7, Ok(())), (365, Ok(())), (366, Err(Refusal::Limit))]
        {
            assert_eq!(charge(days), expected, "{days}");
        }
    }
}
