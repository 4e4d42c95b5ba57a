"""Scenes of the procedural world: what exists and where it is at any time (`vocabulary.py` has the names, `plans.py` the ids).

Units: the short side of the canvas is 1 (= 180 lines at analysis scale, 720 at 720p); a cell of the
video tokenizer is 1/9 of it. Time runs in frames at 24 fps; a latent frame is 4 frames (1/6 s).
Every scene parameter is drawn from bins, so picture and sound are a function of (scene ids, time).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .vocabulary import PHASES, X_LEVELS, Y_LEVELS

FPS = 24
SAMPLE_RATE = 24_000
STRIDE = 4  # frames per latent frame
CELLS_PER_UNIT = 9
GROUND = 0.88  # of the canvas height

RADII = (0.12, 0.17, 0.23)
REACH = 1.2  # how far a shape extends from its centre, in radii (the points of a star)
PULSE_SWING = 0.35  # share by which a pulsing radius grows and shrinks
STILL, BOUNCE, RIGHT, LEFT, UP, DOWN, ORBIT, SPIN, PULSE, SHAKE = range(10)
BALL, BOX, TRIANGLE, STAR, HEART, RING, DIAMOND, CROSS = range(8)

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
RADIUS_MIN, RADIUS_STEP = 0.07, 0.0052  # levels of the storyboard
FLY_STEP = (6, 10, 16)  # bins per latent frame
SYMMETRY = (0, 4, 3, 5, 1, 0, 2, 4)  # rotational symmetry of the drawn shapes; 0 = any angle looks the same

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
        if self.motion == SPIN and round_shape(self.shape):
            self.shape = BOX
        return self


@dataclass
class Scene:
    """A background, a sound bed and one to three objects, the front one first. `picture` replaces the background
    by a random picture outside the world (see `pictures.py`); `camera` and `weather` are indices into their tables."""

    background: int
    music: int = 0
    things: list[Thing] = field(default_factory=list)
    picture: int | None = None
    camera: int = 0
    weather: int = 0


def round_shape(shape: int) -> bool:
    """Whether a shape looks the same however it is turned."""
    return shape < len(SYMMETRY) and SYMMETRY[shape] == 0


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
