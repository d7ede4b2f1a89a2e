"""`sorano plan train`: what training a video model takes, stage by stage, or which model a budget of FLOPs buys.

FLOPs of a sample   3 forward passes; computing activations again costs a fourth, which MFU leaves out
a step's seconds    the longer of batch x FLOPs / (busy devices x peak x MFU) and FSDP's gathering, and on top what the
                    devices that share a sample exchange and no work hides
busy devices        samples of a batch x devices a sample, at most
a stage's time      steps x a step / the smaller of goodput and what failures and checkpoints leave (Daly)
device-hours        sum over stages of time x devices, busy or not
memory, a device    (16 P / shards + 6 P_block) + 2 L s D / CP + gamma s D / CP, x fragmentation, + buffers
                    (FSDP2: 4 + 4 + 8 bytes of weights, gradients and Adam; two gathered blocks and one's gradients;
                    the input of each block; the block that is computed again). P is what is trained: one transformer.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.assumptions import Assumption, Assumptions, line_of, load_assumptions, nearest, number
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, duration, short, unique
from sorano.plan.flops import Costed, PresetModel, PublishedModel, find_model, of_dimensions, published
from sorano.plan.hardware import Device, find_device, training_share
from sorano.plan.money import costs
from sorano.plan.parallel import (
    exchange_seconds,
    fsdp_bytes,
    gather_seconds,
    kept_share,
    ring_exposed_seconds,
    split_tokens,
    young_daly,
)
from sorano.shapes import VideoShape, parse_size

OPTIMIZER_BYTES = 16  # a parameter: float32 weight, gradient and Adam's two moments
EMA_BYTES = 4
BEST_CASES = tuple(zip(CASES, ("high", "default", "low"), strict=True))  # fewest hours: the highest rates

# what a number of a plan must be: from, to, whole or not
NUMBERS = {
    "parameters": (1e6, 1e14, False),
    "samples": (1, 1e15, False),
    "frames": (1, 100_000, True),
    "batch": (1, 1e9, True),
    "clips": (1, 1e15, False),
    "count": (1, 10_000_000, True),
    "mfu": (0.001, 1, False),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training: what is seen, how often, on how much."""

    name: str
    samples: float  # seen, repeats counted
    size: str = "256x256"
    frames: int = 1
    batch: int | None = None  # samples a step; None: what a scaling law says
    clips: float | None = None  # different ones, for storage; None: as many as samples, at most 1e9 pictures, 1e8 clips
    count: int | None = None  # devices; None: the plan's
    mfu: float | None = None  # 0 to 1; None: what is usual for the device


@dataclass(frozen=True)
class OptimizerStep:
    """One optimizer step of a stage on its devices."""

    context: int  # devices a sample
    busy: int  # devices that work
    compute: float  # seconds
    gathered: float  # seconds of FSDP, which work hides while it takes longer
    exchanged: float  # seconds of exchanging tokens that no work hides

    @property
    def seconds(self) -> float:
        """All of it."""
        return max(self.compute, self.gathered) + self.exchanged


