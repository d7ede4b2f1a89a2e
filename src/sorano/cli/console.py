"""The command's streams and its last words: every error as a cause, a next step and the documented exit code.

    error: seconds must be a number above 0 and at most 3600: got 0.0
    hint: use --seconds 2

Usage errors of the command line have the same two lines. A reader that goes away (`| head -1`) does not change the exit
code, and what a terminal cannot show is escaped, not fatal.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from sorano.errors import EXIT_INTERRUPTED, EXIT_UNEXPECTED, CapacityError, RequestError, SoranoError
from sorano.extras import extra_of, install
from sorano.files import is_full
from sorano.settings import defaults_for, settings_file
from sorano.trust.printable import printable_line, printable_lines

OS_HINTS = {
    errno.ENAMETOOLONG: "use a shorter name: most disks take 255 bytes",
    errno.EACCES: "use a file or a folder that you may read and write",
    errno.EPERM: "use a file or a folder that you may read and write",
    errno.EROFS: "this disk may only be read: write elsewhere with -o",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.ELOOP: "the links lead in a circle: name the file itself",
}
ALIASES = {  # what other programs call an option of ours
    "--preset": ("--model", "--checkpoint", "--ckpt"),
    "--guidance": ("--cfg", "--cfg-scale", "--guidance-scale"),
    "--num-steps": ("--steps", "--num-inference-steps"),
    "--num-frames": ("--frames",),
    "--seconds": ("--duration", "--length"),
    "--size": ("--width", "--height", "--resolution", "--ratio", "--aspect", "--aspect-ratio"),
    "--output": ("--out", "--file"),
    "--negative-prompt": ("--negative",),
    "--image": ("--init-image", "--first-frame"),
    "--last": ("--last-frame", "--end-image"),
    "--variations": ("--batch", "--num-videos"),
    "--quiet": ("--silent",),
    "--verbose": ("--debug",),
    "--memory": ("--vram",),
    "--dtype": ("--precision",),
}
# What the parser says of a value (typer's versions differ), and what that means.
PARSED = {
    "valid int": "a whole number",
    "valid float": "a number",
    "valid number": "a number",
    "valid bool": "true or false",
}
_NEED_NO_DEFAULTS = {"doctor", "--help", "-h", "--version"}  # these work however damaged the user's settings are
asked_to_stop = threading.Event()  # looked at after each step: what a library's import swallows is not forgotten
_running = "sorano"  # the command, for hints: "sorano keys init"


class Commands(TyperGroup):
    """The program's commands, with usage errors in two lines."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; in standalone mode, end with its exit code."""
        global _running
        args = list(sys.argv[1:] if args is None else args)
        _running = _command_in(self, args)
        try:
            if not _NEED_NO_DEFAULTS & set(args) and "_SORANO_COMPLETE" not in os.environ:
                extra.setdefault("default_map", defaults_for(self))
        except SoranoError as error:
            print_error(error.message, error.hint)
            sys.exit(error.exit_code)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if not standalone_mode or not hasattr(error, "format_message"):
                raise
            code = _report_usage(error)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def _command_in(group: Any, args: Sequence[str]) -> str:
    """The command that a command line names: "sorano keys init"."""
    names = ["sorano"]
    for word in args:
        group = getattr(group, "commands", {}).get(word)
        if group is None:
            break
        names.append(word)
    return " ".join(names)


def _report_usage(error: Any) -> int:
    """Print a usage error of the command line in two lines; its exit code."""
    kind, context = type(error).__name__, getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    if kind == "NoArgsIsHelpError":  # the help was shown when the error was made
        return int(error.exit_code)
    command = context.command_path if context is not None else _running
    message, hint = str(error.format_message()), f"{command} --help shows what it takes"
    if context is not None and parameter is not None and source_of(context, parameter.name) == "DEFAULT_MAP":
        message = f"{settings_file()}: {message}"
    if kind == "NoSuchOption":
        message = f"{command} has no option {error.option_name}"
        meant = _nearest_option(error.option_name, context)
        hint = f"did you mean {meant}? {hint}" if meant else hint
        if error.option_name == "--prompt":
            hint = f'the prompt is given without an option: {command} "a red ball bounces"'
    elif kind == "MissingParameter" and error.param is not None:
        name = error.param.metavar or str(error.param.name or "").upper()
        message = f"{command} needs {name}"
    elif message.startswith("No such command"):
        name = message.split("'")[1] if message.count("'") >= 2 else message
        near = get_close_matches(name, context.command.commands if context is not None else [], n=1, cutoff=0.5)
        message = f"there is no command {name!r}"
        if name in ("help", "version"):
            near = [f"--{name}"]
        hint = f"did you mean {command} {near[0]}?" if near else f"{command} --help lists them"
    elif message.startswith("Invalid value for"):
        message = _describe_invalid_value(message)
    elif message.startswith("Got unexpected extra argument"):
        hint = f"put quotes round what is more than one word; {hint}"
    print_error(" ".join(message.split()), hint)
    return int(error.exit_code)


