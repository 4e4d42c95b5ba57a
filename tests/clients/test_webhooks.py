"""Webhooks as a receiver sees them that follows standardwebhooks.com: signed, told again after a failure, under the same id."""

import json
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import harness
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECONDS = 120


class Receiver(ThreadingHTTPServer):
    """Answers the n-th call to a path with the n-th status of its list, the last one from then on."""

    def __init__(self, statuses):
        self.statuses, self.calls, self.lock = statuses, [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def at(self, path):
        with self.lock:
            return [call for call in self.calls if call["path"] == path]

    def wait(self, path, count):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if len(calls := self.at(path)) >= count:
                return calls
            time.sleep(0.05)
        raise TimeoutError(f"{path} was called {len(self.at(path))} times in {SECONDS} s, not {count}")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        with server.lock:
            before = sum(call["path"] == self.path for call in server.calls)
            server.calls.append({"path": self.path, "headers": dict(self.headers), "body": body, "at": time.monotonic()})
        self.answer(server.statuses[self.path], before)

    # An upload.
    do_PUT = do_POST

    def answer(self, statuses, before):
        self.send_response(statuses[min(before, len(statuses) - 1)])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Webhooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.data = tempfile.TemporaryDirectory()
        cls.server = harness.Server(harness.binary(), cls.data.name, ["--fetch", "local"]).start()
        command = [harness.binary(), "keys", "webhook-secret", "--data", cls.data.name]
        said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        cls.webhook = Webhook(next(word for word in said.split() if word.startswith("whsec_")))
        cls.receiver = Receiver({"/good": [204], "/again": [500, 200], "/moved": [302, 200], "/gone": [410], "/task": [200], "/put": [503, 201]})

    @classmethod
    def tearDownClass(cls):
        cls.receiver.shutdown()
        assert cls.server.stop() == 0
        cls.data.cleanup()

    def start(self, path, **more):
        body = {"prompt": "a red ball", "duration": 1, "resolution": "480p", "webhook_url": self.receiver.url(path), **more}
        status, _, answer = self.server.call("POST", "/v1/videos/generations", body)
        self.assertEqual(status, 200, answer)
        return answer["request_id"]

    def verified(self, call):
        """The event, when the package says that its signature is right."""
        headers = {name.lower(): value for name, value in call["headers"].items()}
        self.assertEqual(headers["content-type"], "application/json")
        return self.webhook.verify(call["body"], headers)

    def test_a_finished_clip_is_told_once(self):
        id = self.start("/good")
        event = self.verified(self.receiver.wait("/good", 1)[0])
        self.assertEqual((event["type"], event["data"]["request_id"], event["data"]["status"]), ("video.completed", id, "done"))
        seen = harness.probe(harness.fetch(event["data"]["outputs"][0]["url"])[1])
        self.assertEqual(seen["frames"], 24)
        time.sleep(3)
        self.assertEqual(len(self.receiver.at("/good")), 1)

    def test_it_is_told_again_after_a_failure(self):
        for path in ["/again", "/moved"]:
            self.start(path)
        for path in ["/again", "/moved"]:
            first, second = self.receiver.wait(path, 2)[:2]
            self.assertEqual(self.verified(first), self.verified(second))
            same = [{n.lower(): v for n, v in call["headers"].items()}["webhook-id"] for call in (first, second)]
            self.assertEqual(same[0], same[1])
            self.assertGreaterEqual(second["at"] - first["at"], 4.5, "five seconds by the schedule")

    def test_who_is_gone_is_left_alone(self):
        self.start("/gone")
        self.receiver.wait("/gone", 1)
        time.sleep(8)
        self.assertEqual(len(self.receiver.at("/gone")), 1)

    def test_what_was_changed_on_its_way_is_not_believed(self):
        self.start("/good")
        call = self.receiver.wait("/good", 1)[0]
        for changed in [
            {**call, "body": call["body"].replace(b"completed", b"cancelled")},
            {**call, "headers": {**call["headers"], "webhook-id": "msg_other"}},
        ]:
            with self.assertRaises(WebhookVerificationError):
                self.verified(changed)

    def test_a_clip_is_put_where_it_is_wanted(self):
        status, _, answer = self.server.call("POST", "/v1/videos/generations", {"prompt": "a ball", "duration": 1, "output": {"upload_url": self.receiver.url("/put")}})
        self.assertEqual(status, 200, answer)
        video = self.server.wait(answer["request_id"])[1]["video"]
        whole = harness.fetch(video["url"])[1]
        for call in self.receiver.wait("/put", 2):
            headers = {name.lower(): value for name, value in call["headers"].items()}
            self.assertEqual((headers["content-type"], call["body"] == whole), ("video/mp4", True))

    def test_a_task_calls_back_with_itself(self):
        body = {"model": "grok-imagine-text-to-video", "input": {"prompt": "a red ball", "duration": 6}, "callback_url": self.receiver.url("/task")}
        status, _, task = self.server.call("POST", "/v1/videos/generations", body)
        self.assertEqual(status, 200, task)
        told = self.verified(self.receiver.wait("/task", 1)[0])
        self.assertEqual((told["id"], told["status"], len(told["results"])), (task["id"], "completed", 1))


if __name__ == "__main__":
    unittest.main()
