//! A small internet of network namespaces: one router in the middle, a meeting point, and sites behind routers of their
//! own, each with the address translation that homes, offices and hotels have.
//!
//! Nothing leaves it: the router in the middle has no way out. Names are of this process, and everything goes away with
//! the value. Addresses are those that documents use, which the product takes for public ones like any other; but
//! `miniupnpd` passes nothing on at such an address, and so its routers have others outside.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::cluster::Meeting;
use crate::program::Program;
use crate::wait::wait_for;

/// Where the meeting point is.
const MEETING: &str = "203.0.113.2";
/// Its port, for QUIC and TCP.
const MEETING_PORT: u16 = 24_766;

/// How the router of a site translates addresses, and what it lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Router {
    /// One port outside for each port inside, whoever is spoken to; nobody comes in who was not spoken to.
    Cone,
    /// A new, random port for everybody who is spoken to.
    Symmetric,
    /// As [`Router::Symmetric`], and passes a port on to whoever asks for it: Debian's `miniupnpd`, with PCP and NAT-PMP.
    Mapping,
    /// Lets nothing out but TCP to port 443.
    Only443,
    /// Passes everything on, both ways, without translation.
    Open,
}

/// Whether this machine can make such an internet.
///
/// # Errors
/// What is missing.
pub fn has_namespaces() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may make network namespaces".into());
    }
    let probe = Namespace::new("probe")?;
    probe.try_run(&["nft", "add", "table", "ip", "probe"])?;
    probe.try_run(&["nft", "add chain ip probe post { type nat hook postrouting priority 100 ; }"])?;
    probe.try_run(&[
        "nft",
        "add rule ip probe post meta l4proto udp masquerade to :20000-60000 fully-random",
    ])?;
    probe.try_run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])
}

/// Whether there is a [`Router::Mapping`].
///
/// # Errors
/// What is missing.
pub fn has_mapping_router() -> Result<(), String> {
    run(&["miniupnpd", "--version"]).map_err(|why| format!("no miniupnpd, which `make test` installs: {why}"))
}

/// A network namespace, gone with the value.
pub struct Namespace(String);

impl Namespace {
    fn new(what: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("locker-lab-{}-{number}-{what}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let made = Self(name);
        made.try_run(&["ip", "link", "set", "lo", "up"])?;
        // What IPv6 says by itself is only noise here.
        made.try_run(&["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])?;
        Ok(made)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn try_run(&self, words: &[&str]) -> Result<(), String> {
        let mut all = vec!["ip", "netns", "exec", &self.0];
        all.extend(words);
        run(&all)
    }

    /// Runs a tool in it, which must work. Words are separated by spaces.
    #[track_caller]
    pub fn run(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.try_run(&words).unwrap();
    }

    /// The same for a sentence of `nft`.
    #[track_caller]
    fn nft(&self, sentence: &str) {
        self.try_run(&["nft", sentence]).unwrap();
    }

    /// What a tool says in it. Words are separated by spaces.
    #[track_caller]
    fn told(&self, line: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(line.split_whitespace()).stdin(Stdio::null());
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What runs in it keeps its network; its name goes.
        let _ = run(&["ip", "netns", "del", &self.0]);
    }
}

/// Runs a tool to its good end.
fn run(words: &[&str]) -> Result<(), String> {
    let told = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let told = told.map_err(|error| format!("{}: {error}", words[0]))?;
    if told.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&told.stderr).trim()))
}

/// Joins two namespaces by a cable.
#[track_caller]
fn cable(a: (&Namespace, &str), b: (&Namespace, &str)) {
    let ends = ["ip", "link", "add", a.1, "netns", a.0.name(), "type", "veth", "peer", "name", b.1, "netns"];
    let words: Vec<&str> = ends.into_iter().chain([b.0.name()]).collect();
    run(&words).unwrap();
    for (namespace, end) in [a, b] {
        namespace.run(&format!("ip link set {end} up"));
    }
}

/// The router in the middle, with the meeting point beside it.
pub struct Internet {
    middle: Namespace,
    meeting_at: Namespace,
    sites: u8,
}

impl Internet {
    /// Makes one.
    ///
    /// # Panics
    /// If the machine cannot: see [`has_namespaces`].
    pub fn new() -> Self {
        let (middle, meeting_at) = (Namespace::new("middle").unwrap(), Namespace::new("meeting").unwrap());
        middle.run("sysctl -qw net.ipv4.ip_forward=1");
        cable((&middle, "meeting"), (&meeting_at, "eth0"));
        middle.run("ip addr add 203.0.113.1/29 dev meeting");
        meeting_at.run(&format!("ip addr add {MEETING}/29 dev eth0"));
        meeting_at.run("ip route add default via 203.0.113.1");
        Self { middle, meeting_at, sites: 0 }
    }

    /// Starts the meeting point.
    pub fn meeting(&self) -> Meeting {
        let program = Program::find().within(self.meeting_at.name());
        Meeting::start_at(&program, &format!("0.0.0.0:{MEETING_PORT}"))
    }

    /// Where the meeting point is, as somebody writes it down.
    pub fn meeting_address(&self) -> String {
        format!("{MEETING}:{MEETING_PORT}")
    }

