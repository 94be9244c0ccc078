//! A folder that shows another one, and whose operations fail when they are told to.

mod faults;
mod paths;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

use faults::{Faults, Verdict};
use locker_tests::faults::Kind;
use paths::Paths;

/// Nothing is believed for longer than one question: what is below may have changed by a fault.
const BELIEVED: Duration = Duration::ZERO;
const FIRST: Generation = Generation(0);

/// See above.
pub(crate) struct FailingFolder {
    faults: Arc<Faults>,
    state: Mutex<State>,
}

/// What the kernel has names and handles for.
struct State {
    paths: Paths,
    open: HashMap<u64, File>,
    handles: u64,
}

impl State {
    fn keep(&mut self, file: File) -> FileHandle {
        self.handles += 1;
        self.open.insert(self.handles, file);
        FileHandle(self.handles)
    }

    fn file(&self, handle: FileHandle) -> io::Result<&File> {
        self.open.get(&handle.0).ok_or_else(|| io::Error::from_raw_os_error(9))
    }

    /// Where an entry stands after it was made, moved or looked up.
    fn entry(&mut self, path: &Path) -> io::Result<FileAttr> {
        let about = fs::symlink_metadata(path)?;
        about_file(self.paths.number_of(path), &about)
    }
}

impl FailingFolder {
    /// Over a folder, with no fault set.
    pub(crate) fn new(folder: &Path) -> Self {
        let state = State { paths: Paths::new(folder), open: HashMap::new(), handles: 0 };
        Self { faults: Arc::default(), state: Mutex::new(state) }
    }

    /// What decides which operation fails.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that may be told to fail.
    fn faulty<T>(&self, kind: Kind, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.faults.judge(kind) {
            Verdict::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Verdict::Work | Verdict::Short => act(&mut self.state()),
        }
    }
}

/// Opens as the caller would. Where bytes go is always said with the write.
fn open(path: &Path, flags: i32, mode: u32) -> io::Result<File> {
    let flags = OFlags::from_bits_retain(flags.unsigned_abs());
    let flags = flags.difference(OFlags::APPEND | OFlags::DIRECT) | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::from_bits_retain(mode)).map(File::from)?)
}

