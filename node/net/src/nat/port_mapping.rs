//! Asks the router to pass a port of this node on (`docs/spec/09-rendezvous.md`, section 6.4): by PCP, else by NAT-PMP, and the
//! default gateway alone. What it says is a candidate; only a probe makes an address ours.
//!
//! | Room | Holds |
//! |---|---|
//! | `codec` | the bytes of both protocols |
//! | `line` | the socket to one router, questions said again and the answers to them |
//! | `lease` | what is granted and when it is asked next: decided without a socket |
//! | `place` | the default gateway and our address on its link |

mod codec;
mod lease;
mod line;
mod place;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use locker_crypto::rendezvous::{Address, Transport};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use self::codec::NONCE_BYTES;
use self::lease::Leases;
use self::line::{FAREWELL_TIME, Line};
pub(crate) use self::place::{Place, place_of_system};

/// Where routers listen, for both protocols.
pub(crate) const SERVER_PORT: u16 = 5_351;
/// How often it is looked whether the gateway is still the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// What the router does for this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PortMapping {
    /// No router is asked: it is switched off, or this node only visits.
    #[default]
    Off,
    /// There is no router to be asked: no default gateway of IPv4, no private address on its link on which this node listens,
    /// or a system that does not tell.
    NoRouter,
    /// The router was asked and has not answered yet.
    Asking,
    /// It speaks neither PCP nor NAT-PMP.
    Silent,
    /// It refuses, with this code of its protocol.
    Refused(u16),
    /// It would pass a port on, but what it calls its address outside is not public: there is another router in front of it.
    NotPublic(Ipv4Addr),
    /// It passes these ports on, one for each transport, or one of the two alone.
    Open(Vec<MappedPort>),
}

/// A port that the router passes on to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedPort {
    /// Where it is outside. Nobody has reached it there yet: see [`crate::Reached::public`].
    pub address: Address,
    /// For how long it was granted; it is renewed before that.
    pub lifetime: Duration,
}

/// The side of the driver; without a task if no router is asked.
pub(crate) struct PortMapper {
    state: watch::Receiver<PortMapping>,
    /// Counts occasions to ask anew; the task ends when this is gone.
    occasions: Option<watch::Sender<u64>>,
    task: Option<JoinHandle<()>>,
}

/// What a [`PortMapper`] is given.
pub(crate) struct Surroundings<P> {
    /// Where we are, whenever it is asked.
    pub(crate) place: P,
    /// The port of the router, [`SERVER_PORT`].
    pub(crate) server_port: u16,
    /// Where the node listens.
    pub(crate) listening: watch::Receiver<Vec<Address>>,
}

impl PortMapper {
    /// One that asks nobody.
    pub(crate) fn off() -> Self {
        Self { state: watch::channel(PortMapping::Off).1, occasions: None, task: None }
    }

    pub(crate) fn start<P>(surroundings: Surroundings<P>, dice: &mut dyn CryptoRng) -> Self
    where
        P: Fn() -> Option<Place> + Send + Sync + 'static,
    {
        let mut seed = [0; 32];
        dice.fill_bytes(&mut seed);
        let mut dice = ChaCha20Rng::from_seed(seed);
        let nonces = [(); 2].map(|()| {
            let mut nonce = [0; NONCE_BYTES];
            dice.fill_bytes(&mut nonce);
            nonce
        });
        let (occasions, occasions_receiver) = watch::channel(0);
        let (state, state_receiver) = watch::channel(PortMapping::NoRouter);
        let actor = Actor {
            surroundings,
            occasions: occasions_receiver,
            state,
            dice,
            nonces,
            is_first: true,
            router: None,
        };
        let task = Some(tokio::spawn(actor.run()));
        Self { state: state_receiver, occasions: Some(occasions), task }
    }

