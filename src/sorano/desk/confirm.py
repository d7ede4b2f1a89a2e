"""Confirmation: from a filed request to a release token that works once.

    file -> policy -> approvals by passkey (the purported requester's, and independent ones) -> cooling-off -> consume

What is approved are exact bytes: the request as canonical JSON (RFC 8785) with a nonce and an expiry. The executor
hands the same bytes in, once. The purported requester is looked up in the directory; whoever filed the request never
counts as independent. No answer is a denial.

Not covered: an executor that pays without asking, or pays something else than the bytes that it consumed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from sorano.desk import codes
from sorano.desk.directory import Directory, deny_open
from sorano.desk.fields import Instruction, digits_asked, digits_of, payee_key, read_order
from sorano.desk.ledger import Ledger, Transaction
from sorano.desk.passkeys import APPROVE, Passkeys, note_use
from sorano.desk.policy import REFUSED, UNKNOWN_CALL, ConfirmationPolicy, Decision, Facts, assess
from sorano.desk.tables import (
    approvals,
    calls,
    credentials,
    one_time_secrets,
    payees,
    people,
    releases,
    requests,
)
from sorano.errors import TrustError
from sorano.files import canonical
from sorano.web.keys import digest
from sorano.web.problems import Problem, not_found

PENDING, CLEARED, CONSUMED, DENIED, EXPIRED = "pending", "cleared", "consumed", "denied", "expired"
REQUESTER, INDEPENDENT = "requester", "independent"
PASSKEY, CODE = "passkey", "totp"
MOST_WRONG = 3  # digits of one person for one request; then it is denied
TOKEN_SECONDS = 300.0  # that a release token works


class Confirm:
    """The requests of one desk."""

    def __init__(
        self, ledger: Ledger, directory: Directory, passkeys: Passkeys, policy: ConfirmationPolicy, origin: str
    ) -> None:
        self.ledger, self.directory, self.passkeys = ledger, directory, passkeys
        self.policy, self.origin, self.database = policy, origin, ledger.database

    # Filing.

    def file(self, body: Mapping[str, Any], filed_by: str) -> dict[str, Any]:
        """File a request of JSON; it waits for its approvals, or is denied by the policy. Raises `Problem`."""
        order = read_order(body)
        requester = self.directory.by_handle(order.requested_by)
        with self.ledger.change() as change:
            self._expire(change)
            keys = self._keys(change, order)
            decision = assess(self.policy, self._facts(change, order, keys))
            row = self._row(change, order, decision, requester, filed_by, keys)
            change.connection.execute(sa.insert(requests).values(**row))
            change.receipt(
                "requested",
                row["id"],
                digest=row["digest"],
                requested_by=row["requested_by"],
                filed_by=filed_by,
                tier=row["tier"],
                reasons=[one["code"] for one in row["reasons"]],
                independent=row["independent"],
                takes_codes=row["takes_codes"],
                cooling_ms=int(1000 * row["cooling_seconds"]),
                expires_ms=int(1000 * row["expires_at"]),
            )
            if decision.tier == REFUSED:
                deny_open(change, requests.c.id == row["id"], "policy", "policy")
        return self.get(row["id"], None)

    def _row(
        self,
        change: Transaction,
        order: Instruction,
        decision: Decision,
        requester: sa.RowMapping,
        filed_by: str,
        keys: tuple[str, str],
    ) -> dict[str, Any]:
        name, expires_at = f"req_{secrets.token_hex(12)}", int(change.now + self.policy.approval_seconds)
        words = {
            "type": "sorano desk request 1",
            "id": name,
            "origin": self.origin,
            **order.words(),
            "filed_by": filed_by,
            "tier": decision.tier,
            "independent": decision.independent,
            "cooling_seconds": int(decision.cooling_seconds),
            "created_at": int(change.now),
            "expires_at": expires_at,
            "nonce": secrets.token_hex(16),
        }
        exact = canonical(words)
        return {
            "id": name,
            "status": PENDING,
            "canonical": exact.decode(),
            "digest": hashlib.sha256(exact).hexdigest(),
            "requested_by": requester["id"],
            "filed_by": filed_by,
            "payee_key": keys[0],
            "account_key": keys[1],
            "base_amount": None if decision.base_amount is None else float(decision.base_amount),
            "tier": decision.tier,
            "reasons": [{"code": one.code, "text": one.text} for one in decision.reasons],
            "independent": decision.independent,
            "takes_codes": decision.takes_codes,
            "cooling_seconds": decision.cooling_seconds,
            "wrong_digits": {},
            "created_at": change.now,
            "expires_at": float(expires_at),
            "is_duress": False,
        }

    def _facts(self, change: Transaction, order: Instruction, keys: tuple[str, str]) -> Facts:
        run, (payee, account) = change.connection.execute, keys
        accounts = {row.account_key for row in run(sa.select(payees).where(payees.c.payee_key == payee))}
        others = run(sa.select(payees).where(payees.c.account_key == account, payees.c.payee_key != payee)).first()
        counted = sa.and_(
            requests.c.created_at > change.now - self.policy.velocity_seconds,
            requests.c.status.in_((PENDING, CLEARED, CONSUMED)),
        )
        # what was released is counted from its release on: an old request may be consumed late
        late = sa.and_(requests.c.status == CONSUMED, requests.c.ended_at > change.now - self.policy.velocity_seconds)
        window = run(sa.select(requests).where(sa.or_(counted, late))).mappings().all()
        same = [row for row in window if row["payee_key"] == payee or row["account_key"] == account]
        verdict = None
        if order.call_id:
            found = run(sa.select(calls.c.verdict).where(calls.c.id == order.call_id)).scalar()
            verdict = found or UNKNOWN_CALL
        return Facts(
            amount=order.amount,
            currency=order.currency,
            note=f"{order.note} {order.payee}",
            at=change.now,
            payee_is_known=bool(accounts),
            account_is_known=account in accounts,
            account_of_another=others is not None,
            call_verdict=verdict,
            sum_all=_total(window),
            sum_payee=_total(same),
            count=len(window),
        )

    def _keys(self, change: Transaction, order: Instruction) -> tuple[str, str]:
        """Keyed digests of the payee and the account, so that history needs neither."""
        key = change.secret("payees")

        def keyed(text: str) -> str:
            return hmac.digest(key, text.encode(), "sha256").hex()

        return keyed(payee_key(order.payee)), keyed("".join(filter(str.isalnum, order.account)))

    def note_call(self, call_id: str, verdict: str) -> None:
        """Keep what the guard of calls found of a call; a worse verdict stays."""
        with self.ledger.change() as change:
            run = change.connection.execute
            before = run(sa.select(calls.c.verdict).where(calls.c.id == call_id)).scalar()
            if before in self.policy.call_refuse:
                return
            run(sa.delete(calls).where(calls.c.id == call_id))
            run(sa.insert(calls).values(id=call_id, verdict=verdict, at=change.now))
            change.receipt("call", digest(call_id), verdict=verdict)

    # Looking.

    def get(self, request: str, person: sa.RowMapping | None) -> dict[str, Any]:
        """A request as a person may see it; None: as the desk itself does. Raises `Problem`."""
        found = self._look(sa.select(requests).where(requests.c.id == request, _seen_by(person)), person)
        if not found:
            raise not_found("request", request)
        return found[0]

    def newest(self, person: sa.RowMapping | None, limit: int = 100) -> list[dict[str, Any]]:
        """The requests that a person may see: those that are open first, then the newest."""
        # one that was denied under duress looks open to whoever watches, and so stands among the open ones
        is_quiet = sa.and_(requests.c.is_duress, requests.c.expires_at > self.ledger.clock.read().wall)
        is_open = sa.or_(requests.c.status.in_((PENDING, CLEARED)), is_quiet)
        order = (sa.case((is_open, 0), else_=1), requests.c.created_at.desc())
        return self._look(sa.select(requests).where(_seen_by(person)).order_by(*order).limit(limit), person)

    def _look(self, query: sa.Select[Any], person: sa.RowMapping | None) -> list[dict[str, Any]]:
        with suppress(Problem, TrustError):  # a frozen ledger can still be looked at
            self.expire()
        with self.database.read() as connection:
            run = connection.execute
            rows = run(query).mappings().all()
            mine = approvals.c.request_id.in_([row["id"] for row in rows])
            done = run(sa.select(approvals).where(mine).order_by(approvals.c.at)).mappings().all()
            names = {one.id: one.handle for one in run(sa.select(people.c.id, people.c.handle))}
        now = self.ledger.clock.read().wall
        return [
            _shown(row, [one for one in done if one["request_id"] == row["id"]], names, person, now) for row in rows
        ]

    def exact(self, request: str) -> bytes:
        """The exact bytes that are approved. Raises `Problem`."""
        with self.database.read() as connection:
            found = connection.execute(sa.select(requests.c.canonical).where(requests.c.id == request)).scalar()
        if found is None:
            raise not_found("request", request)
        return str(found).encode()

    # Answers.

    def begin_approval(self, request: str, person: sa.RowMapping) -> dict[str, Any]:
        """The options of an approver's passkey, and whose last digits are to be typed. Raises `Problem`."""
        now = self._now()
        row = self._answerable(request, person)
        asks = digits_asked(json.loads(row["canonical"]))
        told = bytes.fromhex(row["digest"])
        return self.passkeys.begin(now, APPROVE, told, person=person["id"], subject=request, asks=asks)

    def approve(
        self, request: str, person: sa.RowMapping, ceremony: Any, digits: Any, given: Any, *, duress: bool = False
    ) -> dict[str, Any]:
        """Approve with a passkey over the exact bytes, after typing the digits. Raises `Problem`.

        Under `duress` all looks the same to whoever watches, and everything of the request's is denied.
        """
        now = self._now()
        burnt = self.passkeys.burn(now, ceremony, APPROVE, person=person["id"], subject=request)
        row = self._answerable(request, person)
        self._check_digits(row, person, str(burnt["asks"]), digits)
        proof = self.passkeys.verify(burnt, given)
        with self.ledger.change() as change:
            row = self._locked(change, request)
            self._require_answerable(row, person, change)
            note_use(change.connection, proof)
            if duress:
                self._alarm(change, row, person)
            else:
                body = {"digest": row["digest"], "purpose": APPROVE, **proof.receipt()}
                self._approved(change, row, person, PASSKEY, proof.credential, body)
        return {"object": "answer", "id": request, "recorded": True}

    def approve_by_code(self, request: str, person: sa.RowMapping, digits: Any, code: Any) -> dict[str, Any]:
        """Approve with a one-time code, where the policy allows that fallback. Raises `Problem`."""
        self._now()
        row = self._answerable(request, person)
        self._check_digits(row, person, digits_asked(json.loads(row["canonical"])), digits)
        with self.ledger.change() as change:
            row = self._locked(change, request)
            self._require_answerable(row, person, change)
            by_code = sa.select(approvals).where(approvals.c.request_id == request, approvals.c.method == CODE)
            if not row["takes_codes"] or change.connection.execute(by_code).first() is not None:
                raise Problem("fallback_not_allowed", "this request takes no (further) code", "use your passkey")
            mine = one_time_secrets.c.person_id == person["id"]
            known = change.connection.execute(sa.select(one_time_secrets).where(mine)).mappings().first()
            step = (
                None
                if known is None
                else codes.step_of(known["secret"], str(code)[:12], change.now, known["last_step"])
            )
            if step is not None:
                change.connection.execute(sa.update(one_time_secrets).where(mine).values(last_step=step))
                body = {"digest": row["digest"], "person": person["id"]}
                self._approved(change, row, person, CODE, None, body)
        if step is None:
            self._wrong(request, person)
            raise Problem("wrong_code", "that is not your code of now", "wait for the next one, or use your passkey")
        return {"object": "answer", "id": request, "recorded": True}

    def deny(self, request: str, person: sa.RowMapping) -> dict[str, Any]:
        """Deny a request that waits or cools off. Raises `Problem`."""
        with self.ledger.change() as change:
            row = self._locked(change, request)
            may = _may_see(row, person) or person["id"] == row["filed_by"]
            if not may:
                raise not_found("request", request)
            if not deny_open(change, requests.c.id == request, "denied", person["id"]):
                raise Problem("request_over", f"the request is {row['status']}", "nothing is left to deny")
        return self.get(request, person)

    def _approved(
        self,
        change: Transaction,
        row: sa.RowMapping,
        person: sa.RowMapping,
        method: str,
        credential: str | None,
        body: dict[str, Any],
    ) -> None:
        """Keep an approval, and clear the request where it was the last one."""
        slot = _slot(row, person)
        values = {"request_id": row["id"], "person_id": person["id"], "slot": slot, "method": method}
        run = change.connection.execute
        run(sa.insert(approvals).values(**values, credential_id=credential, at=change.now))
        change.receipt("approved", row["id"], slot=slot, method=method, **body)
        if not self._missing(change, row):
            start = change.now + row["cooling_seconds"]
            until = start + self.policy.release_seconds
            cleared = {"status": CLEARED, "release_from": start, "release_until": until}
            run(sa.update(requests).where(requests.c.id == row["id"]).values(**cleared))
            change.receipt("cleared", row["id"], from_ms=int(1000 * start), until_ms=int(1000 * until))

    def _missing(self, change: Transaction, row: sa.RowMapping) -> bool:
        """Whether approvals are missing. Each counts while its person is listed and its device is not revoked."""
        query = (
            sa.select(approvals.c.slot, approvals.c.person_id)
            .join(people, people.c.id == approvals.c.person_id)
            .outerjoin(credentials, credentials.c.id == approvals.c.credential_id)
            .where(approvals.c.request_id == row["id"], people.c.ended_at.is_(None), credentials.c.revoked_at.is_(None))
        )
        found = change.connection.execute(query).all()
        requester = {one.person_id for one in found if one.slot == REQUESTER} & {row["requested_by"]}
        others = {one.person_id for one in found if one.slot == INDEPENDENT} - {row["requested_by"], row["filed_by"]}
        return not requester or len(others) < max(1, row["independent"])

    def _alarm(self, change: Transaction, row: sa.RowMapping, person: sa.RowMapping) -> None:
        """Deny the request and all that is open of its requester, filer, payee and account; administrators see why."""
        same = sa.or_(
            requests.c.id == row["id"],
            requests.c.requested_by == row["requested_by"],
            requests.c.filed_by == row["filed_by"],
            requests.c.payee_key == row["payee_key"],
            requests.c.account_key == row["account_key"],
        )
        is_open = sa.and_(requests.c.status.in_((PENDING, CLEARED)), same)
        change.connection.execute(sa.update(requests).where(is_open).values(is_duress=True))
        shown = {"request_id": row["id"], "person_id": person["id"], "slot": _slot(row, person), "method": PASSKEY}
        change.connection.execute(
            sa.insert(approvals).values(**shown, at=change.now)
        )  # a denied request has no use of it
        change.receipt("duress", row["id"], by=person["id"])
        deny_open(change, same, "duress", person["id"])

    def _check_digits(self, row: sa.RowMapping, person: sa.RowMapping, asks: str, digits: Any) -> None:
        wanted = digits_of(json.loads(row["canonical"]), asks)
        if not hmac.compare_digest(wanted.encode(), str(digits)[:20].strip().upper().encode()):
            self._wrong(row["id"], person)
            raise Problem("wrong_digits", f"this is not what the request says of the {asks}", "read the request again")

    def _wrong(self, request: str, person: sa.RowMapping) -> None:
        with self.ledger.change() as change:
            row = self._locked(change, request)
            count = row["wrong_digits"].get(person["id"], 0) + 1
            wrong = {**row["wrong_digits"], person["id"]: count}
            change.connection.execute(sa.update(requests).where(requests.c.id == request).values(wrong_digits=wrong))
            if count >= MOST_WRONG:
                deny_open(change, requests.c.id == request, "wrong digits", person["id"])

    # Release.

    def consume(self, request: str, exact: bytes) -> dict[str, Any]:
        """A release token for the exact bytes, once. Raises `Problem`."""
        token = f"rel_{secrets.token_urlsafe(32)}"
        with self.ledger.change() as change:
            self._expire(change)
            row = self._locked(change, request)
            problem = self._held_back(change, row, exact)
            if problem is None:
                expires = change.now + TOKEN_SECONDS
                self._consume(change, row, token, expires)
            else:
                change.receipt("refused", request, code=problem.code)
        if problem is not None:
            raise problem
        return {"object": "release", "id": request, "token": token, "digest": row["digest"], "expires_at": expires}

    def _held_back(self, change: Transaction, row: sa.RowMapping, exact: bytes) -> Problem | None:
        """Why a request is not released now; None where it is."""
        if row["status"] == CONSUMED:
            return Problem("already_consumed", "this request was released before", "file another one")
        if row["status"] in (DENIED, EXPIRED):
            return Problem("request_over", f"the request is {row['status']}", "file another one")
        if row["status"] != CLEARED or self._missing(change, row):
            return Problem("not_approved", "approvals are missing", "wait until its status is cleared")
        if change.now < row["release_from"]:
            wait = row["release_from"] - change.now
            return Problem("cooling_off", "the payee or the account is new", "come back later", retry_after=wait)
        if not hmac.compare_digest(exact, row["canonical"].encode()):
            return Problem("does_not_match", "these are not the bytes that were approved", "take them from .../exact")
        return None

    def _consume(self, change: Transaction, row: sa.RowMapping, token: str, expires: float) -> None:
        run = change.connection.execute
        mine = sa.and_(requests.c.id == row["id"], requests.c.status == CLEARED)
        done = run(sa.update(requests).where(mine).values(status=CONSUMED, ended_at=change.now)).rowcount
        if done != 1:
            raise Problem("already_consumed", "this request was released before", "file another one")
        run(sa.insert(releases).values(hash=digest(token), request_id=row["id"], expires_at=expires))
        known = {"payee_key": row["payee_key"], "account_key": row["account_key"], "first_at": change.now}
        run(self.database.upsert(payees, known))
        change.receipt("consumed", row["id"], digest=row["digest"], token=digest(token))

    def redeem(self, token: Any, exact: bytes) -> dict[str, Any]:
        """Spend a release token, once, for the bytes that it was given for. Raises `Problem`."""
        hashed = digest(str(token)[:200])
        with self.ledger.change() as change:
            run = change.connection.execute
            live = sa.and_(releases.c.hash == hashed, releases.c.used_at.is_(None), releases.c.expires_at > change.now)
            held = run(sa.select(releases).where(live)).mappings().first()
            row = None if held is None else self._locked(change, held["request_id"])
            if row is None or not hmac.compare_digest(hashlib.sha256(exact).hexdigest(), row["digest"]):
                raise Problem("does_not_match", "this token releases nothing", "each works once, for its own bytes")
            run(sa.update(releases).where(releases.c.hash == hashed).values(used_at=change.now))
            change.receipt("redeemed", row["id"], token=hashed)
        return {"object": "release", "id": row["id"], "redeemed": True}

    # Ends.

    def expire(self) -> int:
        """Deny what was not answered in time; how many."""
        with self.database.read() as connection:
            due = connection.execute(sa.select(requests.c.id).where(_due(self.ledger.clock.read().wall))).first()
        if due is None:
            return 0
        with self.ledger.change() as change:
            return self._expire(change)

    def _expire(self, change: Transaction) -> int:
        names = [row.id for row in change.connection.execute(sa.select(requests.c.id).where(_due(change.now)))]
        for name in names:
            values = {"status": EXPIRED, "ended_at": change.now}
            change.connection.execute(sa.update(requests).where(requests.c.id == name).values(**values))
            change.receipt("expired", name)
        return len(names)

    def forget(self, before: float) -> int:
        """Erase what requests said that ended before a time; how many. Receipts hold only digests."""
        over = sa.and_(requests.c.canonical.is_not(None), requests.c.ended_at < before)
        with self.database.write() as connection:
            return connection.execute(sa.update(requests).where(over).values(canonical=None)).rowcount

    # Parts.

    def _now(self) -> float:
        return self.ledger.clock.now().wall

    def _locked(self, change: Transaction, request: str) -> sa.RowMapping:
        query = self.database.locked(sa.select(requests).where(requests.c.id == request))
        row = change.connection.execute(query).mappings().first()
        if row is None:
            raise not_found("request", request)
        return row

    def _answerable(self, request: str, person: sa.RowMapping) -> sa.RowMapping:
        self.expire()
        with self.ledger.change() as change:
            row = self._locked(change, request)
            self._require_answerable(row, person, change)
        return row

    def _require_answerable(self, row: sa.RowMapping, person: sa.RowMapping, change: Transaction) -> None:
        if not _may_see(row, person):
            raise not_found("request", row["id"])
        if row["status"] != PENDING or change.now >= row["expires_at"]:
            raise Problem("request_over", "the request waits for no answer any more", "look at its status")
        if _slot(row, person) is None:
            raise Problem("not_yours", "this request is not yours to approve", "you can deny it")
        mine = sa.and_(approvals.c.request_id == row["id"], approvals.c.person_id == person["id"])
        if change.connection.execute(sa.select(approvals).where(mine)).first() is not None:
            raise Problem("already_answered", "you approved this request already", "it waits for others")


