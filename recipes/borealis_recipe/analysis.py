"""An analyser of decoded clips that knows nothing of the ids: background, object, colour, shape, motion, sync."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from .render import render, shape_distance
from .vocabulary import BACKGROUNDS, NARROW
from .vocabulary import COLORS as ALL_COLORS
from .world import FPS, SAMPLE_RATE, Scene

TEMPLATE = 48
SHAPES = NARROW.shapes
COLORS = {c: ALL_COLORS[c] for c in NARROW.colors}
# How much the corners of templates are rounded (standard deviation of a blur, in radii): a star with soft corners is nearer to the sharp disc
# than to the sharp star, and still a star to every eye.
ROUNDING = (0.0, 0.1, 0.2)
_references: dict[str, list[Tensor]] = {}
_templates: list[tuple[int, bool, float, np.ndarray]] = []


def references(aspect: str) -> list[Tensor]:
    """Empty pictures of all backgrounds [3, H, W] at analysis scale."""
    if aspect not in _references:
        scenes = [Scene(b) for b in range(len(BACKGROUNDS))]
        _references[aspect] = [render(s, np.array([0.0]), aspect)[0] for s in scenes]
    return _references[aspect]


def background_of(frames: Tensor, aspect: str) -> int:
    """Nearest background by the median colour of 12 bands; frames [T, 3, H, W]."""

    def bands(f: Tensor) -> Tensor:
        return torch.stack([b.flatten(1).median(1).values for b in f.chunk(12, 1)])

    seen = torch.stack([bands(f) for f in frames[:: max(1, len(frames) // 3)]]).median(0).values
    return int(np.argmin([float((seen - bands(r)).abs().mean()) for r in references(aspect)]))


def blobs(frame: Tensor, background: int, aspect: str) -> list[np.ndarray]:
    """Masks of the connected areas that differ from the empty background, largest first."""
    differs = (frame - references(aspect)[background]).abs().amax(0).numpy() > 0.18
    opened = ndimage.binary_opening(differs, iterations=2)
    labels, n = ndimage.label(opened)
    if not n:
        return []
    sizes = ndimage.sum(opened, labels, range(1, n + 1))
    order = np.argsort(-sizes)
    return [labels == i + 1 for i in order if sizes[i] > 150][:4]


def color_of(frame: Tensor, mask: np.ndarray) -> int:
    inner = ndimage.binary_erosion(mask, iterations=2) if mask.sum() > 400 else mask
    seen = frame[:, torch.tensor(inner)].median(1).values
    best = (9.0, 0)
    for i, color in enumerate(COLORS.values()):
        for shade in (0.78, 0.9, 1.0, 1.15):
            e = float(((seen - (torch.tensor(color) * shade).clamp(0, 1)) ** 2).sum())
            best = min(best, (e, i))
    return best[1]


def _fit(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The mask's bounding box resized to a square, and the box's ratio."""
    ys, xs = np.nonzero(mask)
    part = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    small = Image.fromarray((part * 255).astype("uint8")).resize((TEMPLATE, TEMPLATE))
    return np.array(small) > 127, part.shape[1] / part.shape[0]


def templates() -> list[tuple[int, bool, float, np.ndarray]]:
    """(shape, upright, box ratio, mask) of every shape, sharp and rounded, upright and turned."""
    if not _templates:
        q = torch.linspace(-1.6, 1.6, 140)
        x, y = q[None].expand(140, 140), q[:, None].expand(140, 140)
        for shape in range(len(SHAPES)):
            for turn in range(1 if shape in (0, 5) else 12):
                a = turn * 2 * np.pi / 12 / (1, 4, 3, 5, 1, 1)[shape]
                u, v = np.cos(a) * x + np.sin(a) * y, -np.sin(a) * x + np.cos(a) * y
                sharp = (shape_distance(shape, u, v, 1.0) < 0).numpy().astype(float)
                for by in ROUNDING:
                    mask, ratio = _fit(ndimage.gaussian_filter(sharp, by * 139 / 3.2) > 0.5)
                    _templates.append((shape, turn == 0, ratio, mask))
    return _templates


