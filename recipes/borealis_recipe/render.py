"""Renders scenes at any size: backgrounds, shapes as signed distances, sprites, anti-aliased edges, camera and weather."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from . import camera, sprites
from .pictures import picture
from .vocabulary import BACKGROUNDS, COLORS, DRAWN
from .weather import cover
from .world import CELLS_PER_UNIT, Scene, Thing, canvas_units

LINES_PER_UNIT = 180  # analysis scale
PIXELS_PER_CELL = LINES_PER_UNIT // CELLS_PER_UNIT


def shape_distance(shape: int, x: Tensor, y: Tensor, r: float) -> Tensor:
    """Signed distance (negative inside) of a shape of radius `r` centred at 0; y points down."""
    if shape == 0:  # ball
        return torch.hypot(x, y) - r
    if shape == 1:  # box
        return torch.maximum(x.abs(), y.abs()) - r * 0.86
    if shape == 2:  # triangle
        return torch.maximum(y - 0.62 * r, 0.866 * x.abs() - 0.5 * y - 0.52 * r)
    if shape == 3:  # five-pointed star
        outer = r * 1.18
        c, s = 0.809016994, -0.587785252
        px, py = x.abs(), -y
        d = 2 * (c * px + s * py).clamp(min=0)
        px, py = px - d * c, py - d * s
        d = 2 * (-c * px + s * py).clamp(min=0)
        px, py = (px + d * c).abs(), py - d * s - outer
        bx, by = 0.45 * 0.587785252, 0.45 * 0.809016994 - 1.0
        h = ((px * bx + py * by) / (bx * bx + by * by)).clamp(min=0, max=outer)
        return torch.hypot(px - bx * h, py - by * h) * torch.sign(py * bx - px * by)
    if shape == 4:  # heart
        q = 1.18 * r
        px, py = x.abs() / q, -y / q + 0.52
        m = 0.5 * (px + py).clamp(min=0)
        low = torch.minimum(px * px + (py - 1) ** 2, (px - m) ** 2 + (py - m) ** 2).sqrt()
        lobe = torch.hypot(px - 0.25, py - 0.75) - 0.35355
        return torch.where(py + px > 1, lobe, low * torch.sign(px - py)) * q
    if shape == 5:  # ring
        return (torch.hypot(x, y) - 0.74 * r).abs() - 0.26 * r
    if shape == 6:  # diamond: slimmer than a box on its corner
        return (x.abs() * 1.15 + y.abs() * 0.72 - 0.80 * r) / 1.357
    px, py = x.abs(), y.abs()  # cross
    bar = torch.maximum(torch.maximum(px, py) - r, torch.minimum(px, py) - 0.34 * r)
    return bar


def _rgb(*c: float) -> Tensor:
    return torch.tensor(c).view(3, 1, 1)


def _mix(a: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return a + (b - a) * alpha


CLOUDS = ((0.45, 0.22, 0.10), (1.30, 0.33, 0.12))
STARS = ((0.2, 0.15), (0.6, 0.35), (0.95, 0.12), (1.65, 0.5), (0.3, 0.6), (1.2, 0.45))


def background(kind: int, x: Tensor, y: Tensor, width: float, height: float, pixel: float) -> Tensor:
    """Background at the points x [1, W], y [H, 1] (units). -> [3, H, W]

    Details keep their size on every canvas; heights scale with it and x is centred as on 16:9.
    """
    x = x - width / 2 + 8 / 9
    v = y / height
    zero = torch.zeros_like(x + y)

    def fill(d: Tensor) -> Tensor:
        return (0.5 - d / pixel).clamp(0, 1) + zero

    name = BACKGROUNDS[kind]
    if name == "sky":
        c = _mix(_rgb(0.30, 0.58, 0.95), _rgb(0.78, 0.90, 1.0), v.clamp(0, 1) + zero)
        for cx, cy, k in CLOUDS:
            cy = cy * height
            body = torch.hypot((x - cx) / 1.9, y - cy) - k * 0.6
            puff = torch.hypot(x - cx - 0.12, y - cy + 0.04) - k * 0.75
            c = _mix(c, _rgb(1.0, 1.0, 1.0), 0.9 * fill(torch.minimum(body, puff)))
    elif name == "night":
        c = _mix(_rgb(0.02, 0.03, 0.12), _rgb(0.10, 0.10, 0.30), v.clamp(0, 1) + zero)
        c = _mix(c, _rgb(0.95, 0.93, 0.78), fill(torch.hypot(x - 1.15, y - 0.20 * height) - 0.085))
        for cx, cy in STARS:
            c = _mix(c, _rgb(0.9, 0.9, 1.0), fill(torch.hypot(x - cx, y - cy * height) - 0.010))
    elif name == "sunset":
        c = _mix(_rgb(0.36, 0.16, 0.48), _rgb(1.0, 0.58, 0.25), (v / 0.72).clamp(0, 1) + zero)
        c = _mix(c, _rgb(1.0, 0.90, 0.55), fill(torch.hypot(x - 0.89, y - 0.70 * height) - 0.15))
        c = _mix(c, _rgb(0.22, 0.10, 0.20), fill(0.72 * height - y))
    elif name == "meadow":
        c = _mix(_rgb(0.42, 0.70, 0.98), _rgb(0.85, 0.94, 1.0), (v / 0.7).clamp(0, 1) + zero)
        c = _mix(c, _rgb(0.24, 0.56, 0.20), fill(0.66 * height + 0.05 * torch.sin(2.2 * x + 1) - y))
        c = _mix(c, _rgb(0.36, 0.68, 0.26), fill(0.80 * height + 0.02 * torch.sin(3.1 * x) - y))
    elif name == "desert":
        c = _mix(_rgb(0.62, 0.80, 0.92), _rgb(0.98, 0.94, 0.84), (v / 0.7).clamp(0, 1) + zero)
        c = _mix(c, _rgb(0.86, 0.68, 0.42), fill(0.68 * height + 0.04 * torch.sin(1.7 * x + 2) - y))
        c = _mix(c, _rgb(0.93, 0.78, 0.52), fill(0.82 * height + 0.03 * torch.sin(2.3 * x) - y))
    else:
        c = _mix(_rgb(0.50, 0.52, 0.56), _rgb(0.66, 0.68, 0.71), v.clamp(0, 1) + zero)
        c = _mix(c, _rgb(0.38, 0.39, 0.42), fill(0.80 * height - y))
    return c


def frame_size(aspect: str, lines: int = LINES_PER_UNIT) -> tuple[int, int]:
    """Width and height in pixels of the whole canvas with `lines` pixels per unit."""
    width, height = canvas_units(aspect)
    return round(width * lines), round(height * lines)


def render(
    scene: Scene,
    frames: np.ndarray,
    aspect: str = "16:9",
    lines: int = LINES_PER_UNIT,
    window: tuple[float, float, int, int] | None = None,
) -> Tensor:
    """Frames at the given (fractional) indices [T] -> [T, 3, H, W] in 0..1.

    `window` = (left, top) in units and (W, H) in pixels renders a part; the default is the whole canvas.
    """
    width, height = canvas_units(aspect)
    x0, y0, w, h = window or (0.0, 0.0, *frame_size(aspect, lines))
    pixel = 1 / lines
    u = (x0 + (torch.arange(w) + 0.5) * pixel).view(1, w)
    v = (y0 + (torch.arange(h) + 0.5) * pixel).view(h, 1)
    out = backdrop(scene, frames, u, v, width, height, pixel)
    for slot in reversed(range(len(scene.things))):
        at = camera.seen(scene, slot, frames, width, height)
        for i in range(len(frames)):
            cx, cy, r, turn = float(at.x[i]), float(at.y[i]), float(at.radius[i]), float(at.angle[i])
            reach = r * 1.35 + 2 * pixel
            left, right = max(0, int((cx - reach - x0) * lines)), min(w, int((cx + reach - x0) * lines) + 2)
            top, bottom = max(0, int((cy - reach - y0) * lines)), min(h, int((cy + reach - y0) * lines) + 2)
            if left >= right or top >= bottom:
                continue
            color, alpha = paint(scene.things[slot], u[:, left:right] - cx, v[top:bottom] - cy, r, turn, pixel)
            part = out[i, :, top:bottom, left:right]
            out[i, :, top:bottom, left:right] = _mix(part, color, alpha)
    if scene.weather:
        for i in range(len(frames)):
            out[i] = cover(scene.weather, out[i], u, v, height, float(frames[i]), pixel)
    return out


def paint(thing: Thing, dx: Tensor, dy: Tensor, r: float, turn: float, pixel: float) -> tuple[Tensor, Tensor]:
    """Colours [3, H, W] and opacity [H, W] of a thing of radius `r` at the offsets dx [1, W], dy [H, 1] from its centre."""
    lx, ly = dx + 0 * dy, dy + 0 * dx
    if turn:
        ca, sa = math.cos(turn), math.sin(turn)
        lx, ly = ca * lx + sa * ly, -sa * lx + ca * ly
    if thing.shape >= len(DRAWN):
        return sprites.sample(thing.shape - len(DRAWN), lx / r, ly / r, pixel / r)
    alpha = (0.5 - shape_distance(thing.shape, lx, ly, r) / pixel).clamp(0, 1)
    shade = (1.0 - 0.22 * dy / r).clamp(0.72, 1.25)
    color = torch.tensor(tuple(COLORS.values())[thing.color]).view(3, 1, 1)
    return (color * shade).clamp(0, 1) + 0 * alpha, alpha


def backdrop(scene: Scene, frames: np.ndarray, u: Tensor, v: Tensor, width: float, height: float, pixel: float) -> Tensor:
    """What is behind everything, as the camera sees it -> [T, 3, H, W], to be painted on."""

    def at(x: Tensor, y: Tensor, size: float) -> Tensor:
        if scene.picture is None:
            return background(scene.background, x, y, width, height, size)
        return picture(scene.picture, x, y, size)

    if not scene.camera:
        return at(u, v, pixel).expand(len(frames), 3, v.shape[0], u.shape[1]).clone()
    looks = camera.view(scene.camera, frames)
    parts = []
    for back, zoom in zip(looks.back.tolist(), looks.zoom.tolist()):
        parts.append(at(width / 2 + (u - width / 2) / zoom - back, height / 2 + (v - height / 2) / zoom, pixel / zoom))
    return torch.stack(parts)
