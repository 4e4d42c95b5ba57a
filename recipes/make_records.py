"""Tokenises random clips into shards: python make_records.py --out DIR --video FILE --audio FILE --seed S --minutes M"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import torch

from borealis_recipe import audio_codec, checkpoint, video_tokenizer
from borealis_recipe.records import Record, make_record
from borealis_recipe.vocabulary import WORLDS


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--video", type=Path)
    a.add_argument("--audio", type=Path)
    a.add_argument("--checkpoint", type=Path, help="take both codecs from a checkpoint folder")
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--minutes", type=float, default=60.0)
    a.add_argument("--world", choices=tuple(WORLDS), default="narrow")
    a.add_argument("--shard-seconds", type=float, default=40.0)
    o = a.parse_args()
    torch.set_num_threads(1)
    o.out.mkdir(parents=True, exist_ok=True)
    if o.checkpoint:
        _, _, video, audio = checkpoint.read(o.checkpoint)
    else:
        video, audio = video_tokenizer.load(o.video), audio_codec.load(o.audio)
    shard = len(list(o.out.glob(f"{o.seed:04d}_*.pt")))  # of an earlier run of the same seed
    r, start, latents = random.Random(o.seed + 1_000_003 * shard), time.time(), 0
    while time.time() - start < 60 * o.minutes:
        records: list[Record] = []
        begin = time.time()
        while time.time() - begin < o.shard_seconds:
            record = make_record(r, video, audio, WORLDS[o.world])
            latents += len(record.video) + (len(record.edited_video) if record.edited_video is not None else 0)
            records.append(record)
        part = o.out / f".{o.seed}_{shard}.part"
        torch.save(records, part)
        os.rename(part, o.out / f"{o.seed:04d}_{shard:05d}.pt")
        shard += 1
        print(f"{(time.time() - start) / 60:.1f}min shard {shard} records {len(records)} latents {latents}", flush=True)


if __name__ == "__main__":
    main()
