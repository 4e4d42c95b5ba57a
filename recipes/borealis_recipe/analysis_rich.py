"""The analyser of the rich world: it watches pixels and hears samples, and knows nothing of the ids.

Besides what `analysis.py` sees: things by their looks, several objects with their places and sizes, weather and camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from . import camera
from .analysis import ROUNDING, Tracked, motion_of, onsets, turning, visible_impacts
from .backdrop import STILL, Pose, at_rest, background_and_fog, camera_of, empty, weather_of, without_fog
from .render import LINES_PER_UNIT, paint
from .vocabulary import COLORS, RICH
from .world import SYMMETRY, Thing

SIDE = 40  # pixels of a template
TURNS = 12
POINT = 0.025  # radii: the points at which templates are drawn
ZOOMED_SPIN = 0.16  # outlines that are brought to one size differ by their pixels: turning must change them by more
SWAY = 0.06  # units that a shaking thing goes to and fro, at least, where the camera moves too
SHADES = (0.80, 0.9, 1.0, 1.15)


@dataclass
class Seen:
    """One object: what it is, and where it is when the scene is seen best (units)."""

    shape: int
    color: int | None  # of drawn shapes
    x: float
    y: float
    width: float
    height: float
    area: float
    motion: str = "none"


@dataclass
class Look:
    """What was seen and heard of a clip."""

    background: int
    weather: str
    camera: str
    count: int
    things: list[Seen]
    impacts: np.ndarray
    sync_ms: list[float]
    loudness: float


@dataclass
class Blob:
    mask: np.ndarray
    x: float
    y: float
    box: tuple[int, int, int, int]  # top, bottom, left, right (pixels, exclusive)


def blobs(frame: Tensor, reference: Tensor) -> list[Blob]:
    """Connected areas [H, W] that differ from the empty background, largest first; thin marks are no blobs."""
    differs = (frame - reference).abs().amax(0).numpy() > 0.18
    opened = ndimage.binary_opening(differs, iterations=2)
    joined = ndimage.binary_closing(np.pad(opened, 4), iterations=3)[4:-4, 4:-4]
    labels, n = ndimage.label(joined)
    out = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        mask = labels == i + 1
        if mask.sum() > 150:
            middle = ((rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2)
            box = (rows.start, rows.stop, columns.start, columns.stop)
            out.append(Blob(mask, middle[1] / LINES_PER_UNIT, middle[0] / LINES_PER_UNIT, box))
    return sorted(out, key=lambda b: -b.mask.sum())[:4]


def inside(blob: Blob, shape: tuple[int, int]) -> bool:
    return blob.box[0] > 0 and blob.box[2] > 0 and blob.box[1] < shape[0] and blob.box[3] < shape[1]


def _square(picture: np.ndarray) -> np.ndarray:
    """[h, w, 3] -> [3, SIDE, SIDE]"""
    small = Image.fromarray((picture * 255).clip(0, 255).astype("uint8")).resize((SIDE, SIDE))
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


def _square_mask(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray((mask * 255).astype("uint8")).resize((SIDE, SIDE))) > 127


@lru_cache(maxsize=2)
def templates(turned: bool) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Shapes, box ratios [N], masks [N, SIDE, SIDE] and pictures [N, 3, SIDE, SIDE] of everything there is, upright or also turned.
    Drawn shapes are white, and there with soft corners too."""
    q = torch.arange(-1.3, 1.3, POINT)
    shapes, ratios, masks, pictures = [], [], [], []
    for shape in range(len(RICH.shapes)):
        symmetry = SYMMETRY[shape] if shape < len(SYMMETRY) else 1
        for turn in range(TURNS if turned and symmetry else 1):
            angle = turn * 2 * np.pi / TURNS / max(1, symmetry)
            white = RICH.colors.index("white")
            color, alpha = paint(Thing(shape, white, 1, 0, 0, 0), q[None], q[:, None], 1.0, angle, POINT)
            for by in ROUNDING if shape < RICH.drawn() else ROUNDING[:1]:
                solid = ndimage.gaussian_filter(alpha.numpy(), by / POINT) > 0.5
                ys, xs = np.nonzero(solid)
                part = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
                shapes.append(shape)
                ratios.append((xs.max() - xs.min() + 1) / (ys.max() - ys.min() + 1))
                masks.append(_square_mask(solid[part]))
                pictures.append(_square(color.permute(1, 2, 0).numpy()[part]))
    return shapes, np.array(ratios), np.stack(masks), np.stack(pictures)


def _plain_color(pixels: np.ndarray) -> tuple[int, float]:
    """The colour that pixels [n, 3] are shades of, and how far off they are."""
    seen = np.median(pixels, 0)
    best = (9.0, 0)
    for i, color in enumerate(COLORS.values()):
        for shade in SHADES:
            best = min(best, (float(np.abs(seen - np.clip(np.array(color) * shade, 0, 1)).mean()), i))
    spread = float(np.abs(pixels - seen).mean())
    return best[1], best[0] + spread


def identify(frame: Tensor, blob: Blob, turned: bool) -> tuple[float, int, int | None]:
    """(score, shape, colour of a drawn shape) of the best template for a blob."""
    top, bottom, left, right = blob.box
    picture = _square(frame[:, top:bottom, left:right].permute(1, 2, 0).numpy())
    mask = _square_mask(blob.mask[top:bottom, left:right])
    core = ndimage.binary_erosion(mask, iterations=3)
    pixels = picture[:, core if core.sum() > 40 else mask].T
    color, off = _plain_color(pixels)
    shapes, ratios, masks, pictures = templates(turned)
    both, either = (masks & mask).sum((1, 2)), (masks | mask).sum((1, 2))
    score = both / either - 0.3 * np.abs(np.log((right - left) / (bottom - top) / ratios))
    wrong = (np.abs(pictures - picture).mean(1) * (masks & mask)).sum((1, 2)) / np.maximum(1, both)
    drawn = np.array(shapes) < RICH.drawn()
    score = score - 1.5 * np.where(drawn, off, wrong)
    k = int(score.argmax())
    return float(score[k]), shapes[k], color if drawn[k] else None


