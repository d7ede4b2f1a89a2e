"""Run a function on an untrusted file in a child process with limits, and return what it found.

    document, arrays = run("sorano.trust.observe:examine_here", {"path": "clip.mp4"})

The child is a fresh interpreter in isolated mode, in a session of its own, with no inherited descriptors. It gets wall
time, processor time, writable memory, open files and the size of what it may write, and answers with JSON and numeric
arrays over a pipe. Whatever it does (crash, hang, exhaust memory, answer at any length), `run` returns within the time
limit or raises VideoError, and the whole process group is killed.

Memory: the parent watches the child's resident pages, and RLIMIT_DATA (private writable pages, since Linux 4.7) bounds
what it may reserve between two looks. RLIMIT_AS is no use: PyAV, OpenCV and OpenBLAS map 0.4 GB of libraries before the
first frame, and each of their threads reserves a stack of 8 MB that it hardly touches.

Not covered: this is a limit on resources, not a cage: code that a decoder is tricked into running keeps the user's
rights. macOS does not enforce RLIMIT_DATA and Windows has no limits of this kind: there only the time limit and the
limit on the answer hold.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from sorano import errors
from sorano.errors import RequestError, SoranoError, VideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PATIENCE = 3.0  # seconds by the clock for each of processor time
THREADS = 1  # of each library in the child: what is worth more starts them itself, and more threads hold more frames
HEAD = struct.Struct(">Q")  # bytes of the JSON that follows
MOST_OPEN_FILES = 256
MOST_WRITTEN_BYTES = 1_000_000  # of one file: the interpreter's own caches of byte code
RESERVED_BYTES = 256 << 20  # of stacks and allocators' slack that may be reserved beyond the memory that is used
# What is larger goes back to the system when freed: else frames leave a third of the heap unused. Pages that come anew
# from the system cost as much as what is computed in them, so frames of 540p and what is made of them stay below it.
MAPPED_BYTES, TRIMMED_BYTES = 4_000_000, 16_000_000
WATCH_SECONDS = 0.02  # between two looks at the child's memory
KILL_SECONDS = 5.0  # for a killed child to disappear
BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from sorano.trust.sandbox import answer; answer()"
)
SECRETS = re.compile(r"(DATABASE|PASSWORD|SECRET|TOKEN|_KEY)$")  # names of variables that a child need not have
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "RAYON_NUM_THREADS",
    "MALLOC_ARENA_MAX",
)  # fmt: skip


@dataclass(frozen=True)
class ResourceLimits:
    """What the child may use: seconds of processor time (PATIENCE times that by the clock, for machines that are busy
    with other things), resident memory, bytes of its answer."""

    seconds: float = 20.0
    memory_bytes: int = 512 << 20
    answer_bytes: int = 64 << 20


def default_limits() -> ResourceLimits:
    """The limits, or what SORANO_LOOK_SECONDS and SORANO_LOOK_MEGABYTES say instead. Raises RequestError."""
    seconds = _number("SORANO_LOOK_SECONDS", ResourceLimits.seconds)
    megabytes = _number("SORANO_LOOK_MEGABYTES", ResourceLimits.memory_bytes / 2**20)
    return ResourceLimits(seconds, int(megabytes * 2**20))


def run(
    target: str, arguments: Mapping[str, Any], limits: ResourceLimits | None = None
) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Call `target` ("module:function") with JSON arguments in a child; return its JSON and its arrays by name.

    The function returns JSON-able data, or that and a dict of arrays. A SoranoError that it raises is raised here.
    Raises VideoError where a limit was passed or the child died.
    """
    limits = limits or default_limits()
    request = json.dumps({"target": target, "arguments": dict(arguments), "limits": asdict(limits)}).encode()
    received = _exchange(request, limits)
    try:
        (length,) = HEAD.unpack(received[: HEAD.size])
        document = json.loads(received[HEAD.size : HEAD.size + length])
        arrays = _arrays(document.get("arrays", {}), received[HEAD.size + length :])
        failure = document.get("error")
        value = document.get("value")
    except (struct.error, ValueError, AttributeError, TypeError, RecursionError, MemoryError) as error:
        raise VideoError(f"looking at it gave an answer that cannot be read: {error}") from error
    if failure is not None:
        raise _error(failure)
    return value, arrays


