"""Scenes of the procedural world: what exists, where it is at any time, and the discrete ids that say so.

Units: the short side of the canvas is 1 (= 180 lines at analysis scale, 720 at 720p); a cell of the
video tokenizer is 1/9 of it. Time runs in frames at 24 fps; a latent frame is 4 frames (1/6 s).
Every scene parameter is drawn from bins, so picture and sound are a function of (scene ids, time).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

FPS = 24
SAMPLE_RATE = 24_000
STRIDE = 4  # frames per latent frame
CELLS_PER_UNIT = 9
GROUND = 0.88  # of the canvas height

SHAPES = ("ball", "box", "triangle", "star", "heart", "ring")
COLORS = {
    "red": (0.90, 0.10, 0.12),
    "orange": (1.0, 0.52, 0.05),
    "yellow": (0.98, 0.88, 0.12),
    "green": (0.10, 0.68, 0.22),
    "blue": (0.10, 0.30, 0.92),
    "purple": (0.55, 0.15, 0.78),
    "pink": (1.0, 0.48, 0.74),
    "white": (0.97, 0.97, 0.97),
}
COLOR_NAMES = tuple(COLORS)
RADII = (0.12, 0.17, 0.23)
REACH = 1.2  # how far a shape extends from its centre, in radii (the points of a star)
PULSE_SWING = 0.35  # share by which a pulsing radius grows and shrinks
BACKGROUNDS = ("sky", "night", "sunset", "meadow", "desert", "studio")
MOTIONS = ("still", "bounce", "right", "left", "up", "down", "orbit", "spin", "pulse", "shake")
MUSIC = ("none", "happy", "calm", "rain", "wind")
STILL, BOUNCE, RIGHT, LEFT, UP, DOWN, ORBIT, SPIN, PULSE, SHAKE = range(10)
BALL, BOX, TRIANGLE, STAR, HEART, RING = range(6)

X_LEVELS, Y_LEVELS, PHASES = 12, 8, 12
CLOCK = 36  # steps of a periodic motion's phase
# Steps of the clock per latent frame, by motion and speed: all whole, so a clock never drifts.
CLOCK_STEP = {
    BOUNCE: (4, 6, 8),
    ORBIT: (2, 3, 4),
    SPIN: (2, 3, 4),
    PULSE: (2, 3, 4),
    SHAKE: (9, 12, 18),
}
BINS = 128  # position bins per unit
ORIGIN = 0.5  # units left of / above the canvas where bin 0 lies
FLY_STEP = (6, 10, 16)  # bins per latent frame
SYMMETRY = (0, 4, 3, 5, 1, 0)  # rotational symmetry by shape; 0 = any angle looks the same

# Canvas in cells (columns, rows) by aspect ratio; 3:2 and 2:3 are cropped to the exact ratio on output.
CANVAS = {
    "16:9": (16, 9),
    "9:16": (9, 16),
    "1:1": (9, 9),
    "4:3": (12, 9),
    "3:4": (9, 12),
    "3:2": (14, 9),
    "2:3": (9, 14),
}


def canvas_units(aspect: str) -> tuple[float, float]:
    """Width and height of the canvas in units."""
    columns, rows = CANVAS[aspect]
    return columns / CELLS_PER_UNIT, rows / CELLS_PER_UNIT


@dataclass
class Thing:
    """One object; all fields are bin indices."""

    shape: int
    color: int
    size: int
    x: int
    y: int
    motion: int
    speed: int = 1
    phase: int = 0

    def canonical(self) -> Thing:
        """Sets the fields that do not matter for this motion to their default."""
        if self.motion == STILL:
            self.speed = 1
        if self.motion == BOUNCE:
            self.y = min(self.y, 4)
        if self.motion not in (BOUNCE, ORBIT, PULSE):
            self.phase = 0
        if self.motion == ORBIT:
            self.x, self.y = min(max(self.x, 2), 9), 4
        if self.motion == SPIN and SYMMETRY[self.shape] == 0:
            self.shape = BOX
        return self


@dataclass
class Scene:
    """A background, a sound bed and one or two objects. `picture` replaces the background by a
    random picture outside the world (see `pictures.py`)."""

    background: int
    music: int = 0
    things: list[Thing] = field(default_factory=list)
    picture: int | None = None


def held_out(thing: Thing, background: int) -> bool:
    """About 11 % of the (shape, colour, background) triples are never trained on."""
    return (thing.shape * 8 + thing.color * 3 + background * 5) % 9 == 0


def random_thing(r: random.Random, motion: int | None = None) -> Thing:
    motions = (0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9)
    thing = Thing(
        shape=r.randrange(6),
        color=r.randrange(8),
        size=r.choice((0, 1, 1, 1, 2, 2, 2)),
        x=r.randrange(X_LEVELS),
        y=r.randrange(Y_LEVELS),
        motion=r.choice(motions) if motion is None else motion,
        speed=r.choice((0, 1, 1, 2)),
        phase=r.randrange(PHASES),
    )
    if thing.motion == SPIN and SYMMETRY[thing.shape] == 0:
        thing.shape = r.choice((BOX, TRIANGLE, STAR, HEART))
    return thing.canonical()


def random_companion(r: random.Random, first: Thing) -> Thing:
    """A second object of another colour, well apart from the first."""
    while True:
        other = random_thing(r, r.choice((STILL, STILL, STILL, BOUNCE, SPIN, PULSE)))
        if other.color != first.color and abs(other.x - first.x) >= 5:
            return other


def random_scene(r: random.Random, allow_held_out: bool = False, pairs: float = 0.2) -> Scene:
    while True:
        scene = Scene(background=r.randrange(6), music=r.choice((0, 0, 0, 0, 1, 2, 3, 4)))
        scene.things.append(random_thing(r))
        if r.random() < pairs:
            scene.things.append(random_companion(r, scene.things[0]))
        if allow_held_out or not any(held_out(o, scene.background) for o in scene.things):
            return scene


# ---------------------------------------------------------------- kinematics


@dataclass
class Track:
    """Where an object is at each of the given times; arrays of equal length."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    radius: np.ndarray


