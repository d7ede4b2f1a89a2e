"""LiteLLM, which is not OpenAI's, against a server: python litellm_client.py http://127.0.0.1:8000/v1 KEY

Prints "ok" as its last line.
"""

import sys
import time

import litellm

ADDRESS, KEY = sys.argv[1], sys.argv[2]
PROMPT = "a red ball bounces on the grass at sunset"
where = {"api_base": ADDRESS, "api_key": KEY, "custom_llm_provider": "openai"}

video = litellm.video_generation(model="openai/sora-2", prompt=PROMPT, seconds="1", size="256x256", **where)
assert video.status in ("queued", "in_progress"), video
end = time.time() + 120
while video.status in ("queued", "in_progress") and time.time() < end:
    time.sleep(0.3)
    video = litellm.video_status(video_id=video.id, **where)
assert video.status == "completed", video
content = litellm.video_content(video_id=video.id, **where)
assert len(content) > 500, len(content)
remix = litellm.video_remix(video_id=video.id, prompt="it is night", **where)
assert remix.status in ("queued", "in_progress"), remix
try:
    litellm.video_generation(model="openai/sora-2", prompt=PROMPT, size="0x0", **where)
except litellm.BadRequestError as error:
    assert "size" in str(error), error
else:
    raise AssertionError("a wrong size was taken")
print("ok")
