#!/usr/bin/env python3
"""Goldens of configurations that are spelt, sized or switched unlike those of `goldens.py`, by its rules.

usage:  python recipes/goldens_strange.py [--out tests/goldens] [name ...]

`KEPT` are those that the repository stores: each shows what nothing else shows. The others are for trying, and passed as well.
"""

import json
import math
import os
import sys
import tempfile

import torch
import transformers as T
from safetensors.torch import load_file, save_file

import goldens
from goldens import CASES, deepseek, draw, language, record, rope, spread

CASES.clear()
KEPT = []


def strange(kept=False):
    def add(make):
        CASES[make.__name__] = make
        if kept:
            KEPT.append(make.__name__)
        return make

    return add


def old(config, theta="top", kind="type", dtype="torch_dtype"):
    """The spelling of transformers before 5: `rope_theta`, `rope_scaling`, `torch_dtype`."""
    for c in [config, *(v for v in config.values() if isinstance(v, dict) and "rope_parameters" in v)]:
        if "rope_parameters" in c:
            parameters = c.pop("rope_parameters")
            c["rope_theta"] = parameters.pop("rope_theta")
            if parameters.get("rope_type", "default") != "default":
                parameters[kind] = parameters.pop("rope_type")
                c["rope_scaling"] = parameters
            else:
                c["rope_scaling"] = None
        if "dtype" in c:
            c[dtype] = c.pop("dtype")


def llama(**kw):
    return T.LlamaConfig(
        **{
            **dict(
                vocab_size=101,
                hidden_size=48,
                intermediate_size=72,
                num_hidden_layers=2,
                num_attention_heads=6,
                num_key_value_heads=2,
                max_position_embeddings=128,
                rope_parameters=rope(),
            ),
            **kw,
        }
    )


@strange()
def llama_old_linear(out):
    config = llama(
        num_attention_heads=3, num_key_value_heads=3, head_dim=14, rope_parameters=rope(2e4, rope_type="linear", factor=2.5), tie_word_embeddings=True
    )
    record(out, "llama_old_linear", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=40), edit=old)


@strange()
def llama_old_llama3(out):
    config = llama(
        rope_parameters=rope(3e4, rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0, original_max_position_embeddings=16)
    )
    record(
        out,
        "llama_old_llama3",
        lambda: T.LlamaForCausalLM(config),
        lambda m, s: language(m, s, long=70),
        edit=lambda c: old(c, kind="rope_type"),
        dtype="bf16",
    )


@strange()
def llama_bare(out):
    """No rotary fields at all, one head, f16 numbers, no max_position_embeddings."""
    config = llama(num_attention_heads=1, num_key_value_heads=1, hidden_size=24, num_hidden_layers=1)

    def edit(c):
        for key in (
            "rope_parameters",
            "max_position_embeddings",
            "num_key_value_heads",
            "head_dim",
            "rms_norm_eps",
            "hidden_act",
            "tie_word_embeddings",
            "attention_bias",
            "mlp_bias",
        ):
            c.pop(key, None)

    record(out, "llama_bare", lambda: T.LlamaForCausalLM(config), language, edit=edit, dtype="f16")


@strange()
def llama_yarn_plain(out):
    """YaRN without a context: that of max_position_embeddings; attention_factor given."""
    config = llama(
        max_position_embeddings=64, rope_parameters=rope(1e4, rope_type="yarn", factor=3.0, attention_factor=0.8, beta_fast=8.0, beta_slow=0.5)
    )
    record(out, "llama_yarn_plain", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=70))


@strange()
def llama_yarn_untruncated(out):
    config = llama(
        max_position_embeddings=64,
        head_dim=10,
        rope_parameters=rope(5e4, rope_type="yarn", factor=6.0, truncate=False, original_max_position_embeddings=24, mscale=0.5, mscale_all_dim=0.8),
    )
    record(out, "llama_yarn_untruncated", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=70), shards=5)


