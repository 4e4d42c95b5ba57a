"""A real `borealis serve` on a free port and a data folder of its own, and eyes for what it makes (ffprobe, ffmpeg). Standard library only."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)")
KEY = re.compile(r"\bbk-[0-9a-f]{10}-\S+")
# Generous: machines that run tests are busy.
START_SECONDS = 120
JOB_SECONDS = 300


class Server:
    """One API process with its worker. The key and the data survive `kill` and the next `start`."""

    def __init__(self, binary, data, options=()):
        self.binary, self.data, self.options = str(binary), str(data), list(options)
        self.process = self.port = self.key = None
        self.log = open(Path(self.data) / "log.txt", "ab")

    def start(self):
        command = [self.binary, "serve", "--address", "127.0.0.1:0", "--data", self.data, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        end = time.monotonic() + START_SECONDS
        self.port = None
        while self.port is None or self.key is None:
            line = self.process.stdout.readline()
            if not line or time.monotonic() > end:
                raise RuntimeError(f"the server did not start; it said:\n{self.logged()}")
            self.port = (ADDRESS.search(line) or [None, self.port])[1]
            self.key = (KEY.search(line) or [self.key])[0]
        # Whatever it prints later must not fill the pipe.
        subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=self.log)
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def logged(self):
        self.log.flush()
        return (Path(self.data) / "log.txt").read_text(errors="replace")[-4000:]

    def workers(self):
        """Process ids of its workers."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and b"worker" in command:
                found.append(int(entry.name))
        return found

    def kill(self):
        """kill -9 of the API process."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """The gentle way; the exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def call(self, method, path, body=None, headers=None, key=True):
        """Status, headers and JSON (or bytes) of one request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers or {}))
        if data is not None:
            request.add_header("content-type", "application/json")
        if key:
            request.add_header("authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, parsed(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.headers, parsed(error)

    def wait(self, request_id, seconds=JOB_SECONDS):
        """The last answer about a video."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status, _, body = self.call("GET", f"/v1/videos/{request_id}")
            if status != 202:
                return status, body
            time.sleep(0.2)
        raise TimeoutError(f"{request_id} did not end in {seconds} s: {body}")


def parsed(answer):
    data = answer.read()
    return json.loads(data) if answer.headers.get_content_type() == "application/json" else data


def running():
    """The server that the runner has started: its address and key are in the environment."""
    return os.environ["BOREALIS_URL"], os.environ["BOREALIS_KEY"]


def binary():
    """The command under test."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(os.environ.get("BOREALIS_BIN", target / "release" / "borealis"))


def fetch(url):
    """A result, without a key."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.headers.get_content_type(), answer.read()


def probe(data):
    """What ffprobe sees in a file: width, height, frames, seconds, whether it has sound."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", file.name]
        seen = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    video = next(s for s in seen["streams"] if s["codec_type"] == "video")
    return {
        "codec": video["codec_name"],
        "width": int(video["width"]),
        "height": int(video["height"]),
        "frames": int(video.get("nb_read_frames", 1)),
        "seconds": float(seen["format"].get("duration", 0)),
        "audio": any(s["codec_type"] == "audio" for s in seen["streams"]),
    }


def frames(data, width=32, height=18):
    """Every frame, small, as RGB bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        scale = f"scale={width}:{height}:flags=area"
        command = ["ffmpeg", "-v", "error", "-i", file.name, "-vf", scale, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
    size = width * height * 3
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def distance(a, b):
    """Mean absolute difference of two small frames, 0 to 255."""
    assert len(a) == len(b) > 0
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)
