"""The sound that a scene makes: impacts at the contact, whooshes by speed, tones by motion, and a sound bed."""

from __future__ import annotations

import numpy as np

from .world import (
    BOUNCE,
    CLOCK,
    CLOCK_STEP,
    DOWN,
    FPS,
    LEFT,
    ORBIT,
    PULSE,
    RIGHT,
    SAMPLE_RATE,
    SHAKE,
    SPIN,
    STRIDE,
    UP,
    Scene,
    Thing,
    canvas_units,
    clock,
    impacts,
    track,
)

_NOISE = np.random.RandomState(0).randn(SAMPLE_RATE * 8).astype(np.float32)


def semitone(m: np.ndarray | float) -> np.ndarray | float:
    """Frequency of a MIDI note number."""
    return 440.0 * 2 ** ((np.asarray(m) - 69) / 12)


def _envelope(t: np.ndarray, attack: float, decay: float) -> np.ndarray:
    p = np.maximum(t, 0)
    return np.where(t >= 0, np.minimum(p / attack, 1) * np.exp(-p / decay), 0)


def _noise(n0: int, n: int) -> np.ndarray:
    return _NOISE[(n0 + np.arange(n)) % len(_NOISE)]


def _band_noise(n0: int, n: int, frequency: float, width: float, seed: int) -> np.ndarray:
    """Noise around `frequency`: a carrier with slow random amplitude and phase."""
    phase = 2 * np.pi * frequency * (n0 + np.arange(n)) / SAMPLE_RATE
    k = max(1, int(SAMPLE_RATE / width))
    knots = np.arange(n // k + 3)
    i = (n0 % k + np.arange(n)) / k
    a = _NOISE[(knots + n0 // k + 7919 * seed) % len(_NOISE)]
    b = _NOISE[(knots + n0 // k + 104729 + 7919 * seed) % len(_NOISE)]
    return np.interp(i, knots, a) * np.cos(phase) + np.interp(i, knots, b) * np.sin(phase)


def _impact(thing: Thing, d: np.ndarray, n0: int) -> np.ndarray:
    """A thud (ball, box, triangle) or a bell (star, heart, ring), `d` seconds after the contact."""
    pitch = (67, 60, 53)[thing.size]
    if thing.shape <= 2:
        f = semitone(pitch - 12)
        click = 0.25 * _envelope(d, 0.002, 0.015) * _noise(n0, len(d))
        return 0.75 * _envelope(d, 0.003, 0.09) * np.sin(2 * np.pi * f * d) + click
    f = semitone(pitch + 24)
    partials = ((1, 0.40, 0.35), (2.0, 0.22, 0.22), (2.997, 0.15, 0.14), (5.04, 0.10, 0.07))
    return sum(g * _envelope(d, 0.002, decay) * np.sin(2 * np.pi * f * k * d) for k, g, decay in partials)


def _motion_sound(thing: Thing, t: np.ndarray, n0: int, slot: int, aspect: str) -> np.ndarray:
    m, size, n = thing.motion, thing.size, len(t)
    width, height = canvas_units(aspect)
    if m in (RIGHT, LEFT, UP, DOWN):  # whoosh: louder near the centre, pitch follows speed
        coarse = np.append(t[::200], t[-1])
        at = track(thing, coarse * FPS, width, height)
        near = np.exp(-((at.x / width - 0.5) ** 2 + (at.y / height - 0.5) ** 2) / 0.10)
        f = (350, 700, 1400)[thing.speed] / (1 + 0.3 * size)
        return 0.30 * np.interp(t, coarse, near) * _band_noise(n0, n, f, 120 + 60 * thing.speed, slot)
    turn = clock(thing, t * FPS) / CLOCK
    if m == ORBIT:
        f = semitone((72, 67, 60)[size])
        return 0.22 * (0.55 + 0.45 * np.sin(2 * np.pi * turn)) * np.sin(2 * np.pi * f * t)
    if m == SPIN:  # a tick each half turn
        period = CLOCK / CLOCK_STEP[SPIN][thing.speed] * STRIDE / FPS
        d = t % (period / 2)
        return 0.5 * _envelope(d, 0.001, 0.02) * np.sin(2 * np.pi * semitone((84, 79, 72)[size]) * d)
    if m == PULSE:  # pitch steps with the size
        step = np.round(np.sin(2 * np.pi * turn) * 3).astype(int) + 3
        f = semitone((64, 57, 52)[size] + np.array([0, 2, 4, 7, 9, 12, 14])[step])
        return 0.20 * np.sin(2 * np.pi * np.cumsum(f) / SAMPLE_RATE)
    if m == SHAKE:
        f = 220.0 / (1 + 0.25 * size)
        return 0.30 * np.abs(np.sin(2 * np.pi * turn)) * _band_noise(n0, n, f, 90, slot)
    return np.zeros(n)


def _bed(music: int, t: np.ndarray, n0: int) -> np.ndarray:
    """Melody, chord, rain or wind; everything repeats every 4 seconds."""
    if music == 1:
        melody = np.array([72, 76, 79, 84, 79, 76, 74, 77])
        d, k = t % 0.25, np.floor(t / 0.25 + 1e-9).astype(int) % 8
        f = semitone(melody[k])
        return 0.22 * _envelope(d, 0.005, 0.12) * (np.sin(2 * np.pi * f * d) + 0.3 * np.sin(4 * np.pi * f * d))
    if music == 2:
        notes = (57, 60, 64, 69)
        return sum(0.075 * (1 + 0.3 * np.sin(np.pi * t / 2 + q)) * np.sin(2 * np.pi * semitone(q) * t) for q in notes)
    if music == 3:
        return 0.06 * _noise(n0, len(t))
    if music == 4:
        return 0.16 * (0.6 + 0.4 * np.sin(np.pi * t / 2)) * _band_noise(n0, len(t), 280, 160, 5)
    return np.zeros(len(t))


def synthesise(scene: Scene, start: int, count: int, aspect: str = "16:9") -> np.ndarray:
    """Samples [count] at 24 kHz from sample index `start` (negative = before the first frame, silent impacts kept)."""
    t = (start + np.arange(count)) / SAMPLE_RATE
    y = _bed(scene.music, t, start)
    for slot, thing in enumerate(scene.things):
        y = y + _motion_sound(thing, t, start, slot, aspect)
        if thing.motion == BOUNCE:
            for hit in impacts(thing, max(t[0] - 1.2, -0.001), t[-1]):
                y = y + _impact(thing, t - hit, start)
    return np.tanh(y * 0.9).astype(np.float32)
