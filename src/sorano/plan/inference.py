"""`sorano plan generate`: what making a video takes on a device, on several, or on this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sorano.errors import RequestError
from sorano.plan import memory
from sorano.plan.assumptions import Assumption, Assumptions, load_assumptions
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, Value, duration, shown, unique
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
class PlannedVideo:
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
) -> PlannedVideo:
    """Fills in the model's own settings. Raises RequestError for numbers that make no video."""
    if size and any(int(side) > MAX_SIDE for side in re.findall(r"\d+", size)):
        raise RequestError(f"size is {size}, and must be at most {MAX_SIDE:,} pixels on a side")
    for name, value, most in (("seconds", seconds, 36_000), ("fps", fps, 240), ("num_steps", num_steps, 10_000)):
        if value is not None and not 0 < value <= most:
            raise RequestError(f"{name} is {value}, and must be above 0 and at most {most}")
    native = model.native
    branches = native.branches if guided is None else 2 if guided else 1
    return PlannedVideo(
        model, model.shape(size, seconds, fps), fps or native.fps, num_steps or native.num_steps, branches
    )


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
    assumptions: Assumptions | None = None,
) -> Estimate:
    """What one video takes: FLOPs, memory by stage, seconds, money, energy, and what minutes of film would.

    `model` is the embedded one if none is given; `layers` and `width` make one in Movie Gen's proportions instead.
    `device` is a row of devices.csv; None is this machine, as it was calibrated. `count` devices share each sample.
    `memory_bytes` forces a budget for each. Raises RequestError for words and numbers that mean nothing.
    """
    assumptions = assumptions or load_assumptions()
    _check_numbers(count, dtype, minutes, memory_bytes)
    known = _model(assumptions, model, layers, width)
    job = make_job(known, size=size, seconds=seconds, fps=fps, num_steps=num_steps, guided=guided)
    where = find_device(assumptions, device) if device is not None else None
    if where is None:
        _check_for_this_machine(known, count, stack, usd_hour, grid)
    shares = inference_shares(assumptions, where, stack) if where else None
    used: list[Assumption] = [*(shares.assumptions if shares else ())]
    placed = place(assumptions, job, where, dtype, count, memory_bytes, used)
    time, split = _time(assumptions, job, where, shares, count, used, placed.run)
    takes = next(row.value for row in time if row.name == "seconds")
    assert isinstance(takes, Range)
    if where is not None:
        money = _money(assumptions, where, takes, count, job.seconds, usd_hour, grid or "world", used)
        tables = [published_prices(assumptions, money_of(money, "usd_per_video_second"))]
    else:
        money, tables = [], []
        used += machine_facts(assumptions, this_machine())
    usd = money_of(money, "usd")
    tables += [placed.table] if placed.table else []
    long_table, chart = _minutes(assumptions, job, where, shares, minutes, used)
    on = f"{count} x {where.title}" if where and count > 1 else where.title if where else "this machine"
    return Estimate(
        title=f"Generate: {duration(job.seconds)} of {job.shape.size} by {known.title} on {on}",
        summary="; ".join((shown(takes, "s"), *([shown(usd, "USD")] if usd else []), placed.words)),
        rows=(*time, *placed.rows),
        assumptions=unique(used),
        tables=(*tables, long_table),
        charts=(chart,),
        notes=tuple(_notes(job, where, usd, split)),
        parts=(("FLOPs", tuple(_flops_rows(job))), ("Money and energy", tuple(money))),
    )


def _check_numbers(count: int, dtype: str | None, minutes: tuple[float, ...], memory_bytes: int | None) -> None:
    """Raises RequestError for what no plan can be made of."""
    if not 1 <= count <= 100_000:
        raise RequestError(f"count is {count}, and must be 1 to 100,000")
    if dtype is not None and dtype not in BYTES:
        raise RequestError(f"dtype {dtype!r} is not known", f"choose one of: {', '.join(BYTES)}")
    if not minutes or not all(0 < minute <= 1e5 for minute in minutes):
        raise RequestError(f"minutes are {minutes}, and must be above 0 and at most 100,000", "like --minutes 1,10,60")
    if memory_bytes is not None and memory_bytes < 1:
        raise RequestError(f"memory is {memory_bytes} bytes, and must be above 0")


def _check_for_this_machine(
    model: Costed, count: int, stack: str | None, usd_hour: float | None, grid: str | None
) -> None:
    """Raises RequestError for what only a device of the catalogue has, and for a model that Sorano does not run."""
    for name, given in (("count", count > 1), ("stack", stack), ("price", usd_hour is not None), ("grid", grid)):
        if given:
            raise RequestError(f"{name} is for devices of the catalogue", "say which: --device h100")
    if not isinstance(model, PresetModel):
        raise RequestError(f"this machine cannot run {model.title}", "say on what to plan it: --device h100")


