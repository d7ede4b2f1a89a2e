"""`sorano plan edge`: does a model fit a phone or a laptop, at how many bits, and how fast could it be at best.

Two floors below which no software goes: arithmetic (FLOPs over the full published rate at that precision) and
bandwidth (every weight of the transformer read once a pass). What such devices are likely to reach stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sorano.errors import RequestError
from sorano.plan import memory
from sorano.plan.assumptions import Assumption, Assumptions, load_assumptions
from sorano.plan.estimate import BarChart, Estimate, Range, Row, Table, unique
from sorano.plan.flops import PresetModel, find_model
from sorano.plan.generate import TEXT_TOKENS, format_bytes
from sorano.plan.hardware import Device, find_device
from sorano.plan.inference import PlannedVideo, make_job
from sorano.plan.machine import ACCELERATOR, Machine

BITS = (16, 8, 4)


def plan_edge(
    model: str,
    *,
    device: str | None = None,
    memory_gb: float | None = None,
    bandwidth_gb_s: float | None = None,
    tops: float | None = None,
    size: str | None = None,
    seconds: float | None = None,
    num_steps: int | None = None,
    bits: int | None = None,
    assumptions: Assumptions | None = None,
) -> Estimate:
    """Whether a model fits at 16, 8 and 4 bits (or at `bits`), and the floors of making one video.

    `device` is a row of devices.csv; `memory_gb`, `bandwidth_gb_s` and `tops` stand in for it or override it. With none
    of them every phone of devices.csv is planned for.
    """
    assumptions = assumptions or load_assumptions()
    if bits is not None and bits not in BITS:
        raise RequestError(f"weights in {bits} bits are not planned", f"use one of {', '.join(map(str, BITS))}")
    if device is None and memory_gb is None and bandwidth_gb_s is None and tops is None:
        return _plan_phones(model, size, seconds, num_steps, bits, assumptions)
    where = find_device(assumptions, device, rated=False) if device else None
    asked = _device(assumptions, where, memory_gb, bandwidth_gb_s, tops)
    share = assumptions.constant(f"infer.{where.family if where else 'phone'}")
    usable, start = assumptions.constant("edge.usable"), assumptions.constant("edge.pass")
    found = find_model(assumptions, model)
    job = make_job(found, size=size, seconds=seconds, num_steps=num_steps)
    passes = job.num_steps * job.branches
    flops = job.denoise().total + (found.decode_flops(job.shape) or 0)
    ways = [_at_bits(job, asked, flops, one) for one in (BITS if bits is None else (bits,))]
    usable_bytes = usable.value * asked.memory_bytes
    fits = next((one.bits for one in ways if one.peak <= usable_bytes), None)
    best = next(one for one in ways if one.bits == (fits or ways[-1].bits))
    why = f"at {best.bits} bits, the widest stage"
    why += "" if isinstance(found, PresetModel) else "; activations are not counted"
    return Estimate(
        title=f"{found.title} on {asked.title}: {format_bytes(asked.memory_bytes)}, {asked.bandwidth / 1e9:g} GB/s",
        summary=f"fits at {fits} bits" if fits else f"does not fit at {best.bits} bits",
        rows=(
            Row("fits_at_bits", fits, "", f"within {100 * usable.value:.0f} % of the memory, a network at a time"),
            Row("peak_bytes", best.peak, "bytes", why),
            *_floor_rows(best, flops, passes),
            Row(
                "likely_seconds",
                _likely(best, passes, share, start),
                "s",
                f"at {share.value:g} of the full rate, or what reading takes if longer; and {passes} starts",
            ),
            Row("video_seconds", job.seconds, "s", job.shape.size),
        ),
        assumptions=unique([share, usable, start]),
        tables=(_precisions(ways, usable_bytes),),
        charts=(_needs(ways, usable_bytes),),
        notes=_notes(asked, where, best),
    )


def _needs(ways: list[Precision], usable_bytes: float) -> BarChart:
    bars = tuple((f"{one.bits} bits", one.peak) for one in ways)
    return BarChart("What it needs beside what an app may take", "bytes", bars, ("usable", usable_bytes))


def _likely(way: Precision, passes: int, share: Assumption, start: Assumption) -> Range | None:
    """Seconds at the share of the full rate that such devices reach, with the start of each pass; None where no rate is
    known."""
    if way.arithmetic is None:
        return None
    cases = (("high", "low"), ("default", "default"), ("low", "high"))  # of the share reached, of the start
    return Range(*(max(way.reading, way.arithmetic / share.at(one)) + passes * start.at(two) for one, two in cases))


def _plan_phones(
    model: str,
    size: str | None,
    seconds: float | None,
    num_steps: int | None,
    bits: int | None,
    assumptions: Assumptions,
) -> Estimate:
    """Which phones a model fits, and how fast it would be there: a row for each device's name, the quickest first."""
    names = [name for name, row in assumptions.rows["devices"].items() if row["family"] == "phone"]
    plans = {
        name: plan_edge(
            model, device=name, size=size, seconds=seconds, num_steps=num_steps, bits=bits, assumptions=assumptions
        )
        for name in names
    }

    def likely(name: str) -> float:
        value = plans[name]["likely_seconds"]
        return value.default if isinstance(value, Range) else float("inf")

    rows, table = [], []
    for name in sorted(names, key=lambda name: (plans[name]["fits_at_bits"] is None, likely(name))):
        made, where = plans[name], find_device(assumptions, name, rated=False)
        fits, peak = made["fits_at_bits"], made["peak_bytes"]
        why = f"{format_bytes(peak)} of {format_bytes(where.memory_bytes)}" + (f" at {fits} bits" if fits else "")
        told = made["likely_seconds"] if fits else "does not fit"
        if fits and told is None:
            told = f"fits at {fits} bits; no rate of arithmetic is published"
        rows.append(Row(name, told, "s" if isinstance(told, Range) else "", why))
        floors = made["arithmetic_seconds"], made["bandwidth_seconds"]
        table.append((where.title, fits, peak, where.memory_bytes, *floors))
    fitting = sum(made["fits_at_bits"] is not None for made in plans.values())
    found = find_model(assumptions, model)
    job = make_job(found, size=size, seconds=seconds, num_steps=num_steps)
    return Estimate(
        title=f"{found.title} on phones: {job.seconds:.3g} s of {job.shape.size}, {job.num_steps} steps",
        summary=f"fits on {fitting} of {len(plans)}" + (f" at {bits} bits" if bits else ""),
        rows=tuple(rows),
        assumptions=unique([one for made in plans.values() for one in made.assumptions]),
        tables=(
            Table(
                "Phones",
                ("", "bits", "at its widest", "memory", "arithmetic, at least", "reading, at least"),
                tuple(table),
                ("", "", "bytes", "bytes", "s", "s"),
            ),
        ),
        notes=(
            "seconds are what is likely, with the weights in as many bits as fit: nothing was measured on a phone here",
            "floors: heat, the runtime and what is not matrices make it slower",
        ),
    )


