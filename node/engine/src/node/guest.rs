//! The holder of a link at this node: what he may ask is the capsule of his link and the packs that it gives, and
//! nothing else (`docs/spec/09-rendezvous.md`, section 3).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::{LinkTag, PackHash};
use locker_net::{Connection, Stream};
use locker_store::{links, objects};
use locker_sync::handshake::Admission;
use locker_sync::limits::REFUSAL_DELAY_MS;
use locker_sync::message::REFUSAL;
use locker_sync::message::v1::Ask;
use locker_sync::scope::Scope;
use locker_sync::session::{Action, End, Event, Session, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hub::{Hub, Visit};
use crate::Error;
use crate::locker::Inner;
use crate::share::{Register, extent};

/// Bytes read in one go.
const READ_BYTES: usize = 8 * 1024;
/// A guest that asks for nothing for so long is sent away; it may come again.
const IDLE_TIME: Duration = Duration::from_secs(600);
/// A guest that does not take what is sent to it for so long is left.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The holder of a link who has a place here.
pub(super) struct Seated {
    link: LinkTag,
    scope: Scope,
    visit: Visit,
    ends_ms: Option<u64>,
}

/// Gives the holder of one link a place; `None` for anybody else, or if there is none. Who has one is to be served, or
/// to leave ([`Hub::leave_guest`]).
pub(super) async fn seat(hub: &Hub, connection: &Connection, admission: Admission) -> Option<Seated> {
    let [link] = admission.links[..] else { return None };
    if admission.device.is_some() || admission.root.is_some() || !admission.tokens.is_empty() {
        return None;
    }
    let register = hub.register();
    let packs = hub.blocking(move |inner| inner.packs_of(&register, &link)).await.ok()?;
    let scope = Scope::of(&admission, []);
    let visit = hub.admit_guest(connection, link, scope.clone(), packs).await?;
    let ends_ms = admission.expires_s.map(|s| s.saturating_mul(1_000));
    Some(Seated { link, scope, visit, ends_ms })
}

/// Holds the session of a link's holder to its end.
pub(super) async fn serve(
    hub: Arc<Hub>,
    connection: Connection,
    stream: Stream,
    seated: Seated,
    rest: Vec<u8>,
) {
    let Seated { link, scope, visit, ends_ms } = seated;
    // What cannot be counted is served all the same.
    let _ = hub.blocking(move |inner| inner.count_use(&link)).await;
    let terms = Terms { peer: scope, own: Scope::nothing(), ends_ms, ..Terms::default() };
    let mut talk = Talk { hub: Arc::clone(&hub), stream, link, visit, session: Session::new(terms) };
    // Errors of the stream end the session, whatever they are.
    let _ = talk.run(rest).await;
    drop(talk);
    hub.leave_guest(&connection).await;
}

struct Talk {
    hub: Arc<Hub>,
    stream: Stream,
    link: LinkTag,
    visit: Visit,
    session: Session,
}

impl Talk {
    async fn run(&mut self, rest: Vec<u8>) -> std::io::Result<()> {
        let mut end = self.visit.end.clone();
        let mut queue = VecDeque::from([Event::Opened]);
        if !rest.is_empty() {
            queue.push_back(Event::Received(rest));
        }
        let mut buffer = vec![0; READ_BYTES];
        loop {
            while let Some(event) = queue.pop_front() {
                let now_ms = self.hub.inner().env().now_ms();
                for action in self.session.handle(event, now_ms) {
                    queue.extend(self.carry_out(action).await?);
                }
            }
            if self.session.is_over() {
                let ended = tokio::time::timeout(WRITE_TIME, self.stream.shutdown()).await;
                return ended.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            }
            let now_ms = self.hub.inner().env().now_ms();
            let idle_ms = now_ms.saturating_sub(self.visit.active_ms());
            if Duration::from_millis(idle_ms) >= IDLE_TIME {
                queue.push_back(Event::Close { reason: 0 });
                continue;
            }
            let due = Duration::from_millis(self.session.due_ms().saturating_sub(now_ms)).min(IDLE_TIME);
            tokio::select! {
                read = self.stream.read(&mut buffer), if self.session.wants_input() => match read? {
                    0 => return Ok(()),
                    len => {
                        self.visit.note_active(now_ms);
                        queue.push_back(Event::Received(buffer[..len].to_vec()));
                    }
                },
                () = tokio::time::sleep(due) => queue.push_back(Event::Tick),
                _ = end.wait_for(|end| *end) => queue.push_back(Event::Close { reason: 0 }),
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> std::io::Result<Option<Event>> {
        match action {
            Action::Send(bytes) => self.send(&bytes).await?,
            Action::LookUp(ask) if ask == Ask::Capsule(self.link) => {
                let (register, own) = (self.hub.register(), self.link);
                let found = self.hub.blocking(move |inner| inner.capsule_of(&register, &own)).await;
                return Ok(Some(Event::Found { ask, objects: found.unwrap_or_default() }));
            }
            // Nothing else is in scope: refused like everything that is not.
            Action::LookUp(_) => {
                self.refuse().await?;
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            // No log is in a guest's scope.
            Action::Load { request, .. } => return Ok(Some(Event::Loaded { request, items: Vec::new() })),
            Action::Ended(End::Refuse(_)) => self.refuse().await?,
            _ => {}
        }
        Ok(None)
    }

    async fn refuse(&mut self) -> std::io::Result<()> {
        tokio::time::sleep(Duration::from_millis(REFUSAL_DELAY_MS)).await;
        self.send(&REFUSAL).await
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        tokio::time::timeout(WRITE_TIME, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
        .map_err(late)?
    }
}

impl Inner {
    /// The packs that a link leads to.
    ///
    /// # Errors
    /// [`Error::NoSuch`] if there is no such link, if it was used as often as it may be, or if what it gives has not come
    /// here yet.
    fn packs_of(&self, register: &Register, link: &LinkTag) -> Result<HashSet<PackHash>, Error> {
        let none = || Error::NoSuch("there is no such link".into());
        let store = self.store()?;
        let snapshot = store.read()?;
        let door = register.door(link).ok_or_else(none)?;
        let most = door.registered.uses_max;
        if most > 0 && links::uses(&snapshot, link)? >= most {
            return Err(none());
        }
        Ok(extent(&snapshot, self, door)?.ok_or_else(none)?.packs.into_iter().collect())
    }

    /// Counts a use of a link.
    fn count_use(&self, link: &LinkTag) -> Result<(), Error> {
        self.store()?.write(|txn| Ok(links::count_use(txn, link)?))
    }

    /// The capsule of a link, for its holder.
    fn capsule_of(&self, register: &Register, link: &LinkTag) -> Result<Vec<Vec<u8>>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let capsule = register.door(link).map(|door| objects::get(&snapshot, &door.registered.capsule));
        Ok(capsule.transpose()?.flatten().into_iter().collect())
    }
}
