"""What is known and how well: dated tables beside this file, a row a fact, with its source and how it was read.

| table         | a row is                                                                                   |
|---------------|--------------------------------------------------------------------------------------------|
| constants.csv | a constant with a low, a default and a high value                                          |
| devices.csv   | an accelerator: rates, memory, power, links, price an hour                                 |
| models.csv    | a video model of others whose cost can be planned                                          |
| runs.csv      | a published training run, or a stage of one; conflicting rows are all kept                 |
| measured.csv  | a published latency, energy or FLOP count, which the formulas are tested on                |
| prices.csv    | what a service charges for a second of video, or hosting a model oneself takes             |
| stages.csv    | a stage of a training plan: what a model is shown, how often                               |
| laws.csv      | the coefficients of a scaling law                                                          |

Tags: P read in a primary source, S in a secondary one, D derived from such, M from memory and not read again,
A an assumption, U the user's own. A user's file in TOML overrides cells of rows by name, or adds rows:

    [devices.h100]
    usd_h = 2.10
    [constants.goodput]
    value = 0.9
"""

from __future__ import annotations

import csv
import math
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from sorano.errors import RequestError

DATA = Path(__file__).parent / "data"
TABLES = ("constants", "devices", "models", "runs", "measured", "prices", "stages", "laws")
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
PRICE = ("usd_h_low", "usd_h", "usd_h_high")

# columns of numbers above 0 in a user's file; those of WHOLE have no fractions, those of ZERO may be 0, of SIGNED less
NUMBERS = {
    "constants": ("low", "value", "high"),
    "devices": (
        "bf16_tflops", "fp8_tflops", "int8_tops", "memory_gb", "bandwidth_gb_s", "watts", "link_gb_s", "link_devices",
        "matmul_tflops", *PRICE,
    ),
    "models": (
        "parameters_b", "layers", "dual_layers", "width", "heads", "ffn", "gated", "text_tokens", "vae_t", "vae_h",
        "vae_w", "patch_t", "patch_h", "patch_w", "causal", "frames", "fps", "steps", "branches",
    ),
    "measured": ("frames", "steps", "branches", "count", "seconds", "kilojoules", "watts"),
    "prices": ("usd_s_low", "usd_s", "usd_s_high"),
    "runs": ("gpu_hours", "flops_reported", "flops_6ND"),
    "stages": ("samples", "frames", "batch"),
    "laws": ("factor", "c_power", "d_power", "n_power", "c_unit", "result_unit"),
}  # fmt: skip
WHOLE = {
    "link_devices", "layers", "dual_layers", "width", "heads", "ffn", "gated", "text_tokens", "vae_h", "vae_w",
    "patch_t", "patch_h", "patch_w", "causal", "frames", "steps", "branches", "count",
}  # fmt: skip
SIGNED = {"c_power", "d_power", "n_power"}
ZERO = {"dual_layers", "gated", "text_tokens", "causal", "serve.overhead_s"}

KINDS = ("cross", "joint", "lm")  # text by cross-attention, text and video at once, language models

NEEDED = {  # without which a row of a user's own means nothing
    "constants": ("value", "unit"),
    "devices": ("family", "memory_gb", "bandwidth_gb_s"),
    "models": (
        "kind", "parameters_b", "layers", "width", "heads", "ffn", "text_tokens", "vae_t", "vae_h", "vae_w", "patch_t",
        "patch_h", "patch_w", "size", "frames", "fps", "steps", "branches",
    ),
    "runs": ("model",),
    "measured": ("model", "device", "seconds"),
    "prices": ("usd_s",),
    "stages": ("model", "samples", "size", "frames"),
}  # fmt: skip


# Where sources that are named without an address are; arXiv numbers and addresses in a source are found by themselves.
ADDRESSES = {
    "Epoch AI": "https://epoch.ai/data",
    "Spheron": "https://www.spheron.network",
    "ML.ENERGY": "https://ml.energy/leaderboard",
    "Movie Gen": "https://arxiv.org/abs/2410.13720",
    "Wan2.2 README": "https://github.com/Wan-Video/Wan2.2",
    "Wan2.1 README": "https://github.com/Wan-Video/Wan2.1",
    "Wan READMEs": "https://github.com/Wan-Video/Wan2.1",
    "wan/configs": "https://github.com/Wan-Video/Wan2.1",
    "Wan report": "https://arxiv.org/abs/2503.20314",
    "Wan: ": "https://arxiv.org/abs/2503.20314",
    "Step-Video": "https://arxiv.org/abs/2502.10248",
    "Seaweed": "https://arxiv.org/abs/2504.08685",
    "Llama 3": "https://arxiv.org/abs/2407.21783",
    "PaLM": "https://arxiv.org/abs/2204.02311",
    "GPT-3": "https://arxiv.org/abs/2005.14165",
    "xDiT": "https://github.com/xdit-project/xDiT",
    "stas00/ml-engineering": "https://github.com/stas00/ml-engineering",
    "PKU-YuanGroup/Open-Sora-Plan": "https://github.com/PKU-YuanGroup/Open-Sora-Plan",
    "docs/Report-v1.5.0.md": "https://github.com/PKU-YuanGroup/Open-Sora-Plan",
    "docs/report_0": "https://github.com/hpcaitech/Open-Sora",
    "SandAI-org/MAGI-1": "https://github.com/SandAI-org/MAGI-1",
    "genmoai/mochi": "https://github.com/genmoai/mochi",
    "SGLang": "https://github.com/sgl-project/sglang",
    "OpenRouter": "https://openrouter.ai",
    "OpenAI price list": "https://openai.com/api/pricing",
    "OpenAI on its": "https://openai.com/index/gpt-3-apps",
    "NVIDIA H100": "https://www.nvidia.com/en-us/data-center/h100",
    "NVIDIA V100": "https://www.nvidia.com/en-us/data-center/v100",
    "NVLink cut": "https://www.nvidia.com/en-us/data-center/h100",
    "400 Gbit/s cards": "https://www.nvidia.com/en-us/networking/infiniband-adapters",
    "diffusers config": "https://github.com/huggingface/diffusers",
    "The Decoder": "https://the-decoder.com",
    "benchmarks/": "benchmarks/ of this project",
    "docs/LOG.md": "docs/LOG.md of this project",
    "src/sorano/": "this project",
}


