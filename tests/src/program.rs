//! The built `locker` binary, and what one run of it gave.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::wait::wait_for;

/// Longest run of one command before the test gives up on it.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Longest wait for an event of a running command.
const EVENT_MAX: Duration = Duration::from_secs(60);

/// Where the binary lies.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// The network namespace in which it runs, if not that of the tests.
    namespace: Option<String>,
}

impl Program {
    /// Finds the binary: `LOCKER_BIN`, else `lab/locker` in the target folder from which this test runs. That is the
    /// binary with failpoints which `cargo lab` builds.
    ///
    /// # Panics
    /// If there is none, with a sentence that says how to build it.
    pub fn find() -> Self {
        if let Some(path) = std::env::var_os("LOCKER_BIN") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "LOCKER_BIN names {}, which is no file", path.display());
            return Self { path, namespace: None };
        }
        // target/<profile>/deps/<suite>
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let path = target.join("lab/locker");
        assert!(
            path.is_file(),
            "there is no {}: build it with `cargo lab` (`make test` does), or name a binary with LOCKER_BIN",
            path.display()
        );
        Self { path, namespace: None }
    }

    /// The same, to be run in a network namespace.
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// The meeting point that lies beside this binary, `locker-bootstrap`.
    ///
    /// # Panics
    /// If there is none, with a sentence that says how to build it.
    pub fn bootstrap(&self) -> Self {
        let path = self.path.with_file_name("locker-bootstrap");
        assert!(path.is_file(), "there is no {}: `make lab` builds it", path.display());
        Self { path, namespace: self.namespace.clone() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command without arguments, in a clean surrounding: UTC, UTF-8, no settings of the person who runs the tests.
    pub fn command(&self) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.path),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.path);
                command
            }
        };
        for name in
            ["LOCKER_HOME", "LOCKER_BOOTSTRAP", "FAILPOINTS", "COLUMNS", "RUST_BACKTRACE", "XDG_DATA_HOME"]
        {
            command.env_remove(name);
        }
        // The router of the machine on which the tests run is nobody's to ask; in a network of a test's own it is.
        match self.namespace.is_some() || crate::enclosure::has_own_network() {
            false => command.env("LOCKER_PORT_MAPPING", "off"),
            true => command.env_remove("LOCKER_PORT_MAPPING"),
        };
        command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs a command with these arguments.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = self.command();
        command.args(arguments);
        Outcome::of(command)
    }
}

/// A command that is running; its output goes to files, so that it never waits for us.
pub struct Running {
    child: Child,
    out: File,
    err: File,
    arguments: Vec<OsString>,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let arguments = command.get_args().map(OsStr::to_owned).collect();
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {:?}: {e}", command.get_program()));
        Self { child, out, err, arguments }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said on standard output so far.
    pub fn told(&mut self) -> String {
        String::from_utf8_lossy(&whole(&mut self.out)).into_owned()
    }

    /// Waits for a line of JSON with this `event` on standard output.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let what = format!("the event {name:?} of locker {:?}", self.arguments);
        let found = wait_for(&what, EVENT_MAX, &mut || {
            let told = self.told();
            let whole_lines = told.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let mut events = whole_lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            match events.find(|event| event["event"] == name) {
                Some(event) => Some(Some(event)),
                None if self.is_running() => None,
                None => Some(None),
            }
        });
        found.unwrap_or_else(|| panic!("{what}: it ended first, and said {}", self.said()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a service manager would, and waits for it.
    pub fn stop(self) -> Outcome {
        self.signal(Signal::TERM);
        self.finish()
    }

    /// Sends it a signal, as Ctrl-C does.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it has said on standard error so far.
    pub fn said(&mut self) -> String {
        String::from_utf8_lossy(&whole(&mut self.err)).into_owned()
    }

    /// Ends it as a power cut would: no code of its own runs any more.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        let what = format!("the end of locker {:?}", self.arguments);
        let child = &mut self.child;
        let mut waited = || child.try_wait().unwrap();
        let status = wait_for(&what, RUN_MAX, &mut waited);
        let outcome = Outcome {
            status,
            out: whole(&mut self.out),
            err: String::from_utf8_lossy(&whole(&mut self.err)).into_owned(),
            arguments: std::mem::take(&mut self.arguments),
        };
        assert!(!outcome.err.contains("panicked at"), "a panic was shown: {outcome:?}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(file: &mut File) -> Vec<u8> {
    // A handle of our own would share its position with the child's: ours reads at given places.
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = Vec::with_capacity(len);
    let mut own = reopened(file);
    own.rewind().unwrap();
    own.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Opens the same unnamed file once more, with a position of its own.
fn reopened(file: &File) -> File {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// What one run gave.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
    arguments: Vec<OsString>,
}

impl Outcome {
    /// Runs a command to its end.
    pub fn of(command: Command) -> Self {
        Running::start(command).finish()
    }

    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether it was ended by a kill or ended itself at a failpoint.
    pub fn was_killed(&self) -> bool {
        matches!(self.status.signal(), Some(6 | 9))
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Asserts that it did what it was asked to.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code(), Some(0), "{self:?}");
        self
    }

    /// Standard output as the one JSON object that it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.out) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => panic!("not an object: {self:?}"),
            Err(error) => panic!("not one JSON object ({error}): {self:?}"),
        }
    }

    /// Asserts that it was refused with this exit code and, if it was asked for JSON, this error name.
    #[track_caller]
    pub fn refused(&self, exit: i32, name: &str) {
        assert_eq!(self.code(), Some(exit), "{self:?}");
        assert_eq!(self.error_name().as_deref(), Some(name), "{self:?}");
    }

    /// The name in the JSON error object, if standard output is one.
    pub fn error_name(&self) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.out).ok()?;
        value["error"]["code"].as_str().map(str::to_owned)
    }

    /// The paths that it declared safe with `add -v`.
    pub fn saved(&self) -> Vec<String> {
        saved_in(&self.err)
    }
}

/// The paths in lines `saved PATH`. A last line without its end was cut off by the kill: it was not said.
pub fn saved_in(err: &str) -> Vec<String> {
    err.split_inclusive('\n')
        .filter_map(|line| line.strip_prefix("saved ")?.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arguments: Vec<_> = self.arguments.iter().map(|a| a.to_string_lossy()).collect();
        let out: String = self.text().chars().take(2_000).collect();
        let err: String = self.err.chars().take(2_000).collect();
        write!(f, "locker {} -> {}\nstdout: {out}\nstderr: {err}", arguments.join(" "), self.status)
    }
}
