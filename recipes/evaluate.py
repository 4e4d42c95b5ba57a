"""Scores the model (or the truth, or the codecs alone) on held-out prompts with the analyser.

python evaluate.py --checkpoint DIR --what model|codec|truth --n 60 [--sheet FILE] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from borealis_recipe import checkpoint, layout, plans, scenes, video_tokenizer, world
from borealis_recipe import model as bm
from borealis_recipe.analysis import Verdict, analyse
from borealis_recipe.generate import Clip, Generator, Options, decode
from borealis_recipe.heldout import prompts
from borealis_recipe.records import encode_audio, encode_video
from borealis_recipe.render import render
from borealis_recipe.sampler import Sampling
from borealis_recipe.sound import synthesise
from borealis_recipe.vocabulary import MOTIONS, NARROW


def interval(hits: list[bool]) -> tuple[float, float, float]:
    """Share and its 95 % Wilson interval."""
    n, z = len(hits), 1.96
    if not n:
        return math.nan, math.nan, math.nan
    p = sum(hits) / n
    mid, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)


def judge(scene: world.Scene, v: Verdict) -> dict:
    thing = scene.things[0]
    return {
        "object": v.color is not None,
        "background": v.background == scene.background,
        "color": v.color == thing.color,
        "shape": v.shape == thing.shape,
        "motion": v.motion == MOTIONS[thing.motion],
        "got": f"{v.motion}, shape {v.shape}, colour {v.color}, background {v.background}",
        "sync_ms": v.sync_ms if thing.motion == world.BOUNCE else [],
        "silent": v.loudness < 0.003,
        "held_out": scenes.held_out(thing, scene.background),
        "asked_shape": NARROW.shapes[thing.shape],
        "asked_motion": MOTIONS[thing.motion],
        "quiet": thing.motion == world.STILL and scene.music == 0,
    }


def sheet(rows: list[tuple[str, Tensor]], path: Path, width: int = 200, columns: int = 6) -> None:
    """A contact sheet: one line of frames per clip."""
    high = max(round(width * f.shape[2] / f.shape[3]) for _, f in rows)
    image = Image.new("RGB", (columns * width, len(rows) * (high + 14)), "black")
    draw = ImageDraw.Draw(image)
    for i, (label, frames) in enumerate(rows):
        draw.text((3, i * (high + 14) + 1), label[:160], fill="white")
        for j in range(columns):
            f = frames[int(j * (len(frames) - 1) / (columns - 1))]
            picture = Image.fromarray((f.permute(1, 2, 0).numpy() * 255).astype("uint8"))
            size = (width, round(width * f.shape[1] / f.shape[2]))
            image.paste(picture.resize(size), (j * width, i * (high + 14) + 14))
    image.save(path, optimize=True)


ATTRIBUTES = ("object", "background", "color", "shape", "motion")


def by_score(rows: list[tuple[str, Tensor]], results: list[dict], n: int) -> list[tuple[str, Tensor]]:
    """The n/2 clips with the most and the n/2 with the fewest right attributes, in the order of the prompts."""
    order = sorted(range(len(rows)), key=lambda i: (-sum(bool(results[i][k]) for k in ATTRIBUTES), i))
    return [rows[i] for i in order[: n // 2]] + [rows[i] for i in order[n // 2 :][-(n - n // 2) :]]


def summary(results: list[dict]) -> dict:
    out: dict = {"n": len(results)}
    for key in ATTRIBUTES:
        p, low, high = interval([bool(r[key]) for r in results])
        out[key] = f"{p:.3f} [{low:.2f}, {high:.2f}]"
    sync = np.array([x for r in results for x in r["sync_ms"]])
    if len(sync):
        out["impacts"] = len(sync)
        out["sync_median_abs_ms"] = round(float(np.median(np.abs(sync))), 1)
        out["sync_within_42ms"] = round(float((np.abs(sync) <= 42).mean()), 3)
        out["sync_within_84ms"] = round(float((np.abs(sync) <= 84).mean()), 3)
    return out


def details(results: list[dict]) -> dict:
    """The summary, also of never-trained triples and of the others, and counts by shape and by motion."""
    out = summary(results)
    for name, unseen in (("held_out_triples", True), ("other_triples", False)):
        out[name] = summary([r for r in results if r["held_out"] == unseen])
    for name, key in (("shape_by_class", "shape"), ("motion_by_class", "motion")):
        groups: dict[str, list[bool]] = {}
        for r in results:
            groups.setdefault(r[f"asked_{key}"], []).append(bool(r[key]))
        out[name] = {k: f"{sum(v)}/{len(v)}" for k, v in groups.items()}
    quiet = [r["silent"] for r in results if r["quiet"]]
    out["silent_scenes_silent"] = f"{sum(quiet)}/{len(quiet)}"
    return out


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--what", choices=("model", "codec", "truth"), default="model")
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--transformer", type=Path, help="another transformer than the checkpoint's")
    a.add_argument("--video", type=Path, help="another video tokenizer")
    a.add_argument("--skip", type=int, default=0, help="leave out the first prompts")
    a.add_argument("--n", type=int, default=60)
    a.add_argument("--latents", type=int, default=19)
    a.add_argument("--aspect", default="16:9")
    a.add_argument("--plan", choices=("model", "true"), default="model", help="true: give the scene ids")
    a.add_argument("--sheet", type=Path)
    a.add_argument("--out", type=Path)
    a.add_argument("--seed", type=int, default=0, help="prompt i is generated with seed + i")
    a.add_argument("--temperature", type=float, default=0.8, help="of the scene ids")
    o = a.parse_args()
    torch.set_num_threads(1)
    model, tokenizer, video, audio = checkpoint.read(o.checkpoint)
    if o.video:
        video = video_tokenizer.load(o.video)
    if o.transformer:
        model = bm.load(o.transformer)
    generator = None
    if o.what == "model":
        generator = Generator(model, tokenizer, Options(scene=Sampling(o.temperature), seed=o.seed))
    results, rows, followed, start, tracked = [], [], [], time.time(), []
    frames_n = 4 * (o.latents - 1) + 1
    for index, (scene, text) in enumerate(prompts(o.skip + o.n)[o.skip :], o.skip):
        if o.what == "truth":
            frames = render(scene, np.arange(frames_n), o.aspect)
            samples = synthesise(scene, 0, frames_n * 1000, o.aspect)
        elif o.what == "codec":
            v = layout.pack_video(encode_video(video, scene, 0, o.latents, o.aspect).long())
            clip = Clip([], v, v, encode_audio(audio, scene, 0, o.latents, o.aspect).long())
            frames, sound = decode(video, audio, clip, o.aspect)
            samples = sound.numpy()
        else:
            ids = plans.scene_ids(model.layout.world, scene) if o.plan == "true" else None
            generator.options.seed = o.seed + index
            clip = generator.generate("text_to_video", text, o.latents, o.aspect, scene=ids)
            frames, sound = decode(video, audio, clip, o.aspect)
            samples = sound.numpy()
            got = plans.scene_from_ids(model.layout.world, clip.scene)
            same = [got.background == scene.background, len(got.things) == 1]
            same += [getattr(got.things[0], f) == getattr(scene.things[0], f) for f in ("shape", "color", "size", "motion", "speed")]
            followed.append(same)
            true_states = torch.tensor(plans.states(model.layout.world, got, np.arange(o.latents), o.aspect))
            tracked.append(float((clip.states == true_states).all(-1).all(-1).float().mean()))
        results.append({"text": text} | judge(scene, analyse(frames, samples, o.aspect)))
        marks = "".join(k[0] if results[-1][k] else "-" for k in ATTRIBUTES)
        rows.append((f"{marks} {text}", frames[np.linspace(0, len(frames) - 1, 6).astype(int)]))
    if o.sheet:
        sheet(by_score(rows, results, 24), o.sheet)
    table = details(results)
    if followed:
        names = ("background", "one", "shape", "color", "size", "motion", "speed")
        table["plan"] = dict(zip(names, np.mean(followed, 0).round(3).tolist()))
        table["states_right"] = round(float(np.mean(tracked)), 3)
    table["seconds"] = round(time.time() - start, 1)
    print(json.dumps(table, indent=1))
    if o.out:
        o.out.write_text(json.dumps({"summary": table, "clips": results}, indent=0) + "\n")


if __name__ == "__main__":
    main()
