"""Trains the model of the rich world, from the text tokenizer to the scores, by one command:

python train_rich.py [--profile smoke|cpu|h200] [--device cuda] [--work DIR]

Every stage is resumable and is left out when it is done: run the same command again after an interruption.
Stages write their logs to DIR/logs; `--seconds` ends a run early, in time for a machine that ends commands itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MINI = HERE.parent / "models" / "borealis-mini"
QUIET = {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip
SAMPLING = '{"text":{"temperature":0.8,"top_k":0,"top_p":1.0},"state":{"temperature":0.0},"video":{"temperature":0.0},"audio":{"temperature":0.0}}'


@dataclass(frozen=True)
class Profile:
    """How long (minutes) and how wide the stages are."""

    video: float  # tokenizer
    video_batch: int
    sounds: int  # clips for the audio codec
    makers: int  # processes that make records
    shard_seconds: float
    records: float  # minutes that they work
    head_start: float  # minutes of records before the transformer begins
    drawing: float
    reading: float
    scale: float  # of the transformer's batches
    workers: int  # processes that make crops or batches
    clips: int  # of the evaluation


PROFILES = {
    "smoke": Profile(0.5, 2, 60, 1, 10, 0.5, 0.5, 0.5, 0.5, 0.25, 0, 4),
    "cpu": Profile(60, 6, 2400, 1, 40, 120, 30, 240, 240, 1, 0, 200),
    "h200": Profile(7, 48, 2400, 12, 15, 8, 2.5, 5, 6, 10, 10, 96),
}


class Run:
    """One training run: its folder, its stages, the time it has left."""

    def __init__(self, o: argparse.Namespace) -> None:
        self.o, self.profile, self.began = o, PROFILES[o.profile], time.time()
        self.work: Path = o.work
        (self.work / "logs").mkdir(parents=True, exist_ok=True)
        self.children: list[subprocess.Popen] = []

    def path(self, name: str) -> Path:
        return self.work / name

    def begin(self, name: str, *command: object) -> subprocess.Popen | None:
        """Starts a stage unless it is done; its mark is written when it ends well (`finish`)."""
        if self.path(f"{name}.done").exists():
            return None
        words = [sys.executable, *map(str, command)]
        with open(self.work / "logs" / f"{name}.log", "a") as log:
            child = subprocess.Popen(words, cwd=HERE, env=os.environ | QUIET, stdout=log, stderr=subprocess.STDOUT)
        print(f"{self.minutes():.1f}min {name}: {' '.join(map(str, command))}", flush=True)
        self.children.append(child)
        return child

    def finish(self, name: str, child: subprocess.Popen | None) -> None:
        """Waits for a stage; the whole run ends where it fails or where time is up."""
        if child is None:
            return
        left = None if self.o.seconds is None else max(1.0, self.o.seconds - (time.time() - self.began))
        try:
            code = child.wait(left)
        except subprocess.TimeoutExpired:
            self.stop(f"time is up during {name}: run the same command again to go on")
        if code:
            self.stop(f"{name} ended with {code}: see {self.work / 'logs' / name}.log")
        self.path(f"{name}.done").touch()
        print(f"{self.minutes():.1f}min {name} done", flush=True)

    def stop(self, why: str) -> None:
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        raise SystemExit(why)

    def minutes(self) -> float:
        return (time.time() - self.began) / 60

    def stage(self, name: str, *command: object) -> None:
        self.finish(name, self.begin(name, *command))

    def codecs(self) -> None:
        """Text tokenizer, video tokenizer and audio codec; the last two at the same time."""
        p, out = self.profile, self.path
        self.stage("text", "train_text_tokenizer.py", "--world", "rich", "--init", MINI / "tokenizer.json", "--out", out("tokenizer.json"))
        sound = self.begin("audio", "train_audio_codec.py", "--world", "rich", "--clips", p.sounds, "--out", out("audio.safetensors"))
        video = self.begin(
            "video", "train_video_tokenizer.py", "--world", "rich", "--init", MINI, "--out", out("vt"), "--minutes", p.video,
            "--batch", p.video_batch, "--workers", max(1, p.workers), "--device", self.o.device, "--edges", 0.3,
        )  # fmt: skip
        self.finish("video", video)
        self.finish("audio", sound)

    def data(self) -> list[tuple[str, subprocess.Popen | None]]:
        """Starts the makers of records and gives them a lead."""
        p, out = self.profile, self.path
        makers = []
        for k in range(p.makers):
            name = f"records{k}"
            command = ("make_records.py", "--world", "rich", "--out", out("data"), "--video", out("vt/video_tokenizer.safetensors"))
            more = ("--audio", out("audio.safetensors"), "--seed", 100 + k, "--minutes", p.records, "--shard-seconds", p.shard_seconds)
            makers.append((name, self.begin(name, *command, *more)))
        if any(child for _, child in makers) and not self.path("lead.done").exists():
            time.sleep(60 * p.head_start)
            self.path("lead.done").touch()
        return makers

    def transformer(self) -> None:
        """First drawing, then everything, each from the weights before."""
        p, out = self.profile, self.path
        common = ("--world", "rich", "--data", out("data"), "--tokenizer", out("tokenizer.json"), "--device", self.o.device)
        width = ("--workers", p.workers, "--scale", p.scale, "--log-every", 10 if self.o.profile == "smoke" else 100)
        command = ("train_transformer.py", *common, *width)
        self.stage("drawing", *command, "--out", out("lm"), "--init", MINI, "--minutes", p.drawing, "--decay", 0.4, "--drawing")
        rates = ("--decay", 0.6, "--lr", 1.2e-3, "--muon-lr", 0.007)
        self.stage("reading", *command, "--out", out("last"), "--init", out("lm/transformer.safetensors"), "--minutes", p.reading, *rates)

    def result(self) -> None:
        """The checkpoint folder and its scores."""
        out, n = self.path, self.profile.clips
        parts = ("--transformer", out("last/transformer.safetensors"), "--video", out("vt/video_tokenizer.safetensors"))
        more = ("--audio", out("audio.safetensors"), "--tokenizer", out("tokenizer.json"), "--sampling", SAMPLING, "--out", out("borealis-rich"))
        self.stage("export", "export.py", *parts, *more)
        scored = ("evaluate_rich.py", "--checkpoint", out("borealis-rich"), "--n", n)
        runs = []
        for what in ("truth", "codec", "model"):
            sheet = ("--sheet", out(f"sheet_{what}.png"))
            runs.append((what, self.begin(what, *scored, "--what", what, "--out", out(f"scores_{what}.json"), *sheet)))
        classes = self.begin("classes", "evaluate_tokenizer.py", "--checkpoint", out("borealis-rich"), "--out", out("classes.json"))
        for name, child in [*runs, ("classes", classes)]:
            self.finish(name, child)


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--profile", choices=tuple(PROFILES), default="cpu")
    a.add_argument("--device", default="cpu")
    a.add_argument("--work", type=Path, default=HERE.parent / "out" / "rich")
    a.add_argument("--seconds", type=float, help="stop after so many seconds, resumably")
    run = Run(a.parse_args())
    try:
        run.codecs()
        makers = run.data()
        run.transformer()
        for name, child in makers:
            run.finish(name, child)
        run.result()
    except KeyboardInterrupt:
        run.stop("interrupted: run the same command again to go on")
    size = sum(f.stat().st_size for f in run.path("borealis-rich").rglob("*") if f.is_file())
    print(f"{run.minutes():.1f}min all done: {size / 2**20:.1f} MiB in {run.path('borealis-rich')}", flush=True)


if __name__ == "__main__":
    main()
