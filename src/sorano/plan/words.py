"""Plans as text: an answer of ten lines, or all of it, both for a terminal of 80 columns, where nothing is cut off."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from sorano.errors import RequestError
from sorano.plan.estimate import Estimate, Range, Row, Table, Value, says, shown

WIDTH = 80  # columns; wider terminals get longer lines in the tables alone
FEW = 3  # of these numbers: then the plan's own summary comes first
LINES = 10  # of a first answer
# What a first answer says, the most asked-for first, each with the words for people.
ASKED = {
    "seconds": "time", "days": "time", "devices": "devices", "service_seconds": "one video",
    "mean_wait_of_day_seconds": "usual wait", "usd": "money", "usd_month": "money a month",
    "usd_month_floor": "at least",
    "programme_usd": "all runs", "peak_bytes": "device memory", "host_bytes": "main memory", "memory_bytes": "memory",
    "fits": "fits", "would_fit": "would fit", "kwh": "energy", "kwh_month": "energy a month", "co2_g": "carbon",
    "co2_month_g": "carbon a month", "weight_bytes": "weights", "device_hours": "device-hours",
    "parameters": "parameters", "tokens": "tokens",
}  # fmt: skip


@dataclass(frozen=True)
class Currency:
    """A user's own rate: how many of it a US dollar was worth, and when."""

    code: str
    per_usd: float
    day: str

    @property
    def words(self) -> str:
        """For a note."""
        return f"amounts in {self.code} at {self.per_usd:g} a USD, your rate of {self.day}"


def parse_currency(text: str) -> Currency:
    """ "EUR=0.92@2026-11-20", or without a day: today's. Raises RequestError."""
    match = re.fullmatch(r"\s*([A-Za-z]{3})\s*=\s*(\d+(?:\.\d+)?)\s*(?:@\s*(\d{4}-\d{2}-\d{2}))?\s*", text)
    try:
        if match is None or not 0 < float(match[2]) < 1e9:
            raise ValueError
        day = date.fromisoformat(match[3]) if match[3] else date.today()
    except ValueError:
        raise RequestError(
            f"a currency is its code, what a USD is worth, and the day of that: got {text!r}",
            "like --currency EUR=0.92@2026-11-20",
        ) from None
    return Currency(match[1].upper(), float(match[2]), day.isoformat())


def in_currency(plan: Estimate, currency: Currency) -> Estimate:
    """A plan whose amounts of money are shown in another currency; the constants stay as they were published."""

    def worth(value: Value, unit: str) -> Value:
        if unit != "USD" or isinstance(value, bool | str | None):
            return value
        if isinstance(value, Range):
            return Range(*(one * currency.per_usd for one in (value.low, value.default, value.high)))
        return value * currency.per_usd

    def named(unit: str) -> str:
        return currency.code if unit == "USD" else unit

    def row(one: Row) -> Row:
        return replace(one, value=worth(one.value, one.unit), unit=named(one.unit))

    def table(one: Table) -> Table:
        units = one.units or ("",) * len(one.columns)
        cells = tuple(tuple(worth(v, u) for v, u in zip(line, units, strict=True)) for line in one.rows)
        return replace(one, rows=cells, units=tuple(named(unit) for unit in units))

    usd = next((one for one in plan.all_rows() if one.name == "usd" and one.unit == "USD"), None)
    summary = plan.summary
    if usd is not None:
        summary = summary.replace(shown(usd.value, "USD"), shown(worth(usd.value, "USD"), currency.code))
    return replace(
        plan,
        summary=summary,
        rows=tuple(map(row, plan.rows)),
        parts=tuple((heading, tuple(map(row, rows))) for heading, rows in plan.parts),
        tables=tuple(map(table, plan.tables)),
        notes=(currency.words, *plan.notes),
    )


