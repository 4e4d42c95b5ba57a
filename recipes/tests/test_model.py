"""Layouts, growing, batches and losses of both worlds, on tiny models."""

from __future__ import annotations

import json
import random
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from borealis_recipe import checkpoint, plans, scenes, video_tokenizer
from borealis_recipe.batches import collate, make_sample
from borealis_recipe.generate import Generator, Options
from borealis_recipe.grow import grow, kept_rows
from borealis_recipe.language import edit
from borealis_recipe.layout import LAYOUTS, RADIUS_CODE
from borealis_recipe.model import Borealis, ModelConfig
from borealis_recipe.records import Record
from borealis_recipe.training import losses, total
from borealis_recipe.vocabulary import RICH
from tests import MINI

OLD, NEW = LAYOUTS["narrow"], LAYOUTS["rich"]
TINY = ModelConfig(
    hidden_size=32, embedding_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=16, world="rich",
)  # fmt: skip


def record(r: random.Random, kind: str) -> Record:
    """A record of random codes; what they show does not matter here."""
    n = 1 if "image" in kind else 3 if kind == "edit_video" else 6
    video = torch.randint(0, 8, (n, 9, 16, 9), dtype=torch.uint8)
    audio = None if "image" in kind else torch.randint(0, 512, (n, 4, 3)).to(torch.int16)
    scene = scenes.random_scene(r, pairs=0.6, world=RICH)
    out = Record(kind, "16:9", scene, 0, video, audio)
    if kind.startswith("edit"):
        out.edited, out.instruction = edit(scene, r, RICH)
        out.edited_video, out.edited_audio = video.clone(), audio
    return out


