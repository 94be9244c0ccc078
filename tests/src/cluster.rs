//! Several lockers as real processes on loopback, each with ports of its own.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Home;
use crate::files::write;
use crate::program::{Outcome, Program, Running};
use crate::wait::{wait_for, wait_or};

/// A running `locker-bootstrap`.
pub struct Meeting {
    _process: Running,
    address: String,
}

impl Meeting {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self::start_at(&Program::find(), "127.0.0.1:0")
    }

    /// Starts one at a given address, in the network namespace of a program.
    pub fn start_at(program: &Program, listen: &str) -> Self {
        let mut command = program.bootstrap().command();
        command.args(["--listen", listen, "--json"]);
        let mut process = Running::start(command);
        let ready = process.event("ready");
        let address = ready["listen"][0].as_str().unwrap().to_owned();
        Self { _process: process, address }
    }

    /// Its address, with its key.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A home whose `locker up` runs.
pub struct Up {
    process: Running,
    listen: Vec<String>,
}

impl Up {
    /// Starts `locker up` with the local network off, and waits until it is ready.
    pub fn start(home: &Home, more: &[&str]) -> Self {
        Self::start_at(home, "127.0.0.1:0", more)
    }

    /// The same at a given address. Who starts a node many times in a minute gives each an address of its own, or the
    /// limits for one source stop it: the connections of a killed node stand for a while at the others.
    pub fn start_at(home: &Home, listen: &str, more: &[&str]) -> Self {
        let mut arguments: Vec<&str> = vec!["--listen", listen, "--no-lan"];
        arguments.extend(more);
        Self::start_as_is(home, &arguments)
    }

    /// Starts `locker up` as somebody does who says nothing: on every interface, with the local network on.
    pub fn start_as_is(home: &Home, more: &[&str]) -> Self {
        let mut arguments: Vec<OsString> = ["--json", "up"].map(Into::into).into();
        arguments.extend(more.iter().map(Into::into));
        Self::run(home.command(arguments))
    }

    /// The same for a whole command, `locker --json up …`.
    pub fn run(command: Command) -> Self {
        let mut process = Running::start(command);
        let ready = process.event("ready");
        let listen = ready["listen"].as_array().unwrap().iter();
        let listen = listen.map(|address| address.as_str().unwrap().to_owned()).collect();
        Self { process, listen }
    }

    /// The addresses on which it listens, as multiaddrs.
    pub fn listen(&self) -> &[String] {
        &self.listen
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has said on standard error so far.
    pub fn said(&mut self) -> String {
        self.process.said()
    }

    /// Asks it to end.
    pub fn stop(self) -> Outcome {
        self.process.stop()
    }

    /// Ends it as a power cut would.
    pub fn kill(self) -> Outcome {
        self.process.kill()
    }
}

impl Home {
    /// Runs `locker pair` here and `locker join` in `new`, which knows the meeting point and the ticket and nothing
    /// else. Gives the result of the join.
    pub fn pair_with(&self, new: &Home, meeting: &Meeting, name: &str) -> Value {
        self.pair_by(new, name, &["--bootstrap", meeting.address(), "--no-lan"])
    }

    /// The same for a device that is told of the network what `network` says; with nothing, it looks around on the
    /// local network.
    pub fn pair_by(&self, new: &Home, name: &str, network: &[&str]) -> Value {
        let mut pair = self.start(["--json", "pair", "--assume-yes"], "");
        let ticket = pair.event("ticket");
        let words = new.beside("words.txt");
        write(&words, ticket["words"].as_str().unwrap().as_bytes());
        let words = words.to_str().unwrap();
        let mut arguments = vec!["join", "--ticket-file", words, "--name", name, "--assume-yes"];
        arguments.extend(network);
        let joined = new.json(arguments);
        let confirm = pair.event("confirm");
        assert_eq!(confirm["name"], name);
        let paired = pair.event("joined");
        assert_eq!(paired["device_id"], joined["device_id"]);
        pair.finish().ok();
        joined
    }

    /// Waits until everything that is known is here.
    #[track_caller]
    pub fn wait_synced(&self) {
        self.ok(["wait", "--synced", "--timeout", "60"]);
    }

    /// Waits until a path is listed.
    pub fn wait_for_path(&self, path: &str) {
        let is_listed = || self.paths().iter().any(|known| known == path).then_some(());
        wait_or(Duration::from_secs(20), is_listed, || {
            // Whether it was heard of, and from whom, tells where to look.
            let told = |command: &[&str]| String::from_utf8_lossy(&self.run(command).out).into_owned();
            format!("{path} in `ls`\n{}\n{}", told(&["device", "ls"]), told(&["doctor"]))
        });
    }

    /// Waits until this locker's state is that of another one, and gives it.
    pub fn wait_equal(&self, other: &Home) -> String {
        wait_for("the same state on both devices", Duration::from_secs(30), || {
            let hash = |home: &Home| home.json(["status"])["state_hash"].as_str().unwrap().to_owned();
            let (here, there) = (hash(self), hash(other));
            (here == there).then_some(here)
        })
    }
}
