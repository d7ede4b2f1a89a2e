"""The audit of exported receipts: read by itself, without the desk and its database.

It checks that the export is whole and in one spelling, that the chain holds, that every signature over it is good, and
then replays what the receipts say: every assertion is verified again with the public key of its enrolment, and nothing
was released without the purported requester and enough independent approvers who had that role, in time, after its
cooling-off, once. A one-time code counts for people who had codes then.

Not covered: whether the signer is the desk that one thinks of (compare the fingerprint, or give its root), receipts
that were left out and signed again by the desk itself (keep earlier exports elsewhere: each must be the beginning of
the next), and what requests said: receipts hold digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from webauthn.helpers import base64url_to_bytes

from sorano.desk.ledger import BEGIN, HEAD, SEAL
from sorano.desk.passkeys import APPROVE, JOIN, SPONSOR, challenge_of, check_assertion
from sorano.errors import TamperedError, TrustError
from sorano.files import canonical
from sorano.trust.provenance import keys
from sorano.trust.provenance.roots import check_es256
from sorano.web.problems import Problem

Receipt = Mapping[str, Any]
COMPARE = "compare with an earlier export, and ask who could write to this one"


@dataclass
class Audited:
    """What an audit found in good order."""

    receipts: int = 0
    seals: int = 0
    assertions: int = 0
    requests: int = 0
    released: int = 0
    end: str = BEGIN
    signer: str = ""  # the leaf's SHA-256
    signer_name: str = ""
    at: str = ""  # when it was exported


@dataclass
class _Request:
    body: Mapping[str, Any]
    approvals: list[Mapping[str, Any]] = field(default_factory=list)
    window: tuple[int, int] | None = None
    is_over: bool = False
    token: str | None = None
    is_redeemed: bool = False


def audit(data: bytes, origin: str, root_pem: str | None = None) -> Audited:
    """Check an export of a desk of an origin. Raises TamperedError that names the line.

    `root_pem`: the certificate that must stand above the signer's; None: any signer, whose name is returned.
    """
    if not data.endswith(b"\n"):
        raise TamperedError("the last line is cut off", "export again")
    lines = data[:-1].split(b"\n")
    found = Audited()
    leaf = _check_head(lines, found, root_pem)
    replay = _Replay(origin, found)
    for number, line in enumerate(lines[:-1], start=1):
        with_number = f"line {number}"
        words = _read(line, with_number)
        if words.get("type") == SEAL:
            check_signature(words, with_number, leaf, root_pem)
            if (words.get("seq"), words.get("hash")) != (found.receipts, found.end):
                raise _broken(with_number, "a daily signature is not of the receipt before it")
            found.seals += 1
            continue
        if words.get("seq") != found.receipts + 1 or words.get("previous") != found.end:
            raise _broken(with_number, "it does not follow from the line before")
        found.receipts += 1
        found.end = hashlib.sha256(line).hexdigest()
        try:
            replay.take(words)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _broken(with_number, f"it is no receipt: {error}") from error
        except Problem as error:
            hint = f"a desk that is not served at {origin} is named by --origin; else: {COMPARE}"
            raise TamperedError(f"{with_number}: {error.message}", hint) from error
        except _Wrong as error:
            raise _broken(with_number, str(error)) from error
    return found


def _check_head(lines: list[bytes], found: Audited, root_pem: str | None) -> str:
    """The last line: a signature over all before it. Returns the signer's fingerprint."""
    head = _read(lines[-1], "the last line")
    if head.get("type") != HEAD:
        raise TamperedError("the last line is not the desk's signature: receipts are missing", "export again")
    body = b"".join(line + b"\n" for line in lines[:-1])
    if head.get("sha256") != hashlib.sha256(body).hexdigest() or head.get("lines") != len(lines) - 1:
        raise TamperedError("the receipts are not the ones that were signed", "compare with an earlier export")
    found.at = str(head.get("at"))
    found.signer, found.signer_name = check_signature(head, "the last line", None, root_pem)
    return found.signer


