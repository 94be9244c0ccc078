"""A locker of 100,000 files of which only a blind replica is left, at the other end of a wire: how soon all names are back by
the phrase, how soon everything is, and what a rehearsal of it takes while the device still lives."""
import shutil

from far import Far, Wire
from harness import MIB, failures
from two_devices import WAIT_S, tiny, wait_for

NAMES_S, DRILL_S = 30, 60


def packs(locker):
    return sum(1 for file in (locker.home / "packs").rglob("*") if file.is_file())


def up(locker, n):
    process = locker.start("up", "--listen", f"10.77.0.{n}:0")
    return process, process.event("ready")["listen"]


def recover(binary, work):
    source = work / "files"
    source.mkdir()
    tiny(source)
    wire = Wire(50, 100, 0)
    try:
        a, kept = (Far(binary, work, wire, 1, init=False) for _ in range(2))
        phrase = work / "phrase.txt"
        phrase.write_text(a.run("init").json["phrase"])
        added = a.run("add", source)
        up_a, _ = up(a, 1)
        pairing = a.start("pair", "--assume-yes", "--role", "blind")
        words = work / "replica-words.txt"
        words.write_text(pairing.event("ticket")["words"])
        kept.run("join", "--ticket-file", words, "--name", "shed", "--assume-yes")
        pairing.child.wait()
        up_kept, listen = up(kept, 1)
        at = next(one for one in listen if "10.77.0.1" in one)
        wait_for("everything on the replica", lambda: packs(kept) == packs(a), WAIT_S, 0.5)
        drill = a.run("drill", "--phrase-file", phrase)
        up_a.stop()
        names, whole = (Far(binary, work, wire, 2, init=False) for _ in range(2))
        back = names.run("recover", "--phrase-file", phrase, "--from", at, "--names-only", "--no-lan")
        listed = sum(1 for one in names.run("ls", "-R").json["entries"] if one["kind"] == "file")
        every = whole.run("recover", "--phrase-file", phrase, "--from", at, "--no-lan")
        bad = whole.run("verify").json["bad"]
        up_kept.stop()
    finally:
        wire.remove()
    print(f"recover-100k  added in {added.seconds:.1f} s   drill {drill.seconds:.1f} s, {drill.memory / MIB:.0f} MiB   over 50 ms and 100 Mbit/s: "
          f"names {back.seconds:.1f} s, {back.memory / MIB:.0f} MiB   everything {every.seconds:.1f} s, {every.memory / MIB:.0f} MiB", flush=True)
    if listed != 100_000 or bad or every.json["files"] != 100_000:
        failures.append(f"recover-100k: {listed} names, {every.json['files']} files came back, {bad} bad")
    if back.seconds > NAMES_S:
        failures.append(f"recover-100k: names took {back.seconds:.1f} s, more than {NAMES_S}")
    if drill.seconds > DRILL_S:
        failures.append(f"recover-100k: the drill took {drill.seconds:.1f} s, more than {DRILL_S}")
    for locker in (a, kept, names, whole):
        locker.remove()
    shutil.rmtree(source)


PARTS = {"recover-100k": recover}
