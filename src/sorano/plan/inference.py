"""`sorano plan generate`: what making a video takes on a device, on several, or on this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sorano.errors import RequestError
from sorano.plan import memory
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, Value, duration, shown, unique
from sorano.plan.facts import Fact, Facts, load_facts
from sorano.plan.flops import Costed, Parts, PresetModel, find_model, of_dimensions, published
from sorano.plan.generate import TEXT_TOKENS, RunEstimate, estimate_generate, format_bytes
from sorano.plan.hardware import Device, Shares, find_device, inference_shares
from sorano.plan.machine import ACCELERATOR, Machine, this_machine
from sorano.plan.memory import Placement, branches_together
from sorano.plan.money import costs, per_second, published_prices
from sorano.plan.parallel import Split, exchange_seconds, ring_exposed_seconds, shared, split_tokens
from sorano.shapes import VideoShape

MINUTES = (1.0, 10.0, 60.0)
MAX_SIDE = 65_536  # pixels
BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "float8": 1.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True)
class Job:
    """A video to be made, with every default filled in."""

    model: Costed
    shape: VideoShape
    fps: float
    num_steps: int
    branches: int  # passes a step

    @property
    def seconds(self) -> float:
        """Of video."""
        return self.shape.num_frames / self.fps

    def denoise(self) -> Parts:
        """FLOPs of all steps."""
        return self.model.forward(self.shape).times(self.num_steps * self.branches)


def make_job(
    model: Costed,
    *,
    size: str | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    num_steps: int | None = None,
    guided: bool | None = None,
) -> Job:
    """Fills in the model's own settings. Raises RequestError for numbers that make no video."""
    if size and any(int(side) > MAX_SIDE for side in re.findall(r"\d+", size)):
        raise RequestError(f"size is {size}, and must be at most {MAX_SIDE:,} pixels on a side")
    for name, value, most in (("seconds", seconds, 36_000), ("fps", fps, 240), ("num_steps", num_steps, 10_000)):
        if value is not None and not 0 < value <= most:
            raise RequestError(f"{name} is {value}, and must be above 0 and at most {most}")
    native = model.native
    branches = native.branches if guided is None else 2 if guided else 1
    return Job(model, model.shape(size, seconds, fps), fps or native.fps, num_steps or native.num_steps, branches)


