"""Spoken names, made by the program espeak-ng where it is installed (`docs/adr/` says what its licence means for us).

No recording is shipped: samples exist while data is made. Where the program is missing, scenes with a voice are silent.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from functools import lru_cache

import numpy as np

from .world import SAMPLE_RATE

PROGRAM = "espeak-ng"
LOUDNESS = 0.5  # largest absolute sample
LONGEST = 2.0  # seconds


def available() -> bool:
    return shutil.which(PROGRAM) is not None


@lru_cache(maxsize=512)
def spoken(words: str) -> np.ndarray | None:
    """`words` as samples [n] at 24 kHz, at most two seconds; None where the program is missing or fails."""
    if not available():
        return None
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
