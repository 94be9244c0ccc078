//! What a power cut takes: whatever was written and not synced. These functions take the place of those of the C library; they
//! do what those do, and note what a disk could still lose of each file and folder below the one of a run.
//!
//! | Since it was last synced | A power cut leaves |
//! |---|---|
//! | bytes of a file were written | any of the pages of before among those of now; of what was added any number of pages |
//! | bytes were cut off | the length of before or that of now |
//! | names of a folder were given, changed or taken away | the first so many of these changes |
//!
//! A page is lost as a whole or not at all. Room that is asked for without bytes is there at once.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::crash;
use crate::dice::Dice;
use crate::trace;

/// Bytes that are lost together.
const PAGE: u64 = 4_096;
/// Where files lie that have no name any more and could get it back.
const GRAVES: &str = "graves";

/// What of a file was synced last, as far as it was changed since.
struct Synced {
    len: u64,
    /// The pages that were changed, as they were.
    pages: BTreeMap<u64, Vec<u8>>,
}

/// A change of names that is not synced.
enum Change {
    Made(PathBuf),
    MadeFolder(PathBuf),
    /// `is_new`: a file that had no synced name before. `grave`: the one whose name it took.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        is_new: bool,
        grave: Option<PathBuf>,
    },
    Removed {
        path: PathBuf,
        grave: PathBuf,
    },
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Made(path) | Self::MadeFolder(path) | Self::Removed { path, .. } => path,
            Self::Renamed { to, .. } => to,
        }
    }

    fn grave(&self) -> Option<&Path> {
        match self {
            Self::Made(_) | Self::MadeFolder(_) => None,
            Self::Renamed { grave, .. } => grave.as_deref(),
            Self::Removed { grave, .. } => Some(grave),
        }
    }
}

#[derive(Default)]
struct Notes {
    /// By number: a file keeps it under any name.
    files: HashMap<u64, Synced>,
    /// In the order in which they were made.
    changes: Vec<Change>,
    graves: u64,
}

/// The folder of the run, and its device.
static BELOW: OnceLock<(PathBuf, u64)> = OnceLock::new();
static NOTES: Mutex<Option<Notes>> = Mutex::new(None);

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// From now on what is written below a folder is noted.
///
/// # Panics
/// If it is not there.
pub fn begin(folder: &Path) {
    let device = fs::metadata(folder).expect("the folder of the run is there").dev();
    fs::create_dir_all(folder.join(GRAVES)).expect("a folder can be made");
    _ = BELOW.set((folder.to_path_buf(), device));
    with(|notes| *notes = Some(Notes::default()));
}

/// Does something of which nothing is noted.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let before = IS_QUIET.replace(true);
    let done = work();
    IS_QUIET.set(before);
    done
}

/// Takes from a copy of a home that was just made what a power cut may have taken from the home at that moment.
///
/// # Panics
/// If the copy cannot be changed.
pub fn cut(home: &Path, copy: &Path, dice: &mut Dice) {
    quietly(|| {
        with(|notes| {
            let Some(notes) = notes else { return };
            let files = lose_bytes(notes, home, copy, dice);
            let changes: Vec<&Change> =
                notes.changes.iter().filter(|change| change.path().starts_with(home)).collect();
            let kept = match dice.below(3) {
                0 => 0,
                1 => changes.len(),
                _ => dice.index(changes.len() + 1),
            };
            trace::note(format_args!(
                "the power takes {} of {} names, and bytes of {files} files",
                changes.len() - kept,
                changes.len()
            ));
            for change in changes[kept..].iter().rev() {
                undo(change, &|path: &Path| {
                    copy.join(path.strip_prefix(home).expect("a change lies in the home"))
                });
            }
        });
    });
}

/// A home is of no interest any more.
pub fn forget(home: &Path) {
    with(|notes| {
        let Some(notes) = notes else { return };
        notes.drop_changes(|change| change.path().starts_with(home));
    });
}

