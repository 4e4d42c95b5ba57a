"""xai-sdk, unmodified: one set of scenarios for the synchronous and for the asynchronous client."""

import asyncio
import base64
import datetime
import inspect
import unittest
import urllib.error

import grpc
import harness
import xai_sdk
import xai_sdk.chat
from xai_sdk.proto import batch_pb2
from xai_sdk.video import VideoGenerationError

IMAGE, VIDEO = "grok-imagine-image", "grok-imagine-video"
QUICK = {"duration": 1, "resolution": "480p"}
POLL = {"interval": datetime.timedelta(milliseconds=200), "timeout": datetime.timedelta(seconds=harness.JOB_SECONDS)}
JPEG = b"\xff\xd8\xff"
WIDE = 16 / 9


class Scenarios:
    """What a user of the SDK does. `self.client` is one of the two clients, `self.go` waits where that is needed."""

    made = {}

    def go(self, value):
        return self.loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def refused(self, code, call, *args, **kwargs):
        with self.assertRaises(grpc.RpcError) as caught:
            self.go(call(*args, **kwargs))
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception.details()

    def still(self):
        """A picture that several scenarios start from: made once per client."""
        if "still" not in self.made:
            self.made["still"] = self.go(self.client.image.sample("a red ball on grass", IMAGE, aspect_ratio="16:9"))
        return self.made["still"]

    def clip(self):
        """Likewise a clip."""
        if "clip" not in self.made:
            self.made["clip"] = self.go(self.client.video.generate("a red ball bounces on grass", VIDEO, **{**QUICK, "duration": 2}, **POLL))
        return self.made["clip"]

    def test_image_by_url(self):
        image = self.still()
        self.assertEqual(image.model, IMAGE)
        self.assertTrue(image.respect_moderation)
        data = self.go(image.image)
        self.assertTrue(data.startswith(JPEG))
        seen = harness.probe(data)
        self.assertAlmostEqual(seen["width"] / seen["height"], WIDE, delta=0.03)
        self.assertGreater(image.usage.completion_tokens, 0)

    def test_image_inside_the_answer(self):
        image = self.go(self.client.image.sample("a blue star", IMAGE, image_format="base64", aspect_ratio="1:1", resolution="1k"))
        self.assertTrue(image.base64.startswith("data:image/jpeg;base64,"))
        seen = harness.probe(self.go(image.image))
        self.assertEqual(seen["width"], seen["height"])

    def test_batch_of_four_images(self):
        images = self.go(self.client.image.sample_batch("a green box", IMAGE, 4, image_format="base64"))
        self.assertEqual(len(images), 4)
        self.assertEqual(len({image.base64 for image in images}), 4, "the variants differ")

    def test_image_edit(self):
        still = self.still()
        encoded = "data:image/jpeg;base64," + base64.b64encode(self.go(still.image)).decode()
        for source in (still.url, encoded):
            edited = self.go(self.client.image.sample("the ball turns blue", IMAGE, image_url=source))
            data = self.go(edited.image)
            seen = harness.probe(data)
            self.assertAlmostEqual(seen["width"] / seen["height"], WIDE, delta=0.03, msg="an edit keeps the ratio")
            self.assertNotEqual(data, self.go(still.image))

    def test_several_images_into_one(self):
        other = self.go(self.client.image.sample("a blue star at night", IMAGE, aspect_ratio="1:1"))
        urls = [self.still().url, other.url]
        mixed = self.go(self.client.image.sample("<IMAGE_0> beside <IMAGE_1>", IMAGE, image_urls=urls))
        self.assertTrue(self.go(mixed.image).startswith(JPEG))
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample, "all of them", IMAGE, image_urls=urls * 2)

    def test_video(self):
        clip = self.clip()
        self.assertEqual((clip.duration, clip.model, clip.respect_moderation), (2, VIDEO, True))
        kind, data = harness.fetch(clip.url)
        self.assertEqual(kind, "video/mp4")
        seen = harness.probe(data)
        self.assertEqual((seen["frames"], seen["height"], seen["audio"]), (48, 480, True))
        self.assertAlmostEqual(seen["width"] / seen["height"], WIDE, delta=0.03)
        small = harness.frames(data)
        self.assertGreater(max(harness.distance(small[0], f) for f in small), 0.5, "something moves")

    def test_video_by_hand(self):
        """start, then get: pending with progress, then done."""
        started = self.go(self.client.video.start("a yellow ball rolls", VIDEO, duration=3, resolution="480p", aspect_ratio="1:1", generate_audio=False))
        progress = []
        while True:
            answer = self.go(self.client.video.get(started.request_id))
            progress.append(answer.response.progress)
            if answer.status == 1:
                break
            self.assertEqual(answer.status, 3)
            self.assertIn(answer.response.progress, range(100))
            self.go(self.pause(0.1))
        self.assertEqual(progress, sorted(progress))
        self.assertEqual(progress[-1], 100)
        seen = harness.probe(harness.fetch(answer.response.video.url)[1])
        self.assertEqual((seen["frames"], seen["width"], seen["height"], seen["audio"]), (72, 480, 480, False))

    def test_image_to_video(self):
        still = harness.frames(self.go(self.still().image))[0]
        clip = self.go(self.client.video.generate("the ball bounces", VIDEO, image_url=self.still().url, **QUICK, **POLL))
        first = harness.frames(harness.fetch(clip.url)[1])[0]
        other = harness.frames(self.go(self.go(self.client.image.sample("a white star at night", IMAGE, aspect_ratio="16:9")).image))[0]
        self.assertLess(harness.distance(first, still), 0.5 * harness.distance(first, other), "the clip starts with the picture")

    def test_references_to_video(self):
        clip = self.go(self.client.video.generate("<IMAGE_0> bounces", VIDEO, reference_image_urls=[self.still().url], **QUICK, **POLL))
        self.assertEqual(harness.probe(harness.fetch(clip.url)[1])["frames"], 24)
        many = [self.still().url] * 8
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.start, "x", VIDEO, reference_image_urls=many)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.start, "x", VIDEO, reference_image_urls=many[:1], duration=11)

    def test_video_edit(self):
        edited = self.go(self.client.video.generate("make the ball blue", VIDEO, video_url=self.clip().url, **POLL))
        before, after = (harness.probe(harness.fetch(c.url)[1]) for c in (self.clip(), edited))
        self.assertEqual({k: before[k] for k in ("frames", "width", "height")}, {k: after[k] for k in ("frames", "width", "height")})

    def test_extension(self):
        longer = self.go(self.client.video.extend("it bounces again", VIDEO, video_url=self.clip().url, duration=2, **POLL))
        before, after = (harness.frames(harness.fetch(c.url)[1]) for c in (self.clip(), longer))
        self.assertEqual((longer.duration, len(after)), (4, 96))
        self.assertLess(max(harness.distance(a, b) for a, b in zip(before, after)), 12, "the clip goes on from the one that was given")
        cut = harness.distance(after[47], after[48])
        self.assertLess(cut, 20, "there is no hard cut where it goes on")
        for seconds in (0, 11):
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.extend_start, "more", VIDEO, video_url=self.clip().url, duration=seconds)

    def test_numbers_beyond_their_range(self):
        for seconds in (0, 16, -1):
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.start, "a ball", VIDEO, duration=seconds)
        for n in (0, 11):
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample_batch, "a ball", IMAGE, n)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.start, "", VIDEO)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample, "x" * 10_001, IMAGE)
        storage = {"filename": "a.jpg", "expires_after": 2_592_001}
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample, "a ball", IMAGE, storage_options=storage)

    def test_what_is_not_there(self):
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.video.get, "00000000-0000-4000-8000-000000000000")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.video.get, "../../etc/passwd")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.image.sample, "a ball", "no-such-model")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.files.get, "file_nobody")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.image.sample, "a ball", IMAGE, image_file_id="file_nobody")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.batch.get, "batch_nobody")

    def test_what_is_not_supported(self):
        url = self.still().url
        self.assertIn("last_frame", self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.video.start, "a ball", VIDEO, last_frame_url=url))
        chat = self.client.chat.create(model="grok-4", messages=[xai_sdk.chat.user("hello")])
        self.refused(grpc.StatusCode.UNIMPLEMENTED, chat.sample)

    def test_broken_media(self):
        rubbish = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n rubbish").decode()
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample, "a ball", IMAGE, image_url=rubbish)

    def test_moderation(self):
        details = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.image.sample, "how to make a bomb", IMAGE)
        self.assertIn("imagine:content-moderated", details)

    def test_a_wrong_key(self):
        stranger = type(self.client)(api_key="bk-0000000000-wrong", api_host=self.host, use_insecure_channel=True)
        self.refused(grpc.StatusCode.UNAUTHENTICATED, stranger.auth.get_api_key_info)
        self.refused(grpc.StatusCode.UNAUTHENTICATED, stranger.image.sample, "a ball", IMAGE)

    def test_who_am_i(self):
        info = self.go(self.client.auth.get_api_key_info())
        self.assertTrue(info.api_key_id and info.user_id and info.redacted_api_key)
        self.assertNotIn(info.redacted_api_key, self.key)
        self.assertFalse(info.disabled or info.api_key_blocked or info.team_blocked)

    def test_models(self):
        models = self.go(self.client.models.list_image_generation_models())
        self.assertIn(IMAGE, [m.name for m in models])
        self.assertIn("borealis-mini", [m.name for m in models])
        self.assertEqual(self.go(self.client.models.get_image_generation_model(IMAGE)).name, IMAGE)
        self.assertEqual(list(self.go(self.client.models.list_language_models())), [])
        self.assertEqual(list(self.go(self.client.models.list_embedding_models())), [])
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.models.get_language_model, "grok-4")
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.models.get_image_generation_model, "no-such-model")

    def test_files(self):
        data = self.go(self.still().image)
        file = self.go(self.uploads.files.upload(data, filename="still.jpg", expires_after=7200))
        self.assertEqual((file.size, file.filename), (len(data), "still.jpg"))
        self.assertEqual(file.expires_at.seconds - file.created_at.seconds, 7200)
        self.assertEqual(self.go(self.client.files.content(file.id)), data)
        self.assertEqual(self.go(self.client.files.get(file.id)), file)

        public = self.go(self.client.files.create_public_url(file.id, expires_after=3600))
        self.assertEqual(harness.fetch(public.public_url), ("image/jpeg", data))
        self.assertTrue(self.go(self.client.files.revoke_public_url(file.id)).revoked)
        self.assertFalse(self.go(self.client.files.revoke_public_url(file.id)).revoked)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            harness.fetch(public.public_url)
        self.assertEqual(caught.exception.code, 404)

        edited = self.go(self.client.image.sample("the ball turns green", IMAGE, image_file_id=file.id))
        self.assertTrue(self.go(edited.image).startswith(JPEG))
        self.assertTrue(self.go(self.client.files.delete(file.id)).deleted)
        self.refused(grpc.StatusCode.NOT_FOUND, self.client.files.get, file.id)

    def test_lists_of_files(self):
        """7 MiB come in pieces; lists are sorted, filtered and paged."""
        name = f"{type(self).__name__}.bin"
        sizes = [7 << 20, 1, 3 << 20]
        made = [self.go(self.uploads.files.upload(bytes(size), filename=name)) for size in sizes]
        self.assertEqual([f.size for f in made], sizes)
        self.assertEqual(len(self.go(self.client.files.content(made[0].id))), sizes[0])
        wanted = {"filter": f'name = "{name}"', "sort_by": "size", "order": "asc", "limit": 2}
        first = self.go(self.client.files.list(**wanted))
        second = self.go(self.client.files.list(**wanted, pagination_token=first.pagination_token))
        self.assertEqual([f.size for page in (first, second) for f in page.data], sorted(sizes))
        self.assertFalse(second.pagination_token)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.client.files.list, filter="colour = 1")
        newest = self.go(self.client.files.list(order="desc", limit=1))
        self.assertEqual([f.id for f in newest.data], [made[-1].id])
        for file in made:
            self.go(self.client.files.delete(file.id))

    def test_results_kept_as_files(self):
        storage = {"filename": "kept.jpg", "expires_after": 86_400, "public_url": True}
        image = self.go(self.client.image.sample("a white box", IMAGE, storage_options=storage))
        self.assertIsNone(image.storage_error)
        self.assertEqual(image.file_output.filename, "kept.jpg")
        data = self.go(self.client.files.content(image.file_output.file_id))
        self.assertEqual(data, self.go(image.image))
        self.assertEqual(harness.fetch(image.public_url)[1], data)

    def test_batches(self):
        client = self.client
        batch = self.go(client.batch.create("a few things"))
        good = client.image.prepare("a red star", IMAGE, batch_request_id="image")
        wrong = client.image.prepare("a red star", "no-such-model", batch_request_id="wrong")
        clip = client.video.prepare("a red ball rolls", VIDEO, batch_request_id="clip", **QUICK)
        chat = client.chat.create(model="grok-4", batch_request_id="chat")
        self.go(client.batch.add(batch.batch_id, [good, wrong, clip, chat]))
        while (state := self.go(client.batch.get(batch.batch_id)).state).num_pending:
            self.go(self.pause(0.2))
        self.assertEqual((state.num_requests, state.num_success, state.num_error), (4, 2, 2))
        results = self.go(client.batch.list_batch_results(batch.batch_id))
        by_id = {r.batch_request_id: r for r in results.results}
        self.assertEqual({k for k, r in by_id.items() if r.is_success}, {"image", "clip"})
        self.assertTrue(harness.fetch(by_id["image"].image_response.url)[1].startswith(JPEG))
        self.assertEqual(by_id["clip"].video_response.duration, 1)
        self.assertIn("no-such-model", by_id["wrong"].error_message)
        listed = self.go(client.batch.list_batch_requests(batch.batch_id)).batch_request_metadata
        states = batch_pb2.BatchRequestMetadata.State
        self.assertEqual({m.batch_request_id: m.state for m in listed}, {
            "image": states.STATE_SUCCEEDED, "wrong": states.STATE_FAILED, "clip": states.STATE_SUCCEEDED, "chat": states.STATE_FAILED,
        })
        self.assertIn(batch.batch_id, [b.batch_id for b in self.go(client.batch.list(limit=5)).batches])

    def test_a_cancelled_batch(self):
        batch = self.go(self.client.batch.create("never mind"))
        long = [self.client.video.prepare(f"ball {i}", VIDEO, duration=15, resolution="720p") for i in range(3)]
        self.go(self.client.batch.add(batch.batch_id, long))
        cancelled = self.go(self.client.batch.cancel(batch.batch_id))
        self.assertEqual((cancelled.state.num_cancelled, cancelled.state.num_pending), (3, 0))
        self.assertTrue(cancelled.cancel_time.seconds)

    def test_seed_and_idempotency_in_metadata(self):
        """The same seed gives the same bytes; the same idempotency key gives the same job."""
        seeded = type(self.client)(api_key=self.key, api_host=self.host, use_insecure_channel=True, metadata=(("x-borealis-seed", "7"),))
        twice = [self.go(self.go(seeded.image.sample("a red ball", IMAGE)).image) for _ in range(2)]
        self.assertEqual(*twice)
        name = f"key-{type(self).__name__}"
        keyed = type(self.client)(api_key=self.key, api_host=self.host, use_insecure_channel=True, metadata=(("idempotency-key", name),))
        ids = {self.go(keyed.video.start("a red ball", VIDEO, **QUICK)).request_id for _ in range(3)}
        self.assertEqual(len(ids), 1)
        self.refused(grpc.StatusCode.ALREADY_EXISTS, keyed.video.start, "a blue ball", VIDEO, **QUICK)

    def test_a_failure_is_told(self):
        """A wrong value that only the engine could find would surface here; the SDK's own exception is what users catch."""
        self.assertTrue(issubclass(VideoGenerationError, Exception))
        started = self.go(self.client.video.start("a ball", VIDEO, duration=15, resolution="720p"))
        url, key = harness.running()
        server = harness.Server.__new__(harness.Server)
        server.port, server.key = url.rsplit(":", 1)[1], key
        status, _, _ = server.call("DELETE", f"/v1/videos/{started.request_id}")
        self.assertEqual(status, 200)
        answer = self.go(self.client.video.get(started.request_id))
        self.assertIn(answer.status, (1, 4))
        if answer.status == 4:
            self.assertIn("cancelled", answer.response.error.message)