def _base(thing: Thing, width: float, height: float) -> tuple[float, float]:
    """Resting place, wholly inside the canvas, snapped to a position bin."""
    margin = RADII[thing.size] * REACH * (1 + PULSE_SWING if thing.motion == PULSE else 1) + 0.02
    x = margin + (width - 2 * margin) * thing.x / (X_LEVELS - 1)
    y = margin + (height - 2 * margin) * thing.y / (Y_LEVELS - 1)
    return round(x * BINS) / BINS, round(y * BINS) / BINS


def clock(thing: Thing, frame: np.ndarray) -> np.ndarray:
    """Phase of the periodic motion at `frame`, in clock steps (0 <= . < 36); 0 for the others."""
    if thing.motion not in CLOCK_STEP:
        return np.zeros_like(frame, dtype=np.float64)
    step = CLOCK_STEP[thing.motion][thing.speed]
    return (thing.phase * (CLOCK // PHASES) + step * np.asarray(frame, np.float64) / STRIDE) % CLOCK


def _fly(start: float, span: float, margin: float, bins_per_latent: float, frame: np.ndarray) -> np.ndarray:
    """Constant speed, re-entering at the other side; every latent frame lands on a bin."""
    m = math.ceil((margin + 0.05) * BINS)
    period = round(span * BINS) + 2 * m
    return ((round(start * BINS) + m + bins_per_latent * frame / STRIDE) % period - m) / BINS


def track(thing: Thing, frame: np.ndarray, width: float, height: float) -> Track:
    """Position, angle and radius of `thing` at the (possibly fractional) frame indices [n]."""
    frame = np.asarray(frame, np.float64)
    r = RADII[thing.size]
    bx, by = _base(thing, width, height)
    x, y = np.full_like(frame, bx), np.full_like(frame, by)
    angle, scale = np.zeros_like(frame), np.ones_like(frame)
    turn = clock(thing, frame) / CLOCK
    m = thing.motion
    if m == BOUNCE:
        floor = GROUND * height - r
        y = floor - (floor - by) * 4 * turn * (1 - turn)
    elif m in (RIGHT, LEFT):
        x = _fly(bx, width, r * REACH, FLY_STEP[thing.speed] * (1 if m == RIGHT else -1), frame)
    elif m in (UP, DOWN):
        y = _fly(by, height, r * REACH, FLY_STEP[thing.speed] * (1 if m == DOWN else -1), frame)
    elif m == ORBIT:
        side = min(0.24 + r * REACH, width / 2)
        x = np.clip(x, side, width - side) + 0.22 * np.cos(2 * np.pi * turn)
        y = 0.5 * height + 0.20 * np.sin(2 * np.pi * turn)
    elif m == SPIN:
        angle = 2 * np.pi * turn
    elif m == PULSE:
        scale = 1 + PULSE_SWING * np.sin(2 * np.pi * turn)
    elif m == SHAKE:
        x = x + 0.045 * np.sin(2 * np.pi * turn)
    return Track(x, y, angle, r * scale)


def impacts(thing: Thing, start: float, end: float) -> list[float]:
    """Times (s) in [start, end) at which a bouncing object touches the ground."""
    if thing.motion != BOUNCE:
        return []
    period = CLOCK / CLOCK_STEP[BOUNCE][thing.speed] * STRIDE / FPS
    offset = thing.phase / PHASES
    k = math.ceil(start / period + offset - 1e-9)
    out = []
    while (k - offset) * period < end - 1e-9:
        out.append((k - offset) * period)
        k += 1
    return out


# ---------------------------------------------------------------- scene ids

_OBJECT_FIELDS = (
    ("shape", 7),
    ("color", 9),
    ("size", 4),
    ("x", X_LEVELS + 1),
    ("y", Y_LEVELS + 1),
    ("motion", 11),
    ("speed", 4),
    ("phase", PHASES + 1),
)
_FIELDS = (("background", 7), ("camera", 5), ("music", 5), ("count", 2)) + _OBJECT_FIELDS + _OBJECT_FIELDS


# Start (inside the scene segment) and size of the field at each of the 20 scene positions. The last id of an
# object field means "no such object", the last background "another picture"; the camera is reserved (always 0).
SCENE_SIZE = [s for _, s in _FIELDS]
SCENE_START = [sum(SCENE_SIZE[:i]) for i in range(len(SCENE_SIZE))]
SCENE_VOCAB = sum(SCENE_SIZE)
SCENE_FIELDS = tuple(n for n, _ in _FIELDS[:4]) + tuple(f"{n}_{k}" for k in range(2) for n, _ in _OBJECT_FIELDS)
SCENE_LENGTH = len(_FIELDS)


def scene_ids(scene: Scene) -> list[int]:
    """The 20 ids (relative to the scene segment) that describe `scene`."""
    background = scene.background if scene.picture is None else 6
    values = [background, 0, scene.music, len(scene.things) - 1]
    for slot in range(2):
        for name, size in _OBJECT_FIELDS:
            values.append(getattr(scene.things[slot], name) if slot < len(scene.things) else size - 1)
    return [start + v for start, v in zip(SCENE_START, values)]


def scene_from_ids(ids: list[int]) -> Scene:
    """Inverse of `scene_ids`, tolerant of ids outside their field."""
    values = [min(max(i - start, 0), size - 1) for i, start, size in zip(ids, SCENE_START, SCENE_SIZE)]
    scene = Scene(background=min(values[0], 5), music=values[2])
    for slot in range(values[3] + 1):
        part = values[4 + 8 * slot : 12 + 8 * slot]
        fields = {n: min(v, s - 2) for (n, s), v in zip(_OBJECT_FIELDS, part)}
        scene.things.append(Thing(**fields))
    return scene


# ---------------------------------------------------------------- state ids (the storyboard)

# Codes of one object slot: position at the first and at the last frame of the latent frame, radius, angle
# (in 1/36 turn), clock, impact (offset in 1/96 s inside the latent). Last level = none.
STATE_FIELDS = (
    ("x0", 385),
    ("y0", 385),
    ("x1", 385),
    ("y1", 385),
    ("radius", 49),
    ("angle", 37),
    ("clock", 37),
    ("impact", 17),
)
STATE_SIZE = [s for _, s in STATE_FIELDS]
STATE_START = [sum(STATE_SIZE[:i]) for i in range(len(STATE_SIZE))]
STATE_VOCAB = sum(STATE_SIZE)
STATE_CODES = len(STATE_FIELDS)
RADIUS_MIN, RADIUS_STEP = 0.07, 0.0052


def position_level(value: np.ndarray) -> np.ndarray:
    """Units -> position level 0..383."""
    return np.clip(np.round((value + ORIGIN) * BINS), 0, 383).astype(np.int64)


def states(scene: Scene, latents: np.ndarray, aspect: str) -> np.ndarray:
    """State levels [n, 2 slots, 8 codes] of the latent frames with the given indices [n]."""
    latents = np.asarray(latents)
    width, height = canvas_units(aspect)
    out = np.tile(np.array(STATE_SIZE) - 1, (len(latents), 2, 1))
    last = latents * STRIDE
    first = np.where(latents > 0, last - (STRIDE - 1), last)
    for slot, thing in enumerate(scene.things[:2]):
        a, b = track(thing, first, width, height), track(thing, last, width, height)
        out[:, slot, 0], out[:, slot, 1] = position_level(a.x), position_level(a.y)
        out[:, slot, 2], out[:, slot, 3] = position_level(b.x), position_level(b.y)
        out[:, slot, 4] = np.clip(np.round((b.radius - RADIUS_MIN) / RADIUS_STEP), 0, 47)
        out[:, slot, 5] = np.round(b.angle / (2 * np.pi) * CLOCK).astype(np.int64) % CLOCK
        out[:, slot, 6] = np.round(clock(thing, last)).astype(np.int64) % CLOCK
        for k, i in enumerate(latents):
            begin = (4 * i - 3) / FPS
            hit = impacts(thing, begin, begin + 1 / 6)
            out[k, slot, 7] = round((hit[0] - begin) * 96) if hit else 16
    return out
