//! Reports of long work, not more often than a person can see.

use std::sync::Mutex;
use std::time::Duration;

use crate::Env;
use crate::limits::PROGRESS_HZ;
use crate::report::{Observer, Progress};

/// Counts what is done and tells an observer now and then.
pub(crate) struct Meter<'a> {
    observer: &'a dyn Observer,
    env: &'a Env,
    state: Mutex<State>,
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
        Self { observer, env, state: Mutex::new(State { progress, told: None }) }
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
        }
    }
}
