"""Turns records into batches of rows: prefix, independent state transitions and independent media blocks.

With window 1 a block depends on the prefix, its state and its input codes only, so one prefix serves many blocks
drawn from anywhere in the clip, and a block may be trained on a subset of its video rows.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import language, layout, world
from .layout import KIND, LAYOUTS, Layout
from .lexicon import lexicon
from .plans import scene_ids, states
from .records import Record
from .scenes import random_thing
from .vocabulary import NARROW, World

LAST_LATENT = 90  # 15 s


@dataclass
class Block:
    """One media block to train: everything is levels, -1 inputs mean BOS."""

    latent: int
    state: np.ndarray  # [slots, 8]
    video_in: Tensor | None  # [G, 4, 9]
    video_out: Tensor
    audio_in: Tensor | None  # [4, 3]
    audio_out: Tensor | None
    edit: bool = False


@dataclass
class Sample:
    mode: str
    aspect: str
    text: str | None
    scene: world.Scene
    sources: list[tuple[str, list[tuple[int, Tensor, Tensor | None]]]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    first: int = 0  # latent index of the first generated block
    given: world.Scene | None = None  # what the sources show
    plan: world.Scene | None = None  # a plan that contradicts what the sources show

    def shown(self, of: World) -> list[int]:
        """Ids of the plan in the prompt."""
        return scene_ids(of, self.plan or self.scene)


def corrupt_video(rows: Tensor, r: random.Random) -> Tensor:
    """Digits off by one, cells copied from elsewhere: what a model sees of its own output."""
    if r.random() < 0.35:
        return rows
    p = r.choice((0.02, 0.06, 0.15, 0.4))
    step = torch.randint(0, 2, rows.shape) * 2 - 1
    rows = (rows + (torch.rand(rows.shape) < p) * step).clamp(0, layout.LEVELS - 1)
    q = r.choice((0.0, 0.02, 0.08, 0.3))
    if q:
        flat = rows.reshape(-1, layout.DIGITS)
        swap = (torch.rand(len(flat)) < q)[:, None]
        flat = torch.where(swap, flat[torch.randperm(len(flat))], flat)
        rows = flat.view(rows.shape)
    return rows


def misplaced(scene: world.Scene, r: random.Random) -> world.Scene:
    """The scene with wrong places and phases: places must be read from the source, not from the plan."""
    wrong = copy.deepcopy(scene)
    for thing in wrong.things:
        other = random_thing(r)
        for name in ("x", "y", "phase"):
            if r.random() < 0.6:
                setattr(thing, name, getattr(other, name))
        thing.canonical()
    return wrong


def corrupt_audio(codes: Tensor, r: random.Random) -> Tensor:
    if r.random() < 0.5:
        return codes
    mask = torch.rand(codes.shape) < r.choice((0.05, 0.2))
    return torch.where(mask, torch.randint(0, layout.BOOK_SIZE, codes.shape), codes)


def _unpacked(record: Record, edited: bool = False) -> tuple[Tensor, Tensor | None]:
    v = record.edited_video if edited else record.video
    a = record.edited_audio if edited else record.audio
    return layout.pack_video(v.long()), None if a is None else a.long()


def _block(of: World, scene: world.Scene, aspect: str, latent: int, vin, vout, ain, aout, edit: bool = False) -> Block:
    state = states(of, scene, np.array([latent]), aspect)[0]
    return Block(latent, state, vin, vout, ain, aout, edit)


def reference_caption(scene: world.Scene, r: random.Random, of: World) -> str:
    """A caption in which the first object is named by a picture instead of by words."""
    thing, words = scene.things[0], lexicon(of)
    move = r.choice(words.motions[thing.motion])
    place = r.choice(words.backgrounds[scene.background])
    what = r.choice(("the {w} from <IMAGE_0>", "the {w} of <IMAGE_0>", "<IMAGE_0>", "the thing in <IMAGE_0>"))
    what = what.format(w=r.choice(words.shapes[thing.shape]))
    text = f"{what} {move}".strip()
    return f"{text} {r.choice(words.prepositions[scene.background])} {place}"


def make_sample(record: Record, mode: str, r: random.Random, blocks: int, given: int = 2, of: World = NARROW) -> Sample:
    """One training sample of the given mode from a fitting record; `given` latent frames lead an extension."""
    scene, aspect = record.scene, record.aspect
    video, audio = _unpacked(record)
    motion = mode not in ("text_to_image", "edit_image")
    s = Sample(mode, aspect, language.caption(scene, r, motion, placed=False, world=of), scene, given=scene)
    n, start = len(video), record.start
    if mode in ("edit_image", "edit_video"):
        new_video, new_audio = _unpacked(record, True)
        s.text, s.scene = record.instruction, record.edited
        s.plan = misplaced(s.scene, r) if r.random() < 0.6 else None
        name = "<image_0>" if mode == "edit_image" else "<video>"
        s.sources = [(name, [(i, video[i], None if audio is None else audio[i]) for i in range(n)])]
        for i in range(n):
            ain = None if audio is None else audio[i]
            aout = None if new_audio is None else new_audio[i]
            s.blocks.append(_block(of, s.scene, aspect, i, video[i], new_video[i], ain, aout, True))
        return s
    if mode == "image_to_video":
        s.sources = [("<image_0>", [(0, video[0], None)])]
    elif mode == "extend":
        s.sources = [("<video>", [(start + i, video[i], audio[i]) for i in range(given)])]
        s.first = start + given
    elif mode == "reference":
        s.sources = [("<image_0>", [(0, video[0], None)])]
        s.scene = copy.deepcopy(scene)  # the same object elsewhere
        thing = random_thing(r, world=of)
        thing.shape, thing.color, thing.size = (getattr(scene.things[0], f) for f in ("shape", "color", "size"))
        s.scene.things, s.scene.background, s.scene.music = [thing.canonical()], r.randrange(6), 0
        s.scene.camera = s.scene.weather = 0
        s.text = reference_caption(s.scene, r, of)
        return s
    if s.sources and r.random() < 0.6:
        s.plan = misplaced(scene, r)
    low = s.first - start
    usable = [i for i in range(low, n) if i > 0 or start == 0]
    if mode == "image_to_video":
        usable = [i for i in usable if i > 0] + ([0] if r.random() < 0.15 else [])
    for i in r.sample(usable, min(blocks, len(usable))):
        bos = i == 0
        vin = None if bos else video[i - 1]
        ain = None if bos or audio is None else audio[i - 1]
        s.blocks.append(_block(of, scene, aspect, start + i, vin, video[i], ain, None if audio is None else audio[i]))
    return s


@dataclass
class Batch:
    """Rows of B samples of one mode and aspect. Layout per sample: prefix, states, media rows, audio rows."""

    text_ids: Tensor  # [B, P] prefix ids; 0 where a source row stands
    is_text: Tensor  # [B, P] bool
    prefix_valid: Tensor  # [B, P] bool
    prefix_order: Tensor  # [P] visibility order inside the prefix
    prefix_positions: Tensor  # [B, P, 3]
    source_video: Tensor  # [B, S, 4, 9] levels of all source video rows
    source_audio: Tensor  # [B, T, 4, 3]
    source_video_at: Tensor  # [S] column of each source row in the prefix
    source_audio_at: Tensor  # [T]
    source_video_t: Tensor  # [B, n] latent indices of the sources' pictures
    source_audio_t: Tensor  # [B, n'] and of their sound
    state_in: Tensor  # [B, N, slots, 8] levels, -1 = BOS
    state_out: Tensor
    scene_ids: Tensor  # [B, fields] relative
    source_said: Tensor  # [B, S, 10] see `source_states`
    scene_scored: Tensor  # [B, P] bool: false where the plan is wrong on purpose
    block_state: Tensor  # [B, K, slots, 8]
    video_in: Tensor  # [B, K, M, 4, 9], -1 = BOS
    video_out: Tensor
    video_kind: Tensor  # [B, K]
    picked: Tensor  # [B, K, M] which rows of the grid they are
    latents: Tensor  # [B, K] latent index of the blocks
    audio_in: Tensor  # [B, K, 4, 3]
    audio_out: Tensor  # -1 = none
    audio_kind: Tensor
    aspect: str

    def to(self, device: str) -> Batch:
        """The batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()})


