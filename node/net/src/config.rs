//! What a node is told at its start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use locker_crypto::secret::SigningSeed;
use rand_core::CryptoRng;

use crate::address::NodeAddress;
use crate::limits::Limits;

/// The transport key of a node.
pub enum TransportSeed {
    /// Drawn at the start, so that nobody follows a device by it. What every home node has.
    Fresh,
    /// Kept over restarts; for `locker-bootstrap` alone, whose address others write down with its key.
    Kept(SigningSeed),
}

/// What a node does for others: for the DHT, as a relay, and by probing their addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing: it asks and publishes, and is in nobody's routing table.
    Client,
    /// Nothing until an address of it is confirmed to be reached from anywhere; then all of it.
    WhenPublic,
    /// All of it, from the start: the addresses on which it listens are taken for public.
    Server,
}

/// For whom a node is a relay, while it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayMode {
    /// Only those with a session reserve; circuits to them last long, and from strangers are few.
    Household,
    /// Anybody reserves; circuits are short and small.
    Open,
}

/// How a node starts. [`Config::default`] speaks to nobody who is not on its local network.
pub struct Config {
    /// Where to listen; each address serves QUIC and TCP. Port 0 means one free port, the same for all that say 0.
    /// Default: `0.0.0.0:0` and `[::]:0`.
    pub listen: Vec<SocketAddr>,
    /// Addresses known to be reachable from outside; published first, and told by identify. Default none.
    pub external: Vec<NodeAddress>,
    /// Nodes of the DHT to begin with. Default none; there are no hosts of ours.
    pub bootstrap: Vec<NodeAddress>,
    /// Default [`Role::WhenPublic`].
    pub role: Role,
    /// Default [`RelayMode::Household`].
    pub relay: RelayMode,
    /// Whether TCP port 443 is tried besides, on every wildcard address of `listen`: networks that let nothing else out
    /// let it out. Not being allowed to is no error. Default no.
    pub tcp_443: bool,
    /// Default [`TransportSeed::Fresh`].
    pub transport: TransportSeed,
    /// The beacon on the local network; `None` neither sends nor listens (`--no-lan`).
    pub lan: Option<LanConfig>,
    /// Whether the default gateway, and nobody else, is asked to pass a port on, by a node of [`Role::WhenPublic`] that
    /// listens on a private address of its link (`--no-port-mapping`). Default yes.
    pub port_mapping: bool,
    /// Bytes of packs a second that are sent to others, and that are fetched from them, over all connections but those on the
    /// local network. Default no limit.
    pub upload_limit: Option<u64>,
    /// As [`Config::upload_limit`], the other way.
    pub download_limit: Option<u64>,
    /// How often own records are published in their period, from a moment of the first half of that on. Default 8 h.
    pub publish_interval: Duration,
    /// When a failed bootstrap is tried again, and at the latest a failed publication. Default 60 s.
    pub retry_interval: Duration,
    /// How long a look-up waits for the DHT to be joined. Default 10 s.
    pub join_time: Duration,
    /// All limits.
    pub limits: Limits,
    /// What carries every stream instead of sockets. Addresses need ports then. Default none.
    #[cfg(feature = "simulation")]
    pub wire: Option<Arc<dyn crate::wire::Wire>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::UNSPECIFIED, 0).into()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            role: Role::WhenPublic,
            relay: RelayMode::Household,
            tcp_443: false,
            transport: TransportSeed::Fresh,
            lan: Some(LanConfig::default()),
            port_mapping: true,
            upload_limit: None,
            download_limit: None,
            publish_interval: Duration::from_secs(8 * 3_600),
            retry_interval: Duration::from_secs(60),
            join_time: Duration::from_secs(10),
            limits: Limits::default(),
            #[cfg(feature = "simulation")]
            wire: None,
        }
    }
}

/// The beacon on the local network (`docs/spec/09-rendezvous.md`, section 5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LanConfig {
    /// Default 239.255.76.75.
    pub group_v4: Ipv4Addr,
    /// Default ff02::4c4b.
    pub group_v6: Ipv6Addr,
    /// Default 24765.
    pub port: u16,
    /// Default every interface but loopback.
    pub interfaces: Interfaces,
    /// Default 30 s.
    pub interval: Duration,
}

impl Default for LanConfig {
    fn default() -> Self {
        Self {
            group_v4: Ipv4Addr::new(239, 255, 76, 75),
            group_v6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x4c4b),
            port: 24_765,
            interfaces: Interfaces::All,
            interval: Duration::from_secs(30),
        }
    }
}

/// On which interfaces the beacon is sent and heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Interfaces {
    /// All but loopback, those that appear later too.
    All,
    /// Those with these addresses, loopback included.
    Only(Vec<IpAddr>),
}

/// Dice and clock of a node.
pub struct Env {
    /// Draws keys, nonces and moments.
    pub dice: Box<dyn CryptoRng + Send>,
    /// Tells the time of day, for records and beacons. Waiting is measured by the runtime.
    pub clock: Clock,
}

/// A clock, unix seconds.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The clock of the system.
    pub fn system() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// A clock that asks a function.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time in unix seconds.
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}
