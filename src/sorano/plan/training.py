"""`sorano plan train`: what training a video model takes, stage by stage, or which model a budget of FLOPs buys.

FLOPs of a sample   3 forward passes; computing activations again costs a fourth, which MFU leaves out
device-hours        sum over stages of samples x FLOPs / (peak x MFU x goodput x 3600)
memory, a device    (16 P / shards + 6 P_block) + 2 L s D / CP + gamma s D / CP, x fragmentation, + buffers
                    (FSDP2: 4 + 4 + 8 bytes of weights, gradients and Adam; two gathered blocks and one's gradients;
                    the input of each block; the block that is computed again)
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, duration, unique
from sorano.plan.facts import Fact, Facts, line_of, load_facts, nearest
from sorano.plan.flops import Costed, PresetModel, PublishedModel, find_model, of_dimensions, published
from sorano.plan.hardware import Device, find_device, training_share
from sorano.plan.money import costs
from sorano.plan.parallel import fsdp_bytes, split_tokens, ulysses_bytes, young_daly
from sorano.shapes import VideoShape

OPTIMIZER_BYTES = 16  # a parameter: float32 weight, gradient and Adam's two moments
EMA_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training: what is seen, how often, on how much."""

    name: str
    samples: float  # seen, repeats counted
    size: str = "256x256"
    frames: int = 1
    batch: int | None = None  # samples a step
    clips: float | None = None  # different ones, for storage; None: as many as samples, at most 1e9 pictures, 1e8 clips
    count: int | None = None  # devices; None: the plan's
    mfu: float | None = None


# Movie Gen's samples seen (1.94e9, 3.95e8, 7.38e7): what a model of 30 B was given; smaller ones see about as many
DEFAULT_STAGES = (
    Stage(name="pictures", samples=1.94e9, size="256x256", frames=1, batch=9216),
    Stage(name="short clips, small", samples=3.95e8, size="256x256", frames=129, batch=1536),
    Stage(name="full clips", samples=7.4e7, size="1280x720", frames=129, batch=768),
)
PUBLISHED_STAGES = {
    "movie-gen-30b": (
        Stage(name="256 px, pictures", samples=1.94e9, size="256x256", frames=1, batch=9216),
        Stage(name="256 px, up to 256 frames", samples=3.948e8, size="256x256", frames=256, batch=2048),
        Stage(name="768 px, mean clip of 10 s", samples=7.38e7, size="768x768", frames=160, batch=800),
    ),
    "step-video-30b": (
        Stage(name="256 px, pictures", samples=3.8e9, size="256x256", frames=1, batch=15_000),
        Stage(name="192x320", samples=6.44e8, size="320x192", frames=136, batch=1500),
        Stage(name="544x992", samples=2.73e7, size="992x544", frames=136, batch=600),
    ),
}


def plan_train(
    preset: str | None = None,
    *,
    config: Path | None = None,
    flops: float | None = None,
    parameters: float | None = None,
    device: str = "h100",
    count: int = 1024,
    usd_hour: float | None = None,
    grid: str = "world",
    facts: Facts | None = None,
) -> Estimate:
    """What a training run takes.

    Exactly one of: `preset` (a model, with its published stages or usual ones), `config` (stages in TOML), `flops` (a
    budget: which model, how much data), `parameters` (a model of this size in Movie Gen's proportions).
    """
    facts = facts or load_facts()
    given = [value for value in (preset, config, flops, parameters) if value is not None]
    if len(given) != 1:
        raise RequestError("say what to train in one way", "one of --preset, --config, --params or --flops")
    if not 1 <= count <= 10_000_000:
        raise RequestError(f"count is {count}, and must be 1 to 10,000,000")
    if flops is not None:
        return _of_budget(facts, flops, find_device(facts, device), count, usd_hour, grid)
    stages: tuple[Stage, ...]
    if config is not None:
        model, stages, words = read_config(facts, config)
        device, count = words.get("device", device), words.get("count", count)
    elif preset is not None:
        model = find_model(facts, preset)
        stages = PUBLISHED_STAGES.get(preset, DEFAULT_STAGES)
        if isinstance(model, PresetModel) and model.name == "world":
            return _of_world(facts, model, find_device(facts, device), usd_hour, grid)
    else:
        assert parameters is not None
        if not 1e6 <= parameters <= 1e14:
            raise RequestError(f"{parameters:g} parameters make no model", "between 1e6 and 1e14, like --params 30e9")
        model = of_dimensions(parameters=parameters, like=published(facts, "movie-gen-30b"))
        stages = DEFAULT_STAGES
    return _of_stages(facts, model, stages, find_device(facts, device), count, usd_hour, grid)


