"""Captions and edit instructions for scenes, with many ways to say the same, and the text tokenizer."""

from __future__ import annotations

import copy
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .world import COLOR_NAMES, SPIN, SYMMETRY, Scene, Thing, held_out, random_companion, random_scene

TEXT_VOCAB = 768

BACKGROUND_WORDS = (
    ("a blue sky", "the sky", "a cloudy blue sky", "the daylight sky", "a cloudy sky", "a clear sky"),
    ("a night sky", "the night", "a starry night", "a dark night with a moon", "the moonlight", "the starry night sky"),
    ("a sunset", "the sunset", "an orange sunset", "dusk", "the evening sun", "a glowing sunset"),
    ("a green meadow", "a meadow", "grass", "a grassy field", "green hills", "the grass"),
    ("a desert", "the desert", "sand dunes", "a sandy desert", "the sand", "the dunes"),
    ("a gray studio", "a studio", "a plain gray background", "a gray room", "a grey studio", "the studio"),
)
PREPOSITION = (
    ("in", "in front of", "against"),
    ("in", "at", "under"),
    ("at", "in front of", "in"),
    ("on", "over", "in"),
    ("in", "over", "on"),
    ("in", "against", "in front of"),
)
SHAPE_WORDS = (
    ("ball", "ball", "ball", "sphere", "circle"),
    ("box", "cube", "square", "box", "block"),
    ("triangle", "triangle", "pyramid"),
    ("star", "star", "star-shaped thing"),
    ("heart", "heart", "heart shape"),
    ("ring", "ring", "hoop", "donut"),
)
COLOR_WORDS = tuple((c, c, c, s) for c, s in zip(COLOR_NAMES, ("crimson", "orange", "golden", "emerald", "azure", "violet", "rosy", "snow-white")))
MOTION_WORDS = (
    ("standing still", "at rest", "staying still", "floating motionless", "that does not move", "", ""),
    ("bouncing", "bouncing up and down", "that bounces", "hopping", "jumping up and down", "bouncing on the ground", "bounces"),
    ("flying to the right", "moving right", "flying left to right", "gliding to the right", "that moves to the right", "moves to the right"),
    ("flying to the left", "moving left", "flying right to left", "gliding to the left", "that moves to the left", "moves to the left"),
    ("rising", "flying up", "moving up", "floating upward", "going up", "rises"),
    ("falling", "falling down", "moving down", "dropping", "sinking down", "falls"),
    ("orbiting", "moving in a circle", "circling around", "flying in circles", "circles around"),
    ("spinning", "rotating", "spinning around", "turning in place", "spins"),
    ("pulsing", "growing and shrinking", "that pulses", "breathing in size", "pulses"),
    ("shaking", "vibrating", "trembling", "shivering", "shakes"),
)  # fmt: skip
SPEED_WORDS = (("slowly", "slowly", "gently"), ("",), ("quickly", "fast", "rapidly"))
SIZE_WORDS = (("small", "tiny", "little"), ("", "", "medium"), ("large", "big", "huge"))
MUSIC_WORDS = (
    ("",),
    ("happy music", "cheerful music", "a happy melody", "a merry tune"),
    ("calm music", "a calm chord", "peaceful music", "soft music"),
    ("the sound of rain", "rain sounds", "rain", "rainfall"),
    ("wind", "wind noise", "a soft wind", "the sound of wind"),
)
OPENINGS = ("", "", "", "", "", "a video of ", "a clip of ", "an animation of ", "please show ", "generate ", "make a video of ", "a scene with ")
STILL_OPENINGS = ("", "", "", "", "a picture of ", "an image of ", "draw ", "show ")
REFERENCES = ("like <IMAGE_{k}>", "as in <IMAGE_{k}>", "from <IMAGE_{k}>")


def thing_text(thing: Thing, r: random.Random, motion: bool = True) -> str:
    """One object as a noun phrase, with its motion if asked."""
    size = r.choice(SIZE_WORDS[thing.size])
    if r.random() < 0.15:
        size = ""
    words = [size, r.choice(COLOR_WORDS[thing.color]), r.choice(SHAPE_WORDS[thing.shape])]
    text = " ".join(w for w in words if w)
    text = ("an " if text[0] in "aeiou" else "a ") + text
    if motion:
        move = r.choice(MOTION_WORDS[thing.motion])
        speed = r.choice(SPEED_WORDS[thing.speed]) if thing.motion else ""
        after = move.startswith("that") or r.random() < 0.75
        text = " ".join(w for w in ((text, move, speed) if after else (text, speed, move)) if w)
    return text


