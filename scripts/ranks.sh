#!/usr/bin/env bash
# One model over the processes of mpirun, on this machine: the ids of one process with 2 and 4, and a clear end when a rank is killed, stopped, or runs
# another build or other weights. Open MPI comes from the system's package archive; where it cannot be had, one line says that it is skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if ! command -v mpirun >/dev/null; then
    if ((EUID != 0)) || ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends openmpi-bin; } >/dev/null 2>&1; then
        echo "skipped: mpirun is not installed (openmpi-bin); ranks as processes are not tested"
        exit 0
    fi
fi
mpirun --version 2>/dev/null | grep -q "Open MPI" || { echo "skipped: mpirun is not Open MPI's"; exit 0; }

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
[[ -n ${BOREALIS_BIN:-} ]] || cargo build --release --locked --quiet -p borealis-cli
bin=${BOREALIS_BIN:-$CARGO_TARGET_DIR/release/borealis}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Loopback alone, more ranks than cores, threads on any core, and root where it must be.
mpi=(mpirun --oversubscribe --bind-to none --mca btl self,vader --mca oob_tcp_if_include lo)
((EUID != 0)) || mpi+=(--allow-run-as-root)
make=(generate "a red ball bounces on grass" --seed 7 --resolution 480p --threads 1 --quiet)

# expect CODE_KIND WORDS...: the run's exit code is 0 (ok) or not (bad), and what it said contains the words.
expect() {
    local kind=$1 code=$2
    shift 2
    case $kind in
        ok) ((code == 0)) || { cat "$scratch/said"; fail "exit code $code"; } ;;
        bad) ((code != 0)) || { cat "$scratch/said"; fail "exit code 0 though a rank failed"; } ;;
    esac
    local words
    for words in "$@"; do
        grep -q -- "$words" "$scratch/said" || { cat "$scratch/said"; fail "it did not say \"$words\""; }
    done
}

run() {
    local code=0
    timeout 120 "$@" >"$scratch/said" 2>&1 </dev/null || code=$?
    echo "$code"
}

# A server with two ranks as processes makes a clip; then a rank is killed in the middle of another: the worker says which rank and step and ends, both ranks come back, and the
# job is made again.
serve_over_ranks() {
    local log=$scratch/serve.log url="" server id state="" old victim
    "$bin" serve --no-auth --address 127.0.0.1:0 --data "$scratch/data" --threads 1 --ranks 2 --launcher "${mpi[*]}" >"$log" 2>&1 </dev/null &
    server=$!
    for _ in $(seq 600); do
        url=$(sed -n 's/^Borealis listens on //p' "$log")
        [[ -n $url ]] && curl -sf "$url/readyz" >/dev/null && break
        sleep 0.1
    done
    rank_one() { pgrep -f "^$bin worker --data $scratch/data" | while read -r p; do
        tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx OMPI_COMM_WORLD_RANK=1 && echo "$p"
    done || true; }
    ask() { curl -sf "$url/v1/videos/generations" --json "{\"prompt\": \"a red ball bounces on grass\", \"duration\": $1}" | sed -E 's/.*"request_id": ?"([^"]+)".*/\1/'; }
    # until STATUS ID: 120 s at most.
    await() {
        for _ in $(seq 1200); do
            state=$(curl -sf "$url/v1/videos/$2" || true)
            grep -q "\"status\": *\"$1\"" <<<"$state" && return
            sleep 0.1
        done
        cat "$log"
        fail "the job is not $1: $state"
    }
    id=$(ask 1)
    await done "$id"
    old=$(rank_one)
    id=$(ask 15)
    for _ in $(seq 600); do
        grep -q '"progress": *[1-9]' <<<"$(curl -sf "$url/v1/videos/$id" || true)" && break
        sleep 0.1
    done
    kill -KILL "$old"
    await done "$id"
    victim=$(rank_one)
    [[ -n $victim && $victim != "$old" ]] || { cat "$log"; fail "the killed rank did not come back"; }
    grep -q "rank 1 has died: its process is gone (step [1-9]" "$log" || { cat "$log"; fail "the log does not say which rank and step"; }
    kill -TERM "$server"
    wait "$server" || { cat "$log"; fail "the server did not end well"; }
    for _ in $(seq 100); do
        kill -0 "$victim" 2>/dev/null || break
        sleep 0.1
    done
    kill -0 "$victim" 2>/dev/null && fail "a rank outlived its server"
    grep -m1 -o "rank 1 has died.*" "$log"
}

say "ids of 2 and 4 processes"
"$bin" "${make[@]}" --seconds 1 -o "$scratch/one.mp4" --save-ids "$scratch/one.json"
for n in 2 4; do
    expect ok "$(run "${mpi[@]}" -n "$n" "$bin" "${make[@]}" --seconds 1 -o "$scratch/$n.mp4" --save-ids "$scratch/$n.json")"
    cmp "$scratch/one.json" "$scratch/$n.json" || fail "$n processes give other ids than one"
    cmp "$scratch/one.mp4" "$scratch/$n.mp4" || fail "$n processes give another file than one"
    echo "$n processes: the bytes of one"
done

