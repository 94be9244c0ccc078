"""One device: taking in, giving back, checking, growing."""
import shutil
import statistics
import subprocess

from harness import (GROWTH_MAX, MIB, REPS, SEED, Locker, copy, documents, failures, insert_at_middle, many_files,
                     one_file, row, scratch, size_of)


def workload(name, make, binary, work):
    source = work / name
    source.mkdir()
    make(source)
    bytes_ = size_of(source)
    floor = copy(source, work)
    row(name, "cp -r, sync", floor, bytes_, floor)
    locker = Locker(binary, work)
    for step, arguments in [("ingest", ["add", source]), ("second ingest", ["add", source])]:
        run = locker.run(*arguments)
        row(name, step, run.seconds, bytes_, floor, run.memory, locker.stored())
        if step == "second ingest" and run.json["new_bytes"]:
            failures.append(f"{name}: the second ingest stored {run.json['new_bytes']} bytes")
    with scratch(work) as folder:
        run = locker.run("get", name, "--to", folder / name)
        row(name, "restore", run.seconds, bytes_, floor, run.memory)
        if subprocess.run(["diff", "-r", "-q", str(source), str(folder / name)]).returncode:
            failures.append(f"{name}: what came out differs")
    for step in ("verify", "ls", "status"):
        run = locker.run(step, *(["-R"] if step == "ls" else []))
        row(name, step, run.seconds, bytes_ if step == "verify" else None, floor if step == "verify" else None, run.memory)
    locker.remove()
    shutil.rmtree(source)


def edit(binary, work):
    source = work / "w4"
    source.mkdir()
    one_file(source, 1024 * MIB, SEED + 8)
    bytes_ = size_of(source)
    floor = copy(source, work)
    locker = Locker(binary, work)
    run = locker.run("add", source)
    before = locker.stored()
    row("w4", "ingest", run.seconds, bytes_, floor, run.memory, before)
    insert_at_middle(source / "movie.bin", 1024)
    run = locker.run("add", source)
    added = locker.stored() - before
    row("w4", "1 KiB inserted", run.seconds, bytes_, floor, run.memory, added, f"{added / MIB:.2f} MiB more on disk")
    locker.remove()
    shutil.rmtree(source)


def growth(binary, work):
    times = {}
    for count in (5_000, 10_000, 20_000):
        source = work / f"growth-{count}"
        source.mkdir()
        documents(source, count, SEED + count)
        bytes_ = size_of(source)
        floor = copy(source, work)
        taken = {}
        for _ in range(REPS):
            locker = Locker(binary, work)
            for step, arguments in [("ingest", ["add", source]), ("second ingest", ["add", source]), ("ls", ["ls", "-R"]),
                                    ("verify", ["verify"])]:
                taken.setdefault(step, []).append(locker.run(*arguments))
            locker.remove()
        for step, runs in taken.items():
            times[step, count] = statistics.median(run.seconds for run in runs)
            row(f"{count}", step, times[step, count], bytes_ if step != "ls" else None,
                floor if step != "ls" else None, max(run.memory for run in runs), note=f"median of {REPS}")
        shutil.rmtree(source)
    for step in ("ingest", "second ingest", "ls", "verify"):
        for small, factor in ((5_000, 4), (10_000, 2)):
            ratio = times[step, 20_000] / times[step, small]
            limit = factor * GROWTH_MAX
            print(f"growth   {step}: 20,000 take {ratio:.2f} x the time of {small:,} (at most {limit:.1f})")
            # Below a tenth of a second the start of the program is what one measures.
            if ratio > limit and times[step, small] > 0.1:
                failures.append(f"growth of {step}: {ratio:.2f} x, more than {limit:.1f} x of {small:,} files")


PARTS = {
    "w1": lambda b, w: workload("w1", lambda f: one_file(f, 2048 * MIB, SEED + 1), b, w),
    "w2": lambda b, w: workload("w2", lambda f: many_files(f, 200, 10 * MIB, SEED + 1000), b, w),
    "w3": lambda b, w: workload("w3", lambda f: documents(f, 20_000, SEED + 5), b, w),
    "w4": edit,
    "growth": growth,
}
