#!/usr/bin/env bash
# The real clients against the real server: xai-sdk, requests and openai (Python), ai, @ai-sdk/xai and openai (Node), the examples, a receiver of
# webhooks, generated requests; kill -9 at random moments; two thousand slow connections. The clients come from their registries into target/clients; where those cannot be reached, one line says what is skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

rounds=${KILL_ROUNDS:-20}
# Absolute: suites run in folders of their own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
scratch=$CARGO_TARGET_DIR/clients
mkdir -p "$scratch"
export PYTHONDONTWRITEBYTECODE=1

python_clients() {
    [[ -x $scratch/venv/bin/pip ]] || python3 -m venv "$scratch/venv" >"$scratch/venv.log" 2>&1 || return
    "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 -r tests/clients/requirements.txt >"$scratch/pip.log" 2>&1
}

node_clients() {
    command -v npm >/dev/null || return
    mkdir -p "$scratch/node"
    cp examples/typescript/{package.json,package-lock.json,tsconfig.json,generate.ts} tests/clients/ai_sdk.test.mjs "$scratch/node/"
    (cd "$scratch/node" && npm ci --no-audit --no-fund --fetch-retries=1 && npx --no-install tsc && cp out/generate.js generate.mjs) >"$scratch/npm.log" 2>&1
}

command -v python3 >/dev/null || { echo "skipped: python3 is not installed; no client is tried"; exit 0; }
[[ -n ${BOREALIS_BIN:-} ]] || cargo build --release --locked --quiet -p borealis-cli

for victim in worker api; do
    say "kill -9 of the $victim, $rounds times"
    python3 tests/clients/kill.py "$victim" "$rounds"
done

say "two thousand slow clients"
python3 tests/clients/slow.py

say "clients"
suites=()
if python_clients; then
    suites+=(tests/clients/test_{protos,rest,xai_sdk,openai,webhooks,document}.py examples/*.py)
else
    echo "skipped: the Python clients cannot be installed (see $scratch/venv.log, $scratch/pip.log)"
fi
if node_clients; then
    suites+=("$scratch"/node/{ai_sdk.test,generate}.mjs)
else
    echo "skipped: the Node clients cannot be installed (see $scratch/npm.log)"
fi
command -v curl >/dev/null && suites+=(examples/*.sh)
((${#suites[@]})) || exit 0
python=$scratch/venv/bin/python
[[ -x $python ]] || python=python3
"$python" tests/clients/run.py "${suites[@]}"
