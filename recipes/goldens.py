#!/usr/bin/env python3
"""Goldens of open checkpoints: tiny configurations and what the stock classes of `transformers` compute with them (CPU, float32).

usage:  python recipes/goldens.py [--out tests/goldens] [name ...]

Writes for each name a folder with
  config.json, generation_config.json   as `save_pretrained` writes them
  golden.safetensors                    inputs and outputs
  golden.json                           the weights' recipe, versions, margins
No weights are stored: each number of a checkpoint is drawn by `draw` from seed, tensor name and index, here and in the Rust tests
(`tests/tests/common/weights.rs`), under the names and in the shapes that `save_pretrained` writes.
Needs torch, transformers 5.23, numpy, safetensors; no network.
"""

import argparse
import json
import math
import os
import re
import shutil
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import torch
import transformers as T
from safetensors import safe_open
from safetensors.torch import save_file

MASK = (1 << 64) - 1
MARGIN = 0.02  # least distance between the two best logits of a greedy step
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


# ---------------------------------------------------------------- weights


def fnv(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001B3 & MASK
    return h


def draw(seed, name, shape, centre, scale):
    """`centre + scale * u`, u uniform in [-0.5, 0.5): SplitMix64 of a counter that starts at seed xor FNV-1a of the name."""
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(seed ^ fnv(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / (1 << 24) - 0.5
    return torch.from_numpy((centre + scale * u).astype(np.float32).reshape(shape))


def spread(name, shape, gain):
    """Centre and standard deviation: every norm and bias is random, so that a forgotten term cannot pass."""
    norm = "norm" in name.lower()
    if name.endswith("running_var"):
        return 1.2, 0.1
    if name.endswith(("running_mean", "bias")) and "correction" not in name:
        return 0.0, 0.1
    if "correction_bias" in name:
        return 0.0, 0.15
    if name.endswith("weight") and norm and "conv" not in name:
        return 1.0, 0.2
    if re.search(r"(embed_tokens|embeddings|embedding)\.weight$", name) and "patch" not in name:
        return 0.0, 1.0
    return 0.0, gain / math.sqrt(max(math.prod(shape[1:]), 1))


FLOATS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f8_e4m3": torch.float8_e4m3fn}


def materialise(model, seed, gain, edit=None, dtype="f32"):
    """The model with drawn weights, as it is read back from the files; its folder and the recipe of its weights. `edit` changes the fields of config.json
    before it is read again (spellings of older programs); `dtype` is the type of the numbers in the file."""
    folder = tempfile.mkdtemp()
    model.float().eval().save_pretrained(folder)
    if edit:
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            config = json.load(f)
        edit(config)
        with open(path, "w") as f:
            json.dump(config, f, indent=1)
    tensors, recipe = {}, {}
    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
        for name in sorted(f.keys()):
            part = f.get_slice(name)
            if not str(part.get_dtype()).startswith("F"):
                continue
            shape = list(part.get_shape())
            centre, deviation = spread(name, shape, gain)
            recipe[name] = {"shape": shape, "centre": centre, "scale": deviation * math.sqrt(12.0)}
            tensors[name] = draw(seed, name, shape, centre, recipe[name]["scale"]).to(FLOATS[dtype]).contiguous()
            if dtype != "f32":
                recipe[name]["dtype"] = dtype
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    again = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if hasattr(again, "set_experts_implementation"):
        again.set_experts_implementation("eager")
    return again, folder, recipe


# ---------------------------------------------------------------- what is recorded


def generator(seed):
    g = torch.Generator()
    g.manual_seed(seed)
    return g


class Routers:
    """Weights and indices of every router during one call."""

    def __init__(self, model):
        self.rows, self.hooks = {}, []
        for name, module in model.named_modules():
            if type(module).__name__.endswith("Router"):
                self.hooks.append(module.register_forward_hook(lambda m, i, o, name=name: self.rows.update({name: o})))

    def tensors(self):
        for hook in self.hooks:
            hook.remove()
        out = {}
        for name, (_, weights, indices) in self.rows.items():
            out[f"router_weights.{name}"], out[f"router_indices.{name}"] = weights, indices
        return out


def margin(logits):
    best = torch.stack([x[0] for x in logits]).float().masked_fill(~torch.isfinite(torch.stack([x[0] for x in logits])), -1e30)
    best = best.topk(2, -1).values
    return float((best[:, 0] - best[:, 1]).min())


def greedy(model, ids, new, **kw):
    g = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                       return_dict_in_generate=True, output_logits=True, **kw)
    return g.sequences, torch.stack(g.logits, 1), margin(g.logits)


def language(model, seed, prompt=9, new=8, long=0):
    """Prefill, greedy decoding, a left-padded batch, and a text beyond the context of the rotary positions."""
    vocab = model.config.vocab_size
    ids = torch.randint(3, vocab, (1, prompt), generator=generator(seed + 1))
    routers = Routers(model)
    o = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    t = {"input_ids": ids, "logits": o.logits, **routers.tensors()}
    t |= {f"hidden.{i}": h for i, h in enumerate(o.hidden_states)}
    t["generated_ids"], t["generated_logits"], least = greedy(model, ids, new, pad_token_id=0)
    pad = 3
    two = torch.cat([ids, torch.cat([torch.zeros(1, pad, dtype=torch.long), ids[:, pad:]], 1)])
    mask = torch.ones_like(two)
    mask[1, :pad] = 0
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    o = model(input_ids=two, attention_mask=mask, position_ids=places, use_cache=False)
    t |= {"batch.input_ids": two, "batch.attention_mask": mask, "batch.position_ids": places, "batch.logits_last": o.logits[:, -1]}
    if long:
        ids = torch.randint(3, vocab, (1, long), generator=generator(seed + 2))
        t["long.input_ids"], t["long.logits_last8"] = ids, model(input_ids=ids, use_cache=False).logits[:, -8:]
    return t, least


def record(out, name, build, run, gain=1.0, shards=1, make=materialise, **kw):
    """Tries seeds until no greedy step is a near tie, then writes the folder. `kw`: see `materialise`."""
    for seed in range(1, 60):
        torch.manual_seed(0)
        model, folder, recipe = make(build(), seed, gain, **kw)
        with torch.no_grad():
            tensors, least = run(model, seed)
        if least > MARGIN:
            break
        shutil.rmtree(folder)
    target = os.path.join(out, name)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    for file in ("config.json", "generation_config.json"):
        if os.path.exists(os.path.join(folder, file)):
            shutil.copy(os.path.join(folder, file), target)
    shutil.rmtree(folder)
    tensors = {k: v.detach().contiguous().float() if v.is_floating_point() else v.detach().contiguous().long() for k, v in tensors.items()}
    assert all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point()), name
    save_file({k: v.clone() for k, v in tensors.items()}, os.path.join(target, "golden.safetensors"))
    meta = {"name": name, "reference": f"transformers {T.__version__}, torch {torch.__version__.split('+')[0]}", "min_greedy_margin": least,
            "weights": {"seed": seed, "shards": shards, "tensors": recipe}}
    with open(os.path.join(target, "golden.json"), "w") as f:
        json.dump(meta, f, separators=(",", ":"))
    size = sum(os.path.getsize(os.path.join(target, f)) for f in os.listdir(target))
    print(f"{name:24s} seed {seed:2d}  margin {least:.4f}  {size / 1e3:.0f} kB")


def rope(theta=10000.0, **scaling):
    return {"rope_theta": theta, "rope_type": scaling.pop("rope_type", "default"), **scaling}


# ---------------------------------------------------------------- language models


@case
def llama_biased(out):
    """Biases everywhere, tied embeddings, linear scaling."""
    config = T.LlamaConfig(vocab_size=150, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
                           attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=rope(rope_type="linear", factor=4.0))
    record(out, "llama_biased", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=40))


