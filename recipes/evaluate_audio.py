"""Scores the audio codec on held-out scenes, without the transformer: python evaluate_audio.py [--checkpoint DIR] [--n 200]

Onsets: sounding impacts of bouncing things, heard in the decoded samples, against the world's times of contact. Pitch: every note of the
melodies, the strongest partial of the decoded samples against the note that was played.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch

from borealis_recipe import audio_codec, scenes, world
from borealis_recipe.analysis import onsets
from borealis_recipe.checkpoint import read
from borealis_recipe.sound import semitone, synthesise
from borealis_recipe.world import BOUNCE, SAMPLE_RATE

SECONDS = 6
MELODY = (72, 76, 79, 84, 79, 76, 74, 77)
NOTE = 0.25  # seconds


def through(codec: audio_codec.AudioCodec, scene: world.Scene) -> tuple[np.ndarray, np.ndarray]:
    """The scene's samples and what the codec makes of them."""
    truth = synthesise(scene, 0, SECONDS * SAMPLE_RATE)
    return truth, codec.decode(codec.encode(torch.tensor(truth))).numpy()


def onset_errors(heard: np.ndarray, contacts: list[float]) -> list[float]:
    """Milliseconds from each contact to the nearest onset; contacts nearer than 200 ms to another are left out: they sound as one."""
    apart = [t for t in contacts if 0.1 < t < SECONDS - 0.3 and min([abs(t - o) for o in contacts if o != t] or [1.0]) > 0.2]
    return [1000 * float(heard[np.abs(heard - t).argmin()] - t) if len(heard) else 1e4 for t in apart]


def note_errors(samples: np.ndarray) -> list[float]:
    """Cents between the strongest partial near each note of the melody and the note, from the second note on."""
    window, size, out = np.hanning(int(0.18 * SAMPLE_RATE)), 1 << 17, []
    hertz = np.arange(size // 2 + 1) * SAMPLE_RATE / size
    for k in range(1, int(SECONDS / NOTE) - 1):
        at = int((k * NOTE + 0.02) * SAMPLE_RATE)
        spectrum = np.abs(np.fft.rfft(samples[at : at + len(window)] * window, size))
        f = float(semitone(MELODY[k % len(MELODY)]))
        near = (hertz > f * 2 ** (-1.5 / 12)) & (hertz < f * 2 ** (1.5 / 12))
        found = hertz[near][spectrum[near].argmax()]
        out.append(1200 * float(np.log2(found / f)))
    return out


def summary(errors: list[float], limit: float) -> dict:
    size = np.abs(np.array(errors))
    return {
        "n": len(errors),
        "median": round(float(np.median(size)), 2),
        "p90": round(float(np.percentile(size, 90)), 2),
        f"within_{limit:g}": round(float((size <= limit).mean()), 4),
    }


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--checkpoint", type=Path, default=Path(__file__).parent.parent / "models/borealis-mini")
    a.add_argument("--n", type=int, default=200, help="scenes of each kind")
    a.add_argument("--out", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    codec, r = read(o.checkpoint)[3], random.Random(90_417)
    scores: dict[str, list[float]] = {"onset_ms": [], "onset_ms_before_the_codec": [], "pitch_cents": []}
    for kind in ("bounce", "melody"):
        for _ in range(o.n):
            scene = scenes.random_scene(r)
            thing = scene.things[0]
            scene.things, scene.music = [thing], 0 if kind == "bounce" else 1
            thing.motion = BOUNCE if kind == "bounce" else 0
            truth, decoded = through(codec, scene)
            if kind == "melody":
                scores["pitch_cents"] += note_errors(decoded)
                continue
            contacts = list(world.impacts(thing, -0.001, SECONDS))
            scores["onset_ms"] += onset_errors(onsets(decoded), contacts)
            scores["onset_ms_before_the_codec"] += onset_errors(onsets(truth), contacts)
    table = {k: summary(v, 20 if k == "pitch_cents" else 12) for k, v in scores.items()}
    print(json.dumps(table, indent=1))
    if o.out:
        o.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
