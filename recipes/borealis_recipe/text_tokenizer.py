"""The text tokenizer: byte-level BPE on captions, and how one grows without changing what it already says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .language import corpus
from .vocabulary import NARROW, World

Pair = tuple[str, str]


def train_tokenizer(path: Path, world: World = NARROW, seed: int = 5, scenes: int = 30_000) -> Tokenizer:
    """Byte-level BPE of `world.text_ids` ids on captions and instructions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=world.text_ids, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(world, seed, scenes), trainer)
    tokenizer.save(str(path))
    return tokenizer


def _pieces(tokenizer: Tokenizer, lines: list[str]) -> Counter[tuple[str, ...]]:
    """How often each word, split into the tokenizer's pieces, stands in `lines`."""
    words: Counter[str] = Counter()
    for line in lines:
        words.update(w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(line))
    out: Counter[tuple[str, ...]] = Counter()
    for word, n in words.items():
        out[tuple(t.value for t in tokenizer.model.tokenize(word))] += n
    return out


def _merged(word: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def grow_tokenizer(old: Path, path: Path, world: World, seed: int = 5, scenes: int = 6_000) -> Tokenizer:
    """Adds ids behind those of the tokenizer `old` until there are `world.text_ids`, by further merges on the captions of
    `world`. No merge is taken that would change how a caption of the narrow world is written: its ids stay as they were."""
    tokenizer = Tokenizer.from_file(str(old))
    kept = {pair for word in _pieces(tokenizer, corpus(NARROW, seed, scenes)) for pair in zip(word, word[1:])}
    words = _pieces(tokenizer, corpus(world, seed, scenes))
    data = json.loads(old.read_text())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    while len(vocabulary) < world.text_ids:
        pairs: Counter[Pair] = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                if pair not in kept:
                    pairs[pair] += n
        if not pairs:
            raise ValueError(f"{world.name} has words for {len(vocabulary)} ids only: lower text_ids from {world.text_ids}")
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(list(best))
        vocabulary.setdefault("".join(best), len(vocabulary))
        after: Counter[tuple[str, ...]] = Counter()
        for word, n in words.items():
            after[_merged(word, best)] += n
        words = after
    path.write_text(json.dumps(data, ensure_ascii=False))
    return Tokenizer.from_file(str(path))