def check_signature(words: dict[str, Any], where: str, leaf: str | None, root_pem: str | None) -> tuple[str, str]:
    """The signer's fingerprint and name. Certificates may have ended since; keys may have been renewed."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    given = str(words.get("signature"))
    told = {name: value for name, value in words.items() if name != "signature"}
    try:
        chain = keys.certificates(str(words.get("chain")), where)
        raw = base64.b64decode(given, validate=True)
        if base64.b64encode(raw).decode() != given:
            raise ValueError("it has another spelling")
        check_es256(chain[0], raw, canonical(told), where)
        if root_pem is not None:
            chain.append(keys.certificates(root_pem, "the root")[0])
        for lower, upper in zip(chain, chain[1:], strict=False):
            if lower != upper:
                lower.verify_directly_issued_by(upper)
    except (InvalidSignature, UnsupportedAlgorithm, TrustError, ValueError, TypeError) as error:
        raise _broken(where, f"its signature is not good: {error}") from error
    return keys.fingerprint(chain[0]), keys.common_name(chain[0])


class _Wrong(Exception):
    """What the receipts say must not have happened."""


class _Replay:
    """What the receipts say, in their order."""

    def __init__(self, origin: str, found: Audited) -> None:
        self.origin, self.found = origin, found
        self.keys: dict[str, tuple[str, str]] = {}  # credential -> person, public key
        self.roles: dict[str, frozenset[str]] = {}  # of each person
        self.coded: set[str] = set()  # people who have one-time codes
        self.owners: dict[str, str] = {}  # tickets -> person
        self.founders: set[str] = set()  # tickets of the beginning
        self.sponsors: dict[str, set[str]] = {}
        self.requests: dict[str, _Request] = {}
        self.seen: set[str] = set()  # nonces
        self.at = 0

    def take(self, words: Receipt) -> None:
        """Replay one receipt. Raises `_Wrong`, or `Problem` for a bad assertion."""
        kind, body, subject = str(words["kind"]), words["body"], str(words["subject"])
        self.at = int(words["at"])
        step: Callable[[str, Mapping[str, Any]], None] | None = getattr(self, f"_{kind}", None)
        if kind in _TOLD:
            return
        if kind not in _STEPS or step is None:
            raise _Wrong(f"there is no receipt of kind {kind[:40]!r}")
        step(subject, body)

    def _founded(self, person: str, body: Mapping[str, Any]) -> None:
        if self.keys:
            raise _Wrong("a desk is founded once")
        self._listed(person, body)
        self.founders.add(body["ticket"])
        self.owners[body["ticket"]] = person

    def _listed(self, person: str, body: Mapping[str, Any]) -> None:
        if person in self.roles:
            raise _Wrong("a person was listed twice")
        self.roles[person] = frozenset(body["roles"])

    def _ticket(self, ticket: str, body: Mapping[str, Any]) -> None:
        self.owners[ticket] = body["person"]

    def _sponsored(self, ticket: str, body: Mapping[str, Any]) -> None:
        self._assertion(body, SPONSOR)
        self.sponsors.setdefault(ticket, set()).add(body["person"])

    def _enrolled(self, person: str, body: Mapping[str, Any]) -> None:
        self._sponsorship(person, body["ticket"])
        if body["kind"] == "recover":
            self._drop(person)
        if body["credential"] in self.keys or body["public_key"] in {key for _, key in self.keys.values()}:
            raise _Wrong("one device was enrolled twice")
        self.keys[body["credential"]] = (person, body["public_key"])

    def _codes(self, person: str, body: Mapping[str, Any]) -> None:
        self._sponsorship(person, body["ticket"])
        self.coded.add(person)

    def _ended(self, person: str, _body: Mapping[str, Any]) -> None:
        self._drop(person)

    def _joined(self, person: str, body: Mapping[str, Any]) -> None:
        if body["person"] != person:
            raise _Wrong("a call that another joined")
        self._assertion(body, JOIN)

    def _requested(self, request: str, body: Mapping[str, Any]) -> None:
        if request in self.requests or int(body["independent"]) < 1:
            raise _Wrong("a request that needs nobody, or that was filed twice")
        self.requests[request] = _Request(body)
        self.found.requests += 1

    def _approved(self, request: str, body: Mapping[str, Any]) -> None:
        held = self._open(request)
        if body["digest"] != held.body["digest"]:
            raise _Wrong("an approval of other bytes")
        if self.at >= held.body["expires_ms"]:
            raise _Wrong("an approval after its time")
        if body["method"] == "passkey":
            self._assertion(body, APPROVE)
        elif not held.body["takes_codes"] or any(one["method"] != "passkey" for one in held.approvals):
            raise _Wrong("a one-time code where none was allowed")
        elif body["person"] not in self.coded:
            raise _Wrong("a one-time code of somebody who has none")
        if body["person"] in {one["person"] for one in held.approvals}:
            raise _Wrong("one person approved twice")
        is_requester = body["person"] == held.body["requested_by"]
        if (body["slot"] == "requester") != is_requester:
            raise _Wrong("an approval in another's name")
        if not is_requester and "approve" not in self.roles.get(body["person"], ()):
            raise _Wrong("an independent approval of somebody without the role approve")
        held.approvals.append(body)

    def _cleared(self, request: str, body: Mapping[str, Any]) -> None:
        held = self._open(request)
        self._enough(held)
        if body["from_ms"] + 1 < self.at + held.body["cooling_ms"]:
            raise _Wrong("the cooling-off was cut short")
        held.window = (int(body["from_ms"]), int(body["until_ms"]))

    def _consumed(self, request: str, body: Mapping[str, Any]) -> None:
        held = self._open(request)
        self._enough(held)
        if held.token is not None or held.window is None or body["digest"] != held.body["digest"]:
            raise _Wrong("a release twice, or without approval, or of other bytes")
        if not held.window[0] - 1 <= self.at <= held.window[1]:
            raise _Wrong("a release outside its time")
        held.token = body["token"]
        self.found.released += 1

    def _redeemed(self, request: str, body: Mapping[str, Any]) -> None:
        held = self.requests[request]
        if held.is_redeemed or held.token != body["token"]:
            raise _Wrong("a token was spent twice, or never given")
        held.is_redeemed = True

    def _denied(self, request: str, _body: Mapping[str, Any]) -> None:
        self.requests[request].is_over = True

    _expired = _denied

    def _enough(self, held: _Request) -> None:
        people = {one["person"] for one in held.approvals}
        others = people - {held.body["requested_by"], held.body["filed_by"]}
        if held.body["requested_by"] not in people or len(others) < held.body["independent"]:
            raise _Wrong("approvals are missing")

    def _open(self, request: str) -> _Request:
        held = self.requests.get(request)
        if held is None or held.is_over:
            raise _Wrong("a request that was over, or never filed")
        return held

    def _sponsorship(self, person: str, ticket: str) -> None:
        others = self.sponsors.get(ticket, set()) - {person}
        if self.owners.get(ticket) != person or (ticket not in self.founders and len(others) < 2):
            raise _Wrong("a device that two people did not vouch for")

    def _assertion(self, body: Mapping[str, Any], purpose: str) -> None:
        person, key = self.keys.get(body["credential"], (None, ""))
        if person is None or person != body["person"]:
            raise _Wrong("an assertion of a device that was not enrolled")
        if body["nonce"] in self.seen:
            raise _Wrong("an assertion that counted twice")
        self.seen.add(body["nonce"])
        given = {
            "id": body["credential"],
            "rawId": body["credential"],
            "type": "public-key",
            "response": {
                "clientDataJSON": body["client_data"],
                "authenticatorData": body["authenticator_data"],
                "signature": body["signature"],
            },
        }
        challenge = challenge_of(purpose, bytes.fromhex(body["nonce"]), bytes.fromhex(body["digest"]))
        base64url_to_bytes(body["signature"])
        check_assertion(given, challenge=challenge, origin=self.origin, public_key=key, sign_count=0)
        self.found.assertions += 1

    def _drop(self, person: str) -> None:
        self.coded.discard(person)
        self.keys = {name: (who, key) for name, (who, key) in self.keys.items() if who != person}


_STEPS = frozenset(
    "founded listed ticket sponsored enrolled codes ended requested approved cleared consumed redeemed denied expired "
    "joined".split()
)
_TOLD = frozenset(("call", "duress", "refused", "accepted"))  # nothing follows from these


def _read(line: bytes, where: str) -> dict[str, Any]:
    try:
        words = json.loads(line)
        if not isinstance(words, dict) or canonical(words) != line:
            raise ValueError("it is not in its one spelling")
    except (ValueError, RecursionError, TypeError) as error:
        raise _broken(where, f"it was changed: {error}") from error
    return words


def _broken(where: str, why: str) -> TamperedError:
    return TamperedError(f"{where}: {why}", COMPARE)
