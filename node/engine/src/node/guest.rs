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

use super::hub::Hub;
use crate::Error;
use crate::locker::Inner;
use crate::share;

/// Bytes read in one go.
const READ_BYTES: usize = 8 * 1024;
/// A guest that does not take what is sent to it for so long is left.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Holds the session of a link's holder to its end.
pub(super) async fn serve(
    hub: Arc<Hub>,
    connection: Connection,
    stream: Stream,
    admission: Admission,
    rest: Vec<u8>,
) {
    let [link] = admission.links[..] else { return };
    let Ok(packs) = hub.blocking(move |inner| inner.begin_use(&link)).await else { return };
    let scope = Scope::of(&admission, []);
    let Some(mut place) = hub.admit_guest(&connection, link, scope.clone(), Arc::new(packs)).await else {
        return;
    };
    let ends_ms = admission.expires_s.map(|s| s.saturating_mul(1_000));
    let terms = Terms { peer: scope, own: Scope::nothing(), remembered: Vec::new(), ends_ms };
    let mut talk = Talk { hub: Arc::clone(&hub), stream, link, session: Session::new(terms) };
    // Errors of the stream end the session, whatever they are.
    let _ = talk.run(rest, &mut place.end).await;
    drop(talk);
    hub.leave_guest(&connection).await;
}

struct Talk {
    hub: Arc<Hub>,
    stream: Stream,
    link: LinkTag,
    session: Session,
}

impl Talk {
    async fn run(
        &mut self,
        rest: Vec<u8>,
        end: &mut tokio::sync::watch::Receiver<bool>,
    ) -> std::io::Result<()> {
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
                return self.stream.shutdown().await;
            }
            let now_ms = self.hub.inner().env().now_ms();
            let due = Duration::from_millis(self.session.due_ms().saturating_sub(now_ms));
            tokio::select! {
                read = self.stream.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    len => queue.push_back(Event::Received(buffer[..len].to_vec())),
                },
                () = tokio::time::sleep(due) => queue.push_back(Event::Tick),
                _ = end.wait_for(|end| *end) => queue.push_back(Event::Close { reason: 0 }),
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> std::io::Result<Option<Event>> {
        match action {
            Action::Send(bytes) => self.send(&bytes).await?,
            Action::LookUp(ask) => {
                let own = self.link;
                let found = self.hub.blocking(move |inner| inner.capsule_of(&own, &ask)).await;
                return Ok(Some(Event::Found { ask, objects: found.unwrap_or_default() }));
            }
            // No log is in a guest's scope.
            Action::Load { request, .. } => return Ok(Some(Event::Loaded { request, items: Vec::new() })),
            Action::Ended(End::Refuse(_)) => {
                tokio::time::sleep(Duration::from_millis(REFUSAL_DELAY_MS)).await;
                self.send(&REFUSAL).await?;
            }
            _ => {}
        }
        Ok(None)
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
    /// Counts a use of a link and gives the packs that it leads to.
    ///
    /// # Errors
    /// [`Error::NoSuch`] if there is no such link, or what it gives has not come here yet.
    fn begin_use(&self, link: &LinkTag) -> Result<HashSet<PackHash>, Error> {
        let store = self.store()?;
        let packs = {
            let snapshot = store.read()?;
            let register = share::Register::read(self, &snapshot)?;
            let door = register.door(link);
            let extent = door.map(|door| share::extent(&snapshot, self, door)).transpose()?.flatten();
            extent.ok_or_else(|| Error::NoSuch("there is no such link".into()))?.packs
        };
        store.write(|txn| Ok::<_, Error>(links::count_use(txn, link)?))?;
        Ok(packs.into_iter().collect())
    }

    /// The capsule of a link, for its holder.
    fn capsule_of(&self, link: &LinkTag, ask: &Ask) -> Result<Vec<Vec<u8>>, Error> {
        if *ask != Ask::Capsule(*link) {
            return Ok(Vec::new());
        }
        let store = self.store()?;
        let snapshot = store.read()?;
        let register = share::Register::read(self, &snapshot)?;
        let capsule = register.door(link).map(|door| objects::get(&snapshot, &door.registered.capsule));
        Ok(capsule.transpose()?.flatten().into_iter().collect())
    }
}
