"""Webhooks as in Standard Webhooks: an outbox that jobs write to in their own transaction, and who sends what is in it.

An event is sent at least once, with the same webhook-id each time: at once, then after the seconds of `BACKOFF` until
the endpoint answers 2xx. Several servers share an outbox: each takes a delivery by moving its time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sorano.serve import outbound
from sorano.serve.config import Settings
from sorano.serve.database import Watcher, deliveries, owned_row, webhook_endpoints
from sorano.serve.jobs import queue_event
from sorano.serve.posts import Row
from sorano.web.database import Database, is_unavailable
from sorano.web.logs import log
from sorano.web.problems import Problem

EVENT_TYPES = ("video.completed", "video.failed")
BACKOFF = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)  # seconds after each attempt that failed
TAKEN_SECONDS = 60.0  # in which a server that took a delivery sends it, or another one may
SEND_SECONDS = 15.0
SENDERS = 4  # threads
OLD_SECRET_SECONDS = 86_400.0  # that the secret before a rotation signs too
MOST_ENDPOINTS = 20
MOST_URL = 2000  # characters
KEPT_SECONDS = 30 * 86_400.0  # of the delivery log


class Webhooks:
    """Endpoints, and the threads that send to them."""

    def __init__(self, database: Database, settings: Settings, backoff: tuple[float, ...] = BACKOFF) -> None:
        self.database, self.settings, self.backoff = database, settings, backoff
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._busy: set[str] = set()  # endpoints that a thread of this server sends to

    # Endpoints.

    def create(self, owner: str, body: Mapping[str, Any]) -> tuple[Row, str]:
        """A new endpoint, and its secret, which is shown this once."""
        values = self._values(body, {"name": str(body.get("name") or "webhook"), "event_types": list(EVENT_TYPES)})
        if "url" not in values:
            raise Problem("missing_required_parameter", "url is missing", "say where to send events", param="url")
        secret = new_secret()
        with self.database.write() as connection:
            count = sa.select(sa.func.count()).where(webhook_endpoints.c.owner == owner)
            if int(connection.execute(count).scalar_one()) >= MOST_ENDPOINTS:
                raise Problem("invalid_value", f"a key has at most {MOST_ENDPOINTS} endpoints", "delete one first")
            now = self.database.now(connection)
            name = f"whe_{secrets.token_hex(12)}"
            known = {"id": name, "owner": owner, "secret": secret, "created_at": now, "updated_at": now}
            connection.execute(sa.insert(webhook_endpoints).values(**known, **values))
            return self._get(connection, name, owner), secret

    def get(self, name: str, owner: str | None) -> Row:
        """An endpoint of an owner's."""
        with self.database.read() as connection:
            return self._get(connection, name, owner)

    def all(self, owner: str | None) -> list[Row]:
        """An owner's endpoints, oldest first."""
        with self.database.read() as connection:
            query = sa.select(webhook_endpoints).order_by(webhook_endpoints.c.created_at)
            if owner is not None:
                query = query.where(webhook_endpoints.c.owner == owner)
            return list(connection.execute(query).mappings())

    def update(self, name: str, owner: str | None, body: Mapping[str, Any]) -> Row:
        """Changes an endpoint's name, address or events."""
        values = self._values(body, {})
        with self.database.write() as connection:
            self._get(connection, name, owner)
            change = sa.update(webhook_endpoints).where(webhook_endpoints.c.id == name)
            connection.execute(change.values(**values, updated_at=self.database.now(connection)))
            return self._get(connection, name, owner)

    def delete(self, name: str, owner: str | None) -> None:
        """Removes an endpoint, and what was to be sent there."""
        with self.database.write() as connection:
            self._get(connection, name, owner)
            connection.execute(sa.delete(webhook_endpoints).where(webhook_endpoints.c.id == name))
            connection.execute(sa.delete(deliveries).where(deliveries.c.endpoint_id == name))

    def rotate(self, name: str, owner: str | None) -> tuple[Row, str]:
        """A new secret; for a day both sign."""
        secret = new_secret()
        with self.database.write() as connection:
            row, now = self._get(connection, name, owner), self.database.now(connection)
            values = {"secret": secret, "old_secret": row["secret"], "old_until": now + OLD_SECRET_SECONDS}
            change = sa.update(webhook_endpoints).where(webhook_endpoints.c.id == name)
            connection.execute(change.values(**values, updated_at=now))
            return self._get(connection, name, owner), secret

    def test(self, name: str, owner: str | None, kind: str) -> int:
        """Sends a made-up event at once and returns the status that came back."""
        if kind not in EVENT_TYPES:
            raise Problem("invalid_value", f"there is no event {kind[:80]!r}", f"events are {', '.join(EVENT_TYPES)}")
        row = self.get(name, owner)
        with self.database.write() as connection:
            now = self.database.now(connection)
            event_id = queue_event(connection, name, kind, {"id": "video_test"}, now)
            taken = sa.update(deliveries).where(deliveries.c.id == event_id).values(next_at=now + TAKEN_SECONDS)
            connection.execute(taken)
            delivery = connection.execute(sa.select(deliveries).where(deliveries.c.id == event_id)).mappings().one()
        status, error = self._send(row, delivery)
        self._note(delivery, status, error, again=False)
        if status is None:
            raise Problem("invalid_value", f"the endpoint cannot be reached: {error}", "check its address")
        return status

    def log_of(self, name: str, owner: str | None, limit: int = 100) -> list[Row]:
        """What was sent to an endpoint, newest first."""
        with self.database.read() as connection:
            self._get(connection, name, owner)
            query = sa.select(deliveries).where(deliveries.c.endpoint_id == name).order_by(deliveries.c.seq.desc())
            return list(connection.execute(query.limit(limit)).mappings())

    # Sending.

    def start(self) -> None:
        """Begins to send, to several endpoints at once: a slow one holds no other up."""
        for number in range(SENDERS):
            threading.Thread(target=self._run, name=f"webhooks-{number}", daemon=True).start()

    def stop(self) -> None:
        """Ends after the delivery at hand."""
        self._stopping.set()

    def send_due(self) -> int:
        """Sends what is due, and returns how many were tried."""
        count = 0
        while not self._stopping.is_set():
            taken = self._take()
            if taken is None:
                return count
            endpoint, delivery = taken
            try:
                status, error = self._send(endpoint, delivery)
                self._note(delivery, status, error)
            finally:
                with self._turn:
                    self._busy.discard(endpoint["id"])
            count += 1
        return count

    def _run(self) -> None:
        watcher, next_look = Watcher(self.database), 0.0
        while not self._stopping.is_set():
            watcher.wait(1.0)
            if time.monotonic() < next_look:
                time.sleep(0.05)
                continue
            next_look = time.monotonic() + 0.2
            try:
                self.send_due()
            except Exception as error:
                if not is_unavailable(error):
                    log("webhooks", level="error", error=f"{type(error).__name__}: {error}")
                self._stopping.wait(1.0)
        watcher.close()

    def _take(self) -> tuple[Row, Row] | None:
        """The next delivery that is due, for this server alone, with its endpoint, which no other thread sends to."""
        with self._turn:
            taken = self._taken()
            if taken is not None:
                self._busy.add(taken[0]["id"])
            return taken

    def _taken(self) -> tuple[Row, Row] | None:
        others = deliveries.c.endpoint_id.not_in(self._busy)
        with self.database.read() as connection:
            now = self.database.now(connection)
            due = sa.select(deliveries.c.seq).where(deliveries.c.next_at <= now, others).limit(1)
            if connection.execute(due).first() is None:
                return None
        with self.database.write(durable=False) as connection:
            now = self.database.now(connection)
            query = sa.select(deliveries).where(deliveries.c.next_at <= now, others)
            query = query.order_by(deliveries.c.next_at).limit(1)
            delivery = connection.execute(self.database.locked(query, skip_of=deliveries)).mappings().first()
            if delivery is None:
                return None
            same = deliveries.c.seq == delivery["seq"]
            connection.execute(sa.update(deliveries).where(same).values(next_at=now + TAKEN_SECONDS))
            query = sa.select(webhook_endpoints).where(webhook_endpoints.c.id == delivery["endpoint_id"])
            endpoint = connection.execute(query).mappings().first()
            if endpoint is None:
                connection.execute(sa.delete(deliveries).where(same))
                return None
            return endpoint, delivery

    def _send(self, endpoint: Row, delivery: Row) -> tuple[int | None, str | None]:
        """The status of the answer, or why there is none."""
        body = delivery["body"]
        now = int(time.time())
        used = [endpoint["secret"]]
        if endpoint["old_secret"] and (endpoint["old_until"] or 0) > now:
            used.append(endpoint["old_secret"])
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery["id"],
            "webhook-timestamp": str(now),
            "webhook-signature": " ".join(sign(one, delivery["id"], now, body) for one in used),
        }
        try:
            answer = outbound.ask(
                "POST",
                endpoint["url"],
                body.encode(),
                headers,
                allowed=self.settings.webhook_hosts,
                seconds=SEND_SECONDS,
            )
            return answer.status, None
        except (outbound.Refused, OSError, http.client.HTTPException, UnicodeError) as error:
            return None, f"{type(error).__name__}: {error}"[:300]

    def _note(self, delivery: Row, status: int | None, error: str | None, *, again: bool = True) -> None:
        """Writes down what came of an attempt, and when the next one is."""
        good = status is not None and is_taken(status)
        attempts = delivery["attempts"] + 1
        with self.database.write(durable=False) as connection:
            now = self.database.now(connection)
            gone = good or not again or status == 410 or attempts > len(self.backoff)
            values = {
                "attempts": attempts,
                "status_code": status,
                "error": error,
                "delivered_at": now if good else None,
                "next_at": None
                if gone
                else now + self.backoff[attempts - 1] * (0.9 + 0.2 * secrets.randbelow(100) / 100),
            }
            connection.execute(sa.update(deliveries).where(deliveries.c.seq == delivery["seq"]).values(**values))
            old = (deliveries.c.next_at.is_(None), deliveries.c.created_at < now - KEPT_SECONDS)
            connection.execute(sa.delete(deliveries).where(*old))
        log("webhook", level="info" if good else "warning", delivery=delivery["id"], status=status, error=error)

    def _values(self, body: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """What a body says of an endpoint, checked."""
        for name in body:
            if name not in ("name", "url", "event_types"):
                raise Problem(
                    "unknown_parameter",
                    f"there is no parameter {name[:80]!r}",
                    "known are name, url, event_types",
                    param=name[:80],
                )
        if body.get("name") is not None:
            if not isinstance(body["name"], str) or not 0 < len(body["name"]) <= 200:
                raise Problem("invalid_value", "name is text of 1 to 200 characters", "choose another", param="name")
            values["name"] = body["name"]
        if body.get("url") is not None:
            values["url"] = self._url(body["url"])
        if body.get("event_types") is not None:
            kinds = body["event_types"]
            if not isinstance(kinds, list) or not kinds or not all(isinstance(one, str) for one in kinds):
                raise Problem(
                    "invalid_type",
                    "event_types is a list of names",
                    "send [] of them, or leave it out",
                    param="event_types",
                )
            if wrong := [one for one in kinds if one not in EVENT_TYPES]:
                raise Problem(
                    "invalid_value",
                    f"there is no event {wrong[0][:80]!r}",
                    f"events are {', '.join(EVENT_TYPES)}",
                    param="event_types",
                )
            values["event_types"] = list(dict.fromkeys(kinds))
        return values

    def _url(self, given: Any) -> str:
        """An endpoint's address, checked."""
        if not isinstance(given, str) or len(given) > MOST_URL:
            said = f"url is an address of at most {MOST_URL} characters"
            raise Problem("invalid_value", said, "give a public https address", param="url")
        try:
            outbound.check_url(given, self.settings.webhook_hosts)
        except outbound.Refused as error:
            said = f"url is not taken: {error}"
            raise Problem("invalid_value", said, "give a public https address", param="url") from error
        return given

    def _get(self, connection: sa.Connection, name: str, owner: str | None) -> Row:
        return owned_row(connection, webhook_endpoints, name, owner, "webhook endpoint")


def is_taken(status: int) -> bool:
    """Whether an endpoint's answer says that it took an event."""
    return 200 <= status < 300


def new_secret() -> str:
    """A secret that signs: 256 random bits."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, name: str, at: int, body: str) -> str:
    """The signature of an event (Standard Webhooks, v1). Raises ValueError for what is no secret."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("a secret is whsec_ and base64") from error
    signed = hmac.new(key, f"{name}.{at}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()
