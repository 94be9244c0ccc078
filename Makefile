# The two set-up commands of the README are `make run` and `make test`. Both install what a bare Debian with Rust
# lacks, and both use CARGO_TARGET_DIR where it is set.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What the crates, the tests and the benchmarks need beyond Rust: a C compiler and linker, Python for the sample media.
PACKAGES := build-essential python3-pip time b3sum
# What experiments of the laboratory need; one that misses something says so and is left out.
LAB_PACKAGES := e2fsprogs xfsprogs btrfs-progs libfaketime iproute2 nftables miniupnpd-nftables

.PHONY: run test gate deep bench media tools lab-tools release lab simulate crowd liar crossing help

# Which schedules are simulated: the first seed, and how many.
SEEDS := 1 200

help: ## list what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: release media ## build the program and show a locker at work on the sample media
	docs/walk.sh "$(abspath $(TARGET))/release/locker"

release: tools ## build the program, target/release/locker, and the meeting point beside it
	cargo build --release --locked -p locker -p locker-bootstrap

lab: tools ## build the program with failpoints, as the tests use it
	cargo build --profile lab --locked -p locker -p locker-bootstrap --features locker/failpoints

test: tools lab-tools media lab ## run every test
	cargo test --workspace --locked --doc
	LOCKER_BIN="$(abspath $(TARGET))/lab/locker" cargo nextest run --workspace --locked --no-fail-fast

deep: tools lab-tools media lab ## run the long figures: many histories, kills and power cuts, every failing operation
	LOCKER_BIN="$(abspath $(TARGET))/lab/locker" LOCKER_BIG=1 LOCKER_HISTORIES=10000 LOCKER_KILLS=1000 LOCKER_TRIES=1000 LOCKER_CUTS=1000 LOCKER_FAULTS=all LOCKER_DEEDS=500 \
	  cargo nextest run --workspace --locked --no-fail-fast --profile deep

simulate: tools ## run whole nodes on a simulated network, clock and dice: make simulate SEEDS="1 10000"
	cargo build --manifest-path tests/simulation/Cargo.toml --target-dir "$(abspath $(TARGET))" --profile lab --locked
	"$(abspath $(TARGET))/lab/simulate" many $(SEEDS)

liar: tools ## let replicas that lost one pack in a hundred be found out over 30 simulated days
	cargo build --manifest-path tests/simulation/Cargo.toml --target-dir "$(abspath $(TARGET))" --profile lab --locked
	"$(abspath $(TARGET))/lab/simulate" liar 1 40

crossing: tools ## let two devices dial each other at the same moment, in 200 pairs
	cargo build --manifest-path tests/simulation/Cargo.toml --target-dir "$(abspath $(TARGET))" --profile lab --locked
	for first in 1 26 51 76 101 126 151 176; do "$(abspath $(TARGET))/lab/simulate" crossing $$first 25 || exit 1; done

crowd: tools ## run 200 simulated nodes for 24 simulated hours
	cargo build --manifest-path tests/simulation/Cargo.toml --target-dir "$(abspath $(TARGET))" --profile lab --locked
	"$(abspath $(TARGET))/lab/simulate" crowd 1 200 24

bench: release ## measure, and print tables
	cargo build --release --locked -p locker-engine --example scale
	tests/benches/run "$(abspath $(TARGET))/release/locker"

media: tools ## fetch the free sample media into .cache/media
	tests/media/fetch

tools:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, version as in Cargo.toml (rust-version)"; exit 1; }
	@if ! command -v cc >/dev/null || ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq $(PACKAGES); \
	  else echo "missing: $(PACKAGES). Install them, then run make again."; exit 1; fi; fi
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

lab-tools:
	@if ! { command -v mkfs.ext4 && command -v mkfs.xfs && command -v mkfs.btrfs && ls /usr/lib/*/faketime && command -v ip && command -v nft && command -v miniupnpd; } >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(LAB_PACKAGES) \
	  || echo "not to be had: $(LAB_PACKAGES); some experiments are left out"; \
	  else echo "some of $(LAB_PACKAGES) are missing; some experiments are left out"; fi; fi
