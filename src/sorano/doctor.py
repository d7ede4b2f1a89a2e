"""`sorano doctor`: what this machine has for Sorano, and for each thing that is missing the command that mends it.

Looks at the device and the dtype, torch, the threads, memory and disk against the presets, the coders, keys, fonts and
the optional packages. It changes nothing but the timing of the processor, which is kept as any run keeps it.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sorano import extras, threads
from sorano.errors import SoranoError

GOOD, MIND, BAD = "ok", "mind", "missing"
LEAST_DISK_BYTES = 500_000_000
CODERS = (
    ("libx264", True, "H.264, what every video is written in"),
    ("aac", True, "sound"),
    ("libvpx-vp9", False, "WebM"),
)
FOR = {  # what an extra is for
    "train": "sorano train and sorano score",
    "plan": "sorano plan serve --simulate",
    "export": "sorano export",
    "serve": "sorano serve",
    "desk": "sorano desk",
}


NEED_ENGINE = ("device", "threads", "memory", "disk")  # checks for those who make videos


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its state (ok, mind, missing), what was found, and the command that mends it."""

    name: str
    state: str
    found: str
    mend: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def line(self) -> str:
        """As one line for people."""
        return f"{self.state:<8} {self.name:<10} {self.found}" + (f"; {self.mend}" if self.mend else "")


def examine() -> list[Check]:
    """Every check, in order. One that fails in an unforeseen way says so and does not stop the others."""
    made: list[Check] = [_engine()]
    has_engine = made[0].state == GOOD
    looks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("device", _device), ("threads", _threads), ("memory", _memory), ("disk", _disk),
        ("coders", _coders), ("keys", _keys), ("fonts", _fonts), ("extras", _extras),
        ("serve", _serve), ("settings", _settings),
    )  # fmt: skip
    for name, look in looks:
        if name in NEED_ENGINE and not has_engine:
            continue
        try:
            made += look()
        except (SoranoError, OSError, ImportError, ValueError, RuntimeError) as error:
            hint = error.hint if isinstance(error, SoranoError) else None
            message = error.message if isinstance(error, SoranoError) else str(error)
            made.append(Check(name, BAD, message, hint or "pip install --force-reinstall sorano"))
    return made


def _engine() -> Check:
    """The versions; MIND in the base install, which has no torch."""
    from sorano import __version__

    found = f"sorano {__version__}, Python {platform.python_version()}"
    try:
        import torch
    except ImportError:
        said = f"{found}, no torch: verify, mark, label and plan work; making videos needs it"
        return Check("versions", MIND, said, extras.install("engine"))
    return Check("versions", GOOD, f"{found}, torch {torch.__version__}")


def _device() -> Iterator[Check]:
    from sorano.device import available_devices, choose_machine

    machine = choose_machine("auto")
    yield Check("device", GOOD, f"{machine.device} (of {', '.join(available_devices())})")
    yield Check("dtype", GOOD, machine.reason)
    if machine.measured is None:
        yield Check("speed", MIND, "plans use usual speeds", "sorano plan calibrate measures this machine")
    else:
        yield Check("speed", GOOD, f"calibrated: {machine.measured.name}")


def _threads() -> Iterator[Check]:
    import torch

    waiting = next((f"{name}={os.environ[name]}" for name in threads.WAIT_SETTINGS if name in os.environ), "not set")
    found = f"{torch.get_num_threads()} of {threads.allowed_cores()} cores, {waiting}"
    spins = os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE"
    yield Check("threads", MIND if spins else GOOD, found, "unset OMP_WAIT_POLICY" if spins else None)


def _memory() -> Iterator[Check]:
    from sorano import hub
    from sorano.plan.generate import format_bytes
    from sorano.plan.machine import free_memory_bytes
    from sorano.presets import PRESETS

    free = free_memory_bytes()
    if free is None:
        yield Check("memory", MIND, "the system does not say what is free", "give --memory 12GB where it matters")
        return
    fitting = []
    for name in PRESETS:
        least = hub.show(name)["least_memory_bytes"]
        if least and min(least["cpu bfloat16"], least["cpu float32"]) <= free:
            fitting.append(name)
    found = f"{format_bytes(free)} of main memory free; fits: {', '.join(fitting) or 'no preset'}"
    yield Check("memory", GOOD if fitting else BAD, found, None if fitting else "close other programs")


