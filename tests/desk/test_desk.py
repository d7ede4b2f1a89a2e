"""The desk as its people and programs use it: enrolment, codes, erasure, bad input, logs, databases, commands."""

import itertools
import json
import os
import random
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
from support import desking
from support.desking import ORDER, ORIGIN, refusal
from support.serving import Process, call, free_port

from sorano.desk import codes
from sorano.desk.audit import audit
from sorano.desk.client import Person, Program
from sorano.desk.demo import CLERK
from sorano.desk.directory import TICKET_SECONDS
from sorano.desk.tables import MIGRATIONS, VERSIONS, metadata, payees, people, requests
from sorano.errors import RequestError
from sorano.web.problems import CODES

DATABASES = ("sqlite", "postgresql")

# The honest way.


def test_a_new_payee_cools_off_and_a_known_one_does_not(world):
    first = world.file()
    shown = world.people[CLERK].call("GET", f"/requests/{first}")
    assert shown["tier"] == "high" and shown["needs"] == {"requester": 1, "independent": 2}
    world.approve(first)
    assert refusal(world.executor.release, first) == "cooling_off"
    world.hands.wait(86_401)
    assert json.loads(world.executor.release(first))["account"] == "004-500-991273"
    second = world.file(amount="700.50")
    shown = world.people[CLERK].call("GET", f"/requests/{second}")
    assert (shown["tier"], shown["reasons"], shown["amount"]) == ("normal", [], "700.50")
    world.approve(second, "cfo", "treasurer")
    world.executor.release(second)
    changed = world.people[CLERK].call("POST", "/requests", {**ORDER, "account": "004-500-000111"})
    assert [one["code"] for one in changed["reasons"]] == ["changed_account"]
    other = world.people[CLERK].call("POST", "/requests", {**ORDER, "payee": "Somebody Else"})
    assert {one["code"] for one in other["reasons"]} == {"new_payee", "shared_account"}


def test_the_verdict_of_the_call_counts(world):
    guard = world.machine("guard")
    assert "call" in [
        one["code"] for one in world.people[CLERK].call("POST", "/requests", {**ORDER, "call_id": "c1"})["reasons"]
    ]
    guard.call("POST", "/calls", {"call_id": "c1", "verdict": "VERIFIED"})
    assert "call" not in [
        one["code"] for one in world.people[CLERK].call("POST", "/requests", {**ORDER, "call_id": "c1"})["reasons"]
    ]
    guard.call("POST", "/calls", {"call_id": "c1", "verdict": "TAMPERED"})
    guard.call("POST", "/calls", {"call_id": "c1", "verdict": "VERIFIED"})  # too late
    assert world.people[CLERK].call("POST", "/requests", {**ORDER, "call_id": "c1"})["status"] == "denied"


def test_a_program_files_and_sees_its_own(world):
    made = world.filer.call("POST", "/requests", ORDER)
    assert world.filer.call("GET", f"/requests/{made['id']}")["status"] == "pending"
    other = world.file()
    assert refusal(world.filer.call, "GET", f"/requests/{other}") == "not_found"
    world.approve(made["id"])
    assert world.state(made["id"]) == "cleared"


def test_a_clerk_sees_their_own_requests_only(world):
    other = world.add("intern", ["file"])
    request = world.file()
    assert other.call("GET", "/requests")["data"] == []
    assert refusal(other.call, "GET", f"/requests/{request}") == "not_found"
    assert refusal(other.call, "POST", f"/requests/{request}/deny", {}) == "not_found"
    assert refusal(other.call, "POST", f"/requests/{request}/ceremony", {}) == "not_found"
    assert other.call("GET", "/people")["data"][0].keys() == {"handle", "name"}


# Enrolment and recovery.


def test_an_open_request_is_seen_whatever_came_after_it(world):
    waiting, own = world.file(), world.file(by="cfo")
    with world.desk.database.write() as connection:
        row = dict(connection.execute(sa.select(requests).where(requests.c.id == own)).mappings().one())
        later = {**row, "status": "denied", "created_at": row["created_at"] + 60}
        connection.execute(sa.insert(requests), [{**later, "id": f"req_{one:024x}"} for one in range(1200)])
    for who in ("cfo", "clerk"):
        found = [one["id"] for one in world.people[who].call("GET", "/requests")["data"]]
        assert waiting in found[:2] and len(found) == (100 if who == "cfo" else 1)


