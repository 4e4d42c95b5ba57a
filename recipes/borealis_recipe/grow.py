"""Grows a model of one world into a larger one without losing what it learnt.

Rows of embeddings and heads are kept by name (segment, field, value), so it does not matter where an id moves. What is
new begins at the mean of its siblings, or at zero where zero means that nothing changes: the columns that read new
storyboard slots and their features, and the scene rows that every row of a block carries.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import layout
from .batches import Sample, collate, make_sample
from .generate import Generator
from .language import caption
from .layout import Layout
from .model import Borealis, ModelConfig
from .plans import scene_from_ids, states
from .records import Record
from .scenes import random_scene
from .training import block_rows

# New values that begin as a known one: the mean of its siblings would be too likely beside so few.
LIKE = {("count", "3"): "2"}
SAID = 8.0  # logit with which a new field begins to say that there is nothing
PROBES = 24  # captions on which that is set
QUIET_STEPS, QUIET_RATE = 60, 0.05


def scene_names(at: Layout) -> dict[int, tuple[str, str]]:
    """(field, value) of every id of the scene segment, relative to it."""
    world = at.world
    return {start + i: (f.name, value) for f, start in zip(world.fields, world.scene_start) for i, value in enumerate(f.values)}


def code_names(at: Layout) -> dict[int, tuple[str, str]]:
    """(code, value) of every id of the state segment, relative to it."""
    world = at.world
    return {start + i: (f.name, value) for f, start in zip(world.state_fields, world.state_start) for i, value in enumerate(f.values)}


def kept_rows(old: Layout, new: Layout) -> list[int]:
    """For every id of `new` the id of `old` that means the same, or -1."""
    begin = {name: (start, size) for name, start, size in old.segments}
    rows = []
    for name, _, size in new.segments:
        start, had = begin[name]
        if name in ("scene", "state"):
            names = scene_names if name == "scene" else code_names
            where = {key: i for i, key in names(old).items()}
            rows += [start + where[key] if key in where else -1 for _, key in sorted(names(new).items())]
        else:
            rows += [start + i if i < had else -1 for i in range(size)]
    return rows


def _siblings(new: Layout, rows: list[int]) -> dict[int, list[int]]:
    """For every new id of the scene and state segments the old ids that its row begins as the mean of."""
    out: dict[int, list[int]] = {}
    for base, names in ((new.scene_start, scene_names(new)), (new.state_start, code_names(new))):
        by_name = {key: rows[base + i] for i, key in names.items()}
        for i, (name, value) in names.items():
            if rows[base + i] >= 0:
                continue
            like = LIKE.get((name, value))
            family = [r for (f, _), r in by_name.items() if f == name and r >= 0]
            if name.endswith("_2"):  # a third object is spoken of like a second
                known = by_name.get((f"{name[:-1]}1", value), -1)
                family = [known] if known >= 0 else [r for (f, _), r in by_name.items() if f == f"{name[:-1]}1" and r >= 0]
            elif like is not None:
                family = [by_name[name, like]]
            out[base + i] = family
    return out


def _table(old: Tensor, rows: list[int], siblings: dict[int, list[int]], text: dict[int, list[int]]) -> Tensor:
    """A table of rows [V', d] for the new vocabulary from the old one [V, d]."""
    table = torch.zeros(len(rows), old.shape[1])
    for i, row in enumerate(rows):
        family = siblings.get(i) or text.get(i)
        if row >= 0:
            table[i] = old[row]
        elif family:
            table[i] = old[family].mean(0)
    return table


def _text_pieces(old: Tokenizer, new: Tokenizer) -> dict[int, list[int]]:
    """For every new text id the old ids that wrote the same."""
    had = old.get_vocab_size()
    pieces = {}
    for token, i in new.get_vocab().items():
        if i >= had:
            pieces[i] = [t.id for t in old.model.tokenize(token)]
    return pieces


def grow(model: Borealis, tokenizer: Tokenizer, to: Layout, new_tokenizer: Tokenizer, steps: int = QUIET_STEPS) -> Borealis:
    """The same model in the vocabulary `to`; `new_tokenizer` must be `tokenizer`, grown (`text_tokenizer.grow_tokenizer`).
    `steps` of fitting (`_be_quiet`) take about half a minute of one core."""
    old = model.layout
    sizes = dict(vars(model.config)) | {"world": to.world.name}
    grown = Borealis(ModelConfig(**sizes))
    have, want = model.state_dict(), grown.state_dict()
    rows = kept_rows(old, to)
    siblings, pieces = _siblings(to, rows), _text_pieces(tokenizer, new_tokenizer)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        have[name] = _table(have[name], rows, siblings, pieces)
    first, count = to.scene_start, to.world.scene_vocabulary
    moved = [r - old.scene_start if r >= 0 else -1 for r in rows[first : first + count]]
    have["model.scene_rows.weight"] = _table(have["model.scene_rows.weight"], moved, {}, {})
    wide = torch.zeros_like(want["model.in_features.weight"])
    base = range(old.feature_columns(0)[0].start)
    columns = [(base, base)] + [pair for s in range(old.world.slots) for pair in zip(old.feature_columns(s), to.feature_columns(s))]
    for a, b in columns:
        wide[:, list(b)] = have["model.in_features.weight"][:, list(a)]
    have["model.in_features.weight"] = wide
    _grow_slots(have, want, old.world.slots, to.world.slots)
    grown.load_state_dict(have)
    fields = _new_fields(old, to)
    _be_quiet(model, grown, tokenizer, fields, steps)
    _say_none(grown.eval(), fields, old, to, new_tokenizer)
    return grown


def _new_fields(old: Layout, to: Layout) -> list[tuple[int, int]]:
    """(index, relative id that means nothing) of the plan's fields that the old world did not have."""
    known = {f.name for f in old.world.fields}
    none = [start + (f.values.index("none") if "none" in f.values else 0) for f, start in zip(to.world.fields, to.world.scene_start)]
    return [(i, none[i]) for i, f in enumerate(to.world.fields) if f.name not in known]


def _probes(model: Borealis, tokenizer: Tokenizer, count: int) -> list[Sample]:
    """Clips that the old model makes of captions, as training samples with their own plans."""
    r, generator, samples = random.Random(2), Generator(model, tokenizer), []
    for _ in range(count):
        text = caption(random_scene(r, world=model.layout.world), r, world=model.layout.world)
        clip = generator.generate("text_to_video", text, 3)
        scene = scene_from_ids(model.layout.world, clip.scene)
        record = Record("clip", "16:9", scene, 0, layout.unpack_video(clip.video, "16:9"), clip.audio)
        sample = make_sample(record, "text_to_video", r, 3, of=model.layout.world)
        sample.text = text
        samples.append(sample)
    return samples


def _be_quiet(model: Borealis, grown: Borealis, tokenizer: Tokenizer, fields: list[tuple[int, int]], steps: int) -> None:
    """Fits the embeddings of the new fields' ids for nothing, so that the rows of a block come to what they were without
    them: every row of a prompt is seen, and these would otherwise take part in what the old ones decide."""
    old, to = model.layout, grown.layout
    samples, batches = _probes(model, tokenizer, PROBES if steps > 9 else 2), []
    for at, net in ((old, model), (to, grown)):
        for sample in samples:
            for block in sample.blocks:
                block.state = states(at.world, sample.scene, np.array([block.latent]), sample.aspect)[0]
        torch.manual_seed(0)
        batches.append((net, collate(samples, tokenizer, random.Random(0), 20, drop=0.0, transitions=4, at=at)))
    with torch.no_grad():
        wanted = block_rows(*batches[0])
    table = grown.model.embed_tokens.weight
    ids = [to.scene_start + none for _, none in fields]
    begin, delta = table.detach().clone(), torch.zeros(len(ids), table.shape[1], requires_grad=True)
    adam = torch.optim.Adam([delta], lr=QUIET_RATE)
    grown.requires_grad_(False)
    for _ in range(steps):
        grown.model.embed_tokens._parameters["weight"] = begin.index_add(0, torch.tensor(ids), delta)
        loss = (block_rows(*batches[1]) - wanted).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    grown.model.embed_tokens._parameters["weight"] = table
    with torch.no_grad():
        table[ids] += delta.detach()
    grown.requires_grad_(True)


def _grow_slots(have: dict[str, Tensor], want: dict[str, Tensor], old: int, new: int) -> None:
    """Storyboard slots: what is new is not read, and is decided like the last known slot."""
    name = "model.modalities.state."
    narrow = have[f"{name}in_proj.weight"]
    wide = torch.zeros_like(want[f"{name}in_proj.weight"])
    wide[:, : narrow.shape[1]] = narrow
    have[f"{name}in_proj.weight"] = wide
    for part in ("out_proj", "copy_gate"):
        weight = have[f"{name}{part}.weight"]
        slots = weight.view(old, -1, weight.shape[1])
        have[f"{name}{part}.weight"] = torch.cat([slots, slots[-1:].expand(new - old, -1, -1)]).flatten(0, 1)


@torch.no_grad()
def _say_none(model: Borealis, fields: list[tuple[int, int]], old: Layout, to: Layout, tokenizer: Tokenizer) -> None:
    """Fields that the old world did not have begin by saying their value for nothing, whatever the prompt."""
    r = random.Random(1)
    captions = [caption(random_scene(r, world=old.world), r, world=old.world) for _ in range(PROBES)]
    prompts = [to.prompt_ids(tokenizer, "text_to_video", "16:9", text) for text in captions]
    nothing = [start + (f.values.index("none") if "none" in f.values else 0) for f, start in zip(to.world.fields, to.world.scene_start)]
    for i, none in fields:
        outs = []
        for prompt in prompts:
            ids = prompt + [to.scene_start + n for n in nothing[:i]]
            h = _prompt_rows(model, ids, len(to.world.fields) - i + 1)[-1]
            outs.append(model.model.modalities["text"].out_proj(h))
        mean = torch.stack(outs).mean(0)
        start = to.scene_start + to.world.scene_start[i]
        model.lm_head.weight[start : start + to.world.fields[i].size] = 0
        model.lm_head.weight[to.scene_start + none] = SAID * mean / mean.square().sum()


def _prompt_rows(model: Borealis, ids: list[int], behind: int) -> Tensor:
    """Final hidden states [L, H] of a prompt that `behind` more text-like rows will follow."""
    n = len(ids)
    positions = (torch.arange(n) - n - behind).float()[:, None].expand(-1, 3)
    mask = torch.ones(n, n).tril().bool()
    return model.run(model.text_rows(torch.tensor(ids))[None], positions[None], mask[None])[0]