def plan_generate(
    model: str | Costed | None = None,
    *,
    layers: int | None = None,
    width: int | None = None,
    size: str | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    num_steps: int | None = None,
    guided: bool | None = None,
    device: str | None = None,
    count: int = 1,
    stack: str | None = None,
    dtype: str | None = None,
    usd_hour: float | None = None,
    grid: str | None = None,
    minutes: tuple[float, ...] = MINUTES,
    memory_bytes: int | None = None,
    facts: Facts | None = None,
) -> Estimate:
    """What one video takes: FLOPs, memory by stage, seconds, money, energy, and what minutes of film would.

    `model` is the embedded one if none is given; `layers` and `width` make one in Movie Gen's proportions instead.
    `device` is a row of devices.csv; None is this machine, as it was calibrated. `count` devices share each sample.
    `memory_bytes` forces a budget for each. Raises RequestError for words and numbers that mean nothing.
    """
    facts = facts or load_facts()
    if not 1 <= count <= 100_000:
        raise RequestError(f"count is {count}, and must be 1 to 100,000")
    if dtype is not None and dtype not in BYTES:
        raise RequestError(f"dtype {dtype!r} is not known", f"choose one of: {', '.join(BYTES)}")
    if not minutes or not all(0 < minute <= 1e5 for minute in minutes):
        raise RequestError(f"minutes are {minutes}, and must be above 0 and at most 100,000", "like --minutes 1,10,60")
    if memory_bytes is not None and memory_bytes < 1:
        raise RequestError(f"memory is {memory_bytes} bytes, and must be above 0")
    known = _model(facts, model, layers, width)
    job = make_job(known, size=size, seconds=seconds, fps=fps, num_steps=num_steps, guided=guided)
    where = find_device(facts, device) if device is not None else None
    if where is None:
        for name, given in (("count", count > 1), ("stack", stack), ("price", usd_hour is not None), ("grid", grid)):
            if given:
                raise RequestError(f"{name} is for devices of the catalogue", "say which: --device h100")
        if not isinstance(known, PresetModel):
            raise RequestError(f"this machine cannot run {known.title}", "say on what to plan it: --device h100")
    shares = inference_shares(facts, where, stack) if where else None
    parts, decode = job.denoise(), known.decode_flops(job.shape)
    used: list[Fact] = [*(shares.facts if shares else ())]

    what = [
        Row("tokens", known.tokens(job.shape), "tokens", f"{job.shape.size}, {job.shape.num_frames} frames"),
        Row("forward_flops", known.forward(job.shape).total, "FLOP", "one pass of the transformer for one sample"),
        Row("attention_share", parts.attention_share, "%", "4 s^2 D L of it; grows with the square of the video"),
        Row("passes", job.num_steps * job.branches, "", f"{job.num_steps} steps x {job.branches} with guidance"),
        Row("denoise_flops", parts.total, "FLOP", "all passes"),
        Row("decode_flops", decode, "FLOP", "latents to pixels" if decode else "the autoencoder is not published"),
        *_encoders(known, job),
        Row("flops_per_video_second", (parts.total + (decode or 0)) / job.seconds, "FLOP", ""),
    ]
    placed = place(facts, job, where, dtype, count, memory_bytes, used)
    time, split = _time(facts, job, where, shares, count, used, placed.run)
    seconds_range = next(row.value for row in time if row.name == "seconds")
    assert isinstance(seconds_range, Range)
    notes: list[str] = []
    tables: list[Table] = []
    money: list[Row] = []
    usd: Value = None
    if where is not None:
        device_seconds = Range(*(getattr(seconds_range, case) * count for case in CASES))
        money, more = costs(facts, where, device_seconds, usd_hour=usd_hour, grid=grid or "world")
        used += more
        money += [per_second(row, job.seconds) for row in money if row.name in ("usd", "kwh", "co2_g")]
        found = {row.name: row.value for row in money}
        usd, own = found.get("usd"), found.get("usd_per_video_second")
        if usd is None:
            notes.append(f"no price of {where.title} was found: give one with --price")
        tables.append(published_prices(facts, own if isinstance(own, Range) else None))
    else:
        machine = this_machine()
        used += machine_facts(facts, machine)
        notes.append(
            f"this machine ({machine.device}, {machine.dtype}): its speed is {machine.reason}; "
            "`--device h100` plans for another"
        )
    if isinstance(known, PresetModel):
        most = known.preset.max_num_frames
        if most and job.shape.num_frames > most:
            notes.append(
                f"{known.name} was trained on at most {most} frames: beyond them only chunks keep their quality"
            )
        tables += [placed.table] if placed.table else []
        what += _experts(known, job)
    long_table, chart = _minutes(facts, job, where, shares, minutes, used)
    tables.append(long_table)
    on = f"{count} x {where.title}" if where and count > 1 else where.title if where else "this machine"
    if split.ulysses * split.ring > 1:
        notes.append(f"each sample is shared by {split.words}")
    return Estimate(
        title=f"Generate: {duration(job.seconds)} of {job.shape.size} by {known.title} on {on}",
        summary="; ".join((shown(seconds_range, "s"), *([shown(usd, "USD")] if usd else []), placed.words)),
        rows=(*time, *placed.rows),
        facts=unique(used),
        tables=tuple(tables),
        charts=(chart,),
        notes=tuple(notes),
        parts=(("FLOPs", tuple(what)), ("Money and energy", tuple(money))),
    )


def _model(facts: Facts, model: str | Costed | None, layers: int | None, width: int | None) -> Costed:
    if layers is None and width is None:
        return find_model(facts, model or "world") if isinstance(model, str | None) else model
    if model is not None:
        raise RequestError("a model has its own layers and width", "give a model, or --layers and --width")
    for name, value, least, most in (("layers", layers, 1, 1000), ("width", width, 128, 131_072)):
        if value is not None and not least <= value <= most:
            raise RequestError(f"{name} is {value}, and must be {least:,} to {most:,}")
    return of_dimensions(layers=layers, width=width, like=published(facts, "movie-gen-30b"))