def _shown(
    row: sa.RowMapping,
    done: Sequence[sa.RowMapping],
    names: Mapping[str, str | None],
    person: sa.RowMapping | None,
    now: float,
) -> dict[str, Any]:
    """A request as a person sees it, with its approvals; names of people by their ids."""
    status = EXPIRED if row["status"] == PENDING and now >= row["expires_at"] else row["status"]
    # whoever looks over the shoulder of the one who was coerced must not learn of the alarm
    sees_alarm = person is None or ("admin" in person["roles"] and person["id"] != row["ended_by"])
    if row["is_duress"] and not sees_alarm:
        status = PENDING if now < row["expires_at"] else EXPIRED
    words = json.loads(row["canonical"]) if row["canonical"] else {}
    slot = None if person is None else _slot(row, person)
    mine = person is not None and any(one["person_id"] == person["id"] for one in done)
    shown = ("action", "amount", "currency", "payee", "account", "call_id", "note")
    return {
        "object": "request",
        "id": row["id"],
        "status": status,
        **{name: words.get(name) for name in shown},
        "requested_by": names.get(row["requested_by"]),
        "filed_by": names.get(row["filed_by"], row["filed_by"]),
        "tier": row["tier"],
        "reasons": row["reasons"],
        "needs": {REQUESTER: 1, INDEPENDENT: row["independent"]},
        "approvals": [
            {"by": names.get(one["person_id"]), "slot": one["slot"], "method": one["method"]} for one in done
        ],
        "takes_codes": row["takes_codes"],
        "my_part": slot if status == PENDING and not mine else None,
        "created_at": row["created_at"],
        "expires_at": row["expires_at"],
        "release_from": row["release_from"],
        "release_until": row["release_until"],
        **({"is_duress": row["is_duress"]} if sees_alarm else {}),
    }


