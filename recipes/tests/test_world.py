"""The rich world: ids, storyboard, camera, pictures, relations and sound."""

from __future__ import annotations

import random
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from borealis_recipe import camera, plans, scenes, sound, speech, sprites
from borealis_recipe.analysis import onsets
from borealis_recipe.layout import LAYOUTS
from borealis_recipe.render import render
from borealis_recipe.vocabulary import DRAWN, MUSIC, NARROW, RICH, THINGS, WEATHER
from borealis_recipe.weather import MARKS
from borealis_recipe.world import BINS, BOUNCE, CANVAS, FPS, ORIGIN, SPIN, STILL, STRIDE, Scene, Thing, canvas_units, impacts


def many(n: int, seed: int = 0) -> list[Scene]:
    r = random.Random(seed)
    return [scenes.random_scene(r, pairs=0.6, world=RICH) for _ in range(n)]


class Ids(unittest.TestCase):
    def test_plan_and_back(self) -> None:
        seen = set()
        for scene in many(300):
            ids = plans.scene_ids(RICH, scene)
            for i, start, field in zip(ids, RICH.scene_start, RICH.fields):
                self.assertTrue(start <= i < start + field.size, field.name)
            self.assertEqual(plans.scene_from_ids(RICH, ids), scene)
            seen.update(ids)
        unused = set(range(RICH.scene_vocabulary)) - seen
        # "picture" as background, and speeds and phases of rare combinations, are all that a few hundred scenes may lack.
        self.assertLess(len(unused), 0.25 * RICH.scene_vocabulary)

    def test_fields_of_the_narrow_world_lead(self) -> None:
        names = [f.name for f in NARROW.fields]
        self.assertEqual([f.name for f in RICH.fields][: len(names)], names)
        self.assertEqual(len(RICH.fields) - len(names), -RICH.position_offset)
        for narrow, rich in zip(NARROW.fields, RICH.fields):
            self.assertLessEqual(set(narrow.values), set(rich.values))

    def test_segments_cover_the_vocabulary(self) -> None:
        for at in LAYOUTS.values():
            end = 0
            for _, start, size in at.segments:
                self.assertEqual(start, end)
                end = start + size
            self.assertEqual(end, at.vocab_size)

    def test_storyboard_levels(self) -> None:
        for k, scene in enumerate(many(120, 3)):
            levels = plans.states(RICH, scene, np.array([0, 1, 7, 35, 36, 80]), tuple(CANVAS)[k % len(CANVAS)])
            self.assertEqual(levels.shape[1:], (RICH.slots, 8))
            self.assertTrue((levels >= 0).all() and (levels < np.array(RICH.state_size)).all())
            none = (levels == np.array(RICH.state_size) - 1).all(2).all(0)
            there = [k < len(scene.things) for k in range(RICH.objects)] + [scene.camera > 0]
            self.assertEqual((~none).tolist(), there)

    def test_next_state_follows_from_the_last(self) -> None:
        """Equal states of one plan have equal successors: the storyboard is learnable."""
        for scene in many(40, 9):
            rows = plans.states(RICH, scene, np.arange(1, 80), "16:9")
            after: dict[bytes, bytes] = {}
            for a, b in zip(rows, rows[1:]):
                self.assertEqual(after.setdefault(a.tobytes(), b.tobytes()), b.tobytes())


