"""The discrete ids of a scene: its plan (one id per field) and its storyboard (state levels per latent frame)."""

from __future__ import annotations

import numpy as np

from . import camera
from .vocabulary import World
from .world import BINS, CLOCK, FPS, ORIGIN, RADIUS_MIN, RADIUS_STEP, STRIDE, Scene, Thing, canvas_units, clock, impacts


def scene_ids(world: World, scene: Scene) -> list[int]:
    """The ids (relative to the scene segment) that describe `scene`, one per field."""
    values = {
        "background": scene.background if scene.picture is None else world.fields[0].size - 1,
        "camera": scene.camera,
        "music": scene.music,
        "count": len(scene.things) - 1,
        "weather": scene.weather,
    }
    ids = []
    for field, start in zip(world.fields, world.scene_start):
        name, _, slot = field.name.partition("_")
        if not slot:
            value = values[name]
        else:
            value = getattr(scene.things[int(slot)], name) if int(slot) < len(scene.things) else field.size - 1
        ids.append(start + value)
    return ids


def scene_from_ids(world: World, ids: list[int]) -> Scene:
    """Inverse of `scene_ids`, tolerant of ids outside their field."""
    levels = {f.name: min(max(i - start, 0), f.size - 1) for f, i, start in zip(world.fields, ids, world.scene_start)}
    scene = Scene(min(levels["background"], world.fields[0].size - 2), levels["music"])
    scene.camera = levels["camera"] if world.moving_cameras else 0
    scene.weather = levels.get("weather", 0)
    for slot in range(levels["count"] + 1):
        fields = {f.name: min(levels[f"{f.name}_{slot}"], f.size - 2) for f in world.object_fields()}
        scene.things.append(Thing(**fields))
    return scene


def position_level(value: np.ndarray) -> np.ndarray:
    """Units -> position level 0..383."""
    return np.clip(np.round((value + ORIGIN) * BINS), 0, 383).astype(np.int64)


def states(world: World, scene: Scene, latents: np.ndarray, aspect: str) -> np.ndarray:
    """State levels [n, slots, 8 codes] of the latent frames with the given indices [n]."""
    latents = np.asarray(latents)
    width, height = canvas_units(aspect)
    out = np.tile(np.array(world.state_size) - 1, (len(latents), world.slots, 1))
    last = latents * STRIDE
    first = np.where(latents > 0, last - (STRIDE - 1), last)
    top = world.radius_levels - 1
    for slot, thing in enumerate(scene.things[: world.objects]):
        a, b = camera.seen(scene, slot, first, width, height), camera.seen(scene, slot, last, width, height)
        out[:, slot, 0], out[:, slot, 1] = position_level(a.x), position_level(a.y)
        out[:, slot, 2], out[:, slot, 3] = position_level(b.x), position_level(b.y)
        out[:, slot, 4] = np.clip(np.round((b.radius - RADIUS_MIN) / RADIUS_STEP), 0, top)
        out[:, slot, 5] = np.round(b.angle / (2 * np.pi) * CLOCK).astype(np.int64) % CLOCK
        out[:, slot, 6] = np.round(clock(thing, last)).astype(np.int64) % CLOCK
        for k, i in enumerate(latents):
            begin = (4 * i - 3) / FPS
            hit = impacts(thing, begin, begin + 1 / 6)
            out[k, slot, 7] = round((hit[0] - begin) * 96) if hit else 16
    if scene.camera and world.moving_cameras:
        out[:, world.objects] = camera_states(scene.camera, first, last, width, height, top)
    return out


def camera_states(kind: int, first: np.ndarray, last: np.ndarray, width: float, height: float, top: int) -> np.ndarray:
    """Levels [n, 8] of the camera's slot: the backdrop as an object. Its place is where the backdrop's centre is seen, its
    radius grows with the zoom, its clock counts the steps of a move and is none once that is over."""
    a, b = camera.view(kind, first), camera.view(kind, last)
    steps = np.round(camera.progress(last)).astype(np.int64)
    if kind == camera.ORBIT:
        steps %= CLOCK
    out = np.zeros((len(last), 8), np.int64)
    out[:, 0], out[:, 2] = (position_level(width / 2 + v.zoom * v.back) for v in (a, b))
    out[:, 1] = out[:, 3] = position_level(np.array(height / 2))
    out[:, 4] = np.clip(np.round((camera.ANCHOR_RADIUS * b.zoom - RADIUS_MIN) / RADIUS_STEP), 0, top)
    out[:, 6] = np.minimum(steps, CLOCK)
    out[:, 7] = 16
    return out
