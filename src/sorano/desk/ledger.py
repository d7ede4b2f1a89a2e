"""The ledger: every change of the desk is one transaction, each with its receipts in an append-only hash chain.

    line = canonical JSON of {seq, at (ms), kind, subject, body, previous}      hash = SHA-256(line)

A receipt holds random names, digests, public keys and assertions, never a payee, an account or a person's name. Once a
day, and at each export, the end of the chain is signed with this user's keys (`sorano keys`).

The end of the chain is also noted outside the database (the anchor). A database that was restored from a copy is behind
its anchor: then nothing is written until `sorano desk accept`, which denies all that was open.

Not covered: somebody who controls this machine can rewrite database and anchor; signatures that were exported before,
kept elsewhere, show it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sorano.desk.clock import GuardedClock, Moment
from sorano.desk.tables import receipts, seals, secrets_table
from sorano.errors import TrustError
from sorano.files import canonical, write_atomic
from sorano.trust.provenance.keys import Identity
from sorano.web.database import Database
from sorano.web.problems import Problem

BEGIN = "0" * 64  # the hash before the first receipt
SEAL, HEAD, TIMELINE = "sorano desk seal 1", "sorano desk head 1", "sorano desk call 1"  # what is signed
LOCK = 0x50A1  # of PostgreSQL: one writer of the chain at a time


@dataclass(frozen=True)
class End:
    """The end of the chain."""

    seq: int = 0
    hash: str = BEGIN


@dataclass
class Transaction:
    """A transaction of the desk: its connection, its time, and the receipts that it writes."""

    connection: sa.Connection
    moment: Moment
    end: End
    first: End = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.end

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self.moment.wall

    def receipt(self, kind: str, subject: str, /, **body: Any) -> int:
        """Append a receipt; return its number."""
        words = {
            "seq": self.end.seq + 1,
            "at": int(self.now * 1000),
            "kind": kind,
            "subject": subject,
            "body": body,
            "previous": self.end.hash,
        }
        line = canonical(words).decode()
        self.end = End(self.end.seq + 1, hashlib.sha256(line.encode()).hexdigest())
        self.connection.execute(sa.insert(receipts).values(seq=self.end.seq, line=line, hash=self.end.hash))
        return self.end.seq

    def secret(self, name: str) -> bytes:
        """A secret of this desk by its name, 32 bytes; made where there is none yet."""
        query = sa.select(secrets_table.c.value).where(secrets_table.c.name == name)
        found = self.connection.execute(query).scalar()
        if found is None:
            found = secrets.token_hex(32)
            self.connection.execute(sa.insert(secrets_table).values(name=name, value=found))
        return bytes.fromhex(found)


class Ledger:
    """The chain of one database, and its anchor."""

    def __init__(self, database: Database, anchor: Path, clock: GuardedClock | None = None) -> None:
        self.database, self.anchor, self.clock = database, anchor, clock or GuardedClock()
        self._turn = threading.RLock()

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """A transaction that may write receipts, one at a time.

        Raises `Problem` where the clock was moved or the database is behind its anchor.
        """
        with self._turn:
            with self.database.write() as connection:
                self._lock(connection)
                noted = read_anchor(self.anchor)
                moment = self.clock.now(noted.moment if noted else None)
                end = self._end(connection)
                self._check(connection, noted, end)
                change = Transaction(connection, moment, end)
                yield change
            if change.end != change.first:
                write_anchor(self.anchor, ChainAnchor(change.end, moment))

    def check(self) -> None:
        """Raises `Problem` where the ledger cannot be written."""
        with self.change():
            pass

    def accept(self, act: Callable[[Transaction], None]) -> None:
        """Take the database and the clock as they are; `act` denies what is open and writes the receipt."""
        with self._turn:
            with self.database.write() as connection:
                self._lock(connection)
                moment = self.clock.read()
                change = Transaction(connection, moment, self._end(connection))
                act(change)
            write_anchor(self.anchor, ChainAnchor(change.end, moment))

    def seal(self, signer: Identity) -> int | None:
        """Sign the end of the chain if a day has passed since the last seal; return its number, None if not."""
        with self._turn, self.database.write() as connection:
            self._lock(connection)
            end = self._end(connection)
            day = f"{datetime.fromtimestamp(self.clock.read().wall, UTC):%Y-%m-%d}"
            last = connection.execute(sa.select(seals).order_by(seals.c.seq.desc()).limit(1)).mappings().first()
            if end.seq == 0 or (last is not None and (last["day"] >= day or last["seq"] == end.seq)):
                return None
            line = signed({"type": SEAL, "day": day, "seq": end.seq, "hash": end.hash}, signer)
            connection.execute(sa.insert(seals).values(seq=end.seq, day=day, line=line))
            return end.seq

    def export(self, signer: Identity) -> bytes:
        """Every receipt and seal, one JSON object a line, and a signature over all of it as the last line."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(receipts.c.seq, receipts.c.line).order_by(receipts.c.seq)).all()
            kept = {row.seq: row.line for row in connection.execute(sa.select(seals.c.seq, seals.c.line))}
        lines = []
        for seq, line in rows:
            lines.append(line)
            if seq in kept:
                lines.append(kept[seq])
        body = "".join(f"{line}\n" for line in lines).encode()
        last = hashlib.sha256(rows[-1].line.encode()).hexdigest() if rows else BEGIN
        head = {
            "type": HEAD,
            "lines": len(lines),
            "sha256": hashlib.sha256(body).hexdigest(),
            "seq": rows[-1].seq if rows else 0,
            "hash": last,
            "at": f"{datetime.fromtimestamp(self.clock.read().wall, UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        return body + signed(head, signer).encode() + b"\n"

    def _lock(self, connection: sa.Connection) -> None:
        if not self.database.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))

    def _end(self, connection: sa.Connection) -> End:
        query = sa.select(receipts.c.seq, receipts.c.hash).order_by(receipts.c.seq.desc()).limit(1)
        row = connection.execute(query).first()
        return End() if row is None else End(row.seq, row.hash)

    def _check(self, connection: sa.Connection, noted: ChainAnchor | None, end: End) -> None:
        """Raises `Problem` where the chain does not go on from the anchor; one without an anchor must be new."""
        known = noted.end if noted is not None else End()
        found = connection.execute(sa.select(receipts.c.hash).where(receipts.c.seq == known.seq)).scalar()
        if end.seq < known.seq or (known.seq > 0 and found != known.hash) or (noted is None and end.seq > 0):
            raise Problem(
                "rolled_back",
                "the database is not the one that this desk wrote last: it may have been restored from a copy",
                "find out why, then: sorano desk accept",
            )