def machine_facts(facts: Facts, machine: Machine) -> list[Fact]:
    """What a plan for this machine stands on: its profile, and by how much plans of such profiles were wrong."""
    wrong = _spread(facts, machine)
    profile = machine.profile
    tag, source, date = "A", profile.name, wrong.date
    if machine.measured:  # named like "cpu, bfloat16, measured 2026-11-23"
        tag, source, date = "U", f"sorano plan calibrate: {profile.name}", profile.name.partition("measured ")[2]

    def fact(name: str, value: float, unit: str, *, is_share: bool = False) -> Fact:
        low, high = value / wrong.high, value / wrong.low  # a machine twice as fast takes half as long
        return Fact(f"machine.{name}", value, low, min(1.0, high) if is_share else high, unit, tag, date, source)

    rate = fact("matmul", machine.flops_per_second, "FLOP/s")
    timed = machine.measured is None and machine.reason == "timed before"
    return [
        replace(rate, tag="U", source="timed on this machine") if timed else rate,
        *(
            fact(name, getattr(profile, name), "share of matmul", is_share=True)
            for name in ("attention", "linear", "decode")
        ),
        fact("seconds_per_layer", profile.seconds_per_layer, "s"),
        wrong,
    ]


def _spread(facts: Facts, machine: Machine) -> Fact:
    return facts.constant("machine.calibrated" if machine.measured else "machine.guessed")


def service_seconds(facts: Facts, job: Job, device: Device, count: int, stack: str | None, used: list[Fact]) -> Range:
    """Seconds of one video on `count` devices of the catalogue, without waiting."""
    shares = inference_shares(facts, device, stack)
    used += shares.facts
    rows, _ = _time(facts, job, device, shares, count, used, None)
    found = next(row.value for row in rows if row.name == "seconds")
    assert isinstance(found, Range)
    return found


def _time(
    facts: Facts,
    job: Job,
    device: Device | None,
    shares: Shares | None,
    count: int,
    used: list[Fact],
    run: RunEstimate | None,
) -> tuple[list[Row], Split]:
    if device is None or shares is None:
        assert run is not None
        wrong = _spread(facts, this_machine())
        what = [
            Row(name, Range(*(value * wrong.at(case) for case in CASES)), "s", why)
            for name, value, why in (
                ("seconds", run.seconds, "all stages, from the machine's profile"),
                ("denoise_seconds", run.denoise_seconds, "FLOPs / (matrix rate x share)"),
                ("decode_seconds", run.decode_seconds, ""),
            )
        ]
        return what, Split(1, 1)
    parts, decode = job.denoise(), job.model.decode_flops(job.shape) or 0
    tokens, passes = job.model.tokens(job.shape), job.num_steps * job.branches
    serial, link, nic = (facts.constant(name) for name in ("parallel.serial", "link.share", "nic.gb_s"))
    launch, decoder = facts.constant("launch.seconds_per_layer"), facts.constant("decode.launches")
    used += [launch, decoder]
    split = split_tokens(count, job.model.heads, device.link_devices)
    rate = device.flops_per_second
    totals: list[float] = []
    denoises: list[float] = []
    decodes: list[float] = []
    exchanges: list[float] = []
    for share_case, cost_case in zip(("high", "default", "low"), CASES, strict=True):
        attention = parts.attention / (rate * shares.attention.at(share_case))
        linear = (parts.linear + parts.rest) / (rate * shares.linear.at(share_case))
        one = attention + linear + passes * job.model.layers * launch.at(cost_case)
        exchanged = 0.0
        if count > 1:
            nic_rate = nic.at(share_case) * 1e9
            exchanged = passes * exchange_seconds(
                job.model, tokens, split, device, link_share=link.at(share_case), nic_bytes_per_second=nic_rate
            )
            each = attention / passes / count
            exchanged += passes * ring_exposed_seconds(
                job.model, tokens, split, device, each, link_share=link.at(share_case), nic_bytes_per_second=nic_rate
            )
            one = shared(one, serial.at(cost_case), count) + exchanged
        exchanges.append(exchanged)
        denoises.append(one)
        decodes.append(decode / (rate * shares.decode.at(share_case)) + decoder.at(cost_case) * launch.at(cost_case))
        totals.append(denoises[-1] + decodes[-1])
    rows = [
        Row("seconds", Range(*totals), "s", "denoise and decode, without waiting or loading"),
        Row("denoise_seconds", Range(*denoises), "s", _share_words(shares)),
        Row("decode_seconds", Range(*decodes) if decode else None, "s", f"share {shares.decode.value:g} of peak"),
    ]
    if count > 1:
        used += [serial, link, nic]
        alone = (
            parts.attention / rate / shares.attention.value + (parts.linear + parts.rest) / rate / shares.linear.value
        )
        rows.append(Row("parallel_efficiency", alone / count / denoises[1], "%", "against the same work on one device"))
        rows.append(Row("exchange_seconds", Range.of(*exchanges), "s", f"{split.words}; what work does not hide"))
    return rows, split