def addresses(source: str) -> tuple[str, ...]:
    """Where the sources that a text names can be read."""
    found = [f"https://arxiv.org/abs/{number}" for number in re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", source)]
    whole = re.findall(r"https?://[^\s;,()]+", source)
    found += whole
    if not whole:
        places = r"(?<![\w/.@])((?:[a-z0-9-]+\.)+(?:com|ai|io|net|org|it|co|network|dev)(?:/[^\s;,()]*)?)(?![\w])"
        found += [f"https://{place}" for place in re.findall(places, source)]
    found += [address for name, address in ADDRESSES.items() if name in source]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Assumption:
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
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**own, "addresses": list(addresses(self.source))}


@dataclass(frozen=True)
class Assumptions:
    """All tables. `rows[table][name]` is a row as read; the methods give numbers."""

    rows: Mapping[str, Mapping[str, Row]] = field(repr=False)
    user_file: Path | None = None

    def constant(self, name: str) -> Assumption:
        """The constant of this name. Raises RequestError, naming the nearest, for one that there is not."""
        row = self.row("constants", name)
        value = number(row, "value", "constants")
        return Assumption(
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


def load_assumptions(user_file: Path | None = None) -> Assumptions:
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


def find_name(rows: Mapping[str, Row], name: str) -> str:
    """The name of a row as people write it: "H100", "RTX 4090", "h100-sxm"; in small letters with dashes if new."""
    if name in rows:
        return name
    key = re.sub(r"[\s_]", "-", name.lower().strip())
    titles = {row["title"].lower().replace(" ", "-"): known for known, row in rows.items() if row.get("title")}
    short = {text.replace("-", ""): known for text, known in [*titles.items(), *((known, known) for known in rows)]}
    bare = key.replace("-", "")
    found = key if key in rows else titles.get(key) or short.get(bare)
    if found is None and any(map(str.isdigit, bare)):  # "A6000", "4090", "NVIDIA H100": the only one that it can be
        ends = {known for text, known in short.items() if text.endswith(bare) or bare.endswith(text)}
        found = ends.pop() if len(ends) == 1 else None
    return found or key


@cache
def _load(user_file: Path | None, _changed: int) -> Assumptions:
    rows = {table: _read_csv(DATA / f"{table}.csv") for table in TABLES}
    if user_file is not None:
        _override(rows, user_file)
    return Assumptions(rows, user_file)


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
        text = file.read_text(encoding="utf-8-sig")
        words = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} is not TOML: {error}", "write [devices.h100] and below it usd_h = 2.1") from error
    date = time.strftime("%Y-%m-%d", time.localtime(file.stat().st_mtime))
    for table, entries in words.items():
        if table not in TABLES or not isinstance(entries, dict):
            raise RequestError(
                f"{file}, line {line_of(text, table)}: there is no table {table!r}", f"tables are {', '.join(TABLES)}"
            )
        for written, cells in _named(entries):
            where = f"{file}, line {line_of(text, written)}"
            if not isinstance(cells, dict):
                raise RequestError(f"{where}: expected [{table}.{written}] and cells below it")
            name = find_name(rows[table], written) if table == "devices" else written
            lines = {column: f"{file}, line {line_of(text, column, after=written)}" for column in cells}
            rows[table][name] = _overridden(rows, table, name, cells, where, lines, f"your {file.name}", date)
    for device in words.get("devices", {}):  # after all tables: the shares of a new family may stand below
        row = rows["devices"][find_name(rows["devices"], device)]
        for share in (f"infer.{row['family']}", f"train.{row['family']}"):
            if share not in rows["constants"]:
                families = [known.removeprefix("train.") for known in rows["constants"] if known.startswith("train.")]
                raise RequestError(
                    f"{file}, line {line_of(text, 'family', after=device)}: no constant {share!r} says which share of "
                    f"its peak the family {row['family']!r} reaches",
                    f"families are {', '.join(families)}",
                )


