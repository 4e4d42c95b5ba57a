#!/usr/bin/env bash
# Borealis and llama.cpp on the same weights, in turns, so that a bad minute of the machine hits both: compare.sh SHAPE [THREADS] [ROUNDS]
# Needs the built program (BOREALIS, default target/release/borealis) and a Python (PYTHON, default python3) with `pip install numpy gguf xllamacpp`;
# LLAMA_LIBRARY=FILE takes another library of llama.cpp. Files go to benches/results/SHAPE/ (about 4 bytes a parameter).
set -euo pipefail
shape=${1:?usage: compare.sh 40m|1b [THREADS] [ROUNDS]}
threads=${2:-$(nproc)}
rounds=${3:-3}
borealis=${BOREALIS:-target/release/borealis}
python=${PYTHON:-python3}
here=$(dirname "$0")
out=$here/../results/$shape
mkdir -p "$out"
[ -d "$out/model" ] || "$borealis" synth "$shape" "$out/model"
[ -f "$out/q8_0.gguf" ] || "$python" "$here/to_gguf.py" "$out/model" "$out/q8_0.gguf" --type Q8_0
for round in $(seq "$rounds"); do
  for set in avx512 avx2; do
    "$borealis" bench model "$out/model" --dtypes int8 --threads "$threads" --instructions "$set" --json > "$out/ours-$set-$round.json"
  done
  "$python" "$here/llama_cpp.py" "$out/q8_0.gguf" --threads "$threads" ${LLAMA_LIBRARY:+--library "$LLAMA_LIBRARY"} > "$out/llama-$round.json"
done
"$python" "$here/table.py" "$out"
