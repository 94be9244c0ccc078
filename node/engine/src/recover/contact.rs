//! The first one who knows the person: found under the slots of the phrase, and asked for the person log and what it
//! names (`docs/spec/09-rendezvous.md`, section 3.1).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use locker_crypto::id::{ObjectHash, PersonId};
use locker_crypto::identity::{Root, Slot, person_tag};
use locker_crypto::person::Entry;
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::RendezvousSecret;
use locker_net::{Connection, Handle, Stream};
use locker_sync::frontier::Log;
use locker_sync::handshake::{Credential, Expected, Welcome};
use locker_sync::limits::RECOVERY_KNOCKS_MAX;
use locker_sync::message::v1::{Ask, Head, LogKind};
use locker_sync::scope::Scope;
use locker_sync::session::{Action, Event, Fate, Session, Source as Origin, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::Heir;
use super::home::PersonLog;
use crate::keys::named_objects;
use crate::node::seek::{self, Knocked, Met, Place, Source, Tentative};
use crate::node::{KnockError, knock};
use crate::{Env, Error};

/// Generations of slots that are tried.
pub(crate) const GENERATIONS: u32 = 16;
/// Of those, so many go into one knock.
const GENERATIONS_PER_KNOCK: u32 = 4;
/// How long it is looked for somebody.
const SEARCH_TIME: Duration = Duration::from_secs(60);
/// The likely slots have been looked for alone so long before others are too.
const LIKELY_TIME: Duration = Duration::from_secs(15);
/// The person log must come within this time.
const LOG_TIME: Duration = Duration::from_secs(30);
/// Of what the log names nothing more is awaited after so long: who has not all of it may never get it, and the keys that
/// open what was there before are among what he has.
const OBJECTS_TIME: Duration = Duration::from_secs(5);
/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// Who looks for what is left of a person.
pub(super) struct Seeker<'a> {
    pub(super) heir: &'a Heir,
    pub(super) env: &'a Env,
    pub(super) places: &'a [SocketAddr],
    /// Whether there is nowhere else to look.
    pub(super) has_places_only: bool,
}

/// What the first one gave.
pub(super) struct Found {
    /// The person log with what it names, checked.
    pub(super) log: PersonLog,
    /// Where that was.
    pub(super) at: Option<SocketAddr>,
}

/// Why somebody was of no use.
enum Failed {
    /// Nobody is there.
    Nobody,
    /// He does not know the phrase.
    Unknown,
    /// He knows the slot, and refused.
    Refused,
    /// What he gave is not a log of this phrase.
    Wrong(Error),
    /// He broke off.
    Broken,
}