def _named(entries: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Rows by name; [constants.grid.france], which TOML reads as tables in tables, is the row grid.france."""
    for name, cells in entries.items():
        inner = {key: cell for key, cell in cells.items() if isinstance(cell, dict)} if isinstance(cells, dict) else {}
        if not inner or len(inner) < len(cells):
            yield before + name, {key: cells[key] for key in cells if key not in inner} if inner else cells
        yield from _named(inner, f"{before}{name}.")


def _overridden(
    rows: dict[str, dict[str, Row]],
    table: str,
    name: str,
    cells: dict[str, Any],
    where: str,
    lines: dict[str, str],
    source: str,
    date: str,
) -> Row:
    """A row with a user's cells over it. `lines` says where each cell stands."""
    columns = list(next(iter(rows[table].values())))
    for column, value in cells.items():
        if column not in columns:
            raise RequestError(
                f"{lines[column]}: {table} has no column {column!r}", f"the nearest is {nearest(column, columns)}"
            )
        if isinstance(value, (dict, list, bool)):
            raise RequestError(f"{lines[column]}: {column} is {value!r}, and a number or a text was expected")
        if (table, column) == ("models", "kind") and value not in KINDS:
            raise RequestError(f"{lines[column]}: kind is {value!r}", f"known are: {', '.join(KINDS)}")
        if column in NUMBERS.get(table, ()):
            _check_number(name, column, value, lines[column])
    own = {column: str(value) for column, value in cells.items()}
    known = rows[table].get(name)
    lacking = [column for column in NEEDED.get(table, ()) if known is None and column not in cells]
    if lacking:
        near = nearest(name, rows[table])
        raise RequestError(
            f"{where}: {table} has no row {name!r}, and a new one needs {', '.join(lacking)}", f"the nearest is {near}"
        )
    row = (known or dict.fromkeys(columns, "") | {"name": name, "title": name}) | own
    _check_bounds(row, cells, lines)
    for low, middle, high in BOUNDED:
        if middle in cells:  # who gives one number means that one
            row |= {side: own[middle] for side in (low, high) if side not in cells}
    if table == "constants" and row["unit"].startswith("share"):
        for side in set(BOUNDED[0]) & set(cells):
            if float(own[side]) > 1:
                raise RequestError(f"{lines[side]}: {side} of {name} is {own[side]}, and a share is at most 1")
    source, date = own.get("source", source), own.get("date", date)
    if known is None or table in ("constants", "prices", "stages", "laws"):
        new = {"tag": "U", "source": source, "date": date, "note": own.get("note", "")}
        return {column: cell for column, cell in (row | new).items() if column in columns} | (
            {"price_tag": "U", "price_source": source, "price_date": date} if set(PRICE) & set(cells) else {}
        )
    specified = [column for column in cells if column not in (*PRICE, "source", "date", "tag", "note")]
    row |= {"source": known["source"], "date": known["date"]}
    if set(PRICE) & set(cells):
        row |= {"price_tag": "U", "price_source": source, "price_date": date}
    if specified:  # the other cells are still known as before
        row["source"] = f"{known['source']}; {', '.join(specified)}: {source}, {date}"
    return row


def _check_number(name: str, column: str, value: Any, where: str) -> None:
    try:
        top, _, bottom = str(value).partition("/")
        found = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise RequestError(f"{where}: {column} is {value!r}, and a number was expected") from None
    zero = not {column, name}.isdisjoint(ZERO)
    if not (math.isfinite(found) and (found > 0 or zero and found == 0 or column in SIGNED)):
        raise RequestError(f"{where}: {column} is {value}, and must be {'at least' if zero else 'above'} 0")
    if column in WHOLE and found != int(found):
        raise RequestError(f"{where}: {column} is {value}, and must be a whole number")


def _check_bounds(row: Row, cells: dict[str, Any], lines: dict[str, str]) -> None:
    """What a user bounds must lie on its side of the value."""
    for low, middle, high in BOUNDED:
        for small, large in ((low, middle), (middle, high), (low, high)):
            side = small if small in cells and small != middle else large
            if side in cells and row.get(small) and row.get(large) and float(row[small]) > float(row[large]):
                if middle in cells and not {small, large} <= set(cells):
                    continue  # the other side follows the value
                raise RequestError(f"{lines[side]}: {small} is {row[small]}, and {large} is {row[large]}")


def line_of(text: str, word: str, after: str = "") -> int:
    """The line (from 1) where a key stands, after the line of another where that is given."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if after and after in line and line.lstrip().startswith("[")), 0)
    for number_, line in enumerate(lines[start:], start + 1):
        if re.search(rf"(^|[\[.\s\"']){re.escape(word)}($|[\].\s=\"'])", line):
            return number_
    return start + 1
