"""The server against what clients get wrong or do on purpose: odd text and headers, quotas, other keys, slow hosts."""

import asyncio
import base64
import http.server
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from support import serving
from support.serving import PROMPT, in_process

from sorano.errors import SoranoError
from sorano.serve.events import Events
from sorano.serve.keys import Keys
from sorano.serve.posts import COMPLETED, KeyLimits
from sorano.trust import verify
from sorano.trust.provenance.label import sign_found
from sorano.trust.watermark.detect import detect_image
from sorano.web import forms
from sorano.web.metrics import HttpMetrics
from sorano.web.problems import CODES


@pytest.fixture
def served(tmp_path):
    with in_process(tmp_path) as found:
        yield found


def bearer(service, name="one", scopes=("read", "write"), limits=None):
    return {"authorization": f"Bearer {Keys(service.database).create(name, scopes, limits)[1]}"}


def code_of(answer):
    error = answer.json()["error"]
    assert answer.status_code == CODES[error["code"]].status, error
    return error["code"]


def png():
    held = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(held, "PNG")
    return held.getvalue()


# Text that a database or an answer cannot hold.


def test_half_characters_and_the_character_0_are_refused_wherever_they_stand(tmp_path, database_url):
    hook = '{"url": "https://example.com/%s", "name": "%s"}'
    bodies = [
        ("/v1/videos", '{"prompt": "a red ball", "%s": 1}'),
        ("/v1/videos", '{"prompt": "a red ball%s"}'),
        ("/v1/videos", '{"prompt": "a red ball", "storyboard": [{"prompt": "%s"}]}'),
        ("/v1/webhook_endpoints", hook % ("", "%s")),
        ("/v1/webhook_endpoints", hook % ("%s", "a")),
        ("/v1/verify", '{"id": "video_%s"}'),
    ]
    with in_process(tmp_path, database_url) as (client, _, _):
        for odd in ("\\ud800", "\\u0000", "\\uDFFF"):
            for path, body in bodies:
                answer = client.post(path, content=body % odd, headers={"content-type": "application/json"})
                assert code_of(answer) == "invalid_value", (path, body, odd)
        for path in ("videos?after=%00", "audit?subject=%00"):
            assert code_of(client.get(f"/v1/{path}")) == "invalid_value", path
        for path in ("videos/%00", "files/%00", "webhook_endpoints/a%00b"):
            assert code_of(client.get(f"/v1/{path}")) == "not_found", path
        whole = '{"prompt": "a red ball bounces \\ud83d\\ude00 \\\\u0000", "force": true}'  # a character; a backslash
        answer = client.post("/v1/studio/reading", content=whole, headers={"content-type": "application/json"})
        assert answer.status_code == 200


@pytest.mark.parametrize("where", ["filename", "value", "name"])
def test_a_form_with_the_character_0_is_refused(tmp_path, database_url, where):
    names = {"filename": b"a.png", "value": b"vision", "name": b"purpose"} | {where: b"a\0b"}
    head = b'--x\r\nContent-Disposition: form-data; name="'
    parts = head + b'file"; filename="' + names["filename"] + b'"\r\n\r\n' + png() + b"\r\n"
    parts += head + names["name"] + b'"\r\n\r\n' + names["value"] + b"\r\n--x--\r\n"
    with in_process(tmp_path, database_url) as (client, service, _):
        answer = client.post("/v1/files", content=parts, headers={"content-type": "multipart/form-data; boundary=x"})
        assert code_of(answer) == "invalid_value" and not list(service.store.uploads.iterdir())


