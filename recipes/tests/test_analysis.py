"""The analysers see what is there: on true renderings of both worlds."""

from __future__ import annotations

import unittest

import numpy as np

from borealis_recipe import analysis_rich, camera, scenes
from borealis_recipe.render import render
from borealis_recipe.sound import synthesise
from borealis_recipe.vocabulary import BACKGROUNDS, CAMERAS, MOTIONS, RICH, WEATHER
from borealis_recipe.world import BOUNCE, SPIN, STILL, Scene, Thing
from evaluate_rich import holds, matched

SHORT = np.arange(0, 49, 2)


def look(scene: Scene, frames: np.ndarray = SHORT) -> analysis_rich.Look:
    return analysis_rich.analyse(render(scene, frames), np.zeros(0))


def thing(name: str, color: str = "red", **fields: int) -> Thing:
    out = Thing(RICH.shapes.index(name), RICH.colors.index(color), **({"size": 1, "x": 5, "y": 3, "motion": STILL} | fields))
    return scenes.coloured(out, RICH)


class Truth(unittest.TestCase):
    def test_every_shape_and_thing(self) -> None:
        """All of them, three to a picture, on a backdrop that none of them hides in."""
        wrong = []
        for k in range(0, len(RICH.shapes), 3):
            names = [RICH.shapes[(k + i) % len(RICH.shapes)] for i in range(3)]
            things = [thing(n, c, x=x) for n, c, x in zip(names, ("red", "yellow", "pink"), (1, 5, 9))]
            seen = look(Scene(5, things=things), np.arange(9))
            wrong += [n for n, s in zip(names, matched(things, seen.things)) if s is None]
            self.assertEqual(seen.count, 3, names)
        self.assertLessEqual(len(wrong), 2, wrong)

    def test_weather_on_every_background(self) -> None:
        wrong = []
        for place, background in enumerate(BACKGROUNDS):
            for k, weather in enumerate(WEATHER):
                seen = look(Scene(place, things=[thing("robot" if place != 5 else "apple")], weather=k), np.arange(9))
                self.assertEqual(seen.background, place, background)
                wrong += [(background, weather, seen.weather)] if seen.weather != weather else []
        self.assertLessEqual(len(wrong), 1, wrong)

    def test_cameras(self) -> None:
        wrong = []
        for k, name in enumerate(CAMERAS):
            for place in (0, 3):
                x = 3 if k == camera.PAN_LEFT else 8
                seen = look(Scene(place, things=[thing("car", x=x)], camera=k))
                wrong += [(name, place, seen.camera)] if seen.camera != name else []
                self.assertEqual(seen.things[0].motion, "still", (name, place))
        self.assertEqual(wrong, [])

    def test_motion_under_a_moving_camera(self) -> None:
        for motion in (BOUNCE, SPIN):
            seen = look(Scene(3, things=[thing("apple", motion=motion, x=8)], camera=camera.PAN_RIGHT), np.arange(49))
            self.assertEqual(seen.things[0].motion, MOTIONS[motion])

    def test_contacts_and_sound(self) -> None:
        scene = Scene(0, things=[thing("car", motion=BOUNCE, phase=2)])
        seen = analysis_rich.analyse(render(scene, np.arange(49)), synthesise(scene, 0, 49_000))
        self.assertGreaterEqual(len(seen.impacts), 1)
        self.assertLess(max(map(abs, seen.sync_ms)), 42)

    def test_relations(self) -> None:
        pairs = {
            "left of": (thing("cat", x=2), thing("car", x=9)),
            "above": (thing("car", x=5, y=0, size=0), thing("box", x=5, y=7, size=0)),
            "bigger than": (thing("tree", x=2, size=2), thing("apple", x=9, size=0)),
        }
        opposite = {"left of": "right of", "above": "below", "bigger than": "smaller than"}
        for relation, pair in pairs.items():
            found = matched(list(pair), look(Scene(5, things=list(pair)), np.arange(9)).things)
            self.assertTrue(holds(relation, *found), relation)
            self.assertFalse(holds(opposite[relation], *found), relation)
        self.assertFalse(holds("left of", None, None))

    def test_nothing_there(self) -> None:
        seen = look(Scene(1), np.arange(9))
        self.assertEqual((seen.count, seen.things, seen.background, seen.camera), (0, [], 1, "still"))


if __name__ == "__main__":
    unittest.main()