def _share_words(shares: Shares) -> str:
    if shares.attention == shares.linear:
        return f"FLOPs / (peak x {shares.linear.value:g})"
    return f"attention at {shares.attention.value:g} of peak, the rest at {shares.linear.value:g}"


@dataclass(frozen=True)
class Placed:
    """How a job lies in memory, and whether it fits."""

    rows: tuple[Row, ...]
    fits: bool
    words: str  # "28.0 GB of memory, which fits"
    table: Table | None = None  # of a model that Sorano runs
    run: RunEstimate | None = None


def place(
    facts: Facts,
    job: Job,
    device: Device | None,
    dtype: str | None,
    count: int,
    budget: int | None,
    used: list[Fact],
) -> Placed:
    """Memory by stage on each of `count` devices, in the first way that fits; what would fit where none does."""
    machine = this_machine()
    if device is not None:
        usable = facts.constant("memory.usable")
        used += [] if budget else [usable]
        machine = machine_of(device, usable)
    if budget is not None:
        machine = replace(machine, free_bytes=budget)
    size = BYTES[dtype] if dtype else machine.bytes_per_value
    if not isinstance(job.model, PresetModel):
        return _weights_alone(job.model, machine, dtype or machine.dtype, size, count)
    free = machine.free_bytes
    run = estimate_generate(
        job.model.configs,
        machine,
        job.shape,
        num_steps=job.num_steps,
        guided=job.branches == 2,
        fps=job.fps,
        bytes_per_weight=size if size != machine.bytes_per_value else None,
    )
    ways = list(_ways(job, job.model, machine, size, count))
    if count > 1:  # what one device holds is not what each of several does
        placement, stages = next((way for way in ways if free is None or max(way[1].values()) <= free), ways[-1])
        run = replace(run, placement=placement, stage_bytes=stages, peak_bytes=max(stages.values()))
    beside = run.host_bytes
    if count > 1 and beside:  # each device has a process of its own, and none holds weights for visits
        beside = count * machine.profile.base_bytes
    host = [Row("host_bytes", beside, "bytes", "main memory beside the device's")] if beside else []
    rows = [
        Row("peak_bytes", run.peak_bytes, "bytes", f"the widest stage; {_placed_words(run.placement, count)}"),
        *host,
        Row("fits", run.fits, "", f"in {format_bytes(free)}" if free is not None else "the system does not say"),
        *(Row(f"{stage}_bytes", held, "bytes", "") for stage, held in run.stage_bytes.items()),
    ]
    if not run.fits:
        rows.append(Row("would_fit", " or ".join(would_fit(job, machine, run, size, count)), "", "best first"))
    table = _placements(job.model.latent(job.shape).num_frames, machine, ways, count)
    return Placed(
        tuple(rows),
        run.fits,
        _fit_words(run.peak_bytes, run.fits),
        table,
        run,
    )


def _weights_alone(model: Costed, machine: Machine, dtype: str, size: float, count: int) -> Placed:
    """A model whose networks are not published: its weights, an equal share of them on each device."""
    weights, free = math.ceil(model.all_parameters * size / count), machine.free_bytes or 0
    fits = weights <= free
    of = f"1 of {count} shares, " if count > 1 else ""
    rows = [
        Row("weight_bytes", weights, "bytes", f"{of}{dtype}; activations are not counted"),
        Row("fits", fits, "", f"weights in {format_bytes(free)}"),
    ]
    if not fits:
        ways = [
            f"weights in {name}" for name in ("float8", "int4") if model.all_parameters * BYTES[name] <= free * count
        ]
        ways += [f"a device with {format_bytes(1.05 * weights)}"]
        ways += [f"{math.ceil(1.05 * weights * count / free)} of these that share the weights"]
        rows.append(Row("would_fit", " or ".join(ways), "", "best first"))
    return Placed(tuple(rows), fits, f"weights of {_fit_words(weights, fits)}")


def _fit_words(peak: int, fits: bool) -> str:
    return f"{format_bytes(peak)} of memory, which {'fits' if fits else 'does NOT fit'}"


