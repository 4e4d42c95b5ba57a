"""The transformer, plainly: the reference for the engine.

Rows of any kind are embedded, run through routed layers under a visibility mask, and read out per modality.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import layout


@dataclass
class ModelConfig:
    hidden_size: int = 192
    embedding_size: int = 64
    num_hidden_layers: int = 5
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    num_experts: int = 8
    num_experts_per_tok: int = 2
    moe_intermediate_size: int = 192
    rope_theta: float = 100.0
    rms_norm_eps: float = 1e-6
    world: str = "narrow"


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rope_table(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """positions [B, L, 3] -> cos, sin [B, 1, L, head_dim/2]; pair i turns by axis i mod 3."""
    n = head_dim // 2
    i = torch.arange(n, device=positions.device)
    frequency = theta ** (-(i // 3).float() / math.ceil(n / 3))
    angle = positions[:, :, i % 3] * frequency
    return angle.cos()[:, None], angle.sin()[:, None]


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Half-split rotation of x [B, heads, L, head_dim]."""
    cos, sin = table
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        h, d = c.hidden_size, c.head_dim
        self.q_proj = nn.Linear(h, c.num_attention_heads * d, bias=False)
        self.k_proj = nn.Linear(h, c.num_key_value_heads * d, bias=False)
        self.v_proj = nn.Linear(h, c.num_key_value_heads * d, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * d, h, bias=False)
        self.q_norm = RMSNorm(d, c.rms_norm_eps)
        self.k_norm = RMSNorm(d, c.rms_norm_eps)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], mask: Tensor, past: list | None) -> Tensor:
        """x [B, L, H]; mask [B, 1, L, past + L] true = visible; `past` = [k, v] is replaced when given."""
        b, n, _ = x.shape
        d = self.c.head_dim
        q = rotate(self.q_norm(self.q_proj(x).view(b, n, -1, d)).transpose(1, 2), table)
        k = rotate(self.k_norm(self.k_proj(x).view(b, n, -1, d)).transpose(1, 2), table)
        v = self.v_proj(x).view(b, n, -1, d).transpose(1, 2)
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            past[:] = [k, v]
        groups = self.c.num_attention_heads // self.c.num_key_value_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))