@pytest.mark.parametrize("kind", ["json", "fields", "multipart"])
def test_a_body_of_countless_values_is_not_parsed(served, kind):
    client, _, _ = served
    values = "[" + "{}," * 200_000 + "{}]"
    sent = {
        "json": {"content": f'{{"prompt": {values}}}', "headers": {"content-type": "application/json"}},
        "fields": {"content": "a&" * 2000, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        "multipart": {"files": {"prompt": (None, PROMPT), "storyboard": (None, values)}},
    }[kind]
    assert code_of(client.post("/v1/videos", **sent)) == "request_too_large"


def test_a_large_body_is_parsed_beside_other_requests(served, monkeypatch):
    client, _, _ = served
    parse, others = forms._read_json, []

    def parsed(body):
        others.append(client.get("/healthz").status_code)  # would wait for ever on a loop that parses
        return parse(body)

    monkeypatch.setattr(forms, "_read_json", parsed)
    body = {"prompt": PROMPT, "input_reference": "data:image/png;base64," + "A" * 10**6}
    assert code_of(client.post("/v1/videos", json=body)) == "invalid_file" and others == [200]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 786_431, 786_432, 786_433, 2_000_000])
def test_base64_is_decoded_piece_by_piece_as_at_once(size):
    data = bytes(np.random.default_rng(size).integers(0, 256, size, np.uint8))
    for code in (base64.b64encode, base64.urlsafe_b64encode):
        text = code(data).decode()
        for spelled in (text, text.rstrip("="), "\n".join(text[at : at + 76] for at in range(0, len(text), 76))):
            assert forms.decode_base64(spelled) == data
    for wrong in ("A", "AAA*", "AA=A", "é"):
        with pytest.raises(ValueError):
            forms.decode_base64("A" * 4 * (1 << 18) + wrong)


def test_a_compressed_body_is_refused_and_another_encoding_is_no_json(served):
    client = served[0]
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/videos", content=b"\x1f\x8b\x08", headers={**headers, "content-encoding": "gzip"})
    assert code_of(answer) == "unsupported_media_type" and "send it as it is" in answer.text
    for body in (PROMPT.encode("utf-16"), '{"prompt": "\\ud800"}'.encode("utf-32")):
        assert code_of(client.post("/v1/videos", content=body, headers=headers)) == "invalid_json"
    bom = b"\xef\xbb\xbf" + f'{{"prompt": "{PROMPT}"}}'.encode()
    assert client.post("/v1/videos", content=bom, headers=headers).status_code == 200


def test_errors_of_the_database_are_logged_without_what_was_written(served):
    _, service, _ = served
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, service.database.write() as connection:
        connection.execute(sa.text("INSERT INTO no_such_table VALUES (:secret)"), {"secret": "whsec_of-somebody"})
    assert "whsec_of-somebody" not in str(caught.value)


# Headers, methods, addresses.


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "://", "http://"])
def test_an_origin_that_is_none_is_not_this_server(served, origin):
    assert code_of(served[0].get("/v1/videos", headers={"origin": origin})) == "origin_not_allowed"


def test_methods_of_anybodys_choice_make_no_new_metrics():
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from sorano.web.guard import Guard

    class Bounds:
        most_body_bytes, host_names = 1 << 20, None

    metrics = HttpMetrics()
    client = TestClient(Guard(Starlette(), Bounds(), metrics))
    for number in range(20):
        client.request(f"X{number}", "/")
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith("sorano_http_requests_total")]
    assert len(lines) == 1 and 'method="other"' in lines[0]


def test_probes_answer_head_and_pages_are_asked_again(served):
    client = served[0]
    assert client.head("/healthz").status_code == 200 and client.head("/readyz").status_code == 200
    for page in ("/", "/app.js", "/web/base.css"):
        assert client.get(page).headers["cache-control"] == "no-cache"
    assert client.get("/v1/videos").headers["cache-control"] == "no-store"


def test_a_file_with_a_long_suffix_is_verified(served):
    answer = served[0].post("/v1/verify", files={"file": ("a." + "x" * 400, png())})
    assert answer.status_code == 200 and answer.json()["verdict"] == "UNVERIFIED"


