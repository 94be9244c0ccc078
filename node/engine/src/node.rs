//! A running node: this device among the others of its person (`docs/spec/09-rendezvous.md`).
//!
//! One runtime of its own, owned by [`Node`]; everything that runs on it ends when the node is stopped. Order of
//! stopping: no new connections, sessions say goodbye, fetches are given up, the network is closed, the runtime ends.

mod again;
mod anew;
mod audit;
mod away;
mod begins;
mod blobs;
mod conversation;
mod dialer;
mod drives;
mod enrol;
mod fetches;
mod folding;
mod guest;
mod heir;
mod hub;
mod idle;
mod invite;
mod jumps;
mod keeping;
mod knock;
mod leases;
mod ledger;
mod lost;
mod prove;
mod remembered;
mod renewal;
mod resting;
mod ruling;
mod scrub;
pub(crate) mod seek;
mod slots;
mod threads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_net::{Clock, Config, Handle, Limits, NodeAddress, Role, both_transports};

use self::hub::Inherited;
use self::threads::Threads;

pub use self::anew::{Signals, Woken};
pub(crate) use self::audit::audit;
#[cfg(test)]
pub(crate) use self::dialer::Tried;
pub(crate) use self::dialer::{Miss, Trail};
pub(crate) use self::hub::{Gathered, Hub};
pub(crate) use self::invite::invite;
pub(crate) use self::knock::{KnockError, knock};
pub(crate) use self::ledger::{Asker, Incoming, Unopened};
pub(crate) use self::lost::Fetched;
pub(crate) use self::seek::Source as Whence;
use crate::join::JoinAs;
use crate::locker::Inner;
use crate::report::{Guide, Observer, Paired};
use crate::{Error, Locker};

/// How long a stop may take.
const STOP_TIME: Duration = Duration::from_secs(4);
/// How often it is looked whether whoever waits still does.
const STOP_LOOK: Duration = Duration::from_millis(500);

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Where to listen; a free port on every address if empty.
    pub listen: Vec<SocketAddr>,
    /// Nodes of the DHT to begin with.
    pub bootstrap: Vec<NodeAddress>,
    /// Whether others on the local network are looked for and told.
    pub lan: bool,
    /// Whether the default gateway is asked to pass a port on to the node.
    pub port_mapping: bool,
    /// Bytes of packs a second that are sent beyond the local network; no limit if `None`.
    pub upload_limit: Option<u64>,
    /// As [`NodeOptions::upload_limit`], for what is fetched.
    pub download_limit: Option<u64>,
    /// The limits of the network, those of the design if `None`. Many nodes on one address, as in tests, need others.
    pub limits: Option<Limits>,
    /// The runtime and the network of a simulation.
    #[cfg(feature = "simulation")]
    pub simulated: Option<crate::simulation::Simulated>,
}

impl NodeOptions {
    /// Reads addresses as people write them: `ip:port`, or a multiaddr with or without `/p2p/`.
    ///
    /// # Errors
    /// [`Error::Argument`], which names the one that is not understood.
    pub fn read_bootstrap(texts: &[String]) -> Result<Vec<NodeAddress>, Error> {
        let mut read = Vec::new();
        for text in texts {
            if let Ok(socket) = text.parse::<SocketAddr>() {
                read.extend(both_transports(socket).map(|address| NodeAddress { address, key: None }));
            } else {
                let address = text.parse::<NodeAddress>();
                read.push(address.map_err(|_| Error::Argument(format!("{text} is no address of a node")))?);
            }
        }
        Ok(read)
    }
}

/// A running node of an open locker. Stops when it is dropped.
pub struct Node {
    /// `None` if it could not be started anew.
    threads: Option<Threads>,
    hub: Arc<Hub>,
    options: NodeOptions,
    /// When its transport key is to be replaced.
    change: anew::Change,
}

impl Node {
    /// Starts the node of `locker`: listens, publishes, looks for the person's other devices, and keeps equal with them.
    ///
    /// # Errors
    /// [`Error::Network`] if an address cannot be bound; [`Error::Argument`] for a drive, which nobody looks for.
    pub fn start(locker: &Locker, options: NodeOptions) -> Result<Self, Error> {
        if locker.inner().keys().doors(0).is_empty() {
            return Err(Error::Argument(
                "this is a cold drive: a device of its locker brings it up to date, and no node runs on it"
                    .into(),
            ));
        }
        let (threads, hub) = Self::begin(&locker.inner(), &options, Inherited::default())?;
        let change = anew::Change::after(locker.inner().env().now_ms(), &mut crate::env::system_dice());
        Ok(Self { threads: Some(threads), hub, options, change })
    }