def caption(scene: Scene, r: random.Random, motion: bool = True, placed: bool = True) -> str:
    """One of very many captions of a scene; `motion` false describes a still, `placed` false sometimes leaves the background open."""
    body = thing_text(scene.things[0], r, motion)
    if len(scene.things) > 1:
        body += r.choice((" and ", " next to ", ", and ", " with ")) + thing_text(scene.things[1], r, motion)
    text = body
    if scene.picture is None and (placed or r.random() > 0.2):
        place = r.choice(BACKGROUND_WORDS[scene.background])
        where = r.choice(PREPOSITION[scene.background])
        style = r.random()
        text = f"{body} {where} {place}" if style < 0.65 else f"{where} {place}, {body}" if style < 0.82 else f"{body}, {place}"
    if motion and scene.music:
        text += r.choice((", ", ", with ", " with ", " and ")) + r.choice(MUSIC_WORDS[scene.music])
    text = r.choice(OPENINGS if motion else STILL_OPENINGS) + text
    if r.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + "." if r.random() < 0.2 else text


def edit(scene: Scene, r: random.Random) -> tuple[Scene, str]:
    """A changed scene and the instruction that asks for the change."""
    while True:
        new, text = _edit(scene, r)
        if not any(held_out(o, new.background) for o in new.things):
            return new, text


def _edit(scene: Scene, r: random.Random) -> tuple[Scene, str]:
    new = copy.deepcopy(scene)
    kinds = ["color", "color", "shape", "background", "background"]
    kinds.append("remove" if len(scene.things) == 2 else "add")
    kind = r.choice(kinds)
    i = r.randrange(len(scene.things))
    thing = new.things[i]
    name = f"{COLOR_NAMES[thing.color]} {r.choice(SHAPE_WORDS[thing.shape])}"
    if len(scene.things) == 1 and r.random() < 0.4:
        name = r.choice(SHAPE_WORDS[thing.shape])
    if kind == "color":
        used = [o.color for o in scene.things]
        thing.color = r.choice([c for c in range(8) if c not in used])
        word = r.choice(COLOR_WORDS[thing.color])
        form = r.choice(("make the {n} {w}", "change the {n} to {w}", "recolor the {n} {w}", "turn the {n} {w}", "paint the {n} {w}"))
    elif kind == "shape":
        shapes = [s for s in range(6) if s != thing.shape and not (thing.motion == SPIN and SYMMETRY[s] == 0)]
        thing.shape = r.choice(shapes)
        word = r.choice(SHAPE_WORDS[thing.shape])
        form = r.choice(("replace the {n} with a {w}", "turn the {n} into a {w}", "change the {n} into a {w}", "make the {n} a {w}"))
    elif kind == "background":
        new.background = r.choice([b for b in range(6) if b != scene.background])
        new.picture = None
        word = r.choice(BACKGROUND_WORDS[new.background])
        form = r.choice(("change the background to {w}", "put it in {w}", "replace the background with {w}", "move the scene to {w}"))
    elif kind == "add":
        other = random_companion(r, thing)
        if r.random() < 0.5:
            other.motion = 0
        new.things.append(other.canonical())
        word = thing_text(other, r, r.random() < 0.5)
        form = r.choice(("add {w}", "add {w} to the scene", "put {w} in the scene"))
    else:
        new.things.pop(i)
        word = ""
        form = r.choice(("remove the {n}", "delete the {n}", "take away the {n}", "erase the {n}"))
    return new, form.format(n=name, w=word)


def train_tokenizer(path: Path, seed: int = 5, scenes: int = 30_000) -> Tokenizer:
    """Byte-level BPE of 768 ids on captions and instructions."""
    r = random.Random(seed)
    lines = []
    for _ in range(scenes):
        scene = random_scene(r, pairs=0.4)
        lines += [caption(scene, r, r.random() < 0.8), edit(scene, r)[1]]
    lines += [f.format(k=k) for f in REFERENCES for k in range(7) for _ in range(200)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=TEXT_VOCAB, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(path))
    return tokenizer
