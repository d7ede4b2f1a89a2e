"""The Hong Kong case of January 2024, replayed against a desk: `sorano desk demo`.

The facts: an employee is called into a video meeting, everybody else in it is a fake, and 15 transfers, HK$200M in all,
go to five accounts within days. Here the same 15 requests are filed at a real desk (HTTP, SQLite, policy, ledger)
by an employee who believes what they saw. The fakes have faces and voices; they do not have the enrolled devices of the
people whose faces they wear. As a control, one honest request goes through.

The devices are simulated in software; the people who hold them do what they are told here.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from sorano.desk.audit import Audited, audit
from sorano.desk.client import Person, Program, Refusal, over_http
from sorano.desk.clock import GuardedClock
from sorano.desk.config import DeskSettings
from sorano.desk.fields import digits_of
from sorano.desk.service import Desk
from sorano.trust.provenance import keys
from sorano.web.server import listen, uvicorn_config

TOTAL, ACCOUNTS, TRANSFERS = Decimal(200_000_000), 5, 15
CALL = "call-2024-01"
NOTE = "Confidential acquisition, as the CFO explained in the call. Urgent: please do not tell anyone before it closes."
STAFF = ("cfo", "treasurer", "controller")  # founders: administrators and approvers
CLERK = "clerk"


@dataclass
class CaseOutcome:
    """What came of the replay."""

    filed: int = 0
    released: int = 0
    released_hkd: Decimal = Decimal(0)
    reasons: dict[str, int] = field(default_factory=dict)  # why the policy took a request for risky
    states: dict[str, int] = field(default_factory=dict)
    attempts: list[tuple[str, str]] = field(default_factory=list)  # what the fakes tried, and the desk's code
    honest_released: int = 0
    honest_filed: int = 0
    audited: Audited = field(default_factory=Audited)


class Hours:
    """A clock that can be sent forward, both hands together: for what takes a day."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def clock(self) -> GuardedClock:
        """The clock of a desk."""
        return GuardedClock(lambda: time.time() + self.ahead, lambda: time.monotonic() + self.ahead, "demonstration")


@dataclass
class DemoDesk:
    """A running desk with its people."""

    desk: Desk
    hours: Hours
    people: dict[str, Person]
    filer: Program
    executor: Program
    send: Any
    calls: Any  # the media of its calls


