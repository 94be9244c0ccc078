//! One peer: the handshake, then the session, carried out against the store.

mod asking;
mod custody;
mod greet;
mod succession;
mod with;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::capability::{Rights, VerifiedChains};
use locker_crypto::id::{PackHash, SpaceTag, VerifyingKey};
use locker_net::{Connection, REFUSAL_DELAY, Side, Stream, refuse};
use locker_store::addresses::Met;
use locker_sync::frontier::{Log, Warning};
use locker_sync::handshake::{
    Admission, Directory, Grant, Nonce, Person, Proofs, Server, ServerStep, Showing, Standing, TransportKeys,
};
use locker_sync::message::REFUSAL;
use locker_sync::message::v1::LogKind;
use locker_sync::session::{Action, End, Event, Fate, Notice, Session, Source, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::asking::Asking;
use self::custody::Custody;
pub(super) use self::greet::{Greeted, greet, greet_once, greet_stray};
use self::succession::Successions;
use self::with::With;
use super::hub::{Hub, Place};
use super::knock::HANDSHAKE_TIME;
use super::ledger::{Asker, Incoming, Taken};
use super::{guest, heir};
use crate::Error;

/// Frames of the other end in a handshake, on either side.
const HANDSHAKE_FRAMES: u32 = 3;
/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;
/// Packs that are wanted are asked for again after this time: their holder may have them now.
const WANT_AGAIN: Duration = Duration::from_secs(60);
/// Entries of the person log and pins that wait for their authors in one session.
const LATE_MAX: usize = 64;
/// Chains of tokens that are remembered as verified.
const CHAINS: usize = 64;

/// Answers a peer that opened a stream.
pub(super) async fn serve(hub: Arc<Hub>, connection: Connection, mut stream: Stream) {
    let Some(outcome) = hub.until_stop(welcome(&hub, &connection, &mut stream)).await else { return };
    match outcome {
        Ok((Welcomed::Own(device), rest)) => {
            note_address(&hub, device, &connection).await;
            talk(hub, connection, stream, device, rest, false).await;
        }
        Ok((Welcomed::Heir(seat), rest)) => heir::serve(hub, connection, stream, seat, rest).await,
        Ok((Welcomed::Guest(seated), rest)) => guest::serve(hub, connection, stream, *seated, rest).await,
        Err(failed) => {
            // A device that was killed in the middle has not failed at anything.
            if !failed.is_broken {
                let _ = hub.net().handshake_failed(&connection).await;
            }
            refuse(stream, failed.frame_end).await;
        }
    }
}

/// A handshake that came to nothing.
struct Failed {
    /// From which the refusal is timed.
    frame_end: Instant,
    /// The other end broke off.
    is_broken: bool,
}

impl Failed {
    /// It said something wrong, or nothing in time.
    fn at(frame_end: Instant) -> Self {
        Self { frame_end, is_broken: false }
    }

    fn broken() -> Self {
        Self { frame_end: Instant::now(), is_broken: true }
    }
}

/// Who was let in.
enum Welcomed {
    /// A device of this person.
    Own(VerifyingKey),
    /// The holder of the phrase.
    Heir(Place),
    /// The holder of a link.
    Guest(Box<guest::Seated>),
}

/// The server's side of the handshake.
async fn welcome(
    hub: &Hub,
    connection: &Connection,
    stream: &mut Stream,
) -> Result<(Welcomed, Vec<u8>), Failed> {
    let now = Instant::now;
    let keys = TransportKeys { server: hub.net().transport_key(), client: connection.peer };
    let nonce = Nonce::random(&mut **hub.inner().env().dice());
    let (mut server, first) = Server::start(keys, nonce, hub.now_s());
    stream.write_all(&first).await.map_err(|_| Failed::broken())?;
    stream.flush().await.map_err(|_| Failed::broken())?;
    let token = hub.inner().depot().and_then(|depot| depot.charge().token.clone());
    let (doors, showing) = (hub.doors(), Showing { certificate: hub.certificate(), token });
    let mut buffer = vec![0; 4 * 1024];
    // A frame in many small pieces gains no time.
    let deadline = now() + HANDSHAKE_TIME * HANDSHAKE_FRAMES;
    loop {
        let by = deadline.min(now() + HANDSHAKE_TIME);
        let read = tokio::time::timeout_at(by, stream.read(&mut buffer)).await;
        let frame_end = now();
        let len = match read {
            Ok(Ok(len)) if len > 0 => len,
            Ok(_) => return Err(Failed::broken()),
            Err(_) => return Err(Failed::at(frame_end)),
        };
        match server.receive(&buffer[..len], &doors, &showing, hub.now_s()) {
            Ok(ServerStep::Wait) => {}
            Ok(ServerStep::Answer { frame, .. }) => {
                stream.write_all(&frame).await.map_err(|_| Failed::broken())?;
                stream.flush().await.map_err(|_| Failed::broken())?;
            }
            Ok(ServerStep::Judge(proofs)) => {
                let admission = judge(hub, &proofs).map_err(|_| Failed::at(frame_end))?;
                let (frame, rest) = server.admit(&admission).map_err(|_| Failed::at(frame_end))?;
                // There must be a place before anything is promised.
                let welcomed = match admission.device_key().filter(|_| admission.is_own_device()) {
                    Some(device) => Welcomed::Own(device),
                    None if admission.is_root_alone() => {
                        let seat = hub.admit_heir(connection).await.ok_or_else(|| Failed::at(frame_end))?;
                        Welcomed::Heir(seat)
                    }
                    None => {
                        let seated = guest::seat(hub, connection, admission)
                            .await
                            .ok_or_else(|| Failed::at(frame_end))?;
                        Welcomed::Guest(Box::new(seated))
                    }
                };
                let sent = async {
                    stream.write_all(&frame).await?;
                    stream.flush().await
                };
                if sent.await.is_err() {
                    match welcomed {
                        Welcomed::Own(_) => {}
                        Welcomed::Heir(_) => hub.leave_heir(connection).await,
                        Welcomed::Guest(_) => hub.leave_guest(connection).await,
                    }
                    return Err(Failed::broken());
                }
                return Ok((welcomed, rest));
            }
            Err(_) => return Err(Failed::at(frame_end)),
        }
    }
}

/// Judges who a peer proved to be, by what is known now.
fn judge(hub: &Hub, proofs: &Proofs) -> Result<Admission, Refusal> {
    let persons = BTreeMap::from([(hub.inner().keys().person, own_person(hub))]);
    let (register, now_s) = (hub.register(), hub.now_s());
    let links = register.entries(now_s);
    let facts = |tag: &SpaceTag| register.facts(tag, now_s);
    let directory = Directory { persons: &persons, links: &links, facts: &facts };
    proofs.judge(&directory, &mut VerifiedChains::new(CHAINS))
}

/// What is known of the own person when a device proves itself.
fn own_person(hub: &Hub) -> Person {
    let keys = hub.inner().keys();
    let rights = match hub.reads() {
        true => Rights::READ | Rights::WRITE | Rights::MANAGE,
        false => Rights::READ | Rights::REPLICATE,
    };
    Person {
        standing: Standing::Own,
        active: hub.admitted_devices(),
        root: hub.root_key(),
        grants: vec![Grant { tag: keys.tag, rights, folder: None }],
    }
}

/// Holds the session with a device that let us in, to its end.
pub(super) async fn hold(hub: &Arc<Hub>, greeted: Greeted) {
    let Greeted { connection, stream, device, rest } = greeted;
    note_address(hub, device, &connection).await;
    talk(Arc::clone(hub), connection, stream, device, rest, true).await;
}

/// Notes where a device is. Who dials does it from the port on which it listens, so that either end learns the place of the
/// other one; but not through a relay.
async fn note_address(hub: &Hub, device: VerifyingKey, connection: &Connection) {
    if !connection.is_relayed() {
        let at = connection.remote;
        let met = if connection.side == Side::Dialer { Met::Dialed } else { Met::Came };
        // What cannot be noted is looked for again the next time.
        let _ = hub.blocking(move |inner| inner.note_address(&device, at, met)).await;
    }
}

/// A session from OK to its end.
async fn talk(
    hub: Arc<Hub>,
    connection: Connection,
    stream: Stream,
    device: VerifyingKey,
    rest: Vec<u8>,
    we_dialed: bool,
) {
    let with = With::new(&hub, &device);
    let Some(place) = hub.settle(device, &connection, with.peer.clone(), we_dialed).await else {
        // Both ends keep the other connection.
        return;
    };
    if connection.is_relayed() {
        // A direct way may stand already.
        hub.spawn(Arc::clone(&hub).improve(connection.peer));
    }
    let remembered = hub.with_remembered(|known| known.of(&device));
    // Whoever stores writes nothing of its own that others could know more of.
    let own = hub.reads().then(|| hub.inner().keys().device_id());
    let With { peer, own: asked, asker } = with;
    let terms = Terms { peer, own: asked, remembered, device: own, ends_ms: None };
    let mut talk = Talk::new(Arc::clone(&hub), connection.clone(), device, terms, asker);
    talk.run(stream, rest, place).await;
    hub.leave(&device, &connection).await;
    hub.save_remembered().await;
}

/// A session that stands, with what it was told.
pub(super) struct Talk {
    hub: Arc<Hub>,
    connection: Connection,
    device: VerifyingKey,
    session: Session,
    queue: VecDeque<Event>,
    told: BTreeMap<(Log, VerifyingKey), u64>,
    /// The packs that the peer was asked for, each with the number of the wish.
    asked: HashMap<PackHash, u64>,
    asked_at: Instant,
    /// Who the peer is to this node.
    asker: Asker,
    /// What was asked for beside the logs.
    asking: Asking,
    /// Packs of which a replica was asked whether it has them, and the count of commits at which that was.
    questioned: HashSet<PackHash>,
    questioned_at: Option<u64>,
    /// What was said of room and slot.
    custody: Custody,
    out: mpsc::UnboundedSender<Vec<u8>>,
    outgoing: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    takes: Vec<Incoming>,
    /// Entries of the person log and pins that came before their authors were brought in: tried again with what comes next.
    late: Vec<Incoming>,
    missing: BTreeMap<Log, Vec<(VerifyingKey, u64)>>,
    forked: BTreeMap<(Log, VerifyingKey), u64>,
    /// Authors of whose pins nothing more is awaited.
    closed: BTreeSet<VerifyingKey>,
    /// New keys that one side is asked to bring in for the other.
    successions: Successions,
    arrived_count: usize,
    /// When the last bytes of the peer were read: a refusal is timed from there, whatever was looked up meanwhile.
    heard_at: Instant,
    is_over: bool,
}

impl Talk {
    pub(super) fn new(
        hub: Arc<Hub>,
        connection: Connection,
        device: VerifyingKey,
        terms: Terms,
        asker: Asker,
    ) -> Self {
        // Unbounded in form only: what a session sends is bounded by the peer's credit of 1 MiB and small frames.
        let (out, outgoing) = mpsc::unbounded_channel();
        Self {
            hub,
            connection,
            device,
            session: Session::new(terms),
            queue: VecDeque::new(),
            told: BTreeMap::new(),
            asked: HashMap::new(),
            asked_at: Instant::now(),
            asker,
            asking: Asking::new(),
            questioned: HashSet::new(),
            questioned_at: None,
            custody: Custody::default(),
            out,
            outgoing: Some(outgoing),
            takes: Vec::new(),
            late: Vec::new(),
            missing: BTreeMap::new(),
            forked: BTreeMap::new(),
            closed: BTreeSet::new(),
            successions: Successions::with(asker),
            arrived_count: 0,
            heard_at: Instant::now(),
            is_over: false,
        }
    }

    pub(super) async fn run(&mut self, stream: Stream, rest: Vec<u8>, mut place: Place) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let Some(mut outgoing) = self.outgoing.take() else { return };
        let writing = tokio::spawn(async move {
            while let Some(bytes) = outgoing.recv().await {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
        let mut changes = self.hub.changes();
        changes.mark_changed();
        let known = self.hub.knowledge(usize::MAX);
        self.arrived_count = known.arrived_count;
        for (log, heads) in known.heads {
            self.told.extend(heads.values().map(|head| ((log, head.author), head.seq)));
            self.queue.push_back(Event::Held { log, heads: heads.into_values().collect() });
        }
        self.queue.push_back(Event::Opened);
        self.tell_changes();
        self.ask_missing().await;
        if !rest.is_empty() {
            self.queue.push_back(Event::Received(rest));
        }
        let mut buffer = vec![0; READ_BYTES];
        let mut asks_again = false;
        loop {
            if std::mem::take(&mut asks_again) {
                self.ask_missing().await;
                self.bring_in().await;
            }
            self.question().await;
            self.work_off().await;
            let is_level = self.session.has_heard() && self.session.is_level();
            self.hub.set_level(&self.device, self.connection.id, is_level);
            if self.is_over || self.session.is_over() {
                break;
            }
            let now_ms = self.hub.inner().env().now_ms();
            let due = Duration::from_millis(self.session.due_ms().saturating_sub(now_ms)).min(WANT_AGAIN);
            let again = self.asking.again_at().map(|at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                read = reader.read(&mut buffer), if self.session.wants_input() => match read {
                    Ok(len) if len > 0 => {
                        self.heard_at = Instant::now();
                        self.queue.push_back(Event::Received(buffer[..len].to_vec()));
                    }
                    _ => break,
                },
                changed = changes.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.tell_changes();
                }
                () = tokio::time::sleep(due.min(again.unwrap_or(due))) => {
                    self.queue.push_back(Event::Tick);
                    asks_again = self.asking.is_due(Instant::now());
                    if self.asked_at.elapsed() >= WANT_AGAIN {
                        self.asked.clear();
                        self.custody.again();
                        self.asked_at = Instant::now();
                        self.tell_changes();
                        asks_again = true;
                    }
                }
                _ = place.end.wait_for(|end| *end) => self.queue.push_back(Event::Close { reason: 0 }),
            }
        }
        // The channel closes, the writer sends what is left and ends.
        self.out = mpsc::unbounded_channel().0;
        let _ = tokio::time::timeout(HANDSHAKE_TIME, writing).await;
    }

    /// Tells the session how far this node is now, and what it wants.
    fn tell_changes(&mut self) {
        let (own, tag) = (self.hub.inner().keys().device_id(), self.hub.inner().space_tag());
        let known = self.hub.knowledge(self.arrived_count);
        self.arrived_count = known.arrived_count;
        for ((log, author), seq) in known.forked {
            if self.forked.insert((log, author), seq) != Some(seq) {
                self.queue.push_back(Event::Forked { log, author, seq });
            }
        }
        for author in known.ended {
            if self.closed.insert(author) {
                self.queue.push_back(Event::Closed { log: self.hub.inner().pin_log(), author });
            }
        }
        self.ask_to_succeed();
        for (log, heads) in known.heads {
            for head in heads.into_values() {
                let told = self.told.insert((log, head.author), head.seq);
                if told.is_none_or(|told| told < head.seq) {
                    let source = if head.author == own { Source::Here } else { Source::Peer };
                    self.queue.push_back(Event::Stored { log, head, source });
                }
            }
        }
        self.tell_custody();
        self.confirm();
        for (log, items) in known.missing {
            if self.missing.get(&log) != Some(&items) {
                self.missing.insert(log, items.clone());
                self.queue.push_back(Event::Missing { log, items });
            }
        }
        if !known.arrived.is_empty() {
            self.queue.push_back(Event::PacksHeld { tag, packs: known.arrived });
        }
        if self.asker == Asker::Heir {
            // He has nothing that is not here.
            return;
        }
        self.asked.retain(|pack, wish| known.wanted.get(pack) == Some(wish));
        let is_new = |(pack, wish): &(PackHash, u64)| self.asked.insert(*pack, *wish).is_none();
        let new: Vec<PackHash> = known.wanted.into_iter().filter(is_new).map(|(pack, _)| pack).collect();
        if !new.is_empty() {
            self.queue.push_back(Event::Want { tag, packs: new });
        }
    }

    /// Notes what came of items that were taken.
    fn note_taken(&mut self, taken: Taken) {
        self.queue.extend(taken.fates.into_iter().map(|(ticket, fate)| Event::Taken { ticket, fate }));
        self.hub.want(&taken.wanted);
        self.hub.unwant(&taken.unwanted);
        self.ask(taken.asks);
    }

    /// Hands the session what is queued and carries out what it says, until nothing is left.
    async fn work_off(&mut self) {
        while !self.is_over {
            if let Some(event) = self.queue.pop_front() {
                let now_ms = self.hub.inner().env().now_ms();
                for action in self.session.handle(event, now_ms) {
                    self.carry_out(action).await;
                }
            } else if !self.takes.is_empty() {
                self.take().await;
            } else {
                return;
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(bytes) => self.send(bytes),
            Action::Take { ticket, log, bytes, .. } => {
                self.takes.push(Incoming { ticket, log, bytes, from: self.asker });
            }
            Action::TakeObject { ticket, bytes, .. } if self.hub.note_shown(&self.device, &bytes) => {
                self.queue.push_back(Event::Taken { ticket, fate: Fate::Durable });
            }
            Action::TakeObject { ticket, bytes, .. } => {
                let stored = self.hub.blocking(move |inner| inner.take_object(&bytes)).await;
                // What was waited for may be here now.
                self.hub.inner().note_commit();
                let (fate, taken) = match stored {
                    Ok(taken) => (Fate::Durable, taken),
                    Err(Error::Refused(why)) => (Fate::Refused(why), Taken::default()),
                    Err(_) => (Fate::Refused(Refusal::Quota), Taken::default()),
                };
                self.queue.push_back(Event::Taken { ticket, fate });
                self.note_taken(taken);
            }
            Action::Load { request, log, author, from, to, bytes_max } => {
                let items =
                    self.hub.blocking(move |inner| inner.load_items(log, &author, from, to, bytes_max)).await;
                let items = match items {
                    // What is damaged will be the next time too, and the rest goes on.
                    Ok(_) | Err(Error::Integrity { .. }) => items.unwrap_or_default(),
                    // Nothing would be an answer; the peer asks again in the next session.
                    Err(_) => {
                        self.is_over = true;
                        return;
                    }
                };
                self.queue.push_back(Event::Loaded { request, items });
            }
            Action::LookUp(ask) => {
                let asker = self.asker;
                let found = self.hub.blocking(move |inner| inner.look_up(&ask, asker)).await;
                let objects = found.unwrap_or_default();
                self.queue.push_back(Event::Found { ask, objects });
            }
            Action::LookUpPacks { tag, packs } => {
                let held = self.hub.blocking(move |inner| inner.held_packs(&tag, &packs)).await;
                self.queue.push_back(Event::PacksHeld { tag, packs: held.unwrap_or_default() });
            }
            Action::PacksOffered { .. } | Action::Remember { .. } if self.asker == Asker::Heir => {}
            Action::Acknowledged { log, heads } => {
                self.hub.note_acked(&self.device, log, &heads);
                if log.kind == LogKind::Person {
                    self.custody.again();
                    self.tell_custody();
                }
            }
            Action::PacksOffered { packs, .. } => {
                let device = self.device;
                if self.asker == Asker::Replica {
                    // Nothing that was not asked: a replica does not set the size of a table.
                    let asked = packs.iter().filter(|pack| self.questioned.contains(*pack));
                    let said: Vec<PackHash> = asked.copied().collect();
                    // What cannot be noted is told again in the next session.
                    let _ = self.hub.blocking(move |inner| inner.note_said(&device, &said)).await;
                }
                self.hub.with_plan(|plan| plan.offer(device, packs));
                self.hub.fetches.notify_one();
            }
            Action::Ended(end) => {
                if let End::Refuse(_) = end {
                    tokio::time::sleep_until(self.heard_at + REFUSAL_DELAY).await;
                    self.send(REFUSAL.to_vec());
                }
                self.is_over = true;
            }
            Action::Remember { log, heads } => {
                self.hub.with_remembered(|known| known.note(&self.device, log, &heads));
            }
            Action::Notice(Notice::Warning(log, Warning::Rollback { author, offered, .. }))
                if self.asker != Asker::Heir =>
            {
                let (device, now_s) = (self.device, self.hub.now_s());
                self.hub.with_remembered(|known| known.note_back(&device, log, &author, offered, now_s));
                self.hub.save_remembered().await;
            }
            Action::ShowsOwn { log, head } => {
                if !self.hub.reads() {
                    // A device that stores believes those for whom it does.
                    let _ = self.hub.blocking(move |inner| inner.check_own(log, &head)).await;
                    return;
                }
                // Anybody can say so, and a device that believed him would write nothing any more: the item itself, which
                // nobody else could have signed, is asked for. What cannot be looked at now is found out when it comes.
                let strange = self.hub.blocking(move |inner| inner.is_strange(log, &head)).await;
                if strange.unwrap_or(false) {
                    let known = self.missing.get(&log).into_iter().flatten().copied();
                    let items = known.chain([(head.author, head.seq)]).collect();
                    self.queue.push_back(Event::Missing { log, items });
                }
            }
            Action::Succession(succeed) => {
                self.successions.ask(succeed);
                self.bring_in().await;
            }
            Action::Room(room) => self.hear_room(room).await,
            Action::Slot(slot) => self.hear_slot(*slot).await,
            Action::Notice(Notice::Clock { ahead_ms }) => self.hub.note_clock(&self.device, ahead_ms),
            Action::DepositStored(_) | Action::Notice(_) => {}
        }
    }

    fn send(&self, bytes: Vec<u8>) {
        // The writer has ended: the stream is broken, which the reader tells.
        let _ = self.out.send(bytes);
    }

    /// Takes what came in one durable commit.
    async fn take(&mut self) {
        let mut items = std::mem::take(&mut self.takes);
        items.append(&mut self.late);
        let tickets: Vec<u64> = items.iter().map(|item| item.ticket).collect();
        match self.hub.blocking(move |inner| inner.take_items(items)).await {
            Ok(mut taken) => {
                self.late = std::mem::take(&mut taken.late);
                self.late.truncate(LATE_MAX);
                self.note_taken(taken);
            }
            Err(_) => {
                // The store failed; nothing was kept and nothing is acknowledged.
                for ticket in tickets {
                    self.queue.push_back(Event::Taken { ticket, fate: Fate::Waiting });
                }
                self.is_over = true;
            }
        }
    }
}
