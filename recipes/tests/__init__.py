"""Tests of the recipe: `python -m unittest discover -s tests -t .` in `recipes/`. They need torch, no GPU and no network."""

from pathlib import Path

import torch

MINI = Path(__file__).resolve().parents[2] / "models" / "borealis-mini"
torch.set_num_threads(1)
