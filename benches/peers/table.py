#!/usr/bin/env python3
"""The rounds of compare.sh as one table: table.py FOLDER. Medians over the rounds of each round's middle step, and of the processor time of a step."""

import json
import statistics
import sys
from pathlib import Path


def read(folder: Path, pattern: str) -> dict:
    """(phase, rows) -> the figures of all rounds."""
    figures: dict = {}
    for path in sorted(folder.glob(pattern)):
        for figure in json.loads(path.read_text())["figures"]:
            figures.setdefault((figure["phase"], figure["rows"]), []).append(figure)
    return figures


def middle(figures: list[dict], field: str) -> float:
    return statistics.median(f[field] for f in figures)


def main() -> None:
    folder = Path(sys.argv[1])
    engines = {"ours, AVX-512": "ours-avx512-*.json", "ours, AVX2": "ours-avx2-*.json", "llama.cpp Q8_0": "llama-*.json"}
    read_figures = {name: read(folder, pattern) for name, pattern in engines.items()}
    print("| rows | " + " | ".join(f"{name}: positions/s | busy ms" for name in read_figures) + " |")
    print("|---" * (1 + 2 * len(read_figures)) + "|")
    for key in next(iter(read_figures.values())):
        cells = []
        for figures in read_figures.values():
            rounds = figures.get(key)
            if rounds is None:
                cells += ["", ""]
                continue
            cells.append(f"{key[1] / middle(rounds, 'median_seconds'):.0f}")
            cells.append(f"{1e3 * middle(rounds, 'busy_seconds'):.2f}")
        print(f"| {'prefill ' if key[0] == 'prefill' else ''}{key[1]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
