"""Reduces 24 pictures of the Noto Color Emoji font to the atlas of the rich world:

python make_sprites.py --font NotoColorEmoji.ttf   (Debian: package fonts-noto-color-emoji)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from borealis_recipe.sprites import ATLAS, COLUMNS, FILL, TILE
from borealis_recipe.vocabulary import THINGS

PICTURES = dict(
    cat="🐱", dog="🐶", fish="🐟", frog="🐸", butterfly="🦋", turtle="🐢", bee="🐝", tree="🌳", flower="🌻", mushroom="🍄",
    cactus="🌵", apple="🍎", banana="🍌", strawberry="🍓", pizza="🍕", car="🚗", rocket="🚀", boat="⛵", house="🏠", balloon="🎈",
    crown="👑", robot="🤖", ghost="👻", umbrella="☂️",
)  # fmt: skip
STRIKE = 109  # the size at which the font holds its bitmaps


def tile(picture: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The picture, cut out, centred and as large as `FILL` of a tile allows."""
    drawn = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(drawn).text((8, 8), picture, font=font, embedded_color=True)
    part = drawn.crop(drawn.getbbox())
    scale = FILL * TILE / max(part.size)
    part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
    out = Image.new("RGBA", (TILE, TILE), (0, 0, 0, 0))
    out.alpha_composite(part, ((TILE - part.width) // 2, (TILE - part.height) // 2))
    return out


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--font", type=Path, required=True)
    a.add_argument("--out", type=Path, default=ATLAS)
    o = a.parse_args()
    font = ImageFont.truetype(str(o.font), STRIKE)
    atlas = Image.new("RGBA", (COLUMNS * TILE, -(-len(THINGS) // COLUMNS) * TILE), (0, 0, 0, 0))
    for i, name in enumerate(THINGS):
        atlas.paste(tile(PICTURES[name], font), (i % COLUMNS * TILE, i // COLUMNS * TILE))
    atlas.quantize(256, Image.Quantize.FASTOCTREE).save(o.out, optimize=True)
    print(o.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