@case
def llama_scaled(out):
    config = T.LlamaConfig(vocab_size=130, hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=5, num_key_value_heads=1, head_dim=12,
                           rope_parameters=rope(5e5, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))
    record(out, "llama_scaled", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=70))


@case
def qwen3_yarn(out):
    config = T.Qwen3Config(vocab_size=140, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=20,
                           max_position_embeddings=256, rope_parameters=rope(1e6, rope_type="yarn", factor=4.0, original_max_position_embeddings=32))
    record(out, "qwen3_yarn", lambda: T.Qwen3ForCausalLM(config), lambda m, s: language(m, s, long=80), shards=3)


@case
def mixtral_sharded(out):
    config = T.MixtralConfig(vocab_size=120, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                             num_local_experts=5, num_experts_per_tok=3, rope_parameters=rope(1e5))
    record(out, "mixtral_sharded", lambda: T.MixtralForCausalLM(config), language, shards=4)


@case
def olmoe_normed(out):
    config = T.OlmoeConfig(vocab_size=120, hidden_size=48, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                           num_experts=9, num_experts_per_tok=3, norm_topk_prob=True, rope_parameters=rope())
    record(out, "olmoe_normed", lambda: T.OlmoeForCausalLM(config), language)


@case
def olmoe_clipped(out):
    config = T.OlmoeConfig(vocab_size=120, hidden_size=48, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                           num_experts=8, num_experts_per_tok=2, clip_qkv=1.3, rope_parameters=rope())
    record(out, "olmoe_clipped", lambda: T.OlmoeForCausalLM(config), language)


