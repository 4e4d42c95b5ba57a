"""Audio codec without a network: oscillators, noise bands and residual vector quantisation.

24 kHz mono. A codec frame is 1000 samples (one video frame) = 4 sub-frames of 96 gains: 84 semitone oscillators
(from MIDI 36) and 12 noise bands. Three residual codebooks of 512 rows code the square roots of the 384 gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from .world import SAMPLE_RATE

HOP, SUB = 1000, 250
TONES, BANDS = 84, 12
NOISE_PERIOD = 96_000
WINDOW = 2048
ITERATIONS = 30
FLOOR = 2e-3
TONE_HZ = 440.0 * 2 ** ((36 + np.arange(TONES) - 69) / 12)
BAND_EDGES = np.geomspace(60, 11500, BANDS + 1)
POOL_EDGES = np.unique(np.concatenate([np.arange(4, 200), np.geomspace(200, 1024, 90).astype(int), [1025]]))


def splitmix64(k: np.ndarray) -> np.ndarray:
    """The k-th outputs of the SplitMix64 finaliser, as uint64."""
    with np.errstate(over="ignore"):
        z = k.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def noise_table() -> np.ndarray:
    """[12, 96000] periodic band noise of unit standard deviation; phases from SplitMix64 of the bin index."""
    bins = np.arange(NOISE_PERIOD // 2 + 1)
    hertz = bins * SAMPLE_RATE / NOISE_PERIOD
    phase = 2 * np.pi * (splitmix64(bins) >> np.uint64(11)).astype(np.float64) / 2.0**53
    rows = []
    for low, high in zip(BAND_EDGES[:-1], BAND_EDGES[1:]):
        spectrum = np.where((hertz >= low) & (hertz < high), np.exp(1j * phase), 0)
        y = np.fft.irfft(spectrum, NOISE_PERIOD)
        rows.append(y / y.std())
    return np.stack(rows)


_TABLE: np.ndarray | None = None


def carriers(start: int, count: int) -> Tensor:
    """[96, count] unit-rms carriers at sample indices start .. start + count."""
    global _TABLE
    if _TABLE is None:
        _TABLE = noise_table()
    index = start + np.arange(count)
    phase = np.arange(TONES) * 2.399963
    tones = np.sqrt(2) * np.sin(2 * np.pi * TONE_HZ[:, None] * (index / SAMPLE_RATE) + phase[:, None])
    return torch.tensor(np.concatenate([tones, _TABLE[:, index % NOISE_PERIOD]]), dtype=torch.float32)


def pooled_power(y: Tensor) -> Tensor:
    """Waveform [250 k] -> [k, bands]: power of a Hann window of 2048 centred on each sub-frame, summed per
    group of bins and divided by the square root of the group's size. Outside the waveform is silence."""
    k = len(y) // SUB
    left = WINDOW // 2 - SUB // 2
    padded = F.pad(y, (left, WINDOW))
    frames = padded.unfold(0, WINDOW, SUB)[:k]
    spectrum = torch.fft.rfft(frames * torch.hann_window(WINDOW), dim=1) / (WINDOW / 4)
    power = spectrum.real**2 + spectrum.imag**2
    total = F.pad(power.double().cumsum(1), (1, 0))
    edges = torch.tensor(POOL_EDGES)
    width = (edges[1:] - edges[:-1]).double()
    return ((total[:, edges[1:]] - total[:, edges[:-1]]) / width.sqrt()).float()


def make_templates() -> Tensor:
    """[96, bands] mean pooled power of each carrier."""
    return torch.stack([pooled_power(c)[20:-20].mean(0) for c in carriers(0, SAMPLE_RATE)])


@dataclass
class AudioCodec:
    codebooks: Tensor  # [3, 512, 384]
    templates: Tensor  # [96, bands]

    def fit(self, y: Tensor) -> Tensor:
        """Waveform [250 k] -> gains [k, 96]: multiplicative updates against the templates, then transients
        sharpened by the ratio of the sub-frame's own power to the power that the long window sees."""
        power = pooled_power(y)
        t = self.templates
        scale = t.sum(1) + 1e-6 + 0.02
        g = torch.full((len(power), TONES + BANDS), 1e-3)
        for _ in range(ITERATIONS):
            g = g * ((power / (g @ t + 1e-9)) @ t.T) / scale
        local = y[: len(g) * SUB].view(-1, SUB).pow(2).mean(1)
        w = (torch.hann_window(WINDOW + 1) ** 2)[::SUB][1:]
        side = len(w) // 2
        seen = F.pad(local[None, None], (side, len(w) - 1 - side), mode="replicate")
        seen = F.conv1d(seen, (w / w.sum())[None, None])[0, 0]
        return g.sqrt() * ((local + 1e-7) / (seen + 1e-7)).sqrt().clamp(max=6.0)[:, None]

    def vectors(self, y: Tensor) -> Tensor:
        """Waveform [1000 n] -> [n, 384] square roots of the gains."""
        g = self.fit(y).sqrt()
        return g[: len(g) // 4 * 4].reshape(-1, 4 * (TONES + BANDS))

    def encode(self, y: Tensor) -> Tensor:
        """Waveform [1000 n] -> codes [n, 3]."""
        rest, codes = self.vectors(y), []
        for book in self.codebooks:
            index = torch.cdist(rest, book).argmin(1)
            codes.append(index)
            rest = rest - book[index]
        return torch.stack(codes, 1)

    def gains(self, codes: Tensor) -> Tensor:
        """codes [n, 3] -> gains [4 n, 96]"""
        total = sum(self.codebooks[q][codes[:, q]] for q in range(len(self.codebooks)))
        return total.view(-1, TONES + BANDS).clamp(min=0) ** 2

    def decode(self, codes: Tensor, start: int = 0) -> Tensor:
        """codes [n, 3] -> samples [1000 n]; `start` is the index of the first sample on the clip's clock."""
        return render_gains(self.gains(codes), start)


def render_gains(gains: Tensor, start: int) -> Tensor:
    """Gains [k, 96] -> samples [250 k]: linear interpolation between sub-frame centres, times the carriers."""
    g = torch.where(gains < FLOOR, 0.0, gains).T
    used = g.amax(1) > 0
    n = g.shape[1] * SUB
    if not used.any():
        return torch.zeros(n)
    smooth = F.interpolate(g[used][None], size=n, mode="linear", align_corners=False)[0]
    return (smooth * carriers(start, n)[used]).sum(0)


def save(codec: AudioCodec, path: str | Path) -> None:
    save_file({"codebooks": codec.codebooks.contiguous(), "templates": codec.templates.contiguous()}, str(path))


def load(path: str | Path) -> AudioCodec:
    t = load_file(str(path))
    return AudioCodec(t["codebooks"].float(), t["templates"].float())
