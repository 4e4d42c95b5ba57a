"""Causal video tokenizer with finite scalar quantisation (FSQ).

Latent frame 0 is an image (the frame repeated 4 times); latent frame i > 0 holds the next 4 frames. A cell is
20x20 pixels of the 180-line analysis scale (80x80 at 720p) and holds 9 digits of 8 levels. The decoder ends in
a layered painting head: K colour layers blended by a softmax of K bilinearly upsampled logit planes, which is
sharp at any output size.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PATCH = 5


@dataclass
class VideoTokenizerConfig:
    channels: tuple[int, int, int] = (40, 80, 160)
    digits: int = 9
    levels: int = 8
    layers: int = 3  # K, colour layers of the painting head
    stride: int = 4  # frames per latent frame


class ChannelNorm(nn.Module):
    """RMS norm over the channels of every position."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-5) * self.weight.view(1, -1, 1, 1)


class Block(nn.Module):
    """Residual block: norm, SiLU, 3x3, SiLU, 3x3."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(c)
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)
            self.conv2.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class TimeMix(nn.Module):
    """Adds a 1x1 of [x_t, x_{t-1}] to x_t; the first latent frame is its own predecessor."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * c, c, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, n: int) -> Tensor:
        """x [B*n, C, h, w]"""
        y = x.view(-1, n, *x.shape[1:])
        before = torch.cat([y[:, :1], y[:, :-1]], 1).reshape(x.shape)
        return x + self.conv(torch.cat([x, before], 1))


