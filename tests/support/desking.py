"""Parts of the tests of the desk: a desk in this process, its people with software devices, and its clocks."""

import atexit
import contextlib
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sorano.desk.api import create_app
from sorano.desk.client import Person, Program, Refusal
from sorano.desk.clock import GuardedClock
from sorano.desk.config import DeskSettings
from sorano.desk.demo import CLERK, STAFF, add_person, enrol, machines
from sorano.desk.service import Desk
from sorano.desk.soft_device import SoftDevice
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

    def __init__(self, folder, database=None, policy=None, hands=None, **settings):
        self.folder, self.hands = folder, hands or Hands()
        self.settings = DeskSettings(
            data=folder, database=database or f"sqlite:///{folder / 'desk.sqlite3'}", origin=ORIGIN, policy=policy,
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


_enrolled = []  # a folder with a desk whose staff is enrolled, and who they are: made once, copied for each test


@contextlib.contextmanager
def world(folder, database=None, **settings):
    """A desk with its staff."""
    if database is not None:
        made = World(folder, database, **settings).staff()
    else:
        template, staff = _enrolled[0] if _enrolled else _enrol()
        anchor = settings.pop("anchor", folder / "anchor" / "anchor.json")
        anchor.parent.mkdir(parents=True)
        shutil.copy(template / "desk.sqlite3", folder)
        shutil.copy(template / "anchor" / "anchor.json", anchor)
        made = World(folder, hands=Hands(OPEN + 60, 1060.0), anchor=anchor, **settings)
        made.people = {
            name: Person(made.send, ORIGIN, SoftDevice(made=dict(one.device.made), uses=one.device.uses), one.cookie)
            for name, one in staff.people.items()
        }
        made.filer, made.executor = (Program(made.send, one.key) for one in (staff.filer, staff.executor))
    try:
        yield made
    finally:
        made.close()


def _enrol():
    template = Path(tempfile.mkdtemp(prefix="sorano-desk-"))
    atexit.register(shutil.rmtree, template, ignore_errors=True)
    made = World(template).staff()
    made.close()
    _enrolled.append((template, made))
    return _enrolled[0]


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
