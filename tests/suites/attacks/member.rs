//! A device that joined by the book and then forgets its manners: it has the keys and speaks for itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use locker_crypto::epoch::Bundle;
use locker_crypto::id::{PersonId, SpaceTag, VerifyingKey};
use locker_crypto::identity::DeviceKeys;
use locker_crypto::person::Roster;
use locker_crypto::rendezvous::Address;
use locker_crypto::secret::Ticket;
use locker_net::{Connection, Prefer, Protocol, Stream};
use locker_sync::handshake::{Client, ClientStep, Credential, Expected, TransportKeys};
use locker_sync::message::v1::{Frontier, Message};
use locker_sync::message::{FrameDecoder, FrameLimits};
use locker_sync::pairing::{Enrol, Grant, NewDevice, NewStep, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stranger::{Stranger, dice, within};
use super::world::Device;

/// Unix seconds.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One of Ada's devices, in the hands of a test.
pub(crate) struct Member {
    pub(crate) x: Stranger,
    pub(crate) keys: DeviceKeys,
    pub(crate) person: PersonId,
    pub(crate) grant: Grant,
}

impl Member {
    /// Joins the person of `host`, whose node runs.
    pub(crate) async fn join(host: &Device) -> Self {
        let inviting = host.invite();
        let member = Self::join_at(&host.addresses(), &inviting.ticket).await;
        assert!(tokio::task::spawn_blocking(move || inviting.finish()).await.unwrap());
        member
    }

    /// Joins whoever listens there and made the ticket.
    pub(crate) async fn join_at(addresses: &[Address], ticket: &Ticket) -> Self {
        let x = Stranger::start().await;
        let connection = x.dial(addresses, Prefer::Quic).await;
        let mut stream = within("a stream", x.net.open(connection.id, Protocol::Pair)).await.unwrap();
        let keys = DeviceKeys::random(&mut dice());
        let (person, grant) = within("the pairing", pair(&mut stream, ticket, &keys)).await;
        Self { x, keys, person, grant }
    }

    /// Every secret that it was given or made, and what follows from them, by what it is.
    pub(crate) fn secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (_, person_key) = self.grant.person_key.as_ref().unwrap();
        let (_, master) = self.grant.master.as_ref().unwrap();
        let mut secrets = vec![
            ("person key", person_key.expose().to_vec()),
            ("data key of the person", person_key.data_key().expose().to_vec()),
            ("master of the replicas' secrets", master.expose().to_vec()),
            ("signing seed of a device", self.keys.signing_seed().expose().to_vec()),
            ("box seed of a device", self.keys.box_seed().expose().to_vec()),
        ];
        for device in self.roster().active() {
            let secret = person_key.device_rendezvous(device);
            secrets.push(("meeting secret of a device", secret.expose().to_vec()));
        }
        let roster = self.roster();
        let space = roster.home().unwrap();
        let bundles = self.grant.objects.iter().filter_map(|object| Bundle::decode(object).ok());
        for epoch in bundles.filter_map(|bundle| bundle.open(space, &person_key.box_keys()).unwrap()) {
            secrets.push(("epoch secret", epoch.expose().to_vec()));
            secrets.push(("log key", epoch.log_key().expose().to_vec()));
        }
        assert!(secrets.iter().any(|(what, _)| *what == "log key"));
        secrets
    }

    /// What names the space, without being secret to its members: never in the clear on the wire all the same.
    pub(crate) fn space(&self) -> [Vec<u8>; 2] {
        let space = *self.roster().home().unwrap();
        [space.as_bytes().to_vec(), locker_crypto::entry::space_tag(&space).as_bytes().to_vec()]
    }

    fn roster(&self) -> Roster {
        Roster::read(self.grant.person_log.iter().map(Vec::as_slice)).unwrap()
    }

    /// The other devices of the person.
    fn others(&self) -> BTreeSet<VerifyingKey> {
        self.roster().active().filter(|device| **device != self.keys.verifying_key()).copied().collect()
    }

    /// Makes a session over a connection of its own, and waits for what the node says of its entries. Just after it joined
    /// the node may not have looked at its roster again, and while an earlier session of this device has not quite ended
    /// there, a new one may be closed at once: then it calls again.
    pub(crate) async fn session(&self, addresses: &[Address]) -> (Session, Frontier) {
        let sessions = async {
            loop {
                let Some(mut session) = self.knock(addresses).await else { continue };
                if let Some(frontier) = session.frontier().await {
                    return (session, frontier);
                }
            }
        };
        within("a session", sessions).await
    }

    async fn knock(&self, addresses: &[Address]) -> Option<Session> {
        let connection = self.x.dial(addresses, Prefer::Quic).await;
        let mut stream = within("a stream", self.x.net.open(connection.id, Protocol::Sync)).await.unwrap();
        let transport = TransportKeys { server: connection.peer, client: self.x.net.transport_key() };
        let others = self.others();
        let (_, person_key) = self.grant.person_key.as_ref().unwrap();
        let secrets = others.iter().map(|device| person_key.device_rendezvous(device)).collect();
        let mut client = Client::start(transport, secrets, &mut dice()).unwrap();
        let mut buffer = vec![0; 4_096];
        loop {
            stream.flush().await.unwrap();
            let len = within("the handshake", stream.read(&mut buffer)).await.unwrap();
            assert!(len > 0, "the other end broke off");
            let frame = match client.receive(&buffer[..len]).unwrap() {
                ClientStep::Wait => continue,
                ClientStep::Knock(frame) => frame,
                ClientStep::Answered(_) => {
                    let own = Credential::Device { person: self.person, device: self.keys.signing() };
                    client.prove(&Expected::OneOf(&others), &[own], now_s()).unwrap()
                }
                ClientStep::Welcome(welcome) => {
                    let mut frames = FrameDecoder::new(FrameLimits::Session);
                    frames.push(&welcome.rest);
                    let tag = welcome.grants[0].tag;
                    return Some(Session { connection, stream, frames, tag });
                }
                ClientStep::Refused => return None,
            };
            stream.write_all(&frame).await.unwrap();
        }
    }
}

