"""The one vocabulary, prompts, grids of positions and row features of the default model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import world
from .language import TEXT_VOCAB

CONTROLS = (
    "<pad> <bos> <eos> <t2i> <t2v> <i2v> <edit_image> <edit_video> <extend> <reference> <text> <scene> <media> <null> <end> "
    "<image_0> <image_1> <image_2> <image_3> <image_4> <image_5> <image_6> <video> <16:9> <9:16> <1:1> <4:3> <3:4> <3:2> <2:3>"
).split()
CONTROL_START = TEXT_VOCAB
CONTROL_SIZE = 64
CONTROL = {name: CONTROL_START + i for i, name in enumerate(CONTROLS)}
SCENE_START = CONTROL_START + CONTROL_SIZE
STATE_START = SCENE_START + world.SCENE_VOCAB
VIDEO_START = STATE_START + world.STATE_VOCAB
DIGITS, LEVELS = 9, 8
AUDIO_START = VIDEO_START + DIGITS * LEVELS
BOOKS, BOOK_SIZE = 3, 512
VOCAB_SIZE = AUDIO_START + BOOKS * BOOK_SIZE
SEGMENTS = (
    ("text", 0, TEXT_VOCAB),
    ("control", CONTROL_START, CONTROL_SIZE),
    ("scene", SCENE_START, world.SCENE_VOCAB),
    ("state", STATE_START, world.STATE_VOCAB),
    ("video", VIDEO_START, DIGITS * LEVELS),
    ("audio", AUDIO_START, BOOKS * BOOK_SIZE),
)
ROW_KINDS = (
    "text", "scene", "state", "video", "audio", "state_bos", "video_bos", "audio_bos",
    "source_video", "source_audio", "edit_video", "edit_audio",
)  # fmt: skip
KIND = {name: i for i, name in enumerate(ROW_KINDS)}

MODES = {
    "text_to_image": "<t2i>",
    "text_to_video": "<t2v>",
    "image_to_video": "<i2v>",
    "edit_image": "<edit_image>",
    "edit_video": "<edit_video>",
    "extend": "<extend>",
    "reference": "<reference>",
}


@dataclass(frozen=True)
class Modality:
    """Slots and codes of one position: (start, size) of each code of a slot, shared by the slots."""

    name: str
    slots: int
    codes: tuple[tuple[int, int], ...]
    copy_gate: bool
    condition: str | None = None


MODALITIES = {
    "state": Modality("state", 2, tuple((STATE_START + a, n) for a, n in zip(world.STATE_START, world.STATE_SIZE)), True),
    "video": Modality("video", 4, tuple((VIDEO_START + LEVELS * j, LEVELS) for j in range(DIGITS)), True, "state"),
    "audio": Modality("audio", 4, tuple((AUDIO_START + BOOK_SIZE * j, BOOK_SIZE) for j in range(BOOKS)), True, "state"),
}
GRID = {a: ((rows + 1) // 2, (columns + 1) // 2) for a, (columns, rows) in world.CANVAS.items()}

ABSOLUTE = (0.25, 0.5, 1.0, 2.0, 4.0)
SECONDS = tuple(k / 4 for k in range(1, 13))
RELATIVE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
NEAR = (8.0, 40.0)
OBJECT = (0.25, 0.5, 1.0)  # per radius, in the object's own frame
HARMONICS = 5  # multiples of the direction from the object's centre
LIMIT = 3.0  # radii; farther offsets are shortened to this
_OBJECT_SIZE = 6 * len(OBJECT) + 2 * HARMONICS  # of a cell, an object and an end of the latent frame
_NEAR_SIZE = 4 * (4 * len(RELATIVE) + len(NEAR)) + 4 * 4 * _OBJECT_SIZE
FEATURES = 4 * len(ABSOLUTE) + 2 * len(SECONDS) + _NEAR_SIZE
RADIUS_CODE, ANGLE_CODE = 4, 5


def sincos(v: Tensor, frequencies: tuple[float, ...]) -> Tensor:
    """v [...] -> [..., 2 f]: all sines, then all cosines."""
    a = 2 * torch.pi * v[..., None] * torch.tensor(frequencies)
    return torch.cat([a.sin(), a.cos()], -1)


def row_centres(aspect: str) -> Tensor:
    """[gh*gw, 2] centres (x, y) of the video rows in units."""
    gh, gw = GRID[aspect]
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    return torch.stack([(2 * x + 1).flatten() / 9, (2 * y + 1).flatten() / 9], 1)


def time_features(latent: Tensor) -> Tensor:
    """latent [...] -> [..., FEATURES] with only the part that depends on time (audio rows)."""
    out = torch.zeros(*latent.shape, FEATURES)
    a = 4 * len(ABSOLUTE)
    out[..., a : a + 2 * len(SECONDS)] = sincos(latent.float() / 6, SECONDS)
    return out


def object_features(d: Tensor, state: Tensor) -> Tensor:
    """Offsets d [B, N, 2] of row centres from an object with the codes `state` [B, 8] -> [B, N, 4 * _OBJECT_SIZE]:
    each cell's offset in radii, turned with the object, as waves of x, y and the distance, then harmonics of the direction."""
    radius = world.RADIUS_MIN + world.RADIUS_STEP * state[:, RADIUS_CODE].float()
    turn = 2 * torch.pi * state[:, ANGLE_CODE].float() / world.CLOCK
    half = 0.5 / world.CELLS_PER_UNIT
    cells = torch.tensor([[-half, -half], [half, -half], [-half, half], [half, half]])
    u = (d[:, :, None] + cells) / radius[:, None, None, None]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    x, y = cos * u[..., 0] + sin * u[..., 1], cos * u[..., 1] - sin * u[..., 0]
    far = torch.hypot(x, y).clamp(min=1e-6)
    c, s = x / far, y / far
    far = far.clamp(max=LIMIT)
    waves = [sincos(v, OBJECT) for v in (c * far, s * far, far)]
    ck, sk, sines, cosines = c, s, [s], [c]
    for _ in range(HARMONICS - 1):
        ck, sk = ck * c - sk * s, sk * c + ck * s
        sines.append(sk)
        cosines.append(ck)
    harmonics = torch.stack(sines + cosines, -1) * far.clamp(max=1)[..., None]
    return torch.cat([*waves, harmonics], -1).flatten(2)


