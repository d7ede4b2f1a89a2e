"""Every method of `client.videos` against a server, run by the Python of an environment that has the real `openai`.

    python openai_client.py http://127.0.0.1:8000/v1 KEY WEBHOOK_PORT

Prints "ok" as its last line; any other end is a failure.
"""

import http.server
import io
import sys
import threading
import time
import warnings

warnings.simplefilter("ignore")  # each method of `videos` says that OpenAI ended it

import openai  # noqa: E402

ADDRESS, KEY, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
PROMPT = "a red ball bounces on the grass at sunset"
IS_NEW = int(openai.__version__.split(".")[0]) >= 3
client = openai.OpenAI(api_key=KEY, base_url=ADDRESS)
received = []


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes webhooks."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received.append((body, dict(self.headers)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Says nothing."""


def raised(kind, code, call, *given, **words):
    try:
        call(*given, **words)
    except kind as error:
        assert error.code == code, (error.code, error.message)
        assert error.request_id and error.type and error.message, error
        return error
    raise AssertionError(f"{code} was not raised")


def endpoint():
    """A webhook endpoint and its secret, by the SDK's methods where it has them."""
    url = f"http://127.0.0.1:{PORT}/hook"
    if IS_NEW:
        made = client.webhooks.create(name="hook", url=url, event_types=["video.completed", "video.failed"])
        assert made.id in [one.id for one in client.webhooks.list()]
        assert client.webhooks.retrieve(made.id).url == url
        assert client.webhooks.update(made.id, name="other").name == "other"
        assert client.webhooks.rotate_secret(made.id).signing_secret != made.signing_secret
        made = client.webhooks.rotate_secret(made.id)
        assert client.webhooks.test(made.id, event_type="video.completed").status_code == 204
        assert "video.completed" in client.webhooks.event_types.list().data
        received.clear()
        return made.id, made.signing_secret
    made = client.post("/webhook_endpoints", body={"name": "hook", "url": url}, cast_to=object)
    return made["id"], made["signing_secret"]


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook_id, secret = endpoint()

    assert client.models.list().data[0].id == "world"
    video = client.videos.create_and_poll(
        prompt=PROMPT, model="sora-2", size="256x256", seconds="1", extra_body={"seed": 7, "num_steps": 8}
    )
    assert (video.status, video.progress, video.error) == ("completed", 100, None), video
    assert (video.model, video.size, video.prompt) == ("sora-2", "256x256", PROMPT)
    assert (video.preset, video.seed, video.verdict) == ("world", 7, "VERIFIED")
    assert isinstance(video.seconds, str) and 0.8 < float(video.seconds) < 1.5
    assert video.completed_at >= video.created_at and video.expires_at is None

    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp"
    assert client.videos.download_content(video.id, variant="thumbnail").read()[8:12] == b"WEBP"
    assert client.videos.download_content(video.id, variant="spritesheet").read()[:3] == b"\xff\xd8\xff"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()

    check_webhook(secret, video)
    waiting = {"paused": True}
    others = [client.videos.create(prompt=PROMPT, extra_body={"paused": True}) for _ in range(3)]
    assert [one.status for one in others] == ["queued"] * 3
    remix = client.videos.remix(video.id, prompt="it is night", extra_body=waiting)
    assert remix.remixed_from_video_id == video.id and "at night" in remix.prompt and remix.seed == 7
    others.append(remix)
    image = ("first.webp", io.BytesIO(thumbnail), "image/webp")
    others.append(client.videos.create(prompt=PROMPT, input_reference=image, extra_body={**waiting, "seed": 2}))
    file = client.files.create(file=image, purpose="vision")
    second = client.files.create(file=("second.webp", thumbnail, "image/webp"), purpose="vision")
    listed = [one.id for one in client.files.list(limit=1, purpose="vision")]
    assert listed[:2] == [second.id, file.id] and client.files.retrieve(file.id).filename, listed
    assert client.files.delete(second.id).deleted
    raised(openai.NotFoundError, "not_found", client.files.retrieve, second.id)
    others.append(
        client.videos.create(
            prompt=PROMPT,
            extra_headers={"Content-Type": "application/json"},
            extra_body={"input_reference": {"file_id": file.id}, **waiting},
        )
    )
    if IS_NEW:
        clip = ("clip.mp4", content, "video/mp4")
        others.append(client.videos.edit(prompt="it is night", video=clip, extra_body={"paused": "true"}))
        longer = client.videos.extend(prompt=PROMPT, seconds="4", video=clip, extra_body={"paused": "true"})
        assert float(longer.seconds) > 4.5  # the stitched total
        others.append(longer)
        raised(openai.BadRequestError, "unsupported", client.videos.create_character, name="n", video=clip)
        raised(openai.BadRequestError, "unsupported", client.videos.get_character, "char_1")
    body = {"prompt": PROMPT, "seconds": "4", "video": {"id": video.id}, **waiting}
    others.append(client.videos.retrieve(client.post("/videos/extensions", body=body, cast_to=object)["id"]))

    found = [one.id for one in client.videos.list(limit=2)]  # follows the pages
    assert found[: len(others)] == [one.id for one in others][::-1] and found[-1] == video.id
    assert [one.id for one in client.videos.list(limit=2, order="asc")] == found[::-1]
    cancelled = client.post(f"/videos/{others[0].id}/cancel", cast_to=object)
    assert cancelled["status"] == "failed" and cancelled["error"]["code"] == "cancelled"
    assert client.videos.poll(others[0].id).error.code == "cancelled"
    for one in others:
        gone = client.videos.delete(one.id)
        assert gone.deleted and gone.object == "video.deleted" and gone.id == one.id
    check_errors(video)
    client.delete(f"/webhook_endpoints/{hook_id}", cast_to=object)
    client.videos.delete(video.id)
    assert [one.id for one in client.videos.list()] == []
    print("ok")


def check_webhook(secret, video):
    end = time.time() + 20
    while not received and time.time() < end:
        time.sleep(0.1)
    body, headers = received[0]
    event = client.webhooks.unwrap(body, headers, secret=secret)
    assert event.type == "video.completed" and event.data.id == video.id, event
    try:
        client.webhooks.unwrap(body + b" ", headers, secret=secret)
    except openai.InvalidWebhookSignatureError:
        return
    raise AssertionError("a changed event was taken")


def check_errors(video):
    raised(openai.NotFoundError, "not_found", client.videos.retrieve, "video_none")
    error = raised(openai.BadRequestError, "invalid_value", client.videos.create, prompt=PROMPT, size="0x0")
    assert error.param == "size" and error.type == "invalid_request_error"
    error = raised(openai.BadRequestError, "invalid_type", client.videos.create, prompt=PROMPT, seconds="long")
    assert error.param == "seconds"
    error = raised(openai.BadRequestError, "unknown_parameter", client.videos.create, prompt="p", extra_body={"sed": 1})
    assert "seed" in error.message
    raised(openai.BadRequestError, "missing_required_parameter", client.videos.create, prompt=" ")
    raised(openai.ConflictError, "wrong_state", client.post, f"/videos/{video.id}/cancel", cast_to=object)
    bad = ("a.png", b"this is no picture", "image/png")
    raised(openai.BadRequestError, "invalid_file", client.videos.create, prompt=PROMPT, input_reference=bad)
    stranger = openai.OpenAI(api_key="sk-sorano-wrong", base_url=ADDRESS)
    raised(openai.AuthenticationError, "invalid_api_key", stranger.videos.list)


main()
