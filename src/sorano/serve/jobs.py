"""The job table: a queue whose jobs are leased, fenced by an epoch, and never lost.

A job is durable when `submit` returns. A worker claims it and gets a lease with a new epoch; whatever it writes later
counts only while the job still has that epoch, so that a worker that was thought dead cannot publish beside its
successor: a job may run more than once, and is published once. Cancelling or deleting a job raises its epoch too, which
is how its worker learns of it.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from sorano.serve.database import (
    CHANNEL,
    accounts,
    audit,
    deliveries,
    jobs,
    once,
    owned_row,
    webhook_endpoints,
    workers,
)
from sorano.serve.posts import (
    COMPLETED,
    DAY,
    FAILED,
    QUEUED,
    RUNNING,
    Batch,
    KeyLimits,
    NewJob,
    Post,
    Row,
    audit_lines,
    count_more,
)
from sorano.serve.queue_order import QueueOrder, work_of
from sorano.web.database import Database
from sorano.web.problems import Problem, not_found

CANDIDATES = 16  # of the queue's head, among which a worker prefers the model that it has loaded
GROUP_SECONDS = 60.0  # that this preference may let another key, or an older job, wait
WORKER_SECONDS = 60.0  # after which a silent worker is forgotten

MOST_BATCH = 64  # POSTs that are written in one transaction
Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Lease:
    """A worker's right to a job, as long as the job has this epoch."""

    job_id: str
    epoch: int
    row: Row


@dataclass
class Swept:
    """What a look after the queue did."""

    requeued: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)


def _reorders(call: Call) -> Call:
    """An operation after which the order of the queue is another."""

    @wraps(call)
    def reordering(table: Jobs, *args: Any, **words: Any) -> Any:
        try:
            return call(table, *args, **words)
        finally:
            table.order.forget()

    return cast(Call, reordering)


