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
from pathlib import Path
from typing import Any

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, duration, short, unique
from sorano.plan.facts import Fact, Facts, line_of, load_facts, nearest, number
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
class Step:
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
    facts: Facts | None = None,
) -> Estimate:
    """What a training run takes.

    Exactly one of: `preset` (a model, with its published stages or usual ones), `config` (stages in TOML), `flops` (a
    budget: which model, how much data), `parameters` (a model of this size in Movie Gen's proportions). `device` and
    `count` stand over those of a config; without either it is 1,024 of h100.
    """
    facts = facts or load_facts()
    given = [value for value in (preset, config, flops, parameters) if value is not None]
    if len(given) != 1:
        raise RequestError("say what to train in one way", "one of --preset, --config, --params or --flops")
    if count is not None:
        count = _checked("", "count", count)
    if parameters is not None:
        parameters = _checked("", "parameters", parameters, hint="like --params 30e9")
    notes: list[str] = []
    if config is not None:
        model, stages, words = read_config(facts, config)
        for name, asked in (("device", device), ("count", count)):
            if asked is not None and words.get(name, asked) != asked:
                notes.append(f"{name} {asked} was asked for, and stands over {words[name]} of {config}")
        device, count = device or words.get("device"), count or words.get("count")
        known: tuple[Fact, ...] = ()
    elif preset is not None:
        model = find_model(facts, preset)
        stages, known = read_stages(facts, preset)
        if isinstance(model, PresetModel) and model.name == "world":
            count = count or 1
            notes = [
                "sorano train world --recipe cpu     makes it, with its autoencoder: two cores, about two hours",
                f"{launch_line(count, find_device(facts, device or 'h100'))}     makes a larger one",
                "the hours are arithmetic alone: so small a model waits for everything else",
            ]
            if count > 1:
                notes.insert(2, "each process takes a share of every batch: as many as divide those of --dry-run")
    elif parameters is not None:
        model = of_dimensions(parameters=parameters, like=published(facts, "movie-gen-30b"))
        stages, known = read_stages(facts, "usual")
    on, count = find_device(facts, device or "h100"), count or 1024
    if flops is not None:
        return _of_budget(facts, flops, on, count, usd_hour, grid)
    assumed = [(stage.name, fact.source) for stage, fact in zip(stages, known, strict=False) if fact.tag == "A"]
    if assumed:
        names, sources = zip(*assumed, strict=True)
        notes.append(f"what the stages show ({'; '.join(names)}) is an {'; '.join(dict.fromkeys(sources))}")
    return _of_stages(facts, model, stages, on, count, usd_hour, grid, notes=notes, used=list(known))


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


def read_stages(facts: Facts, model: str) -> tuple[tuple[Stage, ...], tuple[Fact, ...]]:
    """The stages of a model in stages.csv, or the usual ones, each with how it is known."""
    rows = [row for row in facts.table("stages") if row["model"] == model]
    if not rows:
        return read_stages(facts, "usual")
    stages, known = [], []
    for row in rows:
        where = f"stages.{row['name']}: "
        numbers = {key: number(row, key, "stages") for key in ("samples", "frames", "batch")}
        cells = {key: _checked(where, key, value) for key, value in numbers.items()}
        stages.append(Stage(name=row["title"] or row["name"], size=_checked(where, "size", row["size"]), **cells))
        words = {key: row[key] for key in ("tag", "date", "source", "note")}
        seen = numbers["samples"]
        known.append(Fact(f"stages.{row['name']}", seen, seen, seen, "samples", **words))
    return tuple(stages), tuple(known)