impl Seeker<'_> {
    /// Finds somebody, asks for the person log, and checks it against the phrase.
    ///
    /// # Errors
    /// [`Error::PhraseRefused`] if whoever was reached does not know this phrase; [`Error::Network`] if nobody was.
    pub(super) async fn find(&self, net: &Handle) -> Result<Found, Error> {
        let (knocks, knocked) = (knocks(self.heir.root()), Knocked::default());
        let deadline = Instant::now() + SEARCH_TIME;
        let (mut unknown, mut refused, mut wrong) = (0_usize, false, None);
        let start = Instant::now();
        let mut rounds = 0;
        while Instant::now() < deadline {
            let mut finds = Vec::new();
            // Under the likely slots first, again and again: a look-up costs the DHT something, and somebody may just have come.
            let reach = match start.elapsed() {
                time if time < LIKELY_TIME => 1,
                time if time < 2 * LIKELY_TIME => GENERATIONS / GENERATIONS_PER_KNOCK,
                _ => u32::MAX,
            };
            for secret in knocks.iter().take(reach as usize).flatten() {
                let gone = |_| Error::Network("the network could not be used".into());
                finds.push(net.find(secret, Publishers::One, None).await.map_err(gone)?);
            }
            let places = self.places.iter().map(|at| Place::at(*at, Source::Hint)).collect();
            let met = Met::default();
            let attempt = |place: Place| {
                let (met, knocked, knocks) = (&met, &knocked, &knocks);
                async move { self.try_at(net, met, knocked, knocks, &place).await }
            };
            let note = |_: Place, why: Failed| {
                match why {
                    Failed::Unknown => unknown += 1,
                    Failed::Refused => refused = true,
                    Failed::Wrong(why) => wrong = Some(why),
                    Failed::Nobody | Failed::Broken => {}
                }
                ControlFlow::Continue(())
            };
            let until = deadline.min(Instant::now() + LIKELY_TIME);
            let found = tokio::time::timeout_at(until, seek::race(places, finds, attempt, note)).await;
            if let Ok(Some(found)) = found {
                return Ok(found);
            }
            // Who was named and does not know the phrase will not learn it.
            let is_answered = !self.places.is_empty() && (unknown > 0 || refused);
            if is_answered || (self.has_places_only && rounds > 0) {
                break;
            }
            rounds += 1;
            sleep(Duration::from_millis(500)).await;
        }
        if let Some(why) = wrong {
            return Err(why);
        }
        Err(if refused || unknown > 0 {
            Error::PhraseRefused("whoever was reached refused this phrase: it is that of another locker, or a newer one has taken its place".into())
        } else {
            Error::Network("nobody who keeps something of this locker was reached".into())
        })
    }

    async fn try_at(
        &self,
        net: &Handle,
        met: &Met,
        knocked: &Knocked,
        knocks: &[Vec<RendezvousSecret>],
        place: &Place,
    ) -> Result<Found, Failed> {
        let connection = met.dial(net, place).await.map_err(|_| Failed::Nobody)?;
        let (root, node) = (self.heir.root(), connection.get().peer);
        // Who broke off is asked on from where he was.
        for secrets in knocks.iter().take(RECOVERY_KNOCKS_MAX).skip(knocked.count(&node, Instant::now())) {
            let credential = Credential::Root { root: root.signing() };
            let answered =
                knock(net, self.env, connection.get(), secrets.clone(), &Expected::Anybody, credential).await;
            match answered {
                Ok((_, welcome)) if !self.heir.may_ask(&welcome.device) => return Err(Failed::Broken),
                Ok((stream, welcome)) => return self.ask(connection, stream, welcome).await,
                Err(KnockError::Refused) => return Err(Failed::Refused),
                Err(KnockError::Unknown) => knocked.note(node, Instant::now()),
                Err(KnockError::Wrong(_) | KnockError::Broken(_)) => break,
            }
        }
        Err(if knocked.count(&node, Instant::now()) > 0 { Failed::Unknown } else { Failed::Broken })
    }

    async fn ask(&self, connection: Tentative, stream: Stream, welcome: Welcome) -> Result<Found, Failed> {
        // Who does not say whose phrase it is takes it for the first one.
        let person = welcome.person.unwrap_or_else(|| self.heir.root().person_id());
        let read = Reading::new(person).run(stream, welcome.rest, self.env);
        let (entries, objects) = timeout(LOG_TIME, read).await.ok().flatten().ok_or(Failed::Broken)?;
        let log = PersonLog::check(self.heir.root(), person, entries, objects).map_err(Failed::Wrong)?;
        let Connection { remote, .. } = *connection.get();
        let at = (!connection.get().is_relayed()).then_some(remote);
        Ok(Found { log, at })
    }
}

/// The secrets of every slot of every generation, in the order in which they are tried, a knock's worth at a time: first
/// the first four replicas and devices of four generations each, then all others likewise.
fn knocks(root: &Root) -> Vec<Vec<RendezvousSecret>> {
    let (likely, others): (Vec<u32>, Vec<u32>) = (0..Slot::COUNT).partition(|j| j % Slot::FIRST_DEVICE < 4);
    let quarters = || (0..GENERATIONS).step_by(GENERATIONS_PER_KNOCK as usize);
    let secrets = |first: u32, slots: &[u32]| -> Vec<RendezvousSecret> {
        let each = |g: u32| {
            let master = root.rendezvous_master(g);
            slots
                .iter()
                .filter_map(|j| Slot::new(*j).ok())
                .map(move |slot| slot.secret(&master))
                .collect::<Vec<_>>()
        };
        (first..first + GENERATIONS_PER_KNOCK).flat_map(each).collect()
    };
    let mut all: Vec<Vec<RendezvousSecret>> = quarters().map(|first| secrets(first, &likely)).collect();
    for first in quarters() {
        all.extend(secrets(first, &others).chunks(locker_sync::limits::KNOCK_MACS).map(<[_]>::to_vec));
    }
    all
}

/// A session in which nothing is asked for but the person log.
struct Reading {
    log: Log,
    session: Session,
    queue: Vec<Event>,
    entries: Vec<Vec<u8>>,
    objects: Vec<Vec<u8>>,
    asked: BTreeSet<ObjectHash>,
    person: PersonId,
}

