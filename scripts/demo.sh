#!/usr/bin/env bash
# From a fresh clone to a clip: builds `borealis` and makes out/demo.mp4. A prompt may be given.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

prompt=${1:-a red ball bounces on grass}

say "building (the first time takes some minutes)"
cargo build --release --locked -p borealis-cli

say "generating \"$prompt\""
mkdir -p out
cargo run --quiet --release --locked -p borealis-cli -- generate "$prompt" -o out/demo.mp4 --seed 1 </dev/null

say "out/demo.mp4, as ffprobe sees it"
ffprobe -v error -of compact=nokey=0:print_section=1 \
    -show_entries format=format_name,duration,size:stream=codec_name,pix_fmt,width,height,r_frame_rate,nb_frames,sample_rate,channels,duration out/demo.mp4
