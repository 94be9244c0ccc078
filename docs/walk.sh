#!/usr/bin/env bash
# Shows a locker at work on the sample media: the README's five minutes, as commands. Called by `make run`.
set -euo pipefail
locker=$1
media=${LOCKER_MEDIA:-$(cd "$(dirname "$0")/.." && pwd)/.cache/media}
home=$(mktemp -d "${TMPDIR:-/tmp}/locker-walk.XXXXXX")
running=()
trap 'kill "${running[@]}" 2>/dev/null || true; wait; rm -rf "$home"' EXIT
export LOCKER_HOME=$home/home

show() { printf '\n$ locker %s\n' "$*"; "$locker" "$@"; }
# The value of a key in the first line of JSON that has it, waited for while a program starts.
told() {
  python3 - "$1" "$2" <<'PYTHON'
import json, sys, time
file, key = sys.argv[1:]
for _ in range(600):
    for line in open(file):
        if line.endswith("\n") and key in (told := json.loads(line)):
            value = told[key]
            print(value[0] if isinstance(value, list) else value)
            sys.exit()
    time.sleep(0.1)
sys.exit(f"nothing was told of {key}")
PYTHON
}

echo "A locker in a temporary folder, removed at the end. The media are free samples in $media."
show init --name walk
show add "$media"
show ls
top=$("$locker" --json ls | python3 -c 'import json,sys; print(json.load(sys.stdin)["entries"][0]["path"])')
show ls "$top"
show find '*.epub'
show mkdir -p Shelf/Books
book=$("$locker" --json find '*.epub' | python3 -c 'import json,sys; print(json.load(sys.stdin)["entries"][0]["path"])')
show mv "$book" Shelf/Books/
show rm "Shelf/Books/$(basename "$book")"
show restore "Shelf/Books/$(basename "$book")"
show history "Shelf/Books/$(basename "$book")"
show add "$media"
show status
show verify
show get "$top" --to "$home/out"
diff -r --exclude="$(basename "$book")" "$media" "$home/out" && printf '\nEvery file came out byte-equal.\n'

printf '\nA second device, through a meeting point of its own.\n'
"$(dirname "$locker")/locker-bootstrap" --listen 127.0.0.1:0 --json > "$home/meeting" & running+=($!)
meeting=$(told "$home/meeting" listen)
up=(--json up --no-lan --listen 127.0.0.1:0)
printf '\n$ locker up &\n$ locker pair &\n'
"$locker" "${up[@]}" --bootstrap "$meeting" > "$home/up" & running+=($!)
told "$home/up" listen > "$home/at"
"$locker" --json pair --assume-yes > "$home/pair" & pairing=$!
told "$home/pair" words > "$home/words"
second() { printf '\n$ locker --home second %s\n' "$*"; "$locker" --home "$home/second" "$@"; }
second join --ticket-file "$home/words" --name second --no-lan --bootstrap "$meeting" --assume-yes
wait "$pairing"
printf '\n$ locker --home second up &\n'
"$locker" --home "$home/second" "${up[@]}" > "$home/up2" & running+=($!)
told "$home/up2" listen > "$home/at2"
second wait --synced --timeout 60
second get "$top" --to "$home/out2"
diff -r "$home/out" "$home/out2" && printf '\nThe second device gave the same.\n'

printf '\nA link, opened by somebody without a locker.\n'
show share Shelf --label 'for a friend' > "$home/link"
printf '\n$ locker open --link-file link --to .\n'
"$locker" --home "$home/nobody" open --link-file <(tail -n 1 "$home/link") --bootstrap "$meeting" --no-lan --to "$home/friend"
ls -R "$home/friend"
show share ls
show device ls
printf '\nTo keep a locker of your own: %s init\n' "$locker"
