"""A million files: a locker of generated names and sizes, entries without content, made by the example `scale` of the engine."""
import json
import os
import statistics
import subprocess
import sys
import time

from harness import MIB, REPS, SCALE, SEED, Locker, Run, documents, failures

FILES = int(1_000_000 * SCALE)
UP_RUNS = 5
IDLE_S = 5
READY_S = 60


class Generator:
    """The helper, built beside the program: `cargo build --release -p locker-engine --example scale`."""

    def __init__(self, binary):
        self.path = binary.parent / "examples" / "scale"
        if not self.path.is_file():
            sys.exit(f"there is no {self.path}: build it with `cargo build --release -p locker-engine --example scale`")

    def __call__(self, *words):
        done = subprocess.run([str(self.path), *map(str, words)], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)


def head():
    print("part".ljust(9), "step".ljust(44), "ms".rjust(9), "at most".rjust(8), "cpu ms".rjust(8), "memory".rjust(7), "(MiB)")


def row(part, step, ms=None, most=None, cpu=None, memory=None, memory_most=None, note=""):
    def cell(value, width):
        return ("-" if value is None else format(value, ",.0f" if value >= 100 else ".1f")).rjust(width)

    print(part.ljust(9), step.ljust(44), cell(ms, 9), cell(most, 8), cell(cpu, 8), cell(memory and memory / MIB, 7), note, flush=True)
    if most and ms > most:
        failures.append(f"{part}: {step}: {ms:.0f} ms, more than {most}")
    if memory_most and memory > memory_most * MIB:
        failures.append(f"{part}: {step}: {memory / MIB:.0f} MiB, more than {memory_most}")


def command(part, locker, step, most, *words):
    # Not read here: a child counts as its own what its parent had when it was made.
    runs = [Run(locker.binary, "--home", locker.home, "--json", *words) for _ in range(REPS)]
    middle = statistics.median(run.seconds for run in runs)
    cpu = statistics.median(run.cpu for run in runs)
    row(part, step, middle * 1e3, most, cpu * 1e3, max(run.memory for run in runs), note=f"median of {REPS}")


class Up:
    """A node that runs; how long it took until it gave its first answer."""

    def __init__(self, binary, locker):
        self.binary, self.home = binary, locker.home
        start = time.monotonic()
        self.child = subprocess.Popen([str(binary), "--home", str(locker.home), "--json", "up", "--no-lan"],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Who asks before there is a socket opens the locker itself, and the node waits for that.
        while not any((self.home / "run").iterdir()):
            if self.child.poll() is not None or time.monotonic() - start > READY_S:
                sys.exit("the node did not start")
            time.sleep(0.002)
        self.ask("ls")
        self.ready_s = time.monotonic() - start

    def ask(self, *words):
        start = time.monotonic()
        subprocess.run([str(self.binary), "--home", str(self.home), "--json", *words], stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - start

    def memory(self):
        lines = open(f"/proc/{self.child.pid}/status")
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024

    def stop(self, hard=False):
        (self.child.kill if hard else self.child.terminate)()
        self.child.wait()
        # A killed one leaves its socket.
        for file in (self.home / "run").iterdir() if hard else ():
            file.unlink()


def first_answer(part, binary, locker, most, hard=False):
    times = []
    for _ in range(UP_RUNS):
        up = Up(binary, locker)
        times.append(up.ready_s)
        up.stop(hard)
    what = "`up`, killed before: first answer" if hard else "`up`: first answer"
    row(part, what, statistics.median(times) * 1e3, most, note=f"median of {UP_RUNS}")


def million(binary, work):
    scale, locker, part = Generator(binary), Locker(binary, work), "1m"
    head()
    print(f"{FILES:,} files, a tenth of them in one folder; load {os.getloadavg()[0]:.1f}")
    made = scale("make", locker.home, FILES)
    row(part, f"{made['entries']:,} own entries written", made["seconds"] * 1e3, memory=made["peak_bytes"],
        note=f"{made['seconds'] / FILES * 1e9:,.0f} ns and {made['database_bytes'] / FILES:,.0f} bytes of database a file")
    command(part, locker, "`ls` of the root, from the start", 3_000, "ls")
    command(part, locker, "`status`, from the start", 3_000, "status")
    command(part, locker, "`status --state-hash`: every row read", None, "status", "--state-hash")
    command(part, locker, "`ls --json` of the great folder", 600, "ls", "inbox")
    calls = scale("calls", locker.home)
    row(part, "opened, inside", calls["open"]["median_ms"], 3_000, calls["open"]["cpu_ms"], calls["opened_bytes"])
    for step, call, most in [
        (f"first 1,000 of {calls['rows']:,} rows, by name", "list_first_1000", 30), ("all of them", "list_all", 300),
        ("status", "status", None), ("mkdir", "mkdir", 50), ("mkdir in the great folder", "mkdir_big", 50),
        ("mv into it", "mv", 50), ("rm from it", "rm", 50), ("add of a tiny file to it", "add", 50),
    ]:
        row(part, f"{step}, inside", calls[call]["median_ms"], most, calls[call]["cpu_ms"],
            note=f"median of 21, longest {calls[call]['most_ms']:.0f}")
    for step, kind, count, batch, most in [
        ("a late entry, each by itself", "mixed", 50, 1, 50), ("1,000 late entries in one commit", "mixed", 1_000, 1_000, 5_000),
        ("a late new name of the great folder", "rename", 5, 1, 50), ("1,000 late ones more, it has a newer name", "mixed", 1_000, 1_000, 5_000),
    ]:
        if "newer" in step:
            locker.run("mv", "inbox of 4", "inbox")
        late = scale("late", locker.home, FILES, kind, count, batch)
        row(part, step, late["commit"]["median_ms"], most, late["commit"]["cpu_ms"], late["peak_bytes"],
            note=f"of {late['commits']} commits, longest {late['commit']['most_ms']:.0f}")
    first_answer(part, binary, locker, 3_000)
    first_answer(part, binary, locker, 3_000, hard=True)
    up = Up(binary, locker)
    time.sleep(IDLE_S)
    row(part, "`up`, idle after the start", memory=up.memory(), memory_most=150)
    times = [up.ask("ls", "inbox") for _ in range(REPS)]
    row(part, "`ls --json` of the great folder, by the node", statistics.median(times) * 1e3, 600)
    time.sleep(IDLE_S)
    row(part, "`up`, idle after that", memory=up.memory(), memory_most=150)
    up.stop()
    locker.remove()


def others(binary, work):
    """Entries of another device, checked and taken in."""
    scale, locker, count = Generator(binary), Locker(binary, work), FILES // 10
    made = scale("make", locker.home, count, "other")
    row("1m", f"{count:,} files of another device taken in", made["seconds"] * 1e3, memory=made["peak_bytes"],
        note=f"{made['seconds'] / count * 1e9:,.0f} ns a file")
    locker.remove()


def held(binary, work):
    """20,000 real files held: how soon does a node answer?"""
    source, locker = work / "scale-w3", Locker(binary, work)
    documents(source, 20_000, SEED + 5)
    locker.run("add", source)
    first_answer("w3", binary, locker, 300)
    first_answer("w3", binary, locker, 300, hard=True)
    locker.remove()


def scale(binary, work):
    million(binary, work)
    others(binary, work)
    held(binary, work)


PARTS = {"scale": scale}
