"""The sound that a scene makes: impacts at the contact, whooshes by speed, tones by motion, and a sound bed."""

from __future__ import annotations

import numpy as np

from . import camera
from .speech import spoken
from .vocabulary import DRAWN, MUSIC, RICH, THINGS, WEATHER
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
)

RINGING = tuple(len(DRAWN) + THINGS.index(t) for t in ("car", "rocket", "crown", "robot"))
VOICE_AT, VOICE_EVERY = 0.5, 3.0  # seconds: when the name of the first thing is spoken
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
    """A thud (ball, box, triangle, most things) or a bell (the other drawn shapes, `RINGING`), `d` seconds after the contact."""
    pitch = (67, 60, 53)[thing.size]
    if thing.shape <= 2 or thing.shape >= len(DRAWN) and thing.shape not in RINGING:
        f = semitone(pitch - 12)
        click = 0.25 * _envelope(d, 0.002, 0.015) * _noise(n0, len(d))
        return 0.75 * _envelope(d, 0.003, 0.09) * np.sin(2 * np.pi * f * d) + click
    f = semitone(pitch + 24)
    partials = ((1, 0.40, 0.35), (2.0, 0.22, 0.22), (2.997, 0.15, 0.14), (5.04, 0.10, 0.07))
    return sum(g * _envelope(d, 0.002, decay) * np.sin(2 * np.pi * f * k * d) for k, g, decay in partials)


def _motion_sound(scene: Scene, slot: int, t: np.ndarray, n0: int, aspect: str) -> np.ndarray:
    thing = scene.things[slot]
    m, size, n = thing.motion, thing.size, len(t)
    width, height = canvas_units(aspect)
    if m in (RIGHT, LEFT, UP, DOWN):  # whoosh: louder near the centre, pitch follows speed
        coarse = np.append(t[::200], t[-1])
        at = camera.seen(scene, slot, coarse * FPS, width, height)
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
        return _rain(t, n0)
    if music == 4:
        return _wind(t, n0)
    if music == MUSIC.index("sad"):  # slower, falling, in minor
        melody = np.array([69, 67, 64, 65, 64, 60, 62, 57])
        d, k = t % 0.5, np.floor(t / 0.5 + 1e-9).astype(int) % 8
        f = semitone(melody[k] - 12)
        return 0.24 * _envelope(d, 0.02, 0.30) * (np.sin(2 * np.pi * f * d) + 0.2 * np.sin(4 * np.pi * f * d))
    return np.zeros(len(t))


def _rain(t: np.ndarray, n0: int) -> np.ndarray:
    return 0.06 * _noise(n0, len(t))


def _wind(t: np.ndarray, n0: int) -> np.ndarray:
    return 0.16 * (0.6 + 0.4 * np.sin(np.pi * t / 2)) * _band_noise(n0, len(t), 280, 160, 5)


def _weather(weather: int, t: np.ndarray, n0: int) -> np.ndarray:
    """Rain and wind are heard, snow and fog are not."""
    name = WEATHER[weather]
    return _rain(t, n0) if name == "rain" else _wind(t, n0) if name == "wind" else np.zeros(len(t))


def said(thing: Thing) -> str:
    """What the voice says of a thing."""
    name = RICH.shapes[thing.shape]
    return name if RICH.own_color(thing.shape) else f"{RICH.colors[thing.color]} {name}"


def _voice(thing: Thing, start: int, count: int) -> np.ndarray:
    """The thing's name, said again and again; silence where no program speaks."""
    samples, out = spoken(said(thing)), np.zeros(count)
    if samples is None:
        return out
    every = int(VOICE_EVERY * SAMPLE_RATE)
    at = (start + np.arange(count) - int(VOICE_AT * SAMPLE_RATE)) % every
    begun = start + np.arange(count) >= VOICE_AT * SAMPLE_RATE
    inside = begun & (at < len(samples))
    out[inside] = samples[at[inside]]
    return out


def synthesise(scene: Scene, start: int, count: int, aspect: str = "16:9") -> np.ndarray:
    """Samples [count] at 24 kHz from sample index `start` (negative = before the first frame, silent impacts kept)."""
    t = (start + np.arange(count)) / SAMPLE_RATE
    y = _bed(scene.music, t, start)
    if scene.weather:
        y = y + _weather(scene.weather, t, start)
    if scene.music == MUSIC.index("voice"):
        y = y + _voice(scene.things[0], start, count)
    for slot, thing in enumerate(scene.things):
        y = y + _motion_sound(scene, slot, t, start, aspect)
        if thing.motion == BOUNCE:
            for hit in impacts(thing, max(t[0] - 1.2, -0.001), t[-1]):
                y = y + _impact(thing, t - hit, start)
    return np.tanh(y * 0.9).astype(np.float32)
