# Two of these do everything on a fresh Debian 12 with Rust: `make run` and `make test`.

.PHONY: help build static run test torture sim bench bench-peers instructions fuzz miri asan lint fmt
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## the release binary, target/release/rateway
	contrib/install.sh build
	cargo build --locked --release

static: ## one static executable for any x86_64 Linux, target/static/rateway
	@contrib/static.sh

run: ## everything in one process, with a stand-in for Discord; with DISCORD_TOKEN your own bot
	@contrib/run.sh

test: ## formatting, lints and every test, against a RabbitMQ of its own
	@contrib/test.sh

sim: ## the Discord stand-in alone; ARGS="--shards 8" adds options
	@contrib/install.sh build
	cargo run --locked --release -- sim $(ARGS)

bench: ## the benches; ARGS=envelope picks one
	@contrib/install.sh build
	cargo bench --locked $(if $(ARGS),--bench $(ARGS))

instructions: ## how many instructions an event takes, next to what is written down
	@contrib/instructions.sh

bench-peers: ## rateway next to twilight and lapin, some twenty minutes; ARGS=--quick is short and writes nothing
	@contrib/bench-peers.sh $(ARGS)

torture: ## kills and outages for a long time; ROUNDS=300 is some twenty minutes
	@contrib/torture.sh

export FUZZ_SECONDS ?= 60
fuzz: ## each fuzz target for FUZZ_SECONDS (60); TARGETS="envelope shard" picks some
	@contrib/fuzz.sh $(TARGETS)

miri: ## the unsafe code that Miri can run, a few minutes
	@contrib/sanitize.sh miri

asan: ## the library's tests under AddressSanitizer, some minutes
	@contrib/sanitize.sh asan

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

fmt: ## format the sources
	cargo fmt
