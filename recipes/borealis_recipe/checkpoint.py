"""Writes a checkpoint folder in the format of weights.md."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from . import audio_codec as ac
from . import layout, world
from .model import Borealis, ModelConfig, take
from .video_tokenizer import PATCH, VideoTokenizer, VideoTokenizerConfig


def model_config(model: Borealis) -> dict:
    """config.json of the transformer."""
    c, of = asdict(model.config), model.layout
    theta = c.pop("rope_theta")
    del c["world"]  # the vocabulary says it
    modalities = [{"name": "text", "slots": 1, "codes": [{"start": 0, "size": of.state_start}], "predict": "one", "copy_gate": False}]
    for m in of.modalities.values():
        entry = {
            "name": m.name,
            "slots": m.slots,
            "codes": [{"start": s, "size": n} for s, n in m.codes],
            "predict": "parallel",
            "copy_gate": m.copy_gate,
            "offset": 1 if m.name == "state" else 0,
            "plan": "frame",
        }
        if m.condition:
            entry["condition"] = m.condition
        modalities.append(entry)
    return {
        "model_type": "borealis",
        "format": 1,
        "vocab_size": of.vocab_size,
        **c,
        "qk_norm": True,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "scoring_func": "softmax",
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
        "router_selection_bias": False,
        "n_shared_experts": 0,
        "num_null_experts": 0,
        "first_k_dense_replace": 0,
        "intermediate_size": 0,
        "rope_parameters": {"rope_theta": theta, "axes": 3, "rotation": "half"},
        "segments": [{"name": n, "start": s, "size": k} for n, s, k in of.segments],
        "controls": of.control,
        "row_kinds": list(layout.ROW_KINDS),
        "row_features": {
            "size": of.features,
            "type": "relative_fourier",
            "absolute": list(layout.ABSOLUTE),
            "seconds": list(layout.SECONDS),
            "relative": list(layout.RELATIVE),
            "near": list(layout.NEAR),
            "object": {
                "frequencies": list(layout.OBJECT),
                "harmonics": layout.HARMONICS,
                "limit": layout.LIMIT,
                "radius_first": world.RADIUS_MIN,
                "radius_step": world.RADIUS_STEP,
                "angle_steps": world.CLOCK,
            },
            "position_bins_per_unit": world.BINS,
            "position_origin": world.ORIGIN,
            "cells_per_unit": world.CELLS_PER_UNIT,
        },
        "modalities": modalities,
        "media": {
            "fps": world.FPS,
            "frames_per_latent": world.STRIDE,
            "latent_fps": world.FPS // world.STRIDE,
            "window": 1,
            "time_scale": 0.0,
            "scene_condition": True,
            **({"position_offset": of.world.position_offset} if of.world.position_offset else {}),
            "block": ["state", "video", "audio"],
            "groups": [["state"], ["video", "audio"]],
            "grids": {a: list(g) for a, g in layout.GRID.items()},
            "canvas_cells": {a: [rows, columns] for a, (columns, rows) in world.CANVAS.items()},
        },
        "scene": {"fields": [{"name": f.name, "start": of.scene_start + s, "size": f.size} for f, s in zip(of.world.fields, of.world.scene_start)]},
        "modes": {name: {"control": control, "input": "source" if name.startswith("edit") else "previous"} for name, control in layout.MODES.items()},
    }


def video_config(tokenizer: VideoTokenizer) -> dict:
    c = tokenizer.config
    return {
        "type": "causal_fsq",
        "channels": list(c.channels),
        "digits": c.digits,
        "levels": c.levels,
        "layers": c.layers,
        "stride": c.stride,
        "patch": PATCH,
        "norm_eps": 1e-5,
    }


def audio_config() -> dict:
    return {
        "type": "oscillator_bank",
        "sample_rate": world.SAMPLE_RATE,
        "frame_samples": ac.HOP,
        "frames_per_latent": world.STRIDE,
        "lead_in": (world.STRIDE - 1) * ac.HOP,
        "subframes": ac.HOP // ac.SUB,
        "tones": ac.TONES,
        "first_midi": 36,
        "phase_step": 2.399963,
        "bands": ac.BANDS,
        "band_hertz": [60, 11500],
        "noise_period": ac.NOISE_PERIOD,
        "floor": ac.FLOOR,
        "codebooks": layout.BOOKS,
        "codebook_size": layout.BOOK_SIZE,
        "analysis": {
            "window": ac.WINDOW,
            "pool_edges": ac.POOL_EDGES.tolist(),
            "iterations": ac.ITERATIONS,
            "max_sharpening": 6.0,
        },
    }


def generation_config(sampling: dict | None = None) -> dict:
    default = {
        "text": {"temperature": 0.0, "top_k": 0, "top_p": 1.0},
        "state": {"temperature": 0.0},
        "video": {"temperature": 0.0},
        "audio": {"temperature": 0.0},
    }
    return {"guidance": 1.0, "sampling": sampling or default, "presets": {"quality": {}, "speed": {"fps_divisor": 2}}}


def _write(folder: Path, config: dict, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    packed = {k: v.detach().to(dtype).contiguous() for k, v in tensors.items()}
    save_file(packed, str(folder / "model.safetensors"), metadata={"format": "pt"})


def export(
    folder: Path, model: Borealis, tokenizer: Path, video: VideoTokenizer, audio: ac.AudioCodec,
    dtype: torch.dtype = torch.bfloat16, sampling: dict | None = None,
) -> None:  # fmt: skip
    """Writes the whole checkpoint: transformer in `dtype`, codecs in f16 (f32 when `dtype` is)."""
    _write(folder, model_config(model), model.state_dict(), dtype)
    (folder / "generation_config.json").write_text(json.dumps(generation_config(sampling), indent=1) + "\n")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    codec = torch.float32 if dtype == torch.float32 else torch.float16
    _write(folder / "video_tokenizer", video_config(video), video.state_dict(), codec)
    sound = folder / "audio_tokenizer"
    sound.mkdir(parents=True, exist_ok=True)
    (sound / "config.json").write_text(json.dumps(audio_config(), indent=1) + "\n")
    tables = {"codebooks": audio.codebooks.to(codec).contiguous(), "templates": audio.templates.contiguous()}
    save_file(tables, str(sound / "model.safetensors"), metadata={"format": "pt"})


def read_video(folder: Path) -> VideoTokenizer:
    """The video tokenizer of a folder written by `export`, in f32."""
    shape = json.loads((folder / "video_tokenizer" / "config.json").read_text())
    kept = {k: shape[k] for k in ("digits", "levels", "layers", "stride")}
    video = VideoTokenizer(VideoTokenizerConfig(channels=tuple(shape["channels"]), **kept))
    tensors = load_file(str(folder / "video_tokenizer" / "model.safetensors"))
    video.load_state_dict({k: v.float() for k, v in tensors.items()})
    return video.eval()


def read(folder: Path) -> tuple[Borealis, Tokenizer, VideoTokenizer, ac.AudioCodec]:
    """Reads a folder written by `export` back, in f32."""
    config = json.loads((folder / "config.json").read_text())
    names = {f.name for f in fields(ModelConfig)} - {"rope_theta", "world"}
    sizes = {k: config[k] for k in names} | {"rope_theta": config["rope_parameters"]["rope_theta"]}
    sizes["world"] = layout.of_vocabulary(config["vocab_size"]).world.name
    model = Borealis(ModelConfig(**sizes))
    take(model, {k: v.float() for k, v in load_file(str(folder / "model.safetensors")).items()})
    audio = ac.load(folder / "audio_tokenizer" / "model.safetensors")
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json")), read_video(folder), audio