say "placement by measured load, and what the exchange costs"
expect ok "$(run "${mpi[@]}" -n 2 "$bin" bench --seconds 1 --runs 2 --threads 1 --save-expert-load "$scratch/load.json")" "^ranks  *2: a step sends"
grep "^ranks" "$scratch/said"
expect ok "$(run "${mpi[@]}" -n 2 "$bin" "${make[@]}" --seconds 1 -o "$scratch/b.mp4" --save-ids "$scratch/b.json" --expert-load "$scratch/load.json")"
cmp "$scratch/one.json" "$scratch/b.json" || fail "another placement gives other ids"

say "a rank that is stopped for a second, twice, and goes on"
rm -f "$scratch/said"
"${mpi[@]}" --bind-to core --oversubscribe -n 2 "$bin" "${make[@]}" --seconds 4 --json -o "$scratch/p.mp4" --save-ids "$scratch/p.json" >"$scratch/said" 2>&1 </dev/null &
launcher=$!
for _ in 1 2; do
    victim=""
    for _ in $(seq 300); do
        victim=$(pgrep -P "$launcher" -n || true)
        [[ -n $victim ]] && grep -q '"generate"' "$scratch/said" && break
        sleep 0.1
    done
    kill -STOP "$victim"
    sleep 1
    kill -CONT "$victim"
    sleep 0.3
done
code=0
wait "$launcher" || code=$?
expect ok "$code"
"$bin" "${make[@]}" --seconds 4 -o "$scratch/q.mp4" --save-ids "$scratch/q.json"
cmp "$scratch/p.json" "$scratch/q.json" || fail "a pause changed the ids"

say "evaluate over two processes"
expect ok "$(run "${mpi[@]}" -n 2 "$bin" evaluate --prompts recipes/heldout.txt --limit 1 --modes text --threads 1 --json)"

say "a server whose model is spread over processes, and loses one"
serve_over_ranks

say "ranks that do not agree"
cp "$bin" "$scratch/other"
printf '\0' >>"$scratch/other"
both=("${make[@]}" --seconds 1 -o "$scratch/x.mp4")
expect bad "$(run "${mpi[@]}" -n 1 "$bin" "${both[@]}" : -n 1 "$scratch/other" "${both[@]}")" "rank 1 is another build of this program"
expect bad "$(run "${mpi[@]}" -n 1 "$bin" "${both[@]}" : -n 1 "$bin" "${both[@]}" --model tests/goldens/tiny-default)" "rank 1 has other weights"
expect bad "$(run "${mpi[@]}" -n 1 "$bin" "${both[@]}" : -n 1 "$bin" "${both[@]}" --dtype int8)" "rank 1 has other settings"
expect bad "$(run "${mpi[@]}" -n 9 "$bin" "${both[@]}")" "9 ranks for 8 experts in a layer: use at most 8"
expect bad "$(run "${mpi[@]}" -n 2 "$bin" "${both[@]}" --ranks 3)" "--ranks 3, but mpirun started 2 processes"
[[ ! -e $scratch/x.mp4 ]] || fail "a run that failed left a file"

# lose SIGNAL SECONDS RANKS WORDS: the last rank gets a signal in the middle of a run; that must be told within so many seconds (times PATIENCE, for machines
# with other work), and mpirun must end.
lose() {
    local signal=$1 seconds=$(($2 * ${PATIENCE:-1})) ranks=$3 launcher victim code=0 begin took=0
    shift 3
    rm -f "$scratch/said"
    "${mpi[@]}" -n "$ranks" "$bin" generate "a red ball" --seed 7 --seconds 15 --variants 4 --threads 1 --json -o "$scratch/y.mp4" >"$scratch/said" 2>&1 </dev/null &
    launcher=$!
    # Ids are being drawn.
    for _ in $(seq 600); do
        grep -q '"generate"' "$scratch/said" 2>/dev/null && break
        sleep 0.1
    done
    victim=$(for p in $(pgrep -P "$launcher"); do
        tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$((ranks - 1))" && echo "$p"
    done)
    [[ -n $victim ]] || { cat "$scratch/said"; fail "no process of rank $((ranks - 1))"; }
    begin=$(date +%s%N)
    kill "-$signal" "$victim"
    until grep -q -- "$1" "$scratch/said"; do
        took=$((($(date +%s%N) - begin) / 1000000))
        ((took <= seconds * 1000)) || { cat "$scratch/said"; fail "SIG$signal was not noticed within $seconds s"; }
        sleep 0.02
    done
    wait "$launcher" || code=$?
    expect bad "$code" "$1"
    # Nobody is left behind; what only waits to be buried by init is gone.
    for _ in $(seq 50); do
        grep -q '^State:[[:space:]]*[^Z]' "/proc/$victim/status" 2>/dev/null || break
        sleep 0.1
    done
    grep -q '^State:[[:space:]]*[^Z]' "/proc/$victim/status" 2>/dev/null && fail "the rank is still there"
    ! ls "$scratch"/y* 2>/dev/null || fail "a run that failed left a file"
    echo "SIG$signal to rank $((ranks - 1)) of $ranks: told after $took ms, exit code $code after $((($(date +%s%N) - begin) / 1000000)) ms: $(grep -m1 -- "^error: $1" "$scratch/said")"
}

say "a rank that dies, a rank that hangs"
lose KILL 2 2 "rank 1 has died: its process is gone (step [0-9]*)"
lose KILL 2 4 "rank 3 has died: its process is gone (step [0-9]*)"
lose STOP 5 2 "rank 1 hangs: nothing was heard of it for 3.5 s (step [0-9]*)"
lose STOP 5 4 "rank 3 hangs: nothing was heard of it for 3.5 s (step [0-9]*)"
