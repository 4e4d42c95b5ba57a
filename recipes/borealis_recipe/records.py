"""Tokenised clips for training: rendered on the fly, stored as small records of codes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import language
from .audio_codec import HOP, AudioCodec
from .render import render
from .scenes import random_scene
from .sound import synthesise
from .video_tokenizer import VideoTokenizer
from .vocabulary import NARROW, World
from .world import CANVAS, STRIDE, Scene

AUDIO_MARGIN = 3  # codec frames around a span, so that windows see the true neighbourhood


@dataclass
class Record:
    """Codes of latent frames start .. start + n - 1 of a scene, and perhaps of its edited twin."""

    kind: str  # image, clip, edit_image, edit_video
    aspect: str
    scene: Scene
    start: int
    video: Tensor  # [n, h, w, 9] uint8
    audio: Tensor | None  # [n, 4, 3] int16
    edited: Scene | None = None
    instruction: str | None = None
    edited_video: Tensor | None = None
    edited_audio: Tensor | None = None


def encode_video(tokenizer: VideoTokenizer, scene: Scene, start: int, n: int, aspect: str) -> Tensor:
    """Digits [n, h, w, 9] of latent frames start .. start + n - 1, with one latent frame of true context."""
    before = min(start, 1)
    first = start - before
    if first == 0:
        frames = np.arange(STRIDE * (start + n - 1) + 1)
    else:
        frames = np.arange(STRIDE * first - (STRIDE - 1), STRIDE * (start + n - 1) + 1)
    digits = tokenizer.encode(render(scene, frames, aspect)[None])[0]
    return digits[before:].to(torch.uint8)


def encode_audio(codec: AudioCodec, scene: Scene, start: int, n: int, aspect: str) -> Tensor:
    """Codes [n, 4, 3]: latent frame i covers the video frames 4i-3 .. 4i."""
    first = STRIDE * start - (STRIDE - 1) - AUDIO_MARGIN
    count = STRIDE * n + 2 * AUDIO_MARGIN
    y = torch.tensor(synthesise(scene, first * HOP, count * HOP, aspect))
    y[: max(0, -first * HOP)] = 0  # before the clip is silence
    codes = codec.encode(y)[AUDIO_MARGIN:-AUDIO_MARGIN]
    return codes.view(n, STRIDE, 3).to(torch.int16)


def draw_aspect(r: random.Random) -> str:
    return "16:9" if r.random() < 0.7 else r.choice(tuple(CANVAS))


def make_record(r: random.Random, tokenizer: VideoTokenizer, codec: AudioCodec, world: World = NARROW) -> Record:
    u, aspect = r.random(), draw_aspect(r)
    scene = random_scene(r, pairs=0.45 if world.objects > 2 else 0.15, world=world)
    outside = r.random()
    if u < 0.42:
        if outside < 0.1:
            scene.picture = r.randrange(1 << 30)
        kind = "image" if r.random() < 0.55 else "edit_image"
        record = Record(kind, aspect, scene, 0, encode_video(tokenizer, scene, 0, 1, aspect), None)
        if kind == "edit_image":
            if scene.picture is None and outside < 0.2:
                scene.picture = r.randrange(1 << 30)
            record.edited, record.instruction = language.edit(scene, r, world)
            record.edited_video = encode_video(tokenizer, record.edited, 0, 1, aspect)
        return record
    if u < 0.94:
        n = 6
        start = 0 if r.random() < 0.35 else r.randrange(1, 88)
        if outside < 0.08:
            scene.picture = r.randrange(1 << 30)
        video = encode_video(tokenizer, scene, start, n, aspect)
        return Record("clip", aspect, scene, start, video, encode_audio(codec, scene, start, n, aspect))
    n = 3
    edited, text = language.edit(scene, r, world)
    return Record(
        "edit_video", aspect, scene, 0,
        encode_video(tokenizer, scene, 0, n, aspect), encode_audio(codec, scene, 0, n, aspect),
        edited, text,
        encode_video(tokenizer, edited, 0, n, aspect), encode_audio(codec, edited, 0, n, aspect),
    )  # fmt: skip