class Jobs:
    """The table's operations, each one transaction. Raises `Problem` for what cannot be done."""

    def __init__(
        self,
        database: Database,
        *,
        most_queued: int = 5000,
        most_attempts: int = 3,
        keep_seconds: float | None = None,
    ) -> None:
        self.database = database
        self.most_queued, self.most_attempts, self.keep_seconds = most_queued, most_attempts, keep_seconds
        self.order = QueueOrder(database)
        self._gate, self._turn = threading.Lock(), threading.Lock()
        self._waiting: list[Post] = []

    # What clients do.

    def submit(
        self,
        new: Sequence[NewJob],
        *,
        owner: str,
        limits: KeyLimits | None = None,
        body_hash: str = "",
        idempotency_key: str | None = None,
        is_retry: bool = False,
    ) -> list[Row]:
        """The jobs of one POST, durable when this returns; the ones of before where the POST is a repetition.

        What several threads submit at the same time is written in one transaction.
        """
        post = Post(tuple(new), owner, limits or KeyLimits(), body_hash, idempotency_key, is_retry)
        with self._gate:
            self._waiting.append(post)
        with self._turn:  # who comes first writes for all that wait
            while not post.is_done:  # more than one batch may be before it
                with self._gate:
                    batch, self._waiting = self._waiting[:MOST_BATCH], self._waiting[MOST_BATCH:]
                self._write(batch)
        if post.error is not None:
            raise post.error
        return post.rows

    def get(self, job_id: str, owner: str | None) -> Row:
        """A job of an owner, or of anybody (None). Raises `Problem` where there is none."""
        with self.database.read() as connection:
            return self._get(connection, job_id, owner)

    def many(self, ids: Sequence[str]) -> list[Row]:
        """Jobs by their ids; those that are gone are left out."""
        with self.database.read() as connection:
            return self._of_ids(connection, ids)

    def page(
        self,
        owner: str | None,
        *,
        after: str | None,
        limit: int,
        ascending: bool,
        statuses: Sequence[str] = (),
    ) -> tuple[list[Row], bool]:
        """A page of jobs, of some statuses or of all, and whether there are more."""
        with self.database.read() as connection:
            query = sa.select(jobs)
            if statuses:
                query = query.where(jobs.c.status.in_(statuses))
            if owner is not None:
                query = query.where(jobs.c.owner == owner)
            if after:
                place = self._place(connection, after, owner)
                query = query.where(jobs.c.seq > place if ascending else jobs.c.seq < place)
            query = query.order_by(jobs.c.seq if ascending else jobs.c.seq.desc()).limit(limit + 1)
            found: list[Row] = list(connection.execute(query).mappings())
        return found[:limit], len(found) > limit

    @_reorders
    def cancel(self, job_id: str, owner: str | None, *, by: str | None = None) -> Row:
        """Stops a job: at once where it is queued, within a step where it runs. One that has ended stays as it is.

        `by` is who the audit names, the job's owner unless told; so in `delete` and `change`.
        """
        with self.database.write() as connection:
            row = self._get(connection, job_id, owner, lock=True)
            if row["status"] in (COMPLETED, FAILED):
                if row["error_code"] == "cancelled":
                    return row
                raise Problem("wrong_state", f"{job_id} is {row['status']}", "only jobs that wait or run are cancelled")
            self._fail(connection, row, "cancelled", "the job was cancelled", by=by)
            return self._get(connection, job_id, None)

    @_reorders
    def delete(self, job_id: str, owner: str | None, *, by: str | None = None) -> Row:
        """Removes a job's record, whatever it is doing; its files go next. Returns what it was."""
        with self.database.write() as connection:
            row = self._get(connection, job_id, owner, lock=True)
            self._forget(connection, row, "delete", by or row["owner"])
            return row

    @_reorders
    def change(
        self, job_id: str, owner: str | None, *, by: str | None = None, limits: KeyLimits | None = None, **values: Any
    ) -> Row:
        """Changes a queued job: its words, its priority, whether it is paused. Raises `Problem` for another one, for
        other words where a run has begun (it goes on with those that it has), and for more than `limits` leave."""
        with self.database.write() as connection:
            row = self._get(connection, job_id, owner, lock=True)
            self._require_queued(row)
            if values.get("words", row["words"]) != row["words"] and row["epoch"] > 0:
                hint = "cancel it, and send the other request"
                raise Problem("wrong_state", f"{job_id} was begun, and goes on with the request that it has", hint)
            if "video_seconds" in values:
                more = values["video_seconds"] - row["video_seconds"]
                count_more(self.database, connection, row["owner"], limits or KeyLimits(), more)
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**values))
            detail: dict[str, Any] = {"what": sorted(values)}
            if "words" in values and not values["words"].get("private"):
                detail["prompt"] = values["shown"].get("prompt") if "shown" in values else None
            _log(connection, self.database.now(connection), by or row["owner"], "change", [job_id], detail)
            self.database.notify(connection, CHANNEL)
            return self._get(connection, job_id, None)

    @_reorders
    def move(self, job_id: str, owner: str | None, *, to_top: bool) -> Row:
        """Moves a queued job before the one that is ahead of it among the owner's, or before all of these."""
        with self.database.write() as connection:
            row = self._get(connection, job_id, owner, lock=True)
            self._require_queued(row)
            same = sa.and_(
                jobs.c.owner == row["owner"],
                jobs.c.status == QUEUED,
                jobs.c.priority == row["priority"],
                jobs.c.position < row["position"],
            )
            order = jobs.c.position if to_top else jobs.c.position.desc()
            other = connection.execute(sa.select(jobs).where(same).order_by(order).limit(1)).mappings().first()
            if other is not None:
                place = other["position"]
                if to_top:
                    place -= 1e-3
                else:
                    swapped = sa.update(jobs).where(jobs.c.id == other["id"]).values(position=row["position"])
                    connection.execute(swapped)
                connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(position=place))
            return self._get(connection, job_id, None)

    # What workers do.

    @_reorders
    def claim(self, worker: str, lease_seconds: float, loaded: str | None = None) -> Lease | None:
        """The next job, leased; None where there is none. Order: priority, fair shares of the keys, position."""
        with self.database.write(durable=False) as connection:
            now = self.database.now(connection)
            busy = (
                sa.select(jobs.c.owner, sa.func.count().label("count"))
                .where(jobs.c.status == RUNNING)
                .group_by(jobs.c.owner)
                .subquery()
            )
            query = (
                sa.select(jobs, accounts.c.served.label("served"), accounts.c.concurrency.label("concurrency"))
                .join(accounts, accounts.c.owner == jobs.c.owner)
                .outerjoin(busy, busy.c.owner == jobs.c.owner)
                .where(jobs.c.status == QUEUED, ~jobs.c.is_paused)
                .where(
                    sa.or_(
                        accounts.c.concurrency.is_(None),
                        accounts.c.concurrency > sa.func.coalesce(busy.c.count, 0),
                    )
                )
                .order_by(jobs.c.priority.desc(), accounts.c.served, jobs.c.position)
                .limit(CANDIDATES if loaded else 1)
            )
            candidates = list(connection.execute(self.database.locked(query, skip_of=jobs)).mappings())
            if not candidates:
                return None
            row = _preferred(candidates, loaded, now)
            if row["concurrency"] is not None and not self._may_run(connection, row["owner"], row["concurrency"]):
                return None  # another worker took this key's last place meanwhile
            values = {
                "status": RUNNING,
                "epoch": row["epoch"] + 1,
                "attempts": row["attempts"] + 1,
                "worker": worker,
                "lease_until": now + lease_seconds,
                "started_at": row["started_at"] or now,
                "stage": "start",
                "progress": 0,
                "step": None,
                "preview_step": None,
            }
            connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**values))
            served = sa.update(accounts).where(accounts.c.owner == row["owner"])
            connection.execute(served.values(served=accounts.c.served + work_of(row)))
            return Lease(row["id"], row["epoch"] + 1, self._get(connection, row["id"], None))

    def _may_run(self, connection: sa.Connection, owner: str, most: int) -> bool:
        """Whether a key has fewer jobs than it may run, counted while no other worker counts."""
        connection.execute(self.database.locked(sa.select(accounts.c.owner).where(accounts.c.owner == owner)))
        count = sa.select(sa.func.count()).where(jobs.c.owner == owner, jobs.c.status == RUNNING)
        return int(connection.execute(count).scalar_one()) < most

    def is_held(self, lease: Lease) -> bool:
        """Whether a lease still counts: False after a cancellation, a deletion, or another worker's claim."""
        with self.database.read() as connection:
            return connection.execute(sa.select(jobs.c.id).where(*_held(lease))).first() is not None

    def is_published(self, lease: Lease) -> bool:
        """Whether a lease's files are a finished job's; waits for a publication that the database is at."""
        with self.database.write(durable=False) as connection:
            connection.execute(self.database.locked(sa.select(jobs.c.id).where(jobs.c.id == lease.job_id)))
            return _is_published(connection, lease)

    def renew(self, lease: Lease, lease_seconds: float, told: Mapping[str, Any]) -> bool:
        """A heartbeat with what the run tells of itself; False where the lease is lost."""
        with self.database.write(durable=False) as connection:
            until = self.database.now(connection) + lease_seconds
            changed = connection.execute(sa.update(jobs).where(*_held(lease)).values(lease_until=until, **told))
            return changed.rowcount == 1

    @_reorders
    def publish(
        self, lease: Lease, files: dict[str, Any], shown: dict[str, Any], result: dict[str, Any], variants: str
    ) -> bool:
        """The job is done and its files are in their place; False, and nothing, where the lease is lost.

        Again for a lease that has published changes nothing and is True: a worker may not hear of its own commit.
        """
        with self.database.write() as connection:
            now = self.database.now(connection)
            values = {
                "status": COMPLETED,
                "progress": 100,
                "stage": None,
                "lease_until": None,
                "completed_at": now,
                "expires_at": None if self.keep_seconds is None else now + self.keep_seconds,
                "files": files,
                "shown": shown,
                "result": result,
                "variants": variants,
            }
            if connection.execute(sa.update(jobs).where(*_held(lease)).values(**values)).rowcount != 1:
                return _is_published(connection, lease)
            self._tell(connection, lease.row["owner"], lease.job_id, "video.completed", now)
            _log(connection, now, lease.row["owner"], "complete", [lease.job_id], {"epoch": lease.epoch})
            return True

    @_reorders
    def fail(self, lease: Lease, code: str, message: str) -> bool:
        """The job ends with an error; False where the lease is lost."""
        with self.database.write() as connection:
            row = connection.execute(self.database.locked(sa.select(jobs).where(*_held(lease)))).mappings().first()
            if row is None:
                return False
            self._fail(connection, row, code, message)
            return True

    @_reorders
    def release(self, lease: Lease) -> bool:
        """Gives a job back to the queue, to go on from its work folder; it is not counted as an attempt."""
        with self.database.write() as connection:
            back = {"status": QUEUED, "lease_until": None, "worker": None, "stage": None}
            changed = sa.update(jobs).where(*_held(lease)).values(**back, attempts=jobs.c.attempts - 1)
            self.database.notify(connection, CHANNEL)
            return connection.execute(changed).rowcount == 1

    def claim_variants(self, lease_seconds: float) -> Row | None:
        """A finished job whose thumbnail and sprite sheet this worker makes now; None where there is none."""
        waiting = sa.select(jobs).where(jobs.c.status == COMPLETED, jobs.c.variants == "pending")
        waiting = waiting.order_by(jobs.c.seq).limit(1)
        with self.database.read() as connection:
            if connection.execute(waiting).first() is None:
                return None
        with self.database.write(durable=False) as connection:
            row = connection.execute(self.database.locked(waiting, skip_of=jobs)).mappings().first()
            if row is None:
                return None
            number = row["variant_attempts"] + 1
            until = self.database.now(connection) + lease_seconds
            values = {"variants": "making", "variant_attempts": number, "lease_until": until}
            connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**values))
            return self._get(connection, row["id"], None)

    def add_variants(self, row: Row, files: dict[str, Any], state: str = "done") -> bool:
        """Records a finished job's thumbnail and sprite sheet; False where another worker makes them by now."""
        with self.database.write(durable=False) as connection:
            same = (
                jobs.c.id == row["id"],
                jobs.c.variants == "making",
                jobs.c.variant_attempts == row["variant_attempts"],
            )
            values = {"files": {**row["files"], **files}, "variants": state, "lease_until": None}
            return connection.execute(sa.update(jobs).where(*same).values(**values)).rowcount == 1

    # What a server looks after.

    def sweep(self) -> Swept:
        """Puts jobs of lost workers back, or fails them; ends what is past its deadline; removes what has expired."""
        swept = Swept()
        with self.database.write() as connection:
            now = self.database.now(connection)
            for row in self._where(connection, jobs.c.status.in_((QUEUED, RUNNING)), jobs.c.deadline_at < now):
                self._fail(connection, row, "deadline_exceeded", "the job was not done by its deadline; give it longer")
                swept.failed.append(row["id"])
            for row in self._where(connection, jobs.c.status == RUNNING, jobs.c.lease_until < now):
                if row["attempts"] >= self.most_attempts:
                    said = f"its worker was lost {row['attempts']} times; see the workers' logs"
                    self._fail(connection, row, "worker_lost", said)
                    swept.failed.append(row["id"])
                    continue
                back = {"status": QUEUED, "lease_until": None, "worker": None, "stage": None}
                connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**back))
                swept.requeued.append(row["id"])
            if self.keep_seconds is not None:  # of what ended before that was told, or by a command that was not told
                ended = (jobs.c.status.in_((COMPLETED, FAILED)), jobs.c.expires_at.is_(None))
                until = jobs.c.completed_at + self.keep_seconds
                connection.execute(sa.update(jobs).where(*ended).values(expires_at=until))
            for row in self._where(connection, jobs.c.status.in_((COMPLETED, FAILED)), jobs.c.expires_at < now):
                self._forget(connection, row, "expire", row["owner"])
                swept.expired.append(row["id"])
            for row in self._where(connection, jobs.c.variants == "making", jobs.c.lease_until < now):
                state = "failed" if row["variant_attempts"] >= self.most_attempts else "pending"
                connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(variants=state))
            connection.execute(sa.delete(workers).where(workers.c.seen_at < now - WORKER_SECONDS))
            connection.execute(sa.delete(once).where(once.c.created_at < now - DAY))
            if swept.requeued:
                self.database.notify(connection, CHANNEL)
        if swept.requeued or swept.failed:
            self.order.forget()
        return swept

    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        with self.database.read() as connection:
            query = sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)
            return {str(status): int(count) for status, count in connection.execute(query)}

    # Within a transaction.

    def _write(self, batch: Sequence[Post]) -> None:
        """Writes some POSTs; each gets its rows, or its error."""
        try:
            with self.database.write() as connection:
                written = Batch(self.database, connection, batch, self.most_queued)
                written.write()
            self.order.add(written.made)
        except BaseException as error:
            for post in batch:
                post.rows, post.error = [], error
            if not isinstance(error, Exception):
                raise
        finally:
            for post in batch:
                post.is_done = True  # whatever happened: nobody waits for it

    def _fail(self, connection: sa.Connection, row: Row, code: str, message: str, by: str | None = None) -> None:
        now = self.database.now(connection)
        values = {
            "status": FAILED,
            "error_code": code,
            "error_message": message,
            "completed_at": now,
            "lease_until": None,
            "epoch": row["epoch"] + 1,
            "stage": None,
            "expires_at": None if self.keep_seconds is None else now + self.keep_seconds,
        }
        connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**values))
        self._tell(connection, row["owner"], row["id"], "video.failed", now)
        _log(
            connection,
            now,
            by or row["owner"],
            "cancel" if code == "cancelled" else "fail",
            [row["id"]],
            {"code": code},
        )

    def _forget(self, connection: sa.Connection, row: Row, action: str, by: str) -> None:
        connection.execute(sa.delete(jobs).where(jobs.c.id == row["id"]))
        detail = {"status": row["status"], "model": row["model"]}
        _log(connection, self.database.now(connection), by, action, [row["id"]], detail)

    def _tell(self, connection: sa.Connection, owner: str, job_id: str, kind: str, now: float) -> None:
        """Puts an event into the outbox, for each endpoint that wants it."""
        wanted = sa.select(webhook_endpoints).where(webhook_endpoints.c.owner == owner)
        for endpoint in connection.execute(wanted).mappings():
            if kind in endpoint["event_types"]:
                queue_event(connection, endpoint["id"], kind, {"id": job_id}, now)

    def _place(self, connection: sa.Connection, job_id: str, owner: str | None) -> float:
        """Where a job is, or was, among all: a list goes on after one that was deleted since it was read."""
        query = sa.select(jobs.c.seq).where(jobs.c.id == job_id)
        made = sa.select(audit.c.seq).where(audit.c.subject == job_id, audit.c.action == "create")
        if owner is not None:
            query, made = query.where(jobs.c.owner == owner), made.where(audit.c.owner == owner)
        place = connection.execute(query).scalar()
        if place is not None:
            return float(place)
        line = connection.execute(made).scalar()
        if line is None:
            raise not_found("video", job_id)
        # what was made before it has lines before its own in the audit: its place is behind the last of these
        earlier = sa.select(sa.func.max(jobs.c.seq)).join(audit, audit.c.subject == jobs.c.id)
        earlier = earlier.where(audit.c.action == "create", audit.c.seq < line)
        return float(connection.execute(earlier).scalar() or 0) + 0.5

    def _require_queued(self, row: Row) -> None:
        if row["status"] != QUEUED:
            raise Problem("wrong_state", f"{row['id']} is {row['status']}", "only a job that waits can be changed")

    def _where(self, connection: sa.Connection, *conditions: Any) -> list[Row]:
        query = self.database.locked(sa.select(jobs).where(*conditions), skip_of=jobs)
        return list(connection.execute(query).mappings())

    def _get(self, connection: sa.Connection, job_id: str, owner: str | None, *, lock: bool = False) -> Row:
        return owned_row(connection, jobs, job_id, owner, "video", lock=self.database.locked if lock else None)

    def _of_ids(self, connection: sa.Connection, ids: Sequence[str]) -> list[Row]:
        query = sa.select(jobs).where(jobs.c.id.in_(ids)).order_by(jobs.c.seq)
        return list(connection.execute(query).mappings())