@strange()
def qwen3_tied(out):
    config = T.Qwen3Config(
        vocab_size=99,
        hidden_size=36,
        intermediate_size=52,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=10,
        tie_word_embeddings=True,
        attention_bias=True,
        rms_norm_eps=1e-4,
        sliding_window=None,
        max_window_layers=1,
        rope_parameters=rope(123456.0),
    )
    record(out, "qwen3_tied", lambda: T.Qwen3ForCausalLM(config), language, edit=old, dtype="bf16", shards=2)


@strange()
def qwen3_layers(out):
    """Fields without a value."""
    config = T.Qwen3Config(
        vocab_size=99,
        hidden_size=36,
        intermediate_size=52,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=6,
        rope_parameters=rope(1e6),
    )

    def edit(c):
        for key in ("layer_types", "sliding_window", "rope_scaling", "bos_token_id", "eos_token_id", "pad_token_id"):
            c[key] = None
        c["_name_or_path"] = "somewhere"
        c["use_sliding_window"] = False

    record(out, "qwen3_layers", lambda: T.Qwen3ForCausalLM(config), language, edit=edit)


@strange()
def mixtral_tied(out):
    config = T.MixtralConfig(
        vocab_size=77,
        hidden_size=30,
        intermediate_size=34,
        num_hidden_layers=3,
        num_attention_heads=5,
        num_key_value_heads=1,
        head_dim=8,
        num_local_experts=3,
        num_experts_per_tok=1,
        tie_word_embeddings=True,
        rms_norm_eps=1e-3,
        rope_parameters=rope(3e5),
    )
    record(out, "mixtral_tied", lambda: T.MixtralForCausalLM(config), language, edit=old, dtype="f16")


@strange()
def mixtral_all(out):
    """As many experts chosen as there are."""
    config = T.MixtralConfig(
        vocab_size=77,
        hidden_size=30,
        intermediate_size=34,
        num_hidden_layers=1,
        num_attention_heads=3,
        num_key_value_heads=3,
        num_local_experts=2,
        num_experts_per_tok=2,
        rope_parameters=rope(1e6, rope_type="linear", factor=2.0),
    )
    record(out, "mixtral_all", lambda: T.MixtralForCausalLM(config), language, shards=7)


@strange(kept=True)
def olmoe_plain(out):
    config = T.OlmoeConfig(
        vocab_size=88,
        hidden_size=42,
        intermediate_size=18,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        num_experts=5,
        num_experts_per_tok=5,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(5e3, rope_type="linear", factor=3.0),
    )
    record(out, "olmoe_plain", lambda: T.OlmoeForCausalLM(config), language, edit=old)


@strange(kept=True)
def qwen3_moe_dense(out):
    """All layers dense but the last."""
    config = T.Qwen3MoeConfig(
        vocab_size=90,
        hidden_size=32,
        intermediate_size=44,
        moe_intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=12,
        num_experts=7,
        num_experts_per_tok=3,
        norm_topk_prob=True,
        decoder_sparse_step=3,
        attention_bias=True,
        tie_word_embeddings=True,
        rope_parameters=rope(1e5, rope_type="yarn", factor=2.0, original_max_position_embeddings=32),
        max_position_embeddings=64,
    )
    record(out, "qwen3_moe_dense", lambda: T.Qwen3MoeForCausalLM(config), lambda m, s: language(m, s, long=60), edit=old, dtype="bf16", shards=3)


@strange()
def qwen3_moe_headless(out):
    """No head_dim: the width over the heads."""
    config = T.Qwen3MoeConfig(
        vocab_size=90,
        hidden_size=32,
        intermediate_size=44,
        moe_intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=4,
        num_experts_per_tok=2,
        mlp_only_layers=[0, 9],
        rope_parameters=rope(),
    )

    def edit(c):
        c.pop("head_dim", None)
        c["num_experts"] = c.pop("num_local_experts", c.get("num_experts"))
        old(c)

    record(out, "qwen3_moe_headless", lambda: T.Qwen3MoeForCausalLM(config), language, edit=edit)


