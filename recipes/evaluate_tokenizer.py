"""How well the video tokenizer draws every shape and thing: PSNR at analysis scale, PSNR and SSIM at 720p, in the object's box.

python evaluate_tokenizer.py --checkpoint DIR [--out FILE]
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

from borealis_recipe import checkpoint
from borealis_recipe.render import LINES_PER_UNIT, render
from borealis_recipe.vocabulary import OWN_COLOR, RICH
from borealis_recipe.world import RADII, SPIN, STILL, Scene, Thing, track

FINE = 4  # 720p
FRAMES = np.arange(9)


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()) + 1e-9)


def ssim(a: Tensor, b: Tensor, side: int = 11) -> float:
    """Structural similarity (Wang et al. 2004) of pictures [3, H, W], with a Gaussian window of deviation 1.5."""
    x = torch.arange(side) - side // 2
    g = torch.exp(-(x**2) / (2 * 1.5**2))
    window = (g[:, None] * g[None] / g.sum() ** 2).expand(3, 1, side, side)

    def mean(v: Tensor) -> Tensor:
        return F.conv2d(v[None], window, groups=3)[0]

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def box(thing: Thing, frame: int, lines: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that hold the thing."""
    at = track(thing, np.array([frame]), 16 / 9, 1.0)
    x, y, reach = float(at.x[0]), float(at.y[0]), 1.25 * RADII[thing.size]
    cut = [slice(max(0, round((v - reach) * lines)), round((v + reach) * lines)) for v in (y, x)]
    return cut[0], cut[1]


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--out", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    video = checkpoint.read_video(o.checkpoint)
    out: dict[str, dict[str, float]] = {}
    for shape, name in enumerate(RICH.shapes):
        color = RICH.colors.index(OWN_COLOR) if RICH.own_color(shape) else shape % (len(RICH.colors) - 1)
        scores: dict[str, list[float]] = {"psnr": [], "psnr_720p": [], "ssim_720p": []}
        for k, motion in enumerate((STILL, SPIN)):
            thing = Thing(shape, color, 1 + k, 5, 3, motion)
            scene = Scene((shape + 3 * k) % 6, things=[thing])
            digits = video.encode(render(scene, FRAMES)[None])[0]
            rows, columns = box(thing, 8, LINES_PER_UNIT)
            scores["psnr"].append(psnr(video.decode(digits)[8][:, rows, columns], render(scene, FRAMES[8:])[0][:, rows, columns]))
            rows, columns = box(thing, 8, LINES_PER_UNIT * FINE)
            fine = render(scene, FRAMES[8:], lines=LINES_PER_UNIT * FINE)[0][:, rows, columns]
            got = video.decode(digits, FINE)[8][:, rows, columns]
            scores["psnr_720p"].append(psnr(got, fine))
            scores["ssim_720p"].append(ssim(got, fine))
        out[name] = {k: round(float(np.mean(v)), 3) for k, v in scores.items()}
    kinds = (("drawn shapes", RICH.shapes[: RICH.drawn()]), ("things", RICH.shapes[RICH.drawn() :]))
    for kind, names in kinds:
        out[f"all {kind}"] = {k: round(float(np.mean([out[n][k] for n in names])), 3) for k in ("psnr", "psnr_720p", "ssim_720p")}
    print(json.dumps(out, indent=1))
    if o.out:
        o.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
