#!/usr/bin/env python3
"""Times llama.cpp on a GGUF file: a prompt, and decode steps of several rows, each row of a sequence of its own.

    llama_cpp.py MODEL.gguf [--library FILE] [--threads N] [--rows 1,2,4,8,32,64] [--prefill 512] [--context 128] [--budget S]

The library is any shared object that exports llama.cpp's C functions: a `libllama.so`, or the extension module of PyPI's `xllamacpp`
(found by itself when it is installed). The same figures as `borealis bench model --json` come out as one JSON object: ids that change from step to
step, the middle and the fastest step, nothing but `llama_decode` inside the clock.
"""

import argparse
import ctypes as c
import importlib.util
import json
import os
import statistics
import time
from pathlib import Path


class Parameters(c.Structure):
    """Larger than any version's parameters: they are returned through a pointer and passed as the last argument, so what is too much is not looked at."""

    _fields_ = [("words", c.c_uint32 * 256)]


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embd", c.POINTER(c.c_float)),
        ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)),
        ("seq_id", c.POINTER(c.POINTER(c.c_int32))),
        ("logits", c.POINTER(c.c_int8)),
    ]


def find_library() -> str:
    spec = importlib.util.find_spec("xllamacpp")
    found = sorted(Path(spec.origin).parent.glob("*.so")) if spec and spec.origin else []
    if not found:
        raise SystemExit("no llama.cpp: give --library libllama.so, or `pip install xllamacpp`")
    return str(found[0])


def load(path: str) -> c.CDLL:
    lib = c.CDLL(path)
    for name in ["llama_model_default_params", "llama_context_default_params"]:
        getattr(lib, name).restype = Parameters
    lib.llama_model_load_from_file.argtypes = [c.c_char_p, Parameters]
    lib.llama_init_from_model.argtypes = [c.c_void_p, Parameters]
    for name in ["llama_model_load_from_file", "llama_init_from_model", "llama_get_memory", "llama_model_get_vocab"]:
        getattr(lib, name).restype = c.c_void_p
    lib.llama_model_get_vocab.argtypes = [c.c_void_p]
    lib.llama_vocab_n_tokens.argtypes = [c.c_void_p]
    lib.llama_get_memory.argtypes = [c.c_void_p]
    lib.llama_memory_clear.argtypes = [c.c_void_p, c.c_bool]
    lib.llama_set_n_threads.argtypes = [c.c_void_p, c.c_int32, c.c_int32]
    lib.llama_batch_init.restype = Batch
    lib.llama_decode.argtypes = [c.c_void_p, Batch]
    return lib


class Model:
    def __init__(self, lib: c.CDLL, path: str, threads: int, rows: int, tokens: int):
        self.lib = lib
        # Its log would drown the figures.
        self.quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()
        model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        parameters = lib.llama_context_default_params()
        # n_ctx, n_batch, n_ubatch, n_seq_max are the first four in every version so far; their defaults prove it.
        if list(parameters.words[1:4]) != [2048, 512, 1]:
            raise SystemExit(f"unknown layout of llama_context_params: {list(parameters.words[:8])}")
        parameters.words[0] = tokens
        parameters.words[3] = rows
        self.context = lib.llama_init_from_model(model, parameters)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context")
        lib.llama_set_n_threads(self.context, threads, threads)
        self.memory = lib.llama_get_memory(self.context)
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self.batch = lib.llama_batch_init(max(2048, rows), 0, 1)

    def decode(self, rows: list[tuple[int, int, bool]], salt: int) -> tuple[float, float]:
        """Seconds of one step, and processor time; a row is (sequence, position, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, wanted) in enumerate(rows):
            batch.token[i] = ((salt * 1024 + i) * 2654435761 >> 7) % self.vocabulary
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = position, 1, sequence, wanted
        start, busy = time.perf_counter(), time.process_time()
        if self.lib.llama_decode(self.context, batch) != 0:
            raise SystemExit(f"llama_decode failed for {len(rows)} rows")
        return time.perf_counter() - start, time.process_time() - busy

    def clear(self) -> None:
        self.lib.llama_memory_clear(self.memory, True)


def steps(step, budget: float) -> list[tuple[float, float]]:
    times, start = [], time.perf_counter()
    step(0)
    while len(times) < 3 or time.perf_counter() - start < budget:
        times.append(step(len(times) + 1))
    return times


def figure(phase: str, rows: int, measured: list[tuple[float, float]]) -> dict:
    times = [seconds for seconds, _ in measured]
    middle, busy = statistics.median(times), statistics.fmean(b for _, b in measured)
    load = os.getloadavg()[0]
    return {"phase": phase, "rows": rows, "steps": len(times), "median_seconds": middle, "best_seconds": min(times),
            "busy_seconds": busy, "positions_per_second": rows / middle, "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--library")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", default="1,2,4,8,32,64")
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--budget", type=float, default=1.0)
    args = parser.parse_args()
    lib = load(args.library or find_library())
    counts = [int(n) for n in args.rows.split(",")]
    extra = 32  # positions that the timed steps add before they start anew
    # A context is divided evenly among its sequences.
    room = max(args.prefill, args.context + extra)
    model = Model(lib, args.model, args.threads, max(counts), max(counts) * room)
    figures = []

    def prompt(salt: int) -> tuple[float, float]:
        model.clear()
        return model.decode([(0, p, p + 1 == args.prefill) for p in range(args.prefill)], salt)

    if args.prefill:
        figures.append(figure("prefill", args.prefill, steps(prompt, args.budget)))
    for rows in counts:
        model.clear()
        filled = args.context - 1
        for sequence in range(rows):
            model.decode([(sequence, p, False) for p in range(filled)], sequence)
        position = [filled]

        def step(salt: int) -> tuple[float, float]:
            if position[0] - filled >= extra:
                for sequence in range(rows):
                    lib.llama_memory_seq_rm(c.c_void_p(model.memory), sequence, filled, -1)
                position[0] = filled
            measured = model.decode([(s, position[0], True) for s in range(rows)], salt)
            position[0] += 1
            return measured

        figures.append(figure("decode", rows, steps(step, args.budget)))
    system = lib.llama_print_system_info
    system.restype = c.c_char_p
    print(json.dumps({"engine": "llama.cpp", "model": args.model, "threads": args.threads, "system": system().decode(), "figures": figures}))


if __name__ == "__main__":
    main()
