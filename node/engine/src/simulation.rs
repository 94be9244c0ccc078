//! Whole nodes on a runtime, a network and a clock that a program holds (`tests/simulation`): what only such a program
//! needs. Everything else is as ever, on one thread.
//!
//! A method of [`Locker`] that waits for other devices keeps all nodes of the runtime going meanwhile. So it must be
//! called from outside of the runtime.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use locker_net::Wire;
use rand_core::Rng;
use tokio::runtime::Runtime;

use crate::join::JoinAs;
use crate::report::{Guide, Joined, Paired};
use crate::{Env, Error, JoinOptions, Locker};

/// Longest time that something takes that blocks.
const MOMENT_MAX_US: u32 = 4_000;

/// Where the node of a simulation runs.
#[derive(Clone)]
pub struct Simulated {
    /// The thread for everything.
    pub runtime: Arc<Runtime>,
    /// The network as this node sees it.
    pub wire: Arc<dyn Wire>,
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

/// [`Locker::pair`] on the node that runs, to be awaited beside the other end.
///
/// # Errors
/// As there; [`Error::Network`] if no node runs.
pub async fn pair(locker: &Locker, wanted: JoinAs, guide: &dyn Guide) -> Result<Paired, Error> {
    let hub = locker.reading()?.node().ok_or_else(|| Error::Network("no node runs".into()))?;
    crate::node::invite(&hub, wanted, guide).await
}

/// [`Locker::join`], to be awaited beside the other end.
///
/// # Errors
/// As there.
pub async fn join(home: &Path, options: JoinOptions, guide: &dyn Guide, env: &Env) -> Result<Joined, Error> {
    crate::join::join_by(home, options, guide, env).await
}

/// How long something takes that blocks.
pub(crate) fn moment() -> Duration {
    Duration::from_micros(u64::from(crate::env::system_dice().next_u32() % MOMENT_MAX_US))
}
