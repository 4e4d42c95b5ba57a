#!/usr/bin/env bash
# What can be verified about Apple GPUs without a Mac.
#
#   scripts/metal.sh            type-checks kernels, weights, tokenizers, model and engine for aarch64-apple-darwin, Metal included (first run: 250 MB
#                               of downloads and some 6 CPU-minutes; then seconds)
#   scripts/metal.sh --emulate  runs the Metal kernels on this machine's CPU (g++ alone is needed), under all differential tests and goldens
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/emulated.sh

readonly APPLE=aarch64-apple-darwin
cache=$target/metal

skip() { echo "skipped: $*; the code for macOS is not type-checked"; exit 0; }

# A compiler with the standard library's sources, which rustup has not everywhere: Debian's, unpacked into the cache and not installed.
unpack_compiler() {
    local root=$cache/compiler std
    [[ ! -x $root/usr/bin/rustc ]] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "the target $APPLE is not installed (rustup target add $APPLE) and this is not Debian"
    say "fetching Debian's rustc-web"
    rm -rf "$cache/deb" "$root.part"
    mkdir -p "$cache/deb" "$root.part"
    std=$(apt-cache depends libstd-rust-web-dev 2>/dev/null | sed -n 's/.*Depends: \(libstd-rust-web-[0-9].*\)/\1/p')
    [[ -n $std ]] || skip "the package libstd-rust-web-dev is not known (apt-get update)"
    # The compiler's version decides which LLVM it needs.
    (cd "$cache/deb" && apt-get download -q rustc-web libstd-rust-web-dev rust-web-src "$std" $(apt-cache depends "$std" | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p')) \
        >"$cache/download.log" 2>&1 || skip "Debian's packages cannot be fetched (see $cache/download.log)"
    local package
    for package in "$cache"/deb/*.deb; do dpkg-deb -x "$package" "$root.part"; done
    # The standard library is a thirtieth of the sources that come along.
    (cd "$root.part/usr/src" && find . -mindepth 2 -maxdepth 2 ! -name library -exec rm -rf {} +)
    rm -rf "$cache/deb"
    mv "$root.part" "$root"
}

check() {
    # The parts of the workspace that need no C library of the target.
    local packages=(-p borealis-kernels -p borealis-weights -p borealis-tokenizers -p borealis-model -p borealis-engine)
    # One target: the features of the whole workspace would bring the others' C libraries.
    unset CARGO_RESOLVER_FEATURE_UNIFICATION CARGO_BUILD_TARGET
    local flags=(--release --locked --target "$APPLE" --target-dir "$cache/target")
    mkdir -p "$cache"
    if [[ ! -d $(rustc --print sysroot)/lib/rustlib/$APPLE ]]; then
        unpack_compiler
        export RUSTC=$cache/compiler/usr/bin/rustc RUSTC_BOOTSTRAP=1
        export LD_LIBRARY_PATH=$cache/compiler/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        flags+=(-Zbuild-std=std,panic_unwind)
    fi
    say "type-check for $APPLE with $("${RUSTC:-rustc}" --version)"
    cargo check "${flags[@]}" "${packages[@]}"
}

case ${1:-} in
    "") check ;;
    --emulate) emulate_metal ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
