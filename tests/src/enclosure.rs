//! A network of a test's own, in a namespace of the kernel: loopback, and one local network on which nobody else is.
//!
//! The test program starts itself again inside, for the one test. There is a way out to the rest of the world, which
//! leads nowhere: what is sent to it is seen by a [`crate::capture`], and never arrives.

use std::process::{Command, Output};

/// Set inside.
const MARK: &str = "LOCKER_ENCLOSED";

/// The address of this machine on the local network.
pub const LAN_ADDRESS: &str = "10.77.0.1";

/// Two ends of one cable: the address is at one of them, the other only swallows. The way out leads to a neighbour
/// who is known and absent, so that what goes there shows itself with its true target.
const SET_UP: &str = "set -e
ip link set lo up
ip link add lan0 type veth peer name lan1
ip addr add 10.77.0.1/24 dev lan0
ip link set lan0 up
ip link set lan1 up
ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev lan0
ip route add default via 10.77.0.2
exec \"$@\"";

/// Whether this process runs in such a network.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs a test in a network of its own. `module` is its `module_path!()`, `name` that of the function. Where the
/// system does not allow it, the test is skipped and says so on standard error.
///
/// # Panics
/// If the test fails.
pub fn enclosed(module: &str, name: &str, test: impl FnOnce()) {
    if is_inside() {
        test();
        return;
    }
    if let Err(why) = probe() {
        eprintln!("{name} is SKIPPED: no network of its own is to be had here: {why}");
        return;
    }
    let path = module.split_once("::").map_or_else(|| name.to_owned(), |(_, rest)| format!("{rest}::{name}"));
    let own = std::env::current_exe().unwrap();
    let ran = inside([own.as_os_str(), "--exact".as_ref(), path.as_ref(), "--nocapture".as_ref()]);
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    eprintln!("{said}");
    assert!(ran.status.success() && said.contains("1 passed"), "{path} failed in its own network");
}

/// Whether such a network can be made.
fn probe() -> Result<(), String> {
    let ran = std::panic::catch_unwind(|| inside(["true".as_ref()])).map_err(|_| "there is no `unshare`")?;
    if ran.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned())
}

fn inside<'a>(program: impl IntoIterator<Item = &'a std::ffi::OsStr>) -> Output {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--", "sh", "-c", SET_UP, "sh"]).args(program).env(MARK, "1");
    command.output().unwrap()
}
