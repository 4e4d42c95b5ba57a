// An image and a video by the AI SDK: `npm ci && BOREALIS_KEY=bk-... npm start`.

import { writeFile } from "node:fs/promises";

import { createXai } from "@ai-sdk/xai";
import { experimental_generateVideo as generateVideo, generateImage } from "ai";

const url = process.env.BOREALIS_URL ?? "http://127.0.0.1:8080";
// /inline/v1 answers with the video itself: the AI SDK does not download from addresses of this machine.
const xai = createXai({ baseURL: `${url}/inline/v1`, apiKey: process.env.BOREALIS_KEY });

const { image } = await generateImage({
  model: xai.image("grok-imagine-image"),
  prompt: "a red ball on grass",
  aspectRatio: "16:9",
});
await writeFile("ball.jpg", image.uint8Array);

const { video } = await generateVideo({
  model: xai.video("grok-imagine-video"),
  prompt: { image: image.uint8Array, text: "the ball bounces" },
  duration: 2,
  poll: { intervalMs: 500 },
});
await writeFile("ball.mp4", video.uint8Array);
console.log(`ball.jpg has ${image.uint8Array.length} bytes, ball.mp4 has ${video.uint8Array.length}`);
