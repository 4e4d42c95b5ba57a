"""Random pictures outside the world: gradients, value noise, stripes and polygons.

They teach the video tokenizer, and the copying of the transformer, to carry pictures of the user's own.
A picture is a function of its seed and of the point, so that any window of it renders at any density.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor


def _color(r: random.Random) -> Tensor:
    return torch.tensor([r.random() for _ in range(3)]).view(3, 1, 1)


def _lattice(seed: int, i: Tensor, j: Tensor) -> Tensor:
    """Deterministic pseudo-random values in [0, 1) at integer lattice points."""
    h = torch.sin(i * 127.1 + j * 311.7 + seed % 9973 * 0.731) * 43758.5453
    return h - torch.floor(h)


def _value_noise(seed: int, x: Tensor, y: Tensor) -> Tensor:
    i, j = torch.floor(x), torch.floor(y)
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    top = _lattice(seed, i, j) * (1 - u) + _lattice(seed, i + 1, j) * u
    bottom = _lattice(seed, i, j + 1) * (1 - u) + _lattice(seed, i + 1, j + 1) * u
    return top * (1 - v) + bottom * v


def picture(seed: int, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Picture `seed` at the points x [1, W], y [H, 1] (units); `pixel` is the size of a pixel. -> [3, H, W]"""
    r = random.Random(seed)
    x, y = x + 0 * y, y + 0 * x
    a = r.uniform(0, 2 * math.pi)
    along = (math.cos(a) * x + math.sin(a) * y) * r.uniform(0.3, 1.2) + r.random()
    color = _color(r) + (_color(r) - _color(r)) * along.clamp(0, 1)
    for _ in range(r.choice((0, 1, 1, 2))):  # soft texture
        f = r.uniform(1, 12)
        n = _value_noise(r.randrange(1 << 30), x * f, y * f) * 0.65
        n = n + _value_noise(r.randrange(1 << 30), x * f * 2.1, y * f * 2.1) * 0.35
        color = color + (n - 0.5) * (_color(r) - _color(r)) * r.uniform(0.3, 1.2)
    if r.random() < 0.3:  # stripes
        b, f = r.uniform(0, 2 * math.pi), r.uniform(2, 9)
        wave = torch.sin((math.cos(b) * x + math.sin(b) * y) * 2 * math.pi * f)
        color = color + (_color(r) - color) * (0.5 + wave / (2 * math.pi * f * pixel)).clamp(0, 1)
    for _ in range(r.choice((0, 1, 3, 5))):  # convex polygons
        cx, cy, size = r.uniform(0, 1.8), r.uniform(0, 1.2), r.uniform(0.05, 0.4)
        sides, turn = r.randrange(3, 8), r.uniform(0, 6.3)
        d = torch.full_like(x, -9.0)
        for k in range(sides):
            q = turn + 2 * math.pi * k / sides
            d = torch.maximum(d, (x - cx) * math.cos(q) + (y - cy) * math.sin(q) - size)
        color = color + (_color(r) - color) * (0.5 - d / pixel).clamp(0, 1)
    return color.clamp(0, 1)
