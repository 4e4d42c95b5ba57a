"""Where the camera looks: how the world's places become places on the screen, with parallax between things and backdrop.

Pans and zooms take six seconds and then hold; the orbit goes on, one turn in six seconds. All positions of a pan fall on
the storyboard's bins at every latent frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .vocabulary import CAMERAS
from .world import BINS, CLOCK, STRIDE, Scene, Thing, Track, track

STILL, PAN_RIGHT, PAN_LEFT, ZOOM_IN, ZOOM_OUT, ORBIT = range(len(CAMERAS))
PAN = 72 / BINS  # units that things travel during a pan
BACKDROP = 0.5  # how far the backdrop goes meanwhile
NEAREST, FARTHEST = 1.8, 0.6  # zoom at the end
SWING, BACK_SWING, BREATH = 0.20, 0.14, 0.10  # of the orbit: things, backdrop (the other way), zoom
DEPTH = (1.0, 0.6, 0.3)  # share of the orbit's swing that the first, second and third object take
ANCHOR_RADIUS = 0.16  # radius that the storyboard says for the camera's slot at zoom 1


@dataclass
class View:
    """Per frame: shift of the foremost thing, of the backdrop (units, at zoom 1), and the zoom about the canvas's centre."""

    shift: np.ndarray
    back: np.ndarray
    zoom: np.ndarray


def progress(frame: np.ndarray) -> np.ndarray:
    """Clock steps (0 .. 36) that the camera has made at `frame`, one per latent frame."""
    return np.clip(np.asarray(frame, np.float64) / STRIDE, 0, None)


def view(camera: int, frame: np.ndarray) -> View:
    """The camera at the (possibly fractional) frame indices [n]."""
    steps = progress(frame)
    part = np.minimum(steps / CLOCK, 1)
    zero, one = np.zeros_like(part), np.ones_like(part)
    if camera in (PAN_RIGHT, PAN_LEFT):
        shift = PAN * part * (-1 if camera == PAN_RIGHT else 1)
        return View(shift, BACKDROP * shift, one)
    if camera in (ZOOM_IN, ZOOM_OUT):
        return View(zero, zero, 1 + ((NEAREST if camera == ZOOM_IN else FARTHEST) - 1) * part)
    if camera == ORBIT:
        turn = 2 * np.pi * steps / CLOCK
        return View(-SWING * np.sin(turn), BACK_SWING * np.sin(turn), 1 + BREATH * (1 - np.cos(turn)) / 2)
    return View(zero, zero, one)


def depth(camera: int, slot: int) -> float:
    """Share of the foremost thing's shift that the object in `slot` takes."""
    return DEPTH[min(slot, len(DEPTH) - 1)] if camera == ORBIT else 1.0


def seen(scene: Scene, slot: int, frame: np.ndarray, width: float, height: float) -> Track:
    """Where the object in `slot` is on the screen: its `track` through the camera."""
    thing: Thing = scene.things[slot]
    at = track(thing, frame, width, height)
    if scene.camera == STILL:
        return at
    v = view(scene.camera, frame)
    x = width / 2 + v.zoom * (at.x + v.shift * depth(scene.camera, slot) - width / 2)
    y = height / 2 + v.zoom * (at.y - height / 2)
    return Track(x, y, at.angle, at.radius * v.zoom)
