#!/usr/bin/env bash
# What can be verified about Apple GPUs without a Mac.
#
#   scripts/metal.sh            type-checks kernels, weights, model, media, tokenizers and engine for aarch64-apple-darwin, Metal included (the first time
#                               about 140 MB of downloads and 6 CPU-minutes; then seconds)
#   scripts/metal.sh --emulate  checks the kernels' address spaces (clang) and runs them on this machine's CPU (g++) under all differential tests and goldens
#
# Nothing is installed: everything lies in target/metal. Metal's own compiler is Apple's and runs on macOS alone, so that what it accepts is not checked here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
readonly APPLE=aarch64-apple-darwin
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cache=$target/metal
mkdir -p "$cache"

skip() { echo "skipped: $*"; exit 0; }

# A compiler with the sources of its standard library, where rustup has no $APPLE: Debian's, unpacked and not installed.
unpack_compiler() {
    local root=$cache/compiler not="the code for macOS is not type-checked" std llvm package
    [[ ! -x $root/usr/bin/rustc ]] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "there is no target $APPLE (rustup target add $APPLE) and this is not Debian; $not"
    depends() { apt-cache depends "$1" 2>/dev/null | sed -n "s/.*Depends: \($2\)$/\1/p"; }
    std=$(depends libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')
    llvm=$(depends "${std:-none}" 'libllvm[0-9]*')
    [[ -n $std && -n $llvm ]] || skip "the package rustc-web is not known (apt-get update); $not"
    say "fetching Debian's rustc-web"
    rm -rf "$cache/packages" "$root.part"
    mkdir -p "$cache/packages" "$root.part"
    (cd "$cache/packages" && apt-get download rustc-web rust-web-src libstd-rust-web-dev "$std" "$llvm") >"$cache/download.log" 2>&1 \
        || skip "Debian's packages cannot be fetched (see $cache/download.log); $not"
    for package in "$cache"/packages/*.deb; do dpkg-deb -x "$package" "$root.part"; done
    # Of the sources the standard library alone is needed.
    find "$root.part"/usr/src/* -mindepth 1 -maxdepth 1 ! -name library -exec rm -rf {} +
    rm -rf "$cache/packages"
    mv "$root.part" "$root"
}

check() {
    local flags=(-p borealis-kernels -p borealis-weights -p borealis-model)
    # With this machine's headers of FFmpeg: types alone are looked at. SQLite and the network's crates need a C compiler for macOS.
    if pkg-config --exists libavcodec libavformat libswscale libswresample 2>/dev/null; then
        export PKG_CONFIG_ALLOW_CROSS=1 BINDGEN_EXTRA_CLANG_ARGS="--target=$(rustc -vV | sed -n 's/^host: //p')"
        flags+=(-p borealis-media -p borealis-tokenizers -p borealis-engine)
    else
        echo "skipped: FFmpeg's development files are not installed; media, tokenizers and engine are not type-checked for macOS"
    fi
    unset CARGO_RESOLVER_FEATURE_UNIFICATION
    if [[ ! -d $(rustc --print sysroot)/lib/rustlib/$APPLE ]]; then
        unpack_compiler
        export RUSTC=$cache/compiler/usr/bin/rustc RUSTC_BOOTSTRAP=1
        LD_LIBRARY_PATH=$(dirname "$(find "$cache/compiler/usr/lib" -name 'librustc_driver*' | head -n 1)")
        export LD_LIBRARY_PATH
        flags+=(-Zbuild-std=std,panic_unwind)
    fi
    say "types for $APPLE, $("${RUSTC:-rustc}" --version)"
    cargo check --release --locked --target "$APPLE" --target-dir "$cache/check" "${flags[@]}"
}

emulate() {
    command -v g++ >/dev/null || skip "g++ is not installed; the Metal kernels are not run"
    local tests=(cargo test --release --locked --quiet)
    if command -v clang++ >/dev/null; then
        say "address spaces"
        clang++ -std=c++17 -fsyntax-only -Wall -Wextra -Werror -Wno-unknown-pragmas kernels/metal/emulator/spaces.cpp
    else
        echo "skipped: clang is not installed; address spaces of the Metal kernels are not checked"
    fi
    say "the emulator"
    # No contraction: what is one operation on a GPU is written as one. The host's own instructions: a multiply-add is one of them.
    g++ -std=c++20 -O2 -march=native -ffp-contract=off -U_FORTIFY_SOURCE -fno-strict-aliasing -shared -fPIC -fvisibility=hidden \
        -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-function -Werror -o "$cache/libborealis-metal.so" kernels/metal/emulator/libmetal.cpp
    export LD_LIBRARY_PATH=$cache${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    say "operations and models on the emulated device"
    "${tests[@]}" -p borealis-kernels -p borealis-model --test differential --test model
    # Threadgroups and threads in descending order: races show as other results.
    say "operations in reverse"
    BOREALIS_EMULATOR_REVERSE=1 "${tests[@]}" -p borealis-kernels --test differential
}

case ${1:-} in
    "") check ;;
    --emulate) emulate ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