def half_mask(frame: Tensor, mask: np.ndarray, background: int, aspect: str) -> np.ndarray:
    """The object's outline where it is half as different from the background as its middle is."""
    d = (frame - references(aspect)[background]).abs().sum(0).numpy()
    near = ndimage.binary_dilation(mask, iterations=3)
    level = np.median(d[ndimage.binary_erosion(mask, iterations=2)]) if mask.sum() > 400 else np.median(d[mask])
    out = near & (d > 0.5 * level)
    return out if out.sum() > 50 else mask


def shape_of(mask: np.ndarray, turned: bool) -> int:
    """Best shape by overlap; turned templates are tried for spinning things only."""
    got, ratio = _fit(mask)
    scores = []
    for shape, upright, want_ratio, want in templates():
        if not (upright or turned):
            continue
        iou = (got & want).sum() / max(1, (got | want).sum())
        scores.append((iou - 0.3 * abs(np.log(ratio / want_ratio)), shape))
    return max(scores)[1]


@dataclass
class Tracked:
    """Per frame: centre x, y, area, lower edge (units; nan when nothing is seen) and the mask."""

    table: np.ndarray  # [T, 4]
    masks: list[np.ndarray | None]


def follow(frames: Tensor, background: int, aspect: str) -> Tracked:
    """Follows the largest blob; ties go to the one nearest to the last place."""
    rows, masks, last = [], [], None
    for f in frames:
        found = blobs(f, background, aspect)
        if not found:
            rows.append((np.nan,) * 4)
            masks.append(None)
            continue
        mask = found[0]
        if last is not None and len(found) > 1:
            size = mask.sum()
            near = [m for m in found if m.sum() > 0.5 * size]
            mask = min(near, key=lambda m: np.hypot(*(np.argwhere(m).mean(0) - last)))
        y, x = np.nonzero(mask)
        last = np.array([y.mean(), x.mean()])
        rows.append(((x.min() + x.max()) / 360, (y.min() + y.max()) / 360, mask.sum() / 180**2, y.max() / 180))
        masks.append(mask)
    return Tracked(np.array(rows), masks)


def turning(masks: list[np.ndarray | None]) -> float:
    """How much the outline changes about its centre (0 = not at all), median over the clip."""

    def centred(m: np.ndarray) -> np.ndarray:
        y, x = np.nonzero(m)
        out = np.zeros((96, 96), bool)
        v, u = y - int(round(y.mean())) + 48, x - int(round(x.mean())) + 48
        ok = (v >= 0) & (v < 96) & (u >= 0) & (u < 96)
        out[v[ok], u[ok]] = True
        return out

    seen = [centred(m) for m in masks if m is not None][::3]
    pairs = [(a ^ b).sum() / max(1, (a | b).sum()) for lag in (1, 2, 3) for a, b in zip(seen, seen[lag:])]
    return float(np.percentile(pairs, 70)) if pairs else 0.0


def motion_of(tracked: Tracked) -> str:
    """One of the world's motions, `none` or `other`."""
    table = tracked.table
    ok = ~np.isnan(table[:, 0])
    if ok.sum() < 8:
        return "none"
    x, y, area = table[ok, 0], table[ok, 1], table[ok, 2]
    index = np.nonzero(ok)[0]
    step = np.diff(index) == 1
    dx, dy = np.diff(x)[step], np.diff(y)[step]

    def spread(v: np.ndarray) -> float:
        return float(np.percentile(v, 95) - np.percentile(v, 5))

    def drift(v: np.ndarray) -> float:
        return float((v > 0.004).mean() - (v < -0.004).mean())

    if spread(area) / area.mean() > 0.5 and spread(x) < 0.12 and spread(y) < 0.12:
        return "pulse"
    if abs(drift(dx)) > 0.6 and spread(x) > 0.15 and spread(y) < 0.2:
        return "right" if drift(dx) > 0 else "left"
    if abs(drift(dy)) > 0.6 and spread(y) > 0.15 and spread(x) < 0.2:
        return "down" if drift(dy) > 0 else "up"
    if spread(x) > 0.2 and spread(y) > 0.2:
        return "orbit"
    if spread(y) > 0.06 and spread(y) > 2 * spread(x):
        return "bounce"
    if spread(x) > 0.03 and spread(x) > 2 * spread(y):
        return "shake"
    if spread(x) < 0.08 and spread(y) < 0.08:
        return "spin" if turning(tracked.masks) > 0.075 else "still"
    return "other"