def ticket(world, **words):
    body = {"handle": "newcomer", "name": "Newcomer", "roles": ["file"], **words}
    return world.people["cfo"].call("POST", "/tickets", body)["id"]


def test_an_enrolment_needs_two_others_one_of_them_an_administrator(world):
    name = ticket(world)
    first = world.people["cfo"].sponsor(name)
    fresh = Person(world.send, ORIGIN)
    assert refusal(fresh.enrol, f"{name}.{first}.{first}") == "wrong_code"
    assert refusal(world.people["cfo"].sponsor, name) == "already_answered"
    second = world.people["treasurer"].sponsor(name)
    assert refusal(world.people["controller"].sponsor, name) == "already_answered"
    assert refusal(fresh.enrol, f"{name}.{second}.{first}") == "wrong_code"
    fresh.enrol(f"{name}.{first}.{second}")
    fresh.sign_in()
    again = Person(world.send, ORIGIN)
    assert refusal(again.enrol, f"{name}.{first}.{second}") == "ceremony_over"
    other = world.add("another", ["approve"])
    mine = ticket(world, handle="third")
    fresh.sponsor(mine)
    assert refusal(other.sponsor, mine) == "not_yours"  # two who are no administrators
    own = world.people["cfo"].call("POST", "/tickets", {"handle": "cfo", "kind": "recover"})["id"]
    assert refusal(world.people["cfo"].sponsor, own) == "not_yours"  # nobody vouches for themselves


def test_tickets_of_people_who_ended_and_old_ones_are_not_listed_and_the_others_are(world):
    gone, kept = ticket(world), ticket(world, handle="other")
    person = world.desk.directory.by_handle("newcomer")["id"]
    world.people["cfo"].call("DELETE", f"/people/{person}")

    def listed():
        return [one["id"] for one in world.people["treasurer"].call("GET", "/tickets")["data"]]

    assert listed() == [kept]
    assert refusal(world.people["treasurer"].sponsor, gone) in ("not_found", "ceremony_over")
    world.hands.wait(TICKET_SECONDS)
    assert listed() == []


def test_a_code_is_guessed_five_times_at_most(world):
    name = ticket(world)
    halves = [world.people[one].sponsor(name) for one in ("cfo", "treasurer")]
    fresh = Person(world.send, ORIGIN)
    for _ in range(5):
        assert refusal(fresh.enrol, f"{name}.AAAAAAAAAA.BBBBBBBBBB") == "wrong_code"
    assert refusal(fresh.enrol, ".".join([name, *halves])) == "wrong_code"


def test_a_recovery_ends_the_lost_device(world):
    lost = world.people["controller"]
    name = ticket(world, handle="controller", kind="recover")
    halves = [world.people[one].sponsor(name) for one in ("cfo", "treasurer")]
    fresh = Person(world.send, ORIGIN)
    fresh.enrol(".".join([name, *halves]))
    fresh.sign_in()
    assert refusal(lost.call, "GET", "/session") == "not_signed_in"
    assert refusal(lost.sign_in) == "assertion_refused"
    assert fresh.call("GET", "/session")["handle"] == "controller"


def test_a_desk_begins_once_and_with_three(world, tmp_path):
    with pytest.raises(RequestError, match="people already"):
        world.desk.directory.found([("a", "A"), ("b", "B"), ("c", "C")])
    with pytest.raises(RequestError, match="3 people or more"):
        world.desk.directory.found([("a", "A"), ("a", "A"), ("c", "C")])


# The fallback.


