//! How often a ticket may be tried.

use crate::limits::{TICKET_LIFE_S, TICKET_RUNS_MAX};

/// The life of one ticket on the device that made it: 10 minutes, and three runs that passed message 1.
///
/// A run counts when it begins, so that runs side by side are no way round the limit. Runs that fail at message 1 do
/// not count: with 88 bits nothing is gained by guessing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Runs {
    made_s: u64,
    begun: u32,
    running: u32,
    is_spent: bool,
}

impl Runs {
    /// Starts the life of a ticket.
    pub const fn new(now_s: u64) -> Self {
        Self { made_s: now_s, begun: 0, running: 0, is_spent: false }
    }

    /// Whether a run may begin.
    pub const fn is_open(&self, now_s: u64) -> bool {
        !self.is_spent && self.begun < TICKET_RUNS_MAX && now_s.saturating_sub(self.made_s) < TICKET_LIFE_S
    }

    /// Counts a run that passed message 1. Returns whether it may go on; its end is then to be told by
    /// [`Runs::run_ended`].
    pub const fn begin(&mut self, now_s: u64) -> bool {
        let is_open = self.is_open(now_s);
        if is_open {
            self.begun += 1;
            self.running += 1;
        }
        is_open
    }

    /// Notes the end of a run that began, whatever came of it.
    pub const fn run_ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Whether any run began.
    pub const fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// Whether nothing more can come of the ticket: no run may begin, and none is under way.
    pub const fn is_over(&self, now_s: u64) -> bool {
        !self.is_open(now_s) && self.running == 0
    }

    /// Ends the ticket: a device was enrolled, or the user gave up.
    pub const fn end(&mut self) {
        self.is_spent = true;
    }
}
