#!/usr/bin/env bash
# Borealis and llama.cpp on the same weights, in turns, so that a bad minute of the machine hits both: compare.sh [SHAPES] [THREADS] [ROUNDS]
#   benches/peers/compare.sh 40m,1b 1,2 2        six to eight minutes on two cores, of which most is llama.cpp filling its contexts
# Needs the built program (BOREALIS, default target/release/borealis) and a Python (PYTHON, default python3) with `pip install numpy gguf xllamacpp`;
# LLAMA_LIBRARY=FILE takes another library of llama.cpp instead of xllamacpp's, such as one that was built for this very processor (cmake -DGGML_NATIVE=ON).
# SETS (default avx512; avx512,avx2 for both) are the instructions that ours may use, ROWS and BUDGET (seconds a figure) are for both programs.
# Models and figures go to benches/results/SHAPE/ (about 4 bytes a parameter), the table to standard output.
set -euo pipefail
shapes=${1:-40m}
threads=${2:-$(nproc)}
rounds=${3:-3}
rows=${ROWS:-1,2,8,32}
budget=${BUDGET:-0.5}
borealis=${BOREALIS:-target/release/borealis}
python=${PYTHON:-python3}
here=$(dirname "$0")
folders=()
for shape in ${shapes//,/ }; do
  out=$here/../results/$shape
  mkdir -p "$out"
  [ -d "$out/model" ] || "$borealis" synth "$shape" "$out/model"
  [ -f "$out/q8_0.gguf" ] || "$python" "$here/to_gguf.py" "$out/model" "$out/q8_0.gguf" --type Q8_0
  for count in ${threads//,/ }; do
    figures=$out/threads-$count
    folders+=("$figures")
    mkdir -p "$figures"
    for round in $(seq "$rounds"); do
      for set in $(tr , ' ' <<< "${SETS:-avx512}"); do
        "$borealis" bench model "$out/model" --dtypes int8 --rows "$rows" --budget "$budget" --threads "$count" --instructions "$set" --json \
          > "$figures/ours-$set-$round.json"
      done
      "$python" "$here/llama_cpp.py" "$out/q8_0.gguf" --rows "$rows" --budget "$budget" --threads "$count" \
        ${LLAMA_LIBRARY:+--library "$LLAMA_LIBRARY"} > "$figures/llama-$round.json"
    done
  done
done
"$python" "$here/table.py" "${folders[@]}"
