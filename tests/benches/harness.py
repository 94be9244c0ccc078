"""What all parts of the benchmarks share: seeded data, running the program, the table."""
import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCALE = float(os.environ.get("SCALE", "1"))
REPS = int(os.environ.get("REPS", "3"))
PAIRS = int(os.environ.get("PAIRS", "5"))
MIB = 1 << 20
SEED = 0x10C4E2
MEMORY_MAX = 200 * MIB
GROWTH_MAX = 1.2  # times linear

failures = []


# ---------------------------------------------------------------- data: seeded, does not compress

def fill(path, size, seed):
    dice = random.Random(seed)
    with open(path, "wb") as out:
        while size > 0:
            out.write(dice.randbytes(min(size, MIB)))
            size -= MIB


def one_file(folder, size, seed):
    fill(folder / "movie.bin", max(4096, int(size * SCALE)), seed)


def many_files(folder, count, size, seed):
    for n in range(max(1, int(count * SCALE))):
        fill(folder / f"track-{n:04d}.bin", size, seed + n)


def documents(folder, count, seed):
    dice = random.Random(seed)
    for n in range(max(1, int(count * SCALE))):
        place = folder / f"area-{n % 20:02d}" / f"case-{n // 20 % 20:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"doc-{n:05d}.bin").write_bytes(dice.randbytes(dice.randint(1024, 65536)))


def insert_at_middle(path, count):
    """Writes a new file and renames it over the old one, as editors do."""
    edited = path.with_name("." + path.name + ".edit~")
    with open(path, "rb") as old, open(edited, "wb") as new:
        left = path.stat().st_size // 2
        while left:
            part = old.read(min(left, 4 * MIB))
            new.write(part)
            left -= len(part)
        new.write(random.Random(SEED + 99).randbytes(count))
        shutil.copyfileobj(old, new, 4 * MIB)
    os.replace(edited, path)


# ---------------------------------------------------------------- running

def program(named):
    named = named or os.environ.get("LOCKER_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = Path(named) if named else target / "release" / "locker"
    if not path.is_file():
        sys.exit(f"there is no {path}: build it with `cargo build --release -p locker`, or name one with LOCKER_BIN")
    return path


class Run:
    """One command: seconds, processor seconds, peak memory in bytes, its JSON."""

    def __init__(self, *command, want_json=False, environment=None, folder=None):
        out = tempfile.TemporaryFile() if want_json else subprocess.DEVNULL
        with tempfile.TemporaryFile() as err:
            # What an earlier step left to be written must not be paid for by this one.
            os.sync()
            start = time.monotonic()
            child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     env=environment, cwd=folder)
            _, status, usage = os.wait4(child.pid, 0)
            self.seconds = time.monotonic() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            self.memory = usage.ru_maxrss * 1024
            self.cpu = usage.ru_utime + usage.ru_stime
            if child.returncode:
                err.seek(0)
                sys.exit(f"{' '.join(map(str, command))}: exit {child.returncode}\n{err.read().decode(errors='replace')}")
        if want_json:
            out.seek(0)
            self.json = json.load(out)


class Locker:
    """A new locker in a folder of its own."""

    def __init__(self, binary, work, init=True):
        self.binary, self.home = binary, Path(tempfile.mkdtemp(dir=work, prefix="home-"))
        if init:
            self.run("init")

    def run(self, *arguments):
        return Run(self.binary, "--home", self.home, "--json", *arguments, want_json=True)

    def stored(self):
        return sum(file.stat().st_size for file in (self.home / "packs").rglob("*") if file.is_file())

    def remove(self):
        shutil.rmtree(self.home)


@contextlib.contextmanager
def scratch(work):
    folder = Path(tempfile.mkdtemp(dir=work, prefix="out-"))
    yield folder
    shutil.rmtree(folder)


def copy(source, work):
    """The floor: `cp -r` and everything on the disk."""
    with scratch(work) as folder:
        os.sync()
        start = time.monotonic()
        subprocess.run(["cp", "-r", str(source), str(folder / "copy")], check=True)
        subprocess.run(["sync", "-f", str(folder)], check=True)
        return time.monotonic() - start


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---------------------------------------------------------------- the table

def row(workload, step, seconds=None, bytes_=None, floor=None, memory=None, stored=None, note=""):
    def cell(value, form, width):
        return ("-" if value is None else format(value, form)).rjust(width)

    rate = bytes_ / MIB / seconds if bytes_ and seconds else None
    ratio = seconds / floor if floor and seconds else None
    print(workload.ljust(8), step.ljust(15), cell(seconds, ".2f", 9), cell(rate, ".0f", 7), cell(ratio, ".2f", 6),
          cell(memory and memory / MIB, ".0f", 6), cell(stored and stored / MIB, ".1f", 9), note and f" {note}", flush=True)
    if memory and memory > MEMORY_MAX:
        failures.append(f"{workload} {step}: {memory / MIB:.0f} MiB of memory, more than {MEMORY_MAX // MIB}")


def head():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) // 1024
    print(f"machine: {cpu}, {os.cpu_count()} cores, {memory} MiB, {platform.system()} {platform.release()}, "
          f"load {os.getloadavg()[0]:.1f}, SCALE={SCALE:g}")
    print("workload".ljust(8), "step".ljust(15), "seconds".rjust(9), "MiB/s".rjust(7), "x cp".rjust(6), "memory".rjust(6),
          "on disk".rjust(9), " (memory and disk in MiB)")