/// The new device's side of a pairing; whoever asks is told yes.
async fn pair(stream: &mut Stream, ticket: &Ticket, keys: &DeviceKeys) -> (PersonId, Grant) {
    const NAME: &str = "member";
    let (mut new, first) = NewDevice::start(ticket, Role::Full, NAME, &mut dice()).unwrap();
    stream.write_all(&first).await.unwrap();
    let mut person = None;
    let mut buffer = vec![0; 65_536];
    loop {
        stream.flush().await.unwrap();
        let len = stream.read(&mut buffer).await.unwrap();
        assert!(len > 0, "the other end broke off");
        let mut steps = new.receive(&buffer[..len], now_s()).unwrap();
        steps.reverse();
        while let Some(step) = steps.pop() {
            match step {
                NewStep::Send(bytes) => stream.write_all(&bytes).await.unwrap(),
                NewStep::Compare(_) => steps.extend(new.confirm(now_s()).unwrap().into_iter().rev()),
                NewStep::Welcome(whose) => {
                    person = Some(whose);
                    let bytes = new.enrol(Enrol::new(Role::Full, NAME, &whose, keys)).unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
                NewStep::Granted(grant) => {
                    stream.write_all(&new.done().unwrap()).await.unwrap();
                    stream.shutdown().await.unwrap();
                    // The other end closes once it knows.
                    let _ = stream.read_to_end(&mut buffer).await;
                    return (person.unwrap(), *grant);
                }
            }
        }
    }
}

/// A session of a member.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) stream: Stream,
    frames: FrameDecoder,
    /// The home space.
    pub(crate) tag: SpaceTag,
}

impl Session {
    /// Says something.
    pub(crate) async fn say(&mut self, message: &Message) {
        self.stream.write_all(&message.encode()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Hears the next message; `None` when the other end refused or closed.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        let mut buffer = vec![0; 65_536];
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Message::decode(frame).ok();
            }
            let len = within("a message", self.stream.read(&mut buffer)).await.unwrap_or(0);
            if len == 0 {
                return None;
            }
            self.frames.push(&buffer[..len]);
        }
    }

    async fn frontier(&mut self) -> Option<Frontier> {
        loop {
            match self.hear().await? {
                Message::Frontier(frontier) if frontier.tag == self.tag => return Some(frontier),
                _ => {}
            }
        }
    }

    /// Says something and waits for the end of the session: the last 16 bytes, and when they came.
    pub(crate) async fn last_words(mut self, question: &[u8]) -> (Vec<u8>, Duration) {
        self.stream.write_all(question).await.unwrap();
        self.stream.flush().await.unwrap();
        let asked = Instant::now();
        let (mut all, mut took, mut buffer) = (Vec::new(), Duration::ZERO, vec![0; 65_536]);
        loop {
            let len = within("the end of a session", self.stream.read(&mut buffer)).await.unwrap_or(0);
            if len == 0 {
                return (all.split_off(all.len().saturating_sub(16)), took);
            }
            took = asked.elapsed();
            all.extend_from_slice(&buffer[..len]);
        }
    }
}