def video_features(aspect: str, latent: Tensor, state: Tensor | None, rows: Tensor | None = None) -> Tensor:
    """latent [B], state levels [B, 2, 8] or None (sources), perhaps only some rows [B, N] of the grid -> [B, N, FEATURES]"""
    width, height = world.canvas_units(aspect)
    centre = row_centres(aspect)
    b = len(latent)
    centre = centre[rows] if rows is not None else centre.expand(b, -1, -1)
    n = centre.shape[1]
    parts = [sincos(centre[..., 0] - width / 2, ABSOLUTE), sincos(centre[..., 1] / height, ABSOLUTE)]
    parts.append(sincos(latent.float() / 6, SECONDS)[:, None].expand(b, n, -1))
    if state is None:
        parts.append(torch.zeros(b, n, _NEAR_SIZE))
        return torch.cat(parts, -1)
    shaped = []
    for slot in range(2):
        codes = state[:, slot]
        sized = (codes[:, RADIUS_CODE] != world.STATE_SIZE[RADIUS_CODE] - 1) & (codes[:, ANGLE_CODE] != world.STATE_SIZE[ANGLE_CODE] - 1)
        for end in range(2):
            level = codes[:, 2 * end : 2 * end + 2]
            d = centre - (level.float() / world.BINS - world.ORIGIN)[:, None]
            square = (d * d).sum(-1)
            near = torch.stack([torch.exp(-k * square) for k in NEAR], -1)
            f = torch.cat([sincos(d[..., 0], RELATIVE), sincos(d[..., 1], RELATIVE), near], -1)
            present = (level != world.STATE_SIZE[0] - 1).all(1)
            parts.append(f * present[:, None, None])
            shaped.append(object_features(d, codes) * (present & sized)[:, None, None])
    return torch.cat(parts + shaped, -1)


# ---------------------------------------------------------------- positions (t, y, x) for the rotation


def video_positions(aspect: str) -> Tensor:
    """[gh*gw, 3]; the default model has time scale 0: t is always 0."""
    gh, gw = GRID[aspect]
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    zero = torch.zeros(gh * gw)
    return torch.stack([zero, y.flatten() - (gh - 1) / 2, x.flatten() - (gw - 1) / 2], 1)


def audio_position(aspect: str) -> Tensor:
    return torch.tensor([0.0, GRID[aspect][0] / 2 + 2, -1.0])


def state_position(aspect: str) -> Tensor:
    return torch.tensor([0.0, GRID[aspect][0] / 2 + 2, 1.0])


# ---------------------------------------------------------------- packing codes into positions


def pack_video(digits: Tensor) -> Tensor:
    """digits [n, h, w, 9] -> [n, gh*gw, 4, 9]; an odd last row or column is repeated."""
    n, h, w, d = digits.shape
    if h % 2:
        digits = torch.cat([digits, digits[:, -1:]], 1)
    if w % 2:
        digits = torch.cat([digits, digits[:, :, -1:]], 2)
    h, w = digits.shape[1:3]
    x = digits.view(n, h // 2, 2, w // 2, 2, d).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * w // 4, 4, d)


def unpack_video(rows: Tensor, aspect: str) -> Tensor:
    """Inverse of `pack_video`: [n, gh*gw, 4, 9] -> [n, h, w, 9]"""
    gh, gw = GRID[aspect]
    columns, lines = world.CANVAS[aspect]
    n, _, _, d = rows.shape
    x = rows.view(n, gh, gw, 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * gh, 2 * gw, d)
    return x[:, :lines, :columns]


def prompt_ids(tokenizer: Tokenizer, mode: str, aspect: str, text: str | None) -> list[int]:
    """[mode][aspect]<text> ids <scene>; `<IMAGE_k>` in the text becomes its control id; no text: <null>."""
    ids = [CONTROL[MODES[mode]], CONTROL[f"<{aspect}>"], CONTROL["<text>"]]
    if text is None:
        ids.append(CONTROL["<null>"])
    else:
        rest = text
        while (at := rest.find("<IMAGE_")) >= 0 and rest[at + 8 : at + 9] == ">":
            if rest[:at].strip():
                ids += tokenizer.encode(rest[:at].rstrip()).ids
            ids.append(CONTROL[f"<image_{rest[at + 7]}>"])
            rest = rest[at + 9 :]
        if rest.strip():
            ids += tokenizer.encode(rest.strip() if rest is not text else rest).ids
    return ids + [CONTROL["<scene>"]]
