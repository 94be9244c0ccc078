//! Ada's devices inside this process: real lockers and real nodes on loopback, whose limits for each source are raised,
//! because here everybody has one address.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_crypto::rendezvous::Address;
use locker_crypto::secret::Ticket;
use locker_engine::report::{Guide, Silent, StateHash, TicketShown};
use locker_engine::{Env, InitOptions, JoinAs, Locker, Node, NodeOptions, Vault};
use locker_net::{Limits, NodeAddress};
use locker_tests::files::{walk, write};

/// A device of Ada's.
pub(crate) struct Device {
    folder: tempfile::TempDir,
    pub(crate) locker: Locker,
    node: Option<Node>,
}

impl Device {
    /// A new locker.
    pub(crate) fn new() -> Self {
        Self::with_env(Env::system)
    }

    /// A new locker in a world of the test's own.
    pub(crate) fn with_env(env: impl Fn() -> Env) -> Self {
        let folder = tempfile::Builder::new().prefix("locker-test-").tempdir().unwrap();
        let home = folder.path().join("home");
        let options = InitOptions { name: Some("laptop".into()), vault: Vault::File };
        Locker::create(&home, options, env(), |_| Ok::<_, locker_engine::Error>(())).unwrap();
        let locker = Locker::open(&home, env(), &mut || unreachable!("no passphrase")).unwrap();
        Self { folder, locker, node: None }
    }

    /// Starts its node.
    pub(crate) fn start(&mut self, options: NodeOptions) {
        self.node = Some(Node::start(&self.locker, options).unwrap());
    }

    /// Starts its node anew, as it does by itself once a day.
    pub(crate) fn start_anew(&mut self) {
        self.node.as_mut().unwrap().start_anew().unwrap();
    }

    /// Stops its node.
    pub(crate) fn stop(&mut self) {
        self.node = None;
    }

    /// Where its node listens.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let listen = self.node.as_ref().unwrap().listen();
        listen.iter().map(|text| text.parse::<NodeAddress>().unwrap().address).collect()
    }

    /// Takes in a file.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        write(&path, bytes);
        self.locker.add(&[&path], "", &Silent).unwrap();
    }

    /// The home.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The packs on its disk, by their hashes.
    pub(crate) fn packs(&self) -> Vec<PackHash> {
        let names = walk(&self.home().join("packs")).into_iter().filter(|path| path.is_file());
        let hash = |path: PathBuf| hex::decode(path.file_name()?.to_str()?).ok();
        names.filter_map(hash).map(|bytes| PackHash::from_slice(&bytes).unwrap()).collect()
    }

    /// What its replayed state hashes to.
    pub(crate) fn state(&self) -> String {
        self.locker.status(StateHash::Always).unwrap().state_hash.unwrap()
    }

    /// Makes a ticket and lets whoever comes with it in. The answer holds until the guest is in or `Inviting` is
    /// dropped.
    pub(crate) fn invite(&self) -> Inviting {
        let (tell, hear) = mpsc::channel();
        let (over, is_over) = mpsc::channel::<()>();
        let locker = self.locker.clone();
        let host = Host { tell, is_over: std::sync::Mutex::new(is_over) };
        let thread =
            std::thread::spawn(move || locker.pair(JoinAs::Full, NodeOptions::default(), &host).is_ok());
        let ticket = hear.recv_timeout(Duration::from_secs(30)).unwrap();
        Inviting { ticket, over: Some(over), thread: Some(thread) }
    }
}

/// An invitation that runs.
pub(crate) struct Inviting {
    pub(crate) ticket: Ticket,
    over: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<bool>>,
}

impl Inviting {
    /// Waits until somebody was let in; whether it was so.
    pub(crate) fn finish(mut self) -> bool {
        let thread = self.thread.take().unwrap();
        thread.join().unwrap()
    }
}

impl Drop for Inviting {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Says yes to everybody, and goes away when it is told.
struct Host {
    tell: mpsc::Sender<Ticket>,
    is_over: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Guide for Host {
    fn ticket(&self, shown: &TicketShown) -> std::io::Result<()> {
        let ticket = Ticket::from_words(shown.words.expose()).unwrap();
        self.tell.send(ticket).map_err(std::io::Error::other)
    }

    fn waiting(&self) -> std::io::Result<()> {
        match self.is_over.lock().unwrap().try_recv() {
            Err(mpsc::TryRecvError::Disconnected) => Err(std::io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    fn confirm(&self, _: &str, _: Option<&str>) -> std::io::Result<bool> {
        Ok(true)
    }
}

/// Limits for many strangers with one address. Those that are not for each source stay, where they do not stand in the
/// way of thousands of tries.
pub(crate) fn limits() -> Limits {
    Limits {
        knocking: 4_096,
        knocking_per_source: 4_096,
        failures_per_minute: u32::MAX,
        pairing_failures_per_minute: u32::MAX,
        connections_per_source: 512,
        connections_per_network: 512,
        connections_per_peer: 64,
        routing_per_network_and_bucket: 64,
        routing_per_network: 64,
        ..Limits::default()
    }
}

/// A node on loopback, alone but for these.
pub(crate) fn options(bootstrap: Vec<NodeAddress>) -> NodeOptions {
    NodeOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        bootstrap,
        limits: Some(limits()),
        ..NodeOptions::default()
    }
}