class Pictures(unittest.TestCase):
    def test_any_size_and_ratio(self) -> None:
        for scene, aspect in zip(many(14, 5), CANVAS):
            width, height = canvas_units(aspect)
            for lines in (45, 90):
                got = render(scene, np.array([3.0]), aspect, lines)
                self.assertEqual(got.shape, (1, 3, round(height * lines), round(width * lines)))
                self.assertTrue(0 <= got.min() and got.max() <= 1)
            small = torch.nn.functional.avg_pool2d(render(scene, np.array([3.0]), aspect, 180), 4)
            self.assertLess(float((small - render(scene, np.array([3.0]), aspect, 45)).abs().mean()), 0.02)

    def test_window_is_a_part(self) -> None:
        for scene in many(8, 6):
            whole = render(scene, np.array([5.0]))
            part = render(scene, np.array([5.0]), window=(40 / 180, 60 / 180, 100, 80))
            self.assertLess(float((whole[:, :, 60:140, 40:140] - part).abs().max()), 2e-2)

    def test_every_thing_is_drawn_where_the_storyboard_says(self) -> None:
        for shape, name in enumerate(RICH.shapes):
            thing = scenes.coloured(Thing(shape, 0, 1, 4, 3, STILL), RICH)
            scene = Scene(5, things=[thing], camera=camera.ZOOM_IN)
            there = (render(scene, np.array([72.0])) - render(Scene(5, camera=camera.ZOOM_IN), np.array([72.0]))).abs().amax((0, 1)) > 0.1
            ys, xs = torch.nonzero(there, as_tuple=True)
            code = plans.states(RICH, scene, np.array([18]), "16:9")[0, 0]
            for got, level in ((xs, code[2]), (ys, code[3])):
                middle = (float(got.min()) + float(got.max()) + 1) / 360
                self.assertAlmostEqual(middle, level / BINS - ORIGIN, delta=0.09, msg=name)

    def test_sprites(self) -> None:
        self.assertEqual(len(THINGS), 24)
        self.assertLess(sprites.ATLAS.stat().st_size, 400_000)
        self.assertIn("SIL OPEN FONT LICENSE", (sprites.ATLAS.parent / "sprites-OFL.txt").read_text())
        q = torch.linspace(-1.2, 1.2, 60)
        pictures = []
        for i in range(len(THINGS)):
            color, alpha = sprites.sample(i, q[None].expand(60, 60), q[:, None].expand(60, 60), 0.04)
            self.assertTrue(0.15 < float(alpha.mean()) < 0.8)
            self.assertLess(float(alpha[0].max()), 0.01)  # nothing reaches the edge
            pictures.append(color * alpha)
        apart = [float((a - b).abs().mean()) for i, a in enumerate(pictures) for b in pictures[:i]]
        self.assertGreater(min(apart), 0.03)

    def test_weather_repeats_with_the_latent_frames(self) -> None:
        for name, marks in MARKS.items():
            latents = marks.period / marks.speed * FPS / STRIDE
            self.assertAlmostEqual(latents, round(latents), places=6, msg=name)
            scene = Scene(1, weather=WEATHER.index(name))
            a, b, c = render(scene, np.array([3.0, 3.0 + STRIDE * round(latents), 5.0]))
            self.assertLess(float((a - b).abs().max()), 2e-3)
            self.assertGreater(float((a - c).abs().max()), 0.1)


class Relations(unittest.TestCase):
    def test_what_is_said_is_so(self) -> None:
        found: dict[str, int] = {}
        for scene in many(600, 8):
            if len(scene.things) < 2:
                continue
            width, height = canvas_units("16:9")
            a, b = (camera.seen(Scene(0, things=scene.things), k, np.arange(48.0), width, height) for k in range(2))
            for relation in scenes.relations(*scene.things[:2]):
                found[relation] = found.get(relation, 0) + 1
                if relation in ("left of", "right of"):
                    self.assertTrue((a.x < b.x).all() if relation == "left of" else (a.x > b.x).all())
                elif relation in ("above", "below"):
                    self.assertTrue((a.y < b.y).all() if relation == "above" else (a.y > b.y).all())
                elif relation == "in front of":
                    self.assertTrue((np.hypot(a.x - b.x, a.y - b.y) < a.radius + b.radius).all())
                else:
                    self.assertTrue((a.radius > b.radius).all() if relation == "bigger than" else (a.radius < b.radius).all())
        self.assertEqual(set(found), set(scenes.RELATIONS) - {"behind"})  # "behind" is "in front of", said the other way round

    def test_the_front_object_hides_the_other(self) -> None:
        front, back = Thing(1, 0, 2, 5, 3, STILL), Thing(1, 4, 2, 6, 3, STILL)
        x = int(camera.seen(Scene(5, things=[front]), 0, np.zeros(1), 16 / 9, 1.0).x[0] * 180)
        y = int(camera.seen(Scene(5, things=[front]), 0, np.zeros(1), 16 / 9, 1.0).y[0] * 180)
        pair = render(Scene(5, things=[front, back]), np.zeros(1))[0, :, y, x]
        self.assertGreater(float(pair[0]), float(pair[2]))  # red, not blue


