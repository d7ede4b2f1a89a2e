"""The receipts: a changed byte breaks the audit, and so does a story that must not have happened."""

import json
import random

import pytest
from support.desking import ORIGIN, refusal

from sorano.desk.audit import audit
from sorano.desk.ledger import HEAD, signed
from sorano.errors import TamperedError
from sorano.files import canonical
from sorano.trust.provenance import keys


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The receipts of a desk on which everything happened, with a daily signature among them."""
    from support import desking

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORANO_CONFIG", str(tmp_path_factory.mktemp("config")))
        with desking.world(tmp_path_factory.mktemp("desk")) as world:
            released = world.cleared()
            world.executor.release(released)
            assert world.desk.ledger.seal(keys.identity()) and world.desk.ledger.seal(keys.identity()) is None
            denied = world.file(account="004-500-111222")
            world.people["cfo"].call("POST", f"/requests/{denied}/deny", {})
            world.people["cfo"].approve(world.file(account="004-500-333444"))
            world.hands.wait(901)
            refusal(world.executor.release, denied)
            world.hands.wait(86_400)
            world.desk.sweep(whole=True)
            yield world.desk.export(), keys.export(), keys.identity()


def test_an_audit_of_what_happened(exported):
    data, root, signer = exported
    found = audit(data, ORIGIN, root)
    assert (found.requests, found.released, found.seals) == (3, 1, 2)
    assert found.assertions == 2 + 3 + 1  # two vouched for the clerk; three approved, then one
    assert found.signer == keys.fingerprint(signer.leaf)
    assert found.receipts == len(data.splitlines()) - 3


def test_an_audit_for_another_address_says_how_to_name_the_desks_own(exported):
    data, root, _ = exported
    with pytest.raises(TamperedError) as refused:
        audit(data, "http://localhost:8010", root)
    assert ORIGIN in str(refused.value) and "--origin" in (refused.value.hint or "")


def test_any_changed_byte_breaks_it(exported):
    """Every byte of the last lines and of one receipt of each kind, and a thousand others."""
    data, root, _ = exported
    places = set(random.Random(5).sample(range(len(data)), 1000))
    kinds, at = {}, 0
    for line in data.splitlines(keepends=True):
        kind = json.loads(line).get("kind", "signature")
        kinds.setdefault(kind, range(at, at + len(line)))
        at += len(line)
    assert len(kinds) > 8
    for held in kinds.values():
        places |= set(list(held)[::7])
    places |= set(range(len(data) - 200, len(data)))
    unseen = []
    for place in sorted(places):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 7)
        try:
            audit(bytes(changed), ORIGIN, root)
        except TamperedError:
            continue
        except Exception as error:  # what is broken must be said, not stumbled over
            unseen.append((place, repr(error)))
            continue
        unseen.append((place, "not seen"))
    assert not unseen, unseen[:5]


def lines_of(data):
    return [json.loads(line) for line in data.splitlines()[:-1]]


def sealed(lines, signer):
    """Lines as the desk itself would have written and signed them: whoever has its keys."""
    import hashlib

    previous, seq, made = "0" * 64, 0, []
    for words in lines:
        if "kind" not in words:
            continue
        seq += 1
        words = {**words, "seq": seq, "previous": previous}
        text = canonical(words)
        previous = hashlib.sha256(text).hexdigest()
        made.append(text)
    body = b"".join(one + b"\n" for one in made)
    head = {"type": HEAD, "lines": len(made), "sha256": hashlib.sha256(body).hexdigest(), "seq": seq,
            "hash": previous, "at": "2026-11-29T00:00:00Z"}  # fmt: skip
    return body + signed(head, signer).encode() + b"\n"


def first(lines, kind, **body):
    return next(n for n, one in enumerate(lines) if one.get("kind") == kind and body.items() <= one["body"].items())


def drop(kind, **body):
    return lambda lines: lines.pop(first(lines, kind, **body))


def change(kind, **new):
    def act(lines):
        place = first(lines, kind)
        lines[place] = {**lines[place], "body": {**lines[place]["body"], **new}}

    return act


def twice(kind):
    return lambda lines: lines.insert(first(lines, kind) + 1, lines[first(lines, kind)])


def without_role(lines):
    for one in lines:
        if one["kind"] in ("founded", "listed"):
            one["body"] = {**one["body"], "roles": ["file"]}


def by_code(*kinds):
    """The first approval by a one-time code, after receipts of some kinds about its person."""

    def act(lines):
        change("requested", takes_codes=True)(lines)
        change("approved", method="totp")(lines)
        place = first(lines, "approved")
        person = lines[place]["body"]["person"]
        ticket = next(one["body"]["ticket"] for one in lines if one["kind"] == "founded" and one["subject"] == person)
        told = {"codes": {"ticket": ticket}, "ended": {}}
        lines[place:place] = [{**lines[place], "kind": one, "subject": person, "body": told[one]} for one in kinds]

    return act


FORGED = {  # what somebody with the desk's own keys writes, and what the audit says of it
    "an approval is missing": (drop("approved", slot="requester"), "approvals are missing"),
    "an independent approval is missing": (drop("approved", slot="independent"), "approvals are missing"),
    "an approval counts twice": (twice("approved"), "counted twice"),
    "a device without sponsors": (drop("sponsored"), "two people did not vouch"),
    "a device that was not enrolled": (drop("enrolled"), "not enrolled"),
    "a released request, again": (twice("consumed"), "a release twice"),
    "a token, again": (twice("redeemed"), "spent twice"),
    "other bytes": (change("consumed", digest="0" * 64), "of other bytes"),
    "a request of others": (change("requested", digest="0" * 64), "other bytes"),
    "a shorter cooling-off": (change("cleared", from_ms=0), "cut short"),
    "fewer approvers": (change("requested", independent=0), "needs nobody"),
    "another signature": (change("approved", signature="AAAA"), "not valid"),
    "a code instead": (change("approved", method="totp"), "none was allowed"),
    "a code of somebody who has none": (by_code(), "who has none"),
    "a code of somebody who left": (by_code("codes", "ended"), "who has none"),
    "an approver without the role": (without_role, "without the role approve"),
    "a person listed twice": (twice("listed"), "listed twice"),
    "an unheard-of kind": (lambda lines: lines.append({**lines[-1], "kind": "blessed"}), "no receipt of kind"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_story_that_must_not_have_happened_is_seen(exported, name):
    data, root, signer = exported
    act, said = FORGED[name]
    lines = [one for one in lines_of(data) if "kind" in one]
    assert audit(sealed(lines, signer), ORIGIN, root).released == 1
    act(lines)
    with pytest.raises(TamperedError, match=said):
        audit(sealed(lines, signer), ORIGIN, root)


def test_an_approval_by_code_of_somebody_who_has_codes_is_in_order(exported):
    data, root, signer = exported
    lines = [one for one in lines_of(data) if "kind" in one]
    by_code("codes")(lines)
    found = audit(sealed(lines, signer), ORIGIN, root)
    assert found.released == 1 and found.assertions == audit(data, ORIGIN, root).assertions - 1


def test_another_signer_and_a_cut_export_are_refused(exported, monkeypatch, tmp_path):
    data, root, _ = exported
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path))
    other = keys.identity()
    forged = sealed([one for one in lines_of(data) if "kind" in one], other)
    assert audit(forged, ORIGIN).signer == keys.fingerprint(other.leaf)  # its name is said
    with pytest.raises(TamperedError, match="signature is not good"):
        audit(forged, ORIGIN, root)
    for cut in (data[:-1], b"\n".join(data.split(b"\n")[:-2]) + b"\n", b"", b"\n"):
        with pytest.raises(TamperedError):
            audit(cut, ORIGIN, root)
    with pytest.raises(TamperedError):
        audit(data, "https://other.example", root)


def test_receipts_hold_nothing_personal(exported):
    data, _, _ = exported
    text = data.decode()
    for word in ("Arched", "004-500-991273", "Invoice", '"Cfo"', "Treasurer", '"cfo"', "clerk", "12000.00"):
        assert word not in text, word
