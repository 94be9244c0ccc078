//! What this device's entries may name while something is held: nothing that is, and nothing that knows of it.

use std::collections::BTreeMap;

use locker_crypto::id::VerifyingKey;

use super::row::{Whose, each_held};
use crate::operation::EntryRef;
use crate::order::EntryOrder;
use crate::rows::{ReadRows, RowError};
use crate::space::{Space, row};

impl Space {
    /// Of each author of whom something is held here, the number of the first such entry.
    pub(in crate::space) fn first_held(
        &self,
        rows: &dyn ReadRows,
    ) -> Result<BTreeMap<VerifyingKey, u64>, RowError> {
        let mut first: BTreeMap<VerifyingKey, u64> = BTreeMap::new();
        if self.is_apart {
            each_held(rows, &mut |order, row| {
                if row.whose == Whose::Here {
                    let seq = first.entry(order.author).or_insert(order.seq);
                    *seq = (*seq).min(order.seq);
                }
            })?;
        }
        Ok(first)
    }

    /// The last entry of an author, up to a number, that is not held and has nothing held in its past: both grow along a
    /// chain.
    pub(in crate::space) fn last_free(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
        end: Option<u64>,
        held: &BTreeMap<VerifyingKey, u64>,
    ) -> Result<Option<(EntryRef, EntryOrder)>, RowError> {
        let is_free = |name: &EntryRef| -> Result<bool, RowError> {
            if held.get(author).is_some_and(|first| name.seq >= *first) {
                return Ok(false);
            }
            let entry = row::named(rows, name)?;
            Ok(held.iter().all(|(author, first)| !entry.known.reaches(author, *first)))
        };
        let Some(last) = self.last_counting_to(rows, author, end)? else { return Ok(None) };
        if is_free(&last.0)? {
            return Ok(Some(last));
        }
        let (mut low, mut high, mut best) = (0, last.0.seq, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.last_counting_to(rows, author, Some(middle))? {
                Some(found) if is_free(&found.0)? => {
                    best = Some(found);
                    low = middle + 1;
                }
                Some(_) => high = middle,
                None => low = middle + 1,
            }
        }
        Ok(best)
    }
}