@strange()
def deepseek_v3_odd(out):
    config = deepseek(
        num_hidden_layers=4,
        first_k_dense_replace=2,
        num_attention_heads=5,
        num_key_value_heads=5,
        n_routed_experts=8,
        n_group=4,
        topk_group=3,
        num_experts_per_tok=5,
        q_lora_rank=18,
        n_shared_experts=3,
        tie_word_embeddings=True,
        attention_bias=True,
        rope_parameters=rope(2e4, rope_type="linear", factor=2.0),
    )
    record(out, "deepseek_v3_odd", lambda: T.DeepseekV3ForCausalLM(config), lambda m, s: language(m, s, long=50), edit=lambda c: old(c), shards=4)


@strange(kept=True)
def deepseek_v3_routed(out):
    """Every layer routed, YaRN without mscale, halves rotated, one layer for predicting ahead that is not there."""
    config = deepseek(
        num_hidden_layers=2,
        first_k_dense_replace=0,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        q_lora_rank=None,
        qk_rope_head_dim=6,
        v_head_dim=5,
        max_position_embeddings=200,
        rope_parameters=rope(1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=50, beta_fast=32, beta_slow=1),
    )

    def edit(c):
        old(c)
        c["num_nextn_predict_layers"] = 1
        c["topk_method"], c["scoring_func"], c["moe_layer_freq"], c["aux_loss_alpha"] = "noaux_tc", "sigmoid", 1, 0.001

    record(out, "deepseek_v3_routed", lambda: T.DeepseekV3ForCausalLM(config), lambda m, s: language(m, s, long=100), edit=edit, dtype="bf16")


@strange(kept=True)
def llama_dynamic(out):
    """Dynamic NTK scaling within the context that the base was made for; beyond it the reference turns cached keys unlike new ones."""
    config = llama(
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=12,
        max_position_embeddings=32,
        rope_parameters=rope(1e4, rope_type="dynamic", factor=4.0),
    )
    record(out, "llama_dynamic", lambda: T.LlamaForCausalLM(config), lambda m, s: language(m, s, long=32), edit=old)


@strange(kept=True)
def qwen3_longrope(out):
    config = T.Qwen3Config(
        vocab_size=91,
        hidden_size=40,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=160,
        rope_parameters=rope(
            1e5,
            rope_type="longrope",
            original_max_position_embeddings=40,
            short_factor=[1.0, 1.1, 1.3, 1.8, 2.0, 2.5],
            long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        ),
    )
    record(out, "qwen3_longrope", lambda: T.Qwen3ForCausalLM(config), lambda m, s: language(m, s, long=40))


def in_blocks(size):
    """`materialise` for checkpoints of 8-bit floats: matrices of layers are F8_E4M3 with a scale for each block of `size` rows and
    columns. The reference reads what the scales make of them: `value * scale` in f32."""

    def make(model, seed, gain, edit=None):
        def quantised(config):
            if edit:
                edit(config)
            config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": list(size)}

        folder = tempfile.mkdtemp()
        model.float().eval().save_pretrained(folder)
        path = os.path.join(folder, "model.safetensors")
        tensors, recipe = {}, {}

        def add(name, shape, centre, scale, dtype=None):
            recipe[name] = {"shape": shape, "centre": centre, "scale": scale} | ({"dtype": dtype} if dtype else {})
            return draw(seed, name, shape, centre, scale)

        for name, shape in sorted((k, list(v.shape)) for k, v in load_file(path).items()):
            centre, deviation = spread(name, shape, gain)
            if ".layers." not in name or not name.endswith("_proj.weight"):
                tensors[name] = add(name, shape, centre, deviation * math.sqrt(12.0))
                continue
            codes = add(name, shape, 0.0, 400.0, "f8_e4m3").to(torch.float8_e4m3fn)
            grid = [-(-shape[0] // size[0]), -(-shape[1] // size[1])]
            wanted = deviation / 115.0
            scales = add(name + "_scale_inv", grid, wanted, wanted)
            spread_out = scales.repeat_interleave(size[0], 0)[: shape[0]].repeat_interleave(size[1], 1)[:, : shape[1]]
            tensors[name] = codes.float() * spread_out
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})
        again = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        if hasattr(again, "set_experts_implementation"):
            again.set_experts_implementation("eager")
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            config = json.load(f)
        quantised(config)
        with open(path, "w") as f:
            json.dump(config, f, indent=1)
        return again, folder, recipe

    return make