class Growth(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.model, cls.tokenizer, _, _ = checkpoint.read(MINI)
        cls.folder = tempfile.TemporaryDirectory()
        path = Path(cls.folder.name) / "tokenizer.json"
        # As many ids as the rich world has, without the minutes of merging them: only the old ones are used here.
        data = json.loads((MINI / "tokenizer.json").read_text())
        vocabulary = data["model"]["vocab"]
        vocabulary.update({f"\u0120word{i}": i for i in range(len(vocabulary), RICH.text_ids)})
        path.write_text(json.dumps(data))
        cls.path, cls.grown = path, grow(cls.model, cls.tokenizer, NEW, Tokenizer.from_file(str(path)), steps=4)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_rows_are_kept_by_meaning(self) -> None:
        rows = kept_rows(OLD, NEW)
        self.assertEqual(len(rows), NEW.vocab_size)
        self.assertEqual(sorted(r for r in rows if r >= 0), list(range(OLD.vocab_size)))
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            old, new = self.model.state_dict()[name], self.grown.state_dict()[name]
            at = [i for i, r in enumerate(rows) if r >= 0]
            self.assertTrue(torch.equal(new[at], old[[rows[i] for i in at]]))

    def test_rows_of_blocks_read_what_they_read(self) -> None:
        """Features, storyboard and scene condition of a narrow scene come to the same sums."""
        r = random.Random(2)
        for _ in range(8):
            scene = scenes.random_scene(r, pairs=0.5)
            outs = []
            for model, at in ((self.model, OLD), (self.grown, NEW)):
                state = torch.tensor(plans.states(at.world, scene, np.array([5]), "16:9"))
                read = model.model.in_features(at.video_features("16:9", torch.tensor([5]), state))
                ids = torch.tensor(plans.scene_ids(at.world, scene))
                outs.append((read, model.code_rows("state", state), model.scene_rows(ids)))
            for a, b in zip(*outs):
                self.assertTrue(torch.allclose(a, b, atol=1e-5))

    def test_plans_stay_the_same_and_new_fields_say_none(self) -> None:
        for seed, text in enumerate(("a red ball bouncing in the desert", "two things: a blue star and a green box at night, happy music")):
            same = [
                Generator(m, t, Options(seed=seed)).generate("text_to_video", text, 1)
                for m, t in ((self.model, self.tokenizer), (self.grown, Tokenizer.from_file(str(self.path))))
            ]
            old, new = (plans.scene_from_ids(m.layout.world, clip.scene) for m, clip in zip((self.model, self.grown), same))
            self.assertEqual(old, new)

    def test_a_checkpoint_of_the_rich_world_is_read_back(self) -> None:
        torch.manual_seed(0)
        model = Borealis(TINY).eval()
        with tempfile.TemporaryDirectory() as folder:
            _, _, _, audio = checkpoint.read(MINI)
            checkpoint.export(Path(folder) / "c", model, self.path, video_tokenizer.VideoTokenizer(), audio, dtype=torch.float32)
            config = json.loads((Path(folder) / "c" / "config.json").read_text())
            again = checkpoint.read(Path(folder) / "c")[0]
        self.assertEqual(again.config, model.config)
        self.assertEqual(config["row_features"]["size"], NEW.features)
        self.assertEqual(config["media"]["position_offset"], -9)
        self.assertEqual(sum(s["size"] for s in config["segments"]), config["vocab_size"])
        for key, value in model.state_dict().items():
            self.assertTrue(torch.equal(value, again.state_dict()[key]), key)


class Learning(unittest.TestCase):
    def test_every_mode_learns(self) -> None:
        tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
        r = random.Random(1)
        torch.manual_seed(1)
        model = Borealis(TINY).train()
        kinds = {"text_to_image": "image", "edit_image": "edit_image", "edit_video": "edit_video", "reference": "image"}
        for mode in ("text_to_image", "text_to_video", "image_to_video", "extend", "edit_image", "edit_video", "reference"):
            records = [record(r, kinds.get(mode, "clip")) for _ in range(3)]
            batch = collate([make_sample(x, mode, r, 2, 2, RICH) for x in records], tokenizer, r, 12, at=NEW, transitions=4)
            loss = total(losses(model, batch))
            model.zero_grad()
            loss.backward()
            self.assertTrue(torch.isfinite(loss), mode)
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            self.assertTrue(all(torch.isfinite(g).all() for g in grads), mode)

    def test_one_batch_can_be_learnt(self) -> None:
        tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
        r = random.Random(5)
        torch.manual_seed(5)
        model = Borealis(replace(TINY, hidden_size=64, head_dim=16)).train()
        records = [record(r, "clip") for _ in range(3)]
        batch = collate([make_sample(x, "text_to_video", r, 2, 2, RICH) for x in records], tokenizer, r, 6, at=NEW, transitions=4)
        adam, scores = torch.optim.Adam(model.parameters(), lr=0.01), []
        for _ in range(25):
            loss = total(losses(model, batch))
            adam.zero_grad()
            loss.backward()
            adam.step()
            scores.append(float(loss.detach()))
        self.assertLess(scores[-1], 0.6 * scores[0])

    def test_features_have_a_place_for_every_slot(self) -> None:
        owned = [c for s in range(RICH.slots) for part in NEW.feature_columns(s) for c in part]
        self.assertEqual(len(owned), len(set(owned)))
        self.assertEqual(max(owned) + 1, NEW.features)
        state = torch.tensor([[[60 + 30 * s, 80, 62 + 30 * s, 80, 10, 0, 36, 16] for s in range(RICH.slots)]])
        full = NEW.video_features("16:9", torch.tensor([3]), state)
        for slot in range(RICH.slots):
            without = state.clone()
            without[0, slot] = torch.tensor(RICH.state_size) - 1
            changed = (NEW.video_features("16:9", torch.tensor([3]), without) != full).any(0).any(0)
            mine = {c for part in NEW.feature_columns(slot) for c in part}
            self.assertLessEqual(set(torch.nonzero(changed).flatten().tolist()), mine)
            self.assertGreater(int(changed.sum()), 0.8 * len(mine))
        self.assertEqual(RADIUS_CODE, 4)


if __name__ == "__main__":
    unittest.main()
