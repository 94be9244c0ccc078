//! Where plain copies are written: an open folder and a free name in it (`docs/spec/08-at-rest.md`, "Writing outside the
//! home").
//!
//! Everything is written below an open folder handle under a temporary name, synced, and renamed: the destination
//! appears whole or not at all. No path string is followed inside it, so a link put there meanwhile is never written
//! through; and the file or folder that stands under the destination in the end is the one that was made, or the copy has
//! failed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::FileType;

use crate::{Env, Error};

/// Of several copies that are written at once, so many are held open.
const OPEN_MAX: usize = 64;

/// Where the copy goes: an open folder and a free name in it.
pub(crate) struct Place {
    /// The open folder.
    pub(crate) parent: Arc<Dir>,
    /// The destination, as errors name it.
    pub(crate) shown: PathBuf,
    name: OsString,
    /// An empty folder of this name may be replaced.
    fills_empty: bool,
    /// What is made stays open until it has its name.
    stays_open: bool,
}

impl Place {
    /// A name in a folder that exists.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken; [`Error::Io`] if the folder cannot be opened.
    pub(crate) fn in_folder(folder: &Path, name: OsString) -> Result<Self, Error> {
        Self::new(&open(folder)?, folder, name, false)
    }

    /// Several names in a folder that exists.
    ///
    /// # Errors
    /// As [`Place::in_folder`].
    pub(crate) fn several(
        folder: &Path,
        names: impl IntoIterator<Item = OsString>,
    ) -> Result<Vec<Self>, Error> {
        let parent = open(folder)?;
        let place = |(index, name)| {
            let place = Self::new(&parent, folder, name, false)?;
            Ok(Self { stays_open: index < OPEN_MAX, ..place })
        };
        names.into_iter().enumerate().map(place).collect()
    }

    /// A name that is free, or an empty folder.
    ///
    /// # Errors
    /// As [`Place::in_folder`]; [`Error::Argument`] for a path without a name.
    pub(crate) fn named(to: &Path, fills_empty: bool) -> Result<Self, Error> {
        let name = to.file_name().ok_or_else(|| {
            Error::Argument(format!("{} has no name of its own; name a folder in it", to.display()))
        })?;
        let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::new(&open(parent)?, parent, name.to_owned(), fills_empty)
    }

    fn new(parent: &Arc<Dir>, folder: &Path, name: OsString, fills_empty: bool) -> Result<Self, Error> {
        let parent = Arc::clone(parent);
        let shown = folder.join(&name);
        let taken = match parent.symlink_metadata(&name) {
            Ok(meta) if fills_empty && meta.is_dir() => {
                let mut entries = parent.read_dir(&name).map_err(|e| Error::io("cannot read", &shown, e))?;
                entries.next().is_some()
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if taken {
            Err(Error::Exists(shown.display().to_string()))
        } else {
            Ok(Self { parent, name, shown, fills_empty, stays_open: true })
        }
    }

    /// Refuses to write into the locker itself.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub(crate) fn check_outside(&self, home: &Path) -> Result<(), Error> {
        let real = |path: &Path| path.canonicalize().map_err(|e| Error::io("cannot open", path, e));
        let folder =
            real(self.shown.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        if folder.starts_with(real(home)?) {
            return Err(Error::Argument(format!(
                "{} lies in the locker's own home; name a place outside it",
                self.shown.display()
            )));
        }
        Ok(())
    }

    /// A name beside the destination that nobody else uses.
    pub(crate) fn temporary(&self, env: &Env) -> Temporary<'_> {
        let mut random = [0; 8];
        env.dice().fill_bytes(&mut random);
        let name = format!(".locker-{:016x}.part", u64::from_le_bytes(random)).into();
        Temporary { parent: &self.parent, name, stays_open: self.stays_open, made: OnceLock::new() }
    }

    /// Gives the copy its name, if that is still free, and makes it durable.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Full`]; [`Error::Io`], also if something else was put in the place of the copy. The
    /// destination is then untouched; put there at the last moment, it may have been given the name of the copy.
    pub(crate) fn publish(&self, temporary: Temporary<'_>) -> Result<(), Error> {
        self.sync_files()?;
        self.rename(temporary)?;
        self.sync_folder()
    }

    /// The same for several in one folder, one after another. What has its name before one fails, keeps it.
    ///
    /// # Errors
    /// As [`Place::publish`].
    pub(crate) fn publish_all(places: &[Self], temporaries: Vec<Temporary<'_>>) -> Result<(), Error> {
        let Some(first) = places.first() else { return Ok(()) };
        first.sync_files()?;
        places.iter().zip(temporaries).try_for_each(|(place, temporary)| place.rename(temporary))?;
        first.sync_folder()
    }

    /// One sync of the whole file system costs less than one for each of many files.
    fn sync_files(&self) -> Result<(), Error> {
        let folder = readable(&self.parent).map_err(|e| self.cannot_write(e))?;
        rustix::fs::syncfs(&folder).map_err(|e| self.cannot_write(e.into()))
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let folder = readable(&self.parent).map_err(|e| self.cannot_write(e))?;
        rustix::fs::fsync(&folder).map_err(|e| self.cannot_write(e.into()))
    }

    fn cannot_write(&self, error: std::io::Error) -> Error {
        Error::io("cannot write", self.shown.as_path(), error)
    }

    fn rename(&self, temporary: Temporary<'_>) -> Result<(), Error> {
        use rustix::fs::{RenameFlags, renameat_with};
        let exchanged = "somebody put something else in its place while it was written, and that was left alone; try again, \
                         or name another place";
        self.check_is_made(&temporary, &temporary.name, exchanged)?;
        let quiet = renameat_with(
            &*self.parent,
            temporary.name.as_os_str(),
            &*self.parent,
            self.name.as_os_str(),
            RenameFlags::NOREPLACE,
        );
        match quiet {
            Ok(()) => {}
            // An empty folder may be replaced, as may nothing at all on a file system without this flag.
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
                if self.is_free_or_empty() =>
            {
                let renamed = self.parent.rename(&temporary.name, &self.parent, &self.name);
                renamed.map_err(|e| self.cannot_write(e))?;
            }
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists(self.shown.display().to_string())),
            Err(error) => return Err(self.cannot_write(error.into())),
        }
        // Once more, since the name could be given to something else until it was taken.
        let exchanged = "somebody put something else in its place at the last moment: what has that name now is not the \
                         copy; look at it, and name another place";
        self.check_is_made(&temporary, &self.name, exchanged)
    }

