//! Cold drives: folders, mostly on a disk that lies in a drawer, which keep everything of the person and can read nothing of
//! it (`docs/spec/08-at-rest.md`, "Drives"). A drive is a depot without a process: whichever device sees it brings it up to
//! date, by the same checks by which a replica takes things in, and takes first what only the drive has. It may be pulled out at
//! any moment.

mod update;

use std::path::{Path, PathBuf};

use locker_catalog::operation::{Meta, Op};
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{NodeId, VerifyingKey};
use locker_crypto::identity::DeviceKeys;
use locker_store::Reads;
use locker_store::settings::{self, Setting};

use self::update::Drive;
use crate::create::device_name;
use crate::depot::{Beginning, Charge, KEEP_DAYS_DEFAULT, Terms};
use crate::limits::DRIVES_MAX;
use crate::locker::Inner;
use crate::replicas::{self, Replica};
use crate::report::{DriveTold, Observer, ReplicaKind};
use crate::{Error, Vault};

/// Setting: the drives that this device knows, and where each was seen.
const DRIVES: Setting = Setting::engine(7);
const VERSION: u64 = 1;

/// A drive, as this device knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The key that names it.
    pub(crate) id: VerifyingKey,
    /// Where it was seen.
    pub(crate) path: PathBuf,
}

/// The drives that this device knows.
///
/// # Errors
/// [`Error::Integrity`] if the setting is damaged.
pub(crate) fn known<R: Reads>(reads: &R) -> Result<Vec<Known>, Error> {
    let Some(bytes) = settings::get(reads, DRIVES)? else { return Ok(Vec::new()) };
    decode(&bytes).map_err(|why| Error::damaged("what is known of drives", why))
}

/// Makes a folder a drive of the person, and fills it.
pub(crate) fn init(
    inner: &Inner,
    dir: &Path,
    name: Option<String>,
    observer: &dyn Observer,
) -> Result<DriveTold, Error> {
    inner.may_sign()?;
    let folder_name = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = device_name(name.or_else(folder_name))?;
    crate::create::check_new_home(dir)?;
    let count = known(&inner.store()?.read()?)?.len();
    if count >= DRIVES_MAX {
        return Err(Error::Limit(format!("a device knows at most {DRIVES_MAX} drives")));
    }
    let keys = inner.keys();
    let device = DeviceKeys::random(&mut **inner.env().dice());
    let id = device.verifying_key();
    let terms = Terms { quota: 0, keep_days: KEEP_DAYS_DEFAULT, token: None };
    let charge = Charge::new(keys.person, keys.space, terms, &id).map_err(Error::Refused)?;
    let (person_log, objects) = inner.person_log_and_objects()?;
    let beginning =
        Beginning { charge: &charge, keys: &device, slot: None, person_log: &person_log, objects: &objects };
    beginning.keep(dir, &Vault::File, inner.env())?;
    note(inner, &id, dir, &name)?;
    update_at(inner, dir, observer)
}

/// Brings drives up to date: the one in a folder, or all that are known and there.
pub(crate) fn update(
    inner: &Inner,
    dir: Option<&Path>,
    observer: &dyn Observer,
) -> Result<Vec<DriveTold>, Error> {
    let Some(dir) = dir else {
        let there = plugged_in(inner)?;
        if there.is_empty() {
            return Err(Error::NoSuch("no drive of this locker is plugged in here".into()));
        }
        // One that cannot be brought up to date does not keep the others from it.
        let told: Vec<_> = there.iter().map(|drive| update_at(inner, &drive.path, observer)).collect();
        return told.into_iter().collect();
    };
    let id = {
        let _turn = inner.drive_turn();
        Drive::open(inner, dir)?.id()
    };
    let snapshot = inner.store()?.read()?;
    let name = dir.file_name().map_or_else(|| "drive".into(), |name| name.to_string_lossy().into_owned());
    let is_known = known(&snapshot)?.contains(&Known { id, path: dir.to_path_buf() });
    if !is_known || !replicas::is_listed(&snapshot, &inner.keys(), &id)? {
        note(inner, &id, dir, &name)?;
    }
    Ok(vec![update_at(inner, dir, observer)?])
}

