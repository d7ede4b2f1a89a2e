"""What looks after queue and files while a server runs: lost leases, deadlines, expiry, files that no record needs."""

from __future__ import annotations

import threading
import time

from sorano.serve.jobs import Swept
from sorano.serve.store import Known
from sorano.serve.worker import Service
from sorano.web.database import is_unavailable
from sorano.web.logs import log

QUEUE_SECONDS = 2.0  # between two looks at the queue; less where leases are short
FILES_SECONDS = 60.0  # between two looks at the files


class Sweeper:
    """A thread of a server's; several servers may sweep at once."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begins to look."""
        threading.Thread(target=self._run, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        """Ends before the next look."""
        self._stopping.set()

    def sweep_queue(self) -> Swept:
        """One look at the queue; the files of what expired go too."""
        swept = self.service.jobs.sweep()
        for job_id in swept.expired:
            self.service.store.remove_job(job_id)
        if swept.requeued or swept.failed or swept.expired:
            log("swept", requeued=swept.requeued, failed=swept.failed, expired=swept.expired)
        return swept

    def sweep_files(self) -> int:
        """One look at the files; returns how many places were removed."""
        seen = self.service.store.job_ids()
        rows = self.service.jobs.many(sorted(seen))
        # where they are pending a worker may have begun them since
        known = {
            row["id"]: Known(row["status"], row["epoch"], row["variants"] in ("pending", "making")) for row in rows
        }
        removed = self.service.store.sweep_jobs(seen, known)
        self.service.assets.sweep()
        if removed:
            log("swept files", count=len(removed))
        return len(removed)

    def _run(self) -> None:
        next_files = time.monotonic() + QUEUE_SECONDS
        while not self._stopping.wait(min(QUEUE_SECONDS, self.service.settings.lease_seconds / 2)):
            try:
                self.sweep_queue()
                if time.monotonic() >= next_files:
                    next_files = time.monotonic() + FILES_SECONDS
                    self.sweep_files()
            except Exception as error:
                if not is_unavailable(error):
                    log("sweeper", level="error", error=f"{type(error).__name__}: {error}")