def visible_impacts(table: np.ndarray) -> np.ndarray:
    """Times (s) at which the lower edge turns sharply from falling to rising."""
    y, n, out = table[:, 3], len(table), []
    for i in range(2, n - 3):
        near = y[max(0, i - 5) : i + 6]
        if np.isnan(near).any() or y[i] < np.nanmax(near) - 1e-9 or y[i] == y[i - 1]:
            continue
        if y[i] - min(y[max(0, i - 4)], y[min(n - 1, i + 4)]) < 0.015:
            continue
        down, up = y[i - 1] - y[i - 2], y[i + 2] - y[i + 1]
        t = float(i)
        if down > 0 > up:  # where the falling and the rising line meet
            t = ((y[i + 1] - up * (i + 1)) - (y[i - 1] - down * (i - 1))) / (down - up)
            t = min(max(t, i - 1), i + 1)
        out.append(t / FPS)
    return np.array(out)


def onsets(samples: np.ndarray, threshold: float = 0.25) -> np.ndarray:
    """Onset times (s) by the rise of log energy in 24 bands, 2.5 ms hop; corrected for the detector's lead."""
    hop, window = 60, 480
    n = len(samples) // hop
    padded = np.pad(samples.astype(np.float64), (0, window))
    views = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:n]
    spectrum = np.abs(np.fft.rfft(views * np.hanning(window), axis=1))
    level = np.log(spectrum[:, :240].reshape(n, 24, 10).mean(2) + 0.25)
    rise = np.maximum(level[4:] - level[:-4], 0).mean(1)
    out = []
    for i in range(1, len(rise) - 1):
        if rise[i] >= threshold and rise[i] == rise[max(0, i - 40) : i + 41].max():
            out.append((i + 4) * hop / SAMPLE_RATE + 0.0075)
    return np.array(out)


@dataclass
class Verdict:
    background: int
    color: int | None
    shape: int | None
    motion: str
    count: int
    impacts: np.ndarray
    sync_ms: list[float]
    loudness: float


def analyse(frames: Tensor, samples: np.ndarray, aspect: str = "16:9") -> Verdict:
    """Everything the analyser can tell of a clip: frames [T, 3, H, W] at analysis scale, samples at 24 kHz."""
    background = background_of(frames, aspect)
    tracked = follow(frames, background, aspect)
    table = tracked.table
    ok = np.nonzero(~np.isnan(table[:, 0]))[0]
    loud = float(np.sqrt((samples.astype(np.float64) ** 2).mean())) if len(samples) else 0.0
    if len(ok) == 0:
        return Verdict(background, None, None, "none", 0, np.array([]), [], loud)
    inside = [
        i
        for i in ok
        if not (tracked.masks[i][0].any() or tracked.masks[i][-1].any() or tracked.masks[i][:, 0].any() or tracked.masks[i][:, -1].any())
    ]
    chosen = sorted(inside or list(ok), key=lambda i: -table[i, 2])[:9][::2]
    colors = [color_of(frames[i], tracked.masks[i]) for i in chosen]
    motion = motion_of(tracked)
    outlines = [half_mask(frames[i], tracked.masks[i], background, aspect) for i in chosen]
    shapes = [shape_of(m, motion == "spin") for m in outlines]
    counts = [len(blobs(frames[i], background, aspect)) for i in np.linspace(0, len(frames) - 1, 5).astype(int)]
    hits = visible_impacts(table) if motion == "bounce" else np.array([])
    heard = onsets(samples) if len(samples) else np.array([])
    sync = [float(1000 * (heard[np.abs(heard - t).argmin()] - t)) for t in hits] if len(heard) else []
    most = max(set(colors), key=colors.count), max(set(shapes), key=shapes.count)
    return Verdict(background, most[0], most[1], motion, int(np.median(counts)), hits, sync, loud)
