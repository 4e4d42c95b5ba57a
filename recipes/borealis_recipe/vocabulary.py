"""What can be said and shown in a world: names, and the fields of its scene plan and storyboard, as data.

`NARROW` is the world of `models/borealis-mini`; `RICH` has the same fields, with more values, and further fields
behind them. Everything else (ids, features, captions, pictures, growing a model) is derived from these tables.
"""

from __future__ import annotations

from dataclasses import dataclass

COLORS = {
    "red": (0.90, 0.10, 0.12),
    "orange": (1.0, 0.52, 0.05),
    "yellow": (0.98, 0.88, 0.12),
    "green": (0.10, 0.68, 0.22),
    "blue": (0.10, 0.30, 0.92),
    "purple": (0.55, 0.15, 0.78),
    "pink": (1.0, 0.48, 0.74),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.07),
}
DRAWN = ("ball", "box", "triangle", "star", "heart", "ring", "diamond", "cross")
# In the order of the atlas (`sprites.py`).
THINGS = (
    "cat", "dog", "fish", "frog", "butterfly", "turtle", "bee", "tree", "flower", "mushroom", "cactus", "apple",
    "banana", "strawberry", "pizza", "car", "rocket", "boat", "house", "balloon", "crown", "robot", "ghost", "umbrella",
)  # fmt: skip
BACKGROUNDS = ("sky", "night", "sunset", "meadow", "desert", "studio")
MOTIONS = ("still", "bounce", "right", "left", "up", "down", "orbit", "spin", "pulse", "shake")
MUSIC = ("none", "happy", "calm", "rain", "wind", "sad", "voice")
CAMERAS = ("still", "pan right", "pan left", "zoom in", "zoom out", "orbit")
WEATHER = ("none", "rain", "snow", "fog", "wind")
OWN_COLOR = "own"  # of things that bring their colours
X_LEVELS, Y_LEVELS, PHASES = 12, 8, 12


@dataclass(frozen=True)
class Field:
    """One id: one of `values`, which are what a grown model keeps its rows by."""

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.values)


def _levels(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


@dataclass(frozen=True)
class World:
    """A vocabulary of scenes. Tuples are in the order of the ids."""

    name: str
    text_ids: int
    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    music: tuple[str, ...]
    cameras: tuple[str, ...]  # that the plan can name
    moving_cameras: bool  # scenes use them, and the storyboard has a slot that says where the camera looks
    weather: tuple[str, ...]
    objects: int
    radius_levels: int
    # Added to the coordinates of media rows: the fields that this world has behind those of a smaller one push the
    # prompt away by so much, and what was learnt about distances stays right.
    position_offset: int = 0

    def __post_init__(self) -> None:
        fields, state = self._fields(), self._state_fields()
        # Frozen: tables that are asked for in every batch are made once.
        for name, value in (
            ("fields", fields),
            ("scene_size", [f.size for f in fields]),
            ("scene_start", [sum(f.size for f in fields[:i]) for i in range(len(fields))]),
            ("scene_vocabulary", sum(f.size for f in fields)),
            ("state_fields", state),
            ("state_size", [f.size for f in state]),
            ("state_start", [sum(f.size for f in state[:i]) for i in range(len(state))]),
            ("state_vocabulary", sum(f.size for f in state)),
        ):
            object.__setattr__(self, name, value)

    @property
    def slots(self) -> int:
        """Slots of a storyboard row: one per object, then the camera's."""
        return self.objects + self.moving_cameras

    def object_fields(self) -> tuple[Field, ...]:
        """Fields of one object; the last value of each means that there is none."""
        parts = (
            ("shape", self.shapes),
            ("color", self.colors),
            ("size", ("small", "medium", "large")),
            ("x", _levels(X_LEVELS)),
            ("y", _levels(Y_LEVELS)),
            ("motion", MOTIONS),
            ("speed", ("slow", "normal", "fast")),
            ("phase", _levels(PHASES)),
        )
        return tuple(Field(name, (*values, "none")) for name, values in parts)

    def _fields(self) -> tuple[Field, ...]:
        """The scene plan. The first 20 fields have the same names in every world."""
        first = (
            Field("background", (*BACKGROUNDS, "picture")),
            Field("camera", self.cameras),
            Field("music", self.music),
            Field("count", tuple(str(k + 1) for k in range(self.objects))),
        )
        objects = tuple(Field(f"{f.name}_{k}", f.values) for k in range(self.objects) for f in self.object_fields())
        return first + objects + ((Field("weather", self.weather),) if self.weather else ())

    def _state_fields(self) -> tuple[Field, ...]:
        """Codes of one slot: position at the first and at the last frame of the latent frame, radius, angle
        (in 1/36 turn), clock, impact (offset in 1/96 s inside the latent). Last level = none."""
        sizes = (("x0", 384), ("y0", 384), ("x1", 384), ("y1", 384), ("radius", self.radius_levels), ("angle", 36), ("clock", 36), ("impact", 16))
        return tuple(Field(name, (*_levels(n), "none")) for name, n in sizes)

    def drawn(self) -> int:
        """How many of the shapes are drawn as distances; the others are sprites."""
        return sum(s in DRAWN for s in self.shapes)

    def own_color(self, shape: int) -> bool:
        """Whether a shape brings its colours."""
        return self.shapes[shape] not in DRAWN


NARROW = World(
    name="narrow",
    text_ids=768,
    shapes=DRAWN[:6],
    colors=tuple(COLORS)[:8],
    music=MUSIC[:5],
    cameras=CAMERAS[:5],
    moving_cameras=False,
    weather=(),
    objects=2,
    radius_levels=48,
)
RICH = World(
    name="rich",
    text_ids=1152,
    shapes=DRAWN + THINGS,
    colors=(*COLORS, OWN_COLOR),
    music=MUSIC,
    cameras=CAMERAS,
    moving_cameras=True,
    weather=WEATHER,
    objects=3,
    radius_levels=72,
    position_offset=-9,  # eight fields of a third object, and the weather
)
WORLDS = {w.name: w for w in (NARROW, RICH)}