def brief(plan: Estimate) -> list[str]:
    """The answer in at most ten lines of 80 columns: what was asked, the numbers that decide, where the rest is."""
    found = {row.name: row for row in plan.all_rows()}
    lines = _wrapped(plan.title, "", "", most=2)
    asked = [found[name] for name in ASKED if name in found and found[name].value is not None]
    if len(asked) < FEW:
        lines += _wrapped(plan.summary, "", "", most=3)
        asked = list(plan.rows)
    room = LINES - len(lines) - 1
    names = [ASKED.get(row.name, row.name.replace("_", " ")) for row in asked]
    column = 2 + max(map(len, names[:room]))
    for name, row in zip(names, asked, strict=True):
        wrapped = _wrapped(f"  {name:<{column}}{shown(row.value, row.unit)}", "", " " * (2 + column), most=2)
        if len(wrapped) > room:
            break
        room -= len(wrapped)
        lines += wrapped
    if plan.notes and room > 0:
        lines += _wrapped(f"note: {plan.notes[0]}", "", "      ", most=room)
    return [*lines, "--why shows how it came about and what it stands on; --json is for programs"]


def whole(plan: Estimate, width: int = WIDTH) -> list[str]:
    """All of a plan: rows with how they came about, tables, notes and constants."""
    return list(_whole(plan, max(40, width)))


def _whole(plan: Estimate, width: int) -> Iterator[str]:
    yield from textwrap.wrap(plan.title, width)
    yield from textwrap.wrap(plan.summary, width)
    for heading, rows in (("", plan.rows), *plan.parts):
        if rows:
            yield ""
            if heading:
                yield heading
            yield from _rows(rows, width)
    for table in plan.tables:
        yield ""
        yield from textwrap.wrap(table.title, width)
        yield from _table(table, width)
    if plan.notes:
        yield ""
    for note in plan.notes:
        yield from textwrap.wrap(f"note: {note}", width, subsequent_indent="      ")
    if plan.assumptions:
        yield from ("", "It stands on:")
        for fact in plan.assumptions:
            yield from textwrap.wrap(f"{fact.name}: {says(fact)}", width, initial_indent="  ", subsequent_indent="    ")


def _rows(rows: tuple[Row, ...], width: int) -> Iterator[str]:
    """A line each: name, value, and how it came about beside it, or below where there is no room."""
    names = max(len(row.name) for row in rows)
    values = max((len(shown(row.value, row.unit)) for row in rows), default=0)
    for row in rows:
        said = f"  {row.name.replace('_', ' '):<{names}}  {shown(row.value, row.unit)}"
        beside = f"{said:<{names + 4 + min(values, 34)}}  {row.why}"
        if row.why and len(beside) <= width:
            yield beside
            continue
        yield from textwrap.wrap(said, width, subsequent_indent=" " * (names + 4), drop_whitespace=True)
        yield from textwrap.wrap(row.why, width, initial_indent="      ", subsequent_indent="      ")


def _table(table: Table, width: int) -> Iterator[str]:
    """Columns side by side where they fit; else a block for each row."""
    units = table.units or ("",) * len(table.columns)
    cells = [[shown(v, u) for v, u in zip(row, units, strict=True)] for row in table.rows]
    heads = [column.strip() for column in table.columns]
    wide = [max(len(one) for one in column) for column in zip(heads, *cells, strict=True)]
    if sum(wide) + 2 * len(wide) <= width:
        for line in (heads, *cells):
            yield "  " + "  ".join(f"{one:<{size}}" for one, size in zip(line, wide, strict=True)).rstrip()
        return
    for first, *rest in cells:
        yield from textwrap.wrap(first, width, initial_indent="  ", subsequent_indent="  ")
        said = "; ".join(f"{head} {cell}" for head, cell in zip(heads[1:], rest, strict=True) if cell)
        yield from textwrap.wrap(said, width, initial_indent="    ", subsequent_indent="    ")


def _wrapped(text: str, first: str, rest: str, *, most: int) -> list[str]:
    """Text in at most so many lines; a word that is left out leaves dots."""
    keep = len(text) - len(text.lstrip(" "))
    return textwrap.wrap(
        text.lstrip(" "), WIDTH, initial_indent=first + " " * keep, subsequent_indent=rest, max_lines=most,
        placeholder=" ...",
    )  # fmt: skip


__all__ = ["Currency", "brief", "in_currency", "parse_currency", "whole"]
