"""Scores edits, image to video and extension with the analyser: python evaluate_modes.py --checkpoint DIR"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from borealis_recipe import checkpoint, language, layout, world
from borealis_recipe import model as bm
from borealis_recipe.analysis import analyse, follow
from borealis_recipe.generate import Clip, Generator, Options, Source, decode
from borealis_recipe.heldout import camouflaged, prompts
from borealis_recipe.records import encode_audio, encode_video
from borealis_recipe.render import render
from borealis_recipe.sampler import Sampling
from borealis_recipe.vocabulary import MOTIONS
from evaluate import interval, sheet
from evaluate_video import psnr

Case = tuple[str, bool, dict]


class Scorer:
    def __init__(self, generator: Generator, video, audio) -> None:
        self.generator, self.video, self.audio = generator, video, audio
        self.rows: list[tuple[str, Tensor]] = []

    def codes(self, scene: world.Scene, start: int, n: int) -> tuple[Tensor, Tensor]:
        v = layout.pack_video(encode_video(self.video, scene, start, n, "16:9").long())
        return v, encode_audio(self.audio, scene, start, n, "16:9").long()

    def picture(self, rows: Tensor) -> Tensor:
        return self.video.decode(layout.unpack_video(rows, "16:9"))[0]

    def edit(self, scene: world.Scene, r: random.Random) -> Case | None:
        edited, text = language.edit(scene, r)
        if len(edited.things) != 1 or camouflaged(edited):
            return None
        source = self.codes(scene, 0, 1)[0]
        clip = self.generator.generate("edit_image", text, 1, sources=(Source("<image_0>", source),))
        got = self.picture(clip.video)
        before, wanted = (render(s, np.array([0.0]))[0] for s in (scene, edited))
        own = self.picture(self.codes(edited, 0, 1)[0])
        verdict = analyse(got[None], np.zeros(0))
        thing = edited.things[0]
        right = (verdict.color, verdict.shape, verdict.background) == (thing.color, thing.shape, edited.background)
        same = (before - wanted).abs().amax(0) < 1e-3
        kept = {}
        if same.float().mean() > 0.05:
            kept = {"kept": psnr(got[:, same], wanted[:, same]), "codec": psnr(own[:, same], wanted[:, same])}
        self.rows.append((f"{'+' if right else '-'} edit: {text}", torch.stack([self.picture(source), got, own])))
        return text, right, kept

    def image_to_video(self, scene: world.Scene, text: str) -> Case:
        source = self.codes(scene, 0, 1)[0]
        clip = self.generator.generate("image_to_video", text, 13, sources=(Source("<image_0>", source),))
        frames, sound = decode(self.video, self.audio, clip, "16:9")
        verdict = analyse(frames, sound.numpy())
        self.rows.append((f"i2v {verdict.motion}: {text}", frames))
        same = torch.equal(clip.video[0], source[0])
        thing = scene.things[0]
        held = (verdict.color, verdict.shape) == (thing.color, thing.shape)
        return text, verdict.motion == MOTIONS[thing.motion], {"starts": same, "object": held}

    def extend(self, scene: world.Scene, text: str) -> Case:
        v, a = self.codes(scene, 0, 7)
        source = Source("<video>", v[-3:], a[-3:], first=4)
        more = self.generator.generate("extend", text, 8, sources=(source,))
        joined = Clip([], more.states, torch.cat([v, more.video]), torch.cat([a, more.audio]))
        frames, sound = decode(self.video, self.audio, joined, "16:9")
        verdict = analyse(frames, sound.numpy())
        true = render(scene, np.arange(len(frames)))
        seam = 4 * 6
        found = follow(frames[seam - 1 : seam + 3], scene.background, "16:9").table[:, :2]
        wanted = follow(true[seam - 1 : seam + 3], scene.background, "16:9").table[:, :2]
        jump = np.abs(np.diff(found, axis=0) - np.diff(wanted, axis=0)).max()
        self.rows.append((f"extend {verdict.motion}: {text}", frames))
        return text, verdict.motion == MOTIONS[scene.things[0].motion], {"jump": float(np.nan_to_num(jump, nan=9.0))}


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--transformer", type=Path, help="another transformer than the checkpoint's")
    a.add_argument("--n", type=int, default=24)
    a.add_argument("--temperature", type=float, default=0.0, help="of the scene ids")
    a.add_argument("--out", type=Path)
    a.add_argument("--sheet", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    model, tokenizer, video, audio = checkpoint.read(o.checkpoint)
    if o.transformer:
        model = bm.load(o.transformer)
    scorer = Scorer(Generator(model, tokenizer, Options(scene=Sampling(o.temperature))), video, audio)
    r, cases = random.Random(77), prompts(4 * o.n, seed=77)
    table: dict = {}
    edits = [c for c in (scorer.edit(s, r) for s, _ in cases) if c][: o.n]
    motion = [scorer.image_to_video(s, t) for s, t in cases[: o.n // 2]]
    longer = [scorer.extend(s, t) for s, t in cases[: o.n // 2]]
    for name, results in (("edit_image", edits), ("image_to_video", motion), ("extend", longer)):
        p, low, high = interval([c[1] for c in results])
        table[name] = {"n": len(results), "right": f"{p:.3f} [{low:.2f}, {high:.2f}]"}
        for key in sorted({k for c in results for k in c[2]}):
            values = [float(c[2][key]) for c in results if key in c[2]]
            table[name][key] = round(float(np.mean(values)), 3)
            table[name][f"{key}_median"] = round(float(np.median(values)), 3)
    print(json.dumps(table, indent=1))
    if o.out:
        o.out.write_text(json.dumps(table, indent=1) + "\n")
    if o.sheet:
        picked = scorer.rows[:8] + [x for x in scorer.rows if x[0].startswith("i2v")][:4] + [x for x in scorer.rows if x[0].startswith("extend")][:4]
        sheet(picked, o.sheet)


if __name__ == "__main__":
    main()