impl Reading {
    fn new(person: PersonId) -> Self {
        let log = Log { kind: LogKind::Person, tag: person_tag(&person) };
        let terms = Terms {
            peer: Scope::nothing().with_persons([person]),
            own: Scope::reading([person]),
            ..Terms::default()
        };
        Self {
            log,
            session: Session::new(terms),
            queue: vec![Event::Opened, Event::Held { log, heads: Vec::new() }],
            entries: Vec::new(),
            objects: Vec::new(),
            asked: BTreeSet::new(),
            person,
        }
    }

    /// Reads the log and the objects that it names. `None` if the other end breaks off.
    async fn run(
        mut self,
        mut stream: Stream,
        rest: Vec<u8>,
        env: &Env,
    ) -> Option<(Vec<Vec<u8>>, Vec<Vec<u8>>)> {
        if !rest.is_empty() {
            self.queue.insert(0, Event::Received(rest));
        }
        let mut buffer = vec![0; READ_BYTES];
        let (mut had, mut since) = (0, Instant::now());
        loop {
            while let Some(event) = self.queue.pop() {
                for action in self.session.handle(event, env.now_ms()) {
                    match action {
                        Action::Send(bytes) => {
                            stream.write_all(&bytes).await.ok()?;
                            stream.flush().await.ok()?;
                        }
                        Action::Ended(_) => return None,
                        other => self.take(other),
                    }
                }
            }
            let has = self.entries.len() + self.objects.len();
            if has != had {
                (had, since) = (has, Instant::now());
            }
            if self.session.is_level_in(&self.log) && !self.entries.is_empty() {
                // Another one may have them all meanwhile, and is taken then.
                if self.asked.len() == self.objects.len() || since.elapsed() >= OBJECTS_TIME {
                    return Some((self.entries, self.objects));
                }
            }
            let due = Duration::from_millis(self.session.due_ms().saturating_sub(env.now_ms()));
            let due = due.min(OBJECTS_TIME.saturating_sub(since.elapsed()).max(Duration::from_millis(50)));
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(len) if len > 0 => self.queue.push(Event::Received(buffer[..len].to_vec())),
                    _ => return None,
                },
                () = sleep(due) => self.queue.push(Event::Tick),
            }
        }
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Take { ticket, log, bytes, .. } if log == self.log => {
                let taken = Entry::read(&self.person, &bytes);
                let fate = match &taken {
                    Ok(_) => Fate::Durable,
                    Err(why) => Fate::Refused(*why),
                };
                self.queue.push(Event::Taken { ticket, fate });
                if let Ok(entry) = taken {
                    let head = Head { author: entry.author, seq: entry.seq, id: entry.id.0 };
                    self.queue.push(Event::Stored { log, head, source: Origin::Peer });
                    for hash in named_objects(&entry) {
                        if self.asked.insert(hash) {
                            self.queue.push(Event::Ask(Ask::Object(hash)));
                        }
                    }
                    self.entries.push(bytes);
                }
            }
            Action::Take { ticket, .. } => self.queue.push(Event::Taken { ticket, fate: Fate::Waiting }),
            Action::TakeObject { ticket, bytes, .. } => {
                self.objects.push(bytes);
                self.queue.push(Event::Taken { ticket, fate: Fate::Durable });
            }
            Action::Load { request, .. } => self.queue.push(Event::Loaded { request, items: Vec::new() }),
            Action::LookUp(ask) => self.queue.push(Event::Found { ask, objects: Vec::new() }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::secret::Entropy;
    use locker_sync::limits::KNOCK_MACS;

    use super::*;

    /// Goal: as many knocks as a node is spared no longer cover every slot of every generation, the likely ones first.
    #[test]
    fn all_slots_fit_into_the_knocks_of_one_node() {
        let root = Root::from_entropy(&Entropy::new([7; 32]));
        let knocks = knocks(&root);
        assert_eq!(knocks.len(), RECOVERY_KNOCKS_MAX);
        assert!(knocks.iter().all(|knock| knock.len() <= KNOCK_MACS));
        let known: BTreeSet<[u8; 32]> = knocks.iter().flatten().map(|secret| *secret.expose()).collect();
        assert_eq!(known.len(), (GENERATIONS * Slot::COUNT) as usize);
        let secret = |g: u32, j: u32| *Slot::new(j).unwrap().secret(&root.rendezvous_master(g)).expose();
        for (knock, g) in [(0, 0), (0, 3), (1, 4), (2, 11), (3, 15)] {
            for j in [0, 3, 16, 19] {
                assert!(knocks[knock].iter().any(|one| *one.expose() == secret(g, j)), "{g} {j}");
            }
        }
    }
}
