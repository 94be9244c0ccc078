//! `add`: files and folders in (`docs/spec/08-at-rest.md`, "Order of a write").
//!
//! One thread walks and plans; workers read small files, cut, key and seal; one thread, that of the caller, gathers
//! sealed chunks into packs in the order of the walk; writers hash packs and write them; one thread commits batch after
//! batch. What is under way between them is bounded by bytes and by number, whatever the files are.

mod batch;
mod budget;
mod content;
mod gather;
mod packs;
mod plan;
mod walk;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use locker_catalog::name::{self, collision_key};
use locker_crypto::id::NodeId;

use self::batch::{Batch, Committer};
use self::budget::Budget;
use self::content::Sealer;
use self::gather::Gatherer;
use self::plan::{Job, Planner};
use crate::limits::{BATCHES_QUEUED, IN_FLIGHT_BYTES, IN_FLIGHT_JOBS, PACK_WRITERS};
use crate::locker::{ImportTurn, Inner};
use crate::organise::ensure_folder;
use crate::progress::Meter;
use crate::report::{Added, Observer};
use crate::{Error, path};

/// How often it is looked whether an import that waits for another one may begin, and whether it is still wanted.
const TURN_LOOK: Duration = Duration::from_millis(200);
/// How often an import looks its folders up again that were moved to the trash meanwhile.
const DISPLACED_TRIES: u32 = 3;

/// Takes `paths` in below the folder `to`; see [`crate::Locker::add`].
pub(crate) fn add(inner: &Inner, paths: &[&Path], to: &str, observer: &dyn Observer) -> Result<Added, Error> {
    let meter = Meter::new(observer, inner.env(), None);
    // One at a time: what one import makes, the next one has to find.
    let _turn = turn(inner, &meter)?;
    let start = inner.env().elapsed();
    inner.may_sign()?;
    let tops = walk::tops(paths)?;
    let target = inner.commit(|change| ensure_folder(change, &path::split(to)?, true))?;
    let shown = path::split(to)?.join("/");
    let mut added = Added::default();
    let mut rest = tops.as_slice();
    while !rest.is_empty() {
        let (group, after) = rest.split_at(distinct(rest));
        rest = after;
        let mut tries = DISPLACED_TRIES;
        loop {
            let mut more = added.clone();
            let imported = import(inner, group, (target, &shown), observer, &meter, &mut more);
            tries -= 1;
            match imported {
                // Where it was written to has gone: looked up again, what was saved before is found there.
                Err(Error::Displaced) if tries > 0 => {}
                other => {
                    added = more;
                    break other?;
                }
            }
        }
    }
    added.seconds = inner.env().elapsed().saturating_sub(start).as_secs_f64();
    Ok(added)
}

/// The turn to import; waits for the import that runs, as long as somebody wants that.
fn turn<'a>(inner: &'a Inner, meter: &Meter<'_>) -> Result<ImportTurn<'a>, Error> {
    loop {
        if let Some(turn) = inner.import_turn_within(TURN_LOOK) {
            return Ok(turn);
        }
        meter.go_on()?;
    }
}

/// How many arguments from the first on have names of their own. One of the same name goes into the same folder, which
/// must be committed before.
fn distinct(tops: &[walk::Top]) -> usize {
    let mut names = HashSet::new();
    tops.iter().take_while(|top| names.insert(collision_key(&name::import(top.name.as_bytes()).name))).count()
}

fn import(
    inner: &Inner,
    tops: &[walk::Top],
    target: (NodeId, &str),
    observer: &dyn Observer,
    meter: &Meter<'_>,
    added: &mut Added,
) -> Result<(), Error> {
    let store = inner.store()?;
    let home = std::fs::metadata(store.home().path())
        .map_err(|e| Error::io("cannot read", store.home().path(), e))?;
    let home = (home.dev(), home.ino());
    let sealer = Arc::new(Sealer::new(&inner.keys(), inner.space_tag(), store.read()?)?);
    let (jobs, planned) = bounded::<Job>(IN_FLIGHT_JOBS);
    let budget = Budget::new(IN_FLIGHT_BYTES);
    std::thread::scope(|scope| {
        let planner = {
            let (sealer, budget) = (Arc::clone(&sealer), budget.clone());
            scope.spawn(move || -> Result<(), Error> {
                let to = (target.0, target.1.to_owned());
                let mut planner = Planner::new(inner, &sealer, meter, budget, jobs, to)?;
                walk::walk(tops, &|meta| (meta.dev(), meta.ino()) == home, &mut |found| planner.found(found))
            })
        };
        let (queue, writer) = packs::queue();
        for _ in 0..PACK_WRITERS {
            let (writer, packs) = (writer.clone(), store.packs());
            scope.spawn(move || writer.run(packs));
        }
        drop(writer);
        let (batches, closed) = bounded::<Batch>(BATCHES_QUEUED);
        let committer = Committer { inner, store: &store, sealer: &sealer, observer };
        let committer = scope.spawn(move || {
            let mut new_bytes = 0;
            let committed = committer.run(&closed, &mut new_bytes);
            (committed, new_bytes)
        });
        let gathered = Gatherer::new(inner, &sealer, meter, added, queue, batches).run(planned);
        budget.close();
        let joined = committer.join();
        let walked = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (committed, new_bytes) = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        added.new_bytes += new_bytes;
        // Who gathers and who plans stop when what they give is not taken: the first cause is the one to tell.
        committed.and(gathered).and(walked)
    })
}
