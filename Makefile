# Two of these do everything on a fresh Debian 12 with Rust: `make run` and `make test`.

.PHONY: help build static run test torture sim bench fuzz lint fmt
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

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

torture: ## kills and outages for a long time; ROUNDS=300 is some twenty minutes
	@contrib/torture.sh

FUZZ_SECONDS ?= 60
TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: ## each fuzz target for FUZZ_SECONDS (60); needs nightly and cargo-fuzz
	@for target in $(TARGETS); do \
	    mkdir -p fuzz/corpus/$$target; \
	    cargo +nightly fuzz run $$target fuzz/corpus/$$target tests/corpus tests/corpus/edge tests/corpus/bad \
	        -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; \
	done

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

fmt: ## format the sources
	cargo fmt
