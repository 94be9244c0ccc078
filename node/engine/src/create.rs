//! `init`: a new person, a first device, a home space. One durable commit makes the locker; before it there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use locker_catalog::epochs::member_set_hash;
use locker_catalog::operation::{Body, Epoch, Grant, MemberKey, Meta, Op, Role};
use locker_catalog::space::Space;
use locker_crypto::entry::Place;
use locker_crypto::epoch::Bundle;
use locker_crypto::id::{EntryId, NodeId, SpaceId, SpaceTag, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, PersonKeys, Root};
use locker_crypto::person::{self, Author};
use locker_crypto::phrase::Phrase;
use locker_crypto::secret::{DedupSecret, EpochSecret, PersonKey};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::{Home, Limits, Store, StoreError, objects, persons, settings};

use crate::keys::{HOME_SPACE, PERSON};
use crate::locker::InitOptions;
use crate::report::{Created, Secret};
use crate::{Env, Error, vault, writer};

/// Longest name of a device in bytes.
const NAME_MAX: usize = person::DEVICE_NAME_LEN_MAX;

/// Looks whether a locker can be made in `home`.
pub(crate) fn check_new_home(home: &Path) -> Result<(), Error> {
    let mut entries = match std::fs::read_dir(home) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::HomeNotEmpty(home.to_path_buf()));
        }
        Err(error) => return Err(Error::io("cannot read", home, error)),
    };
    // What an interrupted beginning leaves is told apart by the store.
    if entries.next().is_none() || !home.join("LOCKER").exists() {
        return Ok(());
    }
    match Home::open(home) {
        Ok(opened) if !opened.has_database() => Ok(()),
        Ok(_) | Err(StoreError::Locked { .. }) => Err(Error::LockerExists(home.to_path_buf())),
        Err(error) => Err(error.into()),
    }
}

/// Makes a locker and tells its words.
pub(crate) fn create<E: From<Error>>(
    home: &Path,
    options: InitOptions,
    env: Env,
    tell: impl FnOnce(&Created) -> Result<(), E>,
) -> Result<Created, E> {
    let name = device_name(options.name)?;
    let opened = init_home(home)?;
    make_run_folder(home)?;
    let vault_key = vault::create(&opened, &options.vault, &env)?;

    let made = Made::new(&name, &env)?;
    let dice = Box::new(crate::env::system_dice());
    let created = Created {
        phrase: Secret::new(made.phrase.expose().to_owned()),
        person_id: made.root.person_id().to_string(),
        device_id: made.device.verifying_key().to_string(),
        name,
    };
    let (opened, _) =
        Store::prepare(opened, &vault_key, dice, Limits::default(), |txn| made.write(txn, &env))?;
    tell(&created)?;
    // Who was told has a locker. If this fails, its next opening does it.
    let _ = opened.adopt_database();
    Ok(created)
}

/// Makes the folder of a new locker.
pub(crate) fn init_home(home: &Path) -> Result<Home, Error> {
    Home::init(home).map_err(|error| match error {
        StoreError::NotEmpty { path } if path.join("LOCKER").exists() => Error::LockerExists(path),
        other => other.into(),
    })
}

/// Everything that is drawn for a new locker.
struct Made {
    phrase: Phrase,
    root: Root,
    device: DeviceKeys,
    person_key: PersonKey,
    dedup: DedupSecret,
    epoch: EpochSecret,
    genesis: person::Made,
}

impl Made {
    fn new(name: &str, env: &Env) -> Result<Self, Error> {
        let dice = &mut **env.dice();
        let phrase = Phrase::generate(dice);
        let root = Root::from_entropy(phrase.entropy());
        let device = DeviceKeys::random(dice);
        let person_key = PersonKey::random(dice);
        let genesis = Author::genesis(&root, &device, &person_key, name, env.now_ms() << 16, dice)
            .map_err(Error::Refused)?;
        let (dedup, epoch) = (DedupSecret::random(dice), EpochSecret::random(dice));
        Ok(Self { phrase, root, device, person_key, dedup, epoch, genesis })
    }

