"""`sorano serve`: one process that answers, and one for each worker, which it starts, watches and ends.

SIGTERM drains: no further requests, the jobs at hand are finished or given back to the queue. A second one hurries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from sorano.errors import RequestError
from sorano.presets import find_preset
from sorano.serve.api import create_app
from sorano.serve.config import DATA_VARIABLE, DATABASE_VARIABLE, Settings
from sorano.serve.parts import Api
from sorano.serve.worker import Service, Worker
from sorano.web.logs import log
from sorano.web.server import Server, address_of, listen, uvicorn_config

GPUS, GPUS_VARIABLE = Path("/proc/driver/nvidia/gpus"), "CUDA_VISIBLE_DEVICES"
HURRY = getattr(signal, "SIGUSR1", signal.SIGTERM)  # to a worker: give the job at hand back
RESTART_SECONDS = (0.5, 1, 2, 5, 10, 30)  # before a worker that died is started again


def serve(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Answers until it is told to stop; `say` gets the address. Raises the errors of `Service.open`, and of models that
    are not there."""
    for model in settings.models:
        find_preset(model)
    service = Service.open(settings)
    app = create_app(settings, service=service)
    api: Api = app.state.api
    if not settings.is_loopback and not api.keys.any_works():
        raise RequestError(
            f"{settings.host} can be reached by others, and there is no API key",
            "sorano serve keys create NAME makes one",
        )
    listening = listen(settings.host, settings.port)
    api.orders.warm()
    config = uvicorn_config(app)
    workers = Workers(settings)

    def drain() -> None:
        api.is_draining.set()
        api.events.is_stopping = True
        (workers.hurry if workers.is_draining else workers.drain)()

    server = Server(config, drain)

    def stop(_signal: int, _frame: FrameType | None) -> None:  # before and after the server itself hears of signals
        server.should_exit = True
        drain()

    before = {which: signal.signal(which, stop) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        workers.start()
        host, port = listening.getsockname()[:2]
        say(address_of(host, port))
        log("serving", host=host, port=port, workers=settings.workers, keys=settings.needs_keys)
        server.run(sockets=[listening])
    finally:
        workers.stop()
        listening.close()
        service.database.close()
        for which, handler in before.items():
            signal.signal(which, handler)


def work(settings: Settings, *, parent: int | None = None) -> None:
    """Works until it is told to stop. Raises the errors of `Service.open`.

    A second signal hurries, but not the worker of a server: a terminal or systemd signals the whole group, and then the
    server signals too. That says HURRY.
    """
    service = Service.open(settings)
    worker = Worker(service, parent=parent)

    def stop(which: int, _frame: FrameType | None) -> None:
        if which == HURRY or (worker.is_stopping and parent is None):
            worker.stop(now=True)
        elif not worker.is_stopping:
            worker.stop()
            timer = threading.Timer(settings.drain_seconds, worker.stop, kwargs={"now": True})
            timer.daemon = True
            timer.start()

    for which in (signal.SIGTERM, signal.SIGINT, HURRY):
        signal.signal(which, stop)
    worker.run()
    service.database.close()


class Workers:
    """The worker processes of a server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stopping = threading.Event()
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * settings.workers
        self._threads: list[threading.Thread] = []

    @property
    def is_draining(self) -> bool:
        """Whether they were told to stop."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Starts them, and a thread for each that starts it again when it dies."""
        for number in range(self.settings.workers):
            thread = threading.Thread(target=self._watch, args=(number,), name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def drain(self) -> None:
        """Lets each finish its job."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Lets each give its job back at once."""
        self._signal(HURRY)

    def _signal(self, which: signal.Signals) -> None:
        for process in self._processes:
            if process is not None and process.poll() is None:
                with suppress(OSError):
                    process.send_signal(which)

    def stop(self) -> None:
        """Ends them: after their jobs, or once the time for that is over."""
        if not self._stopping.is_set():
            self.drain()
        end = time.monotonic() + self.settings.drain_seconds + 10
        for process in self._processes:
            if process is None:
                continue
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def _watch(self, number: int) -> None:
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            process = self._processes[number] = subprocess.Popen(self._command(), env=self._environment(number))
            code = process.wait()
            if self._stopping.is_set():
                return
            deaths = 0 if time.monotonic() - began > 60 else deaths + 1
            wait = RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)]
            log("worker died", level="error", pid=process.pid, code=code, again_in=wait)
            self._stopping.wait(wait)

    def _command(self) -> list[str]:
        given = self.settings
        words = [sys.executable, "-m", "sorano", "worker", "--parent", str(os.getpid())]
        words += ["--lease-seconds", f"{given.lease_seconds:g}", "--drain-seconds", f"{given.drain_seconds:g}"]
        words += ["--attempts", str(given.most_attempts)]
        if given.keep_seconds is not None:
            words += ["--keep-days", f"{given.keep_seconds / 86_400:.6f}"]
        if given.picture_classifier:
            words += ["--picture-classifier", given.picture_classifier]
        if given.maker:
            words += ["--maker", given.maker]
        return words

    def _environment(self, number: int) -> dict[str, str]:
        """Where things are goes by the environment: a database's password has no place in a list of processes.

        Each worker sees one GPU, and takes it: what a run keeps names no number of a device.
        """
        given, gpus = self.settings, visible_gpus()
        own = {DATABASE_VARIABLE: given.database, DATA_VARIABLE: str(given.data)}
        if gpus:
            own[GPUS_VARIABLE] = gpus[number % len(gpus)]
        return {**os.environ, **own}


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where the driver is not."""
    told = os.environ.get(GPUS_VARIABLE)
    if told is not None:
        return [one.strip() for one in told.split(",") if one.strip()]
    return [str(number) for number, _ in enumerate(GPUS.iterdir())] if GPUS.is_dir() else []
