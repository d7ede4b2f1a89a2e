"""The directory: who people are, their passkeys, and how these come to be.

Nobody enrols a device alone. A ticket is signed by two people with their passkeys, and each gets one half of its code;
whoever has both halves enrols a device. The person that it is for is none of the two. A recovery is a ticket too: it
ends the older devices and denies whatever that person had open. A desk begins with three tickets or more, whose codes
the operator hands over by hand.

Not covered: two people who vouch for a third falsely.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from sorano.desk import codes
from sorano.desk.ledger import Ledger, Transaction
from sorano.desk.passkeys import ENROL, SPONSOR, Passkeys, note_use
from sorano.desk.tables import approvals, credentials, one_time_secrets, people, requests, sessions, tickets
from sorano.errors import RequestError
from sorano.files import canonical
from sorano.web.keys import digest
from sorano.web.problems import Problem, not_found

ROLES = ("file", "approve", "admin")
KINDS = ("enrol", "recover", "totp")
HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
FOUNDERS = 3  # two vouch, for a third
SPONSORS = 2
TICKET_SECONDS = 7 * 86_400.0
MOST_TRIES = 5  # of a code
COOKIE_BYTES = 32
_WITH_PERSON = sa.select(tickets, people.c.handle, people.c.name).join(people, people.c.id == tickets.c.person_id)


class Directory:
    """The people of one desk."""

    def __init__(self, ledger: Ledger, passkeys: Passkeys, session_seconds: float) -> None:
        self.ledger, self.passkeys, self.session_seconds = ledger, passkeys, session_seconds
        self.database = ledger.database

    # People.

    def found(self, founders: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Begin a desk with (handle, name) of its first administrators; return (handle, code). Raises RequestError."""
        given = list(founders)
        if len(given) < FOUNDERS or len({handle for handle, _ in given}) < len(given):
            raise RequestError(
                f"a desk begins with {FOUNDERS} people or more: two vouch for a third", "name each with --admin"
            )
        made = []
        with self.ledger.change() as change:
            if change.connection.execute(sa.select(people.c.id)).first() is not None:
                raise RequestError("this desk has people already", "an administrator enrols more on its page")
            for handle, name in given:
                person = self._add(change, handle, name, ROLES)
                ticket = self._ticket(change, "enrol", person, handle)
                halves = [_half(), _half()]
                change.connection.execute(
                    sa.update(tickets)
                    .where(tickets.c.id == ticket["id"])
                    .values(codes=[digest(one) for one in halves], sponsors=["operator", "operator"])
                )
                change.receipt("founded", person, roles=list(ROLES), ticket=ticket["id"])
                made.append((handle, f"{ticket['id']}.{'.'.join(halves)}"))
        return made

    def all(self) -> list[dict[str, Any]]:
        """Everybody, with how many passkeys they have."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(people).order_by(people.c.created_at)).mappings().all()
            live = sa.select(credentials.c.person_id, sa.func.count().label("n"))
            live = live.where(credentials.c.revoked_at.is_(None)).group_by(credentials.c.person_id)
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(live)}
        return [{**row, "passkeys": counts.get(row["id"], 0)} for row in rows]

    def by_handle(self, handle: str) -> sa.RowMapping:
        """A living entry. Raises `Problem`."""
        return self._one(people.c.handle == handle.strip().casefold(), handle)

    def by_id(self, person: str) -> sa.RowMapping:
        """A living entry. Raises `Problem`."""
        return self._one(people.c.id == person, person)

    def end(self, person: str, by: str) -> None:
        """End an entry: its devices, its sessions, its open requests. Raises `Problem`."""
        row = self.by_id(person)
        with self.ledger.change() as change:
            self.disarm(change, person)
            change.connection.execute(sa.update(people).where(people.c.id == person).values(ended_at=change.now))
            change.receipt("ended", row["id"], by=by)

    def forget(self, before: float) -> int:
        """Erase names and handles of people who ended before a time; how many."""
        with self.database.write() as connection:
            old = sa.and_(people.c.ended_at.is_not(None), people.c.ended_at < before, people.c.handle.is_not(None))
            return connection.execute(sa.update(people).where(old).values(handle=None, name=None)).rowcount

    # Tickets.

    def open_ticket(self, kind: Any, by: str, *, handle: Any, name: Any = None, roles: Any = None) -> dict[str, Any]:
        """A ticket that waits for its two sponsors; of kind enrol, with a new entry where there is none.

        Raises `Problem`.
        """
        if kind not in KINDS:
            raise Problem("invalid_value", "there is no such kind", f"it is one of {', '.join(KINDS)}", param="kind")
        handle = _handle(handle)
        with self.ledger.change() as change:
            row = change.connection.execute(sa.select(people).where(people.c.handle == handle)).mappings().first()
            if row is None and kind == "enrol":
                person = self._add(change, handle, name, _roles(roles))
                change.receipt("listed", person, roles=_roles(roles), by=by)
            elif row is None or row["ended_at"] is not None:
                raise not_found("person", handle)
            else:
                person = row["id"]
            ticket = self._ticket(change, kind, person, handle)
            change.receipt("ticket", ticket["id"], kind=kind, person=person, by=by)
        return self.shown(ticket["id"], by)

    def tickets(self, person: str) -> list[dict[str, Any]]:
        """Tickets that can still be used, as a person sees them; none of people who ended."""
        now = self.ledger.clock.read().wall
        live = sa.and_(tickets.c.used_at.is_(None), tickets.c.expires_at > now, people.c.ended_at.is_(None))
        with self.database.read() as connection:
            rows = connection.execute(_WITH_PERSON.where(live).order_by(tickets.c.created_at)).mappings().all()
        return [_ticket_shown(row, person) for row in rows]

    def shown(self, ticket: str, viewer: str) -> dict[str, Any]:
        """A ticket as pages show it to a person. Raises `Problem`."""
        which = sa.and_(tickets.c.id == ticket, people.c.ended_at.is_(None))
        with self.database.read() as connection:
            row = connection.execute(_WITH_PERSON.where(which)).mappings().first()
        if row is None:
            raise not_found("ticket", ticket)
        return _ticket_shown(row, viewer)

    def begin_sponsoring(self, ticket: str, by: str) -> dict[str, Any]:
        """The options of a sponsor's passkey. Raises `Problem`."""
        now = self._now()
        row = self._open_row(now, ticket)
        self._may_sponsor(row, by)
        told = hashlib.sha256(row["statement"].encode()).digest()
        options = self.passkeys.begin(now, SPONSOR, told, person=by, subject=ticket)
        return {**options, "statement": row["statement"]}

    def sponsor(self, ticket: str, by: str, ceremony: Any, given: Any) -> str:
        """Vouch for a ticket; the sponsor's half of its code. Raises `Problem`."""
        burnt = self.passkeys.burn(self._now(), ceremony, SPONSOR, person=by, subject=ticket)
        proof = self.passkeys.verify(burnt, given)
        half = _half()
        with self.ledger.change() as change:
            row = self._locked(change, ticket)
            self._may_sponsor(row, by)
            note_use(change.connection, proof)
            values = {"sponsors": [*row["sponsors"], by], "codes": [*row["codes"], digest(half)]}
            change.connection.execute(sa.update(tickets).where(tickets.c.id == ticket).values(**values))
            told = hashlib.sha256(row["statement"].encode()).hexdigest()
            change.receipt("sponsored", ticket, digest=told, purpose=SPONSOR, **proof.receipt())
        return half

    def begin_use(self, code: Any) -> dict[str, Any]:
        """What the device that is enrolled needs: options for a passkey, or a secret for codes. Raises `Problem`."""
        now = self._now()
        row = self._by_code(now, code)
        person = self.by_id(row["person_id"])
        if row["kind"] == "totp":
            secret = row["secret"] or codes.new_secret()
            with self.database.write() as connection:
                connection.execute(sa.update(tickets).where(tickets.c.id == row["id"]).values(secret=secret))
            return {"kind": "totp", "secret": secret, "address": codes.address_of(secret, person["handle"])}
        told = hashlib.sha256(row["statement"].encode()).digest()
        options = self.passkeys.begin_enrolment(now, told, person["id"], person["handle"], row["id"])
        return {"kind": row["kind"], "person": person["handle"], "name": person["name"], **options}

    def use(self, code: Any, ceremony: Any, given: Any) -> dict[str, Any]:
        """Enrol a device with both halves of a ticket's code. Raises `Problem`."""
        now = self._now()
        row = self._by_code(now, code)
        if row["kind"] == "totp":
            return self._use_code(now, row, given)
        burnt = self.passkeys.burn(now, ceremony, ENROL, person=row["person_id"], subject=row["id"])
        made = self.passkeys.verify_enrolment(burnt, given)
        with self.ledger.change() as change:
            row = self._locked(change, row["id"])
            if row["kind"] == "recover":
                self.disarm(change, row["person_id"])
            same = sa.or_(credentials.c.id == made["id"], credentials.c.public_key == made["public_key"])
            if change.connection.execute(sa.select(credentials.c.id).where(same)).first() is not None:
                raise Problem("already_answered", "this passkey is enrolled already", "use another device")
            change.connection.execute(
                sa.insert(credentials).values(**made, person_id=row["person_id"], created_at=change.now)
            )
            self._spend(change, row)
            change.receipt(
                "enrolled",
                row["person_id"],
                ticket=row["id"],
                kind=row["kind"],
                sponsors=row["sponsors"],
                credential=made["id"],
                public_key=made["public_key"],
            )
        return {"person": self.by_id(row["person_id"])["handle"], "kind": row["kind"]}

    def _use_code(self, now: float, row: sa.RowMapping, given: Any) -> dict[str, Any]:
        step = codes.step_of(row["secret"] or codes.new_secret(), str(given)[:12], now, -1)
        if step is None:
            raise Problem("wrong_code", "that is not the code of now", "type the six digits that the app shows")
        with self.ledger.change() as change:
            row = self._locked(change, row["id"])
            mine = one_time_secrets.c.person_id == row["person_id"]
            change.connection.execute(sa.delete(one_time_secrets).where(mine))
            change.connection.execute(
                sa.insert(one_time_secrets).values(
                    person_id=row["person_id"], secret=row["secret"], last_step=step, created_at=change.now
                )
            )
            self._spend(change, row)
            change.receipt("codes", row["person_id"], ticket=row["id"], sponsors=row["sponsors"])
        return {"person": self.by_id(row["person_id"])["handle"], "kind": "totp"}

    # Sessions.

    def start_session(self, person: str) -> str:
        """A session's secret, for the cookie. Raises `Problem` where the clock was moved."""
        secret = secrets.token_urlsafe(COOKIE_BYTES)
        with self.database.write(durable=False) as connection:
            values = {"hash": digest(secret), "person_id": person, "expires_at": self._now() + self.session_seconds}
            connection.execute(sa.insert(sessions).values(**values))
        return secret

    def session(self, secret: str | None) -> sa.RowMapping:
        """Who is signed in; also while the clock is moved, for what is there can be looked at. Raises `Problem`."""
        now = self.ledger.clock.read().wall
        gone = Problem("not_signed_in", "nobody is signed in", "sign in with your passkey")
        if not secret:
            raise gone
        with self.database.read() as connection:
            query = sa.select(sessions).where(sessions.c.hash == digest(secret), sessions.c.expires_at > now)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise gone
        if row["expires_at"] - now < self.session_seconds / 2:
            with self.database.write(durable=False) as connection:
                mine = sa.update(sessions).where(sessions.c.hash == row["hash"])
                connection.execute(mine.values(expires_at=now + self.session_seconds))
        return self.by_id(row["person_id"])

    def end_session(self, secret: str | None) -> None:
        """Sign out."""
        with self.database.write(durable=False) as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.hash == digest(secret or "")))

    def disarm(self, change: Transaction, person: str) -> None:
        """Revoke a person's devices, codes and sessions, and deny what they asked for or approved and is still open."""
        run = change.connection.execute
        live = sa.and_(credentials.c.person_id == person, credentials.c.revoked_at.is_(None))
        run(sa.update(credentials).where(live).values(revoked_at=change.now))
        run(sa.delete(one_time_secrets).where(one_time_secrets.c.person_id == person))
        run(sa.delete(sessions).where(sessions.c.person_id == person))
        approved = sa.select(approvals.c.request_id).where(approvals.c.person_id == person)
        theirs = sa.or_(requests.c.requested_by == person, requests.c.id.in_(approved))
        deny_open(change, theirs, "disarmed")

    # Parts.

    def _now(self) -> float:
        return self.ledger.clock.now().wall

    def _one(self, which: Any, name: str) -> sa.RowMapping:
        with self.database.read() as connection:
            query = sa.select(people).where(which, people.c.ended_at.is_(None))
            row = connection.execute(query).mappings().first()
        if row is None:
            raise not_found("person", name)
        return row

    def _add(self, change: Transaction, handle: str, name: Any, roles: Iterable[str]) -> str:
        if not isinstance(name, str) or not 0 < len(name.strip()) <= 100 or not name.isprintable():
            raise Problem(
                "invalid_value", "a name has 1 to 100 printable characters", "give the person's name", param="name"
            )
        person = f"per_{secrets.token_hex(8)}"
        values = {"id": person, "handle": _handle(handle), "name": name.strip(), "roles": list(roles)}
        change.connection.execute(sa.insert(people).values(**values, created_at=change.now))
        return person

    def _ticket(self, change: Transaction, kind: str, person: str, handle: str) -> dict[str, Any]:
        name = f"tic_{secrets.token_hex(8)}"
        words = {"type": "sorano desk ticket 1", "id": name, "kind": kind, "person": person, "handle": handle}
        row = {
            "id": name,
            "kind": kind,
            "person_id": person,
            "statement": canonical({**words, "nonce": secrets.token_hex(16)}).decode(),
            "sponsors": [],
            "codes": [],
            "created_at": change.now,
            "expires_at": change.now + TICKET_SECONDS,
        }
        change.connection.execute(sa.insert(tickets).values(**row))
        return row

    def _open_row(self, now: float, ticket: str) -> sa.RowMapping:
        with self.database.read() as connection:
            row = connection.execute(sa.select(tickets).where(tickets.c.id == ticket)).mappings().first()
        if row is None:
            raise not_found("ticket", ticket)
        return _usable(row, now)

    def _locked(self, change: Transaction, ticket: str) -> sa.RowMapping:
        """A ticket that can still be used, in a change (changes come one after the other)."""
        query = self.database.locked(sa.select(tickets).where(tickets.c.id == ticket))
        return _usable(change.connection.execute(query).mappings().one(), change.now)

    def _may_sponsor(self, row: sa.RowMapping, by: str) -> None:
        if by == row["person_id"]:
            raise Problem("not_yours", "nobody vouches for themselves", "ask a colleague")
        if by in row["sponsors"] or len(row["sponsors"]) >= SPONSORS:
            raise Problem("already_answered", "you vouched already, or two others did", "nothing is left to do")
        roles = [self.by_id(one)["roles"] for one in (*row["sponsors"], by)]
        if len(roles) == SPONSORS and not any("admin" in one for one in roles):
            raise Problem("not_yours", "one of the two must be an administrator", "ask one")

    def _by_code(self, now: float, code: Any) -> sa.RowMapping:
        """The ticket of a whole code: its id and both halves. Raises `Problem`; five wrong tries end the ticket."""
        name, *halves = re.split(r"[.\s]+", str(code)[:200].strip())
        wrong = Problem("wrong_code", "that code opens nothing", "both sponsors' halves are needed, in their order")
        with self.database.write() as connection:
            row = connection.execute(sa.select(tickets).where(tickets.c.id == name)).mappings().first()
            if row is None or row["attempts"] >= MOST_TRIES or len(row["codes"]) < SPONSORS:
                raise wrong
            given = [digest(half.upper()) for half in halves]
            good = len(given) == SPONSORS and all(map(hmac.compare_digest, given, row["codes"]))
            if not good:
                tried = {"attempts": row["attempts"] + 1}
                connection.execute(sa.update(tickets).where(tickets.c.id == name).values(**tried))
        if not good:
            raise wrong
        return _usable(row, now)

    def _spend(self, change: Transaction, row: sa.RowMapping) -> None:
        mine = sa.and_(tickets.c.id == row["id"], tickets.c.used_at.is_(None))
        spent = sa.update(tickets).where(mine).values(used_at=change.now, secret=None)
        if not change.connection.execute(spent).rowcount:
            raise Problem("ceremony_over", "this code was used already", "ask for another enrolment")


