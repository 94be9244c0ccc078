"""What one device commits, seen on another one that idles: how soon, and what goes over the wire. Both are asked over their own
sockets, so that no start of a program is in the figures."""
import json
import os
import random
import socket
import statistics
import struct
import time

from harness import SEED, documents, failures
from two_devices import Cost, Pair, memory_of, own_network, row, wait_for, wire

CHANGES = int(os.environ.get("CHANGES", "60"))
RENAMED = 10_000
# What is allowed: seconds from the acknowledgement here to the sight there, and for a rename in all; bytes on the wire.
P50_MAX, P95_MAX = 0.060, 0.150
RENAME_S_MAX, RENAME_WIRE_MAX = 0.5, 64 << 10


def talk(locker, request):
    """One verb over the socket of the process that has the locker open; gives the frames of the answer, each as it comes."""
    folder = os.open(locker.home / "run", os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(f"/proc/self/fd/{folder}/locker.sock")
            stream = link.makefile("rwb")
            kind = None
            while kind != 6:
                kind, length = struct.unpack("<BI", stream.read(5))
                body = stream.read(length)
                if kind == 8:
                    text = json.dumps(request).encode()
                    stream.write(struct.pack("<BI", 1, len(text)) + text)
                    stream.flush()
                elif kind == 7:
                    raise SystemExit(f"{request}: {body.decode()}")
                else:
                    yield kind, body
    finally:
        os.close(folder)


def ask(locker, request):
    """One verb; gives the entries and the answer."""
    entries = []
    for kind, body in talk(locker, request):
        if kind == 5:
            entries += json.loads(body)
        elif kind == 6:
            answer = json.loads(body)
    return entries, answer


def names(locker, folder):
    entries, _ = ask(locker, {"List": {"dir": folder, "options": {"recursive": False, "replayed": False}}})
    return {entry["path"]: entry for entry in entries}


def percentiles(times):
    times = sorted(times)
    return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.95))]


def changes(pair, step, change, is_seen, bounded=True):
    """Makes changes on A, each after a rest of both, and waits until B shows it."""
    dice, whole, after = random.Random(SEED), [], []
    for n in range(CHANGES):
        time.sleep(dice.uniform(0.2, 0.6))
        begun = time.monotonic()
        change(n)
        done = time.monotonic()
        wait_for(f"{step} {n} on B", lambda: is_seen(n), 60, 0.001)
        seen = time.monotonic()
        whole.append(seen - begun)
        after.append(seen - done)
    (all50, all95), (p50, p95) = percentiles(whole), percentiles(after)
    row("locker", "watch", step, p50, note=f"after the acknowledgement: p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms; "
                                           f"from the question: p50 {all50 * 1e3:.0f} ms, p95 {all95 * 1e3:.0f} ms; {CHANGES} changes")
    if bounded and (p50 > P50_MAX or p95 > P95_MAX):
        failures.append(f"watch {step}: p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms")


def hexpath(path):
    return str(path).encode().hex()


def watch(binary, work):
    source = work / "w6"
    source.mkdir()
    documents(source, 300, SEED + 6)
    pair = Pair(binary, work)
    try:
        pair.a.run("add", source)
        pair.up_b = pair.up(pair.b)
        pair.synced()
        ask(pair.a, {"MakeFolder": {"path": "seen", "parents": False}})
        wait_for("the folder on B", lambda: "seen" in names(pair.b, ""))
        changes(pair, "a folder", lambda n: ask(pair.a, {"MakeFolder": {"path": f"seen/{n}", "parents": False}}),
                lambda n: f"seen/{n}" in names(pair.b, "seen"))
        notes = work / "notes"
        notes.mkdir()

        def add(n):
            (notes / f"{n}.txt").write_bytes(random.Random(n).randbytes(1024))
            ask(pair.a, {"Add": {"paths": [hexpath(notes / f"{n}.txt")], "to": "seen"}})

        changes(pair, "1 KiB, whole there", add, lambda n: names(pair.b, "seen").get(f"seen/{n}.txt", {}).get("local") == "all")
    finally:
        pair.remove()


def rename(binary, work):
    source = work / "many"
    source.mkdir()
    dice = random.Random(SEED + 7)
    for n in range(RENAMED):
        (source / f"{n:05d}.bin").write_bytes(dice.randbytes(dice.randint(512, 2048)))
    pair = Pair(binary, work)
    try:
        pair.a.run("add", source)
        pair.up_b = pair.up(pair.b)
        pair.synced()
        time.sleep(3)
        moved = lambda locker: ask(locker, {"Status": {"hash": "IfQuick"}})[1]["Status"]["traffic"]
        before, bytes_before = [moved(pair.a), moved(pair.b)], wire()
        cost = Cost(*pair.pids())
        ask(pair.a, {"Move": {"from": "many", "to": "renamed"}})
        wait_for("the new name on B", lambda: "renamed" in names(pair.b, ""), 60, 0.001)
        cost.end()
        # What is said about it afterwards counts too.
        time.sleep(2)
        sent, content = wire() - bytes_before, [moved(pair.a), moved(pair.b)]
        note = f"{RENAMED} files; {sent / 1024:.1f} KiB on the wire with 2 s afterwards" if own_network() else f"{RENAMED} files"
        row("locker", "rename", "a folder", cost.seconds, cost.cpu, sent if own_network() else None,
            memory=[memory_of(pid) for pid in pair.pids()], note=note)
        if content != before:
            failures.append(f"rename: content was sent: {before} before, {content} after")
        if cost.seconds > RENAME_S_MAX or own_network() and sent > RENAME_WIRE_MAX:
            failures.append(f"rename: {cost.seconds:.3f} s, {sent} bytes")
    finally:
        pair.remove()


PARTS = {"watch": watch, "rename": rename}
