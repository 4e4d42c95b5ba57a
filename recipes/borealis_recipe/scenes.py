"""Random scenes of a world, and how two objects of a scene stand to each other."""

from __future__ import annotations

import random

from . import camera
from .vocabulary import BACKGROUNDS, NARROW, OWN_COLOR, PHASES, X_LEVELS, Y_LEVELS, World
from .world import (
    BOUNCE,
    BOX,
    HEART,
    PULSE,
    SHAKE,
    SPIN,
    STAR,
    STILL,
    TRIANGLE,
    Scene,
    Thing,
    round_shape,
)

RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind", "bigger than", "smaller than")
STUDIO = BACKGROUNDS.index("studio")
# What things do while the camera moves: what flies could not be told from what is flown past.
CALM = (STILL, STILL, STILL, BOUNCE, SPIN, SHAKE)
COMPANIONS = (STILL, STILL, STILL, BOUNCE, SPIN, PULSE)


def held_out(thing: Thing, background: int) -> bool:
    """About 11 % of the (shape, colour, background) triples are never trained on."""
    return (thing.shape * 8 + thing.color * 3 + background * 5) % 9 == 0


def shape_pool(world: World) -> tuple[int, ...]:
    """Shapes to draw from: as often a drawn shape as a sprite."""
    drawn = tuple(range(world.drawn()))
    sprites = tuple(range(world.drawn(), len(world.shapes)))
    return drawn * (len(sprites) // len(drawn)) + sprites if sprites else drawn


def plain_colors(world: World) -> tuple[int, ...]:
    return tuple(i for i, c in enumerate(world.colors) if c != OWN_COLOR)


def coloured(thing: Thing, world: World) -> Thing:
    """The thing, in its own colours if its shape brings them."""
    if world.own_color(thing.shape):
        thing.color = world.colors.index(OWN_COLOR)
    return thing


def random_thing(r: random.Random, motion: int | None = None, world: World = NARROW) -> Thing:
    motions = (0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9)
    thing = Thing(
        shape=r.choice(shape_pool(world)),
        color=r.choice(plain_colors(world)),
        size=r.choice((0, 1, 1, 1, 2, 2, 2)),
        x=r.randrange(X_LEVELS),
        y=r.randrange(Y_LEVELS),
        motion=r.choice(motions) if motion is None else motion,
        speed=r.choice((0, 1, 1, 2)),
        phase=r.randrange(PHASES),
    )
    if thing.motion == SPIN and round_shape(thing.shape):
        thing.shape = r.choice((BOX, TRIANGLE, STAR, HEART))
    return coloured(thing.canonical(), world)


def alike(a: Thing, b: Thing, world: World) -> bool:
    """Whether two things would be named by the same words or be hard to tell apart."""
    if world.own_color(a.shape) or world.own_color(b.shape):
        return a.shape == b.shape
    return a.color == b.color


def random_companion(r: random.Random, first: Thing, world: World = NARROW) -> Thing:
    """A second object of another colour, well apart from the first."""
    while True:
        other = random_thing(r, r.choice(COMPANIONS), world)
        if not alike(other, first, world) and abs(other.x - first.x) >= 5:
            return other


def _related(r: random.Random, first: Thing, world: World) -> Thing | None:
    """A still companion that is above, below or behind the first, which then stands still too; None if there is no room."""
    other = random_thing(r, STILL, world)
    if alike(other, first, world):
        return None
    first.motion, other.motion = STILL, STILL
    if r.random() < 0.5:  # one above the other
        first.size, other.size = r.choice((0, 1)), r.choice((0, 1))
        first.y, other.y = r.choice(((0, 6), (0, 7), (1, 7), (7, 0), (6, 0), (7, 1)))
        other.x = first.x
    else:  # the second half hidden by the first
        first.size, other.size = r.choice(((1, 1), (1, 2), (2, 2)))
        other.x = first.x + r.choice((-1, 1)) * r.choice((1, 2))
        other.y = first.y
        if not 0 <= other.x < X_LEVELS:
            return None
    first.canonical()
    return other.canonical()


def add_companions(r: random.Random, scene: Scene, world: World) -> None:
    """A second object and, where the world has room for it, sometimes a third."""
    first = scene.things[0]
    if world.objects > 2 and r.random() < 0.4:
        other = None
        while other is None:
            other = _related(r, first, world)
        scene.things.append(other)
        return
    scene.things.append(random_companion(r, first, world))
    if world.objects > 2 and r.random() < 0.4:
        for _ in range(60):
            third = random_companion(r, first, world)
            third.size = min(third.size, 1)
            if not alike(third, scene.things[1], world) and abs(third.x - scene.things[1].x) >= 4:
                scene.things.append(third)
                return


def random_scene(r: random.Random, allow_held_out: bool = False, pairs: float = 0.2, world: World = NARROW) -> Scene:
    """A scene with one object, or with more in a share `pairs` of the cases."""
    while True:
        scene = Scene(background=r.randrange(len(BACKGROUNDS)), music=r.choice((0, 0, 0, 0, *range(1, len(world.music)))))
        scene.things.append(random_thing(r, world=world))
        if r.random() < pairs:
            add_companions(r, scene, world)
        if world.moving_cameras and r.random() < 0.3:
            scene.camera = r.randrange(1, len(world.cameras))
        if world.weather and r.random() < 0.35:
            scene.weather = r.randrange(1, len(world.weather))
        settle(scene, r)
        if allow_held_out or not any(held_out(o, scene.background) for o in scene.things):
            return scene


def settle(scene: Scene, r: random.Random) -> None:
    """Makes what a moving camera shows unambiguous: nothing flies, and the backdrop has marks to travel past."""
    if not scene.camera:
        return
    for thing in scene.things:
        if thing.motion not in CALM:
            thing.motion = r.choice(CALM)
            if thing.motion == SPIN and round_shape(thing.shape):
                thing.motion = STILL
            thing.canonical()
        if scene.camera in (camera.PAN_RIGHT, camera.PAN_LEFT) and len(scene.things) == 1:
            ahead = scene.camera == camera.PAN_RIGHT  # what the camera travels towards
            thing.x = max(thing.x, 5) if ahead else min(thing.x, X_LEVELS - 6)
    if scene.background == STUDIO and scene.camera not in (camera.ZOOM_IN, camera.ZOOM_OUT):
        scene.background = r.randrange(STUDIO)


def relations(a: Thing, b: Thing) -> list[str]:
    """What is plainly true of `a` and `b` (in this order, `a` in a slot before `b`), of `RELATIONS`."""
    out = []
    dx, dy = b.x - a.x, b.y - a.y
    calm = {STILL, SPIN, PULSE, SHAKE}
    if abs(dx) >= 4 and {a.motion, b.motion} <= calm | {BOUNCE}:
        out.append("left of" if dx > 0 else "right of")
    if a.motion in calm and b.motion in calm:
        if abs(dx) <= 1 and abs(dy) >= 5:
            out.append("above" if dy > 0 else "below")
        if a.motion == b.motion == STILL and 1 <= abs(dx) <= 2 and dy == 0:
            out.append("in front of")
    if abs(a.size - b.size) >= 1 and PULSE not in (a.motion, b.motion) and "in front of" not in out:
        out.append("bigger than" if a.size > b.size else "smaller than")
    return out
