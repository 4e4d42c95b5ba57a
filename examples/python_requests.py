"""xAI's REST without an SDK: `pip install requests && BOREALIS_KEY=bk-... python python_requests.py`."""

import os
import time

import requests

BASE = os.environ.get("BOREALIS_URL", "http://127.0.0.1:8080") + "/v1"
session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['BOREALIS_KEY']}"


def start(path, **body):
    """Starts a clip; the same Idempotency-Key would give the same clip again."""
    answer = session.post(f"{BASE}/videos/{path}", json=body, headers={"Idempotency-Key": os.urandom(8).hex()})
    answer.raise_for_status()
    return answer.json()["request_id"]


def finish(request_id):
    """Waits for a clip and returns its description."""
    while True:
        answer = session.get(f"{BASE}/videos/{request_id}")
        answer.raise_for_status()
        clip = answer.json()
        if clip["status"] == "done":
            return clip["video"]
        if clip["status"] != "pending":
            raise SystemExit(clip)
        print(f"{clip['progress']} %")
        time.sleep(0.5)


ball = finish(start("generations", prompt="a red ball bounces on grass", duration=2, resolution="480p", seed=7))
longer = finish(start("extensions", prompt="it bounces again", duration=2, video={"url": ball["url"]}))
with open("ball.mp4", "wb") as file:
    file.write(requests.get(longer["url"], timeout=30).content)
print(f"ball.mp4: {longer['duration']} s")

# What cannot be made is said in one line.
refused = session.post(f"{BASE}/videos/generations", json={"prompt": "a ball", "duration": 16})
print(refused.status_code, refused.json()["error"])
