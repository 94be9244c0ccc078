"""One source, whose way out is narrow, and several devices that fetch the same from it: how much longer than one alone takes, and
how often the source sends what it has."""
import shutil
import time

from harness import MIB, SEED, Locker, failures, one_file
from two_devices import WAIT_S, Process, row

SIZE, RATE = 1024 * MIB, "40M"
# What is allowed against one alone: the time, and copies that the source sends.
TIME_MAX, COPIES_MAX = 1.15, 1.3


def fetched_by(binary, work, source, roles):
    """Seconds until all of them have it, and bytes of packs that the source sent."""
    processes, lockers = [], []

    def up(locker, *more):
        processes.append(Process(binary, "--home", locker.home, "--json", "up", "--listen", "127.0.0.1:0", "--no-lan",
                                 "--bootstrap", at, *more))
        processes[-1].event("ready")

    try:
        processes.append(Process(binary.with_name("locker-bootstrap"), "--listen", "127.0.0.1:0", "--json"))
        at = processes[0].event("ready")["listen"][0]
        first = Locker(binary, work)
        lockers.append(first)
        up(first, "--upload-limit", RATE)
        for n, role in enumerate(roles):
            other = Locker(binary, work, init=False)
            lockers.append(other)
            pairing = Process(binary, "--home", first.home, "--json", "pair", "--assume-yes", "--role", role)
            words = work / f"words-{n}.txt"
            words.write_text(pairing.event("ticket")["words"])
            other.run("join", "--ticket-file", words, "--name", f"other {n}", "--role", role, "--bootstrap", at, "--no-lan", "--assume-yes")
            pairing.child.wait()
            up(other)
        names = {device["name"] for device in first.run("device", "ls").json["devices"]}
        assert len(names) == 1 + len(roles)
        start = time.monotonic()
        first.run("add", source)
        first.run("wait", "--copies", str(1 + len(roles)), "--timeout", str(WAIT_S))
        seconds = time.monotonic() - start
        return seconds, first.run("status").json["traffic"]["pack_bytes_sent"]
    finally:
        for process in reversed(processes):
            process.stop()
        for locker in lockers:
            locker.remove()


def several(binary, work):
    source = work / "several"
    source.mkdir()
    one_file(source, SIZE, SEED + 10)
    for role in ("full", "blind"):
        alone, _ = fetched_by(binary, work, source, [role])
        row("locker", "several", f"one, {role}", alone, bytes_=SIZE)
        both, sent = fetched_by(binary, work, source, [role, role])
        copies = sent / SIZE
        row("locker", "several", f"two at once, {role}", both, bytes_=SIZE,
            note=f"{both / alone:.2f} x the time of one; the source sent {copies:.2f} copies")
        # Replicas know nothing of one another, so that each gets everything from the source.
        if role == "full" and (both > TIME_MAX * alone or copies > COPIES_MAX):
            failures.append(f"several: {both / alone:.2f} x the time of one (at most {TIME_MAX}), {copies:.2f} copies (at most {COPIES_MAX})")
    shutil.rmtree(source)


PARTS = {"several": several}