def plan_train(
    preset: str | None = None,
    *,
    config: Path | None = None,
    flops: float | None = None,
    parameters: float | None = None,
    device: str | None = None,
    count: int | None = None,
    usd_hour: float | None = None,
    grid: str = "world",
    assumptions: Assumptions | None = None,
) -> Estimate:
    """What a training run takes.

    Exactly one of: `preset` (a model, with its published stages or usual ones), `config` (stages in TOML), `flops` (a
    budget: which model, how much data), `parameters` (a model of this size in Movie Gen's proportions). `device` and
    `count` stand over those of a config; without either it is 1,024 of h100.
    """
    assumptions = assumptions or load_assumptions()
    given = [value for value in (preset, config, flops, parameters) if value is not None]
    if len(given) != 1:
        raise RequestError("say what to train in one way", "one of --preset, --config, --params or --flops")
    if count is not None:
        count = _checked("", "count", count)
    if parameters is not None:
        parameters = _checked("", "parameters", parameters, hint="like --params 30e9")
    notes: list[str] = []
    if config is not None:
        model, stages, words = read_config(assumptions, config)
        for name, asked in (("device", device), ("count", count)):
            if asked is not None and words.get(name, asked) != asked:
                notes.append(f"{name} {asked} was asked for, and stands over {words[name]} of {config}")
        device, count = device or words.get("device"), count or words.get("count")
        known: tuple[Assumption, ...] = ()
    elif preset is not None:
        model = find_model(assumptions, preset)
        stages, known = read_stages(assumptions, preset)
        if isinstance(model, PresetModel) and model.name == "world":
            count = count or 1
            notes = [
                "sorano train world --recipe cpu     makes it, with its autoencoder: two cores, about two hours",
                f"{launch_line(count, find_device(assumptions, device or 'h100'))}     makes a larger one",
                "the hours are arithmetic alone: so small a model waits for everything else",
            ]
            if count > 1:
                notes.insert(2, "each process takes a share of every batch: as many as divide those of --dry-run")
    elif parameters is not None:
        model = of_dimensions(parameters=parameters, like=published(assumptions, "movie-gen-30b"))
        stages, known = read_stages(assumptions, "usual")
    on, count = find_device(assumptions, device or "h100"), count or 1024
    if flops is not None:
        return _of_budget(assumptions, flops, on, count, usd_hour, grid)
    assumed = [(stage.name, fact.source) for stage, fact in zip(stages, known, strict=False) if fact.tag == "A"]
    if assumed:
        names, sources = zip(*assumed, strict=True)
        notes.append(f"what the stages show ({'; '.join(names)}) is an {'; '.join(dict.fromkeys(sources))}")
    return _of_stages(assumptions, model, stages, on, count, usd_hour, grid, notes=notes, used=list(known))


def launch_line(count: int, device: Device) -> str:
    """The command that trains the world model on so many devices; with more than a node's, on each of the nodes."""
    command = "sorano train world --recipe gpu"
    if count == 1:
        return command
    nodes = math.ceil(count / device.link_devices)
    where = (
        "--standalone"
        if nodes == 1
        else f"--nnodes {nodes} --rdzv-id world --rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500"
    )
    return f"torchrun {where} --nproc-per-node {math.ceil(count / nodes)} -m {command}"


def read_stages(assumptions: Assumptions, model: str) -> tuple[tuple[Stage, ...], tuple[Assumption, ...]]:
    """The stages of a model in stages.csv, or the usual ones, each with how it is known."""
    rows = [row for row in assumptions.table("stages") if row["model"] == model]
    if not rows:
        return read_stages(assumptions, "usual")
    stages, known = [], []
    for row in rows:
        where = f"stages.{row['name']}: "
        numbers = {key: number(row, key, "stages") for key in ("samples", "frames", "batch")}
        cells = {key: _checked(where, key, value) for key, value in numbers.items()}
        stages.append(Stage(name=row["title"] or row["name"], size=_checked(where, "size", row["size"]), **cells))
        words = {key: row[key] for key in ("tag", "date", "source", "note")}
        seen = numbers["samples"]
        known.append(Assumption(f"stages.{row['name']}", seen, seen, seen, "samples", **words))
    return tuple(stages), tuple(known)


