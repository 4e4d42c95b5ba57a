"""Things that bring their own colours: sprites of an atlas, sampled at any size and angle.

The atlas is made by `make_sprites.py` from the Noto Color Emoji font (SIL Open Font License 1.1, `sprites-OFL.txt`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .vocabulary import THINGS

ATLAS = Path(__file__).parent / "sprites.png"
TILE, COLUMNS = 128, 6
FILL = 0.94  # share of a tile that the larger side of its picture takes
LEVELS = 4  # of the pyramid: 128, 64, 32 and 16 pixels


@lru_cache(maxsize=1)
def pyramid() -> list[Tensor]:
    """[24, 4, side, side] of every level: colours times opacity, then opacity."""
    image = torch.tensor(np.array(Image.open(ATLAS).convert("RGBA"))).float() / 255
    rows = image.shape[0] // TILE
    tiles = image.view(rows, TILE, COLUMNS, TILE, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, TILE, TILE)[: len(THINGS)]
    levels = [torch.cat([tiles[:, :3] * tiles[:, 3:], tiles[:, 3:]], 1)]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def sample(index: int, x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """Colours [3, H, W] and opacity [H, W] of sprite `index` at the points x, y [H, W] in radii, y down.

    `pixel` is the size of a pixel in radii. Smaller than the atlas, the picture comes from the pyramid; larger,
    its outline is drawn at the width of a pixel instead of being blurred.
    """
    texel = 2 / FILL / TILE  # radii
    at = torch.stack([x, y], -1)[None] * FILL
    level = max(0.0, min(LEVELS - 1.0, float(np.log2(max(pixel / texel, 1e-6)))))
    low, part = int(level), level - int(level)
    got = F.grid_sample(pyramid()[low][index : index + 1], at, align_corners=False)[0]
    if part > 0:
        coarse = F.grid_sample(pyramid()[low + 1][index : index + 1], at, align_corners=False)[0]
        got = got + (coarse - got) * part
    alpha = got[3]
    color = got[:3] / alpha.clamp(min=1e-3)
    if pixel < texel:
        alpha = ((alpha - 0.5) * (texel / pixel) + 0.5).clamp(0, 1)
    return color.clamp(0, 1), alpha