def _state_pairs(of: World, s: Sample, r: random.Random, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` transitions [N, slots, 8]; the first is the opening one (input -1)."""
    at = np.array([s.first] + [r.randrange(s.first, max(LAST_LATENT, s.first + 1)) for _ in range(count - 1)])
    given = states(of, s.scene, at, s.aspect)
    after = states(of, s.scene, at + 1, s.aspect)
    after[0] = given[0]
    given[0] = -1
    return given, after


def near_object(codes: np.ndarray, centre: Tensor, margin: float = 0.14) -> Tensor:
    """Which of the rows with centres [G, 2] are near an object with the state `codes` [8] -> [G] bool"""
    near = torch.zeros(len(centre), dtype=torch.bool)
    if codes[0] == NARROW.state_size[0] - 1:  # places have the same levels in every world
        return near
    radius = world.RADIUS_MIN + world.RADIUS_STEP * float(codes[4])
    for end in range(2):
        at = torch.tensor(codes[2 * end : 2 * end + 2]).float() / world.BINS - world.ORIGIN
        near |= (centre - at).norm(dim=1) < world.REACH * radius + margin
    return near


def choose_rows(block: Block, aspect: str, count: int, r: random.Random, objects: int) -> list[int]:
    """Rows near an object or changed first, then others, `count` in all."""
    total = len(block.video_out)
    if count >= total:
        return list(range(total))
    centre = layout.row_centres(aspect)
    hot = torch.stack([near_object(codes, centre) for codes in block.state[:objects]]).any(0)
    if block.video_in is not None:
        hot |= (block.video_in != block.video_out).flatten(1).any(1) & (torch.rand(total) < 0.5)
    first = torch.nonzero(hot).flatten().tolist()
    rest = torch.nonzero(~hot).flatten().tolist()
    r.shuffle(first)
    r.shuffle(rest)
    take = first[: count - 2]
    return sorted((take + rest + first[count - 2 :])[:count])


def source_states(of: World, s: Sample) -> Tensor:
    """What each source row could say of the only object that it is near: [S, 10] = state codes, shape, colour; -1 = nothing."""
    centre, rows = layout.row_centres(s.aspect), []
    for _, blocks in s.sources:
        for latent, _, _ in blocks:
            said = torch.full((len(centre), 10), -1)
            if s.given is not None and len(s.given.things) == 1:
                codes = states(of, s.given, np.array([latent]), s.aspect)[0, 0]
                thing = s.given.things[0]
                said[near_object(codes, centre, 0.05)] = torch.tensor([*codes.tolist(), thing.shape, thing.color])
            rows.append(said)
    return torch.cat(rows) if rows else torch.zeros(0, 10, dtype=torch.long)


def collate(
    samples: list[Sample], tokenizer: Tokenizer, r: random.Random, rows: int, drop: float = 0.05, transitions: int = 8,
    at: Layout = LAYOUTS["narrow"],
) -> Batch:  # fmt: skip
    """Samples of one mode, one aspect, equal sources and equally many blocks -> a batch."""
    of, control = at.world, at.control
    aspect = samples[0].aspect
    prompts, sources = [], samples[0].sources
    for s in samples:
        ids = at.prompt_ids(tokenizer, s.mode, aspect, None if r.random() < drop else s.text)
        prompts.append(ids + [at.scene_start + i for i in s.shown(of)] + [control["<media>"]])
    gh, gw = layout.GRID[aspect]
    g = gh * gw
    lead, order, video_at, audio_at = [], [], [], []
    for name, blocks in sources:
        lead.append((control[name], True))
        order.append(order[-1] + 1 if order else 0)
        for _, _, a in blocks:
            level = order[-1] + 1
            video_at += range(len(lead), len(lead) + g)
            lead += [(0, False)] * g
            order += [level] * g
            if a is not None:
                audio_at.append(len(lead))
                lead.append((0, False))
                order.append(level)
    n_lead, longest = len(lead), max(map(len, prompts))
    width = n_lead + longest
    b = len(samples)
    ids = torch.zeros(b, width, dtype=torch.long)
    is_text = torch.zeros(b, width, dtype=torch.bool)
    valid = torch.zeros(b, width, dtype=torch.bool)
    scored = torch.ones(b, width, dtype=torch.bool)
    positions = torch.zeros(b, width, 3)
    order = torch.tensor(order + [(order[-1] + 1 if order else 0) + i for i in range(longest)])
    place, sound, _ = at.positions(aspect)
    for i, prompt in enumerate(prompts):
        ids[i, :n_lead] = torch.tensor([t for t, _ in lead], dtype=torch.long)
        is_text[i, :n_lead] = torch.tensor([t for _, t in lead], dtype=torch.bool)
        ids[i, n_lead : n_lead + len(prompt)] = torch.tensor(prompt)
        is_text[i, n_lead:] = True
        valid[i, : n_lead + len(prompt)] = True
        wrong = [a != b for a, b in zip(samples[i].shown(of), scene_ids(of, samples[i].scene))]
        scored[i, n_lead + len(prompt) - len(wrong) - 1 : n_lead + len(prompt) - 1] = ~torch.tensor(wrong)
        count = len(sources) + len(prompt)
        said = [k for k in range(n_lead + len(prompt)) if is_text[i, k]]
        positions[i, said] = (torch.arange(count) - count).float()[:, None].expand(-1, 3)
        if video_at:
            positions[i, video_at] = place.repeat(len(video_at) // g, 1)
        if audio_at:
            positions[i, audio_at] = sound
    parts: dict[str, list] = {k: [] for k in ("sv", "sa", "svt", "sat")}
    for s in samples:
        blocks = [x for _, bs in s.sources for x in bs]
        sound_blocks = [x for x in blocks if x[2] is not None]
        parts["sv"].append(torch.cat([x[1] for x in blocks]) if blocks else torch.zeros(0, 4, 9, dtype=torch.long))
        parts["sa"].append(torch.stack([x[2] for x in sound_blocks]) if sound_blocks else torch.zeros(0, 4, 3, dtype=torch.long))
        parts["svt"].append(torch.tensor([x[0] for x in blocks], dtype=torch.long))
        parts["sat"].append(torch.tensor([x[0] for x in sound_blocks], dtype=torch.long))
    pairs = [_state_pairs(of, s, r, transitions) for s in samples]
    k = min(len(s.blocks) for s in samples)
    m = min(rows, g)
    shape = (b, k)
    out = dict(
        block_state=torch.zeros(*shape, of.slots, 8, dtype=torch.long),
        video_in=torch.full((*shape, m, 4, 9), -1),
        video_out=torch.zeros(*shape, m, 4, 9, dtype=torch.long),
        video_kind=torch.full(shape, KIND["video"]),
        audio_in=torch.full((*shape, 4, 3), -1),
        audio_out=torch.full((*shape, 4, 3), -1),
        audio_kind=torch.full(shape, KIND["audio"]),
    )
    picked, latents = torch.zeros(*shape, m, dtype=torch.long), torch.zeros(shape)
    for i, s in enumerate(samples):
        for j, block in enumerate(s.blocks[:k]):
            pick = choose_rows(block, aspect, m, r, of.objects)
            state = torch.tensor(block.state)
            latents[i, j] = block.latent
            out["block_state"][i, j] = state
            out["video_out"][i, j] = block.video_out[pick]
            if block.video_in is not None:
                given = block.video_in if block.edit else corrupt_video(block.video_in, r)
                out["video_in"][i, j] = given[pick]
            kind = "edit_video" if block.edit else "video" if block.video_in is not None else "video_bos"
            out["video_kind"][i, j] = KIND[kind]
            picked[i, j] = torch.tensor(pick)
            if block.audio_in is not None:
                out["audio_in"][i, j] = block.audio_in if block.edit else corrupt_audio(block.audio_in, r)
            if block.audio_out is not None:
                out["audio_out"][i, j] = block.audio_out
            kind = "audio_bos" if block.audio_in is None else "edit_audio" if block.edit else "audio"
            out["audio_kind"][i, j] = KIND[kind]
    out["picked"], out["latents"] = picked, latents
    return Batch(
        ids, is_text, valid, order, positions,
        torch.stack(parts["sv"]), torch.stack(parts["sa"]),
        torch.tensor(video_at, dtype=torch.long), torch.tensor(audio_at, dtype=torch.long),
        torch.stack(parts["svt"]), torch.stack(parts["sat"]),
        torch.tensor(np.stack([p[0] for p in pairs])), torch.tensor(np.stack([p[1] for p in pairs])),
        aspect=aspect, scene_ids=torch.tensor([s.shown(of) for s in samples]),
        scene_scored=scored,
        source_said=torch.stack([source_states(of, s) for s in samples]), **out,
    )  # fmt: skip
