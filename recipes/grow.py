"""Grows a checkpoint folder into another world: python grow.py --checkpoint ../models/borealis-mini --tokenizer FILE --out FILE

--tokenizer: the checkpoint's own, grown (`train_text_tokenizer.py --world rich --init FILE`). --out: a trainer's file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from borealis_recipe import checkpoint
from borealis_recipe import model as bm
from borealis_recipe.grow import grow
from borealis_recipe.layout import LAYOUTS


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models" / "borealis-mini")
    a.add_argument("--tokenizer", type=Path, required=True)
    a.add_argument("--world", choices=tuple(LAYOUTS), default="rich")
    a.add_argument("--out", type=Path, required=True)
    o = a.parse_args()
    torch.set_num_threads(1)
    model, tokenizer, _, _ = checkpoint.read(o.checkpoint)
    grown = grow(model, tokenizer, LAYOUTS[o.world], Tokenizer.from_file(str(o.tokenizer)))
    bm.save(grown, o.out)
    print(f"{model.layout.vocab_size} -> {grown.layout.vocab_size} ids, {sum(p.numel() for p in grown.parameters())} parameters")


if __name__ == "__main__":
    main()
