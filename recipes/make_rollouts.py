"""Lets the transformer draw random clips from their true plan and storyboard: python make_rollouts.py --out DIR --seed S --minutes M

What comes out is what the painter meets in use: codes with the transformer's mistakes, with the scene that they should show.
`train_video_tokenizer.py --rollouts DIR` reads them.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np
import torch

from borealis_recipe import checkpoint, language, layout
from borealis_recipe import model as bm
from borealis_recipe.generate import Generator
from borealis_recipe.plans import scene_ids, states
from borealis_recipe.records import draw_aspect
from borealis_recipe.scenes import random_scene

LATENTS, CLIPS = 10, 20  # latent frames a clip, clips a shard


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--transformer", type=Path, help="another transformer than the checkpoint's")
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--minutes", type=float, default=10.0)
    o = a.parse_args()
    torch.set_num_threads(1)
    o.out.mkdir(parents=True, exist_ok=True)
    model, tokenizer, _, _ = checkpoint.read(o.checkpoint)
    if o.transformer:
        model = bm.load(o.transformer)
    world = model.layout.world
    generator, r, start, shard = Generator(model, tokenizer), random.Random(o.seed), time.time(), 0
    while time.time() - start < 60 * o.minutes:
        clips = []
        for _ in range(CLIPS):
            scene, aspect = random_scene(r, pairs=0.1, world=world), draw_aspect(r)
            board = torch.tensor(states(world, scene, np.arange(LATENTS), aspect))
            text = language.caption(scene, r, True, world=world)
            clip = generator.generate("text_to_video", text, LATENTS, aspect, scene=scene_ids(world, scene), states=board)
            clips.append((scene, aspect, layout.unpack_video(clip.video, aspect).to(torch.uint8)))
        part = o.out / f".{o.seed}_{shard}.part"
        torch.save(clips, part)
        os.rename(part, o.out / f"{o.seed:04d}_{shard:05d}.pt")
        shard += 1
        print(f"{(time.time() - start) / 60:.1f}min shard {shard}", flush=True)


if __name__ == "__main__":
    main()
