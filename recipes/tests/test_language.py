"""Words: paraphrases, captions that can be read back, words nobody knows, and the text tokenizer."""

from __future__ import annotations

import random
import string
import tempfile
import unittest
from pathlib import Path

from tokenizers import Tokenizer

from borealis_recipe import language, scenes
from borealis_recipe.heldout_rich import line, rich_prompts
from borealis_recipe.lexicon import RELATION_WORDS, lexicon
from borealis_recipe.parse import _phrases, _words, parse
from borealis_recipe.text_tokenizer import grow_tokenizer
from borealis_recipe.vocabulary import BACKGROUNDS, CAMERAS, MOTIONS, NARROW, RICH, WEATHER
from tests import MINI

# What a caption leaves unsaid: nothing, a normal speed, a thing's own colours.
UNSAID = {("music", 0), ("speeds", 1), ("colors", len(RICH.colors) - 1)}


def captions(n: int, seed: int = 0) -> list[tuple[scenes.Scene, str]]:
    r = random.Random(seed)
    out = []
    for _ in range(n):
        scene = scenes.random_scene(r, pairs=0.5, world=RICH)
        out.append((scene, language.caption(scene, r, world=RICH)))
    return out


class Words(unittest.TestCase):
    def test_five_ways_to_say_everything(self) -> None:
        words = lexicon(RICH)
        for table in ("backgrounds", "shapes", "colors", "motions", "speeds", "sizes", "music", "cameras", "weather"):
            for i, phrases in enumerate(getattr(words, table)):
                if (table, i) not in UNSAID:
                    self.assertGreaterEqual(len(set(phrases) - {""}), 5, f"{table} {i}: {phrases}")
        for name, phrases in RELATION_WORDS.items():
            self.assertGreaterEqual(len(set(phrases)), 5, name)
        for values, table in ((RICH.shapes, words.shapes), (RICH.colors, words.colors), (CAMERAS, words.cameras), (WEATHER, words.weather)):
            self.assertEqual(len(values), len(table))

    def test_no_phrase_means_two_things(self) -> None:
        words, seen = lexicon(RICH), {}
        for table in ("shapes", "colors", "motions", "sizes", "music", "cameras", "weather", "backgrounds"):
            for i, phrases in enumerate(getattr(words, table)):
                for phrase in set(phrases) - {""}:
                    self.assertEqual(seen.setdefault(phrase, (table, i)), (table, i), phrase)

    def test_captions_are_read_back(self) -> None:
        for scene, text in captions(400):
            said = parse(text)
            self.assertEqual(sorted(said.shapes), sorted(RICH.shapes[t.shape] for t in scene.things), text)
            if scene.picture is None:
                self.assertEqual(said.background, BACKGROUNDS[scene.background], text)
            self.assertIn(said.weather, (None, WEATHER[scene.weather]), text)
            self.assertIn(said.camera, (None, CAMERAS[scene.camera]), text)
            self.assertLessEqual(set(said.motions), {MOTIONS[t.motion] for t in scene.things}, text)
            if scene.weather:
                self.assertEqual(said.weather, WEATHER[scene.weather], text)
            if scene.camera:
                self.assertEqual(said.camera, CAMERAS[scene.camera], text)

    def test_unknown_words_change_nothing(self) -> None:
        r = random.Random(7)
        known = {w for phrase in _phrases() for w in phrase}
        for _, text in captions(200, 1):
            noise = []
            while len(noise) < 6:
                word = "".join(r.choices(string.ascii_lowercase, k=r.randrange(1, 12)))
                if word not in known:
                    noise.append(word)
            cut = r.randrange(7)
            around = " ".join(noise[:cut]) + r.choice((" ", ", ", ": ")) + text + r.choice((" ", ", ", ". ")) + " ".join(noise[cut:])
            self.assertEqual(parse(around), parse(text), around)
        for filler in language.FILLER_BEFORE + language.FILLER_AFTER:
            self.assertEqual(parse(filler), parse(""), filler)

    def test_edits_change_what_they_say(self) -> None:
        r = random.Random(3)
        for scene, _ in captions(300, 2):
            new, text = language.edit(scene, r, RICH)
            self.assertNotEqual(new, scene, text)
            self.assertLessEqual(len(new.things), RICH.objects)
            self.assertNotRegex(text, r"\ba [aeiou]")


class Tokens(unittest.TestCase):
    def test_grown_tokenizer(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            old = Tokenizer.from_file(str(MINI / "tokenizer.json"))
            new = grow_tokenizer(MINI / "tokenizer.json", Path(folder) / "tokenizer.json", RICH, scenes=2_000)
        self.assertEqual(new.get_vocab_size(), RICH.text_ids)
        r = random.Random(11)
        for _ in range(300):
            scene = scenes.random_scene(r, pairs=0.3, world=NARROW)
            text = language.caption(scene, r)
            self.assertEqual(new.encode(text).ids, old.encode(text).ids, text)
        before = after = 0
        for _, text in captions(200, 4):
            ids = new.encode(text).ids
            self.assertEqual(new.decode(ids).strip(), text.strip())
            before, after = before + len(old.encode(text).ids), after + len(ids)
        self.assertLess(after, 0.8 * before)
        strange = "Ein blaues Schnabeltier, 東京 🎉 \x00"
        self.assertEqual(new.decode(new.encode(strange).ids).strip(), strange)


class HeldOut(unittest.TestCase):
    def test_prompts_ask_for_everything(self) -> None:
        prompts = rich_prompts(240)
        lines = (Path(__file__).parents[1] / "heldout_rich.txt").read_text().splitlines()
        self.assertEqual(lines[1:], [line(p) for p in prompts])
        self.assertGreaterEqual(len({p.text for p in prompts}), 200)
        self.assertEqual({p.scene.camera for p in prompts}, set(range(len(CAMERAS))))
        self.assertEqual({p.scene.weather for p in prompts}, set(range(len(WEATHER))))
        self.assertEqual({len(p.scene.things) for p in prompts}, {1, 2, 3})
        self.assertEqual({t.shape for p in prompts for t in p.scene.things}, set(range(len(RICH.shapes))))
        unseen = [any(scenes.held_out(t, p.scene.background) for t in p.scene.things) for p in prompts]
        self.assertEqual(sum(unseen), 120)
        self.assertTrue(all(_words(p.text) for p in prompts))


if __name__ == "__main__":
    unittest.main()
