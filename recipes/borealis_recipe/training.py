"""The losses of one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import layout, world
from .batches import Batch
from .layout import KIND
from .model import Borealis


def _with_kind(model: Borealis, modality: str, levels: Tensor, kind: Tensor) -> Tensor:
    """Embeds levels (-1 = BOS: a zero embedding) and adds the row kind; kind [...], levels [..., slots, codes]."""
    given = (levels.flatten(-2)[..., :1] >= 0).float()
    return model.code_rows(modality, levels.clamp(min=0)) * given + model.model.row_kinds(kind)


def block_mask(prefix_order: Tensor, valid: Tensor, states: int, blocks: int, rows: int) -> Tensor:
    """[B, L, L] visibility of: prefix | `states` lone state rows | per block: state row, `rows` video rows, audio row
    (all state rows of blocks first, then all video rows, then all audio rows)."""
    b, p = valid.shape
    device = valid.device
    lone = torch.arange(states, device=device)
    ids = torch.arange(blocks, device=device) + states
    owner = torch.cat([lone, ids, ids.repeat_interleave(rows), ids])
    group = torch.cat([torch.zeros(states + blocks), torch.ones(blocks * (rows + 1))]).to(device)
    inside = (owner[:, None] == owner[None]) & (group[:, None] >= group[None])
    mask = torch.zeros(b, p + len(owner), p + len(owner), dtype=torch.bool, device=device)
    mask[:, :, :p] = valid[:, None, :]
    mask[:, :p, :p] &= (prefix_order[:, None] >= prefix_order[None])[None]
    mask[:, p:, p:] = inside
    eye = torch.eye(mask.shape[1], dtype=torch.bool, device=device)
    return mask | eye  # padding rows see themselves


def _prefix(model: Borealis, batch: Batch) -> Tensor:
    """Rows of the prompts and of their sources [B, P, H]."""
    inner, of = model.model, model.layout
    prefix = model.text_rows(batch.text_ids) * batch.is_text[..., None]
    if len(batch.source_video_at):
        kind = torch.full(batch.source_video.shape[:2], KIND["source_video"], device=prefix.device)
        t = batch.source_video_t
        features = of.video_features(batch.aspect, t.flatten(), None).view(len(t), -1, of.features)
        rows = _with_kind(model, "video", batch.source_video, kind) + inner.in_features(features)
        prefix = prefix.index_copy(1, batch.source_video_at, rows.to(prefix.dtype))
    if len(batch.source_audio_at):
        kind = torch.full(batch.source_audio.shape[:2], KIND["source_audio"], device=prefix.device)
        rows = _with_kind(model, "audio", batch.source_audio, kind) + inner.in_features(of.time_features(batch.source_audio_t))
        prefix = prefix.index_copy(1, batch.source_audio_at, rows.to(prefix.dtype))
    return prefix


def _rows(model: Borealis, batch: Batch) -> tuple[Tensor, Tensor]:
    """All rows of a batch [B, L, H] and their positions [B, L, 3]."""
    inner, of = model.model, model.layout
    b, n = batch.state_in.shape[:2]
    k, m = batch.video_in.shape[1:3]
    opening = (batch.state_in.flatten(-2)[..., 0] < 0).long()
    state_kind = torch.where(opening > 0, KIND["state_bos"], KIND["state"])
    plan = model.scene_rows(batch.scene_ids)[:, None]
    lone = _with_kind(model, "state", batch.state_in, state_kind) + plan
    condition = model.code_rows("state", batch.block_state) + plan
    owned = condition + inner.row_kinds.weight[KIND["state"]]
    video = _with_kind(model, "video", batch.video_in, batch.video_kind[..., None].expand(-1, -1, m))
    picture = of.video_features(batch.aspect, batch.latents.flatten(), batch.block_state.flatten(0, 1), batch.picked.flatten(0, 1)) if k else None
    features = video.new_zeros(b, k, m, of.features) if picture is None else picture.view(b, k, m, of.features)
    video = video + condition[:, :, None] + inner.in_features(features)
    audio = _with_kind(model, "audio", batch.audio_in, batch.audio_kind) + condition + inner.in_features(of.time_features(batch.latents))
    x = torch.cat([_prefix(model, batch), lone, owned, video.flatten(1, 2), audio], 1)
    grid, sound, state = (v.to(x.device) for v in of.positions(batch.aspect))
    place = grid[batch.picked].flatten(1, 2)
    return x, torch.cat([batch.prefix_positions, state.expand(b, n + k, 3), place, sound.expand(b, k, 3)], 1)


def block_rows(model: Borealis, batch: Batch) -> Tensor:
    """Final hidden states [B, rows, H] of everything behind the prompts."""
    x, positions = _rows(model, batch)
    n, (k, m) = batch.state_in.shape[1], batch.video_in.shape[1:3]
    h = model.run(x, positions, block_mask(batch.prefix_order, batch.prefix_valid, n, k, m))
    return h[:, batch.text_ids.shape[1] :]


def losses(model: Borealis, batch: Batch) -> dict[str, Tensor]:
    """Mean cross entropies by modality (nats per code), accuracies and the router penalty."""
    p, n = batch.text_ids.shape[1], batch.state_in.shape[1]
    k, m = batch.video_in.shape[1:3]
    x, positions = _rows(model, batch)
    h = model.run(x, positions, block_mask(batch.prefix_order, batch.prefix_valid, n, k, m)).float()
    out: dict[str, Tensor] = {}
    _prompt_terms(model, batch, h, out)
    _read_terms(model, batch, h, out)
    _state_terms(model, batch, h[:, p : p + n].flatten(0, 1), out)
    if k:
        at = p + n + k
        _video_terms(model, batch, h[:, at : at + k * m].reshape(-1, h.shape[-1]), out)
        _audio_terms(model, batch, h[:, at + k * m :], out)
    out["router"] = sum(layer.mlp.penalty for layer in model.model.layers)
    return out


def _prompt_terms(model: Borealis, batch: Batch, h: Tensor, out: dict[str, Tensor]) -> None:
    """Scene (and a little text): the next id of the prompt."""
    of, p = model.layout, batch.text_ids.shape[1]
    here = batch.is_text[:, :-1] & batch.is_text[:, 1:] & batch.prefix_valid[:, 1:]
    target = batch.text_ids[:, 1:]
    scene = here & (target >= of.scene_start) & batch.scene_scored[:, 1:]
    text = here & (target < of.world.text_ids)
    if scene.any():
        logits = model.text_logits(h[:, : p - 1][scene], of.scene_start, of.world.scene_vocabulary)
        out["scene"] = F.cross_entropy(logits, target[scene] - of.scene_start)
        out["scene_acc"] = (logits.argmax(-1) == target[scene] - of.scene_start).float().mean().detach()
    if text.any():
        out["text"] = F.cross_entropy(model.text_logits(h[:, : p - 1][text], 0, of.world.text_ids), target[text])


def _read_terms(model: Borealis, batch: Batch, h: Tensor, out: dict[str, Tensor]) -> None:
    """Rows of a source say what they are near: what the plan and the opening state then need not search for."""
    near = batch.source_said[..., 0] >= 0
    if not near.any():
        return
    of = model.layout
    hs, target = h[:, batch.source_video_at][near], batch.source_said[near]
    logits = model.code_logits("state", hs, None)
    terms = [F.cross_entropy(logits[j][:, 0], target[:, j]) for j in range(5)]
    names = [f.name for f in of.world.fields]
    for column, name in ((8, "shape_0"), (9, "color_0")):
        field = names.index(name)
        logits = model.text_logits(hs, of.scene_start + of.world.scene_start[field], of.world.fields[field].size)
        terms.append(F.cross_entropy(logits, target[:, column]))
    out["read"] = sum(terms) / len(terms)


def _state_terms(model: Borealis, batch: Batch, hs: Tensor, out: dict[str, Tensor]) -> None:
    """States: the next from the given one, the opening one from the prompt."""
    b, n, slots = batch.state_in.shape[:3]
    target = batch.state_out.flatten(0, 1)
    terms, right, far = [], [], []
    for j, logits in enumerate(model.code_logits("state", hs, batch.state_in.flatten(0, 1))):
        if j < 4:  # places: how far off, in units
            size = logits.shape[-1]
            place = (logits.softmax(-1) * torch.arange(size, device=hs.device)).sum(-1)
            there = target[:, :, j] < size - 1
            far.append(((place - target[:, :, j]).abs() * there / world.BINS).view(b, n, slots))
        terms.append(F.cross_entropy(logits.flatten(0, 1), target[:, :, j].flatten(), reduction="none").view(b, n, slots))
        right.append(logits.argmax(-1) == target[:, :, j])
    total = torch.stack(terms, -1)
    right = torch.stack(right, -1).view(b, n, slots, -1)
    out["state"] = total[:, 1:].mean()
    out["state_open"] = total[:, :1].mean()
    out["open_far"] = torch.stack(far, -1)[:, :1].mean()
    out["state_acc"] = right[:, 1:].all(-1).all(-1).float().mean()
    out["open_acc"] = right[:, :1].all(-1).all(-1).float().mean()


def _video_terms(model: Borealis, batch: Batch, hv: Tensor, out: dict[str, Tensor]) -> None:
    """Digits of the pictures' rows hv [B*K*M, H]."""
    b, k, m = batch.video_in.shape[:3]
    given, target = batch.video_in.reshape(-1, 4, 9), batch.video_out.reshape(-1, 4, 9)
    logits = torch.stack(model.code_logits("video", hv, given), 2)
    ce = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view(target.shape)
    out["video"] = ce.mean()
    # Digits are steps of a scale: being far off costs more than being beside.
    level = (logits.softmax(-1) * torch.arange(layout.LEVELS, device=hv.device)).sum(-1)
    out["video_far"] = (level - target).square().mean()
    with torch.no_grad():
        new = (given != target).any(-1)
        out["new"] = ce[new].mean() if new.any() else ce.mean()
        out["new_far"] = (level - target).square()[new].mean() if new.any() else torch.tensor(0.0)
        cell = (logits.argmax(-1) == target).all(-1).view(b, k, m, 4)
        out["video_acc"] = cell.float().mean()
        moved = ((given != target).any(-1)).view(b, k, m, 4)
        out["moved_acc"] = cell[moved].float().mean() if moved.any() else torch.tensor(1.0)


def _audio_terms(model: Borealis, batch: Batch, ha: Tensor, out: dict[str, Tensor]) -> None:
    """Codes of the sound's rows ha [B, K, H], where a record has sound."""
    heard = batch.audio_out.flatten(2)[..., 0] >= 0
    if not heard.any():
        return
    logits = torch.stack(model.code_logits("audio", ha[heard], batch.audio_in[heard]), 2)
    target = batch.audio_out[heard]
    out["audio"] = F.cross_entropy(logits.flatten(0, 2), target.flatten())
    out["audio_acc"] = (logits.argmax(-1) == target).float().mean().detach()


WEIGHTS = {
    "video": 3.0, "video_far": 0.5, "audio": 0.5, "scene": 1.0, "state": 1.5, "state_open": 1.0, "open_far": 2.0, "read": 0.7, "text": 0.02,
    "router": 0.01,
}  # fmt: skip


def total(parts: dict[str, Tensor]) -> Tensor:
    return sum(weight * parts[name] for name, weight in WEIGHTS.items() if name in parts)
