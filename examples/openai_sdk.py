"""The same server by OpenAI's SDK: `pip install openai && BOREALIS_KEY=bk-... python openai_sdk.py`."""

import base64
import os

from openai import OpenAI

url = os.environ.get("BOREALIS_URL", "http://127.0.0.1:8080")
client = OpenAI(api_key=os.environ["BOREALIS_KEY"], base_url=f"{url}/v1")

image = client.images.generate(prompt="a red ball on grass", size="1024x1024", response_format="b64_json")
with open("ball.jpg", "wb") as file:
    file.write(base64.b64decode(image.data[0].b64_json))

with open("ball.jpg", "rb") as file:
    edited = client.images.edit(image=file, prompt="the ball turns blue")
print(edited.data[0].url)

video = client.videos.create_and_poll(prompt="a red ball bounces", seconds="4", size="1280x720")
client.videos.download_content(video.id).write_to_file("ball.mp4")
print(f"{video.id}: {video.status}")
