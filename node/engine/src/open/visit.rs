//! Finding a node that serves a link, and proving to hold it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::capsule::{Capsule, LinkEnd, Opener};
use locker_crypto::id::VerifyingKey;
use locker_crypto::link::{Link, LinkKeys};
use locker_crypto::rendezvous::Publishers;
use locker_net::{ConnectionId, Handle, Stream};
use locker_sync::handshake::{Credential, Expected, Grant, Welcome};
use locker_sync::message::v1::Ask;
use locker_sync::scope::Scope;
use locker_sync::session::{Action, Event, Session, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::node::seek::{self, Met, NotDialed, Place, Source as Whence, Tentative};
use crate::node::{KnockError, knock};
use crate::{Env, Error};

/// How long it is looked for a node that serves the link.
const SEARCH_TIME: Duration = Duration::from_secs(30);
/// After a refusal others are heard for so long: the one that refused may know less than they.
const REFUSED_TIME: Duration = Duration::from_secs(3);
/// A look-up that found only nodes of no use is begun anew after this time: a node may have told its place again.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// Pause between two look-ups.
const SEARCH_PAUSE: Duration = Duration::from_millis(500);
/// The capsule must come within this time.
const CAPSULE_TIME: Duration = Duration::from_secs(10);
/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// Who opens a link.
pub(super) struct Visitor<'a> {
    pub(super) net: &'a Handle,
    env: &'a Env,
    link: &'a Link,
    keys: &'a LinkKeys,
}

/// A node that serves the link, and the session with it.
pub(super) struct Source {
    /// The connection; closed with this.
    connection: Tentative,
    /// The device, by its own word.
    pub(super) device: VerifyingKey,
    /// Held open: the session ends with it.
    _stream: Stream,
}

impl Source {
    /// The connection.
    pub(super) fn connection(&self) -> ConnectionId {
        self.connection.get().id
    }
}

/// Why a node was of no use.
enum Failed {
    /// It knows the link and refused.
    Refused,
    /// It is not one, or broke off.
    Useless,
    /// It is one that is not to be asked again.
    Unwanted,
    /// It is being asked at another place.
    Same,
    /// What it gave is not what the link names.
    Wrong(Refusal),
}

impl<'a> Visitor<'a> {
    pub(super) fn new(net: &'a Handle, env: &'a Env, link: &'a Link, keys: &'a LinkKeys) -> Self {
        Self { net, env, link, keys }
    }

    /// Finds a node that serves the link and opens the capsule that it gives.
    ///
    /// # Errors
    /// [`Error::LinkRefused`], [`Error::Network`], [`Error::Integrity`].
    pub(super) async fn begin(&self) -> Result<(Source, Capsule), Error> {
        self.search(&BTreeSet::new(), async |source, grants| {
            let (source, capsule) = self.capsule(source, grants).await?;
            Ok((source, capsule))
        })
        .await
    }

    /// Finds a node that serves the link, but none of `but`.
    ///
    /// # Errors
    /// [`Error::LinkRefused`], [`Error::Network`].
    pub(super) async fn again(&self, but: &BTreeSet<VerifyingKey>) -> Result<Source, Error> {
        self.search(
            but,
            async |source: Source, _| {
                if but.contains(&source.device) { Err(Failed::Unwanted) } else { Ok(source) }
            },
        )
        .await
    }

    async fn search<T>(
        &self,
        but: &BTreeSet<VerifyingKey>,
        arrive: impl AsyncFn(Source, Vec<Grant>) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        let gone = |_| Error::Network("the network could not be used".into());
        let mut deadline = Instant::now() + SEARCH_TIME;
        let (mut refused, mut wrong) = (false, None);
        let mut useless: Vec<Place> = Vec::new();
        while Instant::now() < deadline && !refused {
            let find =
                self.net.find(&self.link.rendezvous(), Publishers::Several, None).await.map_err(gone)?;
            let (until, ends) = watch::channel(deadline);
            let (met, known) = (Met::default(), useless.clone());
            let attempt = |place: Place| {
                let (met, known, arrive) = (&met, &known, &arrive);
                async move {
                    // One node has several records; whoever refused is not asked again.
                    if known.contains(&place) {
                        return Err(Failed::Unwanted);
                    }
                    let (source, grants) = self.try_at(met, &place).await?;
                    arrive(source, grants).await
                }
            };
            let note = |place: Place, why: Failed| {
                let now = Instant::now();
                match why {
                    Failed::Refused => {
                        refused = true;
                        deadline = deadline.min(now + REFUSED_TIME);
                        until.send_modify(|until| *until = deadline.min(*until));
                    }
                    Failed::Wrong(why) => wrong = Some(why),
                    Failed::Unwanted | Failed::Same => {}
                    Failed::Useless => until.send_modify(|until| *until = (now + LOOK_TIME).min(*until)),
                }
                if !matches!(why, Failed::Useless | Failed::Same) {
                    useless.push(place);
                }
                ControlFlow::Continue(())
            };
            let found = tokio::select! {
                found = seek::race(self.hints(), vec![find], attempt, note) => found,
                () = reached(ends) => None,
            };
            if let Some(value) = found {
                return Ok(value);
            }
            if !refused {
                sleep(SEARCH_PAUSE).await;
            }
        }
        if refused {
            return Err(Error::LinkRefused(
                "the link was refused: it has ended, was revoked, or its passphrase is another".into(),
            ));
        }
        if let Some(why) = wrong {
            return Err(Error::damaged("what a node gave for this link", why));
        }
        Err(Error::Network(if but.is_empty() {
            "no device that serves this link was reached".into()
        } else {
            "the device that serves this link went away, and no other one was reached".into()
        }))
    }

