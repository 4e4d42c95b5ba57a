#!/usr/bin/env python3
"""Goldens of audio codecs and of the sampler's filters, beside those of `goldens.py` and by its rules.

usage:  python recipes/goldens_audio.py [--out tests/goldens] [name ...]

Each case has sizes and settings that no published checkpoint has together, so that every field of a configuration is read.
"""

import json
import math
import os

import torch
import transformers as T
from safetensors.torch import save_file

import goldens
from goldens import CASES, case, generator, record

CASES.clear()
BOOKS = {}  # standard deviation of a codebook, by the beginning of its tensors' names
general = goldens.spread


def spread(name, shape, gain):
    if name.endswith("alpha"):
        return 1.0, 0.2
    if name.endswith("cluster_usage"):
        return 1.5, 0.25
    if name.endswith(("codebook.embed", "embed_sum")):
        layer = int(name.split("layers.")[1].split(".")[0])
        return 0.0, BOOKS.get(name.split("layers.")[0], 1.0) * 0.8**layer
    return general(name, shape, gain)


goldens.spread = spread


def sound(seed, channels, samples, rate):
    """Tones and noise; the second channel is the first one backwards."""
    t = torch.arange(samples) / rate
    wave = sum(a * torch.sin(2 * math.pi * f * t + p) for a, f, p in [(0.3, 220, 0), (0.2, 987, 1), (0.1, 3210, 2)])
    wave = torch.stack([wave, wave.flip(-1)][:channels])
    return (wave + 0.05 * torch.randn(channels, samples, generator=generator(seed)))[None]


def steady(codes, doubled, least=9):
    """1 when rounding does not decide the codes and they are not all alike, else 0."""
    return float(all(torch.equal(a, b) for a, b in zip(codes, doubled)) and codes[-1].unique().numel() >= least)


def doubled(model, encode):
    """What the model encodes in double precision."""
    codes = encode(model.double(), torch.float64)
    model.float()
    if hasattr(model.quantizer, "semantic_residual_vector_quantizer"):
        for part in (model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer):
            for layer in part.layers:
                layer.codebook._embed = None
    return codes


def encodec(out, name, samples, **kw):
    config = T.EncodecConfig(**kw)

    def run(model, seed):
        wave = sound(seed, config.audio_channels, samples, config.sampling_rate)
        part = wave if config.chunk_length is None else wave[..., : config.chunk_length]
        latents = model.encoder(part)
        BOOKS["quantizer."] = float(latents.std())
        rates = config.target_bandwidths
        def encode(m, dtype):
            return [m.encode(wave.to(dtype), bandwidth=b).audio_codes for b in rates]
        t = {"audio": wave, "encoder_out": latents}
        codes = encode(model, torch.float32)
        for rate, c in zip(rates, codes):
            e = model.encode(wave, bandwidth=rate)
            t[f"bw{rate}.codes"] = c
            if e.audio_scales[0] is not None:
                t[f"bw{rate}.scales"] = torch.stack(list(e.audio_scales))
            t[f"bw{rate}.decoded"] = model.decode(c, e.audio_scales).audio_values
        return t, steady(codes, doubled(model, encode))

    record(out, name, lambda: T.EncodecModel(config), run)


@case
def encodec_causal(out):
    """Odd strides, two residual layers without shortcut, edges repeated, trimmed on both sides."""
    encodec(out, "encodec_causal", 1237, sampling_rate=16000, audio_channels=1, hidden_size=24, num_filters=4, num_residual_layers=2,
            upsampling_ratios=[5, 3, 2], kernel_size=5, last_kernel_size=3, residual_kernel_size=5, dilation_growth_rate=3, compress=4,
            num_lstm_layers=1, codebook_size=32, use_conv_shortcut=False, pad_mode="replicate", trim_right_ratio=0.5,
            target_bandwidths=[3.0, 8.0])


@case
def encodec_chunks(out):
    """Two channels in overlapping chunks, not causal, group norm, silence at the edges."""
    encodec(out, "encodec_chunks", 1000, sampling_rate=8000, audio_channels=2, hidden_size=16, num_filters=3, upsampling_ratios=[4, 3],
            norm_type="time_group_norm", use_causal_conv=False, normalize=True, chunk_length_s=0.03, overlap=0.25, pad_mode="constant",
            codebook_size=16, compress=1, target_bandwidths=[3.0, 12.0])


@case
def encodec_short(out):
    """Shorter than the mirror image of its edges."""
    encodec(out, "encodec_short", 5, sampling_rate=8000, audio_channels=1, hidden_size=16, num_filters=4, upsampling_ratios=[2, 2],
            use_causal_conv=False, pad_mode="reflect", codebook_size=16, target_bandwidths=[64.0])


def mimi(out, name, frames, **kw):
    config = T.MimiConfig(**kw)
    few = config.num_semantic_quantizers + 1

    def run(model, seed):
        samples = int(config.sampling_rate / config.frame_rate * frames) - 7
        wave = sound(seed, config.audio_channels, samples, config.sampling_rate)
        latents = model.encoder(wave).latents
        for kind in ("semantic", "acoustic"):
            part = getattr(model.quantizer, f"{kind}_residual_vector_quantizer")
            projected = latents if part.input_proj is None else part.input_proj(latents)
            BOOKS[f"quantizer.{kind}_residual_vector_quantizer."] = 1.5 * float(projected.std())
        def encode(m, dtype):
            return [m.encode(wave.to(dtype), num_quantizers=n).audio_codes for n in (few, config.num_quantizers)]
        codes = encode(model, torch.float32)
        t = {"audio": wave, "latents": latents, "codes": codes[1], f"codes_q{few}": codes[0]}
        t["decoded"] = model.decode(codes[1]).audio_values
        t[f"decoded_q{few}"] = model.decode(codes[0]).audio_values
        return t, steady(codes, doubled(model, encode))

    record(out, name, lambda: T.MimiModel(config), run)