/// The drives that this device knows, that nobody has removed from the locker, and that are there.
///
/// # Errors
/// What reading gives.
pub(crate) fn plugged_in(inner: &Inner) -> Result<Vec<Known>, Error> {
    let snapshot = inner.store()?.read()?;
    let keys = inner.keys();
    let mut there = Vec::new();
    for drive in known(&snapshot)? {
        if is_there(&drive.path) && replicas::is_listed(&snapshot, &keys, &drive.id)? {
            there.push(drive);
        }
    }
    Ok(there)
}

/// Whether a folder looks like a drive.
pub(crate) fn is_there(path: &Path) -> bool {
    path.join("LOCKER").is_file()
}

/// Brings one drive up to date, when nobody else does.
pub(crate) fn update_at(inner: &Inner, dir: &Path, observer: &dyn Observer) -> Result<DriveTold, Error> {
    let _turn = inner.drive_turn();
    let drive = Drive::open(inner, dir)?;
    let id = drive.id();
    let updated = drive.update(observer)?;
    let snapshot = inner.store()?.read()?;
    let listed = replicas::list(&snapshot, &inner.keys())?.into_iter().find(|replica| replica.id == id);
    Ok(DriveTold {
        id: id.to_string(),
        name: listed.map(|replica| replica.name).unwrap_or_default(),
        path: dir.display().to_string(),
        ..updated
    })
}

/// Writes down that there is this drive: in the home space for all devices, where it is for this one.
fn note(inner: &Inner, id: &VerifyingKey, dir: &Path, name: &str) -> Result<(), Error> {
    inner.commit(|change| {
        let keys = inner.keys();
        let key = replicas::meta_key(id);
        if !replicas::is_listed(change.txn(), &keys, id)? {
            let replica = Replica {
                id: *id,
                kind: ReplicaKind::Drive,
                slot: None,
                name: name.to_owned(),
                quota: 0,
                keep_days: KEEP_DAYS_DEFAULT,
                token: None,
            };
            let value = replica.seal(&keys, inner.env())?;
            change.push(Op::Meta(Meta { node: NodeId::ROOT, key, value }))?;
        }
        let mut drives = known(change.txn())?;
        drives.retain(|known| known.id != *id && known.path != dir);
        drives.push(Known { id: *id, path: dir.to_path_buf() });
        let excess = drives.len().saturating_sub(DRIVES_MAX);
        settings::put(change.txn(), DRIVES, &encode(&drives[excess..]));
        Ok(())
    })
}

fn encode(drives: &[Known]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let mut out = Writer::new();
    out.array(2).u64(VERSION).array(drives.len());
    for drive in drives {
        out.array(2).bytes(drive.id.as_ref()).bytes(drive.path.as_os_str().as_bytes());
    }
    out.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<Known>, Refusal> {
    use std::os::unix::ffi::OsStrExt;
    let mut from = Reader::new(bytes);
    from.array_of(2)?;
    if from.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let mut drives = Vec::new();
    for _ in 0..from.array()? {
        from.array_of(2)?;
        let id = VerifyingKey(from.fixed()?);
        drives.push(Known { id, path: std::ffi::OsStr::from_bytes(from.bytes()?).into() });
    }
    from.finish()?;
    Ok(drives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_read_as_they_were_written_and_in_no_other_form() {
        let drive = |n: u8| Known { id: VerifyingKey([n; 32]), path: format!("/media/{n}").into() };
        let all = vec![drive(1), drive(2)];
        let bytes = encode(&all);
        assert_eq!(decode(&bytes).unwrap(), all);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()).unwrap_err(), Refusal::Canon);
        assert_eq!(decode(&[0x82, 2, 0x80]).unwrap_err(), Refusal::Version);
    }
}
