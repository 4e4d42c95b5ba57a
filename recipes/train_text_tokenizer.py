"""Trains the text tokenizer: python train_text_tokenizer.py --out tokenizer.json"""

from __future__ import annotations

import argparse
from pathlib import Path

from borealis_recipe.language import train_tokenizer


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, required=True)
    print(train_tokenizer(a.parse_args().out).get_vocab_size(), "ids")


if __name__ == "__main__":
    main()
