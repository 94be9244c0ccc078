//! What every command is given: which home, how to talk, and a way to ask a [`Request`] of whoever has the locker
//! open, or of the locker itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use locker_engine::{Env, Error, Locker};

use crate::command::Global;
use crate::execute::{Sink, execute};
use crate::failure::Failure;
use crate::output::Terminal;
use crate::request::{Reply, Request};
use crate::{secret_input, socket};

/// Pause between two looks at a locker that somebody else is opening or closing.
const RETRY: Duration = Duration::from_millis(20);

/// The surroundings of one command.
pub(crate) struct Context {
    /// The locker's home.
    pub(crate) home: PathBuf,
    /// How results and talk are shown.
    pub(crate) terminal: Terminal,
    passphrase_file: Option<PathBuf>,
}

impl Context {
    /// Reads the global options and the environment.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let home = match global.home.clone().or_else(|| std::env::var_os("LOCKER_HOME").map(PathBuf::from)) {
            Some(home) => home,
            None => default_home()?,
        };
        let home = std::path::absolute(&home).map_err(|e| Failure::io("cannot tell the home's place", &e))?;
        Ok(Self {
            home,
            terminal: Terminal::new(global.json, global.quiet, global.verbose),
            passphrase_file: global.passphrase_file.clone(),
        })
    }

    /// Carries out a request: in the process that has the locker open, or here.
    ///
    /// Whoever opens the locker also listens on its socket until the command has ended, so that two commands at
    /// once both work.
    pub(crate) fn ask(&self, request: Request, sink: &dyn Sink) -> Result<Reply, Failure> {
        let start = Instant::now();
        loop {
            if let Some(mut stream) = socket::connect(&self.home)?
                && let Some(answer) = socket::ask(&mut stream, &request, sink)
            {
                return answer;
            }
            match self.open() {
                Ok(locker) => {
                    // Where no socket can be made, on a disk without room for its name, the work is done all the same: others
                    // wait for the lock.
                    let server = socket::Server::start(&self.home, &locker).ok();
                    let reply = execute(&locker, request, sink);
                    if let Some(server) = server {
                        server.stop();
                    }
                    return reply;
                }
                // Somebody was quicker: it will listen as soon as it is ready, or is about to end.
                Err(Error::Busy { .. }) if start.elapsed() < socket::START_WAIT => {
                    std::thread::park_timeout(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens the locker here; asks for the passphrase if there is one.
    pub(crate) fn open(&self) -> Result<Locker, Error> {
        Locker::open(&self.home, Env::system(), &mut || {
            secret_input::passphrase(self.passphrase_file.as_deref(), "Passphrase: ")
        })
    }

    /// The same for a command in which the passphrase file is not that of the vault.
    pub(crate) fn without_passphrase_file(&self) -> Self {
        Self { home: self.home.clone(), terminal: self.terminal, passphrase_file: None }
    }

    /// The file given with `--passphrase-file`.
    pub(crate) fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_file.as_deref()
    }
}

/// The platform's place for a program's data.
fn default_home() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || set("HOME");
    let base = if cfg!(target_os = "macos") {
        home().map(|h| h.join("Library/Application Support"))
    } else {
        set("XDG_DATA_HOME").or_else(|| home().map(|h| h.join(".local/share")))
    };
    base.map(|b| b.join("locker")).ok_or_else(|| {
        Failure::usage(
            "no home for the locker: neither HOME nor XDG_DATA_HOME is set",
            "Name a folder with --home DIR or LOCKER_HOME.",
        )
    })
}
