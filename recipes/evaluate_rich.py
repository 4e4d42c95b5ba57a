"""Scores a model of the rich world (or the truth, or the codecs alone) on its held-out prompts with the analyser.

python evaluate_rich.py --checkpoint DIR --what model|codec|truth --n 200 [--sheet FILE] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from borealis_recipe import checkpoint, layout
from borealis_recipe.analysis_rich import Look, Seen, analyse
from borealis_recipe.generate import Clip, Generator, Options, decode
from borealis_recipe.heldout_rich import Prompt, rich_prompts
from borealis_recipe.plans import scene_from_ids
from borealis_recipe.records import encode_audio, encode_video
from borealis_recipe.render import render
from borealis_recipe.sampler import Sampling
from borealis_recipe.scenes import held_out
from borealis_recipe.sound import synthesise
from borealis_recipe.vocabulary import BACKGROUNDS, CAMERAS, MOTIONS, RICH
from borealis_recipe.world import BOUNCE, Thing
from evaluate import interval, sheet

ATTRIBUTES = ("background", "camera", "weather", "count", "thing", "shape", "color", "motion", "relation")


def matched(things: list[Thing], seen: list[Seen]) -> list[Seen | None]:
    """For every asked object the seen one that is it: shape and colour right, else the shape, each seen object once."""
    left, out = list(seen), []
    for thing in things:
        own = RICH.own_color(thing.shape)
        fits = [s for s in left if s.shape == thing.shape]
        best = next((s for s in fits if own or s.color == thing.color), fits[0] if fits else None)
        if best is not None:
            left.remove(best)
        out.append(best)
    return out


def holds(relation: str, a: Seen | None, b: Seen | None) -> bool:
    """Whether two seen objects stand as asked."""
    if a is None or b is None:
        return False
    size = max(a.width, a.height) / max(b.width, b.height)
    return {
        "left of": a.x < b.x - 0.1,
        "right of": a.x > b.x + 0.1,
        "above": a.y < b.y - 0.1,
        "below": a.y > b.y + 0.1,
        "bigger than": size > 1.12,
        "smaller than": size < 1 / 1.12,
    }[relation]


def judge(prompt: Prompt, look: Look) -> dict:
    """Which attributes are right; only those that the prompt asks for are there."""
    scene = prompt.scene
    first = scene.things[0]
    found = matched(scene.things, look.things)
    own = RICH.own_color(first.shape)
    nearest = found[0] or max(look.things, key=lambda s: s.area, default=None)
    out: dict = {"text": prompt.text, "kind": prompt.kind}
    out["background"] = look.background == scene.background
    out["camera"] = look.camera == CAMERAS[scene.camera]
    out["weather"] = look.weather == RICH.weather[scene.weather]
    out["count"] = look.count == len(scene.things)
    out["thing" if own else "shape"] = found[0] is not None
    if not own:
        out["color"] = nearest is not None and nearest.color == first.color
    out["motion"] = nearest is not None and nearest.motion == MOTIONS[first.motion]
    if prompt.relation:
        out["relation"] = holds(prompt.relation, *found[:2])
    out["sync_ms"] = look.sync_ms if first.motion == BOUNCE else []
    out["held_out"] = any(held_out(t, scene.background) for t in scene.things)
    names = [f"{RICH.shapes[s.shape]} {s.motion}" for s in look.things]
    out["got"] = f"{BACKGROUNDS[look.background]}, {look.camera}, {look.weather}, {look.count}: {', '.join(names)}"
    out["asked"] = {"shape": RICH.shapes[first.shape], "motion": MOTIONS[first.motion], "camera": CAMERAS[scene.camera]}
    out["asked"] |= {"weather": RICH.weather[scene.weather], "relation": prompt.relation or "-"}
    return out


def share(results: list[dict], key: str) -> str | None:
    """Share of right ones with its interval, of those that are asked for it."""
    asked = [bool(r[key]) for r in results if key in r]
    if not asked:
        return None
    p, low, high = interval(asked)
    return f"{p:.3f} [{low:.2f}, {high:.2f}] of {len(asked)}"


def table(results: list[dict]) -> dict:
    out: dict = {"n": len(results)} | {k: s for k in ATTRIBUTES if (s := share(results, k))}
    sync = np.array([x for r in results for x in r["sync_ms"]])
    if len(sync):
        size = np.abs(sync)
        out["impacts"], out["sync_median_abs_ms"] = len(sync), round(float(np.median(size)), 1)
        out["sync_within_42ms"], out["sync_within_84ms"] = (round(float((size <= ms).mean()), 3) for ms in (42, 84))
    for name in ("camera", "weather", "motion", "relation"):
        groups: dict[str, list[bool]] = {}
        for r in results:
            if name in r:
                groups.setdefault(r["asked"][name], []).append(bool(r[name]))
        out[f"{name}_by_class"] = {k: f"{sum(v)}/{len(v)}" for k, v in groups.items()}
    missed = [r["asked"]["shape"] for r in results if not r.get("thing", r.get("shape"))]
    out["shapes_missed"] = {k: missed.count(k) for k in sorted(set(missed))}
    return out


def by_score(rows: list[tuple[str, Tensor]], results: list[dict], n: int) -> list[tuple[str, Tensor]]:
    """The n/2 clips with the largest and the n/2 with the smallest share of right attributes, in the order of the prompts."""

    def right(i: int) -> float:
        asked = [bool(results[i][k]) for k in ATTRIBUTES if k in results[i]]
        return sum(asked) / len(asked)

    order = sorted(range(len(rows)), key=lambda i: (-right(i), i))
    return [rows[i] for i in order[: n // 2]] + [rows[i] for i in order[n // 2 :][-(n - n // 2) :]]


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--what", choices=("model", "codec", "truth"), default="model")
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--skip", type=int, default=0, help="leave out the first prompts")
    a.add_argument("--n", type=int, default=200)
    a.add_argument("--latents", type=int, default=13)
    a.add_argument("--temperature", type=float, default=0.8, help="of the scene ids")
    a.add_argument("--sheet", type=Path, help="a contact sheet of 24 clips")
    a.add_argument("--out", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    model, tokenizer, video, audio = checkpoint.read(o.checkpoint)
    generator = Generator(model, tokenizer, Options(scene=Sampling(o.temperature)))
    results, rows, start, followed = [], [], time.time(), []
    count = 4 * (o.latents - 1) + 1
    for index, prompt in enumerate(rich_prompts(o.skip + o.n)[o.skip :], o.skip):
        scene = prompt.scene
        if o.what == "truth":
            frames, samples = render(scene, np.arange(count)), synthesise(scene, 0, count * 1000)
        else:
            if o.what == "codec":
                v = layout.pack_video(encode_video(video, scene, 0, o.latents, "16:9").long())
                clip = Clip([], v, v, encode_audio(audio, scene, 0, o.latents, "16:9").long())
            else:
                generator.options.seed = index
                clip = generator.generate("text_to_video", prompt.text, o.latents)
                got = scene_from_ids(model.layout.world, clip.scene)
                followed.append([got.background == scene.background, got.camera == scene.camera, got.weather == scene.weather])
                followed[-1] += [len(got.things) == len(scene.things), got.things[0].shape == scene.things[0].shape]
                followed[-1].append(got.things[0].motion == scene.things[0].motion)
            frames, sound = decode(video, audio, clip, "16:9")
            samples = sound.numpy()
        results.append(judge(prompt, analyse(frames, samples)))
        marks = "".join(k[0] if results[-1][k] else "-" for k in ATTRIBUTES if k in results[-1])
        rows.append((f"{marks} {prompt.text}", frames[np.linspace(0, len(frames) - 1, 6).astype(int)]))
    scores = table(results)
    if followed:
        names = ("background", "camera", "weather", "count", "shape", "motion")
        scores["plan"] = dict(zip(names, np.mean(followed, 0).round(3).tolist()))
    scores["seconds"] = round(time.time() - start, 1)
    print(json.dumps(scores, indent=1))
    if o.sheet:
        sheet(by_score(rows, results, 24), o.sheet)
    if o.out:
        o.out.write_text(json.dumps({"summary": scores, "clips": results}, indent=0) + "\n")


if __name__ == "__main__":
    main()