/// Takes back bytes of the files below a folder, in the copy of it. Says of how many files it may.
fn lose_bytes(notes: &Notes, folder: &Path, copy: &Path, dice: &mut Dice) -> usize {
    let mut files = 0;
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a home can be listed").map(|entry| entry.expect("a file")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, target) = (entry.path(), copy.join(entry.file_name()));
        let about = entry.metadata().expect("a file can be looked at");
        if about.is_dir() {
            files += lose_bytes(notes, &path, &target, dice);
        } else if let Some(synced) = notes.files.get(&about.ino()) {
            let file = File::options().write(true).open(&target).expect("a copy can be opened");
            let now = about.len();
            files += 1;
            match dice.below(4) {
                // All of it had come to the disk.
                0 => {}
                1 => {
                    for (page, bytes) in &synced.pages {
                        file.write_all_at(bytes, page * PAGE).expect("a copy can be written");
                    }
                    file.set_len(synced.len).expect("a copy can be cut");
                }
                _ => {
                    for (page, bytes) in &synced.pages {
                        // Who has the length of before has what was cut off.
                        if page * PAGE < now && dice.chance(1, 2) {
                            continue;
                        }
                        file.write_all_at(bytes, page * PAGE).expect("a copy can be written");
                    }
                    for page in synced.len.div_ceil(PAGE)..now.div_ceil(PAGE) {
                        if dice.chance(1, 2) {
                            let len = PAGE.min(now - page * PAGE) as usize;
                            file.write_all_at(&vec![0; len], page * PAGE).expect("a copy can be written");
                        }
                    }
                    // What was cut off is gone or is not; what was added may have come in part.
                    let len = match dice.below(3) {
                        0 => synced.len,
                        1 if now > synced.len => now.min(dice.within(synced.len / PAGE, now / PAGE) * PAGE),
                        _ => now,
                    };
                    file.set_len(len).expect("a copy can be cut");
                }
            }
        }
    }
    files
}

/// Takes a change of names back, in the copy of a home.
fn undo(change: &Change, at: &dyn Fn(&Path) -> PathBuf) {
    let put_back = |grave: &Path, path: &Path| {
        fs::copy(grave, at(path)).expect("a file can be put back");
    };
    match change {
        Change::Made(path) => _ = fs::remove_file(at(path)),
        Change::MadeFolder(path) => _ = fs::remove_dir_all(at(path)),
        Change::Renamed { from, to, is_new, grave } => {
            if *is_new {
                _ = fs::remove_file(at(to));
            } else {
                _ = fs::rename(at(to), at(from));
            }
            if let Some(grave) = grave {
                put_back(grave, to);
            }
        }
        Change::Removed { path, grave } => put_back(grave, path),
    }
}

impl Notes {
    fn drop_changes(&mut self, is_over: impl Fn(&Change) -> bool) {
        let (over, left) = std::mem::take(&mut self.changes).into_iter().partition(|one| is_over(one));
        self.changes = left;
        let over: Vec<Change> = over;
        for grave in over.iter().filter_map(Change::grave) {
            // Its number may be given to another file.
            if let Ok(about) = fs::metadata(grave) {
                self.files.remove(&about.ino());
            }
            unlink_quietly(grave);
        }
    }

    /// Gives a file that loses its name another one, unless it never had a synced one. Whether it had none is said.
    fn bury(&mut self, path: &Path) -> Option<PathBuf> {
        let is_new = self.changes.iter().any(|change| matches!(change, Change::Made(made) if made == path));
        self.changes.retain(|change| !matches!(change, Change::Made(made) if made == path));
        if is_new {
            if let Ok(about) = fs::symlink_metadata(path) {
                self.files.remove(&about.ino());
            }
            return None;
        }
        let below = &BELOW.get()?.0;
        let grave = below.join(GRAVES).join(self.graves.to_string());
        fs::hard_link(path, &grave).ok()?;
        self.graves += 1;
        Some(grave)
    }
}

fn with<T>(work: impl FnOnce(&mut Option<Notes>) -> T) -> T {
    work(&mut NOTES.lock().unwrap_or_else(PoisonError::into_inner))
}

fn unlink_quietly(path: &Path) {
    quietly(|| _ = fs::remove_file(path));
}

/// Notes something, unless this is done by what notes.
fn note(work: impl FnOnce(&mut Notes)) {
    if IS_QUIET.get() || BELOW.get().is_none() {
        return;
    }
    quietly(|| with(|notes| notes.as_mut().map(work)));
}

/// A path that a caller gave, if it lies below the folder of the run.
///
/// # Safety
/// `path` is a C string.
unsafe fn below(path: *const c_char) -> Option<PathBuf> {
    if IS_QUIET.get() {
        return None;
    }
    let folder = &BELOW.get()?.0;
    // SAFETY: the caller says so.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    path.starts_with(folder).then(|| path.to_path_buf())
}

