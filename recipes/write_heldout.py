"""Writes heldout.txt: 216 prompts that no training run has seen, one a line, with what they ask for behind tabs."""

from __future__ import annotations

from pathlib import Path

from borealis_recipe.heldout import prompts
from borealis_recipe.vocabulary import BACKGROUNDS, MOTIONS, NARROW


def main() -> None:
    lines = ["# prompt\tbackground\tcolour\tshape\tmotion"]
    for scene, text in prompts(216):
        t = scene.things[0]
        wants = (BACKGROUNDS[scene.background], NARROW.colors[t.color], NARROW.shapes[t.shape], MOTIONS[t.motion])
        lines.append("\t".join((text, *wants)))
    (Path(__file__).parent / "heldout.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
