#!/usr/bin/env bash
# The page in a real Chromium against a real server. playwright-core and axe-core come from their registry into target/playground, Chromium from
# the system's packages; where they cannot be had, one line says what is skipped. Screenshots: target/playground/shots.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# Absolute: the tests run in a folder of their own.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scratch=$target/playground
export BOREALIS_BIN=${BOREALIS_BIN:-$target/release/borealis} SHOTS=${SHOTS:-$scratch/shots}
mkdir -p "$scratch" "$SHOTS"

skip() { echo "skipped: $*; the page is not tried in a browser"; exit 0; }

has_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
install_chromium() {
    ((EUID == 0)) && command -v apt-get || return
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
}

command -v node >/dev/null && command -v npm >/dev/null || skip "Node and npm are not installed"
node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' || skip "Node $(node --version) is older than 20"
has_chromium >/dev/null || install_chromium >"$scratch/chromium.log" 2>&1 || skip "there is no Chromium and it cannot be installed (see $scratch/chromium.log)"
CHROMIUM=$(has_chromium)
export CHROMIUM
cp tests/playground/{package.json,package-lock.json,*.mjs} "$scratch/"
(cd "$scratch" && npm ci --no-audit --no-fund --fetch-retries=1) >"$scratch/npm.log" 2>&1 || skip "playwright-core cannot be installed (see $scratch/npm.log)"
[[ -x $BOREALIS_BIN ]] || cargo build --release --locked --quiet -p borealis-cli

say "the page in $("$CHROMIUM" --version 2>/dev/null | head -n 1)"
cd "$scratch"
# Pages are drawn by the processor that also generates: what was too slow for the browser gets a second chance, and is said.
node --test --test-concurrency=1 playground.test.mjs && exit 0
say "the page once more"
exec node --test --test-concurrency=1 playground.test.mjs