def _flops_rows(job: PlannedVideo) -> list[Row]:
    """Tokens and FLOPs: of a pass, of all passes, of the networks beside the transformer."""
    model, parts, decode = job.model, job.denoise(), job.model.decode_flops(job.shape)
    return [
        Row("tokens", model.tokens(job.shape), "tokens", f"{job.shape.size}, {job.shape.num_frames} frames"),
        Row("forward_flops", model.forward(job.shape).total, "FLOP", "one pass of the transformer for one sample"),
        Row("attention_share", parts.attention_share, "%", "4 s^2 D L of it; grows with the square of the video"),
        Row("passes", job.num_steps * job.branches, "", f"{job.num_steps} steps x {job.branches} with guidance"),
        Row("denoise_flops", parts.total, "FLOP", "all passes"),
        Row("decode_flops", decode, "FLOP", "latents to pixels" if decode else "the autoencoder is not published"),
        *_encoders(model, job),
        Row("flops_per_video_second", (parts.total + (decode or 0)) / job.seconds, "FLOP", ""),
        *(_experts(model, job) if isinstance(model, PresetModel) else ()),
    ]


def _money(
    assumptions: Assumptions,
    device: Device,
    seconds: Range,
    count: int,
    video_seconds: float,
    usd_hour: float | None,
    grid: str,
    used: list[Assumption],
) -> list[Row]:
    """Money and energy of `count` devices for so many seconds, for the video and for a second of it."""
    device_seconds = Range(*(getattr(seconds, case) * count for case in CASES))
    rows, more = costs(assumptions, device, device_seconds, usd_hour=usd_hour, grid=grid)
    used += more
    return rows + [per_second(row, video_seconds) for row in rows if row.name in ("usd", "kwh", "co2_g")]


def money_of(rows: list[Row], name: str) -> Range | None:
    """The value of a row of this name; None where no price is known."""
    return next((row.value for row in rows if row.name == name and isinstance(row.value, Range)), None)


def _notes(job: PlannedVideo, device: Device | None, usd: Range | None, split: Split) -> list[str]:
    """What is missing or assumed: a price, this machine's speed, a video longer than those of training, the split."""
    notes = []
    if device is None:
        machine = this_machine()
        notes.append(
            f"this machine ({machine.device}, {machine.dtype}): its speed is {machine.reason}; "
            "`--device h100` plans for another"
        )
    elif usd is None:
        notes.append(f"no price of {device.title} was found: give one with --price")
    most = job.model.preset.max_num_frames if isinstance(job.model, PresetModel) else None
    if most and job.shape.num_frames > most:
        notes.append(
            f"{job.model.name} was trained on at most {most} frames: beyond them only chunks keep their quality"
        )
    if split.ulysses * split.ring > 1:
        notes.append(f"each sample is shared by {split.words}")
    return notes


def _model(assumptions: Assumptions, model: str | Costed | None, layers: int | None, width: int | None) -> Costed:
    if layers is None and width is None:
        return find_model(assumptions, model or "world") if isinstance(model, str | None) else model
    if model is not None:
        raise RequestError("a model has its own layers and width", "give a model, or --layers and --width")
    for name, value, least, most in (("layers", layers, 1, 1000), ("width", width, 128, 131_072)):
        if value is not None and not least <= value <= most:
            raise RequestError(f"{name} is {value}, and must be {least:,} to {most:,}")
    return of_dimensions(layers=layers, width=width, like=published(assumptions, "movie-gen-30b"))


def machine_facts(assumptions: Assumptions, machine: Machine) -> list[Assumption]:
    """What a plan for this machine stands on: its profile, and by how much plans of such profiles were wrong."""
    wrong = _spread(assumptions, machine)
    profile = machine.profile
    tag, source, date = "A", profile.name, wrong.date
    if machine.measured:  # named like "cpu, bfloat16, measured 2026-11-23"
        tag, source, date = "U", f"sorano plan calibrate: {profile.name}", profile.name.partition("measured ")[2]

    def fact(name: str, value: float, unit: str, *, is_share: bool = False) -> Assumption:
        low, high = value / wrong.high, value / wrong.low  # a machine twice as fast takes half as long
        return Assumption(f"machine.{name}", value, low, min(1.0, high) if is_share else high, unit, tag, date, source)

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


def _spread(assumptions: Assumptions, machine: Machine) -> Assumption:
    return assumptions.constant("machine.calibrated" if machine.measured else "machine.guessed")


def service_seconds(
    assumptions: Assumptions, job: PlannedVideo, device: Device, count: int, stack: str | None, used: list[Assumption]
) -> Range:
    """Seconds of one video on `count` devices of the catalogue, without waiting."""
    shares = inference_shares(assumptions, device, stack)
    used += shares.assumptions
    rows, _ = _time(assumptions, job, device, shares, count, used, None)
    found = next(row.value for row in rows if row.name == "seconds")
    assert isinstance(found, Range)
    return found


