"""One device beside restic, the best of the programs that keep sealed chunks: the same data, in turn, in one run."""
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import MIB, PAIRS, SEED, Locker, Run, documents, failures, insert_at_middle, many_files, one_file, size_of


class Restic:
    """A new repository in a folder of its own; no compression, for the data cannot be compressed."""

    def __init__(self, work):
        self.home = Path(tempfile.mkdtemp(dir=work, prefix="restic-"))
        self.environment = dict(os.environ, RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=str(self.home / "cache"))
        self.run("init")

    def run(self, *arguments, folder=None):
        command = ["restic", "--compression", "off", "--quiet", "--repo", self.home / "repository", *arguments]
        return Run(*command, environment=self.environment, folder=folder)

    def stored(self):
        return size_of(self.home / "repository")

    def remove(self):
        shutil.rmtree(self.home)


def in_turn(turn, ours, theirs):
    """Runs both, every other time in the other order: what one leaves to the file system is not always paid by the same."""
    if turn % 2 == 0:
        first = ours()
        return first, theirs()
    first = theirs()
    return ours(), first


class Pairs:
    """What both took for each step, pair by pair."""

    def __init__(self, workload):
        self.workload, self.steps = workload, {}

    def note(self, step, ours, theirs):
        self.steps.setdefault(step, []).append((ours, theirs))

    def ratio(self, step, figure):
        return statistics.median(getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in self.steps[step])

    def rows(self, limits):
        """Prints the medians; `limits` are the greatest ratios of wall and processor time that we allow ourselves."""
        for step, runs in self.steps.items():
            def middle(side, figure):
                return statistics.median(getattr(run[side], figure) for run in runs)
            wall, cpu = self.ratio(step, "seconds"), self.ratio(step, "cpu")
            print(f"{self.workload:8} {step:18} {middle(0, 'seconds'):8.2f} {middle(1, 'seconds'):8.2f} {wall:7.2f} "
                  f"{middle(0, 'cpu'):8.2f} {middle(1, 'cpu'):8.2f} {cpu:7.2f} {max(r[0].memory for r in runs) / MIB:7.0f} "
                  f"{max(r[1].memory for r in runs) / MIB:7.0f}", flush=True)
            for name, ratio, limit in zip(("time", "processor time"), (wall, cpu), limits.get(step, ())):
                if limit and ratio > limit:
                    failures.append(f"{self.workload} {step}: {ratio:.2f} x the {name} of restic, more than {limit}")


def head():
    print("workload step                  ours   restic   ratio  ours cpu  restic   ratio  memory  restic  (median of "
          f"{PAIRS} pairs; seconds; peak memory in MiB)")


def stored_row(workload, ours, bytes_, limit):
    print(f"{workload:8} on disk            {ours / bytes_:8.4f} x content ({ours / MIB:.1f} of {bytes_ / MIB:.1f} MiB), database included",
          flush=True)
    if ours / bytes_ > limit:
        failures.append(f"{workload}: {ours / bytes_:.4f} x content on disk, more than {limit}")


def workload(name, make, limits, stored_limit, many=False):
    """`many`: so many files that a file system which has just seen them go looks long for room for new ones. So what a
    pair made stays until the last pair is done."""
    def part(binary, work):
        source, removals = work / name, []
        source.mkdir()
        make(source)
        pairs, bytes_ = Pairs(name), size_of(source)
        for turn in range(PAIRS):
            locker, restic = Locker(binary, work), Restic(work)
            for step in ("ingest", "again, unchanged"):
                pairs.note(step, *in_turn(turn, lambda: locker.run("add", source),
                                          lambda: restic.run("backup", ".", folder=source)))
            stored = size_of(locker.home) - (locker.home / "reserve").stat().st_size
            ours, theirs = (Path(tempfile.mkdtemp(dir=work, prefix="out-")) for _ in range(2))
            pairs.note("restore", *in_turn(turn, lambda: locker.run("get", name, "--to", ours / name),
                                           lambda: restic.run("restore", "latest", "--target", theirs / name)))
            for copy in (ours, theirs) if turn == 0 else ():
                if subprocess.run(["diff", "-r", "-q", str(source), str(copy / name)]).returncode:
                    failures.append(f"{name}: what came out differs")
            removals += [locker.home, restic.home, ours, theirs]
            while removals and not many:
                shutil.rmtree(removals.pop())
        pairs.rows(limits)
        stored_row(name, stored, bytes_, stored_limit)
        for folder in [*removals, source]:
            shutil.rmtree(folder)
    return part


def edit(binary, work):
    source = work / "w4"
    source.mkdir()
    one_file(source, 1024 * MIB, SEED + 8)
    locker, restic, pairs = Locker(binary, work), Restic(work), Pairs("w4")
    locker.run("add", source)
    restic.run("backup", ".", folder=source)
    grown = []
    for turn in range(PAIRS):
        insert_at_middle(source / "movie.bin", 1024)
        before = size_of(locker.home)
        pairs.note("1 KiB inserted", *in_turn(turn, lambda: locker.run("add", source),
                                              lambda: restic.run("backup", ".", folder=source)))
        grown.append(size_of(locker.home) - before)
    pairs.rows({"1 KiB inserted": (1.2,)})
    print(f"w4       new on disk        {statistics.median(grown) / MIB:8.2f} MiB, at most {max(grown) / MIB:.2f}", flush=True)
    if max(grown) > 4 * MIB:
        failures.append(f"w4: {max(grown) / MIB:.2f} MiB more on disk, more than 4")
    locker.remove()
    restic.remove()
    shutil.rmtree(source)


LARGE = {"ingest": (0.8, 0.4), "restore": (0.7,)}
PARTS = {
    "restic-w1": workload("w1", lambda f: one_file(f, 2048 * MIB, SEED + 1), LARGE, 1.02),
    "restic-w2": workload("w2", lambda f: many_files(f, 200, 10 * MIB, SEED + 1000), LARGE, 1.035),
    "restic-w3": workload("w3", lambda f: documents(f, 20_000, SEED + 5), {"ingest": (0.4,), "restore": (0.7,)}, 1.02,
                          many=True),
    "restic-w4": edit,
}