    /// Makes a site behind a router, without hosts.
    pub fn site(&mut self, kind: Router) -> Site {
        self.sites += 1;
        let router = Namespace::new("router").unwrap();
        let mut site = Site { router, kind, number: self.sites, hosts: 0, daemon: None };
        let (router, n) = (&site.router, site.number);
        router.run("sysctl -qw net.ipv4.ip_forward=1");
        let port = format!("site{n}");
        cable((&self.middle, &port), (router, "wan"));
        self.middle.run(&format!("ip addr add {}/29 dev {port}", site.address(1)));
        router.run(&format!("ip addr add {}/29 dev wan", site.address(2)));
        router.run(&format!("ip route add default via {}", site.address(1)));
        if kind == Router::Open {
            self.middle.run(&format!("ip route add 192.0.2.{}/29 via {}", 8 * n, site.address(2)));
        }
        router.run("ip link add lan type bridge");
        router.run(&format!("ip addr add {}/{} dev lan", site.inside(1), site.prefix()));
        router.run("ip link set lan up");
        site.set_rules();
        if kind == Router::Mapping {
            site.daemon = Some(Daemon::start(&site.router));
        }
        site
    }
}

impl Default for Internet {
    fn default() -> Self {
        Self::new()
    }
}

/// A router and what is behind it.
pub struct Site {
    router: Namespace,
    kind: Router,
    number: u8,
    hosts: u8,
    daemon: Option<Daemon>,
}

/// A running `miniupnpd`; ends with the value.
struct Daemon {
    process: Child,
    _config: TempDir,
}

impl Daemon {
    /// Its port, for PCP and NAT-PMP.
    const PORT: u16 = 5_351;

    fn start(router: &Namespace) -> Self {
        for chain in ["mapped", "mapped_before", "mapped_after"] {
            router.nft(&format!("add chain inet fw {chain}"));
        }
        router.nft("add rule inet fw through jump mapped");
        router.nft("add chain inet fw before { type nat hook prerouting priority -100 ; }");
        router.nft("add rule inet fw before jump mapped_before");
        let config = tempfile::tempdir().unwrap();
        let [file, pid] = ["miniupnpd.conf", "pid"].map(|name| config.path().join(name));
        let text = "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=no\nsecure_mode=yes\n\
            upnp_table_name=fw\nupnp_nat_table_name=fw\nupnp_forward_chain=mapped\n\
            upnp_nat_chain=mapped_before\nupnp_nat_postrouting_chain=mapped_after\n\
            allow 1024-65535 192.168.1.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n";
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", router.name(), "miniupnpd", "-d", "-f"]).arg(file).arg("-P").arg(pid);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        wait_for("miniupnpd", Duration::from_secs(10), || {
            router.told("ss -Hlun").contains(&format!(":{}", Self::PORT)).then_some(())
        });
        Self { process, _config: config }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Site {
    /// An address of the router's network outside.
    fn address(&self, host: u8) -> String {
        let network = if self.kind == Router::Mapping { "128.66.0" } else { "198.51.100" };
        format!("{network}.{}", 8 * self.number + host)
    }

    /// An address inside. Two sites may use the same network, as homes do.
    fn inside(&self, host: u8) -> String {
        match self.kind {
            Router::Open => format!("192.0.2.{}", 8 * self.number + host),
            _ => format!("192.168.1.{host}"),
        }
    }

    fn prefix(&self) -> u8 {
        if self.kind == Router::Open { 29 } else { 24 }
    }

    fn set_rules(&self) {
        if self.kind == Router::Open {
            return;
        }
        let r = &self.router;
        r.nft("add table ip nat");
        r.nft("add chain ip nat post { type nat hook postrouting priority 100 ; }");
        r.nft("add table inet fw");
        r.nft("add chain inet fw through { type filter hook forward priority 0 ; policy drop ; }");
        r.nft("add chain inet fw here { type filter hook input priority 0 ; policy accept ; }");
        r.nft("add rule inet fw through ct state established,related accept");
        // A router that answered strangers itself would remember them, and give their ports to nobody else.
        r.nft("add rule inet fw here iifname wan ct state new drop");
        match self.kind {
            Router::Only443 => r.nft("add rule inet fw through iifname lan tcp dport 443 accept"),
            _ => r.nft("add rule inet fw through iifname lan accept"),
        }
        if matches!(self.kind, Router::Symmetric | Router::Mapping) {
            for protocol in ["tcp", "udp"] {
                r.nft(&format!(
                    "add rule ip nat post oifname wan meta l4proto {protocol} masquerade to :20000-60000 \
                     fully-random"
                ));
            }
        }
        r.nft("add rule ip nat post oifname wan masquerade");
    }

    /// Adds a host.
    pub fn host(&mut self) -> Namespace {
        self.hosts += 1;
        let host = Namespace::new("host").unwrap();
        let port = format!("port{}", self.hosts);
        cable((&self.router, &port), (&host, "eth0"));
        self.router.run(&format!("ip link set {port} master lan"));
        // A host with a number of its own, so that the same address is not a neighbour in every site.
        let number = if self.kind == Router::Open { 1 + self.hosts } else { 10 * self.number + self.hosts };
        host.run(&format!("ip addr add {}/{} dev eth0", self.inside(number), self.prefix()));
        host.run(&format!("ip route add default via {}", self.inside(1)));
        host
    }

    /// How many ports a [`Router::Mapping`] passes on now, UDP and TCP counted apart.
    pub fn mapped_ports(&self) -> usize {
        self.router.told("nft list chain inet fw mapped_before").matches(" dnat ").count()
    }

    /// Lets no more than so much out and in, in bits a second as `tc` writes them.
    pub fn slow_down(&self, rate: &str) {
        for end in ["wan", "lan"] {
            self.router
                .run(&format!("tc qdisc add dev {end} root tbf rate {rate} burst 32kbit latency 100ms"));
        }
    }

    /// Gives the router another address outside, as a line does that was interrupted: what was translated is forgotten.
    pub fn move_away(&self) {
        self.router.run(&format!("ip addr del {}/29 dev wan", self.address(2)));
        self.router.run(&format!("ip addr add {}/29 dev wan", self.address(3)));
        self.router.run(&format!("ip route replace default via {}", self.address(1)));
    }
}
