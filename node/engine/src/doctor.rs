//! `doctor`: looks at every part of this device and names cause and cure. What is found is gathered here; what it means is
//! said by pure functions in the rooms.
//!
//! The network is looked at from outside: a second node, the *probe*, runs for the time of the look and tries to find this one
//! as another device would, by its addresses, on the local network and in the DHT. It shows nobody who it is.

mod clock;
mod devices;
mod disk;
mod network;
mod router;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use locker_net::NodeAddress;

use crate::node::{Hub, NodeOptions, visit, with_net};
use crate::report::{Check, Diagnosis, Observer, Progress};
use crate::{Error, Locker};

/// Parts that are looked at, all devices together as one.
const PARTS: u64 = 9;

/// Looks at everything, with the node that runs on the locker. `asked` are meeting points to be tried beside those that the
/// node was started with.
///
/// # Errors
/// [`Error::Network`] if no second node can be started; what reading the devices gives.
pub(crate) fn diagnose(
    hub: &Arc<Hub>,
    asked: &[NodeAddress],
    observer: &dyn Observer,
) -> Result<Diagnosis, Error> {
    let (inner, done) = (hub.inner(), Done { count: AtomicU64::new(0), observer });
    let start = inner.env().elapsed();
    done.tell(0);
    let disk = done.with(disk::look(inner));
    let store = done.with(store::look(inner));
    let others = devices::others(inner)?;
    let mut points = hub.bootstrap().to_vec();
    points.extend(asked.iter().filter(|point| !hub.bootstrap().contains(point)));
    let options = NodeOptions { bootstrap: points.clone(), lan: hub.has_lan(), ..NodeOptions::default() };
    let (network, devices, clock) = hub.runtime().block_on(with_net(options, async |probe| {
        let network = async {
            tokio::join!(
                async { done.with(network::listen(hub, probe).await) },
                async { done.with(network::lan(hub, probe).await) },
                async { done.with(network::bootstrap(&points, probe).await) },
                async { done.with(network::dht(hub, !points.is_empty(), probe).await) },
                async { done.with(network::reach(hub, !points.is_empty()).await) },
            )
        };
        let devices = async {
            let devices = done.with(devices::look(hub, &others).await);
            // Whoever was met has told the time.
            (devices, done.with(clock::look(hub)))
        };
        let ((listen, lan, bootstrap, dht, [nat, relay]), (devices, clock)) = tokio::join!(network, devices);
        Ok(([listen, lan, bootstrap, dht, relay, nat], devices, clock))
    }))?;
    let checks = [clock, disk, store].into_iter().chain(network).chain(devices).collect();
    Ok(Diagnosis::new(checks, inner.env().elapsed().saturating_sub(start).as_secs_f64()))
}

impl Locker {
    /// Looks at what can be looked at where the home can only be read, and [`Locker::doctor`] is therefore
    /// [`Error::ReadOnly`]: the disk, the store, and the meeting points of `options`.
    pub fn doctor_without_node(&self, options: &NodeOptions, observer: &dyn Observer) -> Diagnosis {
        let (inner, done) = (self.inner(), Done { count: AtomicU64::new(0), observer });
        let start = inner.env().elapsed();
        done.tell(0);
        let disk = done.with(disk::look(&inner));
        let store = done.with(store::look(&inner));
        let points = options.bootstrap.clone();
        let options = NodeOptions { bootstrap: points.clone(), ..NodeOptions::default() };
        let bootstrap = visit(options, async |probe| Ok(network::bootstrap(&points, probe).await));
        let bootstrap = bootstrap.unwrap_or_else(|error| network::unvisited(&error));
        let checks = vec![disk, store, unstarted(), done.with(bootstrap)];
        Diagnosis::new(checks, inner.env().elapsed().saturating_sub(start).as_secs_f64())
    }
}

/// What is said of all that only a node can look at.
fn unstarted() -> Check {
    Check::failed(
        network::LISTEN,
        "No node can run here, so the clock, the rest of the network and the other devices were not looked at.",
        "A node writes down what it learns, and this home can only be read.",
        "Make the home writable for this user, then run `locker doctor` again.",
    )
}

/// Counts what has been looked at.
struct Done<'a> {
    count: AtomicU64,
    observer: &'a dyn Observer,
}

impl Done<'_> {
    fn with<T>(&self, found: T) -> T {
        self.tell(self.count.fetch_add(1, Ordering::Relaxed) + 1);
        found
    }

    fn tell(&self, files: u64) {
        self.observer.progress(Progress { files, files_total: Some(PARTS), bytes: 0, bytes_total: None });
    }
}
