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
