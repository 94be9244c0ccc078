"""Two devices of one person on loopback: replication, an edit on the wire, the time to the other device, idling. The same
with Syncthing, where it is installed: one shared folder, discovery, relays and NAT off, everything else as it comes."""
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from harness import (MEMORY_MAX, MIB, SEED, Locker, documents, failures, insert_at_middle, many_files, one_file, size_of)

IDLE_S = float(os.environ.get("IDLE_S", "60"))
# After its start a node looks at every row once, within five minutes at what nothing needs any more, as it does once a day, and
# gives back what that took when it has rested for a minute.
SETTLE_S = float(os.environ.get("SETTLE_S", "330"))
LATENCY_RUNS = int(os.environ.get("LATENCY_RUNS", "20"))
WAIT_S = 900
TICK = os.sysconf("SC_CLK_TCK")
IDLE_MEMORY_MAX = {"w3": 60_000_000, "100k": 80_000_000}


# ---------------------------------------------------------------- what a process and the wire cost

def family(pid):
    """A process and those that it started: a peer may run under a monitor of its own."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            pids += family(int(child))
    return pids


def cpu_of(*pids):
    total = 0
    for pid in (one for pid in pids for one in family(pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_of(pid, what="VmHWM"):
    def of(pid):
        return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith(what)).split()[1]) * 1024
    return sum(of(one) for one in family(pid))


def wire():
    """Bytes that went over loopback, frames and all. In a network of its own nothing else goes there."""
    line = next(line for line in open("/proc/net/dev") if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def wait_for(what, found, seconds=WAIT_S, pause=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(pause)
    raise SystemExit(f"waited {seconds:.0f} s in vain for {what}")


def own_network():
    """Whether this run has a network of its own, so that what is counted on loopback is ours."""
    return sum(":" in line for line in open("/proc/net/dev")) == 1


class Cost:
    """Wall time, processor time of both ends, bytes on the wire."""

    def __init__(self, *pids):
        self.pids, self.cpu, self.wire, self.start = pids, cpu_of(*pids), wire(), time.monotonic()

    def end(self, *pids):
        self.seconds = time.monotonic() - self.start
        self.cpu = cpu_of(*self.pids, *pids) - self.cpu
        self.wire = wire() - self.wire
        return self


def row(program, workload, step, seconds=None, cpu=None, wire_=None, bytes_=None, memory=None, note=""):
    def cell(value, form, width):
        return ("-" if value is None else format(value, form)).rjust(width)

    rate = bytes_ / MIB / seconds if bytes_ and seconds else None
    more = wire_ / bytes_ if wire_ is not None and bytes_ else None
    peaks = "-" if not memory else "/".join(f"{m / MIB:.0f}" for m in memory)
    print(program.ljust(10), workload.ljust(8), step.ljust(24), cell(seconds, ".3f", 9), cell(rate, ".0f", 7), cell(cpu, ".2f", 7),
          cell(None if wire_ is None else wire_ / MIB, ".3f", 10), cell(more, ".3f", 6), peaks.rjust(9), note and f" {note}",
          flush=True)
    if program == "locker" and memory and max(memory) > MEMORY_MAX:
        failures.append(f"{workload} {step}: {max(memory) / MIB:.0f} MiB of memory, more than {MEMORY_MAX // MIB}")


def head():
    print("program".ljust(10), "workload".ljust(8), "step".ljust(24), "seconds".rjust(9), "MiB/s".rjust(7), "cpu s".rjust(7),
          "wire MiB".rjust(10), "x data".rjust(6), "memory".rjust(9), " (cpu of both ends; peak memory in MiB, A/B)")


# ---------------------------------------------------------------- our side

class Process:
    """A program that runs until it is stopped; its lines of JSON are events."""

    def __init__(self, *command):
        self.out = tempfile.NamedTemporaryFile()
        self.child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.DEVNULL)
        self.pid = self.child.pid

    def event(self, name):
        def found():
            if self.child.poll() not in (None, 0):
                raise SystemExit(f"a process ended early while {name!r} was awaited")
            lines = Path(self.out.name).read_text().splitlines(keepends=True)
            events = (json.loads(line) for line in lines if line.endswith("\n"))
            return next((event for event in events if event.get("event") == name), None)
        return wait_for(f"the event {name!r}", found, 60)

    def stop(self):
        self.child.terminate()
        self.child.wait()


class Pair:
    """Two lockers of one person that have met; A runs, B is started when it is wanted."""

    def __init__(self, binary, work):
        self.meeting = Process(binary.with_name("locker-bootstrap"), "--listen", "127.0.0.1:0", "--json")
        self.at = self.meeting.event("ready")["listen"][0]
        self.a, self.b = Locker(binary, work), Locker(binary, work, init=False)
        self.up_a = self.up(self.a)
        pairing = Process(binary, "--home", self.a.home, "--json", "pair", "--assume-yes")
        words = work / "words.txt"
        words.write_text(pairing.event("ticket")["words"])
        self.b.run("join", "--ticket-file", words, "--name", "b", "--bootstrap", self.at, "--no-lan", "--assume-yes")
        pairing.child.wait()
        self.up_b = self.up(self.b)
        self.synced()
        self.up_b.stop()
        self.up_b = None

    def up(self, locker):
        process = Process(locker.binary, "--home", locker.home, "--json", "up", "--listen", "127.0.0.1:0", "--no-lan",
                          "--bootstrap", self.at)
        process.event("ready")
        return process

    def synced(self):
        self.b.run("wait", "--synced", "--timeout", str(WAIT_S))

    def pids(self):
        return [self.up_a.pid, self.up_b.pid]

    def memory(self):
        return [memory_of(pid) for pid in self.pids()]

    def hashes(self, locker):
        return {entry["path"]: entry["b3"] for entry in locker.run("ls", "-R").json["entries"]}

    def remove(self):
        for process in (self.up_b, self.up_a, self.meeting):
            if process:
                process.stop()
        self.a.remove()
        self.b.remove()


def replicate(pair, name, source):
    """From the start of B until everything is durable there."""
    pair.a.run("add", source)
    cost = Cost(pair.up_a.pid)
    pair.up_b = pair.up(pair.b)
    pair.synced()
    cost.end(pair.up_b.pid)
    row("locker", name, "replicate, from B's start", cost.seconds, cost.cpu, cost.wire, size_of(source), pair.memory())
    if pair.hashes(pair.a) != pair.hashes(pair.b) or pair.b.run("verify").json["bad"]:
        failures.append(f"{name}: the second device holds something else")


def edit(pair, source):
    """1 KiB put in at the middle of 1 GiB: what goes over the wire, and when B has it."""
    pair.a.run("add", source)
    pair.up_b = pair.up(pair.b)
    pair.synced()
    for n in range(3):
        insert_at_middle(source / "movie.bin", 1024)
        cost = Cost(*pair.pids())
        pair.a.run("add", source)
        added = time.monotonic() - cost.start
        wanted = pair.hashes(pair.a)
        wait_for("the edit on B", lambda: pair.hashes(pair.b) == wanted)
        pair.synced()
        cost.end()
        row("locker", "w4", "1 KiB inserted", cost.seconds, cost.cpu, cost.wire, memory=pair.memory(),
            note=f"of it `add` on A: {added:.2f} s")


def latency(pair, work):
    """From the start of `add` on A until `ls` on B shows it; both are commands of their own."""
    pair.up_b = pair.up(pair.b)
    pair.synced()
    times, note = [], work / "notes"
    note.mkdir()
    for n in range(LATENCY_RUNS):
        file = note / f"note-{n}.txt"
        file.write_bytes(os.urandom(1024))
        cost = Cost()
        pair.a.run("add", file, "--to", "notes")
        wait_for(file.name, lambda: f"notes/{file.name}" in pair.hashes(pair.b), 60, 0.001)
        times.append(time.monotonic() - cost.start)
    times.sort()
    row("locker", "w6", "`add` on A to `ls` on B", statistics.median(times),
        note=f"median of {len(times)}; 95 of 100 within {times[int(len(times) * 0.95) - 1]:.3f} s")


def idle(pair, source):
    """Two nodes that hold W3 and have nothing to do."""
    pair.a.run("add", source)
    pair.up_b = pair.up(pair.b)
    pair.synced()
    for process in (pair.up_a, pair.up_b):
        process.stop()
    pair.up_a, pair.up_b = pair.up(pair.a), pair.up(pair.b)
    pair.synced()
    time.sleep(SETTLE_S)
    cost = Cost(*pair.pids())
    time.sleep(IDLE_S)
    cost.end()
    now = [memory_of(pid, "VmRSS") for pid in pair.pids()]
    row("locker", source.name, f"idle for {IDLE_S:.0f} s", cost.seconds, cost.cpu, cost.wire, memory=now,
        note=f"{100 * cost.cpu / cost.seconds / 2:.3f} % of a core and {cost.wire / cost.seconds:.0f} B/s for both; memory now, not peak")
    most = IDLE_MEMORY_MAX[source.name]
    if max(now) > most or cost.cpu / cost.seconds / 2 > 0.0005:
        failures.append(f"{source.name} idle: {now} bytes of {most}, {100 * cost.cpu / cost.seconds / 2:.3f} % of a core")


# ---------------------------------------------------------------- Syncthing

class Peer:
    """One Syncthing with one folder."""

    def __init__(self, work, n):
        self.home, self.dir, self.n = work / f"st-home-{n}", work / f"st-{n}", n
        self.dir.mkdir()
        subprocess.run(["syncthing", "generate", "--no-default-folder", "--home", self.home], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        text = (self.home / "config.xml").read_text()
        self.id = re.search(r'<device id="([^"]+)"', text).group(1)
        self.key = re.search(r"<apikey>([^<]+)", text).group(1)

    def configure(self, peers):
        path = self.home / "config.xml"
        text = path.read_text()
        text = re.sub(r"<folder .*?</folder>\s*", "", text, flags=re.S)
        text = re.sub(r"<device .*?</device>\s*", "", text, flags=re.S)
        devices = "".join(f'<device id="{p.id}" name="n{p.n}"><address>tcp://127.0.0.1:{22000 + p.n}</address></device>' for p in peers)
        folder = (f'<folder id="f" label="f" path="{self.dir}" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" '
                  f'fsWatcherDelayS="1">' + "".join(f'<device id="{p.id}"></device>' for p in peers) + "</folder>")
        text = re.sub(r"(<configuration[^>]*>)", lambda m: m.group(1) + folder + devices, text, count=1)
        for key, value in dict(globalAnnounceEnabled="false", localAnnounceEnabled="false", relaysEnabled="false", natEnabled="false",
                               startBrowser="false", urAccepted="-1", autoUpgradeIntervalH="0", crashReportingEnabled="false",
                               reconnectionIntervalS="1").items():
            text = re.sub(f"<{key}>[^<]*</{key}>", f"<{key}>{value}</{key}>", text)
        text = re.sub(r"<listenAddress>[^<]*</listenAddress>", f"<listenAddress>tcp://127.0.0.1:{22000 + self.n}</listenAddress>", text)
        text = re.sub(r"<address>127\.0\.0\.1:\d+</address>", f"<address>127.0.0.1:{8384 + self.n}</address>", text)
        path.write_text(text)

    def start(self):
        command = ["syncthing", "serve", "--home", str(self.home), "--no-browser", "--no-restart"]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.child.pid
        wait_for("Syncthing", lambda: self.api("/rest/system/ping") is not None, 60)

    def api(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{8384 + self.n}{path}", method=method, headers={"X-API-Key": self.key})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.loads(answer.read() or b"{}")
        except (OSError, ValueError):
            return None

    def idle_with(self, files):
        state = self.api("/rest/db/status?folder=f")
        return state and state.get("state") == "idle" and state.get("localFiles") == files and not state.get("needFiles")


def peers(work):
    both = [Peer(work, n) for n in (1, 2)]
    for peer in both:
        peer.configure(both)
    return both


def end(both):
    for peer in both:
        if peer.child.poll() is None:
            peer.child.terminate()
            peer.child.wait()
        shutil.rmtree(peer.home)
        shutil.rmtree(peer.dir)


def size_now(file):
    """Size of a file; 0 while it is being replaced."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def files_in(folder):
    return sum(1 for file in folder.rglob("*") if file.is_file() and ".stfolder" not in file.parts)


