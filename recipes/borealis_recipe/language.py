"""Captions and edit instructions for scenes, with many ways to say the same (`lexicon.py` has the words)."""

from __future__ import annotations

import copy
import random
import re

from .lexicon import RELATION_WORDS, Lexicon, lexicon
from .scenes import coloured, held_out, plain_colors, random_companion, random_scene, relations, settle, shape_pool
from .vocabulary import NARROW, World
from .world import SPIN, Scene, Thing, round_shape

REFERENCES = ("like <IMAGE_{k}>", "as in <IMAGE_{k}>", "from <IMAGE_{k}>")
# Words that say nothing of a scene: people write them all the same.
FILLER_BEFORE = ("hey, ", "hello there! ", "could you kindly create ", "my favourite: ", "i would like to see ", "imagine ", "4k, ", "quick idea: ")
FILLER_AFTER = (", please", ", thank you", ", highly detailed", ", cinematic", ", award-winning", ", in 4k", ", for my daughter", ", masterpiece")


def thing_text(thing: Thing, r: random.Random, motion: bool = True, words: Lexicon | None = None) -> str:
    """One object as a noun phrase, with its motion if asked."""
    words = words or lexicon(NARROW)
    size = r.choice(words.sizes[thing.size])
    if r.random() < 0.15:
        size = ""
    parts = [size, r.choice(words.colors[thing.color]), r.choice(words.shapes[thing.shape])]
    text = " ".join(w for w in parts if w)
    text = ("an " if text[0] in "aeiou" else "a ") + text
    if motion:
        move = r.choice(words.motions[thing.motion])
        speed = r.choice(words.speeds[thing.speed]) if thing.motion else ""
        after = move.startswith("that") or r.random() < 0.75
        text = " ".join(w for w in ((text, move, speed) if after else (text, speed, move)) if w)
    return text


def things_text(scene: Scene, r: random.Random, motion: bool, world: World) -> str:
    """All objects; where the world has relations, mostly with how the first two stand to each other."""
    words = lexicon(world)
    first = thing_text(scene.things[0], r, motion, words)
    if len(scene.things) == 1:
        return first
    said = []
    if world.objects > 2:
        said = relations(scene.things[0], scene.things[1])
        said += ["behind"] if "in front of" in said else []
    if said and (r.random() < 0.8 or "in front of" in said):
        second = thing_text(scene.things[1], r, motion and scene.things[1].motion != 0, words)
        # Between the relation and its partner a motion would be ambiguous.
        body = r.choice(RELATION_WORDS[r.choice(said)])
        body = body.replace("A", "\0").replace("B", second).replace("\0", first)
    else:
        body = first + r.choice((" and ", " next to ", ", and ", " with ")) + thing_text(scene.things[1], r, motion, words)
    for thing in scene.things[2:]:
        body += r.choice((" and ", ", and ", ", along with ", " together with ", " with ")) + thing_text(thing, r, motion, words)
    return body


def caption(scene: Scene, r: random.Random, motion: bool = True, placed: bool = True, world: World = NARROW) -> str:
    """One of very many captions of a scene; `motion` false describes a still, `placed` false sometimes leaves the background open."""
    words = lexicon(world)
    body = things_text(scene, r, motion, world)
    text, led = body, None  # what stands before the things, and then no opening
    if scene.picture is None and (placed or r.random() > 0.2):
        place = r.choice(words.backgrounds[scene.background])
        where = r.choice(words.prepositions[scene.background])
        style = r.random()
        text = f"{body} {where} {place}" if style < 0.65 else f"{where} {place}, {body}" if style < 0.82 else f"{body}, {place}"
    if world.weather and (said := r.choice(words.weather[scene.weather])):
        led = said if r.random() < 0.2 else None
        text = f"{said}, {text}" if led else f"{text}{',' if r.random() < 0.6 or ' ' not in said else ''} {said}"
    if world.moving_cameras and motion and (said := r.choice(words.cameras[scene.camera])):
        led, text = (said, f"{said}: {text}") if r.random() < 0.25 else (led, f"{text}, {said}")
    if motion and scene.music:
        text += r.choice((", ", ", with ", " with ", " and ")) + r.choice(words.music[scene.music])
    opening = r.choice(words.openings if motion else words.still_openings)
    text = opening + text if led is None else text
    if world.weather and r.random() < 0.1:
        text = r.choice(FILLER_BEFORE) + text if r.random() < 0.5 else text + r.choice(FILLER_AFTER)
    if r.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + "." if r.random() < 0.2 else text