def _due(now: float) -> Any:
    """Requests whose time is over: to be approved, or to be consumed."""
    unanswered = sa.and_(requests.c.status == PENDING, requests.c.expires_at <= now)
    unclaimed = sa.and_(requests.c.status == CLEARED, requests.c.release_until <= now)
    return sa.or_(unanswered, unclaimed)


def _slot(row: sa.RowMapping, person: sa.RowMapping) -> str | None:
    """What a person's approval of a request counts as; None: nothing."""
    if person["id"] == row["requested_by"]:
        return REQUESTER
    return INDEPENDENT if "approve" in person["roles"] and person["id"] != row["filed_by"] else None


def _may_see(row: sa.RowMapping, person: sa.RowMapping) -> bool:
    involved = person["id"] in (row["requested_by"], row["filed_by"])
    return involved or bool({"approve", "admin"} & set(person["roles"]))


def _seen_by(person: sa.RowMapping | None) -> sa.ColumnElement[bool]:
    """`_may_see` as a condition of a query; None: the desk itself, which sees all."""
    if person is None or {"approve", "admin"} & set(person["roles"]):
        return sa.true()
    return sa.or_(requests.c.requested_by == person["id"], requests.c.filed_by == person["id"])


def _total(rows: Any) -> Decimal:
    return sum((Decimal(repr(row["base_amount"])) for row in rows if row["base_amount"] is not None), Decimal(0))
