"""A plan as a page of its own: tables and charts (SVG) in one HTML file, with nothing fetched from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from pathlib import Path

from sorano.plan.estimate import BarChart, Chart, Estimate, Row, Table, says, short, shown

COLOURS = ("#2f6fed", "#d9480f", "#2b8a3e", "#9c36b5", "#e8590c", "#0b7285")
WIDTH, HEIGHT, LEFT, RIGHT, BELOW = 720, 340, 84, 32, 46
LEGEND = 4  # names beside each other

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; display: block; overflow-x: auto; }
td, th { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.why, .note { color: #888; } svg { width: 100%; height: auto; background: var(--soft); border-radius: 6px; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; } .sum { font-size: 1.1rem; }
@media print {
  @page { margin: 1.5cm; } :root { color-scheme: light; }
  body { font-size: 10pt; margin: 0; max-width: none; padding: 0; } td.why, .note { color: #444; }
  table { display: table; font-size: 9pt; } td, th { white-space: normal; overflow-wrap: anywhere; }
  tr, svg, figure { break-inside: avoid; } h1, h2 { break-after: avoid; }
}
"""


def write_report(estimates: list[Estimate], file: Path) -> None:
    """Writes the page, under a temporary name first."""
    beside = file.with_name(f".{file.name}.part")
    beside.write_text(page(estimates), encoding="utf-8")
    beside.replace(file)


def page(estimates: list[Estimate]) -> str:
    """The whole page."""
    title = escape(" / ".join(estimate.title for estimate in estimates))
    body = "\n".join(_section(estimate) for estimate in estimates)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n{body}\n'
        "<p class=note>Made by sorano plan. Low and high come from the low and high value of every constant above.</p>"
        "</body></html>\n"
    )


