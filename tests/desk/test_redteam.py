"""The red team: whatever is tried, nothing is released that the right people did not approve. Wrongly released: 0."""

import hashlib
from unittest import mock

import pytest
import sqlalchemy as sa
from support.desking import ORDER, ORIGIN, race, refusal

from sorano.desk import soft_device
from sorano.desk.audit import audit
from sorano.desk.client import Person
from sorano.desk.demo import CLERK, fraudulent
from sorano.desk.service import Desk
from sorano.desk.soft_device import SoftDevice
from sorano.desk.tables import requests
from sorano.errors import TamperedError

DATABASES = ("sqlite", "postgresql")


def nothing_released(world):
    """Whether no executor got anything, and the receipts say so."""
    return audit(world.desk.export(), ORIGIN).released == 0


# The case.


def test_the_case_replayed_over_http_releases_none_of_15():
    from sorano.desk.demo import run

    found = run(lambda _: None)
    assert (found.filed, found.released, found.released_hkd) == (15, 0, 0)
    assert not [code for _, code in found.attempts if code == "accepted"] and len(found.attempts) == 15
    assert found.honest_released == found.honest_filed == 1
    assert {"new_payee", "call", "secrecy", "urgency", "velocity", "payee_velocity"} <= set(found.reasons)


def test_the_case_under_the_weakest_policy_still_needs_two_devices(lax):
    """No rule of the policy helps here: the passkeys alone hold the money."""
    names = [lax.people[CLERK].call("POST", "/requests", body)["id"] for body in fraudulent()]
    assert {lax.state(name) for name in names} == {"pending"}
    for name in names:
        assert refusal(lax.executor.release, name) == "not_approved"
    lax.hands.wait(901)
    assert {lax.state(name) for name in names} == {"expired"}
    assert {refusal(lax.executor.release, name) for name in names} == {"request_over"}
    assert nothing_released(lax)


def test_split_transfers_are_added_up(world):
    """Below every limit by themselves; together they are high, then refused."""
    tiers = []
    for number in range(12):
        words = {"amount": "490000", "account": f"01234567{number:02}", "payee": f"Payee {number}"}
        made = world.people[CLERK].call("POST", "/requests", {**ORDER, **words})
        tiers.append({one["code"] for one in made["reasons"]})
        assert not {"amount", "amount_refused"} & tiers[-1]
    assert "velocity" not in tiers[1] and "velocity" in tiers[2] and "count" in tiers[7]
    same = [world.people[CLERK].call("POST", "/requests", {**ORDER, "amount": "300000"}) for _ in range(2)]
    assert "payee_velocity" in {one["code"] for one in same[1]["reasons"]}


def test_splitting_over_spellings_of_one_payee_or_one_account_does_not_help(world):
    spellings = ["Arched Bridge Steel Ltd", "ARCHED  BRIDGE STEEL LTD.", "Ａrched Bridge-Steel Ltd"]
    for number, payee in enumerate(spellings):
        words = {"payee": payee, "amount": "200000", "account": f"99887766{number}"}
        made = world.people[CLERK].call("POST", "/requests", {**ORDER, **words})
    assert "payee_velocity" in {one["code"] for one in made["reasons"]}
    one = world.people[CLERK].call(
        "POST", "/requests", {**ORDER, "payee": "Other", "account": "998 877 660", "amount": "400000"}
    )
    assert "payee_velocity" in {reason["code"] for reason in one["reasons"]}


# Devices and pages.


@pytest.mark.parametrize(
    "origin", ["https://desk-example.com", "http://desk.example.com", "https://desk.example.com:444"]
)
def test_a_phished_page_gets_an_assertion_that_is_worth_nothing(lax, origin):
    request = lax.file()
    person = lax.people["cfo"]
    options = person.call("POST", f"/requests/{request}/ceremony", {})
    caught = person.device.get(options, origin)
    given = {"ceremony": options["ceremony"], "credential": caught, "digits": "1273"}
    assert refusal(person.call, "POST", f"/requests/{request}/approve", given) == "assertion_refused"
    assert lax.state(request) == "pending" and nothing_released(lax)


def test_a_page_inside_another_gets_nothing(lax):
    request = lax.file()
    person = lax.people["cfo"]
    for client in ({"crossOrigin": True}, {"topOrigin": "https://evil.example"}):
        options = person.call("POST", f"/requests/{request}/ceremony", {})
        given = {
            "ceremony": options["ceremony"],
            "credential": person.device.get(options, ORIGIN, **client),
            "digits": "1273",
        }
        assert refusal(person.call, "POST", f"/requests/{request}/approve", given) == "assertion_refused"