def test_an_error_about_a_file_does_not_tell_where_the_store_is(served):
    client, service, worker = served
    video = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
    worker.work_once()  # what this maker writes is no video
    answer = client.post("/v1/videos/extensions", json={"prompt": PROMPT, "video": {"id": video}})
    assert answer.status_code == 400 and video in answer.text
    assert str(service.store.root) not in answer.text


# A request that is changed while it waits.


def test_a_changed_request_counts_against_the_quota(tmp_path, database_url):
    with in_process(tmp_path, database_url, needs_keys=True) as (client, service, _):
        own = bearer(service, limits=KeyLimits(video_seconds_per_day=4))
        video = client.post("/v1/videos", json={"prompt": PROMPT, "seconds": 1}, headers=own).json()
        path = f"/v1/videos/{video['id']}"
        assert code_of(client.post(path, json={"seconds": 8}, headers=own)) == "quota_exceeded"
        assert client.get(path, headers=own).json()["seconds"] == video["seconds"]
        assert client.post(path, json={"seconds": 2}, headers=own).status_code == 200
        assert client.post(path, json={"seconds": 1}, headers=own).status_code == 200
        again = client.post("/v1/videos", json={"prompt": PROMPT, "seconds": 2.5}, headers=own)
        assert code_of(again) == "quota_exceeded"


def test_a_change_that_does_not_fit_is_refused_as_a_new_request_is(tmp_path, monkeypatch):
    monkeypatch.setitem(serving.MACHINE, "free_bytes", 600 << 20)
    body = {"prompt": PROMPT, "size": "2048x2048", "upscale": "none", "seconds": 4}
    with in_process(tmp_path) as (client, _, _):
        assert code_of(client.post("/v1/videos", json=body)) == "does_not_fit"
        video = client.post("/v1/videos", json={"prompt": PROMPT, "paused": True})
        assert video.status_code == 200, video.text
        assert code_of(client.post(f"/v1/videos/{video.json()['id']}", json=body)) == "does_not_fit"


def test_what_a_change_cannot_change_is_said(served):
    client = served[0]
    path = f"/v1/videos/{client.post('/v1/videos', json={'prompt': PROMPT}).json()['id']}"
    for body in ({"n": 3}, {"deadline_seconds": 60}):
        assert code_of(client.post(path, json=body)) == "unknown_parameter"


def test_a_begun_job_that_waits_again_keeps_its_request(served):
    client, service, worker = served
    path = f"/v1/videos/{client.post('/v1/videos', json={'prompt': PROMPT, 'seed': 1}).json()['id']}"
    lease = service.jobs.claim("one", 60)
    (service.store.take_over(lease.job_id, lease.epoch) / "step").write_text("2")
    service.jobs.release(lease)
    assert code_of(client.post(path, json={"seed": 5})) == "wrong_state"
    assert client.post(path, json={"priority": 3}).json()["priority"] == 3  # its place may be changed
    worker.work_once()
    found = client.get(path).json()
    assert worker.maker.resumed == [2] and found["seed"] == worker.maker.made[0]["seed"] == 1


# Keys beside each other.


def test_no_key_goes_before_the_others_by_its_own_word(tmp_path):
    with in_process(tmp_path, needs_keys=True) as (client, service, _):
        own, operator = bearer(service), bearer(service, "operator", ("read", "write", "admin"))
        body = {"prompt": PROMPT, "priority": 5}
        assert code_of(client.post("/v1/videos", json=body, headers=own)) == "insufficient_scope"
        video = client.post("/v1/videos", json={**body, "priority": -5}, headers=own).json()
        change = client.post(f"/v1/videos/{video['id']}", json={"priority": 1}, headers=own)
        assert code_of(change) == "insufficient_scope"
        assert client.post("/v1/videos", json=body, headers=operator).status_code == 200


