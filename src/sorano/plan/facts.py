"""What is known and how well: dated tables beside this file, a row a fact, with its source and how it was read.

| table         | a row is                                                                                   |
|---------------|--------------------------------------------------------------------------------------------|
| constants.csv | a constant with a low, a default and a high value                                          |
| devices.csv   | an accelerator: rates, memory, power, links, price an hour                                 |
| models.csv    | a video model of others whose cost can be planned                                          |
| runs.csv      | a published training run, or a stage of one; conflicting rows are all kept                 |
| measured.csv  | a published latency, energy or FLOP count, which the formulas are tested on                |
| prices.csv    | what a service charges for a second of video                                               |

Tags: P read in a primary source, S in a secondary one, D derived from such, M from memory and not read again,
A an assumption, U the user's own. A user's file in TOML overrides rows by name:

    [devices.h100]
    usd_h = 2.10
    [constants.goodput]
    value = 0.9
"""

from __future__ import annotations

import csv
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from sorano.errors import RequestError

DATA = Path(__file__).parent / "data"
TABLES = ("constants", "devices", "models", "runs", "measured", "prices")
TAGS = {
    "P": "primary source",
    "S": "secondary source",
    "D": "derived",
    "M": "from memory, not read again",
    "A": "assumption",
    "U": "yours",
}
USER_FILE = "SORANO_FACTS"  # the environment's name of a user's own file

Row = dict[str, str]
BOUNDED = (("low", "value", "high"), ("usd_h_low", "usd_h", "usd_h_high"), ("usd_s_low", "usd_s", "usd_s_high"))


@dataclass(frozen=True)
class Fact:
    """A number that a plan stands on. `low` and `high` bound what is believable; `tag` says how it is known."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    tag: str
    date: str
    source: str
    note: str = ""

    def at(self, case: str) -> float:
        """The value of a case: "low", "default" or "high"."""
        return {"low": self.low, "default": self.value, "high": self.high}[case]

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON of a plan."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Facts:
    """All tables. `rows[table][name]` is a row as read; the methods give numbers."""

    rows: Mapping[str, Mapping[str, Row]] = field(repr=False)
    user_file: Path | None = None

    def constant(self, name: str) -> Fact:
        """The constant of this name. Raises RequestError, naming the nearest, for one that there is not."""
        row = self.row("constants", name)
        value = number(row, "value", "constants")
        return Fact(
            name=name,
            value=value,
            low=number(row, "low", "constants", value),
            high=number(row, "high", "constants", value),
            **{key: row.get(key) or "" for key in ("unit", "tag", "date", "source", "note")},
        )

    def row(self, table: str, name: str) -> Row:
        """A row as read. Raises RequestError, naming the nearest, for a name that the table does not have."""
        rows = self.rows[table]
        if name not in rows:
            near = nearest(name, rows)
            raise RequestError(
                f"{table} has no row {name!r}", f"the nearest is {near}; `sorano plan sources` prints all"
            )
        return rows[name]

    def table(self, name: str) -> list[Row]:
        """All rows of a table, in its order."""
        return list(self.rows[name].values())


def load_facts(user_file: Path | None = None) -> Facts:
    """The tables of the package with the rows of a user's file over them (`--facts`, or the variable SORANO_FACTS).

    Raises RequestError naming the file and the line where it does not parse.
    """
    if user_file is None and os.environ.get(USER_FILE):
        user_file = Path(os.environ[USER_FILE])
    return _load(user_file, user_file.stat().st_mtime_ns if user_file and user_file.is_file() else 0)


def number(row: Row, column: str, table: str, default: float | None = None) -> float:
    """A cell as a number; `default` where it is empty. Raises RequestError naming the cell."""
    text = (row.get(column) or "").strip()
    if not text:
        if default is None:
            raise RequestError(f"{table}: {row['name']} has no {column}", "give one in a file of your own with --facts")
        return default
    top, _, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        raise RequestError(f"{table}: {column} of {row['name']} is {text!r}, and a number was expected") from None


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """The known name most like this one."""
    names = list(known)
    return (get_close_matches(name.lower(), names, n=1, cutoff=0.0) or names)[0]


@cache
def _load(user_file: Path | None, _changed: int) -> Facts:
    rows = {table: _read_csv(DATA / f"{table}.csv") for table in TABLES}
    if user_file is not None:
        _override(rows, user_file)
    return Facts(rows, user_file)


def _read_csv(file: Path) -> dict[str, Row]:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        rows: dict[str, Row] = {}
        for row in reader:
            if None in row or None in row.values() or row["name"] in rows:
                raise RequestError(f"{file}, line {reader.line_num}: expected one cell for each column, and a new name")
            rows[row["name"]] = row
        return rows


def _override(rows: dict[str, dict[str, Row]], file: Path) -> None:
    try:
        text = file.read_text(encoding="utf-8")
        words = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} is not TOML: {error}", "write [devices.h100] and below it usd_h = 2.1") from error
    for table, entries in words.items():
        if table not in TABLES or not isinstance(entries, dict):
            raise RequestError(
                f"{file}, line {line_of(text, table)}: there is no table {table!r}", f"tables are {', '.join(TABLES)}"
            )
        columns = next(iter(rows[table].values())).keys()
        for name, cells in entries.items():
            if not isinstance(cells, dict):
                raise RequestError(f"{file}, line {line_of(text, name)}: expected [{table}.{name}] and cells below it")
            row = rows[table].get(name, dict.fromkeys(columns, "") | {"name": name})
            for column, value in cells.items():
                where = f"{file}, line {line_of(text, column, after=name)}"
                if column not in columns:
                    raise RequestError(
                        f"{where}: {table} has no column {column!r}", f"the nearest is {nearest(column, list(columns))}"
                    )
                if isinstance(value, (dict, list)) or isinstance(value, bool):
                    raise RequestError(f"{where}: {column} is {value!r}, and a number or a text was expected")
                was_number = re.fullmatch(r"[\d.]+(e\d+)?", row.get(column) or "") is not None
                if was_number and not isinstance(value, (int, float)):
                    raise RequestError(f"{where}: {column} is {value!r}, and a number was expected")
                row = {**row, column: str(value)}
            rows[table][name] = _widened(row) | {"tag": "U", "source": str(cells.get("source", f"your {file.name}"))}


def _widened(row: Row) -> Row:
    """A low above the value, or a high below it, follows it: a user who gives one number means that one."""
    for low, value, high in BOUNDED:
        if row.get(value):
            middle = float(row[value])
            for side, beyond in ((low, max), (high, min)):
                if row.get(side) and beyond(float(row[side]), middle) == float(row[side]) != middle:
                    row = {**row, side: row[value]}
    return row


def line_of(text: str, word: str, after: str = "") -> int:
    """The line (from 1) where a key stands, after the line of another where that is given."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if after and after in line and line.lstrip().startswith("[")), 0)
    for number_, line in enumerate(lines[start:], start + 1):
        if re.search(rf"(^|[\[.\s\"']){re.escape(word)}($|[\].\s=\"'])", line):
            return number_
    return start + 1
