//! A new transport key each day: when nobody would notice, the network of a node ends, and another one begins under a key of
//! its own (`docs/spec/09-rendezvous.md`, section 1.1). Who crawls the DHT cannot follow a device from one key to the next.

use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::Node;
use super::hub::Hub;
use crate::Error;

/// A key is kept for a day, 6 hours more or less, so that the change says nothing of whose it is.
const LIFE_MIN: Duration = Duration::from_secs(18 * 3600);
const LIFE_SPREAD: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked whether a node that is due rests by now.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// A port that is not free at once is tried again.
const TRIES: u32 = 10;
const TRY_PAUSE: Duration = Duration::from_millis(300);

/// What [`Node::wait`] ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The system asks this process to end.
    Asked,
    /// The node rests, and its transport key is a day old; or it could not be started anew a minute ago:
    /// [`Node::start_anew`], or be told again a minute later.
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
        let (hub, due, is_running) = (&self.hub, self.due, self.threads.is_some());
        let woken = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Ok(Woken::Asked),
                _ = terminate.recv() => Ok(Woken::Asked),
                _ = stopping.wait_for(|stop| *stop), if is_running => {
                    Err(Error::Network("the network of this node has ended".into()))
                }
                () = rest_from(hub, due), if is_running => Ok(Woken::Due),
                () = tokio::time::sleep_until(due), if !is_running => Ok(Woken::Due),
            }
        })?;
        self.due = Instant::now() + LOOK_INTERVAL;
        Ok(woken)
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
        (self.threads, self.hub, self.due) = (Some(threads), hub, due());
        Ok(())
    }
}

/// When the transport key of a network that starts now is to be replaced.
pub(super) fn due() -> Instant {
    Instant::now() + life(&mut crate::env::system_dice())
}

/// How long a transport key is kept.
fn life(dice: &mut (impl Rng + ?Sized)) -> Duration {
    LIFE_MIN + Duration::from_secs(dice.next_u64() % LIFE_SPREAD.as_secs())
}

/// Waits until a node rests, not before `due`.
async fn rest_from(hub: &Hub, due: Instant) {
    tokio::time::sleep_until(due).await;
    while !hub.is_at_rest() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn t82_a_key_is_kept_for_about_a_day_and_no_two_alike() {
        let mut dice = ChaCha8Rng::seed_from_u64(82);
        let lives: std::collections::BTreeSet<Duration> = (0..1_000).map(|_| life(&mut dice)).collect();
        assert!(lives.len() > 900, "{}", lives.len());
        let (least, most) = (lives.first().unwrap(), lives.last().unwrap());
        assert!(*least >= LIFE_MIN && *most < LIFE_MIN + LIFE_SPREAD);
        assert!(*most - *least > LIFE_SPREAD * 9 / 10);
    }
}
