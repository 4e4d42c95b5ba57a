"""How well the video tokenizer draws every shape and thing of the rich world: PSNR at analysis scale, PSNR and SSIM at 720p, in the object's box.

python evaluate_tokenizer.py --checkpoint DIR [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from borealis_recipe import checkpoint
from borealis_recipe.render import LINES_PER_UNIT, render
from borealis_recipe.vocabulary import OWN_COLOR, RICH
from borealis_recipe.world import RADII, SPIN, STILL, Scene, Thing, track
from evaluate_video import psnr, ssim

FINE = 4  # 720p
FRAMES = np.arange(9)


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
            scores["ssim_720p"].append(ssim(got[None], fine[None]))
        out[name] = {k: round(float(np.mean(v)), 3) for k, v in scores.items()}
    kinds = (("drawn shapes", RICH.shapes[: RICH.drawn()]), ("things", RICH.shapes[RICH.drawn() :]))
    for kind, names in kinds:
        out[f"all {kind}"] = {k: round(float(np.mean([out[n][k] for n in names])), 3) for k in ("psnr", "psnr_720p", "ssim_720p")}
    print(json.dumps(out, indent=1))
    if o.out:
        o.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