def edit(scene: Scene, r: random.Random, world: World = NARROW) -> tuple[Scene, str]:
    """A changed scene and the instruction that asks for the change."""
    while True:
        new, text = _edit(scene, r, world)
        if not any(held_out(o, new.background) for o in new.things):
            return new, text


def _kinds(scene: Scene, world: World) -> list[str]:
    """What can be changed, the more often the oftener it stands here."""
    kinds = ["color", "color", "shape", "background", "background"]
    kinds.append("remove" if len(scene.things) >= 2 else "add")
    if world.objects > 2 and len(scene.things) == 2:
        kinds.append("add")
    if world.weather:
        kinds.append("weather")
    return kinds


def _edit(scene: Scene, r: random.Random, world: World) -> tuple[Scene, str]:
    words, new = lexicon(world), copy.deepcopy(scene)
    kind = r.choice(_kinds(scene, world))
    i = r.randrange(len(scene.things))
    thing = new.things[i]
    own = world.own_color(thing.shape)
    noun = r.choice(words.shapes[thing.shape])
    name = noun if own else f"{world.colors[thing.color]} {noun}"
    if not own and len(scene.things) == 1 and r.random() < 0.4:
        name = r.choice(words.shapes[thing.shape])
    if kind == "color" and own:
        kind = "shape"
    if kind == "color":
        used = [o.color for o in scene.things]
        thing.color = r.choice([c for c in plain_colors(world) if c not in used])
        word = r.choice(words.colors[thing.color])
        form = r.choice(("make the {n} {w}", "change the {n} to {w}", "recolor the {n} {w}", "turn the {n} {w}", "paint the {n} {w}"))
    elif kind == "shape":
        used = {o.shape for o in scene.things} if world.objects > 2 else {thing.shape}
        shapes = [s for s in sorted(set(shape_pool(world))) if s not in used and not (thing.motion == SPIN and round_shape(s))]
        thing.shape = r.choice(shapes)
        if own and not world.own_color(thing.shape):
            free = [c for c in plain_colors(world) if c not in [o.color for o in scene.things]]
            thing.color = r.choice(free)
        coloured(thing, world)
        color = f"{world.colors[thing.color]} " if own and not world.own_color(thing.shape) else ""
        word = color + r.choice(words.shapes[thing.shape])
        form = r.choice(("replace the {n} with a {w}", "turn the {n} into a {w}", "change the {n} into a {w}", "make the {n} a {w}"))
    elif kind == "background":
        new.background = r.choice([b for b in range(6) if b != scene.background])
        new.picture = None
        settle(new, r)
        word = r.choice(words.backgrounds[new.background])
        form = r.choice(("change the background to {w}", "put it in {w}", "replace the background with {w}", "move the scene to {w}"))
    elif kind == "weather":
        new.weather = r.choice([w for w in range(len(world.weather)) if w != scene.weather])
        forms = ("make the weather: {w}", "now {w}", "the same {w}", "change the weather, {w}", "show it {w}")
        word = r.choice([w for w in words.weather[new.weather] if w])
        form = r.choice(forms)
    elif kind == "add":
        other = random_companion(r, thing, world)
        if r.random() < 0.5:
            other.motion = 0
        new.things.append(other.canonical())
        settle(new, r)
        word = thing_text(other, r, r.random() < 0.5, words)
        form = r.choice(("add {w}", "add {w} to the scene", "put {w} in the scene"))
    else:
        new.things.pop(i)
        word = ""
        form = r.choice(("remove the {n}", "delete the {n}", "take away the {n}", "erase the {n}"))
    return new, re.sub(r"\ba (?=[aeiou])", "an ", form.format(n=name, w=word))


def corpus(world: World, seed: int = 5, scenes: int = 30_000) -> list[str]:
    """Captions, instructions and references: what the text tokenizer is trained on."""
    r = random.Random(seed)
    lines = []
    for _ in range(scenes):
        scene = random_scene(r, pairs=0.4, world=world)
        lines += [caption(scene, r, r.random() < 0.8, world=world), edit(scene, r, world)[1]]
    return lines + [f.format(k=k) for f in REFERENCES for k in range(7) for _ in range(200)]
