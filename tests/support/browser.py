"""Debian's Chromium, driven by Playwright, and what the tests of the studio look at in it."""

import contextlib
import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PICTURES = os.environ.get("SORANO_PICTURES")  # read here: tests run without such variables
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}


def chromium():
    """The program of a Chromium: SORANO_CHROMIUM, what scripts/chromium unpacked, or the system's; None without any."""
    unpacked = Path(sys.prefix) / "chromium" / "run"
    found = [os.environ.get("SORANO_CHROMIUM"), str(unpacked) if unpacked.exists() else None]
    found += [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    return next((one for one in found if one), None)


@contextlib.contextmanager
def browser(*flags):
    """A headless browser with more flags; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium: scripts/chromium unpacks one")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        yield started
        started.close()


class Problems:
    """What a page must not do: fail, break its own policy, ask other servers."""

    def __init__(self, page, address):
        self.found = []
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("console", self._said)
        page.on("request", lambda one: None if self._is_own(one.url, address) else self.found.append(f"asks {one.url}"))

    @staticmethod
    def _is_own(url, address):
        return url.startswith((address, "blob:", "data:"))

    def _said(self, message):
        # the browser's own line about an answer of 4xx or a lost connection: the page shows these in its own words
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.found.append(message.text)


def violations(page):
    """What axe finds against WCAG 2.2 A and AA and its best practices, in one line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:4]}" for one in found]


def picture(page, name):
    """A screenshot for the docs, where SORANO_PICTURES names a folder."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.jpg", type="jpeg", quality=86)


class Files(http.server.SimpleHTTPRequestHandler):
    """A plain server of files, with the types of modules and WebAssembly, and more headers where they are asked for."""

    more = {}
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *words):
        """Says nothing."""


@contextlib.contextmanager
def served(folder, headers=None):
    """The address of a server of a folder, on this machine alone."""
    handler = functools.partial(type("Served", (Files,), {"more": headers or {}}), directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
