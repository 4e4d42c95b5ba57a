"""Held-out prompts: scenes drawn with a seed of their own, half of them with (shape, colour, background) triples
that training never shows."""

from __future__ import annotations

import random

from .language import caption
from .scenes import held_out, random_scene
from .vocabulary import COLORS, MOTIONS
from .world import Scene

SEED = 4242
COLOR_NAMES = tuple(COLORS)
GREEN, MEADOW, WHITE, SKY = COLOR_NAMES.index("green"), 3, COLOR_NAMES.index("white"), 0


def camouflaged(scene: Scene) -> bool:
    """Colour and background that the analyser cannot tell apart even in a true rendering."""
    pairs = {(GREEN, MEADOW), (WHITE, SKY), (COLOR_NAMES.index("orange"), 2), (COLOR_NAMES.index("yellow"), 2)}
    pairs |= {(COLOR_NAMES.index("yellow"), 4), (COLOR_NAMES.index("orange"), 4), (WHITE, 4)}
    return any((t.color, scene.background) in pairs for t in scene.things)


def prompts(n: int, seed: int = SEED, still: bool = False) -> list[tuple[Scene, str]]:
    """(scene, caption) pairs with one object; every motion in turn."""
    r = random.Random(seed)
    out: list[tuple[Scene, str]] = []
    while len(out) < n:
        scene = random_scene(r, allow_held_out=True, pairs=0.0)
        thing = scene.things[0]
        thing.motion = (0, 1, 2, 3, 1, 4, 5, 6, 7, 8, 1, 9)[len(out) % 12]
        thing.size = max(1, thing.size)
        if MOTIONS[thing.motion] == "spin" and thing.shape in (0, 5):
            continue
        thing.canonical()
        scene.music = 0 if thing.motion == 1 or r.random() < 0.6 else scene.music
        if (len(out) % 2 == 0) != held_out(thing, scene.background) or camouflaged(scene):
            continue
        out.append((scene, caption(scene, r, not still)))
    return out
