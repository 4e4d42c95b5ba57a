"""Images by xai-sdk: `pip install xai-sdk && BOREALIS_KEY=bk-... python xai_sdk_image.py`."""

import os

from xai_sdk import Client

host = os.environ.get("BOREALIS_URL", "http://127.0.0.1:8080").removeprefix("http://")
client = Client(api_key=os.environ["BOREALIS_KEY"], api_host=host, use_insecure_channel=True)

image = client.image.sample("a red ball on grass", "grok-imagine-image", aspect_ratio="16:9")
with open("ball.jpg", "wb") as file:
    file.write(image.image)

# Four variants in one call.
for i, variant in enumerate(client.image.sample_batch("a blue star at night", "grok-imagine-image", 4)):
    with open(f"star-{i}.jpg", "wb") as file:
        file.write(variant.image)

# A result is an input of the next call.
edited = client.image.sample("the ball turns blue", "grok-imagine-image", image_url=image.url)
print(edited.url)