def deny_open(change: Transaction, which: Any, reason: str, by: str = "desk") -> int:
    """Deny the requests that are open among some; how many."""
    is_open = sa.and_(requests.c.status.in_(("pending", "cleared")), which)
    names = [row.id for row in change.connection.execute(sa.select(requests.c.id).where(is_open))]
    for name in names:
        values = {"status": "denied", "ended_at": change.now, "ended_by": by}
        change.connection.execute(sa.update(requests).where(requests.c.id == name).values(**values))
        change.receipt("denied", name, by=by, reason=reason)
    return len(names)


def _ticket_shown(row: sa.RowMapping, viewer: str) -> dict[str, Any]:
    """A ticket with its person's handle and name, as pages show it to somebody."""
    can_vouch = len(row["sponsors"]) < SPONSORS and viewer not in (row["person_id"], *row["sponsors"])
    return {
        "id": row["id"],
        "kind": row["kind"],
        "person": row["handle"],
        "name": row["name"],
        "sponsors": len(row["sponsors"]),
        "needs": SPONSORS,
        "can_vouch": can_vouch,
        "expires_at": row["expires_at"],
    }


def _usable(row: sa.RowMapping, now: float) -> sa.RowMapping:
    if row["used_at"] is not None or now >= row["expires_at"]:
        raise Problem("ceremony_over", "this enrolment was used or has expired", "ask for another one")
    return row


def _half() -> str:
    """Half a code: 50 bits, letters and digits that are not taken for each other."""
    return "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(10))


def _handle(given: Any) -> str:
    handle = given.strip().casefold() if isinstance(given, str) else ""
    if not HANDLE.fullmatch(handle):
        raise Problem(
            "invalid_value", "a handle has 1 to 40 of a-z, 0-9, dot, dash", "write it like a.chan", param="handle"
        )
    return handle


def _roles(given: Any) -> list[str]:
    if not isinstance(given, list) or not given or any(one not in ROLES for one in given):
        raise Problem("invalid_value", "a person has a role or more", f"they are {', '.join(ROLES)}", param="roles")
    return sorted(set(given), key=ROLES.index)
