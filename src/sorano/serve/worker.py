"""A worker: takes jobs from the queue, one at a time, and makes them with one `Engine`.

While a job runs, a thread of its own keeps the lease, tells how far the job is, and sets the run's `Cancel` when the
lease is lost: after a cancellation, a deletion, or when another worker took the job over. What the run writes then is
removed, and nothing of it is published.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sorano.errors import Cancelled, SoranoError
from sorano.files import is_full
from sorano.listener import Cancel, Listener
from sorano.serve.assets import Assets
from sorano.serve.checks import request_of
from sorano.serve.config import Settings
from sorano.serve.database import MIGRATIONS, Watcher, workers
from sorano.serve.jobs import Jobs, Lease
from sorano.serve.maker import Made, Maker, error_words, load_maker
from sorano.serve.policy import load_classifier
from sorano.serve.store import PREVIEW, VIDEO, Store, described
from sorano.trust import sandbox
from sorano.web.database import Database, is_unavailable
from sorano.web.logs import log, log_traceback
from sorano.web.problems import Problem, as_parameters, code_of

if TYPE_CHECKING:
    from sorano.plan import Machine, RunEstimate
    from sorano.resolve import Job
    from sorano.video import Frames

IDLE_SECONDS = 2.0  # between two looks at an empty queue where nothing says that it changed
WATCH_SECONDS = 0.1  # between two looks whether the lease still counts
TELL_SECONDS = 0.25  # between two reports of progress
PREVIEW_SECONDS = 1.0  # between two preview pictures
VARIANT_SECONDS = 60.0  # that a thumbnail and a sprite sheet may take beyond a lease
PREVIEW_SHARE = 0.02  # of a run's time that previews may take
PREVIEW_SIDE = 256  # pixels
PREVIEW_QUALITY = 85  # of WebP: the mark can be read from it
STAGES = {"denoise": (0, 80), "decode": (80, 95), "film": (0, 95)}  # of a run, in per cent


@dataclass
class Service:
    """The parts that server and worker share."""

    settings: Settings
    database: Database
    store: Store
    jobs: Jobs
    assets: Assets

    @classmethod
    def open(cls, settings: Settings) -> Service:
        """Opens the store and the database, its schema brought up to date. Raises the errors of both, and RequestError
        for a classifier of pictures that is not there."""
        from sorano.web.migrate import migrate

        if settings.picture_classifier:
            load_classifier(settings.picture_classifier)
        store = Store(settings.data)
        store.prepare()
        database = Database(settings.database)
        migrate(database, MIGRATIONS)
        jobs = Jobs(
            database,
            most_queued=settings.most_queued,
            most_attempts=settings.most_attempts,
            keep_seconds=settings.keep_seconds,
        )
        return cls(settings, database, store, jobs, Assets(database, store, jobs, settings))


@dataclass
class JobListener(Listener):
    """Holds what a run tells, for the thread that reports it; `words` are the fields of its `Request`."""

    folder: Path
    words: dict[str, Any] = field(default_factory=dict)
    shows_previews: bool = True
    notes: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    _mark_id: int | None = None  # of all previews of the run
    _next_preview: float = field(default_factory=lambda: time.monotonic() + PREVIEW_SECONDS / 2)

    def planned(self, job: Job, machine: Machine, estimate: RunEstimate) -> None:
        self.told |= {"planned_seconds": round(estimate.seconds, 3), "num_steps": job.request.num_steps}

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        first, last = STAGES.get(stage, (0, 95))
        reached = first + (last - first) * done // max(1, total)
        self.told |= {"stage": stage, "progress": max(reached, self.told.get("progress", 0))}
        if stage == "denoise":
            self.told |= {"step": done, "num_steps": total}

    def preview(self, step: int, num_steps: int, look: Callable[[], Frames]) -> None:
        if not self.shows_previews or time.monotonic() < self._next_preview:
            return
        began = time.monotonic()
        with suppress(OSError, ValueError):  # no room for it, or it is too narrow for a mark: the run goes on
            write_preview(look(), self.folder / PREVIEW, self._marked)
            self.told |= {"preview_step": step}
        cost = time.monotonic() - began
        self._next_preview = time.monotonic() + max(PREVIEW_SECONDS, cost / PREVIEW_SHARE)

    def _marked(self, frame_HWC: Frames) -> Frames:
        """A preview as it may be shown: everybody who sees it can learn that AI made it."""
        from sorano.trust.release import new_id
        from sorano.trust.seal import marked_preview

        if self._mark_id is None:
            self._mark_id = new_id()
        return marked_preview(request_of(self.words), frame_HWC, self._mark_id)


class Keeper:
    """The thread beside a run: keeps the lease, reports progress, and cancels the run when the lease is lost."""

    def __init__(self, jobs: Jobs, lease: Lease, cancel: Cancel, listener: JobListener, lease_seconds: float) -> None:
        self.jobs, self.lease, self.cancel, self.listener = jobs, lease, cancel, listener
        self.lease_seconds = lease_seconds
        self.is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        good_until = time.monotonic() + self.lease_seconds
        told: dict[str, Any] = {}
        next_tell = time.monotonic() + TELL_SECONDS
        next_beat = time.monotonic() + self.lease_seconds / 3
        while not self._stop.wait(WATCH_SECONDS):
            now = time.monotonic()
            try:
                fresh = dict(self.listener.told)
                if now >= next_beat or (now >= next_tell and fresh != told):
                    held = self.jobs.renew(self.lease, self.lease_seconds, fresh)
                    told, next_tell, next_beat = fresh, now + TELL_SECONDS, now + self.lease_seconds / 3
                    good_until = now + self.lease_seconds
                else:
                    held = self.jobs.is_held(self.lease)
            except Exception as error:  # a database that is away comes back, or the lease runs out
                if not is_unavailable(error) or now >= good_until:
                    log("lease", level="error", job=self.lease.job_id, error=error_words(error))
                    held = False
                else:
                    continue
            if not held:
                self.is_lost = True
                self.cancel.set()
                return


class Worker:
    """The loop: claim, make, publish."""

    def __init__(self, service: Service, maker: Maker | None = None, *, parent: int | None = None) -> None:
        self.service, self.settings = service, service.settings
        self.jobs, self.store = service.jobs, service.store
        self.maker = maker or load_maker(service.settings.maker)
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.parent = parent  # the server that started it: when that is gone, it finishes its job and ends
        self._stopping = threading.Event()
        self._left = threading.Event()
        self._hurried = threading.Event()  # the job at hand is given back
        self._cancel: Cancel | None = None
        self._job_id: str | None = None
        self._machine: dict[str, Any] | None = None
        self._metrics: dict[str, float] = {}

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self, *, now: bool = False) -> None:
        """Take no further job; `now`, also give the one at hand back to the queue, within a step."""
        self._stopping.set()
        if now:
            self._hurried.set()
            if self._cancel is not None:
                self._cancel.set()

    def run(self) -> None:
        """Works until it is stopped."""
        threading.Thread(target=self._beat, name="worker", daemon=True).start()
        watcher = Watcher(self.service.database)
        self._machine = self.maker.machine()
        log("worker ready", worker=self.id, device=self._machine.get("device"))
        while not self._stopping.is_set():
            try:
                if self.work_once():
                    continue
                watcher.wait(IDLE_SECONDS)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                log("database away", level="warning", worker=self.id, error=type(error).__name__)
                self._stopping.wait(0.5)
        watcher.close()
        self._leave()

    def work_once(self) -> bool:
        """Makes one job, or one finished job's variants; False where there is nothing to do."""
        lease = self.jobs.claim(self.id, self.settings.lease_seconds, self.maker.loaded)
        if lease is not None:
            self._make(lease)
            return True
        return self._make_variants()

    def _make(self, lease: Lease) -> None:
        self._job_id = lease.job_id
        began = time.time()
        wait = began - lease.row["created_at"]
        log("job started", job=lease.job_id, epoch=lease.epoch, worker=self.id, waited=round(wait, 3))
        folder = self.store.work_folder(lease.job_id, lease.epoch)
        self._cancel = cancel = Cancel()
        if self._hurried.is_set():
            cancel.set()
        listener = JobListener(folder, lease.row["words"], shows_previews=not self.settings.picture_classifier)
        keeper = Keeper(self.jobs, lease, cancel, listener, self.settings.lease_seconds)
        try:
            with keeper:
                self.store.take_over(lease.job_id, lease.epoch)
                _require_model(lease.row["preset"])
                words = listener.words = self.service.assets.located(lease.row["words"])
                started = time.monotonic()
                made = self.maker.make(words, folder, listener, cancel)
                made.result["wall_seconds"] = round(time.monotonic() - started, 4)
                self._check(made)
                self._publish(lease, made, listener)
            self._count(lease, made, wait)
        except BaseException as error:
            self._end(lease, keeper, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._cancel, self._job_id = None, None

    def _check(self, made: Made) -> None:
        """Shows what was made to the classifier of pictures. Raises PolicyError for what it refuses."""
        if self.settings.picture_classifier:
            words = {
                "path": str(made.path),
                "classifier": self.settings.picture_classifier,
                "seconds": made.shown["seconds"],
            }
            sandbox.run("sorano.serve.policy:check_frames", words)

    def _publish(self, lease: Lease, made: Made, listener: JobListener) -> None:
        """File first, then the row that says so; the row's epoch decides whether it counts."""
        path = self.store.publish(made.path, lease.job_id, lease.epoch)
        shown = {**lease.row["shown"], **made.shown}
        shown["notes"] = list(dict.fromkeys([*shown.get("notes", ()), *listener.notes]))
        files = {VIDEO: described(path)}
        if not self._while_away(lambda: self.jobs.publish(lease, files, shown, made.result, "pending")):
            raise Cancelled("the lease was lost")
        shutil.rmtree(self.store.work_folder(lease.job_id, lease.epoch), ignore_errors=True)
        with suppress(OSError):
            self.store.work_folder(lease.job_id, lease.epoch).parent.rmdir()
        log("job completed", job=lease.job_id, epoch=lease.epoch, seconds=made.result.get("seconds"))

    def _while_away(self, write: Callable[[], bool]) -> bool:
        """What a transaction answers, tried again as long as a lease lasts while the database cannot be reached."""
        end = time.monotonic() + self.settings.lease_seconds
        while True:
            try:
                return write()
            except Exception as error:
                if not is_unavailable(error) or time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def _end(self, lease: Lease, keeper: Keeper, error: BaseException) -> None:
        """A run that did not end well: given back, failed with a code, or no longer ours."""
        if keeper.is_lost or not self._still_held(lease):
            log("job left", job=lease.job_id, epoch=lease.epoch, why="cancelled, deleted or taken over")
            self._remove(lease)
            return
        if not isinstance(error, Exception) or (isinstance(error, Cancelled) and self._hurried.is_set()):
            self.jobs.release(lease)
            log("job given back", job=lease.job_id, epoch=lease.epoch)
            return
        code, message = self._code_of(error), self._without_paths(as_parameters(error_words(error)))
        log("job failed", level="error", job=lease.job_id, epoch=lease.epoch, code=code, error=message)
        if code == "internal_error":
            log_traceback(error)
        self._while_away(lambda: self.jobs.fail(lease, code, message))
        self._remove(lease)

    def _remove(self, lease: Lease) -> None:
        """Removes what a run wrote, but not what was published, though this worker may not have heard of that.

        Where the database cannot say so now, all stays: the sweeper removes what no job needs.
        """
        try:
            is_published = self.jobs.is_published(lease)
        except Exception as error:
            if not is_unavailable(error):
                raise
            log("files left", level="warning", job=lease.job_id, epoch=lease.epoch, error=type(error).__name__)
            return
        if not is_published:
            self.store.remove_epoch(lease.job_id, lease.epoch)

    def _still_held(self, lease: Lease) -> bool:
        try:
            return self.jobs.is_held(lease)
        except Exception as error:
            if is_unavailable(error):
                return True
            raise

    def _code_of(self, error: BaseException) -> str:
        if isinstance(error, Problem):
            return error.code
        if isinstance(error, SoranoError):
            return "storage_full" if is_full(error.__cause__) else code_of(error)
        return "storage_full" if is_full(error) else "internal_error"

    def _without_paths(self, message: str) -> str:
        return self.store.without_root(message)

    def _make_variants(self) -> bool:
        """Makes a finished job's thumbnail and sprite sheet; False where there is none that lacks them."""
        row = self.jobs.claim_variants(self.settings.lease_seconds + VARIANT_SECONDS)
        if row is None:
            return False
        job_id, epoch = row["id"], row["epoch"]
        folder = self.store.work_folder(job_id, epoch)
        try:
            folder = self.store.take_over(job_id, epoch)
            words = self.service.assets.located(row["words"])
            made = self.maker.variants(words, self.store.video(job_id, epoch), folder)
            files = {
                name: described(self.store.publish(path, job_id, epoch, name)) for name, path in made.items()
            }  # fmt: skip
            self.jobs.add_variants(row, files)
        except (SoranoError, Problem, OSError, ValueError) as error:
            log("variants failed", level="error", job=job_id, error=self._without_paths(error_words(error)))
            self.jobs.add_variants(row, {}, "failed")
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        if not self._is_there(job_id):  # deleted meanwhile
            self.store.remove_job(job_id)
        return True

    def _is_there(self, job_id: str) -> bool:
        return bool(self.jobs.many([job_id]))

    def _count(self, lease: Lease, made: Made, wait: float) -> None:
        """What the metrics of all workers are added up from."""
        stages = made.result.get("stages") or {}
        told = {
            "jobs": 1.0,
            "video_seconds": float(made.shown["seconds"]),
            "queue_seconds": wait,
            "device_seconds": float(made.result.get("seconds") or 0.0),
            **{f"{name}_seconds": float(value) for name, value in stages.items()},
        }
        for name, value in told.items():
            self._metrics[name] = self._metrics.get(name, 0.0) + value
        self._metrics["peak_bytes"] = max(
            self._metrics.get("peak_bytes", 0.0), float(made.result.get("peak_bytes") or 0)
        )

    def _beat(self) -> None:
        """Says every few seconds that this worker is there; ends the work where its server is gone."""
        while not self._left.is_set():
            with suppress(Exception):
                self._report()
            if self.parent is not None and os.getppid() != self.parent:
                log("server gone", level="warning", worker=self.id)
                self.stop()
            if self._stopping.wait(2.0):
                time.sleep(0.5)

    def _report(self) -> None:
        state = "draining" if self._stopping.is_set() else "starting" if self._machine is None else "ready"
        values = {
            "machine": self._machine,
            "job_id": self._job_id,
            "preset": self.maker.loaded,
            "state": state,
            "metrics": dict(self._metrics),
        }
        database = self.service.database
        with database.write(durable=False) as connection:
            now = database.now(connection)
            known = {"id": self.id, "host": socket.gethostname(), "pid": os.getpid(), "started_at": now}
            connection.execute(database.upsert(workers, {**known, **values, "seen_at": now}))
            connection.execute(sa.update(workers).where(workers.c.id == self.id).values(**values, seen_at=now))

    def _leave(self) -> None:
        self._left.set()
        with suppress(Exception), self.service.database.write(durable=False) as connection:
            connection.execute(sa.delete(workers).where(workers.c.id == self.id))


def write_preview(frame_HWC: Frames, path: Path, finish: Callable[[Frames], Frames]) -> None:
    """Writes a preview picture [H, W, 3], enlarged to what can be seen and then finished (marked). Raises OSError."""
    import io

    import numpy as np
    from PIL import Image

    from sorano.files import write_atomic

    if frame_HWC.ndim == 4:
        frame_HWC = frame_HWC[0]
    image = Image.fromarray(frame_HWC)
    scale = PREVIEW_SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    held = io.BytesIO()
    Image.fromarray(finish(np.asarray(image))).save(held, "WEBP", quality=PREVIEW_QUALITY)
    write_atomic(path, held.getvalue(), private=True)


def _require_model(preset: str) -> None:
    """Raises `Problem` where the folder of a model was removed while its job waited."""
    if Path(preset).is_absolute() and not Path(preset).is_dir():
        said = f"the model {Path(preset).name} was removed from this server"
        raise Problem("model_unavailable", said, "/v1/models lists what this server has")
