"""Trains the text tokenizer: python train_text_tokenizer.py --out tokenizer.json [--world rich [--init tokenizer.json]]"""

from __future__ import annotations

import argparse
from pathlib import Path

from borealis_recipe.text_tokenizer import grow_tokenizer, train_tokenizer
from borealis_recipe.vocabulary import WORLDS


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--world", choices=tuple(WORLDS), default="narrow")
    a.add_argument("--init", type=Path, help="a tokenizer to grow: its ids stay as they are")
    o = a.parse_args()
    world = WORLDS[o.world]
    made = grow_tokenizer(o.init, o.out, world) if o.init else train_tokenizer(o.out, world)
    print(made.get_vocab_size(), "ids")


if __name__ == "__main__":
    main()
