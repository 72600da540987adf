#!/usr/bin/env bash
# `make fuzz`: each target for FUZZ_SECONDS, from its seeds and from what earlier runs found (fuzz/corpus, not committed).
#   contrib/fuzz.sh [TARGET...]
#   FUZZ_SECONDS=60           for each target; 0 only builds
#   FUZZ_SANITIZER=address    by cargo-fuzz and nightly; none, as `make test` does it, needs neither and builds faster
# The first input that breaks something ends it; its path and its bytes in base64 are printed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60} sanitizer=${FUZZ_SANITIZER:-address}
targets=("$@")
if [ $# -eq 0 ]; then
    for target in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$target" .rs)")
    done
fi
host=$(rustc -vV | sed -n 's/^host: //p')

if [ "$sanitizer" = none ]; then
    contrib/install.sh build cpp
    # What cargo-fuzz passes: counters at each edge and what is compared with what.
    flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=4"
    # Below target/, so that what a CI keeps of it keeps this, too.
    programs=target/fuzz/$host/debug
    RUSTFLAGS=$flags cargo build --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$host" \
        "${targets[@]/#/--bin=}"
else
    contrib/install.sh build cpp fuzz
    toolchain=(+nightly)
    if ! command -v rustup >/dev/null || ! rustup run nightly rustc --version >/dev/null 2>&1; then
        # Sanitizers are nightly's. Without it the compiler that is there is told that it may.
        toolchain=() RUSTC_BOOTSTRAP=1
        export RUSTC_BOOTSTRAP
    fi
    programs=fuzz/target/$host/release
    for target in "${targets[@]}"; do
        cargo "${toolchain[@]}" fuzz build --sanitizer "$sanitizer" --target-dir fuzz/target "$target"
    done
fi

[ "$seconds" -gt 0 ] || exit 0
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    inputs=("fuzz/corpus/$target")
    for folder in "fuzz/seeds/$target" "fuzz/crashes/$target"; do
        [ ! -d "$folder" ] || inputs+=("$folder")
    done
    case $target in
    envelope | cache | worker_message) inputs+=(tests/corpus tests/corpus/edge tests/corpus/bad) ;;
    esac
    log=target/fuzz-$target.log
    echo "fuzz: $target for $seconds s" >&2
    if ! "$programs/$target" "${inputs[@]}" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -max_len=65536 -timeout=60 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 100 "$log" >&2
        found=$(find "fuzz/artifacts/$target" -type f -newer "$programs/$target" -printf '%T@ %p\n' | sort -n | tail -n 1)
        found=${found#* }
        if [ -n "$found" ]; then
            echo "fuzz: $target is broken by $found, which is in base64:" >&2
            base64 "$found" >&2
        fi
        exit 1
    fi
    grep -E '^#[0-9]+.*(DONE|INITED)' "$log" | tail -n 1 >&2
done
