//! A change of the home space, as one commit.

use locker_catalog::space::Space;
use locker_store::{Reads, WriteTxn};

use crate::Error;
use crate::locker::Inner;

impl Inner {
    /// Changes the home space in one durable commit.
    pub(crate) fn change_space<T>(
        &self,
        change: impl FnOnce(&mut WriteTxn<'_>, &mut Space) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.change_space_with(change, |_| true)
    }

    /// The same, told as a commit only if it `is_news`.
    pub(super) fn change_space_with<T>(
        &self,
        change: impl FnOnce(&mut WriteTxn<'_>, &mut Space) -> Result<T, Error>,
        is_news: impl FnOnce(&T) -> bool,
    ) -> Result<T, Error> {
        let store = self.store()?;
        let mut txn = store.begin_write()?;
        // As in `commit`.
        let mut slot = self.space();
        let mut space = match slot.take() {
            Some(space) => space,
            None => Space::open(&txn.rows(self.space_tag()), self.keys().space, self.keys().device_id())?,
        };
        match change(&mut txn, &mut space).and_then(|value| txn.commit().map(|()| value).map_err(Error::from))
        {
            Ok(value) => {
                *slot = Some(space);
                if is_news(&value) {
                    self.note_commit();
                }
                Ok(value)
            }
            Err(error) => {
                *slot = self.reopened(space);
                Err(error)
            }
        }
    }
}
