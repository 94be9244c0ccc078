//! Everything back from the 24 words (`docs/spec/02-identity.md`, "Recovery").
//!
//! Somebody who holds the phrase finds whoever keeps something of the person (`contact`), or reads a folder that does
//! (`folder`), and begins a home with the person log and the keys that it hands on (`home`). As the holder of the phrase
//! that home gets every log and pack, from all that are reached (`node/heir.rs`). Only when everything is here does it
//! become a device: one commit, in which the root brings it in, ends the others, and begins new keys (`finish`). Until then
//! nothing has changed anywhere, and a recovery that was stopped goes on.

mod contact;
mod drill;
mod finish;
pub(crate) mod folder;
mod home;
mod lack;
mod pour;

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use locker_catalog::roster::Roster;
use locker_catalog::tree as catalog;
use locker_crypto::Refusal;
use locker_crypto::id::{ObjectHash, PersonId, VerifyingKey};
use locker_crypto::identity::{Root, Slot};
use locker_crypto::phrase::{Flaw, Phrase, WORDS};
use locker_crypto::secret::RendezvousSecret;
use locker_store::settings::{self, Setting};
use locker_store::{Home, Reads};
use locker_sync::limits::KNOCK_MACS;

pub(crate) use self::contact::GENERATIONS;
pub use self::drill::DrillOptions;
pub(crate) use self::drill::drill;
use self::folder::Folder;
use crate::create::device_name;
use crate::keys::{PERSON, person_log};
use crate::locker::Inner;
use crate::node::{Gathered, Hub, Node, NodeOptions};
use crate::person_chains::PersonChains;
use crate::report::{Evidence, Observer, Progress, Recovered, Rehearsal, Secret};
use crate::tree::Tree;
use crate::{Env, Error, Locker, Vault};

/// Setting: this home is being recovered; the value is the generation of slots under which others are found.
const UNFINISHED: Setting = Setting::engine(6);
/// Generations before the one in use of which replicas and devices are looked for.
const OLDER_GENERATIONS_MAX: usize = 8;
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Other devices are given so long to be found after the first.
const OTHERS_TIME: Duration = Duration::from_secs(4);
/// What entries wait for is asked for again in less than this: before, nobody can be said not to have it.
const AWAITED_TIME: Duration = Duration::from_secs(35);
/// How long nothing may come before what is missing is given up.
const STILL_TIME: Duration = Duration::from_secs(45);
/// How long the devices that are here may take to store that they were succeeded.
const TELL_TIME: Duration = Duration::from_secs(30);
/// Pause between two questions whether they hold what they are to.
const CONFIRM_PAUSE: Duration = Duration::from_millis(300);

/// Where somebody who has something of the person is.
#[derive(Clone, Debug)]
pub enum RecoverFrom {
    /// At this address: `host:port`, or a multiaddr.
    Address(String),
    /// In this folder: a drive, or the home of a device.
    Folder(PathBuf),
}

/// How a locker is to come back.
pub struct RecoverOptions {
    /// The 24 words.
    pub phrase: Secret,
    /// Name of this device; that of the host if none is given.
    pub name: Option<String>,
    /// How the keys on this device are closed.
    pub vault: Vault,
    /// How the network is used.
    pub node: NodeOptions,
    /// Where to look besides DHT and local network.
    pub from: Vec<RecoverFrom>,
    /// Whether what nobody has who is reached is given up, so that the rest can be used.
    pub accept_missing: bool,
    /// Whether the content comes later, from devices that stay devices: [`RecoverOptions::keep_devices`] is then implied.
    pub names_only: bool,
    /// Whether the other devices stay devices. Else all are ended: who lost them does not know in whose hands they are.
    pub keep_devices: bool,
}

/// The phrase, while a home recovers by it. Never written anywhere.
pub(crate) struct Heir {
    root: Root,
    /// Of the slots under which others are found.
    generation: AtomicU32,
    places: Mutex<Vec<SocketAddr>>,
    /// In a rehearsal: the device that is not asked. Packs are fetched only where it is said which.
    but: Option<VerifyingKey>,
}