def syncthing(name, source, work, step):
    a, b = both = peers(work)
    shutil.copytree(source, a.dir, dirs_exist_ok=True)
    count = files_in(a.dir)
    a.start()
    wait_for("Syncthing's scan", lambda: a.idle_with(count))
    cost = Cost(a.pid)
    b.start()
    wait_for("Syncthing on B", lambda: b.idle_with(count), pause=0.1)
    cost.end(b.pid)
    memory = [memory_of(peer.pid) for peer in both]
    if step == "replicate":
        row("syncthing", name, "replicate, from B's start", cost.seconds, cost.cpu, cost.wire, size_of(source), memory)
    if step == "edit":
        insert_at_middle(a.dir / "movie.bin", 1024)
        size = (a.dir / "movie.bin").stat().st_size
        cost = Cost(a.pid, b.pid)
        a.api("/rest/db/scan?folder=f", "POST")
        wait_for("the edit on B", lambda: size_now(b.dir / "movie.bin") == size and b.idle_with(count), pause=0.1)
        cost.end()
        row("syncthing", name, "1 KiB inserted", cost.seconds, cost.cpu, cost.wire, memory=[memory_of(p.pid) for p in both],
            note="asked to scan at once")
    if step == "latency":
        times = []
        for n in range(LATENCY_RUNS):
            start = time.monotonic()
            (a.dir / f"note-{n}.txt").write_bytes(os.urandom(1024))
            a.api(f"/rest/db/scan?folder=f&sub=note-{n}.txt", "POST")
            wait_for("a note on B", (b.dir / f"note-{n}.txt").exists, 60, 0.001)
            times.append(time.monotonic() - start)
        times.sort()
        row("syncthing", name, "new file, scan asked for", statistics.median(times),
            note=f"median of {len(times)}; 95 of 100 within {times[int(len(times) * 0.95) - 1]:.3f} s")
    if step == "idle":
        time.sleep(15)
        cost = Cost(a.pid, b.pid)
        time.sleep(IDLE_S)
        cost.end()
        row("syncthing", name, f"idle for {IDLE_S:.0f} s", cost.seconds, cost.cpu, cost.wire,
            memory=[memory_of(p.pid, "VmRSS") for p in both],
            note=f"{100 * cost.cpu / cost.seconds / 2:.3f} % of a core each; memory now, not peak")
    end(both)


