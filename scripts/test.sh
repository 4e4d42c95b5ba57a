#!/usr/bin/env bash
# Everything that must hold before a change lands: format, tests, doc tests, lints, documents. No network besides the package archives.
# Binary and tests share one profile, so every dependency is built once for them and once, without code, for lints and documents.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} INSTA_UPDATE=no INSTA_FORCE_PASS=0

say "format"
cargo fmt --all --check

say "tests"
tools=$PWD/target/tools
export PATH=$tools/bin:$PATH
if ! command -v cargo-nextest >/dev/null; then
    # Into the clone, not into the user's home.
    cargo install --quiet --locked --debug --root "$tools" cargo-nextest || echo "skipped: cargo-nextest cannot be installed; cargo test runs the tests"
fi
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --release --locked --workspace --no-fail-fast
else
    cargo test --release --locked --workspace --no-fail-fast --lib --bins --tests
fi

say "doc tests"
cargo test --release --locked --workspace --doc --quiet

# The tests of the command have built it.
export BOREALIS_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/borealis

say "clients"
scripts/clients.sh

say "the page in a browser"
scripts/playground.sh

say "ranks"
scripts/ranks.sh

say "the recipe"
python=${PYTHON:-python3}
if "$python" -c "import torch, scipy, PIL, safetensors, tokenizers" 2>/dev/null; then
    (cd recipes && OMP_NUM_THREADS=1 "$python" -m unittest discover -q -s tests -t .)
else
    echo "skipped: $python has no torch, scipy, pillow, safetensors or tokenizers (recipes/requirements.txt); the recipe is not tested"
fi

say "CUDA kernels on the emulator"
scripts/gpu.sh --emulate

say "lints"
cargo clippy --release --locked --workspace --all-targets --quiet -- -D warnings

# Five minutes of a core the first time: only where somebody has begun it (CONTRIBUTING.md).
if [[ -d ${CARGO_TARGET_DIR:-$PWD/target}/metal/check ]]; then
    scripts/metal.sh
else
    echo "skipped: scripts/metal.sh was never run here; the code for macOS is not type-checked"
fi

say "documents"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --quiet

if command -v cargo-deny >/dev/null; then
    say "licences"
    cargo deny --locked check licenses bans sources
else
    echo "skipped: cargo-deny is not installed; licences are not checked"
fi

say "all checks passed"