impl Heir {
    fn new(root: Root, places: Vec<SocketAddr>) -> Self {
        Self { root, generation: AtomicU32::new(0), places: Mutex::new(places), but: None }
    }

    /// The same for a rehearsal without a device.
    fn rehearsing(self, but: VerifyingKey) -> Self {
        Self { but: Some(but), ..self }
    }

    /// Whether this is a rehearsal.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.but.is_some()
    }

    /// Whether a device may be asked.
    pub(crate) fn may_ask(&self, device: &VerifyingKey) -> bool {
        self.but != Some(*device)
    }

    /// The root keys.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Where somebody is who has something of the person.
    pub(crate) fn places(&self) -> Vec<SocketAddr> {
        self.lock_places().clone()
    }

    fn lock_places(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what a home says of the recovery into it.
    ///
    /// # Errors
    /// [`Error::LockerExists`] if there is none, or it has been completed.
    pub(crate) fn take_up<R: Reads>(&self, reads: &R, home: &Path) -> Result<(), Error> {
        let kept =
            settings::get(reads, UNFINISHED)?.ok_or_else(|| Error::LockerExists(home.to_path_buf()))?;
        let kept =
            kept.try_into().map_err(|_| Error::damaged("what is known of the recovery", Refusal::Canon))?;
        // The words may have been changed since it began.
        let person = settings::get(reads, PERSON)?.and_then(|id| PersonId::from_slice(&id).ok());
        let told = match person {
            Some(person) => Roster::read(person, &person_log(reads, &person)?).generation,
            None => 0,
        };
        let newest = u32::from_le_bytes(kept).max(u32::try_from(told).unwrap_or(u32::MAX));
        self.generation.store(newest, Ordering::Relaxed);
        Ok(())
    }

    /// The secrets under which replicas and devices are found, a knock's worth at a time: all slots of the generation in use,
    /// then of those before, the newest first. Replicas may have been given theirs earlier, and a device that was kept by a
    /// recovery does not hear of the new ones if who recovered is lost before they meet.
    pub(crate) fn knocks(&self) -> Vec<Vec<RendezvousSecret>> {
        let newest = self.generation.load(Ordering::Relaxed);
        let slots = |g: u32| -> Vec<RendezvousSecret> {
            let master = self.root.rendezvous_master(g);
            (0..Slot::COUNT).filter_map(|j| Slot::new(j).ok()).map(|slot| slot.secret(&master)).collect()
        };
        let older = (0..newest).rev().take(OLDER_GENERATIONS_MAX);
        let older: Vec<RendezvousSecret> = older.flat_map(slots).collect();
        let older = older.chunks(KNOCK_MACS).map(<[_]>::to_vec);
        std::iter::once(slots(newest)).chain(older).collect()
    }
}

/// Whether the recovery into a home has not been completed.
pub(crate) fn is_unfinished<R: Reads>(reads: &R) -> Result<bool, Error> {
    Ok(settings::get(reads, UNFINISHED)?.is_some())
}

/// Reads the 24 words.
///
/// # Errors
/// [`Error::Phrase`], which says where the slip is.
pub(crate) fn read_phrase(text: &Secret) -> Result<Root, Error> {
    Phrase::parse(text.expose()).map(|phrase| Root::from_entropy(phrase.entropy())).map_err(|_| {
        Error::Phrase(match Phrase::flaw(text.expose()) {
            Some(Flaw::Count(Some(n))) => format!("the phrase has {WORDS} words, and here are {n}"),
            Some(Flaw::Count(None)) => format!("the phrase has {WORDS} words, and this text is far longer"),
            Some(Flaw::Word(n)) => format!("word {n} is not one of the words of which a phrase is made"),
            Some(Flaw::Checksum) | None => {
                "these are words of a phrase, but not in this order, or one of them is another than was written down \
                 (the checksum is wrong)"
                    .into()
            }
        })
    })
}

