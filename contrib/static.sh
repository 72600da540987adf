#!/usr/bin/env bash
# `make static`: rateway as one static executable for x86_64-unknown-linux-musl, target/static/rateway, and its debug
# information beside it. It needs nothing of the machine that it runs on but a Linux kernel.
#   STATIC_TOOLCHAIN=installed   the cargo at hand with its standard library for that target, fetched by rustup if need be
#   STATIC_TOOLCHAIN=debian      Debian's rustc-web, which builds the standard library from its source
# Unless it is set: the first where that can be had, else the second.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-musl
out=target/static

say() { echo "static: $*" >&2; }

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    say "this is $(uname -sm); the static binary is built on Linux x86_64"
    exit 1
fi

# Whether the cargo at hand can build for the target.
installed() {
    command -v cargo rustc >/dev/null || return 1
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || return 0
    command -v rustup >/dev/null || return 1
    say "fetching the standard library for $target"
    timeout 300 rustup target add "$target" >&2
}

toolchain=${STATIC_TOOLCHAIN:-}
if [ -z "$toolchain" ]; then
    if installed; then toolchain=installed; else toolchain=debian; fi
elif [ "$toolchain" = installed ]; then
    installed || { say "there is no standard library for $target, and rustup cannot fetch one"; exit 1; }
fi

export CC_x86_64_unknown_linux_musl=musl-gcc
case $toolchain in
installed)
    contrib/install.sh build static
    build=(cargo build --locked --release --target "$target")
    ;;
debian)
    contrib/install.sh c static static-debian
    # The unwinder is LLVM's: that of gcc wants what only glibc has. It was compiled against glibc, too, but asks for just
    # one function of it, to print with when it gives up. Its folder holds nothing else, or the linker would find more of
    # LLVM there.
    mkdir -p target/unwinder
    cp /usr/lib/llvm-14/lib/libunwind.a target/unwinder/
    musl-gcc -O2 -c -x c -o target/unwinder/fprintf.o - <<'C'
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *file, int level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int printed = vfprintf(file, format, arguments);
    va_end(arguments);
    return printed;
}
C
    ar r target/unwinder/libunwind.a target/unwinder/fprintf.o
    export RUSTC=/usr/bin/rustc CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc
    # build-std is not stable yet; this compiler is the one whose source it builds.
    export RUSTC_BOOTSTRAP=1
    # musl-gcc brings its own start files, which are not for a position-independent static executable.
    export RUSTFLAGS="-C target-feature=+crt-static -C link-self-contained=no -C relocation-model=static \
-L native=$PWD/target/unwinder"
    build=(/usr/bin/cargo build --locked --release --target "$target" -Z build-std=std,panic_unwind)
    ;;
*)
    say "STATIC_TOOLCHAIN is installed or debian, not $toolchain"
    exit 2
    ;;
esac
built=${CARGO_TARGET_DIR:-target}/$target/release

# A task that panics is dropped alone, so panics have to unwind: a program of a few lines tells whether they do when it is
# built in the same way, with the same standard library.
mkdir -p target/unwinds/src
{
    printf '[package]\nname = "unwinds"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n'
    sed -n '/^\[profile\.release\]/,/^$/p' Cargo.toml
} >target/unwinds/Cargo.toml
printf 'version = 4\n[[package]]\nname = "unwinds"\nversion = "0.0.0"\n' >target/unwinds/Cargo.lock
cat >target/unwinds/src/main.rs <<'RUST'
struct Dropped<'a>(&'a std::cell::Cell<bool>);
impl Drop for Dropped<'_> {
    fn drop(&mut self) { self.0.set(true) }
}
fn main() {
    let dropped = std::cell::Cell::new(false);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = Dropped(&dropped);
        // Not known when it is compiled, or nothing is left to unwind.
        assert!(std::env::args().count() > 1, "this panic is meant");
    }));
    assert!(caught.is_err() && dropped.get(), "a panic does not unwind");
}
RUST
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} "${build[@]}" --quiet --manifest-path target/unwinds/Cargo.toml
if ! printed=$("$built/unwinds" 2>&1); then
    printf '%s\n' "$printed" >&2
    say "a panic does not unwind in what this builds"
    exit 1
fi

"${build[@]}"

# Line tables would be four fifths of the file, 35 MB, and nothing at run time reads them. Symbols stay, for perf and the like.
mkdir -p "$out"
objcopy --only-keep-debug "$built/rateway" "$out/rateway.debug"
strip --strip-debug -o "$out/rateway.new" "$built/rateway"
objcopy --add-gnu-debuglink="$out/rateway.debug" "$out/rateway.new"
mv "$out/rateway.new" "$out/rateway"
say "$out/rateway, $(stat -c %s "$out/rateway") bytes, by $toolchain: $("${RUSTC:-rustc}" --version)"
