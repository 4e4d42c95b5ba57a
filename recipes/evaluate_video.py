"""Scores the video tokenizer on held-out scenes: python evaluate_video.py [--checkpoint DIR] [--n 24] [--out FILE]

Peak signal-to-noise ratio and structural similarity (Wang et al. 2004: luma, Gaussian window of 11 pixels, deviation 1.5) of decoded frames, at the
analysis scale of 180 lines and at 720 lines, where the truth is rendered anew.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from borealis_recipe import checkpoint, video_tokenizer
from borealis_recipe.heldout import prompts
from borealis_recipe.records import encode_video
from borealis_recipe.render import LINES_PER_UNIT, render

LUMA = torch.tensor([0.2126, 0.7152, 0.0722])


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()) + 1e-9)


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity of frames [T, 3, H, W] in 0..1."""
    at = torch.arange(11) - 5.0
    window = torch.exp(-0.5 * (at / 1.5) ** 2)
    window = (window / window.sum())[None, None]

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window[..., None]), window[:, :, None])

    x, y = ((v * LUMA[:, None, None]).sum(1, keepdim=True) for v in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    map_ = (2 * mx * my + 0.01**2) * (2 * both + 0.03**2) / ((mx * mx + my * my + 0.01**2) * (vx + vy + 0.03**2))
    return float(map_.mean())


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
            scores.setdefault(f"ssim_{180 * scale}", []).append(ssim(got, true))
    table = {"n": o.n} | {k: {"mean": round(float(np.mean(v)), 3), "worst": round(min(v), 3)} for k, v in scores.items()}
    print(json.dumps(table, indent=1))
    if o.out:
        o.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
