"""What a busy neighbour costs: decode rates with and without another program on one of the cores, in turns.

    python3 benches/neighbour.py [--binary target/release/borealis] [--synth 40m] [--threads 1,2] [--rows 1,8] [--rounds 3]

The neighbour is a loop pinned to the last core that this process may use. With N threads on N cores, of which one is shared by two, the most that can be had is
(N - 1/2) / N of the quiet rate; with fewer threads than cores nothing need be lost.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys


def rates(args, threads):
    """Positions per second by rows."""
    command = [args.binary, "bench", "model", "--synth", args.synth, "--dtypes", "int8", "--prefill", "0", "--rows", args.rows]
    command += ["--threads", str(threads), "--budget", str(args.budget), "--json"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    # Rows over the mean, not the middle: a few steps that wait long are what a neighbour costs.
    return {figure["rows"]: figure["rows"] / figure["mean_seconds"] for figure in json.loads(told)["figures"]}


def beside_a_loop(core, work):
    """What `work` returns while a loop has a core."""
    loop = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
    try:
        return work()
    finally:
        loop.kill()
        loop.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.environ.get("BOREALIS_BIN", "target/release/borealis"))
    parser.add_argument("--synth", default="40m")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rows", default="1,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=1.0)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}; a neighbour on core {cores[-1]}\n")
    print("| threads | rows | alone, positions/s | beside a neighbour | lost | must be lost |")
    print("|---|---|---|---|---|---|")
    for threads in map(int, args.threads.split(",")):
        alone, beside = [], []
        for _ in range(args.rounds):
            alone.append(rates(args, threads))
            beside.append(beside_a_loop(cores[-1], lambda: rates(args, threads)))
        least = 0.5 / threads if threads >= len(cores) else 0.0
        for rows in alone[0]:
            quiet, busy = (statistics.median(r[rows] for r in of) for of in (alone, beside))
            print(f"| {threads} | {rows} | {quiet:,.0f} | {busy:,.0f} | {100 * (1 - busy / quiet):.0f} % | {100 * least:.0f} % |")


if __name__ == "__main__":
    main()