def read_config(facts: Facts, file: Path) -> tuple[Costed, tuple[Stage, ...], dict[str, Any]]:
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
            find_device(facts, words["device"])
        key = "model"
        model: Costed = (
            find_model(facts, words["model"])
            if "model" in words
            else of_dimensions(parameters=words["parameters"], like=published(facts, "movie-gen-30b"))
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
    facts: Facts,
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
    gamma, slack = facts.constant("memory.gamma").at(case), facts.constant("memory.fragmentation").at(case)
    buffers = facts.constant("memory.nccl_gb").at(case) * 1e9
    trained = trained_parameters(model)
    states = (OPTIMIZER_BYTES + EMA_BYTES * ema) * trained / shards
    blocks = 6 * trained / model.layers
    one = batch * tokens / context * model.width
    kept = 2 * model.layers * one if checkpointing else gamma * model.layers * one
    working = gamma * one if checkpointing else 0.0
    parts = {"states": states, "gathered blocks": blocks, "kept activations": kept, "block computed again": working}
    return {**parts, "fragmentation": (slack - 1) * sum(parts.values()), "buffers": buffers}


def smallest_context(
    facts: Facts, model: Costed, tokens: int, device: Device, count: int
) -> tuple[int, dict[str, float]]:
    """The fewest devices that must share a sample for it to fit, with what then lies on each."""
    context = 1
    while True:
        parts = train_memory(facts, model, tokens, shards=count, context=context)
        if sum(parts.values()) <= _usable_bytes(facts, device) or context * 2 > count:
            return context, parts
        context *= 2


def plan_step(
    facts: Facts, model: Costed, stage: Stage, device: Device, devices: int, context: int, rates: str = "default"
) -> Step:
    """A step of a stage with `context` devices a sample; `rates` is the case of what devices and networks reach."""
    shape = _shape(model, stage)
    tokens, forward = model.tokens(shape), model.forward(shape)
    assert stage.batch is not None
    replicas = min(stage.batch, max(1, devices // context))
    each = stage.batch / replicas  # samples of a replica
    speed = context * device.flops_per_second * (stage.mfu or training_share(facts, device).at(rates))
    compute = each * 3 * forward.total / speed
    if devices == 1:
        return Step(1, 1, compute, 0.0, 0.0)
    network: dict[str, float] = {
        "link_share": facts.constant("link.share").at(rates),
        "nic_bytes_per_second": facts.constant("nic.gb_s").at(rates) * 1e9,
    }
    one, two = (
        sum(train_memory(facts, model, tokens, shards=devices, context=context, batch=b).values()) for b in (1, 2)
    )
    held = 1 + max(0, int((_usable_bytes(facts, device) - one) / (two - one)))  # samples at once, between gatherings
    gathered = math.ceil(each / held) * gather_seconds(
        fsdp_bytes(trained_parameters(model)), device, devices, **network
    )
    split = split_tokens(context, model.heads, device.link_devices)
    # Ulysses: forward, computed again, backward. A ring sends twice as much backward as forward
    exchanged = 3 * exchange_seconds(model, tokens, split, device, **network)
    exchanged += 4 * ring_exposed_seconds(model, tokens, split, device, forward.attention / speed, **network)
    return Step(context, context * replicas, compute, gathered, each * exchanged)


def fastest_step(facts: Facts, model: Costed, stage: Stage, device: Device, devices: int) -> Step:
    """The step with as many devices a sample as are fastest: from the fewest that hold it to all of a node."""
    context, _ = smallest_context(facts, model, model.tokens(_shape(model, stage)), device, devices)
    steps = [plan_step(facts, model, stage, device, devices, context)]
    while (context := 2 * context) <= min(devices, device.link_devices, model.heads):
        steps.append(plan_step(facts, model, stage, device, devices, context))
    return min(steps, key=lambda step: step.seconds)


def working_share(facts: Facts, devices: int, rates: str = "default", cost: str = "default") -> float:
    """The share of time that is work: goodput, or less where failures of so many devices leave less."""
    apart, write = facts.constant("restart.hours_between_failures"), facts.constant("restart.checkpoint_seconds")
    kept = kept_share(apart.at(rates) * 3600 / devices, write.at(cost))
    return min(facts.constant("goodput").at(rates), kept)


def _of_stages(
    facts: Facts,
    model: Costed,
    stages: tuple[Stage, ...],
    device: Device,
    count: int,
    usd_hour: float | None,
    grid: str,
    *,
    notes: list[str],
    used: list[Fact],
) -> Estimate:
    rnd, other = facts.constant("rnd.factor"), facts.constant("other.share")
    used += [training_share(facts, device), facts.constant("goodput"), rnd, other]
    used += [facts.constant(f"memory.{name}") for name in ("gamma", "fragmentation", "nccl_gb", "usable")]
    rows: list[tuple[Any, ...]] = []
    shares: list[tuple[Any, ...]] = []
    schedule: list[tuple[str, tuple[tuple[float, float], ...]]] = []
    seconds, device_seconds = dict.fromkeys(CASES, 0.0), dict.fromkeys(CASES, 0.0)
    total_flops = linear_flops = tokens_seen = 0.0
    counts: list[int] = []
    busiest = 1
    worst: tuple[float, str, int, dict[str, float]] = (0.0, "", 1, {})
    for asked in stages:
        shape = _shape(model, asked)
        tokens, forward, flops = model.tokens(shape), model.forward(shape), stage_flops(model, asked)
        stage = _with_batch(facts, model, asked, tokens)
        assert stage.batch is not None
        if asked.batch is None:
            notes.append(f"assumption: {stage.name}: a batch of {stage.batch:,}, by {_source(facts, 'precise.batch')}")
        devices = stage.count or count
        counts.append(devices)
        chosen = fastest_step(facts, model, stage, device, devices)
        busiest = max(busiest, chosen.busy)
        began = seconds["default"]
        for case, rates in BEST_CASES:
            step = plan_step(facts, model, stage, device, devices, chosen.context, rates)
            took = stage.samples / stage.batch * step.seconds / working_share(facts, step.busy, rates, case)
            seconds[case] += took
            device_seconds[case] += took * devices
        took = seconds["default"] - began
        schedule.append((stage.name, ((began / 86_400, 0.0), (seconds["default"] / 86_400, 0.0))))
        parts = train_memory(facts, model, tokens, shards=devices, context=chosen.context)
        if sum(parts.values()) > worst[0]:
            worst = (sum(parts.values()), stage.name, chosen.context, parts)
        total_flops, tokens_seen = total_flops + flops, tokens_seen + tokens * stage.samples
        linear_flops += 6 * model.parameters * tokens * stage.samples
        rows.append(
            (
                stage.name,
                f"{shape.size}, {shape.num_frames} frames",
                tokens,
                stage.samples,
                math.ceil(stage.samples / stage.batch),
                flops,
                forward.attention_share,
                took * devices / 3600,
                took / 86_400,
                sum(parts.values()),
            )
        )
        split = split_tokens(chosen.context, model.heads, device.link_devices)
        shares.append(
            (
                stage.name,
                devices,
                chosen.busy,
                split.words,
                stage.batch,
                chosen.compute,
                chosen.gathered,
                chosen.exchanged,
                1 - chosen.compute / chosen.seconds,
            )
        )
        if chosen.busy < devices:
            notes.append(_idle(stage, chosen, devices))
        if chosen.gathered > chosen.compute:
            notes.append(
                f"{stage.name}: a step takes FSDP {duration(chosen.gathered)} and work {duration(chosen.compute)}: "
                "more devices make it no faster, and a larger batch costs no more time"
            )
    days = Range(*(seconds[case] / 86_400 for case in CASES))
    paid = Range(*(device_seconds[case] for case in CASES))
    hours = Range(*(device_seconds[case] / 3600 for case in CASES))
    money, more = costs(facts, device, paid, usd_hour=usd_hour, grid=grid)
    used += more
    on = f"{_span(counts)} x {device.title}"
    mfu, goodput = training_share(facts, device), facts.constant("goodput")
    answers = [
        Row("flops", total_flops, "FLOP", "three forward passes a sample, attention counted"),
        Row("hardware_flops", total_flops * 4 / 3, "FLOP", "with activations computed again: a fourth pass"),
        Row("flops_6nd", linear_flops, "FLOP", "6 N D, which leaves attention out"),
        Row("tokens", tokens_seen, "tokens", "video tokens seen"),
        Row(
            "device_hours",
            hours,
            "h",
            f"MFU {mfu.value:g} (model FLOPs), goodput {goodput.value:g} or what failures leave, what exchange adds",
        ),
        Row("days", days, "days", on),
        *money,
    ]
    whole = []
    for row in money:
        if row.name in ("usd", "kwh") and isinstance(row.value, Range):
            factor = {case: rnd.at(case) * (1 + other.at(case)) for case in CASES}
            value = Range(*(getattr(row.value, case) * factor[case] for case in CASES))
            why = f"x {rnd.value:g} for runs that fail and are compared, + {other.value:g} for autoencoder and captions"
            whole.append(Row(f"programme_{row.name}", value, row.unit, why))
    trained = trained_parameters(model)
    memory = [
        Row("memory_bytes", worst[0], "bytes", f"a device, at its widest: {worst[1]}, {worst[2]} devices a sample"),
        Row("fits", worst[0] <= _usable_bytes(facts, device), "", f"in {device.memory_bytes / 1e9:g} GB"),
        Row("trained_parameters", trained, "parameters", "the transformer; other networks stand still"),
        *(Row(f"{name.replace(' ', '_')}_bytes", value, "bytes", "") for name, value in worst[3].items()),
    ]
    optima = [laws.hunyuan(facts, total_flops), laws.precise(facts, total_flops)]
    law_rows = [
        Row(
            "batch_tokens",
            laws.batch_tokens(facts, model.parameters, tokens_seen),
            "tokens",
            _source(facts, "precise.batch"),
        ),
        Row(
            "learning_rate",
            laws.learning_rate(facts, model.parameters, tokens_seen),
            "",
            _source(facts, "precise.rate"),
        ),
    ]
    stage_table = Table(
        "Stages",
        ("stage", "sample", "tokens", "samples", "steps", "FLOPs", "attention", "device-hours", "days", "memory"),
        tuple(rows),
        ("", "", "", "", "", "FLOP", "%", "", "", "bytes"),
    )
    share_table = Table(
        "A step on its devices",
        ("stage", "devices", "busy", "a sample is on", "batch", "work", "FSDP", "exchange", "not hidden"),
        tuple(shares),
        ("", "", "", "", "", "s", "s", "s", "%"),
    )
    if isinstance(model, PresetModel) and model.configs.transformer_2 is not None:
        notes.append("two experts share the samples and are trained one at a time: memory and checkpoints are one's")
    if busiest > 1:
        notes.append(_restarts(facts, busiest, used))
    return Estimate(
        title=f"Train: {model.title} on {on}",
        summary=f"{short(hours.default)} device-hours, {duration(seconds['default'])} on {_span(counts)}",
        rows=tuple(answers),
        facts=unique(used),
        tables=(stage_table, *([share_table] if max(counts) > 1 else []), _law_table(facts, optima, total_flops)),
        charts=(_schedule_chart(schedule),),
        notes=("left out: data and people; programme_ rows add failed runs and captioning", *notes),
        parts=(
            ("The whole programme", tuple(whole)),
            ("Memory", tuple(memory)),
            ("Batch and rate", tuple(law_rows)),
            ("Storage", tuple(_storage(facts, model, stages, used))),
        ),
    )


def _of_budget(facts: Facts, flops: float, device: Device, count: int, usd_hour: float | None, grid: str) -> Estimate:
    if not 1e15 <= flops <= 1e30:
        raise RequestError(f"a budget of {flops:g} FLOPs is not between 1e15 and 1e30", "like --flops 8.4e23")
    mfu, goodput = training_share(facts, device), facts.constant("goodput")
    kept = {rates: working_share(facts, count, rates, case) for case, rates in BEST_CASES}
    hours = Range(*(device_hours(flops, device, mfu.at(rates), kept[rates]) for _, rates in BEST_CASES))
    money, more = costs(facts, device, Range(*(3600 * getattr(hours, c) for c in CASES)), usd_hour=usd_hour, grid=grid)
    optima = [laws.hunyuan(facts, flops), laws.precise(facts, flops)]
    rows = [
        Row("device_hours", hours, "h", f"MFU {mfu.value:g}, goodput {kept['default']:.3g}"),
        Row("days", Range(*(getattr(hours, c) / count / 24 for c in CASES)), "days", f"{count:,} x {device.title}"),
        *money,
        *(Row(f"{o.law.split()[0].lower()}_parameters", o.parameters, "parameters", o.source) for o in optima),
        *(Row(f"{o.law.split()[0].lower()}_tokens", o.tokens, "tokens", o.source) for o in optima),
    ]
    spent = sorted(
        (row for row in facts.table("runs") if _exact(row)), key=lambda row: abs(math.log(_exact(row) / flops))
    )
    alike = Table(
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
    budgets = [10 ** (20 + k / 4) for k in range(25)]
    chart = Chart(
        "Which model a budget buys",
        "FLOPs",
        "parameters",
        tuple(
            (law(facts, flops).law, tuple((c, law(facts, c).parameters) for c in budgets))
            for law in (laws.hunyuan, laws.precise)
        ),
    )
    larger = max(o.parameters for o in optima) / min(o.parameters for o in optima)
    return Estimate(
        title=f"Train with {flops:.3g} FLOPs",
        summary=" or ".join(f"{o.parameters / 1e9:.3g} B" for o in optima)
        + f" parameters: two laws, {larger:.1f}x apart",
        rows=tuple(rows),
        facts=unique([mfu, goodput, *more]),
        tables=(_law_table(facts, optima, flops), alike),
        charts=(chart,),
        notes=(
            "making videos costs in proportion to the size: of two models as good, the smaller one is cheaper to serve",
            "the laws count 6 N D; attention over long clips comes on top (sorano plan explain sora-2024)",
        ),
    )


def _usable_bytes(facts: Facts, device: Device) -> float:
    return facts.constant("memory.usable").value * device.memory_bytes


def _shape(model: Costed, stage: Stage) -> VideoShape:
    if isinstance(model, PublishedModel):
        return VideoShape(stage.frames, *reversed(parse_size(stage.size)))
    assert isinstance(model, PresetModel)
    width, height = parse_size(stage.size)
    grid = model.configs.pixel_grid
    frames = 1 + 4 * round((stage.frames - 1) / 4)
    return VideoShape(frames, max(grid, round(height / grid) * grid), max(grid, round(width / grid) * grid))


def _with_batch(facts: Facts, model: Costed, stage: Stage, tokens: int) -> Stage:
    """The stage with a batch: its own, or what a scaling law says of so many tokens; no more than its samples."""
    best = laws.batch_tokens(facts, model.parameters, tokens * stage.samples) / tokens
    return replace(stage, batch=max(1, min(stage.batch or round(best), math.floor(stage.samples))))


def _idle(stage: Stage, step: Step, devices: int) -> str:
    assert stage.batch is not None
    said = f"{stage.name}: {step.busy:,} of {devices:,} devices work"
    if step.busy == stage.batch * step.context:
        return f"{said}: a batch of {stage.batch:,} x {step.context} devices a sample is all that can"
    return f"{said}: a sample takes {step.context} at a time"


def _span(counts: list[int]) -> str:
    fewest, most = min(counts), max(counts)
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _source(facts: Facts, law: str) -> str:
    return facts.row("laws", law)["source"]


def _restarts(facts: Facts, count: int, used: list[Fact]) -> str:
    apart, write = facts.constant("restart.hours_between_failures"), facts.constant("restart.checkpoint_seconds")
    used += [facts.constant("link.share"), facts.constant("nic.gb_s"), apart, write]
    each = apart.value * 3600 / count
    every, _ = young_daly(each, write.value)
    lost, goodput = 1 - kept_share(each, write.value), facts.constant("goodput").value
    says = (
        "which goodput stands for" if lost <= 1 - goodput else f"more than the {100 * (1 - goodput):.2g} % of goodput"
    )
    return (
        f"on {count:,} devices one fails every {duration(each)}: a checkpoint every {duration(every)} and work done "
        f"again lose {100 * lost:.2g} % of the time, {says}"
    )


def _storage(facts: Facts, model: Costed, stages: tuple[Stage, ...], used: list[Fact]) -> list[Row]:
    mbit, picture = facts.constant("storage.video_mbit_s"), facts.constant("storage.image_kb")
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


def _law_table(facts: Facts, optima: list[laws.Optimum], flops: float) -> Table:
    return Table(
        f"Where {flops:.3g} FLOPs are best spent",
        ("law", "parameters", "tokens", "batch", "rate", "source"),
        tuple(
            (
                o.law,
                o.parameters,
                o.tokens,
                laws.batch_tokens(facts, o.parameters, o.tokens),
                laws.learning_rate(facts, o.parameters, o.tokens),
                f"{o.tag}: {o.source}",
            )
            for o in optima
        ),
        ("", "", "", "tokens", "", ""),
    )


def _schedule_chart(schedule: list[tuple[str, tuple[tuple[float, float], ...]]]) -> Chart:
    lines = [
        (name, tuple((x, float(len(schedule) - row)) for x, _ in points)) for row, (name, points) in enumerate(schedule)
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
