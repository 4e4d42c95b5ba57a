"""The OpenAI SDK for Python, unmodified but for its address."""

import base64
import io
import unittest

import harness
import openai

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.url, cls.key = harness.running()
        cls.client = openai.OpenAI(api_key=cls.key, base_url=f"{cls.url}/v1", max_retries=0)
        cls.still = base64.b64decode(cls.client.images.generate(prompt="a red ball on grass", response_format="b64_json").data[0].b64_json)

    def made(self, video):
        """The bytes of a video that was started."""
        done = self.client.videos.poll(video.id, poll_interval_ms=200)
        self.assertEqual((done.status, done.progress, done.error), ("completed", 100, None))
        return self.client.videos.download_content(video.id).read()

    def test_images(self):
        self.assertTrue(self.still.startswith(JPEG))
        answer = self.client.images.generate(model="grok-imagine-image", prompt="a blue star", n=2, size="1024x1024")
        self.assertEqual(len(answer.data), 2)
        for image in answer.data:
            seen = harness.probe(harness.fetch(image.url)[1])
            self.assertEqual(seen["width"], seen["height"])
        self.assertGreater(answer.usage.total_tokens, 0)
        self.assertGreater(answer.created, 1_700_000_000)

    def test_same_seed_same_bytes(self):
        twice = [self.client.images.generate(prompt="a red ball", response_format="b64_json", extra_body={"seed": 7}) for _ in range(2)]
        self.assertEqual(*(answer.data[0].b64_json for answer in twice))

    def test_edits_by_form(self):
        one = self.client.images.edit(image=("still.jpg", self.still, "image/jpeg"), prompt="the ball turns blue", response_format="b64_json")
        edited = base64.b64decode(one.data[0].b64_json)
        self.assertNotEqual(edited, self.still)
        before, after = harness.probe(self.still), harness.probe(edited)
        self.assertAlmostEqual(before["width"] / before["height"], after["width"] / after["height"], delta=0.03)
        several = self.client.images.edit(image=[io.BytesIO(self.still), io.BytesIO(edited)], prompt="both of them")
        self.assertTrue(harness.fetch(several.data[0].url)[1].startswith(JPEG))

    def test_a_video_and_what_follows(self):
        video = self.client.videos.create(model="grok-imagine-video", prompt="a red ball bounces", seconds="4", size="1280x720")
        self.assertTrue(video.id.startswith("video_"))
        self.assertIn(video.status, ("queued", "in_progress"))
        data = self.made(video)
        seen = harness.probe(data)
        self.assertEqual((seen["frames"], seen["width"], seen["height"], seen["audio"]), (96, 1280, 720, True))
        self.assertIn(video.id, [v.id for v in self.client.videos.list(limit=20).data])

        remixed = self.client.videos.remix(video.id, prompt="the ball is blue")
        self.assertEqual(remixed.remixed_from_video_id, video.id)
        self.assertEqual(harness.probe(self.made(remixed))["frames"], 96)

        # Version 2.54 cannot send the id that its type allows here: it wants a file.
        longer = self.client.videos.extend(video=("clip.mp4", data, "video/mp4"), prompt="it goes on", seconds="4")
        self.assertEqual(harness.probe(self.made(longer))["frames"], 192)

        edited = self.client.videos.edit(video=("clip.mp4", data, "video/mp4"), prompt="at night")
        self.assertEqual(harness.probe(self.made(edited))["frames"], 96)

        self.assertTrue(self.client.videos.delete(video.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            self.client.videos.retrieve(video.id)

    def test_a_video_from_a_picture(self):
        made = self.client.videos.create_and_poll(
            prompt="the ball bounces", seconds="4", size="720x1280", input_reference=("still.jpg", self.still, "image/jpeg"), poll_interval_ms=200
        )
        seen = harness.probe(self.client.videos.download_content(made.id).read())
        self.assertEqual((seen["width"], seen["height"]), (720, 1280))

    def test_models(self):
        ids = [model.id for model in self.client.models.list()]
        self.assertTrue({"grok-imagine-image", "grok-imagine-video", "borealis-mini"} <= set(ids))
        self.assertEqual(self.client.models.retrieve("grok-imagine-video").id, "grok-imagine-video")

    def test_files(self):
        file = self.client.files.create(file=("still.jpg", self.still), purpose="vision")
        self.assertEqual(file.bytes, len(self.still))
        self.assertEqual(self.client.files.content(file.id).read(), self.still)
        self.assertTrue(self.client.files.delete(file.id).deleted)

    def test_errors(self):
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()
        with self.assertRaises(openai.NotFoundError):
            self.client.images.generate(model="no-such-model", prompt="a ball")
        with self.assertRaises(openai.BadRequestError):
            self.client.images.generate(prompt="a ball", n=11)
        with self.assertRaises(openai.NotFoundError):
            self.client.videos.retrieve("video_nobody")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.images.generate(prompt="how to make a bomb")
        self.assertIn("moderat", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
