//! A network, or a table of mounts, of a test's own, in a namespace of the kernel.
//!
//! The test program starts itself again inside, for the one test; what was set up there goes away with it, however it
//! ends. The network has loopback, and one local network on which nobody else is. There is a way out to the rest of the
//! world, which leads nowhere: what is sent to it is seen by a [`crate::capture`], and never arrives.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// The address of this machine on the local network.
pub const LAN_ADDRESS: &str = "10.77.0.1";
/// The neighbour through whom the way out leads. It is absent and answers nothing.
pub const GATEWAY_ADDRESS: &str = "10.77.0.2";

/// Two ends of one cable: the address is at one of them, the other only swallows. The way out leads to a neighbour
/// who is known and absent, so that what goes there shows itself with its true target.
const NETWORK: &str = "set -e
ip link set lo up
ip link add lan0 type veth peer name lan1
ip addr add 10.77.0.1/24 dev lan0
ip link set lan0 up
ip link set lan1 up
ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev lan0
ip route add default via 10.77.0.2
exec \"$@\"";

/// What a test has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Network,
    Mounts,
}

impl Own {
    /// Set inside.
    fn mark(self) -> &'static str {
        match self {
            Self::Network => "LOCKER_ENCLOSED",
            Self::Mounts => "LOCKER_ENCLOSED_MOUNTS",
        }
    }

    fn is_inside(self) -> bool {
        std::env::var_os(self.mark()).is_some()
    }

    /// Runs a test inside. Where the system does not allow it, the test is skipped and says so.
    fn run(self, module: &str, name: &str, test: impl FnOnce()) {
        if self.is_inside() {
            test();
            return;
        }
        if let Err(why) = self.probe() {
            eprintln!("{name} is SKIPPED: no {self:?} of its own to be had here: {why}");
            return;
        }
        let path =
            module.split_once("::").map_or_else(|| name.to_owned(), |(_, rest)| format!("{rest}::{name}"));
        let own = std::env::current_exe().unwrap();
        let ran = self.inside([own.as_os_str(), "--exact".as_ref(), path.as_ref(), "--nocapture".as_ref()]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        eprintln!("{said}");
        assert!(ran.status.success() && said.contains("1 passed"), "{path} failed with {self:?} of its own");
    }

    /// Whether it is to be had.
    fn probe(self) -> Result<(), String> {
        let ran = std::panic::catch_unwind(|| self.inside(["true".as_ref()]))
            .map_err(|_| "there is no `unshare`")?;
        if ran.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned())
    }

    fn inside<'a>(self, program: impl IntoIterator<Item = &'a OsStr>) -> Output {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let (namespace, set_up) = match self {
            Self::Network => ("--net", NETWORK),
            Self::Mounts => ("--mount", "exec \"$@\""),
        };
        command.args([namespace, "--", "sh", "-c", set_up, "sh"]).args(program).env(self.mark(), "1");
        command.output().unwrap()
    }
}

/// Whether this test runs in a network of its own.
pub(crate) fn has_own_network() -> bool {
    Own::Network.is_inside()
}

/// Runs a test in a network of its own. `module` is its `module_path!()`, `name` that of the function. Where the
/// system does not allow it, the test is skipped and says so on standard error.
///
/// # Panics
/// If the test fails.
pub fn enclosed(module: &str, name: &str, test: impl FnOnce()) {
    Own::Network.run(module, name, test);
}

/// Runs a test whose mounts nobody else sees; they are gone when it ends. Otherwise as [`enclosed`].
///
/// # Panics
/// If the test fails.
pub fn with_own_mounts(module: &str, name: &str, test: impl FnOnce()) {
    Own::Mounts.run(module, name, test);
}
