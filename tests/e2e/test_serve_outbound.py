"""What a server sends to others: webhooks that are signed, sent again and logged; addresses that are refused."""

import base64
import hashlib
import hmac
import http.server
import threading
import time
from dataclasses import replace

import pytest
from support.serving import PROMPT, in_process, settings_of

from sorano.serve import outbound
from sorano.serve.database import MIGRATIONS
from sorano.serve.webhooks import Webhooks, sign
from sorano.web.database import Database
from sorano.web.migrate import migrate


@pytest.fixture
def hook():
    """An endpoint: what it got, and the statuses that it answers, the last of them for ever."""
    got, answers = [], [204]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            got.append((body, dict(self.headers)))
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            if status == 302:
                self.send_header("location", "http://127.0.0.1:1/")
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", got, answers
    server.shutdown()
    server.server_close()


def sender(service, backoff=(0.0, 0.0, 0.0)):
    return Webhooks(service.database, service.settings, backoff)


def test_a_finished_video_is_told_signed_and_once(tmp_path, hook):
    place, got, _ = hook
    with in_process(tmp_path, webhook_hosts=(place,)) as (client, service, worker):
        endpoint = client.post("/v1/webhook_endpoints", json={"name": "x", "url": f"http://{place}/a"}).json()
        video = client.post("/v1/videos", json={"prompt": PROMPT}).json()
        failed = client.post("/v1/videos", json={"prompt": PROMPT}).json()
        client.post(f"/v1/videos/{failed['id']}/cancel")
        worker.work_once()
        sender(service).send_due()
        end = time.monotonic() + 60
        while len(got) < 2 and time.monotonic() < end:  # the application's own thread may have taken one
            time.sleep(0.02)
        time.sleep(0.3)
        assert len(got) == 2 and endpoint["signing_secret"].startswith("whsec_")
        key = base64.b64decode(endpoint["signing_secret"].removeprefix("whsec_"))
        for body, headers in got:
            name, at = headers["webhook-id"], headers["webhook-timestamp"]
            expected = base64.b64encode(hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest())
            assert headers["webhook-signature"] == "v1," + expected.decode()
        assert {video["id"], failed["id"]} == {id_of(body) for body, _ in got}
        log = client.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json()["data"]
        assert [one["state"] for one in log] == ["delivered"] * 2 and endpoint["signing_secret"] not in str(log)


def id_of(body):
    import json

    return json.loads(body)["data"]["id"]


@pytest.fixture
def service(tmp_path):
    settings = settings_of(tmp_path)
    database = Database(settings.database)
    migrate(database, MIGRATIONS)
    yield replace_service(settings, database)
    database.close()


def replace_service(settings, database):
    class Parts:
        pass

    parts = Parts()
    parts.settings, parts.database = settings, database
    return parts


def queued(hooks, place):
    """An endpoint with one event in its outbox."""
    from sorano.serve.jobs import queue_event

    row, secret = hooks.create("local", {"url": f"http://{place}/", "name": "x"})
    with hooks.database.write() as connection:
        queue_event(connection, row["id"], "video.completed", {"id": "video_1"}, time.time() - 1)
    return row["id"], secret


def test_a_trial_of_an_endpoint_says_whether_it_takes_events(tmp_path, hook):
    place, got, answers = hook
    answers[:] = [500, 204]
    with in_process(tmp_path, webhook_hosts=(place,)) as (client, _, _):
        name = client.post("/v1/webhook_endpoints", json={"name": "x", "url": f"http://{place}/"}).json()["id"]
        tried = [client.post(f"/v1/webhook_endpoints/{name}/test", json={}).json() for _ in range(2)]
    assert [(one["status_code"], one["success"]) for one in tried] == [(500, False), (204, True)]


def test_an_event_is_sent_again_with_the_same_id_until_it_is_taken(service, hook):
    place, got, answers = hook
    answers[:] = [500, 302, 204]
    hooks = sender(replace_service(replace(service.settings, webhook_hosts=(place,)), service.database))
    name, _ = queued(hooks, place)
    assert hooks.send_due() == 3
    assert len({headers["webhook-id"] for _, headers in got}) == 1 and len(got) == 3
    assert hooks.log_of(name, "local")[0]["attempts"] == 3


def test_an_endpoint_that_never_answers_well_is_given_up(service, hook):
    place, got, answers = hook
    answers[:] = [500]
    hooks = sender(replace_service(replace(service.settings, webhook_hosts=(place,)), service.database))
    name, _ = queued(hooks, place)
    assert hooks.send_due() == 4 and len(got) == 4
    row = hooks.log_of(name, "local")[0]
    assert row["next_at"] is None and row["delivered_at"] is None and row["status_code"] == 500


def test_after_a_rotation_both_secrets_sign(service, hook):
    place, got, _ = hook
    hooks = sender(replace_service(replace(service.settings, webhook_hosts=(place,)), service.database))
    name, old = queued(hooks, place)
    _, new = hooks.rotate(name, "local")
    hooks.send_due()
    body, headers = got[0]
    at = int(headers["webhook-timestamp"])
    expected = {sign(one, headers["webhook-id"], at, body.decode()) for one in (old, new)}
    assert set(headers["webhook-signature"].split()) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/",
        "https://169.254.169.254/latest/meta-data", "https://user:pw@example.org/", "https://example.org/\r\nx: y",
        "https://0/", "https://[::ffff:127.0.0.1]/", "https://", "file:///etc/passwd", "https://192.168.1.1:99999/",
        "https://100.64.0.1/",
    ],
)  # fmt: skip
def test_addresses_that_are_not_asked(tmp_path, url):
    with in_process(tmp_path) as (client, _, _):
        answer = client.post("/v1/webhook_endpoints", json={"name": "x", "url": url})
        if answer.status_code == 200:  # a name: it is looked up when something is sent
            with pytest.raises((outbound.Refused, OSError)):
                outbound.ask("POST", url)
        else:
            assert answer.json()["error"]["param"] == "url"


def test_a_name_that_points_inside_is_refused(monkeypatch):
    import socket

    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)
    with pytest.raises(outbound.Refused, match="no public address"):
        outbound.ask("POST", "https://example.org/")


def test_redirects_are_not_followed_and_answers_are_bounded(hook):
    place, _, answers = hook
    answers[:] = [302]
    assert outbound.ask("POST", f"http://{place}/", b"x", allowed=(place,)).status == 302


def test_pictures_are_fetched_from_allowed_hosts_only(tmp_path, hook):
    place, got, _ = hook
    body = {"prompt": PROMPT, "input_reference": {"image_url": f"http://{place}/a.png"}}
    with in_process(tmp_path / "a") as (client, _, _):
        assert client.post("/v1/videos", json=body).json()["error"]["code"] == "remote_url_not_allowed"
        assert got == []
    with in_process(tmp_path / "b", remote_hosts=(place,)) as (client, _, _):
        assert client.post("/v1/videos", json=body).json()["error"]["code"] == "invalid_file"  # 204: no picture
        assert len(got) == 1