/// Brings everything back into a home without a locker, or goes on with that.
pub(crate) fn recover(
    home: &Path,
    options: RecoverOptions,
    env: Env,
    ask: &mut dyn FnMut() -> Result<Secret, Error>,
    observer: &dyn Observer,
) -> Result<Recovered, Error> {
    let name = device_name(options.name)?;
    let root = read_phrase(&options.phrase)?;
    let (places, folders) = open_sources(&root, &options.from, ask)?;
    // Who has it in his hand needs nobody else.
    let is_alone = places.is_empty() && !folders.is_empty();
    let heir = Arc::new(Heir::new(root, places));
    if !has_begun(home) {
        crate::create::check_new_home(home)?;
        begin(home, &heir, &folders, &options.vault, &options.node, &env)?;
    }
    let locker = Locker::open_as(home, env, ask, Some(Arc::clone(&heir)))?;
    let inner = locker.inner();
    let person = inner.keys().person;
    let root_key = Roster::read(person, &person_log(&inner.store()?.read()?, &person)?).root;
    if root_key != heir.root.verifying_key() {
        return Err(Error::PhraseRefused("what was begun in this home belongs to another phrase".into()));
    }
    for folder in &folders {
        pour::logs(folder, &inner)?;
        if !options.names_only {
            pour::packs(folder, &inner, &|_| true, observer)?;
        }
    }
    drop(folders);
    let patience = Patience { names_only: options.names_only, accept_missing: options.accept_missing };
    let keeps_devices = options.keep_devices || options.names_only;
    if is_alone {
        check_complete(&inner, patience, observer)?;
        inner.become_device(&heir.root, &name, keeps_devices)?;
        return recovered(&inner, name);
    }
    let node = Node::start(&locker, options.node)?;
    let hub = inner.node().ok_or_else(|| Error::Network("the node has stopped".into()))?;
    gather(&inner, &hub, patience, observer)?;
    let here = hub.here();
    let named = inner.become_device(&heir.root, &name, keeps_devices)?;
    tell(&hub, &here, &named);
    drop(hub);
    drop(node);
    recovered(&inner, name)
}

/// Opens the folders, each once, and reads the addresses at which somebody is.
fn open_sources(
    root: &Root,
    from: &[RecoverFrom],
    ask: &mut dyn FnMut() -> Result<Secret, Error>,
) -> Result<(Vec<SocketAddr>, Vec<Folder>), Error> {
    let (mut places, mut folders, mut opened) = (Vec::new(), Vec::new(), BTreeSet::new());
    for from in from {
        match from {
            RecoverFrom::Address(text) => places.extend(read_address(text)?),
            RecoverFrom::Folder(path) => {
                // Whoever has a folder open keeps others out of it, himself too.
                if opened.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                    folders.push(Folder::open(path, ask)?);
                }
            }
        }
    }
    let mut is_of = Vec::with_capacity(folders.len());
    for folder in &folders {
        is_of.push(folder.root_key()? == root.verifying_key());
    }
    // One that knows this phrase comes first: its log says whose the others are, which may not have heard of it yet.
    if let Some(first) = is_of.iter().position(|is| *is) {
        folders.swap(0, first);
        is_of.swap(0, first);
    }
    let person = is_of.first().filter(|is| **is).and(folders.first()).map(Folder::person);
    if let Some(other) = folders.iter().find(|folder| Some(folder.person()) != person) {
        return Err(Error::PhraseRefused(format!(
            "what {} keeps belongs to another phrase, or to the one before or after this one",
            other.path().display()
        )));
    }
    Ok((places, folders))
}

/// Begins a home with the person log: of the first folder, or of the first who is met.
fn begin(
    home: &Path,
    heir: &Heir,
    folders: &[Folder],
    vault: &Vault,
    node: &NodeOptions,
    env: &Env,
) -> Result<(), Error> {
    let log = match folders.first() {
        Some(folder) => {
            let (entries, objects) = folder.person_log()?;
            home::PersonLog::check(&heir.root, folder.person(), entries, objects)?
        }
        None => {
            let has_places_only = node.bootstrap.is_empty() && !node.lan;
            let seeker = contact::Seeker { heir, env, places: &heir.places(), has_places_only };
            let found = crate::node::visit(node.clone(), async |net| seeker.find(net).await)?;
            heir.lock_places().extend(found.at);
            found.log
        }
    };
    log.keep(home, vault, env)
}

