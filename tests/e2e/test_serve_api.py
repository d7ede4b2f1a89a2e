"""The API in this process, with a maker of fixed cost: bodies, files, errors, the queue, keys, guards, probes."""

import base64
import io
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from support import serving
from support.serving import PROMPT, FixedMaker, in_process

from sorano.errors import RequestError
from sorano.plan.words import parse_currency
from sorano.request import Request
from sorano.serve import schema
from sorano.serve.database import uploads
from sorano.serve.keys import Keys
from sorano.serve.posts import KeyLimits
from sorano.web.chinese import WHOLE
from sorano.web.forms import nested
from sorano.web.problems import CODES, Problem


@pytest.fixture
def served(tmp_path):
    with in_process(tmp_path) as found:
        yield found


@pytest.fixture
def client(served):
    return served[0]


def picture(kind="PNG"):
    held = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


def made(client, **body):
    answer = client.post("/v1/videos", json={"prompt": PROMPT, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, code, param=None):
    """The answer is that error, in OpenAI's shape, with the table's status."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code, error
    assert answer.status_code == CODES[code].status and error["type"] == CODES[code].type
    assert answer.headers["x-request-id"].startswith("req_")
    if param is not None:
        assert error["param"] == param, error
    return error


def test_every_error_says_what_to_do_next():
    for code, kind in CODES.items():
        assert Problem(code, "the cause", "").message == f"the cause; {kind.step}" and len(kind.step) > 12
        assert Problem(code, "the cause", "a better step").message == "the cause; a better step"


# Bodies.


def test_json_forms_and_brackets_are_one_body(client):
    body = {"prompt": PROMPT, "seed": 5, "seconds": 2, "draft": True, "storyboard": None}
    one = made(client, **body)
    form = {"prompt": PROMPT, "seed": "5", "seconds": "2", "draft": "true"}
    other = client.post("/v1/videos", data=form).json()
    third = client.post("/v1/videos", files={name: (None, value) for name, value in form.items()}).json()
    for video in (other, third):
        differ = {name for name in one if one[name] != video[name]}
        assert differ <= {"id", "created_at", "queue_position", "seconds_left"}, differ


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([("a[b]", "1"), ("a[c]", "2")], {"a": {"b": "1", "c": "2"}}),
        ([("a[][b]", "1"), ("a[][c]", "2"), ("a[][b]", "3")], {"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
        ([("a[0][b]", "1"), ("a[1][b]", "2")], {"a": [{"b": "1"}, {"b": "2"}]}),
        ([("a[]", "1"), ("a[]", "2")], {"a": ["1", "2"]}),
        ([("a", "1"), ("a", "2")], {"a": ["1", "2"]}),
    ],
)
def test_brackets(pairs, found):
    assert nested(pairs) == found


@pytest.mark.parametrize(
    "names", [["a[b", "x"], ["[a]"], ["a", "a[b]"], ["a[b]", "a[]"], ["a" + "[b]" * 9], ["a[]", "a[b]"]]
)
def test_names_that_are_none(names):
    with pytest.raises(Problem):
        nested([(name, "1") for name in names])


def test_the_fields_of_a_body_are_those_of_a_request():
    known = {field.becomes for field in schema.CREATE.values() if field.becomes}
    own = {"preset", "variations", "device", "dtype", "memory", "output", "sheet", "overwrite", "lora"}
    assert known | own == set(Request.__dataclass_fields__)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "prompt"),
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({"prompt": PROMPT, "sead": 1}, "unknown_parameter", "sead"),
        ({"prompt": PROMPT, "seconds": "long"}, "invalid_type", "seconds"),
        ({"prompt": PROMPT, "seconds": -1}, "invalid_value", "seconds"),
        ({"prompt": PROMPT, "seconds": 1e9}, "invalid_value", "seconds"),
        ({"prompt": PROMPT, "size": "720"}, "invalid_value", "size"),
        ({"prompt": PROMPT, "size": "99999x99999"}, "invalid_value", None),
        ({"prompt": PROMPT, "n": 100}, "invalid_value", "n"),
        ({"prompt": PROMPT, "seed": 1.5}, "invalid_type", "seed"),
        ({"prompt": PROMPT, "draft": "perhaps"}, "invalid_type", "draft"),
        ({"prompt": PROMPT, "storyboard": "shots"}, "invalid_type", "storyboard"),
        ({"prompt": PROMPT, "conditions": [{"kind": "magic"}]}, "invalid_value", "conditions[0]"),
        ({"prompt": PROMPT, "model": "wan2.1-t2v-14b"}, "model_unavailable", "model"),
        ({"prompt": PROMPT, "input_reference": "boat.png"}, "invalid_value", "input_reference"),
        ({"prompt": PROMPT, "input_reference": {"image_url": "https://x.org/a.png"}}, "remote_url_not_allowed", None),
        ({"prompt": PROMPT, "input_reference": {"file_id": "file_../../etc/passwd"}}, "not_found", None),
        ({"prompt": "x" * 5000}, "invalid_value", "prompt"),
        ({"prompt": "a zebra plays chess"}, None, None),
    ],
)
def test_bodies_that_are_refused(client, body, code, param):
    answer = client.post("/v1/videos", json=body)
    if code is None:
        assert answer.status_code in (200, 400)
        return
    error = refused(answer, code, param)
    assert "--" not in error["message"].replace("...", "") or "sorano" in error["message"]
    assert client.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{", "application/json", "invalid_json"),
        (b"[1]", "application/json", "invalid_type"),
        (b"[" * 100_000, "application/json", "invalid_json"),
        (b"\xff\xfe{}", "application/json", "invalid_json"),
        (b"<a/>", "text/xml", "unsupported_media_type"),
        (b"a=1", "multipart/form-data", "invalid_value"),
    ],
)
def test_bodies_that_cannot_be_read(client, content, kind, code):
    refused(client.post("/v1/videos", content=content, headers={"content-type": kind}), code)


def test_a_body_that_is_too_large_is_not_read(tmp_path):
    with in_process(tmp_path, most_body_bytes=1000) as (client, _, _):
        refused(client.post("/v1/videos", json={"prompt": "x" * 2000}), "request_too_large")
        parts = (b'{"prompt": "' + b"x" * 400 for _ in range(10))
        answer = client.post("/v1/videos", content=parts, headers={"content-type": "application/json"})
        refused(answer, "request_too_large")


# Videos.


def test_a_video_is_made_shown_and_deleted(served):
    client, service, worker = served
    video = made(client, model="sora-2", size="1280x720", seed=9)
    assert video["object"] == "video" and video["status"] == "queued" and video["queue_position"] == 1
    assert (video["model"], video["preset"], video["size"]) == ("sora-2", "world", "1280x720")
    assert video["native_size"] != "1280x720" and any("sora-2" in note for note in video["notes"])
    assert video["planned_seconds"] > 0 and isinstance(video["seconds"], str)
    refused(client.get(f"/v1/videos/{video['id']}/content"), "not_ready")
    assert worker.work_once() and worker.work_once() and not worker.work_once()
    found = client.get(f"/v1/videos/{video['id']}")
    assert found.json()["status"] == "completed" and found.json()["variants"] == ["video", "thumbnail", "spritesheet"]
    content = client.get(f"/v1/videos/{video['id']}/content")
    assert content.headers["content-type"] == "video/mp4" and len(content.content) > 100
    part = client.get(f"/v1/videos/{video['id']}/content", headers={"range": "bytes=0-9"})
    assert part.status_code == 206 and part.content == content.content[:10]
    assert client.head(f"/v1/videos/{video['id']}/content").headers["etag"] == content.headers["etag"]
    for variant, kind in (("thumbnail", "image/webp"), ("spritesheet", "image/jpeg")):
        answer = client.get(f"/v1/videos/{video['id']}/content", params={"variant": variant})
        assert answer.headers["content-type"] == kind
    assert client.delete(f"/v1/videos/{video['id']}").json() == {
        "id": video["id"], "object": "video.deleted", "deleted": True
    }  # fmt: skip
    refused(client.get(f"/v1/videos/{video['id']}"), "not_found")
    assert [path for path in service.store.videos.rglob("*")] == []


def test_variations_have_seeds_one_after_the_other(served):
    client, _, worker = served
    first = made(client, n=3, seed=10)
    assert len(first["variations"]) == 3
    found = client.get("/v1/videos", params={"order": "asc"}).json()["data"]
    assert [one["seed"] for one in found] == [10, 11, 12] and {one["group_id"] for one in found} == {first["id"]}
    while worker.work_once():
        pass
    assert [words["seed"] for words in worker.maker.made] == [10, 11, 12]


def test_a_seed_is_drawn_once_and_kept(served):
    client, _, worker = served
    video = made(client)
    worker.work_once()
    assert worker.maker.made[0]["seed"] == video["seed"] is not None


def test_remix_edits_and_extensions_are_requests_of_the_engine(served, tmp_path):
    client, _, worker = served
    video = made(client, seed=4, num_steps=8)
    refused(client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "it is night"}), "not_ready")
    worker.work_once()
    remix = client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "it is night", "guidance": 3}).json()
    assert remix["remixed_from_video_id"] == video["id"] and "at night" in remix["prompt"]
    worker.work_once()
    words = worker.maker.made[-1]
    assert (words["seed"], words["num_steps"], words["guidance"]) == (4, 8, 3)
    # the fixed maker's videos are none: an edit of one is refused when it is looked at, and not later
    body = {"prompt": "it is night", "video": {"id": video["id"]}}
    assert client.post("/v1/videos/edits", json=body).status_code == 400
    refused(client.post("/v1/videos/edits", json={"prompt": "it is night"}), "missing_required_parameter", "video")
    refused(client.post("/v1/videos/extensions", json={"video": {"id": "video_none"}}), "not_found")


def test_what_openai_had_and_this_server_has_not(client):
    for path in ("/v1/videos/characters", "/v1/batches"):
        assert len(refused(client.post(path, json={}), "unsupported")["message"]) > 40
    for path in ("/v1/videos/characters/c1", "/v1/batches/b1"):
        refused(client.get(path), "unsupported")
    refused(client.post("/v1/batches/b1/cancel"), "unsupported")


@pytest.mark.parametrize("shape", ["upload", "data", "nested", "file_id", "text"])
def test_a_first_frame_in_every_shape(served, shape):
    client, service, worker = served
    data = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    if shape == "upload":
        answer = client.post(
            "/v1/videos", data={"prompt": PROMPT}, files={"input_reference": ("a.png", picture(), "image/png")}
        )
    elif shape == "file_id":
        file = client.post("/v1/files", data={"purpose": "vision"}, files={"file": ("../../a.png", picture())}).json()
        assert file["filename"] == "a.png" and file["kind"] == "picture" and file["width"] == 64
        assert client.get(f"/v1/files/{file['id']}").json() == file
        answer = client.post("/v1/videos", json={"prompt": PROMPT, "input_reference": {"file_id": file["id"]}})
    else:
        given = {"data": {"image_url": data}, "nested": {"image_url": {"url": data}}, "text": data}[shape]
        answer = client.post("/v1/videos", json={"prompt": PROMPT, "input_reference": given})
    assert answer.status_code == 200, answer.text
    worker.work_once()
    path = worker.maker.made[0]["image"]
    assert path.startswith(str(service.store.uploads)) and Path(path).read_bytes() == picture()


def test_uploads_are_listed_by_their_key_and_deleted_on_the_way(tmp_path, database_url):
    with in_process(tmp_path, database_url, needs_keys=True) as (client, service, _):
        keys = Keys(service.database)
        scopes = {"one": ("read", "write"), "other": ("read", "write"), "operator": ("read", "write", "admin")}
        one, other, operator = (
            {"authorization": f"Bearer {keys.create(name, scope)[1]}"} for name, scope in scopes.items()
        )

        def listed(headers=one, **query):
            return client.get("/v1/files", params=query, headers=headers).json()

        files = [client.post("/v1/files", files={"file": (f"{n}.png", picture())}, headers=one) for n in range(4)]
        ids = [answer.json()["id"] for answer in files]
        body = {"prompt": PROMPT, "input_reference": {"file_id": ids[0]}}
        client.post("/v1/videos", json=body, headers=one)
        data = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
        client.post("/v1/videos", json={"prompt": PROMPT, "input_reference": data}, headers=one)
        (given,) = listed(purpose="input")["data"]
        page = listed(limit=3)
        assert [row["id"] for row in page["data"]] == [given["id"], ids[3], ids[2]] and page["has_more"]
        assert page["object"] == "list" and page["last_id"] == ids[2] and page["data"][1] == files[3].json()
        assert client.delete(f"/v1/files/{ids[2]}", headers=one).json()["deleted"]
        rest = listed(after=ids[2])
        assert [row["id"] for row in rest["data"]] == [ids[1], ids[0]] and not rest["has_more"]
        assert [row["id"] for row in listed(order="asc", purpose="vision")["data"]] == [ids[0], ids[1], ids[3]]
        assert listed(other)["data"] == [] and len(listed(operator)["data"]) == 4
        refused(client.get("/v1/files", params={"after": ids[0]}, headers=other), "not_found")
        refused(client.delete(f"/v1/files/{ids[0]}", headers=other), "not_found")
        lines = client.get("/v1/audit", params={"subject": ids[2]}, headers=operator).json()["data"]
        assert [line["action"] for line in lines] == ["upload", "delete"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.png", b"no picture", "invalid_file"),
        ("a.png", b"", "invalid_file"),
        ("a.mp4", picture()[:200], "invalid_file"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000, "invalid_file"),
    ],
)
def test_files_that_cannot_be_decoded_are_not_kept(served, name, content, code):
    client, service, _ = served
    answer = client.post("/v1/videos", data={"prompt": PROMPT}, files={"input_reference": (name, content)})
    error = refused(answer, code, "input_reference")
    assert str(service.store.root) not in error["message"]
    assert list(service.store.uploads.iterdir()) == []


def test_a_picture_with_too_many_pixels_is_refused(tmp_path):
    with in_process(tmp_path, most_input_pixels=1000) as (client, _, _):
        answer = client.post("/v1/files", files={"file": ("a.png", picture())})
        assert "pixels" in refused(answer, "invalid_file")["message"]


def test_a_plan_costs_nothing(served):
    client, service, _ = served
    plan = client.post("/v1/plan", json={"prompt": PROMPT, "size": "1280x720", "n": 2}).json()
    assert plan["planned"]["seconds"] > 0 and plan["planned"]["peak_bytes"] > 0 and plan["planned"]["fits"]
    assert plan["planned"]["total_seconds"] == 2 * plan["planned"]["seconds"]
    assert plan["size"] == "1280x720" and plan["queue"]["jobs"] == 0
    assert service.jobs.counts() == {}


def test_a_plan_says_the_cost_where_a_price_is_known(tmp_path, client):
    body = {"prompt": PROMPT, "n": 3}
    assert client.post("/v1/plan", json=body).json()["planned"]["cost"] is None
    words = {"usd_hour": 2.0, "currency": parse_currency("EUR=0.5@2026-11-20")}
    with in_process(tmp_path / "priced", **words) as (other, _, _):
        planned = other.post("/v1/plan", json=body).json()["planned"]
    cost = planned["cost"]
    assert (cost["currency"], cost["device_hour"]) == ("EUR", 1.0) and "2026-11-20" in cost["note"]
    assert cost["amount"] == pytest.approx(planned["total_seconds"] / 3600) and planned["total_seconds"] > 0


def test_the_notes_of_a_plan_are_in_the_readers_language(client):
    bodies = (
        {"model": "sora-2", "size": "1280x720", "draft": True, "seconds": 1.2, "fps": 10},
        {"size": "192x192", "upscale": "none", "fps": 10},
        {"size": "16:9", "upscale": 2, "prompt": "a crimson ball bounces on the grass", "force": True},
        {"prompt": "a red ball and a dragon bounce on the grass", "force": True},
    )
    seen = set()
    for body in bodies:
        english, chinese, other = (
            client.post("/v1/plan", json={"prompt": PROMPT, **body}, headers={"accept-language": one}).json()["notes"]
            for one in ("en", "zh-CN,zh;q=0.9", "fr,zh;q=0.5")
        )
        assert english == other and len(english) == len(chinese) and english
        for said, meant in zip(english, chinese, strict=True):
            assert re.search("[\u4e00-\u9fff]", meant) and not re.search("[\u4e00-\u9fff]", said), (said, meant)
            seen |= {pattern.pattern for pattern, _ in WHOLE if pattern.fullmatch(said)}
    assert len(seen) >= 8, seen


def test_errors_are_in_the_readers_language_and_english_unless_it_is_chinese(tmp_path):
    maker = FixedMaker(steps=2000, seconds=0.05)
    with in_process(tmp_path, maker=maker, most_body_bytes=100_000) as (client, service, _):
        chinese = {"accept-language": "zh-CN"}
        sent = [
            ("POST", "/v1/videos", {"json": {}}, "缺少 描述；此项必填"),
            ("POST", "/v1/videos", {"json": {"prompt": PROMPT, "seconds": "long"}}, "seconds 必须是数字"),
            ("POST", "/v1/videos", {"json": {"prompt": PROMPT, "size": "3x3"}}, "视频每边为 16 到"),
            ("POST", "/v1/videos", {"json": {"prompt": "a dragonn"}}, "world 不"),
            (
                "POST",
                "/v1/videos",
                {"content": b"{", "headers": {"content-type": "application/json"}},
                "请求体不是 JSON",
            ),
            ("POST", "/v1/videos", {"content": b"x" * 200_000}, "一次最多接收"),  # by the guard, without the routes
            ("GET", "/v1/videos?order=up", {}, "没有这样的 order；可以是：asc, desc"),
            ("GET", "/v1/videos/video_x", {}, "没有视频“video_x”；它可能已被删除或已过期"),
            ("GET", "/nowhere", {}, "没有这个地址"),
            ("PUT", "/v1/videos", {}, "此地址不支持该方法"),
        ]
        for method, path, words, said in sent:
            given = {**words, "headers": {**words.get("headers", {}), **chinese}}
            answers = [client.request(method, path, **one) for one in (words, given)]
            english, meant = (answer.json()["error"] for answer in answers)
            assert meant["message"].startswith(said), (meant, said)
            assert {**meant, "message": ""} == {**english, "message": ""} and english["message"].isascii(), english
            assert [answer.headers["content-language"] for answer in answers] == ["en", "zh-CN"]
        job = made(client)["id"]
        client.post(f"/v1/videos/{job}/cancel")
        (listed,) = client.get("/v1/videos", headers=chinese).json()["data"]
        with client.stream("GET", f"/v1/videos/{job}/events", headers=chinese) as answer:
            (event,) = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data")]
        assert listed["error"] == event["error"] == {"code": "cancelled", "message": "任务已取消"}
        assert client.get(f"/v1/videos/{job}").json()["error"]["message"] == "the job was cancelled"


def test_a_size_is_made_as_the_model_was_trained_and_scaled(served):
    client, _, worker = served
    plain = client.post("/v1/plan", json={"prompt": PROMPT, "upscale": "none"}).json()
    for size, native in (("256x256", "128x128"), ("64x64", "128x128"), ("256x160", "160x96")):
        plan = client.post("/v1/plan", json={"prompt": PROMPT, "size": size}).json()
        assert (plan["size"], plan["native_size"]) == (size, native)
        assert any(f"made at {native}" in note for note in plan["notes"])
        assert plan["planned"]["seconds"] < 1.5 * plain["planned"]["seconds"]
    assert (
        client.post("/v1/plan", json={"prompt": PROMPT, "size": "256x256", "upscale": 1}).json()["native_size"]
        == "256x256"
    )
    video = made(client, size="256x256", seed=4)
    assert (video["size"], video["native_size"]) == ("256x256", "128x128")
    assert worker.work_once() and worker.maker.made[0]["upscale"] == "fit"
    again = client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": PROMPT, "size": "192x192"}).json()
    assert (again["size"], again["native_size"]) == ("192x192", "128x128")


def test_verify_says_where_a_file_is_from(client):
    report = client.post("/v1/verify", files={"file": ("holiday.png", picture())}).json()
    assert report["verdict"] == "UNVERIFIED" and report["path"] == "holiday.png" and report["evidence"]
    refused(client.post("/v1/verify", files={"file": ("a.mp4", b"nothing")}), "invalid_file")
    refused(client.post("/v1/verify", json={}), "missing_required_parameter", "file")


def test_models_and_their_words(client):
    found = client.get("/v1/models").json()["data"]
    assert found[0]["id"] == "world" and found[0]["object"] == "model"
    assert "ball" in client.get("/v1/models/world", params={"words": True}).json()["words"]
    refused(client.get("/v1/models/sora-2"), "not_found")


def test_a_model_that_is_removed_while_its_job_waits_is_a_job_with_a_code_and_the_others_stay(tmp_path, tiny_folder):
    folder = tmp_path / "own"
    shutil.copytree(tiny_folder, folder)
    with in_process(tmp_path, models=(str(folder),)) as (client, service, worker):
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["own", "world"]
        video = made(client, prompt="a red ball bounces on grass")
        assert (video["model"], video["preset"]) == ("own", "own")  # and not where it is on the machine
        shutil.rmtree(folder)
        worker.work_once()
        error = client.get(f"/v1/videos/{video['id']}").json()["error"]
        assert error["code"] == "model_unavailable" and str(tmp_path) not in error["message"], error
        service_of = client.app.state.api.orders
        service_of._models = (0.0, {})  # looked at anew, as after half a minute
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["world"]
        assert made(client)["model"] == "world"


def test_lists_are_paged(client):
    ids = [made(client, seed=number)["id"] for number in range(5)]
    first = client.get("/v1/videos", params={"limit": 2}).json()
    assert [one["id"] for one in first["data"]] == ids[:2:-1] and first["has_more"] and first["last_id"] == ids[3]
    rest = client.get("/v1/videos", params={"limit": 5, "after": first["last_id"]}).json()
    assert [one["id"] for one in rest["data"]] == ids[2::-1] and not rest["has_more"]
    refused(client.get("/v1/videos", params={"limit": 1000}), "invalid_value", "limit")
    refused(client.get("/v1/videos", params={"after": "video_none"}), "not_found")


def test_repeated_posts_make_one_job(client):
    key = {"Idempotency-Key": "k1"}
    body = {"prompt": PROMPT}
    one = client.post("/v1/videos", json=body, headers=key).json()
    assert client.post("/v1/videos", data=body, headers=key).json()["id"] == one["id"]  # the same in another form
    refused(client.post("/v1/videos", json={**body, "seed": 1}, headers=key), "idempotency_mismatch")
    again = client.post("/v1/videos", json=body, headers={"x-stainless-retry-count": "1"}).json()
    assert again["id"] == one["id"]
    assert client.post("/v1/videos", json=body).json()["id"] != one["id"]


# The queue.


def test_the_queue_is_paused_moved_and_edited(served):
    client, _, worker = served
    first, second = made(client, seed=1), made(client, seed=2)
    assert client.post(f"/v1/videos/{second['id']}/move").json()["queue_position"] == 1
    assert client.post(f"/v1/videos/{second['id']}/pause").json()["is_paused"]
    changed = client.post(f"/v1/videos/{first['id']}", json={"prompt": "a blue cube spins on the snow", "seconds": 2})
    assert changed.json()["prompt"] == "a blue cube spins on the snow" and changed.json()["seed"] == 1
    worker.work_once()
    assert worker.maker.made[0]["prompt"] == "a blue cube spins on the snow"
    refused(client.post(f"/v1/videos/{first['id']}", json={"seed": 3}), "wrong_state")
    assert worker.work_once() and not worker.work_once()  # the thumbnail, and nothing else
    client.post(f"/v1/videos/{second['id']}/resume")
    worker.work_once()
    assert worker.maker.made[1]["seed"] == 2


def test_a_running_job_is_cancelled_within_a_step(tmp_path):
    with in_process(tmp_path, maker=FixedMaker(steps=2000, seconds=0.05)) as (client, service, worker):
        video = made(client)
        thread = threading.Thread(target=worker.work_once)
        thread.start()
        serving.wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["step"])
        answer = client.post(f"/v1/videos/{video['id']}/cancel").json()
        assert answer["status"] == "failed" and answer["error"]["code"] == "cancelled"
        thread.join(60)
        assert not thread.is_alive() and list(service.store.work.iterdir()) == []


def test_a_running_job_that_is_deleted_leaves_nothing(tmp_path):
    with in_process(tmp_path, maker=FixedMaker(steps=2000, seconds=0.05)) as (client, service, worker):
        video = made(client)
        thread = threading.Thread(target=worker.work_once)
        thread.start()
        serving.wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["step"])
        assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"]
        thread.join(60)
        assert not thread.is_alive()
        assert list(service.store.work.iterdir()) == list(service.store.videos.iterdir()) == []


def test_a_worker_that_is_told_to_stop_gives_its_job_back(tmp_path):
    with in_process(tmp_path, maker=FixedMaker(steps=2000, seconds=0.05)) as (client, service, worker):
        video = made(client)
        thread = threading.Thread(target=worker.work_once)
        thread.start()
        serving.wait_until(lambda: (client.get(f"/v1/videos/{video['id']}").json()["step"] or 0) > 1)
        worker.stop(now=True)
        thread.join(60)
        assert client.get(f"/v1/videos/{video['id']}").json()["status"] == "queued"
        worker.maker.seconds, worker.maker.steps = 0, 10
        worker._stopping.clear()
        worker._hurried.clear()
        worker.work_once()
        found = client.get(f"/v1/videos/{video['id']}").json()
        assert found["status"] == "completed" and worker.maker.resumed and found["attempts"] == 1


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("disk full", "storage_full"),
        ("model gone", "model_unavailable"),
        ("too large", "does_not_fit"),
        ("crash", "internal_error"),
    ],
)
def test_a_job_that_fails_has_a_code(served, prompt, code):
    client, service, worker = served
    video = made(client, force=True)
    row = service.jobs.get(video["id"], None)
    service.jobs.change(video["id"], None, words={**row["words"], "prompt": prompt})
    worker.work_once()
    found = client.get(f"/v1/videos/{video['id']}").json()
    assert found["status"] == "failed" and found["error"]["code"] == code and found["error"]["message"]
    assert list(service.store.work.iterdir()) == []


def test_a_file_that_goes_before_its_job_does(served):
    client, service, worker = served
    answer = client.post("/v1/videos", data={"prompt": PROMPT}, files={"input_reference": ("a.png", picture())})
    for path in service.store.uploads.iterdir():
        path.unlink()
    worker.work_once()
    assert client.get(f"/v1/videos/{answer.json()['id']}").json()["error"]["code"] == "input_gone"


def test_events_tell_how_far_it_is(tmp_path):
    with in_process(tmp_path, maker=FixedMaker(steps=6, seconds=0.2)) as (client, _, worker):
        video = made(client)
        thread = threading.Thread(target=worker.work_once)
        thread.start()
        with client.stream("GET", f"/v1/videos/{video['id']}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line]
        thread.join()
        kinds = [line.split(": ")[1] for line in lines if line.startswith("event")]
        states = [json.loads(line[6:]) for line in lines if line.startswith("data")]
        assert kinds[-1] == "video.completed" and set(kinds[:-1]) == {"video.progress"}
        assert states[-1]["progress"] == 100 and any(one["stage"] == "denoise" for one in states)


# Who may ask.


def test_what_another_key_has_is_not_there(tmp_path):
    with in_process(tmp_path, needs_keys=True, webhook_hosts=("127.0.0.1:9",)) as (client, service, _):
        keys = Keys(service.database)
        one, other, operator = (
            {"authorization": f"Bearer {keys.create(name, scopes)[1]}"}
            for name, scopes in (("one", ["read", "write"]), ("other", ["read", "write"]), ("all", ["read", "admin"]))
        )
        file = client.post("/v1/files", files={"file": ("a.png", picture())}, headers=one).json()
        hook = {"name": "x", "url": "http://127.0.0.1:9/"}
        made = [
            ("/v1/videos", client.post("/v1/videos", json={"prompt": PROMPT}, headers=one).json(), "video"),
            ("/v1/files", file, "file"),
            ("/v1/webhook_endpoints", client.post("/v1/webhook_endpoints", json=hook, headers=one).json(), "webhook"),
        ]
        for place, found, what in made:
            path = f"{place}/{found['id']}"
            for answer in (client.get(path, headers=other), client.delete(path, headers=other)):
                assert f"there is no {what}" in refused(answer, "not_found")["message"]
            none = client.get(f"{place}/{found['id'][:-4]}0000", headers=one)
            assert f"there is no {what}" in refused(none, "not_found")["message"]
            assert client.get(path, headers=one).json()["id"] == found["id"]
            assert client.get(path, headers=operator).json()["id"] == found["id"]


def test_keys_are_needed_scoped_and_revoked(tmp_path):
    with in_process(tmp_path, needs_keys=True) as (client, service, _):
        keys = Keys(service.database)
        key_id, key = keys.create("one")
        _, reader = keys.create("reader", ["read"], KeyLimits())
        _, operator = keys.create("operator", ["read", "write", "admin"])
        other = {"authorization": f"Bearer {reader}"}
        own = {"authorization": f"Bearer {key}"}
        error = refused(client.get("/v1/videos"), "invalid_api_key")
        assert "Bearer" in error["message"]
        refused(client.get("/v1/videos", headers={"authorization": "Bearer sk-sorano-x"}), "invalid_api_key")
        video = client.post("/v1/videos", json={"prompt": PROMPT}, headers=own).json()
        refused(client.post("/v1/videos", json={"prompt": PROMPT}, headers=other), "insufficient_scope")
        for path in ("", "/content", "/events", "/preview"):  # of others there is nothing to see
            refused(client.get(f"/v1/videos/{video['id']}{path}", headers=other), "not_found")
        refused(client.get("/metrics", headers=own), "insufficient_scope")
        admin = {"authorization": f"Bearer {operator}"}
        assert client.get("/v1/audit", headers=admin).json()["data"][-1]["subject"] == video["id"]
        assert client.get("/healthz").status_code == 200
        with service.database.read() as connection:
            from sorano.serve.database import api_keys

            assert key not in str(connection.execute(api_keys.select()).all())
        new_id, new = keys.rotate(key_id)
        assert client.get(f"/v1/videos/{video['id']}", headers={"authorization": f"Bearer {new}"}).status_code == 200
        keys.revoke(new_id)
        keys._seen.clear()
        later = Keys(service.database)
        with pytest.raises(Problem):
            later.caller(new)
        assert client.delete(f"/v1/videos/{video['id']}", headers=admin).json()["deleted"]  # a takedown


def test_a_rotated_key_ends_when_the_old_one_would_have_and_a_revoked_one_stays_revoked(tmp_path):
    with in_process(tmp_path, needs_keys=True) as (_, service, _):
        keys = Keys(service.database)

        def ends(key_id):
            return next(row["expires_at"] for row in keys.all() if row["id"] == key_id)

        short, _ = keys.create_with("short", ["read"], {}, days=1 / 24)
        end = ends(short)
        new_id, new = keys.rotate(short)
        assert ends(new_id) == end and ends(short) == end and keys.find(new)["scopes"] == ["read"]
        lasting, _ = keys.create_with("lasting", ["read"], {})
        again, _ = keys.rotate(lasting)
        assert ends(again) is None and ends(lasting) < time.time() + 25 * 3600
        keys.revoke(again)
        count = len(keys.all())
        with pytest.raises(RequestError, match="was revoked or has ended"):
            keys.rotate(again)
        assert len(keys.all()) == count


def test_quotas_of_a_key_are_answered_with_429(tmp_path):
    with in_process(tmp_path, limits=KeyLimits(requests_per_day=1)) as (client, _, _):
        made(client)
        answer = client.post("/v1/videos", json={"prompt": PROMPT})
        refused(answer, "quota_exceeded")
        assert int(answer.headers["retry-after"]) > 0 and answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}],
)
def test_other_sites_cannot_use_an_open_server(client, headers):
    refused(client.post("/v1/videos", json={"prompt": PROMPT}, headers=headers), "origin_not_allowed")


def test_every_answer_has_the_headers_that_guard_a_page(client):
    for answer in (client.get("/healthz"), client.get("/v1/videos"), client.get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and "server" not in answer.headers


@pytest.mark.parametrize("name", ["..%2f..%2fjobs.sqlite3", "video_..", "%00", "video_" + "x" * 5000, "💥"])
def test_names_are_no_paths(client, name):
    for path in (f"/v1/videos/{name}", f"/v1/videos/{name}/content", f"/v1/files/{name}", f"/v1/models/{name}"):
        refused(client.get(path), "not_found")


@pytest.mark.parametrize("given", ["bytes=5-2", "bytes=abc", "bytes=", "bytes=-", "lines=1-2", "bytes=1-2,x"])
def test_a_malformed_range_is_none(served, given):
    client, _, worker = served
    job = made(client)["id"]
    worker.work_once()
    whole = client.get(f"/v1/videos/{job}/content").content
    answer = client.get(f"/v1/videos/{job}/content", headers={"range": given})
    assert answer.status_code == 200 and answer.content == whole


def test_ranges_are_answered_and_one_behind_the_end_is_refused_in_the_usual_shape(served):
    client, _, worker = served
    job = made(client)["id"]
    worker.work_once()
    whole = client.get(f"/v1/videos/{job}/content").content
    for given, wanted in (
        ("bytes=2-5", whole[2:6]),
        ("bytes=-4", whole[-4:]),
        (f"bytes={len(whole) - 3}-", whole[-3:]),
    ):
        answer = client.get(f"/v1/videos/{job}/content", headers={"range": given})
        assert answer.status_code == 206 and answer.content == wanted
    refused(client.get(f"/v1/videos/{job}/content", headers={"range": "bytes=99999999-"}), "range_not_satisfiable")


def test_who_has_a_video_is_asked_again_whether_it_is_still_there(served):
    client, _, worker = served
    job = made(client)["id"]
    worker.work_once()
    first = client.get(f"/v1/videos/{job}/content")
    assert "no-cache" in first.headers["cache-control"]
    again = {"if-none-match": first.headers["etag"]}
    assert client.get(f"/v1/videos/{job}/content", headers=again).status_code == 304
    client.delete(f"/v1/videos/{job}")
    refused(client.get(f"/v1/videos/{job}/content", headers=again), "not_found")


def test_a_choice_that_is_none_names_the_others(client):
    said = refused(client.get("/v1/videos/video_1/content?variant=gif"), "invalid_value", "variant")["message"]
    assert said == "there is no such variant; it is one of video, thumbnail, spritesheet"


def test_keys_count_from_the_moment_on_when_there_is_one(tmp_path, monkeypatch):
    from sorano.web import keys as web_keys

    monkeypatch.setattr(web_keys, "CACHE_SECONDS", 0.0)
    with in_process(tmp_path, needs_keys=None) as (client, service, _):
        assert client.get("/v1/models").status_code == 200
        keys = Keys(service.database)
        key_id, key = keys.create("me", ("read",))
        refused(client.get("/v1/models"), "invalid_api_key")
        assert client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        keys.revoke(key_id)
        refused(client.get("/v1/models"), "invalid_api_key")


def test_a_full_disk_is_said_as_such_by_verify_and_by_the_database(served, monkeypatch):
    client, service, _ = served

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        refused(client.post("/v1/verify", files={"file": ("a.png", picture())}), "storage_full")
    assert not list(service.store.uploads.iterdir())
    with service.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    sa.event.listen(
        service.database.engine, "begin", lambda one: one.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    )
    for _ in range(200):
        answer = client.post("/v1/videos", json={"prompt": PROMPT})
        if answer.status_code != 200:
            break
    refused(answer, "storage_full")


def test_a_seed_that_is_none_is_refused_though_the_rest_is_known(client):
    body = {"prompt": PROMPT, "seed": 1}
    assert client.post("/v1/plan", json=body).status_code == 200
    for seed in (-1, 2**63, 10**30):
        for route in ("/v1/plan", "/v1/videos"):
            refused(client.post(route, json={**body, "seed": seed}), "invalid_value", "seed")
    refused(client.post("/v1/videos", json={**body, "seed": 2**63 - 1, "n": 2}), "invalid_value", "seed")


def test_prompts_that_the_operator_refuses(tmp_path):
    blocked = tmp_path / "words"
    blocked.write_text("# of the operator's\nred ball\n")
    with in_process(tmp_path, blocked_words=blocked) as (client, _, _):
        refused(client.post("/v1/videos", json={"prompt": PROMPT}), "content_policy_violation", "prompt")
        made(client, prompt="a blue cube spins on the snow")


# Operation.


def test_probes_and_metrics(served):
    client, _, worker = served
    assert client.get("/readyz").json() == {
        "status": "ok", "database": True, "store": True, "worker": True, "serving": True
    }  # fmt: skip
    made(client)
    worker.work_once()
    worker._report()
    text = client.get("/metrics").text
    for line in ('sorano_jobs{status="completed"} 1.0', "sorano_workers 1.0", "sorano_video_seconds_total", "route="):
        assert line in text, text
    worker._leave()
    time.sleep(0.01)
    assert client.get("/readyz").status_code == 503


def test_a_database_that_is_away_is_said(served):
    client, service, _ = served
    from sqlalchemy.exc import OperationalError

    def away(*_, **__):
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    service.jobs.database.read = away
    answer = client.get("/v1/videos")
    refused(answer, "database_unavailable")
    assert answer.headers["retry-after"] and answer.headers["x-should-retry"] == "true"
    assert client.get("/readyz").status_code == 503


def test_what_nobody_foresaw_has_the_same_shape(served):
    client, service, _ = served
    service.jobs.page = lambda *_, **__: 1 / 0
    error = refused(client.get("/v1/videos"), "internal_error")
    assert "division" not in error["message"]


def test_the_openapi_names_every_route(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/videos", "/v1/videos/{video_id}/remix", "/v1/plan", "/v1/verify"} <= set(paths)


def test_uploads_stay_as_long_as_a_job_needs_them(served):
    import sqlalchemy as sa

    from sorano.serve.database import uploads
    from sorano.serve.sweep import Sweeper

    client, service, _ = served
    files = {"input_reference": ("a.png", picture())}
    job = client.post("/v1/videos", data={"prompt": PROMPT}, files=files).json()["id"]
    own = client.post("/v1/files", files={"file": ("b.png", picture("BMP"))}).json()["id"]
    stray = service.store.uploads / "file_stray.png"
    stray.write_bytes(b"left by a kill")
    with service.database.write() as connection:
        connection.execute(sa.update(uploads).values(created_at=time.time() - 1e6))
    for path in service.store.uploads.iterdir():
        os.utime(path, (0, 0))
    Sweeper(service).sweep_files()
    assert len(list(service.store.uploads.iterdir())) == 2
    client.delete(f"/v1/videos/{job}")
    Sweeper(service).sweep_files()
    (kept,) = service.store.uploads.iterdir()
    assert kept.name.startswith(own)
    assert client.delete(f"/v1/files/{own}").json()["deleted"]
    assert list(service.store.uploads.iterdir()) == []


def test_a_thumbnail_that_is_begun_while_files_are_swept_keeps_its_folder(served, monkeypatch):
    from sorano.serve.sweep import Sweeper

    client, service, worker = served
    job = made(client)["id"]
    worker.work_once()
    look, begun = service.jobs.many, []

    def look_then_begin(ids):
        rows = look(ids)
        begun.append(service.jobs.claim_variants(60.0))
        (service.store.take_over(job, begun[0]["epoch"]) / "thumbnail.webp").write_bytes(b"being made")
        return rows

    monkeypatch.setattr(service.jobs, "many", look_then_begin)
    Sweeper(service).sweep_files()
    monkeypatch.undo()
    folder = service.store.work_folder(job, begun[0]["epoch"])
    assert begun[0]["id"] == job and (folder / "thumbnail.webp").is_file()
    service.jobs.add_variants(begun[0], {})
    Sweeper(service).sweep_files()
    assert not folder.exists()


def test_requests_with_conditions_and_shots_reach_the_engine(served):
    client, _, worker = served
    image = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    shots = [{"prompt": PROMPT, "seconds": 1}, {"prompt": "a blue cube spins on the snow", "image": image}]
    made(client, storyboard=shots)
    made(client, conditions=[{"kind": "keyframe", "image": {"image_url": image}, "seconds": 0.5}])
    made(client, conditions=[{"kind": "loop"}])
    while worker.work_once():
        pass
    film, clip, loop = worker.maker.made
    assert [shot["prompt"] for shot in film["shots"]] == [PROMPT, "a blue cube spins on the snow"]
    assert Path(film["shots"][1]["image"]).is_file() and Path(clip["conditions"][0]["image"]).is_file()
    assert Request(**clip).conditions[0].name == "keyframe" and loop["conditions"] == [{"kind": "loop"}]


def away(*_, **__):
    from sqlalchemy.exc import OperationalError

    raise OperationalError("SELECT", {}, Exception("the server closed the connection"))


def test_a_database_that_is_away_for_a_moment_costs_nothing(tmp_path):
    with in_process(tmp_path, maker=FixedMaker(steps=4, seconds=0.05), lease_seconds=15) as (client, service, worker):
        video = made(client)
        write, count = service.jobs.database.write, []

        def sometimes(**words):
            count.append(1)
            return away() if 1 < len(count) < 6 else write(**words)

        service.jobs.database.write = sometimes
        worker.work_once()
        found = client.get(f"/v1/videos/{video['id']}").json()
        assert found["status"] == "completed" and found["attempts"] == 1 and len(count) >= 6


def test_a_worker_that_loses_the_database_stops_and_another_goes_on(tmp_path):
    maker = FixedMaker(steps=1000, seconds=0.02)
    with in_process(tmp_path, maker=maker, lease_seconds=3) as (client, service, worker):
        video = made(client)
        read, write = service.jobs.database.read, service.jobs.database.write
        thread = threading.Thread(target=lambda: quietly(worker.work_once))
        thread.start()
        serving.wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["step"])
        service.jobs.database.read = service.jobs.database.write = away
        thread.join(60)
        service.jobs.database.read, service.jobs.database.write = read, write
        assert not thread.is_alive()
        serving.wait_until(lambda: service.jobs.sweep() and service.jobs.counts().get("queued"))
        maker.steps = 3
        worker.work_once()
        assert client.get(f"/v1/videos/{video['id']}").json()["status"] == "completed"


def quietly(call):
    try:
        call()
    except Exception as error:
        assert "closed the connection" in str(error)


def test_the_uploads_of_a_key_take_no_more_than_it_may_keep_and_go_with_the_days(tmp_path):
    size = len(picture())
    with in_process(tmp_path, most_kept_bytes=2 * size, keep_seconds=3600.0) as (client, service, worker):
        keep = [client.post("/v1/files", files={"file": ("a.png", picture())}).json()["id"] for _ in range(2)]
        error = refused(client.post("/v1/files", files={"file": ("a.png", picture())}), "quota_exceeded", "file")
        assert "DELETE /v1/files/ID" in error["message"] and len(list(service.store.uploads.iterdir())) == 2
        data = "data:image/png;base64," + base64.b64encode(picture()).decode()
        answer = client.post("/v1/videos", json={"prompt": PROMPT, "input_reference": {"image_url": data}})
        refused(answer, "quota_exceeded")  # what comes with a request counts too
        made(client, input_reference={"file_id": keep[0]})
        client.delete(f"/v1/files/{keep[1]}")
        late = client.post("/v1/files", files={"file": ("a.png", picture())}).json()["id"]
        with service.database.write() as connection:
            connection.execute(sa.update(uploads).values(created_at=uploads.c.created_at - 7200))
        service.assets.sweep()
        assert client.get(f"/v1/files/{keep[0]}").status_code == 200  # a job needs it
        refused(client.get(f"/v1/files/{late}"), "not_found")