def _disk() -> Iterator[Check]:
    from huggingface_hub import constants

    from sorano.plan.generate import format_bytes

    cache = Path(constants.HF_HUB_CACHE)
    for name, folder, mend in (("here", Path.cwd(), "write elsewhere with -o"), ("models", cache, "set HF_HOME")):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        state = GOOD if free >= LEAST_DISK_BYTES and os.access(there, os.W_OK) else BAD
        yield Check("disk", state, f"{name}: {format_bytes(free)} free in {folder}", None if state == GOOD else mend)


def _coders() -> Iterator[Check]:
    import av

    for name, needed, what in CODERS:
        try:
            av.codec.Codec(name, "w")
            yield Check("coder", GOOD, f"{name}: {what}")
        except (ValueError, av.error.FFmpegError):
            state = BAD if needed else MIND
            yield Check("coder", state, f"{name} is not in this PyAV: {what}", "pip install --force-reinstall av")


def _keys() -> Iterator[Check]:
    from sorano.trust.provenance import keys

    found = [one for one in keys.list_keys() if one.kind != "carrier"]
    if not found:
        yield Check("keys", GOOD, f"none yet in {keys.keys_folder()}: made with the first video")
    else:
        yield Check("keys", GOOD, f"{len(found)} in {keys.keys_folder()}")


def _fonts() -> Iterator[Check]:
    from PIL import ImageFont, features

    if not features.check("freetype2"):
        yield Check("fonts", BAD, "this Pillow has no FreeType: visible labels", "pip install --force-reinstall pillow")
        return
    ImageFont.load_default(16)
    yield Check("fonts", GOOD, "FreeType is there: visible labels can be drawn")


def _extras() -> Iterator[Check]:
    for extra, what in FOR.items():
        missing = [name for name in extras.MODULES[extra] if not extras.is_installed(name)]
        if missing:
            yield Check("extra", MIND, f"{', '.join(missing)} not there: {what}", extras.install(extra))
        else:
            yield Check("extra", GOOD, f"{extra}: {what}")


def _serve() -> Iterator[Check]:
    """The port and the database of `sorano serve`, and the clock, which leases and webhooks go by."""
    import time

    if not extras.is_installed("fastapi"):
        return
    from sorano.serve.config import HOST, PORT, data_folder, database_url

    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((HOST, PORT))
            yield Check("port", GOOD, f"{PORT} of {HOST} is free")
        except OSError as error:
            found = f"{PORT} of {HOST}: {error.strerror}; is a server running?"
            yield Check("port", MIND, found, "sorano serve --port 0 takes any that is free")
    written = Path(__file__).stat().st_mtime
    is_late = time.time() < written - 86_400
    if is_late:
        yield Check("clock", BAD, "it is before the time when this program was written", "timedatectl set-ntp true")
    else:
        yield Check("clock", GOOD, time.strftime("%Y-%m-%d %H:%M %Z"))
    url = database_url(None, data_folder())
    if url.startswith("sqlite"):
        yield Check("database", GOOD, "SQLite, a file of its own")
        return
    import sqlalchemy as sa

    from sorano.web.database import Database

    database = Database(url)
    try:
        with database.read() as connection:
            connection.execute(sa.text("SELECT 1"))
        yield Check("database", GOOD, f"{sa.make_url(database.url).render_as_string(hide_password=True)} answers")
    except sa.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        mend = "start its server, or unset SORANO_DATABASE"
        yield Check("database", BAD, f"SORANO_DATABASE cannot be used: {cause}", mend)
    finally:
        database.close()


def _settings() -> Iterator[Check]:
    from sorano.settings import describe

    yield Check("settings", GOOD, f"defaults: {describe()}")
