#!/usr/bin/env bash
# Shows a locker at work on the sample media: the README's five minutes, as commands. Called by `make run`.
set -euo pipefail
locker=$1
media=${LOCKER_MEDIA:-$(cd "$(dirname "$0")/.." && pwd)/.cache/media}
home=$(mktemp -d "${TMPDIR:-/tmp}/locker-walk.XXXXXX")
trap 'rm -rf "$home"' EXIT
export LOCKER_HOME=$home/home

show() { printf '\n$ locker %s\n' "$*"; "$locker" "$@"; }

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
printf 'To keep a locker of your own: %s init\n' "$locker"