def test_a_device_that_does_not_verify_its_user_is_refused(lax):
    request = lax.file()
    lax.people["cfo"].device.verifies_user = False
    assert refusal(lax.people["cfo"].approve, request) == "assertion_refused"


def test_another_sites_page_cannot_even_ask(lax):
    request = lax.file()
    fake = Person(lax.send, "https://evil.example", lax.people["cfo"].device, lax.people["cfo"].cookie)
    assert refusal(fake.call, "POST", f"/requests/{request}/deny", {}) == "origin_not_allowed"


def test_an_own_device_in_anothers_session_is_refused(lax):
    """The clerk's device, with the stolen session of the CFO."""
    request = lax.file()
    thief = Person(lax.send, ORIGIN, lax.people[CLERK].device, lax.people["cfo"].cookie)
    assert refusal(thief.approve, request) == "assertion_refused"


def test_a_session_alone_approves_nothing(lax):
    request = lax.file()
    options = lax.people["cfo"].call("POST", f"/requests/{request}/ceremony", {})
    given = {"ceremony": options["ceremony"], "credential": {"id": "x", "response": {}}, "digits": "1273"}
    assert refusal(lax.people["cfo"].call, "POST", f"/requests/{request}/approve", given) == "assertion_refused"
    assert refusal(lax.people["treasurer"].call, "POST", f"/requests/{request}/approve", given) == "ceremony_over"


# Bytes and assertions.