@dataclass(frozen=True)
class EdgeDevice:
    """A phone or a laptop: a row of devices.csv, or what was said in its place."""

    title: str
    memory_bytes: float
    bandwidth: float  # bytes a second
    rate_16: float  # operations a second at 16 bits; 0 where none is published
    rate_8: float
    tops: float | None  # 10^12 operations of 8 bits a second, where said


@dataclass(frozen=True)
class Precision:
    """What a model takes with its weights in so many bits."""

    bits: int
    weights: float  # bytes
    peak: float  # bytes, at the widest stage
    arithmetic: float | None  # seconds at the full rate; None where no rate is known
    reading: float  # seconds of reading every weight once a pass


def _device(
    assumptions: Assumptions,
    where: Device | None,
    memory_gb: float | None,
    bandwidth_gb_s: float | None,
    tops: float | None,
) -> EdgeDevice:
    """The device that is planned for. Raises RequestError where it is not known, and for numbers that mean nothing."""
    if where is None and (memory_gb is None or bandwidth_gb_s is None):
        raise RequestError("say which device", "--device snapdragon-8-elite, or --memory 12 --bandwidth 85")
    for name, value in (("memory", memory_gb), ("bandwidth", bandwidth_gb_s), ("tops", tops)):
        if value is not None and not 0 < value < 1e6:
            raise RequestError(f"{name} is {value:g}, and must be above 0")
    is_published = where is not None and bool(assumptions.row("devices", where.name)["bf16_tflops"])
    return EdgeDevice(
        title=where.title if where else "a device",
        memory_bytes=memory_gb * 1e9 if memory_gb else where.memory_bytes if where else 0.0,
        bandwidth=bandwidth_gb_s * 1e9 if bandwidth_gb_s else where.bytes_per_second if where else 0.0,
        rate_16=where.flops_per_second if where and is_published else 0.0,
        rate_8=where.flops_per_second_8 if where else 0.0,
        tops=tops,
    )


