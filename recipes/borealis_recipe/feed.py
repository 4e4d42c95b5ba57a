"""Batches for the transformer's trainer, drawn from shards of records as they appear; in one process or in several."""

from __future__ import annotations

import random
import time
import zlib
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.utils.data import IterableDataset, get_worker_info

from .batches import Batch, collate, make_sample
from .layout import LAYOUTS, Layout
from .records import Record

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
REFRESH = 45.0  # seconds between looks for new shards


class Pool:
    """Records by kind and aspect; shards are read as they appear, a worker's own share of them."""

    def __init__(self, folder: Path, worker: int = 0, workers: int = 1) -> None:
        self.folder, self.worker, self.workers = folder, worker, workers
        self.seen: set[str] = set()
        self.records: dict[tuple[str, str], list[Record]] = {}
        self.count = 0

    def refresh(self) -> None:
        paths = sorted(self.folder.glob("*.pt"))
        mine = [p for p in paths if zlib.crc32(p.name.encode()) % self.workers == self.worker]
        for path in mine or paths:
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


def make_batch(
    pool: Pool, tokenizer: Tokenizer, r: random.Random, at: Layout, mode: str | None = None, drawing: bool = False, scale: float = 1.0
) -> tuple[str, Batch]:
    """A random batch; `drawing` spends most rows on objects: other shares, hardly any captions."""
    while True:
        shares = DRAWING if drawing else {k: m[0] for k, m in MODES.items()}
        name = mode or r.choices(list(shares), list(shares.values()))[0]
        reading = not drawing and mode is None and r.random() < READING
        if reading:
            name = r.choice(("image_to_video", "edit_image", "extend"))
        size = 16 if reading and name == "extend" else 28 if reading else MODES[name][1]
        records = pool.draw(name, max(2, round(size * scale)), r)
        if len(records) < 2:
            continue
        blocks = {"text_to_image": 1, "image_to_video": 2, "extend": 2}.get(name, BLOCKS)
        given = r.choice((2, 3))  # source latents of an extension
        samples = [make_sample(record, name, r, blocks, given, at.world) for record in records]
        if reading:
            for sample in samples:
                sample.blocks = []
        full = r.random() < (0.05 if drawing else 0.15)
        silent = name.startswith("text_to") and r.random() < (0.75 if drawing else 0.65)
        rows = 99 if full else 20 if name == "text_to_image" else 12
        drop = 1.0 if silent else 0.4 if reading and name != "edit_image" else 0.05
        return name, collate(samples, tokenizer, r, rows=rows, drop=drop, transitions=4, at=at)


class Feed(IterableDataset):
    """Endless (mode, records known, batch); waits for the first shard."""

    def __init__(self, folder: Path, tokenizer: Path, world: str, seed: int, mode: str | None, drawing: bool, scale: float) -> None:
        self.folder, self.tokenizer, self.world, self.seed = folder, tokenizer, world, seed
        self.mode, self.drawing, self.scale = mode, drawing, scale

    def __iter__(self):
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            torch.set_num_threads(1)
            torch.manual_seed(self.seed + 104729 * (number + 1))
        r = random.Random(self.seed + 104729 * number)
        tokenizer, at, pool = Tokenizer.from_file(str(self.tokenizer)), LAYOUTS[self.world], Pool(self.folder, number, count)
        pool.refresh()
        while not pool.count:
            time.sleep(1)
            pool.refresh()
        refreshed = time.time()
        while True:
            if time.time() - refreshed > REFRESH:
                pool.refresh()
                refreshed = time.time()
            mode, batch = make_batch(pool, tokenizer, r, at, self.mode, self.drawing, self.scale)
            yield mode, pool.count, batch
