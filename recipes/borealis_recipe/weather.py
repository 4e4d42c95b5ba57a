"""Weather in front of everything: rain, snow and wind as lattices of marks that travel a whole period in a whole
number of latent frames (so their codes repeat), and fog. All in screen coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .vocabulary import WEATHER
from .world import CELLS_PER_UNIT, FPS

CELL = 1 / CELLS_PER_UNIT
JITTER = (0.13, 0.61, 0.37, 0.85, 0.02, 0.50, 0.74, 0.26)  # of neighbouring lanes, in periods
FOG_COLOR, FOG_FAR, FOG_NEAR = (0.80, 0.83, 0.87), 0.38, 0.55  # opacity at the top and at the bottom


@dataclass(frozen=True)
class Marks:
    """Equal marks in lanes; lengths in units along and across the lanes."""

    color: tuple[float, float, float]
    opacity: float
    length: float
    width: float
    lane: float
    period: float  # distance of marks in a lane
    speed: float  # units per second
    vertical: bool


MARKS = {
    "rain": Marks((0.78, 0.86, 1.0), 0.75, 0.12, 0.014, CELL, 1 / 3, 2.0, True),
    "snow": Marks((1.0, 1.0, 1.0), 0.95, 0.034, 0.034, CELL, 1 / 3, 1 / 3, True),
    "wind": Marks((1.0, 1.0, 1.0), 0.60, 0.42, 0.014, CELL, 8 / 9, 16 / 9, False),
}


def marks_opacity(marks: Marks, u: Tensor, v: Tensor, seconds: float, pixel: float) -> Tensor:
    """Opacity [H, W] of the marks at u [1, W], v [H, 1]: capsules with edges as wide as a pixel."""
    along, across = (v, u) if marks.vertical else (u, v)
    lane = torch.floor(across / marks.lane)
    jitter = torch.tensor(JITTER)[lane.long() % len(JITTER)]
    side = across - (lane + 0.5) * marks.lane
    at = (along - marks.speed * seconds) / marks.period + jitter
    ahead = (at - torch.floor(at) - 0.5) * marks.period
    reach = (marks.length - marks.width) / 2
    distance = torch.hypot((ahead.abs() - reach).clamp(min=0), side + 0 * ahead) - marks.width / 2
    return marks.opacity * (0.5 - distance / pixel).clamp(0, 1)


def cover(weather: int, frame: Tensor, u: Tensor, v: Tensor, height: float, index: float, pixel: float) -> Tensor:
    """A frame [3, H, W] with weather in front of it; `index` is its (fractional) number."""
    name = WEATHER[weather]
    if name == "none":
        return frame
    if name == "fog":
        color, opacity = FOG_COLOR, fog_opacity(v / height) + 0 * u
    else:
        color, opacity = MARKS[name].color, marks_opacity(MARKS[name], u, v, index / FPS, pixel)
    return frame + (torch.tensor(color).view(3, 1, 1) - frame) * opacity


def fog_opacity(part: Tensor) -> Tensor:
    """Opacity of the fog at a share `part` of the canvas's height."""
    return FOG_FAR + (FOG_NEAR - FOG_FAR) * part.clamp(0, 1)
