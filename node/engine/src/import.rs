//! `add`: files and folders in (`docs/spec/08-at-rest.md`, "Order of a write").
//!
//! One thread walks and plans; workers read small files, cut, key and seal; one thread, that of the caller, gathers
//! sealed chunks into packs in the order of the walk and commits batch after batch. What is under way between them is
//! bounded by bytes and by number, whatever the files are.

mod batch;
mod budget;
mod content;
mod plan;
mod walk;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::bounded;

use self::batch::Batch;
use self::budget::Budget;
use self::content::Sealer;
use self::plan::{Job, Planner};
use crate::limits::{IN_FLIGHT_BYTES, IN_FLIGHT_JOBS};
use crate::locker::Inner;
use crate::organise::ensure_folder;
use crate::progress::Meter;
use crate::report::{Added, Observer};
use crate::{Error, path};

/// Takes `paths` in below the folder `to`; see [`crate::Locker::add`].
pub(crate) fn add(inner: &Inner, paths: &[&Path], to: &str, observer: &dyn Observer) -> Result<Added, Error> {
    let start = inner.env().elapsed();
    let store = inner.store()?;
    let target = inner.commit(|change| ensure_folder(change, &path::split(to)?, true))?;
    let home = std::fs::metadata(store.home().path())
        .map_err(|e| Error::io("cannot read", store.home().path(), e))?;
    let home = (home.dev(), home.ino());

    let sealer = Arc::new(Sealer::new(&inner.keys().dedup, inner.space_tag(), store.read()?));
    let meter = Meter::new(observer, inner.env(), None);
    let (jobs, planned) = bounded::<Job>(IN_FLIGHT_JOBS);
    let mut added = std::thread::scope(|scope| {
        let planner = {
            let sealer = Arc::clone(&sealer);
            let shown = path::split(to)?.join("/");
            scope.spawn(move || -> Result<(), Error> {
                let mut planner =
                    Planner::new(inner, &sealer, Budget::new(IN_FLIGHT_BYTES), jobs, target, shown);
                walk::walk(paths, &|meta| (meta.dev(), meta.ino()) == home, &mut |found| planner.found(found))
            })
        };
        let gathered = Batch::new(inner, &store, &sealer, observer, &meter).run(planned);
        let walked = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // When committing fails the planner stops for that reason; the first cause is the one to tell.
        let added = gathered?;
        walked?;
        Ok::<_, Error>(added)
    })?;
    added.seconds = inner.env().elapsed().saturating_sub(start).as_secs_f64();
    Ok(added)
}
