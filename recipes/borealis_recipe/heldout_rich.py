"""Held-out prompts of the rich world: every attribute in turn, half of them with never-trained triples."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .heldout import camouflaged
from .language import caption, things_text
from .lexicon import RELATION_WORDS, lexicon
from .scenes import held_out, random_companion, random_scene, relations, settle
from .vocabulary import BACKGROUNDS, MOTIONS, OWN_COLOR, RICH
from .world import BOUNCE, STILL, Scene, Thing

SEED = 5353
KINDS = ("shape", "thing", "thing", "camera", "weather", "pair", "thing", "pair", "three", "thing")
ORDER = (0, 1, 2, 3, 1, 4, 5, 6, 7, 8, 1, 9)  # of motions
# Things and backgrounds that the analyser cannot tell apart even in a true rendering.
HIDDEN = {
    ("tree", "meadow"), ("frog", "meadow"), ("cactus", "meadow"), ("turtle", "meadow"), ("ghost", "sky"), ("banana", "desert"),
    ("pizza", "desert"), ("crown", "sunset"), ("crown", "desert"), ("robot", "studio"), ("umbrella", "night"), ("cat", "desert"),
    ("dog", "desert"), ("bee", "desert"), ("ghost", "studio"), ("ghost", "desert"), ("boat", "sunset"), ("butterfly", "night"),
    ("butterfly", "sunset"), ("fish", "sky"), ("house", "sky"), ("house", "desert"), ("dog", "sky"),
}  # fmt: skip
DARK = {("black", "night"), ("black", "sunset"), ("purple", "sunset"), ("blue", "night"), ("blue", "sky"), ("white", "studio"), ("white", "meadow")}


@dataclass
class Prompt:
    """What is asked, and of what kind it is."""

    scene: Scene
    text: str
    kind: str
    relation: str | None = None


def unclear(scene: Scene) -> bool:
    """Whether the analyser could not tell even in a true rendering."""
    place = BACKGROUNDS[scene.background]
    for thing in scene.things:
        name, color = RICH.shapes[thing.shape], RICH.colors[thing.color]
        if (name, place) in HIDDEN or (color, place) in DARK:
            return True
    return camouflaged(scene)


def _scene(r: random.Random, kind: str, number: int) -> Scene:
    while True:
        scene = random_scene(r, allow_held_out=True, pairs=0.0, world=RICH)
        scene.camera = scene.weather = 0
        thing = scene.things[0]
        if (RICH.colors[thing.color] == OWN_COLOR) != (kind != "shape" and r.random() < 0.75 or kind == "thing"):
            continue
        thing.motion, thing.size = ORDER[number % len(ORDER)], max(1, thing.size)
        if kind == "camera":
            scene.camera = 1 + number % (len(RICH.cameras) - 1)
            thing.motion = STILL
        elif kind == "weather":
            scene.weather = 1 + number % (len(RICH.weather) - 1)
        elif kind in ("pair", "three"):
            thing.motion, thing.size = STILL, min(thing.size, 1 + (kind == "pair"))
            scene.things.append(_partner(r, thing, number))
            if kind == "three":
                scene.things.append(_third(r, scene.things))
            if None in scene.things:
                continue
        before = thing.shape
        for t in scene.things:
            t.canonical()
        settle(scene, r)
        quiet = thing.motion == BOUNCE or r.random() < 0.6
        scene.music = 0 if quiet else scene.music
        if before == thing.shape:
            return scene


def _partner(r: random.Random, first: Thing, number: int) -> Thing | None:
    """A still second object: beside the first, above or below it, or of another size."""
    other = random_companion(r, first, RICH)
    other.motion = STILL
    if number % 3 == 1:
        first.size = other.size = 0
        first.y, other.y = r.choice(((0, 7), (7, 0)))
        other.x = first.x
    elif number % 3 == 2:
        first.size, other.size = r.choice(((0, 2), (2, 0)))
    return other.canonical()


def _third(r: random.Random, things: list[Thing]) -> Thing | None:
    first, second = things
    if second is None:
        return None
    for _ in range(60):
        third = random_companion(r, first, RICH)
        third.motion, third.size = STILL, min(third.size, 1)
        if abs(third.x - second.x) >= 4 and not {third.shape} & {first.shape, second.shape} and third.color not in (first.color, second.color):
            return third.canonical()
    return None


def rich_prompts(n: int, seed: int = SEED) -> list[Prompt]:
    """Scenes of every kind in turn, with captions; half of them show a triple that training never does."""
    r = random.Random(seed)
    out: list[Prompt] = []
    while len(out) < n:
        kind = KINDS[len(out) % len(KINDS)]
        scene = _scene(r, kind, len(out) // len(KINDS) * 3 + len(out) % len(KINDS))
        unseen = any(held_out(t, scene.background) for t in scene.things)
        first, *others = scene.things
        if (len(out) % 2 == 0) != unseen or unclear(scene) or any((t.x, t.y) == (first.x, first.y) for t in others):
            continue
        relation = None
        text = caption(scene, r, world=RICH)
        if kind == "pair":
            said = relations(scene.things[0], scene.things[1])
            said = [s for s in said if (s in ("above", "below")) == (scene.things[0].x == scene.things[1].x)] or said
            if not said:
                continue
            relation = "bigger than" if "bigger than" in said and r.random() < 0.5 else said[0]
            text = _with_relation(scene, relation, r)
        out.append(Prompt(scene, text, kind, relation))
    return out


def _with_relation(scene: Scene, relation: str, r: random.Random) -> str:
    """A caption whose first two objects stand in exactly this relation."""
    phrases = RELATION_WORDS[relation]
    words = lexicon(RICH)
    parts = [things_text(Scene(scene.background, things=[t]), r, False, RICH) for t in scene.things[:2]]
    body = r.choice(phrases).replace("A", "\0").replace("B", parts[1]).replace("\0", parts[0])
    place = f"{r.choice(words.prepositions[scene.background])} {r.choice(words.backgrounds[scene.background])}"
    return f"{body} {place}"


def thing_name(thing: Thing) -> str:
    """`red ball bounce`, `cat still`."""
    color = RICH.colors[thing.color]
    parts = ([] if color == OWN_COLOR else [color]) + [RICH.shapes[thing.shape], MOTIONS[thing.motion]]
    return " ".join(parts)


def line(prompt: Prompt) -> str:
    """A line of `heldout_rich.txt`: the prompt, then what it asks for, behind tabs."""
    s = prompt.scene
    wants = (BACKGROUNDS[s.background], RICH.cameras[s.camera], RICH.weather[s.weather], str(len(s.things)), prompt.relation or "-")
    return "\t".join((prompt.text, *wants, "; ".join(thing_name(t) for t in s.things)))
