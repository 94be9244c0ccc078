//! The process that serves a disk or folder of the laboratory (`src/bin/lab`), and file systems on image files.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that serves a file system at a mount point until this value goes.
pub(crate) struct Server {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    mount: PathBuf,
}

impl Server {
    /// Starts it and waits until the file system is there.
    pub(crate) fn start(program: &Path, arguments: &[&OsStr], mount: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, orders, answers, mount: mount.to_owned() };
        if server.answer() != "ready" {
            drop(server.orders.take());
            let mut why = String::new();
            let _ = std::io::Read::read_to_string(server.child.stderr.as_mut().unwrap(), &mut why);
            return Err(why.trim().to_owned());
        }
        Ok(server)
    }

    /// Gives an order and waits for the answer.
    pub(crate) fn ask(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        // What is still mounted above it would keep it for ever; without its process it can be taken away.
        if !self.child.wait().is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
            let _ = Command::new("umount").arg("-l").arg(&self.mount).stderr(Stdio::null()).status();
        }
    }
}

/// Whether this machine can do what the laboratory needs: file systems in user space, loop devices, and the right to mount
/// them.
///
/// # Errors
/// What is missing.
pub fn has_disks() -> Result<(), String> {
    for device in ["/dev/fuse", "/dev/loop-control"] {
        let opened = std::fs::File::options().read(true).write(true).open(device);
        opened.map_err(|error| format!("{device}: {error}"))?;
    }
    // Whoever is root only in a namespace of users may not mount images.
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !users.split_whitespace().eq(["0", "0", "4294967295"]) || !rustix::process::geteuid().is_root() {
        return Err("only root may mount images".into());
    }
    Ok(())
}

/// A folder for images, in memory where the system has such a place: what is tested there is not how fast a disk syncs.
pub fn scratch() -> tempfile::TempDir {
    let in_memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("locker-lab-");
    if in_memory.is_dir() { builder.tempdir_in(in_memory).unwrap() } else { builder.tempdir().unwrap() }
}

/// A kind of file system that can be made on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// What most Linux systems have.
    Ext4,
    /// With a log for names and sizes, and none for content.
    Xfs,
    /// Which writes nothing in its place.
    Btrfs,
}

impl FileSystem {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Makes one on a new image of so many MiB.
    ///
    /// # Errors
    /// If the tool is not there or fails, with what it said.
    pub fn make(self, image: &Path, mebibytes: u64) -> Result<(), String> {
        std::fs::File::create_new(image).unwrap().set_len(mebibytes << 20).unwrap();
        let (tool, arguments): (_, &[&str]) = match self {
            // Everything is written now: the kernel has nothing to make up for later.
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        };
        succeed(Command::new(tool).args(arguments).arg(image))
    }
}

/// A file system that is mounted from an image; unmounted with the value.
pub struct Mounted {
    at: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// Mounts an image, read-only if so asked. An image must have a name that none had before: a loop device may still
    /// remember what lay under an old one.
    ///
    /// # Errors
    /// If the system does not allow it, with what it said.
    pub fn mount(image: &Path, at: &Path, options: &str) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("loop,{options}");
        succeed(Command::new("mount").args(["-o", &options]).arg(image).arg(at))?;
        Ok(Self { at: at.to_owned(), is_mounted: true })
    }

    /// A file system in memory of so many MiB.
    ///
    /// # Errors
    /// As above.
    pub fn in_memory(at: &Path, mebibytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={mebibytes}m,mode=700");
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "locker-lab"]).arg(at))?;
        Ok(Self { at: at.to_owned(), is_mounted: true })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Mounts it again with other options.
    #[track_caller]
    pub fn remount(&self, options: &str) {
        succeed(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at)).unwrap();
    }

    /// Unmounts it, with everything written.
    #[track_caller]
    pub fn unmount(mut self) {
        self.is_mounted = false;
        succeed(Command::new("umount").arg(&self.at)).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
        }
    }
}

/// Runs a tool to its good end.
fn succeed(command: &mut Command) -> Result<(), String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let told = command.stdin(Stdio::null()).output().map_err(|error| format!("{tool}: {error}"))?;
    if told.status.success() {
        return Ok(());
    }
    Err(format!("{tool}: {}", String::from_utf8_lossy(&told.stderr).trim()))
}
