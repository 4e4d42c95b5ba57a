"""Trains the transformer: python train_transformer.py --out DIR --data DIR --tokenizer FILE --minutes M [--world rich] [--device cuda]

Resumable: DIR/transformer.pt holds model, optimisers and step. New shards in --data are picked up while it runs.
`--init` takes a trainer's file or a checkpoint folder; one of a smaller world is grown (`borealis_recipe/grow.py`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader

from borealis_recipe import checkpoint
from borealis_recipe import model as bm
from borealis_recipe.feed import MODES, Feed
from borealis_recipe.grow import grow
from borealis_recipe.layout import LAYOUTS
from borealis_recipe.muon import Muon
from borealis_recipe.training import losses, total

SHORT = dict(zip(MODES, ("t2i", "t2v", "i2v", "ext", "ei", "ev", "ref")))
LOGGED = (
    "video", "new", "new_far", "video_acc", "moved_acc", "audio", "audio_acc", "scene", "scene_acc", "state", "state_acc", "open_acc",
    "open_far", "read",
)  # fmt: skip


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


def initial(init: Path | None, world: str, tokenizer: Tokenizer) -> bm.Borealis:
    """The model to start from: new, a trainer's file, or a checkpoint folder; grown if it knows a smaller world."""
    if init is None:
        return bm.Borealis(bm.ModelConfig(world=world))
    if not init.is_dir():
        return bm.load(init)
    model, old, _, _ = checkpoint.read(init)
    return model if model.config.world == world else grow(model, old, LAYOUTS[world], tokenizer)


class Trainer:
    """Model, optimisers, running average and the log of one run."""

    def __init__(self, model: bm.Borealis, o: argparse.Namespace) -> None:
        self.o, self.model = o, model.to(o.device).train()
        hidden = [p for n, p in model.named_parameters() if ".layers." in n and p.dim() >= 2 and "mlp.gate" not in n]
        chosen = {id(p) for p in hidden}
        self.rest = [p for p in model.parameters() if id(p) not in chosen]
        self.muon = Muon(hidden, lr=o.muon_lr, steps=o.muon_steps)
        self.adam = torch.optim.Adam(self.rest, lr=o.lr, betas=(0.9, 0.97))
        self.step, self.spent, self.average = 0, 0.0, None
        self.resume = o.out / "transformer.pt"
        if self.resume.exists():
            saved = torch.load(self.resume, weights_only=True, map_location=o.device)
            model.load_state_dict(saved["model"])
            self.muon.load_state_dict(saved["muon"])
            self.adam.load_state_dict(saved["adam"])
            self.step, self.spent, self.average = saved["step"], saved["spent"], saved["average"]
        self.start, self.log, self.first = time.time(), {}, self.step

    def minutes(self) -> float:
        return (self.spent + time.time() - self.start) / 60

    def store(self) -> None:
        live = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average or live)
        bm.save(self.model, self.o.out / "transformer.safetensors", {"step": self.step})
        self.model.load_state_dict(live)
        state = {"model": live, "muon": self.muon.state_dict(), "adam": self.adam.state_dict(), "average": self.average}
        part = self.resume.with_suffix(".part")
        torch.save(state | {"step": self.step, "spent": 60 * self.minutes()}, part)
        part.rename(self.resume)

    def learn(self, mode: str, batch) -> None:
        """One step; the rates fall over the last share `--decay` of the run."""
        o, done = self.o, self.minutes() / self.o.minutes
        rate = min(1, (self.step + 1) / 30) * (0.02 + 0.98 * min(1, (1 - done) / o.decay))
        self.adam.param_groups[0]["lr"], self.muon.param_groups[0]["lr"] = o.lr * rate, o.muon_lr * rate
        parts = losses(self.model, batch.to(o.device))
        self.model.zero_grad(set_to_none=True)
        total(parts).backward()
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        self.adam.step()
        self.muon.step()
        self.step += 1
        if o.meet and self.step % 10 == 0:
            meet(self.model, o.meet, o.rank, self.step)
        if self.step % 4 == 0:
            self._follow()
        for key, v in parts.items():
            self.log.setdefault(f"{key}.{mode}", []).append(v.detach() if isinstance(v, Tensor) else v)

    @torch.no_grad()
    def _follow(self) -> None:
        live = self.model.state_dict()
        if self.average is None:
            self.average = {k: v.clone() for k, v in live.items()}
            return
        pull = max(0.04, 1 / (1 + self.step / 4))
        for key, v in live.items():
            self.average[key].lerp_(v, pull)

    def report(self, records: int) -> None:
        """One line of means since the last one."""
        fields = []
        for name in LOGGED:
            part = [f"{SHORT[m]}:{np.mean([float(v) for v in self.log[f'{name}.{m}']]):.3f}" for m in MODES if f"{name}.{m}" in self.log]
            fields.append(f"{name} " + " ".join(part))
        pace = (self.step - self.first) / max(1e-6, time.time() - self.start)
        head = f"{self.step} {self.minutes():.1f}min cpu {time.process_time():.0f}s {pace:.2f}/s records {records}"
        print(head, "|", " | ".join(fields), flush=True)
        self.log = {}


def arguments() -> argparse.Namespace:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--data", type=Path, required=True)
    a.add_argument("--tokenizer", type=Path, required=True)
    a.add_argument("--minutes", type=float, default=60.0)
    a.add_argument("--init", type=Path, help="weights to start from: a trainer's file or a checkpoint folder")
    a.add_argument("--world", choices=tuple(LAYOUTS), default="narrow")
    a.add_argument("--device", default="cpu")
    a.add_argument("--workers", type=int, default=0, help="processes that make batches; 0: this one does")
    a.add_argument("--scale", type=float, default=1.0, help="of the batch sizes")
    a.add_argument("--lr", type=float, default=2e-3)
    a.add_argument("--muon-lr", type=float, default=0.01)
    a.add_argument("--decay", type=float, default=0.5, help="share of the run over which the rates fall to zero")
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--mode", choices=tuple(MODES), help="train on one mode only")
    a.add_argument("--drawing", action="store_true", help="the first phase: most rows on objects")
    a.add_argument("--muon-steps", type=int, default=3)
    a.add_argument("--log-every", type=int, default=100)
    a.add_argument("--meet", type=Path, help="folder in which two trainers exchange weights every 10 steps")
    a.add_argument("--rank", type=int, default=0)
    return a.parse_args()


def main() -> None:
    o = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    o.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(initial(o.init, o.world, Tokenizer.from_file(str(o.tokenizer))), o)
    feed = Feed(o.data, o.tokenizer, o.world, o.seed * 7919 + trainer.step, o.mode, o.drawing, o.scale)
    loader = DataLoader(feed, batch_size=None, num_workers=o.workers, prefetch_factor=4 if o.workers else None)
    print(f"parameters {sum(p.numel() for p in trainer.model.parameters())} device {o.device} workers {o.workers}", flush=True)
    stored = time.time()
    for mode, records, batch in loader:
        if trainer.minutes() >= o.minutes:
            break
        trainer.learn(mode, batch)
        if trainer.step % o.log_every == 0:
            trainer.report(records)
        if time.time() - stored > 60:
            trainer.store()
            stored = time.time()
    trainer.store()
    print("done", trainer.step)


if __name__ == "__main__":
    main()
