//! A locker of its own for one test: a temporary folder with a home in it and room for other files beside.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::files::copy_tree;
use crate::program::{Outcome, Program, Running};

/// A temporary folder with the home of a locker; everything goes away with the value.
pub struct Home {
    folder: tempfile::TempDir,
    home: PathBuf,
    program: Program,
}

impl Home {
    /// A home in which no locker has been made yet.
    pub fn empty() -> Self {
        let keep = std::env::var_os("LOCKER_KEEP").is_some();
        let folder = tempfile::Builder::new().prefix("locker-test-").disable_cleanup(keep).tempdir().unwrap();
        let home = folder.path().join("home");
        Self { folder, home, program: Program::find() }
    }

    /// A home whose commands run in a network namespace.
    pub fn within(namespace: &str) -> Self {
        let home = Self::empty();
        Self { program: Program::find().within(namespace), ..home }
    }

    /// A home at a place of its own, on a disk that somebody else looks after. What is beside it lies elsewhere.
    pub fn at(home: PathBuf) -> Self {
        Self { home, ..Self::empty() }
    }

    /// A home with a new locker, whose vault opens by itself.
    pub fn new() -> Self {
        let home = Self::empty();
        home.json(["init", "--name", "bench"]);
        home
    }

    /// A copy of this home as it lies on the disk, for damaging or killing. No process may have it open.
    pub fn copied(&self) -> Self {
        let copy = Self::empty();
        copy_tree(&self.home, &copy.home, &|path| path.ends_with("reserve") || path.ends_with("locker.sock"));
        copy
    }

    /// The home itself.
    pub fn path(&self) -> &Path {
        &self.home
    }

    /// A path beside the home, for what goes in or out.
    pub fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// `locker --home … ARGUMENTS`, not started.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program.command();
        command.arg("--home").arg(&self.home).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        Outcome::of(self.command(arguments))
    }

    /// Starts a command, with failpoints set if `failpoints` is not empty.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        failpoints: &str,
    ) -> Running {
        let mut command = self.command(arguments);
        if !failpoints.is_empty() {
            command.env("FAILPOINTS", failpoints);
        }
        Running::start(command)
    }

    /// Runs a command that must work.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        self.run(arguments).ok()
    }

    /// Runs a command that must work with `--json`, and gives its object.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        self.run_json(arguments).ok().json()
    }

    /// Runs a command with `--json`.
    pub fn run_json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let mut all: Vec<OsString> = vec!["--json".into()];
        all.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self.run(all)
    }

    /// Everything in the locker, by path.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let Value::Array(entries) = self.json(["ls", "-R"])["entries"].take() else {
            panic!("`ls --json` gave no list");
        };
        entries
    }

    /// The paths of everything in the locker, sorted.
    #[track_caller]
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> =
            self.list().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    }

    /// The pack files, sorted by path.
    pub fn packs(&self) -> Vec<PathBuf> {
        let mut packs: Vec<_> = crate::files::walk(&self.home.join("packs"))
            .into_iter()
            .filter(|path| {
                path.is_file()
                    && path.parent().is_some_and(|p| !p.ends_with("tmp") && !p.ends_with("partial"))
            })
            .collect();
        packs.sort();
        packs
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}
