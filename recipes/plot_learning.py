"""Draws learning curves from a trainer's log: python plot_learning.py --log logs/transformer.log --out ../models/learning-curve.png"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from PIL import Image, ImageDraw

# name in the log, mode, colour, words
CURVES = (
    ("new", "t2v", (214, 69, 65), "clips: nats per digit that changes"),
    ("new", "t2i", (230, 149, 0), "pictures: nats per digit"),
    ("open_far", "i2v", (38, 132, 88), "places read from a picture, units off x 5 (image to video)"),
    ("open_far", "ei", (52, 108, 190), ".. (edit)"),
)
WIDTH, HEIGHT, LEFT, BOTTOM = 900, 420, 60, 40


def points(text: str, name: str, mode: str) -> list[tuple[int, float]]:
    """(step, value) of every line of the log that has this value; steps go on from stage to stage."""
    out, before, last = [], 0, 0
    for line in text.splitlines():
        found = re.match(r"(\d+) ", line)
        if not found:
            continue
        step = int(found[1])
        if step < last:  # a stage that counts anew
            before += last
        last = step
        part = re.search(rf"\| {name} ([^|]*)", line)
        value = re.search(rf"\b{mode}:([\d.]+)", part[1]) if part else None
        if value:
            out.append((before + step, float(value[1]) * (5 if name == "open_far" else 1)))
    return out


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--log", type=Path, required=True)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--stage", type=int, default=6, help="the first stage that is drawn; earlier ones trained in another world")
    o = a.parse_args()
    text = re.split(rf"(?m)^# stage {o.stage}\b", o.log.read_text())[-1]
    curves = [(points(text, name, mode), color, words) for name, mode, color, words in CURVES]
    last = max((p[0] for c, _, _ in curves for p in c), default=1)
    top = max((p[1] for c, _, _ in curves for p in c), default=1.0)
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)

    def at(step: float, value: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - 20) * step / last, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 20) * value / top

    for k in range(6):
        draw.line([at(0, top * k / 5), at(last, top * k / 5)], fill=(225, 225, 225))
        draw.text((10, at(0, top * k / 5)[1] - 6), f"{top * k / 5:.2f}", fill="black")
        draw.text((at(last * k / 5, 0)[0] - 12, HEIGHT - BOTTOM + 8), f"{round(last * k / 5)}", fill="black")
    draw.text((WIDTH // 2 - 15, HEIGHT - 16), "steps", fill="black")
    for i, (curve, color, words) in enumerate(curves):
        if len(curve) > 1:
            draw.line([at(*p) for p in curve], fill=color, width=2)
        draw.text((WIDTH - 420, 12 + 14 * i), words, fill=color)
    image.save(o.out, optimize=True)


if __name__ == "__main__":
    main()
