//! What libp2p waits with, on the clock of the runtime, which a simulation holds. Takes the place of the crate
//! `futures-timer` in this workspace only.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// A century: longer than any simulation, and short enough to be added to any moment of it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Resolves once its time has passed.
#[derive(Debug)]
pub struct Delay(Pin<Box<Sleep>>);

impl Delay {
    /// Begins to wait.
    pub fn new(duration: Duration) -> Self {
        Self(Box::pin(sleep(duration.min(LONGEST))))
    }

    /// Begins anew.
    pub fn reset(&mut self, duration: Duration) {
        self.0.as_mut().reset(Instant::now() + duration.min(LONGEST));
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}
