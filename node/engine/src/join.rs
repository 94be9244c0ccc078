//! `join`: this device becomes one of a person's. Until the one durable commit at the end there is no locker here
//! (`docs/spec/07-links.md`, section 6).

mod blind;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::epoch::Bundle;
use locker_crypto::id::{PersonId, SpaceId};
use locker_crypto::identity::{DeviceKeys, PersonKeys};
use locker_crypto::person::Entry;
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::{EpochSecret, Ticket};
use locker_net::{Connection, Found, Handle, Prefer, Protocol, Stream, both_transports};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::{Limits, Store, WriteTxn, objects, persons, settings};
use locker_sync::limits::{CONFIRM_TIME_S, EARLY_FRAME_TIME_MS};
use locker_sync::pairing::{Enrol, Grant, NewDevice, NewStep, Role};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

use self::blind::Charged;
use crate::create::{device_name, init_home, make_run_folder};
use crate::keys::{HOME_SPACE, PERSON, read_person_log};
use crate::node::{NodeOptions, with_net};
use crate::person_keys::person_keys;
use crate::report::{Guide, Joined, ROLE_BLIND, ROLE_FULL, Secret};
use crate::{Env, Error, Vault, vault};

/// How long it is looked for the other device.
const SEARCH_TIME: Duration = Duration::from_secs(30);
/// The same on a local network, where the next beacon may be 30 seconds away.
const SEARCH_TIME_LAN: Duration = Duration::from_secs(45);
/// Pause between two look-ups.
const SEARCH_PAUSE: Duration = Duration::from_millis(500);
/// The next bytes must come within this time, but while people compare digits.
const STEP_TIME: Duration = Duration::from_millis(EARLY_FRAME_TIME_MS);
/// How long the other end may take to confirm and to write the new device down.
const CONFIRM_TIME: Duration = Duration::from_secs(CONFIRM_TIME_S + 60);

/// What a device becomes by joining.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JoinAs {
    /// One of the person's devices: it reads and writes.
    Full,
    /// A store that cannot read.
    Blind {
        /// Bytes that it keeps at most; 0 for as many as fit.
        quota: u64,
    },
}

impl JoinAs {
    /// Bytes that are kept at most; 0 for as many as fit.
    pub(crate) fn quota(self) -> u64 {
        match self {
            Self::Full => 0,
            Self::Blind { quota } => quota,
        }
    }
}

/// How this device joins.
pub struct JoinOptions {
    /// What it is to become at most: who asks for [`JoinAs::Full`] is content with less, as the inviting one says.
    pub wanted: JoinAs,
    /// The eight words of the ticket, or its 22 hexadecimal digits.
    pub ticket: Secret,
    /// Name of this device; that of the host if none is given.
    pub name: Option<String>,
    /// How the keys on this device are closed.
    pub vault: Vault,
    /// How the network is started for it.
    pub node: NodeOptions,
}

/// Becomes a device of whoever made the ticket.
pub(crate) fn join(home: &Path, options: JoinOptions, guide: &dyn Guide, env: &Env) -> Result<Joined, Error> {
    let node = options.node.clone();
    crate::node::on_threads(&node, join_by(home, options, guide, env))
}

/// The same on a runtime that is there already.
pub(crate) async fn join_by(
    home: &Path,
    options: JoinOptions,
    guide: &dyn Guide,
    env: &Env,
) -> Result<Joined, Error> {
    crate::create::check_new_home(home)?;
    let name = device_name(options.name)?;
    let ticket = read_ticket(&options.ticket)?;
    if options.node.bootstrap.is_empty() && !options.node.lan {
        return Err(Error::Network(
            "there is nowhere to look: no bootstrap address, and the LAN is off".into(),
        ));
    }
    let search_time = if options.node.lan { SEARCH_TIME_LAN } else { SEARCH_TIME };
    let keys = DeviceKeys::random(&mut **env.dice());
    let joiner = Joiner { search_time, wanted: options.wanted, ticket, name, keys, env, guide };
    with_net(options.node, async |net| joiner.search(net, home, &options.vault).await).await
}

fn read_ticket(text: &Secret) -> Result<Ticket, Error> {
    let text = text.expose().trim();
    let hex = || -> Option<Ticket> {
        let pairs = (0..Ticket::LEN).map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok());
        let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
        Ticket::from_slice(&bytes).ok()
    };
    if text.len() == 2 * Ticket::LEN
        && text.is_ascii()
        && let Some(ticket) = hex()
    {
        return Ok(ticket);
    }
    Ticket::from_words(text).map_err(|_| {
        Error::Argument("this is no ticket: it has eight words, as the other device shows them".into())
    })
}