def queue_event(connection: sa.Connection, endpoint_id: str, kind: str, data: dict[str, Any], now: float) -> str:
    """Puts an event into the outbox, to be sent when the transaction has committed; returns its webhook-id."""
    name = f"evt_{secrets.token_hex(12)}"
    event = {"id": name, "object": "event", "created_at": int(now), "type": kind, "data": data}
    values = {"id": name, "endpoint_id": endpoint_id, "type": kind, "body": json.dumps(event)}
    connection.execute(sa.insert(deliveries).values(**values, next_at=now, created_at=now, attempts=0))
    return name


def _held(lease: Lease) -> tuple[Any, ...]:
    return jobs.c.id == lease.job_id, jobs.c.epoch == lease.epoch, jobs.c.status == RUNNING


def _is_published(connection: sa.Connection, lease: Lease) -> bool:
    """Of all that ends a lease, only its own publication leaves the job completed in the lease's epoch."""
    own = (jobs.c.id == lease.job_id, jobs.c.epoch == lease.epoch, jobs.c.status == COMPLETED)
    return connection.execute(sa.select(jobs.c.id).where(*own)).first() is not None


def _preferred(candidates: Sequence[Row], loaded: str | None, now: float) -> Row:
    """The first, or one of the model that is loaded where this keeps nobody waiting for long."""
    first = candidates[0]
    if loaded is None or first["preset"] == loaded or now - first["created_at"] > GROUP_SECONDS:
        return first
    for row in candidates[1:]:
        if row["priority"] != first["priority"] or row["served"] > first["served"] + GROUP_SECONDS:
            continue
        if row["preset"] == loaded:
            return row
    return first


def _log(
    connection: sa.Connection, now: float, owner: str, action: str, ids: Sequence[str], detail: dict[str, Any]
) -> None:
    """Lines of the audit log."""
    connection.execute(sa.insert(audit), audit_lines(now, owner, action, ids, detail))
