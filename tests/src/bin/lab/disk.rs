//! A disk that remembers in which order it was written: one file `disk` over an image. Every write and every flush goes
//! to a log, and so does what is written into the file `mark` beside it.
//!
//! One thread and no cache for writing: the order of the log is the order in which the disk was told. The log is read by
//! `locker_tests::power`, which has its form.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use locker_tests::power::Record;

const DISK: INodeNo = INodeNo(2);
const MARK: INodeNo = INodeNo(3);
/// How long the kernel may believe what it was told about the two files.
const BELIEVED: Duration = Duration::from_secs(3_600);

/// See above.
pub(crate) struct LoggedDisk {
    image: File,
    len: u64,
    log: Mutex<File>,
}

impl LoggedDisk {
    /// Over the image, with an empty log.
    pub(crate) fn open(image: &Path, log: &Path) -> io::Result<Self> {
        let image = File::options().read(true).write(true).open(image)?;
        let len = image.metadata()?.len();
        Ok(Self { image, len, log: Mutex::new(File::create_new(log)?) })
    }

    fn note(&self, record: Record<'_>) -> io::Result<()> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&record.to_bytes())
    }

    fn about(&self, file: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match file {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, self.len),
            MARK => (FileType::RegularFile, 0o600, 0),
            _ => return None,
        };
        Some(FileAttr {
            ino: file,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        })
    }
}

impl Filesystem for LoggedDisk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = match name.as_encoded_bytes() {
            b"disk" => Some(DISK),
            b"mark" => Some(MARK),
            _ => None,
        };
        match file.and_then(|file| self.about(file)) {
            Some(about) => reply.entry(&BELIEVED, &about, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.about(file) {
            Some(about) => reply.attr(&BELIEVED, &about),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, file: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // A mark is passed on as it is written, byte for byte.
        let how = if file == MARK { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), how);
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if file != DISK {
            return reply.data(&[]);
        }
        let wanted = u64::from(size).min(self.len.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
        match self.image.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let done = if file == DISK {
            let written = self.image.write_all_at(data, offset);
            written.and_then(|()| self.note(Record::Write { offset, bytes: data }))
        } else {
            self.note(Record::Mark(data))
        };
        match done {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let noted = if file == DISK { self.note(Record::Flush) } else { Ok(()) };
        match noted {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }
}
