"""Generation, plainly: prefix and scene ids one by one, then one forward per latent frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import layout, world
from .audio_codec import AudioCodec
from .layout import KIND
from .model import Borealis
from .sampler import STREAM, Sampling, pick, pick_codes
from .video_tokenizer import VideoTokenizer


@dataclass
class Source:
    """An image or a clip that leads the prompt; video [n, G, 4, 9], audio [n, 4, 3] levels."""

    control: str
    video: Tensor
    audio: Tensor | None = None
    first: int = 0


@dataclass
class Options:
    scene: Sampling = field(default_factory=Sampling)
    state: Sampling = field(default_factory=Sampling)
    video: Sampling = field(default_factory=Sampling)
    audio: Sampling = field(default_factory=Sampling)
    seed: int = 0


@dataclass
class Clip:
    scene: list[int]  # relative ids
    states: Tensor  # [n, slots, 8]
    video: Tensor  # [n, G, 4, 9]
    audio: Tensor  # [n, 4, 3]
    trace: dict = field(default_factory=dict)


class Generator:
    """One sequence: holds the KV cache of the prefix (window 1: blocks are never kept)."""

    def __init__(self, model: Borealis, tokenizer: Tokenizer, options: Options | None = None) -> None:
        self.model, self.tokenizer, self.layout = model, tokenizer, model.layout
        self.options = options or Options()

    def _step(self, x: Tensor, positions: Tensor, inside: Tensor, keep: bool) -> Tensor:
        """x [L, H]; inside [L, L] visibility among the new rows; all cached rows are visible -> [L, H]"""
        past = self.past if keep else [list(p) for p in self.past]
        cached = past[0][0].shape[2] if past[0] else 0
        mask = torch.cat([torch.ones(len(x), cached, dtype=torch.bool), inside], 1)
        return self.model.run(x[None], positions[None], mask[None], past)[0]

    def _text(self, ids: list[int], first: int) -> Tensor:
        n = len(ids)
        positions = (torch.arange(n) + first).float()[:, None].expand(-1, 3)
        return self._step(self.model.text_rows(torch.tensor(ids)), positions, torch.ones(n, n).tril().bool(), True)

    def _media(self, modality: str, levels: Tensor | None, kind: str, count: int) -> Tensor:
        rows = self.model.model.row_kinds.weight[KIND[kind]].expand(count, -1)
        return rows if levels is None else rows + self.model.code_rows(modality, levels)

    def _source(self, source: Source, aspect: str) -> None:
        place, sound, _ = self.layout.positions(aspect)
        linear = self.model.model.in_features
        for i in range(len(source.video)):
            t = torch.tensor([source.first + i])
            x = self._media("video", source.video[i], "source_video", len(place))
            x, positions = x + linear(self.layout.video_features(aspect, t, None)[0]), place
            if source.audio is not None:
                a = self._media("audio", source.audio[i : i + 1], "source_audio", 1)
                x, positions = torch.cat([x, a + linear(self.layout.time_features(t))]), torch.cat([place, sound[None]])
            self._step(x, positions, torch.ones(len(x), len(x), dtype=torch.bool), True)

    @torch.no_grad()
    def generate(
        self, mode: str, text: str | None, latents: int, aspect: str = "16:9", sources: tuple[Source, ...] = (),
        scene: list[int] | None = None, states: Tensor | None = None,
    ) -> Clip:  # fmt: skip
        """Decides `latents` latent frames. `scene` or `states` (levels) replace what the model would plan.

        Image to video: latent 0 is the given picture. Extend: goes on after the last source latent. Edits: the
        inputs of a block are the source's codes of the same latent frame.
        """
        model, o = self.model, self.options
        fields, scene_at = self.layout.world.fields, self.layout.scene_start
        self.past: list[list] = [[] for _ in model.model.layers]
        prompt = self.layout.prompt_ids(self.tokenizer, mode, aspect, text)
        at = -(len(sources) + len(prompt) + len(fields) + 1)
        for source in sources:
            self._text([self.layout.control[source.control]], at)
            at += 1
            self._source(source, aspect)
        h = self._text(prompt, at)[-1]
        at += len(prompt)
        plan: list[int] = []
        for i in range(len(fields)):
            start, size = self.layout.world.scene_start[i], fields[i].size
            if scene is not None:
                plan.append(scene[i])
            else:
                logits = model.text_logits(h, scene_at + start, size)
                plan.append(start + pick(logits, o.scene, o.seed, i, 0, STREAM["text"]))
            h = self._text([scene_at + plan[-1]], at)[-1]
            at += 1
        self._text([self.layout.control["<media>"]], at)
        return self._blocks(mode, latents, aspect, sources, plan, states)

    def _blocks(self, mode: str, latents: int, aspect: str, sources, plan: list[int], forced: Tensor | None) -> Clip:
        model, o = self.model, self.options
        inner = model.model
        edit = mode.startswith("edit")
        first = sources[-1].first + len(sources[-1].video) if mode == "extend" else 0
        before = sources[-1].video[-1] if mode == "extend" else None
        heard = sources[-1].audio[-1] if mode == "extend" and sources[-1].audio is not None else None
        place, sound, board = self.layout.positions(aspect)
        at = torch.cat([board[None], place, sound[None]])
        g = len(place)
        inside = torch.ones(g + 2, g + 2, dtype=torch.bool)
        inside[0, 1:] = False
        planned = model.scene_rows(torch.tensor(plan))
        x = self._media("state", None, "state_bos", 1) + planned
        h = self._step(x, at[:1], inside[:1, :1], False)
        state = pick_codes(model.code_logits("state", h, None), o.state, o.seed, 0, STREAM["state"])
        clip = Clip(plan, *(torch.zeros(0, dtype=torch.long) for _ in range(3)))
        states, video, audio = [], [], []
        for b in range(latents):
            if forced is not None:
                state = forced[b : b + 1]
            latent = torch.tensor([first + b])
            vin, ain = (sources[0].video[b], sources[0].audio[b] if sources[0].audio is not None else None) if edit else (before, heard)
            condition = model.code_rows("state", state) + planned
            kind = "edit_{}" if edit else "{}"
            xv = self._media("video", vin, "video_bos" if vin is None else kind.format("video"), g)
            xa = self._media("audio", None if ain is None else ain[None], "audio_bos" if ain is None else kind.format("audio"), 1)
            xv = xv + condition + inner.in_features(self.layout.video_features(aspect, latent, state)[0])
            xa = xa + condition + inner.in_features(self.layout.time_features(latent))
            xs = condition + inner.row_kinds.weight[KIND["state"]]
            h = self._step(torch.cat([xs, xv, xa]), at, inside, False)
            states.append(state[0])
            logits = model.code_logits("video", h[1:-1], vin)
            before = pick_codes(logits, o.video, o.seed, b * g, STREAM["video"])
            if mode == "image_to_video" and b == 0:
                before = sources[0].video[0]
            logits = model.code_logits("audio", h[-1:], None if ain is None else ain[None])
            heard = pick_codes(logits, o.audio, o.seed, b, STREAM["audio"])[0]
            video.append(before)
            audio.append(heard)
            if b == 0:
                clip.trace = {"hidden": h, "video_logits": model.code_logits("video", h[1:-1], vin), "audio_logits": logits}
            state = pick_codes(model.code_logits("state", h[:1], state), o.state, o.seed, b + 1, STREAM["state"])
        clip.states, clip.video, clip.audio = torch.stack(states), torch.stack(video), torch.stack(audio)
        return clip


def decode(video: VideoTokenizer, audio: AudioCodec, clip: Clip, aspect: str, scale: int = 1) -> tuple[Tensor, Tensor]:
    """Frames [1 + 4(n-1), 3, H, W] and samples [1000 * frames] of a clip that starts with its image."""
    frames = video.decode(layout.unpack_video(clip.video, aspect), scale)
    lead = world.STRIDE - 1  # codec frames of latent 0 that lie before the image
    samples = audio.decode(clip.audio.reshape(-1, 3), -lead * 1000)
    return frames, samples[lead * 1000 :]