def _time(
    assumptions: Assumptions,
    job: PlannedVideo,
    device: Device | None,
    shares: Shares | None,
    count: int,
    used: list[Assumption],
    run: RunEstimate | None,
) -> tuple[list[Row], Split]:
    """Seconds of a video by stage, and how the devices share a sample."""
    if device is None or shares is None:
        assert run is not None
        return _time_here(assumptions, run), Split(1, 1)
    parts, decode = job.denoise(), job.model.decode_flops(job.shape) or 0
    passes = job.num_steps * job.branches
    serial, launch = assumptions.constant("parallel.serial"), assumptions.constant("launch.seconds_per_layer")
    decoder = assumptions.constant("decode.launches")
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
            exchanged = _exchanged(assumptions, job, split, device, attention / passes / count, share_case)
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
        used += [serial, assumptions.constant("link.share"), assumptions.constant("nic.gb_s")]
        alone = (
            parts.attention / rate / shares.attention.value + (parts.linear + parts.rest) / rate / shares.linear.value
        )
        rows.append(Row("parallel_efficiency", alone / count / denoises[1], "%", "against the same work on one device"))
        rows.append(Row("exchange_seconds", Range.of(*exchanges), "s", f"{split.words}; what work does not hide"))
    return rows, split


def _time_here(assumptions: Assumptions, run: RunEstimate) -> list[Row]:
    """Seconds of a run on this machine, and by how much plans from its profile were wrong."""
    wrong = _spread(assumptions, this_machine())
    return [
        Row(name, Range(*(value * wrong.at(case) for case in CASES)), "s", why)
        for name, value, why in (
            ("seconds", run.seconds, "all stages, from the machine's profile"),
            ("denoise_seconds", run.denoise_seconds, "FLOPs / (matrix rate x share)"),
            ("decode_seconds", run.decode_seconds, ""),
        )
    ]


def _exchanged(
    assumptions: Assumptions, job: PlannedVideo, split: Split, device: Device, attention_seconds: float, rates: str
) -> float:
    """Seconds that all passes exchange tokens between devices and no work hides; `attention_seconds` is that of one
    pass on each device, behind which a ring hides."""
    tokens, passes = job.model.tokens(job.shape), job.num_steps * job.branches
    network = {
        "link_share": assumptions.constant("link.share").at(rates),
        "nic_bytes_per_second": assumptions.constant("nic.gb_s").at(rates) * 1e9,
    }
    exchanged = passes * exchange_seconds(job.model, tokens, split, device, **network)
    return exchanged + passes * ring_exposed_seconds(job.model, tokens, split, device, attention_seconds, **network)


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
    assumptions: Assumptions,
    job: PlannedVideo,
    device: Device | None,
    dtype: str | None,
    count: int,
    budget: int | None,
    used: list[Assumption],
) -> Placed:
    """Memory by stage on each of `count` devices, in the first way that fits; what would fit where none does."""
    machine = this_machine()
    if device is not None:
        usable = assumptions.constant("memory.usable")
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
    job: PlannedVideo, model: PresetModel, machine: Machine, bytes_per_weight: float, count: int
) -> Iterator[tuple[Placement, dict[str, int]]]:
    """Every way to place the networks, the fastest first, with what each stage takes on each of `count` devices.

    Several devices hold equal shares of the weights and of the tokens: each gathers a block of the transformer while it
    computes the one before (FSDP). The autoencoder is whole on each, and one of them decodes.
    """
    configs = model.configs
    together = job.branches if branches_together(model.latent(job.shape), configs.transformer.patch_size) else 1
    held = memory.MemoryNeeds(job.shape, together, TEXT_TOKENS, configs.image_tokens, bytes_per_weight=bytes_per_weight)
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


def _encoders(model: Costed, job: PlannedVideo) -> list[Row]:
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


def _experts(model: PresetModel, job: PlannedVideo) -> list[Row]:
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


def would_fit(job: PlannedVideo, machine: Machine, run: RunEstimate, bytes_per_weight: float, count: int) -> list[str]:
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


def machine_of(device: Device, usable: Assumption) -> Machine:
    """A device of the catalogue as `estimate_generate` takes it."""
    free = round(usable.value * device.memory_bytes)
    return Machine(device.name, "bfloat16", device.flops_per_second, free, device.title, ACCELERATOR)


def _minutes(
    assumptions: Assumptions,
    job: PlannedVideo,
    device: Device | None,
    shares: Shares | None,
    minutes: tuple[float, ...],
    used: list[Assumption],
) -> tuple[Table, Chart]:
    """A film of so many minutes with full attention, and in chunks that attend to what was before them."""
    chunk, context = assumptions.constant("chunk.seconds"), assumptions.constant("chunk.context_seconds")
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


def full_flops(job: PlannedVideo, seconds: float) -> Parts:
    """FLOPs of a film of so many seconds with every token attending to every other."""
    return job.model.forward(job.model.shape(job.shape.size, seconds, job.fps)).times(job.num_steps * job.branches)


def chunked_flops(job: PlannedVideo, seconds: float, *, chunk: float, context: float) -> Parts:
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