def test_an_account_that_is_changed_after_approval_is_not_paid(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    assert lax.state(request) == "cleared"
    exact = lax.executor.exact(request)
    assert '"account":"004-500-991273"' in exact
    for changed in (exact.replace("991273", "666666"), exact.replace('"12000.00"', '"99000.00"'), exact + " "):
        call = lax.executor.call
        assert refusal(call, "POST", f"/requests/{request}/consume", {"exact": changed}) == "does_not_match"
    assert nothing_released(lax)


def test_an_account_that_is_changed_in_the_database_is_not_paid(lax):
    """Somebody with the database's password changes the bytes, and the digest too."""
    request = lax.file()
    lax.people["cfo"].approve(request)
    with lax.desk.database.write() as connection:
        exact = connection.execute(sa.select(requests.c.canonical)).scalar_one().replace("991273", "666123")
        digest = hashlib.sha256(exact.encode()).hexdigest()
        connection.execute(sa.update(requests).values(canonical=exact, digest=digest))
    lax.people["treasurer"].approve(request, digits="6123")
    with pytest.raises(TamperedError, match="other bytes"):  # the audit sees what the treasurer signed
        audit(lax.desk.export(), ORIGIN)


def test_an_assertion_works_once(lax):
    first, second = lax.file(), lax.file(account="004-500-111222")
    person = lax.people["cfo"]
    options = person.call("POST", f"/requests/{first}/ceremony", {})
    given = {"ceremony": options["ceremony"], "credential": person.device.get(options, ORIGIN), "digits": "1273"}
    person.call("POST", f"/requests/{first}/approve", given)
    assert refusal(person.call, "POST", f"/requests/{first}/approve", given) == "ceremony_over"
    # for another request, with a ceremony of its own
    other = person.call("POST", f"/requests/{second}/ceremony", {})
    crossed = {**given, "ceremony": other["ceremony"], "digits": "1222"}
    assert refusal(person.call, "POST", f"/requests/{second}/approve", crossed) == "assertion_refused"
    # a ceremony of one request, carried to another
    third = person.call("POST", f"/requests/{second}/ceremony", {})
    signed = {"ceremony": third["ceremony"], "credential": person.device.get(third, ORIGIN), "digits": "1222"}
    fourth = lax.file(account="004-500-333444")
    assert refusal(person.call, "POST", f"/requests/{fourth}/approve", signed) == "assertion_refused"
    assert lax.desk.confirm.get(second, None)["approvals"] == []


def test_a_sign_in_is_no_approval(lax):
    """The challenge of a session, relayed as if it were an approval, and the other way round."""
    request = lax.file()
    person = lax.people["cfo"]
    options = person.call("POST", "/session/ceremony", {})
    given = {"ceremony": options["ceremony"], "credential": person.device.get(options, ORIGIN), "digits": "1273"}
    assert refusal(person.call, "POST", f"/requests/{request}/approve", given) == "assertion_refused"
    mine = person.call("POST", f"/requests/{request}/ceremony", {})
    signed = {"ceremony": mine["ceremony"], "credential": person.device.get(mine, ORIGIN)}
    assert refusal(person.call, "POST", "/session", signed) == "assertion_refused"


def test_an_expired_assertion_is_refused(lax):
    request = lax.file()
    person = lax.people["cfo"]
    options = person.call("POST", f"/requests/{request}/ceremony", {})
    given = {"ceremony": options["ceremony"], "credential": person.device.get(options, ORIGIN), "digits": "1273"}
    lax.hands.wait(lax.settings.ceremony_seconds + 1)
    assert refusal(person.call, "POST", f"/requests/{request}/approve", given) == "ceremony_over"


def test_a_failed_assertion_burns_its_challenge(lax):
    request = lax.file()
    person = lax.people["cfo"]
    options = person.call("POST", f"/requests/{request}/ceremony", {})
    good = person.device.get(options, ORIGIN)
    bad = {**good, "response": {**good["response"], "signature": good["response"]["signature"][:-8] + "AAAAAAAA"}}
    given = {"ceremony": options["ceremony"], "digits": "1273"}
    assert (
        refusal(person.call, "POST", f"/requests/{request}/approve", {**given, "credential": bad})
        == "assertion_refused"
    )
    assert (
        refusal(person.call, "POST", f"/requests/{request}/approve", {**given, "credential": good}) == "ceremony_over"
    )


def test_a_cloned_device_whose_counter_lags_is_refused(lax):
    import copy

    request = lax.file()
    clone = copy.copy(lax.people["cfo"].device)
    lax.people["cfo"].sign_in()
    lax.people["cfo"].sign_in()
    thief = Person(lax.send, ORIGIN, clone, lax.people["cfo"].cookie)
    assert refusal(thief.approve, request) == "assertion_refused"


# Who approves.


def test_nobody_answers(lax):
    request = lax.file()
    lax.people["cfo"].approve(request)
    lax.hands.wait(901)
    assert refusal(lax.people["treasurer"].approve, request) == "request_over"
    assert refusal(lax.executor.release, request) == "request_over"
    assert lax.state(request) == "expired"


def test_the_requester_alone_is_not_enough(lax):
    request = lax.file()
    lax.people["cfo"].approve(request)
    assert refusal(lax.executor.release, request) == "not_approved"


def test_an_independent_approver_alone_is_not_enough(lax):
    request = lax.file()
    lax.people["treasurer"].approve(request)
    lax.people["controller"].approve(request)
    assert refusal(lax.executor.release, request) == "not_approved"


def test_one_person_counts_once(lax):
    """Also with a second device."""
    request = lax.file()
    person = lax.people["treasurer"]
    person.approve(request)
    assert refusal(person.approve, request) == "already_answered"
    ticket = lax.people["cfo"].call("POST", "/tickets", {"handle": "treasurer", "kind": "enrol"})["id"]
    halves = [lax.people[one].sponsor(ticket) for one in ("cfo", "controller")]
    second = Person(lax.send, ORIGIN, SoftDevice())
    second.enrol(".".join([ticket, *halves]))
    second.sign_in()
    assert refusal(second.approve, request) == "already_answered"
    assert refusal(lax.executor.release, request) == "not_approved"


def test_one_device_is_one_persons(lax):
    """The treasurer's device cannot be enrolled for an accomplice."""
    ticket = lax.people["cfo"].call("POST", "/tickets", {"handle": "mule", "name": "Mule", "roles": ["approve"]})["id"]
    halves = [lax.people[one].sponsor(ticket) for one in ("cfo", "controller")]
    mule = Person(lax.send, ORIGIN)
    code = ".".join([ticket, *halves])
    options = mule.call("POST", "/enrol/ceremony", {"code": code})
    name, key = lax.people["treasurer"].device.made["desk.example.com"]
    with mock.patch.object(soft_device.ec, "generate_private_key", return_value=key):
        clone = SoftDevice().create(options, ORIGIN)
    assert clone["id"] != name
    given = {"code": code, "ceremony": options["ceremony"], "credential": clone}
    assert refusal(mule.call, "POST", "/enrol", given) == "already_answered"


def test_who_filed_it_is_not_independent(lax):
    """An approver who was talked into filing cannot be the second pair of eyes."""
    request = lax.file(by="treasurer")
    lax.people["cfo"].approve(request)
    assert refusal(lax.people["treasurer"].approve, request) == "not_yours"
    assert refusal(lax.executor.release, request) == "not_approved"
    lax.people["controller"].approve(request)
    lax.executor.release(request)


def test_a_requester_from_the_call_is_not_in_the_directory(lax):
    assert refusal(lax.file, requested_by="cfo-mobile") == "not_found"


def test_digits_that_were_not_read_are_refused_and_then_the_request(lax):
    request = lax.file()
    for _ in range(3):
        assert refusal(lax.people["cfo"].approve, request, digits="0000") == "wrong_digits"
    assert refusal(lax.people["cfo"].approve, request) == "request_over"
    assert lax.state(request) == "denied"


def test_a_person_who_left_no_longer_counts(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    person = next(one for one in lax.people["cfo"].call("GET", "/people")["data"] if one["handle"] == "treasurer")
    lax.people["cfo"].call("DELETE", f"/people/{person['id']}")
    assert lax.state(request) == "denied"
    assert refusal(lax.executor.release, request) == "request_over"


def test_a_recovered_account_takes_its_open_approvals_with_it(lax):
    """Somebody who talks two colleagues into a recovery does not inherit what the real one approved."""
    request = lax.file()
    lax.people["treasurer"].approve(request)
    ticket = lax.people["cfo"].call("POST", "/tickets", {"handle": "treasurer", "kind": "recover"})["id"]
    halves = [lax.people[one].sponsor(ticket) for one in ("cfo", "controller")]
    fresh = Person(lax.send, ORIGIN)
    fresh.enrol(".".join([ticket, *halves]))
    assert lax.state(request) == "denied"
    assert refusal(lax.people["treasurer"].sign_in) == "assertion_refused"
    fresh.sign_in()


# Under pressure.


def test_duress_looks_like_an_approval_and_denies_everything(lax):
    request, other = lax.file(), lax.file(account="004-500-777888")
    lax.people["treasurer"].approve(other)
    lax.people["cfo"].approve(other)
    clerk, controller = lax.people[CLERK], lax.people["controller"]
    said = lax.people["treasurer"].approve(request)
    pressed = lax.people["cfo"].approve(request, answer="duress")
    assert said == pressed
    assert clerk.call("GET", f"/requests/{request}")["status"] == "pending"  # whoever watches learns nothing
    for one in (clerk, lax.people["cfo"]):  # also an administrator, who was coerced
        shown = one.call("GET", f"/requests/{request}")
        assert "is_duress" not in shown and (shown["status"], shown["my_part"]) == ("pending", None)
    assert [one["by"] for one in clerk.call("GET", f"/requests/{request}")["approvals"]] == ["treasurer", "cfo"]
    assert controller.call("GET", f"/requests/{request}")["is_duress"]  # an administrator
    for name in (request, other):
        assert refusal(lax.executor.release, name) == "request_over"
    lax.hands.wait(901)
    assert clerk.call("GET", f"/requests/{request}")["status"] == "expired"
    assert nothing_released(lax)


def test_one_denial_ends_it_also_while_it_cools_off(world):
    request = world.file()
    world.approve(request)
    assert world.state(request) == "cleared"
    assert refusal(world.executor.release, request) == "cooling_off"
    world.people["controller"].call("POST", f"/requests/{request}/deny", {})
    world.hands.wait(86_401)
    assert refusal(world.executor.release, request) == "request_over"
    assert nothing_released(world)


# Releases.


def test_two_consumers_race(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    exact = lax.executor.exact(request).encode()
    assert sorted(race(8, lambda: lax.desk.confirm.consume(request, exact))) == ["already_consumed"] * 7 + ["done"]


def test_two_processes_race(lax):
    """Two desks on one database, as two replicas have it."""
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    exact = lax.executor.exact(request).encode()
    desks = [lax.desk, Desk.open(lax.settings, lax.hands.clock())]
    turn = iter(desks * 2)
    assert sorted(race(4, lambda: next(turn).confirm.consume(request, exact))) == ["already_consumed"] * 3 + ["done"]
    desks[1].close()


def test_a_token_is_spent_once_for_its_own_bytes_and_soon(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    exact = lax.executor.exact(request)
    token = lax.executor.call("POST", f"/requests/{request}/consume", {"exact": exact})["token"]
    redeem = lax.executor.call
    wrong = exact.replace("991273", "666666")
    assert refusal(redeem, "POST", "/redeem", {"token": token, "exact": wrong}) == "does_not_match"
    redeem("POST", "/redeem", {"token": token, "exact": exact})
    assert refusal(redeem, "POST", "/redeem", {"token": token, "exact": exact}) == "does_not_match"
    second = lax.file(account="004-500-111222")
    lax.approve(second, "cfo", "treasurer")
    exact = lax.executor.exact(second)
    token = lax.executor.call("POST", f"/requests/{second}/consume", {"exact": exact})["token"]
    lax.hands.wait(301)
    assert refusal(redeem, "POST", "/redeem", {"token": token, "exact": exact}) == "does_not_match"


@pytest.mark.parametrize("scope", ["file", "guard", "audit"])
def test_only_an_executors_key_releases(lax, scope):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    assert refusal(lax.machine(scope).release, request) == "insufficient_scope"


def test_an_approval_that_nobody_uses_ends(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    lax.hands.wait(86_401)
    assert refusal(lax.executor.release, request) == "request_over"


# Time.


def test_a_clock_that_is_set_back_revives_nothing(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    lax.hands.wait(86_401)
    assert lax.state(request) == "expired"
    late = lax.file(account="004-500-111222")
    lax.hands.wall -= 86_000
    assert refusal(lax.executor.release, request) == "clock_moved"
    assert refusal(lax.people["cfo"].approve, late) == "clock_moved"


def test_a_clock_that_is_set_forward_ends_no_cooling_off(world):
    request = world.file()
    world.approve(request)
    world.hands.wall += 86_401
    assert refusal(world.executor.release, request) == "clock_moved"
    world.reopen()  # a new process of the same boot sees it too
    assert refusal(world.executor.release, request) == "clock_moved"
    assert world.desk.accept("the clock was wrong") == 1
    world.reopen()
    assert refusal(world.executor.release, request) == "request_over"


def test_a_clock_that_is_set_back_while_the_machine_is_off_is_seen(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    lax.hands.wall -= 3600
    lax.hands.boot = "another"
    lax.reopen()
    assert refusal(lax.executor.release, request) == "clock_moved"


def test_a_slow_clock_of_the_usual_kind_is_no_alarm(lax):
    for _ in range(5):
        lax.hands.wait(86_400)
        lax.hands.wall += 30  # NTP slews so much a day, and less
        lax.file(account="004-500-111222")


# The database.


def test_a_database_restored_from_yesterday_releases_nothing_twice(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    yesterday = lax.keep()
    exact = lax.executor.release(request)
    lax.restore(yesterday)
    assert lax.state(request) == "cleared"  # as yesterday
    call = lax.executor.call
    assert refusal(call, "POST", f"/requests/{request}/consume", {"exact": exact}) == "rolled_back"
    assert refusal(lax.file) == "rolled_back"
    assert lax.client.get("/readyz").json()["code"] == "rolled_back"
    lax.desk.accept("restored after a disk failed")
    assert refusal(call, "POST", f"/requests/{request}/consume", {"exact": exact}) == "request_over"
    lax.file()  # it works again


def test_a_restored_database_without_its_note_is_not_taken_for_a_new_one(lax):
    request = lax.file()
    lax.approve(request, "cfo", "treasurer")
    lax.settings.anchor_file.unlink()
    assert refusal(lax.executor.release, request) == "rolled_back"


def write_approval(world, request, handle, slot):
    """An approval that nobody gave, written into the database."""
    from sorano.desk.tables import approvals

    person = world.desk.directory.by_handle(handle)["id"]
    values = {"request_id": request, "person_id": person, "slot": slot, "method": "passkey", "at": world.hands.wall}
    with world.desk.database.write() as connection:
        connection.execute(sa.insert(approvals).values(**values))
        cleared = {"status": "cleared", "release_from": 0.0, "release_until": 1e12}
        connection.execute(sa.update(requests).where(requests.c.id == request).values(**cleared))


def test_an_approval_of_the_filer_in_the_database_does_not_count(lax):
    request = lax.file()
    lax.people["cfo"].approve(request)
    write_approval(lax, request, CLERK, "independent")
    assert refusal(lax.executor.release, request) == "not_approved"
    assert nothing_released(lax)


def test_approvals_that_were_written_into_the_database_are_seen_by_the_audit(lax):
    """Whoever writes to the database can have money released; not without the audit naming it."""
    request = lax.file()
    write_approval(lax, request, "cfo", "requester")
    write_approval(lax, request, "treasurer", "independent")
    lax.executor.release(request)
    with pytest.raises(TamperedError, match="approvals are missing"):
        audit(lax.desk.export(), ORIGIN)


def test_receipts_that_were_rewritten_behind_the_anchor_are_seen(lax):
    """As long as before, and other."""
    from sorano.desk.tables import receipts

    request = lax.file()
    with lax.desk.database.write() as connection:
        row = connection.execute(sa.select(receipts).order_by(receipts.c.seq.desc())).first()
        line = row.line.replace('"requested"', '"refused"')
        values = {"line": line, "hash": hashlib.sha256(line.encode()).hexdigest()}
        connection.execute(sa.update(receipts).where(receipts.c.seq == row.seq).values(**values))
    assert refusal(lax.people["cfo"].approve, request) == "rolled_back"
