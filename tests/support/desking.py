"""Parts of the tests of the desk: a desk in this process, its people with software devices, its clocks, its database.

Each desk has a database of its own, in SQLite or on a PostgreSQL: a copy of one in which the staff is enrolled.
"""

import atexit
import contextlib
import shutil
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from sorano.desk.api import create_app
from sorano.desk.client import Person, Program, Refusal
from sorano.desk.clock import GuardedClock
from sorano.desk.config import DeskSettings
from sorano.desk.demo import CLERK, STAFF, add_person, enrol, machines
from sorano.desk.service import Desk
from sorano.desk.soft_device import SoftDevice
from sorano.web.database import sqlite_path
from sorano.web.problems import Problem

ORIGIN = "https://desk.example.com"
OPEN = datetime(2026, 11, 25, 11, 0, tzinfo=ZoneInfo("Asia/Hong_Kong")).timestamp()  # a Wednesday
ORDER = {
    "action": "transfer",
    "amount": "12000.00",
    "currency": "HKD",
    "payee": "Arched Bridge Steel Ltd",
    "account": "004-500-991273",
    "requested_by": "cfo",
    "note": "Invoice 4471",
}


@dataclass
class Hands:
    """The two clocks of a machine, moved together or apart."""

    wall: float = OPEN
    steady: float = 1000.0
    boot: str = "boot"
    began: float = field(default_factory=time.monotonic)

    def clock(self):
        return GuardedClock(lambda: self.wall + self._passed(), lambda: self.steady + self._passed(), self.boot)

    def _passed(self):
        return time.monotonic() - self.began

    def wait(self, seconds):
        self.wall += seconds
        self.steady += seconds


class World:
    """A desk in this process, and who has to do with it."""

    def __init__(self, folder, database, policy=None, hands=None, **settings):
        self.folder, self.hands = folder, hands or Hands()
        self.settings = DeskSettings(
            data=folder, database=database, origin=ORIGIN, policy=policy,
            anchor=settings.pop("anchor", folder / "anchor" / "anchor.json"), session_seconds=90 * 86_400.0,
            most_ceremonies=settings.pop("most_ceremonies", 1000), **settings,
        )  # fmt: skip
        self.desk = self.people = self.filer = self.executor = None
        self.stack = contextlib.ExitStack()
        self.open()

    def open(self):
        """Start, or start again: the process's memory is gone, its folder is not."""
        from starlette.testclient import TestClient

        self.desk = Desk.open(self.settings, self.hands.clock())
        app = create_app(self.desk)
        self.client = TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)  # without its sweeps
        self.stack.callback(self.client.close)
        self.stack.callback(self.desk.close)

    def reopen(self):
        self.stack.close()
        self.open()

    def keep(self):
        """The URL of a copy of the database as it is."""
        self.stack.close()
        kept = new_database(self.settings.database, self.folder / "kept")
        copy_database(self.settings.database, kept)
        self.open()
        return kept

    def restore(self, kept):
        """Start again with a copy that was kept in place of the database."""
        self.stack.close()
        remove_database(self.settings.database)
        copy_database(kept, self.settings.database)
        remove_database(kept)
        self.open()

    def send(self, method, path, headers, body):
        self.client.cookies.clear()
        answer = self.client.request(method, path, headers=headers, content=body)
        return answer.status_code, dict(answer.headers), answer.content

    def staff(self):
        """Enrol the founders and the clerk, and make keys."""
        self.people = enrol(self.desk, self.send)
        self.filer, self.executor = machines(self.desk, self.send)
        return self

    def add(self, handle, roles):
        """Another person with a device."""
        person = Person(self.send, ORIGIN)
        add_person(self.people, person, handle, roles)
        return person

    def machine(self, scope):
        return Program(self.send, self.desk.keys.create_with(scope, [scope], {})[1])

    # what happens to a request

    def file(self, by=CLERK, **words):
        return self.people[by].call("POST", "/requests", {**ORDER, **words})["id"]

    def state(self, request):
        return self.desk.confirm.get(request, None)["status"]

    def approve(self, request, *people):
        for one in people or STAFF:
            self.people[one].approve(request)

    def cleared(self, **words):
        """A request that everybody approved and that has cooled off."""
        request = self.file(**words)
        self.approve(request)
        self.hands.wait(self.desk.policy.cooling_seconds + 1)
        return request

    def close(self):
        self.stack.close()


# Databases.


def new_database(beside, folder):
    """The URL of a database that is not there yet: a file in a folder, or one on the PostgreSQL of a URL."""
    if beside is None or beside.startswith("sqlite"):
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'desk.sqlite3'}"
    name = f"desk_{uuid.uuid4().hex}"
    return sa.make_url(beside).set(database=name).render_as_string(hide_password=False)


def copy_database(source, target):
    """A copy of a database that nobody is connected with; of none, an empty one."""
    if target.startswith("sqlite"):
        if source is not None:
            shutil.copy(sqlite_path(source), sqlite_path(target))
        return
    of = f' TEMPLATE "{sa.make_url(source).database}"' if source is not None else ""
    _on_postgresql(target, f'CREATE DATABASE "{sa.make_url(target).database}"{of}')


def remove_database(url):
    """Remove a database and what belongs to it."""
    if url.startswith("sqlite"):
        for end in ("", "-wal", "-shm"):
            Path(sqlite_path(url) + end).unlink(missing_ok=True)
    else:
        _on_postgresql(url, f'DROP DATABASE "{sa.make_url(url).database}" WITH (FORCE)')


def _on_postgresql(url, line):
    import psycopg

    to = sa.make_url(url).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(to, autocommit=True) as connection:
        connection.execute(line)


_enrolled = {}  # by the server's URL: a closed desk whose staff is enrolled, which is copied for each test


@contextlib.contextmanager
def world(folder, server=None, *, anchor=None, **settings):
    """A desk with its staff: in SQLite, or in a database of its own on a PostgreSQL."""
    if server not in _enrolled:
        _enrolled[server] = _enrol(server)
    template = _enrolled[server]
    anchor = anchor or folder / "anchor" / "anchor.json"
    anchor.parent.mkdir(parents=True)
    shutil.copy(template.settings.anchor_file, anchor)
    database = new_database(server, folder)
    copy_database(template.settings.database, database)
    made = World(folder, database, hands=Hands(OPEN + 60, 1060.0), anchor=anchor, **settings)
    made.people = {
        name: Person(made.send, ORIGIN, SoftDevice(made=dict(one.device.made), uses=one.device.uses), one.cookie)
        for name, one in template.people.items()
    }
    made.filer, made.executor = (Program(made.send, one.key) for one in (template.filer, template.executor))
    try:
        yield made
    finally:
        made.close()
        if server is not None:
            remove_database(database)


def _enrol(server):
    folder = Path(tempfile.mkdtemp(prefix="sorano-desk-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = new_database(server, folder)
    copy_database(None, database)
    made = World(folder, database).staff()
    made.close()
    return made


def refusal(act, *words, **named):
    """The code with which the desk refuses; AssertionError where it does not."""
    try:
        found = act(*words, **named)
    except Refusal as refused:
        assert "; " in refused.message, refused.message  # a cause and a next step
        return refused.code
    raise AssertionError(f"it was accepted: {found}")


def race(count, act):
    """What comes of an act that some threads do at once: "done", or the desk's code."""
    said, barrier = [], threading.Barrier(count)

    def run():
        barrier.wait()
        try:
            act()
            said.append("done")
        except Problem as problem:
            said.append(problem.code)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return said