/// The new device while it joins.
struct Joiner<'a> {
    search_time: Duration,
    wanted: JoinAs,
    ticket: Ticket,
    name: String,
    keys: DeviceKeys,
    env: &'a Env,
    guide: &'a dyn Guide,
}

/// Why a try came to nothing.
enum Failed {
    /// Whoever answered does not know the ticket: the next one may.
    Stranger,
    /// It was the right one, and it failed.
    For(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::For(error)
    }
}

impl Joiner<'_> {
    fn now_s(&self) -> u64 {
        self.env.now_ms() / 1_000
    }

    /// Looks for the device that made the ticket, and runs with the first that knows it.
    async fn search(&self, net: &Handle, home: &Path, vault: &Vault) -> Result<Joined, Error> {
        let deadline = Instant::now() + self.search_time;
        let gone = |_| Error::Network("the network could not be used".into());
        let mut answered = false;
        while Instant::now() < deadline {
            let secret = self.ticket.rendezvous();
            let mut find = net.find(&secret, Publishers::One, None).await.map_err(gone)?;
            while let Ok(Some(found)) = timeout_at(deadline, find.next()).await {
                let dialed = match found {
                    Found::Record { contact, .. } => net.dial_contact(&contact, Prefer::Quic).await,
                    Found::Beacon(address) => net.dial(&both_transports(address), Prefer::Tcp).await,
                };
                let Ok(connection) = dialed else { continue };
                match self.try_on(net, &connection, home, vault).await {
                    Ok(joined) => return Ok(joined),
                    Err(Failed::Stranger) => answered = true,
                    Err(Failed::For(error)) => return Err(error),
                }
            }
            sleep(SEARCH_PAUSE).await;
        }
        Err(Error::Network(if answered {
            "a device was found under this ticket, but it did not answer to it: is the ticket still valid?"
                .into()
        } else {
            "no device was found under this ticket".into()
        }))
    }

    async fn try_on(
        &self,
        net: &Handle,
        connection: &Connection,
        home: &Path,
        vault: &Vault,
    ) -> Result<Joined, Failed> {
        let stream = net.open(connection.id, Protocol::Pair).await.map_err(|_| Failed::Stranger)?;
        self.run(stream, home, vault).await
    }

    async fn run(&self, mut stream: Stream, home: &Path, vault: &Vault) -> Result<Joined, Failed> {
        let role = match self.wanted {
            JoinAs::Full => Role::Full,
            JoinAs::Blind { .. } => Role::BlindStore,
        };
        let (mut new, first) = NewDevice::start(&self.ticket, role, &self.name, &mut **self.env.dice())
            .map_err(Error::Refused)?;
        send(&mut stream, &first).await.map_err(|_| Failed::Stranger)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut person = None;
        let is_known = Cell::new(false);
        let broke = || match is_known.get() {
            true => Failed::For(Error::Pairing("the other device ended the pairing".into())),
            false => Failed::Stranger,
        };
        loop {
            let time = if is_known.get() { CONFIRM_TIME } else { STEP_TIME };
            let read = timeout_at(Instant::now() + time, stream.read(&mut buffer)).await;
            let len = match read {
                Ok(Ok(len)) if len > 0 => len,
                _ => return Err(broke()),
            };
            let mut steps = new.receive(&buffer[..len], self.now_s()).map_err(|_| broke())?;
            steps.reverse();
            while let Some(step) = steps.pop() {
                match step {
                    NewStep::Send(bytes) => send(&mut stream, &bytes).await.map_err(|_| broke())?,
                    NewStep::Compare(digits) => {
                        is_known.set(true);
                        // This blocks the thread that waits for the whole; the network has others.
                        let agreed = self.guide.confirm(&digits.to_string(), None);
                        if !agreed.map_err(|e| Error::io("cannot ask at", "the terminal", e))? {
                            return Err(Error::Pairing("the digits were not confirmed here".into()).into());
                        }
                        let more = new.confirm(self.now_s()).map_err(|_| {
                            Error::Pairing("the digits were not confirmed within two minutes".into())
                        })?;
                        steps.extend(more.into_iter().rev());
                    }
                    NewStep::Welcome(whose) => {
                        person = Some(whose);
                        let enrol = Enrol::new(role, &self.name, &whose, &self.keys);
                        let bytes = new.enrol(enrol).map_err(Error::Refused)?;
                        send(&mut stream, &bytes).await.map_err(|_| broke())?;
                    }
                    NewStep::Granted(grant) => {
                        let person = person.ok_or(Error::Refused(Refusal::Canon))?;
                        let role = match &grant.custody {
                            None => {
                                let given = Given::check(person, &self.keys, &grant);
                                given.map_err(Error::Refused)?.keep(home, &self.keys, vault, self.env)?;
                                ROLE_FULL
                            }
                            Some(custody) => {
                                let quota = self.wanted.quota();
                                let charged = Charged { person, grant: &grant, custody, quota };
                                charged.keep(home, &self.keys, vault, self.env)?;
                                ROLE_BLIND
                            }
                        };
                        // Whether it is heard or not: this device is one of the person's.
                        if let Ok(bytes) = new.done() {
                            let _ = send(&mut stream, &bytes).await;
                            let _ = stream.shutdown().await;
                            let _ = timeout_at(Instant::now() + STEP_TIME, stream.read(&mut buffer)).await;
                        }
                        return Ok(Joined {
                            device_id: self.keys.verifying_key().to_string(),
                            person_id: person.to_string(),
                            name: self.name.clone(),
                            role: role.into(),
                        });
                    }
                }
            }
        }
    }
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// What the old device gave, checked.
pub(crate) struct Given<'a> {
    person: PersonId,
    grant: &'a Grant,
    entries: Vec<Entry>,
    roster: Roster,
    person_keys: PersonKeys,
    space: SpaceId,
    epochs: Vec<EpochSecret>,
}