def read_config(assumptions: Assumptions, file: Path) -> tuple[Costed, tuple[Stage, ...], dict[str, Any]]:
    """A model and its stages from TOML. Raises RequestError naming the key that is wrong, and its line.

    model = "movie-gen-30b"            # or parameters = 30e9
    device = "h200"
    count = 1024
    [[stage]]
    name = "pictures"
    samples = 2e9
    size = "256x256"
    frames = 1
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        words = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # also bytes that are no text, and numbers of thousands of digits
        raise RequestError(f"{file} is not TOML: {error}") from error
    _refuse_unknown(file, text, words, ("model", "parameters", "device", "count", "stage"))
    entries = words.pop("stage", [])
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        raise RequestError(f"{file} has no [[stage]]", "below each [[stage]] write a name and samples")
    words = {key: _checked(_where(file, text, key), key, value) for key, value in words.items()}
    names = tuple(field.name for field in fields(Stage))
    stages: list[Stage] = []
    for place, entry in enumerate(entries):
        _refuse_unknown(file, text, entry, names, place)
        for key in ("name", "samples"):
            if key not in entry:
                raise RequestError(f"{_where(file, text, '[[stage]]', place)}this stage has no {key}")
        stages.append(Stage(**{k: _checked(_where(file, text, k, place), k, v) for k, v in entry.items()}))
    if ("model" in words) == ("parameters" in words):
        raise RequestError(f"{file} needs a model or parameters, one of the two")
    try:
        key = "device"
        if "device" in words:
            find_device(assumptions, words["device"])
        key = "model"
        model: Costed = (
            find_model(assumptions, words["model"])
            if "model" in words
            else of_dimensions(parameters=words["parameters"], like=published(assumptions, "movie-gen-30b"))
        )
    except RequestError as error:
        raise RequestError(f"{_where(file, text, key)}{error.message}", error.hint) from error
    return model, tuple(stages), words


def trained_parameters(model: Costed) -> int:
    """The weights that a run trains: one transformer. Autoencoder, text encoder and a second expert stand still; of
    published models the headline counts no more than that."""
    return model.parameters if isinstance(model, PresetModel) else model.all_parameters


def stage_flops(model: Costed, stage: Stage) -> float:
    """Model FLOPs of a stage: three forward passes a sample."""
    return 3 * stage.samples * model.forward(_shape(model, stage)).total


def device_hours(flops: float, device: Device, mfu: float, goodput: float) -> float:
    """Hours of one device for so many model FLOPs."""
    return flops / (device.flops_per_second * mfu * goodput * 3600)


def train_memory(
    assumptions: Assumptions,
    model: Costed,
    tokens: int,
    *,
    shards: int,
    context: int,
    batch: int = 1,
    checkpointing: bool = True,
    ema: bool = False,
    case: str = "default",
) -> dict[str, float]:
    """Bytes on each device, by what they are (the module's formula). `context`: devices that share a sample."""
    gamma, slack = assumptions.constant("memory.gamma").at(case), assumptions.constant("memory.fragmentation").at(case)
    buffers = assumptions.constant("memory.nccl_gb").at(case) * 1e9
    trained = trained_parameters(model)
    states = (OPTIMIZER_BYTES + EMA_BYTES * ema) * trained / shards
    blocks = 6 * trained / model.layers
    one = batch * tokens / context * model.width
    kept = 2 * model.layers * one if checkpointing else gamma * model.layers * one
    working = gamma * one if checkpointing else 0.0
    parts = {"states": states, "gathered blocks": blocks, "kept activations": kept, "block computed again": working}
    return {**parts, "fragmentation": (slack - 1) * sum(parts.values()), "buffers": buffers}


def smallest_context(
    assumptions: Assumptions, model: Costed, tokens: int, device: Device, count: int
) -> tuple[int, dict[str, float]]:
    """The fewest devices that must share a sample for it to fit, with what then lies on each."""
    context = 1
    while True:
        parts = train_memory(assumptions, model, tokens, shards=count, context=context)
        if sum(parts.values()) <= _usable_bytes(assumptions, device) or context * 2 > count:
            return context, parts
        context *= 2


def plan_step(
    assumptions: Assumptions,
    model: Costed,
    stage: Stage,
    device: Device,
    devices: int,
    context: int,
    rates: str = "default",
) -> OptimizerStep:
    """A step of a stage with `context` devices a sample; `rates` is the case of what devices and networks reach."""
    shape = _shape(model, stage)
    tokens, forward = model.tokens(shape), model.forward(shape)
    assert stage.batch is not None
    replicas = min(stage.batch, max(1, devices // context))
    each = stage.batch / replicas  # samples of a replica
    speed = context * device.flops_per_second * (stage.mfu or training_share(assumptions, device).at(rates))
    compute = each * 3 * forward.total / speed
    if devices == 1:
        return OptimizerStep(1, 1, compute, 0.0, 0.0)
    network: dict[str, float] = {
        "link_share": assumptions.constant("link.share").at(rates),
        "nic_bytes_per_second": assumptions.constant("nic.gb_s").at(rates) * 1e9,
    }
    one, two = (
        sum(train_memory(assumptions, model, tokens, shards=devices, context=context, batch=b).values()) for b in (1, 2)
    )
    held = 1 + max(
        0, int((_usable_bytes(assumptions, device) - one) / (two - one))
    )  # samples at once, between gatherings
    gathered = math.ceil(each / held) * gather_seconds(
        fsdp_bytes(trained_parameters(model)), device, devices, **network
    )
    split = split_tokens(context, model.heads, device.link_devices)
    # Ulysses: forward, computed again, backward. A ring sends twice as much backward as forward
    exchanged = 3 * exchange_seconds(model, tokens, split, device, **network)
    exchanged += 4 * ring_exposed_seconds(model, tokens, split, device, forward.attention / speed, **network)
    return OptimizerStep(context, context * replicas, compute, gathered, each * exchanged)


def fastest_step(assumptions: Assumptions, model: Costed, stage: Stage, device: Device, devices: int) -> OptimizerStep:
    """The step with as many devices a sample as are fastest: from the fewest that hold it to all of a node."""
    context, _ = smallest_context(assumptions, model, model.tokens(_shape(model, stage)), device, devices)
    steps = [plan_step(assumptions, model, stage, device, devices, context)]
    while (context := 2 * context) <= min(devices, device.link_devices, model.heads):
        steps.append(plan_step(assumptions, model, stage, device, devices, context))
    return min(steps, key=lambda step: step.seconds)


def working_share(assumptions: Assumptions, devices: int, rates: str = "default", cost: str = "default") -> float:
    """The share of time that is work: goodput, or less where failures of so many devices leave less."""
    apart, write = (
        assumptions.constant("restart.hours_between_failures"),
        assumptions.constant("restart.checkpoint_seconds"),
    )
    kept = kept_share(apart.at(rates) * 3600 / devices, write.at(cost))
    return min(assumptions.constant("goodput").at(rates), kept)


@dataclass(frozen=True)
class PlannedStage:
    """A stage on its devices: an optimizer step of it, how long all of it takes, and what lies on each device."""

    stage: Stage  # with its batch
    shape: VideoShape
    tokens: int  # of a sample
    flops: float
    attention_share: float
    devices: int
    step: OptimizerStep
    seconds: Range
    memory: dict[str, float]  # bytes on each device, by what they are

    @property
    def memory_bytes(self) -> float:
        """On each device, all of it."""
        return sum(self.memory.values())


def plan_stage(assumptions: Assumptions, model: Costed, asked: Stage, device: Device, count: int) -> PlannedStage:
    """Plan a stage, with its own number of devices or else `count`, in the fastest split of its samples."""
    shape = _shape(model, asked)
    tokens = model.tokens(shape)
    stage = _with_batch(assumptions, model, asked, tokens)
    assert stage.batch is not None
    devices = stage.count or count
    chosen = fastest_step(assumptions, model, stage, device, devices)
    seconds: dict[str, float] = {}
    for case, rates in BEST_CASES:
        step = plan_step(assumptions, model, stage, device, devices, chosen.context, rates)
        seconds[case] = stage.samples / stage.batch * step.seconds / working_share(assumptions, step.busy, rates, case)
    return PlannedStage(
        stage=stage,
        shape=shape,
        tokens=tokens,
        flops=stage_flops(model, asked),
        attention_share=model.forward(shape).attention_share,
        devices=devices,
        step=chosen,
        seconds=Range(**seconds),
        memory=train_memory(assumptions, model, tokens, shards=devices, context=chosen.context),
    )


def _of_stages(
    assumptions: Assumptions,
    model: Costed,
    stages: tuple[Stage, ...],
    device: Device,
    count: int,
    usd_hour: float | None,
    grid: str,
    *,
    notes: list[str],
    used: list[Assumption],
) -> Estimate:
    rnd, other = assumptions.constant("rnd.factor"), assumptions.constant("other.share")
    used += [training_share(assumptions, device), assumptions.constant("goodput"), rnd, other]
    used += [assumptions.constant(f"memory.{name}") for name in ("gamma", "fragmentation", "nccl_gb", "usable")]
    planned = [plan_stage(assumptions, model, stage, device, count) for stage in stages]
    for asked, one in zip(stages, planned, strict=True):
        notes += _notes_of_stage(assumptions, asked, one)
    flops, tokens = sum(one.flops for one in planned), sum(one.tokens * one.stage.samples for one in planned)
    seconds = Range(*(sum(getattr(one.seconds, case) for one in planned) for case in CASES))
    paid = Range(*(sum(getattr(one.seconds, case) * one.devices for one in planned) for case in CASES))
    money, more = costs(assumptions, device, paid, usd_hour=usd_hour, grid=grid)
    used += more
    counts = [one.devices for one in planned]
    on = f"{_span(counts)} x {device.title}"
    hours = Range(*(getattr(paid, case) / 3600 for case in CASES))
    answers = [
        *_work_rows(model, planned, flops, tokens),
        _hours_row(assumptions, device, hours),
        Row("days", Range(*(getattr(seconds, case) / 86_400 for case in CASES)), "days", on),
        *money,
    ]
    optima = [laws.hunyuan(assumptions, flops), laws.precise(assumptions, flops)]
    if isinstance(model, PresetModel) and model.configs.transformer_2 is not None:
        notes.append("two experts share the samples and are trained one at a time: memory and checkpoints are one's")
    busiest = max(one.step.busy for one in planned)
    if busiest > 1:
        notes.append(_restarts(assumptions, busiest, used))
    step_tables = [_step_table(model, planned, device)] if max(counts) > 1 else []
    return Estimate(
        title=f"Train: {model.title} on {on}",
        summary=f"{short(hours.default)} device-hours, {duration(seconds.default)} on {_span(counts)}",
        rows=tuple(answers),
        assumptions=unique(used),
        tables=(_stage_table(planned), *step_tables, _law_table(assumptions, optima, flops)),
        charts=(_schedule_chart(planned),),
        notes=("left out: data and people; programme_ rows add failed runs and captioning", *notes),
        parts=(
            ("The whole programme", tuple(_programme_rows(money, rnd, other))),
            ("Memory", tuple(_memory_rows(assumptions, model, planned, device))),
            ("Batch and rate", tuple(_law_rows(assumptions, model, tokens))),
            ("Storage", tuple(_storage(assumptions, model, stages, used))),
        ),
    )


def _notes_of_stage(assumptions: Assumptions, asked: Stage, planned: PlannedStage) -> list[str]:
    """What a reader should know of a stage: where its batch is from, devices that wait, steps that wait for FSDP."""
    stage, step, notes = planned.stage, planned.step, []
    if asked.batch is None:
        notes.append(
            f"assumption: {stage.name}: a batch of {stage.batch:,}, by {_source(assumptions, 'precise.batch')}"
        )
    if step.busy < planned.devices:
        notes.append(_idle(stage, step, planned.devices))
    if step.gathered > step.compute:
        notes.append(
            f"{stage.name}: a step takes FSDP {duration(step.gathered)} and work {duration(step.compute)}: "
            "more devices make it no faster, and a larger batch costs no more time"
        )
    return notes


def _work_rows(model: Costed, planned: list[PlannedStage], flops: float, tokens: float) -> list[Row]:
    linear_flops = sum(6 * model.parameters * one.tokens * one.stage.samples for one in planned)
    return [
        Row("flops", flops, "FLOP", "three forward passes a sample, attention counted"),
        Row("hardware_flops", flops * 4 / 3, "FLOP", "with activations computed again: a fourth pass"),
        Row("flops_6nd", linear_flops, "FLOP", "6 N D, which leaves attention out"),
        Row("tokens", tokens, "tokens", "video tokens seen"),
    ]


def _hours_row(assumptions: Assumptions, device: Device, hours: Range) -> Row:
    mfu, goodput = training_share(assumptions, device), assumptions.constant("goodput")
    return Row(
        "device_hours",
        hours,
        "h",
        f"MFU {mfu.value:g} (model FLOPs), goodput {goodput.value:g} or what failures leave, what exchange adds",
    )


def _programme_rows(money: list[Row], rnd: Assumption, other: Assumption) -> list[Row]:
    """Dollars and energy with the runs that fail, the autoencoder and the captions."""
    factor = {case: rnd.at(case) * (1 + other.at(case)) for case in CASES}
    why = f"x {rnd.value:g} for runs that fail and are compared, + {other.value:g} for autoencoder and captions"
    return [
        Row(
            f"programme_{row.name}",
            Range(*(getattr(row.value, case) * factor[case] for case in CASES)),
            row.unit,
            why,
        )
        for row in money
        if row.name in ("usd", "kwh") and isinstance(row.value, Range)
    ]


def _memory_rows(assumptions: Assumptions, model: Costed, planned: list[PlannedStage], device: Device) -> list[Row]:
    """What lies on a device in the stage that takes most."""
    widest = max(planned, key=lambda one: one.memory_bytes)
    held, usable = widest.memory_bytes, _usable_bytes(assumptions, device)
    at = f"a device, at its widest: {widest.stage.name}, {widest.step.context} devices a sample"
    trained = trained_parameters(model)
    return [
        Row("memory_bytes", held, "bytes", at),
        Row("fits", held <= usable, "", f"in {device.memory_bytes / 1e9:g} GB"),
        Row("trained_parameters", trained, "parameters", "the transformer; other networks stand still"),
        *(Row(f"{name.replace(' ', '_')}_bytes", value, "bytes", "") for name, value in widest.memory.items()),
    ]


def _law_rows(assumptions: Assumptions, model: Costed, tokens: float) -> list[Row]:
    batch = laws.batch_tokens(assumptions, model.parameters, tokens)
    rate = laws.learning_rate(assumptions, model.parameters, tokens)
    return [
        Row("batch_tokens", batch, "tokens", _source(assumptions, "precise.batch")),
        Row("learning_rate", rate, "", _source(assumptions, "precise.rate")),
    ]


def _stage_table(planned: list[PlannedStage]) -> Table:
    rows = []
    for one in planned:
        stage, took = one.stage, one.seconds.default
        assert stage.batch is not None
        rows.append(
            (
                stage.name,
                f"{one.shape.size}, {one.shape.num_frames} frames",
                one.tokens,
                stage.samples,
                math.ceil(stage.samples / stage.batch),
                one.flops,
                one.attention_share,
                took * one.devices / 3600,
                took / 86_400,
                one.memory_bytes,
            )
        )
    return Table(
        "Stages",
        ("stage", "sample", "tokens", "samples", "steps", "FLOPs", "attention", "device-hours", "days", "memory"),
        tuple(rows),
        ("", "", "", "", "", "FLOP", "%", "", "", "bytes"),
    )


def _step_table(model: Costed, planned: list[PlannedStage], device: Device) -> Table:
    """How an optimizer step of each stage is shared, and what of it is not work."""
    rows = []
    for one in planned:
        step, split = one.step, split_tokens(one.step.context, model.heads, device.link_devices)
        rows.append(
            (
                one.stage.name,
                one.devices,
                step.busy,
                split.words,
                one.stage.batch,
                step.compute,
                step.gathered,
                step.exchanged,
                1 - step.compute / step.seconds,
            )
        )
    return Table(
        "A step on its devices",
        ("stage", "devices", "busy", "a sample is on", "batch", "work", "FSDP", "exchange", "not hidden"),
        tuple(rows),
        ("", "", "", "", "", "s", "s", "s", "%"),
    )


def _of_budget(
    assumptions: Assumptions, flops: float, device: Device, count: int, usd_hour: float | None, grid: str
) -> Estimate:
    if not 1e15 <= flops <= 1e30:
        raise RequestError(f"a budget of {flops:g} FLOPs is not between 1e15 and 1e30", "like --flops 8.4e23")
    mfu, goodput = training_share(assumptions, device), assumptions.constant("goodput")
    kept = {rates: working_share(assumptions, count, rates, case) for case, rates in BEST_CASES}
    hours = Range(*(device_hours(flops, device, mfu.at(rates), kept[rates]) for _, rates in BEST_CASES))
    money, more = costs(
        assumptions, device, Range(*(3600 * getattr(hours, c) for c in CASES)), usd_hour=usd_hour, grid=grid
    )
    optima = [laws.hunyuan(assumptions, flops), laws.precise(assumptions, flops)]
    rows = [
        Row("device_hours", hours, "h", f"MFU {mfu.value:g}, goodput {kept['default']:.3g}"),
        Row("days", Range(*(getattr(hours, c) / count / 24 for c in CASES)), "days", f"{count:,} x {device.title}"),
        *money,
        *(Row(f"{o.law.split()[0].lower()}_parameters", o.parameters, "parameters", o.source) for o in optima),
        *(Row(f"{o.law.split()[0].lower()}_tokens", o.tokens, "tokens", o.source) for o in optima),
    ]
    budgets = [10 ** (20 + k / 4) for k in range(25)]
    chart = Chart(
        "Which model a budget buys",
        "FLOPs",
        "parameters",
        tuple(
            (law(assumptions, flops).law, tuple((c, law(assumptions, c).parameters) for c in budgets))
            for law in (laws.hunyuan, laws.precise)
        ),
    )
    larger = max(o.parameters for o in optima) / min(o.parameters for o in optima)
    return Estimate(
        title=f"Train with {flops:.3g} FLOPs",
        summary=" or ".join(f"{o.parameters / 1e9:.3g} B" for o in optima)
        + f" parameters: two laws, {larger:.1f}x apart",
        rows=tuple(rows),
        assumptions=unique([mfu, goodput, *more]),
        tables=(_law_table(assumptions, optima, flops), _runs_alike(assumptions, flops)),
        charts=(chart,),
        notes=(
            "making videos costs in proportion to the size: of two models as good, the smaller one is cheaper to serve",
            "the laws count 6 N D; attention over long clips comes on top (sorano plan explain sora-2024)",
        ),
    )


def _runs_alike(assumptions: Assumptions, flops: float) -> Table:
    """The six published runs whose FLOPs are nearest to a budget."""
    spent = sorted(
        (row for row in assumptions.table("runs") if _exact(row)), key=lambda row: abs(math.log(_exact(row) / flops))
    )
    return Table(
        "Who spent about as much",
        ("run", "FLOPs", "parameters", "device-hours", "how known"),
        tuple(
            (
                r["model"] + (f", {r['stage']}" if r["stage"] != "all" else ""),
                _exact(r),
                r["params_total_B"] + " B",
                r["gpu_hours"] or None,
                f"{r['tag']}, {r['date']}",
            )
            for r in spent[:6]
        ),
        ("", "FLOP", "", "", ""),
    )


def _usable_bytes(assumptions: Assumptions, device: Device) -> float:
    return assumptions.constant("memory.usable").value * device.memory_bytes


def _shape(model: Costed, stage: Stage) -> VideoShape:
    if isinstance(model, PublishedModel):
        return VideoShape(stage.frames, *reversed(parse_size(stage.size)))
    assert isinstance(model, PresetModel)
    width, height = parse_size(stage.size)
    grid = model.configs.pixel_grid
    frames = 1 + 4 * round((stage.frames - 1) / 4)
    return VideoShape(frames, max(grid, round(height / grid) * grid), max(grid, round(width / grid) * grid))


def _with_batch(assumptions: Assumptions, model: Costed, stage: Stage, tokens: int) -> Stage:
    """The stage with a batch: its own, or what a scaling law says of so many tokens; no more than its samples."""
    best = laws.batch_tokens(assumptions, model.parameters, tokens * stage.samples) / tokens
    return replace(stage, batch=max(1, min(stage.batch or round(best), math.floor(stage.samples))))


def _idle(stage: Stage, step: OptimizerStep, devices: int) -> str:
    assert stage.batch is not None
    said = f"{stage.name}: {step.busy:,} of {devices:,} devices work"
    if step.busy == stage.batch * step.context:
        return f"{said}: a batch of {stage.batch:,} x {step.context} devices a sample is all that can"
    return f"{said}: a sample takes {step.context} at a time"


def _span(counts: list[int]) -> str:
    fewest, most = min(counts), max(counts)
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _source(assumptions: Assumptions, law: str) -> str:
    return assumptions.row("laws", law)["source"]


def _restarts(assumptions: Assumptions, count: int, used: list[Assumption]) -> str:
    apart, write = (
        assumptions.constant("restart.hours_between_failures"),
        assumptions.constant("restart.checkpoint_seconds"),
    )
    used += [assumptions.constant("link.share"), assumptions.constant("nic.gb_s"), apart, write]
    each = apart.value * 3600 / count
    every, _ = young_daly(each, write.value)
    lost, goodput = 1 - kept_share(each, write.value), assumptions.constant("goodput").value
    says = (
        "which goodput stands for" if lost <= 1 - goodput else f"more than the {100 * (1 - goodput):.2g} % of goodput"
    )
    return (
        f"on {count:,} devices one fails every {duration(each)}: a checkpoint every {duration(every)} and work done "
        f"again lose {100 * lost:.2g} % of the time, {says}"
    )


def _storage(assumptions: Assumptions, model: Costed, stages: tuple[Stage, ...], used: list[Assumption]) -> list[Row]:
    mbit, picture = assumptions.constant("storage.video_mbit_s"), assumptions.constant("storage.image_kb")
    used += [mbit, picture]
    latents = 0.0
    raw = dict.fromkeys(CASES, 0.0)
    for stage in stages:
        shape = _shape(model, stage)
        different = stage.clips or min(stage.samples, 1e9 if shape.num_frames == 1 else 1e8)
        latents += different * model.latent_bytes(shape)
        for case in CASES:
            seconds = shape.num_frames / model.native.fps
            each = picture.at(case) * 1e3 if shape.num_frames == 1 else mbit.at(case) * 1e6 / 8 * seconds
            raw[case] += different * each
    return [
        Row("source_bytes", Range(*raw.values()), "bytes", "pictures and clips as collected"),
        Row("latent_bytes", latents, "bytes", "encoded once, 16 bits; clips counted once"),
        Row("checkpoint_bytes", 12 * trained_parameters(model), "bytes", "weights and Adam's moments in float32"),
    ]


def _law_table(assumptions: Assumptions, optima: list[laws.Optimum], flops: float) -> Table:
    return Table(
        f"Where {flops:.3g} FLOPs are best spent",
        ("law", "parameters", "tokens", "batch", "rate", "source"),
        tuple(
            (
                o.law,
                o.parameters,
                o.tokens,
                laws.batch_tokens(assumptions, o.parameters, o.tokens),
                laws.learning_rate(assumptions, o.parameters, o.tokens),
                f"{o.tag}: {o.source}",
            )
            for o in optima
        ),
        ("", "", "", "tokens", "", ""),
    )


def _schedule_chart(planned: list[PlannedStage]) -> Chart:
    """A line for each stage, from the day it begins to the day it ends."""
    ends = list(accumulate(one.seconds.default for one in planned))
    lines = [
        (one.stage.name, tuple((at / 86_400, float(len(planned) - row)) for at in (began, ended)))
        for row, (one, began, ended) in enumerate(zip(planned, [0.0, *ends], ends, strict=False))
    ]
    return Chart("Schedule", "days", "stage", tuple(lines), log=False)


def _exact(row: dict[str, str]) -> float:
    for column in ("flops_reported", "flops_6ND"):
        try:
            return float(row[column].split()[0])
        except (ValueError, IndexError):
            continue
    return 0.0


def _refuse_unknown(
    file: Path, text: str, words: dict[str, Any], known: tuple[str, ...], place: int | None = None
) -> None:
    for key in words:
        if key not in known:
            where = _where(file, text, key, place)
            raise RequestError(f"{where}the key {key!r} is not known", f"the nearest is {nearest(key, list(known))}")


def _where(file: Path, text: str, key: str, place: int | None = None) -> str:
    """The line of a key, to begin an error with: of the stage at this place (from 0), or before any stage."""
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines) if re.match(r"\s*\[\[\s*stage\s*\]\]", line)]
    start = heads[place] if place is not None and place < len(heads) else 0
    if key == "[[stage]]":
        return f"{file}, line {start + 1}: "
    for row, line in enumerate(lines[start:], start + 1):
        if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return f"{file}, line {row}: "
    return f"{file}, line {line_of(text, key)}: "


def _checked(where: str, key: str, value: Any, hint: str | None = None) -> Any:
    """A value of a plan as its key needs it. Raises RequestError beginning with where it stands."""
    if key not in NUMBERS:
        if not isinstance(value, str) or not value.strip():
            like = ', like "256x256"' if key == "size" else ""
            raise RequestError(f"{where}{key} is {value!r}, and must be a text{like}")
        if key == "size":
            try:
                parse_size(value)
            except RequestError as error:
                raise RequestError(f"{where}{error.message}", 'like size = "256x256"') from error
        return value
    low, high, whole = NUMBERS[key]
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not right or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise RequestError(f"{where}{key} is {value!r}, and must be {kind} from {low:,.9g} to {high:,.9g}", hint)
    return int(value) if whole else float(value)