@strange(kept=True)
def deepseek_v3_fp8(out):
    """The published type: 8-bit floats with scales of blocks that do not divide the matrices."""
    config = deepseek(q_lora_rank=28, n_group=2, topk_group=1, rope_parameters=rope())
    record(out, "deepseek_v3_fp8", lambda: T.DeepseekV3ForCausalLM(config), language, make=in_blocks((16, 24)), edit=old, shards=3)


def qwen3_moe(**more):
    """A small Qwen3-MoE with odd sizes."""
    return T.Qwen3MoeConfig(
        vocab_size=81,
        hidden_size=32,
        intermediate_size=44,
        moe_intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_experts=5,
        num_experts_per_tok=2,
        rope_parameters=rope(),
        **more,
    )


@strange()
def qwen3_moe_fp8(out):
    config = qwen3_moe()
    record(out, "qwen3_moe_fp8", lambda: T.Qwen3MoeForCausalLM(config), language, make=in_blocks((128, 128)))


@strange(kept=True)
def lumina(out):
    """Lumina-mGPT: Chameleon with another layout of pictures (size tokens, ends of rows), guidance 4 on raw logits, no prompt in the
    unconditional branch. The `bos_token_id` is that of `<pad>`, as published."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<racm3:break>", "<eoss>", "<reserved08706>", "<image>"]
    names += ["IMGIMG" + "".join(chr(ord("A") + int(c)) for c in str(i)) + "Z" for i in range(30)]
    names += ["Generate", "an", "image", "of", "8x12", "according", "to", "the", "following", "prompt:"]
    names += [f"<reserved{n:05d}>" for n in range(8799, 8808)] + [f"t{i}" for i in range(20)]
    v = {name: i for i, name in enumerate(names)}
    vq = T.ChameleonVQVAEConfig(
        embed_dim=8,
        num_embeddings=30,
        latent_channels=6,
        resolution=16,
        base_channels=32,
        channel_multiplier=[1, 1],
        num_res_blocks=1,
        attn_resolutions=None,
    )
    config = T.ChameleonConfig(
        vocab_size=len(v),
        hidden_size=48,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        vq_config=vq.to_dict(),
        vocabulary_map=v,
        rope_parameters=rope(),
        bos_token_id=1,
        eos_token_id=2,
    )

    def edit(c):
        old(c)
        c["architectures"], c["dropout"], c["z_loss_weight"], c["mask_image_logits"] = ["ChameleonXLLMXForConditionalGeneration"], 0.05, 1e-5, False

    def run(model, seed):
        raw = []
        hook = model.lm_head.register_forward_hook(lambda m, i, o: raw.append(o.clone()))

        def logits(ids):
            raw.clear()
            model(input_ids=torch.tensor([ids]), use_cache=False)
            return raw[-1][0]

        pixels = goldens.picture(seed, 1, 3, 16, 16)
        encoded = model.model.vqmodel.encode(pixels)
        words = [v["t3"], v["t11"], v["t3"]]
        prompt = [v["<s>"]] + [v[w] for w in names[38:48]] + words + [v["<reserved08706>"]]
        rows, columns = 6, 4
        block = [v["<racm3:break>"], v[f"<reserved{8800 + rows // 2:05d}>"], v[f"<reserved{8800 + columns // 2:05d}>"]]
        drawn, least = [], 1e9
        for place in range(rows * (columns + 1) - 1):
            if place % (columns + 1) == columns:
                drawn.append(v["<reserved08799>"])
                continue
            c, u = logits(prompt + block + drawn)[-1], logits(block + drawn)[-1]
            scores = (u + 4.0 * (c - u))[8:38]
            best = scores.topk(2)
            least = min(least, float(best.values[0] - best.values[1]))
            drawn.append(8 + int(best.indices[0]))
        ids = prompt + block + drawn
        whole = logits(ids)
        o = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        t = {
            "pixels": pixels,
            "vq.latents": encoded.last_hidden_state,
            "vq.codes": encoded.image_tokens,
            "input_ids_expanded": torch.tensor([ids]),
            "logits_raw": whole[None],
            "gen.input_ids": torch.tensor([prompt + block]),
            "gen.image_ids": torch.tensor([[i for i in drawn if 8 <= i < 38]]),
            "gen.words": torch.tensor([words]),
        }
        t |= {f"hidden.{i}": h for i, h in enumerate(o.hidden_states)}
        t["generated_ids"], _, other = goldens.greedy(model, torch.tensor([ids]), 6, pad_token_id=1)
        hook.remove()
        return t, min(least, other)

    record(out, "lumina", lambda: T.ChameleonForConditionalGeneration(config), run, gain=1.2, edit=edit)


def windowed(model, seed):
    """Prompt and text are longer than the window."""
    return language(model, seed, prompt=12, new=10, long=40)


@strange(kept=True)
def mixtral_window(out):
    """Every layer sees the last five positions, as in the configuration of Mixtral 0.1."""
    config = T.MixtralConfig(
        vocab_size=81,
        hidden_size=36,
        intermediate_size=28,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=5,
        rope_parameters=rope(1e6),
    )
    record(out, "mixtral_window", lambda: T.MixtralForCausalLM(config), windowed, edit=old, dtype="bf16")


@strange(kept=True)
def qwen3_window(out):
    """Layers from the second on have a window, as `max_window_layers` says."""
    config = T.Qwen3Config(
        vocab_size=81,
        hidden_size=40,
        intermediate_size=44,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=14,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
        rope_parameters=rope(1e6),
    )

    def edit(c):
        c.pop("layer_types")
        old(c)

    record(out, "qwen3_window", lambda: T.Qwen3ForCausalLM(config), windowed, edit=edit)


@strange()
def qwen3_listed(out):
    config = T.Qwen3Config(
        vocab_size=81,
        hidden_size=40,
        intermediate_size=44,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=14,
        use_sliding_window=True,
        sliding_window=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters=rope(1e6),
    )
    record(out, "qwen3_listed", lambda: T.Qwen3ForCausalLM(config), windowed)


@strange()
def qwen3_window_off(out):
    """Windows that are not switched on."""
    config = T.Qwen3Config(
        vocab_size=81,
        hidden_size=40,
        intermediate_size=44,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=14,
        rope_parameters=rope(1e6),
    )

    def edit(c):
        old(c)
        c.pop("layer_types")
        c.pop("use_sliding_window")
        c["sliding_window"], c["max_window_layers"] = 3, 0

    record(out, "qwen3_window_off", lambda: T.Qwen3ForCausalLM(config), windowed, edit=edit)


@strange()
def qwen3_moe_window(out):
    config = qwen3_moe(use_sliding_window=True, sliding_window=4)
    record(out, "qwen3_moe_window", lambda: T.Qwen3MoeForCausalLM(config), windowed, shards=2)


def main():
    if not set(sys.argv) & set(CASES):
        sys.argv += KEPT
    goldens.main()


if __name__ == "__main__":
    main()
