//! Finding a node that serves a link, and proving to hold it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::capsule::{Capsule, LinkEnd, Opener};
use locker_crypto::id::VerifyingKey;
use locker_crypto::link::{Link, LinkKeys};
use locker_crypto::rendezvous::{Address, Contact, Publishers};
use locker_net::{Connection, Found, Handle, Prefer, Stream, both_transports};
use locker_sync::handshake::{Credential, Expected, Grant, Welcome};
use locker_sync::message::v1::Ask;
use locker_sync::scope::Scope;
use locker_sync::session::{Action, Event, Session, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

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
    /// The connection.
    pub(super) connection: Connection,
    /// The device, by its own word.
    pub(super) device: VerifyingKey,
    /// Held open: the session ends with it.
    _stream: Stream,
}

/// Why a node was of no use.
enum Failed {
    /// It knows the link and refused.
    Refused,
    /// It is not one, or broke off.
    Useless,
    /// It is one that is not to be asked again.
    Unwanted,
    /// What it gave is not what the link names.
    Wrong(Refusal),
}

/// Where a node is that may serve the link.
#[derive(PartialEq)]
enum Place {
    /// At one of these addresses.
    At(Vec<Address>, Prefer),
    /// As a record says.
    Of(Contact),
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
        self.search(but, async |source: Source, _| {
            if !but.contains(&source.device) {
                return Ok(source);
            }
            let _ = self.net.close(source.connection.id).await;
            Err(Failed::Unwanted)
        })
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
        let mut tried: Vec<Place> = Vec::new();
        while Instant::now() < deadline {
            let hints = self.link.hints().iter().filter(|hint| hint.may_be_dialed());
            let hints: Vec<Address> =
                hints.flat_map(|hint| both_transports(SocketAddr::new(hint.ip, hint.port))).collect();
            let mut next = (!hints.is_empty()).then_some(Place::At(hints, Prefer::Quic));
            let secret = self.link.rendezvous();
            let mut find = self.net.find(&secret, Publishers::Several, None).await.map_err(gone)?;
            let mut until = deadline;
            loop {
                let place = match next.take() {
                    Some(hinted) => hinted,
                    None => match timeout_at(until.min(deadline), find.next()).await {
                        Ok(Some(Found::Record { contact, .. })) => Place::Of(contact),
                        Ok(Some(Found::Beacon(at))) => Place::At(both_transports(at).to_vec(), Prefer::Tcp),
                        Ok(None) | Err(_) => break,
                    },
                };
                // One node has several records; whoever refused is not asked again.
                if tried.contains(&place) {
                    continue;
                }
                let tried_now = timeout_at(deadline, self.try_at(&place)).await;
                let arrived = match tried_now {
                    Ok(Ok((source, grants))) => arrive(source, grants).await,
                    Ok(Err(failed)) => Err(failed),
                    Err(_) => Err(Failed::Useless),
                };
                match arrived {
                    Ok(value) => return Ok(value),
                    Err(Failed::Refused) => {
                        tried.push(place);
                        refused = true;
                        deadline = deadline.min(Instant::now() + REFUSED_TIME);
                    }
                    Err(Failed::Wrong(why)) => {
                        tried.push(place);
                        wrong = Some(why);
                    }
                    Err(Failed::Unwanted) => tried.push(place),
                    Err(Failed::Useless) => until = until.min(Instant::now() + LOOK_TIME),
                }
            }
            if refused {
                break;
            }
            sleep(SEARCH_PAUSE).await;
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

    async fn try_at(&self, place: &Place) -> Result<(Source, Vec<Grant>), Failed> {
        let dialed = match place {
            Place::At(addresses, prefer) => self.net.dial(addresses, *prefer).await,
            Place::Of(contact) => self.net.dial_contact(contact, Prefer::Quic).await,
        };
        let connection = dialed.map_err(|_| Failed::Useless)?;
        let credential = Credential::Link { tag: self.keys.tag(), link: self.keys.signing() };
        let secrets = vec![self.link.rendezvous()];
        match knock(self.net, self.env, &connection, secrets, &Expected::Anybody, credential).await {
            Ok((stream, Welcome { device, grants, rest })) if rest.is_empty() => {
                Ok((Source { connection, device, _stream: stream }, grants))
            }
            failed => {
                let _ = self.net.close(connection.id).await;
                Err(match failed {
                    Err(KnockError::Refused) => Failed::Refused,
                    Ok(_) | Err(KnockError::Wrong(_) | KnockError::Broken(_)) => Failed::Useless,
                })
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
        let Some(bytes) = timeout(CAPSULE_TIME, asked).await.ok().flatten() else {
            let _ = self.net.close(connection.id).await;
            return Err(Failed::Useless);
        };
        let nothing = BTreeSet::new();
        let opener = Opener {
            owner: self.link.owner(),
            now: self.env.now_ms() / 1_000,
            revoked: &nothing,
            heartbeat_age_s: None,
        };
        match Capsule::open(&bytes, &LinkEnd::of(self.keys), &opener) {
            Ok((capsule, _)) => Ok((Source { connection, device, _stream: stream }, capsule)),
            Err(why) => {
                let _ = self.net.close(connection.id).await;
                Err(if why == Refusal::Time { Failed::Refused } else { Failed::Wrong(why) })
            }
        }
    }
}