def read_config(facts: Facts, file: Path) -> tuple[Costed, tuple[Stage, ...], dict[str, Any]]:
    """A model and its stages from TOML. Raises RequestError naming the key that is not known, and its line.

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
        text = file.read_text(encoding="utf-8")
        words = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} is not TOML: {error}") from error
    _refuse_unknown(file, text, words, ("model", "parameters", "device", "count", "stage"))
    entries = words.get("stage") or []
    if not isinstance(entries, list) or not entries:
        raise RequestError(
            f"{file} has no [[stage]]", "each stage needs a name and samples; see `sorano plan train -h`"
        )
    names = tuple(field.name for field in fields(Stage))
    stages: list[Stage] = []
    for entry in entries:
        _refuse_unknown(file, text, entry, names)
        for field in ("name", "samples"):
            if field not in entry:
                raise RequestError(f"{file}: stage {entry.get('name', len(stages) + 1)!r} has no {field}")
        for field in ("samples", "frames", "batch", "clips", "count", "mfu"):
            if field in entry and not (isinstance(entry[field], (int, float)) and 0 < entry[field] < 1e18):
                line = line_of(text, field)
                raise RequestError(f"{file}, line {line}: {field} is {entry[field]!r}, and must be a number above 0")
        stages.append(Stage(**entry))
    if ("model" in words) == ("parameters" in words):
        raise RequestError(f"{file} needs a model or parameters, one of the two")
    model: Costed = (
        find_model(facts, words["model"])
        if "model" in words
        else of_dimensions(parameters=float(words["parameters"]), like=published(facts, "movie-gen-30b"))
    )
    return model, tuple(stages), words


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
    states = (OPTIMIZER_BYTES + EMA_BYTES * ema) * model.all_parameters / shards
    blocks = 6 * model.parameters / model.layers
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
        if sum(parts.values()) <= 0.96 * device.memory_bytes or context * 2 > count:
            return context, parts
        context *= 2


def _of_stages(
    facts: Facts,
    model: Costed,
    stages: tuple[Stage, ...],
    device: Device,
    count: int,
    usd_hour: float | None,
    grid: str,
) -> Estimate:
    mfu, goodput = training_share(facts, device), facts.constant("goodput")
    rnd, other = facts.constant("rnd.factor"), facts.constant("other.share")
    used = [mfu, goodput, rnd, other, *(facts.constant(name) for name in ("memory.gamma", "memory.fragmentation"))]
    rows: list[tuple[Any, ...]] = []
    schedule: list[tuple[str, tuple[tuple[float, float], ...]]] = []
    totals = dict.fromkeys(CASES, 0.0)
    total_flops = linear_flops = tokens_seen = day = 0.0
    worst: tuple[float, str, int, dict[str, float]] = (0.0, "", 1, {})
    for stage in stages:
        shape = _shape(model, stage)
        tokens, forward = model.tokens(shape), model.forward(shape)
        flops = stage_flops(model, stage)
        devices = stage.count or count
        for case, share in zip(CASES, ("high", "default", "low"), strict=True):
            totals[case] += device_hours(flops, device, stage.mfu or mfu.at(share), goodput.at(share))
        hours = device_hours(flops, device, stage.mfu or mfu.value, goodput.value)
        context, parts = smallest_context(facts, model, tokens, device, devices)
        if sum(parts.values()) > worst[0]:
            worst = (sum(parts.values()), stage.name, context, parts)
        days = hours / devices / 24
        schedule.append((stage.name, ((day, 0.0), (day + days, 0.0))))
        day += days
        total_flops, tokens_seen = total_flops + flops, tokens_seen + tokens * stage.samples
        linear_flops += 6 * model.parameters * tokens * stage.samples
        steps = math.ceil(stage.samples / stage.batch) if stage.batch else None
        rows.append(
            (
                stage.name,
                f"{shape.size}, {shape.num_frames} frames",
                tokens,
                stage.samples,
                steps,
                flops,
                forward.attention_share,
                hours,
                days,
                context,
                sum(parts.values()),
            )
        )
    hours_range = Range(totals["low"], totals["default"], totals["high"])
    seconds = Range(*(3600 * getattr(hours_range, case) for case in CASES))
    money, more = costs(facts, device, seconds, usd_hour=usd_hour, grid=grid)
    used += more
    answers = [
        Row("flops", total_flops, "FLOP", "three forward passes a sample, attention counted"),
        Row("hardware_flops", total_flops * 4 / 3, "FLOP", "with activations computed again: a fourth pass"),
        Row("flops_6nd", linear_flops, "FLOP", "6 N D, which leaves attention out"),
        Row("tokens", tokens_seen, "tokens", "video tokens seen"),
        Row("device_hours", hours_range, "h", f"MFU {mfu.value:g} (model FLOPs), goodput {goodput.value:g}"),
        Row(
            "days",
            Range(*(getattr(hours_range, case) / count / 24 for case in CASES)),
            "days",
            f"{count} x {device.title}",
        ),
        *money,
    ]
    whole = []
    for row in money:
        if row.name in ("usd", "kwh") and isinstance(row.value, Range):
            factor = {case: rnd.at(case) * (1 + other.at(case)) for case in CASES}
            value = Range(*(getattr(row.value, case) * factor[case] for case in CASES))
            why = f"x {rnd.value:g} for runs that fail and are compared, + {other.value:g} for autoencoder and captions"
            whole.append(Row(f"programme_{row.name}", value, row.unit, why))
    memory = [
        Row("memory_bytes", worst[0], "bytes", f"a device, at its widest: {worst[1]}, {worst[2]} devices a sample"),
        Row("fits", worst[0] <= 0.96 * device.memory_bytes, "", f"in {device.memory_bytes / 1e9:g} GB"),
        *(Row(f"{name.replace(' ', '_')}_bytes", value, "bytes", "") for name, value in worst[3].items()),
    ]
    optima = [laws.hunyuan(total_flops), laws.precise(total_flops)]
    law_rows = [
        Row("batch_tokens", laws.batch_tokens(model.parameters, tokens_seen), "tokens", laws.PRECISE_SOURCE),
        Row("learning_rate", laws.learning_rate(model.parameters, tokens_seen), "", laws.PRECISE_SOURCE),
    ]
    stage_table = Table(
        "Stages",
        (
            "stage",
            "sample",
            "tokens",
            "samples",
            "steps",
            "FLOPs",
            "attention",
            "device-hours",
            "days",
            "devices a sample",
            "memory",
        ),
        tuple(rows),
        ("", "", "", "", "", "FLOP", "%", "", "", "", "bytes"),
    )
    notes = [
        "left out: data, people, and the time of cards that wait; programme_ rows add failed runs and captioning",
        *_communication(facts, model, stages, device, count, used),
        *_restarts(facts, count, used),
    ]
    return Estimate(
        title=f"Train: {model.title} on {count:,} x {device.title}",
        summary=f"{hours_range.default:,.0f} device-hours, {duration(3600 * hours_range.default / count)} on {count:,}",
        rows=tuple(answers),
        facts=unique(used),
        tables=(stage_table, _law_table(optima, total_flops)),
        charts=(_schedule_chart(schedule),),
        notes=tuple(notes),
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
    hours = Range(*(device_hours(flops, device, mfu.at(c), goodput.at(c)) for c in ("high", "default", "low")))
    money, more = costs(facts, device, Range(*(3600 * getattr(hours, c) for c in CASES)), usd_hour=usd_hour, grid=grid)
    optima = [laws.hunyuan(flops), laws.precise(flops)]
    rows = [
        Row("device_hours", hours, "h", f"MFU {mfu.value:g}, goodput {goodput.value:g}"),
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
        tuple((law(flops).law, tuple((c, law(c).parameters) for c in budgets)) for law in (laws.hunyuan, laws.precise)),
    )
    larger = max(o.parameters for o in optima) / min(o.parameters for o in optima)
    return Estimate(
        title=f"Train with {flops:.3g} FLOPs",
        summary=" or ".join(f"{o.parameters / 1e9:.3g} B" for o in optima)
        + f" parameters: two laws, {larger:.1f}x apart",
        rows=tuple(rows),
        facts=unique([mfu, goodput, *more]),
        tables=(_law_table(optima, flops), alike),
        charts=(chart,),
        notes=(
            "making videos costs in proportion to the size: of two models as good, the smaller one is cheaper to serve",
            "the laws count 6 N D; attention over long clips comes on top (sorano plan explain sora-2024)",
        ),
    )


def _of_world(facts: Facts, model: PresetModel, device: Device, usd_hour: float | None, grid: str) -> Estimate:
    """The embedded model, which the project's own trainer makes."""
    stages = (Stage(name="flow", samples=12_000 * 128, size="128x128", frames=33, batch=128),)
    made = _of_stages(facts, model, stages, device, 1, usd_hour, grid)
    lines = (
        "sorano train world --recipe gpu     # one large GPU, about 25 minutes",
        "sorano train world --recipe cpu     # two cores, about two hours",
        "our trainer uses one device; a torchrun line comes with parallel training",
    )
    return Estimate(
        title=made.title,
        summary=made.summary,
        rows=made.rows,
        facts=made.facts,
        tables=made.tables,
        charts=made.charts,
        notes=(*lines, *made.notes),
        parts=made.parts,
    )