    fn check_is_made(
        &self,
        temporary: &Temporary<'_>,
        name: &OsStr,
        exchanged: &'static str,
    ) -> Result<(), Error> {
        match temporary.is_made(name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.cannot_write(std::io::Error::other(exchanged))),
            Err(error) => Err(self.cannot_write(error)),
        }
    }

    fn is_free_or_empty(&self) -> bool {
        match self.parent.symlink_metadata(&self.name) {
            Ok(meta) if self.fills_empty && meta.is_dir() => {
                self.parent.read_dir(&self.name).is_ok_and(|mut entries| entries.next().is_none())
            }
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

fn open(folder: &Path) -> Result<Arc<Dir>, Error> {
    let opened = Dir::open_ambient_dir(folder, ambient_authority());
    opened.map(Arc::new).map_err(|e| Error::io("cannot open", folder, e))
}

/// What is being written; removed again unless it was given its name.
pub(crate) struct Temporary<'p> {
    /// The folder in which it lies.
    pub(crate) parent: &'p Dir,
    /// Its name there.
    pub(crate) name: OsString,
    stays_open: bool,
    made: OnceLock<Made>,
}

/// The file or folder that was made under a temporary name.
struct Made {
    kind: FileType,
    /// Open, for as long as the number of a file means this one: some file systems number what is not open anew.
    handle: Option<OwnedFd>,
}

impl Temporary<'_> {
    /// Remembers what was made under the name: nothing else is given the name of the copy, and nothing else is removed.
    pub(crate) fn note(&self, made: &impl AsFd) -> std::io::Result<()> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(made)?.st_mode);
        // Without a descriptor left its kind must do.
        let handle = self.stays_open.then(|| made.as_fd().try_clone_to_owned()).and_then(Result::ok);
        self.made.get_or_init(|| Made { kind, handle });
        Ok(())
    }

    /// Whether `name` is what was made.
    fn is_made(&self, name: &OsStr) -> std::io::Result<bool> {
        let found = rustix::fs::statat(self.parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let Some(made) = self.made.get() else { return Ok(false) };
        let is_same = match &made.handle {
            Some(handle) => {
                let open = rustix::fs::fstat(handle)?;
                (open.st_dev, open.st_ino) == (found.st_dev, found.st_ino)
            }
            None => true,
        };
        Ok(is_same && made.kind == FileType::from_raw_mode(found.st_mode))
    }

    /// Opens the folder that was made under the name.
    pub(crate) fn open_folder(&self) -> std::io::Result<Dir> {
        match self.made.get().and_then(|made| made.handle.as_ref()) {
            Some(handle) => open_folder(handle, OsStr::new(".")),
            None => open_folder(self.parent, &self.name),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.made.get().is_none() {
            // At most an empty folder that could not be opened.
            let _ = self.parent.remove_dir(&self.name);
        } else if self.is_made(&self.name).unwrap_or(false) && self.parent.remove_file(&self.name).is_err() {
            let _ = self.parent.remove_dir_all(&self.name);
        }
    }
}

/// Makes a folder and opens it, without following a link in its last part.
pub(crate) fn make_folder(parent: &Dir, name: &OsStr) -> std::io::Result<Dir> {
    parent.create_dir(name)?;
    open_folder(parent, name)
}

/// Opens a folder, without following a link in its last part.
pub(crate) fn open_folder(parent: &impl AsFd, name: &OsStr) -> std::io::Result<Dir> {
    let fd = rustix::fs::openat(
        parent,
        name,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(Dir::from_std_file(File::from(fd)))
}

/// Makes a file that nobody else may read yet.
pub(crate) fn make_file(parent: &Dir, name: &OsStr) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok(parent.open_with(name, &options)?.into_std())
}

/// Gives a written file its mode and its time.
pub(crate) fn finish_file(file: &File, mode: u32, mtime_ms: i64) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))?;
    let time = rustix::fs::Timespec {
        tv_sec: mtime_ms.div_euclid(1_000),
        tv_nsec: mtime_ms.rem_euclid(1_000) * 1_000_000,
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Mode of a file that is written out, under the umask of the process.
pub(crate) fn file_mode(exec: bool, umask: u32) -> u32 {
    (if exec { 0o777 } else { 0o666 }) & !umask
}

/// The process's umask. There is no other way to read it than to set it, so it is done once, at opening.
pub(crate) fn current_umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    rustix::process::umask(mask);
    mask.bits()
}

/// The same folder, opened so that it can be synced; a handle of a path alone cannot.
fn readable(dir: &Dir) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod tests;
