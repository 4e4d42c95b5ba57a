"""Load on `borealis serve`, as figures: `python3 benches/server.py` (needs wrk; the binary is target/release/borealis or $BOREALIS_BIN).

Polls are closed-loop by wrk while videos are made; submissions are timed one by one, each is durable when it is answered.
"""

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "clients"))
import harness

SECONDS = 10
# Closed loops: each asks again at once. With more of them than the machine can serve, the time is that of the queue.
CONNECTIONS = (16, 64)
SUBMISSIONS = 200
LONG = {"prompt": "a red ball bounces on grass", "duration": 15, "resolution": "720p"}


def memory(pid):
    """Resident bytes of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000


def submissions(server, count):
    """Milliseconds of each of `count` submissions on one connection, sorted."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.port))
    headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
    times, ids = [], []
    for _ in range(count):
        begin = time.perf_counter()
        connection.request("POST", "/v1/videos/generations", json.dumps(LONG), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        times.append((time.perf_counter() - begin) * 1000)
        assert answer.status == 200, body
        ids.append(body["request_id"])
    return sorted(times), ids


def polls(server, id, connections):
    """What wrk says about polls of one video."""
    command = ["wrk", "-t2", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H", f"Authorization: Bearer {server.key}", f"{server.url}/v1/videos/{id}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    percentile = {p: re.search(rf"^\s+{p}%\s+(\S+)", said, re.M)[1] for p in (50, 99)}
    bad = re.search(r"(Non-2xx.*|Socket errors.*)", said)
    return f"{rate:.0f}/s, median {percentile[50]}, p99 {percentile[99]}" + (f", {bad[1].strip()}" if bad else "")


def main():
    with tempfile.TemporaryDirectory() as data:
        server = harness.Server(harness.binary(), data).start()
        try:
            time.sleep(3)
            print(f"idle memory: API {memory(server.process.pid):.0f} MB, worker {sum(map(memory, server.workers())):.0f} MB")
            status, _, body = server.call("POST", "/v1/videos/generations", {**LONG, "duration": 1})
            server.wait(body["request_id"])
            for connections in CONNECTIONS:
                print(f"polls of a finished video, nothing else, {connections} connections: {polls(server, body['request_id'], connections)}")
            times, ids = submissions(server, SUBMISSIONS)
            print(f"submissions while a video is made: median {times[len(times) // 2]:.1f} ms, p99 {times[int(len(times) * 0.99)]:.1f} ms, slowest {times[-1]:.1f} ms")
            for connections in CONNECTIONS:
                print(f"polls while a video is made, {connections} connections: {polls(server, ids[-1], connections)}")
            print(f"memory after that: API {memory(server.process.pid):.0f} MB")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
