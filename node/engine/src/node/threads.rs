//! What a node runs on: threads of its own, or, in a simulation, the one thread of a runtime that somebody else holds.

#[cfg(feature = "simulation")]
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use super::NodeOptions;
use crate::Error;

/// Threads for the tasks of a node, held by whoever started it.
pub(super) enum Threads {
    Own(Runtime),
    #[cfg(feature = "simulation")]
    Held(Arc<Runtime>),
}

impl Threads {
    /// Makes threads, unless the options name whose to use.
    ///
    /// # Errors
    /// [`Error::Network`] if the system gives none.
    #[cfg_attr(not(feature = "simulation"), allow(unused_variables, reason = "they name no others"))]
    pub(super) fn start(options: &NodeOptions) -> Result<Self, Error> {
        #[cfg(feature = "simulation")]
        if let Some(held) = &options.simulated {
            return Ok(Self::Held(Arc::clone(&held.runtime)));
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("node").enable_all().build();
        runtime.map(Self::Own).map_err(|e| Error::Network(format!("the node cannot be started: {e}")))
    }

    /// For those who wait on the node without holding it.
    pub(super) fn waits(&self) -> Waits {
        match self {
            Self::Own(runtime) => Waits::On(runtime.handle().clone()),
            #[cfg(feature = "simulation")]
            Self::Held(runtime) => Waits::Driving(Arc::clone(runtime)),
        }
    }

    /// Ends them, a second later at the latest.
    pub(super) fn end(self) {
        match self {
            Self::Own(runtime) => runtime.shutdown_timeout(Duration::from_secs(1)),
            #[cfg(feature = "simulation")]
            Self::Held(_) => {}
        }
    }
}

/// Waiting for something that runs on the threads of a node, from outside of them.
#[derive(Clone)]
pub(crate) enum Waits {
    On(Handle),
    /// Who waits keeps everything going meanwhile.
    #[cfg(feature = "simulation")]
    Driving(Arc<Runtime>),
}

impl Waits {
    /// Waits.
    pub(crate) fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        match self {
            Self::On(handle) => handle.block_on(task),
            #[cfg(feature = "simulation")]
            Self::Driving(runtime) => runtime.block_on(task),
        }
    }

    /// The runtime.
    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::On(handle) => handle,
            #[cfg(feature = "simulation")]
            Self::Driving(runtime) => runtime.handle(),
        }
    }
}

/// Runs work that may block beside the tasks of a node; `None` if the node ends first.
#[cfg(not(feature = "simulation"))]
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Runs work that may block among the tasks of all nodes, a moment later: others go on meanwhile, as they would beside a
/// thread.
#[cfg(feature = "simulation")]
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::time::sleep(crate::simulation::moment()).await;
    let done = work();
    tokio::time::sleep(crate::simulation::moment()).await;
    Some(done)
}
