"""Two devices at the ends of a long or slow wire, each in a network namespace of its own: how fast everything comes, beside
plain TCP over the same wire and beside Syncthing with several connections, where that is installed."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness import MIB, SEED, Locker, Run, failures, one_file, size_of
from two_devices import WAIT_S, Peer, Process, files_in, wait_for

TCP = """
import socket, sys, time
side, host, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
if side == "to":
    server = socket.create_server((host, 5001))
    print("ready", flush=True)
    line, _ = server.accept()
    start = time.monotonic()
    while size > 0:
        size -= len(line.recv(min(size, 1 << 20)))
    print(time.monotonic() - start, flush=True)
else:
    line = socket.create_connection((host, 5001))
    piece = bytes(1 << 20)
    while size > 0:
        size -= line.send(piece[:min(size, len(piece))])
    line.shutdown(socket.SHUT_WR)
    line.recv(1)
"""


def tool(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


class Wire:
    """Namespaces for both ends, with a wire between that delays, limits and loses."""

    def __init__(self, delay_ms, mbit, loss, control=None):
        self.names = [f"lkwire{os.getpid()}{end}" for end in "awb"]
        a, middle, b = self.names
        for name in self.names:
            tool("ip", "netns", "add", name)
            self.run_in(name, "ip", "link", "set", "lo", "up")
        for n, end in ((1, a), (2, b)):
            tool("ip", "link", "add", "eth0", "netns", end, "type", "veth", "peer", "name", f"w{n}", "netns", middle)
            self.run_in(end, "ip", "addr", "add", f"10.77.0.{n}/24", "dev", "eth0")
            for name, link in ((end, "eth0"), (middle, f"w{n}")):
                self.run_in(name, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
                self.run_in(name, "ethtool", "-K", link, "tso", "off", "gso", "off", "gro", "off", "tx", "off")
                self.run_in(name, "ip", "link", "set", link, "up")
            if control:
                self.run_in(end, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={control}")
            # Multicast, by which devices on one network find one another.
            self.run_in(end, "ip", "route", "add", "224.0.0.0/4", "dev", "eth0")
        binary = Path(os.environ.get("LOCKER_WIRE") or Path(sys.argv[0]).resolve().parents[2] / "target/release/locker-lab-wire")
        command = ["ip", "netns", "exec", middle, binary, "w1", "w2", delay_ms / 2, mbit, loss]
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE)
        if self.process.stdout.readline().strip() != b"ready":
            raise SystemExit("there is no wire: build it with `cargo build --release -p locker-tests --bin locker-lab-wire`")

    def run_in(self, name, *words):
        tool("ip", "netns", "exec", name, *words)

    def at(self, n):
        """Words before a command that runs at end 1 or 2."""
        return ["ip", "netns", "exec", self.names[0 if n == 1 else 2]]

    def remove(self):
        self.process.terminate()
        self.process.wait()
        for name in self.names:
            tool("ip", "netns", "delete", name)


class Far(Locker):
    """A locker at one end of a wire."""

    def __init__(self, binary, work, wire, n, init=True):
        self.at = wire.at(n)
        super().__init__(binary, work, init)

    def run(self, *arguments):
        return Run(*self.at, self.binary, "--home", self.home, "--json", *arguments, want_json=True)

    def start(self, *arguments):
        return Process(*self.at, self.binary, "--home", self.home, "--json", *arguments)


def plain_tcp(wire, size):
    """Seconds that so many bytes take over one TCP connection."""
    to = subprocess.Popen([*wire.at(2), sys.executable, "-c", TCP, "to", "10.77.0.2", str(size)], stdout=subprocess.PIPE, text=True)
    to.stdout.readline()
    start = time.monotonic()
    with subprocess.Popen([*wire.at(1), sys.executable, "-c", TCP, "from", "10.77.0.2", str(size)]):
        to.stdout.readline()
        return time.monotonic() - start


class FarPair:
    """Two lockers of one person, one at each end, that run and have met."""

    def __init__(self, binary, work, wire):
        self.a, self.b = Far(binary, work, wire, 1), Far(binary, work, wire, 2, init=False)
        self.up_a = self.a.start("up", "--listen", "10.77.0.1:0")
        self.up_a.event("ready")
        pairing = self.a.start("pair", "--assume-yes")
        words = work / "far-words.txt"
        words.write_text(pairing.event("ticket")["words"])
        self.b.run("join", "--ticket-file", words, "--name", "b", "--assume-yes")
        pairing.child.wait()
        self.up_b = self.b.start("up", "--listen", "10.77.0.2:0")
        self.up_b.event("ready")
        self.b.run("wait", "--synced", "--timeout", str(WAIT_S))

    def remove(self):
        for up in (self.up_a, self.up_b):
            up.stop()
        self.a.remove()
        self.b.remove()


def ours(binary, work, wire, source):
    pair = FarPair(binary, work, wire)
    a, b = pair.a, pair.b
    name = f"{source.name}/movie.bin"
    # The commit of the import is where the transfer begins.
    a.run("add", source)
    start = time.monotonic()
    def is_there():
        return any(one["path"] == name and one["local"] == "all" for one in b.run("ls", "-R").json["entries"])
    wait_for("the file on B", is_there, pause=0.05)
    b.run("wait", "--synced", "--timeout", str(WAIT_S))
    seconds = time.monotonic() - start
    path = next(one.get("path") for one in a.run("status").json["devices"] if not one["this"])
    if b.run("verify").json["bad"] or path != "direct":
        failures.append(f"{source.name}: the second device holds something else, or was reached by {path}")
    pair.remove()
    return seconds


class FarPeer(Peer):
    """Syncthing at one end of a wire."""

    def at_wire(self, wire, peers):
        self.wire = wire
        self.configure(peers)
        path = self.home / "config.xml"
        text = path.read_text()
        text = re.sub(r"<address>tcp://127\.0\.0\.1:2200(\d)</address>",
                      r"<address>tcp://10.77.0.\1:2200\1</address><numConnections>8</numConnections>", text)
        text = re.sub(r"<listenAddress>[^<]*</listenAddress>", f"<listenAddress>tcp://10.77.0.{self.n}:{22000 + self.n}</listenAddress>", text)
        path.write_text(text)

    def start(self):
        command = [*self.wire.at(self.n), "syncthing", "serve", "--home", str(self.home), "--no-browser", "--no-restart"]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.child.pid
        wait_for("Syncthing", lambda: self.api("/rest/system/ping") is not None, 60)

    def api(self, path, method="GET"):
        code = ("import sys, urllib.request as u; r = u.Request(sys.argv[1], method=sys.argv[2], headers={'X-API-Key': sys.argv[3]}); "
                "sys.stdout.buffer.write(u.urlopen(r, timeout=5).read() or b'{}')")
        asked = subprocess.run([*self.wire.at(self.n), sys.executable, "-c", code, f"http://127.0.0.1:{8384 + self.n}{path}", method,
                                self.key], capture_output=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else None


def theirs(work, wire, source):
    a, b = both = [FarPeer(work, n) for n in (1, 2)]
    for peer in both:
        peer.at_wire(wire, both)
    shutil.copytree(source, a.dir, dirs_exist_ok=True)
    count = files_in(a.dir)
    a.start()
    wait_for("Syncthing's scan", lambda: a.idle_with(count))
    start = time.monotonic()
    b.start()
    wait_for("Syncthing on B", lambda: b.idle_with(count), pause=0.1)
    seconds = time.monotonic() - start
    for peer in both:
        peer.child.terminate()
        peer.child.wait()
        shutil.rmtree(peer.home)
        shutil.rmtree(peer.dir)
    return seconds


def part(name, size, delay_ms, mbit, loss, control=None, tcp_share=1):
    """`control`: the congestion control that the system gives whoever asks for none; `tcp_share`: of the data, for plain TCP."""
    def run(binary, work):
        source = work / name
        source.mkdir()
        one_file(source, size, SEED + 21)
        bytes_ = size_of(source)
        wire = Wire(delay_ms, mbit, loss, control)
        try:
            tcp = plain_tcp(wire, bytes_ // tcp_share) * tcp_share
            seconds = ours(binary, work, wire, source)
            peer = theirs(work, wire, source) if shutil.which("syncthing") else None
        finally:
            wire.remove()
        beside = f"{peer:8.2f} s   {peer / seconds:6.2f} x" if peer else "not installed"
        print(f"{name:12} {bytes_ / MIB:6.0f} MiB  locker {seconds:8.2f} s {bytes_ * 8 / seconds / 1e6:8.1f} Mbit/s   plain TCP {tcp:8.2f} s "
              f"({tcp / seconds:5.2f} of it)   Syncthing, 8 connections {beside}", flush=True)
        shutil.rmtree(source)
    return run


PARTS = {
    "far-20": part("far-20", 128 * MIB, 20, 100, 0),
    "far-100": part("far-100", 64 * MIB, 100, 0, 1),
    "far-100-reno": part("far-100-reno", 32 * MIB, 100, 0, 1, "reno", 8),
}
