"""Debian's Firefox, headless, driven by Marionette, the protocol that geckodriver speaks to it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

import pytest

START_SECONDS, ANSWER_SECONDS = 60, 240


class Firefox:
    """A session of a browser; messages are `LENGTH:JSON` over TCP (firefox-source-docs, testing/marionette)."""

    def __init__(self, port):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.line = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end, "Firefox does not answer"
                time.sleep(0.2)
        self.count, self.held = 0, b""
        self._receive()  # who it is
        self.ask("WebDriver:NewSession", capabilities={})
        self.ask("WebDriver:SetTimeouts", script=1000 * ANSWER_SECONDS)

    def ask(self, command, **words):
        """What a command answers. Fails where it is an error."""
        self.count += 1
        message = json.dumps([0, self.count, command, words]).encode()
        self.line.sendall(b"%d:%b" % (len(message), message))
        kind, number, error, found = self._receive()
        assert (kind, number) == (1, self.count) and error is None, error
        return found.get("value") if isinstance(found, dict) else found

    def _receive(self):
        while b":" not in self.held:
            self._more()
        size, _, self.held = self.held.partition(b":")
        while len(self.held) < int(size):
            self._more()
        message, self.held = self.held[: int(size)], self.held[int(size) :]
        return json.loads(message)

    def _more(self):
        data = self.line.recv(1 << 20)
        assert data, "Firefox has ended"
        self.held += data

    def evaluate(self, code, *values):
        """What an async function of JavaScript gives for values of JSON."""
        script = (
            "const done = arguments[arguments.length - 1];"
            f"({code})(...[...arguments].slice(0, -1)).then((one) => done([one]), (error) => done(String(error)));"
        )
        found = self.ask("WebDriver:ExecuteAsyncScript", script=script, args=list(values))
        assert isinstance(found, list), found
        return found[0]


@contextlib.contextmanager
def firefox(folder):
    """A browser with a profile in a folder, where its downloads go; the test is skipped where there is none."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("there is no Firefox")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = folder / "profile"
    profile.mkdir()
    quiet = {"marionette.port": port, "datareporting.policy.dataSubmissionEnabled": False, "app.update.enabled": False}
    quiet |= {"browser.download.folderList": 2, "browser.download.dir": str(folder)}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in quiet.items()]
    (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
    command = [program, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    surroundings = {**os.environ, "HOME": str(folder), "MOZ_HEADLESS": "1"}
    with open(folder / "firefox.log", "wb") as log:
        process = subprocess.Popen(command, env=surroundings, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        session = Firefox(port)
        with session.line:
            yield session
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