def _at_bits(job: PlannedVideo, device: EdgeDevice, flops: float, bits: int) -> Precision:
    rate = _rate(device, bits)
    return Precision(
        bits=bits,
        weights=job.model.all_parameters * bits / 8,
        peak=_peak_bytes(job, bits),
        arithmetic=flops / rate if rate else None,
        reading=job.num_steps * job.branches * job.model.parameters * bits / 8 / device.bandwidth,
    )


def _floor_rows(way: Precision, flops: float, passes: int) -> list[Row]:
    bits = f"{way.bits} bits"
    return [
        Row("arithmetic_seconds", way.arithmetic, "s", f"floor: {flops:.3g} FLOPs at the full rate for {bits}"),
        Row("bandwidth_seconds", way.reading, "s", f"floor: every weight once a pass, {bits}, {passes} passes"),
    ]


def _precisions(ways: list[Precision], usable_bytes: float) -> Table:
    rows = [
        (f"{one.bits} bits", one.weights, one.peak, one.peak <= usable_bytes, one.arithmetic, one.reading)
        for one in ways
    ]
    return Table(
        "By precision",
        ("weights", "all", "at its widest", "fits", "arithmetic, at least", "reading, at least"),
        tuple(rows),
        ("", "bytes", "bytes", "", "s", "s"),
    )


def _notes(device: EdgeDevice, where: Device | None, best: Precision) -> tuple[str, ...]:
    notes = ["floors: heat, the runtime and what is not matrices make it slower"]
    if best.arithmetic is None:
        notes.append(f"no arithmetic rate of {device.title} is published: give one with --tops")
    if where is not None and where.note:
        notes.append(f"{device.title}: {where.note}")
    return tuple(notes)


def _rate(device: EdgeDevice, bits: int) -> float:
    """Operations a second at most: `tops` are of 8 bits, as vendors count; narrower weights are computed in 8 bits. At
    16 bits too where nothing is published for those: they are no faster."""
    if device.tops:
        return device.tops * 1e12
    return device.rate_16 if bits == 16 and device.rate_16 else device.rate_8


def _peak_bytes(job: PlannedVideo, bits: int) -> float:
    """The widest stage with weights of so many bits and activations of 16, in the way of placing them that needs least;
    the weights alone of a model whose autoencoder is not published."""
    if not isinstance(job.model, PresetModel):
        return job.model.all_parameters * bits / 8
    configs = job.model.configs
    together = memory.branches_together(job.model.latent(job.shape), configs.transformer.patch_size)
    one = memory.MemoryNeeds(
        job.shape, job.branches if together else 1, TEXT_TOKENS, configs.image_tokens, bytes_per_weight=bits / 8
    )
    machine = Machine("edge", "bfloat16", 0.0, None, measured=ACCELERATOR)
    ladder = memory.ladder(job.shape, configs.geometry, on_cpu=True)  # all memory is one
    return min(max(memory.stage_bytes(configs, machine, one, placement).values()) for placement in ladder)
