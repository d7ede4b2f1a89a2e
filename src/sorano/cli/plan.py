"""`sorano plan`: what a job costs, before it runs. Offline, without a GPU and without importing torch.

Each command prints an answer of ten lines, with `--why` all that is behind it; `--json` prints one document,
`--html FILE` writes a page with charts.
"""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from sorano.cli.console import report_errors
from sorano.errors import RequestError, SoranoError
from sorano.plan.estimate import Estimate
from sorano.plan.machine import Profile

app = typer.Typer(
    help="What a job costs, before it runs: compute, memory, time, money, energy.",
    epilog="Start with:  sorano plan generate wan2.2-t2v-a14b --device h100 --count 8",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

commands = typer.Typer()
commands.add_typer(app, name="plan")

Device = Annotated[str | None, typer.Option(help="An accelerator, like h100; see sorano plan sources devices.")]
Count = Annotated[int, typer.Option(help="How many of them.")]
Price = Annotated[float | None, typer.Option("--price", help="USD per device-hour. Default: what is usual for it.")]
Grid = Annotated[str, typer.Option(help="Whose electricity: world, us, china, france, norway.")]
Stack = Annotated[str | None, typer.Option(help="Whose speed to assume, like fa2 or fa3. Default: the newest known.")]
AssumptionsFile = Annotated[Path | None, typer.Option("--facts", help="TOML with your own numbers, over ours by name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Html = Annotated[Path | None, typer.Option("--html", help="Also write a page with charts.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the page where it exists.")]
Why = Annotated[bool, typer.Option("--why", help="Show all: how each number came about, and what it stands on.")]
Currency = Annotated[
    str | None,
    typer.Option(help="Show money in another currency, at your own rate.", metavar="EUR=0.92@2026-11-20"),
]
Size = Annotated[str | None, typer.Option(help="Width x height, like 1280x720.", metavar="WxH")]
Seconds = Annotated[float | None, typer.Option(help="Of video.")]
Steps = Annotated[int | None, typer.Option("--num-steps", help="Denoising steps. Default: the model's.")]

COLLECT = object()  # the context's object when `compare` wants a plan, and nothing shown


def plan(planner: str, **readers: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function's options, and those of every plan, a command; `planner`, a function of sorano.plan like
    "edge:plan_edge", takes them by their names and answers. `readers` turn what was written into what it takes."""

    def register(options: Callable[..., None]) -> Callable[..., None]:
        def command(context: typer.Context, **given: Any) -> Estimate | None:
            shown = {name: given.pop(name) for name in shared if name != "assumptions"}

            def answer() -> Estimate:
                from sorano.plan.assumptions import load_assumptions

                for name, reader in readers.items():
                    given[name] = None if given[name] is None else reader(given[name])
                given["assumptions"] = load_assumptions(given["assumptions"])
                module, name = planner.split(":")
                return getattr(import_module(f"sorano.plan.{module}"), name)(**given)

            if context.obj is COLLECT:
                return answer()
            _show(answer, **shown)
            return None

        own = inspect.signature(options, eval_str=True).parameters
        shared = inspect.signature(_shared, eval_str=True).parameters
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own.values(), *shared.values())]
        command.__signature__ = inspect.Signature([context, *keywords])  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in (context, *keywords)}
        app.command(options.__name__, help=options.__doc__)(command)
        return options

    return register


def _shared(
    assumptions: AssumptionsFile = None,
    as_json: AsJson = False,
    html: Html = None,
    overwrite: Overwrite = False,
    why: Why = False,
    currency: Currency = None,
) -> None:
    """What every plan takes."""


def _memory(text: str) -> int:
    from sorano.request import parse_bytes

    return parse_bytes(text)


def _count(text: str) -> float:
    from sorano.units import parse_count

    return parse_count(text)


def _minutes(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < minute <= 1e5 for minute in found):
        raise RequestError(f"minutes are {text!r}", "write them like --minutes 1,10,60")
    return tuple(sorted(found))


@plan("inference:plan_generate", minutes=_minutes, memory_bytes=_memory)
def generate(
    model: Annotated[
        str | None,
        typer.Argument(help="A preset, a diffusers folder, a published model, or 30e9 parameters. Default: world."),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="A model of your own: its layers ...")] = None,
    width: Annotated[int | None, typer.Option(help="... and its width.")] = None,
    size: Size = None,
    seconds: Seconds = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second. Default: the model's.")] = None,
    num_steps: Steps = None,
    guided: Annotated[bool | None, typer.Option("--guided/--unguided", help="Two passes a step, or one.")] = None,
    device: Device = None,
    count: Count = 1,
    stack: Stack = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights: bfloat16, float8, int8, int4 ...")] = None,
    memory_bytes: Annotated[
        str | None, typer.Option("--memory", help="Plan within a budget for each device, like 12GB.")
    ] = None,
    minutes: Annotated[str, typer.Option(help="Films to compare with, in minutes.")] = "1,10,60",
    usd_hour: Price = None,
    grid: Annotated[
        str | None, typer.Option(help="Whose electricity: world, us, china, france, norway. Default: world.")
    ] = None,
) -> None:
    """What one video takes: on this machine, on a device of the catalogue, or on several."""


@plan("training:plan_train", parameters=_count)
def train(
    preset: Annotated[str | None, typer.Option(help="A model, with its published stages or usual ones.")] = None,
    config: Annotated[Path | None, typer.Option(help="A model and its stages in TOML.")] = None,
    parameters: Annotated[
        str | None, typer.Option("--params", help="A model of this many parameters, like 30e9 or 30B.")
    ] = None,
    flops: Annotated[float | None, typer.Option(help="A budget, like 8.4e23: which model, how much data.")] = None,
    device: Annotated[str | None, typer.Option(help="An accelerator, like h200. Default: the file's, or h100.")] = None,
    count: Annotated[int | None, typer.Option(help="How many of them. Default: the file's, or 1024.")] = None,
    usd_hour: Price = None,
    grid: Grid = "world",
) -> None:
    """What a training run takes, stage by stage; or which model a budget buys, by two scaling laws."""


@plan("serving:plan_serve")
def serve(
    model: Annotated[str, typer.Argument(help="A preset, a diffusers folder, or a published model.")],
    per_day: Annotated[float, typer.Option(help="Videos a day.")],
    peak: Annotated[float, typer.Option(help="The busiest hour over the average.")] = 2.5,
    wait: Annotated[float, typer.Option(help="Seconds until a video begins ...")] = 60.0,
    quantile: Annotated[float, typer.Option(help="... for this share of them.")] = 0.95,
    size: Size = None,
    seconds: Seconds = None,
    num_steps: Steps = None,
    device: Annotated[str, typer.Option(help="An accelerator, like h100.")] = "h100",
    count: Annotated[int, typer.Option(help="How many make one video together.")] = 1,
    service: Annotated[float | None, typer.Option(help="Seconds that one video takes. Default: planned.")] = None,
    play_a_day: Annotated[bool, typer.Option("--simulate", help="Also play a day, job by job (needs SimPy).")] = False,
    stack: Stack = None,
    usd_hour: Price = None,
    grid: Grid = "world",
) -> None:
    """How many devices a service needs for its waiting time, and what a video then costs."""


@plan("edge:plan_edge")
def edge(
    model: Annotated[str, typer.Argument(help="A preset, a diffusers folder, or a published model.")],
    device: Device = None,
    memory_gb: Annotated[float | None, typer.Option("--memory", help="GB of the device.")] = None,
    bandwidth_gb_s: Annotated[float | None, typer.Option("--bandwidth", help="GB/s of its memory.")] = None,
    tops: Annotated[float | None, typer.Option(help="Trillion operations a second.")] = None,
    size: Size = None,
    seconds: Seconds = None,
    num_steps: Steps = None,
    bits: Annotated[int | None, typer.Option(help="Of a weight: 16, 8 or 4. Default: as many as fit.")] = None,
) -> None:
    """Does a model fit a phone or a laptop, at how many bits, and how fast could it be at best? Without a device: which
    phones."""


@plan("claims:explain")
def explain(claim: Annotated[str, typer.Argument(help="sora-2024, gpt-3 or chatgpt-2023.")]) -> None:
    """A claim that many repeat: reproduced step by step, and what it leaves out."""


@app.command()
def compare(
    plans: Annotated[
        list[str], typer.Argument(help='Plans in quotes: "generate world" "generate world --num-steps 8".')
    ],
    as_json: AsJson = False,
    html: Html = None,
    overwrite: Overwrite = False,
) -> None:
    """Several plans side by side, in quotes."""
    with report_errors():
        from sorano.plan import estimate as answers

        made = [_collect(words) for words in plans]
        beside = answers.compare(*made)
        _say(beside, {"plans": [estimate.to_dict() for estimate in made]} if as_json else None)
        if html:
            _write_page([beside], html, overwrite)


@app.command()
def calibrate(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")] = "auto",
    as_json: AsJson = False,
    html: Html = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure this machine and keep its profile: later plans and runs predict from it. Half a minute on two cores."""
    with report_errors():
        from dataclasses import asdict

        from sorano.calibrate import calibrate as measure
        from sorano.plan.machine import cache_folder

        _refuse_existing(html, overwrite)  # before half a minute of work
        profile = measure(device, say=lambda text: print(text, file=sys.stderr, flush=True))
        made = _of_profile(profile)
        _say(made, asdict(profile) if as_json else None)
        if html:
            _write_page([made], html, overwrite)
        print(f"kept in {cache_folder()}", file=sys.stderr)


@app.command()
def sources(
    table: Annotated[
        str | None,
        typer.Argument(help="constants, devices, models, runs, measured, prices, stages or laws."),
    ] = None,
    assumptions: AssumptionsFile = None,
    as_json: AsJson = False,
    html: Html = None,
    overwrite: Overwrite = False,
) -> None:
    """Every number that plans stand on, with its source, date and tag."""
    with report_errors():
        from sorano.plan.assumptions import TABLES, TAGS, load_assumptions, nearest

        if table is not None and table not in TABLES:
            raise RequestError(f"there is no table {table!r}", f"the nearest is {nearest(table, list(TABLES))}")
        loaded = load_assumptions(assumptions)
        chosen = {name: loaded.table(name) for name in TABLES if table in (None, name)}
        made = _of_tables(chosen)
        _say(made, {"tags": TAGS, **chosen} if as_json else None)
        if html:
            _write_page([made], html, overwrite)


def _of_profile(profile: Profile) -> Estimate:
    """A machine's profile, for people."""
    from sorano.plan.estimate import Row

    rows = (
        ("matmul", profile.flops_per_second, "FLOP/s", "products of large matrices"),
        ("attention", profile.attention, "%", "of it in scores and values"),
        ("linear", profile.linear, "%", "of it in the rest of the transformer"),
        ("decode", profile.decode, "%", "of it in the autoencoder's decoder"),
        ("seconds_per_layer", profile.seconds_per_layer, "s", "besides the FLOPs, a layer"),
        ("start_seconds", profile.start_seconds, "s", "the first pass, besides"),
        ("write_pixels_per_second", profile.write_pixels_per_second, "pixels/s", "marked, encoded, read back"),
        ("seal_seconds", profile.seal_seconds, "s", "labels and the signature"),
        ("load_bytes_per_second", profile.load_bytes_per_second, "B/s", "weights from the disk"),
        ("load_seconds", profile.load_seconds, "s", "importing and building, besides"),
        ("base_bytes", profile.base_bytes, "bytes", "Python, torch and PyAV in main memory"),
        ("seal_bytes", profile.seal_bytes, "bytes", "of marking and signing"),
    )
    return Estimate(
        title=f"Profile: {profile.name}",
        summary="plans for this machine stand on it",
        rows=tuple(Row(*row) for row in rows),
    )


def _of_tables(tables: dict[str, list[dict[str, str]]]) -> Estimate:
    """Tables of facts, for people: each row's numbers in one cell, beside how they are known."""
    from sorano.plan.assumptions import TAGS, addresses
    from sorano.plan.estimate import Table

    apart = ("name", "tag", "date", "source", "note")
    made = []
    for name, rows in tables.items():
        cells = [
            (
                row["name"],
                "; ".join(f"{key} {value}" for key, value in row.items() if value and key not in apart),
                *(row.get(key, "") for key in apart[1:]),
                " ".join(one for one in addresses(row["source"]) if one not in row["source"]),
            )
            for row in rows
        ]
        made.append(Table(name, ("name", "what", *apart[1:], "address"), tuple(cells)))
    return Estimate(
        title="What plans stand on",
        summary=f"{sum(len(rows) for rows in tables.values())} rows; --facts puts your own over them by name",
        rows=(),
        tables=tuple(made),
        notes=tuple(f"{tag}: {words}" for tag, words in TAGS.items()),
    )


def _show(
    answer: Callable[[], Estimate], as_json: bool, html: Path | None, overwrite: bool, why: bool, currency: str | None
) -> None:
    with report_errors():
        from sorano.plan.words import in_currency, parse_currency

        own = parse_currency(currency) if currency else None
        made = answer()
        shown = made if own is None else in_currency(made, own)
        if html is not None:
            _write_page([shown], html, overwrite)
        document = made.to_dict() | ({"currency": vars(own)} if own else {})
        _say(shown, document if as_json else None, why)


def _say(made: Estimate, document: dict[str, Any] | None, why: bool = True) -> None:
    """One JSON document, or an answer for people: ten lines, or all with `why`."""
    if document is None:
        _print(made, why)
    else:
        print(json.dumps(document, ensure_ascii=False))


def _collect(words: str) -> Estimate:
    """The plan of a command line, without showing it."""
    try:
        parts = shlex.split(words)
    except ValueError as error:
        raise RequestError(f"{words!r} is no plan: {str(error).lower()}") from error
    if not parts or parts[0] not in ("generate", "train", "serve", "edge", "explain"):
        raise RequestError(f"{words!r} is no plan", 'each plan in quotes, like "generate world --device h100"')
    group = typer.main.get_command(app)
    try:
        made = group.main(parts, standalone_mode=False, prog_name="sorano plan", obj=COLLECT)
    except Exception as error:
        if isinstance(error, SoranoError) or not hasattr(error, "format_message"):
            raise
        raise RequestError(f"{words!r}: {error.format_message()}") from error
    if not isinstance(made, Estimate):  # --help was asked for
        raise RequestError(f"{words!r} made no plan")
    return made


def _print(made: Estimate, why: bool = True) -> None:
    import shutil

    from sorano.plan import words

    columns = shutil.get_terminal_size((words.WIDTH, 24)).columns
    print("\n".join(words.whole(made, columns) if why else words.brief(made)))


def _write_page(made: list[Estimate], file: Path, overwrite: bool) -> None:
    from sorano.plan.report import write_report

    _refuse_existing(file, overwrite)
    try:
        write_report(made, file)
    except OSError as error:
        raise RequestError(f"{file} cannot be written: {error.strerror}") from error
    print(f"page: {file}", file=sys.stderr)


def _refuse_existing(file: Path | None, overwrite: bool) -> None:
    if file is not None and file.exists() and not overwrite:
        raise RequestError(f"{file} exists", "--overwrite replaces it")
