"""A MiB in the middle of a long film that is on another device only: when the first byte comes, when the last, and what goes over the
wire. Asked over the local socket of a running node, as a player would be served."""
import random
import statistics
import time

from far import FarPair, Wire
from harness import MIB, SEED, failures, fill
from two_devices import Pair, own_network, row, wait_for, wire
from watching import names, talk

FILM = 2048 * MIB
SHORT = 64 * MIB
READS = 20
# What is allowed: seconds; bytes of the wire for each byte that is read.
LOCAL_FIRST, LOCAL_WHOLE, WIRE_SHARE = 0.020, 0.050, 1.3
ROUND_TRIP = 0.020
FAR_FIRST, FAR_FIRST_BARE = 1.5 * ROUND_TRIP + 0.010, 2.5 * ROUND_TRIP + 0.010


def read(locker, path, offset, length):
    """Seconds to the first byte and to the last, and the bytes."""
    got, first, begun = bytearray(), None, time.monotonic()
    for kind, body in talk(locker, {"Read": {"path": path, "offset": offset, "length": length}}):
        if kind == 4:
            first = first or time.monotonic() - begun
            got += body
    return first, time.monotonic() - begun, bytes(got)


def absent(pair, film):
    """Puts a file on A of which B has the name alone."""
    pair.b.run("rule", "set", "none")
    pair.a.run("add", film)
    wait_for("the name on B", lambda: film.name in names(pair.b, ""))
    # The rule fetches where the chunks are, and nothing of the content.
    pair.b.run("wait", "--synced", "--timeout", "60")
    if names(pair.b, "")[film.name]["local"] != "none":
        raise SystemExit(f"{film.name} is here")


def reads(pair, film, step, first_max, whole_max):
    dice, firsts, wholes, moved = random.Random(SEED + 11), [], [], wire()
    for _ in range(READS):
        offset = dice.randrange(FILM - MIB)
        time.sleep(0.2)
        first, whole, got = read(pair.b, film.name, offset, MIB)
        with open(film, "rb") as source:
            source.seek(offset)
            if got != source.read(MIB):
                raise SystemExit("other bytes")
        firsts.append(first)
        wholes.append(whole)
    share = (wire() - moved) / READS / MIB if own_network() else None
    first, whole = statistics.median(firsts), statistics.median(wholes)
    note = f"first byte {first * 1e3:.1f} ms (slowest {max(firsts) * 1e3:.1f}), whole {whole * 1e3:.1f} ms (slowest {max(wholes) * 1e3:.1f}); {READS} reads"
    row("locker", "range", step, whole, note=note + (f"; {share:.3f} MiB on the wire" if share else ""))
    if first > first_max or whole_max and whole > whole_max or share and share > WIRE_SHARE:
        failures.append(f"range {step}: {note}")


def local(binary, work):
    film = work / "film.bin"
    fill(film, FILM, SEED + 11)
    pair = Pair(binary, work)
    try:
        pair.up_b = pair.up(pair.b)
        absent(pair, film)
        reads(pair, film, "1 MiB, loopback", LOCAL_FIRST, LOCAL_WHOLE)
    finally:
        pair.remove()
        film.unlink()


def far(binary, work):
    film, short = work / "film.bin", work / "short.bin"
    fill(film, FILM, SEED + 11)
    line = Wire(ROUND_TRIP * 1e3, 0, 0)
    try:
        pair = FarPair(binary, work, line)
        absent(pair, film)
        reads(pair, film, "1 MiB, 20 ms away", FAR_FIRST, None)
        firsts = []
        for n in range(5):
            fill(short, SHORT, SEED + 12 + n)
            pair.a.run("add", short, "--to", f"new-{n}")
            name = f"new-{n}/{short.name}"
            wait_for("the name on B", lambda: name in names(pair.b, f"new-{n}"), pause=0.0005)
            firsts.append(read(pair.b, name, SHORT // 2, MIB)[0])
        first = statistics.median(firsts)
        note = f"first byte {first * 1e3:.1f} ms (slowest {max(firsts) * 1e3:.1f}), asked as soon as the name is seen"
        row("locker", "range", "file just added, 20 ms", first, note=note)
        if first > FAR_FIRST_BARE:
            failures.append(f"range of a file just added: {note}")
        pair.remove()
    finally:
        line.remove()
        film.unlink()
        short.unlink(missing_ok=True)


PARTS = {"range": local}
FAR_PARTS = {"range-20": far}
