"""Videos by xai-sdk, asynchronously: `pip install xai-sdk && BOREALIS_KEY=bk-... python xai_sdk_video.py`."""

import asyncio
import os
import urllib.request

from xai_sdk import AsyncClient

MODEL = "grok-imagine-video"


async def main():
    host = os.environ.get("BOREALIS_URL", "http://127.0.0.1:8080").removeprefix("http://")
    client = AsyncClient(api_key=os.environ["BOREALIS_KEY"], api_host=host, use_insecure_channel=True)

    # Two at once: they share the steps of the model.
    clips = await asyncio.gather(
        client.video.generate("a red ball bounces on grass", MODEL, duration=2, resolution="480p"),
        client.video.generate("a blue star spins", MODEL, duration=2, aspect_ratio="1:1"),
    )
    longer = await client.video.extend("it bounces again", MODEL, video_url=clips[0].url, duration=2)
    for name, clip in [("ball.mp4", longer), ("star.mp4", clips[1])]:
        urllib.request.urlretrieve(clip.url, name)
        print(f"{name}: {clip.duration} s")


asyncio.run(main())
