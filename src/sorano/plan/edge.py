"""`sorano plan edge`: does a model fit a phone or a laptop, at how many bits, and how fast could it be at best.

Two floors below which no software goes: arithmetic (FLOPs over the full published rate at that precision) and
bandwidth (every weight of the transformer read once a pass). What such devices are likely to reach stands beside them.
"""

from __future__ import annotations

from sorano.errors import RequestError
from sorano.plan import memory
from sorano.plan.estimate import Bars, Estimate, Range, Row, Table, unique
from sorano.plan.facts import Facts, load_facts
from sorano.plan.flops import PresetModel, find_model
from sorano.plan.generate import TEXT_TOKENS, format_bytes
from sorano.plan.hardware import find_device
from sorano.plan.inference import Job, make_job
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
    facts: Facts | None = None,
) -> Estimate:
    """Whether a model fits at 16, 8 and 4 bits, and the floors of making one video.

    `device` is a row of devices.csv; `memory_gb`, `bandwidth_gb_s` and `tops` stand in for it or override it.
    """
    facts = facts or load_facts()
    where = find_device(facts, device, rated=False) if device else None
    if where is None and (memory_gb is None or bandwidth_gb_s is None):
        raise RequestError("say which device", "--device snapdragon-8-elite, or --memory 12 --bandwidth 85")
    for name, value in (("memory", memory_gb), ("bandwidth", bandwidth_gb_s), ("tops", tops)):
        if value is not None and not 0 < value < 1e6:
            raise RequestError(f"{name} is {value:g}, and must be above 0")
    held = memory_gb * 1e9 if memory_gb else where.memory_bytes if where else 0.0
    bandwidth = bandwidth_gb_s * 1e9 if bandwidth_gb_s else where.bytes_per_second if where else 0.0
    share = facts.constant(f"infer.{where.family if where else 'phone'}")
    usable = facts.constant("edge.usable")
    found = find_model(facts, model)
    job = make_job(found, size=size, seconds=seconds, num_steps=num_steps)
    passes = job.num_steps * job.branches
    flops = job.denoise().total + (found.decode_flops(job.shape) or 0)
    rows: list[tuple[str, float, float, bool, float | None, float]] = []
    is_published = where is not None and bool(facts.row("devices", where.name)["bf16_tflops"])
    rate_16 = where.flops_per_second if where and is_published else 0.0
    rate_8 = where.flops_per_second_8 if where else 0.0
    for bits in BITS:
        rate = _rate(rate_16, rate_8, tops, bits)
        peak = _peak_bytes(job, bits)
        reading = passes * found.parameters * bits / 8 / bandwidth
        weights = found.all_parameters * bits / 8
        rows.append(
            (f"{bits} bits", weights, peak, peak <= usable.value * held, flops / rate if rate else None, reading)
        )
    fits = next((bits for bits, row in zip(BITS, rows, strict=True) if row[3]), None)
    bits = fits or BITS[-1]
    _, _, peak, _, arithmetic, reading = rows[BITS.index(bits)]
    likely = None
    if arithmetic is not None:
        likely = Range(*(max(reading, arithmetic / share.at(case)) for case in ("high", "default", "low")))
    name = where.title if where else "a device"
    has_activations = isinstance(found, PresetModel)
    return Estimate(
        title=f"{found.title} on {name}: {format_bytes(held)}, {bandwidth / 1e9:g} GB/s",
        summary=f"fits at {fits} bits" if fits else f"does not fit at {BITS[-1]} bits",
        rows=(
            Row("fits_at_bits", fits, "", f"within {100 * usable.value:.0f} % of the memory, a network at a time"),
            Row(
                "peak_bytes",
                peak,
                "bytes",
                f"at {bits} bits, the widest stage" + ("" if has_activations else "; activations are not counted"),
            ),
            Row("arithmetic_seconds", arithmetic, "s", f"floor: {flops:.3g} FLOPs at the full rate for {bits} bits"),
            Row("bandwidth_seconds", reading, "s", f"floor: every weight once a pass, {bits} bits, {passes} passes"),
            Row("likely_seconds", likely, "s", f"at {share.value:g} of the full rate, or what reading takes if longer"),
            Row("video_seconds", job.seconds, "s", job.shape.size),
        ),
        facts=unique([share, usable]),
        tables=(
            Table(
                "By precision",
                ("weights", "all", "at its widest", "fits", "arithmetic, at least", "reading, at least"),
                tuple(rows),
                ("", "bytes", "bytes", "", "s", "s"),
            ),
        ),
        charts=(
            Bars(
                "What it needs beside what an app may take",
                "bytes",
                tuple((row[0], row[2]) for row in rows),
                ("usable", usable.value * held),
            ),
        ),
        notes=(
            "floors: heat, the runtime and what is not matrices make it slower",
            *(() if arithmetic is not None else (f"no arithmetic rate of {name} is published: give one with --tops",)),
            *((f"{name}: {where.note}",) if where and where.note else ()),
        ),
    )


def _rate(rate_16: float, rate_8: float, tops: float | None, bits: int) -> float:
    """Operations a second at most: `tops` are of 8 bits, as vendors count; narrower weights are computed in 8 bits. At
    16 bits too where nothing is published for those: they are no faster."""
    if tops:
        return tops * 1e12
    return rate_16 if bits == 16 and rate_16 else rate_8


def _peak_bytes(job: Job, bits: int) -> float:
    """The widest stage with weights of so many bits and activations of 16, in the way of placing them that needs least;
    the weights alone of a model whose autoencoder is not published."""
    if not isinstance(job.model, PresetModel):
        return job.model.all_parameters * bits / 8
    configs = job.model.configs
    together = memory.branches_together(job.model.latent(job.shape), configs.transformer.patch_size)
    one = memory.Job(
        job.shape, job.branches if together else 1, TEXT_TOKENS, configs.image_tokens, bytes_per_weight=bits / 8
    )
    machine = Machine("edge", "bfloat16", 0.0, None, measured=ACCELERATOR)
    ladder = memory.ladder(job.shape, configs.geometry, on_cpu=True)  # all memory is one
    return min(max(memory.stage_bytes(configs, machine, one, placement).values()) for placement in ladder)