@case
def qwen3_moe_sparse(out):
    """Experts in every second layer, one of these dense, too; the chosen are not renormalised."""
    config = T.Qwen3MoeConfig(vocab_size=120, hidden_size=48, intermediate_size=64, moe_intermediate_size=24, num_hidden_layers=6, num_attention_heads=4,
                              num_key_value_heads=2, head_dim=16, num_experts=6, num_experts_per_tok=2, norm_topk_prob=False, decoder_sparse_step=2,
                              mlp_only_layers=[3], rope_parameters=rope(1e6))
    record(out, "qwen3_moe_sparse", lambda: T.Qwen3MoeForCausalLM(config), language)


def deepseek(**kw):
    return T.DeepseekV3Config(**{**dict(vocab_size=120, hidden_size=48, intermediate_size=64, moe_intermediate_size=24, num_hidden_layers=3, num_attention_heads=3,
                                        num_key_value_heads=3, n_routed_experts=12, num_experts_per_tok=3, first_k_dense_replace=1, kv_lora_rank=20,
                                        qk_rope_head_dim=12, qk_nope_head_dim=10, v_head_dim=14, num_mtp_layers=0), **kw})


@case
def deepseek_v3_plain(out):
    """Queries not compressed, one group, weights not renormalised, two shared experts, halves rotated, biases."""
    config = deepseek(q_lora_rank=None, n_group=1, topk_group=1, norm_topk_prob=False, n_shared_experts=2, rope_interleave=False, attention_bias=True,
                      routed_scaling_factor=1.5, rope_parameters=rope())
    record(out, "deepseek_v3_plain", lambda: T.DeepseekV3ForCausalLM(config), language)


@case
def deepseek_v3_groups(out):
    config = deepseek(q_lora_rank=28, n_group=3, topk_group=2, n_shared_experts=1,
                      rope_parameters=rope(rope_type="yarn", factor=6.0, mscale=0.7, mscale_all_dim=1.0, beta_fast=16, beta_slow=2, original_max_position_embeddings=32))
    record(out, "deepseek_v3_groups", lambda: T.DeepseekV3ForCausalLM(config), lambda m, s: language(m, s, long=90), shards=2)


# ---------------------------------------------------------------- families with pictures


