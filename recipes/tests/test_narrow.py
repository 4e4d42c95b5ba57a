"""The narrow world is a special case of the same code: pictures, sounds, words and ids of `models/borealis-mini` stay what they were."""

from __future__ import annotations

import hashlib
import json
import random
import unittest

import numpy as np
import torch

from borealis_recipe import checkpoint, heldout, language, plans, render, scenes, sound
from borealis_recipe.layout import LAYOUTS, of_vocabulary
from borealis_recipe.model import Borealis
from borealis_recipe.vocabulary import NARROW
from borealis_recipe.world import CANVAS
from tests import MINI


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class Narrow(unittest.TestCase):
    def test_words(self) -> None:
        said = "\n".join(text for _, text in heldout.prompts(60))
        self.assertEqual(digest(said.encode()), "d19337912b27e3f1")
        r, lines = random.Random(3), []
        for _ in range(300):
            scene = scenes.random_scene(r, pairs=0.4)
            lines += [language.caption(scene, r), language.edit(scene, r)[1], str(plans.scene_ids(NARROW, scene))]
        self.assertEqual(digest("\n".join(lines).encode()), "84f121c35cdc67ec")

    def test_storyboard_pictures_and_sound(self) -> None:
        r = random.Random(4)
        states, frames, samples = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        for aspect in CANVAS:
            scene = scenes.random_scene(r, pairs=0.6)
            states.update(plans.states(NARROW, scene, np.arange(0, 30, 5), aspect).tobytes())
            picture = render.render(scene, np.array([0.0, 7.0, 13.5]), aspect)
            frames.update((picture * 255).round().to(torch.uint8).numpy().tobytes())
            heard = sound.synthesise(scene, 500, 6000, aspect)
            samples.update((heard * 1e4).round().astype(np.int32).tobytes())
        got = [h.hexdigest()[:16] for h in (states, frames, samples)]
        self.assertEqual(got, ["fc35ce3ad99891ed", "13429ffb5072488c", "7855b06ab091f741"])

    def test_configuration(self) -> None:
        """What this code would declare is what the shipped checkpoint declares."""
        shipped = json.loads((MINI / "config.json").read_text())
        self.assertEqual(json.loads(json.dumps(checkpoint.model_config(Borealis()))), shipped)
        self.assertIs(of_vocabulary(shipped["vocab_size"]), LAYOUTS["narrow"])
        with self.assertRaisesRegex(ValueError, "vocab_size 17 is of no known world"):
            of_vocabulary(17)
