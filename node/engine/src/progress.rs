//! Reports of long work, not more often than a person can see.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::limits::PROGRESS_HZ;
use crate::report::{Observer, Progress};
use crate::{Env, Error};

/// Counts what is done and tells an observer now and then, who can say then that the work is to stop.
pub(crate) struct Meter<'a> {
    observer: &'a dyn Observer,
    env: &'a Env,
    state: Mutex<State>,
    is_stopped: AtomicBool,
}

struct State {
    progress: Progress,
    told: Option<Duration>,
}

impl<'a> Meter<'a> {
    /// Starts at nothing. Totals are given where they are known.
    pub(crate) fn new(observer: &'a dyn Observer, env: &'a Env, totals: Option<(u64, u64)>) -> Self {
        let progress = Progress {
            files_total: totals.map(|(files, _)| files),
            bytes_total: totals.map(|(_, bytes)| bytes),
            ..Progress::default()
        };
        let state = Mutex::new(State { progress, told: None });
        Self { observer, env, state, is_stopped: AtomicBool::new(false) }
    }

    /// Adds to what is done.
    pub(crate) fn add(&self, files: u64, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.progress.files += files;
        state.progress.bytes += bytes;
        let now = self.env.elapsed();
        if state.told.is_none_or(|told| now.saturating_sub(told) >= Duration::from_secs(1) / PROGRESS_HZ) {
            state.told = Some(now);
            self.observer.progress(state.progress);
            if self.observer.is_stopped() {
                self.is_stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the work may go on, where nothing is done meanwhile that is counted: tells and asks the observer too, not more
    /// often than else.
    ///
    /// # Errors
    /// As [`Meter::check`].
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        self.add(0, 0);
        self.check()
    }

    /// Whether the work may go on. Costs nothing: the observer was asked when he was told last.
    ///
    /// # Errors
    /// [`Error::Stopped`] once the observer has said that it is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_stopped.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Bytes on their way to somewhere, which end when the work is to stop.
pub(crate) struct Stoppable<'a, W> {
    pub(crate) out: W,
    pub(crate) meter: &'a Meter<'a>,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.meter.check().map_err(io::Error::other)?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STREAM_SIZE_MIN;
    use crate::report::Silent;
    use crate::test_mesh::{World, id, names};

    /// Has had enough from the beginning.
    struct Stopping;

    impl Observer for Stopping {
        fn is_stopped(&self) -> bool {
            true
        }
    }

    /// Goal: work that is stopped leaves nothing half done, and is done when it is asked for again.
    #[test]
    fn what_is_stopped_leaves_nothing_half_done() {
        let (world, locker) = World::new();
        let (source, out) = (world.path("source"), world.path("out"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&out).unwrap();
        for n in 0..3 {
            std::fs::write(source.join(n.to_string()), vec![n; 40_000]).unwrap();
        }
        let is_stopped = |done: Result<_, Error>| matches!(done, Err(Error::Stopped));
        assert!(is_stopped(locker.add(&[&source], "", &Stopping).map(drop)));
        locker.add(&[&source], "", &Silent).unwrap();
        assert_eq!(names(&locker), ["source", "source/0", "source/1", "source/2"]);
        for from in ["source", "source/1"] {
            assert!(is_stopped(locker.get(from, &out, &Stopping).map(drop)));
            assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "{from}");
        }
        assert!(is_stopped(locker.leave(&world.path("left"), &Stopping).map(drop)));
        assert!(!world.path("left").exists());
        assert_eq!(locker.get("source", &out, &Silent).unwrap().files, 3);
    }

    /// Goal: an import that waits for another one, or only reads a large file to see whether it is still what was sealed
    /// under an earlier secret, is stopped too.
    #[test]
    fn an_import_that_writes_nothing_yet_can_be_stopped() {
        let (world, locker) = World::new();
        let ended = world.join(&locker, "ended");
        let (path, body) = (world.path("large.bin"), vec![7_u8; 5 << 20]);
        assert!(STREAM_SIZE_MIN < body.len() as u64);
        world.add_bytes(&locker, "large.bin", &body);
        locker.revoke_device(&id(&ended)).unwrap();
        let inner = locker.inner();
        let turn = inner.import_turn();
        assert!(matches!(locker.add(&[&path], "", &Stopping), Err(Error::Stopped)));
        drop(turn);
        // Written anew, it has another stamp.
        std::fs::write(&path, &body).unwrap();
        assert!(matches!(locker.add(&[&path], "", &Stopping), Err(Error::Stopped)));
        let again = locker.add(&[&path], "", &Silent).unwrap();
        assert_eq!((again.files, again.new_bytes), (1, 0));
    }
}
