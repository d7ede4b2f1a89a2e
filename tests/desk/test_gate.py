"""The upload gate: what reaches the server behind it, and what does not."""

import base64
import gzip
import http.client
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.serving import Process, free_port

from sorano.desk import gate as gate_module
from sorano.desk.gate import BodyPart, GateSettings, create_gate, pieces
from sorano.errors import RequestError
from sorano.trust.record import mark_file
from sorano.web.problems import Problem


class Behind(BaseHTTPRequestHandler):
    """The server behind: keeps what it got."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.got.append((self.command, self.path, dict(self.headers), body))
        self.send_response(201 if self.command == "POST" else 200)
        told = b"" if self.command == "HEAD" else b"taken"
        self.send_header("content-length", "5")
        self.send_header("x-own", "1")
        self.send_header("set-cookie", "a=1")
        self.send_header("set-cookie", "b=2")
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *_):
        pass


@contextmanager
def behind():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with behind() as made:
        yield made


@contextmanager
def gate(server, **words):
    settings = GateSettings(upstream=f"http://127.0.0.1:{server.server_port}", **words)
    with TestClient(create_gate(settings), raise_server_exceptions=False) as client:
        yield client


_made = {}


@pytest.fixture
def pictures(tmp_path):
    """A signed picture, one with bytes behind the signed ones, one that nobody signed, and half of one."""
    if not _made:
        from PIL import Image

        noise_HWC = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise_HWC).save(tmp_path / "plain.png")
        signed = mark_file(tmp_path / "plain.png", tmp_path / "signed.png").path.read_bytes()
        plain = (tmp_path / "plain.png").read_bytes()
        _made.update(signed=signed, tampered=signed + b"hello", plain=plain, cut=plain[: len(plain) // 2])
    return _made


def refused(answer, code="media_refused"):
    assert answer.json()["error"]["code"] == code, answer.text
    return answer


SHAPES = ("form", "body", "unnamed", "disguised", "text", "json", "nested", "bare", "urlencoded", "field")


def send(client, shape, data, name="a.png"):
    """One piece of media in one of the ways in which programs send it."""
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    if shape == "form":
        return client.post("/up", files={"file": (name, data, "image/png")}, data={"title": "a"})
    if shape == "named":
        return client.post("/up", files={"file": ("A.MP4", data, "application/octet-stream")})
    if shape == "body":
        return client.put("/up", content=data, headers={"content-type": "image/png"})
    if shape == "unnamed":
        return client.post("/up", content=data)
    if shape == "disguised":
        return client.post("/up", files={"file": ("notes.txt", data, "text/plain")})
    if shape == "text":
        return client.post("/up", content=data, headers={"content-type": "text/plain"})
    if shape == "json":
        return client.post("/up", json={"image_url": url})
    if shape == "nested":
        held = json.dumps({"a": [{"b": {"c": url}}]}).replace("/", "\\/")
        return client.post("/up", content=held, headers={"content-type": "application/problem+json"})
    if shape == "bare":
        return client.post("/up", json={"b64_json": base64.urlsafe_b64encode(data).decode()})
    if shape == "urlencoded":
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return client.post("/up", content=urlencode({"image": url}), headers=kind)
    return client.post("/up", files={"other": ("", b"")}, data={"image": url})


SLOWER = [pytest.param(shape, marks=pytest.mark.full) for shape in SHAPES if shape not in ("form", "json", "disguised")]


@pytest.mark.parametrize("shape", ["form", "json", "disguised", *SLOWER])
def test_what_is_signed_passes_and_what_was_changed_does_not(server, pictures, shape):
    with gate(server, passing=("VERIFIED",)) as client:
        answer = send(client, shape, pictures["signed"])
        assert answer.status_code in (200, 201) and answer.text == "taken", answer.text
        refused(send(client, shape, pictures["tampered"]))
    ((_, path, headers, body),) = server.got
    assert path == "/up" and headers["x-sorano-verdicts"].endswith("=VERIFIED")
    if shape in ("form", "body", "unnamed", "disguised", "text"):
        assert pictures["signed"] in body  # every byte of it


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("wrap", ["data:image/png;base64,{}", "data:IMAGE/PNG;name=a;base64,{}", "{}", 'src="{}"'])
@pytest.mark.parametrize("kind", ["application/json", "application/vnd.a+json; charset=utf-8", "text/html", "form"])
def test_media_within_text_is_found_byte_for_byte(encode, wrap, kind):
    data = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3
    text = wrap.replace("{}", encode(data).decode())
    if kind == "form":
        kind, text = "application/x-www-form-urlencoded", urlencode({"a": text, "b": "x" * 400})
    elif "json" in kind:
        text = json.dumps({"a": [{"b": text}], "c": "x" * 400}).replace("/", "\\/")
    part = BodyPart("body", io.BytesIO(text.encode()), type=kind)
    assert [found.read() for found in pieces(part)] == [data]


def test_by_default_what_nobody_signed_passes_and_is_named(server, pictures):
    with gate(server) as client:
        assert send(client, "form", pictures["plain"]).status_code == 201
        refused(send(client, "form", pictures["tampered"]))
    assert [headers["x-sorano-verdicts"] for _, _, headers, _ in server.got] == ["file=UNVERIFIED"]


def test_one_file_that_may_not_pass_stops_all_of_a_request(server, pictures):
    with gate(server) as client:
        files = [("a", ("a.png", pictures["signed"])), ("b", ("b.png", pictures["tampered"]))]
        refused(client.post("/up", files=files))
    assert not server.got


@pytest.mark.parametrize("shape", ["form", "json", "named"])
def test_media_that_cannot_be_read_does_not_pass(server, pictures, shape):
    with gate(server) as client:
        for data in (pictures["cut"], b"no picture at all"):
            refused(send(client, shape, data), "invalid_file")
    assert not server.got


def test_what_is_no_media_passes_as_it_is(server):
    with gate(server) as client:
        assert client.get("/a%2Fb/c?d=1&e=%C3%A9", headers={"x-mine": "1"}).status_code == 200
        assert client.head("/a").status_code == 200
        assert client.post("/up", json={"a": "data:,text", "b": "x" * 500}).status_code == 201
        kind = {"content-type": "application/pdf"}
        assert client.post("/up", content=b"\0\1\2" * 40, headers=kind).status_code == 201
        answer = client.post("/up", files={"f": ("a.csv", b"1,2", "text/csv")}, data={"n": "\u00e9"})
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"] and answer.headers["x-own"] == "1"
    first = server.got[0]
    assert first[1] == "/a%2Fb/c?d=1&e=%C3%A9" and first[2]["x-mine"] == "1" and first[2]["x-sorano-verdicts"] == ""
    assert b'filename="a.csv"' in server.got[4][3] and "\u00e9".encode() in server.got[4][3]


def test_nobody_else_sets_the_verdicts(server, pictures):
    with gate(server) as client:
        headers = {"x-sorano-verdicts": "file=VERIFIED", "X-SORANO-Verdicts": "b=VERIFIED", "x_sorano_verdicts": "c"}
        headers |= {"connection": "x-secret", "x-secret": "1", "x-forwarded-for": "10.0.0.1"}
        client.post("/up", files={"file": ("a.png", pictures["plain"])}, headers=headers)
    ((_, _, got, _),) = server.got
    assert [value for name, value in got.items() if "sorano" in name.lower()] == ["file=UNVERIFIED"]
    assert "x-secret" not in got and got["x-forwarded-for"] != "10.0.0.1"


def test_a_form_is_written_anew_so_that_it_is_read_one_way(server, pictures):
    boundary = "b"
    evil = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a\\"; x=\\".png"\r\n'
        f"content-type: image/png\r\n\r\n"
    ).encode() + pictures["plain"] + f"\r\n--{boundary}--\r\nafter the end".encode()  # fmt: skip
    with gate(server) as client:
        answer = client.post("/up", content=evil, headers={"content-type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status_code == 201, answer.text
    ((_, _, headers, body),) = server.got
    assert b"after the end" not in body and boundary.encode() != headers["content-type"].rpartition("=")[2].encode()


def test_what_the_gate_cannot_look_into_does_not_pass(server, pictures):
    with gate(server, most_body_bytes=1 << 20, most_files=2) as client:
        packed = gzip.compress(pictures["plain"])
        refused(client.post("/up", content=packed, headers={"content-encoding": "gzip"}), "unsupported_media_type")
        broken = {"content-type": "multipart/form-data; boundary=b"}
        refused(client.post("/up", content=b"no form", headers=broken), "invalid_value")
        refused(client.post("/up", content=b"x" * (2 << 20)), "request_too_large")
        kind = {"content-type": "application/json"}
        refused(client.post("/up", content=b"{", headers=kind), "invalid_json")
        files = [(str(place), ("a.png", pictures["plain"])) for place in range(3)]
        refused(client.post("/up", files=files), "invalid_value")
        many = [f"data:image/png;base64,{base64.b64encode(pictures['plain']).decode()}"] * 3
        refused(client.post("/up", json={"a": many}), "invalid_value")
        refused(client.post("/up", files={str(place): (None, one) for place, one in enumerate(many)}), "invalid_value")
        mixed = {"content-type": "multipart/related; boundary=b"}
        refused(client.post("/up", content=b"--b--", headers=mixed), "unsupported_media_type")
        refused(client.post("/up", json={"a": "data:image/png;base64,!!!!"}), "invalid_file")
    assert not server.got


def test_bytes_that_are_sent_as_text_are_looked_at():
    for data in (b"\xff\xfb\x90\x64" + bytes(400), b"GIF89a" + b"a" * 400, b"caf\xe9"):
        part = BodyPart("body", io.BytesIO(data), type="text/plain; charset=utf-8")
        assert [found.read() if found.seek(0) == 0 else None for found in pieces(part)] == [data]
    page = BodyPart("body", io.BytesIO(b"<html><svg></svg></html>"), type="text/html")
    assert not list(pieces(page))


def test_looking_for_media_in_text_is_quick_whatever_the_text(monkeypatch):
    part = BodyPart(
        "body", io.BytesIO(json.dumps(["data:image/png;base64,AAAA" * 200_000]).encode()), type="application/json"
    )
    assert sum(1 for _ in pieces(part)) == 200_000
    part = BodyPart("body", io.BytesIO(b"a b " * 2_000_000), type="text/plain")
    assert not list(pieces(part))
    monkeypatch.setattr(gate_module, "MOST_TEXT_BYTES", 100)
    with pytest.raises(Problem, match="text has more than"):
        list(pieces(BodyPart("body", io.BytesIO(b"a" * 101), type="text/plain")))


def test_a_server_that_is_away_is_said(pictures):
    settings = GateSettings(upstream=f"http://127.0.0.1:{free_port()}")
    with TestClient(create_gate(settings), raise_server_exceptions=False) as client:
        answer = refused(client.get("/"), "upstream_unavailable")
        assert answer.status_code == 502


@pytest.mark.parametrize("upstream", ["", "file:///etc", "127.0.0.1:80", "http://a/b", "http://"])
def test_what_is_no_address_of_a_server_is_refused(upstream):
    with pytest.raises(RequestError, match="no server's address"):
        GateSettings(upstream=upstream)


def test_a_verdict_that_is_none_is_refused():
    with pytest.raises(RequestError, match="no verdict 'REAL'"):
        GateSettings(upstream="http://127.0.0.1:1", passing=("REAL",))


def test_a_real_server_and_its_page_work_behind_a_gate(pictures, tmp_path):
    with Process("serve", "--port", "0", folder=tmp_path) as process:
        upstream = process.wait_for_address()
        with TestClient(create_gate(GateSettings(upstream=upstream)), base_url="http://127.0.0.1:8020") as client:
            assert "<sorano-studio" in client.get("/").text
            page = {"origin": "http://127.0.0.1:8020"}  # what a browser sends from a page behind the gate
            files = {"input_reference": ("a.png", pictures["signed"], "image/png")}
            made = client.post("/v1/videos", data={"prompt": "a red ball"}, files=files, headers=page)
            assert made.status_code == 200 and made.json()["object"] == "video", made.text
            files = {"input_reference": ("a.png", pictures["tampered"], "image/png")}
            refused(client.post("/v1/videos", data={"prompt": "a red ball"}, files=files))
            assert client.get("/v1/videos").json()["data"][0]["id"] == made.json()["id"]


def test_the_command_serves_a_gate(server, pictures, tmp_path):
    words = (
        "desk",
        "gate",
        "--upstream",
        f"http://127.0.0.1:{server.server_port}",
        "--port",
        "0",
        "--accept",
        "verified",
    )
    with Process(*words, folder=None, maker=None) as process:
        address = process.wait_for_address()
        host = address.removeprefix("http://")
        for name, status in (("tampered", 403), ("plain", 403)):
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("POST", "/up", pictures[name], {"content-type": "image/png"})
            assert connection.getresponse().status == status
            connection.close()
        assert process.stop() == 0
        assert '"verdict": "UNVERIFIED"' in process.logged() and "a.png" not in process.logged()