def part(name, make, step, ours):
    def run(binary, work):
        source = work / name
        source.mkdir()
        make(source)
        pair = Pair(binary, work)
        try:
            ours(pair, source)
        finally:
            pair.remove()
        if shutil.which("syncthing"):
            syncthing(name, source, work, step)
        shutil.rmtree(source)
    return run


def tiny(folder):
    """100,000 files that are stored in packs all the same."""
    dice = random.Random(SEED + 9)
    for n in range(100_000):
        place = folder / f"{n // 1000:02d}"
        place.mkdir(exist_ok=True)
        (place / f"{n:05d}.bin").write_bytes(dice.randbytes(dice.randint(600, 1400)))


W1 = ("w1", lambda f: one_file(f, 2048 * MIB, SEED + 1))
W2 = ("w2", lambda f: many_files(f, 200, 10 * MIB, SEED + 1000))
W3 = ("w3", lambda f: documents(f, 20_000, SEED + 5))
PARTS = {
    "pair-w1": part(*W1, "replicate", lambda pair, source: replicate(pair, "w1", source)),
    "pair-w2": part(*W2, "replicate", lambda pair, source: replicate(pair, "w2", source)),
    "pair-w3": part(*W3, "replicate", lambda pair, source: replicate(pair, "w3", source)),
    "pair-w4": part("w4", lambda f: one_file(f, 1024 * MIB, SEED + 8), "edit", edit),
    "pair-w6": part("w6", lambda f: documents(f, 300, SEED + 6), "latency", lambda pair, source: latency(pair, source)),
    "pair-idle": part(*W3, "idle", idle),
    "pair-idle-100k": part("100k", tiny, "idle", idle),
}
