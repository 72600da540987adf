#!/usr/bin/env bash
# The unsafe code under Miri, and the library's tests under AddressSanitizer and its leak checker. Both are nightly's.
#   contrib/sanitize.sh miri|asan [FILTER...]      a filter picks tests, as with `cargo test`
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:?miri or asan}
shift
contrib/install.sh build nightly
rustup run nightly rustc --version >/dev/null || {
    echo "sanitize: the nightly toolchain is needed: rustup toolchain install nightly" >&2
    exit 1
}
host=$(rustc -vV | sed -n 's/^host: //p')

case $what in
miri)
    # Miri calls no C and maps no files: inflate and deflate, the mapped file and the limits of the system are ASan's to
    # look at. Here are the loads of the scanner and the pages of the arena, threads included.
    cargo +nightly miri --version >/dev/null 2>&1 || rustup component add --toolchain nightly miri rust-src
    # For the seeds that the environment may name; the programs read nothing else.
    export MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri
    filters=("$@")
    [ $# -gt 0 ] || filters=(cache::arena gateway::scan)
    cargo +nightly miri test --locked --lib -- "${filters[@]}"
    if [ $# -eq 0 ] && [ "${host%%-*}" = x86_64 ]; then
        # To Miri the processor has what it is compiled for.
        RUSTFLAGS="-Ctarget-feature=+avx2,+pclmulqdq,+bmi1,+popcnt" CARGO_TARGET_DIR=target/miri-avx2 \
            cargo +nightly miri test --locked --lib -- gateway::scan
    fi
    ;;
asan)
    # --target, so that build scripts and macros go without; the C libraries are compiled without it, too, but their calls
    # of malloc, memcpy and their like are seen.
    RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan \
        cargo +nightly test --locked --lib --target "$host" -- "$@"
    ;;
*)
    echo "sanitize: miri or asan" >&2
    exit 2
    ;;
esac
