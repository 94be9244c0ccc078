//! A new transport key each day: when nobody would notice, the network of a node ends, and another one begins under a key of
//! its own (`docs/spec/09-rendezvous.md`, section 1.1). Who crawls the DHT cannot follow a device from one key to the next.

use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Node;
use super::hub::Hub;
use crate::Error;

const DAY_MS: u64 = 86_400_000;
/// The time of the day of UTC at which keys change, from its beginning: no record of the new day is put before that is over
/// (`docs/spec/09-rendezvous.md`, section 4.4), so that no key is seen under those of two days.
const CHANGE_MS: u64 = 600_000;
/// Of it each node takes its own part: it begins so late at most.
const LATEST_MS: u64 = 420_000;
/// How often it is looked whether it is that time, and the node rests.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// A port that is not free at once is tried again.
const TRIES: u32 = 10;
const TRY_PAUSE: Duration = Duration::from_millis(300);

/// What [`Node::wait`] ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The system asks this process to end.
    Asked,
    /// A new day has begun and the node rests, or it could not be started anew a minute ago: [`Node::start_anew`], or be
    /// told again a minute later.
    Due,
}

/// SIGINT and SIGTERM, heard from the moment when this is made.
pub struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to hear them.
    ///
    /// # Errors
    /// [`Error::Network`] if the system does not tell of them.
    pub fn hear() -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::Network(format!("signals cannot be heard: {e}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (interrupt, terminate) = {
            let _entered = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            (interrupt, signal(SignalKind::terminate()).map_err(failed)?)
        };
        Ok(Self { runtime, interrupt, terminate })
    }
}

impl Node {
    /// Waits until the system asks this process to end, or a new transport key is due.
    ///
    /// # Errors
    /// [`Error::Network`] if the network has ended by itself.
    pub fn wait(&mut self, signals: &mut Signals) -> Result<Woken, Error> {
        let Signals { runtime, interrupt, terminate } = signals;
        let mut stopping = self.hub.stopping();
        let (hub, change, is_running) = (&self.hub, self.change, self.threads.is_some());
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Ok(Woken::Asked),
                _ = terminate.recv() => Ok(Woken::Asked),
                _ = stopping.wait_for(|stop| *stop), if is_running => {
                    Err(Error::Network("the network of this node has ended".into()))
                }
                () = rest_at(hub, change), if is_running => Ok(Woken::Due),
                () = tokio::time::sleep(LOOK_INTERVAL), if !is_running => Ok(Woken::Due),
            }
        })
    }

    /// Ends the network in order, and starts another one under a new transport key, as it was started at first. Takes up to
    /// a few seconds, in which no node runs; others find it as after any start. What this device promised stands.
    ///
    /// # Errors
    /// Those of [`Node::start`], if it does not start within three seconds: no node runs then, and it is to be tried again.
    pub fn start_anew(&mut self) -> Result<(), Error> {
        let inner = Arc::clone(self.hub.inner());
        self.end();
        let mut tries = 1;
        let (threads, hub) = loop {
            match Self::begin(&inner, &self.options, self.hub.inherit()) {
                Err(_) if tries < TRIES => std::thread::park_timeout(TRY_PAUSE),
                other => break other?,
            }
            tries += 1;
        };
        self.change = Change::after(inner.env().now_ms(), &mut crate::env::system_dice());
        (self.threads, self.hub) = (Some(threads), hub);
        Ok(())
    }
}

/// When the transport key of a network is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// The day on which it began.
    day: u64,
    /// How long into a later one.
    after_ms: u64,
}

impl Change {
    /// For a network that starts now.
    pub(super) fn after(now_ms: u64, dice: &mut (impl Rng + ?Sized)) -> Self {
        Self { day: now_ms / DAY_MS, after_ms: dice.next_u64() % LATEST_MS }
    }

    /// Whether it is the time. A day on which it was missed, as the device slept or was busy, goes by.
    fn is_due(self, now_ms: u64) -> bool {
        now_ms / DAY_MS != self.day && (self.after_ms..CHANGE_MS).contains(&(now_ms % DAY_MS))
    }
}

/// Waits until it is time for a change, and the node rests.
async fn rest_at(hub: &Hub, change: Change) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if change.is_due(hub.inner().env().now_ms()) && hub.is_at_rest() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn t82_a_key_is_replaced_early_on_the_next_day_by_each_node_at_its_own_time() {
        let (mut dice, day, minute) = (ChaCha8Rng::seed_from_u64(82), 20_000 * DAY_MS, 60_000);
        let mut begun = std::collections::BTreeSet::new();
        for start in [day, day + minute, day + DAY_MS / 2, day + DAY_MS - 1] {
            for _ in 0..100 {
                let change = Change::after(start, &mut dice);
                let due: Vec<u64> = (start..start + 3 * DAY_MS)
                    .step_by(minute as usize)
                    .filter(|now_ms| change.is_due(*now_ms))
                    .collect();
                let first = due[0];
                assert!(first >= day + DAY_MS && first < day + DAY_MS + CHANGE_MS, "{change:?}");
                // Looked at each minute there are some looks before the time is over, and it comes again the day after.
                assert!(due.iter().filter(|at| **at < first + CHANGE_MS).count() >= 2, "{change:?}");
                assert!(due.iter().any(|at| *at >= day + 2 * DAY_MS), "{change:?}");
                assert!(due.iter().all(|at| at % DAY_MS < CHANGE_MS), "{change:?}");
                begun.insert((first - day - DAY_MS) / minute);
            }
        }
        assert!(begun.len() >= 6, "{begun:?}");
    }
}