/// Whether there is something in a home; what, its opening shows.
fn has_begun(home: &Path) -> bool {
    Home::open(home).is_ok_and(|opened| opened.has_database())
}

fn read_address(text: &str) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(addresses) = NodeOptions::read_bootstrap(&[text.to_owned()]) {
        let mut found: Vec<SocketAddr> =
            addresses.iter().map(|node| SocketAddr::new(node.address.ip, node.address.port)).collect();
        found.dedup();
        return Ok(found);
    }
    let resolved = text.to_socket_addrs().map(Iterator::collect).unwrap_or_else(|_| Vec::new());
    if resolved.is_empty() {
        return Err(Error::Argument(format!(
            "{text} is neither a folder here nor an address such as 192.0.2.1:24766 or home.example:24766"
        )));
    }
    Ok(resolved)
}

/// What is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// Content comes later.
    names_only: bool,
    /// What nobody has is given up.
    accept_missing: bool,
}

impl Patience {
    /// Whether nothing more is waited for, once those who were met are level. `has_waited` says that others had their time to
    /// come, `still` how long nothing has come.
    fn is_over(self, now: &Gathered, has_waited: bool, still: Duration) -> bool {
        let is_here = now.awaited == 0 && (now.wanted == 0 || self.names_only);
        // Nobody has the rest.
        let is_left = now.wanted == now.without_source || self.names_only;
        let patience = if now.awaited == 0 { OTHERS_TIME } else { AWAITED_TIME };
        is_here && has_waited || self.accept_missing && is_left && still >= patience
    }

    /// Whether it is to be looked what of the rest is needed: it is all that is waited for, and nobody says that he has any of
    /// it, though he had his time to.
    fn asks_what_is_needed(self, now: &Gathered, has_waited: bool, still: Duration) -> bool {
        let is_left = now.awaited == 0 && now.wanted > 0 && now.wanted == now.without_source;
        is_left && has_waited && still >= OTHERS_TIME && !self.names_only && !self.accept_missing
    }
}

/// Waits until everything is here that anybody who is reached has.
///
/// # Errors
/// [`Error::Network`] if something is missing that is needed and that nobody has.
fn gather(inner: &Inner, hub: &Hub, patience: Patience, observer: &dyn Observer) -> Result<(), Error> {
    let (mut seen, mut since) = (None, Instant::now());
    let mut met: Option<(usize, Instant)> = None;
    let (mut counted, mut bytes) = (usize::MAX, (0, 0));
    // When it was looked last what is needed, and how many packs of what is not here.
    let mut looked: Option<([u8; 32], usize)> = None;
    loop {
        let mut now = hub.gathered();
        if counted != now.wanted {
            (counted, bytes) = (now.wanted, inner.pack_bytes()?);
        }
        let (done, total) = bytes;
        observer.progress(Progress { bytes: done, bytes_total: Some(total), ..Progress::default() });
        if observer.is_stopped() {
            return Err(stopped());
        }
        let shown =
            (now.sources, now.is_level, now.awaited, now.wanted, hub.traffic().pack_bytes_received, done);
        if seen != Some(shown) {
            (seen, since) = (Some(shown), Instant::now());
        }
        if met.is_none_or(|(count, _)| count < now.sources) {
            met = Some((now.sources, Instant::now()));
        }
        let has_waited = met.is_some_and(|(_, at)| at.elapsed() >= OTHERS_TIME) || now.searches > 0;
        let has_met = now.sources > 0 && now.is_level && inner.has_home()?;
        if has_met && patience.asks_what_is_needed(&now, has_waited, since.elapsed()) {
            let at = hub.standstill();
            let Some((_, needed)) = looked.filter(|(then, _)| *then == at) else {
                // It may take its time: everything else is looked at anew then.
                looked = Some((at, lack::needed_packs(inner, observer)?));
                continue;
            };
            // What nothing needs any more is not waited for.
            (now.wanted, now.without_source) = (needed, needed);
        }
        if has_met && patience.is_over(&now, has_waited, since.elapsed()) {
            return Ok(());
        }
        if since.elapsed() >= STILL_TIME {
            return Err(Error::Network(why_not(&now)));
        }
        hub.runtime().block_on(hub.gathers(LOOK));
    }
}