def _track(found: list[list[Blob]], start: int, seed: Blob, alone: bool) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Follows a blob from frame `start` both ways: rows of centre x, y, area, lower edge (units), and masks."""
    table, masks = np.full((len(found), 4), np.nan), [None] * len(found)
    for order in (range(start, len(found)), range(start - 1, -1, -1)):
        last, lost = seed, 0
        for i in order:
            near = min(found[i], key=lambda b: np.hypot(b.x - last.x, b.y - last.y), default=None)
            if near is None or (np.hypot(near.x - last.x, near.y - last.y) > 0.16 * (1 + lost) and not alone):
                lost += 1
                continue
            lost, last = 0, near
            table[i] = near.x, near.y, near.mask.sum() / LINES_PER_UNIT**2, (near.box[1] - 1) / LINES_PER_UNIT
            masks[i] = near.mask
    return table, masks


def _steady(table: np.ndarray, poses: list[Pose], move: str, width: float, height: float) -> np.ndarray:
    """A track as it would be if the camera stood still."""
    if move == "still":
        return table
    shift, zoom = np.array([p[0] for p in poses]), np.array([p[1] for p in poses])
    along = -camera.SWING / camera.BACK_SWING if move == "orbit" else 1 / camera.BACKDROP
    out = table.copy()
    out[:, 0] = width / 2 + (table[:, 0] - width / 2) / zoom - along * shift
    for column in (1, 3):
        out[:, column] = height / 2 + (table[:, column] - height / 2) / zoom
    out[:, 2] = table[:, 2] / zoom**2
    return out


def _same_size(masks: list[np.ndarray | None], poses: list[Pose]) -> list[np.ndarray | None]:
    """Outlines as they would be at zoom 1; where they lie does not matter."""
    out = []
    for mask, (_, zoom) in zip(masks, poses):
        if mask is None or abs(zoom - 1) < 0.01:
            out.append(mask)
            continue
        ys, xs = np.nonzero(mask)
        part = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        size = max(1, round(part.shape[1] / zoom)), max(1, round(part.shape[0] / zoom))
        out.append(np.asarray(Image.fromarray((part * 255).astype("uint8")).resize(size)) > 127)
    return out


def analyse(frames: Tensor, samples: np.ndarray, aspect: str = "16:9") -> Look:
    """Everything the analyser can tell of a clip: frames [T, 3, H, W] at analysis scale, samples at 24 kHz."""
    kind, fog = background_and_fog(frames, aspect)
    move, poses = camera_of(frames, kind, fog, aspect)
    weather = weather_of(frames, fog)
    clear = [without_fog(f) if fog else f for f in frames]
    empties = [at_rest(kind, False, aspect) if p == STILL else empty(kind, False, p, LINES_PER_UNIT, aspect) for p in poses]
    found = [blobs(f, e) for f, e in zip(clear, empties)]
    size = frames.shape[2:]
    whole = [sum(inside(b, size) for b in bs) for bs in found]
    counts = [len(found[i]) for i in np.linspace(0, len(frames) - 1, 5).astype(int)]
    start = max(range(len(found)), key=lambda i: (whole[i], -i)) if found else 0
    things, hits = [], np.array([])
    alone = max(counts) <= 1
    for seed in found[start]:
        table, masks = _track(found, start, seed, alone)
        steady = _steady(table, poses, move, size[1] / LINES_PER_UNIT, size[0] / LINES_PER_UNIT)
        outlines = _same_size(masks, poses)
        motion = motion_of(Tracked(steady, outlines))
        sway = float(np.nanpercentile(steady[:, 0], 95) - np.nanpercentile(steady[:, 0], 5))
        pixels = motion == "spin" and move.startswith("zoom") and turning(outlines) < ZOOMED_SPIN
        if pixels or motion == "shake" and move != "still" and sway < SWAY:
            motion = "still"
        where = [i for i in range(len(found)) if masks[i] is not None]
        views = [(i, b) for i in where for b in found[i] if b.mask is masks[i] and inside(b, size)] or [(start, seed)]
        views = [views[j] for j in np.linspace(0, len(views) - 1, 5).astype(int)]
        names = [identify(clear[i], b, motion == "spin") for i, b in views]
        best = max(names, key=lambda n: sum(m[1] == n[1] for m in names) + n[0] / 10)
        colors = [n[2] for n in names if n[1] == best[1]]
        top, bottom, left, right = seed.box
        area = float(seed.mask.sum()) / LINES_PER_UNIT**2
        wide, high = (right - left) / LINES_PER_UNIT, (bottom - top) / LINES_PER_UNIT
        things.append(Seen(best[1], max(set(colors), key=colors.count), seed.x, seed.y, wide, high, area, motion))
        if motion == "bounce" and not len(hits):
            hits = visible_impacts(steady)
    heard = onsets(samples) if len(samples) else np.array([])
    sync = [float(1000 * (heard[np.abs(heard - t).argmin()] - t)) for t in hits] if len(heard) else []
    loud = float(np.sqrt((samples.astype(np.float64) ** 2).mean())) if len(samples) else 0.0
    return Look(kind, weather, move, int(np.median(counts)), things, hits, sync, loud)
