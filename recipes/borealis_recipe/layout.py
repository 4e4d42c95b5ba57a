"""The one vocabulary, prompts, grids of positions and row features of a world's model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import world
from .vocabulary import NARROW, RICH, World

CONTROLS = (
    "<pad> <bos> <eos> <t2i> <t2v> <i2v> <edit_image> <edit_video> <extend> <reference> <text> <scene> <media> <null> <end> "
    "<image_0> <image_1> <image_2> <image_3> <image_4> <image_5> <image_6> <video> <16:9> <9:16> <1:1> <4:3> <3:4> <3:2> <2:3>"
).split()
CONTROL_SIZE = 64
DIGITS, LEVELS = 9, 8
BOOKS, BOOK_SIZE = 3, 512
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


GRID = {a: ((rows + 1) // 2, (columns + 1) // 2) for a, (columns, rows) in world.CANVAS.items()}

ABSOLUTE = (0.25, 0.5, 1.0, 2.0, 4.0)
SECONDS = tuple(k / 4 for k in range(1, 13))
RELATIVE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
NEAR = (8.0, 40.0)
OBJECT = (0.25, 0.5, 1.0)  # per radius, in the object's own frame
HARMONICS = 5  # multiples of the direction from the object's centre
LIMIT = 3.0  # radii; farther offsets are shortened to this
_OBJECT_SIZE = 6 * len(OBJECT) + 2 * HARMONICS  # of a cell, an object and an end of the latent frame
_SLOT_SIZE = 2 * (4 * len(RELATIVE) + len(NEAR)) + 2 * 4 * _OBJECT_SIZE  # of a storyboard slot: both of its ends
_BASE_SIZE = 4 * len(ABSOLUTE) + 2 * len(SECONDS)
RADIUS_CODE, ANGLE_CODE = 4, 5


def sincos(v: Tensor, frequencies: tuple[float, ...]) -> Tensor:
    """v [...] -> [..., 2 f]: all sines, then all cosines."""
    a = 2 * torch.pi * v[..., None] * torch.tensor(frequencies, device=v.device)
    return torch.cat([a.sin(), a.cos()], -1)


def row_centres(aspect: str) -> Tensor:
    """[gh*gw, 2] centres (x, y) of the video rows in units."""
    gh, gw = GRID[aspect]
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    return torch.stack([(2 * x + 1).flatten() / 9, (2 * y + 1).flatten() / 9], 1)


def object_features(d: Tensor, state: Tensor) -> Tensor:
    """Offsets d [B, N, 2] of row centres from an object with the codes `state` [B, 8] -> [B, N, 4 * _OBJECT_SIZE]:
    each cell's offset in radii, turned with the object, as waves of x, y and the distance, then harmonics of the direction."""
    radius = world.RADIUS_MIN + world.RADIUS_STEP * state[:, RADIUS_CODE].float()
    turn = 2 * torch.pi * state[:, ANGLE_CODE].float() / world.CLOCK
    half = 0.5 / world.CELLS_PER_UNIT
    cells = torch.tensor([[-half, -half], [half, -half], [-half, half], [half, half]], device=d.device)
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


# ---------------------------------------------------------------- positions (t, y, x) for the rotation


def video_positions(aspect: str, offset: int = 0) -> Tensor:
    """[gh*gw, 3]; these models have time scale 0: t is always `offset`."""
    gh, gw = GRID[aspect]
    y, x = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    zero = torch.zeros(gh * gw)
    return torch.stack([zero, y.flatten() - (gh - 1) / 2, x.flatten() - (gw - 1) / 2], 1) + offset


def audio_position(aspect: str, offset: int = 0) -> Tensor:
    return torch.tensor([0.0, GRID[aspect][0] / 2 + 2, -1.0]) + offset


def state_position(aspect: str, offset: int = 0) -> Tensor:
    return torch.tensor([0.0, GRID[aspect][0] / 2 + 2, 1.0]) + offset


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


# ---------------------------------------------------------------- what depends on the world