fn stopped() -> Error {
    Error::Network("stopped; what is here already stays here".into())
}

/// Whether everything is here that the logs name and something needs.
fn check_complete(inner: &Inner, patience: Patience, observer: &dyn Observer) -> Result<(), Error> {
    if !inner.has_home()? {
        return Err(Error::Network("the log of the locker is not there".into()));
    }
    let log = person_log(&inner.store()?.read()?, &inner.keys().person)?;
    let awaited = inner.awaited() + PersonChains::of(&log).missing.len();
    if awaited > 0 && !patience.accept_missing {
        return Err(Error::Network(format!(
            "changes there rest on {awaited} others that are not there; name another copy with --from, or give them up \
             with --accept-missing"
        )));
    }
    if patience.accept_missing || patience.names_only {
        return Ok(());
    }
    match lack::needed_packs(inner, observer)? {
        0 => Ok(()),
        n => Err(Error::Network(format!(
            "{n} packs are missing there; name another copy with --from, or give up what they hold with --accept-missing"
        ))),
    }
}

fn why_not(now: &Gathered) -> String {
    match now {
        Gathered { sources: 0, .. } => {
            "nobody who keeps something of this locker was reached any more".into()
        }
        Gathered { is_level: false, .. } => "whoever keeps this locker does not send any more".into(),
        Gathered { awaited, .. } if *awaited > 0 => {
            format!(
                "changes rest on {awaited} others, and none of those who were reached has them; name another copy with \
                 --from, or give them up with --accept-missing"
            )
        }
        Gathered { wanted, without_source, .. } if without_source == wanted => {
            format!("{wanted} packs are missing, and none of those who were reached has them")
        }
        Gathered { wanted, .. } => format!("{wanted} packs are missing, and nothing comes any more"),
    }
}

/// Waits until whoever is here has stored that this is a device now, and shows that it holds the keys that the log names
/// with it. That they were sent is not enough: what is on its way when the network ends does not arrive.
fn tell(hub: &Hub, here: &BTreeSet<VerifyingKey>, named: &[ObjectHash]) {
    let (start, mut asked) = (Instant::now(), None::<Instant>);
    // Whoever does not hear of it now hears of it from another device, or from this one as soon as its node runs.
    while !hub.are_told(here) && start.elapsed() < TELL_TIME {
        if asked.is_none_or(|at| at.elapsed() >= CONFIRM_PAUSE) {
            hub.hand_on(named);
            asked = Some(Instant::now());
        }
        hub.runtime().block_on(hub.gathers(CONFIRM_PAUSE));
    }
}

/// What there is now.
fn recovered(inner: &Inner, name: String) -> Result<Recovered, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let counts = catalog::counts(Tree::replayed(&snapshot, inner.space_tag()).rows())?;
    let keys = inner.keys();
    Ok(Recovered {
        files: counts.files,
        folders: counts.folders,
        bytes: counts.bytes,
        newest_evidence: evidence(inner)?,
        device_id: keys.device_id().to_string(),
        person_id: keys.person.to_string(),
        name,
    })
}

/// The newest thing that another device signed.
pub(crate) fn evidence(inner: &Inner) -> Result<Option<Evidence>, Error> {
    let newest = inner.newest_by_others()?;
    let devices = crate::status::devices(inner)?;
    Ok(newest.map(|(at, vk)| {
        let id = vk.to_string();
        let name = devices.iter().find(|device| device.id == id).map(|device| device.name.clone());
        Evidence { at, name: name.unwrap_or_default(), device_id: id }
    }))
}