fn about_file(number: INodeNo, about: &Metadata) -> io::Result<FileAttr> {
    let time = |seconds: i64, nanos: i64| {
        let distance = Duration::new(seconds.unsigned_abs(), u32::try_from(nanos).unwrap_or_default());
        if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    };
    let kind = FileType::from_std(about.file_type()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(FileAttr {
        ino: number,
        size: about.len(),
        blocks: about.blocks(),
        atime: time(about.atime(), about.atime_nsec()),
        mtime: time(about.mtime(), about.mtime_nsec()),
        ctime: time(about.ctime(), about.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind,
        perm: u16::try_from(about.mode() & 0o7777).unwrap_or_default(),
        nlink: u32::try_from(about.nlink()).unwrap_or(u32::MAX),
        uid: about.uid(),
        gid: about.gid(),
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    })
}

/// Answers one request in either way.
macro_rules! answer {
    ($reply:ident, $done:expr, $found:pat => $say:expr) => {
        match $done {
            Ok($found) => $say,
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

impl Filesystem for FailingFolder {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let found = state.paths.below(parent, name).and_then(|path| state.entry(&path));
        answer!(reply, found, about => reply.entry(&BELIEVED, &about, FIRST));
    }

    fn getattr(&self, _: &Request, file: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let state = self.state();
        let about = match handle {
            Some(handle) => state.file(handle).and_then(File::metadata),
            None => state.paths.of(file).and_then(fs::symlink_metadata),
        };
        answer!(reply, about.and_then(|about| about_file(file, &about)), about => reply.attr(&BELIEVED, &about));
    }

    fn setattr(
        &self,
        _: &Request,
        file: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let kind = if size.is_some() { Kind::Resize } else { Kind::Change };
        let done = self.faulty(kind, |state| {
            let mut own = None;
            let found = match handle {
                Some(handle) => state.file(handle)?,
                None if size.is_some() => {
                    own.insert(open(state.paths.of(file)?, OFlags::WRONLY.bits().cast_signed(), 0)?)
                }
                None => own.insert(File::open(state.paths.of(file)?)?),
            };
            if let Some(mode) = mode {
                rustix::fs::fchmod(found, Mode::from_bits_retain(mode & 0o7777))?;
            }
            if let Some(size) = size {
                found.set_len(size)?;
            }
            if let Some(mtime) = mtime {
                found.set_modified(match mtime {
                    TimeOrNow::SpecificTime(time) => time,
                    TimeOrNow::Now => SystemTime::now(),
                })?;
            }
            about_file(file, &found.metadata()?)
        });
        answer!(reply, done, about => reply.attr(&BELIEVED, &about));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let made = self.faulty(Kind::Create, |state| {
            let path = state.paths.below(parent, name)?;
            let kind = rustix::fs::FileType::from_raw_mode(mode);
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(mode & !umask), 0)?;
            state.entry(&path)
        });
        answer!(reply, made, about => reply.entry(&BELIEVED, &about, FIRST));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.faulty(Kind::Mkdir, |state| {
            let path = state.paths.below(parent, name)?;
            rustix::fs::mkdir(&path, Mode::from_raw_mode(mode & !umask))?;
            state.entry(&path)
        });
        answer!(reply, made, about => reply.entry(&BELIEVED, &about, FIRST));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.faulty(Kind::Unlink, |state| {
            let path = state.paths.below(parent, name)?;
            fs::remove_file(&path)?;
            state.paths.forget(&path);
            Ok(())
        });
        answer!(reply, done, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.faulty(Kind::Unlink, |state| {
            let path = state.paths.below(parent, name)?;
            fs::remove_dir(&path)?;
            state.paths.forget(&path);
            Ok(())
        });
        answer!(reply, done, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.faulty(Kind::Rename, |state| {
            let (from, to) = (state.paths.below(parent, name)?, state.paths.below(new_parent, new_name)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            rustix::fs::renameat_with(CWD, &from, CWD, &to, flags)?;
            state.paths.moved(&from, &to);
            Ok(())
        });
        answer!(reply, done, () => reply.ok());
    }

    fn open(&self, _: &Request, file: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.faulty(Kind::Open, |state| {
            let opened = open(state.paths.of(file)?, flags.0, 0)?;
            Ok(state.keep(opened))
        });
        answer!(reply, opened, handle => reply.opened(handle, FopenFlags::empty()));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.faulty(Kind::Create, |state| {
            let path = state.paths.below(parent, name)?;
            let made = open(&path, flags | OFlags::CREATE.bits().cast_signed(), mode & !umask)?;
            Ok((state.entry(&path)?, state.keep(made)))
        });
        answer!(reply, made, (about, handle) => {
            reply.created(&BELIEVED, &about, FIRST, handle, FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.faulty(Kind::Read, |state| {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            let mut filled = 0;
            while filled < bytes.len() {
                match state.file(handle)?.read_at(&mut bytes[filled..], offset + filled as u64)? {
                    0 => break,
                    more => filled += more,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        });
        answer!(reply, read, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let taken = match self.faults.judge(Kind::Write) {
            Verdict::Fail(errno) => return reply.error(Errno::from_i32(errno)),
            Verdict::Short => &data[..data.len() / 2],
            Verdict::Work => data,
        };
        let done = self.state().file(handle).and_then(|file| file.write_all_at(taken, offset));
        answer!(reply, done, () => reply.written(u32::try_from(taken.len()).unwrap_or(u32::MAX)));
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.faulty(Kind::Allocate, |state| {
            let how = FallocateFlags::from_bits_retain(mode.unsigned_abs());
            Ok(rustix::fs::fallocate(state.file(handle)?, how, offset, length)?)
        });
        answer!(reply, done, () => reply.ok());
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        // What is below needs no sync of its own: these disks fail, they lose no power.
        let done = self.faulty(Kind::Sync, |state| state.file(handle).map(|_| ()));
        answer!(reply, done, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.faulty(Kind::SyncFolder, |_| Ok(()));
        answer!(reply, done, () => reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().open.remove(&handle.0);
        reply.ok();
    }

    fn readdir(&self, _: &Request, folder: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        let listed = self.faulty(Kind::List, |state| state.paths.list(folder));
        let entries = match listed {
            Ok(entries) => entries,
            Err(error) => return reply.error(Errno::from(error)),
        };
        for (place, (number, kind, name)) in (1..).zip(entries) {
            if place > from && reply.add(number, place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.state();
        let about = state.paths.of(INodeNo::ROOT).and_then(|path| Ok(rustix::fs::statvfs(path)?));
        answer!(reply, about, about => {
            let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            reply.statfs(
                about.f_blocks,
                about.f_bfree,
                about.f_bavail,
                about.f_files,
                about.f_ffree,
                size(about.f_bsize),
                size(about.f_namemax),
                size(about.f_frsize),
            );
        });
    }
}