def _placed_words(placement: Placement, count: int) -> str:
    return placement.words if count == 1 else f"weights and tokens shared by {count}, {placement.words}"


def _ways(
    job: Job, model: PresetModel, machine: Machine, bytes_per_weight: float, count: int
) -> Iterator[tuple[Placement, dict[str, int]]]:
    """Every way to place the networks, the fastest first, with what each stage takes on each of `count` devices.

    Several devices hold equal shares of the weights and of the tokens: each gathers a block of the transformer while it
    computes the one before (FSDP). The autoencoder is whole on each, and one of them decodes.
    """
    configs = model.configs
    together = job.branches if branches_together(model.latent(job.shape), configs.transformer.patch_size) else 1
    held = memory.Job(job.shape, together, TEXT_TOKENS, configs.image_tokens, bytes_per_weight=bytes_per_weight)
    own = {"text": configs.text_encoder.parameters(), "denoise": configs.transformer.parameters()}
    divided = configs.parameters() - configs.vae.parameters()
    for placement in memory.ladder(job.shape, configs.geometry, on_cpu=machine.on_cpu):
        if count > 1 and (placement.offload or placement.text_on_host) and placement.tile is None:
            continue  # what is shared out need not visit or stay away
        if count > 1:
            placement = replace(placement, offload=False, text_on_host=False)
        stages = memory.stage_bytes(configs, machine, held, placement)
        if count > 1:
            for name, whole in list(stages.items()):
                weights = own.get(name, 0) if placement.in_turn else divided
                kept = round(bytes_per_weight * weights)
                working = whole - kept
                if name == "denoise":
                    working = math.ceil(working / count)
                    working += round(2 * bytes_per_weight * configs.transformer.block_parameters())
                stages[name] = math.ceil(kept / count) + working
        yield placement, stages


def _encoders(model: Costed, job: Job) -> list[Row]:
    """What reads the prompt and a given picture; small beside denoising, and often forgotten in memory."""
    if not isinstance(model, PresetModel):
        return []
    text = model.configs.text_encoder.flops(TEXT_TOKENS, batch=job.branches)
    return [
        Row("text_flops", text, "FLOP", f"{TEXT_TOKENS} tokens of each prompt"),
        Row("encode_flops", model.encode_flops(job.shape), "FLOP", "pixels to latents, where a video is given"),
    ]


def _placements(latents: int, machine: Machine, ways: list[tuple[Placement, dict[str, int]]], count: int) -> Table:
    """What each way of placing the weights takes, the fastest first."""
    free = machine.free_bytes
    rows: list[tuple[Value, ...]] = []
    for placement, stages in ways:
        chunk = (
            "decoded whole" if placement.chunk >= latents else f"decoded {placement.chunk} latent frame(s) at a time"
        )
        fits = free is None or max(stages.values()) <= free
        words = f"{_placed_words(placement, count)}, {chunk}"
        rows.append((words, *(stages[name] for name in ("text", "denoise", "decode")), fits))
    return Table(
        "Ways to place it, the fastest first; the first that fits is taken",
        ("placement", "text", "denoise", "decode", "fits"), tuple(rows), ("", "bytes", "bytes", "bytes", ""),
    )  # fmt: skip


def _experts(model: PresetModel, job: Job) -> list[Row]:
    """How many steps each of two experts takes: the first those whose noise is at least the boundary."""
    boundary, shift = model.preset.boundary, model.preset.shift
    if model.configs.transformer_2 is None or boundary is None or shift is None:
        return []
    falls = [1 - step / job.num_steps for step in range(job.num_steps)]
    first = sum(shift * sigma / (1 + (shift - 1) * sigma) >= boundary for sigma in falls)
    why = f"noise of at least {boundary:g}; shift {shift:g}"
    return [
        Row("first_expert_steps", first, "steps", why),
        Row("second_expert_steps", job.num_steps - first, "steps", ""),
    ]