/// What a rehearsal needs to know of this device.
pub(crate) fn rehearsal(inner: &Inner) -> Result<Rehearsal, Error> {
    let keys = inner.keys();
    let roster = Roster::read(keys.person, &person_log(&inner.store()?.read()?, &keys.person)?);
    let mut places = Vec::new();
    for device in roster.active.iter().filter(|vk| **vk != keys.device_id()) {
        places.extend(inner.known_addresses(device)?.iter().map(ToString::to_string));
    }
    let drives = crate::drives::known(&inner.store()?.read()?)?;
    let folders = drives.into_iter().map(|drive| drive.path).filter(|path| crate::drives::is_there(path));
    Ok(Rehearsal {
        device_id: keys.device_id().to_string(),
        root_id: roster.root.to_string(),
        places,
        folders: folders.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_mesh::World;

    /// Goal: a folder that is named twice, as a drive is that is known and named too, is opened once. Method: the home of
    /// a device under four names.
    #[test]
    fn a_folder_of_several_names_is_opened_once() {
        let (world, first) = World::new();
        drop(first);
        let (path, link) = (world.path("first"), world.path("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let names = [path.clone(), path.join(""), path.join("../first"), link];
        let from = names.map(RecoverFrom::Folder);
        let root = read_phrase(&world.phrase).unwrap();
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        let (places, folders) = open_sources(&root, &from, none).unwrap();
        assert!(places.is_empty());
        assert_eq!(folders.iter().map(Folder::path).collect::<Vec<_>>(), [path]);
        // One that is not there is refused as ever.
        let missing = [RecoverFrom::Folder(world.path("missing"))];
        assert!(matches!(open_sources(&root, &missing, none), Err(Error::NoLocker(_))));
    }

    /// What nobody has is waited for, and given up only by who says so, after others had their time.
    #[test]
    fn what_nobody_has_is_given_up_only_if_told() {
        let gathered = |awaited, wanted, without_source| Gathered {
            awaited,
            wanted,
            without_source,
            ..Gathered::default()
        };
        let patience = |names_only, accept_missing| Patience { names_only, accept_missing };
        let (soon, late) = (OTHERS_TIME / 2, AWAITED_TIME);
        assert!(
            !patience(false, true).is_over(&gathered(1, 0, 0), true, OTHERS_TIME),
            "it is asked for again"
        );
        assert!(patience(false, true).is_over(&gathered(0, 1, 1), true, OTHERS_TIME));
        let whole = gathered(0, 0, 0);
        assert!(patience(false, false).is_over(&whole, true, Duration::ZERO));
        assert!(!patience(false, false).is_over(&whole, false, late), "others may come");
        for (lacking, names_only) in
            [(gathered(1, 0, 0), false), (gathered(1, 7, 0), true), (gathered(0, 2, 2), false)]
        {
            assert!(!patience(names_only, false).is_over(&lacking, true, late), "{lacking:?}");
            assert!(!patience(names_only, true).is_over(&lacking, true, soon), "{lacking:?}");
            assert!(patience(names_only, true).is_over(&lacking, true, late), "{lacking:?}");
        }
        // Somebody has it.
        assert!(!patience(false, true).is_over(&gathered(0, 2, 1), true, late));
        assert!(patience(true, false).is_over(&gathered(0, 2, 1), true, soon));
        // What of it is needed is looked at when nobody has any of it, and only by who would wait for it.
        let asks = |names_only, accept_missing, now: &Gathered, has_waited, still| {
            patience(names_only, accept_missing).asks_what_is_needed(now, has_waited, still)
        };
        let left = gathered(0, 2, 2);
        assert!(asks(false, false, &left, true, OTHERS_TIME));
        assert!(!asks(false, false, &left, false, late) && !asks(false, false, &left, true, soon));
        assert!(!asks(true, false, &left, true, late) && !asks(false, true, &left, true, late));
        for now in [whole, gathered(0, 2, 1), gathered(1, 2, 2)] {
            assert!(!asks(false, false, &now, true, late), "{now:?}");
        }
    }
}
