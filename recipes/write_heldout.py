"""Writes heldout.txt or heldout_rich.txt: prompts that no training run has seen, one a line, with what they ask for behind tabs.

python write_heldout.py --world rich
"""

from __future__ import annotations

import argparse
from pathlib import Path

from borealis_recipe.heldout import prompts
from borealis_recipe.heldout_rich import line, rich_prompts
from borealis_recipe.vocabulary import BACKGROUNDS, MOTIONS, NARROW

HERE = Path(__file__).parent


def narrow() -> None:
    lines = ["# prompt\tbackground\tcolour\tshape\tmotion"]
    for scene, text in prompts(216):
        t = scene.things[0]
        wants = (BACKGROUNDS[scene.background], NARROW.colors[t.color], NARROW.shapes[t.shape], MOTIONS[t.motion])
        lines.append("\t".join((text, *wants)))
    (HERE / "heldout.txt").write_text("\n".join(lines) + "\n")


def rich() -> None:
    lines = ["# prompt\tbackground\tcamera\tweather\tcount\trelation\tthings", *map(line, rich_prompts(240))]
    (HERE / "heldout_rich.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--world", choices=("narrow", "rich"), required=True)
    {"narrow": narrow, "rich": rich}[a.parse_args().world]()


if __name__ == "__main__":
    main()