def would_fit(job: Job, machine: Machine, run: RunEstimate, bytes_per_weight: float, count: int) -> list[str]:
    """What would make a request fit, best first: fewer frames and smaller sizes, other precisions, a larger device,
    more devices that share the weights as `_ways` shares them."""
    assert isinstance(job.model, PresetModel)
    model, free = job.model, machine.free_bytes or 0

    def fits(size: float, devices: int) -> bool:
        return any(max(stages.values()) <= free for _, stages in _ways(job, model, machine, size, devices))

    ways = [run.largest_fit] if run.largest_fit else []
    smaller = (dtype for dtype in ("float8", "int4") if BYTES[dtype] < bytes_per_weight and fits(BYTES[dtype], count))
    ways += [f"weights in {dtype}" for dtype in smaller][:1]
    ways.append(f"a device with {format_bytes(1.05 * run.peak_bytes)}")
    more = (count * 2**power for power in range(1, 11))
    together = None if machine.on_cpu else next((devices for devices in more if fits(bytes_per_weight, devices)), None)
    return [*ways, *([f"{together} of these that share the weights"] if together else [])]


def machine_of(device: Device, usable: Fact) -> Machine:
    """A device of the catalogue as `estimate_generate` takes it."""
    free = round(usable.value * device.memory_bytes)
    return Machine(device.name, "bfloat16", device.flops_per_second, free, device.title, ACCELERATOR)


def _minutes(
    facts: Facts,
    job: Job,
    device: Device | None,
    shares: Shares | None,
    minutes: tuple[float, ...],
    used: list[Fact],
) -> tuple[Table, Chart]:
    """A film of so many minutes with full attention, and in chunks that attend to what was before them."""
    chunk, context = facts.constant("chunk.seconds"), facts.constant("chunk.context_seconds")
    used += [chunk, context]
    passes = job.num_steps * job.branches
    rows: list[tuple[float | str | None, ...]] = []
    first: tuple[float, float] | None = None
    full_points: list[tuple[float, float]] = []
    chunk_points: list[tuple[float, float]] = []
    for length in sorted({*minutes, *(m for m in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0) if m <= max(minutes))}):
        full = full_flops(job, 60 * length)
        chunked = chunked_flops(job, 60 * length, chunk=chunk.value, context=context.value)
        full_points.append((length, full.total))
        chunk_points.append((length, chunked.total))
        if length not in minutes:
            continue
        first = first or (full.total, chunked.total)
        hours = tuple(_hours(parts, device, shares) for parts in (full, chunked))
        rows.append(
            (
                f"{length:g} min",
                full.total,
                full.attention_share,
                full.total / first[0],
                hours[0],
                chunked.total,
                chunked.total / first[1],
                hours[1],
            )
        )
    unit = f"{device.title}-hours" if device else "hours"
    table = Table(
        f"Longer films at {job.shape.size}, {passes} passes: the wall at full attention, and the line with chunks of "
        f"{chunk.value:g} s that see {context.value:g} s before them",
        ("film", "full attention", "of it attention", "x the first", unit, "in chunks", "x the first ", f"{unit} "),
        tuple(rows),
        ("", "FLOP", "%", "", "", "FLOP", "", ""),
    )
    chart = Chart(
        "What a longer film costs",
        "minutes of film",
        "FLOPs",
        (("full attention", tuple(full_points)), ("in chunks", tuple(chunk_points))),
    )
    return table, chart


def full_flops(job: Job, seconds: float) -> Parts:
    """FLOPs of a film of so many seconds with every token attending to every other."""
    return job.model.forward(job.model.shape(job.shape.size, seconds, job.fps)).times(job.num_steps * job.branches)


def chunked_flops(job: Job, seconds: float, *, chunk: float, context: float) -> Parts:
    """The same in chunks: each new token attends to its chunk and to a full context, whose keys and values are kept.

    The first chunks have less behind them; counting them as full keeps the cost a straight line.
    """
    piece = job.model.shape(job.shape.size, chunk, job.fps)
    past = job.model.shape(job.shape.size, context, job.fps)
    one = job.model.forward(piece)
    attention = one.attention * (1 + job.model.tokens(past) / job.model.tokens(piece))
    each = Parts(round(attention), one.linear, one.rest).times(job.num_steps * job.branches)
    return each.times(seconds / chunk)


def _hours(parts: Parts, device: Device | None, shares: Shares | None) -> float:
    if device is None or shares is None:
        machine = this_machine()
        profile, rate = machine.profile, machine.flops_per_second
        return (parts.attention / profile.attention + (parts.linear + parts.rest) / profile.linear) / rate / 3600
    seconds = parts.attention / shares.attention.value + (parts.linear + parts.rest) / shares.linear.value
    return seconds / device.flops_per_second / 3600
