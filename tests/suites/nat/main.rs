//! Two devices behind the routers that there are: every pair meets, moves what it has, and says truly on which way
//! (`docs/laboratory.md`). The programs are the real ones; the network is one of namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test; figures and skipped parts are told on standard error"
)]

mod mapping;
mod matrix;
mod moving;

use std::time::{Duration, Instant};

use locker_tests::files::write_big;
use locker_tests::internet::{Internet, Namespace, Router, Site, has_namespaces};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};

/// What every pair moves.
const BYTES: u64 = 10 << 20;
/// How long two devices may take to meet.
const MEET_TIME: Duration = Duration::from_secs(45);

/// Whether the suite can run here; says so if not.
fn can_run() -> bool {
    match has_namespaces() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("SKIPPED: no laboratory of networks on this machine: {why}");
            false
        }
    }
}

/// Two devices of one person, each at its place.
struct Pair {
    up_a: Up,
    up_b: Up,
    a: Home,
    b: Home,
    network: Vec<String>,
    sites: Vec<Site>,
    // What they live in goes after them.
    _hosts: Vec<Namespace>,
    _meeting: Option<Meeting>,
    _internet: Internet,
}

impl Pair {
    /// A device with a file behind the first router joins with one behind the second; of one router, both are behind it.
    fn join(name: &str, routers: &[Router], bytes: u64) -> Self {
        Self::join_at(name, routers, bytes, None, &[])
    }

    /// The same with two nodes that are told something more.
    fn join_by(name: &str, routers: &[Router], bytes: u64, more: &[&str]) -> Self {
        Self::join_at(name, routers, bytes, None, more)
    }

    /// The same over a line that is slow at the first router from when the second device runs.
    fn join_slowly(name: &str, routers: &[Router], bytes: u64, rate: &str) -> Self {
        Self::join_at(name, routers, bytes, Some(rate), &[])
    }

    fn join_at(name: &str, routers: &[Router], bytes: u64, rate: Option<&str>, more: &[&str]) -> Self {
        let mut internet = Internet::new();
        let mut sites: Vec<Site> = routers.iter().map(|kind| internet.site(*kind)).collect();
        let last = sites.len() - 1;
        let hosts = vec![sites[0].host(), sites[last].host()];
        // On one local network nobody else is needed.
        let meeting = (last > 0).then(|| internet.meeting());
        let mut network: Vec<String> = match &meeting {
            Some(_) => ["--no-lan".into(), "--bootstrap".into(), internet.meeting_address()].into(),
            None => Vec::new(),
        };
        network.extend(more.iter().map(|&word| word.to_owned()));
        let network_of: Vec<&str> = network.iter().map(String::as_str).collect();
        let (a, b) = (Home::within(hosts[0].name()), Home::within(hosts[1].name()));
        a.json(["init", "--name", "first"]);
        write_big(&a.beside("film.bin"), bytes, &mut Dice::of(name));
        a.ok(["add".as_ref(), a.beside("film.bin").as_os_str()]);
        let up_a = Up::start_as_is(&a, &network_of);
        a.pair_by(&b, "second", &network_of);
        rate.into_iter().for_each(|rate| sites[0].slow_down(rate));
        let up_b = Up::start_as_is(&b, &network_of);
        Self { a, b, up_a, up_b, network, _hosts: hosts, sites, _meeting: meeting, _internet: internet }
    }

    /// The way on which a device reaches the other one now.
    fn path(home: &Home) -> Option<String> {
        let devices = home.json(["device", "ls"])["devices"].take();
        let other = devices.as_array().unwrap().iter().find(|device| device["this"] == false)?;
        other["path"].as_str().map(str::to_owned)
    }

    /// Waits until both say that they reach one another on this way.
    #[track_caller]
    fn wait_for_path(&self, path: &str, limit: Duration) {
        let begun = Instant::now();
        let mut last = None;
        wait_for(&format!("a path that is {path}"), limit, || {
            let now = [&self.a, &self.b].map(Self::path);
            if last.as_ref() != Some(&now) {
                eprintln!("after {} ms: {now:?}", begun.elapsed().as_millis());
            }
            let is_there = now.iter().all(|one| one.as_deref() == Some(path));
            last = Some(now);
            is_there.then_some(())
        });
    }

    /// Waits until everything is at the second device, and compares it byte by byte.
    fn wait_moved(&self) {
        self.b.wait_synced();
        let out = self.b.beside("out.bin");
        self.b.ok(["get".as_ref(), "film.bin".as_ref(), "--to".as_ref(), out.as_os_str()]);
        Tree::of(&self.a.beside("film.bin")).assert_same(&Tree::of(&out));
    }

    fn stop(self) {
        self.up_b.stop().ok();
        self.up_a.stop().ok();
    }
}
