"""Fits the codebooks of the audio codec by k-means: python train_audio_codec.py --out FILE"""

from __future__ import annotations

import argparse
import random
import time

import torch
from torch import Tensor

from borealis_recipe import audio_codec as ac
from borealis_recipe.scenes import random_scene
from borealis_recipe.sound import synthesise
from borealis_recipe.vocabulary import WORLDS


def kmeans(x: Tensor, k: int, iterations: int = 12) -> Tensor:
    """Rows of x [n, d] -> k centres; the first seed is silence, empty centres restart where the error is."""
    energy = x.pow(2).sum(1).clamp(min=1e-3)
    c = x[torch.multinomial(energy, k)].clone()
    c[0] = 0
    for step in range(iterations):
        i = torch.cdist(x, c).argmin(1)
        count = torch.bincount(i, minlength=k).float()
        total = torch.zeros_like(c).index_add_(0, i, x)
        c = torch.where(count[:, None] > 0, total / count[:, None].clamp(min=1), c)
        empty = torch.nonzero(count == 0).flatten()
        if len(empty) and step < iterations - 3:
            c[empty] = x[torch.multinomial((x - c[i]).pow(2).sum(1), len(empty))]
    return c


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", required=True)
    a.add_argument("--clips", type=int, default=420)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--world", choices=tuple(WORLDS), default="narrow")
    o = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    r, start = random.Random(o.seed), time.process_time()
    codec = ac.AudioCodec(torch.zeros(3, 512, 384), ac.make_templates())
    parts: list[Tensor] = []
    while len(parts) < o.clips:
        y = synthesise(random_scene(r, pairs=0.3, world=WORLDS[o.world]), r.randrange(0, 10 * 24) * 1000, 40_000)
        if y.std() < 0.004 and r.random() < 0.9:
            continue
        parts.append(codec.vectors(torch.tensor(y))[2:-2])
    rest = x = torch.cat(parts)
    books = []
    for stage in range(3):
        c = kmeans(rest, 512)
        i = torch.cdist(rest, c).argmin(1)
        rest = rest - c[i]
        books.append(c)
        left = float(rest.pow(2).sum() / x.pow(2).sum())
        print(f"stage {stage} frames {len(x)} residual energy {left:.4f} cpu {time.process_time() - start:.0f}s", flush=True)
    ac.save(ac.AudioCodec(torch.stack(books), codec.templates), o.out)


if __name__ == "__main__":
    main()
