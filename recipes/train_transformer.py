"""Trains the transformer: python train_transformer.py --out DIR --data DIR --tokenizer FILE --minutes M

Resumable: DIR/transformer.pt holds model, optimisers and step. New shards in --data are picked up while it runs.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from borealis_recipe import checkpoint
from borealis_recipe import model as bm
from borealis_recipe.batches import collate, make_sample
from borealis_recipe.muon import Muon
from borealis_recipe.records import Record
from borealis_recipe.training import losses, total

# mode: share of batches, batch size, kinds of records that serve it
MODES = {
    "text_to_image": (0.12, 28, ("image", "edit_image")),
    "text_to_video": (0.56, 20, ("clip",)),
    "image_to_video": (0.10, 20, ("clip",)),
    "extend": (0.06, 9, ("clip",)),
    "edit_image": (0.12, 22, ("edit_image",)),
    "edit_video": (0.02, 6, ("edit_video",)),
    "reference": (0.02, 20, ("image",)),
}
# Shares of the first phase, which draws more than it reads pictures.
DRAWING = {
    "text_to_image": 0.16,
    "text_to_video": 0.70,
    "image_to_video": 0.04,
    "extend": 0.02,
    "edit_image": 0.06,
    "edit_video": 0.01,
    "reference": 0.01,
}
# Share of the later phase's batches that are prompts with pictures and their opening states alone: what a picture shows, and where.
READING = 0.2
BLOCKS = 5


class Pool:
    """Records by kind and aspect; shards are read as they appear, the oldest records make room."""

    def __init__(self, folder: Path, limit: int = 60_000) -> None:
        self.folder, self.limit = folder, limit
        self.seen: set[str] = set()
        self.records: dict[tuple[str, str], list[Record]] = {}
        self.count = 0

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.pt")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            for record in torch.load(path, weights_only=False):
                self.records.setdefault((record.kind, record.aspect), []).append(record)
                self.count += 1

    def draw(self, mode: str, batch: int, r: random.Random) -> list[Record]:
        """Records of one aspect that serve `mode`."""
        kinds = MODES[mode][2]
        usable = {k: v for k, v in self.records.items() if k[0] in kinds}
        if mode == "image_to_video":
            usable = {k: [x for x in r.choices(v, k=6 * batch) if x.start == 0] for k, v in usable.items()}
        usable = {k: v for k, v in usable.items() if len(v) >= 3}
        if not usable:
            return []
        keys = list(usable)
        aspect = r.choices(keys, [len(usable[k]) for k in keys])[0][1]
        merged = [x for k in keys if k[1] == aspect for x in r.choices(usable[k], k=batch)]
        merged = [x for x in merged if not (x.scene.picture is not None and mode.startswith(("text", "reference")))]
        return r.sample(merged, min(batch, len(merged)))


def make_batch(pool: Pool, tokenizer: Tokenizer, r: random.Random, mode: str | None = None, size: int | None = None, drawing: bool = False):
    """A random batch; `drawing` spends most rows on objects: other shares, hardly any captions."""
    while True:
        shares = DRAWING if drawing else {k: m[0] for k, m in MODES.items()}
        name = mode or r.choices(list(shares), list(shares.values()))[0]
        reading = not drawing and mode is None and r.random() < READING
        if reading:
            name = r.choice(("image_to_video", "edit_image", "extend"))
        records = pool.draw(name, size or (16 if reading and name == "extend" else 28 if reading else MODES[name][1]), r)
        if len(records) < 2:
            continue
        blocks = {"text_to_image": 1, "image_to_video": 2, "extend": 2}.get(name, BLOCKS)
        given = r.choice((2, 3))  # source latents of an extension
        samples = [make_sample(record, name, r, blocks, given) for record in records]
        if reading:
            for sample in samples:
                sample.blocks = []
        full = r.random() < (0.05 if drawing else 0.15)
        silent = name.startswith("text_to") and r.random() < (0.75 if drawing else 0.65)
        rows = 99 if full else 20 if name == "text_to_image" else 12
        return name, collate(samples, tokenizer, r, rows=rows, drop=1.0 if silent else 0.4 if reading and name != "edit_image" else 0.05, states=4)


def meet(model: bm.Borealis, folder: Path, rank: int, turn: int, patience: float = 20.0) -> None:
    """Averages the weights with the other of two trainers (ranks 0 and 1), or goes on alone if it does not come."""
    mine, other = folder / f"rank{rank}.pt", folder / f"rank{1 - rank}.pt"
    part = mine.with_suffix(".part")
    torch.save({"turn": turn, "model": model.state_dict()}, part)
    part.rename(mine)
    start = time.time()
    while time.time() - start < patience:
        if other.exists():
            found = torch.load(other, weights_only=True)
            if found["turn"] >= turn:
                with torch.no_grad():
                    for key, v in model.state_dict().items():
                        v.lerp_(found["model"][key], 0.5)
                return
        time.sleep(0.1)


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--data", type=Path, required=True)
    a.add_argument("--tokenizer", type=Path, required=True)
    a.add_argument("--minutes", type=float, default=60.0)
    a.add_argument("--init", type=Path, help="weights to start from: a trainer's file or a checkpoint folder")
    a.add_argument("--lr", type=float, default=2e-3)
    a.add_argument("--muon-lr", type=float, default=0.01)
    a.add_argument("--decay", type=float, default=0.5, help="share of the run over which the rates fall to zero")
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--mode", help="train on one mode only")
    a.add_argument("--drawing", action="store_true", help="the first phase: most rows on objects")
    a.add_argument("--muon-steps", type=int, default=3)
    a.add_argument("--meet", type=Path, help="folder in which two trainers exchange weights every 10 steps")
    a.add_argument("--rank", type=int, default=0)
    o = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    o.out.mkdir(parents=True, exist_ok=True)
    if o.init and o.init.is_dir():
        model = checkpoint.read(o.init)[0].train()
    else:
        model = (bm.load(o.init) if o.init else bm.Borealis()).train()
    hidden = [p for n, p in model.named_parameters() if ".layers." in n and p.dim() >= 2 and "mlp.gate" not in n]
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = Muon(hidden, lr=o.muon_lr, steps=o.muon_steps)
    adam = torch.optim.Adam(rest, lr=o.lr, betas=(0.9, 0.97))
    step, spent, average = 0, 0.0, None
    resume = o.out / "transformer.pt"
    if resume.exists():
        saved = torch.load(resume, weights_only=True)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        step, spent, average = saved["step"], saved["spent"], saved["average"]
    tokenizer = Tokenizer.from_file(str(o.tokenizer))
    pool, r = Pool(o.data), random.Random(o.seed * 7919 + step)
    pool.refresh()
    print(f"parameters {sum(p.numel() for p in model.parameters())} records {pool.count}", flush=True)
    start, refreshed, log = time.time(), time.time(), {}

    def store() -> None:
        live = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(average or live)
        bm.save(model, o.out / "transformer.safetensors", {"step": step})
        model.load_state_dict(live)
        state = {"model": live, "muon": muon.state_dict(), "adam": adam.state_dict(), "average": average}
        part = resume.with_suffix(".part")
        torch.save(state | {"step": step, "spent": spent + time.time() - start}, part)
        part.rename(resume)

    while (done := (spent + time.time() - start) / 60 / o.minutes) < 1:
        if time.time() - refreshed > 45:
            pool.refresh()
            refreshed = time.time()
        rate = min(1, (step + 1) / 30) * (0.02 + 0.98 * min(1, (1 - done) / o.decay))
        adam.param_groups[0]["lr"], muon.param_groups[0]["lr"] = o.lr * rate, o.muon_lr * rate
        mode, batch = make_batch(pool, tokenizer, r, o.mode, drawing=o.drawing)
        parts = losses(model, batch)
        model.zero_grad(set_to_none=True)
        total(parts).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        adam.step()
        muon.step()
        step += 1
        if o.meet and step % 10 == 0:
            meet(model, o.meet, o.rank, step)
        if step % 4 == 0:
            with torch.no_grad():
                live = model.state_dict()
                if average is None:
                    average = {k: v.clone() for k, v in live.items()}
                else:
                    pull = max(0.04, 1 / (1 + step / 4))
                    for key, v in live.items():
                        average[key].lerp_(v, pull)
        for key, v in parts.items():
            log.setdefault(f"{key}.{mode}", []).append(float(v.detach() if isinstance(v, torch.Tensor) else v))
        if step % 100 == 0:
            names = (
                "video",
                "new",
                "new_far",
                "video_acc",
                "moved_acc",
                "audio",
                "audio_acc",
                "scene",
                "scene_acc",
                "state",
                "state_acc",
                "open_acc",
                "open_far",
                "read",
            )
            short = {
                "text_to_image": "t2i",
                "text_to_video": "t2v",
                "image_to_video": "i2v",
                "edit_image": "ei",
                "edit_video": "ev",
                "extend": "ext",
                "reference": "ref",
            }
            fields = []
            for name in names:
                part = [f"{short[m]}:{np.mean(log[f'{name}.{m}']):.3f}" for m in MODES if f"{name}.{m}" in log]
                fields.append(f"{name} " + " ".join(part))
            minutes = (spent + time.time() - start) / 60
            print(f"{step} {minutes:.1f}min cpu {time.process_time():.0f}s records {pool.count} | " + " | ".join(fields), flush=True)
            log = {}
        if step % 300 == 0:
            store()
    store()
    print("done", step)


if __name__ == "__main__":
    main()
