"""Muon: momentum whose update is orthogonalised (Newton-Schulz), for hidden matrices and convolution kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonalise(g: Tensor, steps: int) -> Tensor:
    """Nearest (semi-)orthogonal matrix of the last two dimensions, approximately."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.size(-2) > g.size(-1)
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """A 3-D parameter is a batch of matrices, a 4-D one a convolution kernel."""

    def __init__(self, params, lr: float = 0.01, momentum: float = 0.9, steps: int = 3) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                m = state.setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = p.grad.lerp(m, group["momentum"])
                flat = u.flatten(1) if u.dim() == 4 else u
                flat = orthogonalise(flat, group["steps"])
                flat = flat * max(1, flat.size(-2) / flat.size(-1)) ** 0.5
                p.add_(flat.reshape(p.shape), alpha=-group["lr"])
