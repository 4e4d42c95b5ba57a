// The AI SDK with its xAI provider, and OpenAI's SDK, both for Node and unmodified. Run by `node --test`.

import assert from "node:assert/strict";
import test from "node:test";

import { createXai } from "@ai-sdk/xai";
import { experimental_generateVideo as generateVideo, generateImage } from "ai";
import OpenAI from "openai";

const { BOREALIS_URL: url, BOREALIS_KEY: apiKey } = process.env;
const xai = createXai({ baseURL: `${url}/v1`, apiKey });
// Results as data: URLs, because the AI SDK's own downloader refuses addresses of this machine.
const inline = createXai({ baseURL: `${url}/inline/v1`, apiKey });
const poll = { intervalMs: 200, timeoutMs: 300_000 };
const download = async ({ url }) => {
  const answer = await fetch(url);
  return { data: new Uint8Array(await answer.arrayBuffer()), mediaType: answer.headers.get("content-type") ?? undefined };
};
const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8;
const isMp4 = (bytes) => Buffer.from(bytes.slice(4, 8)).toString() === "ftyp";

test("four images are two calls", async () => {
  const { images } = await generateImage({ model: xai.image("grok-imagine-image"), prompt: "a cat", n: 4, aspectRatio: "16:9" });
  assert.equal(images.length, 4);
  assert.ok(images.every((image) => isJpeg(image.uint8Array)));
  assert.equal(new Set(images.map((image) => image.base64)).size, 4);
});

test("an image is edited", async () => {
  const model = xai.image("grok-imagine-image");
  const { image } = await generateImage({ model, prompt: "a red ball" });
  const edited = await generateImage({ model, prompt: { text: "the ball turns blue", images: [image.uint8Array] } });
  assert.ok(isJpeg(edited.image.uint8Array));
  assert.notEqual(edited.image.base64, image.base64);
});

test("a video without any override", async () => {
  const { video } = await generateVideo({ model: inline.video("grok-imagine-video"), prompt: "a red ball bounces", duration: 1, poll });
  assert.equal(video.mediaType, "video/mp4");
  assert.ok(isMp4(video.uint8Array));
});

test("a video by its URL, from an image", async () => {
  const { image } = await generateImage({ model: xai.image("grok-imagine-image"), prompt: "a red ball" });
  const { video } = await generateVideo({
    model: xai.video("grok-imagine-video"),
    prompt: { image: image.uint8Array, text: "the ball bounces" },
    duration: 1,
    resolution: "854x480",
    poll,
    download,
  });
  assert.ok(isMp4(video.uint8Array));
});

test("an edit and an extension of a video", async () => {
  const model = xai.video("grok-imagine-video");
  const first = await generateVideo({ model, prompt: "a red ball bounces", duration: 2, poll, download });
  const videoUrl = first.providerMetadata.xai.videoUrl;
  for (const mode of ["edit-video", "extend-video"]) {
    const options = { xai: { mode, videoUrl } };
    const { video } = await generateVideo({ model, prompt: "the ball is blue", providerOptions: options, poll, download });
    assert.ok(isMp4(video.uint8Array), mode);
  }
});

test("moderation is an error with a reason, not an empty image", async () => {
  const asked = generateImage({ model: xai.image("grok-imagine-image"), prompt: "how to make a bomb", maxRetries: 0 });
  await assert.rejects(asked, /moderat/);
});

test("a wrong key is refused once", async () => {
  const stranger = createXai({ baseURL: `${url}/v1`, apiKey: "wrong" });
  await assert.rejects(generateImage({ model: stranger.image("grok-imagine-image"), prompt: "a ball" }), (error) => error.statusCode === 401);
});

test("OpenAI's SDK", async () => {
  const client = new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
  const { data } = await client.images.generate({ prompt: "a blue star", response_format: "b64_json", n: 2 });
  assert.equal(data.length, 2);
  const file = await OpenAI.toFile(Buffer.from(data[0].b64_json, "base64"), "star.jpg", { type: "image/jpeg" });
  const edited = await client.images.edit({ image: file, prompt: "the star turns green", response_format: "b64_json" });
  assert.ok(isJpeg(Buffer.from(edited.data[0].b64_json, "base64")));
  const started = await client.videos.create({ prompt: "a ball rolls", seconds: "4", size: "1280x720" });
  let done = started;
  while (["queued", "in_progress"].includes(done.status)) {
    await new Promise((wake) => setTimeout(wake, 200));
    done = await client.videos.retrieve(started.id);
  }
  assert.equal(done.status, "completed");
  const content = await client.videos.downloadContent(started.id);
  assert.ok(isMp4(new Uint8Array(await content.arrayBuffer())));
});