def test_codes_follow_rfc_6238():
    """Appendix B, the last six of eight digits."""
    import base64

    secret = base64.b32encode(b"12345678901234567890").decode()
    for at, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert codes.code_at(secret, at // 30) == code
        assert codes.step_of(secret, code, at, -1) == at // 30
        assert codes.step_of(secret, code, at, at // 30) is None  # not twice
        assert codes.step_of(secret, code, at + 90, -1) is None


def test_a_code_replaces_one_passkey_of_a_small_ordinary_request(world):
    world.executor.release(world.cleared())  # the payee is known from now on
    name = ticket(world, handle="treasurer", kind="totp")
    halves = [world.people[one].sponsor(name) for one in ("cfo", "controller")]
    code = ".".join([name, *halves])
    person = world.people["treasurer"]
    secret = person.call("POST", "/enrol/ceremony", {"code": code})["secret"]

    def now():
        return codes.code_at(secret, int(world.hands.clock().wall() // 30))

    wrong = f"{(int(now()) + 500_000) % 1_000_000:06}"
    assert refusal(person.call, "POST", "/enrol", {"code": code, "digits": wrong}) == "wrong_code"
    person.call("POST", "/enrol", {"code": code, "digits": now()})
    world.hands.wait(31)
    small, large = world.file(amount="4000"), world.file(amount="6000")
    used = {"digits": "1273", "code": now()}
    person.call("POST", f"/requests/{small}/code", used)
    assert refusal(person.call, "POST", f"/requests/{large}/code", used) == "fallback_not_allowed"
    third = world.file(amount="4000")
    assert refusal(person.call, "POST", f"/requests/{third}/code", used) == "wrong_code"  # it counted already
    shown = person.call("GET", f"/requests/{small}")
    assert shown["approvals"] == [{"by": "treasurer", "slot": "independent", "method": "totp"}]
    assert refusal(world.executor.release, small) == "not_approved"
    world.approve(small, "cfo")
    world.executor.release(small)
    assert audit(world.desk.export(), ORIGIN).released == 2


# Bad input.

BODY = [
    ({"amount": 12000}, "invalid_type"),
    ({"amount": "-5"}, "invalid_value"),
    ({"amount": "0"}, "invalid_value"),
    ({"amount": "1e6"}, "invalid_value"),
    ({"amount": "١٢٣"}, "invalid_value"),
    ({"amount": "12.345"}, "invalid_value"),
    ({"amount": "12.5", "currency": "JPY"}, "invalid_value"),
    ({"currency": "HK$"}, "invalid_value"),
    ({"payee": "Harbour\u202eHoldings"}, "invalid_value"),
    ({"payee": "Harbour\u200bHoldings"}, "invalid_value"),
    ({"payee": ""}, "missing_required_parameter"),
    ({"payee": "x" * 141}, "invalid_value"),
    ({"account": "12"}, "invalid_value"),
    ({"account": ["a"]}, "invalid_type"),
    ({"action": "gift"}, "invalid_value"),
    ({"requested_by": "nobody"}, "not_found"),
    ({"note": {"a": 1}}, "invalid_type"),
    ({"approved": True}, "unknown_parameter"),
    ({"tier": "normal"}, "unknown_parameter"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, store):
    """One desk for what changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORANO_CONFIG", str(tmp_path_factory.mktemp("config")))
        with desking.world(tmp_path_factory.mktemp("desk"), store) as made:
            yield made


@pytest.mark.parametrize("words, code", BODY)
def test_a_request_that_is_wrong_says_what_and_why(shared, words, code):
    assert refusal(shared.people[CLERK].call, "POST", "/requests", {**ORDER, **words}) == code


def test_every_route_refuses_strangers(shared):
    stranger = Person(shared.send, ORIGIN)
    routes = [(method.upper(), path) for path, held in shared.client.app.openapi()["paths"].items() for method in held]
    assert len(routes) > 20
    is_open = {"/healthz", "/readyz", "/privacy", "/session/ceremony"}
    for method, path in routes:
        if path in is_open or (method, path) == ("DELETE", "/session"):
            continue
        code = refusal(stranger.call, method, path.replace("{name}", "x").replace("{answer}", "approve"), {})
        assert code in ("not_signed_in", "invalid_api_key", "wrong_code", "ceremony_over"), (method, path, code)


def test_roles_are_asked_for(shared):
    clerk = shared.people[CLERK]
    for method, path in (("GET", "/receipts"), ("POST", "/tickets"), ("DELETE", "/people/per_x")):
        assert refusal(clerk.call, method, path, {} if method == "POST" else None) == "insufficient_scope"
    assert refusal(Program(shared.send, "sk-sorano-nothing").call, "GET", "/receipts") == "invalid_api_key"


def open_routes(shared):
    """Every route that takes a body, with a name in it that is hostile, or of something that is there."""
    held = {"name": [shared.file(), "x", "..%2f..", "%00", "'%20or%201=1", "%F0%9F%98%80"], "tile": ["x", "%00"]}
    held["answer"] = ["approve", "code", "deny", "duress", "nonsense"]
    for path, methods in shared.client.app.openapi()["paths"].items():
        if "post" in methods:
            fields = re.findall(r"{(\w+)}", path)
            for words in itertools.product(*(held[one] for one in fields)):
                yield path.format(**dict(zip(fields, words, strict=True)))


def test_hostile_bodies_are_answered_with_a_code(shared):
    """Bodies of all kinds to every route that takes one: a code and a next step, never a 500."""
    draw = random.Random(7)
    person, wrong = shared.people["cfo"], []
    pieces = [None, True, -1, 1e308, "", "x" * 3000, "\ud800", "\x00", [], {}, [[]], {"id": "AA", "response": {}}]
    pieces += ["../..", {"id": "AA", "response": {"clientDataJSON": "e30", "authenticatorData": "AA", "signature": 5}}]
    names = "ceremony credential digits code exact token kind handle roles amount payee question sdp slots name".split()
    paths = list(open_routes(shared))
    assert len(paths) > 100 and {"/redeem", "/ask", "/rooms/x/guest", "/rooms/x/tiles/x/send"} <= set(paths)
    for path in paths * 2:
        body = {name: draw.choice(pieces) for name in draw.sample(names, 4)}
        if path == "/session":
            body["ceremony"] = person.call("POST", "/session/ceremony", {})["ceremony"]
        headers = {"cookie": person.cookie, "content-type": "application/json"}
        status, _, content = shared.send("POST", path, headers, json.dumps(body).encode())
        error = json.loads(content).get("error", {})
        if status >= 400 and (status >= 500 or error.get("code") not in CODES or "; " not in error.get("message", "")):
            wrong.append((path, body, status, error))
    for content in (b"{", b"[]", b"\xff", b'{"a":' * 5000, b"null"):
        status, _, answered = shared.send("POST", "/requests", {"cookie": person.cookie}, content)
        assert status in (400, 415) and json.loads(answered)["error"]["code"] in CODES
    assert not wrong, wrong[:3]
    assert shared.send("POST", "/requests", {}, b"x" * 70_000)[0] == 413


def test_confirmations_are_begun_so_often_and_no_more(tmp_path, store):
    with desking.world(tmp_path, store, most_ceremonies=5) as world:
        world.hands.wait(61)  # after the enrolments
        request = world.file()
        begin = world.people["cfo"].call
        for _ in range(5):
            begin("POST", f"/requests/{request}/ceremony", {})
        assert refusal(begin, "POST", f"/requests/{request}/ceremony", {}) == "too_many_attempts"
        world.hands.wait(61)
        begin("POST", f"/requests/{request}/ceremony", {})


# Privacy.


def test_nothing_personal_is_in_the_logs(world, capfd):
    request = world.cleared(note="Invoice 4471 of Ms Chan")
    world.executor.release(request)
    refusal(world.file, amount="lots")
    refusal(world.people["cfo"].approve, request)
    said = capfd.readouterr().err
    assert said.count('"event": "request"') > 10
    held = ["Arched", "004-500-991273", "Invoice", "Chan", "cfo", "Cfo", "clerk", "12000.00", "sk-sorano"]
    for word in (*held, world.people["cfo"].cookie.partition("=")[2]):
        assert word not in said, word


def test_what_is_old_is_erased_and_the_receipts_still_hold(world):
    from sorano.desk.audit import audit

    request = world.cleared()
    world.executor.release(request)
    person = next(one for one in world.desk.directory.all() if one["handle"] == "clerk")
    world.desk.directory.end(person["id"], "operator")
    world.hands.wait(399 * 86_400)
    world.desk.sweep(whole=True)
    assert world.desk.confirm.get(request, None)["payee"] == "Arched Bridge Steel Ltd"
    world.hands.wait(2 * 86_400)
    world.desk.sweep(whole=True)
    assert world.desk.confirm.get(request, None)["payee"] is None
    with world.desk.database.read() as connection:
        kept = [str(row) for table in (requests, people, payees) for row in connection.execute(sa.select(table))]
    for word in ("Arched", "991273", "Invoice", "clerk", "Clerk"):
        assert not [row for row in kept if word in row], word
    assert audit(world.desk.export(), ORIGIN).released == 1
    world.people["cfo"].sign_in()
    assert [one["status"] for one in world.people["cfo"].call("GET", "/requests")["data"]] == ["consumed"]


def test_anybody_is_told_how_long_what_is_personal_is_kept(world):
    world.client.cookies.clear()
    told = world.client.get("/privacy").json()
    assert told["keep_days"] * 86_400 == world.desk.policy.keep_seconds and told["has_endpoint"] is False


def test_sessions_end(world):
    person = world.people["cfo"]
    person.call("DELETE", "/session")
    assert refusal(person.call, "GET", "/session") == "not_signed_in"


def test_the_cookie_is_kept_from_scripts_and_other_sites(world):
    options = world.people["cfo"].call("POST", "/session/ceremony", {})
    credential = world.people["cfo"].device.get(options, ORIGIN)
    body = json.dumps({"ceremony": options["ceremony"], "credential": credential}).encode()
    _, headers, _ = world.send("POST", "/session", {}, body)
    flags = headers["set-cookie"].lower()
    assert flags.startswith("__host-desk=") and all(one in flags for one in ("httponly", "secure", "samesite=strict"))


# Databases.


def test_the_migrations_make_the_tables(world):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from sorano.web.migrate import migrate

    with world.desk.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSIONS})
        assert compare_metadata(context, metadata) == []
    migrate(world.desk.database, MIGRATIONS, VERSIONS)  # a second time changes nothing


def test_a_server_has_its_tables_in_the_same_database(world, tmp_path):
    from sorano.serve.database import MIGRATIONS as OF_SERVER
    from sorano.web.database import Database
    from sorano.web.migrate import migrate

    server = Database(world.settings.database)
    migrate(server, OF_SERVER)
    server.close()
    world.reopen()
    world.executor.release(world.cleared())


# Commands.


def run(folder, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "sorano", "desk", *words], capture_output=True, text=True, timeout=60,
        env={**os.environ, "SORANO_DESK_DATA": str(folder)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout.strip(), done.stderr


def test_the_commands_from_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    said, _ = run(tmp_path, "init", "--admin", "ada=Ada", "--admin", "bo=Bo", "--admin", "cy=Cy")
    assert [line.split()[0] for line in said.splitlines()] == ["ada", "bo", "cy"]
    _, error = run(tmp_path, "init", "--admin", "ada", "--admin", "bo", "--admin", "cy", code=2)
    assert "people already" in error and "hint:" in error
    with Process("desk", "serve", "--port", str(free_port()), folder=tmp_path, maker=None) as process:
        address = process.wait_for_address()
        assert address.startswith("http://localhost:")
        assert call(address, "/readyz") == (200, {"status": "ok"})
        assert call(address, "/requests")[1]["error"]["code"] == "not_signed_in"
        assert process.stop() == 0
        assert '"event": "desk serving"' in process.logged()
    kept = tmp_path / "receipts.jsonl"
    said, _ = run(tmp_path, "audit", "-o", str(kept), "--json")
    assert json.loads(said)["receipts"] == 3
    run(tmp_path, "audit", str(kept))
    kept.write_bytes(kept.read_bytes().replace(b"founded", b"founden", 1))
    _, error = run(tmp_path, "audit", str(kept), code=6)
    assert "error:" in error and "hint:" in error


def test_a_desk_is_accepted_for_a_reason(world):
    from typer.testing import CliRunner

    from sorano.cli.desk import desk_app

    waiting = world.file()
    words = ["accept", "  ", "--data", str(world.folder), "--database", world.settings.database]
    refused = CliRunner().invoke(desk_app, words)
    assert refused.exit_code == 2 and "a reason" in refused.stderr
    assert world.state(waiting) == "pending"


def test_the_policy_command(tmp_path):
    from typer.testing import CliRunner

    from sorano.cli.desk import desk_app

    runner = CliRunner()
    shown = runner.invoke(desk_app, ["policy", "check", "--json"])
    assert shown.exit_code == 0 and json.loads(shown.stdout)["independent_high"] == 2
    wrong = tmp_path / "policy.toml"
    wrong.write_text("[approval]\nindependent = 0\n")
    assert runner.invoke(desk_app, ["policy", "check", str(wrong)]).exit_code == 2


def test_an_origin_without_passkeys_is_refused(tmp_path):
    from sorano.desk.config import DeskSettings

    for origin in ("http://desk.example.com", "https://desk.example.com/", "desk.example.com", "http://127.0.0.1:8010"):
        with pytest.raises(RequestError):
            DeskSettings(data=tmp_path, database="sqlite:///x", origin=origin)