    /// Waits for the next word of the router, also if it is the same as before. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> PortMapping {
        if self.state.changed().await.is_err() {
            // Nothing comes any more.
            std::future::pending::<()>().await;
        }
        self.state.borrow_and_update().clone()
    }

    /// How it stands.
    pub(crate) fn state(&self) -> PortMapping {
        self.state.borrow().clone()
    }

    /// Something has happened that a restart of the router may explain.
    pub(crate) fn ask_again(&self) {
        self.occasions
            .iter()
            .for_each(|occasions| occasions.send_modify(|count| *count = count.wrapping_add(1)));
    }

    /// Gives back what the router granted. Returns soon, even if it does not answer.
    pub(crate) async fn stop(&mut self) {
        self.occasions = None;
        if let Some(mut task) = self.task.take()
            && timeout(FAREWELL_TIME * 2, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

/// A router that is asked.
struct Router {
    place: Place,
    leases: Leases,
    line: Line,
}

struct Actor<P> {
    surroundings: Surroundings<P>,
    occasions: watch::Receiver<u64>,
    state: watch::Sender<PortMapping>,
    dice: ChaCha20Rng,
    /// Kept over all routers: who comes back to one is known there by them.
    nonces: [[u8; NONCE_BYTES]; 2],
    is_first: bool,
    router: Option<Router>,
}

/// Why the actor stops to wait.
enum Woken {
    Due(Transport),
    Look,
    Occasion,
    Ended,
}

impl<P: Fn() -> Option<Place> + Send + Sync + 'static> Actor<P> {
    async fn run(mut self) {
        loop {
            self.look().await;
            match self.wait().await {
                Woken::Due(transport) => {
                    if !self.ask(transport).await {
                        break;
                    }
                }
                Woken::Look => {}
                Woken::Occasion => {
                    self.router.iter_mut().for_each(|router| router.leases.hasten(Instant::now()));
                }
                Woken::Ended => break,
            }
        }
        if let Some(router) = &mut self.router {
            router.line.say_farewell(&router.leases.farewells()).await;
        }
    }

    /// Looks where we are, and begins anew where that is another place.
    async fn look(&mut self) {
        let own = place_and_port(&self.surroundings);
        if self.router.as_ref().map(|router| (router.place, router.leases.port())) == own {
            self.lapse();
            return;
        }
        self.router = None;
        if let Some((place, port)) = own {
            // An interface that is just coming up may not be usable yet: the next look sees to it.
            self.router = Line::open(place, self.surroundings.server_port).await.ok().map(|line| {
                let leases = Leases::new(
                    SocketAddrV4::new(place.own, port),
                    self.first_port(port),
                    self.nonces,
                    Instant::now(),
                );
                Router { place, leases, line }
            });
        }
        self.tell();
    }

    /// Lets go of what was not renewed in time.
    fn lapse(&mut self) {
        let Some(router) = &mut self.router else { return };
        if router.leases.lapse(Instant::now()) {
            let port = router.leases.port();
            let other = self.first_port(port);
            self.router.iter_mut().for_each(|router| router.leases.suggest(other));
            self.tell();
        }
    }

    /// The port to suggest: at first our own. Later, and after a return, any: the library that probes addresses tries none
    /// twice, so that the same one would not be ours again.
    fn first_port(&mut self, port: u16) -> u16 {
        /// Those that nobody has been given (RFC 6335).
        const DYNAMIC: u16 = 49_152;
        if std::mem::take(&mut self.is_first) {
            return port;
        }
        let mut bytes = [0; 2];
        self.dice.fill_bytes(&mut bytes);
        u16::from_be_bytes(bytes) | DYNAMIC
    }

    fn tell(&self) {
        self.state.send_replace(self.router.as_ref().map_or(PortMapping::NoRouter, |one| one.leases.state()));
    }

    async fn wait(&mut self) -> Woken {
        let now = Instant::now();
        let next = self.router.as_ref().map(|router| router.leases.next());
        let look = now + LOOK_INTERVAL;
        let due = next.map_or(look, |(_, due)| due.min(look));
        tokio::select! {
            biased;
            occasion = self.occasions.changed() => match occasion {
                Ok(()) => Woken::Occasion,
                Err(_) => Woken::Ended,
            },
            changed = self.surroundings.listening.changed() => match changed {
                Ok(()) => Woken::Look,
                Err(_) => Woken::Ended,
            },
            () = sleep_until(due) => match next {
                Some((transport, at)) if at <= Instant::now() => Woken::Due(transport),
                _ => Woken::Look,
            },
        }
    }

    /// Asks for one mapping, unless we are elsewhere meanwhile; `false` if the node ends.
    async fn ask(&mut self, transport: Transport) -> bool {
        let Some(router) = &mut self.router else { return true };
        let question = router.leases.question(transport, Instant::now());
        let begun = (router.place, router.leases.port());
        let outcome = tokio::select! {
            biased;
            () = ended(&mut self.occasions) => return false,
            () = moved(&mut self.surroundings, begun) => return true,
            outcome = router.line.ask(&question, &mut self.dice) => outcome,
        };
        let now = Instant::now();
        match outcome {
            Ok(granted) => {
                let mut chance = [0];
                self.dice.fill_bytes(&mut chance);
                let useless = router.leases.granted(transport, granted, chance[0], now);
                router.line.say(useless.as_slice()).await;
            }
            Err(failure) => router.leases.failed(transport, failure, now),
        }
        self.tell();
        true
    }
}

/// Waits until the node ends.
async fn ended(occasions: &mut watch::Receiver<u64>) {
    while occasions.changed().await.is_ok() {}
}

/// Waits until we are elsewhere.
async fn moved<P: Fn() -> Option<Place>>(surroundings: &mut Surroundings<P>, begun: (Place, u16)) {
    while place_and_port(surroundings) == Some(begun) {
        if surroundings.listening.changed().await.is_err() {
            return;
        }
    }
}

/// Where we are and the port there on which we listen by both transports; `None` if there is nobody to be asked.
fn place_and_port<P: Fn() -> Option<Place>>(surroundings: &Surroundings<P>) -> Option<(Place, u16)> {
    let place = (surroundings.place)()?;
    let listening = surroundings.listening.borrow();
    let here: Vec<&Address> = listening.iter().filter(|address| address.ip == place.own).collect();
    let quic = here.iter().filter(|address| address.transport == Transport::Quic && address.port != 0);
    let has_tcp =
        |port| here.iter().any(|address| address.transport == Transport::Tcp && address.port == port);
    let port = quic.map(|address| address.port).find(|port| has_tcp(*port))?;
    Some((place, port))
}

#[cfg(test)]
mod tests;