def picture(seed, *shape):
    """A smooth picture in [-1, 1] with noise."""
    g = generator(seed)
    height, width = shape[-2:]
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None, :]
    flat = torch.zeros(math.prod(shape[:-2]), height, width)
    for i in range(flat.shape[0]):
        k = torch.rand(4, generator=g) * 6 + 1
        flat[i] = 0.6 * torch.sin(k[0] * y * 6 + k[1]) * torch.cos(k[2] * x * 6 + k[3])
    return (flat.view(shape) + 0.2 * torch.randn(shape, generator=g)).clamp(-1, 1)


def emu3_vocabulary(codes):
    names = [f"t{i}" for i in range(60)]
    names += ["<|endoftext|>", "<|extra_200|>", "<|extra_201|>", "<|extra_203|>", "<|extra_204|>", "<|image token|>", "<|image start|>", "<|image end|>"]
    names += [f"<|visual token {i:06d}|>" for i in range(codes)] + ["<image>"]
    return {name: i for i, name in enumerate(names)}


@case
def emu3(out):
    vocabulary = emu3_vocabulary(40)
    vq = T.Emu3VQVAEConfig(codebook_size=40, embed_dim=4, latent_channels=4, base_channels=32, channel_multiplier=[1, 1, 1], num_res_blocks=1,
                           attn_resolutions=[2], hidden_size=32, temporal_downsample_factor=4)
    text = T.Emu3TextConfig(vocab_size=len(vocabulary), hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
                            bos_token_id=vocabulary["<|extra_203|>"], eos_token_id=vocabulary["<|extra_204|>"], pad_token_id=vocabulary["<|endoftext|>"],
                            max_position_embeddings=256, rope_parameters=rope(1e6))
    config = T.Emu3Config(vq_config=vq.to_dict(), text_config=text.to_dict(), vocabulary_map=vocabulary)

    def run(model, seed):
        pixels, sizes = picture(seed, 1, 3, 16, 24), torch.tensor([[16, 24]])
        codes = model.model.get_image_tokens(pixels, sizes)
        v = vocabulary
        ids = torch.tensor([[v["<|extra_203|>"], 5, 9, v["<|image start|>"], 4, 6, v["<|image token|>"]] + [v["<image>"]] * codes.numel()
                            + [v["<|extra_201|>"], v["<|image end|>"], 17, 33]])
        full = ids.clone()
        full[full == v["<image>"]] = codes.long()
        o = model(input_ids=full, output_hidden_states=True, use_cache=False)
        t = {"und.pixels": pixels, "und.input_ids": ids, "und.image_bpe_tokens": codes, "und.input_ids_expanded": full, "und.logits": o.logits}
        t |= {f"und.hidden.{i}": h for i, h in enumerate(o.hidden_states)}
        t["und.generated_ids"], t["und.generated_logits"], least = greedy(model, full, 6)
        return t, least

    record(out, "emu3_small", lambda: T.Emu3ForConditionalGeneration(config), run, gain=1.2)


def chameleon(out, name, **kw):
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<racm3:break>": 4, "<eoss>": 5, "<reserved08706>": 6, "<image>": 7}
    vocabulary |= {"IMGIMG" + "".join(chr(ord("A") + int(c)) for c in str(i)) + "Z": 8 + i for i in range(48)}
    vocabulary |= {f"t{i}": 56 + i for i in range(30)}
    vq = T.ChameleonVQVAEConfig(embed_dim=6, num_embeddings=48, latent_channels=12, resolution=16, base_channels=32, channel_multiplier=[1, 1],
                                num_res_blocks=1, attn_resolutions=None)
    config = T.ChameleonConfig(**{**dict(vocab_size=len(vocabulary), hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                                         num_key_value_heads=4, max_position_embeddings=256, vq_config=vq.to_dict(), vocabulary_map=vocabulary,
                                         bos_token_id=0, eos_token_id=2, pad_token_id=1, rope_parameters=rope()), **kw})

    def run(model, seed):
        raw = []
        hook = model.lm_head.register_forward_hook(lambda m, i, o: raw.append(o.clone()))
        pixels = picture(seed, 1, 3, 16, 16)
        encoded = model.model.vqmodel.encode(pixels)
        codes = model.model.get_image_tokens(pixels)
        ids = torch.tensor([[0, 57, 61, 4] + [7] * codes.numel() + [5, 65, 58, 6]])
        full = ids.clone()
        full[full == 7] = codes.view(-1).long()
        raw.clear()
        o = model(input_ids=full, output_hidden_states=True, use_cache=False)
        t = {"pixels": pixels, "vq.latents": encoded.last_hidden_state, "vq.codes": encoded.image_tokens, "input_ids": ids, "input_ids_expanded": full,
             "image_bpe_tokens": codes, "logits_raw": raw[-1]}
        t |= {f"hidden.{i}": h for i, h in enumerate(o.hidden_states)}
        t["generated_ids"], _, least = greedy(model, full, 6)
        hook.remove()
        return t, least

    record(out, name, lambda: T.ChameleonForConditionalGeneration(config), run, gain=1.2)


