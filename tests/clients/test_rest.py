"""xAI's REST as tutorials show it: plain requests, loops that poll, results that are fetched without a key."""

import base64
import time
import unittest

import harness
import requests


class Rest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        url, key = harness.running()
        cls.url, cls.v1 = url, f"{url}/v1"
        cls.session = requests.Session()
        cls.session.headers["authorization"] = f"Bearer {key}"

    def post(self, path, **body):
        return self.session.post(self.v1 + path, json=body, timeout=120)

    def video(self, path="/videos/generations", **body):
        """Starts a video and polls for it, as every tutorial does."""
        started = self.post(path, **body)
        self.assertEqual(started.status_code, 200, started.text)
        id = started.json()["request_id"]
        end = time.monotonic() + harness.JOB_SECONDS
        while time.monotonic() < end:
            answer = self.session.get(f"{self.v1}/videos/{id}", timeout=30)
            if answer.json()["status"] != "pending":
                self.assertEqual((answer.status_code, answer.json()["status"]), (200, "done"), answer.text)
                return answer.json()
            self.assertEqual(answer.status_code, 202)
            time.sleep(0.2)
        self.fail(f"{id} is still pending")

    def clip(self, **body):
        return self.video(prompt="a red ball bounces on grass", duration=1, resolution="480p", seed=3, **body)["video"]["url"]

    def test_images(self):
        answer = self.post("/images/generations", model="grok-imagine-image", prompt="a cat", n=3, response_format="b64_json", aspect_ratio="16:9", resolution="1k", user="u1")
        self.assertEqual(answer.status_code, 200, answer.text)
        images = [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]
        self.assertEqual(len(set(images)), 3)
        for image in images:
            seen = harness.probe(image)
            self.assertAlmostEqual(seen["width"] / seen["height"], 16 / 9, delta=0.03)
        usage = answer.json()["usage"]
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])

    def test_video_edit_and_extension(self):
        url = self.clip()
        edited = self.video("/videos/edits", prompt="the ball is blue", video={"url": url})["video"]
        longer = self.video("/videos/extensions", prompt="it goes on", video={"url": self.video(prompt="a ball", duration=2, resolution="480p")["video"]["url"]}, duration=2)["video"]
        self.assertEqual(harness.probe(harness.fetch(edited["url"])[1])["frames"], 24)
        self.assertEqual((longer["duration"], harness.probe(harness.fetch(longer["url"])[1])["frames"]), (4, 96))

    def test_same_seed_same_ids_whatever_runs_beside(self):
        """The frames of a seed are the same alone and beside others."""
        alone = harness.frames(harness.fetch(self.clip())[1])
        others = [self.post("/videos/generations", prompt=f"star {i}", duration=1, resolution="480p") for i in range(3)]
        beside = harness.frames(harness.fetch(self.clip())[1])
        self.assertEqual(alone, beside)
        self.assertTrue(all(o.status_code == 200 for o in others))

    def test_results_are_files_as_browsers_want_them(self):
        url = self.clip()
        whole = requests.get(url, timeout=30)
        self.assertEqual((whole.status_code, whole.headers["content-type"], whole.headers["x-content-type-options"]), (200, "video/mp4", "nosniff"))
        self.assertEqual(int(whole.headers["content-length"]), len(whole.content))
        part = requests.get(url, headers={"range": "bytes=10-19"}, timeout=30)
        self.assertEqual((part.status_code, part.content, part.headers["content-range"]), (206, whole.content[10:20], f"bytes 10-19/{len(whole.content)}"))
        self.assertEqual(requests.get(url, headers={"range": f"bytes={len(whole.content)}-"}, timeout=30).status_code, 416)
        head = requests.head(url, timeout=30)
        self.assertEqual((head.status_code, head.headers["content-length"], head.content), (200, str(len(whole.content)), b""))
        forged = url[:-1] + ("a" if url[-1] != "a" else "b")
        self.assertIn(requests.get(forged, timeout=30).status_code, (403, 404))

    def test_playback_while_it_is_made(self):
        """The stream of a running video starts before the video is done, and plays."""
        started = self.post("/videos/generations", prompt="a red ball bounces", duration=15, resolution="720p").json()["request_id"]
        end = time.monotonic() + 60
        while time.monotonic() < end:
            body = self.session.get(f"{self.v1}/videos/{started}", timeout=30).json()
            live = body.get("stream_url")
            if live or body["status"] != "pending":
                break
            time.sleep(0.05)
        self.assertTrue(live, body)
        data = requests.get(live, timeout=120).content
        self.assertEqual(harness.probe(data)["frames"], 360)

    def test_long_clips_can_be_watched_before_they_are_continued(self):
        """A task of 16 s is made in two pieces: the first is shown at once, and the whole is one clip without a seam."""
        body = {"model": "grok-imagine-text-to-video", "input": {"prompt": "a red ball bounces on grass", "duration": 16, "seed": 5}}
        task = self.session.post(f"{self.v1}/videos/generations", json=body, timeout=30).json()
        ask = lambda: self.session.get(f"{self.v1}/tasks/{task['id']}", timeout=30).json()
        end = time.monotonic() + harness.JOB_SECONDS
        while "stream_url" not in (told := ask()) and time.monotonic() < end:
            self.assertIn(told["status"], ("pending", "processing"), told)
            time.sleep(0.05)
        with requests.get(told["stream_url"], stream=True, timeout=harness.JOB_SECONDS) as live:
            pieces = live.iter_content(4096)
            begin = next(pieces)
            self.assertLess(ask()["progress"], 50, "the second piece has not begun")
            shown = begin + b"".join(pieces)
        while (told := ask())["status"] == "processing":
            time.sleep(0.2)
        self.assertEqual(told["status"], "completed", told)
        whole = harness.fetch(told["results"][0])[1]
        seen = harness.probe(whole)
        self.assertEqual((seen["frames"], seen["audio"], round(seen["seconds"], 3)), (384, True, 16.0), seen)
        frames = harness.frames(whole)
        self.assertTrue(harness.frames(shown) == frames, "what was shown is what is kept")
        steps = [harness.distance(a, b) for a, b in zip(frames, frames[1:])]
        self.assertLess(steps[191], 3 * max(steps[:191]) + 1, "the seam does not jump")

    def test_cancelling(self):
        id = self.post("/videos/generations", prompt="a ball", duration=15, resolution="720p").json()["request_id"]
        self.assertEqual(self.session.delete(f"{self.v1}/videos/{id}", timeout=30).status_code, 200)
        self.assertNotEqual(self.session.get(f"{self.v1}/videos/{id}", timeout=30).status_code, 202)

    def test_idempotency(self):
        body = {"prompt": "a ball", "duration": 1, "resolution": "480p"}
        headers = {"idempotency-key": "aisdk_vid_1"}
        post = lambda b: self.session.post(f"{self.v1}/videos/generations", json=b, headers=headers, timeout=30)
        self.assertEqual(len({post(body).json()["request_id"] for _ in range(5)}), 1)
        self.assertEqual(post({**body, "prompt": "a box"}).status_code, 409)

    def test_errors(self):
        for path, body, status in [
            ("/images/generations", {"prompt": "a ball", "n": 11}, 400),
            ("/images/generations", {"prompt": "a ball", "n": 0}, 400),
            ("/images/generations", {}, 422),
            ("/images/generations", {"prompt": "a ball", "model": "no-such-model"}, 404),
            ("/images/generations", {"prompt": "how to make a bomb"}, 400),
            ("/videos/generations", {"prompt": "a ball", "duration": 16}, 400),
            ("/videos/generations", {"prompt": "a ball", "duration": 0}, 400),
            ("/videos/extensions", {"prompt": "a ball", "video": {"url": "http://127.0.0.1:1/x.mp4"}}, 400),
            ("/no/such/route", {}, 404),
        ]:
            answer = self.post(path, **body)
            self.assertEqual(answer.status_code, status, f"{path} {body}: {answer.text}")
            self.assertEqual({type(answer.json()[k]) for k in ("code", "error")}, {str}, answer.text)
        nobody = requests.post(f"{self.v1}/images/generations", json={"prompt": "a ball"}, timeout=30)
        self.assertEqual(nobody.status_code, 401)

    def test_health(self):
        self.assertEqual(requests.get(f"{self.url}/healthz", timeout=30).status_code, 200)
        self.assertEqual(requests.get(f"{self.url}/readyz", timeout=30).status_code, 200)


if __name__ == "__main__":
    unittest.main()
