"""The user's own defaults for the command's options, from a TOML file; what the command line says wins.

    # ~/.config/sorano/config.toml
    preset = "world"
    audience = "eu"
    num-steps = 32

    [plan]
    grid = "france"

Keys are the long options without their dashes; each goes to every command that has the option, those of `[plan]` to the
plans. The file lies in the folder of SORANO_CONFIG, else in the user's configuration folder. Python's `sorano.generate`
does not read it: a program gives the same on every machine.

Not covered: what names one file or one run (`output`, `sheet`, `json`, `dry-run` ...) has no default here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sorano.errors import RequestError, TrustError
from sorano.trust.provenance.keys import config_folder

NAME = "config.toml"
MOST_BYTES = 100_000
PLAN = "plan"
# Of one run, not of a user: these have no default in a file.
NEVER = {
    "help", "version", "output", "sheet", "json", "dry-run", "in-place", "image", "last", "keyframe", "at", "request",
    "check", "html", "from", "to", "region", "mask", "title", "edit-of",
}  # fmt: skip


def settings_file() -> Path:
    """Where the file is looked for."""
    return config_folder() / NAME


def read() -> dict[str, Any]:
    """What the file says; nothing where there is none, or no home. Raises RequestError where it is no TOML."""
    try:
        file = settings_file()
    except TrustError:  # a user without a home, as in some containers: plans and lists need no keys
        return {}
    try:
        with open(file, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise RequestError(f"{file} is larger than {MOST_BYTES // 1000} kB", "it holds a line for each default")
        return tomllib.loads(content.decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}", "mend it, or remove it") from error
    except ValueError as error:
        raise RequestError(f"{file} is not TOML: {error}", 'a line is like  preset = "world"') from error


def defaults_for(program: Any) -> dict[str, Any]:
    """Defaults by command and parameter, as `default_map` of the command line's library takes them.

    Raises RequestError for a key that no command has, with the nearest that one has, or a value of no kind that an
    option takes.
    """
    said = read()
    plans = said.pop(PLAN, {})
    if not isinstance(plans, dict):
        raise RequestError(f"{settings_file()}: plan is no table", "write [plan] on a line of its own")
    commands = {name: one for name, one in program.commands.items() if name != PLAN}
    of_plan = getattr(program.commands.get(PLAN), "commands", {})
    return {**_given(said, commands), PLAN: _given(plans, of_plan)}


def _given(said: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a table for each command that has such an option."""
    options = {name: _options(one) for name, one in commands.items() if not hasattr(one, "commands")}
    known = sorted({flag for own in options.values() for flag in own} - NEVER)
    for key, value in said.items():
        flag = key.replace("_", "-")
        if flag not in known:
            near = get_close_matches(flag, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            why = "belongs on the command line" if flag in NEVER else "is no option"
            raise RequestError(f"{settings_file()}: {key!r} {why}", hint)
        if not isinstance(value, str | int | float | list) or isinstance(value, list) and not _is_list_of_texts(value):
            raise RequestError(f"{settings_file()}: {key} is of a kind that no option takes", "like  seed = 1")
    values = {key.replace("_", "-"): value for key, value in said.items()}
    return {
        command: {parameter: values[flag] for flag, parameter in own.items() if flag in values}
        for command, own in options.items()
    }


def _is_list_of_texts(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def _options(command: Any) -> dict[str, str]:
    """A command's long options without their dashes, and the parameters that they set."""
    found = {}
    for parameter in command.params:
        for flag in parameter.opts:
            if flag.startswith("--"):
                found[flag[2:]] = parameter.name
    return found


def own_defaults() -> dict[str, Any]:
    """The values that are not for plans, by the names of parameters: for what takes requests from elsewhere."""
    return {key.replace("-", "_"): value for key, value in read().items() if key != PLAN}


def describe() -> str:
    """The file in force and what it says, on one line. Raises RequestError where it cannot be read."""
    said = read()
    try:
        file = os.fspath(settings_file())
    except TrustError as error:
        return f"none; {error.message}"
    shown = ", ".join(f"{key} = {value}" for key, value in said.items())
    return f"{file}: {shown}" if said else f"none; {file} would hold them"


__all__ = ["defaults_for", "describe", "own_defaults", "read", "settings_file"]