@contextmanager
def stage(folder: Path) -> Iterator[DemoDesk]:
    """A desk on a free port of this machine, with three founders and a clerk, all enrolled."""
    import uvicorn

    from sorano.desk.api import create_app

    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    origin = f"http://localhost:{port}"
    settings = DeskSettings(
        data=folder,
        database=f"sqlite:///{folder / 'desk.sqlite3'}",
        origin=origin,
        port=port,
        anchor=folder / "anchor.json",
        session_seconds=30 * 86_400.0,
        most_ceremonies=1000,
    )
    hours = Hours()
    desk = Desk.open(settings, hours.clock())
    app = create_app(desk)
    server = uvicorn.Server(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        send = over_http(origin)
        yield DemoDesk(desk, hours, enrol(desk, send), *machines(desk, send), send, app.state.calls)
    finally:
        server.should_exit = True
        thread.join(15)
        desk.close()


def enrol(desk: Desk, send: Any) -> dict[str, Person]:
    """The founders and a clerk, each with an enrolled device, signed in."""
    origin = desk.settings.origin
    people = {}
    for handle, code in desk.directory.found([(one, one.title()) for one in STAFF]):
        people[handle] = Person(send, origin)
        people[handle].enrol(code)
        people[handle].sign_in()
    add_person(people, Person(send, origin), CLERK, ["file"])
    return people


def add_person(people: dict[str, Person], person: Person, handle: str, roles: list[str]) -> None:
    """Enrol another one, for whom two founders vouch."""
    first, second = (people[one] for one in STAFF[1:])
    ticket = first.call("POST", "/tickets", {"handle": handle, "name": handle.title(), "roles": roles})["id"]
    person.enrol(".".join((ticket, first.sponsor(ticket), second.sponsor(ticket))))
    person.sign_in()
    people[handle] = person


def machines(desk: Desk, send: Any) -> tuple[Program, Program]:
    """What files for a program, and the executor in front of the bank."""
    made = (desk.keys.create_with(scope, [scope], {})[1] for scope in ("file", "execute"))
    first, second = (Program(send, key) for key in made)
    return first, second


def fraudulent() -> list[dict[str, str]]:
    """The 15 requests: 200 million in all, to five accounts."""
    each = (TOTAL / TRANSFERS).quantize(Decimal("0.01"))
    made = []
    for number in range(TRANSFERS):
        amount = each if number else TOTAL - each * (TRANSFERS - 1)
        account = number % ACCOUNTS
        made.append(
            {
                "action": "transfer",
                "amount": str(amount),
                "currency": "HKD",
                "payee": f"Harbour Holdings {account + 1} Ltd",
                "account": f"012-875-{480123 + 7919 * account}",
                "requested_by": "cfo",
                "call_id": CALL,
                "note": NOTE,
            }
        )
    return made


def replay(on: DemoDesk, say: Callable[[str], None] = lambda _: None) -> CaseOutcome:
    """The case replayed on a stage, then the control: what came of both."""
    found = CaseOutcome()
    for number, body in enumerate(fraudulent(), start=1):
        filed = on.people[CLERK].call("POST", "/requests", body)
        found.filed += 1
        for reason in filed["reasons"]:
            found.reasons[reason["code"]] = found.reasons.get(reason["code"], 0) + 1
        attack(on, filed["id"], number, found)
        if release(on, filed["id"]):
            found.released += 1
            found.released_hkd += Decimal(body["amount"])
        say(f"  {number:2}  HK${Decimal(body['amount']):>15,.2f}  {body['payee']}  {filed['status']}")
    on.hours.ahead += on.desk.policy.approval_seconds + 1  # nobody answers
    for row in on.desk.confirm.newest(None):
        found.states[row["status"]] = found.states.get(row["status"], 0) + 1
        if release(on, row["id"]):
            found.released += 1
    control(on, found)
    found.audited = audit(on.desk.export(), on.desk.settings.origin, keys.export())
    return found


def attack(on: DemoDesk, request: str, number: int, found: CaseOutcome) -> None:
    """What fakes in the call can try: the victim's own device, their own, a page that looks like the desk's."""
    tries: list[tuple[str, Callable[[], Any]]] = [
        ("the clerk approves alone", lambda: on.people[CLERK].approve(request)),
        ("a device that was never enrolled", lambda: stranger(on).sign_in()),
        ("a page at another address asks the CFO", lambda: phished(on, request)),
    ]
    name, act = tries[number % len(tries)]
    try:
        act()
        found.attempts.append((name, "accepted"))
    except Refusal as refused:
        found.attempts.append((name, str(refused.code)))


def stranger(on: DemoDesk) -> Person:
    """Somebody with a device of their own, who has no place in the directory."""
    who = Person(on.send, on.desk.settings.origin)
    who.device.create({"publicKey": {"rp": {"id": "localhost"}, "challenge": "AAAA"}}, who.origin)
    return who


def phished(on: DemoDesk, request: str) -> Any:
    """The real CFO's device, on a page of another origin that passes the desk's challenge on."""
    real = on.people["cfo"]
    options = real.call("POST", f"/requests/{request}/ceremony", {})
    shown = real.call("GET", f"/requests/{request}")
    caught = real.device.get(options, "https://desk-login.example")
    given = {"ceremony": options["ceremony"], "credential": caught, "digits": digits_of(shown, options["asks"])}
    return real.call("POST", f"/requests/{request}/approve", given)


def release(on: DemoDesk, request: str) -> bool:
    """Whether the executor gets a release for a request."""
    try:
        on.executor.release(request)
    except Refusal:
        return False
    return True


def control(on: DemoDesk, found: CaseOutcome) -> None:
    """An honest request of the real CFO: confirmed on three devices, cooled off, released."""
    body = {**fraudulent()[0], "payee": "Arched Bridge Steel Ltd", "account": "004-500-991273", "note": "Invoice 4471"}
    body = {name: value for name, value in body.items() if name != "call_id"} | {"amount": "90000.00"}
    filed = on.people[CLERK].call("POST", "/requests", body)
    found.honest_filed += 1
    for one in STAFF:
        on.people[one].approve(filed["id"])
    on.hours.ahead += on.desk.policy.cooling_seconds + 1
    found.honest_released += release(on, filed["id"])


def run(say: Callable[[str], None]) -> CaseOutcome:
    """The whole demonstration in a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sorano-desk-") as folder, stage(Path(folder)) as on:
        return replay(on, say)
