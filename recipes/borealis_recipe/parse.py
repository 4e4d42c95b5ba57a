"""Reads a caption of the rich world back: which of the lexicon's phrases stand in it. Words that it does not know say nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from .lexicon import Phrases, lexicon
from .vocabulary import BACKGROUNDS, CAMERAS, MOTIONS, MUSIC, RICH, WEATHER


@dataclass
class Said:
    """What a caption says; None or an empty list where it says nothing."""

    background: str | None = None
    camera: str | None = None
    weather: str | None = None
    music: str | None = None
    shapes: list[str] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    motions: list[str] = field(default_factory=list)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


@lru_cache(maxsize=1)
def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """(kind, value) of every phrase, as words. Where two kinds share a phrase, the one that comes first here keeps it."""
    words = lexicon(RICH)
    tables: tuple[tuple[str, Phrases, tuple[str, ...]], ...] = (
        ("camera", words.cameras, CAMERAS),
        ("weather", words.weather, WEATHER),
        ("background", words.backgrounds, BACKGROUNDS),
        ("music", words.music, MUSIC),
        ("motions", words.motions, MOTIONS),
        ("shapes", words.shapes, RICH.shapes),
        ("colors", words.colors, RICH.colors),
        ("sizes", words.sizes, ("small", "medium", "large")),
    )
    out: dict[tuple[str, ...], tuple[str, str]] = {}
    for kind, phrases, values in tables:
        for value, said in zip(values, phrases):
            for phrase in said:
                if phrase:
                    out.setdefault(tuple(_words(phrase)), (kind, value))
    return out


def parse(text: str) -> Said:
    """The longest phrases of the lexicon in `text`, from left to right."""
    words, known, said, i = _words(text), _phrases(), Said(), 0
    longest = max(map(len, known))
    while i < len(words):
        for n in range(min(longest, len(words) - i), 0, -1):
            if (found := known.get(tuple(words[i : i + n]))) is not None:
                kind, value = found
                if kind in ("shapes", "colors", "sizes", "motions"):
                    getattr(said, kind).append(value)
                elif getattr(said, kind) is None:
                    setattr(said, kind, value)
                i += n
                break
        else:
            i += 1
    return said
