"""The order in which workers take what waits, as `Jobs.claim` finds it one job at a time: priority, then the fair
shares of the keys, then age.

A claim adds the job's work to its key's account and takes the key with the least. So each waiting job has a tag, its
key's account plus the work of that key's jobs before it, and the jobs of one priority are taken by tag and position:
one look at the queue orders all of it. The look is good for a moment, and knows at once of what this process changes.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import sqlalchemy as sa

from sorano.serve.database import accounts, jobs
from sorano.serve.posts import QUEUED, RUNNING, Row
from sorano.web.database import Database

LOOK_SECONDS = 0.5  # that a look is good for: what other servers and workers do is seen after it
LOOK_SHARE = 0.05  # of the time that looks may take: at a long queue they come less often
LEAST_WORK = 0.1  # seconds that a claim counts at least

Place = tuple[int, float]  # minus the priority, the position: within a key
Key = tuple[bool, int, float, float]  # whether its key runs all it may, minus the priority, the tag, the position


def work_of(row: Row) -> float:
    """The seconds that a claim of a job counts for its key."""
    return _work(row["planned_seconds"], row["video_seconds"])


@dataclass
class Share:
    """One key: its account, and its waiting jobs in order."""

    served: float
    most: int | None = None  # jobs that it may run at once
    running: int = 0
    waiting: int = 0  # paused ones too
    places: list[Place] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # the work of each job and of those before it

    @property
    def is_busy(self) -> bool:
        """Whether the key runs as many jobs as it may: what others ask for is taken before."""
        return self.most is not None and self.running >= self.most

    def key_of(self, place: Place) -> Key:
        """Where a job with this place stands among those of all keys."""
        number = bisect_left(self.places, place)
        before = self.ends[number - 1] if number else 0.0
        return self.is_busy, place[0], self.served + before, place[1]


@dataclass
class Look:
    """The queue at one moment."""

    until: float = 0.0  # by the monotonic clock
    running: float = 0.0  # seconds of work that are left of what runs
    shares: dict[str, Share] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)  # of jobs that are not paused, in the order that they are taken
    planned: list[float] = field(default_factory=list)  # of these, seconds
    ahead: list[float] = field(default_factory=list)  # of these, seconds of those before

    def share(self, owner: str) -> Share:
        """A key's share."""
        return self.shares.setdefault(owner, Share(0.0))

    def wake(self, owner: str) -> None:
        """A key that was idle begins where the least served of those that wait is (`Batch` does the same)."""
        share = self.share(owner)
        if not share.waiting and not share.running:
            share.served = max(
                share.served, min((one.served for one in self.shares.values() if one.waiting), default=0.0)
            )

    def before(self, owner: str, place: Place) -> tuple[int, float]:
        """How many jobs are taken before one at this place, and about how many seconds of work they are."""
        number = bisect_left(self.keys, self.share(owner).key_of(place))
        if len(self.ahead) <= len(self.planned):
            self.ahead = list(accumulate(self.planned, initial=0.0))
        return number, self.running + self.ahead[number]

    def add(self, row: Row) -> None:
        """Takes in a job at the end of its key's."""
        self.wake(row["owner"])
        share, place = self.share(row["owner"]), _place(row)
        share.waiting += 1
        if row["is_paused"]:
            return
        key = share.key_of(place)
        share.places.append(place)
        share.ends.append((share.ends[-1] if share.ends else 0.0) + work_of(row))
        number = bisect_right(self.keys, key)
        self.keys.insert(number, key)
        self.planned.insert(number, row["planned_seconds"] or 0.0)
        self.ahead = []


class QueueOrder:
    """The places of waiting jobs, for many threads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._turn = threading.Lock()
        self._look: Look | None = None

    def forget(self) -> None:
        """The order was changed: the next question looks anew."""
        with self._turn:
            self._look = None

    def add(self, rows: Sequence[Row]) -> None:
        """These were put into the queue, in this order."""
        with self._turn:
            for row in rows:
                if self._look is None:
                    return
                places = self._look.share(row["owner"]).places
                if places and places[-1] >= _place(row):  # by its priority it is not the last of its key's
                    self._look = None
                else:
                    self._look.add(row)

    def before(self, rows: Sequence[Row]) -> dict[str, tuple[int, float]]:
        """Of each waiting job: how many are taken before it, and about how many seconds of work they are."""
        waiting = [row for row in rows if row["status"] == QUEUED]
        if not waiting:
            return {}
        with self._turn:
            look = self._now()
            return {row["id"]: look.before(row["owner"], _place(row)) for row in waiting}

    def before_new(self, owner: str, priority: int = 0) -> tuple[int, float]:
        """The same of a job that a key would submit now."""
        with self._turn:
            self._now().wake(owner)
            return self._now().before(owner, (-priority, float("inf")))

    def _now(self) -> Look:
        if self._look is None or time.monotonic() > self._look.until:
            began = time.monotonic()
            self._look = self._read()
            end = time.monotonic()
            self._look.until = end + max(LOOK_SECONDS, (end - began) / LOOK_SHARE)
        return self._look

    def _read(self) -> Look:
        look = Look()
        columns = (jobs.c.owner, jobs.c.planned_seconds, jobs.c.progress)
        shares = (accounts.c.owner, accounts.c.served, accounts.c.concurrency)
        asked = (jobs.c.owner, jobs.c.priority, jobs.c.position, jobs.c.is_paused, *columns[1:2], jobs.c.video_seconds)
        queued = sa.select(*asked).where(jobs.c.status == QUEUED).order_by(jobs.c.priority.desc(), jobs.c.position)
        with self.database.read() as connection:
            look.shares = {owner: Share(served, most) for owner, served, most in connection.execute(sa.select(*shares))}
            running = connection.execute(sa.select(*columns).where(jobs.c.status == RUNNING)).all()
            waiting = connection.execute(queued).all()
        for owner, planned, progress in running:
            look.share(owner).running += 1
            look.running += (planned or 0.0) * (1 - progress / 100)
        found: list[tuple[Key, float]] = []
        for owner, priority, position, is_paused, planned, video_seconds in waiting:
            share = look.share(owner)
            share.waiting += 1
            if is_paused:
                continue
            done = share.ends[-1] if share.ends else 0.0
            found.append(((share.is_busy, -priority, share.served + done, position), planned or 0.0))
            share.places.append((-priority, position))
            share.ends.append(done + _work(planned, video_seconds))
        found.sort()
        look.keys, look.planned = [key for key, _ in found], [seconds for _, seconds in found]
        return look


def _work(planned_seconds: float | None, video_seconds: float) -> float:
    return max(LEAST_WORK, planned_seconds or video_seconds)


def _place(row: Row) -> Place:
    return -row["priority"], row["position"]
