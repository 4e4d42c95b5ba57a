#!/usr/bin/env python3
"""A checkpoint of `borealis synth` as GGUF, so that llama.cpp can be measured on the very same weights.

    to_gguf.py MODEL OUT.gguf [--type Q8_0|BF16|Q4_0]      needs numpy and gguf (`pip install gguf`)

Norms and routers stay f32; every other matrix gets the type. One tensor is in memory at a time (of experts: one layer's).
"""

import argparse
import json
import struct
from pathlib import Path

import gguf
import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


class Tensors:
    """The bf16 tensors of a safetensors file as f32 arrays."""

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            self.entries = json.loads(file.read(size))
        self.data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)

    def __call__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}, expected BF16"
        start, end = entry["data_offsets"]
        halves = self.data[start:end].view("<u2").astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(entry["shape"])


def describe(writer: gguf.GGUFWriter, config: dict, tokenizer: dict) -> None:
    writer.add_name("synthetic")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    model, added = tokenizer["model"], {t["content"] for t in tokenizer["added_tokens"]}
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in added else gguf.TokenType.NORMAL for t in tokens])
    # Older files write a merge as a pair.
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="Q8_0", choices=["Q8_0", "Q4_0", "BF16"])
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    tensors = Tensors(args.model / "model.safetensors")
    writer = gguf.GGUFWriter(args.out, "qwen3moe", use_temp_file=True)
    describe(writer, config, json.loads((args.model / "tokenizer.json").read_text()))
    kind = gguf.GGMLQuantizationType[args.type]

    def add(name: str, values: np.ndarray) -> None:
        exact = values.ndim < 2 or name.endswith("ffn_gate_inp.weight")
        if exact:
            writer.add_tensor(name, np.ascontiguousarray(values))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", tensors("model.embed_tokens.weight"))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for ours, theirs in NAMES.items():
            add(f"blk.{layer}.{theirs}.weight", tensors(f"{prefix}.{ours}.weight"))
        for ours, theirs in EXPERTS.items():
            stack = [tensors(f"{prefix}.mlp.experts.{e}.{ours}.weight") for e in range(config["num_experts"])]
            add(f"blk.{layer}.{theirs}.weight", np.stack(stack))
    add("output_norm.weight", tensors("model.norm.weight"))
    add("output.weight", tensors("lm_head.weight"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