def _section(estimate: Estimate) -> str:
    parts = [f"<h1>{escape(estimate.title)}</h1>", f"<p class=sum>{escape(estimate.summary)}</p>", _rows(estimate.rows)]
    for heading, rows in estimate.parts:
        if rows:
            parts += [f"<h2>{escape(heading)}</h2>", _rows(rows)]
    for chart in estimate.charts:
        parts += [f"<h2>{escape(chart.title)}</h2>", svg(chart)]
    parts += [_table(table) for table in estimate.tables]
    if estimate.notes:
        parts.append("<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in estimate.notes) + "</ul>")
    if estimate.assumptions:
        parts.append("<h2>What it stands on</h2><table>")
        parts += [
            f"<tr><td>{escape(f.name)}</td><td class=why>{escape(says(f))}</td></tr>" for f in estimate.assumptions
        ]
        parts.append("</table>")
    return "\n".join(parts)


def _rows(rows: tuple[Row, ...]) -> str:
    lines = [
        f"<tr><td>{escape(row.name.replace('_', ' '))}</td><td class=number>{escape(shown(row.value, row.unit))}</td>"
        f"<td class=why>{escape(row.why)}</td></tr>"
        for row in rows
    ]
    return "<table>" + "".join(lines) + "</table>"


def _table(table: Table) -> str:
    units = table.units or ("",) * len(table.columns)
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    lines = [
        "<tr>"
        + "".join(f"<td class=number>{escape(shown(v, u))}</td>" for v, u in zip(row, units, strict=True))
        + "</tr>"
        for row in table.rows
    ]
    return f"<h2>{escape(table.title)}</h2><table><tr>{head}</tr>{''.join(lines)}</table>"


def svg(chart: Chart | BarChart) -> str:
    """The lines of a chart; both axes logarithmic where it says so and nothing lies at or below zero. Or its bars."""
    if isinstance(chart, BarChart):
        return _bars(chart)
    points = [point for _, line in chart.series for point in line if all(math.isfinite(part) for part in point)]
    if not points:
        return "<p class=note>nothing to draw</p>"
    log = chart.log and min(min(x, y) for x, y in points) > 0
    x_of, x_ticks = _axis([x for x, _ in points], log, LEFT, WIDTH - RIGHT, from_zero=False)
    top = 26 + 16 * ((len(chart.series) - 1) // LEGEND)  # below the names of the lines
    y_of, y_ticks = _axis([y for _, y in points], log, HEIGHT - BELOW, top, from_zero=True)
    drawn = []
    for value in x_ticks:
        at = x_of(value)
        drawn.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{HEIGHT - BELOW}" stroke="#8883"/>')
        drawn.append(f'<text x="{at:.1f}" y="{HEIGHT - BELOW + 16}" text-anchor="middle">{escape(_tick(value))}</text>')
    for value in y_ticks:
        at = y_of(value)
        drawn.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#8883"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(_tick(value))}</text>')
    for number, (name, line) in enumerate(chart.series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line if math.isfinite(x) and math.isfinite(y))
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        at_x, at_y = LEFT + 8 + 170 * (number % LEGEND), 16 * (1 + number // LEGEND)
        drawn.append(f'<text x="{at_x}" y="{at_y}" style="fill:{colour}">{escape(name)}</text>')
    middle = (LEFT + WIDTH) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>')
    turned = f'transform="rotate(-90 12 {HEIGHT / 2})" text-anchor="middle"'
    drawn.append(f'<text x="12" y="{HEIGHT / 2}" {turned}>{escape(chart.y_label)}</text>')
    label = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _bars(chart: BarChart) -> str:
    """A bar below the other, each with its name and amount, and a line at the limit."""
    most = max([amount for _, amount in chart.bars] + ([chart.limit[1]] if chart.limit else [])) or 1.0
    left, right, height = 150, 90, 40 + 34 * len(chart.bars)
    scale = (WIDTH - left - right) / most
    drawn = []
    for number, (name, amount) in enumerate(chart.bars):
        at = 30 + 34 * number
        colour = COLOURS[1] if chart.limit and amount > chart.limit[1] else COLOURS[0]
        drawn.append(f'<text x="{left - 8}" y="{at + 16}" text-anchor="end">{escape(name)}</text>')
        drawn.append(f'<rect x="{left}" y="{at}" width="{scale * amount:.1f}" height="22" fill="{colour}"/>')
        said = escape(shown(amount, chart.unit))
        drawn.append(f'<text x="{left + scale * amount + 6:.1f}" y="{at + 16}">{said}</text>')
    if chart.limit:
        at_x, said = left + scale * chart.limit[1], f"{chart.limit[0]}: {shown(chart.limit[1], chart.unit)}"
        drawn.append(f'<line x1="{at_x:.1f}" y1="22" x2="{at_x:.1f}" y2="{height - 6}" stroke="currentColor"/>')
        drawn.append(f'<text x="{at_x:.1f}" y="16" text-anchor="middle">{escape(said)}</text>')
    label = escape(f"{chart.title}: " + ", ".join(f"{name} {shown(amount, chart.unit)}" for name, amount in chart.bars))
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _tick(value: float) -> str:
    return f"{value:.0e}".replace("e+", "e") if value >= 1e15 else short(value)


def _axis(
    values: list[float], log: bool, start: float, end: float, *, from_zero: bool
) -> tuple[Callable[[float], float], list[float]]:
    """A map from values to pixels, and where to write numbers."""
    low, high = min(values), max(values)
    if log:
        low, high = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        high = max(high, low + 1)
        step = max(1, math.ceil((high - low) / 8))
        ticks = [10.0**power for power in range(int(low), int(high) + 1, step)]
    else:
        low = min(0.0, low) if from_zero else low
        high = high if high > low else low + 1
        step_ = 10 ** math.floor(math.log10((high - low) / 4))
        step_ = next(step_ * k for k in (1, 2, 5, 10) if (high - low) / (step_ * k) <= 6)
        first = math.ceil(low / step_)
        ticks = [k * step_ for k in range(first, int(high / step_) + 1)]

    def place(value: float) -> float:
        at = math.log10(value) if log else value
        return start + (at - low) / (high - low) * (end - start)

    return place, ticks