impl<'a> Given<'a> {
    /// Checks the log from its beginning to this device, and that the keys are those which the log names.
    pub(crate) fn check(person: PersonId, keys: &DeviceKeys, grant: &'a Grant) -> Result<Self, Refusal> {
        let first = grant.person_log.first().ok_or(Refusal::Chain)?;
        if Entry::read_genesis(first)?.0 != person {
            return Err(Refusal::Audience);
        }
        let entries = read_person_log(&person, &grant.person_log)?;
        let roster = Roster::read(person, &entries);
        if !roster.active.contains(&keys.verifying_key()) {
            return Err(Refusal::Rights);
        }
        let space = roster.home.ok_or(Refusal::Chain)?;
        let (generation, newest) = grant.person_key.as_ref().ok_or(Refusal::Key)?;
        let person_keys = person_keys(&entries, *generation, newest)?;
        let mut epochs = Vec::new();
        for bundle in grant.objects.iter().filter_map(|object| Bundle::decode(object).ok()) {
            if roster.brought_in.contains(&bundle.author()) {
                epochs.extend(bundle.open(&space, &person_keys.newest().box_keys())?);
            }
        }
        if epochs.is_empty() {
            return Err(Refusal::Epoch);
        }
        Ok(Self { person, grant, entries, roster, person_keys, space, epochs })
    }

    /// Makes the locker: one durable commit.
    pub(crate) fn keep(&self, home: &Path, keys: &DeviceKeys, vault: &Vault, env: &Env) -> Result<(), Error> {
        let opened = init_home(home)?;
        make_run_folder(home)?;
        let vault_key = vault::create(&opened, vault, env)?;
        let dice = Box::new(crate::env::system_dice());
        Store::create(opened, &vault_key, dice, Limits::default(), |txn| self.write(txn, keys, env))?;
        Ok(())
    }

    fn write(&self, txn: &mut WriteTxn<'_>, keys: &DeviceKeys, env: &Env) -> Result<(), Error> {
        for (entry, bytes) in self.entries.iter().zip(&self.grant.person_log) {
            persons::put(txn, &self.person, &entry.id, bytes);
        }
        let tag = locker_crypto::entry::space_tag(&self.space);
        for object in &self.grant.objects {
            match Bundle::decode(object) {
                Ok(bundle) if bundle.space_tag() == tag => {
                    _ = objects::put_bundle(txn, &tag, &bundle.epoch(), object);
                }
                _ => _ = objects::put(txn, object),
            }
        }
        {
            let mut rows = txn.rows_mut(tag);
            let mut space = Space::open(&rows, self.space, keys.verifying_key())?;
            space.set_roster(&mut rows, self.person, &self.roster, env.now_ms())?;
        }
        keyring::put(txn, &(), keys.signing_seed());
        keyring::put(txn, &(), keys.box_seed());
        for n in 0..=self.person_keys.generation() {
            if let Some(key) = self.person_keys.get(n) {
                keyring::put(txn, &n, key);
            }
        }
        if let Some((generation, master)) = &self.grant.master {
            keyring::put(txn, generation, master);
        }
        for epoch in &self.epochs {
            keyring::put(txn, &SpaceEpoch { space: tag, epoch: epoch.id() }, epoch);
        }
        settings::put(txn, PERSON, self.person.as_bytes());
        settings::put(txn, HOME_SPACE, self.space.as_bytes());
        Ok(())
    }
}
