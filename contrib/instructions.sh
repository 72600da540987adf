#!/usr/bin/env bash
# `make instructions`: how many instructions an event takes, per job of benches/instructions.rs, next to the figures in
# benches/instructions.txt. More than a tenth above them fails. A change that is worth its price writes new ones down:
#   BLESS=1 make instructions
# With the argument `build` it builds and counts nothing.
# Counted by valgrind, whose processor is the same everywhere: with AVX2, without AVX-512.
set -euo pipefail
cd "$(dirname "$0")/.."

contrib/install.sh build counting
file=benches/instructions.txt
# A build of its own, without the long optimisation at link time: what matters is that it is the same each time.
export CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_CODEGEN_UNITS=16 CARGO_TARGET_DIR=target/instructions
program=$(cargo bench --locked --bench instructions --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || {
    echo "instructions: cargo bench --bench instructions --no-run built nothing" >&2
    exit 1
}
[ "${1:-}" != build ] || exit 0

count() {
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
        sed -n 's/.*I *refs: *\([0-9,]*\)$/\1/p' | tr -d ,
}

measured=$(mktemp)
trap 'rm -f "$measured"' EXIT
failed=0
for job in envelope publish task-none task-zlib task-zstd cache; do
    # Both at once: there are two cores or more.
    once=$(mktemp)
    count "$job" 1 >"$once" &
    more=$(count "$job" 3)
    wait $!
    less=$(cat "$once")
    rm -f "$once"
    found=$(((more - less) / 10000))
    echo "$job $found" >>"$measured"
    wanted=$(sed -n "s/^$job \([0-9]*\)$/\1/p" "$file" 2>/dev/null || true)
    if [ -n "${BLESS:-}" ]; then
        echo "$job: $found an event (${wanted:-nothing} before)"
    elif [ -z "$wanted" ] || [ "$found" -gt $((wanted * 11 / 10)) ]; then
        echo "$job: $found instructions an event, ${wanted:-nothing} is written in $file" >&2
        failed=1
    else
        echo "$job: $found an event ($wanted written down)"
    fi
done
if [ -n "${BLESS:-}" ]; then
    { sed -n '/^#/p' "$file" 2>/dev/null || true; } | cat - "$measured" >"$measured.new"
    mv "$measured.new" "$file"
elif [ "$failed" = 1 ]; then
    echo "an event has become dearer; see the head of contrib/instructions.sh" >&2
    exit 1
fi