def require_regular(path: str | Path) -> None:
    """Raise VideoError for what is no regular file: opening a pipe or a device can block for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise VideoError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise VideoError(f"{path} is a folder", "name the files in it, or give the folder to sorano verify")
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise VideoError(f"{path} is {kind}, not a file", "use - to read from standard input")


def require_readable(path: str | Path) -> None:
    """Probe a file in a child: raise VideoError for what cannot be read, or not within the limits."""
    require_regular(path)
    run("sorano.trust.sandbox:probe_here", {"path": os.fspath(path)})


def probe_here(path: str) -> None:
    """What `require_readable` runs in the child."""
    from sorano.trust import media

    if not media.is_audio_file(Path(path)):
        media.probe(Path(path))


# The parent's side.


def _exchange(request: bytes, limits: ResourceLimits) -> bytes:
    """Everything that the child answered. Raises VideoError where it did not answer as it must."""
    process = _start()
    answers: list[bytes] = []
    talk = threading.Thread(target=_talk, args=(process, request, limits.answer_bytes + 1, answers), daemon=True)
    try:
        talk.start()
        _watch(process, talk, limits)
        answer = answers[0] if answers else b""
        if len(answer) > limits.answer_bytes:
            raise VideoError(f"looking at it gave more than {limits.answer_bytes >> 20} MB of findings")
        if not answer:
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)
            raise _death(process.returncode, limits)
        return answer
    finally:
        _kill(process)
        talk.join(KILL_SECONDS)
        for stream in (process.stdin, process.stdout):
            if stream is not None and not talk.is_alive():
                with suppress(OSError):
                    stream.close()


def _watch(process: subprocess.Popen[bytes], talk: threading.Thread, limits: ResourceLimits) -> None:
    """Wait for the answer. Raises VideoError where the time or the memory runs out."""
    end = time.monotonic() + PATIENCE * limits.seconds
    while True:
        talk.join(min(WATCH_SECONDS, max(0.0, end - time.monotonic())))
        if not talk.is_alive():
            return
        if time.monotonic() >= end:
            raise VideoError(_too_slow(limits), _more_time())
        if _resident_bytes(process.pid) > limits.memory_bytes:
            raise VideoError(_too_large(limits), _more_memory())


def _resident_bytes(pid: int) -> int:
    """Bytes of a process that lie in memory; 0 where the system does not say (it has ended, or is no Linux)."""
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _start() -> subprocess.Popen[bytes]:
    """A fresh interpreter that waits for a request. Raises VideoError where none can be started."""
    package = str(Path(__file__).parents[2])
    paths = [path for path in sys.path if os.path.isabs(path)]  # "" is wherever the caller stands
    if package not in paths:
        paths.insert(0, package)
    own = {name: value for name, value in os.environ.items() if not SECRETS.search(name)}
    variables = {**own, "OMP_WAIT_POLICY": "PASSIVE", "OPENCV_LOG_LEVEL": "OFF"}
    variables |= {name: str(THREADS) for name in THREAD_VARIABLES}
    variables |= {"MALLOC_MMAP_THRESHOLD_": str(MAPPED_BYTES), "MALLOC_TRIM_THRESHOLD_": str(TRIMMED_BYTES)}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", BOOTSTRAP, json.dumps(paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=variables,
            close_fds=True,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise VideoError(
            f"no process can be started to look at the file in: {error}", "untrusted files are read in a process apart"
        ) from error


def _talk(process: subprocess.Popen[bytes], request: bytes, most: int, answers: list[bytes]) -> None:
    """Send the request and read at most `most` bytes of the answer."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return
    with suppress(OSError, ValueError):  # a child that died at once: its exit code says how
        stdin.write(request)
        stdin.close()
    with suppress(OSError, ValueError):
        answers.append(stdout.read(most))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session and a group of its own
    with suppress(OSError):
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)


def _death(code: int | None, limits: ResourceLimits) -> VideoError:
    """The error for a child that ended without an answer."""
    slow = {getattr(signal, name, None) for name in ("SIGXCPU", "SIGALRM", "SIGKILL")}
    if code is not None and -code in slow:
        if -code == getattr(signal, "SIGKILL", None):
            return VideoError("looking at it was stopped by the system: it may have needed too much memory")
        return VideoError(_too_slow(limits), _more_time())
    how = f"exit code {code}"
    if code is not None and code < 0:
        with suppress(ValueError):
            how = signal.Signals(-code).name
    return VideoError(
        f"looking at it ended without an answer ({how}): it is damaged or hostile, "
        f"or needs more than {limits.memory_bytes >> 20} MB",
        _more_memory(),
    )


def _too_slow(limits: ResourceLimits) -> str:
    return f"looking at it took more than {limits.seconds:g} s"


def _too_large(limits: ResourceLimits) -> str:
    return f"looking at it needs more than {limits.memory_bytes >> 20} MB"


def _more_time() -> str:
    return "it may be damaged or hostile; for a long recording that you trust: SORANO_LOOK_SECONDS=600"