    /// Starts everything, and tells the locker.
    fn begin(
        inner: &Arc<Inner>,
        options: &NodeOptions,
        inherited: Inherited,
    ) -> Result<(Threads, Arc<Hub>), Error> {
        let threads = Threads::start(options)?;
        let waits = threads.waits();
        let started = Hub::start(Arc::clone(inner), config(options.clone()), waits.clone(), inherited);
        let hub = waits.block_on(started)?;
        inner.set_node(Some(Arc::clone(&hub)));
        Ok((threads, hub))
    }

    /// Ends everything, in order.
    fn end(&mut self) {
        self.hub.inner().set_node(None);
        if let Some(threads) = self.threads.take() {
            threads.waits().block_on(async {
                // Whoever does not end in time is ended with the threads.
                let _ = tokio::time::timeout(STOP_TIME, self.hub.stop()).await;
            });
            threads.end();
        }
    }

    /// The addresses on which the node listens, as others write them down.
    pub fn listen(&self) -> Vec<String> {
        self.hub.listen()
    }
}

/// Waits on a running node until everything is here.
pub(crate) fn wait_synced(
    hub: &Hub,
    timeout: Option<Duration>,
    observer: &dyn Observer,
) -> Result<(), Error> {
    hub.runtime().block_on(unless_stopped(observer, hub.wait_synced(timeout)))
}

/// Waits on a running node until all content is on so many devices.
pub(crate) fn wait_copies(
    hub: &Hub,
    copies: u32,
    timeout: Option<Duration>,
    observer: &dyn Observer,
) -> Result<(), Error> {
    hub.runtime().block_on(unless_stopped(observer, hub.wait_copies(copies, timeout)))
}

/// Waits for something as long as somebody wants it: who asked may have gone.
async fn unless_stopped(
    observer: &dyn Observer,
    wait: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let stopped = async {
        while !observer.is_stopped() {
            tokio::time::sleep(STOP_LOOK).await;
        }
    };
    tokio::select! {
        ended = wait => ended,
        () = stopped => Err(Error::Stopped),
    }
}

/// Fetches lost packs on a running node, from whoever has them.
pub(crate) fn fetch_lost(
    hub: &Hub,
    lost: &[(PackHash, u32)],
    observer: &dyn Observer,
) -> Result<Fetched, Error> {
    hub.runtime().block_on(lost::fetch(hub, lost, observer))
}

/// Invites a device on a running node.
pub(crate) fn pair(hub: &Arc<Hub>, wanted: JoinAs, guide: &dyn Guide) -> Result<Paired, Error> {
    hub.runtime().block_on(invite(hub, wanted, guide))
}

/// Runs `work` with a network of its own, for somebody who only visits: what others open here is reset.
///
/// # Errors
/// [`Error::Network`] if the network cannot be started, and those of `work`.
pub(crate) fn visit<T>(
    options: NodeOptions,
    work: impl AsyncFnOnce(&Handle) -> Result<T, Error>,
) -> Result<T, Error> {
    on_threads(&options.clone(), with_net(options, work))
}

/// Runs `work` on threads for the time.
///
/// # Errors
/// [`Error::Network`] if there are none, and those of `work`.
pub(crate) fn on_threads<T>(
    options: &NodeOptions,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let threads = Threads::start(options)?;
    let done = threads.waits().block_on(work);
    threads.end();
    done
}

/// [`visit`] on a runtime that is there already. Dropping the future leaves the network to end by itself.
///
/// # Errors
/// As [`visit`].
pub(crate) async fn with_net<T>(
    options: NodeOptions,
    work: impl AsyncFnOnce(&Handle) -> Result<T, Error>,
) -> Result<T, Error> {
    let dice = Box::new(crate::env::system_dice());
    let env = locker_net::Env { dice, clock: Clock::system() };
    // Somebody who only visits is found by nobody, and does nothing for others.
    let config = Config { role: Role::Client, ..config(options) };
    let (net, mut events) = locker_net::start(config, env).await?;
    // Streams that others open here are dropped, and so reset.
    let hearing = tokio::spawn(async move { while events.next().await.is_some() {} });
    let done = work(&net).await;
    net.shutdown().await;
    hearing.abort();
    done
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the network is told.
fn config(options: NodeOptions) -> Config {
    let mut config = Config {
        bootstrap: options.bootstrap,
        port_mapping: options.port_mapping,
        upload_limit: options.upload_limit,
        download_limit: options.download_limit,
        ..Config::default()
    };
    if !options.listen.is_empty() {
        config.listen = options.listen;
    }
    if !options.lan {
        config.lan = None;
    }
    if let Some(limits) = options.limits {
        config.limits = limits;
    }
    #[cfg(feature = "simulation")]
    if let Some(simulated) = options.simulated {
        config.wire = Some(simulated.wire);
    }
    config
}
