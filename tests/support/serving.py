"""Parts of the tests of the server: makers of fixed cost, servers in processes of their own, PostgreSQL."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from dataclasses import asdict
from pathlib import Path

from sorano.errors import CapacityError, CheckpointError
from sorano.files import write_atomic
from sorano.plan import Machine
from sorano.serve.api import create_app
from sorano.serve.config import Settings
from sorano.serve.maker import Made
from sorano.serve.store import SPRITESHEET, THUMBNAIL, VIDEO
from sorano.serve.worker import Service, Worker

ROOT = Path(__file__).parents[2]
PROMPT = "a red ball bounces on the grass at sunset"
MACHINE = asdict(Machine("cpu", "float32", 50e9, 8 << 30, "of the tests"))


class FixedMaker:
    """Makes nothing at a fixed cost: `steps` of `seconds`, with a work folder from which it goes on."""

    loaded = "world"

    def __init__(self, steps=4, seconds=0.0):
        self.steps = int(os.environ.get("FIXED_STEPS", steps))
        self.seconds = float(os.environ.get("FIXED_SECONDS", seconds))
        self.made = []
        self.resumed = []

    def machine(self):
        return MACHINE

    def make(self, words, folder, listener, cancel):
        prompt = words.get("prompt", "")
        if "disk full" in prompt:
            raise OSError(28, "No space left on device")
        if "model gone" in prompt:
            raise CheckpointError("the model is gone", "sorano pull it")
        if "too large" in prompt:
            raise CapacityError("it needs 41 GB", "ask for less")
        if "crash" in prompt:
            raise ZeroDivisionError("what nobody foresaw")
        kept = folder / "step"
        first = int(kept.read_text()) if kept.exists() else 0
        if first:
            self.resumed.append(first)
        for step in range(first, self.steps):
            time.sleep(self.seconds)
            cancel.check()
            write_atomic(kept, str(step + 1))
            listener.progress("denoise", step + 1, self.steps)
        path = folder / VIDEO
        temporary = folder / ".part"
        temporary.write_bytes(json.dumps(words).encode() * 50)
        os.replace(temporary, path)
        self.made.append(words)
        shown = {"size": "256x256", "num_frames": 17, "fps": 12.0, "seconds": 1.417}
        return Made(path, shown, {"verdict": "VERIFIED", "seconds": self.seconds * self.steps, "stages": {}})

    def variants(self, words, video, folder):
        for name in (THUMBNAIL, SPRITESHEET):
            (folder / name).write_bytes(b"picture")
        return {name: folder / name for name in (THUMBNAIL, SPRITESHEET)}


def settings_of(folder, database=None, **words):
    """Settings of a server of the tests."""
    url = database or f"sqlite:///{folder / 'jobs.sqlite3'}"
    return Settings(data=Path(folder), database=url, **words)


@contextlib.contextmanager
def in_process(folder, database=None, maker=None, **words):
    """A client of an application in this process, its service, and a worker that works when it is told to."""
    from starlette.testclient import TestClient

    before = set(threading.enumerate())
    service = Service.open(settings_of(folder, database, **words))
    worker = Worker(service, maker or FixedMaker())
    worker._machine = MACHINE
    worker._report()
    app = create_app(service.settings, service=service)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client, service, worker
    if not service.database.is_sqlite:  # threads that were told to stop still hold connections for a moment
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith(("webhooks", "sweep")):
                thread.join(10)
    service.database.close()


class Process:
    """`sorano serve` or `sorano worker` as a process."""

    def __init__(self, *words, folder, database=None, maker="support.serving:FixedMaker", **environment):
        self.log = tempfile.TemporaryFile("w+")
        paths = [str(ROOT / "src"), str(ROOT / "tests")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        env |= {name: str(value) for name, value in environment.items()}
        command = [sys.executable, "-m", "sorano", *words]
        command += ["--data", str(folder)] if folder else []
        command += ["--database", database] if database else []
        command += ["--maker", maker] if maker else []
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.address = None
        self.is_stopped = False

    def wait_for_address(self, seconds=60):
        """The address that the server prints when it answers."""
        found = []
        reader = threading.Thread(target=lambda: found.append(self.process.stdout.readline().strip()), daemon=True)
        reader.start()
        reader.join(seconds)
        assert found and found[0].startswith("http"), self.logged()
        self.address = found[0]
        return self.address

    def logged(self):
        """What it wrote to stderr."""
        self.log.seek(0)
        return self.log.read()

    def kill(self, whole_group=True):
        """kill -9, of its workers too unless told. One that was stopped is gone, and its number may be another's."""
        if self.is_stopped:
            return
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if whole_group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds=30):
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self.is_stopped = True
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
        self.log.close()


def call(address, path, body=None, method=None, headers=None, seconds=20):
    """A JSON request; (status, document)."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json", **(headers or {})})
    asked.method = method or ("GET" if body is None else "POST")
    try:
        with urllib.request.urlopen(asked, timeout=seconds) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def wait_until(look, seconds=60.0, every=0.05):
    """What `look` returns once that is true; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(every)
    raise AssertionError("it did not come to pass")


@contextlib.contextmanager
def postgres():
    """The URL of a PostgreSQL of the tests' own, from `pgserver` or Debian's package; None where there is neither."""
    folder = Path(tempfile.mkdtemp(prefix="sorano-pg-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = _pgserver(folder) or _debian(folder)
        if server is None:
            yield None
            return
        url, stop = server
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:  # what a test wrote need not outlive the machine
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        try:
            yield url
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(url):
    """Removes every row of the server's tables, which are made where they are not there."""
    import sqlalchemy as sa

    from sorano.serve.database import MIGRATIONS, metadata
    from sorano.web.database import Database
    from sorano.web.migrate import migrate

    database = Database(url)
    migrate(database, MIGRATIONS)
    with database.engine.begin() as connection:
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))
    database.close()


def _pgserver(folder):
    try:
        import pgserver

        server = pgserver.get_server(str(folder / "pg"), cleanup_mode="delete")
    except Exception:  # it is not there, or not for this machine
        return None
    return server.get_uri(), server.cleanup


def _debian(folder):
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        return None
    programs, data = found[-1].parent, folder / "data"
    lead = []
    if os.geteuid() == 0:
        lead = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        shutil.chown(folder, "postgres", "postgres")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run([*lead, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"], **quiet)
        options = f"-c listen_addresses='' -k {folder}"
        start = [programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"]
        subprocess.run([*lead, *start], **quiet)
    except (OSError, subprocess.CalledProcessError):
        return None
    stop = [*lead, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
    return f"postgresql://postgres@/postgres?host={folder}", lambda: subprocess.run(stop, **quiet)


def free_port():
    """A port of the loopback interface that nobody has at this moment."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def add_endpoint(service):
    """A webhook that goes nowhere: each job's event must be in the outbox once."""
    from sorano.serve.webhooks import Webhooks

    Webhooks(service.database, service.settings).create("local", {"url": "https://example.invalid/", "name": "x"})