def source_of(context: Any, name: str) -> str:
    """Where a parameter's value comes from: COMMANDLINE, DEFAULT_MAP (the user's settings), DEFAULT ..."""
    return str(getattr(context.get_parameter_source(name), "name", ""))


def _nearest_option(name: str, context: Any) -> str | None:
    """The option that was probably meant: as other programs call it, or the most alike."""
    options = _options(context)
    for ours, others in ALIASES.items():
        if name in others and ours in options:
            return ours
    return next(iter(get_close_matches(name, options, n=1, cutoff=0.7)), None)


def _describe_invalid_value(message: str) -> str:
    """ "Invalid value for '--seed': Input should be a valid integer, unable ..." as "--seed must be a whole number"."""
    match = re.match(r"Invalid value for (.+?): (.*)", message, re.DOTALL)
    if match is None:
        return message
    name = match[1].split(" / ")[0].strip("'")
    kind = next((meaning for said, meaning in PARSED.items() if said in match[2]), None)
    said = match[2].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name} must be {kind}" if kind else f"{name} {said}" if said.startswith("must") else f"{name}: {said}"


def _options(context: Any) -> list[str]:
    if context is None:
        return []
    return [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]


def say(text: str) -> None:
    """Print a sentence for people on stderr."""
    print(printable_lines(text), file=sys.stderr, flush=True)


def absolute(path: Path | None) -> str | None:
    """The path from the root, as it is printed."""
    return os.path.abspath(path) if path is not None else None


def print_error(message: str, hint: str | None) -> None:
    """A cause and a next step on stderr, each one line, whatever a file's name holds."""
    print(printable_line(f"error: {message}"), file=sys.stderr)
    if hint:
        print(printable_line(f"hint: {hint}"), file=sys.stderr)


@contextmanager
def report_errors(interrupted: str = "nothing was written") -> Iterator[None]:
    """Errors become two lines on stderr and their exit code; a request to stop becomes 130."""
    asked_to_stop.clear()
    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, in the background
        heard.append(signal.SIGINT)
    before = {which: signal.signal(which, _stop) for which in heard}
    try:
        with _interruptions():
            yield
    except SoranoError as error:
        _end_with(error)
    except ImportError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        _end_with(RequestError(f"{_running} needs {error.name}, which is not installed", install(extra)), error)
    except OSError as error:
        _end_with(_of_system(error), error)
    except KeyboardInterrupt as error:
        kept = "; ".join(getattr(error, "__notes__", ()))
        print(f"\ninterrupted: {kept or interrupted}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def _interruptions() -> Iterator[None]:
    """An interruption that compiled code met and gave back as an error of its own is an interruption still."""
    try:
        yield
    except Exception as error:
        if not asked_to_stop.is_set() or isinstance(error, SoranoError) or hasattr(error, "exit_code"):
            raise
        raise KeyboardInterrupt from error


def _end_with(error: SoranoError, cause: Exception | None = None) -> None:
    """Print an error and end with its code."""
    usual = f"{_running} --help shows what it takes" if isinstance(error, RequestError) else error.usual_hint
    print_error(error.message, error.hint or usual)
    for note in getattr(cause or error, "__notes__", ()):
        print(printable_line(f"hint: {note}"), file=sys.stderr)
    raise typer.Exit(error.exit_code) from (cause or error)


def _of_system(error: OSError) -> SoranoError:
    """What the system refuses (a name, a folder, a full disk), in words."""
    said = error.strerror or str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if is_full(error):
        return CapacityError(f"{where}{said}", "free some space, or write to another disk")
    return RequestError(f"{where}{said}", OS_HINTS.get(error.errno or 0))


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """A polite request to end is an interruption too: no partial file stays behind."""
    asked_to_stop.set()
    raise KeyboardInterrupt


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    """An interruption in a callback that cannot raise (of a lock, say) ends the run at its next step."""
    if issubclass(raised.exc_type, KeyboardInterrupt):
        asked_to_stop.set()
    else:
        sys.__unraisablehook__(raised)


class _Pipe(io.RawIOBase):
    """A file descriptor that may lose its reader: what is written then goes nowhere."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            return len(data)


def open_streams() -> None:
    """Make stdout and stderr survive a reader that goes away and characters that they cannot encode.

    Paths keep their bytes where the stream is UTF-8; elsewhere, what cannot be encoded is escaped.
    """
    sys.unraisablehook = _unraisable
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        is_utf8 = stream.encoding.lower().replace("-", "").replace("_", "") == "utf8"
        errors = "surrogateescape" if is_utf8 and name == "stdout" else "backslashreplace"
        if stream.isatty():
            stream.reconfigure(errors=errors)
            continue
        with suppress(OSError, ValueError):
            raw = io.BufferedWriter(_Pipe(stream.fileno()))
            line_by_line = name == "stderr"
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=line_by_line))


def close_streams(code: int) -> int:
    """Write out what stdout still holds; the exit code, which is 1 where that is not possible."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        sys.stdout = None  # or Python would try again at its end
        reason = error.strerror if isinstance(error, OSError) else str(error)
        print_error(f"stdout cannot be written: {reason}", "what was made is there; free some space, or ask again")
        return code or EXIT_UNEXPECTED
    return code
