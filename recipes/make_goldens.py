"""Writes tests/goldens: a tiny random checkpoint and what this reference computes with it.

python make_goldens.py --audio FILE --tokenizer FILE --out ../tests/goldens
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from borealis_recipe import audio_codec, checkpoint, plans, scenes, video_tokenizer, world
from borealis_recipe.generate import Generator, Options, Source
from borealis_recipe.layout import LAYOUTS
from borealis_recipe.model import Borealis, ModelConfig
from borealis_recipe.render import render
from borealis_recipe.sampler import Sampling, gumbel, philox
from borealis_recipe.sound import synthesise
from borealis_recipe.vocabulary import NARROW

TINY = ModelConfig(
    hidden_size=32, embedding_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
)  # fmt: skip
AT = LAYOUTS["narrow"]
PROMPT = "a red ball bouncing on a green meadow"


def tiny_model(seed: int) -> Borealis:
    """Random weights, large enough that no decision is close to a tie; norms random too."""
    torch.manual_seed(seed)
    model = Borealis(TINY)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "copy_gate" in name:
                p.normal_(0, 0.4)
            elif "lm_head" in name or "embed_tokens" in name:
                p.normal_(0, 1.0)
            elif "mlp.gate.weight" in name:
                p.normal_(0, 0.5)
            elif "experts" not in name:
                p.normal_(0, 1.4 * p.shape[-1] ** -0.5)
    return model.eval()


def tiny_video(seed: int) -> video_tokenizer.VideoTokenizer:
    torch.manual_seed(seed)
    v = video_tokenizer.VideoTokenizer(video_tokenizer.VideoTokenizerConfig(channels=(8, 12, 16)))
    with torch.no_grad():
        for name, p in v.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "time" in name:
                p.normal_(0, 0.2)
    return v.eval()


class Recorder:
    """Hidden states after each layer and the experts chosen, of every forward."""

    def __init__(self, model: Borealis) -> None:
        self.hidden: list[list[Tensor]] = []
        self.routes: list[list[Tensor]] = []
        for i, layer in enumerate(model.model.layers):
            layer.register_forward_hook(lambda m, a, y, i=i: self.note(i, m, y))

    def note(self, i: int, layer, y: Tensor) -> None:
        if i == 0:
            self.hidden.append([])
            self.routes.append([])
        self.hidden[-1].append(y[0].detach())
        self.routes[-1].append(layer.mlp.chosen)


def absolute(modality: str, levels: Tensor) -> Tensor:
    return levels + torch.tensor([s for s, _ in AT.modalities[modality].codes])


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--audio", type=Path, required=True)
    a.add_argument("--tokenizer", type=Path, required=True)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--seed", type=int, default=11)
    o = a.parse_args()
    torch.set_num_threads(1)
    folder = o.out / "tiny-default"
    books = audio_codec.load(o.audio)
    books.codebooks = books.codebooks.half().float()
    checkpoint.export(folder, tiny_model(o.seed), o.tokenizer, tiny_video(o.seed), books, dtype=torch.float32)
    half = {"codebooks": books.codebooks.half(), "templates": books.templates}
    save_file(half, str(folder / "audio_tokenizer" / "model.safetensors"), metadata={"format": "pt"})
    model = Borealis(TINY)
    model.load_state_dict(load_file(str(folder / "model.safetensors")))
    model.eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    video = tiny_video(o.seed)
    t: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    cases: list[dict] = []

    def put(name: str, value: Tensor, note: str) -> None:
        t[name] = value.detach().contiguous()
        notes[name] = note

    # ---- tokenizers
    scene = scenes.random_scene(random.Random(4))
    x0 = float(world.track(scene.things[0], np.array([4.0]), *world.canvas_units("16:9")).x[0]) - 0.33
    clip = render(scene, np.arange(9), "16:9", 180, (x0, 0.4, 120, 80))
    pixels = (clip * 255).round().to(torch.uint8)
    put("video.input", pixels.permute(0, 2, 3, 1), "u8 [9 frames, 80, 120, rgb]; value / 255 enters the encoder")
    z, n = video.encode_z((pixels.float() / 255)[None])
    codes = video.encode((pixels.float() / 255)[None])[0]
    put("video.z", z, "f32 [3, 9, 4, 6] encoder output before the quantiser")
    put("video.codes", codes.to(torch.uint8), "u8 [3 latents, 4, 6, 9 digits]")
    planes = video.trunk(codes.permute(0, 3, 1, 2).float(), 3)
    put("video.logits", planes[0][1], "f32 [4*K, 32, 48] decoder logit planes of latent 1 after the pixel shuffle; channel = frame * K + layer")
    put("video.colors", planes[1][1], "f32 [4*K*3, 16, 24] colour planes of latent 1; channel = (frame * K + layer) * 3 + rgb")
    put("video.decoded", video.decode(codes)[[0, 8]], "f32 [2, 3, 80, 120]: frames 0 and 8 painted at scale 1, clamped to 0..1")
    put(
        "video.decoded_x4",
        video.decode(codes, 4)[5][:, 100:164, 200:296],
        "f32 [3, 64, 96]: frame 5 painted at scale 4, rows 100..164, columns 200..296",
    )
    loud = next(s for s in (scenes.random_scene(random.Random(k)) for k in range(99)) if s.things[0].motion == world.BOUNCE and s.music == 1)
    sound = torch.tensor(synthesise(loud, 24_000, 12_000))
    put("audio.input", sound, "f32 [12000] samples at 24 kHz")
    put("audio.power", audio_codec.pooled_power(sound), "f32 [48, bands] pooled power per sub-frame")
    put("audio.vectors", books.vectors(sound), "f32 [12, 384] square roots of the fitted gains")
    put("audio.codes", books.encode(sound).to(torch.int32), "i32 [12, 3] levels of the three books")
    put("audio.decoded", books.decode(books.encode(sound), -3000), "f32 [12000]; the first sample has index -3000 on the clip's clock")
    put(
        "audio.noise",
        torch.tensor(audio_codec.noise_table()[[0, 5, 11], :256], dtype=torch.float32),
        "f32 [3, 256]: bands 0, 5, 11, samples 0..256 of the noise table",
    )

    # ---- sampler
    counter = np.array([[0, 0, 0, 0], [1, 2, 3, 4], [77, 35, 127, 18]], np.uint32)
    words = np.concatenate([philox(counter[i : i + 1], (0x12345678, 0x9ABCDEF0)) for i in range(3)])
    put(
        "sampler.words",
        torch.tensor(words.astype(np.int64)),
        "i64 [3, 4] Philox words of the counters [0,0,0,0], [1,2,3,4], [77,35,127,18]; key (0x12345678, 0x9abcdef0)",
    )
    put("sampler.gumbel", torch.tensor(gumbel(42, 7, 3, 13, 2)), "f64 [13] noise of ids 0..13: seed 42, position 7, code 3, stream 2")

    # ---- features
    state = torch.tensor(plans.states(NARROW, loud, np.array([0, 5]), "3:4"))
    put("features.state", state.to(torch.int32), "i32 [2, 2, 8] state levels")
    put(
        "features.video",
        AT.video_features("3:4", torch.tensor([0, 5]), state),
        "f32 [2, 30, 596] video row features on 3:4 of latent frames 0 and 5 with those states",
    )
    put("features.audio", AT.time_features(torch.tensor([0, 5])), "f32 [2, 596] audio row features of latent frames 0 and 5")

    # ---- transformer: one prompt in detail
    record = Recorder(model)
    text = AT.prompt_ids(tokenizer, "text_to_video", "16:9", PROMPT)
    greedy = Generator(model, tokenizer, Options(seed=1)).generate("text_to_video", PROMPT, 3)
    put(
        "t2v.prompt_ids",
        torch.tensor(text, dtype=torch.int32),
        "i32: mode, aspect, <text>, text ids, <scene>; the 20 scene ids and <media> follow. Position p of id k is k - (len + 21)",
    )
    for i in range(TINY.num_hidden_layers):
        put(f"t2v.prefix.layer{i}", record.hidden[0][i], f"f32: hidden states of the prompt rows after layer {i}")
        put(f"t2v.prefix.experts{i}", record.routes[0][i].to(torch.int32), f"i32 [rows, 2]: experts chosen in layer {i}, best first")
        block = -3  # the last three forwards are the three blocks
        put(f"t2v.block0.layer{i}", record.hidden[block][i], f"f32 [42, 32]: rows of block 0 (state, 40 video, audio) after layer {i}")
        put(f"t2v.block0.experts{i}", record.routes[block][i].to(torch.int32), f"i32 [42, 2]: experts of block 0 in layer {i}")
    put("t2v.block0.hidden", greedy.trace["hidden"], "f32 [42, 32]: rows of block 0 after the final norm")
    put("t2v.block0.video_logits", torch.stack(greedy.trace["video_logits"], 2), "f32 [40, 4 slots, 9 digits, 8 levels]")
    put("t2v.block0.audio_logits", torch.stack(greedy.trace["audio_logits"], 2), "f32 [1, 4 slots, 3 books, 512]")

    def keep(name: str, result, case: dict) -> None:
        scene_ids = torch.tensor(result.scene) + AT.scene_start
        put(f"{name}.scene", scene_ids.to(torch.int32), "i32 [20]: scene ids in the one vocabulary")
        for m, value in (("state", result.states), ("video", result.video), ("audio", result.audio)):
            put(f"{name}.{m}", absolute(m, value).to(torch.int16), f"i16 ids in the one vocabulary: {m} [latents, (rows,) slots, codes]")
        cases.append({"name": name} | case)

    keep("t2v", greedy, {"mode": "text_to_video", "prompt": PROMPT, "aspect": "16:9", "latents": 3, "seed": 1, "temperature": 0})
    warm = Sampling(0.9, 0, 0.95)
    options = Options(Sampling(0.8), Sampling(0.7, 20), warm, Sampling(1.0, 50), seed=0x1_0000_0007)
    result = Generator(model, tokenizer, options).generate("text_to_video", PROMPT, 2, "1:1")
    keep("sampled", result, {
        "mode": "text_to_video", "prompt": PROMPT, "aspect": "1:1", "latents": 2, "seed": 0x1_0000_0007,
        "sampling": {"text": {"temperature": 0.8}, "state": {"temperature": 0.7, "top_k": 20},
                     "video": {"temperature": 0.9, "top_p": 0.95}, "audio": {"temperature": 1.0, "top_k": 50}},
    })  # fmt: skip
    g = torch.Generator().manual_seed(5)
    picture = torch.randint(0, 8, (1, 40, 4, 9), generator=g)
    noise = torch.randint(0, 512, (3, 4, 3), generator=g)
    film = torch.randint(0, 8, (3, 40, 4, 9), generator=g)
    put("source.picture", picture.to(torch.uint8), "u8 [1, 40, 4, 9]: levels of the source picture of i2v and edit_image")
    put("source.film", film.to(torch.uint8), "u8 [3, 40, 4, 9]: levels of the source clip of extend and edit_video")
    put("source.sound", noise.to(torch.int32), "i32 [3, 4, 3]: its audio levels")
    after = "<video>: the last 2 latents of the film, latent indices 10 and 11; generation starts at 12"
    pair = (Source("<image_0>", picture), Source("<image_1>", picture.flip(0, 1)))
    runs = (
        ("i2v", "image_to_video", (Source("<image_0>", picture),), 2, "<image_0>, latent 0"),
        ("edit_image", "edit_image", (Source("<image_0>", picture),), 1, "<image_0>, latent 0"),
        ("edit_video", "edit_video", (Source("<video>", film, noise),), 3, "<video>, latents 0..3"),
        ("extend", "extend", (Source("<video>", film[1:], noise[1:], first=10),), 2, after),
        ("reference", "reference", pair, 1, "<image_0> = the picture, <image_1> = its rows in reverse order"),
    )  # fmt: skip
    for name, mode, sources, latents, note in runs:
        prompt = "<IMAGE_0> next to the star of <IMAGE_1> in a desert" if name == "reference" else PROMPT
        put(
            f"{name}.prompt_ids",
            torch.tensor(AT.prompt_ids(tokenizer, mode, "16:9", prompt), dtype=torch.int32),
            "i32: as t2v.prompt_ids, without the sources before it",
        )
        result = Generator(model, tokenizer, Options(seed=3)).generate(mode, prompt, latents, sources=sources)
        keep(name, result, {"mode": mode, "prompt": prompt, "aspect": "16:9", "latents": latents, "seed": 3, "temperature": 0, "sources": note})

    # ---- no decision may hang on rounding: the same ids in f64
    torch.set_default_dtype(torch.float64)
    exact = model.double()
    for case in cases:
        source = next((r[2] for r in runs if r[0] == case["name"]), ())
        opts = options if case["name"] == "sampled" else Options(seed=case["seed"])
        again = Generator(exact, tokenizer, opts).generate(case["mode"], case["prompt"], case["latents"], case["aspect"], source)
        decided = (("state", again.states), ("video", again.video), ("audio", again.audio))
        same = all(torch.equal(absolute(m, v).to(torch.int16), t[f"{case['name']}.{m}"]) for m, v in decided)
        print(case["name"], "same ids in f64:", same)
    torch.set_default_dtype(torch.float32)
    save_file(t, str(o.out / "golden.safetensors"))
    about = {
        "about": "What recipes/make_goldens.py computes with tiny-default/. Ids and codes must be equal, floats within 1e-4 + 1e-3 relative.",
        "seed": o.seed, "cases": cases, "tensors": notes,
    }  # fmt: skip
    for path in o.out.rglob("*.safetensors"):
        path.chmod(0o644)
    (o.out / "golden.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