class VideoTokenizer(nn.Module):
    def __init__(self, config: VideoTokenizerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VideoTokenizerConfig()
        a, b, d = c.channels
        self.encoder = nn.ModuleDict(
            {
                "in": nn.Conv2d(c.stride * PATCH * PATCH * 3, a, 1),
                "block1": Block(a),
                "down1": nn.Conv2d(a, b, 4, 2, 1),
                "block2": Block(b),
                "down2": nn.Conv2d(b, d, 4, 2, 1),
                "time": TimeMix(d),
                "block3": Block(d),
                "norm": ChannelNorm(d),
                "out": nn.Conv2d(d, c.digits, 1),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "in": nn.Conv2d(c.digits, d, 1),
                "time": TimeMix(d),
                "block1": Block(d),
                "block2": Block(d),
                "up1": nn.Conv2d(d, b * 4, 1),
                "block3": Block(b),
                "up2": nn.Conv2d(b, a * 4, 1),
                "block4": Block(a),
                "logits": nn.Conv2d(a, c.stride * c.layers * 4, 1),
                "colors": nn.Conv2d(a, c.stride * c.layers * 3, 1),
            }
        )
        for name in ("up1", "up2", "logits"):  # equal sub-pixels at the start: no checkerboard
            conv = self.decoder[name]
            with torch.no_grad():
                conv.weight.copy_(conv.weight[::4].repeat_interleave(4, 0))
                conv.bias.copy_(conv.bias[::4].repeat_interleave(4, 0))

    # ---------------------------------------------------------------- encoder

    def patches(self, video: Tensor) -> tuple[Tensor, int]:
        """video [B, T, 3, H, W], T = 1 + 4k (image first) or 4k (later groups); H, W multiples of 20
        -> [B*n, 300, H/5, W/5] with channels (frame, colour, dy, dx), and n."""
        s = self.config.stride
        b, t = video.shape[:2]
        if t % s == 1:
            video = torch.cat([video[:, :1].expand(-1, s - 1, -1, -1, -1), video], 1)
        n = video.shape[1] // s
        h, w = video.shape[-2:]
        x = video.reshape(b * n, s, 3, h // PATCH, PATCH, w // PATCH, PATCH)
        x = x.permute(0, 1, 2, 4, 6, 3, 5).reshape(b * n, s * 3 * PATCH * PATCH, h // PATCH, w // PATCH)
        return x * 2 - 1, n

    def encode_z(self, video: Tensor) -> tuple[Tensor, int]:
        """-> continuous z [B*n, digits, H/20, W/20] and n"""
        e = self.encoder
        x, n = self.patches(video)
        x = e["block1"](e["in"](x))
        x = e["block2"](e["down1"](x))
        x = e["block3"](e["time"](e["down2"](x), n))
        return e["out"](e["norm"](x)), n

    def quantise(self, z: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """-> straight-through levels (float) and integer levels, both shaped like z"""
        top = self.config.levels - 1
        bounded = torch.tanh(z) * (top / 2 + 0.499) + top / 2
        q = bounded.round().clamp(0, top)
        if noise:
            step = torch.randint_like(q, 0, 2) * 2 - 1
            q = (q + (torch.rand_like(q) < noise) * step).clamp(0, top)
        return bounded + (q - bounded).detach(), q.long()

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """video [B, T, 3, H, W] -> digits [B, n, h, w, 9]"""
        z, n = self.encode_z(video)
        q = self.quantise(z)[1]
        return q.view(-1, n, *q.shape[1:]).permute(0, 1, 3, 4, 2).contiguous()

    # ---------------------------------------------------------------- decoder

    def trunk(self, q: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """levels [B*n, digits, h, w] -> logit planes [B*n, 4*K, 8h, 8w], colour planes [B*n, 4*K*3, 4h, 4w]"""
        d = self.decoder
        x = d["in"](q / ((self.config.levels - 1) / 2) - 1)
        x = d["block2"](d["block1"](d["time"](x, n)))
        x = d["block3"](F.pixel_shuffle(d["up1"](x), 2))
        x = d["block4"](F.pixel_shuffle(d["up2"](x), 2))
        return F.pixel_shuffle(d["logits"](x), 2), d["colors"](x)

    def paint(
        self,
        planes: tuple[Tensor, Tensor],
        scale: int,
        box: tuple[int, int, int, int] | None = None,
        select: Tensor | slice = slice(None),
    ) -> Tensor:
        """Blends the layers at `scale` pixels per analysis pixel -> [frames, 3, 5*scale*h, 5*scale*w].

        `select` picks among the N*4 frames; `box` = (x, y, w, h) in patches (5 analysis pixels) crops.
        """
        logits, colors = planes
        s, k = self.config.stride, self.config.layers
        h, w = colors.shape[-2:]
        x, y, bw, bh = box or (0, 0, w, h)
        logits = logits.reshape(-1, k, 2 * h, 2 * w)[select]
        colors = colors.reshape(-1, k * 3, h, w)[select]
        n = logits.shape[0]
        logits = F.pad(logits, (2, 2, 2, 2), mode="replicate")
        logits = logits[:, :, 2 * y : 2 * (y + bh) + 4, 2 * x : 2 * (x + bw) + 4]
        colors = F.pad(colors, (1, 1, 1, 1), mode="replicate")[:, :, y : y + bh + 2, x : x + bw + 2]
        m = PATCH * scale
        size = ((bh + 2) * m, (bw + 2) * m)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, :, m:-m, m:-m]
        colors = F.interpolate(colors, size=size, mode="bilinear", align_corners=False)[:, :, m:-m, m:-m]
        weights = torch.softmax(logits.reshape(n, k, 1, bh * m, bw * m) * scale, 1)
        del s
        return (weights * colors.reshape(n, k, 3, bh * m, bw * m)).sum(1) + 0.5

    @torch.no_grad()
    def decode(self, digits: Tensor, scale: int = 1) -> Tensor:
        """digits [n, h, w, 9] of a clip that starts with its image -> frames [1 + 4(n-1), 3, H, W]"""
        q = digits.permute(0, 3, 1, 2).float()
        logits, colors = self.trunk(q, len(q))
        parts = [self.paint((logits[i : i + 1], colors[i : i + 1]), scale) for i in range(len(q))]
        return torch.cat(parts)[self.config.stride - 1 :].clamp(0, 1)


def save(model: VideoTokenizer, path: str | Path) -> None:
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, str(path), metadata={"config": json.dumps(asdict(model.config))})


def load(path: str | Path) -> VideoTokenizer:
    with safe_open(str(path), "pt") as f:
        config = json.loads(f.metadata()["config"])
    config["channels"] = tuple(config["channels"])
    model = VideoTokenizer(VideoTokenizerConfig(**config))
    model.load_state_dict(load_file(str(path)))
    return model.eval()


def from_study(path: str | Path) -> VideoTokenizer:
    """Warm start from the study's tokenizer (temporal stride 8): frames are merged pairwise."""
    old = load_file(str(path))
    new = VideoTokenizer()
    names = {
        "e_in": "encoder.in", "e1": "encoder.block1", "e_d1": "encoder.down1", "e2": "encoder.block2",
        "e_d2": "encoder.down2", "e_t": "encoder.time", "e3": "encoder.block3", "e_n": "encoder.norm",
        "e_out": "encoder.out", "d_in": "decoder.in", "d_t": "decoder.time", "d3.0": "decoder.block1",
        "d3.1": "decoder.block2", "d_u2": "decoder.up1", "d2.0": "decoder.block3", "d_u1": "decoder.up2",
        "d1": "decoder.block4", "h_l": "decoder.logits", "h_c": "decoder.colors",
    }  # fmt: skip
    inner = {"n.weight": "norm.weight", "c.weight": "conv.weight", "c.bias": "conv.bias"}
    inner |= {f"{a}.{p}": f"{b}.{p}" for a, b in (("a", "conv1"), ("b", "conv2")) for p in ("weight", "bias")}
    state = {}
    for key, value in old.items():
        stem = max((n for n in names if key.startswith(n + ".")), key=len)
        rest = key[len(stem) + 1 :]
        name = f"{names[stem]}.{inner.get(rest, rest)}"
        if stem == "e_in" and rest == "weight":
            value = value.view(value.shape[0], 4, 2, 75).sum(2).reshape(value.shape[0], 300, 1, 1)
        elif stem in ("h_l", "h_c"):
            value = value.view(8, -1, *value.shape[1:])[1::2].flatten(0, 1)
        state[name] = value.reshape(new.state_dict()[name].shape)
    new.load_state_dict(state)
    return new