    fn write(&self, txn: &mut locker_store::WriteTxn<'_>, env: &Env) -> Result<(), Error> {
        let person = self.root.person_id();
        let person_keys = PersonKeys::new(self.person_key.clone());
        let now = env.now_ms();

        let (space, tag) = self.write_space(txn, env, now)?;
        let home = Author {
            person,
            device: &self.device,
            place: person::Place { seq: 1, prev: self.genesis.id, hlc: (now << 16) + 1, deps: Vec::new() },
        }
        .set_home(space);
        for made in [&self.genesis, &home] {
            persons::put(txn, &person, &made.id, &made.entry);
            for (_, object) in &made.objects {
                objects::put(txn, object);
            }
        }
        let bundle = Bundle::seal(
            &space,
            &self.epoch,
            self.device.signing(),
            [person_keys.newest().box_keys().public()],
            &mut **env.dice(),
        )
        .map_err(Error::Refused)?;
        objects::put_bundle(txn, &tag, &self.epoch.id(), &bundle.encode());

        keyring::put(txn, &(), self.device.signing_seed());
        keyring::put(txn, &(), self.device.box_seed());
        keyring::put(txn, &0, &self.person_key);
        keyring::put(txn, &0, &self.dedup);
        keyring::put(txn, &0, &self.root.rendezvous_master(0));
        keyring::put(txn, &SpaceEpoch { space: tag, epoch: self.epoch.id() }, &self.epoch);
        settings::put(txn, PERSON, person.as_bytes());
        settings::put(txn, HOME_SPACE, space.as_bytes());
        Ok(())
    }

    /// The genesis entry of the home space: its only member, its first epoch, the dedup secret.
    fn write_space(
        &self,
        txn: &mut locker_store::WriteTxn<'_>,
        env: &Env,
        now: u64,
    ) -> Result<(SpaceId, SpaceTag), Error> {
        let person = self.root.person_id();
        let members = BTreeMap::from([(MemberKey(person.0), Role::Manage)]);
        let dedup = person::seal_dedup(&self.person_key, 0, &self.dedup, &mut **env.dice());
        let ops = vec![
            Op::Member(Grant { member: MemberKey(person.0), role: Role::Manage, valid_from: Vec::new() }),
            Op::Epoch(Epoch {
                id: self.epoch.id(),
                parents: Vec::new(),
                member_set_hash: member_set_hash(&members),
                backs: Vec::new(),
            }),
            Op::Meta(Meta { node: NodeId::ROOT, key: person::dedup_meta_key(0), value: dedup }),
        ];
        let body = Body { hlc: now << 16, deps: Vec::new(), ops };
        let place = Place { space_tag: SpaceTag::ZERO, seq: 0, prev: EntryId::ZERO, epoch: self.epoch.id() };
        let entry = writer::sign(&place, body, &self.epoch.log_key(), self.device.signing(), env)?;
        let id = SpaceId(entry.id.0);
        let tag = locker_crypto::entry::space_tag(&id);
        let device = self.device.verifying_key();
        let mut rows = txn.rows_mut(tag);
        let mut space = Space::open(&rows, id, device)?;
        space.set_root(&mut rows, person, VerifyingKey(person.0))?;
        space.set_person(&mut rows, person, &BTreeSet::from([device]), now)?;
        writer::taken(space.accept(&mut rows, entry, now)?.outcome)?;
        Ok((id, tag))
    }
}

/// The name of this device: as given, or that of the host.
pub(crate) fn device_name(given: Option<String>) -> Result<String, Error> {
    let name = given.unwrap_or_else(|| {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        if host.is_empty() { "device".into() } else { host }
    });
    let name = name.trim().to_owned();
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(Error::Name { name });
    }
    Ok(name)
}

/// The folder of the socket.
pub(crate) fn make_run_folder(home: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let run = home.join("run");
    match std::fs::DirBuilder::new().mode(0o700).create(&run) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io("cannot make", run, error))
        }
        _ => Ok(()),
    }
}
