"""Progress as server-sent events: one look at the database for all listeners of this server, several times a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from sorano.serve import views
from sorano.serve.jobs import Jobs
from sorano.serve.posts import COMPLETED, FAILED, Row
from sorano.web.database import is_unavailable
from sorano.web.logs import log_traceback
from sorano.web.problems import Problem

LOOK_SECONDS = 0.25
STOP = "stop"  # what a stream is told when the server ends: the client asks again elsewhere
ALIVE_SECONDS = 15.0  # between two lines to a listener that hears nothing else: proxies close what is silent


class Events:
    """The listeners of one server, by the job that they listen to."""

    def __init__(self, jobs: Jobs, shown: Callable[[list[Row]], list[dict[str, Any]]], most_listeners: int) -> None:
        self.jobs, self.shown, self.most_listeners = jobs, shown, most_listeners
        self._listeners: dict[str, set[asyncio.Queue[tuple[str, dict[str, Any]]]]] = {}
        self._seen: dict[str, dict[str, Any]] = {}  # what the listeners of each job were told last
        self._task: asyncio.Task[None] | None = None
        self.is_stopping = False  # set, every stream ends within a look

    @property
    def count(self) -> int:
        """Listeners at this moment."""
        return sum(len(queues) for queues in self._listeners.values())

    def require_room(self) -> None:
        """Raises `Problem` where there are as many listeners as this server takes."""
        if self.count >= self.most_listeners:
            raise Problem("too_many_listeners", "too many clients listen", "poll the video", retry_after=5)

    async def stream(self, job_id: str, first: dict[str, Any], *, in_chinese: bool = False) -> AsyncIterator[str]:
        """The lines that a listener gets: the state of now, each change, and the end."""
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(maxsize=64)
        self._listeners.setdefault(job_id, set()).add(queue)
        self._seen.pop(job_id, None)  # `first` may be older than that: who comes anew is told what there is
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            number, (kind, video) = 0, (_kind(first["status"]), first)
            while True:
                number += 1
                told = views.in_chinese(video) if in_chinese and video["object"] == "video" else video
                yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(told)}\n\n"
                if kind != "video.progress" or self.is_stopping:
                    return
                while True:
                    try:
                        kind, video = await asyncio.wait_for(queue.get(), ALIVE_SECONDS)
                        break
                    except TimeoutError:
                        yield ": alive\n\n"
                if kind == STOP:
                    return
        finally:
            queues = self._listeners.get(job_id, set())
            queues.discard(queue)
            if not queues:
                self._listeners.pop(job_id, None)

    async def close(self) -> None:
        """Ends the look at the database."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while self._listeners and not self.is_stopping:
            ids = list(self._listeners)
            try:
                found = await run_in_threadpool(self._look, ids)
            except Exception as error:
                if not is_unavailable(error):
                    log_traceback(error)
                await asyncio.sleep(1.0)
                continue
            for job_id in ids:
                video = found.get(job_id)
                if video is None:
                    self._tell(job_id, "video.deleted", {"id": job_id, "object": "video.deleted", "deleted": True})
                elif _changed(self._seen.get(job_id), video):
                    self._tell(job_id, _kind(video["status"]), video)
            self._seen = found
            await asyncio.sleep(LOOK_SECONDS)
        for job_id in list(self._listeners):
            self._tell(job_id, STOP, {})

    def _look(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        return {video["id"]: video for video in self.shown(self.jobs.many(ids))}

    def _tell(self, job_id: str, kind: str, video: dict[str, Any]) -> None:
        for queue in self._listeners.get(job_id, ()):
            if queue.full():  # a slow listener loses the oldest: only the newest state matters
                queue.get_nowait()
            queue.put_nowait((kind, video))


def _kind(status: str) -> str:
    return {COMPLETED: "video.completed", FAILED: "video.failed"}.get(status, "video.progress")


def _changed(before: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Whether there is something to tell beside the seconds that go by."""
    if before is None:
        return True
    return any(before[name] != value for name, value in now.items() if name != "seconds_left")