class Sound(unittest.TestCase):
    def test_things_sound_when_they_land(self) -> None:
        for shape in (len(DRAWN), len(DRAWN) + THINGS.index("car")):
            thing = Thing(shape, 9, 1, 5, 1, BOUNCE, 1, 3)
            heard = onsets(sound.synthesise(Scene(0, things=[thing]), 0, 48_000))
            for hit in impacts(thing, 0.05, 1.9):
                self.assertLess(np.abs(heard - hit).min(), 0.012)

    def test_weather_and_moods(self) -> None:
        still = Thing(8, 9, 1, 5, 3, STILL)
        loud = {w: float(np.std(sound.synthesise(Scene(0, things=[still], weather=k), 24_000, 24_000))) for k, w in enumerate(WEATHER)}
        self.assertTrue(loud["rain"] > 0.01 and loud["wind"] > 0.01)
        self.assertEqual([loud[w] for w in ("none", "snow", "fog")], [0.0, 0.0, 0.0])
        happy, sad = (sound.synthesise(Scene(0, MUSIC.index(m), [still]), 24_000, 96_000) for m in ("happy", "sad"))
        self.assertGreater(len(onsets(happy, 0.1)), len(onsets(sad, 0.1)))

    def test_a_voice_says_the_name_or_nothing(self) -> None:
        scene = Scene(0, MUSIC.index("voice"), [Thing(8, 9, 1, 5, 3, STILL)])
        speech.spoken.cache_clear()
        with mock.patch.object(speech.shutil, "which", return_value=None):
            self.assertEqual(float(np.abs(sound.synthesise(scene, 0, 48_000)).max()), 0.0)
        speech.spoken.cache_clear()
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(speech.shutil, "which", return_value=None):
            path = Path(folder) / "said.npz"
            np.savez(path, cat=np.full(2400, 9000, np.int16))
            with mock.patch.dict("os.environ", {"BOREALIS_SPEECH": str(path)}):
                speech._recorded.cache_clear()
                self.assertGreater(float(np.abs(sound.synthesise(scene, 0, 48_000)).max()), 0.2)
        speech._recorded.cache_clear()
        speech.spoken.cache_clear()
        if not speech.available():
            self.skipTest("espeak-ng is not installed")
        said = sound.synthesise(scene, 0, 48_000)
        self.assertEqual(float(np.abs(said[: int(sound.VOICE_AT * 24_000)]).max()), 0.0)
        self.assertGreater(float(np.abs(said).max()), 0.2)
        self.assertEqual(sound.said(scene.things[0]), "cat")
        self.assertIn(sound.said(Thing(0, 4, 1, 5, 3, STILL)), speech.names())
        self.assertEqual(sound.said(Thing(0, 4, 1, 5, 3, STILL)), "blue ball")


class Camera(unittest.TestCase):
    def test_nothing_flies_past_a_moving_camera(self) -> None:
        for scene in many(300, 2):
            if scene.camera:
                self.assertTrue(all(t.motion in (STILL, BOUNCE, SPIN, scenes.SHAKE) for t in scene.things))

    def test_pans_land_on_bins_and_moves_end(self) -> None:
        frames = STRIDE * np.arange(60)
        for kind in (camera.PAN_RIGHT, camera.PAN_LEFT):
            bins = camera.view(kind, frames).shift * BINS
            self.assertTrue(np.allclose(bins, np.round(bins)))
        for kind in (camera.PAN_RIGHT, camera.ZOOM_IN, camera.ZOOM_OUT):
            v = camera.view(kind, np.array([144.0, 300.0]))
            self.assertEqual((v.shift[0], v.zoom[0]), (v.shift[1], v.zoom[1]))


if __name__ == "__main__":
    unittest.main()
