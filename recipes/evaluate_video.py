"""Scores the video tokenizer on held-out scenes: python evaluate_video.py [--checkpoint DIR] [--n 24] [--out FILE]

Peak signal-to-noise ratio and structural similarity of whole decoded frames, at the analysis scale of 180 lines and at 720 lines, where the truth is
rendered anew. `evaluate_tokenizer.py` takes them for every shape and thing, in its box.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from borealis_recipe import checkpoint, video_tokenizer
from borealis_recipe.heldout import prompts
from borealis_recipe.records import encode_video
from borealis_recipe.render import LINES_PER_UNIT, render
from evaluate_tokenizer import psnr, ssim


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--video", type=Path, help="another video tokenizer")
    a.add_argument("--n", type=int, default=24)
    a.add_argument("--latents", type=int, default=4)
    a.add_argument("--out", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    video = video_tokenizer.load(o.video) if o.video else checkpoint.read_video(o.checkpoint)
    stride = video.config.stride
    scores: dict[str, list[float]] = {}
    for index, (scene, _) in enumerate(prompts(o.n)):
        start = 1 + 5 * (index % 16)  # anywhere in the first fifteen seconds; one latent frame before is context
        digits = encode_video(video, scene, start, o.latents, "16:9").long()
        frames = np.arange(stride * start + 1, stride * (start + o.latents - 1) + 1)
        for scale in (1, 4):
            got = video.decode(digits, scale)[1:]
            true = render(scene, frames, "16:9", LINES_PER_UNIT * scale)
            scores.setdefault(f"psnr_{180 * scale}", []).append(psnr(got, true))
            scores.setdefault(f"ssim_{180 * scale}", []).append(float(np.mean([ssim(g, t) for g, t in zip(got, true)])))
    table = {"n": o.n} | {k: {"mean": round(float(np.mean(v)), 3), "worst": round(min(v), 3)} for k, v in scores.items()}
    print(json.dumps(table, indent=1))
    if o.out:
        o.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