class Layout:
    """Where everything stands in the vocabulary of a world's model, and what its rows carry."""

    def __init__(self, of: World) -> None:
        self.world = of
        self.control_start = of.text_ids
        self.control = {name: self.control_start + i for i, name in enumerate(CONTROLS)}
        self.scene_start = self.control_start + CONTROL_SIZE
        self.state_start = self.scene_start + of.scene_vocabulary
        self.video_start = self.state_start + of.state_vocabulary
        self.audio_start = self.video_start + DIGITS * LEVELS
        self.vocab_size = self.audio_start + BOOKS * BOOK_SIZE
        self.segments = (
            ("text", 0, of.text_ids),
            ("control", self.control_start, CONTROL_SIZE),
            ("scene", self.scene_start, of.scene_vocabulary),
            ("state", self.state_start, of.state_vocabulary),
            ("video", self.video_start, DIGITS * LEVELS),
            ("audio", self.audio_start, BOOKS * BOOK_SIZE),
        )
        state = tuple((self.state_start + a, n) for a, n in zip(of.state_start, of.state_size))
        self.modalities = {
            "state": Modality("state", of.slots, state, True),
            "video": Modality("video", 4, tuple((self.video_start + LEVELS * j, LEVELS) for j in range(DIGITS)), True, "state"),
            "audio": Modality("audio", 4, tuple((self.audio_start + BOOK_SIZE * j, BOOK_SIZE) for j in range(BOOKS)), True, "state"),
        }
        self.features = _BASE_SIZE + of.slots * _SLOT_SIZE

    def positions(self, aspect: str) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (t, y, x) of the rows of a latent frame: pictures [gh*gw, 3], sound [3], storyboard [3]."""
        offset = self.world.position_offset
        return video_positions(aspect, offset), audio_position(aspect, offset), state_position(aspect, offset)

    def prompt_ids(self, tokenizer: Tokenizer, mode: str, aspect: str, text: str | None) -> list[int]:
        """[mode][aspect]<text> ids <scene>; `<IMAGE_k>` in the text becomes its control id; no text: <null>."""
        control = self.control
        ids = [control[MODES[mode]], control[f"<{aspect}>"], control["<text>"]]
        if text is None:
            ids.append(control["<null>"])
        else:
            rest = text
            while (at := rest.find("<IMAGE_")) >= 0 and rest[at + 8 : at + 9] == ">":
                if rest[:at].strip():
                    ids += tokenizer.encode(rest[:at].rstrip()).ids
                ids.append(control[f"<image_{rest[at + 7]}>"])
                rest = rest[at + 9 :]
            if rest.strip():
                ids += tokenizer.encode(rest.strip() if rest is not text else rest).ids
        return ids + [control["<scene>"]]

    def time_features(self, latent: Tensor) -> Tensor:
        """latent [...] -> [..., F] with only the part that depends on time (audio rows)."""
        out = torch.zeros(*latent.shape, self.features, device=latent.device)
        a = 4 * len(ABSOLUTE)
        out[..., a : a + 2 * len(SECONDS)] = sincos(latent.float() / 6, SECONDS)
        return out

    def video_features(self, aspect: str, latent: Tensor, state: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """latent [B], state levels [B, slots, 8] or None (sources), perhaps only some rows [B, N] of the grid -> [B, N, F]"""
        width, height = world.canvas_units(aspect)
        device = latent.device
        centre = row_centres(aspect).to(device)
        b = len(latent)
        centre = centre[rows] if rows is not None else centre.expand(b, -1, -1)
        n = centre.shape[1]
        parts = [sincos(centre[..., 0] - width / 2, ABSOLUTE), sincos(centre[..., 1] / height, ABSOLUTE)]
        parts.append(sincos(latent.float() / 6, SECONDS)[:, None].expand(b, n, -1))
        if state is None:
            parts.append(torch.zeros(b, n, self.features - _BASE_SIZE, device=device))
            return torch.cat(parts, -1)
        shaped, none = [], [size - 1 for size in self.world.state_size]
        for slot in range(self.world.slots):
            codes = state[:, slot]
            sized = (codes[:, RADIUS_CODE] != none[RADIUS_CODE]) & (codes[:, ANGLE_CODE] != none[ANGLE_CODE])
            for end in range(2):
                level = codes[:, 2 * end : 2 * end + 2]
                d = centre - (level.float() / world.BINS - world.ORIGIN)[:, None]
                square = (d * d).sum(-1)
                near = torch.stack([torch.exp(-k * square) for k in NEAR], -1)
                f = torch.cat([sincos(d[..., 0], RELATIVE), sincos(d[..., 1], RELATIVE), near], -1)
                present = (level != none[0]).all(1)
                parts.append(f * present[:, None, None])
                shaped.append(object_features(d, codes) * (present & sized)[:, None, None])
        return torch.cat(parts + shaped, -1)

    def feature_columns(self, slot: int) -> list[range]:
        """Columns of the features that belong to a storyboard slot: distances, then the object's own frame."""
        near, shaped = 2 * (4 * len(RELATIVE) + len(NEAR)), 2 * 4 * _OBJECT_SIZE
        first = _BASE_SIZE + slot * near
        second = _BASE_SIZE + self.world.slots * near + slot * shaped
        return [range(first, first + near), range(second, second + shaped)]


LAYOUTS = {w.name: Layout(w) for w in (NARROW, RICH)}


def of_vocabulary(size: int) -> Layout:
    """The layout whose model has `size` rows of embeddings."""
    for found in LAYOUTS.values():
        if found.vocab_size == size:
            return found
    known = ", ".join(f"{v.vocab_size} ({k})" for k, v in LAYOUTS.items())
    raise ValueError(f"vocab_size {size} is of no known world: expected one of {known}")
