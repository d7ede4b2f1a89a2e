"""`sorano plan generate`: what making a video takes on a device, on several, or on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sorano.errors import RequestError
from sorano.plan import memory
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, Value, unique
from sorano.plan.facts import Fact, Facts, load_facts
from sorano.plan.flops import Costed, Parts, PresetModel, PublishedModel, find_model
from sorano.plan.generate import TEXT_TOKENS, RunEstimate, estimate_generate, format_bytes
from sorano.plan.hardware import Device, Shares, find_device, inference_shares
from sorano.plan.machine import ACCELERATOR, Machine, Profile, this_machine
from sorano.plan.memory import branches_together
from sorano.plan.money import costs, published_prices
from sorano.plan.parallel import Split, exchange_seconds, ring_exposed_seconds, shared, split_tokens
from sorano.shapes import VideoShape, latent_frames

MINUTES = (1.0, 10.0, 60.0)
CHUNK_SECONDS, CONTEXT_SECONDS = 5.0, 15.0  # of a film made in chunks: new, and attended to from before
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
    for name, value, most in (("seconds", seconds, 36_000), ("fps", fps, 240), ("num_steps", num_steps, 10_000)):
        if value is not None and not 0 < value <= most:
            raise RequestError(f"{name} is {value}, and must be above 0 and at most {most}")
    native = model.native
    branches = native.branches if guided is None else 2 if guided else 1
    return Job(model, model.shape(size, seconds, fps), fps or native.fps, num_steps or native.num_steps, branches)


def plan_generate(
    model: str | Costed,
    *,
    size: str | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    num_steps: int | None = None,
    guided: bool | None = None,
    device: str | None = None,
    count: int = 1,
    stack: str | None = None,
    dtype: str = "bfloat16",
    usd_hour: float | None = None,
    grid: str = "world",
    minutes: tuple[float, ...] = MINUTES,
    memory_bytes: int | None = None,
    facts: Facts | None = None,
) -> Estimate:
    """What one video takes: FLOPs, memory by stage, seconds, money, energy, and what minutes of film would.

    `device` is a row of devices.csv; None is this machine, as it was calibrated. `count` devices share each sample.
    `memory_bytes` forces a budget. Raises RequestError for words and numbers that mean nothing.
    """
    facts = facts or load_facts()
    if not 1 <= count <= 100_000:
        raise RequestError(f"count is {count}, and must be 1 to 100,000")
    if dtype not in BYTES:
        raise RequestError(f"dtype {dtype!r} is not known", f"choose one of: {', '.join(BYTES)}")
    known = find_model(facts, model) if isinstance(model, str) else model
    job = make_job(known, size=size, seconds=seconds, fps=fps, num_steps=num_steps, guided=guided)
    where = find_device(facts, device) if device is not None else None
    if where is None and count > 1:
        raise RequestError("count is for devices of the catalogue", "say which: --device h100")
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
    held, placements = _memory(job, where, dtype, count, memory_bytes)
    time, split = _time(facts, job, where, shares, count, used, placements)
    rows = [*time, *held]
    seconds_range = next(row.value for row in time if row.name == "seconds")
    notes: list[str] = []
    tables: list[Table] = []
    money: list[Row] = []
    if where is not None and isinstance(seconds_range, Range):
        device_seconds = Range(*(getattr(seconds_range, case) * count for case in CASES))
        money, more = costs(facts, where, device_seconds, usd_hour=usd_hour, grid=grid)
        used += more
        usd = next((row.value for row in money if row.name == "usd"), None)
        own = None
        if isinstance(usd, Range):
            own = Range(*(getattr(usd, case) / job.seconds for case in CASES))
            money.append(Row("usd_per_video_second", own, "USD", "devices alone, busy all the time"))
        else:
            notes.append(f"no price of {where.title} was found: give one with --price")
        tables.append(published_prices(facts, own))
    elif where is None:
        notes.append("this machine; `--device h100` plans for another, `sorano plan calibrate` measures this one")
    if isinstance(known, PresetModel) and known.preset.max_num_frames:
        most = known.preset.max_num_frames
        if job.shape.num_frames > most:
            notes.append(
                f"{known.name} was trained on at most {most} frames: beyond them only chunks keep their quality"
            )
    if isinstance(known, PresetModel):
        tables.append(_placements(known, job, where, memory_bytes))
        what += _experts(known, job)
    long_table, chart = _minutes(job, where, shares, minutes)
    tables.append(long_table)
    on = f"{count} x {where.title}" if where and count > 1 else where.title if where else "this machine"
    headline = f"{job.seconds:.3g} s of {job.shape.size} by {known.title} on {on}"
    if split.ulysses * split.ring > 1:
        notes.append(f"each sample is shared by {split.words}")
    return Estimate(
        title=f"Generate: {headline}",
        summary=headline,
        rows=tuple(rows),
        facts=unique(used),
        tables=tuple(tables),
        charts=(chart,),
        notes=tuple(notes),
        parts=(("FLOPs", tuple(what)), ("Money and energy", tuple(money))),
    )


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
        what = [
            Row("seconds", run.seconds, "s", "all stages, from the machine's profile"),
            Row("denoise_seconds", run.denoise_seconds, "s", "FLOPs / (matrix rate x share)"),
            Row("decode_seconds", run.decode_seconds, "s", ""),
        ]
        return what, Split(1, 1)
    parts, decode = job.denoise(), job.model.decode_flops(job.shape) or 0
    tokens, passes = job.model.tokens(job.shape), job.num_steps * job.branches
    serial, link, nic = (facts.constant(name) for name in ("parallel.serial", "link.share", "nic.gb_s"))
    launch = facts.constant("launch.seconds_per_layer")
    used.append(launch)
    split = split_tokens(count, job.model.heads, device.link_devices)
    rate = device.flops_per_second
    totals: list[float] = []
    denoises: list[float] = []
    decodes: list[float] = []
    exchanged = 0.0
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
            exchanged += passes * ring_exposed_seconds(job.model, tokens, split, each, nic_bytes_per_second=nic_rate)
            one = shared(one, serial.at(cost_case), count) + exchanged
        denoises.append(one)
        decodes.append(decode / (rate * shares.decode.at(share_case)) + 20 * launch.at(cost_case))
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
        rows.append(Row("exchange_seconds", exchanged, "s", f"{split.words}; not hidden"))
    return rows, split


def _share_words(shares: Shares) -> str:
    if shares.attention == shares.linear:
        return f"FLOPs / (peak x {shares.linear.value:g})"
    return f"attention at {shares.attention.value:g} of peak, the rest at {shares.linear.value:g}"


def _memory(
    job: Job, device: Device | None, dtype: str, count: int, budget: int | None
) -> tuple[list[Row], RunEstimate | None]:
    size = BYTES[dtype]
    if isinstance(job.model, PublishedModel):
        weights = round(job.model.all_parameters * size)
        rows = [Row("weight_bytes", weights, "bytes", f"{dtype}; activations are not counted")]
        if device is not None:
            rows.append(
                Row("fits", weights < device.memory_bytes, "", f"weights in {format_bytes(device.memory_bytes)}")
            )
        return rows, None
    assert isinstance(job.model, PresetModel)
    machine = this_machine() if device is None else machine_of(device, None)
    if budget is not None:
        machine = replace(machine, free_bytes=budget)
    run = estimate_generate(
        job.model.configs,
        machine,
        job.shape,
        num_steps=job.num_steps,
        guided=job.branches == 2,
        fps=job.fps,
        bytes_per_weight=size if device is not None and size != machine.bytes_per_value else None,
    )
    free = run.free_bytes
    rows = [
        Row("peak_bytes", run.peak_bytes, "bytes", f"the widest stage; {run.placement.words}"),
        Row("fits", run.fits, "", f"in {format_bytes(free)}" if free is not None else "the system does not say"),
        *(Row(f"{stage}_bytes", held, "bytes", "") for stage, held in run.stage_bytes.items()),
    ]
    if not run.fits:
        rows.append(Row("would_fit", " or ".join(would_fit(job, machine, run)), "", "best first"))
    return rows, run


def _encoders(model: Costed, job: Job) -> list[Row]:
    """What reads the prompt and a given picture; small beside denoising, and often forgotten in memory."""
    if not isinstance(model, PresetModel):
        return []
    text = model.configs.text_encoder.flops(TEXT_TOKENS, batch=job.branches)
    return [
        Row("text_flops", text, "FLOP", f"{TEXT_TOKENS} tokens of each prompt"),
        Row("encode_flops", model.encode_flops(job.shape), "FLOP", "pixels to latents, where a video is given"),
    ]


def _placements(model: PresetModel, job: Job, device: Device | None, budget: int | None) -> Table:
    """What each way of placing the weights takes, the fastest first."""
    machine = this_machine() if device is None else machine_of(device, None)
    free = budget or machine.free_bytes
    latents = latent_frames(job.shape.num_frames)
    together = job.branches if branches_together(model.latent(job.shape), model.configs.transformer.patch_size) else 1
    held = memory.Job(job.shape, together, TEXT_TOKENS)
    rows: list[tuple[Value, ...]] = []
    for placement in memory.ladder(job.shape, latents, on_cpu=machine.on_cpu):
        stages = memory.stage_bytes(model.configs, machine, held, placement)
        chunk = (
            "decoded whole" if placement.chunk >= latents else f"decoded {placement.chunk} latent frame(s) at a time"
        )
        fits = free is None or max(stages.values()) <= free
        rows.append((f"{placement.words}, {chunk}", *(stages[name] for name in ("text", "denoise", "decode")), fits))
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


def would_fit(job: Job, machine: Machine, run: RunEstimate) -> list[str]:
    """What would make a request fit, best first: fewer frames and smaller sizes, other precisions, larger devices."""
    assert isinstance(job.model, PresetModel)
    ways = [run.largest_fit] if run.largest_fit else []
    for dtype in ("float8", "int4"):
        smaller = estimate_generate(
            job.model.configs,
            machine,
            job.shape,
            num_steps=1,
            guided=job.branches == 2,
            bytes_per_weight=BYTES[dtype],
        )
        if smaller.fits:
            ways.append(f"weights in {dtype}")
            break
    together = math.ceil(1.1 * run.peak_bytes / (machine.free_bytes or run.peak_bytes))
    return [
        *ways,
        f"a device with {format_bytes(1.05 * run.peak_bytes)}",
        f"{together} of these that share the weights",
    ]


def machine_of(device: Device, shares: Shares | None, case: str = "default") -> Machine:
    """A device of the catalogue as `estimate_generate` takes it, 4 % of its memory taken by its driver."""
    profile: Profile = ACCELERATOR
    if shares is not None:
        profile = replace(
            profile, attention=shares.attention.at(case), linear=shares.linear.at(case), decode=shares.decode.at(case)
        )
    return Machine(
        device.name, "bfloat16", device.flops_per_second, round(0.96 * device.memory_bytes), device.title, profile
    )


def _minutes(job: Job, device: Device | None, shares: Shares | None, minutes: tuple[float, ...]) -> tuple[Table, Chart]:
    """A film of so many minutes with full attention, and in chunks that attend to what was before them."""
    passes = job.num_steps * job.branches
    rows: list[tuple[float | str | None, ...]] = []
    first: tuple[float, float] | None = None
    full_points: list[tuple[float, float]] = []
    chunk_points: list[tuple[float, float]] = []
    for length in sorted({*minutes, *(m for m in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0) if m <= max(minutes))}):
        full = full_flops(job, 60 * length)
        chunked = chunked_flops(job, 60 * length)
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
        f"{CHUNK_SECONDS:g} s that see {CONTEXT_SECONDS:g} s before them",
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


def chunked_flops(job: Job, seconds: float, chunk: float = CHUNK_SECONDS, context: float = CONTEXT_SECONDS) -> Parts:
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
