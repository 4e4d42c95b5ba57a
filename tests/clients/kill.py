"""kill -9 at random moments: what was acknowledged ends once, whatever dies. Standard library only.

`kill.py worker ROUNDS` kills the worker while jobs run, `kill.py api ROUNDS` kills the API just after it acknowledged. The moments come from a fixed
seed. At the end every acknowledged job must be done (or failed with a reason, after three attempts), have one set of outputs and one webhook of
its own in the outbox, and the database must be sound.
"""

import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

import harness

BODY = {"prompt": "a red ball bounces on grass", "duration": 1, "resolution": "480p"}
SEED = 20261121


class Kill:
    def __init__(self, data):
        self.random = random.Random(SEED)
        self.server = harness.Server(harness.binary(), data)
        self.data = Path(data)
        self.accepted = []
        self.lock = threading.Lock()

    def submit(self, key):
        """A job with a key of its own; None when the API died before it answered."""
        try:
            status, _, body = self.server.call("POST", "/v1/videos/generations", BODY, {"idempotency-key": key})
        except OSError:
            return None
        assert status == 200, (status, body)
        with self.lock:
            self.accepted.append((key, body["request_id"]))
        return body["request_id"]

    def worker(self, rounds):
        """Kills the worker while jobs are queued and running."""
        self.server.start()
        for n in range(rounds):
            # Mostly with an empty queue, so that few jobs are hit three times; now and then while others wait.
            if self.random.random() < 0.7:
                for _, id in self.accepted:
                    self.server.wait(id)
            for i in range(self.random.choice([1, 1, 2])):
                self.submit(f"worker-{n}-{i}")
            victims = self.a_worker()
            time.sleep(self.random.uniform(0.0, 1.0))
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            print(f"round {n + 1}: killed worker {victims}", flush=True)
            assert self.server.process.poll() is None, "the API must not go down"
            assert self.server.call("GET", "/healthz", key=False)[0] == 200

    def a_worker(self):
        """The worker's process id, when there is one again."""
        end = time.monotonic() + harness.START_SECONDS
        while time.monotonic() < end:
            if victims := self.server.workers():
                return victims
            time.sleep(0.02)
        raise TimeoutError("no worker is started again")

    def api(self, rounds):
        """Kills the API while clients submit; then what it had acknowledged must be known."""
        for n in range(rounds):
            self.server.start()
            clients = [threading.Thread(target=self.submit, args=(f"api-{n}-{i}",)) for i in range(2)]
            for client in clients:
                client.start()
            time.sleep(self.random.uniform(0.0, 0.4))
            self.server.kill()
            for client in clients:
                client.join()
            print(f"round {n + 1}: killed the API after {len(self.accepted)} acknowledged", flush=True)
        self.server.start()
        for key, id in self.accepted:
            status, _, body = self.server.call("GET", f"/v1/videos/{id}")
            assert status in (200, 202), (id, status, body)
            # The same key is the same job, also after a restart.
            again = self.server.call("POST", "/v1/videos/generations", BODY, {"idempotency-key": key})
            assert (again[0], again[2]["request_id"]) == (200, id), again

    def judge(self):
        """Every acknowledged job ended, once."""
        ids = [id for _, id in self.accepted]
        assert len(set(ids)) == len(ids) > 0
        ends = {}
        for id in ids:
            status, body = self.server.wait(id)
            assert status == 200 and body["status"] in ("done", "failed"), (id, status, body)
            if body["status"] == "done":
                seen = harness.probe(harness.fetch(body["video"]["url"])[1])
                assert seen["frames"] == 24, (id, seen)
            else:
                assert body["error"]["message"], body
            ends[id] = body["status"]
        time.sleep(1)
        for id in ids:
            assert self.server.call("GET", f"/v1/videos/{id}")[2]["status"] == ends[id], "an end does not change"
        assert self.server.stop() == 0
        self.look_into_the_store(ends)
        failed = sum(end == "failed" for end in ends.values())
        assert failed * 4 <= len(ends), f"{failed} of {len(ends)} failed"
        print(f"ok: {len(ends)} acknowledged, {len(ends) - failed} done, {failed} failed after three attempts, none lost, none twice")

    def look_into_the_store(self, ends):
        store = sqlite3.connect(f"file:{self.data / 'borealis.db'}?mode=ro", uri=True)
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert store.execute("SELECT COUNT(*) FROM job WHERE state IN ('queued', 'running')").fetchone() == (0,)
        for id, end in ends.items():
            (attempt,) = store.execute("SELECT attempt FROM job WHERE id = ?", (id,)).fetchone()
            assert 1 <= attempt <= 3, (id, attempt)
            (assets,) = store.execute("SELECT COUNT(*) FROM asset WHERE job = ?", (id,)).fetchone()
            assert assets == (1 if end == "done" else 0), (id, end, assets)


def main(victim, rounds):
    with tempfile.TemporaryDirectory() as data:
        kill = Kill(data)
        try:
            getattr(kill, victim)(rounds)
            kill.judge()
        except BaseException:
            print(kill.server.logged(), file=sys.stderr)
            raise
        finally:
            if kill.server.process and kill.server.process.poll() is None:
                kill.server.kill()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
