#!/usr/bin/env bash
# Everything about NVIDIA GPUs that is verified or measured.
#
#   scripts/gpu.sh --emulate          runs the kernels on this machine's CPU (g++ alone is needed), under all differential tests and goldens
#   scripts/gpu.sh --pack FOLDER      builds what the next line needs into FOLDER (set NVCC to build machine code in; else NVRTC must be where it runs)
#   scripts/gpu.sh --run FOLDER OUT   on a machine with a GPU, without network and without Rust: tests, goldens, equal ids, figures; logs and JSON into
#                                     OUT; at most 10 minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
target=${CARGO_TARGET_DIR:-$PWD/target}

# Builds the tests and the figures; tells their files as NAME PATH. Arguments go to cargo.
build() {
    # The whole workspace, so that what its tests have built is used.
    local packages=(--release --locked --message-format=json --workspace "$@")
    {
        cargo test --no-run "${packages[@]}" --test differential --test model
        cargo build "${packages[@]}" --example gpu
    } | sed -n 's/.*"name":"\(differential\|gpu\|model\)".*"executable":"\([^"]*\)".*/\1 \2/p' | sort -u
}

emulate() {
    command -v g++ >/dev/null || { echo "skipped: g++ is not installed; the CUDA kernels are not run"; exit 0; }
    local folder=$target/emulator made name path
    mkdir -p "$folder"
    say "the emulator"
    # No contraction: what is one operation on a GPU is written as one. The host's own instructions: a multiply-add is one of them.
    g++ -std=c++17 -O2 -march=native -ffp-contract=off -U_FORTIFY_SOURCE -fno-strict-aliasing -shared -fPIC -fvisibility=hidden \
        -Wall -Wextra -Wno-unknown-pragmas -Werror -Wl,-soname,libcuda.so -o "$folder/libcuda.so" kernels/cuda/emulator/libcuda.cpp
    ln -sf libcuda.so "$folder/libnvrtc.so"
    made=$(build)
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} XDG_CACHE_HOME=$folder/cache
    while read -r name path; do
        say "$name on the emulated device"
        case $name in
            gpu) "$path" --small ;;
            *) (cd "$(crate "$name")" && "$path" --quiet) && BOREALIS_EMULATOR_REVERSE=1 again "$name" "$path" ;;
        esac
    done <<<"$made"
}

# The folder from which cargo runs a test.
crate() {
    case $1 in
        differential) echo kernels ;;
        model) echo crates/borealis-model ;;
    esac
}

# Blocks and threads in descending order: races show as other results. The products, experts and attention are enough.
again() {
    if [[ $1 == differential ]]; then
        (cd kernels && "$2" --quiet heads:: rows:: layer::ties sample:: attention:: graphs::)
    fi
}

pack() {
    local folder=$1 name path
    mkdir -p "$folder"
    build --features borealis-kernels/cuda | while read -r name path; do
        cp "$path" "$folder/$name"
        strip "$folder/$name"
    done
    # Tests find their goldens where they were built.
    pwd >"$folder/root"
    if cargo build --release --locked -p borealis-cli --features borealis-kernels/cuda; then
        cp "$target/release/borealis" "$folder/borealis"
        strip "$folder/borealis"
    fi
    du -sh "$folder"
}

# Runs a step with a limit in seconds and keeps its log; goes on when it fails.
step() {
    local name=$1 limit=$2 code=0 start=$SECONDS
    shift 2
    say "$name"
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
    tail -n 5 "$out/$name.log"
    if grep -q 'skipped: no device' "$out/$name.log"; then code=77; fi
    results+=("{\"step\":\"$name\",\"exit\":$code,\"seconds\":$((SECONDS - start))}")
}

# The ids of a clip on the CPU and on the GPU, with and without graphs, and whether they are the same.
same_ids() {
    local device
    for device in cpu cuda cuda-eager; do
        "$folder/borealis" generate "a red ball bounces on grass" --seconds 1 --seed 7 --device "$device" --dtype f32 --quiet \
            --save-ids "$out/ids-$device.json" -o "$scratch/$device.mp4" || return 1
    done
    cmp "$out/ids-cpu.json" "$out/ids-cuda.json" && cmp "$out/ids-cuda.json" "$out/ids-cuda-eager.json"
}

run() {
    folder=$(realpath "$1") out=$2 results=() scratch=$(mktemp -d)
    mkdir -p "$out"
    out=$(realpath "$out")
    local root
    root=$(cat "$folder/root")
    # Tests know the path at which they were built.
    [[ -e $root ]] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
    chmod +x "$folder"/*
    step machine 10 nvidia-smi
    step differential 100 env -C "$root/kernels" "$folder/differential" --test-threads 4 --nocapture
    step model 70 env -C "$root/crates/borealis-model" "$folder/model" --test-threads 4 --nocapture
    if command -v compute-sanitizer >/dev/null; then
        step memcheck 50 env -C "$root/kernels" compute-sanitizer --error-exitcode 9 "$folder/differential" rows:: heads:: sample:: graphs::
        step racecheck 50 env -C "$root/kernels" compute-sanitizer --tool racecheck --error-exitcode 9 "$folder/differential" rows::matmul heads:: sample::
    fi
    if "$folder/borealis" --version >"$out/version.log" 2>&1; then
        step ids 50 same_ids
        step bench 20 "$folder/borealis" bench --device cuda --json --runs 1
        step bench-eager 20 "$folder/borealis" bench --device cuda-eager --json --runs 1
        step bench-cpu 20 "$folder/borealis" bench --device cpu --json --runs 1
    else
        echo "skipped: borealis does not start here (FFmpeg's libraries?): see version.log"
    fi
    # What one operation and one step cost, up to shapes of 30 billion parameters; the longest, and so the last.
    step figures 200 "$folder/gpu"
    grep '^{' "$out/figures.log" >"$out/figures.json" || true
    printf '[%s]\n' "$(IFS=,; echo "${results[*]}")" >"$out/steps.json"
    cat "$out/steps.json"
    rm -rf "$scratch"
    ! grep -q '"exit":[1-9]' "$out/steps.json"
}

case ${1:-} in
    --emulate) emulate ;;
    --pack) pack "${2:?a folder}" ;;
    --run) run "${2:?the packed folder}" "${3:?a folder for the results}" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
