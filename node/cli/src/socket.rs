//! The private socket by which one command reaches the process that has the locker open
//! (`docs/spec/11-local-api.md`).
//!
//! `HOME/run/locker.sock`, mode 0600 in a folder 0700; both ends check that the other runs as the same user.

mod client;
mod frame;
mod server;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use client::{ask, connect};
pub(crate) use server::Server;

/// How long a command waits for another process that has the lock to listen or to end.
pub(crate) const START_WAIT: Duration = Duration::from_secs(10);
/// Commands served at once; a further one waits in the listen queue, as long as [`START_WAIT`].
const CLIENTS_MAX: usize = 64;
/// A client that does not say what it wants is given up after this time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The socket's path, short enough for the system's limit of 108 bytes: it goes through the open folder.
fn address(home: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(home.join("run"))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/locker.sock", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Whether the process at the other end belongs to this user.
fn is_same_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream.as_fd())
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}