def _shape(model: Costed, stage: Stage) -> VideoShape:
    if isinstance(model, PublishedModel):
        return VideoShape(stage.frames, *reversed(_pixels(stage.size)))
    assert isinstance(model, PresetModel)
    width, height = _pixels(stage.size)
    grid = model.configs.pixel_grid
    frames = 1 + 4 * round((stage.frames - 1) / 4)
    return VideoShape(frames, max(grid, round(height / grid) * grid), max(grid, round(width / grid) * grid))


def _pixels(size: str) -> tuple[int, int]:
    from sorano.shapes import parse_size

    return parse_size(size)


def _communication(
    facts: Facts, model: Costed, stages: tuple[Stage, ...], device: Device, count: int, used: list[Fact]
) -> list[str]:
    link, nic, mfu = facts.constant("link.share"), facts.constant("nic.gb_s"), training_share(facts, device)
    used += [link, nic]
    last = stages[-1]
    shape = _shape(model, last)
    tokens = model.tokens(shape)
    context, _ = smallest_context(facts, model, tokens, device, last.count or count)
    compute = 3 * model.forward(shape).total / context / (device.flops_per_second * (last.mfu or mfu.value))
    gathered = (
        fsdp_bytes(model.all_parameters) / (nic.value * 1e9)
        if count > device.link_devices
        else (fsdp_bytes(model.all_parameters) / (device.link_bytes_per_second * link.value))
    )
    split = split_tokens(context, model.heads, device.link_devices)
    turned = (
        3
        * ulysses_bytes(tokens, model.width, model.layers, split.ulysses)
        / (device.link_bytes_per_second * link.value)
    )
    said = "hidden behind" if gathered < compute else "LONGER than"
    return [
        f"{last.name}: FSDP takes {gathered:.2g} s a step, {said} {compute:.2g} s of compute",
        f"{last.name}: a sample is on {split.words}, which takes {turned:.2g} s a step",
    ]