@case
def mimi_grouped(out):
    """Shared keys, biases, no projection to the codebooks, shortcuts, edges repeated, two semantic codebooks."""
    mimi(out, "mimi_grouped", 9, sampling_rate=16000, hidden_size=32, num_filters=4, num_residual_layers=2, upsampling_ratios=[5, 4, 2],
         kernel_size=5, residual_kernel_size=3, dilation_growth_rate=3, pad_mode="replicate", compress=4, codebook_size=32, codebook_dim=32,
         vector_quantization_hidden_dimension=32, num_quantizers=5, num_semantic_quantizers=2, use_conv_shortcut=True, upsample_groups=8,
         num_hidden_layers=2, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=16, hidden_act="silu",
         sliding_window=5, attention_bias=True, norm_eps=1e-4, rope_parameters={"rope_type": "default", "rope_theta": 500.0})


@case
def mimi_rate(out):
    """Codes at a quarter of the latents' rate."""
    mimi(out, "mimi_rate", 5, sampling_rate=8000, frame_rate=100, hidden_size=32, num_filters=4, upsampling_ratios=[5, 4], codebook_size=16,
         codebook_dim=8, vector_quantization_hidden_dimension=8, num_quantizers=4, upsample_groups=32, num_hidden_layers=1,
         intermediate_size=40, num_attention_heads=2, num_key_value_heads=2, hidden_act="gelu_pytorch_tanh", sliding_window=3,
         last_kernel_size=5)


@case
def dac_odd(out):
    """Odd strides: decoded sound is shorter."""
    config = T.DacConfig(encoder_hidden_size=6, downsampling_ratios=[3, 2, 4], decoder_hidden_size=40, n_codebooks=3, codebook_size=32,
                         codebook_dim=3, sampling_rate=8000)

    def run(model, seed):
        wave = sound(seed, 1, 24 * 11 + 5, config.sampling_rate)
        def encode(m, dtype):
            return [m.encode(wave.to(dtype), n_quantizers=n).audio_codes for n in (2, 3)]
        codes = encode(model, torch.float32)
        t = {"audio": wave, "codes": codes[1], "codes_q2": codes[0], "latents": model.encoder(wave)}
        t["decoded"] = model.decode(audio_codes=codes[1]).audio_values
        t["decoded_q2"] = model.decode(audio_codes=codes[0]).audio_values
        return t, steady(codes, doubled(model, encode))

    record(out, "dac_odd", lambda: T.DacModel(config), run, gain=0.5)


@case
def sampling(out):
    """The filters of transformers, one by one and in its order; -1e30 stands for minus infinity."""
    from transformers.generation import logits_process as P

    g = generator(7)
    logits, seen = torch.randn(3, 53, generator=g) * 3, torch.randint(0, 53, (3, 9), generator=g)
    logits[1, [3, 40]] = logits[1].max() + 0.5  # the likeliest twice
    logits[2, [7, 8, 9]] = logits[2].median()
    def clean(x):
        return x.masked_fill(~torch.isfinite(x), -1e30)
    t = {"logits": logits, "previous_ids": seen}
    kinds = {"temperature": (P.TemperatureLogitsWarper, (0.3, 2.0)), "top_k": (P.TopKLogitsWarper, (1, 27)),
             "top_p": (P.TopPLogitsWarper, (0.05, 0.5, 0.97)), "min_p": (P.MinPLogitsWarper, (0.01, 0.5)),
             "repetition": (P.RepetitionPenaltyLogitsProcessor, (0.8, 1.5))}
    for kind, (warper, values) in kinds.items():
        t |= {f"{kind}_{v}": clean(warper(v)(seen, logits.clone())) for v in values}
    x = logits.clone()
    for step in (P.RepetitionPenaltyLogitsProcessor(1.2), P.TemperatureLogitsWarper(0.8), P.TopKLogitsWarper(30), P.TopPLogitsWarper(0.9),
                 P.MinPLogitsWarper(0.05)):
        x = step(seen, x)
    t["chain_r1.2_t0.8_k30_p0.9_m0.05"], t["chain_r1.2_t0.8_k30_p0.9_m0.05.probs"] = clean(x), x.softmax(-1)
    both = torch.randn(6, 53, generator=g) * 3
    t["cfg.in"], t["cfg_2.5"] = both, P.ClassifierFreeGuidanceLogitsProcessor(2.5)(seen, both.clone())
    target = os.path.join(out, "sampling")
    os.makedirs(target, exist_ok=True)
    save_file({k: v.contiguous() for k, v in t.items()}, os.path.join(target, "golden.safetensors"))
    with open(os.path.join(target, "golden.json"), "w") as f:
        json.dump({"name": "sampling", "reference": f"transformers {T.__version__}"}, f)


if __name__ == "__main__":
    goldens.main()