def test_the_audit_names_who_cancelled_changed_and_deleted_what_anothers_key_made(tmp_path):
    with in_process(tmp_path, needs_keys=True) as (client, service, _):
        own, operator = bearer(service), bearer(service, "operator", ("read", "write", "admin"))
        ids = {row["name"]: row["id"] for row in Keys(service.database).all()}
        one, other = (
            client.post("/v1/videos", json={"prompt": PROMPT, "seed": seed}, headers=own).json()["id"]
            for seed in (1, 2)
        )
        client.post(f"/v1/videos/{one}", json={"prompt": "a blue cube spins on the snow"}, headers=operator)
        client.post(f"/v1/videos/{one}/cancel", headers=operator)
        client.delete(f"/v1/videos/{one}", headers=operator)
        client.delete(f"/v1/videos/{other}", headers=own)
        lines = client.get("/v1/audit", headers=operator).json()["data"]
        told = [(line["owner"], line["action"]) for line in lines if line["subject"] == one]
        doer = ids["operator"]
        assert told == [(ids["one"], "create"), (doer, "change"), (doer, "cancel"), (doer, "delete")]
        assert [line["detail"]["prompt"] for line in lines if line["action"] == "change"] == [
            "a blue cube spins on the snow"
        ]
        assert lines[-1]["owner"] == ids["one"] and lines[-1]["subject"] == other


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_list_goes_on_after_a_video_that_was_deleted_since(tmp_path, database_url, order):
    with in_process(tmp_path, database_url, needs_keys=True) as (client, service, _):
        own, other = bearer(service), bearer(service, "other")
        client.post("/v1/videos", json={"prompt": PROMPT, "seed": 9}, headers=other)
        for seed in range(5):
            client.post("/v1/videos", json={"prompt": PROMPT, "seed": seed}, headers=own)
        seeds, after = [], ""
        while True:  # as `for video in client.videos.list(): client.videos.delete(video.id)` does
            page = client.get(f"/v1/videos?limit=2&order={order}{after}", headers=own).json()
            for video in page["data"]:
                seeds.append(video["seed"])
                client.delete(f"/v1/videos/{video['id']}", headers=own)
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert seeds == (list(range(5)) if order == "asc" else [4, 3, 2, 1, 0])
        assert code_of(client.get(f"/v1/videos?after={page['last_id']}", headers=other)) == "not_found"
        assert len(client.get("/v1/videos", headers=other).json()["data"]) == 1


# What waits for others.


def test_looks_at_files_leave_threads_for_everything_else(tmp_path, monkeypatch):
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def examined(*_, **__):
        waiting.release()
        assert go_on.wait(60)
        raise SoranoError("that is all")

    monkeypatch.setattr(verify, "examine", examined)
    with in_process(tmp_path) as (client, _, _), ThreadPoolExecutor(64) as pool:
        try:
            sent = [pool.submit(client.post, "/v1/verify", files={"file": ("a.png", png())}) for _ in range(60)]
            assert waiting.acquire(timeout=60)
            other = pool.submit(client.get, "/v1/videos")
            assert other.result(30).status_code == 200
        finally:
            go_on.set()
        assert {one.result(60).status_code for one in sent} == {500}