@case
def chameleon_before(out):
    chameleon(out, "chameleon_before", attention_bias=True)


@case
def chameleon_after(out):
    chameleon(out, "chameleon_after", swin_norm=True, num_key_value_heads=2, mlp_bias=True)


@case
def janus(out):
    vision = T.JanusVisionConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, image_size=16, patch_size=4, mlp_ratio=2.0, projection_dim=40,
                                 depth=2, num_image_tokens=16)
    vq = T.JanusVQVAEConfig(embed_dim=6, num_embeddings=40, latent_channels=32, base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1,
                            projection_dim=40, image_token_embed_dim=40, num_hidden_layers=3)
    text = T.LlamaConfig(vocab_size=90, hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         bos_token_id=0, eos_token_id=1, pad_token_id=2, rope_parameters=rope())
    config = T.JanusConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), vq_config=vq.to_dict(), image_token_id=10, tie_word_embeddings=False)

    def run(model, seed):
        pixels = picture(seed, 1, 3, 16, 16)
        ids = torch.tensor([[0, 50, 51, 9] + [10] * 16 + [8, 60, 61]])
        o = model(input_ids=ids, pixel_values=pixels, use_cache=False)
        features = model.model.get_image_features(pixels)
        t = {"und.pixels": pixels, "und.input_ids": ids, "und.logits": o.logits, "und.image_features": getattr(features, "pooler_output", features)}
        t["und.generated_ids"], _, least = greedy(model, ids, 6, pixel_values=pixels, generation_mode="text", pad_token_id=2, bos_token_id=0)
        encoded = model.model.vqmodel.encode(picture(seed + 1, 1, 3, 8, 8))
        del encoded
        encoded = model.model.vqmodel.encode(pixels)
        t["vq.codes"], t["vq.latents"] = encoded.image_tokens, encoded.last_hidden_state
        side = math.isqrt(encoded.image_tokens.numel())
        ids = torch.tensor([[0, 50, 51, 52, 9]])
        setting = T.GenerationConfig(do_sample=False, guidance_scale=5.0, bos_token_id=0, eos_token_id=1, pad_token_id=2, max_length=64,
                                     generation_kwargs={"boi_token_id": 9})
        scores = []
        hook = model.model.generation_head.register_forward_hook(lambda m, i, o: scores.append(o.clone()))
        t["gen.input_ids"] = ids
        t["gen.image_ids"] = model.generate(inputs=ids, attention_mask=torch.ones_like(ids), generation_config=setting, generation_mode="image")
        hook.remove()
        t["gen.head_scores"] = torch.stack(scores, 1)
        for s in scores:
            c, u = torch.log_softmax(s[0], -1), torch.log_softmax(s[1], -1)
            best = (u + 5.0 * (c - u)).topk(2).values
            least = min(least, float(best[0] - best[1]))
        assert side * side == encoded.image_tokens.numel()
        return t, least

    record(out, "janus_small", lambda: T.JanusForConditionalGeneration(config), run, gain=1.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="tests/goldens")
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    for name in args.names or CASES:
        CASES[name](args.out)


if __name__ == "__main__":
    main()
