//! How files begin whose content another device replaced while it is held (`docs/spec/05-tree.md`, "Brake"): tags that
//! were edited leave the beginning of a file as it was, a file that was encrypted has another.
//!
//! Looked at when the content is here or can be read from another device; until then all of it counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use locker_catalog::order::EntryOrder;
use locker_catalog::space::Space;
use locker_catalog::tree::Overwritten;
use locker_crypto::file_ref::FileRef;
use locker_store::Reads;

use super::hub::Hub;
use crate::Error;
use crate::limits::{BEGIN_BYTES, BEGINS_PER_LOOK};
use crate::locker::Inner;
use crate::reader::Reader;

/// Entries whose content nobody gave after which the others wait for another look.
const MISSES_MAX: u32 = 3;
/// Pause before another look at what could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Looks after each commit, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut commits = hub.inner().commits();
    loop {
        commits.borrow_and_update();
        let is_left = hub.until_stop(hub.blocking(Inner::look_at_beginnings)).await;
        let Some(is_left) = is_left else { return };
        let again = async {
            match is_left {
                Ok(false) => std::future::pending().await,
                // Its content is still to come, or the store is in trouble.
                Ok(true) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let wait = async {
            tokio::select! {
                () = again => {}
                _ = commits.changed() => {}
            }
        };
        if hub.until_stop(wait).await.is_none() {
            return;
        }
    }
}

impl Inner {
    /// Looks how held overwrites begin, as far as they can be read. Says whether some could not.
    fn look_at_beginnings(&self) -> Result<bool, Error> {
        let mut alike: BTreeMap<EntryOrder, u64> = BTreeMap::new();
        let mut is_left = false;
        {
            let store = self.store()?;
            let snapshot = store.read()?;
            let (keys, rows) = (self.keys(), snapshot.rows(self.space_tag()));
            if !Space::has_held(&rows)? {
                return Ok(false);
            }
            let space = Space::open(&rows, keys.space, keys.device_id())?;
            let mut entries: BTreeMap<EntryOrder, Vec<Overwritten>> = BTreeMap::new();
            for one in space.unread(&rows, BEGINS_PER_LOOK)? {
                entries.entry(one.at.entry).or_default().push(one);
            }
            // What is here first: for each of the others somebody may have to be waited for.
            let here = Reader::new(self, &store, &snapshot);
            let mut note = |reader: &Reader<'_>, order, overwritten: &[Overwritten]| {
                match count_alike(reader, overwritten) {
                    Ok(count) => _ = alike.insert(order, count),
                    // What cannot be read any more cannot be seen to begin as before.
                    Err(Error::Integrity { .. }) => _ = alike.insert(order, 0),
                    Err(Error::Network(_)) => return Ok(false),
                    Err(error) => return Err(error),
                }
                Ok(true)
            };
            let mut elsewhere = Vec::new();
            for (order, overwritten) in entries {
                if !note(&here, order, &overwritten)? {
                    elsewhere.push((order, overwritten));
                }
            }
            let others = Reader::new(self, &store, &snapshot).asking_others();
            let mut missed = 0;
            for (order, overwritten) in elsewhere {
                if missed >= MISSES_MAX || !note(&others, order, &overwritten)? {
                    missed += 1;
                    is_left = true;
                }
            }
        }
        if !alike.is_empty() {
            self.change_space(|txn, space| {
                let rows = &mut txn.rows_mut(self.space_tag());
                alike.iter().try_for_each(|(order, count)| Space::note_alike(rows, order, *count))?;
                Ok(space.weigh_again(rows)?)
            })?;
        }
        Ok(is_left)
    }
}

fn count_alike(reader: &Reader<'_>, overwritten: &[Overwritten]) -> Result<u64, Error> {
    let mut alike = 0;
    for Overwritten { before, after, .. } in overwritten {
        let Some(after) = after else { continue };
        let (old, new) = (before.file.size(), after.file.size());
        if old.min(new).saturating_mul(2) >= old.max(new)
            && beginning(reader, &before.file)? == beginning(reader, &after.file)?
        {
            alike += 1;
        }
    }
    Ok(alike)
}

fn beginning(reader: &Reader<'_>, file: &FileRef) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    reader.copy(file, 0..BEGIN_BYTES, &mut found, "a file that is held", &mut |_| {})?;
    Ok(found)
}
