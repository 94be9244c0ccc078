//! How far a `verify` is: a row that stays when it is stopped, so that the next one goes on there
//! (`docs/spec/08-at-rest.md`, "Verification").

use locker_crypto::id::PackHash;
use locker_store::settings::{self, Setting};
use locker_store::{Reads, WriteTxn};

use crate::Error;

/// Setting: the run that was stopped, or goes on.
const RUN: Setting = Setting::engine(16);
/// A run that began longer ago is not gone on with, in seconds: what it checked first may no longer be so.
const LIFE_S: u64 = 7 * 86_400;
/// Bytes of the row.
const LEN: usize = 48;

/// A pass over all packs, in the order of their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// When it began, unix seconds.
    began_at: u64,
    /// Packs that were checked.
    pub(super) packs: u64,
    /// The last of them.
    pub(super) last: Option<PackHash>,
}

impl Run {
    /// Begins one.
    pub(super) fn begin(now_s: u64) -> Self {
        Self { began_at: now_s, packs: 0, last: None }
    }

    /// The one that was stopped, if it is not too old. A clock that was set back says nothing of its age.
    ///
    /// # Errors
    /// What reading gives; a row of another form is none.
    pub(super) fn load<R: Reads>(reads: &R, now_s: u64) -> Result<Option<Self>, Error> {
        let stored = settings::get(reads, RUN)?;
        let run = stored.as_deref().and_then(Self::decode);
        Ok(run.filter(|run| now_s.checked_sub(run.began_at).is_some_and(|age| age <= LIFE_S)))
    }

    /// Counts packs, in their order.
    pub(super) fn advance(&mut self, hash: PackHash) {
        self.packs += 1;
        self.last = Some(hash);
    }

    /// Keeps it for the next time, if anything was checked.
    pub(super) fn save(&self, txn: &mut WriteTxn<'_>) {
        if let Some(last) = self.last {
            let row = [&self.began_at.to_le_bytes(), &self.packs.to_le_bytes(), last.as_bytes().as_slice()];
            settings::put(txn, RUN, &row.concat());
        }
    }

    /// Whether one is kept.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) fn is_kept<R: Reads>(reads: &R) -> Result<bool, Error> {
        Ok(settings::get(reads, RUN)?.is_some())
    }

    /// It is over: the next one begins anew.
    pub(super) fn end(txn: &mut WriteTxn<'_>) {
        settings::delete(txn, RUN);
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let row = <&[u8; LEN]>::try_from(row).ok()?;
        let (began_at, rest) = row.split_first_chunk::<8>()?;
        let (packs, last) = rest.split_first_chunk::<8>()?;
        Some(Self {
            began_at: u64::from_le_bytes(*began_at),
            packs: u64::from_le_bytes(*packs),
            last: Some(PackHash::from_slice(last).ok()?),
        })
    }
}
