"""Spoken names, made by the program espeak-ng where it is installed (`docs/adr/` says what its licence means for us).

No recording is shipped: samples exist while data is made. Where the program is missing, scenes with a voice are silent, unless
the environment variable BOREALIS_SPEECH names a file that `python -m borealis_recipe.speech FILE` wrote on a machine that has it.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import wave
from functools import lru_cache

import numpy as np

from .vocabulary import OWN_COLOR, RICH
from .world import SAMPLE_RATE

PROGRAM = "espeak-ng"
LOUDNESS = 0.5  # largest absolute sample
LONGEST = 2.0  # seconds


def available() -> bool:
    return shutil.which(PROGRAM) is not None


@lru_cache(maxsize=1)
def _recorded() -> dict[str, np.ndarray]:
    """What another machine spoke (`BOREALIS_SPEECH`)."""
    path = os.environ.get("BOREALIS_SPEECH")
    if not path:
        return {}
    with np.load(path) as file:
        return {name: file[name].astype(np.float64) / 32767 for name in file.files}


@lru_cache(maxsize=512)
def spoken(words: str) -> np.ndarray | None:
    """`words` as samples [n] at 24 kHz, at most two seconds; None where the program is missing or fails."""
    if not available():
        return _recorded().get(words)
    command = [PROGRAM, "-v", "en", "-s", "150", "--stdout", words]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=20)
        with wave.open(io.BytesIO(done.stdout)) as f:
            rate = f.getframerate()
            # The length in the header of a stream is a placeholder: what came is what there is.
            raw = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float64) / 32768
    except (OSError, subprocess.SubprocessError, wave.Error, EOFError):
        return None
    loud = np.nonzero(np.abs(raw) > 0.01)[0]
    if not len(loud):
        return None
    raw = raw[loud[0] : loud[-1] + 1][: int(LONGEST * rate)]
    n = int(len(raw) * SAMPLE_RATE / rate)
    y = np.interp(np.arange(n) * rate / SAMPLE_RATE, np.arange(len(raw)), raw)
    return y * (LOUDNESS / np.abs(y).max())


def names() -> list[str]:
    """Everything that a voice says."""
    plain = [c for c in RICH.colors if c != OWN_COLOR]
    return [n for i, s in enumerate(RICH.shapes) for n in ([s] if RICH.own_color(i) else [f"{c} {s}" for c in plain])]


if __name__ == "__main__":
    if not available():
        sys.exit(f"{PROGRAM} is not installed: install the package {PROGRAM}")
    np.savez_compressed(sys.argv[1], **{name: (spoken(name) * 32767).astype(np.int16) for name in names()})