def _more_memory() -> str:
    return "for a large file that you trust: SORANO_LOOK_MEGABYTES=4096"


def _arrays(sizes: Mapping[str, int], content: bytes) -> dict[str, NDArray[Any]]:
    """Arrays from .npy bytes in a row; nothing is unpickled."""
    if not sizes:
        return {}
    import numpy as np

    found, place = {}, 0
    for name, size in sizes.items():
        found[str(name)] = np.load(io.BytesIO(content[place : place + size]), allow_pickle=False)
        place += size
    return found


def _error(failure: Mapping[str, Any]) -> SoranoError:
    """The error that the child met: of the same class where it is one of ours, else VideoError."""
    message, hint = str(failure.get("message")), failure.get("hint")
    kind = getattr(errors, str(failure.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, SoranoError):
        return kind(message, None if hint is None else str(hint))
    return VideoError(f"looking at it failed: {message}", "it is damaged, hostile, or of a kind that is not known here")


def _number(name: str, usual: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError as error:
        raise RequestError(f"{name} is {text!r}: it must be a number above 0") from error
    if not 0 < value < 1e6:
        raise RequestError(f"{name} is {text!r}: it must be a number above 0")
    return value


# The child's side.

_deadline = math.inf  # in time.monotonic()
_processor_seconds = math.inf


def time_left() -> float:
    """Seconds until this process is stopped, by the clock or by its processor time; infinite outside of a child."""
    return min(_deadline - time.monotonic(), _processor_seconds - time.process_time())


def answer() -> NoReturn:
    """Read a request from standard input, answer it on standard output, and end. Called in the child alone."""
    global _deadline, _processor_seconds
    out = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # what libraries print must not mix with the answer
        os.dup2(nothing.fileno(), 1)
        request = json.loads(sys.stdin.buffer.read())
        os.dup2(nothing.fileno(), 0)
    limits = ResourceLimits(**request["limits"])
    _deadline, _processor_seconds = time.monotonic() + PATIENCE * limits.seconds, limits.seconds
    sys.excepthook = lambda kind, error, _: _fail_unexpectedly(out, kind, error, limits)
    _set_limits(limits)
    module, _, function = request["target"].partition(":")
    try:
        found = getattr(importlib.import_module(module), function)(**request["arguments"])
    except SoranoError as error:
        _fail(out, type(error).__name__, error.message, error.hint)
    _send(out, *(found if isinstance(found, tuple) else (found, {})))


def _set_limits(limits: ResourceLimits) -> None:
    """Bound this process by the means that the system has."""
    if hasattr(signal, "setitimer"):  # ends the child where its parent was killed and cannot
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * limits.seconds + 1)
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = math.ceil(limits.seconds)
    wanted = {
        "RLIMIT_CPU": (seconds, seconds + 1),
        "RLIMIT_DATA": (limits.memory_bytes + RESERVED_BYTES,) * 2,
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (MOST_OPEN_FILES, MOST_OPEN_FILES),
        "RLIMIT_FSIZE": (MOST_WRITTEN_BYTES, MOST_WRITTEN_BYTES),
    }
    for name, (soft, hard) in wanted.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        with suppress(ValueError, OSError):  # a system that knows the limit and does not set it
            resource.setrlimit(kind, (soft, hard))


def _fail_unexpectedly(out: IO[bytes], kind: type[BaseException], error: BaseException, limits: ResourceLimits) -> None:
    """Answer with an exception that nobody expected; C++ libraries say in words that memory is short."""
    if issubclass(kind, MemoryError) or "memory" in str(error).lower():
        _fail(out, "VideoError", _too_large(limits), _more_memory())
    _fail(out, kind.__name__, f"{kind.__name__}: {str(error)[:300]}")


def _fail(out: IO[bytes], kind: str, message: str, hint: str | None = None) -> NoReturn:
    _write(out, {"error": {"kind": kind, "message": message, "hint": hint}})


def _send(out: IO[bytes], value: Any, arrays: Mapping[str, NDArray[Any]]) -> NoReturn:
    parts = {}
    for name, array in arrays.items():
        import numpy as np

        held = io.BytesIO()
        np.save(held, array, allow_pickle=False)
        parts[name] = held.getvalue()
    _write(out, {"value": value, "arrays": {name: len(part) for name, part in parts.items()}}, *parts.values())


def _write(out: IO[bytes], document: Mapping[str, Any], *parts: bytes) -> NoReturn:
    """Answer and end at once: libraries that unload slowly, or hang, must not hold the answer back."""
    text = json.dumps(document).encode()
    out.write(HEAD.pack(len(text)) + text)
    for part in parts:
        out.write(part)
    out.flush()
    os._exit(0)
