"""Trains the video tokenizer: python train_video_tokenizer.py --out DIR --minutes M [--init FILE] [--decoder-only]

Resumable: DIR/video_tokenizer.pt holds model, optimisers and step; run the same command again to go on.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from borealis_recipe import camera, checkpoint
from borealis_recipe import video_tokenizer as vt
from borealis_recipe.muon import Muon
from borealis_recipe.render import LINES_PER_UNIT, render
from borealis_recipe.scenes import random_scene
from borealis_recipe.vocabulary import WORLDS, World
from borealis_recipe.world import CANVAS, Scene, canvas_units

CROP_W, CROP_H, FRAMES = 160, 100, 9  # 8x5 cells, 3 latent frames
PATCHES_W, PATCHES_H = CROP_W // vt.PATCH, CROP_H // vt.PATCH
Box = tuple[int, int, int, int]


class Crops(IterableDataset):
    """Batches (input, target, target density, target box in patches): the input is frames [B, 9, 3, 100, 160], or, with the
    probability `share`, digits [B, 3, 5, 8, 9] that the transformer drew (`make_rollouts.py`)."""

    def __init__(self, batch: int, seed: int, aligned: float, world: World, rollouts: Path | None = None, share: float = 0.5) -> None:
        self.batch, self.seed, self.aligned, self.world = batch, seed, aligned, world
        self.rollouts, self.share = rollouts, share if rollouts else 0.0

    def __iter__(self):
        torch.set_num_threads(1)
        worker = get_worker_info()
        r = random.Random(self.seed + 7919 * (worker.id if worker else 0))
        shards = sorted(self.rollouts.glob("*.pt")) if self.rollouts else []
        drawn = [clip for shard in shards for clip in torch.load(shard, weights_only=False)]
        while True:
            density = r.choice((1, 1, 1, 2, 4))
            bw, bh = PATCHES_W // density, PATCHES_H // density
            box = (r.randrange(PATCHES_W - bw + 1), r.randrange(PATCHES_H - bh + 1), bw, bh)
            if r.random() < self.share:
                pairs = [self.drawn(r, *r.choice(drawn), density, box) for _ in range(self.batch)]
            else:
                pairs = [self.pair(r, density, box) for _ in range(self.batch)]
            yield torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]).half(), density, box

    def drawn(self, r: random.Random, scene: Scene, aspect: str, digits: Tensor, density: int, box: Box) -> tuple[Tensor, Tensor]:
        """Digits [3, 5, 8, 9] of three latent frames around an object, and the frames that they should show."""
        start = r.randrange(len(digits) - 2)
        frames = vt.VideoTokenizerConfig.stride * start + np.arange(FRAMES)
        unit = vt.PATCH / LINES_PER_UNIT
        bx, by, bw, bh = box
        cells = 1 / (4 * unit)
        at = camera.seen(scene, r.randrange(len(scene.things)), frames, *canvas_units(aspect))
        k = r.randrange(FRAMES)
        near = [float(v[k]) + r.uniform(-1, 1) * float(at.radius[k]) - (b + s / 2) * unit for v, b, s in ((at.x, bx, bw), (at.y, by, bh))]
        x, y = (min(max(round(v * cells), 0), n - m) for v, n, m in zip(near, (digits.shape[2], digits.shape[1]), (8, 5)))
        window = (x / cells + bx * unit, y / cells + by * unit, bw * vt.PATCH * density, bh * vt.PATCH * density)
        return digits[start : start + 3, y : y + 5, x : x + 8], render(scene, frames, aspect, LINES_PER_UNIT * density, window)

    def pair(self, r: random.Random, density: int, box: Box) -> tuple[Tensor, Tensor]:
        aspect = r.choice(("16:9", "16:9", "16:9", *CANVAS))
        width, height = canvas_units(aspect)
        scene: Scene = random_scene(r, world=self.world)
        if r.random() < 0.10:
            scene.picture = r.randrange(1 << 30)
        frames = r.randrange(240) + np.arange(FRAMES)
        unit = vt.PATCH / LINES_PER_UNIT
        bx, by, bw, bh = box
        if r.random() < 0.88:  # an object under the target box
            slot = r.choice(range(len(scene.things)))
            at = camera.seen(scene, slot, frames, width, height)
            k = r.randrange(FRAMES)
            reach = float(at.radius[k])
            x0 = float(at.x[k]) + r.uniform(-reach, reach) - (bx + bw / 2) * unit
            y0 = float(at.y[k]) + r.uniform(-reach, reach) - (by + bh / 2) * unit
        else:
            x0, y0 = r.uniform(-0.1, width - 0.4), r.uniform(-0.1, height - 0.4)
        if r.random() < self.aligned:  # on the true cell grid
            x0, y0 = round(x0 * 9) / 9, round(y0 * 9) / 9
        source = render(scene, frames, aspect, LINES_PER_UNIT, (x0, y0, CROP_W, CROP_H))
        if density == 1:
            return source.half(), source
        window = (x0 + bx * unit, y0 + by * unit, bw * vt.PATCH * density, bh * vt.PATCH * density)
        return source.half(), render(scene, frames, aspect, LINES_PER_UNIT * density, window)


def optimisers(model: vt.VideoTokenizer, lr: float, muon_lr: float, decoder_only: bool):
    """Muon for inner kernels, Adam for the ends, norms and biases."""
    if decoder_only:
        model.encoder.requires_grad_(False)
    ends = {"encoder.out.weight", "decoder.in.weight", "decoder.logits.weight", "decoder.colors.weight"}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = [p for n, p in trained if p.dim() == 4 and n not in ends]
    outer = [p for n, p in trained if p.dim() != 4 or n in ends]
    return Muon(inner, lr=muon_lr, steps=3), torch.optim.Adam(outer, lr=lr, betas=(0.9, 0.98)), outer


def outline_weights(target: Tensor, density: int) -> Tensor:
    """[N, 1, H, W] of mean 1 from the true frames [N, 3, H, W]: up to five times more where neighbours differ."""
    side = 4 * density + 1
    high = F.max_pool2d(target, side, 1, side // 2)
    low = -F.max_pool2d(-target, side, 1, side // 2)
    weight = 1 + 4 * (high - low).amax(1, keepdim=True)
    return weight / weight.mean()


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--minutes", type=float, default=30.0)
    a.add_argument("--init", type=Path, help="tokenizer to start from: a trainer's file or a checkpoint folder")
    a.add_argument("--study", type=Path, help="the study's tokenizer (stride 8) to start from")
    a.add_argument("--decoder-only", action="store_true")
    a.add_argument(
        "--rollouts", type=Path, help="folder of make_rollouts.py: half of the batches are what the transformer draws (with --decoder-only)"
    )
    a.add_argument("--edges", type=float, default=0.0, help="weight of the loss on differences of neighbouring pixels")
    a.add_argument("--outlines", action="store_true", help="more weight on pixels near outlines")
    a.add_argument("--noise", type=float, default=0.03, help="share of the digits that are off by one while training")
    a.add_argument("--batch", type=int, default=6)
    a.add_argument("--lr", type=float, default=1.5e-3)
    a.add_argument("--muon-lr", type=float, default=0.008)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--device", default="cpu")
    a.add_argument("--workers", type=int, default=1, help="processes that draw crops")
    a.add_argument("--world", choices=tuple(WORLDS), default="narrow")
    o = a.parse_args()
    torch.manual_seed(o.seed)
    torch.set_num_threads(1)
    o.out.mkdir(parents=True, exist_ok=True)
    resume = o.out / "video_tokenizer.pt"
    if o.init:
        model = checkpoint.read_video(o.init) if o.init.is_dir() else vt.load(o.init)
    else:
        model = vt.from_study(o.study) if o.study else vt.VideoTokenizer()
    model = model.to(o.device).train()
    muon, adam, outer = optimisers(model, o.lr, o.muon_lr, o.decoder_only)
    step, spent, average = 0, 0.0, None
    if resume.exists():
        saved = torch.load(resume, weights_only=True, map_location=o.device)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        step, spent, average = saved["step"], saved["spent"], saved["average"]
    print(f"parameters {sum(p.numel() for p in model.parameters())}", flush=True)
    crops = Crops(o.batch, o.seed * 1000003 + step, 1.0 if o.decoder_only else 0.5, WORLDS[o.world], o.rollouts)
    data = iter(DataLoader(crops, batch_size=None, num_workers=o.workers, prefetch_factor=4))
    start, stored, scores = time.time(), time.time(), []

    def store(name: str) -> None:
        live = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(average or live)
        vt.save(model, o.out / name)
        model.load_state_dict(live)
        state = {"model": live, "muon": muon.state_dict(), "adam": adam.state_dict(), "average": average}
        part = resume.with_suffix(".part")
        torch.save(state | {"step": step, "spent": spent + time.time() - start}, part)
        part.rename(resume)

    while (done := (spent + time.time() - start) / 60 / o.minutes) < 1:
        rate = min(1, (step + 1) / 50) * (0.02 + 0.98 * min(1, (1 - done) / 0.6))
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = o.muon_lr * rate, o.lr * rate
        source, target, density, box = next(data)
        source, target = source.float().to(o.device), target.float().to(o.device)
        density, box = int(density), tuple(int(v) for v in box)
        drawn = source.shape[-1] == model.config.digits
        if drawn:
            q, n = source.flatten(0, 1).permute(0, 3, 1, 2), source.shape[1]
            z = torch.zeros(2)
        else:
            with torch.set_grad_enabled(not o.decoder_only):
                z, n = model.encode_z(source)
            q = model.quantise(z, o.noise)[0]
        planes = model.trunk(q, n)
        first = int(drawn)  # what stood before the first latent frame is not there
        pick = torch.stack([b * FRAMES + first + torch.randperm(FRAMES - first)[:5] for b in range(len(source))]).flatten()
        skip = model.config.stride - 1  # copies of the image that are not shown
        group = pick + (pick // FRAMES + 1) * skip
        wanted = target.flatten(0, 1)[pick]
        error = model.paint(planes, density, box, group) - wanted
        square = error * error
        mse = square.mean()
        weight = outline_weights(wanted, density) if o.outlines else 1.0
        loss = (error.abs() * weight).mean() + 3 * (square * weight).mean() + 0.02 * F.relu(z.abs() - 1.5).pow(2).mean()
        if o.edges:  # differences of neighbours: an outline in the right place
            loss = loss + o.edges * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(outer, 1.0)
        muon.step()
        adam.step()
        step += 1
        if done > 0.3:
            with torch.no_grad():
                live = model.state_dict()
                if average is None:
                    average = {k: v.clone() for k, v in live.items()}
                else:
                    for k, v in live.items():
                        average[k].lerp_(v, 0.005)
        scores.append((-density if drawn else density, -10 * math.log10(mse.item() + 1e-9)))
        if step % 50 == 0:
            psnr = {d: round(float(np.mean([p for s, p in scores if s == d] or [0])), 2) for d in (1, 2, 4, -1, -2, -4)}
            minutes = (spent + time.time() - start) / 60
            print(f"{step} {minutes:.1f}min cpu {time.process_time():.0f}s loss {loss.item():.4f} z {z.std().item():.2f} psnr {psnr}", flush=True)
            scores = []
        if time.time() - stored > 60:
            store("video_tokenizer.safetensors")
            stored = time.time()
    store("video_tokenizer.safetensors")
    print("done", step)


if __name__ == "__main__":
    main()