def _restarts(facts: Facts, count: int, used: list[Fact]) -> list[str]:
    apart, write = facts.constant("restart.hours_between_failures"), facts.constant("restart.checkpoint_seconds")
    used += [apart, write]
    every, lost = young_daly(apart.value * 3600 / count, write.value)
    return [
        f"a failure every {duration(apart.value * 3600 / count)}: write a checkpoint every {duration(every)}, "
        f"which loses {100 * lost:.2g} % of the time"
    ]


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
        Row("checkpoint_bytes", 12 * model.all_parameters, "bytes", "weights and Adam's moments in float32"),
    ]


def _law_table(optima: list[laws.Optimum], flops: float) -> Table:
    return Table(
        f"Where {flops:.3g} FLOPs are best spent",
        ("law", "parameters", "tokens", "batch", "rate", "source"),
        tuple(
            (
                o.law,
                o.parameters,
                o.tokens,
                laws.batch_tokens(o.parameters, o.tokens),
                laws.learning_rate(o.parameters, o.tokens),
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


def _refuse_unknown(file: Path, text: str, words: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in words:
        if key not in known:
            line = line_of(text, key)
            raise RequestError(
                f"{file}, line {line}: the key {key!r} is not known", f"the nearest is {nearest(key, list(known))}"
            )
