#!/usr/bin/env python3
"""The rounds of compare.sh as tables: table.py FOLDER.. Medians over the rounds of each round's middle step, and of the processor time of a step.

A folder is SHAPE/threads-N with ours-SET-ROUND.json and llama-ROUND.json. "times" is the speed of ours over that of llama.cpp; "share" is how near ours comes
to the limit (bandwidth or operations, measured in the same run) that bounds it.
"""

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


def speed(key: tuple[str, int], figures: list[dict]) -> float:
    return key[1] / middle(figures, "median_seconds")


def cells(key: tuple[str, int], figures: list[dict]) -> list[str]:
    if not figures:
        return ["", ""]
    return [f"{speed(key, figures):.0f}", f"{1e3 * middle(figures, 'busy_seconds'):.2f}"]


def table(folder: Path) -> None:
    sets = sorted({path.name.split("-")[1] for path in folder.glob("ours-*.json")}, reverse=True)
    ours = {name: read(folder, f"ours-{name}-*.json") for name in sets}
    theirs = read(folder, "llama-*.json")
    if not ours or not theirs:
        raise SystemExit(f"{folder}: needs ours-SET-ROUND.json and llama-ROUND.json; compare.sh writes them")
    rounds = max(len(figures) for figures in theirs.values())
    loads = [f["load"] for figures in [*theirs.values(), *ours[sets[0]].values()] for f in figures if f.get("load") is not None]
    load = f", load {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    print(f"\n{folder.parent.name}, {folder.name.replace('-', ' ')}, {rounds} rounds{load}\n")
    heads = ["rows", *[f"ours int8 {name}: positions/s | busy ms" for name in sets], "share", "llama.cpp Q8_0: positions/s | busy ms", "times"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * (5 + 2 * len(sets)) + "|")
    for key, figures in ours[sets[0]].items():
        peers = theirs.get(key, [])
        share = max(middle(figures, "share_of_bandwidth"), middle(figures, "share_of_operations"))
        row = [f"{'prefill ' if key[0] == 'prefill' else ''}{key[1]}"]
        for name in sets:
            row += cells(key, ours[name].get(key, []))
        row += [f"{100 * share:.0f} %", *cells(key, peers)]
        row.append(f"{speed(key, figures) / speed(key, peers):.2f}" if peers else "")
        print("| " + " | ".join(row) + " |")


def main() -> None:
    for folder in sys.argv[1:]:
        table(Path(folder))


if __name__ == "__main__":
    main()
