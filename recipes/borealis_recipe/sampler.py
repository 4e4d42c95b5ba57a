"""Counter-based Gumbel sampling: an id depends on the seed and on its place only, never on the schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STREAM = {"text": 0, "state": 1, "video": 2, "audio": 3}


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: counter uint32 [..., 4] -> words uint32 [..., 4]"""
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    mask = np.uint64(0xFFFFFFFF)
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k0, p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k1, p0 & mask]
    return np.stack(c, -1).astype(np.uint32)


def gumbel(seed: int, position: int, code: int, size: int, stream: int) -> np.ndarray:
    """Noise [size] of the ids of one code of one position."""
    blocks = np.arange((size + 3) // 4)
    counter = np.zeros((len(blocks), 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2], counter[:, 3] = position, code, blocks, stream
    words = philox(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)).reshape(-1)[:size]
    return -np.log(-np.log((words.astype(np.float64) + 0.5) / 2.0**32))


@dataclass
class Sampling:
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


def allowed(logits: Tensor, sampling: Sampling) -> Tensor:
    """Sets the ids that top-k, then top-p remove to -inf; logits [size] are already divided by the temperature."""
    if 0 < sampling.top_k < len(logits):
        order = torch.argsort(logits, descending=True, stable=True)
        logits = logits.clone()
        logits[order[sampling.top_k :]] = -torch.inf
    if sampling.top_p < 1:
        order = torch.argsort(logits, descending=True, stable=True)
        share = logits[order].softmax(0)
        before = share.cumsum(0) - share
        logits = logits.clone()
        logits[order[before >= sampling.top_p]] = -torch.inf
    return logits


def pick(logits: Tensor, sampling: Sampling, seed: int, position: int, code: int, stream: int) -> int:
    """One id (relative to its range) from logits [size]; ties go to the lowest id."""
    if sampling.temperature <= 0:
        return int(np.argmax(logits.double().numpy()))
    scaled = allowed(logits.double() / sampling.temperature, sampling)
    return int(np.argmax(scaled.numpy() + gumbel(seed, position, code, len(logits), stream)))


def pick_codes(logits: list[Tensor], sampling: Sampling, seed: int, first: int, stream: int) -> Tensor:
    """Per code j logits [N, slots, size] of N positions first .. first + N -> levels [N, slots, codes].
    The code index of the counter is slot * codes + code."""
    if sampling.temperature <= 0:
        return torch.stack([x.argmax(-1) for x in logits], -1)
    n, slots = logits[0].shape[:2]
    out = torch.zeros(n, slots, len(logits), dtype=torch.long)
    for j, x in enumerate(logits):
        for i in range(n):
            for s in range(slots):
                out[i, s, j] = pick(x[i, s], sampling, seed, first + i, s * len(logits) + j, stream)
    return out