    /// The places that the link itself names.
    fn hints(&self) -> Vec<Place> {
        let hints = self.link.hints().iter().filter(|hint| hint.may_be_dialed());
        hints.map(|hint| Place::at(SocketAddr::new(hint.ip, hint.port), Whence::Hint)).collect()
    }

    async fn try_at(&self, met: &Met, place: &Place) -> Result<(Source, Vec<Grant>), Failed> {
        let connection = met.dial(self.net, place).await.map_err(|why| match why {
            NotDialed::Nobody(_) => Failed::Useless,
            NotDialed::Same => Failed::Same,
        })?;
        let credential = Credential::Link { tag: self.keys.tag(), link: self.keys.signing() };
        let secrets = vec![self.link.rendezvous()];
        match knock(self.net, self.env, connection.get(), secrets, &Expected::Anybody, credential).await {
            Ok((stream, Welcome { device, grants, rest, .. })) if rest.is_empty() => {
                Ok((Source { connection, device, _stream: stream }, grants))
            }
            Err(KnockError::Refused) => Err(Failed::Refused),
            Ok(_) | Err(KnockError::Unknown | KnockError::Wrong(_) | KnockError::Broken(_)) => {
                Err(Failed::Useless)
            }
        }
    }

    /// Asks for the capsule and checks it against the link.
    async fn capsule(&self, source: Source, grants: Vec<Grant>) -> Result<(Source, Capsule), Failed> {
        let Source { connection, device, _stream: mut stream } = source;
        let own = Scope::granted(&grants).with_capsule(self.keys.tag());
        let mut session = Session::new(Terms { own, ..Terms::default() });
        let ask = Event::Ask(Ask::Capsule(self.keys.tag()));
        let mut queue = vec![ask, Event::Opened];
        let mut buffer = vec![0; READ_BYTES];
        let asked = async {
            loop {
                while let Some(event) = queue.pop() {
                    for action in session.handle(event, self.env.now_ms()) {
                        match action {
                            Action::Send(bytes) => {
                                stream.write_all(&bytes).await.ok()?;
                                stream.flush().await.ok()?;
                            }
                            Action::TakeObject { bytes, .. } => return Some(bytes),
                            Action::Ended(_) => return None,
                            _ => {}
                        }
                    }
                }
                match stream.read(&mut buffer).await {
                    Ok(len) if len > 0 => queue.push(Event::Received(buffer[..len].to_vec())),
                    _ => return None,
                }
            }
        };
        let bytes = timeout(CAPSULE_TIME, asked).await.ok().flatten().ok_or(Failed::Useless)?;
        let nothing = BTreeSet::new();
        let opener = Opener {
            owner: self.link.owner(),
            now: self.env.now_ms() / 1_000,
            revoked: &nothing,
            heartbeat_age_s: None,
        };
        match Capsule::open(&bytes, &LinkEnd::of(self.keys), &opener) {
            Ok((capsule, _)) => Ok((Source { connection, device, _stream: stream }, capsule)),
            Err(Refusal::Time) => Err(Failed::Refused),
            Err(why) => Err(Failed::Wrong(why)),
        }
    }
}

/// Waits until a moment that may be brought forward.
async fn reached(mut moment: watch::Receiver<Instant>) {
    loop {
        let at = *moment.borrow_and_update();
        tokio::select! {
            () = sleep_until(at) => return,
            changed = moment.changed() => if changed.is_err() {
                return sleep_until(at).await;
            },
        }
    }
}
