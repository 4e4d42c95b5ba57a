#!/usr/bin/env python3
"""Goldens of picture and clip tokenizers, beside those of `goldens.py` and by its rules.

usage:  python recipes/goldens_vq.py [--out tests/goldens] [name ...]

Each case has sizes and settings that no published checkpoint has together, so that every field of a configuration is read.
Needs taming-transformers-rom1504 (without its dependencies) beside what `goldens.py` needs: the VQGAN of Esser et al. 2021, which the
decoder of Chameleon and the tokenizer of Emu3.5 are.
"""

import json
import os

import torch
import transformers as T
from safetensors.torch import load_file, save_file

import goldens
from goldens import CASES, case, generator, picture, record

CASES.clear()


def apart(scores):
    """1 when the two best codes of every place are well apart and the codes are not all alike, else 0."""
    best = scores.topk(2, -1)
    return float((best.values[:, 0] - best.values[:, 1]).min() > 1e-3 and best.indices[:, 0].unique().numel() >= 6)


def nearest(latents, codebook):
    """Scores of the codes for latents `[.., channels]`: minus the distance."""
    return -torch.cdist(latents.reshape(-1, latents.shape[-1]), codebook)


@case
def emu3_vq_odd(out):
    """Two heads, attention at two levels, two frames a latent frame, two residual blocks."""
    config = T.Emu3VQVAEConfig(codebook_size=24, embed_dim=3, latent_channels=3, base_channels=32, channel_multiplier=[1, 1, 1], num_res_blocks=2,
                               attn_resolutions=[1, 2], hidden_size=32, num_attention_heads=2, temporal_downsample_factor=2)

    def run(model, seed):
        still, clip = picture(seed, 1, 3, 12, 20), picture(seed + 1, 1, 6, 3, 8, 12)
        e = model.encode(still, torch.tensor([[12, 20]]))
        t = {"image.pixels": still, "image.latents": e.last_hidden_state, "image.codes": e.image_tokens[0]}
        t["image.decoded"] = model.decode(e.image_tokens[0][None])
        latents = model.encoder(clip)
        wanted = model.quant_conv(latents.permute(0, 2, 1, 3, 4)).permute(0, 2, 1, 3, 4)
        codes = model.quantize(wanted)
        t |= {"video.pixels": clip, "video.latents": latents, "video.prequant": wanted, "video.codes": codes, "video.decoded": model.decode(codes)}
        drawn = torch.randint(0, 24, (1, 2, 2, 3), generator=generator(seed))
        t |= {"random.codes": drawn, "random.decoded": model.decode(drawn)}
        return t, apart(nearest(wanted.permute(0, 1, 3, 4, 2), model.quantize.embedding.weight))

    record(out, "emu3_vq_odd", lambda: T.Emu3VQVAE(config), run, gain=1.2)


class Vqgan(torch.nn.Module):
    """A taming VQGAN with the two methods that `record` needs."""

    def __init__(self, config):
        super().__init__()
        from taming.modules.diffusionmodules.model import Decoder, Encoder

        d, embed = config["ddconfig"], config["embed_dim"]
        self.config = config
        self.encoder, self.decoder = Encoder(**d), Decoder(**d)
        self.quant_conv, self.post_quant_conv = torch.nn.Conv2d(d["z_channels"], embed, 1), torch.nn.Conv2d(embed, d["z_channels"], 1)
        self.quantize = torch.nn.Module()
        self.quantize.embedding = torch.nn.Embedding(config["n_embed"], embed)

    def save_pretrained(self, folder):
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, os.path.join(folder, "model.safetensors"))
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(self.config, f, indent=1)

    @classmethod
    def from_pretrained(cls, folder, **_):
        with open(os.path.join(folder, "config.json")) as f:
            model = cls(json.load(f))
        model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")))
        return model


def vqgan(out, name, kind, height, width, codes, embed, score, **kw):
    d = dict(double_z=False, in_channels=3, out_ch=3, dropout=0.0, **kw)
    config = dict(model_type=kind, ddconfig=d, embed_dim=embed, n_embed=codes)

    def run(model, seed):
        pixels = picture(seed, 1, 3, height, width)
        latents = model.quant_conv(model.encoder(pixels))
        scores = score(latents.permute(0, 2, 3, 1), model.quantize.embedding.weight)
        found = scores.argmax(-1).view(1, *latents.shape[2:])
        rows = model.quantize.embedding(found).permute(0, 3, 1, 2)
        return {"pixels": pixels, "latents": latents, "codes": found, "decoded": model.decoder(model.post_quant_conv(rows))}, apart(scores)

    record(out, name, lambda: Vqgan(config), run, gain=1.2)


@case
def taming_attended(out):
    """Attention at the finest but one level, two residual blocks, a codebook wider than the latents."""
    vqgan(out, "taming_attended", "taming_vqgan", 12, 20, 30, 8, nearest, z_channels=6, resolution=16, ch=32, ch_mult=[1, 1], num_res_blocks=2, attn_resolutions=[8])


@case
def ibq_deep(out):
    """Three levels; the code is the largest dot product."""
    def dot(latents, codebook):
        return latents.reshape(-1, latents.shape[-1]) @ codebook.T
    vqgan(out, "ibq_deep", "emu35_ibq", 8, 16, 40, 5, dot, z_channels=5, resolution=32, ch=32, ch_mult=[1, 1, 1], num_res_blocks=1, attn_resolutions=[16])


if __name__ == "__main__":
    goldens.main()
