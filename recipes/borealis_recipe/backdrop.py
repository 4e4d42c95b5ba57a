"""What the analyser sees behind the things: the background, fog, where the camera has gone, and falling or flying marks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .render import LINES_PER_UNIT, background, frame_size
from .vocabulary import BACKGROUNDS, WEATHER
from .weather import FOG_COLOR, fog_opacity
from .world import canvas_units

LOW = 45  # lines at which the camera is fitted
FIT_CAP = 0.12  # a pixel's error counts at most this: things are no part of the backdrop
Pose = tuple[float, float]  # shift of the backdrop in units, zoom
STILL: Pose = (0.0, 1.0)


def _steps(first: float, last: float, step: float) -> list[float]:
    return [round(first + i * step, 4) for i in range(round((last - first) / step) + 1)]


# Poses by kind of camera, with how much better than standing still each kind must fit.
PANS = [(s * k, 1.0) for k in (-1, 1) for s in _steps(0.025, 0.30, 0.0125)]
ZOOMS = [(0.0, z) for z in _steps(0.60, 0.96, 0.03) + _steps(1.04, 1.80, 0.03)]
ORBITS = [(s * k, z) for k in (-1, 1) for s in _steps(0.04, 0.16, 0.02) for z in (1.025, 1.05, 1.075, 1.1)]
MARGIN = 0.0006
FINER = (-0.0094, -0.0063, -0.0031, 0.0, 0.0031, 0.0063, 0.0094)


def empty(kind: int, fog: bool, pose: Pose, lines: int, aspect: str) -> Tensor:
    """The empty background [3, H, W] as a camera in `pose` sees it."""
    width, height = canvas_units(aspect)
    w, h = frame_size(aspect, lines)
    u = ((torch.arange(w) + 0.5) / lines).view(1, w)
    v = ((torch.arange(h) + 0.5) / lines).view(h, 1)
    shift, zoom = pose
    out = background(kind, width / 2 + (u - width / 2) / zoom - shift, height / 2 + (v - height / 2) / zoom, width, height, 1 / lines / zoom)
    if fog:
        opacity = fog_opacity(v / height)
        out = out + (torch.tensor(FOG_COLOR).view(3, 1, 1) - out) * opacity
    return out


@lru_cache(maxsize=4096)
def _small(kind: int, fog: bool, pose: Pose, aspect: str) -> Tensor:
    """`empty` at the size at which the camera is fitted."""
    return empty(kind, fog, pose, LOW, aspect)


@lru_cache(maxsize=64)
def at_rest(kind: int, fog: bool, aspect: str) -> Tensor:
    """`empty` at analysis scale before a camera."""
    return empty(kind, fog, STILL, LINES_PER_UNIT, aspect)


def without_fog(frame: Tensor) -> Tensor:
    """A frame [3, H, W] as it would be in clear air."""
    h = frame.shape[1]
    opacity = fog_opacity((torch.arange(h) + 0.5).view(h, 1) / h)
    return ((frame - torch.tensor(FOG_COLOR).view(3, 1, 1) * opacity) / (1 - opacity)).clamp(0, 1)


def _bands(f: Tensor) -> Tensor:
    return torch.stack([b.flatten(1).median(1).values for b in f.chunk(12, 1)])


def background_and_fog(frames: Tensor, aspect: str) -> tuple[int, bool]:
    """Nearest background, clear or foggy, by the median colour of 12 bands of the first frames [T, 3, H, W]: there no camera
    has moved yet."""
    seen = torch.stack([_bands(f) for f in frames[:3]]).median(0).values
    scores = []
    for kind in range(len(BACKGROUNDS)):
        for fog in (False, True):
            wanted = _bands(at_rest(kind, fog, aspect))
            scores.append((float((seen - wanted).abs().mean()), kind, fog))
    _, kind, fog = min(scores)
    return kind, fog


def fit_pose(frame: Tensor, kind: int, fog: bool, aspect: str) -> tuple[Pose, str]:
    """Where the camera looks in a frame [3, H, W], and which kind of move brings it there: still, pan, zoom or orbit."""
    w, h = frame_size(aspect, LOW)
    small = torch.nn.functional.interpolate(frame[None], (h, w), mode="area")[0]

    def error(pose: Pose) -> float:
        return float((small - _small(kind, fog, pose, aspect)).abs().mean(0).clamp(max=FIT_CAP).mean())

    best = (error(STILL), STILL, "still")
    for name, poses in (("pan", PANS), ("zoom", ZOOMS), ("orbit", ORBITS)):
        found = min((error(pose), pose) for pose in poses)
        if found[0] < best[0] - MARGIN:
            best = (*found, name)
    _, (shift, zoom), name = best
    if name == "pan":  # between the steps of the search
        shift = min((error((shift + d, 1.0)), shift + d) for d in FINER)[1]
    elif name == "zoom":
        zoom = min((error((0.0, zoom + 2 * d)), zoom + 2 * d) for d in FINER)[1]
    elif name == "orbit":
        shift = min((error((shift + 2 * d, zoom)), shift + 2 * d) for d in FINER)[1]
    return (round(shift, 4), round(zoom, 4)), name


def camera_of(frames: Tensor, kind: int, fog: bool, aspect: str) -> tuple[str, list[Pose]]:
    """The camera's move, by name, and its pose in every frame: pans and zooms are steady, an orbit goes on straight lines
    between the fitted frames."""
    at = sorted({0, *np.linspace(0, len(frames) - 1, 6).astype(int).tolist()[1:]})
    fits = [(STILL, "still")] + [fit_pose(frames[i], kind, fog, aspect) for i in at[1:]]
    names = [name for _, name in fits[2:]]
    name = max(set(names), key=names.count) if names else "still"
    if name == "still":
        return "still", [STILL] * len(frames)
    ends = [pose if kind_of != "still" else STILL for pose, kind_of in fits]
    shift = np.interp(np.arange(len(frames)), at, [p[0] for p in ends])
    zoom = np.interp(np.arange(len(frames)), at, [p[1] for p in ends])
    t = np.array(at[1:])
    if name != "orbit":
        shift = np.median(np.array([p[0] for p in ends[1:]]) / t) * np.arange(len(frames))
        zoom = 1 + np.median((np.array([p[1] for p in ends[1:]]) - 1) / t) * np.arange(len(frames))
    poses = [(round(float(s), 4), round(float(z), 4)) for s, z in zip(shift, zoom)]
    if name == "pan":
        name = "pan right" if shift[-1] < 0 else "pan left"
    elif name == "zoom":
        name = "zoom in" if zoom[-1] > 1 else "zoom out"
    return name, poses


def marks_of(frame: Tensor) -> dict[str, float]:
    """How much of the expected number of rain, snow and wind marks a frame [3, H, W] at analysis scale shows."""
    f = frame.numpy()
    high = np.zeros(f.shape[1:])
    for c in f:
        high = np.maximum(high, c - ndimage.grey_opening(c, (9, 9)))
        high = np.maximum(high, ndimage.grey_closing(c, (9, 9)) - c)
    labels, _ = ndimage.label(high > 0.07)
    count = {"rain": 0, "snow": 0, "wind": 0}
    for rows, columns in ndimage.find_objects(labels):
        h, w = rows.stop - rows.start, columns.stop - columns.start
        if 10 <= h <= 32 and w <= 8 and h >= 2 * w:
            count["rain"] += 1
        elif 4 <= h <= 10 and 4 <= w <= 10 and 0.6 < h / w < 1.7:
            count["snow"] += 1
        elif w >= 24 and h <= 8:
            count["wind"] += 1
    units = f.shape[1] * f.shape[2] / LINES_PER_UNIT**2
    return {"rain": count["rain"] / (27 * units), "snow": count["snow"] / (27 * units), "wind": count["wind"] / (10 * units)}


def weather_of(frames: Tensor, fog: bool) -> str:
    """The weather, by name."""
    if fog:
        return "fog"
    looks = [marks_of(frames[i]) for i in np.linspace(0, len(frames) - 1, 3).astype(int)]
    score = {name: float(np.median([x[name] for x in looks])) for name in ("rain", "snow", "wind")}
    name = max(score, key=score.get)
    return name if score[name] > 0.3 else WEATHER[0]