/// The number and the length of an open file that lies on the device of the run.
fn about(fd: c_int) -> Option<(u64, u64, libc::mode_t)> {
    let device = BELOW.get()?.1;
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is ours; it is read only if it was written.
    let stat = unsafe {
        if libc::syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    (stat.st_dev == device).then_some((stat.st_ino, stat.st_size as u64, stat.st_mode & libc::S_IFMT))
}

/// Notes, before it is done, that bytes of a file are written or cut off.
fn note_bytes(fd: c_int, from: u64, to: u64) {
    if IS_QUIET.get() || BELOW.get().is_none() {
        return;
    }
    let Some((number, len, libc::S_IFREG)) = about(fd) else { return };
    note(|notes| {
        let synced = notes.files.entry(number).or_insert(Synced { len, pages: BTreeMap::new() });
        let end = to.min(synced.len);
        if from >= end {
            return;
        }
        let missing: Vec<u64> =
            (from / PAGE..end.div_ceil(PAGE)).filter(|page| !synced.pages.contains_key(page)).collect();
        if missing.is_empty() {
            return;
        }
        let Ok(file) = File::open(format!("/proc/self/fd/{fd}")) else { return };
        for page in missing {
            let mut bytes = vec![0; PAGE.min(synced.len - page * PAGE) as usize];
            if file.read_exact_at(&mut bytes, page * PAGE).is_ok() {
                synced.pages.insert(page, bytes);
            }
        }
    });
}

/// Notes that a file or a folder was synced.
fn note_synced(fd: c_int) {
    if IS_QUIET.get() || BELOW.get().is_none() {
        return;
    }
    match about(fd) {
        Some((number, _, libc::S_IFREG)) => note(|notes| _ = notes.files.remove(&number)),
        Some((_, _, libc::S_IFDIR)) => note(|notes| {
            let Ok(folder) = fs::read_link(format!("/proc/self/fd/{fd}")) else { return };
            notes.drop_changes(|change| change.path().parent() == Some(&folder));
        }),
        _ => {}
    }
}

/// Writes bytes to a file.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize {
    if BELOW.get().is_some() && !IS_QUIET.get() {
        // SAFETY: it only asks where the file stands.
        let at = unsafe { libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) };
        if let Ok(at) = u64::try_from(at) {
            note_bytes(fd, at, at + len as u64);
        }
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes, len) as isize }
}

/// Writes bytes at a place of a file.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, len: usize, at: libc::off64_t) -> isize {
    note_bytes(fd, at as u64, at as u64 + len as u64);
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, len, at) as isize }
}

/// Sets the length of a file.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, len: libc::off64_t) -> c_int {
    note_bytes(fd, len as u64, u64::MAX);
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) as c_int }
}

/// Syncs a file or a folder.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd)
}

/// Syncs the bytes of a file.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd)
}

/// The disk is memory: there is nothing to be done but to note it.
fn sync(fd: c_int) -> c_int {
    if !IS_QUIET.get() && BELOW.get().is_some() && about(fd).is_some() {
        crash::reached("before a sync");
        note_synced(fd);
    }
    0
}

/// Opens a file.
///
/// # Safety
/// As that of the C library, which takes the mode as one of any number of arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller says that it is a C string.
    let new = unsafe { below(path) }.filter(|path| flags & libc::O_CREAT != 0 && !path.exists());
    // SAFETY: the arguments are those of the caller.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int };
    if let Some(path) = new.filter(|_| fd >= 0) {
        note(|notes| {
            if let Some((number, ..)) = about(fd) {
                notes.files.insert(number, Synced { len: 0, pages: BTreeMap::new() });
            }
            notes.changes.push(Change::Made(path));
        });
    }
    fd
}

/// Gives a file another name.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller says that they are C strings.
    let paths = unsafe { (below(from), below(to)) };
    let mut noted = None;
    if let (Some(from), Some(to)) = paths {
        note(|notes| {
            let grave = if to.exists() { notes.bury(&to) } else { None };
            let count = notes.changes.len();
            notes.changes.retain(|change| !matches!(change, Change::Made(made) if *made == from));
            let is_new = notes.changes.len() != count;
            noted = Some(Change::Renamed { from, to, is_new, grave });
        });
    }
    // SAFETY: the arguments are those of the caller.
    let done = unsafe { libc::syscall(libc::SYS_rename, from, to) as c_int };
    if let Some(change) = noted.filter(|_| done == 0) {
        note(|notes| notes.changes.push(change));
    }
    done
}

/// Takes the name of a file away.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller says that it is a C string.
    if let Some(gone) = unsafe { below(path) }.filter(|gone| gone.exists()) {
        note(|notes| {
            if let Some(grave) = notes.bury(&gone) {
                notes.changes.push(Change::Removed { path: gone, grave });
            }
        });
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_unlink, path) as c_int }
}

/// Makes a folder.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the arguments are those of the caller.
    let done = unsafe { libc::syscall(libc::SYS_mkdir, path, mode) as c_int };
    // SAFETY: the caller says that it is a C string.
    if let Some(path) = unsafe { below(path) }.filter(|_| done == 0) {
        note(|notes| notes.changes.push(Change::MadeFolder(path)));
    }
    done
}