# The note outside the database.


@dataclass(frozen=True)
class ChainAnchor:
    """The end of the chain as it was noted, and when."""

    end: End
    moment: Moment


def read_anchor(path: Path) -> ChainAnchor | None:
    """What is noted; None before the first receipt. Raises TrustError where the note cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TrustError(f"{path} cannot be read: {error}", "restore it, or: sorano desk accept") from error
    try:
        words = json.loads(text)
        moment = Moment(float(words["at"]), float(words["steady"]), str(words["boot"]))
        return ChainAnchor(End(int(words["seq"]), str(words["hash"])), moment)
    except (ValueError, KeyError, TypeError) as error:
        raise TrustError(f"{path} is no anchor of a desk: {error}", "restore it, or: sorano desk accept") from error


def write_anchor(path: Path, anchor: ChainAnchor) -> None:
    """Note the end of the chain, on the disk when this returns."""
    words = {
        "seq": anchor.end.seq,
        "hash": anchor.end.hash,
        "at": anchor.moment.wall,
        "steady": anchor.moment.steady,
        "boot": anchor.moment.boot,
    }
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps(words), private=True, durable=True)


def signed(words: dict[str, Any], signer: Identity) -> str:
    """Words as canonical JSON with a certificate chain and its signature over all the rest."""
    full = {**words, "chain": signer.chain_pem}
    signature = base64.b64encode(signer.sign(canonical(full))).decode()
    return canonical({**full, "signature": signature}).decode()
