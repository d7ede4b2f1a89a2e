"""A local HTTP server that answers as the hub does, and can be told to fail.

/api/models/OWNER/NAME                    what the repository holds: sizes, git blob ids, SHA-256 of large files
/OWNER/NAME/resolve/REVISION/PATH         a small file, or the way to a large one: another host, as on the hub
/cdn/SHA256                               a large file, whole or from a byte on
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
LARGE = (".safetensors", ".model", ".bin", "tokenizer.json")  # kept as large files, by their SHA-256


@dataclass
class Fault:
    """What goes wrong with one request: cut after some bytes, a wrong last byte, no range, or another status."""

    drop_after: int | None = None
    wrong_byte: bool = False
    whole: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    name: str  # the file's path in the repository, or "api"
    host: str
    range: str | None
    authorization: str | None


class Hub(ThreadingHTTPServer):
    """The server: repositories by name, faults by file in the order they strike, requests as they came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def requests(self, name: str) -> list[Seen]:
        """The requests of a file's bytes, or of the "api"."""
        return [seen for seen in self.seen if seen.name == name and seen.method == "GET"]

    def fetched(self) -> set[str]:
        """The files whose bytes were asked for."""
        return {seen.name for seen in self.seen} - {"api"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/").split("/revision/")[0])
        elif path.startswith("/cdn/"):
            self._bytes(*self._by_digest(path.removeprefix("/cdn/")))
        elif "/resolve/" in path:
            repo, _, rest = path.strip("/").partition("/resolve/")
            self._resolve(repo, rest.partition("/")[2])
        else:
            self._answer(404)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass

    def _info(self, repo: str) -> None:
        fault = self._note("api")
        files = self.server.repos.get(repo)
        if fault or files is None:
            missing = Fault(status=404, headers={"X-Error-Code": "RepoNotFound"})
            self._fail(fault or missing)
            return
        siblings = [sibling(name, content) for name, content in files.items()]
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, name: str) -> None:
        content = self.server.repos[repo][name]
        headers = {"X-Repo-Commit": COMMIT}
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'}
            headers["Location"] = f"http://localhost:{self.server.server_port}/cdn/{digest}"
            self._note_way(name)
            self._answer(302, b"", headers)
        else:
            self._bytes(name, content, headers | {"ETag": f'"{git_digest(content)}"'})

    def _by_digest(self, digest: str) -> tuple[str, bytes, dict[str, str]]:
        held = (item for files in self.server.repos.values() for item in files.items())
        name, content = next(item for item in held if hashlib.sha256(item[1]).hexdigest() == digest)
        return name, content, {}

    def _bytes(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        fault = self._note(name) or Fault()
        if fault.status:
            self._fail(fault)
            return
        if fault.wrong_byte:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = None if fault.whole else self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked:
            headers = headers | {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        self._answer(206 if asked else 200, content[begin:], headers, cut=fault.drop_after)

    def _fail(self, fault: Fault) -> None:
        assert fault.status is not None
        self._answer(fault.status, fault.body, fault.headers)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None):
        self.send_response(status)
        for key, value in ((headers or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def _note(self, name: str) -> Fault | None:
        """Log the request, and take the fault that waits for it."""
        host, authorization = self.headers["Host"].split(":")[0], self.headers.get("Authorization")
        self.server.seen.append(Seen(self.command, name, host, self.headers.get("Range"), authorization))
        waiting = self.server.faults[name]
        return waiting.pop(0) if waiting else None

    def _note_way(self, name: str) -> None:
        authorization = self.headers.get("Authorization")
        self.server.seen.append(Seen("WAY", name, self.headers["Host"].split(":")[0], None, authorization))


def sibling(name: str, content: bytes) -> dict[str, object]:
    """A file in the hub's list."""
    entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_digest(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry


def git_digest(content: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving():
    """A stand-in that runs until the end of the block."""
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
