"""What a plan answers: numbers with their bounds, the constants that they stand on, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sorano.plan.assumptions import TAGS, Assumption, addresses

CASES = ("low", "default", "high")
CARBON, ENERGY = "g CO2", "kWh"
SCALED = ("bytes", "s", "%", CARBON, ENERGY)  # units whose numbers are written each in a way of their own
CLEAR = 1.05  # of bounds whose quotient is less, three figures are shown, else two


@dataclass(frozen=True)
class Range:
    """A number and what bounds it: `low` and `high` come from the low and high values of every constant behind it."""

    low: float
    default: float
    high: float

    @classmethod
    def of(cls, *values: float) -> Range:
        """From the values of the cases, in any order; the second is the default."""
        return cls(min(values), values[1] if len(values) > 1 else values[0], max(values))

    def to_dict(self) -> dict[str, float]:
        """As in the JSON of a plan."""
        return {"low": self.low, "default": self.default, "high": self.high}


Value = int | float | str | bool | None | Range


@dataclass(frozen=True)
class Row:
    """One answer: a name that code can ask for, its value, its unit, and how it came about."""

    name: str
    value: Value
    unit: str = ""
    why: str = ""


@dataclass(frozen=True)
class Table:
    """Rows side by side. Numbers are kept as numbers; `units` is one a column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis; for pages."""

    title: str
    x_label: str
    y_label: str
    series: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    log: bool = True


@dataclass(frozen=True)
class BarChart:
    """Amounts beside each other, and a limit to compare them with; for pages."""

    title: str
    unit: str
    bars: tuple[tuple[str, float], ...]
    limit: tuple[str, float] | None = None


@dataclass(frozen=True)
class Estimate:
    """A plan: `estimate["seconds"]` is the value of a row, `facts` every constant that it stands on."""

    title: str
    summary: str
    rows: tuple[Row, ...]
    assumptions: tuple[Assumption, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart | BarChart, ...] = ()
    notes: tuple[str, ...] = ()  # what it leaves out, what to do next
    parts: tuple[tuple[str, tuple[Row, ...]], ...] = ()  # further rows under a heading

    def __getitem__(self, name: str) -> Any:
        for row in self.all_rows():
            if row.name == name:
                return row.value
        raise KeyError(name)

    def all_rows(self) -> Iterator[Row]:
        """Every row, those under headings too."""
        yield from self.rows
        for _, rows in self.parts:
            yield from rows

    def to_dict(self) -> dict[str, Any]:
        """One JSON document."""
        return {
            "title": self.title,
            "summary": self.summary,
            "values": {row.name: _plain(row.value) for row in self.all_rows()},
            "units": {row.name: row.unit for row in self.all_rows() if row.unit},
            "why": {row.name: row.why for row in self.all_rows() if row.why},
            "facts": [fact.to_dict() for fact in self.assumptions],
            "tables": [
                {
                    "title": t.title,
                    "columns": t.columns,
                    "units": t.units,
                    "rows": [[_plain(v) for v in r] for r in t.rows],
                }
                for t in self.tables
            ],
            "charts": [_drawn(chart) for chart in self.charts],
            "notes": list(self.notes),
        }


def compare(*plans: Estimate) -> Estimate:
    """Several plans side by side as one: a column each, a row for each name that any of them has."""
    names = dict.fromkeys(row.name for plan in plans for row in plan.all_rows())
    found = [{row.name: shown(row.value, row.unit) for row in plan.all_rows()} for plan in plans]
    rows = tuple((name.replace("_", " "), *(one.get(name, "") for one in found)) for name in names)
    titles = [plan.title for plan in plans]
    return Estimate(
        title=f"{len(plans)} plans side by side",
        summary="; ".join(plan.summary for plan in plans),
        rows=(),
        assumptions=unique([fact for plan in plans for fact in plan.assumptions]),
        tables=(Table("Side by side", ("", *titles), rows),),
        charts=tuple(replace(chart, title=f"{chart.title}: {plan.title}") for plan in plans for chart in plan.charts),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
    )


def unique(assumptions: Sequence[Assumption]) -> tuple[Assumption, ...]:
    """Each fact once, in order."""
    return tuple({fact.name: fact for fact in assumptions}.values())


def says(fact: Assumption) -> str:
    """A fact for people: "0.35 (0.25 to 0.55) share of peak; P: primary source; 2025; where from"."""
    tag = TAGS.get(fact.tag, fact.tag)
    number = f"{short(fact.value)} ({short(fact.low)} to {short(fact.high)}) {fact.unit}"
    where = " ".join(one for one in addresses(fact.source) if one not in fact.source)
    text = "; ".join(part for part in (number, tag, fact.date, fact.source, where) if part)
    return f"{text} ({fact.note})" if fact.note else text


def shown(value: Value, unit: str = "") -> str:
    """A value as people read it, with its bounds where it has any."""
    if isinstance(value, Range):
        if math.isclose(value.low, value.high, rel_tol=1e-9):
            return shown(value.default, unit)
        known = value.low > 0 and value.high / value.low < CLEAR
        figures = 3 if known or unit == "s" else 2  # of times, whose units are no powers of ten, `duration` shows three
        low, default, high = (rounded(one, figures) for one in (value.low, value.default, value.high))
        if unit in SCALED or is_money(unit):
            return f"{shown(default, unit)} ({shown(low, unit)} to {shown(high, unit)})"
        return f"{short(default)} ({short(low)} to {short(high)}) {unit}".rstrip()
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB"))
    if unit == "s":
        return duration(value)
    if is_money(unit):
        return f"{_money(value)} {unit}"
    if unit == CARBON:
        return _thousands(value, ("g", "kg", "t", "kt", "Mt")) + " CO2"
    if unit == ENERGY:
        return _thousands(1000 * value, ("Wh", "kWh", "MWh", "GWh", "TWh"))
    if unit == "FLOP":
        return f"{value:.3e} FLOP".replace("e+", "e")
    if unit == "%":
        return f"{100 * value:.3g} %"
    return f"{short(value)} {unit}".rstrip()


def is_money(unit: str) -> bool:
    """Whether a unit is a currency's code."""
    return len(unit) == 3 and unit.isascii() and unit.isupper()


