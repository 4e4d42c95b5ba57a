"""Writes the default model's checkpoint folder: python export.py --transformer F --video F --audio F --tokenizer F --out DIR"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from borealis_recipe import audio_codec, checkpoint, video_tokenizer
from borealis_recipe import model as bm


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    for name in ("transformer", "video", "audio", "tokenizer", "out"):
        a.add_argument(f"--{name}", type=Path, required=True)
    a.add_argument("--sampling", help="JSON of generation_config's `sampling`")
    o = a.parse_args()
    sampling = json.loads(o.sampling) if o.sampling else None
    checkpoint.export(o.out, bm.load(o.transformer), o.tokenizer, video_tokenizer.load(o.video), audio_codec.load(o.audio), sampling=sampling)
    for path in sorted(o.out.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
            print(f"{path.stat().st_size:>10} {path.relative_to(o.out)}")


if __name__ == "__main__":
    main()