def test_a_slow_endpoint_holds_no_other_up(tmp_path):
    go_on, asked, told = threading.Event(), [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/slow":
                asked.append(self.path)
                go_on.wait(60)
            else:
                told.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{server.server_port}"
    with in_process(tmp_path, webhook_hosts=(place,)) as (client, _, _):
        client.post("/v1/webhook_endpoints", json={"url": f"http://{place}/slow", "event_types": ["video.failed"]})
        for seed in range(8):
            video = client.post("/v1/videos", json={"prompt": PROMPT, "seed": seed}).json()
            if seed == 7:
                client.post("/v1/webhook_endpoints", json={"url": f"http://{place}/quick"})
            client.post(f"/v1/videos/{video['id']}/cancel")
        assert told.wait(60) and serving.wait_until(lambda: asked)
        assert len(asked) == 1  # the other senders do not wait there too
        go_on.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("url", [f"https://{'a' * 1995}@127.0.0.1/", "https://example.com/" + "a" * 2000, 7, ["x"]])
def test_an_address_is_checked_to_its_end(served, url):
    answer = served[0].post("/v1/webhook_endpoints", json={"url": url})
    assert code_of(answer) == "invalid_value" and answer.json()["error"]["param"] == "url"


def test_who_listens_late_hears_of_the_end():
    """Two listeners, of whom the second comes with an older look than the first one's last."""
    running, done = ({"id": "video_1", "status": status} for status in ("in_progress", COMPLETED))

    class Jobs:
        def many(self, _ids):
            return [done]

    async def listen():
        events = Events(Jobs(), lambda rows: rows, 10)
        events._look = lambda ids: {"video_1": done}
        first = [line async for line in events.stream("video_1", running)]
        events._task.cancel()
        events._task = asyncio.create_task(events._watch())  # as it goes on for listeners of other videos
        second = asyncio.create_task(collect(events))
        lines = await asyncio.wait_for(second, 30)
        await events.close()
        return first, lines

    async def collect(events):
        return [line async for line in events.stream("video_1", running)]

    first, second = asyncio.run(listen())
    assert "video.completed" in first[-1] and "video.completed" in second[-1]


def test_a_repetition_that_waits_beside_the_first_makes_no_second_job(served):
    _, service, _ = served
    from sorano.serve.posts import Batch, Post

    def post(is_retry):
        new = (serving_job(),)
        return Post(new, "local", KeyLimits(), "same", None, is_retry)

    posts = [post(False), post(True)]
    with service.database.write() as connection:
        Batch(service.database, connection, posts, 10).write()
    assert posts[0].rows[0]["id"] == posts[1].rows[0]["id"]
    assert len(service.jobs.page(None, after=None, limit=10, ascending=True)[0]) == 1


def serving_job():
    from sorano.serve.posts import NewJob

    return NewJob("world", "world", {"prompt": PROMPT, "seed": 1}, {"prompt": PROMPT, "seconds": 1.0}, 1.0)


def test_the_schema_says_the_longest_prompt(served):
    client = served[0]
    body = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]
    most = body["content"]["application/json"]["schema"]["properties"]["prompt"]["maxLength"]
    answer = client.post("/v1/videos", json={"prompt": PROMPT + " " * (most + 1 - len(PROMPT))})
    assert code_of(answer) == "invalid_value" and str(most) in answer.text
    assert client.post("/v1/videos", json={"prompt": PROMPT + " " * (most - len(PROMPT))}).status_code == 200


# Pictures of what is not finished.


def preview_of(folder, **words):
    from sorano.serve.store import PREVIEW
    from sorano.serve.worker import JobListener

    listener = JobListener(folder, {"prompt": PROMPT, "preset": "world", "seed": 1, **words})
    listener._next_preview = 0
    sky = np.linspace((230, 120, 60), (70, 130, 60), 128).astype(np.uint8)  # orange above, green below
    listener.preview(3, 24, lambda: np.repeat(sky[:, None], 128, 1))
    assert listener.told["preview_step"] == 3
    with Image.open(folder / PREVIEW) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_preview_is_marked_as_made_by_ai(tmp_path):
    found = detect_image(preview_of(tmp_path, visible_label=False))
    assert found is not None and found.payload.kind == "made"


def test_a_preview_has_the_sign_where_the_video_gets_it(tmp_path):
    plain, signed = preview_of(tmp_path, visible_label=False), preview_of(tmp_path, audience="cn")
    assert sign_found(plain) is None and sign_found(signed) is not None
    assert detect_image(signed) is not None


def test_a_preview_that_is_too_narrow_for_a_mark_ends_no_run(tmp_path):
    from sorano.serve.worker import JobListener

    for shape in ((2, 512, 3), (512, 1, 3)):
        listener = JobListener(tmp_path, {"prompt": PROMPT, "preset": "world", "seed": 1})
        listener._next_preview = 0
        listener.preview(1, 4, lambda shape=shape: np.zeros(shape, np.uint8))