def rounded(value: float, figures: int) -> float:
    """A number with so many figures."""
    if not value or not math.isfinite(value):
        return value
    return round(value, figures - 1 - math.floor(math.log10(abs(value))))


def _money(value: float) -> str:
    for scale, name in ((1e9, " billion"), (1e6, " million")):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g}{name}"
    return f"{rounded(value, 3):,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _thousands(value: float, units: tuple[str, ...]) -> str:
    """Three figures with the unit that keeps them below a thousand."""
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {units[power]}" if value < 999.5 else f"{rounded(value, 3):,.0f} {units[power]}"


def short(value: float) -> str:
    """Four figures at most: 4.667 T, 30.8 M, 0.325 (B for billions, T for trillions)."""
    if isinstance(value, int) and abs(value) < 1_000_000:
        return f"{value:,}"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        return f"{value:.3e}".replace("e+", "e")
    for scale, letter in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if size >= scale:
            return f"{value / scale:.4g}{letter}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    for limit, scale, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (86_400 * 700, 86_400, "days")):
        if seconds < limit:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 86_400 / 365.25:.3g} years"


def _drawn(chart: Chart | BarChart) -> dict[str, Any]:
    if isinstance(chart, BarChart):
        limit = {"limit": dict([chart.limit])} if chart.limit else {}
        return {"title": chart.title, "unit": chart.unit, "bars": dict(chart.bars), **limit}
    series = {name: [list(point) for point in points] for name, points in chart.series}
    return {"title": chart.title, "x": chart.x_label, "y": chart.y_label, "series": series}


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = min(len(units) - 1, max(0, int(math.log10(max(1, abs(value))) // 3)))
    return f"{value / 1000**power:.3g} {units[power]}"


def _plain(value: Value) -> Any:
    return value.to_dict() if isinstance(value, Range) else value