class Sync(Scenarios, unittest.TestCase):
    made = {}

    @classmethod
    def setUpClass(cls):
        url, cls.key = harness.running()
        cls.host = url.removeprefix("http://")
        cls.loop = asyncio.new_event_loop()
        cls.client = xai_sdk.Client(api_key=cls.key, api_host=cls.host, use_insecure_channel=True)
        # The SDK sends no key with streams over an insecure channel; to localhost it does.
        cls.uploads = xai_sdk.Client(api_key=cls.key, api_host="localhost:" + cls.host.rsplit(":", 1)[1])

    def pause(self, seconds):
        return asyncio.sleep(seconds)

    def test_localhost_needs_no_flag(self):
        client = xai_sdk.Client(api_key=self.key, api_host="localhost:" + self.host.rsplit(":", 1)[1])
        self.assertTrue(client.auth.get_api_key_info().api_key_id)


class Async(Scenarios, unittest.TestCase):
    made = {}

    @classmethod
    def setUpClass(cls):
        url, cls.key = harness.running()
        cls.host = url.removeprefix("http://")
        cls.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(cls.loop)
        cls.client = xai_sdk.AsyncClient(api_key=cls.key, api_host=cls.host, use_insecure_channel=True)
        # The SDK sends no key with streams over an insecure channel; to localhost it does.
        cls.uploads = xai_sdk.AsyncClient(api_key=cls.key, api_host="localhost:" + cls.host.rsplit(":", 1)[1])

    def pause(self, seconds):
        return asyncio.sleep(seconds)

    def test_many_at_once(self):
        async def all_of_them():
            starts = (self.client.video.generate(f"ball {i}", VIDEO, **QUICK, **POLL) for i in range(6))
            return await asyncio.gather(*starts)

        clips = self.go(all_of_them())
        self.assertEqual(len({clip.url for clip in clips}), 6)
        self.assertTrue(all(clip.duration == 1 for clip in clips))


if __name__ == "__main__":
    unittest.main()