class Experts(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        e, i, h = c.num_experts, c.moe_intermediate_size, c.hidden_size
        self.gate_up_proj = nn.Parameter(torch.randn(e, 2 * i, h) * h**-0.5)
        self.down_proj = nn.Parameter(torch.randn(e, h, i) * i**-0.5 * 0.3)


class RoutedMLP(nn.Module):
    """Softmax over all experts, the best k, renormalised; SwiGLU experts."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.gate = nn.Linear(c.hidden_size, c.num_experts, bias=False)
        self.experts = Experts(c)
        self.penalty: Tensor | float = 0.0
        self.chosen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        shape, c = x.shape, self.c
        x = x.reshape(-1, shape[-1])
        logits = self.gate(x)
        scores = logits.softmax(-1)
        weight, index = scores.topk(c.num_experts_per_tok, -1)
        self.chosen = index
        weight = weight / weight.sum(-1, keepdim=True)
        flat = index.flatten()
        order = flat.argsort(stable=True)
        count = torch.bincount(flat, minlength=c.num_experts).tolist()
        row = order // c.num_experts_per_tok
        parts = []
        for e, rows in enumerate(x[row].split(count)):
            if len(rows):
                gate, up = F.linear(rows, self.experts.gate_up_proj[e]).chunk(2, -1)
                parts.append(F.linear(F.silu(gate) * up, self.experts.down_proj[e]))
        y = torch.cat(parts) * weight.flatten()[order, None]
        if self.training:
            share = torch.tensor(count, device=x.device) / len(flat)
            self.penalty = c.num_experts * (share * scores.mean(0)).sum() + 0.1 * logits.logsumexp(-1).pow(2).mean()
        return torch.zeros_like(x).index_add_(0, row, y).view(shape)


class Layer(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = RoutedMLP(c)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], mask: Tensor, past: list | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), table, mask, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Projections(nn.Module):
    """How a modality's slots enter and leave the hidden state."""

    def __init__(self, c: ModelConfig, slots: int, codes: int, copy_gate: bool) -> None:
        super().__init__()
        width = slots * c.embedding_size
        self.in_proj = nn.Linear(width, c.hidden_size, bias=False)
        self.out_proj = nn.Linear(c.hidden_size, width, bias=False)
        if copy_gate:
            self.copy_gate = nn.Linear(c.hidden_size, slots * codes, bias=False)
            nn.init.zeros_(self.copy_gate.weight)


class Inner(nn.Module):
    def __init__(self, c: ModelConfig, of: layout.Layout) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(of.vocab_size, c.embedding_size)
        self.modalities = nn.ModuleDict({"text": Projections(c, 1, 1, False)})
        for m in of.modalities.values():
            self.modalities[m.name] = Projections(c, m.slots, len(m.codes), m.copy_gate)
        self.in_features = nn.Linear(of.features, c.hidden_size, bias=False)
        self.row_kinds = nn.Embedding(len(layout.ROW_KINDS), c.hidden_size)
        self.scene_rows = nn.Embedding(of.world.scene_vocabulary, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class Borealis(nn.Module):
    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ModelConfig()
        self.layout = layout.LAYOUTS[c.world]
        self.model = Inner(c, self.layout)
        self.lm_head = nn.Linear(c.embedding_size, self.layout.vocab_size, bias=False)
        with torch.no_grad():
            self.model.embed_tokens.weight.mul_(0.5)
            self.model.row_kinds.weight.mul_(0.3)
            self.model.scene_rows.weight.mul_(0.1)
            self.lm_head.weight.normal_(0, c.embedding_size**-0.5)
            self._ordinal_rows()

    def _ordinal_rows(self) -> None:
        """Rows of ordered levels (video digits, state) start on smooth random curves of their level."""
        de = self.config.embedding_size
        for m, octaves in (("video", 2), ("state", 6)):
            for start, size in self.layout.modalities[m].codes:
                level = torch.arange(size).float() / max(1, size - 1) * 2 - 1
                waves = [level] + [f(math.pi * level * 2**k) for k in range(octaves) for f in (torch.cos, torch.sin)]
                curve = torch.stack(waves, 1)
                for weight, a, b in ((self.model.embed_tokens.weight, 0.35, 0.05), (self.lm_head.weight, 0.1, 0.03)):
                    rows = curve @ (torch.randn(curve.shape[1], de) * a) + b * torch.randn(size, de)
                    weight[start : start + size] = rows

    # ---------------------------------------------------------------- rows in

    def text_rows(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., H]"""
        kind = (ids >= self.layout.scene_start).long()
        inner = self.model
        return inner.modalities["text"].in_proj(inner.embed_tokens(ids)) + inner.row_kinds(kind)

    def scene_rows(self, ids: Tensor) -> Tensor:
        """Scene plans [..., fields] (ids of the scene segment) -> [..., H]: what every row of their blocks carries."""
        return self.model.scene_rows(ids).sum(-2)

    def code_rows(self, modality: str, levels: Tensor) -> Tensor:
        """levels [..., slots, codes] (relative to each code's range) -> [..., H], without row kind"""
        start = torch.tensor([s for s, _ in self.layout.modalities[modality].codes], device=levels.device)
        e = self.model.embed_tokens(levels + start).sum(-2).flatten(-2)
        return self.model.modalities[modality].in_proj(e)

    # ---------------------------------------------------------------- the trunk

    def run(self, x: Tensor, positions: Tensor, mask: Tensor, past: list[list] | None = None) -> Tensor:
        """x [B, L, H], positions [B, L, 3], mask [B, L, past + L] -> normed hidden states [B, L, H]"""
        table = rope_table(positions, self.config.head_dim, self.config.rope_theta)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, table, mask[:, None], past[i] if past is not None else None)
        return self.model.norm(x)

    # ---------------------------------------------------------------- logits out

    def text_logits(self, h: Tensor, start: int, size: int) -> Tensor:
        """h [..., H] -> logits of the ids [start, start + size)"""
        return F.linear(self.model.modalities["text"].out_proj(h), self.lm_head.weight[start : start + size])

    def code_logits(self, modality: str, h: Tensor, given: Tensor | None) -> list[Tensor]:
        """h [N, H] -> per code j logits [N, slots, size_j]; `given` [N, slots, codes] = input levels for the
        copy gate (-1 = the row had no input)."""
        m, p = self.layout.modalities[modality], self.model.modalities[modality]
        out = p.out_proj(h).view(len(h), m.slots, -1)
        gate = p.copy_gate(h).view(len(h), m.slots, -1) if m.copy_gate and given is not None else None
        sizes = {n for _, n in m.codes}
        if len(sizes) == 1:  # equal codes: one product
            size = sizes.pop()
            start = m.codes[0][0]
            all_logits = F.linear(out, self.lm_head.weight[start : start + size * len(m.codes)])
            all_logits = all_logits.view(len(h), m.slots, len(m.codes), size)
            if gate is not None:
                amount = (gate * (given >= 0))[..., None]
                all_logits = all_logits.scatter_add(-1, given.clamp(min=0)[..., None], amount)
            return list(all_logits.unbind(2))
        parts = []
        for j, (start, size) in enumerate(m.codes):
            logits = F.linear(out, self.lm_head.weight[start : start + size])
            if gate is not None:
                amount = (gate[:, :, j] * (given[:, :, j] >= 0))[..., None]
                logits = logits.scatter_add(-1, given[:, :, j].clamp(min=0)[..., None], amount)
            parts.append(logits)
        return parts


def save(model: Borealis, path: str | Path, extra: dict | None = None) -> None:
    meta = {"config": json.dumps(asdict(model.config)), "extra": json.dumps(extra or {})}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(path), metadata=meta)


def take(model: Borealis, state: dict[str, Tensor]) -> None:
    """Loads weights, also those of an older model: row features and scene rows that it lacked begin at zero."""
    wide = model.model.in_features.weight
    have = state["model.in_features.weight"]
    if have.shape[1] < wide.shape[1]:
        state["model.in_features.weight"] = F.pad(have, (0, wide.shape[1] - have.shape[1]))
    state.setdefault("model.scene_rows.weight", torch.zeros_like(model.model.scene_rows.weight))
    model.load_state_dict(state)


def load(path: str | Path) -> Borealis:
    with safe_open(str(path), "pt") as f:
        config = json.loads(f.metadata()["config"])
    model = Borealis(ModelConfig(**config))
    take(model, load_file(str(path)))
    return model.eval()
